#include "model/model_file.h"

#include <algorithm>
#include <map>

#include "quantize/mix.h"

namespace tokenmill {
namespace {

constexpr size_t kReadBytes = 256 * 1024;  // read at once before they are quantized

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

/// The types that the file's tensors are loaded in.
Result<std::vector<DType>> LoadedTypes(const GgufFile& file, LoadQuantization quantization) {
  if (quantization == LoadQuantization::kNone) {
    std::vector<DType> types;
    for (const GgufTensor& tensor : file.tensors()) types.push_back(tensor.dtype);
    return types;
  }
  PlanOptions plan{*FindFileType("Q8_0")};
  if (quantization == LoadQuantization::kInt4) plan.type = {"int4", 0, DType::kQ4_K, Mix::kFourBit};
  Result<std::vector<DType>> types = PlanTypes(file, plan);
  if (types.ok() || types.status().code() != Code::kInvalidArgument) return types;
  return Status(Code::kInvalidArgument, types.status().message() + ". Load it without `quantize`");
}

void CountParameters(const std::vector<DType>& types, ModelFile* model) {
  std::map<std::string, uint64_t> by_type;
  for (size_t t = 0; t < types.size(); ++t) {
    const GgufTensor& tensor = model->file->tensors()[t];
    const uint64_t elements = tensor.shape[0] * tensor.shape[1] * tensor.shape[2] * tensor.shape[3];
    model->parameters += elements;
    // A tied embedding often has a type of its own and, in small models, most of the elements.
    if (tensor.name != "token_embd.weight") by_type[InfoOf(types[t]).name] += elements;
  }
  uint64_t most = 0;
  for (const auto& [type, elements] : by_type) {
    if (elements > most) {
      most = elements;
      model->quantization = type;
    }
  }
}

/// Gives the program's matrices the types that they are loaded in.
void Retype(const std::vector<DType>& types, const GgufFile& file, Program* program) {
  for (WeightDesc& weight : program->weights) {
    weight.dtype = types[static_cast<size_t>(file.FindTensor(weight.name) - file.tensors().data())];
  }
}

Status ReadModelFile(const GgufFile& file, LoadQuantization quantization, ModelFile* model) {
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
  TM_ASSIGN_OR_RETURN(const std::vector<DType> types, LoadedTypes(file, quantization));
  Retype(types, file, &model->program);
  CountParameters(types, model);
  return {};
}

}  // namespace

Result<std::shared_ptr<const ModelFile>> OpenModelFile(const std::string& path,
                                                       LoadQuantization quantization) {
  auto model = std::make_shared<ModelFile>();
  TM_ASSIGN_OR_RETURN(model->file, GgufFile::Open(path));
  const Status status = ReadModelFile(*model->file, quantization, model.get());
  if (!status.ok()) return Status(status.code(), path + ": " + status.message());
  model->file = model->file->WithoutArrays();  // the tokenizer has what it needs of them
  return std::shared_ptr<const ModelFile>(std::move(model));
}

GgufWeightSource::GgufWeightSource(const ModelFile& model) : file_(model.file) {
  for (const WeightDesc& weight : model.program.weights) {
    const GgufTensor* tensor = file_->FindTensor(weight.name);
    entries_.push_back({tensor->offset,
                        RowBytes(tensor->dtype, weight.cols),
                        {weight.name, tensor->dtype, weight.dtype, weight.cols}});
    total_bytes_ += RowBytes(weight.dtype, weight.cols) * static_cast<uint64_t>(weight.rows);
  }
}

Status GgufWeightSource::Read(WeightId weight, int64_t row, int64_t rows, void* out) const {
  const Entry& entry = entries_[static_cast<size_t>(weight)];
  if (entry.conversion.from != entry.conversion.to) {
    return ReadConverted(entry, row, rows, static_cast<char*>(out));
  }
  return file_->file().ReadAt(entry.offset + static_cast<uint64_t>(row) * entry.file_row_bytes, out,
                              static_cast<size_t>(rows) * entry.file_row_bytes);
}

Status GgufWeightSource::ReadConverted(const Entry& entry, int64_t row, int64_t rows, char* out) const {
  const size_t out_row_bytes = RowBytes(entry.conversion.to, entry.conversion.cols);
  const int64_t at_once = std::clamp<int64_t>(static_cast<int64_t>(kReadBytes / entry.file_row_bytes), 1,
                                              std::max<int64_t>(rows, 1));
  std::vector<char> stored(static_cast<size_t>(at_once) * entry.file_row_bytes);
  std::vector<float> values;
  for (int64_t end = row + rows; row < end; row += at_once) {
    const int64_t part = std::min(at_once, end - row);
    TM_RETURN_IF_ERROR(file_->file().ReadAt(entry.offset + static_cast<uint64_t>(row) * entry.file_row_bytes,
                                            stored.data(), static_cast<size_t>(part) * entry.file_row_bytes));
    TM_RETURN_IF_ERROR(ConvertRows(entry.conversion, row, part, stored.data(), out, &values));
    out += static_cast<size_t>(part) * out_row_bytes;
  }
  return {};
}

}  // namespace tokenmill
