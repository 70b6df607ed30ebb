// Packing against DequantizeRow, and the products of every format and ISA against scalar arithmetic.

#include <algorithm>

#include "core/float16.h"
#include "cpu_test_util.h"
#include "harness.h"
#include "kernels/cpu/pack.h"
#include "quant/quant.h"

using namespace tokenmill;
using namespace tokenmill::cpu;
using namespace cpu_test;

namespace {

constexpr DType kTypes[] = {DType::kQ4_0, DType::kQ4_1, DType::kQ4_K, DType::kQ5_0,
                            DType::kQ5_1, DType::kQ5_K, DType::kQ6_K, DType::kQ8_0,
                            DType::kF32,  DType::kF16,  DType::kBF16};

// All types as every table takes them, and BF16 as those with products of bf16 do.
struct Packing {
  DType dtype;
  PackedFormat format;
};
std::vector<Packing> Packings() {
  std::vector<Packing> packings;
  for (DType dtype : kTypes) packings.push_back({dtype, FormatOf(dtype)});
  packings.push_back({DType::kBF16, PackedFormat::kBf16K2});
  return packings;
}
std::vector<Packing> Packings(const CpuKernels& kernels) {
  std::vector<Packing> packings = Packings();
  std::erase_if(packings, [&](const Packing& packing) {
    return kernels.matmul[static_cast<int>(packing.format)] == nullptr;
  });
  return packings;
}

// A matrix [n][k] as a file has it, as floats and packed.
struct Matrix {
  DType dtype;
  PackedFormat format;
  int n;
  int64_t k;
  std::vector<uint8_t> file;
  std::vector<float> values;
  std::vector<std::vector<uint8_t>> pairs;
};

Matrix MakeMatrix(const Packing& packing, int n, int64_t k, uint32_t seed) {
  const DType dtype = packing.dtype;
  Matrix m = {dtype, packing.format, n, k, {}, {}, {}};
  const size_t row_bytes = RowBytes(dtype, k);
  m.file.resize(row_bytes * n);
  m.values.resize(static_cast<size_t>(n * k));
  const std::vector<float> source = RandomFloats(m.values.size(), seed, 0.05f);
  for (int row = 0; row < n; ++row) {
    QuantizeRow(dtype, source.data() + row * k, m.file.data() + row_bytes * row, k);
    DequantizeRow(dtype, m.file.data() + row_bytes * row, m.values.data() + row * k, k);
  }
  for (int row = 0; row < n; row += kPairColumns) {
    m.pairs.emplace_back(PairBytes(m.format, k));
    PackPair(m.format, dtype, m.file.data() + row_bytes * row, std::min(kPairColumns, n - row), k,
             m.pairs.back().data());
  }
  return m;
}

// Rows of activations, as floats and as products with a format take them.
struct Inputs {
  int rows;
  int64_t k;
  std::vector<float> values;
  std::vector<ActivationBlock> blocks;
  std::vector<uint16_t> bf16;

  bool rounded() const { return !blocks.empty() || !bf16.empty(); }
};

void Round(const CpuKernels& kernels, PackedFormat format, Inputs* inputs) {
  const int count = static_cast<int>(inputs->values.size());
  if (LayoutOf(format).input == InputForm::kBlocks) {
    inputs->blocks.resize(inputs->values.size() / kBlock);
    kernels.quantize(inputs->values.data(), count, inputs->blocks.data());
  } else if (LayoutOf(format).input == InputForm::kBf16) {
    inputs->bf16.resize(inputs->values.size());
    kernels.to_bf16(inputs->values.data(), inputs->bf16.data(), count);
  }
}

Inputs MakeInputs(const CpuKernels& kernels, int rows, int64_t k, uint32_t seed, PackedFormat format) {
  Inputs inputs = {rows, k, RandomFloats(static_cast<size_t>(rows * k), seed), {}, {}};
  Round(kernels, format, &inputs);
  return inputs;
}

// What a product takes for value i of all rows.
double Taken(const Inputs& inputs, size_t i) {
  if (!inputs.bf16.empty()) return Bf16ToF32(inputs.bf16[i]);
  if (inputs.blocks.empty()) return inputs.values[i];
  const ActivationBlock& block = inputs.blocks[i / kBlock];
  return static_cast<double>(block.scale) * block.quants[i % kBlock];
}

// [rows][pairs * 32]
std::vector<float> Multiply(const CpuKernels& kernels, const Matrix& m, const Inputs& inputs, int first,
                            int rows) {
  const InputForm form = LayoutOf(m.format).input;
  std::vector<float> out(rows * m.pairs.size() * kPairColumns);
  std::vector<float> tile(static_cast<size_t>(rows) * kPairColumns);
  for (size_t p = 0; p < m.pairs.size(); ++p) {
    MatmulArgs args = {};
    args.weights = m.pairs[p].data();
    args.k = m.k;
    args.stride = form == InputForm::kBlocks ? m.k / kBlock : m.k;
    args.rows = rows;
    args.out = tile.data();
    args.prefetch = p % 2 == 0;
    if (form == InputForm::kFloats) args.floats = inputs.values.data() + first * args.stride;
    if (form == InputForm::kBlocks) args.blocks = inputs.blocks.data() + first * args.stride;
    if (form == InputForm::kBf16) args.bf16 = inputs.bf16.data() + first * args.stride;
    kernels.matmul[static_cast<int>(m.format)](args);
    for (int row = 0; row < rows; ++row) {
      std::copy_n(tile.data() + row * kPairColumns, kPairColumns,
                  out.data() + (row * m.pairs.size() + p) * kPairColumns);
    }
  }
  return out;
}

// The product in double, with activations as given or as they are rounded.
std::vector<float> Expected(const Matrix& m, const Inputs& inputs, bool rounded) {
  const size_t width = m.pairs.size() * kPairColumns;
  std::vector<float> out(inputs.rows * width);
  for (int row = 0; row < inputs.rows; ++row) {
    for (int column = 0; column < m.n; ++column) {
      double sum = 0;
      for (int64_t i = 0; i < m.k; ++i) {
        const size_t at = static_cast<size_t>(row * m.k + i);
        const double input = rounded ? Taken(inputs, at) : inputs.values[at];
        sum += input * m.values[static_cast<size_t>(column * m.k + i)];
      }
      out[row * width + column] = static_cast<float>(sum);
    }
  }
  return out;
}

}  // namespace

TEST(PackedColumnsAreTheDequantizedRows) {
  for (const Packing& packing : Packings()) {
    for (int64_t k : {256, 768}) {
      const Matrix m = MakeMatrix(packing, 37, k, 1);
      std::vector<float> column(static_cast<size_t>(k));
      for (int row = 0; row < m.n; ++row) {
        UnpackColumn(m.format, m.pairs[row / 32].data(), row % 32, k, column.data());
        EXPECT(SameBits(column.data(), m.values.data() + row * k, column.size()));
      }
    }
  }
}

TEST(PackingKeepsArbitraryBlocks) {
  std::mt19937 engine(7);
  for (const auto& [dtype, format] : Packings()) {
    const int64_t k = 512;
    const size_t row_bytes = RowBytes(dtype, k);
    std::vector<uint8_t> file(row_bytes * 32);
    for (uint8_t& byte : file) byte = static_cast<uint8_t>(engine());
    std::vector<uint8_t> pair(PairBytes(format, k));
    PackPair(format, dtype, file.data(), 32, k, pair.data());
    int wrong = 0;
    for (int row = 0; row < 32; ++row) {
      std::vector<float> want(static_cast<size_t>(k)), got(want.size());
      DequantizeRow(dtype, file.data() + row_bytes * row, want.data(), k);
      UnpackColumn(format, pair.data(), row, k, got.data());
      for (size_t i = 0; i < want.size(); ++i) {
        const bool same = SameBits(&want[i], &got[i], 1) || (std::isnan(want[i]) && std::isnan(got[i]));
        wrong += same ? 0 : 1;
      }
    }
    EXPECT_EQ(wrong, 0);
  }
}

TEST(PackedMatricesAreAsLargeAsInTheFile) {
  for (const Packing& packing : Packings()) {
    const int64_t k = 1024;
    const size_t file = kPairColumns * RowBytes(packing.dtype, k), packed = PairBytes(packing.format, k);
    EXPECT(packed >= file);
    EXPECT_LE(static_cast<double>(packed),
              1.03 * static_cast<double>(file));  // scales of k-quants are whole bytes
  }
}

TEST(QuantizedActivations) {
  for (const CpuKernels* kernels : AllKernels()) {
    std::vector<float> x = RandomFloats(96, 3, 10);
    for (int i = 32; i < 64; ++i) x[i] = 0;
    x[70] = NAN;
    ActivationBlock blocks[3];
    kernels->quantize(x.data(), 96, blocks);
    float largest = 0;
    for (int i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(x[i]));
    EXPECT_EQ(blocks[0].scale, largest / 127);
    int sum = 0, first = 0;
    for (int i = 0; i < 32; ++i) {
      EXPECT_EQ(static_cast<int>(blocks[0].quants[i]),
                static_cast<int>(std::nearbyint(x[i] * (127 / largest))));
      sum += blocks[0].quants[i];
      if (i < 16) first += blocks[0].quants[i];
    }
    EXPECT_EQ(blocks[0].sum, sum);
    EXPECT_EQ(blocks[0].first_half, first);
    EXPECT_EQ(blocks[0].scaled_sum, blocks[0].scale * static_cast<float>(sum));
    EXPECT_EQ(blocks[1].scale, 0.0f);
    EXPECT_EQ(blocks[1].sum, 0);
    EXPECT(std::isnan(blocks[2].scale));
    EXPECT_EQ(blocks[2].sum, 0);
    for (float bad : {INFINITY, -INFINITY, -NAN}) {
      x[70] = bad;
      kernels->quantize(x.data(), 96, blocks);
      EXPECT(std::isnan(blocks[2].scale) && std::isnan(blocks[2].scaled_sum));
    }
  }
}

TEST(ProductsAgreeWithScalarArithmetic) {
  for (const CpuKernels* kernels : AllKernels()) {
    for (const Packing& packing : Packings(*kernels)) {
      const int64_t block =
          std::max<int64_t>(InfoOf(packing.dtype).block_elements, LayoutOf(packing.format).group_k);
      for (int64_t k : {int64_t{32}, int64_t{256}, int64_t{576}, int64_t{2048}, int64_t{33}}) {
        if (k % block != 0) continue;
        for (int n : {16, 33, 72}) {
          if (harness::Short() && (n != 33 || k == 2048)) continue;
          const Matrix m = MakeMatrix(packing, n, k, static_cast<uint32_t>(k + n));
          for (int rows : {1, 2, 3, 4, 7, 17}) {
            const Inputs inputs = MakeInputs(*kernels, rows, k, static_cast<uint32_t>(rows), m.format);
            const std::vector<float> got = Multiply(*kernels, m, inputs, 0, rows);
            const std::vector<float> exact = Expected(m, inputs, true);
            EXPECT_LE(Nmse(got.data(), exact.data(), got.size()), 1e-11);
            if (inputs.rounded()) {
              const std::vector<float> unrounded = Expected(m, inputs, false);
              EXPECT_LE(Nmse(got.data(), unrounded.data(), got.size()), 5e-4);
            }
          }
        }
      }
    }
  }
}

TEST(ExtremeLevelsDoNotSaturate) {
  for (const CpuKernels* kernels : AllKernels()) {
    for (DType dtype : {DType::kQ8_0, DType::kQ4_0, DType::kQ4_1, DType::kQ4_K, DType::kQ5_0, DType::kQ5_1,
                        DType::kQ5_K, DType::kQ6_K}) {
      const int64_t k = 256;
      std::vector<uint8_t> file(RowBytes(dtype, k) * 32, 0xff);
      if (dtype == DType::kQ8_0) std::fill(file.begin(), file.end(), 0x80);
      Matrix m = {dtype, FormatOf(dtype), 32, k, file, std::vector<float>(32 * k), {}};
      for (int row = 0; row < 32; ++row) {
        // Finite f16 scales: 1 wherever a block has one.
        uint8_t* bytes = m.file.data() + row * RowBytes(dtype, k);
        const size_t stride = InfoOf(dtype).block_bytes, d = dtype == DType::kQ6_K ? 208 : 0;
        const bool two =
            dtype == DType::kQ4_1 || dtype == DType::kQ4_K || dtype == DType::kQ5_1 || dtype == DType::kQ5_K;
        for (size_t at = d; at < RowBytes(dtype, k); at += stride) {
          bytes[at] = 0;
          bytes[at + 1] = 0x3c;
          if (two) bytes[at + 2] = 0, bytes[at + 3] = 0x3c;
        }
        DequantizeRow(dtype, bytes, m.values.data() + row * k, k);
      }
      m.pairs.emplace_back(PairBytes(m.format, k));
      PackPair(m.format, dtype, m.file.data(), 32, k, m.pairs[0].data());
      for (float sign : {1.0f, -1.0f}) {
        Inputs inputs = {7, k, std::vector<float>(7 * k, sign * 127), {}, {}};
        Round(*kernels, m.format, &inputs);
        const std::vector<float> want = Expected(m, inputs, true);
        for (int rows : {1, 2, 4, 7}) {
          const std::vector<float> got = Multiply(*kernels, m, inputs, 0, rows);
          EXPECT_LE(Nmse(got.data(), want.data(), got.size()), 1e-11);
        }
      }
    }
  }
}

TEST(RowsDoNotDependOnOtherRows) {
  for (const CpuKernels* kernels : AllKernels()) {
    for (const Packing& packing : Packings(*kernels)) {
      const Matrix m = MakeMatrix(packing, 40, 512, 5);
      const Inputs inputs = MakeInputs(*kernels, 130, 512, 6, m.format);
      const std::vector<float> all = Multiply(*kernels, m, inputs, 0, 130);
      for (int rows : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 17, 24, 64}) {
        for (int first = 0; first + rows <= 130; first += 31) {
          const std::vector<float> some = Multiply(*kernels, m, inputs, first, rows);
          EXPECT(SameBits(some.data(), all.data() + first * 64, some.size()));
        }
      }
    }
  }
}

TEST(IsasGiveTheSameBits) {
  const std::vector<const CpuKernels*> all = AllKernels();
  for (DType dtype : kTypes) {
    for (int rows : {1, 2, 3, 4, 9, 13}) {
      const Matrix m = MakeMatrix({dtype, FormatOf(dtype)}, 48, 768, 8);
      const Inputs inputs = MakeInputs(*all[0], rows, 768, 9, m.format);
      const std::vector<float> first = Multiply(*all[0], m, inputs, 0, rows);
      for (const CpuKernels* kernels : all) {
        const Inputs other = MakeInputs(*kernels, rows, 768, 9, m.format);
        EXPECT(inputs.blocks.empty() || std::memcmp(inputs.blocks.data(), other.blocks.data(),
                                                    inputs.blocks.size() * sizeof(ActivationBlock)) == 0);
        const std::vector<float> second = Multiply(*kernels, m, inputs, 0, rows);
        EXPECT(SameBits(first.data(), second.data(), first.size()));
      }
    }
  }
}

TEST(NanStaysInItsRow) {
  for (const CpuKernels* kernels : AllKernels()) {
    for (const Packing& packing : Packings(*kernels)) {
      const Matrix m = MakeMatrix(packing, 32, 256, 10);
      Inputs inputs = MakeInputs(*kernels, 6, 256, 11, m.format);
      const std::vector<float> before = Multiply(*kernels, m, inputs, 0, 6);
      inputs.values[2 * 256 + 100] = NAN;
      Round(*kernels, m.format, &inputs);
      const std::vector<float> after = Multiply(*kernels, m, inputs, 0, 6);
      for (int row = 0; row < 6; ++row) {
        if (row != 2) {
          EXPECT(SameBits(after.data() + 32 * row, before.data() + 32 * row, 32));
        } else {
          EXPECT(std::all_of(after.data() + 64, after.data() + 96, [](float x) { return std::isnan(x); }));
        }
      }
    }
  }
}

HARNESS_MAIN()
