#include <algorithm>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/embed.h"
#include "kernels/cuda/gated.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/rope.h"
#include "kernels/cuda/split.h"
#include "kernels/cuda/stage.h"

// Operations to launches. A norm after a sum joins it, and what a gate lets through is written as the product
// after it reads it: activations go through memory once in f32 and once in the form that products take.

namespace tokenmill::cuda {
namespace {

MatmulPrecision PrecisionOf(const CompileOptions& options) {
  return options.activation_terms > 1 ? MatmulPrecision::kHigh : MatmulPrecision::kFast;
}

}  // namespace

Status Stage::Compile() {
  TM_ASSIGN_OR_RETURN(DeviceWeights weights, DeviceWeights::Plan(program_, ops_));
  weights_ = std::make_shared<DeviceWeights>(std::move(weights));
  values_.resize(program_.values.size());
  for (Slot** slot : {&forms_.f32, &forms_.f16, &forms_.row_scale, &forms_.sums, &forms_.s8, &forms_.s8_scale,
                      &forms_.s8_sums, &forms_.bf16, &forms_.bf16_rest, &product_, &gate_, &up_, &counters_,
                      &logits_, &head_parts_, &head_keys_})
    *slot = plan_.Add();
  for (size_t i = 0; i < ops_.size(); ++i) {
    std::visit([&](const auto& op) { AddOp(op_begin_ + static_cast<int>(i), op); }, ops_[i]);
  }
  plan_.Finish();
  return {};
}

const Op* Stage::Next(int index) const {
  const size_t next = static_cast<size_t>(index - op_begin_ + 1);
  return next < ops_.size() ? &ops_[next] : nullptr;
}

// After operation `index + 1`, also on another device.
bool Stage::IsReadLater(int index, ValueId value) const {
  for (size_t i = static_cast<size_t>(index) + 2; i < program_.ops.size(); ++i) {
    if (ReadsValue(program_.ops[i], value)) return true;
    if (WritesValue(program_.ops[i], value)) return false;
  }
  return false;
}

Slot* Stage::Value(ValueId value) {
  Slot*& slot = values_[static_cast<size_t>(value)];
  if (slot == nullptr) {
    const size_t elements = static_cast<size_t>(options_.max_rows) * static_cast<size_t>(width(value));
    slot = plan_.Add(elements * sizeof(float));
  }
  return slot;
}

Stage::Forms Stage::FormsOf(std::span<const WeightId> matrices) const {
  Forms forms;
  const bool high = PrecisionOf(options_) == MatmulPrecision::kHigh;
  for (const WeightId matrix : matrices) {
    const WeightForm form = weights_->matrix(matrix).form;
    if (form == WeightForm::kF32) {
      forms.f32 = true;
    } else if (form == WeightForm::kBF16) {
      forms.bf16 = true;
      forms.bf16_rest |= high;
    } else if (form == WeightForm::kQ8_0 && !high) {
      forms.s8 = true;
    } else {
      forms.f16 = true;
      forms.sums |= form != WeightForm::kF16;
    }
  }
  return forms;
}

void Stage::WantForms(const Forms& forms, int rows, int width) {
  const size_t r = static_cast<size_t>(rows), elements = r * static_cast<size_t>(width),
               blocks = elements / 32;
  forms_.f32->Want(elements * sizeof(float));  // adapters read it, whatever else is read
  if (forms.f16) forms_.f16->Want(elements * sizeof(uint16_t)), forms_.row_scale->Want(r * sizeof(float));
  if (forms.sums) forms_.sums->Want(blocks * sizeof(float));
  if (forms.s8) {
    forms_.s8->Want(elements);
    forms_.s8_scale->Want(blocks * sizeof(float));
    forms_.s8_sums->Want(blocks * sizeof(int32_t));
  }
  if (forms.bf16) forms_.bf16->Want(elements * sizeof(uint16_t));
  if (forms.bf16_rest) forms_.bf16_rest->Want(elements * sizeof(uint16_t));
}

ActivationView Stage::View(const Forms& forms, int width, bool with_floats) const {
  ActivationView view = {};
  view.k = width;
  if (forms.f32 || with_floats) view.f32 = ptr(forms_.f32);
  if (forms.f16) view.f16 = ptr<uint16_t>(forms_.f16), view.row_scale = ptr(forms_.row_scale);
  if (forms.sums) view.sums = ptr(forms_.sums);
  if (forms.s8) {
    view.s8 = ptr<int8_t>(forms_.s8);
    view.s8_scale = ptr(forms_.s8_scale);
    view.s8_sums = ptr<int32_t>(forms_.s8_sums);
  }
  if (forms.bf16) view.bf16 = ptr<uint16_t>(forms_.bf16);
  if (forms.bf16_rest) view.bf16_rest = ptr<uint16_t>(forms_.bf16_rest);
  return view;
}

StepView Stage::ViewOf(const StepRun& run) const {
  const PackedStep& step = *run.step;
  return {As<const StepCounts>(run.input), As<const int32_t>(run.input + step.tokens_at),
          As<const int32_t>(run.input + step.positions_at), As<const int32_t>(run.input + step.sequences_at),
          As<const int32_t>(run.input + step.head.row_list_at)};
}

KvLayerView Stage::LayerView(const StepRun& run, int kv_layer) const {
  const KvLayer& layer = program_.kv_layers[static_cast<size_t>(kv_layer)];
  const size_t group = static_cast<size_t>(layer.group);
  KvLayerView view = {};
  view.table = {As<const uint64_t>(run.input + run.step->tables_at[group]), run.step->shape.table_stride,
                program_.kv_groups[group].window};
  view.offset = parts_->kv->layer_offset(kv_layer);
  view.kv_head_bytes = KvHeadBytes(layer.head_dim, parts_->kv->int8());
  view.kv_heads = layer.kv_heads;
  view.query_heads = layer.query_heads;
  view.head_dim = layer.head_dim;
  view.int8 = parts_->kv->int8() ? 1 : 0;
  return view;
}

void Stage::AddOp(int, const Embed& op) {
  Slot* out = Value(op.out);
  Add([this, op, out](const StepRun& run) {
    const StepView view = ViewOf(run);
    const int columns = width(op.out), rows_max = run.step->shape.rows_max;
    if (weights_->table(op.table) == nullptr) {
      const DeviceMatrix table = weights_->matrix(op.table);
      const EmbedPackedParams params = {view.counts, view.tokens, table.data, ptr(out), columns, op.scale};
      return LaunchEmbedPacked(*driver_, table.form, params, rows_max);
    }
    const WeightDesc& desc = program_.weights[static_cast<size_t>(op.table)];
    const EmbedParams params = {view.counts,
                                view.tokens,
                                weights_->table(op.table),
                                static_cast<int64_t>(RowBytes(desc.dtype, desc.cols)),
                                ptr(out),
                                columns,
                                op.scale};
    return LaunchEmbed(*driver_, desc.dtype, params, rows_max);
  });
}

// Without a weight: the rows as they are, in other forms.
void Stage::AddNorm(ValueId in, const Norm& norm, const Forms& forms) {
  const Slot* x = Value(in);
  const int columns = width(in);
  WantForms(forms, options_.max_rows, columns);
  Add([this, x, columns, norm, forms](const StepRun& run) {
    NormParams params = {};
    params.counts = ViewOf(run).counts;
    params.x = ptr(x);
    params.weight = weights_->vector(norm.weight);
    params.width = columns;
    params.epsilon = norm.epsilon;
    params.out = View(forms, columns, run.step->adapter_count > 0);
    return LaunchNorm(*driver_, params, run.step->shape.rows_max);
  });
}

void Stage::AddMatmul(WeightId matrix, WeightId bias, const Slot* out) {
  const Forms forms = FormsOf({&matrix, 1});
  Add([this, matrix, bias, out, forms](const StepRun& run) {
    const DeviceMatrix weights = weights_->matrix(matrix);
    MatmulArgs args;
    args.form = weights.form;
    args.precision = PrecisionOf(options_);
    args.rows_max = run.step->shape.rows_max;
    args.params.weights = weights.data;
    args.params.rows = &ViewOf(run).counts->rows;
    args.params.in = View(forms, weights.k, false);
    args.params.bias = weights_->vector(bias);
    args.params.out = ptr(out);
    args.params.stride = weights.features;
    args.params.features = weights.features;
    return LaunchMatmul(*driver_, args);
  });
}

AdapterParams Stage::AdaptersOf(const StepRun& run, const AdapterLists& lists,
                                std::span<const WeightId> matrices, std::span<float* const> outs,
                                const float* in, int width) const {
  const PackedStep& step = *run.step;
  AdapterParams params = {};
  params.level_groups = As<const int32_t>(run.input + lists.level_groups_at);
  params.groups = As<const AdapterGroup>(run.input + lists.groups_at);
  params.row_list = As<const int32_t>(run.input + lists.row_list_at);
  params.in = in;
  params.inner = As<float>(inner_.at());
  for (size_t i = 0; i < matrices.size(); ++i) {
    const size_t slot = static_cast<size_t>(parts_->packer->adapter_slot(matrices[i]));
    const size_t at =
        step.adapter_tables_at + slot * static_cast<size_t>(step.adapter_count) * sizeof(AdapterMatrix);
    params.targets[i] = {As<const AdapterMatrix>(run.input + at), outs[i],
                         weights_->matrix(matrices[i]).features, 0};
  }
  params.target_count = static_cast<int32_t>(matrices.size());
  params.width = width;
  params.list_max = lists.entries;
  params.levels = lists.levels;
  return params;
}

// To products of matrices that share what the last norm or gate wrote.
void Stage::AddAdapters(std::vector<WeightId> matrices, std::vector<const Slot*> outs) {
  for (size_t first = 0; first < matrices.size(); first += kAdapterTargetsMax) {
    const size_t end = std::min(matrices.size(), first + kAdapterTargetsMax);
    const std::vector<WeightId> some(matrices.begin() + static_cast<ptrdiff_t>(first),
                                     matrices.begin() + static_cast<ptrdiff_t>(end));
    const std::vector<const Slot*> to(outs.begin() + static_cast<ptrdiff_t>(first),
                                      outs.begin() + static_cast<ptrdiff_t>(end));
    Add([this, some, to](const StepRun& run) -> Status {
      const AdapterLists& lists = run.step->adapters;
      if (lists.levels == 0) return {};
      std::vector<float*> pointers;
      for (const Slot* slot : to) pointers.push_back(ptr(slot));
      const int columns = weights_->matrix(some[0]).k;
      const AdapterParams params = AdaptersOf(run, lists, some, pointers, ptr(forms_.f32), columns);
      return LaunchAdapter(*driver_, params, lists.groups, lists.level_groups_max, run.step->rank_max);
    });
  }
}

void Stage::AddOp(int index, const NormProject& op) {
  std::vector<WeightId> matrices;
  std::vector<const Slot*> outs;
  for (const Projection& projection : op.projections) {
    matrices.push_back(projection.matrix);
    outs.push_back(Value(projection.out));
  }
  if (fused_norm_ != index) AddNorm(op.in, op.norm, FormsOf(matrices));
  for (size_t i = 0; i < matrices.size(); ++i) AddMatmul(matrices[i], op.projections[i].bias, outs[i]);
  AddAdapters(std::move(matrices), std::move(outs));
}

void Stage::AddOp(int, const RopeWriteKv& op) {
  const Slot *q = Value(op.q), *k = Value(op.k), *v = Value(op.v);
  Add([this, op, q, k, v](const StepRun& run) {
    const RopeTable& table = program_.ropes[static_cast<size_t>(op.rope)];
    RopeParams params = {};
    params.step = ViewOf(run);
    params.kv = LayerView(run, op.kv_layer);
    params.q = ptr(q);
    params.k = ptr(k);
    params.v = ptr(v);
    params.q_norm = weights_->vector(op.q_norm.weight);
    params.k_norm = weights_->vector(op.k_norm.weight);
    params.q_epsilon = op.q_norm.epsilon;
    params.k_epsilon = op.k_norm.epsilon;
    params.angles = As<const float>(angles_[static_cast<size_t>(op.rope)].at());
    params.dims = table.dims;
    params.interleaved = table.style == RopeStyle::kInterleaved ? 1 : 0;
    return LaunchRope(*driver_, params, run.step->shape.rows_max);
  });
}

int Stage::SplitsOf(const KvLayer& layer, int tiles, int segments) const {
  const int blocks = std::max(1, tiles * AttentionHeadTiles(layer.query_heads, layer.kv_heads));
  return std::clamp(2 * driver_->info().multiprocessors / blocks, 1, segments);
}

void Stage::AddOp(int, const PagedAttention& op) {
  const Slot *q = Value(op.q), *out = Value(op.out);
  const KvLayer& layer = program_.kv_layers[static_cast<size_t>(op.kv_layer)];
  counters_->Want(static_cast<size_t>(options_.max_rows) * sizeof(int32_t) *
                  static_cast<size_t>(AttentionHeadTiles(layer.query_heads, layer.kv_heads)));
  Add([this, op, &layer, q, out](const StepRun& run) -> Status {
    const StepShape& shape = run.step->shape;
    const TileLists& tiles = run.step->tiles[static_cast<size_t>(parts_->packer->groups_of(layer))];
    AttentionParams params = {};
    params.step = ViewOf(run);
    params.kv = LayerView(run, op.kv_layer);
    params.q = ptr(q);
    params.out = ptr(out);
    params.scale = op.scale;
    params.softcap = op.softcap;
    if (tiles.prefill_max > 0) {
      params.tiles = As<const AttentionTile>(run.input + tiles.prefill_at);
      params.tile_count = As<const int32_t>(run.input + tiles.prefill_count_at);
      TM_RETURN_IF_ERROR(LaunchAttentionPrefill(*driver_, params, tiles.prefill_max));
    }
    if (tiles.decode_max == 0) return {};
    params.tiles = As<const AttentionTile>(run.input + tiles.decode_at);
    params.tile_count = As<const int32_t>(run.input + tiles.decode_count_at);
    params.partials = As<float>(partials_.at());
    params.counters = ptr<int32_t>(counters_);
    params.segments = SegmentsOf(shape, params.kv.table.window);
    params.tile_queries = tiles.decode_rows * std::min(16, tiles.group);
    return LaunchAttentionDecode(*driver_, params, tiles.decode_max,
                                 SplitsOf(layer, tiles.decode_max, params.segments));
  });
}

void Stage::AddOp(int index, const ProjectAdd& op) {
  if (fused_forms_ != index) AddNorm(op.in, {}, FormsOf({&op.matrix, 1}));
  const Slot* residual = Value(op.residual);
  const int columns = width(op.residual);
  product_->Want(static_cast<size_t>(options_.max_rows) * static_cast<size_t>(columns) * sizeof(float));
  AddMatmul(op.matrix, kNone, product_);
  AddAdapters({op.matrix}, {product_});
  // The next operation's norm, where it is of these rows.
  Norm norm;
  Forms forms;
  const Op* next = Next(index);
  const auto* project = next != nullptr ? std::get_if<NormProject>(next) : nullptr;
  const auto* gated = next != nullptr ? std::get_if<GatedMlp>(next) : nullptr;
  const bool fused =
      (project != nullptr && project->in == op.residual) || (gated != nullptr && gated->in == op.residual);
  if (fused) {
    fused_norm_ = index + 1;
    norm = project != nullptr ? project->norm : gated->norm;
    std::vector<WeightId> matrices;
    if (project != nullptr) {
      for (const Projection& projection : project->projections) matrices.push_back(projection.matrix);
    } else {
      matrices = {gated->gate, gated->up};
    }
    forms = FormsOf(matrices);
    WantForms(forms, options_.max_rows, columns);
  }
  Add([this, op, residual, columns, norm, forms, fused](const StepRun& run) {
    NormParams params = {};
    params.counts = ViewOf(run).counts;
    params.x = ptr(residual);
    params.product = ptr(product_);
    params.bias = weights_->vector(op.bias);
    params.post_weight = weights_->vector(op.post_norm.weight);
    params.post_epsilon = op.post_norm.epsilon;
    params.weight = weights_->vector(norm.weight);
    params.epsilon = norm.epsilon;
    params.width = columns;
    if (fused) params.out = View(forms, columns, run.step->adapter_count > 0);
    return LaunchNorm(*driver_, params, run.step->shape.rows_max);
  });
}

void Stage::AddOp(int index, const GatedMlp& op) {
  const WeightId matrices[] = {op.gate, op.up};
  if (fused_norm_ != index) AddNorm(op.in, op.norm, FormsOf(matrices));
  const int columns = width(op.out);
  const size_t bytes = static_cast<size_t>(options_.max_rows) * static_cast<size_t>(columns) * sizeof(float);
  gate_->Want(bytes);
  up_->Want(bytes);
  AddMatmul(op.gate, kNone, gate_);
  AddMatmul(op.up, kNone, up_);
  AddAdapters({op.gate, op.up}, {gate_, up_});
  // As the next product reads it, when that is all that does.
  const Op* next = Next(index);
  const auto* add = next != nullptr ? std::get_if<ProjectAdd>(next) : nullptr;
  const bool fused =
      add != nullptr && add->in == op.out && add->residual != op.out && !IsReadLater(index, op.out);
  Forms forms;
  const Slot* out = nullptr;
  if (fused) {
    fused_forms_ = index + 1;
    forms = FormsOf({&add->matrix, 1});
    WantForms(forms, options_.max_rows, columns);
  } else {
    out = Value(op.out);
  }
  Add([this, op, columns, forms, out, fused](const StepRun& run) {
    GatedParams params = {};
    params.counts = ViewOf(run).counts;
    params.gate = ptr(gate_);
    params.up = ptr(up_);
    params.stride = columns;
    params.width = columns;
    params.activation =
        op.activation == Activation::kSilu ? GatedActivation::kSilu : GatedActivation::kGeluTanh;
    if (fused) params.out = View(forms, columns, run.step->adapter_count > 0);
    params.out.k = columns;
    if (!fused) params.out.f32 = ptr(out);
    return LaunchGated(*driver_, params, run.step->shape.rows_max);
  });
}

void Stage::AddOp(int, const Head& op) {
  (void)Value(op.in);
  head_ = &op;
  PlanHead(op);
}

}  // namespace tokenmill::cuda
