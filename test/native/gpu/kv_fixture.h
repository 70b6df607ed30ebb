#pragma once

// Sequences with keys and values in scattered pages, as the kernels for rotary embedding and attention see them.

#include <algorithm>
#include <cstring>
#include <random>

#include "core/float16.h"
#include "gpu_test.h"
#include "kernels/cuda/kv_layout.h"
#include "kernels/cuda/views.h"

namespace gpu_test {

using namespace tokenmill::cuda;

inline std::vector<float> RandomFloats(size_t count, uint32_t seed, float sigma = 1) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0, sigma);
  std::vector<float> values(count);
  for (float& value : values) value = normal(engine);
  return values;
}

/// Rows position … position + rows - 1 of a step are of one sequence.
struct Span {
  int position;
  int rows;
};

struct KvShape {
  int query_heads, kv_heads, head_dim;
  bool int8 = false;
  int window = 0;
};

/// Pages of all sequences in the host's memory and the device's, in an order of no meaning.
class KvFixture {
 public:
  static constexpr int64_t kOffset = 256;  // of the layer in its page

  KvFixture(Driver& driver, const KvShape& shape, const std::vector<Span>& spans)
      : shape_(shape), page_bytes_(kOffset + shape.kv_heads * KvHeadBytes(shape.head_dim, shape.int8)) {
    int longest = 0, pages = 0;
    for (const Span& span : spans) longest = std::max(longest, PagesOf(span));
    stride_ = longest + 1;
    std::vector<int> order;
    for (const Span& span : spans) pages += PagesOf(span);
    for (int i = 0; i < pages; ++i) order.push_back(i);
    std::shuffle(order.begin(), order.end(), std::mt19937(7));
    // Garbage, for example NaN, wherever nothing was written.
    memory_.assign(static_cast<size_t>(pages) * static_cast<size_t>(page_bytes_), 0xff);
    device_ = std::make_unique<DeviceBuffer<uint8_t>>(driver, memory_.size());
    std::vector<uint64_t> table(static_cast<size_t>(stride_) * spans.size(), 0);
    index_.assign(table.size(), 0);
    for (size_t s = 0, next = 0; s < spans.size(); ++s) {
      for (int page = 0; page < PagesOf(spans[s]); ++page) {
        const size_t at = s * static_cast<size_t>(stride_) + static_cast<size_t>(page);
        index_[at] = order[next++];
        table[at] = device_->address() + static_cast<uint64_t>(index_[at] * page_bytes_);
        // Stale: wholly before the window of the first row.
        if (shape.window > 0 && 16 * page + 16 <= spans[s].position - shape.window + 1) table[at] = 0;
      }
    }
    table_ = std::make_unique<DeviceBuffer<uint64_t>>(driver, table);
  }

  KvLayerView View() const {
    KvLayerView view = {};
    view.table = {table_->data(), stride_, shape_.window};
    view.offset = kOffset;
    view.kv_head_bytes = KvHeadBytes(shape_.head_dim, shape_.int8);
    view.kv_heads = shape_.kv_heads;
    view.query_heads = shape_.query_heads;
    view.head_dim = shape_.head_dim;
    view.int8 = shape_.int8;
    return view;
  }

  /// Element of a key or value as stored.
  float At(int sequence, int position, int kv_head, bool value, int d) const {
    const uint8_t* head = HeadOf(sequence, position, kv_head);
    const int64_t at = (value ? KvRowsBytes(shape_.head_dim, shape_.int8) : 0);
    const int64_t element = position % 16 * shape_.head_dim + d;
    if (!shape_.int8) return tokenmill::F16ToF32(Read<uint16_t>(head + at + 2 * element));
    return static_cast<float>(Read<int8_t>(head + at + element)) * Scale(sequence, position, kv_head, value);
  }
  float Scale(int sequence, int position, int kv_head, bool value) const {
    return Read<float>(ScaleAt(sequence, position, kv_head, value));
  }
  /// Rounds and stores a key or value, x[head_dim].
  void Set(int sequence, int position, int kv_head, bool value, const float* x) {
    uint8_t* head = const_cast<uint8_t*>(HeadOf(sequence, position, kv_head));
    uint8_t* at = head + (value ? KvRowsBytes(shape_.head_dim, shape_.int8) : 0);
    const int begin = position % 16 * shape_.head_dim;
    float largest = 0;
    for (int d = 0; d < shape_.head_dim; ++d) largest = std::max(largest, std::abs(x[d]));
    const float scale = largest / 127.0f;
    for (int d = 0; d < shape_.head_dim; ++d) {
      if (shape_.int8) {
        reinterpret_cast<int8_t*>(at)[begin + d] = static_cast<int8_t>(std::nearbyint(x[d] / scale));
      } else {
        reinterpret_cast<uint16_t*>(at)[begin + d] = tokenmill::F32ToF16(x[d]);
      }
    }
    if (shape_.int8) SetScale(sequence, position, kv_head, value, scale);
  }
  void SetScale(int sequence, int position, int kv_head, bool value, float scale) {
    std::memcpy(const_cast<uint8_t*>(ScaleAt(sequence, position, kv_head, value)), &scale, 4);
  }
  void Upload() { device_->Upload(memory_); }
  void Download() { memory_ = device_->Download(); }

 private:
  static int PagesOf(const Span& span) { return (span.position + span.rows + 15) / 16; }
  template <class T>
  static T Read(const uint8_t* at) {
    T value;
    std::memcpy(&value, at, sizeof(value));
    return value;
  }
  const uint8_t* HeadOf(int sequence, int position, int kv_head) const {
    const int64_t page = index_[static_cast<size_t>(sequence * stride_ + position / 16)];
    return memory_.data() + page * page_bytes_ + kOffset + kv_head * KvHeadBytes(shape_.head_dim, shape_.int8);
  }
  const uint8_t* ScaleAt(int sequence, int position, int kv_head, bool value) const {
    return HeadOf(sequence, position, kv_head) + KvScalesOffset(shape_.head_dim) +
           (position % 16 + (value ? 16 : 0)) * 4;
  }

  KvShape shape_;
  int64_t page_bytes_;
  int stride_ = 0;
  std::vector<int64_t> index_;  // page of [sequence, stride]
  std::vector<uint8_t> memory_;
  std::unique_ptr<DeviceBuffer<uint8_t>> device_;
  std::unique_ptr<DeviceBuffer<uint64_t>> table_;
};

/// A step's rows in device memory.
class StepFixture {
 public:
  StepFixture(Driver& driver, const std::vector<Span>& spans, int tile_rows = 1) {
    std::vector<int32_t> positions, sequences;
    std::vector<AttentionTile> tiles;
    for (int s = 0; s < static_cast<int>(spans.size()); ++s) {
      const Span& span = spans[static_cast<size_t>(s)];
      for (int r = 0; r < span.rows; r += tile_rows) {
        tiles.push_back({static_cast<int32_t>(positions.size()) + r, std::min(tile_rows, span.rows - r)});
      }
      for (int r = 0; r < span.rows; ++r) positions.push_back(span.position + r), sequences.push_back(s);
    }
    rows = static_cast<int>(positions.size()), tile_count = static_cast<int>(tiles.size());
    tiles_.push_back(DeviceBuffer<AttentionTile>(driver, std::max<size_t>(tiles.size(), 1)));
    if (!tiles.empty()) tiles_[0].Upload(tiles);
    counts_.push_back(DeviceBuffer<StepCounts>(driver, {StepCounts{rows, 0, tile_count, 0}}));
    positions.push_back(0), sequences.push_back(0);
    ints_.push_back(DeviceBuffer<int32_t>(driver, positions));
    ints_.push_back(DeviceBuffer<int32_t>(driver, sequences));
  }
  StepView View() const { return {counts_[0].data(), nullptr, ints_[0].data(), ints_[1].data(), nullptr}; }
  const AttentionTile* tiles() const { return tiles_[0].data(); }

  int rows, tile_count;

 private:
  std::vector<DeviceBuffer<AttentionTile>> tiles_;
  std::vector<DeviceBuffer<StepCounts>> counts_;
  std::vector<DeviceBuffer<int32_t>> ints_;
};

inline std::vector<uint32_t> Bits(const std::vector<float>& values) {
  std::vector<uint32_t> bits(values.size());
  std::memcpy(bits.data(), values.data(), values.size() * sizeof(float));
  return bits;
}

}  // namespace gpu_test
