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

template <class F>
void SetMatmul(PackedFormat format, CpuKernels* kernels) {
  kernels->matmul[static_cast<int>(format)] = Matmul<F>;
  kernels->tile_rows[static_cast<int>(format)] = F::kTileRows;
}

void SetMatmulKernels(CpuKernels* kernels) {
  SetMatmul<FormatNibbleD>(PackedFormat::kNibbleD, kernels);
  SetMatmul<FormatNibbleDM>(PackedFormat::kNibbleDM, kernels);
  SetMatmul<FormatNibbleK>(PackedFormat::kNibbleK, kernels);
  SetMatmul<FormatByteD>(PackedFormat::kByteD, kernels);
  SetMatmul<FormatFiveD>(PackedFormat::kFiveD, kernels);
  SetMatmul<FormatFiveDM>(PackedFormat::kFiveDM, kernels);
  SetMatmul<FormatFiveK>(PackedFormat::kFiveK, kernels);
  SetMatmul<FormatSixK16>(PackedFormat::kSixK16, kernels);
  SetPlainMatmul<ElementF32>(PackedFormat::kPlainF32, kernels);
  SetPlainMatmul<ElementF16>(PackedFormat::kPlainF16, kernels);
  SetPlainMatmul<ElementBf16>(PackedFormat::kPlainBf16, kernels);
}

}  // namespace
}  // namespace tokenmill::cpu
