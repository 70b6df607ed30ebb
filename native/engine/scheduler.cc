#include "engine/scheduler.h"

#include <algorithm>
#include <array>

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

// Whether a sequence may take pages besides those of a known prefix: all of what it needs next must fit beside the
// others that run (paused ones would give way), or it would soon be preempted again.
bool Scheduler::Admissible(const Sequence& sequence) const {
  const int tokens = static_cast<int>(sequence.wanted()) + kPageTokens;
  std::array<size_t, kMaxKvGroups> pages = {};
  for (int g = 0; g < pool_->groups(); ++g) {
    size_t paused = 0;
    for (const SequencePtr& other : sequences_) paused += other->paused() ? other->table.held(g) : 0;
    const KvGroup& group = (*groups_)[static_cast<size_t>(g)];
    const size_t needed = BlockTable::PagesAtMost(group, tokens, limits_.max_rows) +
                          (sequence.computed % kPageTokens != 0);  // the last page that it took is copied
    pages[static_cast<size_t>(g)] = needed - std::min(needed, paused + sequence.table.held(g));
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
  Notify(*sequence, Notice::kPreempted, static_cast<double>(sequence->computed));
  sequence->lost = std::max(sequence->lost, sequence->computed);
  GiveBack(sequence);
  ++totals_.preempted;
}

void Scheduler::GiveBack(Sequence* sequence) {
  prefix_.Leave(sequence);
  sequence->table.Clear();
  sequence->computed = sequence->adopted = 0;
  sequence->score.clear();
}

// Whether a sequence had better wait for what another computes in this step than compute it too.
bool Scheduler::IsBeingComputed(const Sequence& sequence, const StepPlan& plan) const {
  return std::ranges::any_of(plan.entries(), [&](const StepPlan::Entry& entry) {
    return prefix_.Computes(*entry.sequence, sequence);
  });
}

// Gives a sequence without pages those of a known prefix, if it can go on from there.
bool Scheduler::Admit(Sequence* sequence, bool others_hold) {
  prefix_.Adopt(sequence);
  if (!others_hold || Admissible(*sequence)) return true;
  GiveBack(sequence);
  return false;
}

// Pages for the next `rows` tokens. False when the sequence has to wait; then it may have lost its own.
bool Scheduler::Reserve(Sequence* sequence, int rows) {
  const int computed = static_cast<int>(sequence->computed);
  while (!sequence->table.Reserve(computed, computed + rows)) {
    Sequence* victim = Victim(sequence);
    if (victim == nullptr) {
      sequence->computed > sequence->adopted ? Preempt(sequence) : GiveBack(sequence);
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
    const auto stuck = std::find_if(sequences_.begin(), sequences_.end(),
                                    [](const SequencePtr& sequence) { return !sequence->paused(); });
    if (stuck == sequences_.end()) return false;
    // A sequence whose pages lay scattered gave them up, and finds the pool empty now.
    if (pool_->EvictCached() || totals_.preempted > preempted) continue;
    // Only the system itself can have refused: one sequence alone always fits the pool's limit.
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
    const bool decoding = sequence->decoding();
    const int budget = decoding ? limits_.max_rows - static_cast<int>(plan->rows()) : prefill_budget;
    if (budget == 0) continue;
    if (sequence->table.held() == 0) {
      if (!admitting || IsBeingComputed(*sequence, *plan)) continue;
      // In order: a request that has to wait for pages is not overtaken by a younger one.
      admitting = Admit(sequence, others_hold);
      if (!admitting) continue;
    }
    const int rows = std::min(static_cast<int>(sequence->remaining()), budget);
    if (rows == 0) continue;
    if (!Reserve(sequence, rows)) {
      admitting = false;
      continue;
    }
    if (!decoding) prefill_budget -= rows;
    if (sequence->computed == sequence->adopted) Start(sequence);
    plan->Add(sequence, rows, pool_->groups());
    others_hold = true;
    // Alone it gets as far as it was with its pages close together; with company they could scatter as before.
    admitting = admitting && sequence->computed + static_cast<size_t>(rows) >= sequence->lost;
  }
  return plan->rows() > 0;
}

// The first step after an admission.
void Scheduler::Start(Sequence* sequence) {
  prefix_.CountStart(*sequence);
  if (sequence->started()) return;
  sequence->started_at = Clock::now();
  sequence->cached = sequence->adopted;
  totals_.cached_tokens += sequence->cached;
}

std::string Scheduler::CheckIntegrity() const {
  for (int g = 0; g < pool_->groups(); ++g) {
    std::map<PageId, uint32_t> references;
    for (const SequencePtr& sequence : sequences_) {
      for (size_t block = 0; block < sequence->table.blocks(g); ++block) {
        if (const PageId page = sequence->table.pages(g)[block]; page != kNoPage) ++references[page];
      }
    }
    for (const auto& [page, count] : references) {
      if (count != pool_->references(g, page)) {
        return Format("group %d: page %d is in %u tables and has %u references", g, page, count,
                      pool_->references(g, page));
      }
    }
    if (references.size() != pool_->used(g))
      return Format("group %d: %zu pages are in tables, %zu are used", g, references.size(), pool_->used(g));
  }
  return "";
}

SchedulerStats Scheduler::Stats() const {
  SchedulerStats stats = totals_;
  stats.prefix = prefix_.stats();
  for (const SequencePtr& sequence : sequences_) {
    ++(sequence->paused() ? stats.paused : sequence->table.held() > 0 ? stats.running : stats.queued);
  }
  return stats;
}

}  // namespace tokenmill
