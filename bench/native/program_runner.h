#pragma once

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "ops/backend.h"
#include "synthetic_weights.h"
#include "team.h"

namespace tokenmill::bench {

/// What one step is to compute: sequences of `rows` rows each, from `position` on.
struct StepShape {
  int sequences = 1;
  int rows = 1;
  int position = 0;
  bool head = false;  // the best token after each sequence's last row
};

/// A compiled program with random weights, and pages where it has a KV cache.
class ProgramRunner {
 public:
  ProgramRunner(Program program, CpuIsa isa, int threads, int max_rows, int pages = 0)
      : program_(std::move(program)) {
    CompileOptions options;
    options.threads = threads;
    options.max_rows = max_rows;
    options.pool = &ThreadPool::Process();
    const SyntheticWeights weights(program_);
    auto compiled = isa == CpuIsa::kReference ? CompileReference(program_, weights, options)
                                              : CompileCpu(program_, weights, isa, options);
    Expect(compiled.status());
    executor_ = std::move(compiled).value();
    if (pages == 0) return;
    Expect(executor_->AddSlab(0, 0, pages));
    for (int32_t i = 0; i < pages; ++i) pages_.push_back(i);
  }

  double Seconds(const StepShape& shape) {
    std::vector<int32_t> tokens;
    std::vector<StepSequence> parts;
    std::vector<HeadRow> head;
    const int pages = (shape.position + shape.rows + kPageTokens - 1) / kPageTokens;
    for (int s = 0; s < shape.sequences; ++s) {
      StepSequence part = {s * shape.rows, shape.rows, shape.position, {}};
      if (!pages_.empty()) part.pages[0] = pages_.data() + s * pages;
      parts.push_back(part);
      for (int i = 0; i < shape.rows; ++i) tokens.push_back((s * 977 + i * 131) % program_.vocabulary);
      HeadRow row;
      row.row = (s + 1) * shape.rows - 1;
      row.candidates = 1;
      if (shape.head) head.push_back(row);
    }
    StepResult result;
    const double begin = bench::Seconds();
    Expect(executor_->Run({tokens, parts, head, nullptr}, &result));
    return bench::Seconds() - begin;
  }

 private:
  static void Expect(const Status& status) {
    if (status.ok()) return;
    std::fprintf(stderr, "%s\n", status.message().c_str());
    std::exit(1);
  }

  const Program program_;
  std::unique_ptr<Executor> executor_;
  std::vector<int32_t> pages_;
};

}  // namespace tokenmill::bench
