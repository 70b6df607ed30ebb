// Who is in a step, and with how many rows.

#include <algorithm>
#include <limits>

#include "engine/scheduler.h"

namespace tokenmill {

// Rows are given first and pages reserved meanwhile, so that who loses its pages to another can lose its rows; the
// plan is written when all is settled.
bool Scheduler::TryPlan(StepPlan* plan) {
  plan->Clear();
  admitting_ = true;
  const std::vector<Sequence*> decoding = Offer();
  const int decode_rows = std::min(static_cast<int>(decoding.size()), limits_.max_rows);
  int budget =
      std::min(limits_.max_rows - decode_rows, step_budget_.PrefillRows(decode_rows, Waiting(decoding)));
  if (Sequence* senior = MostSenior(); senior != nullptr && senior->alone_until > 0) {
    // Who gave up its own pages, which lay scattered, gets them first, and alone until it is as far as it was: with
    // company they could scatter as before. A paused reply that others took the pages of waits for its turn.
    const int rows = PlanRows(senior, budget);
    queue_.Charge(senior->place, rows);
    budget -= rows;
  }
  for (int i = 0; i < decode_rows; ++i) {
    Sequence* sequence = decoding[static_cast<size_t>(i)];
    if (sequence->decoding()) queue_.Charge(sequence->place, PlanRows(sequence, 1));
  }
  PlanPrefill(budget);
  PlanGuesses(decoding);
  for (const SequencePtr& sequence : sequences_) {
    if (sequence->planned == 0) continue;
    if (sequence->computed == sequence->adopted) Start(sequence.get());
    plan->Add(sequence.get(), sequence->planned, pool_->groups());
  }
  return plan->rows() > 0;
}

// Puts those that want prefill on offer; gives those that decode, the most senior first.
std::vector<Sequence*> Scheduler::Offer() {
  queue_.Begin(now_());
  planned_.clear();
  std::vector<Sequence*> decoding;
  for (size_t i = 0; i < sequences_.size(); ++i) {
    Sequence* sequence = sequences_[i].get();
    sequence->planned = 0;
    sequence->DropGuesses();
    if (sequence->paused()) continue;
    if (sequence->decoding()) {
      decoding.push_back(sequence);
    } else {
      queue_.Offer(sequence->place, i);
    }
  }
  std::sort(decoding.begin(), decoding.end(),
            [](const Sequence* a, const Sequence* b) { return a->seniority < b->seniority; });
  return decoding;
}

// Requests that want prefill and are at least as important as all that decode.
int Scheduler::Waiting(const std::vector<Sequence*>& decoding) const {
  int highest = std::numeric_limits<int>::min();
  for (const Sequence* sequence : decoding) highest = std::max(highest, sequence->request.priority);
  return static_cast<int>(std::ranges::count_if(sequences_, [highest](const SequencePtr& sequence) {
    return !sequence->paused() && !sequence->decoding() && sequence->request.priority >= highest;
  }));
}

// Divides the prefill rows. Who has to wait for pages is not overtaken by others without: it stays the first.
void Scheduler::PlanPrefill(int budget) {
  const auto has_no_pages = [this](size_t i) { return sequences_[i]->table.held() == 0; };
  bool withdrawn = false;
  while (budget > 0) {
    const auto turn = queue_.Next();
    if (!turn) return;
    Sequence* sequence = sequences_[turn->item].get();
    const int rows = PlanRows(sequence, std::min(turn->rows, budget));
    if (rows > 0) {
      budget -= rows;
      queue_.Served(rows, static_cast<size_t>(sequence->planned) < sequence->remaining());
      continue;
    }
    queue_.Skip();
    if (!admitting_ && !std::exchange(withdrawn, true)) queue_.Withdraw(has_no_pages);
  }
}

// Gives a sequence at most so many more rows of the step, and the pages for them. None when it has to wait; then it
// may have lost those that it had.
int Scheduler::PlanRows(Sequence* sequence, int rows_max) {
  if (rows_max == 0 || !Admit(sequence)) return 0;
  const int rows = std::min(rows_max, static_cast<int>(sequence->remaining()) - sequence->planned);
  if (rows == 0) return 0;
  if (!Reserve(sequence, sequence->planned + rows)) {
    admitting_ = false;
    return 0;
  }
  if (sequence->planned == 0) planned_.push_back(sequence);
  sequence->planned += rows;
  const size_t until = sequence->computed + static_cast<size_t>(sequence->planned);
  admitting_ = admitting_ && until >= sequence->alone_until;
  return rows;
}

// Whether a sequence has pages, or may take some. It then has those of the longest known prefix.
bool Scheduler::Admit(Sequence* sequence) {
  if (sequence->table.held() > 0) return true;
  if (!admitting_ || IsBeingComputed(*sequence)) return false;
  Settle(sequence);
  prefix_.Adopt(sequence);
  if (Alone(*sequence) || Admissible(*sequence, false)) return true;
  // What sessions hold is not given up in vain.
  for (bool enough = Admissible(*sequence, true); enough && held_.GiveUpOldest();) {
    if (Admissible(*sequence, false)) return true;
  }
  GiveBack(sequence);
  admitting_ = false;
  return false;
}

// Its place among those that have or had pages, as if it had started earlier for its priority. One that has
// only asked so far is settled anew.
void Scheduler::Settle(Sequence* sequence) const {
  if (sequence->started()) return;
  sequence->seniority.since = now_() - sequence->request.priority * FairQueue::kAgeing;
}

Sequence* Scheduler::MostSenior() const {
  Sequence* senior = nullptr;
  for (const SequencePtr& sequence : sequences_) {
    if (sequence->paused() || !sequence->started()) continue;
    if (senior == nullptr || sequence->seniority < senior->seniority) senior = sequence.get();
  }
  return senior;
}

}  // namespace tokenmill
