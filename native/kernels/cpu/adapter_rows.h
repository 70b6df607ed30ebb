#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/adapter.h"

namespace tokenmill::cpu {

/// Which rows of a step, or of a chunk of head rows, use which adapters. The first adapters of all rows are one
/// level, the second ones the next: what adapters add to a row is summed in the row's own order, whatever others have.
class AdapterRows {
 public:
  struct Use {
    const CpuAdapter* adapter = nullptr;
    float scale = 0;
    int previous = -1;  // row with the same adapter on this level
    int next = -1;
  };

  /// Rows with the same adapter on the same level, that the first product takes at once.
  struct Chunk {
    const CpuAdapter* adapter;
    int level;
    int row;  // the first; the others are found by Use::next
    int rows;
  };
  static constexpr int kChunkRows = 12;

  explicit AdapterRows(int max_rows) : max_rows_(max_rows), marks_(static_cast<size_t>(max_rows)) {}

  /// Forgets the rows of before.
  void Clear();
  /// The adapters of one of the rows, which come in ascending order. May throw std::bad_alloc.
  void Add(int row, std::span<const AdapterUse> uses);
  /// After all rows were added.
  void Finish();

  bool empty() const { return levels_ == 0; }
  int levels() const { return levels_; }
  const Use& use(int level, int row) const { return uses_[static_cast<size_t>(level * max_rows_ + row)]; }
  std::span<const Chunk> chunks() const { return chunks_; }
  /// [max_rows] whether a row has adapters; the place stays.
  const uint8_t* marks() const { return marks_.data(); }

  /// Calls body(adapter, rows) for the adapters of a level, each with all of its rows among first … first + rows - 1.
  /// At most kRowsMost rows at once.
  static constexpr int kRowsMost = 24;
  template <class Body>
  void ForEachAdapter(int level, int first, int rows, const Body& body) const {
    const int end = first + rows;
    for (int row = first; row < end; ++row) {
      const Use& leader = use(level, row);
      if (leader.adapter == nullptr || leader.previous >= first) continue;
      int members[kRowsMost];
      size_t count = 0;
      for (int r = row; r >= 0 && r < end; r = use(level, r).next) members[count++] = r;
      body(*leader.adapter, std::span<const int>(members, count));
    }
  }

 private:
  struct Last {
    const CpuAdapter* adapter;
    int level;
    int row;
  };

  const int max_rows_;
  int levels_ = 0;
  std::vector<Use> uses_;  // [levels][max_rows]
  std::vector<uint8_t> marks_;
  std::vector<Last> last_;  // while rows are added: each adapter's last row on each level
  std::vector<Chunk> chunks_;
};

}  // namespace tokenmill::cpu
