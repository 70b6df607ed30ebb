#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tokenmill {

/// Receives the pieces of a split, in order; together they are the text.
class PieceSink {
 public:
  virtual void OnPiece(std::string_view piece) = 0;

 protected:
  ~PieceSink() = default;
};

/// Finds the next match at or after `from`: true with its bounds, or false. `text` is valid UTF-8.
using FindMatch = bool (*)(std::string_view text, size_t from, size_t* begin, size_t* end);

/// How byte-level BPE vocabularies cut a text before merging: each stage isolates its matches within the
/// pieces of the one before; what lies between matches is a piece too. Same results as the split expressions
/// of the models' tokenizer.json (Oniguruma, Unicode 16), in linear time.
class PreTokenizer {
 public:
  static constexpr int kMaxStages = 5;

  /// What goes with a name besides the cutting.
  enum Traits : uint8_t {
    kNfc = 1,           // the tokenizer normalizes to NFC first
    kAddBos = 2,        // when the file does not say
    kIgnoreMerges = 4,  // a whole piece found in the vocabulary is taken as it is
  };

  const char* names;  // as in tokenizer.ggml.pre, separated by spaces
  uint8_t traits;
  FindMatch stages[kMaxStages];  // ends with nullptr, unless full

  bool Has(Traits trait) const { return (traits & trait) != 0; }

  void Split(std::string_view text, PieceSink* sink) const { RunStage(0, text, sink); }

 private:
  void RunStage(int stage, std::string_view text, PieceSink* sink) const;
};

/// The pre-tokenizer with this name, or nullptr.
const PreTokenizer* FindPreTokenizer(std::string_view name);

/// All known names, separated by ", ", for messages.
std::string PreTokenizerNames();

}  // namespace tokenmill
