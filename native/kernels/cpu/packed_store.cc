#include "kernels/cpu/packed_store.h"

#include <cstring>

#include "core/hash64.h"
#include "core/memory.h"

namespace tokenmill::cpu {
namespace {

constexpr char kMagic[8] = {'T', 'M', 'P', 'A', 'C', 'K', 'E', 'D'};
constexpr uint64_t kAlignment = uint64_t{2} << 20;  // of huge pages, which some file systems map

uint64_t KeyOf(const Program& program, const std::vector<PackedFormat>& formats,
               const CompileOptions& options, uint64_t seed) {
  uint64_t key = Hash64(&options.source_fingerprint, sizeof(options.source_fingerprint), seed);
  for (const WeightDesc& weight : program.weights) {
    key = Hash64(weight.name.data(), weight.name.size(), key);
    const int64_t shape[] = {static_cast<int64_t>(weight.dtype), weight.rows, weight.cols};
    key = Hash64(shape, sizeof(shape), key);
  }
  return Hash64(formats.data(), formats.size() * sizeof(PackedFormat), key);
}

}  // namespace

struct PackedStore::Header {
  char magic[8];
  uint32_t version;
  uint32_t reserved;
  uint64_t key[2];
  uint64_t bytes;   // of the matrices
  uint64_t pieces;  // whose checksums follow the header
  uint64_t sum;     // of the header to here, and the checksums
};

PackedStore::PackedStore(const Program& program, const std::vector<PackedFormat>& formats,
                         const CompileOptions& options, uint64_t bytes, size_t pieces)
    : bytes_(bytes), limit_bytes_(options.packed_limit_bytes), sums_(pieces) {
  if (options.packed_folder.empty() || bytes == 0) return;
  key_[0] = KeyOf(program, formats, options, kPackedStoreVersion);
  key_[1] = KeyOf(program, formats, options, ~uint64_t{kPackedStoreVersion});
  path_ = options.packed_folder + Format("/%016llx%016llx.packed", static_cast<unsigned long long>(key_[0]),
                                         static_cast<unsigned long long>(key_[1]));
}

PackedStore::Header PackedStore::MakeHeader() const {
  Header header = {};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  header.version = kPackedStoreVersion;
  std::memcpy(header.key, key_, sizeof(key_));
  header.bytes = bytes_;
  header.pieces = sums_.size();
  header.sum = Hash64(sums_.data(), sums_.size() * sizeof(uint64_t), Hash64(&header, offsetof(Header, sum)));
  return header;
}

uint64_t PackedStore::body() const {
  const uint64_t front = sizeof(Header) + sums_.size() * sizeof(uint64_t);
  return (front + kAlignment - 1) / kAlignment * kAlignment;
}

const std::byte* PackedStore::Map() {
  if (path_.empty()) return nullptr;
  mapped_ = ImmutableFile(path_);
  if (mapped_ && mapped_.size() == body() + bytes_) {
    std::memcpy(sums_.data(), mapped_.data() + sizeof(Header), sums_.size() * sizeof(uint64_t));
    const Header expected = MakeHeader();
    if (std::memcmp(mapped_.data(), &expected, sizeof(expected)) == 0) {
      state_ = PackedCache::kRead;
      return mapped_.data() + body();
    }
  }
  Discard();
  return nullptr;
}

bool PackedStore::Check(size_t piece, const void* data, size_t bytes) const {
  return Hash64(data, bytes) == sums_[piece];
}

void PackedStore::Discard() {
  RemoveImmutableFile(path_);
  mapped_ = ImmutableFile();
  state_ = PackedCache::kOff;
}

void PackedStore::Fail(const Status& status) {
  if (!writing_.exchange(false)) return;
  state_ = PackedCache::kFailed;
  problem_ = status.message();
}

void PackedStore::Create() {
  if (path_.empty()) return;
  writing_ = true;
  // What memory cannot hold beside the model would only be read from the disk again, like the model.
  const uint64_t most = std::min(limit_bytes_, AvailableMemoryBytes() / 4);
  if (bytes_ > most) {
    return Fail(Error(Code::kInternal, "%llu MiB are more than the %llu MiB that may be kept",
                      static_cast<unsigned long long>(bytes_ >> 20),
                      static_cast<unsigned long long>(most >> 20)));
  }
  const Status status = writer_.Open(path_, body() + bytes_);
  if (!status.ok()) Fail(status);
}

void PackedStore::Put(size_t piece, uint64_t offset, const void* data, size_t bytes) {
  if (!writing_.load(std::memory_order_relaxed)) return;
  sums_[piece] = Hash64(data, bytes);
  const Status status = writer_.WriteAt(body() + offset, data, bytes);
  if (!status.ok()) Fail(status);
}

void PackedStore::Publish() {
  if (!writing_) return;
  const Header header = MakeHeader();
  Status status = writer_.WriteAt(sizeof(header), sums_.data(), sums_.size() * sizeof(uint64_t));
  if (status.ok()) status = writer_.WriteAt(0, &header, sizeof(header));
  if (status.ok()) status = writer_.Publish();
  if (!status.ok()) return Fail(status);
  state_ = PackedCache::kWritten;
}

}  // namespace tokenmill::cpu
