#include "engine/page_transfers.h"

#include <algorithm>
#include <new>

namespace tokenmill {
namespace {

// From which block on a group has all pages.
size_t FirstBlock(const BlockTable& table, int group) {
  size_t block = table.blocks(group);
  while (block > 0 && table.pages(group)[block - 1] != kNoPage) --block;
  return block;
}

}  // namespace

PageTransfers::Transfer& PageTransfers::Add(ClientId client, RequestId id, HoldId hold,
                                            const SnapshotIdentity& identity) {
  Transfer& transfer = transfers_.emplace_back();
  transfer.client = client;
  transfer.id = id;
  transfer.hold = hold;
  transfer.identity = identity;
  return transfer;
}

void PageTransfers::Export(ClientId client, RequestId id, HoldId hold, const SnapshotIdentity& identity,
                           std::string state, std::string adapters) {
  Transfer& transfer = Add(client, id, hold, identity);
  transfer.state = std::move(state);
  transfer.adapters = std::move(adapters);
}

void PageTransfers::Import(ClientId client, RequestId id, HoldId hold,
                           std::shared_ptr<const Snapshot> snapshot, const SnapshotIdentity& identity,
                           PrefixSpace space) {
  Transfer& transfer = Add(client, id, hold, identity);
  transfer.snapshot = std::move(snapshot);
  transfer.space = std::move(space);
}

void PageTransfers::End(ClientId client, std::optional<RequestId> id, const Status& status) {
  for (auto transfer = transfers_.begin(); transfer != transfers_.end();) {
    if (transfer->client != client || (id && transfer->id != *id)) {
      ++transfer;
      continue;
    }
    if (!transfer->end) Finish(&*transfer, status);
    scheduler_->Tell(transfer->client, *transfer->end);
    transfer = transfers_.erase(transfer);
  }
}

bool PageTransfers::Advance() {
  if (transfers_.empty()) return false;
  try {
    AdvanceFirst();
  } catch (const std::bad_alloc&) {
  }
  return true;
}

// Each part can be repeated when the system refused memory in the middle; what was done before is not done again.
void PageTransfers::AdvanceFirst() {
  Transfer& transfer = transfers_.front();
  if (!transfer.end) {
    std::optional<Status> status = Copy(&transfer);
    if (!status) return;
    Finish(&transfer, *std::move(status));
  }
  scheduler_->Tell(transfer.client, *transfer.end);
  transfers_.pop_front();
}

// A portion of its pages; how it ended, if it did.
std::optional<Status> PageTransfers::Copy(Transfer* transfer) {
  try {
    if (transfer->snapshot != nullptr) return Import(transfer) ? std::optional(Status()) : std::nullopt;
    const Result<bool> exported = Export(transfer);
    return !exported.ok() || exported.value() ? std::optional(exported.status()) : std::nullopt;
  } catch (const std::bad_alloc&) {
    return Status(Code::kOutOfMemory, "the system refused memory that a snapshot needed");
  }
}

Status PageTransfers::BeginExport(Transfer* transfer, HeldPrefixes::Stamp stamp) {
  const HeldPrefixes::Held* held = scheduler_->held().At(stamp);
  if (held != nullptr && held->adapters != transfer->adapters) held = nullptr;
  transfer->stamp = held == nullptr ? 0 : stamp;
  const std::span<const Token> tokens = held == nullptr ? std::span<const Token>() : held->tokens;
  SnapshotLayout::FirstBlocks first = {};
  for (size_t g = 0; g < transfer->identity.groups && held != nullptr; ++g)
    first[g] = FirstBlock(held->table, static_cast<int>(g));
  TM_ASSIGN_OR_RETURN(transfer->writer,
                      SnapshotWriter::Make(transfer->identity, transfer->state, tokens, first));
  transfer->group = 0;
  transfer->block = transfer->writer->layout().first_block[0];
  return {};
}

// Moves past groups that are done; whether there is another page.
bool PageTransfers::NextPage(Transfer* transfer, const SnapshotLayout& layout) const {
  while (transfer->group < transfer->identity.groups && transfer->block >= layout.blocks) {
    if (++transfer->group < transfer->identity.groups) transfer->block = layout.first_block[transfer->group];
  }
  return transfer->group < transfer->identity.groups;
}

// Whether it is done.
Result<bool> PageTransfers::Export(Transfer* transfer) {
  const HeldPrefixes& holds = scheduler_->held();
  if (transfer->writer == nullptr) TM_RETURN_IF_ERROR(BeginExport(transfer, holds.Find(transfer->name())));
  const HeldPrefixes::Held* held = holds.At(transfer->stamp);
  // Those that run needed the pages: the messages alone are a snapshot too.
  if (transfer->stamp != 0 && held == nullptr) TM_RETURN_IF_ERROR(BeginExport(transfer, 0));
  const SnapshotLayout& layout = transfer->writer->layout();
  size_t bytes = 0;
  while (held != nullptr && NextPage(transfer, layout)) {
    if (bytes >= kPortionBytes) return false;
    const int group = static_cast<int>(transfer->group);
    const size_t tokens = std::min<size_t>(held->tokens.size() - transfer->block * kPageTokens, kPageTokens);
    executor_->ReadPage(group, held->table.pages(group)[transfer->block], static_cast<int>(tokens),
                        transfer->writer->NextPage());
    transfer->writer->PageWritten(executor_->PageBytes(group));
    bytes += executor_->PageBytes(group);
    ++transfer->block;
  }
  return true;
}

// Whether it is done.
bool PageTransfers::Import(Transfer* transfer) {
  HeldPrefixes& holds = scheduler_->held();
  const Snapshot& snapshot = *transfer->snapshot;
  if (!transfer->begun) {
    transfer->begun = true;
    const size_t context = static_cast<size_t>(scheduler_->context_length());
    if (!snapshot.tokens().empty() && snapshot.tokens().size() <= context) {
      transfer->stamp = holds.Reserve(transfer->name(), snapshot.tokens(), snapshot.layout().first_block);
    }
    transfer->block = snapshot.layout().first_block[0];
  }
  const HeldPrefixes::Held* held = holds.At(transfer->stamp);
  if (held == nullptr) return true;  // there was no room, or there is none any more
  size_t bytes = 0;
  for (; NextPage(transfer, snapshot.layout()); ++transfer->block) {
    if (bytes >= kPortionBytes) return false;
    const int group = static_cast<int>(transfer->group);
    executor_->WritePage(group, held->table.pages(group)[transfer->block],
                         snapshot.pages() + transfer->offset);
    transfer->offset += executor_->PageBytes(group);
    bytes += executor_->PageBytes(group);
  }
  holds.Enter(transfer->stamp, transfer->space);
  return true;
}

void PageTransfers::Finish(Transfer* transfer, Status status) {
  if (!status.ok() && transfer->snapshot != nullptr) scheduler_->held().Release(transfer->name());
  Event event{transfer->id, "", {}, {}, Outcome{}};
  if (status.ok() && transfer->writer != nullptr)
    event.snapshot = transfer->writer->Close(&event.snapshot_bytes);
  event.outcome->status = std::move(status);
  event.outcome->reason = FinishReason::kStop;
  transfer->end = std::move(event);
}

}  // namespace tokenmill
