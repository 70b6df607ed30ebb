#pragma once

#include <memory>
#include <optional>
#include <string>

#include "io/gguf.h"
#include "model/decoder_spec.h"
#include "ops/backend.h"
#include "quantize/convert_rows.h"
#include "tokenizer/tokenizer.h"

namespace tokenmill {

/// What the file recommends for sampling (general.sampling.*).
struct SamplingDefaults {
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<int> top_k;
};

/// What the matrices of an F32, F16 or BF16 file become while they are read.
enum class LoadQuantization : uint8_t {
  kNone,
  kInt8,  // Q8_0
  kInt4,  // Q4_K, or Q4_1 where its blocks do not divide the rows; the head Q6_K or Q8_0
};

/// A model file that has been read and found consistent, without its weights.
struct ModelFile {
  std::shared_ptr<const GgufFile> file;
  std::string architecture;
  std::string name;           // general.name, else ""
  std::string chat_template;  // "" when it has none
  std::string quantization;   // the type that holds most of the weights, as loaded
  uint64_t parameters = 0;
  SamplingDefaults sampling;
  DecoderSpec spec;
  Program program;  // its weights have the types that they are loaded in
  std::shared_ptr<const Tokenizer> tokenizer;
};

/// Reads and checks everything but the weights: ModelNotFound, CorruptFile, UnsupportedModel,
/// UnsupportedQuantization; InvalidArgument when it is to be quantized and is already.
Result<std::shared_ptr<const ModelFile>> OpenModelFile(
    const std::string& path, LoadQuantization quantization = LoadQuantization::kNone);

/// A program's weights, read from the file and quantized row by row where the program has another type.
class GgufWeightSource final : public WeightSource {
 public:
  explicit GgufWeightSource(const ModelFile& model);
  Status Read(WeightId weight, int64_t row, int64_t rows, void* out) const override;
  /// Bytes of all weights, as they are read.
  uint64_t total_bytes() const { return total_bytes_; }

 private:
  struct Entry {
    uint64_t offset;
    size_t file_row_bytes;
    RowConversion conversion;
  };
  Status ReadConverted(const Entry& entry, int64_t row, int64_t rows, char* out) const;

  std::shared_ptr<const GgufFile> file_;
  std::vector<Entry> entries_;
  uint64_t total_bytes_ = 0;
};

}  // namespace tokenmill
