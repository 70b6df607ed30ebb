#include "kernels/cpu/weights.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <functional>
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

constexpr size_t kReadBytes = 512 * 1024;

std::vector<WeightPiece> CutIntoPieces(const Program& program, const std::vector<PackedMatrix>& matrices) {
  std::vector<WeightPiece> pieces;
  for (size_t w = 0; w < matrices.size(); ++w) {
    const PackedMatrix& matrix = matrices[w];
    const size_t pair_bytes = kPairColumns * RowBytes(program.weights[w].dtype, matrix.cols);
    const int at_once = static_cast<int>(std::max<size_t>(1, kReadBytes / std::max<size_t>(1, pair_bytes)));
    for (int pair = 0; pair < matrix.pairs; pair += at_once) {
      pieces.push_back({static_cast<WeightId>(w), pair, std::min(at_once, matrix.pairs - pair)});
    }
  }
  return pieces;
}

// Pieces between two chances for an engine to run a step, a thread.
constexpr size_t kPiecesAtOnce = 16;

// Works pieces off on several threads until all are done or one fails. The pool is left again and again, for
// other engines' steps.
class PieceWork {
 public:
  using Function = std::function<Status(size_t piece, std::vector<std::byte>* buffer)>;

  PieceWork(size_t pieces, const CompileOptions& options, Function function)
      : pieces_(pieces),
        options_(options),
        function_(std::move(function)),
        buffers_(static_cast<size_t>(options.threads)) {}

  Status Run() {
    const Phase phase = {[this] { return options_.threads; }, [this](int task, int) { Work(task); }};
    while (end_ < pieces_ && !stopped_) {
      next_ = end_;
      end_ = std::min(pieces_, end_ + kPiecesAtOnce * static_cast<size_t>(options_.threads));
      options_.pool->Run({&phase, 1}, options_.threads);
    }
    return failure_;
  }

 private:
  void Work(int task) {
    while (!stopped_.load(std::memory_order_relaxed)) {
      const size_t piece = next_.fetch_add(1);
      if (piece >= end_) return;
      Status status;
      try {
        status = function_(piece, &buffers_[static_cast<size_t>(task)]);
      } catch (const std::exception& exception) {  // the pool's tasks must not throw
        status = Error(Code::kInternal, "loading failed: %s", exception.what());
      }
      if (status.ok()) continue;
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!stopped_.exchange(true)) failure_ = std::move(status);
    }
  }

  const size_t pieces_;
  const CompileOptions& options_;
  const Function function_;
  std::vector<std::vector<std::byte>> buffers_;  // one a task
  size_t end_ = 0;  // of the pieces that are being worked off
  std::atomic<size_t> next_{0};
  std::atomic<bool> stopped_{false};
  std::mutex mutex_;
  Status failure_;
};

Status Report(const CompileOptions& options, size_t bytes) {
  if (!options.on_progress || options.on_progress(bytes)) return {};
  return Error(Code::kAborted, "loading was aborted");
}

// Rows of a piece: all of its pairs' but those that the last pair lacks.
int64_t RowsOf(const WeightPiece& piece, const PackedMatrix& matrix) {
  return std::min(int64_t{piece.pairs} * kPairColumns, matrix.rows - int64_t{piece.pair} * kPairColumns);
}

Status PackPiece(const WeightPiece& piece, const PackedMatrix& matrix, DType dtype,
                 const WeightSource& source, std::vector<std::byte>* buffer, uint8_t* out) {
  const size_t row_bytes = RowBytes(dtype, matrix.cols);
  const int64_t rows = RowsOf(piece, matrix);
  buffer->resize(std::max(buffer->size(), static_cast<size_t>(rows) * row_bytes));
  TM_RETURN_IF_ERROR(source.Read(piece.weight, int64_t{piece.pair} * kPairColumns, rows, buffer->data()));
  for (int i = 0; i < piece.pairs; ++i) {
    const int64_t begin = int64_t{i} * kPairColumns;
    PackPair(matrix.format, dtype, buffer->data() + static_cast<size_t>(begin) * row_bytes,
             static_cast<int>(std::min<int64_t>(kPairColumns, rows - begin)), matrix.cols,
             out + static_cast<size_t>(i) * matrix.pair_bytes);
  }
  return {};
}

Status CheckShape(const WeightDesc& desc) {
  const int64_t block = InfoOf(desc.dtype).block_elements;
  if (desc.rows > 0 && desc.cols > 0 && desc.cols % block == 0) return {};
  return Error(Code::kCorruptFile, "tensor '%s' has shape [%lld, %lld]; %s needs rows of a multiple of %lld",
               desc.name.c_str(), static_cast<long long>(desc.rows), static_cast<long long>(desc.cols),
               InfoOf(desc.dtype).name, static_cast<long long>(block));
}

}  // namespace

Status Weights::Load(const Program& program, const std::vector<PackedFormat>& formats,
                     const WeightSource& source, const CompileOptions& options) {
  TM_RETURN_IF_ERROR(LoadVectors(program, source, options));
  const std::vector<WeightPiece> pieces = CutIntoPieces(program, matrices_);
  store_ = std::make_shared<PackedStore>(program, formats, options, matrix_bytes_, pieces.size());
  if (const std::byte* mapped = store_->Map()) {
    Place(mapped);
    bool intact = false;
    TM_RETURN_IF_ERROR(CheckStored(program, pieces, options, &intact));
    if (intact) return {};
    store_->Discard();
  }
  return Pack(program, pieces, source, options);
}

// Operations have pointers to the matrices and into the vectors by now.
void Weights::Share(const Weights& other) {
  store_ = other.store_;
  memory_ = other.memory_;
  for (size_t w = 0; w < matrices_.size(); ++w) {
    matrices_[w].data = other.matrices_[w].data;
    std::copy(other.vectors_[w].begin(), other.vectors_[w].end(), vectors_[w].begin());
  }
}

Status Weights::Plan(const Program& program, const std::vector<PackedFormat>& formats) {
  const Uses uses(program);
  matrices_.resize(program.weights.size());
  vectors_.resize(program.weights.size());
  offsets_.resize(program.weights.size());
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
    matrix.format = formats[w];
    matrix.rows = desc.rows;
    matrix.cols = desc.cols;
    matrix.pairs = static_cast<int>((desc.rows + kPairColumns - 1) / kPairColumns);
    matrix.pair_bytes = PairBytes(matrix.format, desc.cols);
    offsets_[w] = matrix_bytes_;
    matrix_bytes_ += static_cast<size_t>(matrix.pairs) * matrix.pair_bytes;
  }
  bytes_ += matrix_bytes_;
  return {};
}

void Weights::Place(const std::byte* base) {
  for (size_t w = 0; w < matrices_.size(); ++w) {
    if (matrices_[w].pairs != 0) matrices_[w].data = reinterpret_cast<const uint8_t*>(base) + offsets_[w];
  }
}

Status Weights::CheckStored(const Program& program, const std::vector<WeightPiece>& pieces,
                            const CompileOptions& options, bool* intact) {
  std::atomic<bool> all{true};
  const auto check = [&](size_t index, std::vector<std::byte>*) -> Status {
    const WeightPiece& piece = pieces[index];
    const PackedMatrix& matrix = this->matrix(piece.weight);
    if (!store_->Check(index, matrix.pair(piece.pair), static_cast<size_t>(piece.pairs) * matrix.pair_bytes))
      all = false;
    const DType dtype = program.weights[static_cast<size_t>(piece.weight)].dtype;
    return Report(options, static_cast<size_t>(RowsOf(piece, matrix)) * RowBytes(dtype, matrix.cols));
  };
  TM_RETURN_IF_ERROR(PieceWork(pieces.size(), options, check).Run());
  *intact = all;
  return {};
}

Status Weights::Pack(const Program& program, const std::vector<WeightPiece>& pieces,
                     const WeightSource& source, const CompileOptions& options) {
  memory_ = std::make_shared<const SystemBuffer>(matrix_bytes_);
  if (matrix_bytes_ != 0 && !*memory_) {
    return Error(Code::kOutOfMemory, "the system refused %zu bytes for the model's weights", matrix_bytes_);
  }
  Place(memory_->data());
  store_->Create();
  const auto pack = [&](size_t index, std::vector<std::byte>* buffer) -> Status {
    const WeightPiece& piece = pieces[index];
    const PackedMatrix& matrix = this->matrix(piece.weight);
    const DType dtype = program.weights[static_cast<size_t>(piece.weight)].dtype;
    const size_t offset =
        offsets_[static_cast<size_t>(piece.weight)] + static_cast<size_t>(piece.pair) * matrix.pair_bytes;
    uint8_t* out = memory_->as<uint8_t>() + offset;
    TM_RETURN_IF_ERROR(PackPiece(piece, matrix, dtype, source, buffer, out));
    store_->Put(index, offset, out, static_cast<size_t>(piece.pairs) * matrix.pair_bytes);
    return Report(options, static_cast<size_t>(RowsOf(piece, matrix)) * RowBytes(dtype, matrix.cols));
  };
  TM_RETURN_IF_ERROR(PieceWork(pieces.size(), options, pack).Run());
  store_->Publish();
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
    TM_RETURN_IF_ERROR(Report(options, raw.size()));
  }
  return {};
}

}  // namespace tokenmill::cpu
