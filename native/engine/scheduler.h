#pragma once

#include <map>
#include <memory>
#include <vector>

#include "engine/histogram.h"
#include "engine/prefix_sharing.h"
#include "engine/sequence.h"
#include "engine/step_plan.h"
#include "ops/step.h"

namespace tokenmill {

struct SchedulerLimits {
  int max_rows = 512;
  int context_length = 0;
};

/// Counters since the engine started, and what holds now.
struct SchedulerStats {
  int queued = 0, running = 0, paused = 0;
  uint64_t finished = 0, aborted = 0, failed = 0, preempted = 0;
  uint64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0, steps = 0;
  SchedulerHistograms histograms;
  PrefixStats prefix;
};

/// Decides what each step computes and turns its results into events. Decode rows come first, chunks of
/// prefill fill the row budget, oldest request first. When pages run out, replies that wait for their reader
/// give theirs back, then the youngest; they resume later by recomputation. With a prefix index, sequences begin
/// and resume behind what was computed before and is still there. Belongs to the loop thread.
class Scheduler {
 public:
  Scheduler(const Tokenizer* tokenizer, const std::vector<KvGroup>* groups, BlockPool* pool,
            SchedulerLimits limits, PrefixIndex* prefix = nullptr)
      : tokenizer_(tokenizer), groups_(groups), pool_(pool), limits_(limits), prefix_(prefix) {}

  /// Takes a request whose prompt has been tokenized; one that cannot run ends at once.
  void Submit(ClientId client, Request request, std::vector<Token> prompt, Clock::time_point submitted_at);
  /// Ends a request that could not be taken, or not be worked off after it was.
  void Refuse(ClientId client, RequestId id, Status status);
  void Cancel(ClientId client, RequestId id);
  void AddCredits(ClientId client, RequestId id, int64_t credits);
  /// Ends all of a client's requests with this status.
  void EndAll(ClientId client, const Status& status);
  void EndAll(const Status& status);

  /// Fills `plan` with the next step; false when nothing can run now.
  bool Plan(StepPlan* plan);
  /// Takes the results of a step that ran, or its failure.
  void Finish(const StepPlan& plan, const StepResult& result, const Status& status);

  /// What has happened since the last call.
  std::map<ClientId, std::vector<Event>> TakeEvents() { return std::exchange(events_, {}); }
  SchedulerStats Stats() const;
  /// Empty when the sequences' pages are all the references that the pool counts; else what is wrong.
  std::string CheckIntegrity() const;

 private:
  using SequencePtr = std::unique_ptr<Sequence>;

  Status CheckPrompt(const std::vector<Token>& prompt, bool score) const;
  bool TryPlan(StepPlan* plan);
  Sequence* Find(ClientId client, RequestId id);
  bool Admissible(const Sequence& sequence) const;
  bool IsBeingComputed(const Sequence& sequence, const StepPlan& plan) const;
  bool Admit(Sequence* sequence, bool others_hold);
  bool Reserve(Sequence* sequence, int rows);
  Sequence* Victim(const Sequence* asking);
  void Preempt(Sequence* sequence);
  void GiveBack(Sequence* sequence);
  void Start(Sequence* sequence);

  void Accept(Sequence* sequence, const HeadResult& head, const Candidate& drawn);
  void AcceptScore(Sequence* sequence, const HeadResult& head);
  void End(Sequence* sequence, Status status, FinishReason reason, Event event);
  void Emit(const Sequence& sequence, Event event);
  Outcome MakeOutcome(const Sequence& sequence, Status status, FinishReason reason) const;
  void RemoveEnded();

  void ObserveStep(const StepPlan& plan);
  void ObserveFirstToken(const Sequence& sequence);
  void ObserveEnd(const Sequence& sequence);
  void Notify(const Sequence& sequence, Notice notice, double value);
  void NotifyEvicted();

  const Tokenizer* const tokenizer_;
  const std::vector<KvGroup>* const groups_;
  BlockPool* const pool_;
  const SchedulerLimits limits_;
  PrefixSharing prefix_;
  std::vector<SequencePtr> sequences_;  // oldest first
  std::map<ClientId, std::vector<Event>> events_;
  SchedulerStats totals_;
  uint64_t evicted_told_ = 0;
};

}  // namespace tokenmill
