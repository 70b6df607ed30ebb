#pragma once

#include <optional>
#include <string>

#include "adapter/adapter_spec.h"
#include "core/status.h"
#include "quantize/mix.h"
#include "quantize/rewrite_file.h"

namespace tokenmill {

struct MergeOptions {
  float scale = 1;  // of the whole adapter
  std::optional<FileType> type;  // of the output; else each tensor keeps its own
  RewriteOptions rewrite;
};

/// Writes the model at `input` to `output` with the adapter added to its weights: W + scale * B A in f32, encoded
/// again. A head that the model shares with its embedding gets a tensor of its own, for the adapter changes the head
/// alone. Errors are those of OpenModelFile, OpenAdapter, PlanTypes and RewriteFile.
Result<RewriteResult> MergeAdapter(const std::string& input, const AdapterSpec& spec,
                                   const std::string& output, const MergeOptions& options,
                                   const RewriteProgress& on_progress);

}  // namespace tokenmill
