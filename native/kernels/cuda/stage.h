#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/kv_layout.h"
#include "kernels/cuda/kv_memory.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/step_input.h"
#include "kernels/cuda/weights.h"
#include "ops/backend.h"

namespace tokenmill::cuda {

/// What the stages of an executor share.
struct ExecutorParts {
  const Program* program = nullptr;
  CompileOptions options;
  std::unique_ptr<StepPacker> packer;
  std::unique_ptr<KvMemory> kv;
};

/// The step under way, for launches. Equal shapes give equal launches.
struct StepRun {
  const PackedStep* step = nullptr;
  DevicePtr input = 0;  // where the packed step lies
};

/// The operations of a program that one device runs: a list of launches over values in f32 and what products
/// read of them, in memory of that device.
class Stage {
 public:
  /// Operations op_begin … op_end - 1; `device` is the stage's number.
  Stage(const ExecutorParts* parts, std::shared_ptr<Driver> driver, int device, int op_begin, int op_end);
  ~Stage();

  /// Plans weights, scratch memory and launches.
  Status Compile();
  /// The memory that steps need, but for what grows with them.
  Status Allocate();

  Driver& driver() const { return *driver_; }
  const std::shared_ptr<Driver>& shared_driver() const { return driver_; }
  std::span<const Op> ops() const { return ops_; }
  int op_begin() const { return op_begin_; }
  bool has_head() const { return head_ != nullptr; }
  const std::shared_ptr<DeviceWeights>& weights() const { return weights_; }
  void ShareWeights(const Stage& other) { weights_ = other.weights_; }
  size_t scratch_bytes() const { return plan_.bytes(); }

  /// Takes what memory a step of this shape needs beyond the plan; when there is none for what its attention
  /// would split, changes the shape to one without.
  Status Prepare(StepShape* shape);
  /// Packs and uploads a step.
  Status Begin(const StepInput& input, const StepShape& shape);
  /// Launches the operations but the head, or replays them.
  Status RunBody();
  /// The head, the results' download, and the end of the step.
  Status RunHead(const StepInput& input, StepResult* result);
  /// After a failure: waits for what was begun. The next step starts anew.
  void Abandon();

  /// A value's rows in this device's memory.
  DevicePtr value_rows(ValueId value) const { return at_of(values_[static_cast<size_t>(value)]); }

 private:
  using Launch = std::function<Status(const StepRun&)>;

  /// Which forms of activations products read.
  struct Forms {
    bool f32 = false, f16 = false, sums = false, s8 = false, bf16 = false, bf16_rest = false;
  };
  /// Slots of one set of activations in their forms.
  struct FormSlots {
    Slot *f32, *f16, *row_scale, *sums, *s8, *s8_scale, *s8_sums, *bf16, *bf16_rest;
  };

  // compile.cc
  void AddOp(int index, const Embed& op);
  void AddOp(int index, const NormProject& op);
  void AddOp(int index, const RopeWriteKv& op);
  void AddOp(int index, const PagedAttention& op);
  void AddOp(int index, const ProjectAdd& op);
  void AddOp(int index, const GatedMlp& op);
  void AddOp(int index, const Head& op);
  void AddNorm(ValueId in, const Norm& norm, const Forms& forms);
  void AddMatmul(WeightId matrix, WeightId bias, const Slot* out);
  void AddAdapters(std::vector<WeightId> matrices, std::vector<const Slot*> outs);
  const Op* Next(int index) const;
  bool IsReadLater(int index, ValueId value) const;
  Forms FormsOf(std::span<const WeightId> matrices) const;
  void WantForms(const Forms& forms, int rows, int width);
  ActivationView View(const Forms& forms, int width, bool with_floats) const;
  Slot* Value(ValueId value);
  void Add(Launch launch) { launches_.push_back(std::move(launch)); }

  // stage_head.cc
  void PlanHead(const Head& op);
  Status LaunchHeadChunk(int chunk);
  Status TakeLogits(int chunk, const StepInput& input, StepResult* result);
  void TakeLongLists(const HeadRow& row, std::span<float> logits, HeadResult* result) const;
  Status DownloadResults();
  void ReadResults(const StepInput& input, StepResult* result) const;

  template <class T = float>
  T* ptr(const Slot* slot) const {
    return As<T>(at_of(slot));
  }
  DevicePtr at_of(const Slot* slot) const { return slot->bytes == 0 ? 0 : scratch_.at() + slot->offset; }
  int width(ValueId value) const { return program_.values[static_cast<size_t>(value)].width; }
  StepView ViewOf(const StepRun& run) const;
  KvLayerView LayerView(const StepRun& run, int kv_layer) const;
  AdapterParams AdaptersOf(const StepRun& run, const AdapterLists& lists, std::span<const WeightId> matrices,
                           std::span<float* const> outs, const float* in, int width) const;

  Status Record();
  Status GrowInput(size_t bytes);
  Status GrowAngles(int positions);
  Status GrowPartials(StepShape* shape);
  Status Grow(DeviceBuffer* buffer, size_t bytes);
  size_t PartialBytes(const StepShape& shape) const;
  int SplitsOf(const KvLayer& layer, int tiles, int segments) const;

  const ExecutorParts* const parts_;
  const Program& program_;
  const CompileOptions& options_;
  const std::shared_ptr<Driver> driver_;
  const int device_;
  const int op_begin_;
  const std::span<const Op> ops_;
  std::shared_ptr<DeviceWeights> weights_;

  ScratchPlan plan_;
  std::vector<Slot*> values_;  // f32, by ValueId; null where nothing reads them as such
  FormSlots forms_ = {};
  Slot* product_ = nullptr;  // [max_rows, widest residual]
  Slot* gate_ = nullptr;  // [max_rows, widest]
  Slot* up_ = nullptr;
  Slot* counters_ = nullptr;  // of attention, zeros between steps
  const Head* head_ = nullptr;
  Slot* logits_ = nullptr;  // [max_head_rows, vocabulary]
  Slot* head_parts_ = nullptr;
  Slot* head_keys_ = nullptr;

  std::vector<Launch> launches_;
  int fused_norm_ = -1;  // while compiling: the operation whose norm the one before made
  int fused_forms_ = -1;  // likewise: whose input is there in its forms

  DeviceBuffer scratch_;
  bool zeroed_ = false;
  // These grow with steps. Graphs know their addresses and go when they move.
  DeviceBuffer input_, partials_, inner_, results_;
  PinnedBuffer host_input_, host_results_, host_logits_;
  std::vector<DeviceBuffer> angles_;
  std::vector<int> angle_positions_;
  std::map<StepShape, std::unique_ptr<Graph>> graphs_;
  PackedStep step_;
};

}  // namespace tokenmill::cuda
