#include "engine/prompt_lookup.h"

#include "engine/random.h"
#include "harness.h"

using namespace tokenmill;

namespace {

using Tokens = std::vector<Token>;

Tokens Guess(PromptLookup* lookup, const Tokens& tokens, size_t most) {
  Tokens guess;
  lookup->Guess(tokens, most, &guess);
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
  for (size_t i = 0; longest > 0 && i < most; ++i)
    guess.push_back(tokens[best + i % (tokens.size() - best)]);
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

TEST(GuessesMoreWhileTheyComeTrue) {
  GuessLength length;
  int last = length.Next();
  for (int step = 0; step < 5; ++step) {
    length.Note(last, last);
    const int next = length.Next();
    EXPECT(next > last || next == GuessLength::kMost);
    last = next;
  }
  EXPECT_EQ(last, GuessLength::kMost);
  length.Note(last, 4);
  EXPECT_EQ(length.Next(), 5);
}

TEST(GuessesEverLessOftenWhereNoneComesTrue) {
  GuessLength length;
  int rows = 0;
  constexpr int kSteps = 1000;
  for (int step = 0; step < kSteps; ++step) {
    const int guessed = length.Next();
    rows += guessed;
    length.Note(guessed, 0);
  }
  EXPECT(rows >= kSteps / 64 - 2);  // it goes on trying
  EXPECT(rows <= kSteps / 64 + 10);
  while (length.Next() == 0) {
  }
  length.Note(1, 1);
  EXPECT(length.Next() > 0);  // one that comes true ends the pauses
}

HARNESS_MAIN()
