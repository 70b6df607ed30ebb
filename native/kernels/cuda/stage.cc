#include "kernels/cuda/stage.h"

#include <algorithm>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/rope.h"

namespace tokenmill::cuda {
namespace {

// What attention may take for the parts that its splits make; a step that needs more does without splits.
constexpr size_t kPartialBytesMax = size_t{256} << 20;
constexpr size_t kGraphsMax = 96;

}  // namespace

Stage::Stage(const ExecutorParts* parts, std::shared_ptr<Driver> driver, int device, int op_begin, int op_end)
    : parts_(parts),
      program_(*parts->program),
      options_(parts->options),
      driver_(std::move(driver)),
      device_(device),
      op_begin_(op_begin),
      ops_(std::span(program_.ops)
               .subspan(static_cast<size_t>(op_begin), static_cast<size_t>(op_end - op_begin))),
      angles_(program_.ropes.size()),
      angle_positions_(program_.ropes.size(), 0) {}

// Nothing may still read or write what is freed.
Stage::~Stage() { (void)driver_->Synchronize(Stream::kStep); }

void Stage::Abandon() {
  (void)driver_->Synchronize(Stream::kStep);
  zeroed_ = false;
}

Status Stage::Allocate() {
  if (scratch_ || plan_.bytes() == 0) return {};
  auto scratch = DeviceBuffer::Allocate(driver_, plan_.bytes());
  if (!scratch.ok()) {
    const Status status = scratch.status();
    return Status(status.code(), Format("no memory for activations: %s", status.message().c_str()));
  }
  scratch_ = std::move(scratch).value();
  return {};
}

Status Stage::Grow(DeviceBuffer* buffer, size_t bytes) {
  if (buffer->bytes() >= bytes) return {};
  TM_ASSIGN_OR_RETURN(DeviceBuffer larger,
                      DeviceBuffer::Allocate(driver_, std::max(bytes, 2 * buffer->bytes())));
  graphs_.clear();
  *buffer = std::move(larger);
  return {};
}

Status Stage::GrowInput(size_t bytes) {
  TM_RETURN_IF_ERROR(Grow(&input_, bytes));
  if (host_input_.bytes() < input_.bytes()) {
    TM_ASSIGN_OR_RETURN(host_input_, PinnedBuffer::Allocate(driver_, input_.bytes()));
  }
  return {};
}

// Those there are stay; the host computes the rest.
Status Stage::GrowAngles(int positions) {
  for (size_t rope = 0; rope < program_.ropes.size(); ++rope) {
    const RopeTable& table = program_.ropes[rope];
    const int known = angle_positions_[rope];
    if (known >= positions || table.dims == 0) continue;
    const size_t row_bytes = static_cast<size_t>(table.dims) * sizeof(float);
    TM_ASSIGN_OR_RETURN(DeviceBuffer larger,
                        DeviceBuffer::Allocate(driver_, static_cast<size_t>(positions) * row_bytes));
    const size_t known_bytes = static_cast<size_t>(known) * row_bytes;
    TM_RETURN_IF_ERROR(driver_->Copy(Stream::kStep, larger.at(), angles_[rope].at(), known_bytes));
    const std::vector<float> more = RopeAngles(table, known, positions - known);
    Status status =
        driver_->Upload(Stream::kStep, larger.at() + known_bytes, more.data(), more.size() * sizeof(float));
    const Status done = driver_->Synchronize(Stream::kStep);
    TM_RETURN_IF_ERROR(status);
    TM_RETURN_IF_ERROR(done);
    graphs_.clear();
    angles_[rope] = std::move(larger);
    angle_positions_[rope] = positions;
  }
  return {};
}

size_t Stage::PartialBytes(const StepShape& shape) const {
  size_t bytes = 0;
  for (const Op& op : ops_) {
    const auto* attention = std::get_if<PagedAttention>(&op);
    if (attention == nullptr) continue;
    const KvLayer& layer = program_.kv_layers[static_cast<size_t>(attention->kv_layer)];
    KvLayerView view = {};
    view.query_heads = layer.query_heads;
    view.kv_heads = layer.kv_heads;
    view.head_dim = layer.head_dim;
    const int group = layer.query_heads / layer.kv_heads;
    const int rows = std::min(shape.decode_rows, AttentionDecodeRows(group, 1));
    const int segments = SegmentsOf(shape, program_.kv_groups[static_cast<size_t>(layer.group)].window);
    const int64_t floats = AttentionPartialFloats(view, shape.rows_max, segments, rows * std::min(16, group));
    bytes = std::max(bytes, static_cast<size_t>(floats) * sizeof(float));
  }
  return bytes;
}

Status Stage::GrowPartials(StepShape* shape) {
  if (shape->decode_rows == 0) return {};
  const size_t bytes = PartialBytes(*shape);
  if (bytes <= kPartialBytesMax) {
    const Status status = Grow(&partials_, bytes);
    if (status.code() != Code::kOutOfMemory) return status;
  }
  shape->decode_rows = 0;
  return {};
}

Status Stage::Prepare(StepShape* shape) {
  TM_RETURN_IF_ERROR(Allocate());
  if (!zeroed_ && counters_->bytes > 0)
    TM_RETURN_IF_ERROR(driver_->Fill(Stream::kStep, at_of(counters_), 0, counters_->bytes));
  zeroed_ = true;
  TM_RETURN_IF_ERROR(GrowAngles(shape->table_stride * kPageTokens));
  return GrowPartials(shape);
}

Status Stage::Begin(const StepInput& input, const StepShape& shape) {
  TM_RETURN_IF_ERROR(parts_->packer->Pack(input, shape, *parts_->kv, device_, &step_));
  TM_RETURN_IF_ERROR(GrowInput(step_.bytes.size()));
  int entries = step_.adapters.entries;
  for (const AdapterLists& lists : step_.head.adapters) entries = std::max(entries, lists.entries);
  if (entries > 0) TM_RETURN_IF_ERROR(Grow(&inner_, AdapterScratchBytes(entries)));
  if (has_head() && step_.head.results_bytes > results_.bytes()) {
    TM_RETURN_IF_ERROR(Grow(&results_, step_.head.results_bytes));
    TM_ASSIGN_OR_RETURN(host_results_, PinnedBuffer::Allocate(driver_, results_.bytes()));
  }
  std::copy(step_.bytes.begin(), step_.bytes.end(), host_input_.data());
  return driver_->Upload(Stream::kStep, input_.at(), host_input_.data(), step_.bytes.size());
}

Status Stage::RunBody() {
  if (step_.shape.recorded) {
    auto graph = graphs_.find(step_.shape);
    if (graph == graphs_.end()) {
      const Status status = Record();
      if (!status.ok() && status.code() != Code::kOutOfMemory) return status;
      graph = graphs_.find(step_.shape);
    }
    if (graph != graphs_.end()) return driver_->Replay(*graph->second);
  }
  const StepRun run = {&step_, input_.at()};
  for (const Launch& launch : launches_) TM_RETURN_IF_ERROR(launch(run));
  return {};
}

Status Stage::Record() {
  if (graphs_.size() >= kGraphsMax) graphs_.clear();
  const StepRun run = {&step_, input_.at()};
  TM_RETURN_IF_ERROR(driver_->BeginCapture());
  Status status;
  for (const Launch& launch : launches_) {
    status = launch(run);
    if (!status.ok()) break;
  }
  auto graph = driver_->EndCapture();  // also after a failure: the stream leaves its recording
  TM_RETURN_IF_ERROR(status);
  TM_RETURN_IF_ERROR(graph.status());
  graphs_[step_.shape] = std::move(graph).value();
  return {};
}

}  // namespace tokenmill::cuda
