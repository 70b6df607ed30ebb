// What a step wants of logits: log-sum-exp, the best tokens before and after edits and mask, single logits.
//
// head_chunks, 512 threads, grid (vocabulary / 4096, rows): caps a chunk's logits in place, gives its part of
//   the log-sum-exp and its best tokens of both lists as keys (head_select.h). Shared memory: 16776 bytes.
// head_rows, 512 threads, grid (rows): merges a row's parts, selects and sorts the best of its chunks' best,
//   looks up targets. Shared memory: 8584 bytes.
//
//   registers    sm_80  sm_86  sm_89  sm_90  sm_120  (no spills)
//   head_chunks     51     51     51     61      57
//   head_rows       53     53     53     49      48
//
// Sums depend on the vocabulary alone: thread t adds logits t + 512 i of its chunk in f32 with the error
// kept, then in double over a tree of threads; head_rows adds chunk c in thread c % 512, then likewise.

#include "kernels/cuda/head.h"

#include "kernels/cuda/head_select.h"
#include "kernels/cuda/row_math.h"

namespace tokenmill::cuda {
namespace {

static_assert(kHeadChunk == kSelectThreads * kSelectKeys, "a chunk is what one block selects from");

struct ChunkShared {
  float logits[kHeadChunk];
  float largest[kSelectWarps];
  double sums[kSelectWarps];
  int not_finite[kSelectWarps];
  SelectShared select;
};

struct RowsShared {
  uint64_t best[kHeadListMax];
  double sums[kSelectWarps];
  float largest[kSelectWarps];
  int not_finite[kSelectWarps];
  SelectShared select;
};

/// Over the block, in all threads; always the same tree.
GPU_FN double SumDoubles(double value, double (&warps)[kSelectWarps]) {
  GPU_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) {
    DoubleWords own, other;
    own.value = value;
    other.words[0] = gpu::shuffle_xor(own.words[0], mask);
    other.words[1] = gpu::shuffle_xor(own.words[1], mask);
    value += other.value;
  }
  if (gpu::lane() == 0) warps[gpu::warp()] = value;
  gpu::sync_block();
  double sum = 0;
  for (int w = 0; w < kSelectWarps; ++w) sum += warps[w];
  return sum;
}

/// The largest value and whether any flag is set, over the block.
GPU_FN void MergeLargest(float* largest, int* not_finite, float (&warp_largest)[kSelectWarps],
                         int (&warp_not_finite)[kSelectWarps]) {
  GPU_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) *largest = gpu::max(*largest, gpu::shuffle_xor(*largest, mask));
  const bool any = gpu::ballot(*not_finite != 0) != 0;
  if (gpu::lane() == 0) {
    warp_largest[gpu::warp()] = *largest;
    warp_not_finite[gpu::warp()] = any ? 1 : 0;
  }
  gpu::sync_block();
  for (int w = 0; w < kSelectWarps; ++w) {
    *largest = gpu::max(*largest, warp_largest[w]);
    *not_finite |= warp_not_finite[w];
  }
}

GPU_FN bool IsFinite(float x) { return (gpu::float_bits(x) & 0x7f800000u) != 0x7f800000u; }

/// Loads and caps a chunk, keeps it in shared memory and writes its part of the log-sum-exp.
GPU_FN void SumChunk(const HeadParams& p, float* logits, int count, HeadPart* part, ChunkShared& shared) {
  float largest = -gpu::kInfinity;
  int not_finite = 0;
  for (int i = gpu::thread(); i < count; i += kSelectThreads) {
    float logit = logits[i];
    if (p.softcap > 0) {
      logit = p.softcap * Tanh(gpu::divide(logit, p.softcap));
      logits[i] = logit;
    }
    shared.logits[i] = logit;
    largest = gpu::max(largest, logit);
    not_finite |= IsFinite(logit) ? 0 : 1;
  }
  MergeLargest(&largest, &not_finite, shared.largest, shared.not_finite);
  float sum = 0, rest = 0;  // what rounding took from the sum
  for (int i = gpu::thread(); i < count; i += kSelectThreads) {
    const float term = Exp(shared.logits[i] - largest);
    const float next = sum + term;
    const float added = next - sum;
    rest += (sum - (next - added)) + (term - added);
    sum = next;
  }
  const double total = SumDoubles(static_cast<double>(sum) + static_cast<double>(rest), shared.sums);
  if (gpu::thread() == 0) *part = {total, largest, not_finite == 0 ? 1 : 0};
}

GPU_FN float Edited(const HeadEdit& edit, float logit) {
  return (logit > 0 ? gpu::divide(logit, edit.repetition) : logit * edit.repetition) - edit.subtract;
}

/// The first of `count` edits at or behind a token.
GPU_FN int FirstEdit(const HeadEdit* edits, int count, int token) {
  int begin = 0;
  while (begin < count) {
    const int middle = (begin + count) / 2;
    if (edits[middle].token < token) begin = middle + 1;
    else count = middle;
  }
  return begin;
}

GPU_FN void EditChunk(const HeadEdit* edits, int count, int begin, int tokens, ChunkShared& shared) {
  for (int i = FirstEdit(edits, count, begin) + gpu::thread(); i < count; i += kSelectThreads) {
    const HeadEdit edit = edits[i];
    if (edit.token >= begin + tokens) break;
    shared.logits[edit.token - begin] = Edited(edit, shared.logits[edit.token - begin]);
  }
}

/// The chunk's `wanted` best tokens among those that `mask` (null: all) allows, the rest of the list as 0.
GPU_FN void SelectChunk(const uint32_t* mask, int begin, int tokens, int wanted, uint64_t* list,
                        ChunkShared& shared) {
  uint64_t keys[kSelectKeys];
  GPU_UNROLL
  for (int i = 0; i < kSelectKeys; ++i) {
    const int at = gpu::thread() + kSelectThreads * i, token = begin + at;
    const bool allowed = at < tokens && (mask == nullptr || (mask[token / 32] >> (token % 32) & 1) != 0);
    keys[i] = allowed ? KeyOf(shared.logits[at], token) : 0;
  }
  const int found = SelectBest(keys, wanted, shared.select, list);
  for (int i = found + gpu::thread(); i < wanted; i += kSelectThreads) list[i] = 0;
}

GPU_FN int Wanted(int count, const HeadParams& p) {
  return gpu::min(gpu::min(count, p.list_max), p.vocabulary);
}

/// Keys of a row's list: of chunk c at c * wanted.
GPU_FN uint64_t* KeysOf(const HeadParams& p, int row, int list, int chunks) {
  return p.keys + (static_cast<int64_t>(row) * 2 + list) * chunks * p.list_max;
}

GPU_FN void HeadChunkBlock(const HeadParams& p) {
  DYN_SMEM(ChunkShared, shared);
  const int row = gpu::block_y(), chunk = gpu::block_x(), chunks = gpu::grid_x();
  if (row >= p.counts->head_rows - p.row_first) return;
  const HeadRequest request = p.requests[p.row_first + row];
  const int begin = chunk * kHeadChunk, tokens = gpu::min(kHeadChunk, p.vocabulary - begin);
  SumChunk(p, p.logits + static_cast<int64_t>(row) * p.vocabulary + begin, tokens,
           p.parts + static_cast<int64_t>(row) * chunks + chunk, shared);
  const int raw_top = Wanted(request.raw_top, p), candidates = Wanted(request.candidates, p);
  if (raw_top > 0) {
    SelectChunk(nullptr, begin, tokens, raw_top, KeysOf(p, row, 1, chunks) + chunk * raw_top, shared);
    gpu::sync_block();
  }
  if (candidates == 0) return;
  EditChunk(p.edits + request.edits_at, request.edits, begin, tokens, shared);
  gpu::sync_block();
  const uint32_t* mask =
      request.mask < 0 ? nullptr : p.masks + static_cast<int64_t>(request.mask) * p.mask_words;
  SelectChunk(mask, begin, tokens, candidates, KeysOf(p, row, 0, chunks) + chunk * candidates, shared);
}

/// Merges the parts of a row into its output; gives whether all logits are finite.
GPU_FN bool MergeParts(const HeadPart* parts, int chunks, HeadOutput* output, RowsShared& shared) {
  float largest = -gpu::kInfinity;
  int not_finite = 0;
  for (int c = gpu::thread(); c < chunks; c += kSelectThreads) {
    largest = gpu::max(largest, parts[c].largest);
    not_finite |= parts[c].finite != 0 ? 0 : 1;
  }
  MergeLargest(&largest, &not_finite, shared.largest, shared.not_finite);
  double sum = 0;
  for (int c = gpu::thread(); c < chunks; c += kSelectThreads) {
    sum += parts[c].sum * static_cast<double>(Exp(parts[c].largest - largest));
  }
  sum = SumDoubles(sum, shared.sums);
  if (gpu::thread() == 0)
    *output = {not_finite == 0 ? 1 : 0, static_cast<float>(static_cast<double>(largest) + Log(sum)), 0, 0};
  return not_finite == 0;
}

/// The `wanted` best of `count` keys, best first, in shared.best; gives how many there are. The best so far
/// take part beside as many further keys as a block holds.
GPU_FN int SelectRow(const uint64_t* list, int count, int wanted, RowsShared& shared) {
  int held = 0, begin = 0;
  while (begin < count) {
    const int before = held;
    uint64_t keys[kSelectKeys];
    GPU_UNROLL
    for (int i = 0; i < kSelectKeys; ++i) {
      const int slot = gpu::thread() + kSelectThreads * i, at = begin + slot - before;
      keys[i] = slot < before ? shared.best[slot] : at < count ? list[at] : 0;
    }
    held = SelectBest(keys, wanted, shared.select, shared.best);
    begin += kHeadChunk - before;
    gpu::sync_block();
  }
  int size = 1;
  while (size < held) size *= 2;
  for (int i = held + gpu::thread(); i < size; i += kSelectThreads) shared.best[i] = 0;
  gpu::sync_block();
  SortKeys(shared.best, size);
  return held;
}

GPU_FN void WriteFound(const float* logits, int count, HeadFound* found, const RowsShared& shared) {
  for (int i = gpu::thread(); i < count; i += kSelectThreads) {
    const int token = TokenOf(shared.best[i]);
    found[i] = {token, LogitOf(shared.best[i]), logits[token]};
  }
  gpu::sync_block();
}

GPU_FN void HeadRowBlock(const HeadParams& p) {
  DYN_SMEM(RowsShared, shared);
  const int row = gpu::block_x(), chunks = (p.vocabulary + kHeadChunk - 1) / kHeadChunk;
  if (row >= p.counts->head_rows - p.row_first) return;
  const HeadRequest& request = p.requests[p.row_first + row];
  HeadOutput& output = p.outputs[p.row_first + row];
  const float* logits = p.logits + static_cast<int64_t>(row) * p.vocabulary;
  if (!MergeParts(p.parts + static_cast<int64_t>(row) * chunks, chunks, &output, shared)) return;
  for (int list = 0; list < 2; ++list) {
    const int wanted = Wanted(list == 0 ? request.candidates : request.raw_top, p);
    if (wanted == 0) continue;
    const int count = SelectRow(KeysOf(p, row, list, chunks), chunks * wanted, wanted, shared);
    WriteFound(logits, count, p.found + (list == 0 ? request.candidates_at : request.raw_top_at), shared);
    if (gpu::thread() == 0) (list == 0 ? output.candidates : output.raw_top) = count;
  }
  for (int i = gpu::thread(); i < request.targets; i += kSelectThreads) {
    p.target_logits[request.targets_at + i] = logits[p.targets[request.targets_at + i]];
  }
}

}  // namespace

GPU_KERNEL(head_chunks, HeadParams, 512) { HeadChunkBlock(p); }
GPU_KERNEL(head_rows, HeadParams, 512) { HeadRowBlock(p); }

}  // namespace tokenmill::cuda

#ifndef __CUDACC__

namespace tokenmill::cuda {

Status LaunchHead(Driver& driver, const HeadParams& params, int rows_max) {
  if (params.list_max < 0 || params.list_max > kHeadListMax)
    return Error(Code::kInternal, "lists of %d tokens of a head row", params.list_max);
  LaunchShape shape;
  shape.grid_x = static_cast<unsigned>(HeadChunks(params.vocabulary));
  shape.grid_y = static_cast<unsigned>(rows_max);
  shape.threads = kSelectThreads;
  shape.shared_bytes = sizeof(ChunkShared);
  TM_RETURN_IF_ERROR(driver.Launch("head_chunks", shape, params));
  shape.grid_x = static_cast<unsigned>(rows_max);
  shape.grid_y = 1;
  shape.shared_bytes = sizeof(RowsShared);
  return driver.Launch("head_rows", shape, params);
}

}  // namespace tokenmill::cuda

#endif
