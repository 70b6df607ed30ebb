#pragma once

#include <string>

#include "core/status.h"
#include "quantize/mix.h"
#include "quantize/rewrite_file.h"

namespace tokenmill {

struct QuantizeOptions {
  PlanOptions plan;
  RewriteOptions rewrite;
};

/// The file's metadata that tell its type.
std::vector<GgufUint> TypeMetadata(const FileType& type);

/// Writes the model at `input` to `output` in another type. Everything but the weights' types is copied. Errors are
/// those of GgufFile::Open, PlanTypes and RewriteFile.
Result<RewriteResult> QuantizeFile(const std::string& input, const std::string& output,
                                   const QuantizeOptions& options, const RewriteProgress& on_progress);

}  // namespace tokenmill
