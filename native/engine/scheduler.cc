#include "engine/scheduler.h"

#include <array>
#include <cmath>

namespace tokenmill {

// What keeps a prompt from running.
Status Scheduler::CheckPrompt(const std::vector<Token>& prompt, bool score) const {
  const size_t limit = static_cast<size_t>(limits_.context_length) - (score ? 0 : 1);
  if (prompt.empty())
    return Error(Code::kInvalidArgument, "the prompt has no tokens; give it some text or a BOS token");
  if (prompt.size() > limit) {
    return Error(
        Code::kContextOverflow,
        "the prompt has %zu tokens; the context of %d tokens has room for %zu. Shorten it or load the "
        "model with a larger contextLength",
        prompt.size(), limits_.context_length, limit);
  }
  for (const Token token : prompt) {
    if (token >= 0 && token < tokenizer_->vocabulary_size()) continue;
    return Error(Code::kInvalidArgument, "token %d is not in the vocabulary of %d tokens", token,
                 tokenizer_->vocabulary_size());
  }
  return {};
}

void Scheduler::Submit(ClientId client, Request request, std::vector<Token> prompt,
                       Clock::time_point submitted_at) {
  if (Status refusal = CheckPrompt(prompt, request.score); !refusal.ok())
    return Refuse(client, request.id, std::move(refusal));
  sequences_.push_back(std::make_unique<Sequence>(client, std::move(request), std::move(prompt), submitted_at,
                                                  tokenizer_, pool_, groups_));
  Sequence* sequence = sequences_.back().get();
  totals_.prompt_tokens += sequence->prompt_tokens;
  if (sequence->request.score && sequence->wanted() == 0) {
    End(sequence, {}, FinishReason::kStop, {});
  } else if (!sequence->request.score && sequence->request.max_tokens == 0) {
    End(sequence, {}, FinishReason::kLength, {});
  }
  RemoveEnded();
}

Sequence* Scheduler::Find(ClientId client, RequestId id) {
  for (const SequencePtr& sequence : sequences_) {
    if (sequence->client == client && sequence->request.id == id) return sequence.get();
  }
  return nullptr;
}

void Scheduler::Refuse(ClientId client, RequestId id, Status status) {
  std::erase_if(sequences_, [client, id](const SequencePtr& sequence) {
    return sequence->client == client && sequence->request.id == id;
  });
  Event event{id, "", {}, {}, Outcome{}};
  event.outcome->status = std::move(status);
  events_[client].push_back(std::move(event));
  ++totals_.failed;
}

void Scheduler::Cancel(ClientId client, RequestId id) {
  if (Sequence* sequence = Find(client, id)) End(sequence, {}, FinishReason::kAborted, {});
  RemoveEnded();
}

void Scheduler::AddCredits(ClientId client, RequestId id, int64_t credits) {
  if (Sequence* sequence = Find(client, id)) sequence->credits += credits;
}

void Scheduler::EndAll(ClientId client, const Status& status) {
  for (const SequencePtr& sequence : sequences_) {
    if (sequence->client == client && !sequence->ended)
      End(sequence.get(), status, FinishReason::kAborted, {});
  }
  RemoveEnded();
}

void Scheduler::EndAll(const Status& status) {
  for (const SequencePtr& sequence : sequences_) {
    if (!sequence->ended) End(sequence.get(), status, FinishReason::kAborted, {});
  }
  RemoveEnded();
}

// Whether a sequence without pages may take some: all of what it needs next must fit beside the others that
// run (paused ones would give way), or it would soon be preempted again.
bool Scheduler::Admissible(const Sequence& sequence) const {
  const int tokens = static_cast<int>(sequence.wanted()) + kPageTokens;
  std::array<size_t, kMaxKvGroups> pages = {};
  for (int g = 0; g < pool_->groups(); ++g) {
    size_t paused = 0;
    for (const SequencePtr& other : sequences_) paused += other->paused() ? other->table.held(g) : 0;
    const KvGroup& group = (*groups_)[static_cast<size_t>(g)];
    const size_t needed = BlockTable::PagesAtMost(group, tokens, limits_.max_rows);
    pages[static_cast<size_t>(g)] = needed - std::min(needed, paused);
  }
  return pool_->Fits(pages);
}

// Who gives up its pages for `asking`: a paused reply, the youngest first, else the youngest that came later.
Sequence* Scheduler::Victim(const Sequence* asking) {
  Sequence* youngest = nullptr;
  bool later = false;
  for (const SequencePtr& sequence : sequences_) {
    const bool holds = sequence->table.held() > 0 && sequence.get() != asking;
    if (holds && (later || sequence->paused()) &&
        (youngest == nullptr || sequence->paused() || !youngest->paused())) {
      youngest = sequence.get();
    }
    later = later || sequence.get() == asking;
  }
  return youngest;
}

void Scheduler::Preempt(Sequence* sequence) {
  sequence->table.Clear();
  sequence->lost = std::max(sequence->lost, std::exchange(sequence->computed, 0));
  sequence->score.clear();
  ++totals_.preempted;
}

// Pages for the next `rows` tokens. False when the sequence has to wait; then it may have lost its own.
bool Scheduler::Reserve(Sequence* sequence, int rows) {
  const int computed = static_cast<int>(sequence->computed);
  while (!sequence->table.Reserve(computed, computed + rows)) {
    Sequence* victim = Victim(sequence);
    if (victim == nullptr) {
      if (computed > 0) Preempt(sequence);
      sequence->table.Clear();
      return false;
    }
    Preempt(victim);
  }
  return true;
}

bool Scheduler::Plan(StepPlan* plan) {
  for (;;) {
    const uint64_t preempted = totals_.preempted;
    if (TryPlan(plan)) return true;
    // A sequence whose pages lay scattered gave them up, and finds the pool empty now.
    if (totals_.preempted > preempted) continue;
    // Only the system itself can have refused: one sequence alone always fits the pool's limit.
    const auto stuck = std::find_if(sequences_.begin(), sequences_.end(),
                                    [](const SequencePtr& sequence) { return !sequence->paused(); });
    if (stuck == sequences_.end()) return false;
    End(stuck->get(), Error(Code::kOutOfMemory, "the system refused memory for the KV cache"),
        FinishReason::kAborted, {});
    RemoveEnded();
  }
}

bool Scheduler::TryPlan(StepPlan* plan) {
  plan->Clear();
  int decode_rows = 0;
  for (const SequencePtr& sequence : sequences_) decode_rows += sequence->decoding() && !sequence->paused();
  int prefill_budget = std::max(0, limits_.max_rows - decode_rows);
  bool others_hold = false, admitting = true;
  for (const SequencePtr& owned : sequences_) {
    Sequence* sequence = owned.get();
    if (sequence->paused()) continue;
    const int budget =
        sequence->decoding() ? limits_.max_rows - static_cast<int>(plan->rows()) : prefill_budget;
    const int rows = std::min(static_cast<int>(sequence->remaining()), budget);
    if (rows == 0) continue;
    if (sequence->table.held() == 0) {
      // In order: a request that has to wait is not overtaken by a younger one.
      admitting = admitting && (!others_hold || Admissible(*sequence));
      if (!admitting) continue;
    }
    if (!Reserve(sequence, rows)) {
      admitting = false;
      continue;
    }
    if (!sequence->decoding()) prefill_budget -= rows;
    if (!sequence->started()) sequence->started_at = Clock::now();
    plan->Add(sequence, rows, pool_->groups());
    others_hold = true;
    // Alone it gets as far as it was with its pages close together; with company they could scatter as before.
    admitting = admitting && sequence->computed + static_cast<size_t>(rows) >= sequence->lost;
  }
  return plan->rows() > 0;
}

void Scheduler::Finish(const StepPlan& plan, const StepResult& result, const Status& status) {
  ++totals_.steps;
  for (const StepPlan::Entry& entry : plan.entries()) {
    Sequence* sequence = entry.sequence;
    if (!status.ok()) {
      End(sequence, status, FinishReason::kAborted, {});
      continue;
    }
    sequence->computed += static_cast<size_t>(entry.rows);
    for (size_t h = entry.head_begin; h < entry.head_begin + entry.head_count && !sequence->ended; ++h) {
      const HeadResult& head = result.head[h];
      if (!head.finite) {
        End(sequence, Error(Code::kInternal, "the model gave logits that are not finite numbers"),
            FinishReason::kAborted, {});
      } else if (sequence->request.score) {
        AcceptScore(sequence, head);
      } else if (const Candidate drawn = plan.Drawn(h, head); drawn.token != StepPlan::kNotDrawn) {
        Accept(sequence, head, drawn);
      } else {
        End(sequence, Error(Code::kOutOfMemory, "the system refused memory to draw a token"),
            FinishReason::kAborted, {});
      }
    }
  }
  RemoveEnded();
}

void Scheduler::AcceptScore(Sequence* sequence, const HeadResult& head) {
  sequence->score.push_back(head.targets[0] - head.log_sum_exp);
  if (sequence->score.size() == sequence->wanted()) End(sequence, {}, FinishReason::kStop, {});
}

void Scheduler::Accept(Sequence* sequence, const HeadResult& head, const Candidate& drawn) {
  const Request& request = sequence->request;
  sequence->last_token_at = Clock::now();
  if (sequence->first_token_at == Clock::time_point{}) sequence->first_token_at = sequence->last_token_at;
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
    Emit(*sequence, std::move(event));
  }
}

void Scheduler::End(Sequence* sequence, Status status, FinishReason reason, Event event) {
  event.id = sequence->request.id;
  if (status.ok() && !sequence->stop_found) {
    // What was held back turns out to be plain text, up to a stop string that the last bytes complete.
    const bool stopped = sequence->stops.Push(sequence->decoder.Finish(), &event.text);
    if (!stopped) event.text += sequence->stops.Finish();
  }
  uint64_t& total = !status.ok()                       ? totals_.failed
                    : reason == FinishReason::kAborted ? totals_.aborted
                                                       : totals_.finished;
  ++total;
  event.outcome = MakeOutcome(*sequence, std::move(status), reason);
  Emit(*sequence, std::move(event));
  sequence->table.Clear();
  sequence->ended = true;
}

void Scheduler::Emit(const Sequence& sequence, Event event) {
  events_[sequence.client].push_back(std::move(event));
}

void Scheduler::RemoveEnded() {
  std::erase_if(sequences_, [](const SequencePtr& sequence) { return sequence->ended; });
}

Outcome Scheduler::MakeOutcome(const Sequence& sequence, Status status, FinishReason reason) const {
  const auto milliseconds = [](Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double, std::milli>(to - from).count();
  };
  const auto rate = [](double tokens, double ms) { return ms > 0 ? tokens / ms * 1000 : 0; };
  const Clock::time_point now = Clock::now();
  const bool first = sequence.first_token_at != Clock::time_point{};
  Outcome outcome;
  outcome.status = std::move(status);
  outcome.reason = reason;
  outcome.prompt_tokens = static_cast<int>(sequence.prompt_tokens);
  outcome.completion_tokens = static_cast<int>(sequence.replied());
  outcome.queue_ms = milliseconds(sequence.submitted_at, sequence.started() ? sequence.started_at : now);
  if (first) {
    outcome.ttft_ms = milliseconds(sequence.submitted_at, sequence.first_token_at);
    outcome.prefill_tokens_per_second = rate(static_cast<double>(sequence.prompt_tokens),
                                             milliseconds(sequence.started_at, sequence.first_token_at));
    // The first token belongs to the prefill; an end token counts as work.
    const double steps = static_cast<double>(sequence.replied()) - 1;
    outcome.decode_tokens_per_second =
        rate(std::max(0.0, steps), milliseconds(sequence.first_token_at, sequence.last_token_at));
  }
  if (sequence.request.score && outcome.status.ok()) {
    outcome.score_tokens = sequence.tokens;
    outcome.score_logprobs.push_back(std::nanf(""));
    outcome.score_logprobs.insert(outcome.score_logprobs.end(), sequence.score.begin(), sequence.score.end());
  }
  return outcome;
}

SchedulerStats Scheduler::Stats() const {
  SchedulerStats stats = totals_;
  for (const SequencePtr& sequence : sequences_) {
    ++(sequence->paused() ? stats.paused : sequence->table.held() > 0 ? stats.running : stats.queued);
  }
  return stats;
}

}  // namespace tokenmill
