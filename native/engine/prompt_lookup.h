#pragma once

#include <algorithm>
#include <array>
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

/// How likely guesses are to come true, by how long the match is that they follow, learnt from those before: what tells
/// how many of them are worth the rows that they take. Belongs to one sequence; what it has learnt fades.
class GuessOdds {
 public:
  /// What a row more costs, as a part of a step of one row. Measured: 0.25 with AVX2, less with AVX-512 VNNI.
  static constexpr double kRowCost = 0.25;
  /// Part of what was learnt that a step leaves.
  static constexpr double kFading = 0.99;

  /// Guesses behind a match of so many tokens: as many as will each be needed with a chance of kRowCost at least.
  size_t Worth(size_t match, size_t most) const;
  /// `right` of the tokens guessed behind a match came true, and the next one did not.
  void Note(size_t match, size_t guessed, size_t right);
  /// A step has passed.
  void Fade();

 private:
  static constexpr size_t kClasses = 5;  // of lengths of matches
  struct Odds {
    double right = 0, wrong = 0;
  };

  static size_t ClassOf(size_t match);
  double Chance(size_t match) const;

  std::array<Odds, kClasses> odds_ = {};
};

}  // namespace tokenmill
