#include "adapter/merge.h"

#include <algorithm>
#include <map>

#include "adapter/adapter_file.h"
#include "adapter/adapter_target.h"
#include "quant/quant.h"
#include "quantize/quantize_file.h"

namespace tokenmill {
namespace {

constexpr int64_t kSumColumns = 256;  // summed at a time, in doubles on the stack

/// The factors of one matrix as f32.
struct Factors {
  std::vector<float> a, b;  // [rank, cols], [rows, rank]
};

/// Adds an adapter to rows of the tensors that it changes. Of the factors it holds those of the rows under way.
class AdapterEditor final : public TensorEditor {
 public:
  /// `indices[t]` is tensor t's index among the adapter's factors.
  AdapterEditor(const AdapterSource& adapter, const Program& program, std::map<size_t, size_t> indices,
                float scale)
      : adapter_(adapter), program_(program), indices_(std::move(indices)), scale_(scale) {}

  bool Edits(size_t tensor) const override { return indices_.contains(tensor); }

  Status Prepare(size_t first, size_t last) override {
    held_.erase(held_.begin(), held_.lower_bound(first));
    for (auto next = indices_.lower_bound(first); next != indices_.end() && next->first <= last; ++next) {
      if (held_.contains(next->first)) continue;
      Factors factors;
      TM_RETURN_IF_ERROR(Read(next->second, AdapterFactor::kA, &factors.a));
      TM_RETURN_IF_ERROR(Read(next->second, AdapterFactor::kB, &factors.b));
      held_[next->first] = std::move(factors);
    }
    return {};
  }

  void Edit(size_t tensor, int64_t row, float* values) const override {
    const AdapterFactors& desc = adapter_.factors()[indices_.at(tensor)];
    const Factors& factors = held_.at(tensor);
    const int64_t cols = program_.weights[static_cast<size_t>(desc.matrix)].cols;
    const float* b = factors.b.data() + row * desc.rank;
    const double scale = static_cast<double>(scale_) * static_cast<double>(desc.scale);
    for (int64_t begin = 0; begin < cols; begin += kSumColumns) {
      const int64_t count = std::min(kSumColumns, cols - begin);
      double sums[kSumColumns] = {};
      for (int64_t r = 0; r < desc.rank; ++r) {
        const double weight = static_cast<double>(b[r]);
        const float* a = factors.a.data() + r * cols + begin;
        for (int64_t c = 0; c < count; ++c) sums[c] += weight * static_cast<double>(a[c]);
      }
      for (int64_t c = 0; c < count; ++c) values[begin + c] += static_cast<float>(scale * sums[c]);
    }
  }

 private:
  Status Read(size_t index, AdapterFactor which, std::vector<float>* out) const {
    const AdapterFactors& factors = adapter_.factors()[index];
    const WeightDesc& weight = program_.weights[static_cast<size_t>(factors.matrix)];
    const int64_t elements = factors.rank * (which == AdapterFactor::kA ? weight.cols : weight.rows);
    std::vector<char> stored(RowBytes(factors.dtype, elements));
    TM_RETURN_IF_ERROR(adapter_.Read(index, which, stored.data()));
    out->resize(static_cast<size_t>(elements));
    DequantizeRow(factors.dtype, stored.data(), out->data(), elements);
    return {};
  }

  const AdapterSource& adapter_;
  const Program& program_;
  const std::map<size_t, size_t> indices_;
  const float scale_;
  std::map<size_t, Factors> held_;
};

/// The tensors of the output in the types that they get.
Result<std::vector<RewrittenTensor>> PlanTensors(const GgufFile& file, const MergeOptions& options) {
  std::vector<RewrittenTensor> tensors = SameTensors(file);
  if (!options.type) return tensors;
  PlanOptions plan{*options.type};
  plan.allow_requantize = true;
  TM_ASSIGN_OR_RETURN(const std::vector<DType> types, PlanTypes(file, plan));
  for (size_t t = 0; t < types.size(); ++t) tensors[t].dtype = types[t];
  return tensors;
}

bool IsEmbedded(const Program& program, WeightId matrix) {
  return std::any_of(program.ops.begin(), program.ops.end(), [matrix](const Op& op) {
    const auto* embed = std::get_if<Embed>(&op);
    return embed != nullptr && embed->table == matrix;
  });
}

/// Which of the adapter's factors each tensor of the output takes; a head that is shared becomes one more tensor.
std::map<size_t, size_t> MapFactors(const GgufFile& file, const Program& program,
                                    const AdapterSource& adapter, std::vector<RewrittenTensor>* tensors) {
  std::map<size_t, size_t> indices;
  for (size_t i = 0; i < adapter.factors().size(); ++i) {
    const WeightId matrix = adapter.factors()[i].matrix;
    const GgufTensor* stored = file.FindTensor(program.weights[static_cast<size_t>(matrix)].name);
    size_t tensor = static_cast<size_t>(stored - file.tensors().data());
    if (IsEmbedded(program, matrix)) {
      tensors->push_back({tensor, kHeadTensor, (*tensors)[tensor].dtype});
      tensor = tensors->size() - 1;
    }
    indices[tensor] = i;
  }
  return indices;
}

Result<RewriteResult> Merge(const std::string& input, const AdapterSpec& spec, const std::string& output,
                            const MergeOptions& options, const RewriteProgress& on_progress) {
  TM_ASSIGN_OR_RETURN(const std::shared_ptr<const ModelFile> model, OpenModelFile(input));
  TM_ASSIGN_OR_RETURN(const std::unique_ptr<AdapterSource> adapter, OpenAdapter(spec, *model));
  TM_ASSIGN_OR_RETURN(const std::shared_ptr<const GgufFile> file, GgufFile::Open(input));
  const FileIdentity &read = model->file->file().identity(), &written = file->file().identity();
  if (read.inode != written.inode || read.size != written.size || read.modified_ns != written.modified_ns)
    return Error(Code::kCorruptFile, "%s was replaced while it was read; merge again", input.c_str());
  TM_ASSIGN_OR_RETURN(std::vector<RewrittenTensor> tensors, PlanTensors(*file, options));
  std::map<size_t, size_t> indices = MapFactors(*file, model->program, *adapter, &tensors);
  AdapterEditor editor(*adapter, model->program, std::move(indices), options.scale);
  const std::vector<GgufUint> values = options.type ? TypeMetadata(*options.type) : std::vector<GgufUint>{};
  return RewriteFile(*file, tensors, values, output, options.rewrite, &editor, on_progress);
}

}  // namespace

Result<RewriteResult> MergeAdapter(const std::string& input, const AdapterSpec& spec,
                                   const std::string& output, const MergeOptions& options,
                                   const RewriteProgress& on_progress) {
  try {
    return Merge(input, spec, output, options, on_progress);
  } catch (const std::bad_alloc&) {
    return Error(Code::kOutOfMemory, "the system refused memory while merging into %s", input.c_str());
  }
}

}  // namespace tokenmill
