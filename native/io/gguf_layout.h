#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/status.h"
#include "io/gguf.h"

namespace tokenmill {

/// A GGUF file to be written: its header, and where each tensor's data go.
struct GgufLayout {
  std::string header;             // up to the data, padding included
  std::vector<uint64_t> offsets;  // of the tensors' data in the file
  uint64_t bytes = 0;             // of the whole file: the last tensor is padded too
};

/// A metadata value of type uint32 to be set.
using GgufUint = std::pair<std::string, uint32_t>;

/// A file like `source` with these tensors, of which name, type and shape count. The metadata are copied byte for
/// byte, whatever they are, but for `values`, which replace those of the same key or come last.
Result<GgufLayout> LayOutGguf(const GgufFile& source, const std::vector<GgufTensor>& tensors,
                              const std::vector<GgufUint>& values);

}  // namespace tokenmill
