#include "engine/adapters.h"

#include <algorithm>

#include "core/hash64.h"

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
    hashes_[2 * index + (which == AdapterFactor::kB)] = {Hash64(out, bytes, 1), Hash64(out, bytes, 2)};
    return {};
  }

  AdapterDigest Digest() const {
    AdapterDigest digest{0, 0};
    const auto add = [&digest](const void* data, size_t bytes) {
      digest = {Hash64(data, bytes, digest.first + 1), Hash64(data, bytes, digest.second + 2)};
    };
    for (size_t i = 0; i < factors().size(); ++i) {
      const AdapterFactors& factors = source_->factors()[i];
      const int32_t shape[] = {factors.matrix, factors.rank, static_cast<int32_t>(factors.dtype)};
      add(shape, sizeof(shape));
      add(&factors.scale, sizeof(factors.scale));
      add(&hashes_[2 * i], 2 * sizeof(hashes_[0]));
    }
    return digest;
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

Result<std::pair<AdapterSet::LoadedPtr, AdapterDigest>> AdapterSet::Read(const AdapterSource& source) const {
  const DigestedSource digested(&source, program_);
  TM_ASSIGN_OR_RETURN(LoadedPtr loaded, executor_->LoadAdapter(digested));
  return std::make_pair(std::move(loaded), digested.Digest());
}

Result<AdapterInfo> AdapterSet::Load(ClientId client, Opener opener) {
  TM_ASSIGN_OR_RETURN(const std::unique_ptr<AdapterSource> source, opener());
  TM_ASSIGN_OR_RETURN(auto read, Read(*source));
  auto& [loaded, digest] = read;
  AdapterInfo info{0, digest, loaded->bytes(), {}};
  for (const AdapterFactors& factors : source->factors())
    info.targets.push_back(program_->weights[static_cast<size_t>(factors.matrix)].name);

  const std::lock_guard<std::mutex> lock(mutex_);
  EntryPtr& entry = entries_[digest];
  if (!entry) {
    entry = std::make_shared<Entry>();
    entry->digest = digest;
    entry->bytes = info.bytes;
    entry->opener = std::move(opener);
  }
  // Where those in use leave no room, it is read again when somebody wants it.
  if (!entry->loaded && MakeRoom(entry->bytes)) Keep(entry.get(), std::move(loaded));
  entry->used_at = ++clock_;
  ++entry->names;
  info.id = next_id_++;
  names_[{client, info.id}] = entry;
  return info;
}

void AdapterSet::Release(ClientId client, AdapterId id) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (const auto name = names_.find({client, id}); name != names_.end()) Forget(name);
}

void AdapterSet::ReleaseAll(ClientId client) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (auto name = names_.lower_bound({client, 0}); name != names_.end() && name->first.first == client;)
    name = Forget(name);
}

AdapterSet::Names::iterator AdapterSet::Forget(Names::iterator name) {
  Entry* entry = name->second.get();
  if (--entry->names == 0) {
    if (entry->loaded) LetGo(entry);
    entries_.erase(entry->digest);
  }
  return names_.erase(name);
}

Result<AdapterStack> AdapterSet::Open(ClientId client, const std::vector<AdapterChoice>& choices) {
  AdapterStack stack;
  std::vector<AdapterDigest> digests;
  for (const AdapterChoice& choice : choices) {
    EntryPtr entry;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (const auto name = names_.find({client, choice.id}); name != names_.end()) entry = name->second;
    }
    if (!entry) return Error(Code::kDisposed, "an adapter of the request was unloaded; load it again");
    TM_ASSIGN_OR_RETURN(LoadedPtr loaded, Bring(entry.get()));
    // Executors take each once: named again, also by another name, it is the same with the sum of the scales.
    const auto known = std::ranges::find(stack.loaded, loaded);
    if (known != stack.loaded.end()) {
      stack.uses[static_cast<size_t>(known - stack.loaded.begin())].scale += choice.scale;
      continue;
    }
    stack.uses.push_back({loaded.get(), choice.scale});
    stack.loaded.push_back(std::move(loaded));
    digests.push_back(entry->digest);
  }
  for (size_t i = 0; i < digests.size(); ++i) {
    Append(digests[i], &stack.key);
    Append(stack.uses[i].scale, &stack.key);
  }
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
  Result<LoadedPtr> loaded = ReadAgain(*entry);
  const std::lock_guard<std::mutex> lock(mutex_);
  bytes_ -= entry->bytes;
  if (!loaded.ok()) return loaded;
  ++reloads_;
  if (entry->names > 0) Keep(entry, loaded.value());
  return loaded;
}

Result<AdapterSet::LoadedPtr> AdapterSet::ReadAgain(const Entry& entry) const {
  TM_ASSIGN_OR_RETURN(const std::unique_ptr<AdapterSource> source, entry.opener());
  TM_ASSIGN_OR_RETURN(const auto read, Read(*source));
  if (read.second == entry.digest) return read.first;
  return Error(
      Code::kCorruptFile,
      "an adapter that was not in memory was read again, and its file is not as it was. Load it anew");
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
