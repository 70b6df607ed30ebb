// Fuzzes what reads snapshots, with checksums as they come and with right ones, so that it gets past them. Whatever is
// accepted must be what a writer makes of its parts, bit for bit.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>

#include "../native/snapshot_forger.h"
#include "engine/snapshot.h"
#include "fuzz.h"

namespace tokenmill {
namespace {

constexpr Token kVocabulary = 100;

size_t accepted = 0;
std::set<std::string> reasons;

void Require(bool promise, const char* what) {
  if (promise) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

// Full attention beside a window, with small pages.
SnapshotIdentity Identity() {
  SnapshotIdentity identity;
  identity.model = 0x1234;
  identity.kv_type = 1;
  identity.arithmetic = 3;
  identity.groups = 2;
  identity.page_bytes = {24, 8};
  identity.windows = {0, 20};
  return identity;
}

std::vector<std::byte> Write(std::string_view state, std::span<const Token> tokens,
                             const SnapshotLayout::FirstBlocks& first, const std::byte* pages) {
  const SnapshotIdentity identity = Identity();
  auto writer = SnapshotWriter::Make(identity, state, tokens, first);
  Require(writer.ok(), "a small snapshot finds memory");
  const SnapshotLayout& layout = writer.value()->layout();
  for (size_t g = 0; g < identity.groups; ++g) {
    const size_t bytes = identity.page_bytes[g];
    for (size_t block = layout.first_block[g]; block < layout.blocks; ++block, pages += bytes) {
      std::memcpy(writer.value()->NextPage(), pages, bytes);
      writer.value()->PageWritten(bytes);
    }
  }
  size_t size = 0;
  const auto whole = writer.value()->Close(&size);
  return {whole->data(), whole->data() + size};
}

void Open(const std::vector<std::byte>& bytes) {
  const auto opened = Snapshot::Open(bytes, Identity(), kVocabulary);
  if (!opened.ok()) {
    const Status& status = opened.status();
    Require(status.code() == Code::kCorruptFile || status.code() == Code::kIncompatible,
            "a refusal has one of two codes");
    std::string reason = status.message();
    std::erase_if(reason, [](char c) { return c >= '0' && c <= '9'; });  // of versions
    reasons.insert(reason);
    return;
  }
  ++accepted;
  const Snapshot& snapshot = *opened.value();
  for (const Token token : snapshot.tokens())
    Require(token >= 0 && token < kVocabulary, "tokens are in the vocabulary");
  Require(
      Write(snapshot.state(), snapshot.tokens(), snapshot.layout().first_block, snapshot.pages()) == bytes,
      "what is accepted is what a writer makes");
}

std::string Seed(std::string_view state, int tokens) {
  std::vector<Token> prompt;
  for (int i = 0; i < tokens; ++i) prompt.push_back(i * 7 % kVocabulary);
  const size_t unseen = static_cast<size_t>(std::max(0, tokens - 19) / kPageTokens);
  std::vector<std::byte> pages(1000);
  for (size_t i = 0; i < pages.size(); ++i) pages[i] = static_cast<std::byte>(i * 31);
  const auto bytes = Write(state, prompt, {0, unseen}, pages.data());
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace
}  // namespace tokenmill

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tokenmill;
  const auto* begin = reinterpret_cast<const std::byte*>(data);
  std::vector<std::byte> bytes(begin, begin + size);
  Open(bytes);
  FixChecksums(bytes);
  Open(bytes);
  SnapshotHeader header;
  if (size < sizeof(header)) return 0;
  // Past all that must be equal: what is left are the numbers and the parts.
  std::memcpy(&header, bytes.data(), sizeof(header));
  const SnapshotHeader own;
  header.magic = own.magic;
  header.version = own.version;
  header.header_bytes = sizeof(header);
  header.identity = Identity();
  header.total_bytes = size;
  std::memcpy(bytes.data(), &header, sizeof(header));
  FixChecksums(bytes);
  Open(bytes);
  return 0;
}

std::vector<std::string> FuzzSeeds() {
  using namespace tokenmill;
  return {Seed("", 0), Seed("{}", 1), Seed("{\"messages\":[]}", 40), Seed("state", 100)};
}

bool FuzzReport(std::string* line) {
  using namespace tokenmill;
  *line = Format("%zu accepted, %zu kinds of refusal", accepted, reasons.size());
  return accepted > 1000 && reasons.size() >= 13;
}
