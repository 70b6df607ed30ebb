#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tokenmill {

/// A set of slab numbers that gives its lowest; 64 numbers a word, and only Resize allocates.
class SlabSet {
 public:
  static constexpr size_t kNone = SIZE_MAX;

  /// For numbers below `slabs`.
  void Resize(size_t slabs) { words_.resize((slabs + 63) / 64); }

  void Set(size_t slab, bool member) {
    const uint64_t bit = uint64_t{1} << slab % 64;
    words_[slab / 64] = member ? words_[slab / 64] | bit : words_[slab / 64] & ~bit;
  }

  bool Contains(size_t slab) const { return words_[slab / 64] >> slab % 64 & 1; }

  /// kNone when the set is empty.
  size_t Lowest() const {
    for (size_t word = 0; word < words_.size(); ++word) {
      if (words_[word] != 0) return word * 64 + static_cast<size_t>(std::countr_zero(words_[word]));
    }
    return kNone;
  }

 private:
  std::vector<uint64_t> words_;
};

}  // namespace tokenmill
