// Guesses how replies go on, and what comes of them.

#include <algorithm>

#include "engine/drafter.h"
#include "engine/scheduler.h"

namespace tokenmill {

// Adds guesses to decode rows, where these do not keep the machine busy and nobody waits for prefill. They take no
// pages from anyone.
void Scheduler::PlanGuesses(const std::vector<Sequence*>& decoding) {
  const auto waits = [](const SequencePtr& sequence) { return !sequence->paused() && !sequence->decoding(); };
  if (std::ranges::any_of(sequences_, waits)) return;
  int budget = std::min(limits_.max_rows, kGuessRows) - static_cast<int>(decoding.size());
  for (Sequence* sequence : decoding) {
    if (budget <= 0) return;
    if (sequence->planned == 0 || !sequence->request.prompt_lookup) continue;
    LookUp(sequence, std::min(budget, GuessesAtMost(*sequence)));
    budget -= ReserveGuesses(sequence);
  }
  for (size_t i = 0; i < decoding.size() && budget > 0; ++i) {
    Drafter* drafter = decoding[i]->request.drafter.get();
    const auto same = [&](const Sequence* other) { return other->request.drafter.get() == drafter; };
    if (drafter == nullptr || std::any_of(decoding.begin(), decoding.begin() + static_cast<long>(i), same))
      continue;
    budget -= WriteAhead(drafter, std::span(decoding).subspan(i), budget);
  }
}

void Scheduler::LookUp(Sequence* sequence, int most) {
  const PromptLookup::Match match = sequence->lookup.Find(sequence->tokens);
  if (match.length == 0) return;
  const size_t count = sequence->odds.Worth(match.length, static_cast<size_t>(most));
  PromptLookup::Guess(sequence->tokens, match, count, &sequence->guesses);
  for (size_t i = 0; i < count; ++i) sequence->evidence.push_back(GuessOdds::OfMatch(match.length + i));
}

// All that guess with one draft do so together. Returns their guesses.
int Scheduler::WriteAhead(Drafter* drafter, std::span<Sequence* const> decoding, int budget) {
  std::vector<Drafter::Wish> wishes;
  for (Sequence* sequence : decoding) {
    const int most = GuessesAtMost(*sequence);
    if (sequence->request.drafter.get() == drafter && sequence->planned > 0 && most > 0)
      wishes.push_back({sequence, static_cast<size_t>(most)});
  }
  drafter->Guess(wishes, static_cast<size_t>(budget));
  int guesses = 0;
  for (const Drafter::Wish& wish : wishes) guesses += ReserveGuesses(wish.sequence);
  return guesses;
}

// Returns the guesses that there are pages for.
int Scheduler::ReserveGuesses(Sequence* sequence) {
  const int computed = static_cast<int>(sequence->computed);
  const int guesses = static_cast<int>(sequence->guesses.size());
  if (guesses > 0 && sequence->table.Reserve(computed, computed + 1 + guesses)) return guesses;
  sequence->DropGuesses();
  return 0;
}

// So many tokens that the reply could go on by, besides the one that is drawn anyway.
int Scheduler::GuessesAtMost(const Sequence& sequence) const {
  const Request& request = sequence.request;
  int64_t most = std::min<int64_t>(kGuessRows, sequence.credits - 1);
  most = std::min(most, limits_.context_length - static_cast<int64_t>(sequence.tokens.size()) - 1);
  if (request.max_tokens >= 0)
    most = std::min(most, request.max_tokens - static_cast<int64_t>(sequence.replied()) - 1);
  return static_cast<int>(std::max<int64_t>(0, most));
}

// The first `right` of a sequence's guesses came true.
void Scheduler::LearnFrom(const std::vector<Token>& guesses, size_t right, Sequence* sequence) {
  if (sequence->guesses_ahead()) sequence->odds.Fade();
  sequence->odds.Note(sequence->evidence, right);
  sequence->evidence.clear();
  totals_.guessed_tokens += guesses.size();
  totals_.right_guesses += right;
}

// A draft learns what its guesses are compared to.
void Scheduler::TellDrafters(const StepPlan& plan, double ms) {
  const Drafter* told = nullptr;
  for (const StepPlan::Entry& entry : plan.entries()) {
    Drafter* drafter = entry.sequence->request.drafter.get();
    if (drafter == nullptr || drafter == told) continue;
    drafter->NoteTargetStep(static_cast<int>(plan.rows()), ms);
    told = drafter;
  }
}

}  // namespace tokenmill
