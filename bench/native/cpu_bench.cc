// Speed of the CPU backend on synthetic models of real shapes, without tokenizer and sampler.
//   cpu_bench [isa: a name of TOKENMILL_ISA] [threads] [model: smollm2|gemma3|llama1b] [rounds] [work: all]
//             [--adapters N] [--rank R: 16] [--plain P]
// With adapters, each round of a work is also run with one on all linear layers of each sequence but the first P:
// sequences take turns at N of them. `kept` is the median, over the rounds, of the speed beside that without.
// Prints JSON lines: tokens per second, best and median of the rounds, tokens per second of CPU time
// (the figure to trust on a busy machine, with one thread), and a raw read of memory beside them.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/device.h"
#include "machine_limits.h"
#include "ops/backend.h"
#include "read_kernels.h"
#include "synthetic_adapter.h"
#include "synthetic_weights.h"
#include "team.h"

using namespace tokenmill;
using namespace tokenmill::bench;

namespace {

// Of all threads: what a busy machine does not distort, for runs on one thread.
double CpuSeconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

struct Shape {
  const char* name;
  int width, ffn, layers, query_heads, kv_heads, head_dim, vocabulary;
  DType matrices, down, table;
};

constexpr Shape kShapes[] = {
    {"smollm2", 576, 1536, 30, 9, 3, 64, 49152, DType::kQ4_1, DType::kQ4_1, DType::kQ8_0},
    {"gemma3", 640, 2048, 18, 4, 1, 256, 262144, DType::kQ5_0, DType::kQ8_0, DType::kQ8_0},
    {"llama1b", 2048, 8192, 16, 32, 8, 64, 128256, DType::kQ4_K, DType::kQ6_K, DType::kQ6_K},
};

void AddLayer(const Shape& s, int layer, Program* p) {
  const int q = s.query_heads * s.head_dim, kv = s.kv_heads * s.head_dim;
  const auto norm = [&] { return Norm{AddWeight(p, DType::kF32, 1, s.width), 1e-5f}; };
  p->kv_layers.push_back({0, layer, s.query_heads, s.kv_heads, s.head_dim});
  p->ops.push_back(NormProject{0,
                               norm(),
                               {{AddWeight(p, s.matrices, q, s.width), kNone, 1},
                                {AddWeight(p, s.matrices, kv, s.width), kNone, 2},
                                {AddWeight(p, s.matrices, kv, s.width), kNone, 3}}});
  p->ops.push_back(RopeWriteKv{1, 2, 3, {}, {}, 0, layer});
  p->ops.push_back(PagedAttention{1, 4, layer, 0.125f, 0});
  p->ops.push_back(ProjectAdd{4, AddWeight(p, s.matrices, s.width, q), kNone, {}, 0});
  p->ops.push_back(GatedMlp{0, norm(), AddWeight(p, s.matrices, s.ffn, s.width),
                            AddWeight(p, s.matrices, s.ffn, s.width), Activation::kSilu, 5});
  p->ops.push_back(ProjectAdd{5, AddWeight(p, s.down, s.width, s.ffn), kNone, {}, 0});
}

Program MakeProgram(const Shape& s) {
  Program p;
  p.vocabulary = s.vocabulary;
  const int q = s.query_heads * s.head_dim, kv = s.kv_heads * s.head_dim;
  for (int width : {s.width, q, kv, kv, q, s.ffn}) p.values.push_back({width});
  p.kv_groups.push_back({0, s.layers});
  RopeTable rope = {RopeStyle::kInterleaved, s.head_dim, {}, 1};
  for (int i = 0; i < s.head_dim / 2; ++i) rope.frequencies.push_back(std::pow(1e4, -2.0 * i / s.head_dim));
  p.ropes.push_back(rope);
  const WeightId table = AddWeight(&p, s.table, s.vocabulary, s.width);
  p.ops.push_back(Embed{table, 1, 0});
  for (int layer = 0; layer < s.layers; ++layer) AddLayer(s, layer, &p);
  p.ops.push_back(Head{0, {AddWeight(&p, DType::kF32, 1, s.width), 1e-5f}, table, 0});
  return p;
}

struct AdapterOptions {
  int count = 0, rank = 16, plain = 0;
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

class Bench {
 public:
  static constexpr int kDepth = 4608;  // tokens of a sequence

  Bench(const Shape& shape, CpuIsa isa, int threads, int rounds)
      : program_(MakeProgram(shape)), threads_(threads), rounds_(rounds) {
    CompileOptions options;
    options.threads = threads;
    options.pool = &ThreadPool::Process();
    const SyntheticWeights weights(program_);
    auto compiled = CompileCpu(program_, weights, isa, options);
    if (!compiled.ok()) {
      std::fprintf(stderr, "%s\n", compiled.status().message().c_str());
      std::exit(1);
    }
    executor_ = std::move(compiled).value();
    std::printf("{\"model\":\"%s\",\"weight_mb\":%.1f,\"scratch_mb\":%.1f}\n", shape.name,
                static_cast<double>(executor_->weight_bytes()) / 1e6,
                static_cast<double>(executor_->scratch_bytes()) / 1e6);
    const int pages = kDepth / kPageTokens * 2;
    if (!executor_->AddSlab(0, 0, pages).ok()) std::exit(1);
    for (int i = 0; i < pages; ++i) pages_.push_back(static_cast<int32_t>(i * 101 % pages));
  }

  void LoadAdapters(const AdapterOptions& options) {
    plain_ = options.plain;
    rank_ = options.rank;
    const SyntheticAdapter source(program_, options.rank);
    for (int i = 0; i < options.count; ++i) {
      const double begin = Seconds();
      auto adapter = executor_->LoadAdapter(source);
      if (!adapter.ok()) {
        std::fprintf(stderr, "%s\n", adapter.status().message().c_str());
        std::exit(1);
      }
      adapters_.push_back(std::move(adapter).value());
      uses_.push_back({adapters_.back().get(), 1});
      if (i == 0) {
        std::printf("{\"adapter_mb\":%.2f,\"load_ms\":%.1f}\n",
                    static_cast<double>(adapters_[0]->bytes()) / 1e6, (Seconds() - begin) * 1e3);
      }
    }
  }

  // Seconds of a step of `sequences` sequences of `rows` rows each, from `position` on.
  double Step(int sequences, int rows, int position) {
    std::vector<int32_t> tokens;
    std::vector<StepSequence> parts;
    std::vector<HeadRow> head;
    for (int s = 0; s < sequences; ++s) {
      StepSequence part = {s * rows, rows, position, {}};
      part.pages[0] = pages_.data() + s * ((position + rows + kPageTokens - 1) / kPageTokens);
      if (adapted_ && s >= plain_)
        part.adapters = std::span(uses_).subspan(static_cast<size_t>(s) % uses_.size(), 1);
      parts.push_back(part);
      for (int i = 0; i < rows; ++i)
        tokens.push_back(static_cast<int32_t>((s * 977 + i * 131 + position) % program_.vocabulary));
      HeadRow row;
      row.row = (s + 1) * rows - 1;
      row.candidates = 1;
      head.push_back(row);
    }
    StepResult result;
    const double begin = Seconds();
    if (!executor_->Run({tokens, parts, head, nullptr}, &result).ok()) std::exit(1);
    return Seconds() - begin;
  }

  // Runs a work, each round beside a raw read of as many bytes as the weights have.
  template <class Body>
  void Report(const char* name, double tokens, Body body) {
    std::vector<double> speeds, reads, adapted, kept;
    body();
    double cpu_seconds = 0;
    for (int round = 0; round < rounds_; ++round) {
      const double begin = CpuSeconds();
      speeds.push_back(tokens / body());
      cpu_seconds += CpuSeconds() - begin;
      reads.push_back(ReadSpeed());
      if (uses_.empty()) continue;
      adapted_ = true;
      adapted.push_back(tokens / body());
      adapted_ = false;
      kept.push_back(adapted.back() / speeds.back());
    }
    std::sort(speeds.begin(), speeds.end());
    std::sort(reads.begin(), reads.end());
    std::printf(
        "{\"work\":\"%s\",\"threads\":%d,\"best\":%.1f,\"median\":%.1f,\"per_cpu_second\":%.1f,"
        "\"read_gb_s\":%.1f,\"best_read_gb_s\":%.1f}\n",
        name, threads_, speeds.back(), speeds[speeds.size() / 2], tokens * rounds_ / cpu_seconds,
        reads[reads.size() / 2], reads.back());
    if (!uses_.empty()) {
      std::printf(
          "{\"work\":\"%s\",\"adapters\":%zu,\"rank\":%d,\"plain\":%d,\"median\":%.1f,\"kept\":%.3f}\n", name,
          uses_.size(), rank_, plain_, Median(adapted), Median(kept));
    }
    std::fflush(stdout);
  }

  double Steps(int count, int sequences, int position) {
    double seconds = 0;
    for (int i = 0; i < count; ++i) seconds += Step(sequences, 1, position + i);
    return seconds;
  }

  void FillTo(int depth) {
    for (int position = 0; position < depth; position += 512) Step(1, 512, position);
  }

 private:
  // Gigabytes a second that the threads read together, the best of three passes.
  double ReadSpeed() {
    if (!memory_) memory_.emplace(executor_->weight_bytes());
    Team team(threads_);  // its threads spin: only while they are needed
    double seconds = 1e9;
    for (int pass = 0; pass < 3; ++pass)
      seconds = std::min(seconds, ReadSeconds(team, *memory_, ReadVariants().front()));
    return static_cast<double>(memory_->bytes()) / seconds / 1e9;
  }

  const Program program_;
  const int threads_, rounds_;
  std::unique_ptr<Executor> executor_;
  std::vector<int32_t> pages_;
  std::optional<ReadMemory> memory_;
  std::vector<std::shared_ptr<const LoadedAdapter>> adapters_;
  std::vector<AdapterUse> uses_;  // one an adapter
  int plain_ = 0, rank_ = 0;
  bool adapted_ = false;  // whether steps use adapters
};

// Takes the options with names out of the arguments.
AdapterOptions TakeAdapterOptions(std::vector<char*>* arguments) {
  AdapterOptions options;
  for (size_t i = 1; i + 1 < arguments->size();) {
    int* value = std::strcmp((*arguments)[i], "--adapters") == 0 ? &options.count
                 : std::strcmp((*arguments)[i], "--rank") == 0   ? &options.rank
                 : std::strcmp((*arguments)[i], "--plain") == 0  ? &options.plain
                                                                 : nullptr;
    if (value == nullptr) {
      ++i;
      continue;
    }
    *value = std::atoi((*arguments)[i + 1]);
    arguments->erase(arguments->begin() + static_cast<int64_t>(i),
                     arguments->begin() + static_cast<int64_t>(i) + 2);
  }
  return options;
}

}  // namespace

int main(int count, char** given) {
  std::vector<char*> argv(given, given + count);
  const AdapterOptions adapters = TakeAdapterOptions(&argv);
  const int argc = static_cast<int>(argv.size());
  CpuIsa isa = AvailableIsas().front();
  for (const CpuIsa one : AvailableIsas()) {
    if (argc > 1 && std::strcmp(argv[1], IsaName(one)) == 0) isa = one;
  }
  const int threads = argc > 2 ? std::atoi(argv[2]) : 2;
  const Shape* shape = &kShapes[0];
  for (const Shape& one : kShapes) {
    if (argc > 3 && std::strcmp(argv[3], one.name) == 0) shape = &one;
  }
  Bench bench(*shape, isa, threads, argc > 4 ? std::atoi(argv[4]) : 7);
  bench.LoadAdapters(adapters);
  const std::string only = argc > 5 ? argv[5] : "all";
  const auto report = [&](const char* name, double tokens, const auto& body) {
    if (only == "all" || only == name) bench.Report(name, tokens, body);
  };
  report("prefill 512", 512, [&] { return bench.Step(1, 512, 0); });
  report("decode", 32, [&] { return bench.Steps(32, 1, 16); });
  report("8 streams", 8 * 8, [&] { return bench.Steps(8, 8, 16); });
  report("16 streams", 16 * 4, [&] { return bench.Steps(4, 16, 16); });
  report("32 streams", 32 * 4, [&] { return bench.Steps(4, 32, 16); });
  if (only == "all" || only.find("4096") != std::string::npos) bench.FillTo(4096);
  report("decode at 4096", 16, [&] { return bench.Steps(16, 1, 4096); });
  report("prefill 512 at 4096", 512, [&] { return bench.Step(1, 512, 4096 - 512); });
  return 0;
}
