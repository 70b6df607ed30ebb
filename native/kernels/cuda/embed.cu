// Gather of embedding rows, dequantized as quant/*.h define it: the same f32 bits.
//
// embed_*: from the file's bytes; embed_packed_*: from the form that products read.
// Grid: (width / 256, rows); a thread gives one element, read with its block's scales, which neighbouring
// threads share through the cache. No shared memory. A row is 1 / vocabulary of the table: nothing is gained
// by wider loads.
//
//   registers (no spills)  sm_80 to sm_120
//   embed_*                12 to 22
//   embed_packed_*         14 to 36

#include "kernels/cuda/embed.h"

#include "kernels/cuda/gpu.h"

namespace tokenmill::cuda {
namespace {

constexpr int kEmbedThreads = 256;

GPU_FN float ReadHalf(const uint8_t* at) { return gpu::from_f16(*reinterpret_cast<const uint16_t*>(at)); }

struct TableF32 {
  GPU_FN float At(const uint8_t* row, int k) { return reinterpret_cast<const float*>(row)[k]; }
};
struct TableF16 {
  GPU_FN float At(const uint8_t* row, int k) { return ReadHalf(row + 2 * k); }
};
struct TableBf16 {
  GPU_FN float At(const uint8_t* row, int k) {
    return gpu::from_bf16(reinterpret_cast<const uint16_t*>(row)[k]);
  }
};

/// The nibble of element i of 32: the low ones first.
GPU_FN int Nibble(const uint8_t* levels, int i) { return levels[i % 16] >> (i / 16 * 4) & 0x0f; }
/// The fifth bit of element i of 32.
GPU_FN int UpperBit(const uint8_t* bits, int i) { return (bits[i / 8] >> (i % 8) & 1) << 4; }

struct TableQ4_0 {
  GPU_FN float At(const uint8_t* row, int k) {
    const uint8_t* block = row + k / 32 * 18;
    return ReadHalf(block) * static_cast<float>(Nibble(block + 2, k % 32) - 8);
  }
};
struct TableQ4_1 {
  GPU_FN float At(const uint8_t* row, int k) {
    const uint8_t* block = row + k / 32 * 20;
    return ReadHalf(block) * static_cast<float>(Nibble(block + 4, k % 32)) + ReadHalf(block + 2);
  }
};
struct TableQ5_0 {
  GPU_FN float At(const uint8_t* row, int k) {
    const uint8_t* block = row + k / 32 * 22;
    const int level = Nibble(block + 6, k % 32) | UpperBit(block + 2, k % 32);
    return ReadHalf(block) * static_cast<float>(level - 16);
  }
};
struct TableQ5_1 {
  GPU_FN float At(const uint8_t* row, int k) {
    const uint8_t* block = row + k / 32 * 24;
    const int level = Nibble(block + 8, k % 32) | UpperBit(block + 4, k % 32);
    return ReadHalf(block) * static_cast<float>(level) + ReadHalf(block + 2);
  }
};
struct TableQ8_0 {
  GPU_FN float At(const uint8_t* row, int k) {
    const uint8_t* block = row + k / 32 * 34;
    return ReadHalf(block) * static_cast<float>(static_cast<int8_t>(block[2 + k % 32]));
  }
};

/// The 6-bit scale and min of group 0 … 7, packed in twelve bytes as quant/k_scales.h has it.
GPU_FN int KScale(const uint8_t* packed, int group) {
  if (group < 4) return packed[group] & 0x3f;
  return (packed[group + 4] & 0x0f) | packed[group - 4] >> 6 << 4;
}
GPU_FN int KMin(const uint8_t* packed, int group) {
  if (group < 4) return packed[group + 4] & 0x3f;
  return packed[group + 4] >> 4 | packed[group] >> 6 << 4;
}
/// (d * scale) * level - dmin * min of a block that begins with d, dmin and packed scales.
GPU_FN float KValue(const uint8_t* block, int group, int level) {
  const float scale = ReadHalf(block) * static_cast<float>(KScale(block + 4, group));
  const float min = ReadHalf(block + 2) * static_cast<float>(KMin(block + 4, group));
  return scale * static_cast<float>(level) - min;
}

struct TableQ4_K {
  GPU_FN float At(const uint8_t* row, int k) {
    const uint8_t* block = row + k / 256 * 144;
    const int group = k % 256 / 32;
    return KValue(block, group, block[16 + group / 2 * 32 + k % 32] >> (group % 2 * 4) & 0x0f);
  }
};
struct TableQ5_K {
  GPU_FN float At(const uint8_t* row, int k) {
    const uint8_t* block = row + k / 256 * 176;
    const int group = k % 256 / 32;
    const int nibble = block[48 + group / 2 * 32 + k % 32] >> (group % 2 * 4) & 0x0f;
    return KValue(block, group, nibble | (block[16 + k % 32] >> group & 1) << 4);
  }
};
struct TableQ6_K {
  GPU_FN float At(const uint8_t* row, int k) {
    const uint8_t* block = row + k / 256 * 210;
    const int i = k % 256;
    const int lower = block[i / 128 * 64 + i % 64] >> (i % 128 / 64 * 4) & 0x0f;
    const int upper = block[128 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 0x03;
    const float scale = ReadHalf(block + 208) * static_cast<float>(static_cast<int8_t>(block[192 + i / 16]));
    return scale * static_cast<float>((lower | upper << 4) - 32);
  }
};

template <class Table>
GPU_FN void EmbedElement(const EmbedParams& p) {
  const int row = gpu::block_y(), k = gpu::block_x() * kEmbedThreads + gpu::thread();
  if (row >= p.counts->rows || k >= p.width) return;
  const float value = Table::At(p.table + p.tokens[row] * p.row_bytes, k);
  p.out[static_cast<int64_t>(row) * p.width + k] = value * p.scale;
}

GPU_FN float ValueOf(WeightForm form, const WeightParts& parts) {
  const WeightScales scales = LayoutOf(form).scales;
  if (form == WeightForm::kF32) return gpu::bits_float(parts.bits);
  if (form == WeightForm::kF16) return gpu::from_f16(static_cast<uint16_t>(parts.bits));
  if (form == WeightForm::kBF16) return gpu::from_bf16(static_cast<uint16_t>(parts.bits));
  const float level = static_cast<float>(parts.level), d = gpu::from_f16(parts.d);
  if (scales == WeightScales::kD) return d * level;
  if (scales == WeightScales::kDM) return d * level + gpu::from_f16(parts.m);
  if (scales == WeightScales::kK16) return d * static_cast<float>(parts.scale) * level;
  return d * static_cast<float>(parts.scale) * level - gpu::from_f16(parts.m) * static_cast<float>(parts.min);
}

template <WeightForm kForm>
GPU_FN void EmbedPackedElement(const EmbedPackedParams& p) {
  const int row = gpu::block_y(), k = gpu::block_x() * kEmbedThreads + gpu::thread();
  if (row >= p.counts->rows || k >= p.width) return;
  const WeightParts parts = ReadWeight(LayoutOf(kForm), p.weights, p.width, p.tokens[row], k);
  p.out[static_cast<int64_t>(row) * p.width + k] = ValueOf(kForm, parts) * p.scale;
}

}  // namespace

GPU_KERNEL(embed_f32, EmbedParams, 256) { EmbedElement<TableF32>(p); }
GPU_KERNEL(embed_f16, EmbedParams, 256) { EmbedElement<TableF16>(p); }
GPU_KERNEL(embed_bf16, EmbedParams, 256) { EmbedElement<TableBf16>(p); }
GPU_KERNEL(embed_q4_0, EmbedParams, 256) { EmbedElement<TableQ4_0>(p); }
GPU_KERNEL(embed_q4_1, EmbedParams, 256) { EmbedElement<TableQ4_1>(p); }
GPU_KERNEL(embed_q5_0, EmbedParams, 256) { EmbedElement<TableQ5_0>(p); }
GPU_KERNEL(embed_q5_1, EmbedParams, 256) { EmbedElement<TableQ5_1>(p); }
GPU_KERNEL(embed_q8_0, EmbedParams, 256) { EmbedElement<TableQ8_0>(p); }
GPU_KERNEL(embed_q4_k, EmbedParams, 256) { EmbedElement<TableQ4_K>(p); }
GPU_KERNEL(embed_q5_k, EmbedParams, 256) { EmbedElement<TableQ5_K>(p); }
GPU_KERNEL(embed_q6_k, EmbedParams, 256) { EmbedElement<TableQ6_K>(p); }

GPU_KERNEL(embed_packed_q4_0, EmbedPackedParams, 256) { EmbedPackedElement<WeightForm::kQ4_0>(p); }
GPU_KERNEL(embed_packed_q4_1, EmbedPackedParams, 256) { EmbedPackedElement<WeightForm::kQ4_1>(p); }
GPU_KERNEL(embed_packed_q4_k, EmbedPackedParams, 256) { EmbedPackedElement<WeightForm::kQ4_K>(p); }
GPU_KERNEL(embed_packed_q5_0, EmbedPackedParams, 256) { EmbedPackedElement<WeightForm::kQ5_0>(p); }
GPU_KERNEL(embed_packed_q5_1, EmbedPackedParams, 256) { EmbedPackedElement<WeightForm::kQ5_1>(p); }
GPU_KERNEL(embed_packed_q5_k, EmbedPackedParams, 256) { EmbedPackedElement<WeightForm::kQ5_K>(p); }
GPU_KERNEL(embed_packed_q6_k, EmbedPackedParams, 256) { EmbedPackedElement<WeightForm::kQ6_K>(p); }
GPU_KERNEL(embed_packed_q8_0, EmbedPackedParams, 256) { EmbedPackedElement<WeightForm::kQ8_0>(p); }
GPU_KERNEL(embed_packed_f16, EmbedPackedParams, 256) { EmbedPackedElement<WeightForm::kF16>(p); }
GPU_KERNEL(embed_packed_bf16, EmbedPackedParams, 256) { EmbedPackedElement<WeightForm::kBF16>(p); }
GPU_KERNEL(embed_packed_f32, EmbedPackedParams, 256) { EmbedPackedElement<WeightForm::kF32>(p); }

}  // namespace tokenmill::cuda

#ifndef __CUDACC__

namespace tokenmill::cuda {
namespace {

const char* EmbedKernel(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "embed_f32";
    case DType::kF16:
      return "embed_f16";
    case DType::kBF16:
      return "embed_bf16";
    case DType::kQ4_0:
      return "embed_q4_0";
    case DType::kQ4_1:
      return "embed_q4_1";
    case DType::kQ5_0:
      return "embed_q5_0";
    case DType::kQ5_1:
      return "embed_q5_1";
    case DType::kQ8_0:
      return "embed_q8_0";
    case DType::kQ4_K:
      return "embed_q4_k";
    case DType::kQ5_K:
      return "embed_q5_k";
    case DType::kQ6_K:
      return "embed_q6_k";
    default:
      return nullptr;
  }
}

// In the order of WeightForm.
constexpr const char* kPackedKernels[kWeightForms] = {
    "embed_packed_q4_0", "embed_packed_q4_1", "embed_packed_q4_k", "embed_packed_q5_0",
    "embed_packed_q5_1", "embed_packed_q5_k", "embed_packed_q6_k", "embed_packed_q8_0",
    "embed_packed_f16",  "embed_packed_bf16", "embed_packed_f32"};

LaunchShape ShapeOf(int width, int rows_max) {
  LaunchShape shape;
  shape.grid_x = static_cast<unsigned>((width + kEmbedThreads - 1) / kEmbedThreads);
  shape.grid_y = static_cast<unsigned>(rows_max);
  shape.threads = kEmbedThreads;
  return shape;
}

}  // namespace

Status LaunchEmbed(Driver& driver, DType dtype, const EmbedParams& params, int rows_max) {
  const char* kernel = EmbedKernel(dtype);
  if (kernel == nullptr) {
    return Error(Code::kUnsupportedQuantization, "embeddings of type %s do not run on the GPU",
                 InfoOf(dtype).name);
  }
  return driver.Launch(kernel, ShapeOf(params.width, rows_max), params);
}

Status LaunchEmbedPacked(Driver& driver, WeightForm form, const EmbedPackedParams& params, int rows_max) {
  return driver.Launch(kPackedKernels[static_cast<int>(form)], ShapeOf(params.width, rows_max), params);
}

}  // namespace tokenmill::cuda

#endif
