#include "engine/prompt_lookup.h"

#include <algorithm>
#include <iterator>
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

PromptLookup::Match PromptLookup::Find(std::span<const Token> tokens) {
  Index(tokens);
  const size_t end = tokens.size();
  Match best;
  if (end <= kGram) return best;
  const auto found = latest_.find(GramBefore(tokens, end));
  uint32_t at = found == latest_.end() ? 0 : found->second;
  for (int tried = 0; at != 0 && tried < kMatchesTried; ++tried, at = earlier_[at]) {
    const size_t length = MatchBefore(tokens, at, end);
    if (length >= kGram && length > best.length) best = {at, length};
  }
  return best;
}

// A match that runs into the end means that the sequence repeats itself with that period.
void PromptLookup::Guess(std::span<const Token> tokens, const Match& match, size_t count,
                         std::vector<Token>* out) {
  const size_t period = tokens.size() - match.end;
  for (size_t i = 0; i < count; ++i) out->push_back(tokens[match.end + i % period]);
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
