#include <condition_variable>
#include <list>
#include <mutex>
#include <new>

#include "engine/engine.h"

namespace tokenmill {
namespace {

// One file with one set of options. Identity tells two paths to one file from two files at one path.
struct Entry {
  FileIdentity identity;
  EngineOptions options;
  std::weak_ptr<Engine> engine;
  bool loading = false;
};

struct Registry {
  std::mutex mutex;
  std::condition_variable loaded;
  std::list<Entry> entries;
};

Registry& TheRegistry() {
  static Registry* const registry = new Registry();  // never destroyed: threads may run at exit
  return *registry;
}

bool Same(const FileIdentity& a, const FileIdentity& b) {
  return a.device == b.device && a.inode == b.inode && a.size == b.size && a.modified_ns == b.modified_ns;
}

// The entry to load into, or the engine that is there. Waits while another thread loads the same.
std::shared_ptr<Engine> FindOrClaim(const FileIdentity& identity, const EngineOptions& options,
                                    const std::function<bool(uint64_t, uint64_t)>& on_progress,
                                    Entry** claimed) {
  Registry& registry = TheRegistry();
  std::unique_lock<std::mutex> lock(registry.mutex);
  for (;;) {
    std::erase_if(registry.entries,
                  [](const Entry& entry) { return !entry.loading && entry.engine.expired(); });
    Entry* found = nullptr;
    for (Entry& entry : registry.entries) {
      if (Same(entry.identity, identity) && entry.options == options) found = &entry;
    }
    if (found == nullptr) {
      registry.entries.push_back({identity, options, {}, true});
      *claimed = &registry.entries.back();
      return nullptr;
    }
    if (!found->loading) {
      if (auto engine = found->engine.lock()) return engine;
      continue;
    }
    registry.loaded.wait_for(lock, std::chrono::milliseconds(50));
    if (on_progress && !on_progress(0, 0)) return nullptr;  // aborted while waiting
  }
}

// What `use` makes of a model's file.
template <class Use>
auto WithModelFile(const std::string& path, const EngineOptions& options, const Use& use)
    -> decltype(use(nullptr)) {
  try {
    TM_ASSIGN_OR_RETURN(std::shared_ptr<const ModelFile> model, OpenModelFile(path, options.quantization));
    return use(std::move(model));
  } catch (const std::bad_alloc&) {
    return Error(Code::kOutOfMemory, "the system refused memory while loading '%s'", path.c_str());
  } catch (const std::exception& exception) {
    return Error(Code::kInternal, "loading '%s' failed: %s", path.c_str(), exception.what());
  }
}

}  // namespace

Result<MemoryEstimate> EstimateEngine(const std::string& path, const EngineOptions& options) {
  return WithModelFile(path, options, [&](const std::shared_ptr<const ModelFile>& model) {
    return Engine::Estimate(*model, options);
  });
}

Result<std::shared_ptr<Engine>> AcquireEngine(const std::string& path, const EngineOptions& options,
                                              const std::function<bool(uint64_t, uint64_t)>& on_progress) {
  TM_ASSIGN_OR_RETURN(const std::shared_ptr<File> file, File::Open(path));
  Entry* claimed = nullptr;
  if (auto engine = FindOrClaim(file->identity(), options, on_progress, &claimed)) return engine;
  if (claimed == nullptr) return Error(Code::kAborted, "loading was aborted");
  Result<std::shared_ptr<Engine>> result =
      WithModelFile(path, options, [&](std::shared_ptr<const ModelFile> model) {
        return Engine::Load(std::move(model), options, on_progress);
      });
  Registry& registry = TheRegistry();
  const std::lock_guard<std::mutex> lock(registry.mutex);
  claimed->loading = false;
  if (result.ok()) claimed->engine = result.value();
  registry.loaded.notify_all();
  return result;
}

}  // namespace tokenmill
