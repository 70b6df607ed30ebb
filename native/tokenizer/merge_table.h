#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tokenizer/token_index.h"

namespace tokenmill {

/// What two neighbours become. Lower ranks merge first.
struct Merge {
  static constexpr uint32_t kNone = UINT32_MAX;
  uint32_t rank = kNone;
  Token product = -1;
};

/// (left, right) → merge: open addressing with linear probing, at most half full.
class MergeTable {
 public:
  void Reset(size_t merges) { slots_.assign(std::bit_ceil(merges * 2 + 2), Slot{kEmpty, {}}); }

  /// The first merge of a pair stays.
  void Insert(Token left, Token right, Merge merge) {
    Slot& slot = slots_[Locate(Key(left, right))];
    if (slot.key == kEmpty) slot = {Key(left, right), merge};
  }

  /// Merge::kNone as rank when the pair does not merge.
  Merge Find(Token left, Token right) const { return slots_[Locate(Key(left, right))].merge; }

 private:
  static constexpr uint64_t kEmpty = UINT64_MAX;
  struct Slot {
    uint64_t key;
    Merge merge;
  };

  static uint64_t Key(Token left, Token right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }

  size_t Locate(uint64_t key) const {
    const size_t mask = slots_.size() - 1;
    size_t i = hashing::Mix(0, key) & mask;
    while (slots_[i].key != key && slots_[i].key != kEmpty) i = (i + 1) & mask;
    return i;
  }

  std::vector<Slot> slots_;
};

}  // namespace tokenmill
