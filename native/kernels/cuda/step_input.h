#pragma once

#include <compare>
#include <cstring>
#include <span>
#include <vector>

#include "kernels/cuda/adapter.h"
#include "kernels/cuda/head.h"
#include "kernels/cuda/kv_memory.h"
#include "kernels/cuda/loaded_adapter.h"
#include "kernels/cuda/views.h"
#include "ops/step.h"

// What a step brings to a device, packed into one piece of memory for one upload. The first parts lie at
// offsets that depend on the step's shape alone, so that a graph finds them again; the head's and the
// adapters' follow.

namespace tokenmill::cuda {

/// What launches of the body depend on. Steps of equal shape, when recorded, replay one graph.
struct StepShape {
  int rows_max = 0;
  int sequences_max = 0;
  int table_stride = 0;  // pages of a block table, a multiple of a segment's
  int decode_rows = 0;  // most rows of a sequence that AttentionDecode works off; 0: none
  bool recorded = false;
  auto operator<=>(const StepShape&) const = default;
};

/// Tiles of attention for the layers that have one number of query heads a kv head.
struct TileLists {
  int group = 0;  // query heads of a kv head
  int decode_max = 0;  // tiles that grids cover
  int prefill_max = 0;
  int decode_rows = 0;  // most rows of a decode tile
  size_t decode_at = 0;  // offsets
  size_t prefill_at = 0;
  size_t decode_count_at = 0;
  size_t prefill_count_at = 0;
};

/// Adapters' rows of the body, or of a chunk of head rows.
struct AdapterLists {
  int levels = 0;  // 0: no adapters
  int groups = 0;
  int level_groups_max = 0;
  int entries = 0;  // of the row list
  size_t level_groups_at = 0, groups_at = 0, row_list_at = 0;
};

/// What the head of a step is asked for and where its results go.
struct HeadLists {
  int rows = 0;
  size_t row_list_at = 0, chunk_rows_at = 0, requests_at = 0, edits_at = 0, targets_at = 0;
  int list_max = 1;  // of candidates that a row takes from the device
  size_t outputs_at = 0;  // offsets in the results
  size_t found_at = 0;
  size_t target_logits_at = 0;
  size_t results_bytes = 0;
  std::vector<HeadRequest> requests;
  std::vector<AdapterLists> adapters;  // of each chunk
};

struct PackedStep {
  StepShape shape;
  int rows = 0;
  size_t tokens_at = 0, positions_at = 0, sequences_at = 0;
  size_t tables_at[kMaxKvGroups] = {};
  std::vector<TileLists> tiles;
  AdapterLists adapters;
  int adapter_count = 0;
  int rank_max = 0;
  size_t adapter_tables_at = 0;  // [slots][adapters] of AdapterMatrix
  HeadLists head;
  std::vector<std::byte> bytes;
};

/// Packs steps of a program for its devices.
class StepPacker {
 public:
  StepPacker(const Program* program, int max_rows, int max_head_rows);

  /// The groups of TileLists.
  std::span<const int> groups() const { return groups_; }
  int groups_of(const KvLayer& layer) const;
  /// Where a linear layer's adapters stand in the tables.
  int adapter_slot(WeightId weight) const { return slots_[static_cast<size_t>(weight)]; }

  StepShape ShapeOf(const StepInput& input) const;
  /// Equal shapes give equal sizes. Internal for a page that has no memory.
  Status Pack(const StepInput& input, const StepShape& shape, const KvMemory& kv, int device,
              PackedStep* packed) const;

 private:
  void PackRows(const StepInput& input, PackedStep* packed) const;
  void PackTiles(const StepInput& input, PackedStep* packed) const;
  Status PackTables(const StepInput& input, const KvMemory& kv, int device, PackedStep* packed) const;
  void PackHead(const StepInput& input, PackedStep* packed) const;
  void PackAdapters(const StepInput& input, int device, PackedStep* packed) const;

  const Program* const program_;
  const int max_rows_;
  const int max_head_rows_;
  std::vector<int> groups_;
  std::vector<int> slots_;  // by WeightId, or -1
  int slot_count_ = 0;
};

/// Segments of any tile of a shape's decode rows, for a layer with this window.
int SegmentsOf(const StepShape& shape, int window);

}  // namespace tokenmill::cuda
