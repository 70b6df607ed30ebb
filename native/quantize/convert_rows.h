#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/status.h"

namespace tokenmill {

/// Rows of one tensor that change their type.
struct RowConversion {
  std::string tensor;  // its name, for errors
  DType from, to;      // `from` one that runs
  int64_t cols;
};

/// Changes a row's values on their way from one type to the other; the row's number is the tensor's.
using RowEdit = std::function<void(int64_t row, float* values)>;

/// Converts `rows` rows from `first_row` on, through `edit` where there is one. CorruptFile naming the tensor and the
/// row for values that are not finite, UnsupportedQuantization for finite ones that the type cannot hold. `scratch`
/// is for reuse.
Status ConvertRows(const RowConversion& conversion, int64_t first_row, int64_t rows, const void* in,
                   void* out, std::vector<float>* scratch, const RowEdit& edit = {});

}  // namespace tokenmill
