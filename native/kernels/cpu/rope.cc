#include "kernels/cpu/rope.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/phase_builder.h"

namespace tokenmill::cpu {
namespace {

constexpr int kChunk = 64;  // elements of a key that are converted at once

}  // namespace

RopeAngles::RopeAngles(const RopeTable& table, int max_rows)
    : table_(table),
      memory_(table.dims == 0 ? SystemBuffer()
                              : SystemBuffer(sizeof(float) * 2 * static_cast<size_t>(table.dims) *
                                             static_cast<size_t>(max_rows))) {}

void RopeAngles::FillRow(int row, int position) const {
  float* cosines = a(row);
  float* sines = b(row);
  for (int i = 0; i < table_.dims / 2; ++i) {
    const double angle = static_cast<double>(position) * table_.frequencies[static_cast<size_t>(i)];
    const float cosine = static_cast<float>(std::cos(angle)) * table_.magnitude;
    const float sine = static_cast<float>(std::sin(angle)) * table_.magnitude;
    if (table_.style == RopeStyle::kHalves) {
      cosines[i] = cosine;
      sines[i] = sine;
    } else {
      cosines[2 * i] = cosines[2 * i + 1] = cosine;
      sines[2 * i] = -sine;
      sines[2 * i + 1] = sine;
    }
  }
}

RopeWrite::RopeWrite(const StepState* state, const RopeAngles* angles, const RopeWriteKv& op, RowBuffer q,
                     RowBuffer k, RowBuffer v)
    : state_(state),
      angles_(angles),
      op_(op),
      layer_(state->program->kv_layers[static_cast<size_t>(op.kv_layer)]),
      q_(q),
      k_(k),
      v_(v) {}

int RopeWrite::Tasks() const {
  const int units = state_->rows * layer_.kv_heads, chunk = RowsPerTask(units, state_->threads);
  return (units + chunk - 1) / chunk;
}

void RopeWrite::Run(int task) const {
  const int units = state_->rows * layer_.kv_heads, chunk = RowsPerTask(units, state_->threads);
  const int end = std::min(units, (task + 1) * chunk);
  for (int unit = task * chunk; unit < end; ++unit) RunHead(unit / layer_.kv_heads, unit % layer_.kv_heads);
}

void RopeWrite::RunHead(int row, int kv_head) const {
  const int group = layer_.query_heads / layer_.kv_heads, dim = layer_.head_dim;
  for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    NormAndRotate(op_.q_norm, row, q_.row(row) + head * dim);
  }
  NormAndRotate(op_.k_norm, row, k_.row(row) + kv_head * dim);
  Write(row, kv_head);
}

void RopeWrite::NormAndRotate(const Norm& norm, int row, float* head) const {
  const float* weight = state_->weights->vector(norm.weight);
  if (weight != nullptr) state_->kernels->rms_norm(head, weight, norm.epsilon, head, layer_.head_dim);
  angles_->Rotate(*state_->kernels, row, head);
}

void RopeWrite::Write(int row, int kv_head) const {
  const int dim = layer_.head_dim;
  const int position = state_->position_of[static_cast<size_t>(row)];
  const int slot = position % kPageTokens;
  const int32_t page = state_->sequence(row).pages[static_cast<size_t>(layer_.group)][position / kPageTokens];
  const KvHead head = state_->kv->Head(op_.kv_layer, kv_head, page);
  const float* k = k_.row(row) + kv_head * dim;
  const float* v = v_.row(row) + kv_head * dim;
  if (state_->kv->element() == KvElement::kInt8) return WriteInt8(head, slot, k, v);
  uint16_t* keys = reinterpret_cast<uint16_t*>(head.keys);
  for (int begin = 0; begin < dim; begin += kChunk) {
    uint16_t halves[kChunk];
    const int count = std::min(kChunk, dim - begin);
    state_->kernels->to_half(k + begin, halves, count);
    for (int d = 0; d < count; ++d) keys[(begin + d) * kPageTokens + slot] = halves[d];
  }
  state_->kernels->to_half(v, reinterpret_cast<uint16_t*>(head.values) + slot * KvCache::PaddedDim(dim), dim);
}

void RopeWrite::WriteInt8(const KvHead& head, int slot, const float* k, const float* v) const {
  const int dim = layer_.head_dim;
  int8_t* keys = reinterpret_cast<int8_t*>(head.keys);
  int8_t* values = reinterpret_cast<int8_t*>(head.values) + slot * KvCache::PaddedDim(dim);
  // The values' place takes the keys first.
  head.key_scales[slot] = state_->kernels->to_int8(k, values, dim);
  for (int d = 0; d < dim; ++d) keys[d * kPageTokens + slot] = values[d];
  head.value_scales[slot] = state_->kernels->to_int8(v, values, dim);
}

}  // namespace tokenmill::cpu
