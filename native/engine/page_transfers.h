#pragma once

#include <list>
#include <memory>
#include <optional>
#include <string>

#include "engine/held_prefixes.h"
#include "engine/scheduler.h"
#include "engine/snapshot.h"
#include "ops/backend.h"

namespace tokenmill {

/// Copies held pages to snapshots and back, a few at a time between steps, so that nobody who runs waits for long. What
/// is given up meanwhile is left out: the snapshot has no pages then, and what is restored holds none. Each transfer
/// ends with one event of its request. Belongs to the loop thread.
class PageTransfers {
 public:
  PageTransfers(Executor* executor, Scheduler* scheduler) : executor_(executor), scheduler_(scheduler) {}

  /// Begins a snapshot of what `hold` holds, with a state that is the client's own matter; of pages only if they were
  /// computed with the adapters of this key, which the state names.
  void Export(ClientId client, RequestId id, HoldId hold, const SnapshotIdentity& identity, std::string state,
              std::string adapters);
  /// Begins to hold a snapshot's pages under a new name. What does not fit beside those that run, or exceeds
  /// the context, is not held.
  void Import(ClientId client, RequestId id, HoldId hold, std::shared_ptr<const Snapshot> snapshot,
              const SnapshotIdentity& identity, PrefixSpace space);
  /// Ends transfers of a client, one or all, with this status.
  void End(ClientId client, std::optional<RequestId> id, const Status& status);

  /// Copies some pages; false when there are none to copy. What the system refuses memory for is tried again with the
  /// next call: those that run have no part in it.
  bool Advance();

 private:
  struct Transfer {
    ClientId client = 0;
    RequestId id = 0;
    HoldId hold = 0;
    SnapshotIdentity identity;
    std::string state, adapters;  // of an export
    std::shared_ptr<const Snapshot> snapshot;  // of an import
    PrefixSpace space;  // of an import, but for its origin
    bool begun = false;  // an import
    HeldPrefixes::Stamp stamp = 0;  // of what is copied; 0: nothing
    std::unique_ptr<SnapshotWriter> writer;
    size_t group = 0, block = 0;  // the next page
    size_t offset = 0;  // of an import's next page, among its pages
    std::optional<Event> end;  // once it has one, which is yet to be told

    HeldPrefixes::Name name() const { return {client, hold}; }
  };

  Transfer& Add(ClientId client, RequestId id, HoldId hold, const SnapshotIdentity& identity);
  Result<bool> Export(Transfer* transfer);
  Status BeginExport(Transfer* transfer, HeldPrefixes::Stamp stamp);
  bool Import(Transfer* transfer);
  bool NextPage(Transfer* transfer, const SnapshotLayout& layout) const;
  void AdvanceFirst();
  std::optional<Status> Copy(Transfer* transfer);
  void Finish(Transfer* transfer, Status status);

  static constexpr size_t kPortionBytes = size_t{1} << 20;

  Executor* const executor_;
  Scheduler* const scheduler_;
  std::list<Transfer> transfers_;  // the first one goes on
};

}  // namespace tokenmill
