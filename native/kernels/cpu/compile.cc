#include <algorithm>

#include "kernels/cpu/executor.h"
#include "kernels/cpu/pack.h"

// Operations to phases. What an operation does per row joins the row work before it; products, attention and
// the head are phases of their own.

namespace tokenmill::cpu {

Status CpuExecutor::Compile() {
  TM_RETURN_IF_ERROR(weights_.Plan(program_, forms_.formats()));
  TM_RETURN_IF_ERROR(AllocateBuffers());
  TM_RETURN_IF_ERROR(AllocateAttention());
  TM_RETURN_IF_ERROR(AllocateHead());
  rounded_.assign(values_.size(), false);
  for (const auto& angles : angles_) {
    AddStepRows([this, table = angles.get()](int row, int) {
      table->FillRow(row, state_.position_of[static_cast<size_t>(row)]);
    });
  }
  body_phases_ = 0;
  for (const Op& op : program_.ops) {
    std::visit([this](const auto& concrete) { AddOp(concrete); }, op);
  }
  if (body_phases_ == 0) body_phases_ = builder_.size();
  phases_ = builder_.Take();
  return {};
}

Status CpuExecutor::AllocateRows(int rows, int width, const Forms::Form& form, RowBuffer* buffer) {
  const size_t elements = static_cast<size_t>(rows) * static_cast<size_t>(width);
  const size_t blocks = elements / kBlock * static_cast<size_t>(options_.activation_terms);
  const auto allocate = [this](bool wanted, size_t bytes) -> void* {
    if (!wanted || bytes == 0) return nullptr;
    memory_.emplace_back(bytes);
    return memory_.back().data();
  };
  const size_t first = memory_.size();
  buffer->width = width;
  buffer->terms = options_.activation_terms;
  buffer->floats = static_cast<float*>(allocate(form.floats, elements * sizeof(float)));
  buffer->blocks = static_cast<ActivationBlock*>(allocate(form.blocks, blocks * sizeof(ActivationBlock)));
  buffer->bf16 = static_cast<uint16_t*>(allocate(form.bf16, elements * sizeof(uint16_t)));
  const bool rounds = form.blocks || form.bf16;
  buffer->adapted = adapters_.marks();
  buffer->unrounded = buffer->floats;
  if (!form.floats) buffer->unrounded = static_cast<float*>(allocate(rounds, elements * sizeof(float)));
  for (size_t i = first; i < memory_.size(); ++i) {
    if (!memory_[i]) return Error(Code::kOutOfMemory, "the system refused memory for activations");
  }
  return {};
}

Status CpuExecutor::AllocateBuffers() {
  const int rows = options_.max_rows;
  int product_width = 0;
  for (size_t v = 0; v < values_.size(); ++v) {
    const Forms::Form& form = forms_.of(static_cast<ValueId>(v));
    TM_RETURN_IF_ERROR(AllocateRows(rows, program_.values[v].width, form, &values_[v]));
  }
  for (const Op& op : program_.ops) {
    const auto* add = std::get_if<ProjectAdd>(&op);
    if (add == nullptr || add->post_norm.weight == kNone) continue;
    product_width = std::max(product_width, program_.values[static_cast<size_t>(add->residual)].width);
  }
  const int norm_width = forms_.norm_width();
  TM_RETURN_IF_ERROR(AllocateRows(rows, norm_width, forms_.norms(), &normed_));
  TM_RETURN_IF_ERROR(AllocateRows(rows, product_width, {.floats = true}, &product_));
  norm_scratch_.assign(static_cast<size_t>(options_.threads),
                       std::vector<float>(static_cast<size_t>(norm_width)));
  for (const RopeTable& table : program_.ropes) {
    angles_.push_back(std::make_unique<RopeAngles>(table, rows));
    if (!angles_.back()->allocated())
      return Error(Code::kOutOfMemory, "the system refused memory for rotations");
  }
  return {};
}

AttentionPlan* CpuExecutor::PlanOf(int kv_layer) {
  const KvLayer& layer = program_.kv_layers[static_cast<size_t>(kv_layer)];
  const int window = program_.kv_groups[static_cast<size_t>(layer.group)].window;
  const AttentionShape shape = {layer.group, window, layer.query_heads, layer.kv_heads, layer.head_dim};
  for (const auto& plan : plans_) {
    if (plan->shape() == shape) return plan.get();
  }
  plans_.push_back(std::make_unique<AttentionPlan>(shape, options_.threads));
  return plans_.back().get();
}

Status CpuExecutor::AllocateAttention() {
  int queries = 0, dim = 0;
  for (size_t layer = 0; layer < program_.kv_layers.size(); ++layer) {
    const AttentionPlan* plan = PlanOf(static_cast<int>(layer));
    queries = std::max(queries, plan->queries_max());
    dim = std::max(dim, plan->shape().padded_dim());
  }
  for (const auto& plan : plans_) TM_RETURN_IF_ERROR(plan->Allocate());
  attention_scratch_.resize(plans_.empty() ? 0 : static_cast<size_t>(options_.threads));
  for (AttentionScratch& scratch : attention_scratch_) TM_RETURN_IF_ERROR(scratch.Allocate(queries, dim));
  return {};
}

Status CpuExecutor::AllocateHead() {
  for (const Op& op : program_.ops) {
    const auto* head = std::get_if<Head>(&op);
    if (head == nullptr) continue;
    const int rows = options_.max_head_rows;
    Forms::Form form = {.floats = true};
    form.Add(matrix(head->matrix).input());
    TM_RETURN_IF_ERROR(AllocateRows(rows, value(head->in).width, form, &head_normed_));
    head_ = std::make_unique<HeadWork>(&state_, *head, value(head->in), head_normed_, rows);
    return head_->Allocate();
  }
  return {};
}

void CpuExecutor::AddStepRows(PhaseBuilder::RowWork work) {
  builder_.AddRows([this] { return state_.rows; }, options_.threads, std::move(work));
}

RowBuffer CpuExecutor::AddNorm(ValueId in, const Norm& norm, const Forms::Form& form) {
  const RowBuffer from = value(in);
  RowBuffer to = normed_;
  to.width = from.width;
  if (!form.floats) to.floats = nullptr;
  if (!form.blocks) to.blocks = nullptr;
  if (!form.bf16) to.bf16 = nullptr;
  AddStepRows([this, from, to, norm](int row, int thread) {
    float* normed = to.floats != nullptr ? to.row(row) : norm_scratch_[static_cast<size_t>(thread)].data();
    const float* weight = weights_.vector(norm.weight);
    if (weight != nullptr) {
      state_.kernels->rms_norm(from.row(row), weight, norm.epsilon, normed, from.width);
    } else {
      std::copy_n(from.row(row), from.width, normed);
    }
    to.Round(*state_.kernels, row, 0, normed, to.width);
  });
  return to;
}

void CpuExecutor::AddRound(RowBuffer rows) {
  AddStepRows([this, rows](int row, int) { rows.Round(*state_.kernels, row, 0, rows.row(row), rows.width); });
}

AdapterProducts CpuExecutor::AddShrink(RowBuffer in, std::vector<WeightId> matrices) {
  AdapterProducts adapters(state_.kernels, &adapters_, std::move(matrices));
  builder_.Add(
      [this, adapters] { return adapters.ShrinkTasks(state_.threads); },
      [this, adapters, in](int task, int) { adapters.Shrink(task, state_.threads, in.for_adapters()); });
  return adapters;
}

void CpuExecutor::AddProducts(RowBuffer in, std::vector<WeightId> matrices, std::vector<Product> products) {
  AdapterProducts adapters = AddShrink(in, std::move(matrices));
  auto work = std::make_shared<const Products>(&state_, in, std::move(products), std::move(adapters));
  builder_.Add([this, work] { return work->Tasks(state_.rows); },
               [this, work](int task, int) { work->Run(task, state_.rows); });
}

void CpuExecutor::AddOp(const Embed& op) {
  AddStepRows([this, op, out = value(op.out)](int row, int) {
    const PackedMatrix& table = matrix(op.table);
    const int32_t token = state_.input->tokens[static_cast<size_t>(row)];
    UnpackColumn(table.format, table.pair(token / kPairColumns), token % kPairColumns, table.cols,
                 out.row(row));
    if (op.scale != 1) state_.kernels->scale(out.row(row), op.scale, out.width);
  });
}

void CpuExecutor::AddOp(const NormProject& op) {
  std::vector<Product> products;
  std::vector<WeightId> matrices;
  for (const Projection& projection : op.projections) {
    const RowBuffer& out = value(projection.out);
    products.push_back(
        {&matrix(projection.matrix), weights_.vector(projection.bias), false, out.floats, out.width});
    matrices.push_back(projection.matrix);
  }
  const RowBuffer normed = AddNorm(op.in, op.norm, forms_.OfNorm(matrices));
  AddProducts(normed, std::move(matrices), std::move(products));
}

void CpuExecutor::AddOp(const RopeWriteKv& op) {
  const RopeAngles* angles = angles_[static_cast<size_t>(op.rope)].get();
  auto work = std::make_shared<const RopeWrite>(&state_, angles, op, value(op.q), value(op.k), value(op.v));
  builder_.Add([work] { return work->Tasks(); }, [work](int task, int) { work->Run(task); });
}

void CpuExecutor::AddOp(const PagedAttention& op) {
  AttentionPlan* plan = PlanOf(op.kv_layer);
  const RowBuffer out = value(op.out);
  auto work = std::make_shared<const Attention>(&state_, plan, &attention_scratch_, op, value(op.q), out);
  builder_.Add([work] { return work->Tasks(); }, [work](int task, int thread) { work->Run(task, thread); });
  const KvLayer& layer = program_.kv_layers[static_cast<size_t>(op.kv_layer)];
  rounded_[static_cast<size_t>(op.out)] = out.rounded() && Attention::RoundsItself(layer);
}

void CpuExecutor::AddOp(const ProjectAdd& op) {
  const RowBuffer residual = value(op.residual);
  const bool reads_rounded = matrix(op.matrix).input() != InputForm::kFloats;
  if (reads_rounded && !rounded_[static_cast<size_t>(op.in)]) AddRound(value(op.in));
  Product product = {&matrix(op.matrix), weights_.vector(op.bias), true, residual.floats, residual.width};
  if (op.post_norm.weight == kNone) return AddProducts(value(op.in), {op.matrix}, {product});
  product.add = false;
  product.out = product_.floats;
  AddProducts(value(op.in), {op.matrix}, {product});
  AddStepRows([this, residual, norm = op.post_norm](int row, int) {
    float* rows = product_.floats + int64_t{row} * residual.width;
    state_.kernels->rms_norm(rows, weights_.vector(norm.weight), norm.epsilon, rows, residual.width);
    state_.kernels->add(residual.row(row), rows, residual.width);
  });
}

void CpuExecutor::AddOp(const GatedMlp& op) {
  const RowBuffer normed = AddNorm(op.in, op.norm, forms_.OfNorm({op.gate, op.up}));
  AdapterProducts adapters = AddShrink(normed, {op.gate, op.up});
  auto work = std::make_shared<const GatedProduct>(&state_, normed, &matrix(op.gate), &matrix(op.up),
                                                   op.activation, value(op.out), std::move(adapters));
  builder_.Add([this, work] { return work->Tasks(state_.rows); },
               [this, work](int task, int) { work->Run(task, state_.rows); });
  rounded_[static_cast<size_t>(op.out)] = value(op.out).rounded();
}

void CpuExecutor::AddOp(const Head&) {
  body_phases_ = builder_.size();
  HeadWork* head = head_.get();
  builder_.Separate();
  builder_.AddRows([head] { return head->rows(); }, options_.threads,
                   [head](int row, int) { head->NormRow(row); });
  builder_.Add([head] { return head->ShrinkTasks(); }, [head](int task, int) { head->Shrink(task); });
  builder_.Add([head] { return head->LogitTasks(); },
               [head](int task, int thread) { head->RunLogits(task, thread); });
  builder_.Add([head] { return head->rows(); }, [head](int task, int thread) { head->Reduce(task, thread); });
}

}  // namespace tokenmill::cpu
