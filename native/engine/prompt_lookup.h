#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace tokenmill {

/// Guesses how a sequence goes on from what followed the same tokens earlier in it (prompt lookup decoding, A. Saxena,
/// 2023): where a reply quotes its prompt or itself, the guess is right for many tokens. Positions that follow the
/// same kGram tokens are chained, the latest first, as matches are in LZ77.
class PromptLookup {
 public:
  static constexpr size_t kGram = 3;

  /// Appends to `out` at most `most` tokens that followed the longest earlier match of the end of `tokens`, the
  /// latest of equally long ones; none when less than kGram tokens match. `tokens` only ever grow from call to call.
  void Guess(std::span<const Token> tokens, size_t most, std::vector<Token>* out);

 private:
  void Index(std::span<const Token> tokens);

  std::unordered_map<uint64_t, uint32_t> latest_;  // by hash of a gram: the latest position behind it
  std::vector<uint32_t> earlier_;  // by position: the one before it in its chain, 0 at the end
};

/// How many tokens to guess for a sequence: more while guesses come true, fewer and fewer where they do not. A row
/// that is computed in vain costs time, so after guesses that were all wrong the sequence is left alone for a while,
/// each time for twice as long.
class GuessLength {
 public:
  static constexpr int kMost = 15;

  /// For the next step; called once a step.
  int Next() {
    if (pause_ > 0) --pause_;
    return pause_ > 0 ? 0 : length_;
  }

  /// So many of the guessed tokens came true.
  void Note(int guessed, int right) {
    if (guessed == 0) return;
    if (right == 0) {
      ++misses_;
      pause_ = 1 << std::min(misses_, kMissesMost);
      length_ = 1;
      return;
    }
    misses_ = 0;
    length_ = right == guessed ? std::min(kMost, 2 * std::max(length_, guessed)) : right + 1;
  }

 private:
  static constexpr int kMissesMost = 6;

  int length_ = 3;
  int misses_ = 0;
  int pause_ = 0;  // steps until the next guess
};

}  // namespace tokenmill
