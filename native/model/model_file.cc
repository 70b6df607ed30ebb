#include "model/model_file.h"

#include <map>

namespace tokenmill {
namespace {

std::string KnownArchitectures() {
  std::string names;
  for (const Architecture& architecture : Architectures())
    names += (names.empty() ? "" : ", ") + std::string(architecture.name);
  return names;
}

Result<ReadDecoderSpec> FindArchitecture(const std::string& name) {
  for (const Architecture& architecture : Architectures()) {
    if (name == architecture.name) return architecture.read;
  }
  return Error(Code::kUnsupportedModel, "architecture '%s' cannot run yet; known are %s", name.c_str(),
               KnownArchitectures().c_str());
}

template <class T>
Status ReadOptional(const GgufFile& file, const char* key, double minimum, double maximum,
                    std::optional<T>* out) {
  if (file.Find(key) == nullptr) return {};
  double value = 0;
  if constexpr (std::is_same_v<T, int>) {
    TM_ASSIGN_OR_RETURN(const uint64_t integer, file.GetUint(key));
    value = static_cast<double>(integer);
  } else {
    TM_ASSIGN_OR_RETURN(value, file.GetFloat(key));
  }
  if (!(value >= minimum && value <= maximum)) {
    return Error(Code::kCorruptFile, "metadata '%s' is %g; expected %g to %g", key, value, minimum, maximum);
  }
  *out = static_cast<T>(value);
  return {};
}

Result<SamplingDefaults> ReadSamplingDefaults(const GgufFile& file) {
  SamplingDefaults defaults;
  TM_RETURN_IF_ERROR(ReadOptional(file, "general.sampling.temp", 0, 100, &defaults.temperature));
  TM_RETURN_IF_ERROR(ReadOptional(file, "general.sampling.top_k", 0, 1 << 24, &defaults.top_k));
  TM_RETURN_IF_ERROR(ReadOptional(file, "general.sampling.top_p", 1e-9, 1, &defaults.top_p));
  TM_RETURN_IF_ERROR(ReadOptional(file, "general.sampling.min_p", 0, 1, &defaults.min_p));
  TM_RETURN_IF_ERROR(
      ReadOptional(file, "general.sampling.penalty_repeat", 0.01, 100, &defaults.repetition_penalty));
  return defaults;
}

void CountParameters(ModelFile* model) {
  std::map<std::string, uint64_t> by_type;
  for (const GgufTensor& tensor : model->file->tensors()) {
    const uint64_t elements = tensor.shape[0] * tensor.shape[1] * tensor.shape[2] * tensor.shape[3];
    model->parameters += elements;
    // A tied embedding often has a type of its own and, in small models, most of the elements.
    if (tensor.name != "token_embd.weight") by_type[InfoOf(tensor.dtype).name] += elements;
  }
  uint64_t most = 0;
  for (const auto& [type, elements] : by_type) {
    if (elements > most) {
      most = elements;
      model->quantization = type;
    }
  }
}

Status ReadModelFile(const GgufFile& file, ModelFile* model) {
  TM_ASSIGN_OR_RETURN(model->architecture, file.GetString("general.architecture"));
  TM_ASSIGN_OR_RETURN(const ReadDecoderSpec read, FindArchitecture(model->architecture));
  TM_ASSIGN_OR_RETURN(model->name, file.GetString("general.name", ""));
  TM_ASSIGN_OR_RETURN(model->chat_template, file.GetString("tokenizer.chat_template", ""));
  TM_ASSIGN_OR_RETURN(model->sampling, ReadSamplingDefaults(file));
  TM_ASSIGN_OR_RETURN(model->spec, read(file));
  TM_ASSIGN_OR_RETURN(model->program, BuildProgram(model->spec, file));
  TM_ASSIGN_OR_RETURN(TokenizerSpec tokenizer, ReadTokenizerSpec(file));
  if (tokenizer.tokens.size() != static_cast<size_t>(model->program.vocabulary)) {
    return Error(Code::kCorruptFile, "the tokenizer has %zu tokens but 'token_embd.weight' has %d rows",
                 tokenizer.tokens.size(), model->program.vocabulary);
  }
  TM_ASSIGN_OR_RETURN(model->tokenizer, Tokenizer::Create(std::move(tokenizer)));
  CountParameters(model);
  return {};
}

}  // namespace

Result<std::shared_ptr<const ModelFile>> OpenModelFile(const std::string& path) {
  auto model = std::make_shared<ModelFile>();
  TM_ASSIGN_OR_RETURN(model->file, GgufFile::Open(path));
  const Status status = ReadModelFile(*model->file, model.get());
  if (!status.ok()) return Status(status.code(), path + ": " + status.message());
  return std::shared_ptr<const ModelFile>(std::move(model));
}

GgufWeightSource::GgufWeightSource(const ModelFile& model) : file_(model.file) {
  for (const WeightDesc& weight : model.program.weights) {
    const GgufTensor* tensor = file_->FindTensor(weight.name);
    entries_.push_back({tensor->offset, RowBytes(weight.dtype, weight.cols)});
    total_bytes_ += tensor->bytes;
  }
}

Status GgufWeightSource::Read(WeightId weight, int64_t row, int64_t rows, void* out) const {
  const Entry& entry = entries_[static_cast<size_t>(weight)];
  return file_->file().ReadAt(entry.offset + static_cast<uint64_t>(row) * entry.row_bytes, out,
                              static_cast<size_t>(rows) * entry.row_bytes);
}

}  // namespace tokenmill
