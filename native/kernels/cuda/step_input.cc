#include "kernels/cuda/step_input.h"

#include <algorithm>
#include <map>

#include "kernels/cuda/attention.h"
#include "ops/adapter_check.h"

namespace tokenmill::cuda {
namespace {

// Rows of a sequence up to which it counts as decoding: a token, or some guesses.
constexpr int kDecodeRowsMost = 8;
constexpr int kSegmentPages = kSegmentTokens / kPageTokens;

int PowerOfTwoFrom(int least) {
  int power = 1;
  while (power < least) power *= 2;
  return power;
}

// Room for `count` elements, zeros; its offset.
template <class T>
size_t Reserve(std::vector<std::byte>* bytes, size_t count) {
  const size_t at = Aligned(bytes->size());
  bytes->resize(at + count * sizeof(T));
  return at;
}

template <class T>
T* At(std::vector<std::byte>* bytes, size_t at) {
  return reinterpret_cast<T*>(bytes->data() + at);
}

template <class T>
size_t Append(std::vector<std::byte>* bytes, std::span<const T> values) {
  const size_t at = Reserve<T>(bytes, values.size());
  std::copy(values.begin(), values.end(), At<T>(bytes, at));
  return at;
}

// Consecutive rows of a sequence, at most `most` a tile.
void AddTiles(const StepSequence& sequence, int most, std::vector<AttentionTile>* tiles) {
  for (int i = 0; i < sequence.rows; i += most)
    tiles->push_back({sequence.row_begin + i, std::min(most, sequence.rows - i)});
}

bool IsDecode(const StepShape& shape, const StepSequence& sequence) {
  return sequence.rows <= shape.decode_rows;
}

// Rows with their adapters, in levels of stacking and within these in groups of one adapter and scale.
class AdapterSorter {
 public:
  explicit AdapterSorter(std::vector<const CudaAdapter*>* adapters) : adapters_(adapters) {}

  void Add(int row, std::span<const AdapterUse> uses) {
    if (uses.size() > levels_.size()) levels_.resize(uses.size());
    for (size_t level = 0; level < uses.size(); ++level)
      levels_[level][{IndexOf(uses[level].adapter), uses[level].scale}].push_back(row);
  }

  AdapterLists Pack(std::vector<std::byte>* bytes) const {
    AdapterLists lists;
    std::vector<int32_t> level_groups = {0}, rows;
    std::vector<AdapterGroup> groups;
    for (const auto& level : levels_) {
      for (const auto& [use, of] : level) {
        for (size_t begin = 0; begin < of.size(); begin += kAdapterGroupRows) {
          const size_t count = std::min<size_t>(kAdapterGroupRows, of.size() - begin);
          groups.push_back(
              {use.first, static_cast<int32_t>(rows.size()), static_cast<int32_t>(count), use.second});
          rows.insert(rows.end(), of.begin() + static_cast<ptrdiff_t>(begin),
                      of.begin() + static_cast<ptrdiff_t>(begin + count));
        }
      }
      lists.level_groups_max =
          std::max(lists.level_groups_max, static_cast<int>(groups.size()) - level_groups.back());
      level_groups.push_back(static_cast<int32_t>(groups.size()));
    }
    lists.levels = static_cast<int>(levels_.size());
    lists.groups = static_cast<int>(groups.size());
    lists.entries = static_cast<int>(rows.size());
    lists.level_groups_at = Append<int32_t>(bytes, level_groups);
    lists.groups_at = Append<AdapterGroup>(bytes, groups);
    lists.row_list_at = Append<int32_t>(bytes, rows);
    return lists;
  }

 private:
  int IndexOf(const LoadedAdapter* adapter) {
    const auto at = std::find(adapters_->begin(), adapters_->end(), adapter);
    if (at != adapters_->end()) return static_cast<int>(at - adapters_->begin());
    adapters_->push_back(static_cast<const CudaAdapter*>(adapter));
    return static_cast<int>(adapters_->size()) - 1;
  }

  std::vector<const CudaAdapter*>* adapters_;
  std::vector<std::map<std::pair<int, float>, std::vector<int32_t>>> levels_;
};

}  // namespace

int SegmentsOf(const StepShape& shape, int window) {
  const int all = shape.table_stride / kSegmentPages;
  if (window == 0) return all;
  return std::min(all, (window + shape.decode_rows - 2) / kSegmentTokens + 2);
}

StepPacker::StepPacker(const Program* program, int max_rows, int max_head_rows)
    : program_(program),
      max_rows_(max_rows),
      max_head_rows_(max_head_rows),
      slots_(program->weights.size(), -1) {
  for (const KvLayer& layer : program->kv_layers) {
    const int group = layer.query_heads / layer.kv_heads;
    if (std::find(groups_.begin(), groups_.end(), group) == groups_.end()) groups_.push_back(group);
  }
  for (const Op& op : program->ops) {
    for (const WeightId matrix : LinearMatrices(op)) {
      int& slot = slots_[static_cast<size_t>(matrix)];
      if (slot < 0) slot = slot_count_++;
    }
  }
}

int StepPacker::groups_of(const KvLayer& layer) const {
  const auto at = std::find(groups_.begin(), groups_.end(), layer.query_heads / layer.kv_heads);
  return static_cast<int>(at - groups_.begin());
}

StepShape StepPacker::ShapeOf(const StepInput& input) const {
  StepShape shape;
  shape.recorded = true;
  const int rows = static_cast<int>(input.tokens.size());
  int pages = kSegmentPages;
  for (const StepSequence& sequence : input.sequences) {
    pages = std::max(pages, (sequence.position + sequence.rows + kPageTokens - 1) / kPageTokens);
    if (sequence.rows > kDecodeRowsMost || !sequence.adapters.empty()) shape.recorded = false;
    if (sequence.rows <= kDecodeRowsMost)
      shape.decode_rows = std::max(shape.decode_rows, PowerOfTwoFrom(sequence.rows));
  }
  shape.table_stride = PowerOfTwoFrom(pages);
  shape.rows_max = shape.recorded ? std::min(PowerOfTwoFrom(rows), max_rows_) : rows;
  shape.sequences_max = shape.recorded ? shape.rows_max : static_cast<int>(input.sequences.size());
  return shape;
}

Status StepPacker::Pack(const StepInput& input, const StepShape& shape, const KvMemory& kv, int device,
                        PackedStep* packed) const {
  std::vector<std::byte> memory = std::move(packed->bytes);  // of an earlier step
  memory.clear();
  *packed = {};
  packed->bytes = std::move(memory);
  packed->shape = shape;
  packed->rows = static_cast<int>(input.tokens.size());
  PackRows(input, packed);
  PackTiles(input, packed);
  TM_RETURN_IF_ERROR(PackTables(input, kv, device, packed));
  PackHead(input, packed);
  PackAdapters(input, device, packed);
  return {};
}

void StepPacker::PackRows(const StepInput& input, PackedStep* packed) const {
  std::vector<std::byte>* bytes = &packed->bytes;
  const size_t rows_max = static_cast<size_t>(packed->shape.rows_max);
  // The step's counts, then the tiles' of each group.
  bytes->resize(sizeof(StepCounts) + 2 * groups_.size() * sizeof(int32_t));
  packed->tokens_at = Reserve<int32_t>(bytes, rows_max);
  packed->positions_at = Reserve<int32_t>(bytes, rows_max);
  packed->sequences_at = Reserve<int32_t>(bytes, rows_max);
  StepCounts* counts = At<StepCounts>(bytes, 0);
  counts->rows = packed->rows;
  counts->head_rows = static_cast<int32_t>(input.head.size());
  std::copy(input.tokens.begin(), input.tokens.end(), At<int32_t>(bytes, packed->tokens_at));
  for (size_t s = 0; s < input.sequences.size(); ++s) {
    const StepSequence& sequence = input.sequences[s];
    for (int i = 0; i < sequence.rows; ++i) {
      At<int32_t>(bytes, packed->positions_at)[sequence.row_begin + i] = sequence.position + i;
      At<int32_t>(bytes, packed->sequences_at)[sequence.row_begin + i] = static_cast<int32_t>(s);
    }
  }
}

void StepPacker::PackTiles(const StepInput& input, PackedStep* packed) const {
  std::vector<std::byte>* bytes = &packed->bytes;
  const StepShape& shape = packed->shape;
  for (size_t g = 0; g < groups_.size(); ++g) {
    TileLists lists;
    lists.group = groups_[g];
    lists.decode_rows = std::min(shape.decode_rows, AttentionDecodeRows(lists.group, 1));
    std::vector<AttentionTile> decode, prefill;
    for (const StepSequence& sequence : input.sequences) {
      const bool is_decode = IsDecode(shape, sequence);
      AddTiles(sequence, is_decode ? lists.decode_rows : AttentionPrefillRows(lists.group, 1),
               is_decode ? &decode : &prefill);
    }
    lists.decode_max = static_cast<int>(decode.size());
    lists.prefill_max = static_cast<int>(prefill.size());
    if (shape.recorded) (shape.decode_rows > 0 ? lists.decode_max : lists.prefill_max) = shape.rows_max;
    lists.decode_count_at = sizeof(StepCounts) + 2 * g * sizeof(int32_t);
    lists.prefill_count_at = lists.decode_count_at + sizeof(int32_t);
    *At<int32_t>(bytes, lists.decode_count_at) = static_cast<int32_t>(decode.size());
    *At<int32_t>(bytes, lists.prefill_count_at) = static_cast<int32_t>(prefill.size());
    lists.decode_at = Reserve<AttentionTile>(bytes, static_cast<size_t>(lists.decode_max));
    lists.prefill_at = Reserve<AttentionTile>(bytes, static_cast<size_t>(lists.prefill_max));
    std::copy(decode.begin(), decode.end(), At<AttentionTile>(bytes, lists.decode_at));
    std::copy(prefill.begin(), prefill.end(), At<AttentionTile>(bytes, lists.prefill_at));
    packed->tiles.push_back(lists);
  }
}

Status StepPacker::PackTables(const StepInput& input, const KvMemory& kv, int device,
                              PackedStep* packed) const {
  const size_t stride = static_cast<size_t>(packed->shape.table_stride);
  for (size_t g = 0; g < program_->kv_groups.size(); ++g) {
    const size_t at = packed->tables_at[g] =
        Reserve<uint64_t>(&packed->bytes, static_cast<size_t>(packed->shape.sequences_max) * stride);
    uint64_t* table = At<uint64_t>(&packed->bytes, at);
    const int window = program_->kv_groups[g].window;
    for (const StepSequence& sequence : input.sequences) {
      const int first = window > 0 ? std::max(0, sequence.position - window + 1) / kPageTokens : 0;
      const int end = (sequence.position + sequence.rows + kPageTokens - 1) / kPageTokens;
      for (int page = first; page < end; ++page) {
        table[page] = kv.Page(device, static_cast<int>(g), sequence.pages[g][page]);
        if (table[page] == 0 && kv.HasPart(device, static_cast<int>(g)))
          return Error(Code::kInternal, "a step has a page without memory");
      }
      table += stride;
    }
  }
  return {};
}

void StepPacker::PackHead(const StepInput& input, PackedStep* packed) const {
  std::vector<std::byte>* bytes = &packed->bytes;
  HeadLists& head = packed->head;
  head.rows = static_cast<int>(input.head.size());
  std::vector<int32_t> rows, chunk_rows, targets;
  std::vector<HeadEdit> edits;
  int32_t found = 0;
  const auto count_of = [this](int wanted) {
    const int count = std::clamp(wanted, 0, program_->vocabulary);
    return count > kHeadListMax ? 0 : count;  // the host takes longer lists from the logits
  };
  for (const HeadRow& row : input.head) {
    HeadRequest request = {};
    request.candidates = count_of(row.candidates);
    request.raw_top = count_of(row.raw_top);
    request.candidates_at = found;
    request.raw_top_at = found + request.candidates;
    found += request.candidates + request.raw_top;
    head.list_max = std::max({head.list_max, request.candidates, request.raw_top});
    request.edits_at = static_cast<int32_t>(edits.size());
    request.edits = static_cast<int32_t>(row.edits.size());
    request.targets_at = static_cast<int32_t>(targets.size());
    request.targets = static_cast<int32_t>(row.targets.size());
    request.mask = -1;
    for (const LogitEdit& edit : row.edits) edits.push_back({edit.token, edit.repetition, edit.subtract});
    targets.insert(targets.end(), row.targets.begin(), row.targets.end());
    rows.push_back(row.row);
    head.requests.push_back(request);
  }
  for (int first = 0; first < head.rows; first += max_head_rows_)
    chunk_rows.push_back(std::min(max_head_rows_, head.rows - first));
  head.list_max = std::min(PowerOfTwoFrom(head.list_max), kHeadListMax);
  head.row_list_at = Append<int32_t>(bytes, rows);
  head.chunk_rows_at = Append<int32_t>(bytes, chunk_rows);
  head.requests_at = Append<HeadRequest>(bytes, head.requests);
  head.edits_at = Append<HeadEdit>(bytes, edits);
  head.targets_at = Append<int32_t>(bytes, targets);
  head.found_at = Aligned(rows.size() * sizeof(HeadOutput));
  head.target_logits_at = head.found_at + Aligned(static_cast<size_t>(found) * sizeof(HeadFound));
  head.results_bytes = head.target_logits_at + targets.size() * sizeof(float);
}

void StepPacker::PackAdapters(const StepInput& input, int device, PackedStep* packed) const {
  std::vector<const CudaAdapter*> adapters;
  std::vector<std::span<const AdapterUse>> uses(input.tokens.size());
  AdapterSorter body(&adapters);
  for (const StepSequence& sequence : input.sequences) {
    for (int row = sequence.row_begin; row < sequence.row_begin + sequence.rows; ++row) {
      uses[static_cast<size_t>(row)] = sequence.adapters;
      body.Add(row, sequence.adapters);
    }
  }
  packed->head.adapters.resize(
      static_cast<size_t>((packed->head.rows + max_head_rows_ - 1) / max_head_rows_));
  if (adapters.empty()) return;
  packed->adapters = body.Pack(&packed->bytes);
  for (size_t chunk = 0; chunk < packed->head.adapters.size(); ++chunk) {
    AdapterSorter sorter(&adapters);
    const int first = static_cast<int>(chunk) * max_head_rows_;
    for (int i = first; i < std::min(first + max_head_rows_, packed->head.rows); ++i)
      sorter.Add(i - first, uses[static_cast<size_t>(input.head[static_cast<size_t>(i)].row)]);
    packed->head.adapters[chunk] = sorter.Pack(&packed->bytes);
  }
  packed->adapter_count = static_cast<int>(adapters.size());
  for (const CudaAdapter* adapter : adapters)
    packed->rank_max = std::max(packed->rank_max, adapter->rank_max());
  packed->adapter_tables_at =
      Reserve<AdapterMatrix>(&packed->bytes, static_cast<size_t>(slot_count_) * adapters.size());
  for (size_t weight = 0; weight < slots_.size(); ++weight) {
    if (slots_[weight] < 0) continue;
    AdapterMatrix* table = At<AdapterMatrix>(&packed->bytes, packed->adapter_tables_at) +
                           static_cast<size_t>(slots_[weight]) * adapters.size();
    for (const CudaAdapter* adapter : adapters)
      *table++ = adapter->matrix(device, static_cast<WeightId>(weight));
  }
}

}  // namespace tokenmill::cuda
