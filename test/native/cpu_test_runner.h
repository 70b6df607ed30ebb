#pragma once

// Runs the programs of cpu_test_models.h step by step, on any ISA.

#include <algorithm>
#include <map>
#include <memory>

#include "cpu_test_models.h"
#include "harness.h"

namespace cpu_test {

// Sequences over one executor, with pages in a shuffled order.
class Runner {
 public:
  Runner(const Model& model, CpuIsa isa, int threads, int max_rows, int max_head_rows = 5, int terms = 1,
         KvType kv_type = KvType::kF16)
      : Runner(model.program, model.weights, isa, threads, max_rows, max_head_rows, terms, kv_type) {}
  Runner(const Program& program, const WeightSource& weights, CpuIsa isa, int threads, int max_rows,
         int max_head_rows = 5, int terms = 1, KvType kv_type = KvType::kF16)
      : program_(program) {
    CompileOptions options;
    options.activation_terms = terms;
    options.kv_type = kv_type;
    options.max_rows = max_rows;
    options.max_head_rows = max_head_rows;
    options.threads = threads;
    options.pool = &ThreadPool::Process();
    auto compiled = isa == CpuIsa::kReference ? CompileReference(program, weights, options)
                                              : CompileCpu(program, weights, isa, options);
    EXPECT(compiled.ok());
    if (!compiled.ok()) std::printf("    %s\n", compiled.status().message().c_str());
    executor_ = std::move(compiled).value();
    AddSlabs();
  }

  Runner(const Program& program, std::unique_ptr<Executor> executor)
      : program_(program), executor_(std::move(executor)) {
    AddSlabs();
  }

  // On a twin of another one's executor.
  Runner(const Runner& other, int max_rows) : program_(other.program_) {
    auto twin = other.executor_->Twin(max_rows);
    EXPECT(twin.ok());
    executor_ = std::move(twin).value();
    AddSlabs();
  }

  // Pages of a sequence: slot 0 … kSlots - 1 have as many each.
  const int32_t* Pages(int slot) {
    std::vector<int32_t>& pages = pages_[slot];
    if (pages.empty()) {
      for (int i = 0; i < kSlabs * kSlabPages / kSlots; ++i)
        pages.push_back((i * 29 % (kSlabs * kSlabPages / kSlots)) * kSlots + slot);
    }
    return pages.data();
  }

  // All tokens of a step: for each slot some tokens at a position. Returns full logits of every row.
  struct Piece {
    int slot;
    int position;
    std::vector<int32_t> tokens;
    std::vector<AdapterUse> adapters = {};
  };
  std::vector<std::vector<float>> Step(const std::vector<Piece>& pieces);
  StepResult RunStep(const std::vector<Piece>& pieces, std::vector<HeadRow> head, LogitSink* sink = nullptr);

  Executor& executor() { return *executor_; }

  std::shared_ptr<const LoadedAdapter> Load(const AdapterSource& source) {
    auto adapter = executor_->LoadAdapter(source);
    EXPECT(adapter.ok());
    if (!adapter.ok()) std::printf("    %s\n", adapter.status().message().c_str());
    return adapter.ok() ? std::move(adapter).value() : nullptr;
  }

  static constexpr int kSlots = 16, kSlabs = 8, kSlabPages = 160;

 private:
  void AddSlabs() {
    for (size_t g = 0; g < program_.kv_groups.size(); ++g) {
      for (int slab = 0; slab < kSlabs; ++slab)
        EXPECT(executor_->AddSlab(static_cast<int>(g), slab, kSlabPages).ok());
    }
  }

  const Program& program_;
  std::unique_ptr<Executor> executor_;
  std::map<int, std::vector<int32_t>> pages_;
};

class Collector final : public LogitSink {
 public:
  explicit Collector(size_t rows) : logits_(rows) {}
  void Take(size_t index, std::span<float> logits, int) noexcept override {
    logits_[index].assign(logits.begin(), logits.end());
  }
  std::vector<std::vector<float>> logits_;
};

inline StepResult Runner::RunStep(const std::vector<Piece>& pieces, std::vector<HeadRow> head,
                                  LogitSink* sink) {
  std::vector<int32_t> tokens;
  std::vector<StepSequence> sequences;
  for (const Piece& piece : pieces) {
    StepSequence sequence = {
        static_cast<int>(tokens.size()), static_cast<int>(piece.tokens.size()), piece.position, {}};
    sequence.pages.fill(Pages(piece.slot));
    sequence.adapters = piece.adapters;
    sequences.push_back(sequence);
    tokens.insert(tokens.end(), piece.tokens.begin(), piece.tokens.end());
  }
  StepInput input = {tokens, sequences, head, sink};
  StepResult result;
  const Status status = executor_->Run(input, &result);
  EXPECT(status.ok());
  if (!status.ok()) std::printf("    %s\n", status.message().c_str());
  return result;
}

inline std::vector<std::vector<float>> Runner::Step(const std::vector<Piece>& pieces) {
  size_t rows = 0;
  for (const Piece& piece : pieces) rows += piece.tokens.size();
  std::vector<HeadRow> head(rows);
  for (size_t i = 0; i < rows; ++i) head[i].row = static_cast<int>(i), head[i].full = true;
  Collector collector(rows);
  const StepResult result = RunStep(pieces, head, &collector);
  for (const HeadResult& one : result.head) EXPECT(one.finite);
  return collector.logits_;
}

inline std::vector<int32_t> RandomTokens(int count, int vocabulary, uint32_t seed) {
  std::mt19937 engine(seed);
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int32_t& token : tokens) token = static_cast<int32_t>(engine() % static_cast<uint32_t>(vocabulary));
  return tokens;
}

// The logits of a prompt's rows when it is fed in chunks.
inline std::vector<std::vector<float>> Feed(Runner& runner, int slot, const std::vector<int32_t>& tokens,
                                            size_t chunk, const std::vector<AdapterUse>& adapters = {}) {
  std::vector<std::vector<float>> logits;
  for (size_t begin = 0; begin < tokens.size(); begin += chunk) {
    const size_t end = std::min(tokens.size(), begin + chunk);
    auto part = runner.Step(
        {{slot, static_cast<int>(begin), {tokens.begin() + begin, tokens.begin() + end}, adapters}});
    logits.insert(logits.end(), part.begin(), part.end());
  }
  return logits;
}

}  // namespace cpu_test
