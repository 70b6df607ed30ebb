#include "engine/snapshot.h"

#include <cstddef>
#include <cstring>

#include "core/hash64.h"
#include "kv/block_table.h"

namespace tokenmill {
namespace {

static_assert(sizeof(SnapshotIdentity) == 24 + 16 * kMaxKvGroups);
static_assert(sizeof(SnapshotHeader) == 16 + sizeof(SnapshotIdentity) + (7 + kMaxKvGroups) * sizeof(uint64_t),
              "no padding");

Status Damaged(const char* what) {
  return Error(Code::kCorruptFile,
               "the snapshot is damaged: %s. Take another copy, or begin from its messages", what);
}

Status CheckIdentity(const SnapshotIdentity& found, const SnapshotIdentity& own) {
  const auto foreign = [](const char* what) {
    return Error(Code::kIncompatible,
                 "the snapshot was made with %s. Restore it where it was made, or begin from its messages",
                 what);
  };
  if (found.model != own.model) return foreign("another model");
  if (found.kv_type != own.kv_type) return foreign("another kvCache.type");
  if (found.arithmetic != own.arithmetic)
    return foreign("another precision or quantize, or kernels with other results");
  if (std::memcmp(&found, &own, sizeof(found)) != 0) return foreign("another layout of the KV cache");
  return {};
}

}  // namespace

uint64_t SnapshotHeader::Hash() const { return Hash64(this, offsetof(SnapshotHeader, header_hash)); }

SnapshotLayout::SnapshotLayout(const SnapshotIdentity& identity, size_t state_bytes, size_t tokens,
                               const FirstBlocks& first)
    : state_offset(sizeof(SnapshotHeader)),
      tokens_offset(state_offset + state_bytes),
      pages_offset(tokens_offset + tokens * sizeof(Token)),
      total_bytes(pages_offset),
      blocks((tokens + kPageTokens - 1) / kPageTokens),
      first_block(first) {
  for (size_t g = 0; g < identity.groups; ++g)
    total_bytes += (blocks - first_block[g]) * identity.page_bytes[g];
}

uint64_t PagesHash(uint64_t hash, const void* page, size_t bytes) { return Hash64(page, bytes, hash); }

Result<std::unique_ptr<SnapshotWriter>> SnapshotWriter::Make(const SnapshotIdentity& identity,
                                                             std::string_view state,
                                                             std::span<const Token> tokens,
                                                             const SnapshotLayout::FirstBlocks& first) {
  const SnapshotLayout layout(identity, state.size(), tokens.size(), first);
  std::unique_ptr<SnapshotWriter> writer(new SnapshotWriter(identity, layout));
  writer->bytes_ = std::make_shared<SystemBuffer>(layout.total_bytes);
  if (!*writer->bytes_) {
    return Error(Code::kOutOfMemory, "the system refused %zu bytes for a snapshot", layout.total_bytes);
  }
  writer->state_bytes_ = state.size();
  writer->tokens_ = tokens.size();
  std::memcpy(writer->bytes_->data() + layout.state_offset, state.data(), state.size());
  if (!tokens.empty())
    std::memcpy(writer->bytes_->data() + layout.tokens_offset, tokens.data(), tokens.size_bytes());
  return writer;
}

void SnapshotWriter::PageWritten(size_t bytes) {
  pages_hash_ = PagesHash(pages_hash_, NextPage(), bytes);
  end_ += bytes;
}

std::shared_ptr<const SystemBuffer> SnapshotWriter::Close(size_t* size) {
  SnapshotHeader header;
  header.header_bytes = sizeof(SnapshotHeader);
  header.identity = identity_;
  header.state_bytes = state_bytes_;
  header.tokens = tokens_;
  for (size_t g = 0; g < kMaxKvGroups; ++g) header.first_block[g] = layout_.first_block[g];
  header.total_bytes = layout_.total_bytes;
  header.state_hash = Hash64(bytes_->data() + layout_.state_offset, state_bytes_);
  header.tokens_hash = Hash64(bytes_->data() + layout_.tokens_offset, tokens_ * sizeof(Token));
  header.pages_hash = pages_hash_;
  header.header_hash = header.Hash();
  std::memcpy(bytes_->data(), &header, sizeof(header));
  *size = layout_.total_bytes;
  return std::move(bytes_);
}

Result<std::shared_ptr<const Snapshot>> Snapshot::Open(std::vector<std::byte> bytes,
                                                       const SnapshotIdentity& identity, Token vocabulary) {
  SnapshotHeader header;
  if (bytes.size() < sizeof(header)) return Damaged("it ends within its header");
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.magic != SnapshotHeader::kMagic) return Damaged("it does not begin as a snapshot does");
  if (header.version != SnapshotHeader::kVersion) {
    return Error(Code::kIncompatible, "the snapshot has version %u; this library reads version %u",
                 header.version, SnapshotHeader::kVersion);
  }
  if (header.header_bytes != sizeof(header) || header.header_hash != header.Hash())
    return Damaged("its header has another checksum");
  TM_RETURN_IF_ERROR(CheckIdentity(header.identity, identity));
  // Bounds before products of these numbers.
  if (header.state_bytes > bytes.size() || header.tokens > bytes.size() / sizeof(Token) ||
      header.tokens > INT32_MAX / 2) {
    return Damaged("its parts are larger than the whole");
  }
  SnapshotLayout::FirstBlocks first = {};
  for (size_t g = 0; g < kMaxKvGroups; ++g) {
    const KvGroup group{g < identity.groups ? static_cast<int>(identity.windows[g]) : 0, 0};
    if (header.first_block[g] > BlockTable::UnseenBlocks(group, static_cast<int>(header.tokens)))
      return Damaged("it lacks pages");
    first[g] = header.first_block[g];
  }
  const SnapshotLayout layout(identity, header.state_bytes, header.tokens, first);
  if (header.total_bytes != bytes.size() || layout.total_bytes != bytes.size())
    return Damaged("its size is not that of its parts");
  if (Hash64(bytes.data() + layout.state_offset, header.state_bytes) != header.state_hash ||
      Hash64(bytes.data() + layout.tokens_offset, header.tokens * sizeof(Token)) != header.tokens_hash) {
    return Damaged("its messages or tokens have another checksum");
  }
  uint64_t hash = 0;
  size_t at = layout.pages_offset;
  for (size_t g = 0; g < identity.groups; ++g) {
    for (size_t block = layout.first_block[g]; block < layout.blocks; ++block, at += identity.page_bytes[g])
      hash = PagesHash(hash, bytes.data() + at, identity.page_bytes[g]);
  }
  if (hash != header.pages_hash) return Damaged("its pages have another checksum");
  std::shared_ptr<Snapshot> snapshot(new Snapshot(std::move(bytes), layout));
  snapshot->tokens_.resize(header.tokens);
  if (header.tokens > 0) {
    std::memcpy(snapshot->tokens_.data(), snapshot->bytes_.data() + layout.tokens_offset,
                header.tokens * sizeof(Token));
  }
  for (const Token token : snapshot->tokens_) {
    if (token < 0 || token >= vocabulary) return Damaged("a token is not in the vocabulary");
  }
  return std::shared_ptr<const Snapshot>(std::move(snapshot));
}

std::string_view Snapshot::state() const {
  return {reinterpret_cast<const char*>(bytes_.data() + layout_.state_offset),
          layout_.tokens_offset - layout_.state_offset};
}

}  // namespace tokenmill
