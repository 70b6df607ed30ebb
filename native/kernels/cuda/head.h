#pragma once

#include "kernels/cuda/views.h"

#ifndef __CUDACC__
#include <cstddef>

#include "kernels/cuda/driver.h"
#endif

namespace tokenmill::cuda {

/// Tokens that one list of a head row can have; who wants more takes the row of logits itself.
constexpr int kHeadListMax = 1024;
/// Logits that one block reduces: the parts of a row's sums.
constexpr int kHeadChunk = 4096;

/// LogitEdit of ops/step.h.
struct HeadEdit {
  int32_t token;
  float repetition;
  float subtract;
};

/// What a head row wants (HeadRow of ops/step.h); offsets are into the arrays of HeadParams. Written by the
/// host.
struct HeadRequest {
  int32_t candidates;     // the so many best after edits and mask, at most HeadParams::list_max
  int32_t raw_top;        // the so many best before, likewise
  int32_t candidates_at;  // where they go in `found`
  int32_t raw_top_at;
  int32_t edits_at;
  int32_t edits;
  int32_t targets_at;     // in `targets` and in `target_logits`
  int32_t targets;
  int32_t mask;           // which of `masks`, or -1: all tokens are allowed
};

/// One a head row, for the host.
struct HeadOutput {
  int32_t finite;      // 0: the row has a NaN or infinite logit and nothing else holds
  float log_sum_exp;   // of the raw logits
  int32_t candidates;  // how many there are; fewer than wanted where vocabulary or mask have no more
  int32_t raw_top;
};

struct HeadFound {
  int32_t token;
  float logit;  // after the edits
  float raw;
};

/// Of one chunk of a row.
struct HeadPart {
  double sum;  // of e^(logit - largest)
  float largest;
  int32_t finite;
};

struct HeadParams {
  const StepCounts* counts;
  const HeadRequest* requests;  // [head_rows]
  float* logits;                // [rows, vocabulary] of head rows row_first …; capped in place
  const HeadEdit* edits;        // per row in ascending tokens, each at most once
  const int32_t* targets;       // tokens
  const uint32_t* masks;        // [masks, mask_words]; bit t % 32 of word t / 32: token t is allowed
  HeadPart* parts;              // scratch [rows, chunks]
  uint64_t* keys;               // scratch [rows, 2 lists, chunks, list_max]
  HeadOutput* outputs;          // [head_rows]
  HeadFound* found;             // best first, ties by lower token
  float* target_logits;
  int32_t row_first;
  int32_t vocabulary;
  int32_t mask_words;
  int32_t list_max;             // at most kHeadListMax
  float softcap;                // 0: none
};

#ifndef __CUDACC__
inline int HeadChunks(int vocabulary) { return (vocabulary + kHeadChunk - 1) / kHeadChunk; }
inline size_t HeadPartsBytes(int rows, int vocabulary) {
  return sizeof(HeadPart) * static_cast<size_t>(rows) * static_cast<size_t>(HeadChunks(vocabulary));
}
inline size_t HeadKeysBytes(int rows, int vocabulary, int list_max) {
  return 2 * sizeof(uint64_t) * static_cast<size_t>(rows) * static_cast<size_t>(HeadChunks(vocabulary)) *
         static_cast<size_t>(list_max);
}

/// Reduces up to `rows_max` rows.
Status LaunchHead(Driver& driver, const HeadParams& params, int rows_max);
#endif

}  // namespace tokenmill::cuda
