#pragma once

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

  struct Match {
    size_t end = 0;  // position behind the earlier one
    size_t length = 0;  // tokens that are the same, 0 or kGram and more; not counted beyond 32
  };

  /// The longest earlier match of the end of `tokens`, the latest of equally long ones. `tokens` only ever grow from
  /// call to call.
  Match Find(std::span<const Token> tokens);
  /// Appends the `count` tokens that followed a match, going round where it runs into the end.
  static void Guess(std::span<const Token> tokens, const Match& match, size_t count, std::vector<Token>* out);

 private:
  void Index(std::span<const Token> tokens);

  std::unordered_map<uint64_t, uint32_t> latest_;  // by hash of a gram: the latest position behind it
  std::vector<uint32_t> earlier_;  // by position: the one before it in its chain, 0 at the end
};

}  // namespace tokenmill
