#pragma once

#include <memory>
#include <string>
#include <vector>

#include "adapter/adapter_file.h"
#include "core/cpu_features.h"
#include "engine/device.h"
#include "kv/block_table.h"
#include "model/model_file.h"

namespace tokenmill::testing {

/// A model driven step by step without an engine: one sequence, all logits. For tests and the oracle.
class ModelRunner {
 public:
  static Result<std::unique_ptr<ModelRunner>> Load(const std::string& path, CpuIsa isa, int threads,
                                                   int max_rows, KvType kv_type = KvType::kF16,
                                                   LoadQuantization quantization = LoadQuantization::kNone) {
    auto runner = std::make_unique<ModelRunner>();
    TM_ASSIGN_OR_RETURN(runner->model_, OpenModelFile(path, quantization));
    const GgufWeightSource weights(*runner->model_);
    CompileOptions options;
    options.max_rows = max_rows;
    options.max_head_rows = std::min(16, max_rows);
    options.threads = threads;
    options.kv_type = kv_type;
    options.pool = &ThreadPool::Process();
    const Program& program = runner->model_->program;
    auto compiled = isa == CpuIsa::kReference ? CompileReference(program, weights, options)
                                              : CompileCpu(program, weights, isa, options);
    TM_ASSIGN_OR_RETURN(runner->executor_, std::move(compiled));
    runner->max_rows_ = max_rows;
    runner->pool_ = std::make_unique<BlockPool>(runner->executor_.get(),
                                                static_cast<int>(program.kv_groups.size()), size_t{1} << 40);
    return runner;
  }

  /// Adds an adapter to all rows from now on.
  Status Use(const AdapterSpec& spec) {
    TM_ASSIGN_OR_RETURN(const std::unique_ptr<AdapterSource> source, OpenAdapter(spec, *model_));
    TM_ASSIGN_OR_RETURN(adapter_, executor_->LoadAdapter(*source));
    use_.push_back({adapter_.get(), 1});
    return {};
  }

  const ModelFile& model() const { return *model_; }
  int vocabulary() const { return model_->program.vocabulary; }

  /// Calls take(row, logits) for each token in order; the prompt is cut into chunks of at most `chunk` rows.
  template <class Take>
  Status Run(const std::vector<Token>& tokens, int chunk, Take take) {
    BlockTable table(pool_.get(), &model_->program.kv_groups);
    for (size_t done = 0; done < tokens.size();) {
      const int rows = static_cast<int>(std::min<size_t>(
          {tokens.size() - done, static_cast<size_t>(chunk), static_cast<size_t>(max_rows_)}));
      table.Reserve(static_cast<int>(done), static_cast<int>(done) + rows);
      StepSequence sequence{0, rows, static_cast<int>(done), {}, use_};
      for (int g = 0; g < pool_->groups(); ++g) sequence.pages[static_cast<size_t>(g)] = table.pages(g);
      std::vector<HeadRow> head(static_cast<size_t>(rows));
      for (int r = 0; r < rows; ++r) {
        head[static_cast<size_t>(r)].row = r;
        head[static_cast<size_t>(r)].full = true;
      }
      Collector collector(static_cast<size_t>(rows), static_cast<size_t>(vocabulary()));
      StepInput input{std::span(tokens).subspan(done, static_cast<size_t>(rows)), std::span(&sequence, 1),
                      head, &collector};
      StepResult result;
      TM_RETURN_IF_ERROR(executor_->Run(input, &result));
      for (int r = 0; r < rows; ++r)
        take(done + static_cast<size_t>(r), collector.row(static_cast<size_t>(r)));
      done += static_cast<size_t>(rows);
    }
    return {};
  }

 private:
  class Collector final : public LogitSink {
   public:
    Collector(size_t rows, size_t vocabulary) : vocabulary_(vocabulary), logits_(rows * vocabulary) {}
    void Take(size_t index, std::span<float> logits, int) noexcept override {
      std::copy(logits.begin(), logits.end(),
                logits_.begin() + static_cast<std::ptrdiff_t>(index * vocabulary_));
    }
    std::span<const float> row(size_t index) const {
      return std::span(logits_).subspan(index * vocabulary_, vocabulary_);
    }

   private:
    const size_t vocabulary_;
    std::vector<float> logits_;
  };

  std::shared_ptr<const ModelFile> model_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<BlockPool> pool_;
  std::shared_ptr<const LoadedAdapter> adapter_;
  std::vector<AdapterUse> use_;
  int max_rows_ = 0;
};

}  // namespace tokenmill::testing
