#pragma once

// The only header through which kernels reach the GPU; it holds all inline PTX. A .cu file of this folder is compiled
// in three ways, always as the same source:
//   nvcc                           kernels alone, to cubins and PTX; the primitives below are inline PTX
//   g++ -DTOKENMILL_GPU_EMULATE    kernels and launchers; the primitives call the emulator (emu/)
//   g++                            launchers alone; kernels are unused static functions that the compiler drops
// Blocks are one-dimensional. Launchers and all else of the host stand behind #ifndef __CUDACC__.
//
//   GPU_KERNEL(matmul_q4_0_decode, MatmulParams, 128) { Matmul<Q4_0, 8>(p); }
//
// defines a kernel of at most 128 threads a block whose only argument is `const MatmulParams& p`, a plain structure.
// Rules that the emulator depends on: no static __shared__ (DYN_SMEM alone), no memcpy or memset, no <<<>>>, warp
// collectives are reached by all lanes of the warp, 16-bit floats are uint16_t or packed in uint32_t (low half first).

#ifdef __CUDACC__
#include "kernels/cuda/gpu_ptx.h"
#else
#include "kernels/cuda/emu/gpu_emu.h"
#endif
