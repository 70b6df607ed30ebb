#include "quantize/quantize_file.h"

namespace tokenmill {
namespace {

constexpr uint32_t kQuantizationVersion = 2;

Result<RewriteResult> Quantize(const GgufFile& source, const std::string& output,
                               const QuantizeOptions& options, const RewriteProgress& on_progress) {
  TM_ASSIGN_OR_RETURN(const std::vector<DType> types, PlanTypes(source, options.plan));
  std::vector<RewrittenTensor> tensors = SameTensors(source);
  for (size_t t = 0; t < types.size(); ++t) tensors[t].dtype = types[t];
  return RewriteFile(source, tensors, TypeMetadata(options.plan.type), output, options.rewrite, nullptr,
                     on_progress);
}

}  // namespace

std::vector<GgufUint> TypeMetadata(const FileType& type) {
  return {{"general.quantization_version", kQuantizationVersion}, {"general.file_type", type.number}};
}

Result<RewriteResult> QuantizeFile(const std::string& input, const std::string& output,
                                   const QuantizeOptions& options, const RewriteProgress& on_progress) {
  try {
    TM_ASSIGN_OR_RETURN(const std::shared_ptr<const GgufFile> source, GgufFile::Open(input));
    return Quantize(*source, output, options, on_progress);
  } catch (const std::bad_alloc&) {
    return Error(Code::kOutOfMemory, "the system refused memory while quantizing %s", input.c_str());
  }
}

}  // namespace tokenmill
