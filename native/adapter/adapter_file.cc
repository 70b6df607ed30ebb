#include "adapter/adapter_file.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <unordered_set>

#include "adapter/adapter_target.h"
#include "io/file.h"
#include "quant/quant.h"

namespace tokenmill {
namespace {

bool IsFloat(DType dtype) { return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16; }

/// The row of a checkpoint's matrix that is `row` of one whose heads have in pairs what rotates together.
int64_t UnpairedRow(int64_t row, int64_t rows, int heads) {
  const int64_t head_dim = rows / heads;
  const int64_t within = row % head_dim;
  return row - within + within % 2 * (head_dim / 2) + within / 2;
}

/// The first value of a row that is not finite, or nullptr.
const float* FindNotFinite(const std::vector<float>& values) {
  for (const float& value : values) {
    if (!std::isfinite(value)) return &value;
  }
  return nullptr;
}

class AdapterFile final : public AdapterSource {
 public:
  AdapterFile(std::shared_ptr<const File> file, AdapterSpec spec)
      : file_(std::move(file)), spec_(std::move(spec)) {}

  Status Bind(const ModelFile& model) {
    if (!spec_.architecture.empty() && spec_.architecture != model.architecture) {
      return Error(Code::kIncompatible, "%s is an adapter of an architecture '%.60s'; the model has '%s'",
                   spec_.path.c_str(), spec_.architecture.c_str(), model.architecture.c_str());
    }
    if (file_->size() != spec_.file_bytes) {
      return Error(Code::kCorruptFile, "%s has changed while it was read: load it again", spec_.path.c_str());
    }
    if (spec_.entries.empty()) return Error(Code::kCorruptFile, "%s has no factors", spec_.path.c_str());
    for (const AdapterEntry& entry : spec_.entries) {
      TM_ASSIGN_OR_RETURN(const AdapterTarget target, FindTarget(model, spec_.names, entry.target));
      TM_RETURN_IF_ERROR(BindEntry(entry, target, model.program));
    }
    return {};
  }

  std::span<const AdapterFactors> factors() const override { return factors_; }

  Status Read(size_t index, AdapterFactor which, void* out) const override {
    const AdapterEntry& entry = spec_.entries[index];
    const StoredFactor& factor = which == AdapterFactor::kA ? entry.a : entry.b;
    const int heads = which == AdapterFactor::kB ? paired_heads_[index] : 0;
    std::vector<char> stored(static_cast<size_t>(factor.bytes));
    TM_RETURN_IF_ERROR(file_->ReadAt(factor.offset, stored.data(), stored.size()));
    const size_t stored_row = RowBytes(factor.dtype, factor.cols);
    const size_t out_row = RowBytes(factors_[index].dtype, factor.cols);
    std::vector<float> values(static_cast<size_t>(factor.cols));
    for (int64_t row = 0; row < factor.rows; ++row) {
      const int64_t from = heads == 0 ? row : UnpairedRow(row, factor.rows, heads);
      const char* in = stored.data() + static_cast<size_t>(from) * stored_row;
      char* to = static_cast<char*>(out) + static_cast<size_t>(row) * out_row;
      DequantizeRow(factor.dtype, in, values.data(), factor.cols);
      if (const float* wrong = FindNotFinite(values)) {
        return Error(Code::kCorruptFile,
                     "tensor '%s' has the value %g in row %lld; an adapter's factors must be finite",
                     factor.tensor.c_str(), static_cast<double>(*wrong), static_cast<long long>(from));
      }
      const bool same = factors_[index].dtype == factor.dtype;
      std::memcpy(to, same ? in : reinterpret_cast<const char*>(values.data()), out_row);
    }
    return {};
  }

 private:
  Status BindEntry(const AdapterEntry& entry, const AdapterTarget& target, const Program& program) {
    const WeightDesc& weight = program.weights[static_cast<size_t>(target.matrix)];
    const StoredFactor &a = entry.a, &b = entry.b;
    TM_RETURN_IF_ERROR(CheckRank(a));
    TM_RETURN_IF_ERROR(CheckShape(a, a.rows, weight.cols, weight));
    TM_RETURN_IF_ERROR(CheckShape(b, weight.rows, a.rows, weight));
    TM_RETURN_IF_ERROR(CheckPlace(a));
    TM_RETURN_IF_ERROR(CheckPlace(b));
    if (!std::isfinite(entry.scale)) {
      return Error(Code::kCorruptFile, "tensor '%s' of the adapter has a scale of %g", a.tensor.c_str(),
                   static_cast<double>(entry.scale));
    }
    if (!taken_.insert(target.matrix).second) {
      return Error(Code::kCorruptFile, "tensor '%s' of the adapter changes '%s', which another one does too",
                   a.tensor.c_str(), weight.name.c_str());
    }
    const DType dtype = a.dtype == b.dtype && IsFloat(a.dtype) ? a.dtype : DType::kF32;
    factors_.push_back({target.matrix, static_cast<int>(a.rows), entry.scale, dtype});
    paired_heads_.push_back(target.paired_heads);
    return {};
  }

  static Status CheckRank(const StoredFactor& a) {
    if (a.rows < 1) {
      return Error(Code::kCorruptFile, "tensor '%s' of the adapter has rank %lld; expected 1 to %d",
                   a.tensor.c_str(), static_cast<long long>(a.rows), kMaxAdapterRank);
    }
    if (a.rows <= kMaxAdapterRank) return {};
    return Error(Code::kUnsupportedModel, "tensor '%s' of the adapter has rank %lld; at most %d can run",
                 a.tensor.c_str(), static_cast<long long>(a.rows), kMaxAdapterRank);
  }

  static Status CheckShape(const StoredFactor& factor, int64_t rows, int64_t cols, const WeightDesc& weight) {
    if (factor.rows == rows && factor.cols == cols) return {};
    return Error(
        Code::kIncompatible,
        "tensor '%s' of the adapter is [%lld, %lld]; for '%s' of the model, [%lld, %lld], it would be "
        "[%lld, %lld]: is it the adapter's base model?",
        factor.tensor.c_str(), static_cast<long long>(factor.rows), static_cast<long long>(factor.cols),
        weight.name.c_str(), static_cast<long long>(weight.rows), static_cast<long long>(weight.cols),
        static_cast<long long>(rows), static_cast<long long>(cols));
  }

  /// Rows and columns are a matrix's or a rank by now, so that their product cannot overflow.
  Status CheckPlace(const StoredFactor& factor) const {
    const DTypeInfo& info = InfoOf(factor.dtype);
    if (!info.runs || factor.cols % info.block_elements != 0) {
      return Error(Code::kUnsupportedQuantization,
                   "tensor '%s' of the adapter has type %s; convert it to F32, F16 or BF16",
                   factor.tensor.c_str(), info.name);
    }
    const uint64_t bytes = RowBytes(factor.dtype, factor.cols) * static_cast<uint64_t>(factor.rows);
    const uint64_t size = file_->size();
    if (factor.bytes == bytes && bytes <= size && factor.offset <= size - bytes) return {};
    return Error(Code::kCorruptFile,
                 "tensor '%s' of the adapter takes %llu bytes; the file has %llu, and places %llu at %llu",
                 factor.tensor.c_str(), static_cast<unsigned long long>(bytes),
                 static_cast<unsigned long long>(size), static_cast<unsigned long long>(factor.bytes),
                 static_cast<unsigned long long>(factor.offset));
  }

  const std::shared_ptr<const File> file_;
  const AdapterSpec spec_;
  std::vector<AdapterFactors> factors_;
  std::vector<int> paired_heads_;  // of each entry
  std::unordered_set<WeightId> taken_;
};

}  // namespace

Result<std::unique_ptr<AdapterSource>> OpenAdapter(AdapterSpec spec, const ModelFile& model) {
  TM_ASSIGN_OR_RETURN(std::shared_ptr<const File> file, File::Open(spec.path));
  auto adapter = std::make_unique<AdapterFile>(std::move(file), std::move(spec));
  TM_RETURN_IF_ERROR(adapter->Bind(model));
  return std::unique_ptr<AdapterSource>(std::move(adapter));
}

}  // namespace tokenmill
