#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/forms.h"
#include "kernels/cpu/head.h"
#include "kernels/cpu/phase_builder.h"
#include "kernels/cpu/products.h"
#include "kernels/cpu/rope.h"
#include "kernels/cpu/step_state.h"
#include "ops/backend.h"

namespace tokenmill::cpu {

/// A program as phases over the thread pool. Operations become phases when compiled (compile.cc); Run sets
/// the step's state and walks through them.
class CpuExecutor final : public Executor {
 public:
  CpuExecutor(const Program& program, const CpuKernels* kernels, const CompileOptions& options);

  Status Compile();

  Status LoadWeights(const WeightSource& source) override;
  Result<std::unique_ptr<Executor>> Twin(int max_rows) const override;

  Result<std::shared_ptr<const LoadedAdapter>> LoadAdapter(const AdapterSource& source) const override {
    return CpuAdapter::Load(program_, source, std::max(options_.max_rows, options_.max_head_rows));
  }

  size_t PageBytes(int group) const override { return kv_.page_bytes(group); }
  Status AddSlab(int group, int slab, int pages) override { return kv_.AddSlab(group, slab, pages); }
  void RemoveSlab(int group, int slab) override { kv_.RemoveSlab(group, slab); }
  void CopyPage(int group, PageId from, PageId to) override { kv_.CopyPage(group, from, to); }
  void ReadPage(int group, PageId page, int tokens, std::byte* out) const override {
    kv_.ReadPage(group, page, tokens, out);
  }
  void WritePage(int group, PageId page, const std::byte* in) override { kv_.WritePage(group, page, in); }
  Status Run(const StepInput& input, StepResult* result) override;
  size_t weight_bytes() const override { return weights_.bytes(); }
  size_t scratch_bytes() const override;
  PackedCache packed_cache(std::string* problem) const override {
    *problem = weights_.store().problem();
    return weights_.store().state();
  }

 private:
  Status AllocateBuffers();
  Status AllocateAttention();
  Status AllocateRows(int rows, int width, const Forms::Form& form, RowBuffer* buffer);
  Status AllocateHead();
  AttentionPlan* PlanOf(int kv_layer);

  void AddOp(const Embed& op);
  void AddOp(const NormProject& op);
  void AddOp(const RopeWriteKv& op);
  void AddOp(const PagedAttention& op);
  void AddOp(const ProjectAdd& op);
  void AddOp(const GatedMlp& op);
  void AddOp(const Head& op);
  void AddStepRows(PhaseBuilder::RowWork work);
  RowBuffer AddNorm(ValueId in, const Norm& norm, const Forms::Form& form);
  void AddRound(RowBuffer rows);
  AdapterProducts AddShrink(RowBuffer in, std::vector<WeightId> matrices);
  void AddProducts(RowBuffer in, std::vector<WeightId> matrices, std::vector<Product> products);

  Status CheckInput(const StepInput& input) const;
  Status SetStep(const StepInput& input, StepResult* result);
  void SetAdapters(const StepInput& input);
  void RunPhases(const StepInput& input);

  RowBuffer& value(ValueId id) { return values_[static_cast<size_t>(id)]; }
  const PackedMatrix& matrix(WeightId id) const { return weights_.matrix(id); }

  const Program program_;
  const CompileOptions options_;
  const Forms forms_;
  Weights weights_;
  KvCache kv_;
  StepState state_;
  AdapterRows adapters_;
  std::vector<RowBuffer> values_;
  std::vector<bool> rounded_;  // while compiling: whether a value's last writer gave its rounded forms too
  RowBuffer normed_;             // [max_rows], what follows a norm; as wide as the widest
  RowBuffer product_;            // [max_rows], what a post norm takes
  RowBuffer head_normed_;        // [max_head_rows]
  std::vector<std::vector<float>> norm_scratch_;  // one a thread, for a row that is only read rounded
  std::vector<SystemBuffer> memory_;              // behind the row buffers
  std::vector<std::unique_ptr<RopeAngles>> angles_;
  std::vector<std::unique_ptr<AttentionPlan>> plans_;
  std::vector<AttentionScratch> attention_scratch_;  // one a thread
  std::unique_ptr<HeadWork> head_;
  PhaseBuilder builder_;
  std::vector<Phase> phases_;
  size_t body_phases_ = 0;  // the rest is the head's
};

}  // namespace tokenmill::cpu
