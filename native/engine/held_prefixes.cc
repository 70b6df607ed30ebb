#include "engine/held_prefixes.h"

#include <limits>
#include <new>

namespace tokenmill {

void HeldPrefixes::Hold(Name name, const PrefixSpace& space, std::span<const Token> tokens) {
  if (index_ == nullptr) return;
  const Stamp stamp = ++clock_;
  try {
    Held& held = held_.try_emplace(stamp, pool_, groups_).first->second;
    index_->Adopt(space, tokens, &held.table, &held.cursor);
    const auto [entry, is_new] = names_.try_emplace(name, stamp);
    if (!is_new) {
      Drop(entry);
      entry->second = stamp;
    }
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
  if (const auto held = held_.find(to->second); held != held_.end()) ++held->second.names;
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
void HeldPrefixes::Drop(std::map<Name, Stamp>::iterator name) {
  const auto held = held_.find(name->second);
  if (held != held_.end() && --held->second.names == 0) held_.erase(held);
}

bool HeldPrefixes::GiveUpOldest() {
  if (held_.empty()) return false;
  held_.erase(held_.begin());
  return true;
}

void HeldPrefixes::ForEach(const std::function<void(const BlockTable&)>& visit) const {
  for (const auto& [stamp, held] : held_) visit(held.table);
}

std::string HeldPrefixes::CheckIntegrity() const {
  std::map<Stamp, size_t> names;
  for (const auto& [name, stamp] : names_) ++names[stamp];
  for (const auto& [stamp, held] : held_) {
    if (held.names != names[stamp]) {
      return Format("a held prefix has %zu names and counts %zu", names[stamp], held.names);
    }
  }
  return "";
}

}  // namespace tokenmill
