#pragma once

#include "kernels/cuda/gpu.h"
#include "kernels/cuda/views.h"
#include "kernels/cuda/weight_format.h"

// What a warp's lanes hold of a product, one structure a family of forms, from which matmul_tiles.h makes
// kernels:
//   Chunk     a strip's chunk (16 features × 64 k) as it lies in memory
//   A         its block of 32 k as mma operands, with its scales
//   B         8 rows × 32 k of activations; lane l has row g = l / 4 and the k that weight_format.h gives t
//             = l % 4
//   Multiply  acc += a * b, acc in the mma's layout: features g, g, g + 8, g + 8 and rows 2t, 2t + 1, 2t, 2t
//             + 1; `side` are sums or scales of the block, of rows 2t and 2t + 1
//   kRing     chunks that a decoding warp has under way
//   kStages   chunks that a prefilling block has in shared memory
//   kPrefillRows  rows of a prefilling block, as many as registers allow without a spill on any target
//   kSub      k that lie together in shared memory: a chunk's activations there are [64 / kSub][rows][kSub]

namespace tokenmill::cuda {

struct alignas(16) Words4 {
  uint32_t w[4];
};
struct alignas(8) Words2 {
  uint32_t w[2];
};
struct Words1 {
  uint32_t w[1];
};

template <class Words>
GPU_FN Words LoadWords(const void* at) {
  return *static_cast<const Words*>(at);
}

GPU_FN float LowHalf(uint32_t pair) { return gpu::from_f16(static_cast<uint16_t>(pair)); }
GPU_FN float HighHalf(uint32_t pair) { return gpu::from_f16(static_cast<uint16_t>(pair >> 16)); }

/// A byte less `above` as f32, exact: 2^23 + byte made of bits.
template <int kIndex>
GPU_FN float ByteToFloat(uint32_t word, int above) {
  return gpu::bits_float(gpu::byte_permute(word, 0x4b000000u, 0x7540u + kIndex)) -
         static_cast<float>(8388608 + above);
}

/// Levels of one step as pairs of f16, less the offset, all exact: a level above the bits of 1024 is 1024 +
/// level, and at 4 bits higher 1024 + 16 * level. `shift` is where the step's upper bits begin.
template <int kBits, int kOffset>
GPU_FN void UnpackLevels(uint32_t low, uint32_t high, int shift, uint32_t (&a)[4]) {
  constexpr uint32_t kUpper = kBits == 6 ? 0x00300030u : 0x00100010u;
  constexpr uint32_t kPair = 0x00010001u;
  GPU_UNROLL
  for (int r = 0; r < 4; ++r) {
    const bool odd = r % 2 == 1;
    uint32_t x = gpu::and_or(low >> r / 2 * 8, odd ? 0x00f000f0u : 0x000f000fu, 0x6400u * kPair);
    if (kBits > 4) {
      const uint32_t placed = r == 3 ? high << (8 - shift) : high >> (r / 2 * 8 + shift);
      x = gpu::and_or(placed, odd ? kUpper << 4 : kUpper, x);
    }
    a[r] = odd ? gpu::hfma2(x, 0x2c00u * kPair, (0xd400u + 16 * kOffset) * kPair)  // x / 16 - (64 + offset)
               : gpu::hsub2(x, (0x6400u + kOffset) * kPair);
  }
}

/// Bytes with a sign as pairs of f16: of words of features g and g + 8, four k each.
GPU_FN void UnpackBytes(uint32_t first, uint32_t second, uint32_t (&a)[4]) {
  first ^= 0x80808080u;
  second ^= 0x80808080u;
  const uint32_t bias = 0x64806480u;  // 1024 + 128
  a[0] = gpu::hsub2(gpu::byte_permute(first, 0x64646464u, 0x4140u), bias);
  a[1] = gpu::hsub2(gpu::byte_permute(second, 0x64646464u, 0x4140u), bias);
  a[2] = gpu::hsub2(gpu::byte_permute(first, 0x64646464u, 0x4342u), bias);
  a[3] = gpu::hsub2(gpu::byte_permute(second, 0x64646464u, 0x4342u), bias);
}

/// Operands of two steps.
struct PairsB {
  uint32_t step[2][2];
};
GPU_FN PairsB PairsOf(const Words4& words) { return {{{words.w[0], words.w[1]}, {words.w[2], words.w[3]}}}; }

/// 16-bit activations of one row's block; `at` is the block's first, in global or shared memory. kSub apart
/// the steps of a block are `step_bytes` apart.
template <int kSub>
GPU_FN PairsB ReadPairs(const uint16_t* at, int64_t step_elements, int t) {
  if (kSub == 32) return PairsOf(LoadWords<Words4>(at + 8 * t));
  const Words2 first = LoadWords<Words2>(at + 4 * t);
  const Words2 second = LoadWords<Words2>(at + step_elements + 4 * t);
  return {{{first.w[0], first.w[1]}, {second.w[0], second.w[1]}}};
}

// --- Levels of 4 to 8 bits × f16

template <WeightForm kForm>
struct LevelsProduct {
  static constexpr WeightScales kScales = LayoutOf(kForm).scales;
  static constexpr int kBits = LayoutOf(kForm).bits;
  static constexpr int kSub = kScales == WeightScales::kK16 ? 16 : 32;
  static constexpr bool kMins = kScales == WeightScales::kDM || kScales == WeightScales::kK;
  static constexpr bool kSide = kMins;
  static constexpr bool kRowScale = true;
  static constexpr bool kAnyK = false;
  static constexpr int kElementBytes = 2;
  static constexpr int kPlanes = 1;
  static constexpr int kRing = kBits == 8 ? 2 : 4;
  static constexpr int kStages = 3;
  static constexpr int kPrefillRows = 56;

  struct Chunk {
    Words4 levels[kBits == 8 ? 2 : 1];
    Words2 high;
    Words4 scales;
    Words2 header;
  };
  struct A {
    uint32_t step[2][4];
    float d[2][2];  // [of a step, where kSub is 16][feature g, g + 8]
    float m[2];
  };
  using B = PairsB;

  GPU_FN const uint16_t* Plane(const ActivationView& in, int) { return in.f16; }
  GPU_FN const float* Side(const ActivationView& in) { return in.sums; }

  GPU_FN Chunk Load(const ChunkParts& from, int lane) {
    const int g = lane / 4;
    Chunk chunk;
    chunk.levels[0] = LoadWords<Words4>(from.levels + lane * 16);
    if (kBits == 8) chunk.levels[kBits / 8] = LoadWords<Words4>(from.levels + 512 + lane * 16);
    if (kBits == 5) chunk.high.w[0] = LoadWords<Words1>(from.high + lane * 4).w[0];
    if (kBits == 6) chunk.high = LoadWords<Words2>(from.high + lane * 8);
    if (kScales == WeightScales::kDM) {
      chunk.scales = LoadWords<Words4>(from.scales + g * 16);
    } else {
      const Words2 scales = LoadWords<Words2>(from.scales + g * 8);
      chunk.scales.w[0] = scales.w[0];
      chunk.scales.w[1] = scales.w[1];
    }
    if (kScales == WeightScales::kK) chunk.header = LoadWords<Words2>(from.header + g * 8);
    if (kScales == WeightScales::kK16) chunk.header.w[0] = LoadWords<Words1>(from.header + g * 4).w[0];
    return chunk;
  }

  GPU_FN A Unpack(const Chunk& chunk, int block) {
    A a;
    GPU_UNROLL
    for (int i = 0; i < 2; ++i) {
      if (kBits == 8) {
        const Words4& words = chunk.levels[kBits == 8 ? block : 0];
        UnpackBytes(words.w[2 * i], words.w[2 * i + 1], a.step[i]);
      } else {
        const uint32_t high = chunk.high.w[kBits == 6 ? block : 0];
        const int shift = kBits == 6 ? 2 * i : 2 * block + i;
        UnpackLevels<kBits, LayoutOf(kForm).offset>(chunk.levels[0].w[2 * block + i], high, shift, a.step[i]);
      }
    }
    UnpackScales(chunk, block, a);
    return a;
  }

  GPU_FN void UnpackScales(const Chunk& chunk, int block, A& a) {
    const uint32_t word = chunk.scales.w[kScales == WeightScales::kDM ? 2 * block : block];
    if (kScales == WeightScales::kD || kScales == WeightScales::kDM) {
      a.d[0][0] = LowHalf(word);
      a.d[0][1] = HighHalf(word);
    }
    if (kScales == WeightScales::kDM) {
      a.m[0] = LowHalf(chunk.scales.w[2 * block + 1]);
      a.m[1] = HighHalf(chunk.scales.w[2 * block + 1]);
    }
    const float d0 = LowHalf(chunk.header.w[0]), d1 = HighHalf(chunk.header.w[0]);
    if (kScales == WeightScales::kK) {
      a.d[0][0] = d0 * ByteToFloat<0>(word, 0);
      a.d[0][1] = d1 * ByteToFloat<1>(word, 0);
      a.m[0] = -(LowHalf(chunk.header.w[1]) * ByteToFloat<2>(word, 0));
      a.m[1] = -(HighHalf(chunk.header.w[1]) * ByteToFloat<3>(word, 0));
    }
    if (kScales == WeightScales::kK16) {
      a.d[0][0] = d0 * ByteToFloat<0>(word, 128);
      a.d[0][1] = d1 * ByteToFloat<1>(word, 128);
      a.d[1][0] = d0 * ByteToFloat<2>(word, 128);
      a.d[1][1] = d1 * ByteToFloat<3>(word, 128);
    }
  }

  GPU_FN B FromGlobal(const ActivationView& in, int64_t row, int k, bool valid, int t) {
    return valid ? ReadPairs<kSub>(in.f16 + row * in.k + k, 16, t) : B{};
  }
  GPU_FN B FromShared(const uint8_t* plane, int, int rows, int row, int block, int t) {
    const uint16_t* at = reinterpret_cast<const uint16_t*>(plane) + (32 / kSub * block * rows + row) * kSub;
    return ReadPairs<kSub>(at, rows * kSub, t);
  }

  GPU_FN void Multiply(float (&acc)[4], const A& a, const B& b, const float (&side)[2]) {
    float sums[4] = {0, 0, 0, 0};
    gpu::mma_f16(sums, a.step[0], b.step[0]);
    if (kSub == 16) {
      GPU_UNROLL
      for (int i = 0; i < 4; ++i) {
        acc[i] = gpu::fma(a.d[0][i / 2], sums[i], acc[i]);
        sums[i] = 0;
      }
    }
    gpu::mma_f16(sums, a.step[1], b.step[1]);
    GPU_UNROLL
    for (int i = 0; i < 4; ++i) acc[i] = gpu::fma(a.d[kSub == 16 ? 1 : 0][i / 2], sums[i], acc[i]);
    if (kMins) {
      GPU_UNROLL
      for (int i = 0; i < 4; ++i) acc[i] = gpu::fma(a.m[i / 2], side[i % 2], acc[i]);
    }
  }
};

// --- Q8_0 × s8

struct BytesProduct {
  static constexpr int kSub = 32;
  static constexpr bool kSide = true;
  static constexpr bool kRowScale = false;
  static constexpr bool kAnyK = false;
  static constexpr int kElementBytes = 1;
  static constexpr int kPlanes = 1;
  static constexpr int kRing = 2;
  static constexpr int kStages = 3;
  static constexpr int kPrefillRows = 64;

  struct Chunk {
    Words4 levels[2];
    Words2 scales;
  };
  struct A {
    Words4 levels;
    float d[2];
  };
  using B = Words2;

  GPU_FN const int8_t* Plane(const ActivationView& in, int) { return in.s8; }
  GPU_FN const float* Side(const ActivationView& in) { return in.s8_scale; }

  GPU_FN Chunk Load(const ChunkParts& from, int lane) {
    const uint8_t* levels = from.levels + lane * 16;
    return {{LoadWords<Words4>(levels), LoadWords<Words4>(levels + 512)},
            LoadWords<Words2>(from.scales + lane / 4 * 8)};
  }
  GPU_FN A Unpack(const Chunk& chunk, int block) {
    return {chunk.levels[block], {LowHalf(chunk.scales.w[block]), HighHalf(chunk.scales.w[block])}};
  }
  GPU_FN B FromGlobal(const ActivationView& in, int64_t row, int k, bool valid, int t) {
    return valid ? LoadWords<Words2>(in.s8 + row * in.k + k + 8 * t) : B{};
  }
  GPU_FN B FromShared(const uint8_t* plane, int, int rows, int row, int block, int t) {
    return LoadWords<Words2>(plane + (block * rows + row) * 32 + 8 * t);
  }

  /// Sums are counted from the bits of 1.5 * 2^23, so that they are f32 without a conversion.
  GPU_FN void Multiply(float (&acc)[4], const A& a, const B& b, const float (&side)[2]) {
    constexpr int kBits = 0x4b400000;
    int sums[4] = {kBits, kBits, kBits, kBits};
    gpu::mma_s8(sums, a.levels.w, b.w);
    GPU_UNROLL
    for (int i = 0; i < 4; ++i) {
      const float sum = gpu::bits_float(static_cast<uint32_t>(sums[i])) - 12582912.0f;
      acc[i] = gpu::fma(a.d[i / 2] * side[i % 2], sum, acc[i]);
    }
  }
};

// --- F16 × f16, BF16 × bf16 in one or two terms

template <bool kBf16, int kTerms>
struct PlainProduct {
  static constexpr int kSub = 32;
  static constexpr bool kSide = false;
  static constexpr bool kRowScale = !kBf16;
  static constexpr bool kAnyK = true;
  static constexpr int kElementBytes = 2;
  static constexpr int kPlanes = kTerms;
  static constexpr int kRing = 2;
  static constexpr int kStages = 2;
  static constexpr int kPrefillRows = 64;

  struct Chunk {
    Words4 step[4];
  };
  struct A {
    Words4 step[2];
  };
  struct B {
    PairsB term[kTerms];
  };

  GPU_FN const uint16_t* Plane(const ActivationView& in, int term) {
    return kBf16 ? term == 0 ? in.bf16 : in.bf16_rest : in.f16;
  }
  GPU_FN const float* Side(const ActivationView&) { return nullptr; }

  GPU_FN Chunk Load(const ChunkParts& from, int lane) {
    Chunk chunk;
    GPU_UNROLL
    for (int s = 0; s < 4; ++s) chunk.step[s] = LoadWords<Words4>(from.levels + s * 512 + lane * 16);
    return chunk;
  }
  GPU_FN A Unpack(const Chunk& chunk, int block) {
    return {{chunk.step[2 * block], chunk.step[2 * block + 1]}};
  }

  /// Rows of a k that 8 does not divide are not aligned, and the last block may end early.
  GPU_FN B FromGlobal(const ActivationView& in, int64_t row, int k, bool valid, int t) {
    B b = {};
    const int first = k + 8 * t;
    if (!valid || first >= in.k) return b;
    GPU_UNROLL
    for (int term = 0; term < kTerms; ++term) {
      const uint16_t* at = Plane(in, term) + row * in.k + first;
      if (in.k % 8 == 0) {
        b.term[term] = PairsOf(LoadWords<Words4>(at));
        continue;
      }
      GPU_UNROLL
      for (int i = 0; i < 8; ++i) {
        const uint32_t bits = first + i < in.k ? at[i] : 0u;
        b.term[term].step[i / 4][i % 4 / 2] |= bits << i % 2 * 16;
      }
    }
    return b;
  }
  GPU_FN B FromShared(const uint8_t* plane, int plane_bytes, int rows, int row, int block, int t) {
    B b;
    GPU_UNROLL
    for (int term = 0; term < kTerms; ++term) {
      const uint16_t* at = reinterpret_cast<const uint16_t*>(plane + term * plane_bytes);
      b.term[term] = ReadPairs<32>(at + (block * rows + row) * 32, 0, t);
    }
    return b;
  }

  GPU_FN void Multiply(float (&acc)[4], const A& a, const B& b, const float (&)[2]) {
    GPU_UNROLL
    for (int s = 0; s < 2; ++s) {
      GPU_UNROLL
      for (int term = 0; term < kTerms; ++term) {
        if (kBf16) {
          gpu::mma_bf16(acc, a.step[s].w, b.term[term].step[s]);
        } else {
          gpu::mma_f16(acc, a.step[s].w, b.term[term].step[s]);
        }
      }
    }
  }
};

}  // namespace tokenmill::cuda
