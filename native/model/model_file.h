#pragma once

#include <memory>
#include <optional>
#include <string>

#include "io/gguf.h"
#include "model/decoder_spec.h"
#include "ops/backend.h"
#include "tokenizer/tokenizer.h"

namespace tokenmill {

/// What the file recommends for sampling (general.sampling.*).
struct SamplingDefaults {
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<int> top_k;
};

/// A model file that has been read and found consistent, without its weights.
struct ModelFile {
  std::shared_ptr<const GgufFile> file;
  std::string architecture;
  std::string name;           // general.name, else ""
  std::string chat_template;  // "" when it has none
  std::string quantization;   // the type that holds most of the weights
  uint64_t parameters = 0;
  SamplingDefaults sampling;
  DecoderSpec spec;
  Program program;
  std::shared_ptr<const Tokenizer> tokenizer;
};

/// Reads and checks everything but the weights: ModelNotFound, CorruptFile, UnsupportedModel,
/// UnsupportedQuantization.
Result<std::shared_ptr<const ModelFile>> OpenModelFile(const std::string& path);

/// A program's weights, read from the file.
class GgufWeightSource final : public WeightSource {
 public:
  explicit GgufWeightSource(const ModelFile& model);
  Status Read(WeightId weight, int64_t row, int64_t rows, void* out) const override;
  /// Bytes of all weights in the file.
  uint64_t total_bytes() const { return total_bytes_; }

 private:
  struct Entry {
    uint64_t offset;
    size_t row_bytes;
  };
  std::shared_ptr<const GgufFile> file_;
  std::vector<Entry> entries_;
  uint64_t total_bytes_ = 0;
};

}  // namespace tokenmill
