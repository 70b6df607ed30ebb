#pragma once

#include <string>
#include <string_view>

#include "io/gguf.h"
#include "model/decoder_spec.h"

namespace tokenmill {

/// One family's metadata: keys are relative to the architecture's name, values checked against ranges.
class Metadata {
 public:
  Metadata(const GgufFile& file, std::string architecture)
      : file_(file), prefix_(std::move(architecture) + ".") {}

  bool Has(std::string_view key) const { return file_.Find(Key(key)) != nullptr; }
  Result<int> Int(std::string_view key, int minimum, int maximum) const;
  Result<int> Int(std::string_view key, int minimum, int maximum, int fallback) const;
  Result<float> Float(std::string_view key, double minimum, double maximum) const;
  Result<float> Float(std::string_view key, double minimum, double maximum, double fallback) const;
  Result<std::string> String(std::string_view key, std::string fallback) const;

  const GgufFile& file() const { return file_; }

  /// The key as it stands in the file.
  std::string Key(std::string_view key) const { return prefix_ + std::string(key); }

 private:
  const GgufFile& file_;
  const std::string prefix_;
};

/// What all families share: sizes, heads, context, epsilon, one full-attention group. UnsupportedModel for
/// experts and for keys and values of different lengths.
Result<DecoderSpec> ReadCommonSpec(const Metadata& metadata);

/// Frequencies base^(-2i/dims), divided by the file's rope_freqs.weight where it has them.
Result<RopeTable> MakeRope(const GgufFile& file, RopeStyle style, int dims, double base,
                           double linear_factor);

/// The family's linear scaling factor (1 for none); UnsupportedModel for other kinds of rope scaling.
Result<float> ReadLinearRopeFactor(const Metadata& metadata);

}  // namespace tokenmill
