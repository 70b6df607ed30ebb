#include "engine/scheduler.h"

#include <algorithm>
#include <array>

#include "engine/drafter.h"

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
                       Clock::time_point submitted_at, WaitingRoom::Place waiting, AdapterStack adapters) {
  if (!Arrives(client, request.id)) return;
  Status refusal = CheckPrompt(prompt, request.score);
  if (!refusal.ok()) return Refuse(client, request.id, std::move(refusal));
  sequences_.push_back(std::make_unique<Sequence>(client, std::move(request), std::move(prompt),
                                                  std::move(adapters), submitted_at, tokenizer_, pool_,
                                                  groups_));
  Sequence* sequence = sequences_.back().get();
  sequence->waiting = std::move(waiting);
  sequence->origin = held_.OriginOf({client, sequence->request.hold});
  sequence->place = queue_.Join(sequence->request.priority, sequence->request.tenant);
  sequence->seniority.arrival = ++arrivals_;
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
  if (!Arrives(client, id)) return;
  std::erase_if(sequences_, [client, id](const SequencePtr& sequence) {
    if (sequence->client != client || sequence->request.id != id) return false;
    if (Drafter* drafter = sequence->request.drafter.get()) drafter->Forget(*sequence);
    return true;
  });
  Answer(client, id, std::move(status));
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

bool Scheduler::Alone(const Sequence& sequence) const {
  return std::none_of(sequences_.begin(), sequences_.end(), [&](const SequencePtr& other) {
    return other.get() != &sequence && !other->paused() && other->table.held() > 0;
  });
}

// Whether a sequence may take pages besides those of a known prefix: all of what it needs next must fit beside the
// others that run, or it would soon be preempted again. Paused ones would give way, less senior ones of a lower
// priority, and `without_held` what sessions hold.
bool Scheduler::Admissible(const Sequence& sequence, bool without_held) const {
  const int tokens = static_cast<int>(sequence.wanted()) + kPageTokens;
  std::vector<const BlockTable*> giving;
  for (const SequencePtr& other : sequences_) {
    const bool junior =
        other->request.priority < sequence.request.priority && sequence.seniority < other->seniority;
    if (other->paused() || junior) giving.push_back(&other->table);
  }
  if (without_held) held_.ForEach([&](const BlockTable& table) { giving.push_back(&table); });
  std::array<size_t, kMaxKvGroups> pages = {};
  std::array<std::vector<PageId>, kMaxKvGroups> freed;
  for (int g = 0; g < pool_->groups(); ++g) {
    const KvGroup& group = (*groups_)[static_cast<size_t>(g)];
    const size_t needed = BlockTable::PagesAtMost(group, tokens, limits_.max_rows) +
                          (sequence.computed % kPageTokens != 0);  // the last page that it took is copied
    pages[static_cast<size_t>(g)] = needed - std::min(needed, sequence.table.held(g));
    freed[static_cast<size_t>(g)] = BlockTable::OwnedBy(*pool_, giving, g);
  }
  return pool_->Fits(pages, freed);
}

// Who gives up its pages for `asking`: a paused reply, else one that is less senior; of these the least senior. For
// nobody, all are less senior.
Sequence* Scheduler::Victim(const Sequence* asking) {
  const auto order = [](const Sequence& sequence) {
    return std::pair(sequence.paused(), sequence.seniority);
  };
  Sequence* victim = nullptr;
  for (const SequencePtr& sequence : sequences_) {
    if (sequence->table.held() == 0 || sequence.get() == asking) continue;
    if (asking != nullptr && !sequence->paused() && sequence->seniority < asking->seniority) continue;
    if (victim == nullptr || order(*victim) < order(*sequence)) victim = sequence.get();
  }
  return victim;
}

void Scheduler::Preempt(Sequence* sequence) {
  Notify(*sequence, Notice::kPreempted, static_cast<double>(sequence->computed));
  GiveBack(sequence);
  ++totals_.preempted;
}

bool Scheduler::SetMemoryLimit(size_t bytes) {
  while (pool_->PackedBytes() > bytes) {
    if (pool_->EvictOldest() || held_.GiveUpOldest()) continue;
    Sequence* victim = Victim(nullptr);
    if (victim == nullptr) return false;
    Preempt(victim);
  }
  pool_->SetLimit(bytes);
  return true;
}

void Scheduler::Answer(ClientId client, RequestId id, Status status) {
  Event event{id, "", {}, {}, Outcome{}};
  event.outcome->status = std::move(status);
  Tell(client, std::move(event));
}

void Scheduler::GiveBack(Sequence* sequence) {
  prefix_.Leave(sequence);
  sequence->table.Clear();
  sequence->computed = sequence->adopted = 0;
  sequence->planned = 0;
  sequence->score.clear();
}

// Whether a sequence had better wait for what another computes in this step than compute it too.
bool Scheduler::IsBeingComputed(const Sequence& sequence) const {
  return std::ranges::any_of(planned_, [&](const Sequence* other) {
    return other->planned > 0 && prefix_.Computes(*other, sequence);  // it may have lost them again
  });
}

// Pages for the next `rows` tokens, some of which may have been reserved before. False when the sequence has to wait;
// then it may have lost its own.
bool Scheduler::Reserve(Sequence* sequence, int rows) {
  const int computed = static_cast<int>(sequence->computed);
  while (!sequence->table.Reserve(computed, computed + rows)) {
    if (held_.GiveUpOldest()) continue;
    Sequence* victim = Victim(sequence);
    if (victim == nullptr) {
      // It is the most senior, and its own pages lie scattered.
      sequence->alone_until = std::max(sequence->alone_until, sequence->computed);
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
    if (TryPlan(plan)) {
      planned_at_ = now_();
      return true;
    }
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

// The first step after an admission.
void Scheduler::Start(Sequence* sequence) {
  prefix_.CountStart(*sequence);
  if (sequence->started()) return;
  sequence->started_at = now_();
  sequence->waiting.Leave();
  sequence->cached = sequence->adopted;
  totals_.cached_tokens += sequence->cached;
}

std::string Scheduler::CheckIntegrity() const {
  for (int g = 0; g < pool_->groups(); ++g) {
    std::map<PageId, uint32_t> references;
    const auto count_table = [&](const BlockTable& table) {
      for (size_t block = 0; block < table.blocks(g); ++block) {
        if (const PageId page = table.pages(g)[block]; page != kNoPage) ++references[page];
      }
    };
    for (const SequencePtr& sequence : sequences_) count_table(sequence->table);
    held_.ForEach(count_table);
    for (const auto& [page, count] : references) {
      if (count != pool_->references(g, page)) {
        return Format("group %d: page %d is in %u tables and has %u references", g, page, count,
                      pool_->references(g, page));
      }
    }
    if (references.size() != pool_->used(g))
      return Format("group %d: %zu pages are in tables, %zu are used", g, references.size(), pool_->used(g));
  }
  for (const SequencePtr& sequence : sequences_) {
    if (const Drafter* drafter = sequence->request.drafter.get()) {
      if (std::string finding = drafter->CheckIntegrity(); !finding.empty()) return finding;
    }
  }
  return held_.CheckIntegrity();
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
