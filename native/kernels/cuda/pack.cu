#include "kernels/cuda/pack.h"

#include "kernels/cuda/gpu.h"

// One warp a chunk of 16 features × 64 k: every lane gathers the levels of its own words from the file's
// blocks, and the lanes of the first 8 the scales. Block (x, y): 4 chunks from 4 * x, strip y. No shared
// memory. Blocks are read by bytes: they are not aligned, and this runs once a model.

namespace tokenmill::cuda {

/// Where a format keeps its parts in a block. Level(i) is stored, above the value's by the layout's offset.
struct RawQ4_0 {
  static constexpr int kBytes = 18, kElements = 32, kD = 0, kM = 0;
  GPU_FN uint32_t Level(const uint8_t* block, int i) { return block[2 + i % 16] >> i / 16 * 4 & 15u; }
};
struct RawQ4_1 {
  static constexpr int kBytes = 20, kElements = 32, kD = 0, kM = 2;
  GPU_FN uint32_t Level(const uint8_t* block, int i) { return block[4 + i % 16] >> i / 16 * 4 & 15u; }
};
struct RawQ5_0 {
  static constexpr int kBytes = 22, kElements = 32, kD = 0, kM = 0;
  GPU_FN uint32_t Level(const uint8_t* block, int i) {
    return (block[6 + i % 16] >> i / 16 * 4 & 15u) | (block[2 + i / 8] >> i % 8 & 1u) << 4;
  }
};
struct RawQ5_1 {
  static constexpr int kBytes = 24, kElements = 32, kD = 0, kM = 2;
  GPU_FN uint32_t Level(const uint8_t* block, int i) {
    return (block[8 + i % 16] >> i / 16 * 4 & 15u) | (block[4 + i / 8] >> i % 8 & 1u) << 4;
  }
};
struct RawQ8_0 {
  static constexpr int kBytes = 34, kElements = 32, kD = 0, kM = 0;
  GPU_FN uint32_t Level(const uint8_t* block, int i) { return block[2 + i]; }
};
struct RawQ4_K {
  static constexpr int kBytes = 144, kElements = 256, kD = 0, kM = 2;
  GPU_FN uint32_t Level(const uint8_t* block, int i) {
    return block[16 + i / 64 * 32 + i % 32] >> i % 64 / 32 * 4 & 15u;
  }
};
struct RawQ5_K {
  static constexpr int kBytes = 176, kElements = 256, kD = 0, kM = 2;
  GPU_FN uint32_t Level(const uint8_t* block, int i) {
    return (block[48 + i / 64 * 32 + i % 32] >> i % 64 / 32 * 4 & 15u) | (block[16 + i % 32] >> i / 32 & 1u)
                                                                             << 4;
  }
};
struct RawQ6_K {
  static constexpr int kBytes = 210, kElements = 256, kD = 208, kM = 0, kGroupScales = 192;
  GPU_FN uint32_t Level(const uint8_t* block, int i) {
    return (block[i / 128 * 64 + i % 64] >> i % 128 / 64 * 4 & 15u) |
           (block[128 + i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3u) << 4;
  }
};
struct Raw16 {
  static constexpr int kBytes = 2, kElements = 1, kD = 0, kM = 0;
  GPU_FN uint32_t Level(const uint8_t* block, int) { return ReadBits16(block); }
};

/// Scale and min of group 0 to 7 in the twelve bytes of Q4_K and Q5_K.
GPU_FN uint32_t GroupScale(const uint8_t* packed, int group) {
  return group < 4 ? packed[group] & 63u
                   : (packed[group + 4] & 15u) | static_cast<uint32_t>(packed[group - 4] >> 6) << 4;
}
GPU_FN uint32_t GroupMin(const uint8_t* packed, int group) {
  return group < 4 ? packed[group + 4] & 63u
                   : static_cast<uint32_t>(packed[group + 4] >> 4 | packed[group] >> 6 << 4);
}

/// Rows of a strip in the file; null where a row or k is missing.
template <class Raw>
struct RawStrip {
  const uint8_t* rows;
  int count;  // of features
  int k;

  GPU_FN const uint8_t* BlockAt(const RawStrip& strip, int feature, int k) {
    if (feature >= strip.count || k >= strip.k) return nullptr;
    const int64_t blocks = strip.k / Raw::kElements;
    return strip.rows + (feature * blocks + k / Raw::kElements) * Raw::kBytes;
  }
  GPU_FN uint32_t LevelAt(const RawStrip& strip, int feature, int k) {
    const uint8_t* block = BlockAt(strip, feature, k);
    return block == nullptr ? 0 : Raw::Level(block, k % Raw::kElements);
  }
  /// The 16 bits at `offset` of the block, of features g and g + 8.
  GPU_FN uint32_t HalvesAt(const RawStrip& strip, int g, int k, int offset) {
    const uint8_t *first = BlockAt(strip, g, k), *second = BlockAt(strip, g + 8, k);
    return (first == nullptr ? 0 : ReadBits16(first + offset)) |
           (second == nullptr ? 0 : ReadBits16(second + offset)) << 16;
  }
};

GPU_FN void WriteWord(const uint8_t* at, int index, uint32_t word) {
  reinterpret_cast<uint32_t*>(const_cast<uint8_t*>(at))[index] = word;
}

template <class Raw, WeightForm kForm>
GPU_FN void PackLevels(const RawStrip<Raw>& strip, const ChunkParts& to, int first_k, int lane) {
  constexpr WeightLayout layout = LayoutOf(kForm);
  const int g = lane / 4, t = lane % 4;
  uint32_t high = 0;
  for (int s = 0; s < 4; ++s) {
    const int step_k = first_k + StepK(layout, s, t);
    uint32_t words[4] = {0, 0, 0, 0};
    GPU_UNROLL
    for (int r = 0; r < 4; ++r) {
      GPU_UNROLL
      for (int h = 0; h < 2; ++h) {
        const uint32_t level = RawStrip<Raw>::LevelAt(strip, g + r % 2 * 8, step_k + r / 2 * 2 + h);
        if (layout.bits == 16) {
          words[r] |= level << 16 * h;
        } else if (layout.bits == 8) {
          words[r % 2] |= level << (r / 2 * 16 + 8 * h);
        } else {
          const int at = (4 * r + 4) % 16 + 16 * h;
          words[0] |= (level & 15u) << (4 * r + 16 * h);
          high |= level >> 4 << (layout.bits == 5 ? at + s : at + s % 2 * 2);
        }
      }
    }
    if (layout.bits == 16) {
      for (int r = 0; r < 4; ++r) WriteWord(to.levels + s * 512 + lane * 16, r, words[r]);
    } else if (layout.bits == 8) {
      for (int r = 0; r < 2; ++r) WriteWord(to.levels + s / 2 * 512 + lane * 16, s % 2 * 2 + r, words[r]);
    } else {
      WriteWord(to.levels + lane * 16, s, words[0]);
    }
    if (layout.bits == 6 && s % 2 == 1) {
      WriteWord(to.high, lane * 2 + s / 2, high);
      high = 0;
    }
  }
  if (layout.bits == 5) WriteWord(to.high, lane, high);
}

/// Of features g and g + 8.
template <class Raw, WeightForm kForm>
GPU_FN void PackScales(const RawStrip<Raw>& strip, const ChunkParts& to, int first_k, int g) {
  using Strip = RawStrip<Raw>;
  constexpr WeightScales kScales = LayoutOf(kForm).scales;
  for (int b = 0; b < 2; ++b) {
    const int k = first_k + 32 * b;
    if constexpr (kScales == WeightScales::kD) {
      WriteWord(to.scales, g * 2 + b, Strip::HalvesAt(strip, g, k, Raw::kD));
    } else if constexpr (kScales == WeightScales::kDM) {
      WriteWord(to.scales, g * 4 + b * 2, Strip::HalvesAt(strip, g, k, Raw::kD));
      WriteWord(to.scales, g * 4 + b * 2 + 1, Strip::HalvesAt(strip, g, k, Raw::kM));
    } else {
      uint32_t word = 0;
      for (int i = 0; i < 2; ++i) {
        const uint8_t* block = Strip::BlockAt(strip, g + 8 * i, k);
        if (block == nullptr) continue;
        if constexpr (kScales == WeightScales::kK) {
          const int group = k % 256 / 32;
          word |= GroupScale(block + 4, group) << 8 * i | GroupMin(block + 4, group) << (16 + 8 * i);
        } else {
          const uint8_t* groups = block + Raw::kGroupScales + k % 256 / 16;
          word |= (groups[0] ^ 128u) << 8 * i | (groups[1] ^ 128u) << (16 + 8 * i);
        }
      }
      WriteWord(to.scales, g * 2 + b, word);
    }
  }
  if (first_k % 256 != 0) return;
  if constexpr (kScales == WeightScales::kK) {
    WriteWord(to.header, g * 2, Strip::HalvesAt(strip, g, first_k, Raw::kD));
    WriteWord(to.header, g * 2 + 1, Strip::HalvesAt(strip, g, first_k, Raw::kM));
  } else if constexpr (kScales == WeightScales::kK16) {
    WriteWord(to.header, g, Strip::HalvesAt(strip, g, first_k, Raw::kD));
  }
}

template <class Raw, WeightForm kForm>
GPU_FN void PackChunk(const PackParams& p) {
  constexpr WeightLayout layout = LayoutOf(kForm);
  const int chunk = gpu::block_x() * 4 + gpu::warp(), first = gpu::block_y() * kStripFeatures;
  if (chunk * kChunkK >= p.k) return;
  const int64_t row_bytes = int64_t{p.k / Raw::kElements} * Raw::kBytes;
  const RawStrip<Raw> strip = {p.rows + first * row_bytes, gpu::min(kStripFeatures, p.feature_count - first),
                               p.k};
  const uint8_t* to = p.weights + (p.feature_begin + first) / kStripFeatures * StripBytes(layout, p.k);
  const ChunkParts parts = PartsOfChunk(layout, to, chunk);
  PackLevels<Raw, kForm>(strip, parts, chunk * kChunkK, gpu::lane());
  if constexpr (layout.scales != WeightScales::kNone) {
    if (gpu::lane() < 8) PackScales<Raw, kForm>(strip, parts, chunk * kChunkK, gpu::lane());
  }
}

GPU_KERNEL(pack_q4_0, PackParams, 128) { PackChunk<RawQ4_0, WeightForm::kQ4_0>(p); }
GPU_KERNEL(pack_q4_1, PackParams, 128) { PackChunk<RawQ4_1, WeightForm::kQ4_1>(p); }
GPU_KERNEL(pack_q4_k, PackParams, 128) { PackChunk<RawQ4_K, WeightForm::kQ4_K>(p); }
GPU_KERNEL(pack_q5_0, PackParams, 128) { PackChunk<RawQ5_0, WeightForm::kQ5_0>(p); }
GPU_KERNEL(pack_q5_1, PackParams, 128) { PackChunk<RawQ5_1, WeightForm::kQ5_1>(p); }
GPU_KERNEL(pack_q5_k, PackParams, 128) { PackChunk<RawQ5_K, WeightForm::kQ5_K>(p); }
GPU_KERNEL(pack_q6_k, PackParams, 128) { PackChunk<RawQ6_K, WeightForm::kQ6_K>(p); }
GPU_KERNEL(pack_q8_0, PackParams, 128) { PackChunk<RawQ8_0, WeightForm::kQ8_0>(p); }
GPU_KERNEL(pack_16, PackParams, 128) { PackChunk<Raw16, WeightForm::kF16>(p); }

// Block (x, y): 128 elements of strip y, [k][32], one a thread.
GPU_KERNEL(pack_f32, PackParams, 128) {
  const int feature = gpu::block_y() * kF32StripFeatures + gpu::lane(), k = gpu::block_x() * 4 + gpu::warp();
  if (k >= p.k) return;
  const int64_t strip = p.feature_begin / kF32StripFeatures + gpu::block_y();
  const bool present = feature < p.feature_count;
  const uint32_t bits = present ? ReadBits32(p.rows + (int64_t{feature} * p.k + k) * 4) : 0;
  WriteWord(p.weights + strip * StripBytes(LayoutOf(WeightForm::kF32), p.k),
            k * kF32StripFeatures + gpu::lane(), bits);
}

#ifndef __CUDACC__

Result<WeightForm> WeightFormOf(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
      return WeightForm::kQ4_0;
    case DType::kQ4_1:
      return WeightForm::kQ4_1;
    case DType::kQ4_K:
      return WeightForm::kQ4_K;
    case DType::kQ5_0:
      return WeightForm::kQ5_0;
    case DType::kQ5_1:
      return WeightForm::kQ5_1;
    case DType::kQ5_K:
      return WeightForm::kQ5_K;
    case DType::kQ6_K:
      return WeightForm::kQ6_K;
    case DType::kQ8_0:
      return WeightForm::kQ8_0;
    case DType::kF16:
      return WeightForm::kF16;
    case DType::kBF16:
      return WeightForm::kBF16;
    case DType::kF32:
      return WeightForm::kF32;
    default:
      return Error(Code::kUnsupportedQuantization, "the GPU has no kernels for tensors of type %d",
                   static_cast<int>(dtype));
  }
}

Status LaunchPack(Driver& driver, Stream stream, WeightForm form, const PackParams& params) {
  static constexpr const char* kKernels[kWeightForms] = {"pack_q4_0", "pack_q4_1", "pack_q4_k", "pack_q5_0",
                                                         "pack_q5_1", "pack_q5_k", "pack_q6_k", "pack_q8_0",
                                                         "pack_16",   "pack_16",   "pack_f32"};
  const int multiple = KMultipleOf(form);
  if (params.k < 1 || params.k % multiple != 0 || params.feature_begin % kF32StripFeatures != 0) {
    return Error(Code::kInvalidArgument,
                 "rows of k %d from feature %d; k must be a multiple of %d, the first feature of %d",
                 params.k, params.feature_begin, multiple, kF32StripFeatures);
  }
  if (params.feature_count < 1) return {};
  const bool f32 = form == WeightForm::kF32;
  const int strip = f32 ? kF32StripFeatures : kStripFeatures, across = f32 ? 4 : 4 * kChunkK;
  const LaunchShape shape = {.grid_x = static_cast<unsigned>((params.k + across - 1) / across),
                             .grid_y = static_cast<unsigned>((params.feature_count + strip - 1) / strip),
                             .threads = 128};
  return driver.Launch(stream, kKernels[static_cast<int>(form)], shape, &params, sizeof(params));
}

#endif

}  // namespace tokenmill::cuda
