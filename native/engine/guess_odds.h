#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace tokenmill {

/// How likely guesses are to come true, by what speaks for them, learnt from those before: what tells how many of them
/// are worth the rows that they take. Belongs to one sequence; what it has learnt fades.
class GuessOdds {
 public:
  /// What a row more costs, as a part of a step of one row. Measured: 0.25 with AVX2, less with AVX-512 VNNI.
  static constexpr double kRowCost = 0.25;
  /// Part of what was learnt that a step leaves.
  static constexpr double kFading = 0.99;

  /// What speaks for a guess, in five degrees.
  using Evidence = uint8_t;
  /// It followed an earlier match of so many tokens...
  static Evidence OfMatch(size_t length);
  /// ...or has this probability in the eyes of a draft model.
  static Evidence OfProbability(double probability);

  /// Of one guess, should all before it come true.
  double Chance(Evidence evidence) const;
  /// The same whatever speaks for it.
  double Chance() const;
  /// Guesses behind a match of so many tokens: as many as will each be needed with a chance of kRowCost at least.
  size_t Worth(size_t match, size_t most) const;
  /// The first `right` of some guesses came true, and the next one, if there is one, did not.
  void Note(std::span<const Evidence> guesses, size_t right);
  /// A step has passed.
  void Fade();

 private:
  static constexpr size_t kDegrees = 5;
  struct Odds {
    double right = 0, wrong = 0;
  };

  std::array<Odds, kDegrees> odds_ = {};
};

}  // namespace tokenmill
