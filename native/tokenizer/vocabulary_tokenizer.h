#pragma once

#include <atomic>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tokenizer/merger.h"
#include "tokenizer/special_matcher.h"
#include "tokenizer/token_index.h"
#include "tokenizer/tokenizer.h"

namespace tokenmill {

/// What byte-level and SentencePiece BPE share: the bytes of tokens, lookups, special tokens in a text,
/// decoding.
class VocabularyTokenizer : public Tokenizer {
 public:
  void Encode(std::string_view text, const EncodeOptions& options, std::vector<Token>* out) const final;
  std::string_view Bytes(Token token, bool special) const final;
  std::string Decode(const Token* tokens, size_t count, bool special) const final;
  Token Find(std::string_view token_text) const final;

 protected:
  /// What one Encode call works with.
  struct Scratch {
    Merger merger;
    bool last_was_unknown = false;
    std::vector<std::pair<Token, uint32_t>>
        splits;  // unused products of a word and the bytes of their left part
  };

  /// Checks what does not depend on the model and takes the spec. To be called first.
  Status Adopt(TokenizerSpec spec);

  /// Fills the indices from the arena, which has an entry for each token by now. `is_piece[id]` tells the
  /// tokens that parts of a text can become from those that are known by their stored text only.
  Status IndexTokens(const std::vector<bool>& is_piece);

  /// A matcher for the tokens of these kinds; CorruptFile when one is too long to be real.
  Result<SpecialMatcher> BuildMatcher(std::initializer_list<TokenKind> kinds) const;

  /// The bytes under which a piece with this stored text would be in `pieces_`.
  virtual std::string PieceBytes(std::string_view token_text) const = 0;

  /// Appends the ids of a text between special tokens: valid UTF-8, not empty, short enough for 32-bit
  /// offsets.
  virtual void EncodePlain(std::string_view text, Scratch* scratch, std::vector<Token>* out) const = 0;

  /// The tokens to cut out of a text before anything else.
  virtual const SpecialMatcher& Matcher(bool special) const = 0;

  /// Whether merging the bytes of `token` gives `token` alone, so that merging can be skipped. Found out once
  /// per token, as texts come by; any thread may do so.
  enum class Wholeness : uint8_t { kUnknown, kWhole, kSplit };
  Wholeness wholeness(Token token) const { return wholeness_[Index(token)].load(std::memory_order_relaxed); }
  void set_wholeness(Token token, bool whole) const {
    wholeness_[Index(token)].store(whole ? Wholeness::kWhole : Wholeness::kSplit, std::memory_order_relaxed);
  }

  static size_t Index(Token token) { return static_cast<size_t>(token); }
  bool Has(Token token) const { return token >= 0 && Index(token) < spec_.tokens.size(); }

  TokenArena arena_;  // the bytes that each token stands for
  TokenIndex pieces_;  // by those bytes: what parts of a text can become
  size_t piece_bytes_max_ = 0;
  bool strips_first_space_ = false;  // decoding takes the dummy prefix's space away

 private:
  void EncodeValid(std::string_view text, bool special, std::vector<Token>* out) const;

  std::unordered_map<std::string_view, Token> others_;  // by stored text: control tokens and the like
  std::unique_ptr<std::atomic<Wholeness>[]> wholeness_;
};

}  // namespace tokenmill
