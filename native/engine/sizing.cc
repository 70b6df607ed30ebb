#include "engine/sizing.h"

#include <algorithm>

#include "kv/block_pool.h"
#include "kv/block_table.h"

namespace tokenmill {
namespace {

constexpr int kUsefulContext = 64;

unsigned long long Mebibytes(uint64_t bytes) { return bytes >> 20; }

}  // namespace

uint64_t KvBytes(const Executor& executor, const Program& program, int tokens, int max_rows) {
  uint64_t bytes = 0;
  for (size_t g = 0; g < program.kv_groups.size(); ++g) {
    const size_t pages = BlockTable::PagesAtMost(program.kv_groups[g], tokens, max_rows);
    const size_t slabs = (pages + BlockPool::kSlabPages - 1) / BlockPool::kSlabPages;
    bytes += slabs * BlockPool::kSlabPages * executor.PageBytes(static_cast<int>(g));
  }
  return bytes;
}

MemoryEstimate SizeMemory(const Executor& executor, const Program& program, int max_rows, int wanted,
                          int trained, uint64_t budget) {
  MemoryEstimate estimate;
  estimate.weights = executor.weight_bytes();
  estimate.scratch = executor.scratch_bytes();
  estimate.budget = budget;
  const auto kv = [&](int tokens) { return KvBytes(executor, program, tokens, max_rows); };
  const auto fits = [&](int tokens) { return estimate.fixed() + kv(tokens) <= budget; };
  const int least = wanted > 0 ? wanted : std::min(kUsefulContext, trained);
  int low = least, high = wanted > 0 ? wanted : trained;  // the longest context that fits
  while (low < high) {
    const int middle = low + (high - low + 1) / 2;
    (fits(middle) ? low : high) = fits(middle) ? middle : middle - 1;
  }
  estimate.context_length = low;
  estimate.kv = kv(low);
  estimate.fits = fits(low);
  return estimate;
}

Status CheckFits(const MemoryEstimate& estimate) {
  if (estimate.fits) return {};
  return Error(
      Code::kOutOfMemory,
      "the weights take %llu MiB, scratch %llu MiB and %d tokens of context %llu MiB, in all %llu bytes; "
      "the memory budget is %llu MiB (%llu bytes). Raise memory.budget, lower contextLength or "
      "maxBatchTokens, or take a smaller model",
      Mebibytes(estimate.weights), Mebibytes(estimate.scratch), estimate.context_length,
      Mebibytes(estimate.kv), static_cast<unsigned long long>(estimate.total()), Mebibytes(estimate.budget),
      static_cast<unsigned long long>(estimate.budget));
}

}  // namespace tokenmill
