#include "tokenizer/tokenizer.h"

#include <algorithm>

#include "tokenizer/byte_level_bpe.h"
#include "tokenizer/sentencepiece_bpe.h"
#include "tokenizer/utf8.h"

namespace tokenmill {

Result<std::shared_ptr<const Tokenizer>> Tokenizer::Create(TokenizerSpec spec) {
  return spec.model == TokenizerSpec::Model::kByteLevelBpe ? ByteLevelBpe::Create(std::move(spec))
                                                           : SentencePieceBpe::Create(std::move(spec));
}

bool Tokenizer::IsEndOfGeneration(Token token) const {
  const std::vector<Token>& ends = spec_.end_of_generation;
  return std::find(ends.begin(), ends.end(), token) != ends.end();
}

std::string StreamDecoder::Push(Token token) {
  std::string_view bytes = tokenizer_->Bytes(token);
  if (bytes.empty()) return {};
  const TokenizerSpec& spec = tokenizer_->spec();
  const bool strips = spec.model == TokenizerSpec::Model::kSentencePieceBpe && spec.add_space_prefix;
  if (first_ && strips && bytes[0] == ' ') bytes.remove_prefix(1);
  first_ = false;
  pending_.append(bytes);

  // Everything but an incomplete character at the end is final.
  size_t final = pending_.size() - std::min<size_t>(pending_.size(), 3);
  for (; final < pending_.size(); ++final) {
    const std::string_view tail = std::string_view(pending_).substr(final);
    if (NextUtf8(tail).kind == Utf8Unit::Kind::kIncomplete) break;
  }
  std::string text = ToValidUtf8(std::string_view(pending_).substr(0, final));
  pending_.erase(0, final);
  return text;
}

std::string StreamDecoder::Finish() {
  std::string text = ToValidUtf8(pending_);
  pending_.clear();
  return text;
}

}  // namespace tokenmill
