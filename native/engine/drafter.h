#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/draft_pace.h"
#include "engine/draft_source.h"
#include "engine/draft_step.h"
#include "engine/sequence.h"
#include "kv/block_pool.h"
#include "kv/block_table.h"
#include "kv/prefix_index.h"

namespace tokenmill {

/// Guesses how sequences go on by having a draft model write ahead: all that want guesses together, a token each at a
/// time, drawn as the sequences themselves draw. What it draws ends where a guess is not worth its row and another step
/// of the draft. It has its own pages, of an own pool; a sequence that gets none goes without guesses, and so does one
/// beyond the draft's context. Prompts are read in the same rounds, a bounded number of rows in each. Made on any
/// thread; then it belongs to the target's loop thread.
class Drafter {
 public:
  using Now = std::function<Clock::time_point()>;

  /// Rows of one step of the draft at most.
  static constexpr int kMaxRows = 128;
  /// One round in so many tries a guess for a sequence for which guesses do not seem to be worth what they cost...
  static constexpr uint64_t kTryInterval = 32;
  /// ...unless the draft would have to read more tokens than this for it.
  static constexpr size_t kTryTokens = 256;

  /// A sequence whose next token is known to be computed, and so many guesses at most.
  struct Wish {
    Sequence* sequence;
    size_t most;
  };

  /// Incompatible when the vocabularies differ.
  static Result<std::shared_ptr<Drafter>> Open(const DraftSource& source, const Tokenizer& target,
                                               Now now = Clock::now);

  Drafter(std::unique_ptr<Executor> executor, const DraftSource& source, Now now);

  /// Gives the sequences guesses, so many in all at most, to those that are named first rather than to others.
  void Guess(std::span<const Wish> wishes, size_t guesses);
  /// Lets go of what it has of a sequence, which ends.
  void Forget(const Sequence& sequence) noexcept;
  /// What a step of the target with so many rows, decode rows and guesses alone, took.
  void NoteTargetStep(int rows, double ms) { pace_.TargetStep(rows, ms); }

  const BlockPool& pool() const { return pool_; }
  /// Empty when the pages of all drafts are those that are used; else what is wrong.
  std::string CheckIntegrity() const;

 private:
  /// What the draft has computed of a sequence.
  struct Draft {
    Draft(BlockPool* pool, const std::vector<KvGroup>* groups) : table(pool, groups) {}

    BlockTable table;
    PrefixIndex::Cursor prefix;
    size_t computed = 0;  // of the sequence's tokens
    std::vector<Token> ahead;  // computed behind these: guesses
    uint64_t round = 0;  // that it was last in
    bool useless = false;  // its logits are no numbers
  };

  /// A draft in a round.
  struct Member {
    Sequence* sequence;
    Draft* draft;
    size_t most;
    bool trial;  // its guess does not seem to be worth it
    double needed = 1;  // the chance that all guesses so far come true
    std::optional<Penalties> penalties = std::nullopt;  // as they are behind the guesses
    size_t rows = 0;  // of its tokens in the step
    std::optional<size_t> draw = std::nullopt;  // its number in the step

    size_t pending() const { return sequence->tokens.size() - draft->computed; }
  };
  using Members = std::vector<Member>;

  Status TryGuess(std::span<const Wish> wishes, size_t guesses);
  Members Join(std::span<const Wish> wishes);
  size_t Unread(const Sequence& sequence) const;
  Draft* DraftOf(const Sequence& sequence);
  static void Follow(const Sequence& sequence, Draft* draft);
  void Read(Members* members, size_t guesses);
  void WriteAhead(Members* members, size_t guesses);
  void NoteComputed(Member* member);
  bool Accept(Member* member, const StepResult& result, size_t company);
  void Draw(Member* member);
  Status Run(StepResult* result);
  bool Reserve(Draft* draft, size_t from, size_t to);
  bool EvictIdle();
  void Enter(const Sequence& sequence, Draft* draft) noexcept;
  void FollowBudget();

  const std::unique_ptr<Executor> executor_;
  const std::shared_ptr<const Tokenizer> tokenizer_;
  const std::vector<KvGroup> groups_;
  const int context_length_;
  const std::shared_ptr<const std::atomic<uint64_t>> kv_bytes_;
  const Now now_;
  BlockPool pool_;
  std::optional<PrefixIndex> prefix_;
  std::map<const Sequence*, Draft> drafts_;
  DraftStep step_;
  DraftPace pace_;
  uint64_t round_ = 0;
  uint64_t next_trial_ = kTryInterval;  // a round
};

}  // namespace tokenmill
