#pragma once

#include "engine/sequence.h"
#include "kv/prefix_index.h"

namespace tokenmill {

/// Counters since the engine started, of sequences that began to run or to run again.
struct PrefixStats {
  uint64_t lookups = 0, hits = 0, hit_tokens = 0;
};

/// What sequences take from the prefix index and give to it. A sequence that the index has no memory for goes on
/// without it. Without an index every call does nothing. Belongs to the loop thread.
class PrefixSharing {
 public:
  explicit PrefixSharing(PrefixIndex* index) : index_(index) {}

  /// Whether the next rows of `owner` belong to a block that `waiting`, which has no pages, could begin behind. Only
  /// for an owner in the step that is being planned: it gets on, so nobody waits for ever.
  bool Computes(const Sequence& owner, const Sequence& waiting) const;
  /// Gives a sequence without pages its longest known prefix; all but one token at most, whose logits it needs. A
  /// score takes nothing: it needs the logits of every token.
  void Adopt(Sequence* sequence);
  /// Counts a sequence that starts with what it took.
  void CountStart(const Sequence& sequence);
  /// Enters the whole blocks that a sequence has computed.
  void Enter(Sequence* sequence);
  /// Forgets what a sequence computed whose results are not numbers.
  void Reject(Sequence* sequence);
  /// Enters the rest, of a sequence whose pages are given back next.
  void Leave(Sequence* sequence);

  static PrefixSpace SpaceOf(const Sequence& sequence) {
    return {sequence.request.cache_salt, sequence.adapters.key, sequence.origin};
  }

  const PrefixStats& stats() const { return stats_; }

 private:
  PrefixIndex* const index_;
  PrefixStats stats_;
};

}  // namespace tokenmill
