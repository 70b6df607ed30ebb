// What the scheduler makes of a step's results: tokens, texts, ends.

#include <algorithm>
#include <cmath>
#include <new>

#include "engine/drafter.h"
#include "engine/scheduler.h"

namespace tokenmill {

void Scheduler::Finish(const StepPlan& plan, const StepResult& result, const Status& status) {
  ++totals_.steps;
  ObserveStep(plan);
  Measure(plan);
  for (const StepPlan::Entry& entry : plan.entries()) {
    Sequence* sequence = entry.sequence;
    if (!status.ok()) {
      End(sequence, status, FinishReason::kAborted, {});
      continue;
    }
    Take(plan, entry, result);
  }
  RemoveEnded();
}

// A guess came true if it is what its sequence drew there; what was computed behind the first wrong one is void.
void Scheduler::Take(const StepPlan& plan, const StepPlan::Entry& entry, const StepResult& result) {
  Sequence* sequence = entry.sequence;
  const std::vector<Token> guesses = std::exchange(sequence->guesses, {});
  sequence->computed += static_cast<size_t>(entry.rows) - guesses.size();
  if (sequence->computed >= sequence->alone_until) sequence->alone_until = 0;
  const std::span heads = std::span(result.head).subspan(entry.head_begin, entry.head_count);
  const std::span sure = heads.first(heads.size() - std::min(heads.size(), guesses.size()));
  const bool finite = std::ranges::all_of(sure, [](const HeadResult& head) { return head.finite; });
  finite ? prefix_.Enter(sequence) : prefix_.Reject(sequence);
  size_t right = 0;
  for (size_t i = 0; i < heads.size() && !sequence->ended; ++i) {
    const Token token = TakeHead(plan, entry.head_begin + i, heads[i], sequence);
    if (guesses.empty()) continue;
    if (i == guesses.size() || token != guesses[i] || sequence->ended) break;
    ++sequence->computed;
    ++right;
  }
  LearnFrom(guesses, right, sequence);
}

// Returns the token that was drawn, if one was.
Token Scheduler::TakeHead(const StepPlan& plan, size_t index, const HeadResult& head, Sequence* sequence) {
  Candidate drawn{StepPlan::kNotDrawn, 0, 0};
  if (!head.finite) {
    End(sequence, Error(Code::kInternal, "the model gave logits that are not finite numbers"),
        FinishReason::kAborted, {});
  } else if (sequence->request.score) {
    AcceptScore(sequence, head);
  } else if (drawn = plan.Drawn(index, head); drawn.token != StepPlan::kNotDrawn) {
    Accept(sequence, head, drawn);
  } else {
    End(sequence, Error(Code::kOutOfMemory, "the system refused memory to draw a token"),
        FinishReason::kAborted, {});
  }
  return drawn.token;
}

void Scheduler::Measure(const StepPlan& plan) {
  int decode_rows = 0, rows = 0;
  bool guessed = false;
  for (const StepPlan::Entry& entry : plan.entries()) {
    guessed = guessed || !entry.sequence->guesses.empty();
    decode_rows += entry.sequence->decoding();
    rows += entry.rows;
  }
  const double took = Milliseconds(now_() - planned_at_);
  if (guessed || decode_rows == rows) TellDrafters(plan, took);
  if (guessed) return;  // more rows than decode alone has
  step_budget_.Measured(decode_rows, rows - decode_rows, took);
}

void Scheduler::AcceptScore(Sequence* sequence, const HeadResult& head) {
  sequence->score.push_back(head.targets[0] - head.log_sum_exp);
  if (sequence->score.size() == sequence->wanted()) End(sequence, {}, FinishReason::kStop, {});
}

void Scheduler::Accept(Sequence* sequence, const HeadResult& head, const Candidate& drawn) {
  const Request& request = sequence->request;
  sequence->last_token_at = now_();
  if (sequence->first_token_at == Clock::time_point{}) {
    sequence->first_token_at = sequence->last_token_at;
    ObserveFirstToken(*sequence);
  }
  Event event{request.id, "", {}, {}, std::nullopt};
  if (!request.ignore_eos && tokenizer_->IsEndOfGeneration(drawn.token)) {
    End(sequence, {}, FinishReason::kStop, std::move(event));
    return;
  }
  sequence->tokens.push_back(drawn.token);
  sequence->penalties.Count(drawn.token, true);
  ++totals_.completion_tokens;
  --sequence->credits;
  event.tokens.push_back(drawn.token);
  if (request.logprobs >= 0) {
    TokenLogprob logprob{drawn.token, drawn.raw - head.log_sum_exp, {}};
    for (const Candidate& top : head.raw_top) logprob.top.emplace_back(top.token, top.raw - head.log_sum_exp);
    event.logprobs.push_back(std::move(logprob));
  }
  sequence->stop_found = sequence->stops.Push(sequence->decoder.Push(drawn.token), &event.text);
  const bool full =
      sequence->tokens.size() >= static_cast<size_t>(limits_.context_length) ||
      (request.max_tokens >= 0 && sequence->replied() >= static_cast<size_t>(request.max_tokens));
  if (sequence->stop_found || full) {
    End(sequence, {}, sequence->stop_found ? FinishReason::kStop : FinishReason::kLength, std::move(event));
  } else {
    Tell(sequence->client, std::move(event));
  }
}

void Scheduler::End(Sequence* sequence, Status status, FinishReason reason, Event event) {
  event.id = sequence->request.id;
  const bool given_whole = status.ok() || status.code() == Code::kDeadlineExceeded;
  if (given_whole && !sequence->stop_found) {
    // What was held back turns out to be plain text, up to a stop string that the last bytes complete.
    const bool stopped = sequence->stops.Push(sequence->decoder.Finish(), &event.text);
    if (!stopped) event.text += sequence->stops.Finish();
  }
  uint64_t& total = !status.ok()                       ? totals_.failed
                    : reason == FinishReason::kAborted ? totals_.aborted
                                                       : totals_.finished;
  event.outcome = MakeOutcome(*sequence, std::move(status), reason);
  const bool sound = event.outcome->status.ok();
  Tell(sequence->client, std::move(event));
  ++total;
  if (Drafter* drafter = sequence->request.drafter.get()) drafter->Forget(*sequence);
  ObserveEnd(*sequence);
  if (sound) {  // else the last page may be half written
    prefix_.Enter(sequence);
    prefix_.Leave(sequence);
    Hold(*sequence);
  }
  sequence->table.Clear();
  sequence->ended = true;
}

// The next turn's text may be tokenized differently from where the reply begins, or shortly before that.
void Scheduler::Hold(const Sequence& sequence) {
  if (sequence.request.hold == 0 || sequence.computed == 0) return;
  const size_t certain = sequence.prompt_tokens - std::min<size_t>(sequence.prompt_tokens, kPageTokens);
  try {
    held_.Hold({sequence.client, sequence.request.hold}, prefix_.SpaceOf(sequence),
               std::span(sequence.tokens).first(sequence.computed), certain);
  } catch (const std::bad_alloc&) {  // its next turn finds what the cache still has
  }
}

void Scheduler::RemoveEnded() {
  std::erase_if(sequences_, [](const SequencePtr& sequence) { return sequence->ended; });
}

Outcome Scheduler::MakeOutcome(const Sequence& sequence, Status status, FinishReason reason) const {
  const auto rate = [](double tokens, double ms) { return ms > 0 ? tokens / ms * 1000 : 0; };
  const Clock::time_point now = now_();
  const bool first = sequence.first_token_at != Clock::time_point{};
  Outcome outcome;
  outcome.status = std::move(status);
  outcome.reason = reason;
  outcome.prompt_tokens = static_cast<int>(sequence.prompt_tokens);
  outcome.cached_tokens = static_cast<int>(sequence.cached);
  outcome.completion_tokens = static_cast<int>(sequence.replied());
  outcome.queue_ms = Milliseconds((sequence.started() ? sequence.started_at : now) - sequence.submitted_at);
  if (first) {
    outcome.ttft_ms = Milliseconds(sequence.first_token_at - sequence.submitted_at);
    outcome.prefill_tokens_per_second = rate(static_cast<double>(sequence.prompt_tokens - sequence.cached),
                                             Milliseconds(sequence.first_token_at - sequence.started_at));
    // The first token belongs to the prefill; an end token counts as work.
    const double steps = static_cast<double>(sequence.replied()) - 1;
    outcome.decode_tokens_per_second =
        rate(std::max(0.0, steps), Milliseconds(sequence.last_token_at - sequence.first_token_at));
  }
  if (sequence.request.score && outcome.status.ok()) {
    outcome.score_tokens = sequence.tokens;
    outcome.score_logprobs.push_back(std::nanf(""));
    outcome.score_logprobs.insert(outcome.score_logprobs.end(), sequence.score.begin(), sequence.score.end());
  }
  return outcome;
}

}  // namespace tokenmill
