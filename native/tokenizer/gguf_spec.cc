#include <algorithm>
#include <climits>
#include <string>
#include <string_view>
#include <unordered_set>

#include "io/text.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/tokenizer.h"

namespace tokenmill {
namespace {

constexpr char kTokens[] = "tokenizer.ggml.tokens";
constexpr char kTokenTypes[] = "tokenizer.ggml.token_type";
constexpr char kMerges[] = "tokenizer.ggml.merges";

// Texts of tokens that end a reply, whatever the file's ids say. Chat models often name only one of theirs.
constexpr std::string_view kEndTexts[] = {
    "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>",       "<|endoftext|>", "<|end|>",
    "<|eot|>",    "<|return|>", "<|call|>",   "<|end_of_turn|>",       "<end_of_turn>", "<end_of_utterance>",
    "<eos>",      "</s>",       "<EOT>",      "<｜end▁of▁sentence｜>",
};

/// An optional token id: `fallback` when the file has none.
Result<Token> ReadId(const GgufFile& file, const char* key, size_t tokens, Token fallback) {
  if (file.Find(key) == nullptr)
    return fallback >= 0 && static_cast<size_t>(fallback) < tokens ? fallback : -1;
  TM_ASSIGN_OR_RETURN(const uint64_t id, file.GetUint(key));
  if (id >= tokens || id > INT_MAX) {
    return Error(Code::kCorruptFile, "%s: token id out of range: %llu of %zu tokens", key,
                 static_cast<unsigned long long>(id), tokens);
  }
  return static_cast<Token>(id);
}

bool IsEndText(std::string_view text) {
  return std::find(std::begin(kEndTexts), std::end(kEndTexts), text) != std::end(kEndTexts);
}

/// Whether a token's text is one that only control tokens have. Some files call such tokens user-defined,
/// which would let a caller's text spell them.
bool IsControlText(std::string_view text) {
  const auto between = [text](std::string_view begin, std::string_view end) {
    return text.size() > begin.size() + end.size() && text.substr(0, begin.size()) == begin &&
           text.substr(text.size() - end.size()) == end;
  };
  if (between("<|", "|>") || between("<｜", "｜>") || text == "<start_of_turn>") return true;
  return IsEndText(text) && text != "</s>";  // Gemma's vocabularies have HTML's tags, which users mean
}

/// Makes a token that begins or ends a sequence a control token, so that a caller's text cannot spell it. One
/// of a single character stays what it is: texts need it.
void MakeControl(Token id, TokenizerSpec* spec) {
  if (id < 0) return;
  const std::string& text = spec->tokens[static_cast<size_t>(id)];
  const auto is_first_byte = [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; };
  TokenKind& kind = spec->kinds[static_cast<size_t>(id)];
  if (kind != TokenKind::kNormal && kind != TokenKind::kUserDefined) return;
  if (std::count_if(text.begin(), text.end(), is_first_byte) > 1) kind = TokenKind::kControl;
}

Status ReadKinds(const GgufFile& file, TokenizerSpec* spec) {
  if (file.Find(kTokenTypes) == nullptr) {
    spec->kinds.assign(spec->tokens.size(), TokenKind::kNormal);
    return Status();
  }
  TM_ASSIGN_OR_RETURN(const GgufValue::Integers* types, file.GetIntegers(kTokenTypes));
  if (types->size() != spec->tokens.size()) {
    return Error(Code::kCorruptFile, "%s has %zu entries for %zu tokens", kTokenTypes, types->size(),
                 spec->tokens.size());
  }
  spec->kinds.reserve(types->size());
  for (size_t i = 0; i < types->size(); ++i) {
    const int64_t type = (*types)[i];
    if (type < 0 || type > 6) {
      return Error(Code::kCorruptFile, "%s: token %zu has type %lld; types go from 0 to 6", kTokenTypes, i,
                   static_cast<long long>(type));
    }
    TokenKind kind = type == 0 ? TokenKind::kNormal : static_cast<TokenKind>(type);  // 0: not told
    if (kind == TokenKind::kUserDefined && IsControlText(spec->tokens[i])) kind = TokenKind::kControl;
    spec->kinds.push_back(kind);
  }
  return Status();
}

/// Splits "a b" at its space. A part may hold spaces itself: then the split counts that leaves two known
/// tokens.
Result<std::pair<std::string, std::string>> SplitMerge(const std::string& text, size_t rank,
                                                       const std::vector<std::string>& tokens,
                                                       std::unordered_set<std::string_view>* known) {
  const size_t first = text.find(' ', 1);
  if (first == std::string::npos || first + 1 == text.size()) {
    return Error(Code::kCorruptFile, "%s: entry %zu is not two tokens with a space between", kMerges, rank);
  }
  if (text.find(' ', first + 1) != std::string::npos) {
    if (known->empty()) known->insert(tokens.begin(), tokens.end());
    const std::string_view view = text;
    for (size_t at = first; at != std::string::npos; at = text.find(' ', at + 1)) {
      if (known->count(view.substr(0, at)) && known->count(view.substr(at + 1))) {
        return std::pair(text.substr(0, at), text.substr(at + 1));
      }
    }
  }
  return std::pair(text.substr(0, first), text.substr(first + 1));
}

Status ReadByteLevelBpe(const GgufFile& file, TokenizerSpec* spec) {
  TM_ASSIGN_OR_RETURN(spec->pre, file.GetString("tokenizer.ggml.pre", "default"));
  const PreTokenizer* pre = FindPreTokenizer(spec->pre);
  if (pre == nullptr) {
    return Error(Code::kUnsupportedModel, "tokenizer.ggml.pre names the pre-tokenizer %s; known are %s",
                 Quoted(spec->pre).c_str(), PreTokenizerNames().c_str());
  }
  spec->nfc = pre->Has(PreTokenizer::kNfc);
  spec->ignore_merges = pre->Has(PreTokenizer::kIgnoreMerges);
  TM_ASSIGN_OR_RETURN(spec->add_bos,
                      file.GetBool("tokenizer.ggml.add_bos_token", pre->Has(PreTokenizer::kAddBos)));
  TM_ASSIGN_OR_RETURN(const GgufValue::Strings* merges, file.GetStrings(kMerges));
  std::unordered_set<std::string_view> known;
  spec->merges.reserve(merges->size());
  for (size_t rank = 0; rank < merges->size(); ++rank) {
    TM_ASSIGN_OR_RETURN(auto parts, SplitMerge((*merges)[rank], rank, spec->tokens, &known));
    spec->merges.push_back(std::move(parts));
  }
  return Status();
}

Status ReadSentencePiece(const GgufFile& file, TokenizerSpec* spec) {
  spec->pre.clear();
  TM_ASSIGN_OR_RETURN(spec->add_bos, file.GetBool("tokenizer.ggml.add_bos_token", true));
  TM_ASSIGN_OR_RETURN(spec->add_space_prefix, file.GetBool("tokenizer.ggml.add_space_prefix", true));
  TM_ASSIGN_OR_RETURN(const GgufValue::Floats* scores, file.GetFloats("tokenizer.ggml.scores"));
  spec->scores = *scores;
  return Status();
}

Status ReadSpecialIds(const GgufFile& file, TokenizerSpec* spec) {
  const size_t count = spec->tokens.size();
  // SentencePiece files that name no special tokens follow its own defaults.
  const bool sentencepiece = spec->model == TokenizerSpec::Model::kSentencePieceBpe;
  TM_ASSIGN_OR_RETURN(spec->bos, ReadId(file, "tokenizer.ggml.bos_token_id", count, sentencepiece ? 1 : -1));
  TM_ASSIGN_OR_RETURN(spec->eos, ReadId(file, "tokenizer.ggml.eos_token_id", count, sentencepiece ? 2 : -1));
  TM_ASSIGN_OR_RETURN(spec->unk,
                      ReadId(file, "tokenizer.ggml.unknown_token_id", count, sentencepiece ? 0 : -1));
  TM_ASSIGN_OR_RETURN(spec->pad, ReadId(file, "tokenizer.ggml.padding_token_id", count, -1));
  TM_ASSIGN_OR_RETURN(const Token eot, ReadId(file, "tokenizer.ggml.eot_token_id", count, -1));
  TM_ASSIGN_OR_RETURN(const Token eom, ReadId(file, "tokenizer.ggml.eom_token_id", count, -1));
  for (const Token id : {spec->eos, eot, eom}) {
    if (id >= 0) spec->end_of_generation.push_back(id);
  }
  for (const Token id : {spec->bos, spec->eos, eot, eom}) MakeControl(id, spec);
  return Status();
}

/// Adds the tokens that end a reply by their texts.
void AddEndsByText(TokenizerSpec* spec) {
  std::vector<Token>& ends = spec->end_of_generation;
  Token end = -1, channel_return = -1, call = -1;
  for (size_t i = 0; i < spec->kinds.size(); ++i) {
    const std::string& text = spec->tokens[i];
    // A plain text such as "</s>" may be markup that the user means, unless it is a control token.
    if (!IsEndText(text) || spec->kinds[i] != TokenKind::kControl) continue;
    const Token id = static_cast<Token>(i);
    ends.push_back(id);
    if (text == "<|end|>") end = id;
    if (text == "<|return|>") channel_return = id;
    if (text == "<|call|>") call = id;
  }
  // Where both of these exist, <|end|> only closes one of several messages of a reply.
  if (channel_return >= 0 && call >= 0 && end != spec->eos) std::erase(ends, end);
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
}

}  // namespace

Result<TokenizerSpec> ReadTokenizerSpec(const GgufFile& file) {
  TokenizerSpec spec;
  TM_ASSIGN_OR_RETURN(const std::string model, file.GetString("tokenizer.ggml.model"));
  if (model == "gpt2") {
    spec.model = TokenizerSpec::Model::kByteLevelBpe;
  } else if (model == "llama") {
    spec.model = TokenizerSpec::Model::kSentencePieceBpe;
  } else {
    return Error(
        Code::kUnsupportedModel,
        "tokenizer.ggml.model is %s; supported are gpt2 (byte-level BPE) and llama (SentencePiece BPE)",
        Quoted(model).c_str());
  }
  TM_ASSIGN_OR_RETURN(const GgufValue::Strings* tokens, file.GetStrings(kTokens));
  spec.tokens = *tokens;
  TM_RETURN_IF_ERROR(ReadKinds(file, &spec));
  TM_RETURN_IF_ERROR(spec.model == TokenizerSpec::Model::kByteLevelBpe ? ReadByteLevelBpe(file, &spec)
                                                                       : ReadSentencePiece(file, &spec));
  TM_ASSIGN_OR_RETURN(spec.add_eos, file.GetBool("tokenizer.ggml.add_eos_token", false));
  TM_RETURN_IF_ERROR(ReadSpecialIds(file, &spec));
  AddEndsByText(&spec);
  return spec;
}

}  // namespace tokenmill
