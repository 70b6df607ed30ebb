// What the scheduler lets others watch: distributions for stats(), notices for requests that ask for them.

#include <set>

#include "engine/scheduler.h"

namespace tokenmill {

void Scheduler::HandOver(const std::function<void(ClientId, std::vector<Event>&&)>& take) {
  while (!events_.empty()) {
    const auto next = events_.begin();
    take(next->first, std::move(next->second));
    events_.erase(next);
  }
}

// Before a step's results are taken, so that a notice of prefill comes before the first token.
void Scheduler::ObserveStep(const StepPlan& plan) {
  SchedulerHistograms& histograms = totals_.histograms;
  histograms.step_rows.Add(static_cast<double>(plan.rows()));
  histograms.step_sequences.Add(static_cast<double>(plan.entries().size()));
  size_t used = 0;
  for (int g = 0; g < pool_->groups(); ++g) used += pool_->used(g);
  histograms.pages_used.Add(static_cast<double>(used));
  for (const StepPlan::Entry& entry : plan.entries()) {
    Sequence* sequence = entry.sequence;
    if (std::exchange(sequence->observed, true)) continue;
    const double queue_ms = Milliseconds(sequence->started_at - sequence->submitted_at);
    histograms.queue_ms.Add(queue_ms);
    Notify(*sequence, Notice::kPrefill, queue_ms);
  }
  if (pool_->evicted() > evicted_told_) NotifyEvicted();
}

void Scheduler::ObserveFirstToken(const Sequence& sequence) {
  totals_.histograms.ttft_ms.Add(Milliseconds(sequence.first_token_at - sequence.submitted_at));
}

void Scheduler::ObserveEnd(const Sequence& sequence) {
  if (sequence.replied() < 2) return;
  const double steps = static_cast<double>(sequence.replied() - 1);
  totals_.histograms.tpot_ms.Add(Milliseconds(sequence.last_token_at - sequence.first_token_at) / steps);
}

void Scheduler::Notify(const Sequence& sequence, Notice notice, double value) {
  if (!sequence.request.notices) return;
  Event event;
  event.id = sequence.request.id;
  event.notice = notice;
  event.notice_value = value;
  Tell(sequence.client, std::move(event));
}

// Evictions belong to no request: each client is told once, with some request of its own that asked for notices.
void Scheduler::NotifyEvicted() {
  const double pages = static_cast<double>(pool_->evicted() - std::exchange(evicted_told_, pool_->evicted()));
  std::set<ClientId> told;
  for (const SequencePtr& sequence : sequences_) {
    if (sequence->request.notices && told.insert(sequence->client).second)
      Notify(*sequence, Notice::kEvicted, pages);
  }
}

}  // namespace tokenmill
