#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "core/status.h"
#include "quantize/mix.h"

namespace tokenmill {

struct QuantizeOptions {
  PlanOptions plan;
  bool overwrite = false;
  int threads = 1;
};

struct QuantizeResult {
  uint64_t input_bytes = 0;
  uint64_t output_bytes = 0;
  /// Tensors and their bytes by type, of the output.
  struct Share {
    int tensors = 0;
    uint64_t bytes = 0;
  };
  std::map<std::string, Share> types;
};

/// Writes the model at `input` to `output` in another type. Everything but the weights' types is copied. The
/// output appears when it is complete; its bytes do not depend on the threads. `on_progress` is told the bytes
/// of weights done and all of them, on the calling thread, and ends the work with Aborted by returning false.
/// Errors are those of GgufFile::Open, PlanTypes, ConvertRows and OutputFile; InvalidArgument when both paths
/// are the same file.
Result<QuantizeResult> QuantizeFile(const std::string& input, const std::string& output,
                                    const QuantizeOptions& options,
                                    const std::function<bool(uint64_t, uint64_t)>& on_progress);

}  // namespace tokenmill
