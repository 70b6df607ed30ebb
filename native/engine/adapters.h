#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/status.h"
#include "engine/request.h"
#include "ops/adapter.h"
#include "ops/backend.h"

namespace tokenmill {

/// Of an adapter's factors, ranks and scales: equal for equal adapters, whatever files they came from. The first is the
/// same in all processes; the second, a KeyedHash, keeps apart what was made to be taken for another one.
using AdapterDigest = std::pair<uint64_t, uint64_t>;

/// An adapter with a factor, wherever it was loaded.
struct AdapterMark {
  AdapterDigest digest;
  float scale = 1;
};

/// What keys and values depend on: the same for the same adapters in the same order with the same factors. Of those
/// that come twice the factors add up.
std::string AdapterKey(std::span<const AdapterMark> marks);

/// The adapters of one request, which stay in memory as long as it has this.
struct AdapterStack {
  std::vector<AdapterUse> uses;  // in the request's order
  std::vector<std::shared_ptr<const LoadedAdapter>> loaded;
  std::string key;  // AdapterKey
};

struct AdapterInfo {
  AdapterId id = 0;
  AdapterDigest digest;
  size_t bytes = 0;  // in memory
  std::vector<std::string> targets;  // the matrices' names
};

struct AdapterStats {
  size_t registered = 0;  // different ones
  size_t loaded = 0;  // of these, in memory
  size_t bytes = 0, budget_bytes = 0;  // of those in memory
  uint64_t reloads = 0;
};

/// The adapters of an engine. Equal ones are one, under a name each time. Those that no request uses leave memory, the
/// longest unused first, when others need their room, and are read from their files again. Any thread.
class AdapterSet {
 public:
  AdapterSet(const Program* program, const Executor* executor, size_t budget_bytes)
      : program_(program), executor_(executor), budget_(budget_bytes) {}

  /// Opens an adapter's file; again when it is no longer in memory, so that no file stays open.
  using Opener = std::function<Result<std::unique_ptr<AdapterSource>>()>;

  /// Reads an adapter whole and gives it a name. OutOfMemory for one that exceeds the budget alone, Disposed for a
  /// client that has left.
  Result<AdapterInfo> Load(ClientId client, Opener opener);
  /// Takes the name away; requests that use the adapter keep it.
  void Release(ClientId client, AdapterId id);
  /// The client leaves.
  void ReleaseAll(ClientId client);

  /// Brings adapters into memory for a request. Disposed for a name that is taken away, OutOfMemory when
  /// they exceed the budget, Overloaded when others in use leave no room, CorruptFile when a file is not as it was.
  Result<AdapterStack> Open(ClientId client, const std::vector<AdapterChoice>& choices);

  AdapterStats Stats() const;

 private:
  using LoadedPtr = std::shared_ptr<const LoadedAdapter>;
  struct Entry {
    AdapterDigest digest;
    size_t bytes = 0;
    std::mutex reading;  // held by who reads it again; taken before mutex_
    LoadedPtr loaded;  // null: not in memory
    uint64_t used_at = 0;  // by clock_
    size_t names = 0;  // 0: in nobody's way any more

    bool unused() const { return loaded != nullptr && loaded.use_count() == 1; }
  };
  using EntryPtr = std::shared_ptr<Entry>;
  struct Name {
    EntryPtr entry;
    std::shared_ptr<const Opener> opener;  // of its own file: others may go
  };
  using Names = std::map<std::pair<ClientId, AdapterId>, Name>;

  Result<std::pair<LoadedPtr, AdapterDigest>> Read(const Opener& opener,
                                                   std::vector<std::string>* targets = nullptr) const;
  Result<std::vector<EntryPtr>> Find(ClientId client, const std::vector<AdapterChoice>& choices) const;
  Result<LoadedPtr> Bring(Entry* entry);
  Result<LoadedPtr> ReadAgain(const Entry& entry) const;
  LoadedPtr Take(Entry* entry);
  bool MakeRoom(size_t bytes);
  void Keep(Entry* entry, LoadedPtr loaded);
  void LetGo(Entry* entry);
  Entry* LongestUnused() const;
  Names::iterator Forget(Names::iterator name);

  const Program* const program_;
  const Executor* const executor_;
  const size_t budget_;
  mutable std::mutex mutex_;  // guards what follows, and the entries but for their sources
  AdapterId next_id_ = 1;
  uint64_t clock_ = 0;
  size_t bytes_ = 0, loaded_ = 0;  // of what is in memory
  uint64_t reloads_ = 0;
  Names names_;
  std::set<ClientId> gone_;  // clients that have left; their loads may still be under way
  std::map<AdapterDigest, EntryPtr> entries_;  // each has a name
};

}  // namespace tokenmill
