#include "model/metadata.h"

#include <cmath>
#include <cstring>

namespace tokenmill {
namespace {

Status OutOfRange(const std::string& key, double found, double minimum, double maximum) {
  return Error(Code::kCorruptFile, "metadata '%s' is %g; expected %g to %g", key.c_str(), found, minimum,
               maximum);
}

constexpr int kSizeMax = 1 << 20;

}  // namespace

Result<int> Metadata::Int(std::string_view key, int minimum, int maximum) const {
  TM_ASSIGN_OR_RETURN(const uint64_t value, file_.GetUint(Key(key)));
  if (value < static_cast<uint64_t>(minimum) || value > static_cast<uint64_t>(maximum)) {
    return OutOfRange(Key(key), static_cast<double>(value), minimum, maximum);
  }
  return static_cast<int>(value);
}

Result<int> Metadata::Int(std::string_view key, int minimum, int maximum, int fallback) const {
  if (!Has(key)) return fallback;
  return Int(key, minimum, maximum);
}

Result<float> Metadata::Float(std::string_view key, double minimum, double maximum) const {
  TM_ASSIGN_OR_RETURN(const double value, file_.GetFloat(Key(key)));
  if (!(value >= minimum && value <= maximum)) return OutOfRange(Key(key), value, minimum, maximum);
  return static_cast<float>(value);
}

Result<float> Metadata::Float(std::string_view key, double minimum, double maximum, double fallback) const {
  if (!Has(key)) return static_cast<float>(fallback);
  return Float(key, minimum, maximum);
}

Result<std::string> Metadata::String(std::string_view key, std::string fallback) const {
  return file_.GetString(Key(key), std::move(fallback));
}

Result<DecoderSpec> ReadCommonSpec(const Metadata& metadata) {
  DecoderSpec spec;
  TM_ASSIGN_OR_RETURN(const int experts, metadata.Int("expert_count", 0, kSizeMax, 0));
  if (experts > 0)
    return Error(Code::kUnsupportedModel, "mixture-of-experts models (here %d experts) cannot run yet",
                 experts);
  TM_ASSIGN_OR_RETURN(spec.layers, metadata.Int("block_count", 1, 1024));
  TM_ASSIGN_OR_RETURN(spec.width, metadata.Int("embedding_length", 1, kSizeMax));
  TM_ASSIGN_OR_RETURN(spec.ffn_width, metadata.Int("feed_forward_length", 1, kSizeMax));
  TM_ASSIGN_OR_RETURN(spec.context_length, metadata.Int("context_length", 1, 1 << 24));
  TM_ASSIGN_OR_RETURN(spec.query_heads, metadata.Int("attention.head_count", 1, 1024));
  TM_ASSIGN_OR_RETURN(spec.kv_heads, metadata.Int("attention.head_count_kv", 1, 1024, spec.query_heads));
  if (spec.query_heads % spec.kv_heads != 0) {
    return Error(Code::kCorruptFile,
                 "'%s' is %d and '%s' is %d; expected a multiple, for key/value heads to be shared evenly",
                 metadata.Key("attention.head_count").c_str(), spec.query_heads,
                 metadata.Key("attention.head_count_kv").c_str(), spec.kv_heads);
  }
  const bool explicit_dim = metadata.Has("attention.key_length");
  if (!explicit_dim && spec.width % spec.query_heads != 0) {
    return Error(Code::kCorruptFile, "'%s' is %d and does not divide by '%s', which is %d",
                 metadata.Key("embedding_length").c_str(), spec.width,
                 metadata.Key("attention.head_count").c_str(), spec.query_heads);
  }
  TM_ASSIGN_OR_RETURN(spec.head_dim,
                      metadata.Int("attention.key_length", 2, 1024, spec.width / spec.query_heads));
  TM_ASSIGN_OR_RETURN(const int value_dim, metadata.Int("attention.value_length", 1, 1024, spec.head_dim));
  if (value_dim != spec.head_dim) {
    return Error(Code::kUnsupportedModel,
                 "key length %d and value length %d differ; only equal lengths can run", spec.head_dim,
                 value_dim);
  }
  if (spec.head_dim % 2 != 0) {
    return Error(Code::kCorruptFile, "head length %d is odd; rotary embedding needs pairs", spec.head_dim);
  }
  TM_ASSIGN_OR_RETURN(spec.norm_epsilon, metadata.Float("attention.layer_norm_rms_epsilon", 1e-12, 0.1));
  spec.attention_scale = 1.0f / std::sqrt(static_cast<float>(spec.head_dim));
  spec.kv_groups = {KvGroup{}};
  spec.attention.assign(static_cast<size_t>(spec.layers), LayerAttention{});
  return spec;
}

Result<RopeTable> MakeRope(const GgufFile& file, RopeStyle style, int dims, double base,
                           double linear_factor) {
  RopeTable rope;
  rope.style = style;
  rope.dims = dims;
  for (int i = 0; i < dims / 2; ++i)
    rope.frequencies.push_back(std::pow(base, -2.0 * i / dims) / linear_factor);
  const GgufTensor* factors = file.FindTensor("rope_freqs.weight");
  if (factors == nullptr) return rope;
  if (factors->dtype != DType::kF32 || factors->shape[0] != rope.frequencies.size() ||
      factors->bytes != rope.frequencies.size() * sizeof(float)) {
    return Error(Code::kCorruptFile, "tensor 'rope_freqs.weight' is %s[%llu]; expected F32[%zu]",
                 InfoOf(factors->dtype).name, static_cast<unsigned long long>(factors->shape[0]),
                 rope.frequencies.size());
  }
  std::vector<float> values(rope.frequencies.size());
  TM_RETURN_IF_ERROR(file.file().ReadAt(factors->offset, values.data(), factors->bytes));
  for (size_t i = 0; i < values.size(); ++i) {
    if (!(values[i] > 0) || !std::isfinite(values[i])) {
      return Error(Code::kCorruptFile, "tensor 'rope_freqs.weight' holds %g; expected positive numbers",
                   values[i]);
    }
    rope.frequencies[i] /= values[i];
  }
  return rope;
}

Result<float> ReadLinearRopeFactor(const Metadata& metadata) {
  TM_ASSIGN_OR_RETURN(const std::string type, metadata.String("rope.scaling.type", "linear"));
  if (type == "none") return 1.0f;
  if (type != "linear") {
    return Error(Code::kUnsupportedModel, "rope scaling '%s' cannot run yet; known are none and linear",
                 type.c_str());
  }
  TM_ASSIGN_OR_RETURN(const float factor, metadata.Float("rope.scale_linear", 0, 1e4, 0));
  TM_ASSIGN_OR_RETURN(const float newer, metadata.Float("rope.scaling.factor", 0, 1e4, factor));
  return newer > 0 ? newer : 1.0f;  // files write 0 for none
}

}  // namespace tokenmill
