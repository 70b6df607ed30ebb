#include "engine/prefix_sharing.h"

#include <algorithm>
#include <new>

namespace tokenmill {
namespace {

// The index does without what there is no memory for.
template <class Body>
void Try(Sequence* sequence, const Body& body) {
  try {
    body();
  } catch (const std::bad_alloc&) {
    sequence->prefix.Reset();
  }
}

}  // namespace

bool PrefixSharing::Computes(const Sequence& owner, const Sequence& waiting) const {
  const size_t begin = owner.computed / kPageTokens * kPageTokens, end = begin + kPageTokens;
  if (waiting.request.score || !owner.prefix.valid()) return false;
  if (end > owner.wanted() || end > waiting.wanted()) return false;
  const auto same = [&](size_t from, size_t to) {
    return std::equal(owner.tokens.data() + from, owner.tokens.data() + to, waiting.tokens.data() + from);
  };
  // The block itself first: it tells apart what goes on differently after a long common prefix.
  if (!same(begin, end) || !same(0, begin) || SpaceOf(owner) != SpaceOf(waiting)) return false;
  // Who computes it may do so again: a score does, whatever is known.
  return !index_->Knows(owner.prefix, std::span<const Token>(owner.tokens).subspan(begin, kPageTokens));
}

void PrefixSharing::Adopt(Sequence* sequence) {
  if (index_ == nullptr) return;
  Try(sequence, [&] {
    if (sequence->request.score) return index_->Open(SpaceOf(*sequence), &sequence->prefix);
    const auto tokens = std::span<const Token>(sequence->tokens).first(sequence->wanted() - 1);
    sequence->adopted = index_->Adopt(SpaceOf(*sequence), tokens, &sequence->table, &sequence->prefix);
    sequence->computed = sequence->adopted;
  });
}

void PrefixSharing::CountStart(const Sequence& sequence) {
  if (index_ == nullptr || sequence.request.score) return;
  ++stats_.lookups;
  stats_.hits += sequence.adopted > 0;
  stats_.hit_tokens += sequence.adopted;
}

void PrefixSharing::Enter(Sequence* sequence) {
  if (!sequence->prefix.valid()) return;
  Try(sequence,
      [&] { index_->Enter(sequence->tokens, sequence->computed, &sequence->table, &sequence->prefix); });
}

void PrefixSharing::Reject(Sequence* sequence) {
  if (sequence->prefix.valid()) index_->Reject(sequence->adopted / kPageTokens, &sequence->prefix);
}

void PrefixSharing::Leave(Sequence* sequence) {
  if (!sequence->prefix.valid()) return;
  Try(sequence,
      [&] { index_->EnterPartial(sequence->tokens, sequence->computed, sequence->table, sequence->prefix); });
  sequence->prefix.Reset();
}

}  // namespace tokenmill
