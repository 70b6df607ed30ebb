#pragma once

#include <stdint.h>

// Kernels of one warp that each put one primitive of gpu.h to use.

namespace tokenmill::cuda {

/// Registers of a warp's lanes, in and out.
struct MmaRegisters {
  const uint32_t* a;  // [32, 4]
  const uint32_t* b;  // [32, 2]
  const uint32_t* c;  // [32, 4]
  uint32_t* d;        // [32, 4]
};

struct LdmatrixParams {
  const uint16_t* rows;  // [40, 8]
  const int32_t* row;    // [32] which one each lane points at
  uint32_t* registers;   // [32, 4]
  int32_t form;          // x4, x4_trans, x2, x2_trans
};

struct CpAsyncParams {
  const uint32_t* from;  // [128]
  const int32_t* valid;  // [32]
  uint32_t* to;          // [128]
  int32_t bytes;         // 4 or 16 a lane
};

/// y[i] = f(a[i], b[i], c[i]) for whole warps, or by all lanes where f is a collective.
struct WordsParams {
  const uint32_t* a;
  const uint32_t* b;
  const uint32_t* c;
  uint32_t* y;
  int32_t n;
};

}  // namespace tokenmill::cuda
