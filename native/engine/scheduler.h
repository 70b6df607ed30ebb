#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "engine/fair_queue.h"
#include "engine/held_prefixes.h"
#include "engine/histogram.h"
#include "engine/prefix_sharing.h"
#include "engine/sequence.h"
#include "engine/step_budget.h"
#include "engine/step_plan.h"
#include "ops/step.h"

namespace tokenmill {

struct SchedulerLimits {
  int max_rows = 512;
  int context_length = 0;
  double target_tpot_ms = 0;  // 0: none
};

/// Counters since the engine started, and what holds now.
struct SchedulerStats {
  int queued = 0, running = 0, paused = 0;
  uint64_t finished = 0, aborted = 0, failed = 0, preempted = 0;
  uint64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0, steps = 0;
  uint64_t guessed_tokens = 0, right_guesses = 0;
  SchedulerHistograms histograms;
  PrefixStats prefix;
};

/// Decides what each step computes and turns its results into events. Decode rows come first; chunks of prefill
/// fill what StepBudget leaves, in FairQueue's order. When pages run out, replies that wait for their reader
/// give theirs back, then the least senior; they resume later by recomputation. With a prefix index, sequences begin
/// and resume behind what was computed before and is still there. Belongs to the loop thread.
class Scheduler {
 public:
  using Now = std::function<Clock::time_point()>;

  Scheduler(const Tokenizer* tokenizer, const std::vector<KvGroup>* groups, BlockPool* pool,
            SchedulerLimits limits, PrefixIndex* prefix = nullptr, Now now = Clock::now)
      : tokenizer_(tokenizer),
        groups_(groups),
        pool_(pool),
        limits_(limits),
        prefix_(prefix),
        held_(pool, groups, prefix),
        now_(std::move(now)),
        step_budget_(limits.max_rows, limits.target_tpot_ms) {}

  /// Announces a request that is still being tokenized, so that it can end at its deadline.
  void Expect(ClientId client, RequestId id, Clock::time_point deadline);

  /// Takes a request whose prompt has been tokenized; one that cannot run ends at once. It gives its place back
  /// with its first step.
  void Submit(ClientId client, Request request, std::vector<Token> prompt, Clock::time_point submitted_at,
              WaitingRoom::Place waiting = {}, AdapterStack adapters = {});
  /// Ends a request that could not be taken, or not be worked off after it was.
  void Refuse(ClientId client, RequestId id, Status status);
  void Cancel(ClientId client, RequestId id);
  void AddCredits(ClientId client, RequestId id, int64_t credits);
  /// Ends all of a client's requests with this status.
  void EndAll(ClientId client, const Status& status);
  void EndAll(const Status& status);
  /// Ends what has passed its deadline, and says when the next one is.
  std::optional<Clock::time_point> Expire();

  /// Changes what the pool may take, between steps: cached pages go first, then those of paused replies, then those
  /// of the least senior. The bytes must hold one sequence of full length. Whether it has been done.
  bool SetMemoryLimit(size_t bytes);
  /// Tells a client that something that it asked for besides its requests is done, or why it is not.
  void Answer(ClientId client, RequestId id, Status status);

  /// Fills `plan` with the next step; false when nothing can run now.
  bool Plan(StepPlan* plan);
  /// Takes the results of a step that ran, or its failure.
  void Finish(const StepPlan& plan, const StepResult& result, const Status& status);

  int context_length() const { return limits_.context_length; }
  /// What sessions hold. It counts as room for those that run.
  HeldPrefixes& held() { return held_; }

  /// Adds to what has happened.
  void Tell(ClientId client, Event event) { events_[client].push_back(std::move(event)); }
  /// Hands each client what has happened since the last call. Where `take` throws, and behind that, it stays for the
  /// next call.
  void HandOver(const std::function<void(ClientId, std::vector<Event>&&)>& take);
  SchedulerStats Stats() const;
  /// Empty when the sequences' and held pages are all the references that the pool counts; else what is wrong.
  std::string CheckIntegrity() const;

 private:
  using SequencePtr = std::unique_ptr<Sequence>;

  // Rows of decoding and guesses up to which a step gets little longer by one more.
  static constexpr int kGuessRows = 16;

  using Key = std::pair<ClientId, RequestId>;

  // A request that is being tokenized.
  struct Expected {
    Clock::time_point deadline;
    bool ended;  // its deadline has passed, and its client was told
  };

  Status CheckPrompt(const std::vector<Token>& prompt, bool score) const;
  bool Arrives(ClientId client, RequestId id);
  bool TryPlan(StepPlan* plan);
  std::vector<Sequence*> Offer();
  int Waiting(const std::vector<Sequence*>& decoding) const;
  void PlanPrefill(int budget);
  void PlanGuesses(const std::vector<Sequence*>& decoding);
  void LookUp(Sequence* sequence, int most);
  int WriteAhead(Drafter* drafter, std::span<Sequence* const> decoding, int budget);
  static int ReserveGuesses(Sequence* sequence);
  int GuessesAtMost(const Sequence& sequence) const;
  void LearnFrom(const std::vector<Token>& guesses, size_t right, Sequence* sequence);
  static void TellDrafters(const StepPlan& plan, double ms);
  int PlanRows(Sequence* sequence, int rows_max);
  bool Admit(Sequence* sequence);
  void Settle(Sequence* sequence) const;
  Sequence* MostSenior() const;
  Sequence* Find(ClientId client, RequestId id);
  bool Alone(const Sequence& sequence) const;
  bool Admissible(const Sequence& sequence, bool without_held) const;
  bool IsBeingComputed(const Sequence& sequence) const;
  bool Reserve(Sequence* sequence, int rows);
  Sequence* Victim(const Sequence* asking);
  void Preempt(Sequence* sequence);
  void GiveBack(Sequence* sequence);
  void Start(Sequence* sequence);

  void Measure(const StepPlan& plan);
  void Take(const StepPlan& plan, const StepPlan::Entry& entry, const StepResult& result);
  Token TakeHead(const StepPlan& plan, size_t index, const HeadResult& head, Sequence* sequence);
  void Accept(Sequence* sequence, const HeadResult& head, const Candidate& drawn);
  void AcceptScore(Sequence* sequence, const HeadResult& head);
  void End(Sequence* sequence, Status status, FinishReason reason, Event event);
  void Hold(const Sequence& sequence);
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
  HeldPrefixes held_;
  const Now now_;
  StepBudget step_budget_;
  FairQueue queue_;
  std::vector<SequencePtr> sequences_;  // oldest first
  std::map<Key, Expected> expected_;
  uint64_t arrivals_ = 0;
  std::vector<Sequence*> planned_;  // those that have been given rows of the step that is being planned
  bool admitting_ = true;  // whether the step that is being planned may still admit someone
  Clock::time_point planned_at_{};
  std::map<ClientId, std::vector<Event>> events_;
  SchedulerStats totals_;
  uint64_t evicted_told_ = 0;
};

}  // namespace tokenmill
