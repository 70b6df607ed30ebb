#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "adapter/adapter_file.h"
#include "adapter/spec_store.h"
#include "engine/adapters.h"
#include "engine/device.h"
#include "engine/draft_source.h"
#include "engine/drafters.h"
#include "engine/page_transfers.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "engine/sizing.h"
#include "engine/snapshot.h"
#include "engine/waiting_room.h"
#include "kv/block_pool.h"
#include "kv/prefix_index.h"
#include "model/model_file.h"

namespace tokenmill {

/// Where packed weights are kept between loads; an empty folder for nowhere. Makes no other engine.
struct PackedCacheOptions {
  std::string folder;
  uint64_t limit_bytes = 0;  // of one model

  bool operator==(const PackedCacheOptions&) const { return true; }
};

/// Bytes, or where these are 0 a share of the free memory.
struct MemoryBudget {
  uint64_t bytes = 0;
  double share = 0.5;

  uint64_t Of(uint64_t available) const {
    return bytes > 0 ? bytes : static_cast<uint64_t>(share * static_cast<double>(available));
  }
  bool operator==(const MemoryBudget&) const = default;
};

struct EngineOptions {
  DeviceOptions device;
  int context_length = 0;     // 0: as trained, or what the budget holds when that is less
  int threads = 0;            // 0: the usable physical cores
  MemoryBudget budget;
  int max_rows = 0;           // rows of one step; 0: 512
  bool high_precision = false;  // activations to 15 bits instead of 8
  LoadQuantization quantization = LoadQuantization::kNone;
  KvType kv_type = KvType::kF16;
  bool prefix_cache = true;
  uint64_t prefix_cache_bytes = 0;  // what unused prefixes may take; 0: see BlockPool
  PackedCacheOptions packed;
  int max_queue = 0;  // requests that wait; 0: 4096
  double target_tpot_ms = 0;  // of steps with decode rows; 0: none
  uint64_t adapter_bytes = 0;  // of adapters in memory; 0: an eighth of the free memory, 1 GiB at most

  bool operator==(const EngineOptions&) const = default;
};

struct EngineStats {
  SchedulerStats scheduler;
  AdapterStats adapters;
  size_t pages_used = 0, pages_cached = 0, pages_free = 0, pages_maximum = 0;
  uint64_t pages_evicted = 0;  // cached ones, since the engine started
  size_t weight_bytes = 0, kv_bytes = 0, scratch_bytes = 0, budget_bytes = 0;
};

/// Receives a client's events on the loop thread, in order, at most once a step.
class EventSink {
 public:
  virtual ~EventSink() = default;
  /// When it throws, the events are as before; they come again.
  virtual void Deliver(std::vector<Event>&& events) = 0;
};

/// A loaded model and its two threads: one tokenizes prompts, one runs the steps. Clients only queue commands
/// and receive events; every call returns at once and may come from any thread.
class Engine {
 public:
  /// `on_progress` is told the bytes of weights read and ends the load with Aborted by returning false.
  /// OutOfMemory with the numbers when the budget cannot hold the model and a useful context.
  static Result<std::shared_ptr<Engine>> Load(std::shared_ptr<const ModelFile> model,
                                              const EngineOptions& options,
                                              const std::function<bool(uint64_t, uint64_t)>& on_progress);
  /// What Load would take, without reading weights.
  static Result<MemoryEstimate> Estimate(const ModelFile& model, const EngineOptions& options);
  /// Ends what runs without telling anyone; waits for the step under way.
  ~Engine();

  ClientId AddClient(std::shared_ptr<EventSink> sink);
  /// Ends the client's requests with `reason`, delivers that, and lets go of its sink.
  void RemoveClient(ClientId client, Status reason);
  /// Ends with Overloaded when as many requests wait as may, from those on that are still to be tokenized.
  void Submit(ClientId client, Request request);
  /// The tokens of a prompt, as for a request with these pieces.
  std::vector<Token> Encode(const std::vector<PromptPiece>& pieces, bool bos) const;
  void Cancel(ClientId client, RequestId id);
  void AddCredits(ClientId client, RequestId id, int64_t credits);
  /// Changes the budget between two steps; what is beyond it has gone back to the system when the client gets the
  /// outcome of `id`. OutOfMemory, and nothing has changed, when one sequence of full length would not fit.
  void SetMemoryBudget(ClientId client, RequestId id, const MemoryBudget& budget);
  /// Holds under `copy` what `hold` holds by then.
  void ForkHold(ClientId client, HoldId hold, HoldId copy);
  void ReleaseHold(ClientId client, HoldId hold);
  /// Ends as a request with `id` does: with a snapshot of what is held by then, and the state that was given.
  /// Pages are part of it only if they were computed with the adapters of this AdapterKey.
  void ExportHold(ClientId client, RequestId id, HoldId hold, std::string state, std::string adapters = "");
  /// Holds a snapshot's pages under a new name, as far as there is room, and ends as a request.
  void ImportHold(ClientId client, RequestId id, HoldId hold, std::shared_ptr<const Snapshot> snapshot,
                  std::string cache_salt, std::string adapters = "");
  /// What snapshots must agree in. Reads from the file the first time; from any thread.
  Result<SnapshotIdentity> IdentifySnapshots();
  EngineStats Stats() const;
  /// Reads an adapter on the caller's thread, for requests of this client to name it.
  Result<AdapterInfo> LoadAdapter(ClientId client, const AdapterSpec& spec);
  /// Takes the name away; what is under way keeps the adapter.
  void ReleaseAdapter(ClientId client, AdapterId id);
  /// What other engines need to guess with this model.
  std::shared_ptr<const DraftSource> draft_source() const { return draft_source_; }

  const ModelFile& model() const { return *model_; }
  const Device& device() const { return device_; }
  PackedCache packed_cache(std::string* problem) const { return executor_->packed_cache(problem); }
  int context_length() const { return context_length_; }
  int threads() const { return threads_; }

 private:
  struct Command {
    enum class Kind {
      kExpect,
      kSubmit,
      kOverloaded,  // a request that found no place
      kCancel,
      kCredits,
      kBudget,
      kForkHold,
      kReleaseHold,
      kExport,
      kImport,
      kRemove
    };
    Command(Kind what, ClientId whose, RequestId which = 0, int64_t more = 0)
        : kind(what), client(whose), id(which), credits(more) {}

    Kind kind;
    ClientId client;
    RequestId id;
    int64_t credits;
    HoldId hold = 0, copy = 0;
    std::string text;  // the state of kExport, the salt of kImport
    std::shared_ptr<const Snapshot> snapshot;
    Status reason;
    Request request;
    WaitingRoom::Place waiting;  // of kSubmit
    std::vector<Token> prompt;  // of kSubmit, once tokenized
    AdapterStack adapters;  // of kSubmit, once they are in memory
    std::string adapter_key;  // of kExport and kImport
    Clock::time_point at = Clock::now();
    Clock::time_point deadline{};  // of kExpect
    MemoryBudget budget;  // of kBudget
  };

  friend class EngineProbe;  // tests look inside

  static constexpr Clock::time_point kAtOnce = Clock::time_point::min();
  static constexpr Clock::time_point kWhenever = Clock::time_point::max();

  /// A queue between two threads.
  class Channel {
   public:
    /// When it throws, the command is as before.
    void Push(Command&& command);
    void Close();
    /// Everything queued, which is waited for until then. Empty and `*closed` at the end.
    std::vector<Command> Take(Clock::time_point until, bool* closed);

   private:
    std::mutex mutex_;
    std::condition_variable ready_;
    std::vector<Command> queue_;
    bool closed_ = false;
  };

  Engine() = default;
  uint64_t AvailableWithOwn() const;
  Status ApplyBudget(const MemoryBudget& wanted);
  void DescribeSnapshots(const EngineOptions& options);
  std::shared_ptr<const DraftSource> LendAsDraft(const EngineOptions& options) const;
  void StartTransfer(Command* command);
  void IntakeLoop();
  void Prepare(Command* command);
  void Tokenize(Command* command) const;
  Status FindDrafter(Request* request);
  Status OpenAdapters(Command* command);
  void StepLoop();
  bool RunStep(StepPlan* plan, StepResult* result);
  std::string CheckIntegrity() const;
  void Apply(Command* command);
  void Answer(Command* command, Code failure);
  template <class Body>
  void Insist(Body body) const;
  void DeliverEvents();
  void PublishStats();

  std::shared_ptr<const ModelFile> model_;
  Device device_;
  int context_length_ = 0;
  int threads_ = 1;
  uint64_t budget_bytes_ = 0;
  int max_rows_ = 0;
  bool integrity_ = false;  // check pages and prefix index after each step
  size_t token_bytes_max_ = 1;  // of the longest token
  std::shared_ptr<Executor> executor_;
  std::shared_ptr<const DraftSource> draft_source_;
  SpecStore specs_;
  std::unique_ptr<AdapterSet> adapters_;
  std::unique_ptr<BlockPool> pool_;
  std::unique_ptr<PrefixIndex> prefix_;  // null when prefixes are not shared
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<PageTransfers> transfers_;
  std::mutex identity_mutex_;
  SnapshotIdentity snapshot_identity_;
  bool identified_ = false;

  std::unique_ptr<WaitingRoom> waiting_room_;
  Drafters drafters_;
  Channel intake_;
  Channel commands_;
  std::atomic<bool> stopping_{false};
  std::mutex sinks_mutex_;
  std::map<ClientId, std::shared_ptr<EventSink>> sinks_;
  ClientId next_client_ = 1;
  mutable std::mutex stats_mutex_;
  EngineStats stats_;
  std::thread intake_thread_;
  std::thread step_thread_;
};

/// What AcquireEngine would take for a file and options, from the file's header alone.
Result<MemoryEstimate> EstimateEngine(const std::string& path, const EngineOptions& options);

/// The process's engine for a file and options: an existing one, one that is being loaded, or a new one.
Result<std::shared_ptr<Engine>> AcquireEngine(const std::string& path, const EngineOptions& options,
                                              const std::function<bool(uint64_t, uint64_t)>& on_progress);

}  // namespace tokenmill
