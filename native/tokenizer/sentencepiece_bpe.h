#pragma once

#include <array>
#include <memory>
#include <vector>

#include "tokenizer/vocabulary_tokenizer.h"

namespace tokenmill {

/// SentencePiece's BPE (LLaMA 2, Gemma): characters merge to the piece with the best score, the leftmost of
/// equals; what has no piece becomes bytes or the unknown token. Pieces are kept with spaces in place of
/// U+2581, and the two characters mean the same in a text.
class SentencePieceBpe final : public VocabularyTokenizer {
 public:
  static Result<std::shared_ptr<const Tokenizer>> Create(TokenizerSpec spec);

 private:
  Status FillTokens();
  Status FillByteTokens();
  void NoteInnerSpaces(std::string_view piece);
  /// Where the part of `text` from `from` on ends that merges on its own.
  size_t WordEnd(std::string_view text, size_t from) const;
  std::string PieceBytes(std::string_view token_text) const override;
  void EncodePlain(std::string_view text, Scratch* scratch, std::vector<Token>* out) const override;
  void EncodeMergeable(std::string_view text, Scratch* scratch, std::vector<Token>* out) const;
  void EncodeWord(std::string_view word, Scratch* scratch, std::vector<Token>* out) const;
  void EmitSymbol(Token id, std::string_view bytes, Scratch* scratch, std::vector<Token>* out) const;
  bool IsUnused(Token token) const { return spec_.kinds[Index(token)] == TokenKind::kUnused; }
  Merge FindMerge(std::string_view joined) const;
  const SpecialMatcher& Matcher(bool special) const override { return special ? control_ : none_; }

  std::vector<uint32_t> ranks_;  // of each token as a product; better scores have lower ranks
  std::array<Token, 256> byte_tokens_;  // all -1 without byte fallback
  // Bytes that some piece has before a space. After any other byte no merge spans the space, so that what
  // comes before and after merges on its own: texts fall into words, and known words need no merging.
  std::array<bool, 256> joins_space_;
  bool has_unused_ = false;
  SpecialMatcher user_defined_;
  SpecialMatcher control_;
  SpecialMatcher none_;
};

}  // namespace tokenmill
