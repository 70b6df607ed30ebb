// The row of products of a kernel table, and how rows are cut into tiles. Included by the matmul_* files only,
// after their Format… and Rows and plain_matmul_impl.h.

namespace tokenmill::cpu {
namespace {

// The rows from `row` on as one tile of `rows`, at most kMost.
template <class F, int kMost>
void RowsOf(const MatmulArgs& args, int row, int rows) {
  if constexpr (kMost > 1) {
    if (rows < kMost) return RowsOf<F, kMost - 1>(args, row, rows);
  }
  Rows<F, kMost>(args, row);
}

template <class F>
void Matmul(const MatmulArgs& args) {
  constexpr int kMost = F::kTileRows;
  for (int row = 0, rows; row < args.rows; row += rows) {
    const int left = args.rows - row;
    rows = left < kMost ? left : kMost;
    // One or two rows after a tall tile would have too few sums to keep the multipliers busy: they get some of its.
    if (kMost > 4 && left > kMost && left <= kMost + 2) rows = 4;
    RowsOf<F, kMost>(args, row, rows);
  }
}

constexpr int kTightRows = 4;
constexpr int kTightK = 256;

template <class Tight, class Wide>
TM_INLINE void WidenGroup(const uint8_t* group, bool prefetch, uint8_t* wide) {
  constexpr int kHeader = Tight::kLayout.header_bytes, kScales = Tight::kLayout.scale_bytes;
  __builtin_memcpy(wide, group, kHeader);
  group += kHeader;
  wide += kHeader;
  for (int b = 0; b < Tight::kBlocks; ++b, group += Tight::kBlockBytes, wide += Wide::kBlockBytes) {
    if (prefetch) PrefetchBlock(group, Tight::kBlockBytes);
    WidenBlock<typename Tight::Levels>(group, wide);
    __builtin_memcpy(wide + Wide::kLayout.level_bytes, group + Tight::kLayout.level_bytes, kScales);
  }
}

template <class F>
void SetMatmul(PackedFormat format, CpuKernels* kernels) {
  kernels->matmul[static_cast<int>(format)] = Matmul<F>;
  kernels->tile_rows[static_cast<int>(format)] = F::kTileRows;
}

// Levels of 5 and 6 bits. Few rows unpack them in registers. For more, k after k of a group is unpacked to bytes, which
// stay in the first-level cache while all rows pass.
template <class Tight, class Wide>
void TightMatmul(const MatmulArgs& args) {
  if (args.rows <= kTightRows) return Matmul<Tight>(args);
  constexpr int kGroups = kTightK / Tight::kLayout.group_k;
  alignas(64) uint8_t wide[kGroups * Wide::kLayout.group_bytes];
  MatmulArgs part = args;
  part.weights = wide;
  part.prefetch = false;
  const int64_t groups = args.k / Tight::kLayout.group_k;
  const uint8_t* group = args.weights;
  for (int64_t g = 0; g < groups; g += kGroups) {
    const int count = groups - g < kGroups ? static_cast<int>(groups - g) : kGroups;
    for (int i = 0; i < count; ++i, group += Tight::kLayout.group_bytes) {
      WidenGroup<Tight, Wide>(group, args.prefetch, wide + i * Wide::kLayout.group_bytes);
    }
    part.k = count * Tight::kLayout.group_k;
    part.resume = g != 0;
    Matmul<Wide>(part);
    part.blocks += part.k / kBlock;
  }
}

template <template <class Source> class F, class Source>
void SetTightMatmul(PackedFormat format, CpuKernels* kernels) {
  kernels->matmul[static_cast<int>(format)] = TightMatmul<F<Source>, F<ByteLevels>>;
  kernels->tile_rows[static_cast<int>(format)] = F<ByteLevels>::kTileRows;
}

void SetMatmulKernels(CpuKernels* kernels) {
  SetMatmul<FormatNibbleD>(PackedFormat::kNibbleD, kernels);
  SetMatmul<FormatNibbleDM>(PackedFormat::kNibbleDM, kernels);
  SetMatmul<FormatNibbleK>(PackedFormat::kNibbleK, kernels);
  SetMatmul<FormatByteD>(PackedFormat::kByteD, kernels);
  SetTightMatmul<FormatFiveD, FiveLevels>(PackedFormat::kFiveD, kernels);
  SetTightMatmul<FormatFiveDM, FiveLevels>(PackedFormat::kFiveDM, kernels);
  SetTightMatmul<FormatFiveK, FiveLevels>(PackedFormat::kFiveK, kernels);
  SetTightMatmul<FormatSixK16, SixLevels>(PackedFormat::kSixK16, kernels);
  SetPlainMatmul<ElementF32>(PackedFormat::kPlainF32, kernels);
  SetPlainMatmul<ElementF16>(PackedFormat::kPlainF16, kernels);
  SetPlainMatmul<ElementBf16>(PackedFormat::kPlainBf16, kernels);
}

}  // namespace
}  // namespace tokenmill::cpu
