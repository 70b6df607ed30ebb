#pragma once

#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "kernels/cuda/device_memory.h"
#include "ops/backend.h"

namespace tokenmill::cuda {

/// The pages of the KV groups. A page has a part on each device that holds layers of its group; what ReadPage
/// gives is the same however layers are spread.
class KvMemory {
 public:
  /// `device_of_layer` by Program::kv_layers: index into drivers.
  KvMemory(const Program* program, KvType type, std::vector<std::shared_ptr<Driver>> drivers,
           std::span<const int> device_of_layer);

  bool int8() const { return int8_; }
  size_t page_bytes(int group) const { return groups_[static_cast<size_t>(group)].page_bytes; }
  /// Where a layer lies in the part of its device.
  int64_t layer_offset(int layer) const { return layer_offsets_[static_cast<size_t>(layer)]; }

  // All on the step's stream, so that it is done before the next step and after the last.

  /// Zeroed memory on every device, or on none.
  Status AddSlab(int group, int slab, int pages);
  void RemoveSlab(int group, int slab);
  void CopyPage(int group, PageId from, PageId to);
  void ReadPage(int group, PageId page, int tokens, std::byte* out) const;
  void WritePage(int group, PageId page, const std::byte* in);

  /// Whether a device holds layers of a group.
  bool HasPart(int device, int group) const {
    return groups_[static_cast<size_t>(group)].parts[static_cast<size_t>(device)].bytes > 0;
  }
  /// The address of a page's part on a device; 0 for what has no memory.
  DevicePtr Page(int device, int group, PageId page) const;

  /// The first failure since the last call of copies, which report none themselves.
  Status TakeFailure() { return std::exchange(failure_, Status()); }

 private:
  /// Bytes that lie together, in a page as a whole and in a device's part of it.
  struct Run {
    int device = 0;
    size_t page_offset = 0;
    size_t part_offset = 0;
    size_t bytes = 0;
  };
  struct Part {
    size_t bytes = 0;  // of a page on this device
    std::vector<DeviceBuffer> slabs;
  };
  struct Group {
    size_t page_bytes = 0;
    int slab_pages = 1;
    std::vector<Part> parts;  // one a device
    std::vector<Run> runs;
  };

  void AddLayer(const KvLayer& layer, int device);
  void Note(Status status) const;

  const Program* const program_;
  const bool int8_;
  const std::vector<std::shared_ptr<Driver>> drivers_;
  std::vector<Group> groups_;
  std::vector<int64_t> layer_offsets_;
  mutable Status failure_;
};

}  // namespace tokenmill::cuda
