#pragma once

#include <stdint.h>

// Kernels that try the emulator itself. `fault` chooses what is wrong; 0 is the correct twin of all of a
// kernel's.

namespace tokenmill::cuda {

struct EmulatorParams {
  const float* in;
  float* out;
  int32_t n;
  int32_t fault;
  uint32_t* counter;
};

}  // namespace tokenmill::cuda
