#include "emulator.h"

#include "kernels/cuda/gpu.h"

namespace {

using tokenmill::cuda::EmulatorParams;

struct Row {
  float x[256];
};

/// out[i] = in[n - 1 - i] within each block of 128, by shared memory.
GPU_FN void Reverse(const EmulatorParams& p) {
  DYN_SMEM(Row, row);
  const int i = gpu::block_x() * gpu::threads() + gpu::thread();
  row.x[gpu::thread()] = p.in[i];
  if (p.fault == 0) gpu::sync_block();
  p.out[i] = row.x[gpu::threads() - 1 - gpu::thread()];
}

}  // namespace

GPU_KERNEL(emulator_reverse, EmulatorParams, 128) { Reverse(p); }
