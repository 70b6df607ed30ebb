// Ends at deadlines, of requests that are under way and of those that are still being tokenized.

#include <algorithm>

#include "engine/scheduler.h"

namespace tokenmill {
namespace {

Status Exceeded(const char* doing, size_t tokens) {
  return Error(
      Code::kDeadlineExceeded,
      "the deadline passed while the request was %s; its reply had %zu tokens. Allow more time, ask for "
      "fewer tokens, or raise its priority",
      doing, tokens);
}

const char* Doing(const Sequence& sequence) {
  if (!sequence.started()) return "waiting in the queue";
  if (sequence.paused()) return "waiting for its reader";
  return sequence.request.score || sequence.replied() == 0 ? "reading its prompt" : "generating";
}

}  // namespace

void Scheduler::Expect(ClientId client, RequestId id, Clock::time_point deadline) {
  expected_.insert_or_assign(Key(client, id), Expected{deadline, false});
}

// A request has been tokenized or refused; false when its deadline had ended it before.
bool Scheduler::Arrives(ClientId client, RequestId id) {
  const auto found = expected_.find(Key(client, id));
  if (found == expected_.end()) return true;
  const bool ended = found->second.ended;
  expected_.erase(found);
  return !ended;
}

std::optional<Clock::time_point> Scheduler::Expire() {
  const Clock::time_point now = now_();
  std::optional<Clock::time_point> next;
  const auto passed = [&](Clock::time_point deadline) {
    if (deadline > now) next = std::min(next.value_or(deadline), deadline);
    return deadline <= now;
  };
  for (const SequencePtr& sequence : sequences_) {
    if (!sequence->deadline || !passed(*sequence->deadline)) continue;
    End(sequence.get(), Exceeded(Doing(*sequence), sequence->replied()), FinishReason::kAborted, {});
  }
  for (auto& [key, expected] : expected_) {
    if (expected.ended || !passed(expected.deadline)) continue;
    Answer(key.first, key.second, Exceeded("being tokenized", 0));
    expected.ended = true;
    ++totals_.failed;
  }
  RemoveEnded();
  return next;
}

}  // namespace tokenmill
