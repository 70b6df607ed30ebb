#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "io/gguf.h"

namespace tokenmill {

using Token = int32_t;

enum class TokenKind : uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

/// Everything a tokenizer is built from, whichever file it came from.
///
/// From a tokenizer.json (its model type must be BPE; what this list does not name must be absent or without
/// effect, or the model is unsupported):
///
///   model.vocab, added_tokens      tokens, by id (ids without a token: an empty string); an added token
///                                  takes the entry of its id; its kind is kControl if "special" or of a shape
///                                  such as <|…|>, else kUserDefined. lstrip, rstrip and single_word must be
///                                  false
///   pre_tokenizer                  ByteLevel at its end: kByteLevelBpe, and `pre` by
///                                  lib/tokenizer/pre-tokenizer-names.ts
///   normalizer NFC                 nfc
///   model.merges                   merges (byte-level)
///   model.ignore_merges            ignore_merges
///   model.byte_fallback            kSentencePieceBpe; tokens "<0x00>" … "<0xFF>" have kind kByte, and
///                                  scores[id] is minus the rank of the first merge whose parts together are
///                                  the token (0 when there is none: single characters, which no merge makes)
///   normalizer Prepend "▁"         add_space_prefix
///   normalizer Replace " " → "▁"   implied by kSentencePieceBpe, as is the decoder that undoes it
///   model.unk_token                unk, and kind kUnknown
///   post_processor (template)      add_bos, add_eos, bos, eos
struct TokenizerSpec {
  enum class Model { kByteLevelBpe, kSentencePieceBpe };

  Model model = Model::kByteLevelBpe;
  std::string pre = "default";  // pre-tokenizer by name (byte-level BPE), as in tokenizer.ggml.pre
  std::vector<std::string> tokens;  // by id, as stored (byte-level tokens in GPT-2's byte alphabet)
  std::vector<TokenKind> kinds;  // empty: all normal
  std::vector<float> scores;  // SentencePiece
  // In rank order (byte-level BPE). Create takes them: the tokenizer's own spec has none.
  std::vector<std::pair<std::string, std::string>> merges;
  bool add_bos = false;
  bool add_eos = false;
  bool add_space_prefix = false;  // SentencePiece's dummy prefix
  bool nfc = false;  // normalize to NFC before cutting (byte-level BPE)
  bool ignore_merges = false;  // a whole pre-token found in the vocabulary is taken as it is
  Token bos = -1, eos = -1, unk = -1, pad = -1;
  std::vector<Token> end_of_generation;  // every token that ends a reply (eos, eot, …)
};

/// Reads tokenizer.ggml.*; UnsupportedModel names a tokenizer or pre-tokenizer that is not known.
Result<TokenizerSpec> ReadTokenizerSpec(const GgufFile& file);

struct EncodeOptions {
  bool special = false;  // recognize control tokens in the text; user-defined ones always are
  bool bos = false;  // put the beginning-of-sequence token first (if the model has one)
};

/// Text to token ids and back. Immutable; safe to use from several threads at once.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// CorruptFile when the parts do not fit together (repeated tokens, merges of unknown tokens, missing byte
  /// tokens, ids out of range); UnsupportedModel when the pre-tokenizer is not known. A merge whose product
  /// is no token is left out. Byte-level vocabularies may lack bytes other than those of plain ASCII text
  /// (SmolLM's do): such bytes are left out of a text, as by PyPI's `tokenizers`.
  static Result<std::shared_ptr<const Tokenizer>> Create(TokenizerSpec spec);

  /// Appends the ids of `text`. Bytes that are not UTF-8 are read as U+FFFD. Never fails; takes time in
  /// proportion to the text (times a logarithm where it has no place to cut) and memory in proportion to its
  /// longest piece.
  virtual void Encode(std::string_view text, const EncodeOptions& options, std::vector<Token>* out) const = 0;

  /// The bytes that `token` stands for in running text, not necessarily whole UTF-8 characters. Control
  /// tokens have none unless `special`. Ids out of range have none.
  virtual std::string_view Bytes(Token token, bool special = false) const = 0;

  /// The text of a whole sequence: concatenated bytes, less the dummy prefix's space where the model adds
  /// one; invalid UTF-8 becomes U+FFFD.
  virtual std::string Decode(const Token* tokens, size_t count, bool special = false) const = 0;

  const TokenizerSpec& spec() const { return spec_; }
  int vocabulary_size() const { return static_cast<int>(spec_.tokens.size()); }
  TokenKind kind(Token token) const { return spec_.kinds[static_cast<size_t>(token)]; }
  bool IsEndOfGeneration(Token token) const;

  /// The id of a token by its stored text, or -1.
  virtual Token Find(std::string_view token_text) const = 0;

 protected:
  TokenizerSpec spec_;
};

/// Turns a stream of tokens into text that never ends in half a UTF-8 character: incomplete trailing bytes
/// are held back until they complete, and become U+FFFD when they cannot.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer* tokenizer) : tokenizer_(tokenizer) {}

  /// The text that this token makes final; may be empty.
  std::string Push(Token token);

  /// What is still held back, as U+FFFD per broken sequence; call once at the end.
  std::string Finish();

 private:
  const Tokenizer* tokenizer_;
  std::string pending_;
  bool first_ = true;  // for the dummy prefix's space
};

/// Replaces every maximal invalid part of a byte string by U+FFFD (the WHATWG rule).
std::string ToValidUtf8(std::string_view bytes);

}  // namespace tokenmill
