#include "kernels/cpu/adapter_products.h"

#include <algorithm>

namespace tokenmill::cpu {

// Tasks for each thread: few, for with one row a phase takes microseconds, as some claims do.
constexpr int kTasksAThread = 2;

// Of the ranks of an adapter's matrices, which one chunk of rows is multiplied with.
int AdapterProducts::Parts(int threads) const {
  const int chunks = static_cast<int>(rows_->chunks().size());
  return (kTasksAThread * threads + chunks - 1) / chunks;
}

// Of kRankGroup ranks, of all matrices.
int AdapterProducts::Groups(const CpuAdapter& adapter) const {
  int groups = 0;
  for (const WeightId matrix : matrices_) {
    const PackedFactors* factors = adapter.factors(matrix);
    if (factors != nullptr) groups += factors->groups();
  }
  return groups;
}

// Of a matrix's ranks in the inner rows.
int AdapterProducts::Offset(const CpuAdapter& adapter, size_t index) const {
  int offset = 0;
  for (size_t i = 0; i < index; ++i) {
    const PackedFactors* factors = adapter.factors(matrices_[i]);
    if (factors != nullptr) offset += factors->rank;
  }
  return offset;
}

int AdapterProducts::ShrinkTasks(int threads) const {
  const auto chunks = rows_->chunks();
  const bool any = std::any_of(chunks.begin(), chunks.end(),
                               [this](const auto& chunk) { return Groups(*chunk.adapter) > 0; });
  return any ? static_cast<int>(chunks.size()) * Parts(threads) : 0;
}

void AdapterProducts::Shrink(int task, int threads, const float* in) const {
  const int parts = Parts(threads), part = task % parts;
  const AdapterRows::Chunk& chunk = rows_->chunks()[static_cast<size_t>(task / parts)];
  const int groups = Groups(*chunk.adapter);
  const int begin = groups * part / parts, end = groups * (part + 1) / parts;
  int base = 0, offset = 0;  // of a matrix's groups in all groups, and of its ranks
  for (const WeightId matrix : matrices_) {
    const PackedFactors* factors = chunk.adapter->factors(matrix);
    if (factors == nullptr) continue;
    const int first = std::max(begin, base) - base, last = std::min(end - base, factors->groups());
    if (first < last) ShrinkMatrix(chunk, *factors, first, last, offset, in);
    base += factors->groups();
    offset += factors->rank;
  }
}

void AdapterProducts::ShrinkMatrix(const AdapterRows::Chunk& chunk, const PackedFactors& factors, int begin,
                                   int end, int offset, const float* in) const {
  const float* rows[AdapterRows::kChunkRows];
  float* out[AdapterRows::kChunkRows];
  float scales[AdapterRows::kChunkRows];
  const int first_rank = begin * kRankGroup;
  for (int i = 0, row = chunk.row; i < chunk.rows; ++i) {
    const AdapterRows::Use& use = rows_->use(chunk.level, row);
    rows[i] = in + row * factors.cols;
    out[i] = chunk.adapter->inner(row) + offset + first_rank;
    scales[i] = use.scale * factors.scale;
    row = use.next;
  }
  ShrinkArgs args = {};
  args.factor = factors.a + static_cast<size_t>(begin) * factors.group_bytes();
  args.ranks = std::min(factors.rank, end * kRankGroup) - first_rank;
  args.cols = factors.cols;
  args.rows = rows;
  args.scales = scales;
  args.out = out;
  args.count = chunk.rows;
  kernels_->shrink[static_cast<int>(factors.type)](args);
}

void AdapterProducts::ExpandTile(size_t index, int64_t pair, int row, int rows, float* tile) const {
  const auto add = [&](const CpuAdapter& adapter, std::span<const int> members) {
    const PackedFactors* factors = adapter.factors(matrices_[index]);
    if (factors == nullptr) return;
    const float* inner[AdapterRows::kRowsMost];
    float* out[AdapterRows::kRowsMost];
    const int offset = Offset(adapter, index);
    for (size_t i = 0; i < members.size(); ++i) {
      inner[i] = adapter.inner(members[i]) + offset;
      out[i] = tile + (members[i] - row) * kPairColumns;
    }
    ExpandArgs args = {};
    args.factor = factors->b + static_cast<size_t>(pair) * factors->pair_bytes();
    args.rank = factors->rank;
    args.rows = inner;
    args.out = out;
    args.count = static_cast<int>(members.size());
    kernels_->expand[static_cast<int>(factors->type)](args);
  };
  for (int level = 0; level < rows_->levels(); ++level) rows_->ForEachAdapter(level, row, rows, add);
}

SoonRead* AdapterProducts::ListTile(size_t index, int64_t pair, int row, int rows, SoonRead* list) const {
  list->count = list->next = 0;
  const auto add = [&](const CpuAdapter& adapter, std::span<const int>) {
    const PackedFactors* factors = adapter.factors(matrices_[index]);
    if (factors == nullptr) return;
    const size_t bytes = factors->pair_bytes();
    const std::byte* line = factors->b + static_cast<size_t>(pair) * bytes;
    for (const std::byte* end = line + bytes; line < end && list->count < SoonRead::kMost; line += 64) {
      list->lines[list->count++] = line;
    }
  };
  for (int level = 0; level < rows_->levels(); ++level) rows_->ForEachAdapter(level, row, rows, add);
  return list->count > 0 ? list : nullptr;
}

}  // namespace tokenmill::cpu
