#include "engine/held_prefixes.h"

#include <algorithm>
#include <limits>
#include <new>

namespace tokenmill {

void HeldPrefixes::Hold(Name name, const PrefixSpace& space, std::span<const Token> tokens, size_t certain) {
  if (index_ == nullptr) return;
  const Stamp stamp = ++clock_;
  try {
    Held& held = held_.try_emplace(stamp, pool_, groups_).first->second;
    const size_t known = index_->Adopt(space, tokens, &held.table, &held.cursor, certain);
    held.tokens.assign(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(known));
    held.adapters = space.adapters;
    const auto [entry, is_new] = names_.try_emplace(name);
    if (!is_new) Drop(entry);
    entry->second = {stamp, space.origin};
    held.names = 1;
  } catch (const std::bad_alloc&) {  // it holds what it held before
    held_.erase(stamp);
  }
}

void HeldPrefixes::Fork(Name name, Name copy) {
  const auto from = names_.find(name);
  if (from == names_.end() || name == copy) return;
  const auto [to, is_new] = names_.try_emplace(copy, from->second);
  if (!is_new) Drop(to);
  to->second = from->second;
  if (const auto held = held_.find(to->second.stamp); held != held_.end()) ++held->second.names;
}

void HeldPrefixes::Release(Name name) {
  const auto entry = names_.find(name);
  if (entry == names_.end()) return;
  Drop(entry);
  names_.erase(entry);
}

void HeldPrefixes::ReleaseAll(ClientId client) {
  const auto end = names_.upper_bound({client, std::numeric_limits<HoldId>::max()});
  for (auto entry = names_.lower_bound({client, 0}); entry != end; entry = names_.erase(entry)) Drop(entry);
}

// What a name holds goes with its last one.
void HeldPrefixes::Drop(std::map<Name, Entry>::iterator name) {
  const auto held = held_.find(name->second.stamp);
  if (held != held_.end() && --held->second.names == 0) held_.erase(held);
}

bool HeldPrefixes::GiveUpOldest() {
  if (held_.empty()) return false;
  held_.erase(held_.begin());
  return true;
}

HeldPrefixes::Stamp HeldPrefixes::Find(Name name) const {
  const auto entry = names_.find(name);
  return entry == names_.end() ? 0 : entry->second.stamp;
}

uint64_t HeldPrefixes::OriginOf(Name name) const {
  const auto entry = names_.find(name);
  return entry == names_.end() ? 0 : entry->second.origin;
}

const HeldPrefixes::Held* HeldPrefixes::At(Stamp stamp) const {
  const auto held = held_.find(stamp);
  return held == held_.end() ? nullptr : &held->second;
}

HeldPrefixes::Stamp HeldPrefixes::Reserve(Name name, std::span<const Token> tokens,
                                          const FirstBlocks& first) {
  if (index_ == nullptr || names_.contains(name)) return 0;
  const Stamp stamp = ++clock_;
  const size_t blocks = (tokens.size() + kPageTokens - 1) / kPageTokens;
  try {
    BlockTable table(pool_, groups_);
    if (!MakeRoom(blocks, first) || !Allocate(blocks, first, &table)) return 0;
    Held& held = held_.try_emplace(stamp, pool_, groups_).first->second;
    held.tokens.assign(tokens.begin(), tokens.end());
    names_.emplace(name, Entry{stamp, stamp});
    table.Fork(static_cast<int>(tokens.size()), &held.table);
    held.names = 1;
    return stamp;
  } catch (const std::bad_alloc&) {
    names_.erase(name);
    held_.erase(stamp);
    return 0;
  }
}

// Gives up what was held first until the pages fit beside those that run, but nothing where all of it were not enough.
bool HeldPrefixes::MakeRoom(size_t blocks, const FirstBlocks& first) {
  std::array<size_t, kMaxKvGroups> pages = {};
  std::array<std::vector<PageId>, kMaxKvGroups> freed;
  std::vector<const BlockTable*> tables;
  ForEach([&](const BlockTable& table) { tables.push_back(&table); });
  for (size_t g = 0; g < groups_->size(); ++g) {
    pages[g] = blocks - std::min(blocks, first[g]);
    freed[g] = BlockTable::OwnedBy(*pool_, tables, static_cast<int>(g));
  }
  if (!pool_->Fits(pages, freed)) return false;
  while (!pool_->Fits(pages)) {
    if (!GiveUpOldest()) return false;
  }
  return true;
}

// All of the pages, or none.
bool HeldPrefixes::Allocate(size_t blocks, const FirstBlocks& first, BlockTable* table) {
  BlockTable::Pages taken;
  for (size_t g = 0; g < groups_->size(); ++g) taken[g].assign(blocks, kNoPage);
  BlockTable::Pages copy = taken;  // what is shared takes no memory any more
  bool all = true;
  try {
    for (size_t g = 0; g < groups_->size(); ++g) {
      for (size_t b = first[g]; b < blocks && all; ++b) {
        const PageId page = pool_->Allocate(static_cast<int>(g));
        taken[g][b] = copy[g][b] = page;
        all = page != kNoPage;
      }
    }
  } catch (const std::bad_alloc&) {
    all = false;
  }
  if (all) table->Share(std::move(copy));
  for (size_t g = 0; g < groups_->size(); ++g) {
    for (const PageId page : taken[g]) {
      if (page != kNoPage) pool_->Release(static_cast<int>(g), page);
    }
  }
  return all;
}

void HeldPrefixes::Enter(Stamp stamp, PrefixSpace space) {
  const auto entry = held_.find(stamp);
  if (entry == held_.end()) return;
  Held& held = entry->second;
  try {
    space.origin = stamp;
    held.adapters = space.adapters;
    index_->Open(space, &held.cursor);
    index_->Enter(held.tokens, held.tokens.size(), &held.table, &held.cursor);
    index_->EnterPartial(held.tokens, held.tokens.size(), held.table, held.cursor);
  } catch (const std::bad_alloc&) {
    held_.erase(entry);
  }
}

void HeldPrefixes::ForEach(const std::function<void(const BlockTable&)>& visit) const {
  for (const auto& [stamp, held] : held_) visit(held.table);
}

std::string HeldPrefixes::CheckIntegrity() const {
  std::map<Stamp, size_t> names;
  for (const auto& [name, entry] : names_) ++names[entry.stamp];
  for (const auto& [stamp, held] : held_) {
    if (held.names != names[stamp]) {
      return Format("a held prefix has %zu names and counts %zu", names[stamp], held.names);
    }
  }
  return "";
}

}  // namespace tokenmill
