#include "tokenizer/byte_level_bpe.h"

#include "io/text.h"
#include "tokenizer/nfc.h"
#include "tokenizer/utf8.h"

namespace tokenmill {
namespace {

// GPT-2's alphabet writes each byte as one printable character: itself where Latin-1 has something visible,
// the others in order from U+0100 on.
constexpr uint32_t kAlphabetEnd = 0x144;

constexpr bool IsVisible(uint32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

/// The byte that each character of the alphabet stands for; -1 for other characters below kAlphabetEnd.
constexpr std::array<int16_t, kAlphabetEnd> MakeAlphabet() {
  std::array<int16_t, kAlphabetEnd> bytes{};
  for (int16_t& byte : bytes) byte = -1;
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte)
    bytes[IsVisible(byte) ? byte : next++] = static_cast<int16_t>(byte);
  return bytes;
}

constexpr std::array<int16_t, kAlphabetEnd> kAlphabet = MakeAlphabet();

/// The bytes of a stored token; false when it has characters outside the alphabet.
bool FromAlphabet(std::string_view text, std::string* bytes) {
  bytes->clear();
  while (!text.empty()) {
    const Utf8Unit unit = NextUtf8(text);
    if (unit.kind != Utf8Unit::Kind::kCharacter) return false;
    const uint32_t character = DecodeUtf8(text.data(), unit.length);
    if (character >= kAlphabetEnd || kAlphabet[character] < 0) return false;
    bytes->push_back(static_cast<char>(kAlphabet[character]));
    text.remove_prefix(unit.length);
  }
  return true;
}

}  // namespace

/// Hands the pieces of the pre-tokenizer on.
class ByteLevelBpe::Sink final : public PieceSink {
 public:
  Sink(const ByteLevelBpe* bpe, Scratch* scratch, std::vector<Token>* out)
      : bpe_(bpe), scratch_(scratch), out_(out) {}
  void OnPiece(std::string_view piece) override { bpe_->EncodePiece(piece, scratch_, out_); }

 private:
  const ByteLevelBpe* bpe_;
  Scratch* scratch_;
  std::vector<Token>* out_;
};

Result<std::shared_ptr<const Tokenizer>> ByteLevelBpe::Create(TokenizerSpec spec) {
  const auto bpe = std::make_shared<ByteLevelBpe>();
  bpe->pre_tokenizer_ = FindPreTokenizer(spec.pre);
  if (bpe->pre_tokenizer_ == nullptr) {
    return Error(Code::kUnsupportedModel, "tokenizer: unknown pre-tokenizer %s; known are %s",
                 Quoted(spec.pre).c_str(), PreTokenizerNames().c_str());
  }
  const std::vector<std::pair<std::string, std::string>> merges = std::move(spec.merges);
  spec.merges.clear();
  TM_RETURN_IF_ERROR(bpe->Adopt(std::move(spec)));
  TM_RETURN_IF_ERROR(bpe->FillTokens());
  TM_RETURN_IF_ERROR(bpe->FillByteTokens());
  TM_RETURN_IF_ERROR(bpe->FillMerges(merges));
  TM_ASSIGN_OR_RETURN(bpe->user_defined_, bpe->BuildMatcher({TokenKind::kUserDefined}));
  TM_ASSIGN_OR_RETURN(bpe->all_special_,
                      bpe->BuildMatcher({TokenKind::kUserDefined, TokenKind::kControl, TokenKind::kUnknown}));
  return std::shared_ptr<const Tokenizer>(bpe);
}

Status ByteLevelBpe::FillTokens() {
  std::vector<bool> is_piece(spec_.tokens.size());
  std::string bytes;
  for (size_t i = 0; i < spec_.tokens.size(); ++i) {
    const TokenKind kind = spec_.kinds[i];
    const bool coded =
        (kind == TokenKind::kNormal || kind == TokenKind::kUnused) && FromAlphabet(spec_.tokens[i], &bytes);
    arena_.Append(coded ? bytes : spec_.tokens[i]);
    is_piece[i] = coded && kind == TokenKind::kNormal;
  }
  return IndexTokens(is_piece);
}

Status ByteLevelBpe::FillByteTokens() {
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    byte_tokens_[static_cast<size_t>(byte)] = pieces_.Find({&c, 1});
    // Vocabularies leave rare bytes out, but none can do without those of plain text.
    const bool needed = (byte >= 0x20 && byte < 0x7F) || byte == '\n';
    if (needed && byte_tokens_[static_cast<size_t>(byte)] < 0) {
      return Error(Code::kCorruptFile,
                   "tokenizer: no token stands for the byte 0x%02x; byte-level BPE needs one",
                   static_cast<unsigned>(byte));
    }
  }
  return Status();
}

Status ByteLevelBpe::FillMerges(const std::vector<std::pair<std::string, std::string>>& merges) {
  if (merges.size() >= Merge::kNone) {
    return Error(Code::kCorruptFile, "tokenizer: %zu merges are too many", merges.size());
  }
  merges_.Reset(merges.size());
  std::string joined;
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [left_text, right_text] = merges[rank];
    const Token left = Find(left_text);
    const Token right = Find(right_text);
    if (left < 0 || right < 0) {
      return Error(Code::kCorruptFile,
                   "tokenizer: merge %zu joins %s and %s, but %s is not in the vocabulary", rank,
                   Quoted(left_text).c_str(), Quoted(right_text).c_str(),
                   Quoted(left < 0 ? left_text : right_text).c_str());
    }
    joined.assign(arena_[left]);
    joined.append(arena_[right]);
    // A product that the vocabulary lacks could only fall apart again.
    const Token product = pieces_.Find(joined);
    if (product >= 0) merges_.Insert(left, right, {static_cast<uint32_t>(rank), product});
  }
  return Status();
}

std::string ByteLevelBpe::PieceBytes(std::string_view token_text) const {
  std::string bytes;
  FromAlphabet(token_text, &bytes);
  return bytes;
}

void ByteLevelBpe::EncodePlain(std::string_view text, Scratch* scratch, std::vector<Token>* out) const {
  Sink sink(this, scratch, out);
  if (spec_.nfc && !IsPlainNfc(text)) {
    pre_tokenizer_->Split(ToNfc(text), &sink);
  } else {
    pre_tokenizer_->Split(text, &sink);
  }
}

void ByteLevelBpe::EncodePiece(std::string_view piece, Scratch* scratch, std::vector<Token>* out) const {
  Token whole = -1;
  if (piece.size() <= piece_bytes_max_) {
    whole = pieces_.Find(piece);
    if (whole >= 0 && (spec_.ignore_merges || wholeness(whole) == Wholeness::kWhole)) {
      out->push_back(whole);
      return;
    }
  }
  std::vector<Symbol>& symbols = scratch->merger.symbols;
  symbols.clear();
  for (size_t i = 0; i < piece.size(); ++i) {
    const Token id = byte_tokens_[static_cast<uint8_t>(piece[i])];
    if (id >= 0) symbols.push_back({id, static_cast<uint32_t>(i)});
  }
  scratch->merger.Run(
      static_cast<uint32_t>(piece.size()),
      [this](const Symbol& left, const Symbol& right, uint32_t) { return merges_.Find(left.id, right.id); });
  if (whole >= 0) set_wholeness(whole, symbols.size() == 1 && symbols[0].id == whole);
  for (const Symbol& symbol : symbols) out->push_back(symbol.id);
}

}  // namespace tokenmill
