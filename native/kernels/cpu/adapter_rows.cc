#include "kernels/cpu/adapter_rows.h"

#include <algorithm>

namespace tokenmill::cpu {

void AdapterRows::Clear() {
  if (empty()) return;
  std::fill_n(uses_.begin(), levels_ * max_rows_, Use());
  std::fill(marks_.begin(), marks_.end(), uint8_t{0});
  levels_ = 0;
  last_.clear();
  chunks_.clear();
}

void AdapterRows::Add(int row, std::span<const AdapterUse> uses) {
  if (uses.empty()) return;
  const int levels = static_cast<int>(uses.size());
  const size_t needed = uses.size() * static_cast<size_t>(max_rows_);
  if (uses_.size() < needed) uses_.resize(needed);
  levels_ = std::max(levels_, levels);
  marks_[static_cast<size_t>(row)] = 1;
  for (int level = 0; level < levels; ++level) {
    const AdapterUse& given = uses[static_cast<size_t>(level)];
    const auto* adapter = static_cast<const CpuAdapter*>(given.adapter);
    Use& use = uses_[static_cast<size_t>(level * max_rows_ + row)];
    use = {adapter, given.scale, -1, -1};
    // Rows of a sequence follow each other: the last entries are the likely ones.
    const auto same = [&](const Last& last) { return last.adapter == adapter && last.level == level; };
    const auto last = std::find_if(last_.rbegin(), last_.rend(), same);
    if (last == last_.rend()) {
      last_.push_back({adapter, level, row});
      continue;
    }
    use.previous = last->row;
    uses_[static_cast<size_t>(level * max_rows_ + last->row)].next = row;
    last->row = row;
  }
}

void AdapterRows::Finish() {
  for (int level = 0; level < levels_; ++level) {
    for (int first = 0; first < max_rows_; ++first) {
      const Use& leader = use(level, first);
      if (leader.adapter == nullptr || leader.previous >= 0) continue;
      Chunk chunk = {leader.adapter, level, first, 0};
      for (int row = first; row >= 0; row = use(level, row).next) {
        if (chunk.rows == kChunkRows) {
          chunks_.push_back(chunk);
          chunk = {leader.adapter, level, row, 0};
        }
        ++chunk.rows;
      }
      chunks_.push_back(chunk);
    }
  }
}

}  // namespace tokenmill::cpu
