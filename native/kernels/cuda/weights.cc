#include "kernels/cuda/weights.h"

#include <cstring>

#include "kernels/cuda/pack.h"
#include "quant/quant.h"

namespace tokenmill::cuda {
namespace {

// Calls use(weight, is_vector) for the weights of an operation that it multiplies by or adds.
template <class Use>
struct WeightsOf {
  Use use;
  void operator()(const Embed&) {}
  void operator()(const NormProject& op) {
    use(op.norm.weight, true);
    for (const Projection& projection : op.projections) {
      use(projection.matrix, false);
      use(projection.bias, true);
    }
  }
  void operator()(const RopeWriteKv& op) {
    use(op.q_norm.weight, true);
    use(op.k_norm.weight, true);
  }
  void operator()(const PagedAttention&) {}
  void operator()(const ProjectAdd& op) {
    use(op.matrix, false);
    use(op.bias, true);
    use(op.post_norm.weight, true);
  }
  void operator()(const GatedMlp& op) {
    use(op.norm.weight, true);
    use(op.gate, false);
    use(op.up, false);
  }
  void operator()(const Head& op) {
    use(op.norm.weight, true);
    use(op.matrix, false);
  }
};

}  // namespace

Result<DeviceWeights> DeviceWeights::Plan(const Program& program, std::span<const Op> ops) {
  DeviceWeights weights;
  weights.places_.resize(program.weights.size());
  Status status;
  const auto add = [&](WeightId weight, Use use) {
    if (status.ok() && weight != kNone) status = weights.Add(program, weight, use);
  };
  for (const Op& op : ops) {
    const auto use = [&](WeightId weight, bool vector) { add(weight, vector ? kVector : kMatrix); };
    std::visit(WeightsOf<decltype(use)>{use}, op);
  }
  for (const Op& op : ops) {
    const auto* embed = std::get_if<Embed>(&op);
    if (embed != nullptr && !weights.Has(embed->table, kMatrix)) add(embed->table, kTable);
  }
  TM_RETURN_IF_ERROR(status);
  return weights;
}

Status DeviceWeights::Add(const Program& program, WeightId weight, Use use) {
  const WeightDesc& desc = program.weights[static_cast<size_t>(weight)];
  Place& place = places_[static_cast<size_t>(weight)];
  if (place.offset[use] != kNowhere) return {};
  TM_ASSIGN_OR_RETURN(place.form, WeightFormOf(desc.dtype));
  const int64_t block = InfoOf(desc.dtype).block_elements;
  if (desc.rows < 1 || desc.cols < 1 || desc.cols % block != 0 || desc.rows > INT32_MAX ||
      desc.cols > INT32_MAX) {
    return Error(Code::kCorruptFile,
                 "tensor '%s' has shape [%lld, %lld]; %s needs rows of a multiple of %lld", desc.name.c_str(),
                 static_cast<long long>(desc.rows), static_cast<long long>(desc.cols),
                 InfoOf(desc.dtype).name, static_cast<long long>(block));
  }
  place.features = static_cast<int32_t>(desc.rows);
  place.k = static_cast<int32_t>(desc.cols);
  place.offset[use] = bytes_;
  const size_t rows = static_cast<size_t>(desc.rows);
  const size_t bytes = use == kMatrix
                           ? static_cast<size_t>(WeightBytes(LayoutOf(place.form), place.features, place.k))
                       : use == kTable ? RowBytes(desc.dtype, desc.cols) * rows
                                       : static_cast<size_t>(desc.cols) * rows * sizeof(float);
  bytes_ += Aligned(bytes);
  return {};
}

Status DeviceWeights::Allocate(std::shared_ptr<Driver> driver) {
  if (bytes_ == 0) return {};
  auto memory = DeviceBuffer::Allocate(std::move(driver), bytes_);
  if (!memory.ok()) {
    const Status status = memory.status();
    return Status(status.code(), Format("no memory for the model's weights: %s", status.message().c_str()));
  }
  memory_ = std::move(memory).value();
  return {};
}

DeviceMatrix DeviceWeights::matrix(WeightId weight) const {
  const Place& place = places_[static_cast<size_t>(weight)];
  return {place.form, place.features, place.k, As<const uint8_t>(At(weight, kMatrix))};
}

/// Two blocks of pinned memory take turns: one is read into while the device packs what the other brought.
class WeightLoader {
 public:
  WeightLoader(const Program& program, std::span<const WeightTarget> targets, const WeightSource& source,
               const CompileOptions& options)
      : program_(program), targets_(targets), source_(source), options_(options) {}
  ~WeightLoader() { (void)Synchronize(); }  // devices may still read the blocks

  Status Load() {
    for (const WeightTarget& target : targets_) TM_RETURN_IF_ERROR(target.weights->Allocate(target.driver));
    TM_RETURN_IF_ERROR(AllocateBlocks());
    for (size_t weight = 0; weight < program_.weights.size(); ++weight)
      TM_RETURN_IF_ERROR(LoadOne(static_cast<WeightId>(weight)));
    return Synchronize();
  }

 private:
  using Use = DeviceWeights::Use;
  static constexpr size_t kBlockBytes = size_t{4} << 20;
  static constexpr int64_t kBlockRows = kF32StripFeatures;  // a multiple of

  bool Uses(const WeightTarget& target, WeightId weight, Use use) const {
    return target.weights->Has(weight, use);
  }

  size_t RowBytesOf(WeightId weight) const {
    const WeightDesc& desc = program_.weights[static_cast<size_t>(weight)];
    return RowBytes(desc.dtype, desc.cols);
  }

  int64_t RowsAtOnce(WeightId weight) const {
    const int64_t fit = static_cast<int64_t>(kBlockBytes / RowBytesOf(weight));
    return std::max<int64_t>(1, fit / kBlockRows) * kBlockRows;
  }

  bool IsUsed(WeightId weight) const {
    for (const WeightTarget& target : targets_) {
      for (const Use use : {Use::kMatrix, Use::kTable, Use::kVector}) {
        if (Uses(target, weight, use)) return true;
      }
    }
    return false;
  }

  Status AllocateBlocks() {
    size_t bytes = 0;
    for (size_t w = 0; w < program_.weights.size(); ++w) {
      const WeightId weight = static_cast<WeightId>(w);
      if (!IsUsed(weight)) continue;
      const int64_t rows = std::min(RowsAtOnce(weight), program_.weights[w].rows);
      bytes = std::max(bytes, RowBytesOf(weight) * static_cast<size_t>(rows));
    }
    if (bytes == 0) return {};
    for (int i = 0; i < 2; ++i) {
      TM_ASSIGN_OR_RETURN(blocks_[i], PinnedBuffer::Allocate(targets_[0].driver, bytes));
      for (const WeightTarget& target : targets_) {
        TM_ASSIGN_OR_RETURN(DeviceBuffer raw, DeviceBuffer::Allocate(target.driver, bytes));
        raw_[i].push_back(std::move(raw));
      }
    }
    return {};
  }

  Status LoadOne(WeightId weight) {
    if (!IsUsed(weight)) return {};
    const int64_t rows = program_.weights[static_cast<size_t>(weight)].rows, at_once = RowsAtOnce(weight);
    for (int64_t row = 0; row < rows; row += at_once)
      TM_RETURN_IF_ERROR(LoadBlock(weight, row, std::min(at_once, rows - row)));
    return {};
  }

  Status LoadBlock(WeightId weight, int64_t row, int64_t rows) {
    const size_t bytes = RowBytesOf(weight) * static_cast<size_t>(rows);
    std::byte* block = blocks_[turn_].data();
    TM_RETURN_IF_ERROR(source_.Read(weight, row, rows, block));
    TM_RETURN_IF_ERROR(Synchronize());  // what the other block brought, and vectors
    for (size_t t = 0; t < targets_.size(); ++t) {
      if (Uses(targets_[t], weight, Use::kMatrix)) TM_RETURN_IF_ERROR(PackBlock(t, weight, row, rows));
      if (Uses(targets_[t], weight, Use::kTable)) {
        const DevicePtr to =
            targets_[t].weights->At(weight, Use::kTable) + RowBytesOf(weight) * static_cast<size_t>(row);
        TM_RETURN_IF_ERROR(targets_[t].driver->Upload(Stream::kStep, to, block, bytes));
      }
      if (Uses(targets_[t], weight, Use::kVector)) TM_RETURN_IF_ERROR(UploadFloats(t, weight, row, rows));
    }
    turn_ = 1 - turn_;
    if (!options_.on_progress || options_.on_progress(bytes)) return {};
    return Error(Code::kAborted, "loading was aborted");
  }

  Status PackBlock(size_t target, WeightId weight, int64_t row, int64_t rows) {
    Driver& driver = *targets_[target].driver;
    const DeviceMatrix matrix = targets_[target].weights->matrix(weight);
    const DeviceBuffer& raw = raw_[turn_][target];
    const size_t bytes = RowBytesOf(weight) * static_cast<size_t>(rows);
    TM_RETURN_IF_ERROR(driver.Upload(Stream::kStep, raw.at(), blocks_[turn_].data(), bytes));
    const PackParams params = {As<const uint8_t>(raw.at()), const_cast<uint8_t*>(matrix.data),
                               static_cast<int32_t>(row), static_cast<int32_t>(rows), matrix.k};
    return LaunchPack(driver, Stream::kStep, matrix.form, params);
  }

  // Vectors are small: their floats stay in host memory until the end.
  Status UploadFloats(size_t target, WeightId weight, int64_t row, int64_t rows) {
    const WeightDesc& desc = program_.weights[static_cast<size_t>(weight)];
    std::vector<float>& floats = floats_.emplace_back(static_cast<size_t>(rows * desc.cols));
    DequantizeRow(desc.dtype, blocks_[turn_].data(), floats.data(), rows * desc.cols);
    const DevicePtr to = targets_[target].weights->At(weight, Use::kVector) +
                         static_cast<size_t>(row * desc.cols) * sizeof(float);
    return targets_[target].driver->Upload(Stream::kStep, to, floats.data(), floats.size() * sizeof(float));
  }

  Status Synchronize() {
    for (const WeightTarget& target : targets_) TM_RETURN_IF_ERROR(target.driver->Synchronize(Stream::kStep));
    floats_.clear();
    return {};
  }

  const Program& program_;
  const std::span<const WeightTarget> targets_;
  const WeightSource& source_;
  const CompileOptions& options_;
  PinnedBuffer blocks_[2];
  std::vector<DeviceBuffer> raw_[2];  // one a device: the block's bytes, to pack from
  std::vector<std::vector<float>> floats_;
  int turn_ = 0;
};

Status LoadWeights(const Program& program, std::span<const WeightTarget> targets, const WeightSource& source,
                   const CompileOptions& options) {
  Status status = WeightLoader(program, targets, source, options).Load();
  if (status.ok()) return {};
  for (const WeightTarget& target : targets) target.weights->Release();
  return status;
}

}  // namespace tokenmill::cuda
