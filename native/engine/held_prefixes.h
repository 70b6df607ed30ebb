#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/sequence.h"
#include "kv/block_table.h"
#include "kv/prefix_index.h"

namespace tokenmill {

/// What sessions keep of the KV cache between their turns: references on the pages of a prefix, so that these stay
/// while cached ones go. A prefix is held until its names are released, or until running requests need its pages; then
/// these are cached ones like others, and who held them computes anew what is evicted. Names that forks share cost an
/// entry. Without an index nothing is held. Belongs to the loop thread.
class HeldPrefixes {
 public:
  using Name = std::pair<ClientId, HoldId>;
  using Stamp = uint64_t;  // of when something was held first; 0: never

  using FirstBlocks = std::array<size_t, kMaxKvGroups>;

  struct Held {
    Held(BlockPool* pool, const std::vector<KvGroup>* groups) : table(pool, groups) {}

    BlockTable table;
    PrefixIndex::Cursor cursor;
    std::vector<Token> tokens;  // whose keys and values are in the table's pages
    std::string adapters;  // PrefixSpace::adapters that they were computed with
    size_t names = 0;
  };

  HeldPrefixes(BlockPool* pool, const std::vector<KvGroup>* groups, PrefixIndex* index)
      : pool_(pool), groups_(groups), index_(index) {}

  /// Holds what the index has of `tokens` under this name, and no longer what it held before. Who goes on may do so
  /// from any token after the first `certain`: pages that a window has passed since then are held as well.
  void Hold(Name name, const PrefixSpace& space, std::span<const Token> tokens, size_t certain);
  /// Holds under `copy` what `name` holds, from the same origin, and no longer what it held before.
  void Fork(Name name, Name copy);
  void Release(Name name);
  /// Releases all names of a client.
  void ReleaseAll(ClientId client);
  /// Holds no longer what was held first of all that is held; whether there was any.
  bool GiveUpOldest();

  /// What a name holds, by its stamp; null when it has been given up.
  Stamp Find(Name name) const;
  const Held* At(Stamp stamp) const;
  /// Holds pages for `tokens` under a name that is new, in each group from a block on. They are the caller's to fill;
  /// nobody else finds them. 0, and nothing is given up, when they do not fit beside those that run.
  Stamp Reserve(Name name, std::span<const Token> tokens, const FirstBlocks& first);
  /// Enters pages that have been filled into the index: into a space that only this name's requests, and those of its
  /// forks, look into. Nobody knows whether the pages hold what their tokens give, so they can mislead no one else.
  void Enter(Stamp stamp, PrefixSpace space);
  /// PrefixSpace::origin of a name's requests.
  uint64_t OriginOf(Name name) const;

  /// Each table with pages.
  void ForEach(const std::function<void(const BlockTable&)>& visit) const;
  /// Empty when names and tables agree; else what is wrong.
  std::string CheckIntegrity() const;

 private:
  /// What a name stands for.
  struct Entry {
    Stamp stamp = 0;  // also of what was given up
    uint64_t origin = 0;
  };

  bool MakeRoom(size_t blocks, const FirstBlocks& first);
  bool Allocate(size_t blocks, const FirstBlocks& first, BlockTable* table);
  void Drop(std::map<Name, Entry>::iterator name);

  BlockPool* const pool_;
  const std::vector<KvGroup>* const groups_;
  PrefixIndex* const index_;
  Stamp clock_ = 0;
  std::map<Stamp, Held> held_;
  std::map<Name, Entry> names_;
};

}  // namespace tokenmill
