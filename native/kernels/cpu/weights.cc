#include "kernels/cpu/weights.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>

#include "kernels/cpu/pack.h"
#include "quant/quant.h"

namespace tokenmill::cpu {
namespace {

enum class Use : uint8_t { kNone, kMatrix, kVector };

// How the operations of a program use its weights.
class Uses {
 public:
  explicit Uses(const Program& program) : uses_(program.weights.size(), Use::kNone) {
    for (const Op& op : program.ops) {
      std::visit([this](const auto& concrete) { Visit(concrete); }, op);
    }
  }
  Use of(size_t weight) const { return uses_[weight]; }

 private:
  void Matrix(WeightId weight) { Mark(weight, Use::kMatrix); }
  void Vector(WeightId weight) { Mark(weight, Use::kVector); }
  void Mark(WeightId weight, Use use) {
    if (weight != kNone) uses_[static_cast<size_t>(weight)] = use;
  }

  void Visit(const Embed& op) { Matrix(op.table); }
  void Visit(const NormProject& op) {
    Vector(op.norm.weight);
    for (const Projection& projection : op.projections) {
      Matrix(projection.matrix);
      Vector(projection.bias);
    }
  }
  void Visit(const RopeWriteKv& op) {
    Vector(op.q_norm.weight);
    Vector(op.k_norm.weight);
  }
  void Visit(const PagedAttention&) {}
  void Visit(const ProjectAdd& op) {
    Matrix(op.matrix);
    Vector(op.bias);
    Vector(op.post_norm.weight);
  }
  void Visit(const GatedMlp& op) {
    Vector(op.norm.weight);
    Matrix(op.gate);
    Matrix(op.up);
  }
  void Visit(const Head& op) {
    Vector(op.norm.weight);
    Matrix(op.matrix);
  }

  std::vector<Use> uses_;
};

// Some pairs of strips of a matrix, read at once.
struct Piece {
  WeightId weight;
  int pair;
  int pairs;
};

constexpr size_t kReadBytes = 512 * 1024;

// Packs pieces on several threads until all are done or one fails.
class Packer {
 public:
  Packer(const Program& program, const WeightSource& source, const CompileOptions& options,
         std::vector<PackedMatrix>* matrices)
      : program_(program), source_(source), options_(options), matrices_(*matrices) {
    size_t buffer_bytes = 0;
    for (size_t w = 0; w < matrices_.size(); ++w) {
      const PackedMatrix& matrix = matrices_[w];
      const size_t pair_bytes = kPairColumns * RowBytes(program.weights[w].dtype, matrix.cols);
      const int at_once = static_cast<int>(std::max<size_t>(1, kReadBytes / std::max<size_t>(1, pair_bytes)));
      for (int pair = 0; pair < matrix.pairs; pair += at_once) {
        const int pairs = std::min(at_once, matrix.pairs - pair);
        pieces_.push_back({static_cast<WeightId>(w), pair, pairs});
        buffer_bytes = std::max(buffer_bytes, static_cast<size_t>(pairs) * pair_bytes);
      }
    }
    for (int thread = 0; thread < options.threads; ++thread) buffers_.emplace_back(buffer_bytes);
  }

  Status Run() {
    const Phase phase = {[this] { return options_.threads; }, [this](int task, int) { Work(task); }};
    options_.pool->Run({&phase, 1}, options_.threads);
    return failure_;
  }

 private:
  void Work(int task) {
    while (!stopped_.load(std::memory_order_relaxed)) {
      const size_t piece = next_.fetch_add(1);
      if (piece >= pieces_.size()) return;
      Status status;
      try {
        status = Pack(pieces_[piece], buffers_[static_cast<size_t>(task)].data());
      } catch (const std::exception& exception) {  // the pool's tasks must not throw
        status = Error(Code::kInternal, "loading failed: %s", exception.what());
      }
      if (status.ok()) continue;
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!stopped_.exchange(true)) failure_ = std::move(status);
    }
  }

  Status Pack(const Piece& piece, std::byte* buffer) {
    PackedMatrix& matrix = matrices_[static_cast<size_t>(piece.weight)];
    const DType dtype = program_.weights[static_cast<size_t>(piece.weight)].dtype;
    const size_t row_bytes = RowBytes(dtype, matrix.cols);
    const int64_t first = int64_t{piece.pair} * kPairColumns;
    const int64_t rows = std::min(int64_t{piece.pairs} * kPairColumns, matrix.rows - first);
    TM_RETURN_IF_ERROR(source_.Read(piece.weight, first, rows, buffer));
    for (int i = 0; i < piece.pairs; ++i) {
      const int64_t begin = int64_t{i} * kPairColumns;
      uint8_t* pair = matrix.pair(piece.pair + i);
      PackPair(dtype, buffer + static_cast<size_t>(begin) * row_bytes,
               static_cast<int>(std::min<int64_t>(kPairColumns, rows - begin)), matrix.cols, pair);
    }
    if (options_.on_progress && !options_.on_progress(static_cast<size_t>(rows) * row_bytes)) {
      return Error(Code::kAborted, "loading was aborted");
    }
    return {};
  }

  const Program& program_;
  const WeightSource& source_;
  const CompileOptions& options_;
  std::vector<PackedMatrix>& matrices_;
  std::vector<Piece> pieces_;
  std::vector<std::vector<std::byte>> buffers_;  // one a task
  std::atomic<size_t> next_{0};
  std::atomic<bool> stopped_{false};
  std::mutex mutex_;
  Status failure_;
};

Status CheckShape(const WeightDesc& desc) {
  const int64_t block = InfoOf(desc.dtype).block_elements;
  if (desc.rows > 0 && desc.cols > 0 && desc.cols % block == 0) return {};
  return Error(Code::kCorruptFile, "tensor '%s' has shape [%lld, %lld]; %s needs rows of a multiple of %lld",
               desc.name.c_str(), static_cast<long long>(desc.rows), static_cast<long long>(desc.cols),
               InfoOf(desc.dtype).name, static_cast<long long>(block));
}

}  // namespace

Status Weights::Load(const Program& program, const WeightSource& source, const CompileOptions& options) {
  TM_RETURN_IF_ERROR(Allocate(program));
  TM_RETURN_IF_ERROR(LoadVectors(program, source, options));
  return Packer(program, source, options, &matrices_).Run();
}

Status Weights::Allocate(const Program& program) {
  const Uses uses(program);
  matrices_.resize(program.weights.size());
  vectors_.resize(program.weights.size());
  std::vector<size_t> offsets(matrices_.size());
  size_t matrix_bytes = 0;
  for (size_t w = 0; w < program.weights.size(); ++w) {
    const WeightDesc& desc = program.weights[w];
    if (uses.of(w) == Use::kNone) continue;
    TM_RETURN_IF_ERROR(CheckShape(desc));
    if (uses.of(w) == Use::kVector) {
      vectors_[w].resize(static_cast<size_t>(desc.rows * desc.cols));
      bytes_ += vectors_[w].size() * sizeof(float);
      continue;
    }
    PackedMatrix& matrix = matrices_[w];
    matrix.format = FormatOf(desc.dtype);
    matrix.rows = desc.rows;
    matrix.cols = desc.cols;
    matrix.pairs = static_cast<int>((desc.rows + kPairColumns - 1) / kPairColumns);
    matrix.pair_bytes = PairBytes(matrix.format, desc.cols);
    offsets[w] = matrix_bytes;
    matrix_bytes += static_cast<size_t>(matrix.pairs) * matrix.pair_bytes;
  }
  memory_ = SystemBuffer(matrix_bytes);
  if (matrix_bytes != 0 && !memory_) {
    return Error(Code::kOutOfMemory, "the system refused %zu bytes for the model's weights", matrix_bytes);
  }
  for (size_t w = 0; w < matrices_.size(); ++w) {
    if (matrices_[w].pairs != 0) matrices_[w].data = memory_.as<uint8_t>() + offsets[w];
  }
  bytes_ += matrix_bytes;
  return {};
}

Status Weights::LoadVectors(const Program& program, const WeightSource& source,
                            const CompileOptions& options) {
  std::vector<std::byte> raw;
  for (size_t w = 0; w < vectors_.size(); ++w) {
    if (vectors_[w].empty()) continue;
    const WeightDesc& desc = program.weights[w];
    raw.resize(RowBytes(desc.dtype, desc.cols) * static_cast<size_t>(desc.rows));
    TM_RETURN_IF_ERROR(source.Read(static_cast<WeightId>(w), 0, desc.rows, raw.data()));
    DequantizeRow(desc.dtype, raw.data(), vectors_[w].data(), desc.rows * desc.cols);
    if (options.on_progress && !options.on_progress(raw.size())) {
      return Error(Code::kAborted, "loading was aborted");
    }
  }
  return {};
}

}  // namespace tokenmill::cpu
