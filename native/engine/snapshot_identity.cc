// What an engine's snapshots are bound to.

#include <algorithm>
#include <vector>

#include "core/hash64.h"
#include "engine/engine.h"

namespace tokenmill {
namespace {

constexpr size_t kSampleBytes = 512;
constexpr size_t kReadBytes = size_t{1} << 20;

Status HashRange(const File& file, uint64_t begin, uint64_t end, uint64_t* hash) {
  std::vector<std::byte> buffer;
  for (uint64_t at = begin; at < end; at += buffer.size()) {
    buffer.resize(static_cast<size_t>(std::min<uint64_t>(end - at, kReadBytes)));
    TM_RETURN_IF_ERROR(file.ReadAt(at, buffer.data(), buffer.size()));
    *hash = Hash64(buffer.data(), buffer.size(), *hash);
  }
  return {};
}

// The whole header, which has metadata, vocabulary and tensor table, and of each tensor its first, middle and last
// bytes: the same for every copy of a file, and hardly for another model.
Result<uint64_t> Fingerprint(const GgufFile& gguf) {
  const File& file = gguf.file();
  uint64_t data = file.size(), hash = 0;
  for (const GgufTensor& tensor : gguf.tensors()) data = std::min(data, tensor.offset);
  TM_RETURN_IF_ERROR(HashRange(file, 0, data, &hash));
  for (const GgufTensor& tensor : gguf.tensors()) {
    const uint64_t sample = std::min<uint64_t>(tensor.bytes, kSampleBytes);
    for (const uint64_t at : {uint64_t{0}, (tensor.bytes - sample) / 2, tensor.bytes - sample})
      TM_RETURN_IF_ERROR(HashRange(file, tensor.offset + at, tensor.offset + at + sample, &hash));
  }
  return hash;
}

// Which of the kernels' results an engine has: all kernels of CPUs agree, but the reference, and those that multiply
// rounded BF16 where there are such weights. GPUs agree among those of one compute capability.
uint32_t KernelResults(const Device& device, const EngineOptions& options, const GgufFile& gguf) {
  if (!device.gpus.empty())
    return 3 + 256 * static_cast<uint32_t>(10 * device.gpus[0].major + device.gpus[0].minor);
  if (device.isa == CpuIsa::kReference) return 1;
  const bool has_bf16 = std::ranges::any_of(
      gguf.tensors(), [](const GgufTensor& tensor) { return tensor.dtype == DType::kBF16; });
  return device.isa == CpuIsa::kAvx512Bf16 && has_bf16 && !options.high_precision ? 2 : 0;
}

}  // namespace

void Engine::DescribeSnapshots(const EngineOptions& options) {
  const std::vector<KvGroup>& groups = model_->program.kv_groups;
  snapshot_identity_.kv_type = static_cast<uint32_t>(options.kv_type);
  snapshot_identity_.arithmetic = KernelResults(device_, options, *model_->file) +
                                  (options.high_precision ? 4 : 0) +
                                  8 * static_cast<uint32_t>(options.quantization);
  snapshot_identity_.groups = static_cast<uint32_t>(groups.size());
  for (size_t g = 0; g < groups.size(); ++g) {
    snapshot_identity_.page_bytes[g] = executor_->PageBytes(static_cast<int>(g));
    snapshot_identity_.windows[g] = static_cast<uint64_t>(groups[g].window);
  }
}

Result<SnapshotIdentity> Engine::IdentifySnapshots() {
  const std::lock_guard<std::mutex> lock(identity_mutex_);
  if (!identified_) {
    TM_ASSIGN_OR_RETURN(snapshot_identity_.model, Fingerprint(*model_->file));
    identified_ = true;
  }
  return snapshot_identity_;
}

}  // namespace tokenmill
