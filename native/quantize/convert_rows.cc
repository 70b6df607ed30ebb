#include "quantize/convert_rows.h"

#include <cfloat>
#include <cmath>

#include "quant/encode.h"
#include "quant/quant.h"

namespace tokenmill {
namespace {

constexpr float kBf16Max = 0x1.fep127f;

float HoldableMax(DType dtype) {
  if (dtype == DType::kF32) return FLT_MAX;
  return dtype == DType::kBF16 ? kBf16Max : kEncodableMax;
}

/// The first value that is not at most `max` in magnitude, or nullptr.
const float* FindBeyond(const float* values, int64_t count, float max) {
  float largest = 0;
  bool ordered = true;
  for (int64_t i = 0; i < count; ++i) {
    largest = std::fabs(values[i]) > largest ? std::fabs(values[i]) : largest;
    ordered &= values[i] == values[i];
  }
  if (ordered && largest <= max) return nullptr;
  for (int64_t i = 0; i < count; ++i) {
    if (!(std::fabs(values[i]) <= max)) return values + i;
  }
  return nullptr;
}

Status Refuse(const RowConversion& conversion, int64_t row, float value) {
  const char* name = conversion.tensor.c_str();
  if (!std::isfinite(value)) {
    return Error(
        Code::kCorruptFile,
        "tensor '%s' has the value %g in row %lld; weights must be finite: the file is damaged, or its "
        "conversion overflowed",
        name, static_cast<double>(value), static_cast<long long>(row));
  }
  return Error(Code::kUnsupportedQuantization,
               "tensor '%s' has the value %g in row %lld, but %s holds at most %g; use BF16 or F32", name,
               static_cast<double>(value), static_cast<long long>(row), InfoOf(conversion.to).name,
               static_cast<double>(HoldableMax(conversion.to)));
}

}  // namespace

Status ConvertRows(const RowConversion& conversion, int64_t first_row, int64_t rows, const void* in,
                   void* out, std::vector<float>* scratch, const RowEdit& edit) {
  const size_t in_bytes = RowBytes(conversion.from, conversion.cols);
  const size_t out_bytes = RowBytes(conversion.to, conversion.cols);
  const char* from = static_cast<const char*>(in);
  char* to = static_cast<char*>(out);
  scratch->resize(static_cast<size_t>(conversion.cols));
  for (int64_t row = 0; row < rows; ++row, from += in_bytes, to += out_bytes) {
    DequantizeRow(conversion.from, from, scratch->data(), conversion.cols);
    if (edit) edit(first_row + row, scratch->data());
    const float* beyond = FindBeyond(scratch->data(), conversion.cols, HoldableMax(conversion.to));
    if (beyond != nullptr) return Refuse(conversion, first_row + row, *beyond);
    EncodeRow(conversion.to, scratch->data(), to, conversion.cols);
  }
  return {};
}

}  // namespace tokenmill
