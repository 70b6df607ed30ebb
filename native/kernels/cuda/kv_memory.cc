#include "kernels/cuda/kv_memory.h"

#include <cstring>

#include "kernels/cuda/kv_layout.h"

namespace tokenmill::cuda {

KvMemory::KvMemory(const Program* program, KvType type, std::vector<std::shared_ptr<Driver>> drivers,
                   std::span<const int> device_of_layer)
    : program_(program), int8_(type == KvType::kInt8), drivers_(std::move(drivers)) {
  groups_.resize(program->kv_groups.size());
  for (Group& group : groups_) group.parts.resize(drivers_.size());
  for (size_t layer = 0; layer < program->kv_layers.size(); ++layer)
    AddLayer(program->kv_layers[layer], device_of_layer[layer]);
}

void KvMemory::AddLayer(const KvLayer& layer, int device) {
  Group& group = groups_[static_cast<size_t>(layer.group)];
  Part& part = group.parts[static_cast<size_t>(device)];
  const size_t bytes =
      static_cast<size_t>(layer.kv_heads) * static_cast<size_t>(KvHeadBytes(layer.head_dim, int8_));
  layer_offsets_.push_back(static_cast<int64_t>(part.bytes));
  if (!group.runs.empty() && group.runs.back().device == device) {
    group.runs.back().bytes += bytes;
  } else {
    group.runs.push_back({device, group.page_bytes, part.bytes, bytes});
  }
  group.page_bytes += bytes;
  part.bytes += bytes;
}

Status KvMemory::AddSlab(int group_index, int slab, int pages) {
  Group& group = groups_[static_cast<size_t>(group_index)];
  std::vector<DeviceBuffer> made(drivers_.size());
  for (size_t d = 0; d < drivers_.size(); ++d) {
    const size_t bytes = group.parts[d].bytes * static_cast<size_t>(pages);
    if (bytes == 0) continue;
    auto buffer = DeviceBuffer::Allocate(drivers_[d], bytes);
    if (!buffer.ok()) {
      const Status status = buffer.status();
      return Status(status.code(),
                    Format("no memory for %d pages of the KV cache: %s", pages, status.message().c_str()));
    }
    made[d] = std::move(buffer).value();
    // Positions that nobody has written yet lie beside others in kernels' arithmetic: they must be numbers.
    TM_RETURN_IF_ERROR(drivers_[d]->Fill(Stream::kStep, made[d].at(), 0, bytes));
  }
  group.slab_pages = pages;
  for (size_t d = 0; d < drivers_.size(); ++d) {
    std::vector<DeviceBuffer>& slabs = group.parts[d].slabs;
    if (static_cast<size_t>(slab) >= slabs.size()) slabs.resize(static_cast<size_t>(slab) + 1);
    slabs[static_cast<size_t>(slab)] = std::move(made[d]);
  }
  return {};
}

void KvMemory::RemoveSlab(int group, int slab) {
  for (Part& part : groups_[static_cast<size_t>(group)].parts)
    part.slabs[static_cast<size_t>(slab)] = DeviceBuffer();
}

DevicePtr KvMemory::Page(int device, int group_index, PageId page) const {
  const Group& group = groups_[static_cast<size_t>(group_index)];
  const Part& part = group.parts[static_cast<size_t>(device)];
  const size_t slab = static_cast<size_t>(page / group.slab_pages);
  if (page < 0 || slab >= part.slabs.size() || !part.slabs[slab]) return 0;
  return part.slabs[slab].at() + static_cast<size_t>(page % group.slab_pages) * part.bytes;
}

void KvMemory::CopyPage(int group_index, PageId from, PageId to) {
  const Group& group = groups_[static_cast<size_t>(group_index)];
  for (size_t d = 0; d < drivers_.size(); ++d) {
    const size_t bytes = group.parts[d].bytes;
    if (bytes == 0) continue;
    const int device = static_cast<int>(d);
    Note(drivers_[d]->Copy(Stream::kStep, Page(device, group_index, to), Page(device, group_index, from),
                           bytes));
  }
}

void KvMemory::ReadPage(int group_index, PageId page, int tokens, std::byte* out) const {
  const Group& group = groups_[static_cast<size_t>(group_index)];
  Status status;
  for (const Run& run : group.runs) {
    Driver& driver = *drivers_[static_cast<size_t>(run.device)];
    const DevicePtr from = Page(run.device, group_index, page) + run.part_offset;
    if (status.ok()) status = driver.Download(Stream::kStep, out + run.page_offset, from, run.bytes);
    if (status.ok()) status = driver.Synchronize(Stream::kStep);
  }
  if (!status.ok()) std::memset(out, 0, group.page_bytes);
  Note(status);
  ClearKvPage(*program_, group_index, int8_, tokens, out);
}

void KvMemory::WritePage(int group_index, PageId page, const std::byte* in) {
  for (const Run& run : groups_[static_cast<size_t>(group_index)].runs) {
    Driver& driver = *drivers_[static_cast<size_t>(run.device)];
    const DevicePtr to = Page(run.device, group_index, page) + run.part_offset;
    Status status = driver.Upload(Stream::kStep, to, in + run.page_offset, run.bytes);
    if (status.ok()) status = driver.Synchronize(Stream::kStep);
    Note(std::move(status));
  }
}

void KvMemory::Note(Status status) const {
  if (failure_.ok()) failure_ = std::move(status);
}

}  // namespace tokenmill::cuda
