#include "tokenizer/sentencepiece_bpe.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "io/text.h"
#include "tokenizer/utf8.h"

namespace tokenmill {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581

/// `text` with every U+2581 as a space.
std::string WithSpaces(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t mark; (mark = text.find(kSpaceMark)) != std::string_view::npos;) {
    out.append(text.substr(0, mark));
    out.push_back(' ');
    text.remove_prefix(mark + kSpaceMark.size());
  }
  return out.append(text);
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/// The byte that a token like "<0x0A>" stands for, or -1.
int ByteOf(std::string_view text) {
  if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return -1;
  const int high = HexDigit(text[3]), low = HexDigit(text[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/// Orders scores as unsigned numbers, the best first; equal scores stay equal.
uint32_t RankOf(float score) {
  const uint32_t bits = std::bit_cast<uint32_t>(score + 0.0f);  // -0 is 0
  const uint32_t ascending = (bits & 0x80000000u) ? ~bits : bits | 0x80000000u;
  return ~ascending;
}

}  // namespace

Result<std::shared_ptr<const Tokenizer>> SentencePieceBpe::Create(TokenizerSpec spec) {
  const auto bpe = std::make_shared<SentencePieceBpe>();
  spec.merges.clear();
  TM_RETURN_IF_ERROR(bpe->Adopt(std::move(spec)));
  if (bpe->spec_.scores.size() != bpe->spec_.tokens.size()) {
    return Error(Code::kCorruptFile, "tokenizer: %zu tokens, but %zu scores", bpe->spec_.tokens.size(),
                 bpe->spec_.scores.size());
  }
  TM_RETURN_IF_ERROR(bpe->FillTokens());
  TM_RETURN_IF_ERROR(bpe->FillByteTokens());
  bpe->strips_first_space_ = bpe->spec_.add_space_prefix;
  TM_ASSIGN_OR_RETURN(bpe->user_defined_, bpe->BuildMatcher({TokenKind::kUserDefined}));
  TM_ASSIGN_OR_RETURN(bpe->control_, bpe->BuildMatcher({TokenKind::kControl, TokenKind::kUnknown}));
  return std::shared_ptr<const Tokenizer>(bpe);
}

Status SentencePieceBpe::FillTokens() {
  const auto& kinds = spec_.kinds;
  const bool typed_bytes = std::find(kinds.begin(), kinds.end(), TokenKind::kByte) != kinds.end();
  std::vector<bool> is_piece(spec_.tokens.size());
  ranks_.resize(spec_.tokens.size());
  joins_space_.fill(false);
  joins_space_[' '] = true;
  for (size_t i = 0; i < spec_.tokens.size(); ++i) {
    const std::string& text = spec_.tokens[i];
    if (!typed_bytes && kinds[i] == TokenKind::kNormal && ByteOf(text) >= 0)
      spec_.kinds[i] = TokenKind::kByte;
    if (kinds[i] == TokenKind::kByte) {
      if (ByteOf(text) < 0) {
        return Error(Code::kCorruptFile,
                     "tokenizer: token %zu is a byte token, but %s is not like \"<0x0A>\"", i,
                     Quoted(text).c_str());
      }
      const char byte = static_cast<char>(ByteOf(text));
      arena_.Append({&byte, 1});
      continue;
    }
    if (std::isnan(spec_.scores[i])) {
      return Error(Code::kCorruptFile, "tokenizer: the score of token %zu is not a number", i);
    }
    ranks_[i] = RankOf(spec_.scores[i]);
    arena_.Append(text.find(kSpaceMark) == std::string::npos ? std::string_view(text) : WithSpaces(text));
    is_piece[i] = kinds[i] != TokenKind::kControl && kinds[i] != TokenKind::kUnknown;
    has_unused_ |= kinds[i] == TokenKind::kUnused;
    if (is_piece[i]) NoteInnerSpaces(arena_[static_cast<Token>(i)]);
  }
  return IndexTokens(is_piece);
}

void SentencePieceBpe::NoteInnerSpaces(std::string_view piece) {
  for (size_t i = 1; i < piece.size(); ++i) {
    if (piece[i] == ' ') joins_space_[static_cast<uint8_t>(piece[i - 1])] = true;
  }
}

size_t SentencePieceBpe::WordEnd(std::string_view text, size_t from) const {
  size_t at = text.find(' ', from + 1);
  while (at != std::string_view::npos && joins_space_[static_cast<uint8_t>(text[at - 1])])
    at = text.find(' ', at + 1);
  return at == std::string_view::npos ? text.size() : at;
}

Status SentencePieceBpe::FillByteTokens() {
  byte_tokens_.fill(-1);
  for (size_t i = 0; i < spec_.tokens.size(); ++i) {
    if (spec_.kinds[i] != TokenKind::kByte) continue;
    byte_tokens_[static_cast<size_t>(ByteOf(spec_.tokens[i]))] = static_cast<Token>(i);
  }
  const auto missing = std::find(byte_tokens_.begin(), byte_tokens_.end(), -1);
  if (missing == byte_tokens_.end()) return Status();
  const bool none = std::all_of(byte_tokens_.begin(), byte_tokens_.end(), [](Token id) { return id < 0; });
  if (none && spec_.unk >= 0) return Status();
  return Error(Code::kCorruptFile, "tokenizer: no token stands for the byte 0x%02x%s",
               static_cast<unsigned>(missing - byte_tokens_.begin()),
               none ? ", and there is no unknown token either" : ", but others have one");
}

std::string SentencePieceBpe::PieceBytes(std::string_view token_text) const { return WithSpaces(token_text); }

void SentencePieceBpe::EncodePlain(std::string_view text, Scratch* scratch, std::vector<Token>* out) const {
  std::string normalized;
  if (spec_.add_space_prefix || text.find(kSpaceMark) != std::string_view::npos) {
    if (spec_.add_space_prefix) normalized = " ";
    normalized += WithSpaces(text);
    text = normalized;
  }
  size_t done = 0;
  for (SpecialMatcher::Match match; user_defined_.Find(text, done, &match); done = match.end) {
    EncodeMergeable(text.substr(done, match.begin - done), scratch, out);
    out->push_back(match.token);
  }
  EncodeMergeable(text.substr(done), scratch, out);
}

void SentencePieceBpe::EncodeMergeable(std::string_view text, Scratch* scratch,
                                       std::vector<Token>* out) const {
  scratch->last_was_unknown = false;
  for (size_t at = 0; at < text.size();) {
    const size_t end = WordEnd(text, at);
    EncodeWord(text.substr(at, end - at), scratch, out);
    at = end;
  }
}

Merge SentencePieceBpe::FindMerge(std::string_view joined) const {
  if (joined.size() > piece_bytes_max_) return {};
  const Token product = pieces_.Find(joined);
  return product < 0 ? Merge{} : Merge{ranks_[Index(product)], product};
}

void SentencePieceBpe::EncodeWord(std::string_view word, Scratch* scratch, std::vector<Token>* out) const {
  const Token whole = word.size() <= piece_bytes_max_ ? pieces_.Find(word) : -1;
  if (whole >= 0 && wholeness(whole) == Wholeness::kWhole) {
    scratch->last_was_unknown = false;
    out->push_back(whole);
    return;
  }
  std::vector<Symbol>& symbols = scratch->merger.symbols;
  symbols.clear();
  for (size_t at = 0; at < word.size(); at += Utf8Length(static_cast<uint8_t>(word[at]))) {
    symbols.push_back({-1, static_cast<uint32_t>(at)});
  }
  scratch->splits.clear();
  scratch->merger.Run(static_cast<uint32_t>(word.size()),
                      [&](const Symbol& left, const Symbol& right, uint32_t end) {
                        const Merge merge = FindMerge(word.substr(left.begin, end - left.begin));
                        if (has_unused_ && merge.product >= 0 && IsUnused(merge.product)) {
                          scratch->splits.emplace_back(merge.product, right.begin - left.begin);
                        }
                        return merge;
                      });
  const size_t emitted = out->size();
  for (size_t i = 0; i < symbols.size(); ++i) {
    const size_t end = i + 1 < symbols.size() ? symbols[i + 1].begin : word.size();
    EmitSymbol(symbols[i].id, word.substr(symbols[i].begin, end - symbols[i].begin), scratch, out);
  }
  if (whole >= 0) set_wholeness(whole, out->size() == emitted + 1 && out->back() == whole);
}

void SentencePieceBpe::EmitSymbol(Token id, std::string_view bytes, Scratch* scratch,
                                  std::vector<Token>* out) const {
  if (id < 0) id = pieces_.Find(bytes);
  if (id >= 0 && has_unused_ && IsUnused(id)) {
    // Unused pieces take part in merging, but fall apart at the end into what they were merged from, or are
    // unknown when they are single characters.
    const auto split = std::find_if(scratch->splits.rbegin(), scratch->splits.rend(),
                                    [id](const auto& entry) { return entry.first == id; });
    if (split != scratch->splits.rend()) {
      const size_t left = split->second;
      EmitSymbol(-1, bytes.substr(0, left), scratch, out);
      EmitSymbol(-1, bytes.substr(left), scratch, out);
      return;
    }
    id = -1;
  }
  const bool unknown = id < 0 && byte_tokens_[0] < 0;
  if (id >= 0) {
    out->push_back(id);
  } else if (!unknown) {
    for (const char byte : bytes) out->push_back(byte_tokens_[static_cast<uint8_t>(byte)]);
  } else if (!scratch->last_was_unknown) {
    out->push_back(spec_.unk);  // one for a whole run
  }
  scratch->last_was_unknown = unknown;
}

}  // namespace tokenmill
