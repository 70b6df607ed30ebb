#include "quantize/mix.h"

#include <algorithm>
#include <cinttypes>

namespace tokenmill {
namespace {

constexpr FileType kFileTypes[] = {
    {"F32", 0, DType::kF32, Mix::kUniform},      {"F16", 1, DType::kF16, Mix::kUniform},
    {"BF16", 32, DType::kBF16, Mix::kUniform},   {"Q4_0", 2, DType::kQ4_0, Mix::kUniform},
    {"Q4_1", 3, DType::kQ4_1, Mix::kUniform},    {"Q5_0", 8, DType::kQ5_0, Mix::kUniform},
    {"Q5_1", 9, DType::kQ5_1, Mix::kUniform},    {"Q8_0", 7, DType::kQ8_0, Mix::kUniform},
    {"Q4_K_S", 14, DType::kQ4_K, Mix::kSmall},   {"Q4_K_M", 15, DType::kQ4_K, Mix::kMedium},
    {"Q5_K_S", 16, DType::kQ5_K, Mix::kUniform}, {"Q5_K_M", 17, DType::kQ5_K, Mix::kMedium},
    {"Q6_K", 18, DType::kQ6_K, Mix::kUniform},   {"Q4_K", 15, DType::kQ4_K, Mix::kMedium},
    {"Q5_K", 17, DType::kQ5_K, Mix::kMedium},
};

bool IsFloat(DType dtype) { return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16; }

bool Contains(std::string_view name, std::string_view part) { return name.find(part) != name.npos; }

/// Whether a tensor is a matrix that products go through.
bool IsQuantizable(const GgufTensor& tensor) {
  // What decides between experts or holds positions is small and sensitive.
  static constexpr std::string_view kKept[] = {
      "_norm.weight", "ffn_gate_inp", "position_embd", "token_types",          "ssm_conv1d", "shortconv.conv",
      "time_mix_",    "attn_rel_b",   "altup",         "per_layer_model_proj", "laurel"};
  const std::string_view name = tensor.name;
  if (tensor.rank < 2 || !name.ends_with("weight")) return false;
  return std::none_of(std::begin(kKept), std::end(kKept), [&](auto part) { return Contains(name, part); });
}

/// N of "blk.N.…", or -1.
int BlockOf(std::string_view name) {
  if (!name.starts_with("blk.")) return -1;
  int block = 0;
  for (size_t i = 4; i < name.size() && i < 10 && name[i] >= '0' && name[i] <= '9'; ++i) {
    block = 10 * block + (name[i] - '0');
  }
  return block;
}

/// The layers that matter most: the first eighth, the last, and every third between.
bool IsFineLayer(int layer, int layers) {
  const int eighth = layers / 8;
  return layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2;
}

/// What the mix depends on beside a tensor's name.
struct Model {
  int layers = 0;
  bool tied = false;
  bool eight_experts = false;
  bool shares_values = false;  // a 70B llama: eight heads share a row of attn_v, which is worth more bits
};

Model Describe(const GgufFile& file) {
  const auto uint = [&file](const std::string& key) {
    const Result<uint64_t> value = file.GetUint(key, 0);
    return value.ok() ? value.value() : 0;
  };
  const Result<std::string> name = file.GetString("general.architecture", "");
  const std::string architecture = name.ok() ? name.value() : "";
  Model model;
  model.tied = file.FindTensor("output.weight") == nullptr;
  model.eight_experts = uint(architecture + ".expert_count") == 8;
  const std::string attention = architecture + ".attention.";
  model.shares_values = architecture == "llama" && uint("llama.block_count") == 80 &&
                        uint(attention + "head_count") != uint(attention + "head_count_kv");
  for (const GgufTensor& tensor : file.tensors())
    model.layers = std::max(model.layers, BlockOf(tensor.name) + 1);
  return model;
}

DType ValueType(const FileType& type, const Model& model, int layer) {
  DType dtype = type.dtype;
  if (type.mix == Mix::kMedium && IsFineLayer(layer, model.layers)) dtype = DType::kQ6_K;
  if (type.mix == Mix::kSmall && layer < 4) dtype = DType::kQ5_K;
  if (model.shares_values && dtype == DType::kQ4_K) dtype = DType::kQ5_K;
  return model.eight_experts ? DType::kQ8_0 : dtype;
}

DType MixedType(std::string_view name, const FileType& type, const Model& model) {
  const int layer = BlockOf(name);
  if (name == "output.weight" || (model.tied && name == "token_embd.weight")) {
    return type.dtype == DType::kQ8_0 ? DType::kQ8_0 : DType::kQ6_K;
  }
  if (Contains(name, "attn_v.weight")) return ValueType(type, model, layer);
  if (Contains(name, "attn_k.weight") && model.eight_experts) return DType::kQ8_0;
  if (Contains(name, "ffn_down")) {
    if (type.mix == Mix::kMedium && IsFineLayer(layer, model.layers)) return DType::kQ6_K;
    if (type.mix == Mix::kSmall && layer < model.layers / 8) return DType::kQ5_K;
  }
  if (Contains(name, "attn_output.weight") && model.eight_experts && type.dtype == DType::kQ4_K) {
    return DType::kQ5_K;
  }
  if (Contains(name, "attn_qkv.weight") && type.mix == Mix::kMedium) {
    return type.dtype == DType::kQ4_K ? DType::kQ5_K : DType::kQ6_K;
  }
  return type.dtype;
}

/// The nearest type whose blocks divide rows of `cols`.
DType Fallback(DType dtype, Mix mix, uint64_t cols) {
  const auto divides = [cols](DType candidate) { return cols % InfoOf(candidate).block_elements == 0; };
  if (divides(dtype)) return dtype;
  DType coarse = DType::kF16;
  if (dtype == DType::kQ4_K) coarse = mix == Mix::kFourBit ? DType::kQ4_1 : DType::kQ5_0;
  if (dtype == DType::kQ5_K) coarse = DType::kQ5_1;
  if (dtype == DType::kQ6_K) coarse = DType::kQ8_0;
  return divides(coarse) ? coarse : DType::kF16;
}

Status CheckSource(const GgufFile& file, const GgufTensor& tensor, bool allow_requantize) {
  const DTypeInfo& info = InfoOf(tensor.dtype);
  if (!info.runs) {
    return Error(Code::kUnsupportedQuantization,
                 "%s: tensor '%s' has type %s, which cannot be read; start from an F32, F16 or BF16 file",
                 file.file().path().c_str(), tensor.name.c_str(), info.name);
  }
  if (IsFloat(tensor.dtype) || allow_requantize) return {};
  return Error(Code::kInvalidArgument,
               "%s is quantized already: tensor '%s' has type %s, and quantizing again loses more than once; "
               "expected an F32, F16 or BF16 file",
               file.file().path().c_str(), tensor.name.c_str(), info.name);
}

}  // namespace

const FileType* FindFileType(std::string_view name) {
  for (const FileType& type : kFileTypes) {
    if (name == type.name) return &type;
  }
  return nullptr;
}

std::string FileTypeNames() {
  std::string names;
  for (const FileType& type : kFileTypes) names += (names.empty() ? "" : ", ") + std::string(type.name);
  return names;
}

Result<std::vector<DType>> PlanTypes(const GgufFile& file, const PlanOptions& options) {
  const Model model = Describe(file);
  const FileType& type = options.type;
  std::vector<DType> types;
  for (const GgufTensor& tensor : file.tensors()) {
    types.push_back(tensor.dtype);
    if (!IsQuantizable(tensor)) continue;
    TM_RETURN_IF_ERROR(CheckSource(file, tensor, options.allow_requantize));
    const bool mixed = !options.pure && !IsFloat(type.dtype);
    const DType wanted = mixed ? MixedType(tensor.name, type, model) : type.dtype;
    types.back() = Fallback(wanted, type.mix, tensor.shape[0]);
  }
  return types;
}

}  // namespace tokenmill
