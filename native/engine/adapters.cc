#include "engine/adapters.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "core/hash64.h"
#include "core/keyed_hash.h"

namespace tokenmill {
namespace {

// A source that digests what is read of it, in whatever order.
class DigestedSource final : public AdapterSource {
 public:
  DigestedSource(const AdapterSource* source, const Program* program)
      : source_(source), program_(program), hashes_(2 * source->factors().size()) {}

  std::span<const AdapterFactors> factors() const override { return source_->factors(); }

  Status Read(size_t index, AdapterFactor which, void* out) const override {
    TM_RETURN_IF_ERROR(source_->Read(index, which, out));
    const AdapterFactors& factors = source_->factors()[index];
    const WeightDesc& matrix = program_->weights[static_cast<size_t>(factors.matrix)];
    const int64_t length = which == AdapterFactor::kA ? matrix.cols : matrix.rows;
    const size_t bytes = static_cast<size_t>(RowBytes(factors.dtype, length) * factors.rank);
    hashes_[2 * index + (which == AdapterFactor::kB)] = {Hash64(out, bytes), KeyedHash(out, bytes)};
    return {};
  }

  AdapterDigest Digest() const {
    std::vector<uint64_t> plain, keyed;
    for (size_t i = 0; i < factors().size(); ++i) {
      const AdapterFactors& factors = source_->factors()[i];
      uint32_t scale = 0;
      std::memcpy(&scale, &factors.scale, sizeof(scale));
      for (std::vector<uint64_t>* words : {&plain, &keyed}) {
        words->push_back(static_cast<uint64_t>(factors.matrix) << 32 | scale);
        words->push_back(static_cast<uint64_t>(factors.rank) << 32 | static_cast<uint32_t>(factors.dtype));
      }
      for (const AdapterDigest& hash : {hashes_[2 * i], hashes_[2 * i + 1]}) {
        plain.push_back(hash.first);
        keyed.push_back(hash.second);
      }
    }
    const size_t bytes = plain.size() * sizeof(uint64_t);
    return {Hash64(plain.data(), bytes), KeyedHash(keyed.data(), bytes)};
  }

 private:
  const AdapterSource* const source_;
  const Program* const program_;
  mutable std::vector<AdapterDigest> hashes_;  // A and B of each
};

template <class Value>
void Append(const Value& value, std::string* bytes) {
  bytes->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

}  // namespace

std::string AdapterKey(std::span<const AdapterMark> marks) {
  std::vector<AdapterMark> sums;
  for (const AdapterMark& mark : marks) {
    const auto known = std::ranges::find(sums, mark.digest, &AdapterMark::digest);
    if (known == sums.end()) {
      sums.push_back(mark);
    } else {
      known->scale += mark.scale;
    }
  }
  std::string key;
  for (const AdapterMark& mark : sums) {
    Append(mark.digest, &key);
    Append(mark.scale, &key);
  }
  return key;
}

Result<std::pair<AdapterSet::LoadedPtr, AdapterDigest>> AdapterSet::Read(
    const Opener& opener, std::vector<std::string>* targets) const {
  TM_ASSIGN_OR_RETURN(const std::unique_ptr<AdapterSource> source, opener());
  const DigestedSource digested(source.get(), program_);
  TM_ASSIGN_OR_RETURN(LoadedPtr loaded, executor_->LoadAdapter(digested));
  for (const AdapterFactors& factors : source->factors())
    if (targets != nullptr) targets->push_back(program_->weights[static_cast<size_t>(factors.matrix)].name);
  return std::make_pair(std::move(loaded), digested.Digest());
}

Result<AdapterInfo> AdapterSet::Load(ClientId client, Opener opener) {
  AdapterInfo info;
  TM_ASSIGN_OR_RETURN(auto read, Read(opener, &info.targets));
  info.digest = read.second;
  info.bytes = read.first->bytes();
  if (info.bytes > budget_) {
    return Error(Code::kOutOfMemory,
                 "the adapter takes %zu bytes; memory.adapters allows %zu. Load the model with a larger "
                 "memory.adapters",
                 info.bytes, budget_);
  }
  const auto fresh = std::make_shared<Entry>();
  const auto shared_opener = std::make_shared<const Opener>(std::move(opener));
  const std::lock_guard<std::mutex> lock(mutex_);
  if (gone_.contains(client))
    return Error(Code::kDisposed, "the model was disposed of while an adapter was loaded");
  // All that takes memory comes before the first change.
  info.id = next_id_++;
  Names added;
  Name& name = added[{client, info.id}];
  name.opener = shared_opener;
  const auto [known, is_new] = entries_.try_emplace(info.digest, fresh);
  const EntryPtr& entry = known->second;
  if (is_new) {
    entry->digest = info.digest;
    entry->bytes = info.bytes;
  }
  name.entry = entry;
  names_.merge(added);
  ++entry->names;
  entry->used_at = ++clock_;
  // Where those in use leave no room, it is read again when somebody wants it.
  if (!entry->loaded && MakeRoom(entry->bytes)) Keep(entry.get(), std::move(read.first));
  return info;
}

void AdapterSet::Release(ClientId client, AdapterId id) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (const auto name = names_.find({client, id}); name != names_.end()) Forget(name);
}

void AdapterSet::ReleaseAll(ClientId client) {
  const std::lock_guard<std::mutex> lock(mutex_);
  gone_.insert(client);
  for (auto name = names_.lower_bound({client, 0}); name != names_.end() && name->first.first == client;)
    name = Forget(name);
}

AdapterSet::Names::iterator AdapterSet::Forget(Names::iterator name) {
  Entry* entry = name->second.entry.get();
  if (--entry->names == 0) {
    if (entry->loaded) LetGo(entry);
    entries_.erase(entry->digest);
  }
  return names_.erase(name);
}

Result<std::vector<AdapterSet::EntryPtr>> AdapterSet::Find(ClientId client,
                                                           const std::vector<AdapterChoice>& choices) const {
  std::vector<EntryPtr> entries;
  size_t bytes = 0;
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const AdapterChoice& choice : choices) {
    const auto name = names_.find({client, choice.id});
    if (name == names_.end())
      return Error(Code::kDisposed, "an adapter of the request was unloaded; load it again");
    const EntryPtr& entry = name->second.entry;
    bytes += std::ranges::find(entries, entry) == entries.end() ? entry->bytes : 0;
    entries.push_back(entry);
  }
  if (bytes <= budget_) return entries;
  return Error(
      Code::kOutOfMemory,
      "the request's adapters take %zu bytes together; memory.adapters allows %zu. Load the model with a "
      "larger memory.adapters",
      bytes, budget_);
}

Result<AdapterStack> AdapterSet::Open(ClientId client, const std::vector<AdapterChoice>& choices) {
  TM_ASSIGN_OR_RETURN(const std::vector<EntryPtr> entries, Find(client, choices));
  AdapterStack stack;
  std::vector<AdapterMark> marks;
  for (size_t i = 0; i < choices.size(); ++i) {
    const float scale = choices[i].scale;
    TM_ASSIGN_OR_RETURN(LoadedPtr loaded, Bring(entries[i].get()));
    marks.push_back({entries[i]->digest, scale});
    // Executors take each once: named again, also by another name, it is the same with the sum of the scales.
    const auto known = std::ranges::find(stack.loaded, loaded);
    if (known != stack.loaded.end()) {
      stack.uses[static_cast<size_t>(known - stack.loaded.begin())].scale += scale;
      continue;
    }
    stack.uses.push_back({loaded.get(), scale});
    stack.loaded.push_back(std::move(loaded));
  }
  stack.key = AdapterKey(marks);
  return stack;
}

// An entry's adapter, read again when it is not in memory.
Result<AdapterSet::LoadedPtr> AdapterSet::Bring(Entry* entry) {
  if (LoadedPtr loaded = Take(entry)) return loaded;
  const std::lock_guard<std::mutex> reading(entry->reading);
  if (LoadedPtr loaded = Take(entry)) return loaded;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!MakeRoom(entry->bytes)) {
      return Error(Code::kOverloaded,
                   "the request's adapter takes %zu bytes, and adapters in use take %zu of the %zu that "
                   "memory.adapters allows. Try again later, or load the model with a larger memory.adapters",
                   entry->bytes, bytes_, budget_);
    }
    bytes_ += entry->bytes;  // so that nobody else takes the room
  }
  Result<LoadedPtr> loaded = Status(Code::kOutOfMemory, "the system refused memory to read an adapter again");
  try {
    loaded = ReadAgain(*entry);
  } catch (const std::bad_alloc&) {
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  bytes_ -= entry->bytes;
  if (!loaded.ok()) return loaded;
  ++reloads_;
  if (entry->loaded) return entry->loaded;  // an equal one has been loaded meanwhile
  if (entry->names > 0) Keep(entry, loaded.value());
  return loaded;
}

// From the first file that still has it.
Result<AdapterSet::LoadedPtr> AdapterSet::ReadAgain(const Entry& entry) const {
  std::vector<std::shared_ptr<const Opener>> openers;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [key, name] : names_)
      if (name.entry.get() == &entry) openers.push_back(name.opener);
  }
  Status failure(Code::kDisposed, "an adapter of the request was unloaded; load it again");
  for (const auto& opener : openers) {
    const auto read = Read(*opener);
    if (read.ok() && read.value().second == entry.digest) return read.value().first;
    failure = read.ok()
                  ? Error(Code::kCorruptFile,
                          "an adapter that was not in memory was read again, and its file is not as it was. "
                          "Load it anew")
                  : read.status();
  }
  return failure;
}

AdapterSet::LoadedPtr AdapterSet::Take(Entry* entry) {
  const std::lock_guard<std::mutex> lock(mutex_);
  entry->used_at = ++clock_;
  return entry->loaded;
}

void AdapterSet::Keep(Entry* entry, LoadedPtr loaded) {
  entry->loaded = std::move(loaded);
  bytes_ += entry->bytes;
  ++loaded_;
}

void AdapterSet::LetGo(Entry* entry) {
  entry->loaded.reset();
  bytes_ -= entry->bytes;
  --loaded_;
}

// Whether so many bytes fit, once those that nobody uses have gone as far as needed.
bool AdapterSet::MakeRoom(size_t bytes) {
  size_t unused = 0;
  for (const auto& [digest, entry] : entries_) unused += entry->unused() ? entry->bytes : 0;
  if (bytes > budget_ || bytes_ - unused > budget_ - bytes) return false;
  while (bytes_ > budget_ - bytes) LetGo(LongestUnused());
  return true;
}

AdapterSet::Entry* AdapterSet::LongestUnused() const {
  Entry* longest = nullptr;
  for (const auto& [digest, entry] : entries_) {
    if (entry->unused() && (longest == nullptr || entry->used_at < longest->used_at)) longest = entry.get();
  }
  return longest;
}

AdapterStats AdapterSet::Stats() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  AdapterStats stats;
  stats.registered = entries_.size();
  stats.loaded = loaded_;
  stats.bytes = bytes_;
  stats.budget_bytes = budget_;
  stats.reloads = reloads_;
  return stats;
}

}  // namespace tokenmill
