#include "kernels/reference/weights.h"

#include <algorithm>
#include <mutex>

#include "quant/quant.h"

namespace tokenmill::reference {

size_t Matrix::BytesOf(const WeightDesc& desc) {
  const size_t strips = static_cast<size_t>((desc.rows + kStrip - 1) / kStrip);
  return strips * kStrip * static_cast<size_t>(desc.cols) * sizeof(float);
}

Result<Matrix> Matrix::Load(const WeightSource& source, WeightId id, const WeightDesc& desc,
                            const CompileOptions& options) {
  Matrix matrix;
  matrix.rows_ = desc.rows;
  matrix.cols_ = desc.cols;
  const size_t bytes = BytesOf(desc);
  matrix.buffer_ = SystemBuffer(bytes);
  if (!matrix.buffer_) {
    return Error(Code::kOutOfMemory, "the system refused %zu bytes for the tensor '%s'", bytes,
                 desc.name.c_str());
  }
  const size_t row_bytes = RowBytes(desc.dtype, desc.cols);
  std::mutex mutex;
  Status failure;
  const Phase phase{[&] { return matrix.strips(); },
                    [&](int strip, int) {
                      const int64_t first = int64_t{strip} * kStrip;
                      const int64_t count = std::min<int64_t>(kStrip, desc.rows - first);
                      std::vector<std::byte> raw(row_bytes * static_cast<size_t>(count));
                      Status status = source.Read(id, first, count, raw.data());
                      if (status.ok() && options.on_progress && !options.on_progress(raw.size())) {
                        status = Error(Code::kAborted, "loading was aborted");
                      }
                      if (!status.ok()) {
                        const std::lock_guard<std::mutex> lock(mutex);
                        failure = status;
                        return;
                      }
                      std::vector<float> row(static_cast<size_t>(desc.cols));
                      float* out = matrix.buffer_.as<float>() + first * desc.cols;
                      for (int64_t r = 0; r < count; ++r) {
                        DequantizeRow(desc.dtype, raw.data() + static_cast<size_t>(r) * row_bytes, row.data(),
                                      desc.cols);
                        for (int64_t k = 0; k < desc.cols; ++k)
                          out[k * kStrip + r] = row[static_cast<size_t>(k)];
                      }
                    }};
  options.pool->Run(std::span(&phase, 1), options.threads);
  if (!failure.ok()) return failure;
  return matrix;
}

void Matrix::MultiplyStrip(int strip_index, const float* in, int in_rows, float* out, int64_t stride) const {
  constexpr int kBlock = 4;
  const float* weights = strip(strip_index);
  const int64_t first = int64_t{strip_index} * kStrip;
  const int64_t count = std::min<int64_t>(kStrip, rows_ - first);
  for (int row = 0; row < in_rows; row += kBlock) {
    const int block = std::min(kBlock, in_rows - row);
    float sums[kBlock][kStrip] = {};
    for (int64_t k = 0; k < cols_; ++k) {
      for (int r = 0; r < block; ++r) {
        const float x = in[(row + r) * cols_ + k];
        for (int o = 0; o < kStrip; ++o) sums[r][o] += x * weights[k * kStrip + o];
      }
    }
    for (int r = 0; r < block; ++r) std::copy_n(sums[r], count, out + (row + r) * stride + first);
  }
}

}  // namespace tokenmill::reference
