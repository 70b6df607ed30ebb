#include "engine/guess_odds.h"

#include <algorithm>
#include <iterator>

namespace tokenmill {
namespace {

// Before anything is known, as if two guesses had been made with each evidence.
constexpr double kAtFirst[] = {0.5, 0.6, 0.7, 0.8, 0.9};
constexpr double kWeight = 2;

template <class Value, size_t kCount>
GuessOdds::Evidence DegreeOf(const Value (&bounds)[kCount], Value value) {
  return static_cast<GuessOdds::Evidence>(std::upper_bound(std::begin(bounds), std::end(bounds), value) -
                                          bounds);
}

}  // namespace

GuessOdds::Evidence GuessOdds::OfMatch(size_t length) {
  constexpr size_t kBounds[kDegrees - 1] = {4, 6, 9, 15};
  return DegreeOf(kBounds, length);
}

GuessOdds::Evidence GuessOdds::OfProbability(double probability) {
  constexpr double kBounds[kDegrees - 1] = {0.3, 0.5, 0.7, 0.9};
  return DegreeOf(kBounds, probability);
}

double GuessOdds::Chance(Evidence evidence) const {
  const Odds& odds = odds_[evidence];
  return (kWeight * kAtFirst[evidence] + odds.right) / (kWeight + odds.right + odds.wrong);
}

double GuessOdds::Chance() const {
  double right = kWeight * kAtFirst[kDegrees / 2], all = kWeight;
  for (const Odds& odds : odds_) {
    right += odds.right;
    all += odds.right + odds.wrong;
  }
  return right / all;
}

size_t GuessOdds::Worth(size_t match, size_t most) const {
  double needed = 1;  // the chance that all up to here come true
  size_t count = 0;
  while (count < most && (needed *= Chance(OfMatch(match + count))) >= kRowCost) ++count;
  return count;
}

void GuessOdds::Note(std::span<const Evidence> guesses, size_t right) {
  for (size_t i = 0; i < right; ++i) odds_[guesses[i]].right += 1;
  if (right < guesses.size()) odds_[guesses[right]].wrong += 1;
}

void GuessOdds::Fade() {
  for (Odds& odds : odds_) {
    odds.right *= kFading;
    odds.wrong *= kFading;
  }
}

}  // namespace tokenmill
