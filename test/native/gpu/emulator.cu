#include "emulator.h"

#include "kernels/cuda/gpu.h"

using tokenmill::cuda::EmulatorParams;

namespace {

constexpr int kThreads = 64;

struct Row {
  float x[2 * kThreads];
};

struct Tile {
  uint16_t rows[kThreads][8];
};

struct Bytes {
  uint8_t b[kThreads];
};

struct alignas(16) Vector {
  float x, y, z, w;
};

GPU_FN int Index() { return gpu::block_x() * gpu::threads() + gpu::thread(); }

/// out = each block's part of in, backwards. 1: no barrier.
GPU_FN void Reverse(const EmulatorParams& p) {
  DYN_SMEM(Row, s);
  s.x[gpu::thread()] = p.in[Index()];
  if (p.fault != 1) gpu::sync_block();
  p.out[Index()] = s.x[gpu::threads() - 1 - gpu::thread()];
}

/// Each lane reads its warp's next, 4 times over. 1: no barrier after the writes, 2: none before them.
GPU_FN void RotateWarp(const EmulatorParams& p) {
  DYN_SMEM(Row, s);
  float x = p.in[Index()];
  for (int round = 0; round < 4; ++round) {
    s.x[gpu::thread()] = x;
    if (p.fault != 1) gpu::sync_warp();
    x = s.x[gpu::warp() * 32 + (gpu::lane() + 1) % 32];
    if (p.fault != 2) gpu::sync_warp();
  }
  p.out[Index()] = x;
}

/// Warps rotate by sync_warp where a block's barrier is needed. 1: with sync_warp alone.
GPU_FN void RotateBlock(const EmulatorParams& p) {
  DYN_SMEM(Row, s);
  s.x[gpu::thread()] = p.in[Index()];
  gpu::sync_warp();
  if (p.fault != 1) gpu::sync_block();
  p.out[Index()] = s.x[(gpu::thread() + 1) % gpu::threads()];
}

/// Lanes pass values by shuffles, which order nothing. 1: memory as if they did.
GPU_FN void ShuffleOrders(const EmulatorParams& p) {
  DYN_SMEM(Row, s);
  s.x[gpu::thread()] = p.in[Index()];
  const float y = gpu::shuffle_xor(p.in[Index()], 1);
  if (p.fault != 1) gpu::sync_warp();
  p.out[Index()] = s.x[gpu::thread() ^ 1] - y;
}

/// Each lane's row through ldmatrix. 1: rows written by the lanes that give their addresses, and no
/// sync_warp.
GPU_FN void LoadMatrix(const EmulatorParams& p) {
  DYN_SMEM(Tile, s);
  for (int i = 0; i < 8; ++i) s.rows[gpu::thread()][i] = static_cast<uint16_t>(gpu::thread());
  if (p.fault != 1) gpu::sync_warp();
  uint32_t r[4];
  gpu::ldmatrix_x4(r, s.rows[gpu::thread()]);
  p.out[Index()] = static_cast<float>(r[0] & 0xffff);
}

/// Neighbours write neighbouring bytes. 1: two threads write the same one.
GPU_FN void StoreBytes(const EmulatorParams& p) {
  DYN_SMEM(Bytes, s);
  s.b[p.fault == 1 && gpu::thread() == 9 ? 8 : gpu::thread()] = static_cast<uint8_t>(gpu::thread());
  gpu::sync_block();
  if (gpu::thread() != 9) p.out[Index()] = s.b[gpu::thread()];
}

/// Accesses beyond something. `n` elements are in `in` and in `out`.
GPU_FN void StrayAccess(const EmulatorParams& p) {
  DYN_SMEM(Row, s);
  s.x[gpu::thread()] = 1;
  s.x[gpu::thread() + kThreads] = 2;
  gpu::sync_block();
  float x = 0;
  const bool last = gpu::thread() == gpu::threads() - 1;
  if (p.fault == 0 && last) x = p.in[p.n - 1] + s.x[2 * kThreads - 1];
  if (p.fault == 1 && last) x = p.in[p.n];
  if (p.fault == 2 && last) x = p.in[-1];
  if (p.fault == 3 && last) p.out[p.n] = 1;
  if (p.fault == 4) x = s.x[gpu::thread() + 3 * kThreads / 2];
  if (p.fault == 5) s.x[gpu::thread() - 1] = 1;
  if (p.fault == 6 && last) x = *static_cast<const float*>(nullptr);
  if (p.fault == 7 && last)
    x = reinterpret_cast<const Vector*>(p.in + 1)->x + reinterpret_cast<const Vector*>(p.in + 1)->w;
  if (p.fault == 8 && last) x = *reinterpret_cast<const float*>(reinterpret_cast<const char*>(p.in) + 2);
  p.out[gpu::thread()] = x;
}

/// 1: shared memory that nobody has written, 2: device memory likewise (`in` is undefined).
GPU_FN void ReadUndefined(const EmulatorParams& p) {
  DYN_SMEM(Row, s);
  if (gpu::thread() != 5 || p.fault != 1) s.x[gpu::thread()] = 1;
  gpu::sync_block();
  p.out[gpu::thread()] = s.x[gpu::thread()] + (p.fault == 2 ? p.in[gpu::thread()] : 0.0f);
}

/// in, copied asynchronously in two groups a thread, each 16 bytes; the second half is read first by others.
/// 1: no wait, 2: no commit of the second group, 3: the youngest is not waited for, 4: no barrier,
/// 5: a misaligned target, 6: a target that is used while the copy is under way, 7: copies over each other,
/// 8: a source that changes meanwhile.
GPU_FN void CopyAsync(const EmulatorParams& p) {
  DYN_SMEM(Row, s);
  const int i = gpu::thread();
  if (i < 16) gpu::cp_async16(&s.x[i * 4], &p.in[i * 4]);
  gpu::cp_async_commit();
  if (i < 16) gpu::cp_async16(&s.x[kThreads + i * 4 + (p.fault == 5 ? 1 : 0)], &p.in[kThreads + i * 4]);
  if (p.fault == 7 && i < 16) gpu::cp_async4(&s.x[kThreads + i * 4], &p.in[i]);
  if (p.fault == 8 && i == 3) const_cast<float*>(p.in)[kThreads + 12] = -1;
  if (p.fault == 6 && i == 3) s.x[kThreads + 12] = 1;
  if (p.fault != 2) gpu::cp_async_commit();
  if (p.fault == 3) {
    gpu::cp_async_wait<1>();
  } else if (p.fault != 1) {
    gpu::cp_async_wait<0>();
  }
  if (p.fault != 4) gpu::sync_block();
  p.out[i] = s.x[2 * kThreads - 1 - i];
  p.out[kThreads + i] = s.x[kThreads - 1 - i];
}

/// Chunks of in through two buffers, summed up. 1: no barrier before a buffer is filled again.
GPU_FN void DoubleBuffer(const EmulatorParams& p) {
  DYN_SMEM(Row, s);
  const int i = gpu::thread();
  const int chunks = p.n / kThreads;
  gpu::cp_async4(&s.x[i], &p.in[i]);
  gpu::cp_async_commit();
  float sum = 0;
  for (int chunk = 0; chunk < chunks; ++chunk) {
    const bool more = chunk + 1 < chunks;
    if (more) gpu::cp_async4(&s.x[(chunk + 1) % 2 * kThreads + i], &p.in[(chunk + 1) * kThreads + i]);
    gpu::cp_async_commit();
    gpu::cp_async_wait<1>();
    gpu::sync_block();
    sum += s.x[chunk % 2 * kThreads + (i + 33) % kThreads];
    if (p.fault != 1) gpu::sync_block();
  }
  p.out[i] = sum;
}

/// 1: some threads leave before a barrier, 2: they wait at another, 3: lanes leave before a collective,
/// 4: lanes are at different collectives, 5: a warp waits for its block, another one's lanes for each other,
/// 6: shuffles of different lines.
GPU_FN void Diverge(const EmulatorParams& p) {
  const int i = gpu::thread();
  float x = p.in[i];
  if (p.fault == 1 && i % 3 == 0) return;
  if (p.fault == 2 && i < 32) {
    gpu::sync_block();
  } else if (p.fault < 3) {
    gpu::sync_block();
  }
  if (p.fault == 3 && gpu::lane() == 7) return;
  if (p.fault == 4 && gpu::lane() < 16) {
    gpu::sync_warp();
  } else if (p.fault == 6 && gpu::lane() < 16) {
    x = gpu::shuffle_xor(x, 1);
  } else if (p.fault == 5 && i == 0) {
    gpu::sync_block();
  } else {
    x = gpu::shuffle_xor(x, 1);
  }
  if (p.fault == 5) gpu::sync_block();
  p.out[i] = x;
}

struct Last {
  int is_last;
};

/// Blocks leave partial sums of in; the last one to come adds them up into out[0]. 1: no fence before the
/// atomic, 2: none after it, 3: no barrier before the atomic, 4: none after it, 5: neither fence, 6: the sum
/// is taken without waiting for anybody. 7: every thread fences itself, which is right too.
GPU_FN void SumBlocks(const EmulatorParams& p) {
  DYN_SMEM(Last, s);
  const int i = gpu::thread();
  float* partials = p.out + 1;
  partials[Index()] = p.in[Index()] * 2;
  if (p.fault == 7) gpu::fence_device();
  if (p.fault != 3) gpu::sync_block();
  if (i == 0) {
    if (p.fault != 1 && p.fault != 5 && p.fault != 7) gpu::fence_device();
    const unsigned before = gpu::atomic_add(p.counter, 1u);
    s.is_last = before + 1 == static_cast<unsigned>(gpu::grid_x());
    if (p.fault != 2 && p.fault != 5 && p.fault != 7) gpu::fence_device();
  }
  if (p.fault != 4) gpu::sync_block();
  if (p.fault == 7) gpu::fence_device();
  if (s.is_last == 0 && p.fault != 6) return;
  if (i == 0) {
    float sum = 0;
    for (int k = 0; k < gpu::grid_x() * gpu::threads(); ++k) sum += partials[k];
    p.out[0] = sum;
    *p.counter = 0;
  }
}

/// Blocks write parts of out of their own. 1: neighbours overlap, 2: all count without atomics.
GPU_FN void ShareGlobal(const EmulatorParams& p) {
  const int width = gpu::threads();
  p.out[gpu::block_x() * width + gpu::thread()] = 1;
  if (p.fault == 1 && gpu::thread() == 0 && gpu::block_x() > 0) p.out[gpu::block_x() * width - 1] = 2;
  if (gpu::thread() == 1) {
    if (p.fault == 2) {
      *p.counter = *p.counter + 1;
    } else {
      gpu::atomic_add(p.counter, 1u);
    }
  }
}

struct Banks {
  uint16_t rows[32][72];
  float columns[32][33];
  float square[32][32];
};

/// Reads down columns and rows by ldmatrix. 1: strides that meet in one bank.
GPU_FN void ReadColumns(const EmulatorParams& p) {
  DYN_SMEM(Banks, s);
  const int lane = gpu::lane();
  for (int i = 0; i < 32; ++i) {
    s.columns[i][lane] = 1;
    s.square[i][lane] = 2;
    for (int half = lane; half < 72; half += 32) s.rows[i][half] = 0;
  }
  gpu::sync_warp();
  float sum = 0;
  for (int i = 0; i < 32; ++i) sum += p.fault == 1 ? s.square[lane][i] : s.columns[lane][i];
  uint32_t r[4];
  gpu::ldmatrix_x4(r, p.fault == 1 ? reinterpret_cast<const uint16_t*>(s.square[lane]) : s.rows[lane]);
  p.out[lane] = sum + (p.fault == 1 ? 0.0f : static_cast<float>(r[0]));
}

}  // namespace

GPU_KERNEL(emulator_reverse, EmulatorParams, 64) { Reverse(p); }
GPU_KERNEL(emulator_rotate_warp, EmulatorParams, 64) { RotateWarp(p); }
GPU_KERNEL(emulator_rotate_block, EmulatorParams, 64) { RotateBlock(p); }
GPU_KERNEL(emulator_shuffle_orders, EmulatorParams, 64) { ShuffleOrders(p); }
GPU_KERNEL(emulator_load_matrix, EmulatorParams, 64) { LoadMatrix(p); }
GPU_KERNEL(emulator_store_bytes, EmulatorParams, 64) { StoreBytes(p); }
GPU_KERNEL(emulator_stray_access, EmulatorParams, 64) { StrayAccess(p); }
GPU_KERNEL(emulator_read_undefined, EmulatorParams, 64) { ReadUndefined(p); }
GPU_KERNEL(emulator_copy_async, EmulatorParams, 64) { CopyAsync(p); }
GPU_KERNEL(emulator_double_buffer, EmulatorParams, 64) { DoubleBuffer(p); }
GPU_KERNEL(emulator_diverge, EmulatorParams, 64) { Diverge(p); }
GPU_KERNEL(emulator_sum_blocks, EmulatorParams, 64) { SumBlocks(p); }
GPU_KERNEL(emulator_share_global, EmulatorParams, 64) { ShareGlobal(p); }
GPU_KERNEL(emulator_read_columns, EmulatorParams, 32) { ReadColumns(p); }
