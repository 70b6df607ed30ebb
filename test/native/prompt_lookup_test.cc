#include "engine/prompt_lookup.h"

#include "engine/guess_odds.h"

#include <cmath>

#include "engine/random.h"
#include "harness.h"

using namespace tokenmill;

namespace {

using Tokens = std::vector<Token>;

Tokens Guess(PromptLookup* lookup, const Tokens& tokens, size_t most) {
  Tokens guess;
  const PromptLookup::Match match = lookup->Find(tokens);
  if (match.length > 0) PromptLookup::Guess(tokens, match, most, &guess);
  return guess;
}

Tokens Guess(const Tokens& tokens, size_t most) {
  PromptLookup lookup;
  return Guess(&lookup, tokens, most);
}

Tokens RandomTokens(uint64_t seed, size_t count, int vocabulary) {
  Tokens tokens;
  for (size_t i = 0; i < count; ++i) tokens.push_back(static_cast<Token>(UniformAt(seed, i) * vocabulary));
  return tokens;
}

// By trying every position: the latest of those with the longest match, which counts up to 32 tokens.
Tokens GuessByDefinition(const Tokens& tokens, size_t most) {
  size_t best = 0, longest = 0;
  for (size_t at = tokens.size() - 1; at >= 3; --at) {
    size_t length = 0;
    while (length < std::min<size_t>(at, 32) && tokens[at - 1 - length] == tokens[tokens.size() - 1 - length])
      ++length;
    if (length >= 3 && length > longest) {
      longest = length;
      best = at;
    }
  }
  Tokens guess;
  for (size_t i = 0; longest > 0 && i < most; ++i) guess.push_back(tokens[best + i % (tokens.size() - best)]);
  return guess;
}

}  // namespace

TEST(GuessesWhatFollowedTheLongestMatch) {
  // After 1 2 3 came 4 at first and 9 later, but the longer match 7 1 2 3 was followed by 4.
  EXPECT(Guess({7, 1, 2, 3, 4, 5, 6, 8, 1, 2, 3, 9, 7, 1, 2, 3}, 3) == (Tokens{4, 5, 6}));
  EXPECT(Guess({1, 2, 3, 4, 5, 8, 1, 2, 3, 9, 7, 1, 2, 3}, 2) == (Tokens{9, 7}));
}

TEST(GuessesNothingWithoutAMatch) {
  EXPECT(Guess({}, 4) == Tokens{});
  EXPECT(Guess({1, 2, 3}, 4) == Tokens{});
  EXPECT(Guess({1, 2, 3, 4, 5, 2, 3}, 4) == Tokens{});  // two tokens match
  EXPECT(Guess({1, 2, 3, 4, 1, 2, 3}, 0) == Tokens{});
}

TEST(GoesRoundWhereTokensRepeat) {
  EXPECT(Guess({5, 1, 2, 1, 2, 1, 2}, 5) == (Tokens{1, 2, 1, 2, 1}));
  EXPECT(Guess({9, 4, 4, 4, 4}, 3) == (Tokens{4, 4, 4}));
}

// Few enough matches that a chain is never cut off.
TEST(AgreesWithItsDefinitionHoweverTokensArrive) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const Tokens all = RandomTokens(seed, 120, 4);
    PromptLookup growing;
    for (size_t size = 1 + seed % 7; size <= all.size(); size += 1 + (size * seed) % 5) {
      const Tokens tokens(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(size));
      EXPECT(Guess(&growing, tokens, 6) == GuessByDefinition(tokens, 6));
    }
  }
}

namespace {

void Note(GuessOdds* odds, size_t match, size_t guessed, size_t right) {
  std::vector<GuessOdds::Evidence> evidence;
  for (size_t i = 0; i < guessed; ++i) evidence.push_back(GuessOdds::OfMatch(match + i));
  odds->Note(evidence, right);
}

}  // namespace

TEST(GuessesMoreWhileTheyComeTrue) {
  GuessOdds odds;
  size_t last = odds.Worth(3, 100);
  EXPECT(last > 0);
  for (int step = 0; step < 5; ++step) {
    Note(&odds, 3, last, last);
    const size_t next = odds.Worth(3, 100);
    EXPECT(next > last);
    last = next;
  }
  EXPECT_EQ(odds.Worth(3, 2), 2u);
  EXPECT(odds.Worth(12, 100) >= odds.Worth(3, 100));  // a longer match says more
}

// Among guesses that come true with one chance each, the length is that from which on a row is not worth its cost.
TEST(LearnsHowManyGuessesAreWorthTheirRows) {
  for (const double chance : {0.1, 0.4, 0.6, 0.8, 0.95}) {
    GuessOdds odds;
    size_t sum = 0, best = 0;
    for (double needed = chance; needed >= GuessOdds::kRowCost; needed *= chance) ++best;
    constexpr size_t kSteps = 4000;
    for (size_t step = 0; step < kSteps; ++step) {
      const size_t guessed = odds.Worth(3 + step % 20, 15);
      size_t right = 0;
      while (right < guessed && UniformAt(step, right) < chance) ++right;
      Note(&odds, 3 + step % 20, guessed, right);
      odds.Fade();
      sum += guessed;
    }
    const double mean = static_cast<double>(sum) / kSteps;
    EXPECT(std::abs(mean - static_cast<double>(std::min<size_t>(best, 15))) < 0.35 + 0.2 * mean);
  }
}

TEST(TriesAgainAfterAWhile) {
  GuessOdds odds;
  size_t rows = 0;
  constexpr size_t kSteps = 1000;
  for (size_t step = 0; step < kSteps; ++step) {
    const size_t guessed = odds.Worth(3, 15);
    Note(&odds, 3, guessed, 0);
    odds.Fade();
    rows += guessed;
  }
  EXPECT(rows > kSteps / 200);
  EXPECT(static_cast<double>(rows) * GuessOdds::kRowCost <
         0.02 * kSteps);  // what it costs where none comes true
}

HARNESS_MAIN()
