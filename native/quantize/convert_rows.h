#pragma once

#include <cstdint>
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

/// Converts `rows` rows from `first_row` on. CorruptFile naming the tensor and the row for values that are not
/// finite, UnsupportedQuantization for finite ones that the type cannot hold. `scratch` is for reuse.
Status ConvertRows(const RowConversion& conversion, int64_t first_row, int64_t rows, const void* in,
                   void* out, std::vector<float>* scratch);

}  // namespace tokenmill
