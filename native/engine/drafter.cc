#include "engine/drafter.h"

#include <algorithm>
#include <cmath>
#include <new>

#include "engine/prefix_sharing.h"

namespace tokenmill {

Result<std::shared_ptr<Drafter>> Drafter::Open(const DraftSource& source, const Tokenizer& target, Now now) {
  TM_RETURN_IF_ERROR(CheckVocabulary(target, source));
  TM_ASSIGN_OR_RETURN(std::unique_ptr<Executor> executor, source.executor->Twin(kMaxRows));
  return std::make_shared<Drafter>(std::move(executor), source, std::move(now));
}

Drafter::Drafter(std::unique_ptr<Executor> executor, const DraftSource& source, Now now)
    : executor_(std::move(executor)),
      tokenizer_(source.tokenizer),
      groups_(source.groups),
      context_length_(source.context_length),
      kv_bytes_(source.kv_bytes),
      now_(std::move(now)),
      pool_(executor_.get(), static_cast<int>(groups_.size()), kv_bytes_->load()),
      step_(source.threads) {
  if (source.prefix_cache) prefix_.emplace(&pool_, &groups_);
}

// A failure costs guesses only: what it leaves in pages is let go of.
void Drafter::Guess(std::span<const Wish> wishes, size_t guesses) {
  Status status;
  try {
    status = TryGuess(wishes, guesses);
    pool_.TrimCached();
  } catch (const std::bad_alloc&) {
    status = Status(Code::kOutOfMemory, "");
  }
  if (status.ok()) return;
  for (const Wish& wish : wishes) {
    wish.sequence->DropGuesses();
    drafts_.erase(wish.sequence);
  }
}

Status Drafter::TryGuess(std::span<const Wish> wishes, size_t guesses) {
  ++round_;
  FollowBudget();
  Members members = Join(wishes);
  for (Read(&members, guesses); step_.rows() > 0; WriteAhead(&members, guesses)) {
    StepResult result;
    TM_RETURN_IF_ERROR(Run(&result));
    for (Member& member : members) NoteComputed(&member);
    std::erase_if(members, [](const Member& member) { return !member.draw; });
    const size_t company = members.size();
    std::erase_if(members, [&](Member& member) {
      const size_t before = member.sequence->guesses.size();
      const bool goes_on = Accept(&member, result, company);
      guesses -= member.sequence->guesses.size() - before;
      return !goes_on;
    });
  }
  return {};
}

// Whose guesses are worth it as far as is known; with what the draft has of them brought up to their replies.
Drafter::Members Drafter::Join(std::span<const Wish> wishes) {
  Members members;
  const double cost = pace_.Cost(wishes.size());
  bool tried = round_ < next_trial_;  // or it is not time to
  for (const Wish& wish : wishes) {
    Sequence* sequence = wish.sequence;
    const size_t tokens = sequence->tokens.size();
    const size_t room = static_cast<size_t>(context_length_) - std::min<size_t>(context_length_, tokens);
    if (room == 0) Forget(*sequence);
    if (std::min(room, wish.most) == 0) continue;
    const bool trial = sequence->odds.Chance() < cost;
    if (trial && (tried || Unread(*sequence) > kTryTokens)) continue;
    Draft* draft = DraftOf(*sequence);
    if (draft->useless) continue;
    tried = tried || trial;
    draft->round = round_;
    Follow(*sequence, draft);
    if (draft->computed == tokens) --draft->computed;  // for the logits of its last token
    members.push_back({sequence, draft, std::min(room, wish.most), trial});
    if (sequence->penalties.active()) members.back().penalties = sequence->penalties;
  }
  return members;
}

// Tokens that the draft has to read of a sequence, at most.
size_t Drafter::Unread(const Sequence& sequence) const {
  const auto found = drafts_.find(&sequence);
  return sequence.tokens.size() - (found == drafts_.end() ? 0 : found->second.computed);
}

// A new one begins behind the longest prefix that the draft knows.
Drafter::Draft* Drafter::DraftOf(const Sequence& sequence) {
  const auto [found, added] = drafts_.try_emplace(&sequence, &pool_, &groups_);
  Draft* draft = &found->second;
  if (!added || !prefix_) return draft;
  const auto known = std::span<const Token>(sequence.tokens).first(sequence.tokens.size() - 1);
  draft->computed = prefix_->Adopt(PrefixSharing::SpaceOf(sequence), known, &draft->table, &draft->prefix);
  return draft;
}

// Guesses that came true are computed tokens of the sequence; what was computed behind them is void.
void Drafter::Follow(const Sequence& sequence, Draft* draft) {
  const auto behind = std::span<const Token>(sequence.tokens).subspan(draft->computed);
  const auto [guess, token] = std::ranges::mismatch(draft->ahead, behind);
  draft->computed += static_cast<size_t>(guess - draft->ahead.begin());
  draft->ahead.clear();
}

// The first step of a round: tokens that the draft has not read yet, those of few first, so that a long prompt does not
// keep the others waiting. What has been read to its end draws a first guess.
void Drafter::Read(Members* members, size_t guesses) {
  step_.Clear();
  std::ranges::stable_sort(*members, {}, &Member::pending);
  size_t rows = static_cast<size_t>(pace_.CatchUpRows(kMaxRows)) + 2 * members->size();
  rows = std::min<size_t>(rows, kMaxRows);
  for (Member& member : *members) {
    const size_t count = std::min(member.pending(), rows);
    const bool draws = count == member.pending();
    if (count == 0 || (draws && guesses == 0)) continue;
    Draft* draft = member.draft;
    if (!Reserve(draft, draft->computed, draft->computed + count + (draws ? member.most : 0))) continue;
    const auto tokens = std::span<const Token>(member.sequence->tokens).subspan(draft->computed, count);
    step_.Add(tokens, draft->computed, draft->table, pool_.groups());
    member.rows = count;
    rows -= count;
    if (!draws) continue;
    Draw(&member);
    --guesses;
  }
}

// The next step: each one's latest guess, to draw another; where not all can have one, those that will likelier be
// needed.
void Drafter::WriteAhead(Members* members, size_t guesses) {
  step_.Clear();
  if (members->size() > guesses) {
    std::ranges::stable_sort(*members, std::greater(), &Member::needed);
    members->erase(members->begin() + static_cast<std::ptrdiff_t>(guesses), members->end());
  }
  for (Member& member : *members) {
    const std::vector<Token>& written = member.sequence->guesses;
    const Draft& draft = *member.draft;
    step_.Add(std::span(written).last(1), draft.computed + draft.ahead.size(), draft.table, pool_.groups());
    Draw(&member);
  }
}

void Drafter::Draw(Member* member) {
  const Sequence& sequence = *member->sequence;
  const std::span<const LogitEdit> edits =
      member->penalties ? member->penalties->Edits() : std::span<const LogitEdit>();
  member->draw = step_.Draw(sequence.request.sampling, sequence.replied() + sequence.guesses.size(), edits);
}

Status Drafter::Run(StepResult* result) {
  const Clock::time_point before = now_();
  TM_RETURN_IF_ERROR(executor_->Run(step_.Input(), result));
  const std::chrono::duration<double, std::milli> took = now_() - before;
  pace_.DraftStep(step_.rows(), took.count());
  return {};
}

void Drafter::NoteComputed(Member* member) {
  Draft* draft = member->draft;
  const size_t rows = std::exchange(member->rows, 0);
  if (rows > 0) {
    draft->computed += rows;
    Enter(*member->sequence, draft);
  } else if (member->draw) {
    draft->ahead.push_back(member->sequence->guesses.back());
  }
}

// Takes what was drawn for a guess if it is worth its row; whether another one seems to be worth what it costs.
bool Drafter::Accept(Member* member, const StepResult& result, size_t company) {
  Sequence* sequence = member->sequence;
  const HeadResult& head = result.head[*member->draw];
  if (member->trial) next_trial_ = round_ + kTryInterval;
  Candidate drawn;
  if (!step_.Drawn(*member->draw, head, &drawn)) {
    member->draft->useless = !head.finite;
    return false;
  }
  if (!sequence->request.ignore_eos && tokenizer_->IsEndOfGeneration(drawn.token)) return false;
  const GuessOdds::Evidence evidence = GuessOdds::OfProbability(std::exp(drawn.raw - head.log_sum_exp));
  member->needed *= sequence->odds.Chance(evidence);
  const bool at_any_rate = member->trial && sequence->guesses.empty();
  if (member->needed < GuessOdds::kRowCost && !at_any_rate) return false;
  sequence->guesses.push_back(drawn.token);
  sequence->evidence.push_back(evidence);
  if (member->penalties) member->penalties->Count(drawn.token, true);
  return sequence->guesses.size() < member->most &&
         member->needed * sequence->odds.Chance() >= pace_.Cost(company);
}

// Pages for positions that the round computes. Taken from sequences that had no part in this round and the last one,
// not from each other: these would take them in turn.
bool Drafter::Reserve(Draft* draft, size_t from, size_t to) {
  while (!draft->table.Reserve(static_cast<int>(from), static_cast<int>(to))) {
    if (!EvictIdle()) return false;
  }
  return true;
}

bool Drafter::EvictIdle() {
  const auto oldest =
      std::ranges::min_element(drafts_, {}, [](const auto& entry) { return entry.second.round; });
  if (oldest == drafts_.end() || oldest->second.round + 1 >= round_) return false;
  drafts_.erase(oldest);
  return true;
}

// The draft model's budget can change at any time.
void Drafter::FollowBudget() {
  const size_t limit = kv_bytes_->load(std::memory_order_relaxed);
  if (limit == pool_.limit_bytes()) return;
  while (pool_.PackedBytes() > limit) {
    if (pool_.EvictOldest()) continue;
    drafts_.erase(
        std::ranges::min_element(drafts_, {}, [](const auto& entry) { return entry.second.round; }));
  }
  pool_.SetLimit(limit);
}

// The index does without what there is no memory for.
void Drafter::Enter(const Sequence& sequence, Draft* draft) noexcept {
  if (!draft->prefix.valid()) return;
  try {
    prefix_->Enter(sequence.tokens, draft->computed, &draft->table, &draft->prefix);
  } catch (const std::bad_alloc&) {
    draft->prefix.Reset();
  }
}

// What it has computed stays cached, for a turn that follows.
void Drafter::Forget(const Sequence& sequence) noexcept {
  const auto found = drafts_.find(&sequence);
  if (found == drafts_.end()) return;
  Draft* draft = &found->second;
  Follow(sequence, draft);
  Enter(sequence, draft);
  if (draft->prefix.valid()) {
    try {
      prefix_->EnterPartial(sequence.tokens, draft->computed, draft->table, draft->prefix);
    } catch (const std::bad_alloc&) {
    }
  }
  drafts_.erase(found);
}

std::string Drafter::CheckIntegrity() const {
  std::string finding = pool_.CheckIntegrity();
  if (finding.empty() && prefix_) finding = prefix_->CheckIntegrity();
  for (int g = 0; finding.empty() && g < pool_.groups(); ++g) {
    std::map<PageId, uint32_t> references;
    for (const auto& [sequence, draft] : drafts_) {
      for (size_t block = 0; block < draft.table.blocks(g); ++block)
        if (const PageId page = draft.table.pages(g)[block]; page != kNoPage) ++references[page];
    }
    const bool agree = std::ranges::all_of(
        references, [&](const auto& entry) { return entry.second == pool_.references(g, entry.first); });
    if (!agree || references.size() != pool_.used(g))
      finding = Format("draft, group %d: %zu pages are in tables, %zu are used", g, references.size(),
                       pool_.used(g));
  }
  return finding;
}

}  // namespace tokenmill
