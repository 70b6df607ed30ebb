#pragma once

#include <stdint.h>

// Kernels that try the emulator itself: one with each fault, and its correct twin.

namespace tokenmill::cuda {

/// What a faulty kernel does wrong is chosen by `fault`; 0 is the correct twin.
struct EmulatorParams {
  const float* in;
  float* out;
  int n;
  int fault;
  unsigned* counter;
};

}  // namespace tokenmill::cuda
