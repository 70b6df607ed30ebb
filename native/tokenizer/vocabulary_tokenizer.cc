#include "tokenizer/vocabulary_tokenizer.h"

#include <algorithm>
#include <climits>

#include "io/text.h"
#include "tokenizer/utf8.h"

namespace tokenmill {
namespace {

constexpr size_t kPatternBytesMax = 1024;     // of a token that is matched as a whole
constexpr size_t kPlainBytesMax = 1u << 28;   // longer texts are cut at a character, so that offsets fit

Status Repeated(const TokenizerSpec& spec, Token first, Token second) {
  return Error(Code::kCorruptFile, "tokenizer: tokens %d and %d are both %s; every token must be different",
               first, second, Quoted(spec.tokens[static_cast<size_t>(second)]).c_str());
}

Status CheckId(const TokenizerSpec& spec, const char* name, Token id) {
  if (id >= -1 && id < static_cast<int64_t>(spec.tokens.size())) return Status();
  return Error(Code::kCorruptFile, "tokenizer: the %s token is %d, but the vocabulary has %zu tokens", name,
               id, spec.tokens.size());
}

}  // namespace

Status VocabularyTokenizer::Adopt(TokenizerSpec spec) {
  const size_t count = spec.tokens.size();
  if (count == 0) return Error(Code::kCorruptFile, "tokenizer: the vocabulary is empty");
  if (count > INT_MAX)
    return Error(Code::kCorruptFile, "tokenizer: %zu tokens are more than ids can tell", count);
  if (spec.kinds.empty()) spec.kinds.assign(count, TokenKind::kNormal);
  if (spec.kinds.size() != count) {
    return Error(Code::kCorruptFile, "tokenizer: %zu tokens, but %zu token types", count, spec.kinds.size());
  }
  TM_RETURN_IF_ERROR(CheckId(spec, "beginning-of-sequence", spec.bos));
  TM_RETURN_IF_ERROR(CheckId(spec, "end-of-sequence", spec.eos));
  TM_RETURN_IF_ERROR(CheckId(spec, "unknown", spec.unk));
  TM_RETURN_IF_ERROR(CheckId(spec, "padding", spec.pad));
  for (const Token id : spec.end_of_generation) {
    if (id < 0) return Error(Code::kCorruptFile, "tokenizer: an end-of-generation token is %d", id);
    TM_RETURN_IF_ERROR(CheckId(spec, "end-of-generation", id));
  }
  spec_ = std::move(spec);
  size_t bytes = 0;
  for (const std::string& token : spec_.tokens) bytes += token.size();
  arena_.Reserve(count, bytes);
  wholeness_ = std::make_unique<std::atomic<Wholeness>[]>(count);
  return Status();
}

Status VocabularyTokenizer::IndexTokens(const std::vector<bool>& is_piece) {
  pieces_.Reset(&arena_, static_cast<size_t>(std::count(is_piece.begin(), is_piece.end(), true)));
  for (size_t i = 0; i < is_piece.size(); ++i) {
    if (!is_piece[i] || spec_.tokens[i].empty()) continue;  // an empty token is a hole in the vocabulary
    const Token id = static_cast<Token>(i);
    piece_bytes_max_ = std::max(piece_bytes_max_, arena_[id].size());
    const Token same = pieces_.Insert(id);
    if (same >= 0 && spec_.tokens[Index(same)] == spec_.tokens[i]) return Repeated(spec_, same, id);
  }
  for (size_t i = 0; i < is_piece.size(); ++i) {
    if (is_piece[i] || spec_.tokens[i].empty()) continue;
    const Token id = static_cast<Token>(i);
    if (const Token same = Find(spec_.tokens[i]); same >= 0) return Repeated(spec_, same, id);
    others_.emplace(spec_.tokens[i], id);
  }
  return Status();
}

Result<SpecialMatcher> VocabularyTokenizer::BuildMatcher(std::initializer_list<TokenKind> kinds) const {
  std::vector<std::pair<std::string_view, Token>> patterns;
  for (size_t i = 0; i < spec_.tokens.size(); ++i) {
    if (std::find(kinds.begin(), kinds.end(), spec_.kinds[i]) == kinds.end()) continue;
    const std::string_view bytes = arena_[static_cast<Token>(i)];
    if (bytes.size() > kPatternBytesMax) {
      return Error(Code::kCorruptFile,
                   "tokenizer: special token %zu, %s, has %zu bytes; at most %zu are allowed", i,
                   Quoted(bytes).c_str(), bytes.size(), kPatternBytesMax);
    }
    patterns.emplace_back(bytes, static_cast<Token>(i));
  }
  return SpecialMatcher(std::move(patterns));
}

Token VocabularyTokenizer::Find(std::string_view token_text) const {
  const Token piece = pieces_.Find(PieceBytes(token_text));
  if (piece >= 0 && spec_.tokens[Index(piece)] == token_text) return piece;
  const auto found = others_.find(token_text);
  return found == others_.end() ? -1 : found->second;
}

void VocabularyTokenizer::Encode(std::string_view text, const EncodeOptions& options,
                                 std::vector<Token>* out) const {
  if (options.bos && spec_.bos >= 0) out->push_back(spec_.bos);
  if (IsWholeUtf8(text)) {
    EncodeValid(text, options.special, out);
  } else {
    EncodeValid(ToValidUtf8(text), options.special, out);
  }
}

void VocabularyTokenizer::EncodeValid(std::string_view text, bool special, std::vector<Token>* out) const {
  const SpecialMatcher& matcher = Matcher(special);
  Scratch scratch;
  const auto plain = [&](std::string_view part) {
    while (part.size() > kPlainBytesMax) {
      size_t cut = kPlainBytesMax;
      while ((static_cast<uint8_t>(part[cut]) & 0xC0) == 0x80) --cut;
      EncodePlain(part.substr(0, cut), &scratch, out);
      part.remove_prefix(cut);
    }
    if (!part.empty()) EncodePlain(part, &scratch, out);
  };
  size_t done = 0;
  for (SpecialMatcher::Match match; matcher.Find(text, done, &match); done = match.end) {
    plain(text.substr(done, match.begin - done));
    out->push_back(match.token);
  }
  plain(text.substr(done));
}

std::string_view VocabularyTokenizer::Bytes(Token token, bool special) const {
  if (!Has(token)) return {};
  const TokenKind kind = spec_.kinds[Index(token)];
  const bool hidden = kind == TokenKind::kControl || kind == TokenKind::kUnknown;
  return hidden && !special ? std::string_view() : arena_[token];
}

std::string VocabularyTokenizer::Decode(const Token* tokens, size_t count, bool special) const {
  std::string bytes;
  for (size_t i = 0; i < count; ++i) {
    std::string_view part = Bytes(tokens[i], special);
    if (strips_first_space_ && bytes.empty() && !part.empty() && part[0] == ' ') {
      // Only the very first space is the prefix's, even when it is all that its token has.
      bytes.append(part.substr(1));
      for (++i; i < count; ++i) bytes.append(Bytes(tokens[i], special));
      break;
    }
    bytes.append(part);
  }
  return ToValidUtf8(bytes);
}

}  // namespace tokenmill
