// The row of products of a kernel table, and how rows are cut into tiles of at most four. Included by the matmul_*
// files only, after their Format… and Rows and plain_matmul_impl.h.

namespace tokenmill::cpu {
namespace {

template <class F>
void Matmul(const MatmulArgs& args) {
  int row = 0;
  for (; row + 4 <= args.rows; row += 4) Rows<F, 4>(args, row);
  switch (args.rows - row) {
    case 3:
      return Rows<F, 3>(args, row);
    case 2:
      return Rows<F, 2>(args, row);
    case 1:
      return Rows<F, 1>(args, row);
  }
}

void SetMatmulKernels(CpuKernels* kernels) {
  MatmulFunction* matmul = kernels->matmul;
  matmul[static_cast<int>(PackedFormat::kNibbleD)] = Matmul<FormatNibbleD>;
  matmul[static_cast<int>(PackedFormat::kNibbleDM)] = Matmul<FormatNibbleDM>;
  matmul[static_cast<int>(PackedFormat::kNibbleK)] = Matmul<FormatNibbleK>;
  matmul[static_cast<int>(PackedFormat::kByteD)] = Matmul<FormatByteD>;
  matmul[static_cast<int>(PackedFormat::kFiveD)] = Matmul<FormatFiveD>;
  matmul[static_cast<int>(PackedFormat::kFiveDM)] = Matmul<FormatFiveDM>;
  matmul[static_cast<int>(PackedFormat::kFiveK)] = Matmul<FormatFiveK>;
  matmul[static_cast<int>(PackedFormat::kSixK16)] = Matmul<FormatSixK16>;
  matmul[static_cast<int>(PackedFormat::kPlainF32)] = PlainMatmul<ElementF32>;
  matmul[static_cast<int>(PackedFormat::kPlainF16)] = PlainMatmul<ElementF16>;
  matmul[static_cast<int>(PackedFormat::kPlainBf16)] = PlainMatmul<ElementBf16>;
}

}  // namespace
}  // namespace tokenmill::cpu
