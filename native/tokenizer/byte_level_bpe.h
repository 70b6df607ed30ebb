#pragma once

#include <array>
#include <memory>
#include <vector>

#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/vocabulary_tokenizer.h"

namespace tokenmill {

/// GPT-2's scheme: a text is cut by a pre-tokenizer, each piece starts as single bytes, and merges join them.
/// As in PyPI's `tokenizers`, bytes that have no token are left out before merging.
class ByteLevelBpe final : public VocabularyTokenizer {
 public:
  static Result<std::shared_ptr<const Tokenizer>> Create(TokenizerSpec spec);

 private:
  class Sink;

  Status FillTokens();
  Status FillByteTokens();
  Status FillMerges(const std::vector<std::pair<std::string, std::string>>& merges);
  std::string PieceBytes(std::string_view token_text) const override;
  void EncodePlain(std::string_view text, Scratch* scratch, std::vector<Token>* out) const override;
  void EncodePiece(std::string_view piece, Scratch* scratch, std::vector<Token>* out) const;
  const SpecialMatcher& Matcher(bool special) const override {
    return special ? all_special_ : user_defined_;
  }

  const PreTokenizer* pre_tokenizer_ = nullptr;
  MergeTable merges_;
  std::array<Token, 256> byte_tokens_;  // -1: the vocabulary lacks it
  SpecialMatcher user_defined_;
  SpecialMatcher all_special_;
};

}  // namespace tokenmill
