#include "engine/prompt_lookup.h"

#include <algorithm>
#include <utility>

#include "core/hash64.h"

namespace tokenmill {
namespace {

constexpr int kMatchesTried = 32;  // of a chain
constexpr size_t kMatchMost = 32;  // tokens compared

uint64_t GramBefore(std::span<const Token> tokens, size_t position) {
  const auto gram = tokens.subspan(position - PromptLookup::kGram, PromptLookup::kGram);
  return Hash64(gram.data(), gram.size_bytes());
}

// Tokens before `a` and before `b`, which is later, that are the same.
size_t MatchBefore(std::span<const Token> tokens, size_t a, size_t b) {
  const size_t most = std::min(a, kMatchMost);
  size_t length = 0;
  while (length < most && tokens[a - 1 - length] == tokens[b - 1 - length]) ++length;
  return length;
}

}  // namespace

void PromptLookup::Guess(std::span<const Token> tokens, size_t most, std::vector<Token>* out) {
  Index(tokens);
  const size_t end = tokens.size();
  if (end <= kGram || most == 0) return;
  const auto found = latest_.find(GramBefore(tokens, end));
  size_t best = 0, longest = kGram - 1;
  uint32_t at = found == latest_.end() ? 0 : found->second;
  for (int tried = 0; at != 0 && tried < kMatchesTried; ++tried, at = earlier_[at]) {
    const size_t length = MatchBefore(tokens, at, end);
    if (length <= longest) continue;
    longest = length;
    best = at;
  }
  if (best == 0) return;
  // What runs into the end of the tokens goes round: the sequence repeats itself with that period.
  const size_t period = end - best;
  for (size_t i = 0; i < most; ++i) out->push_back(tokens[best + i % period]);
}

// Chains all positions but the end itself.
void PromptLookup::Index(std::span<const Token> tokens) {
  const size_t indexed = earlier_.size();
  if (tokens.size() <= indexed) return;
  earlier_.resize(tokens.size());
  for (size_t position = std::max(indexed, kGram); position < tokens.size(); ++position) {
    uint32_t& latest = latest_[GramBefore(tokens, position)];
    earlier_[position] = std::exchange(latest, static_cast<uint32_t>(position));
  }
}

}  // namespace tokenmill
