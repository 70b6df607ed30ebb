// The committed tiny models through the CUDA executor: what they say greedily is what the reference says.
// sources: kernels/cuda/*.cu kernels/cuda/check.cc kernels/cuda/compile.cc kernels/cuda/executor.cc
// sources: kernels/cuda/kv_memory.cc kernels/cuda/loaded_adapter.cc kernels/cuda/split.cc
// sources: kernels/cuda/stage.cc kernels/cuda/stage_head.cc kernels/cuda/step_input.cc
// sources: kernels/cuda/weights.cc kernels/reference/*.cc quant/*.cc ops/adapter_check.cc ops/backend.cc
// sources: ops/executor.cc ops/program_check.cc ops/step_check.cc core/dtype.cc core/platform_linux.cc
// sources: core/thread_pool.cc core/cpu_features.cc no_cpu.cc model/*.cc model/arch/*.cc io/*.cc kv/*.cc
// sources: quantize/*.cc tokenizer/*.cc core/hash64.cc

#include <fstream>
#include <iterator>

#include "executor_runner.h"
#include "kv/block_table.h"
#include "model/model_file.h"

using namespace gpu_test;
using namespace cpu_test;

namespace {

const std::string kFolder = "test/fixtures/model/tiny/";

// The first tokens of a fixture's text.
std::vector<int32_t> PromptOf(const std::string& name, size_t count) {
  std::ifstream file(kFolder + name + ".json");
  const std::string text(std::istreambuf_iterator<char>(file), {});
  const char* at = text.c_str() + text.find("\"tokens\": [") + 11;
  std::vector<int32_t> tokens;
  while (tokens.size() < count) {
    char* end = nullptr;
    tokens.push_back(static_cast<int32_t>(std::strtol(at, &end, 10)));
    at = end + 1;
  }
  return tokens;
}

struct Said {
  std::vector<int32_t> tokens;
  std::vector<float> log_probabilities;
};

// Greedy, from a prompt that is fed in chunks.
Said Say(Executor& executor, const Program& program, std::vector<int32_t> tokens, int chunk, int count) {
  BlockPool pool(&executor, static_cast<int>(program.kv_groups.size()), size_t{1} << 40);
  BlockTable table(&pool, &program.kv_groups);
  Said said;
  for (size_t done = 0; static_cast<int>(said.tokens.size()) < count;) {
    const int rows = static_cast<int>(std::min<size_t>(tokens.size() - done, static_cast<size_t>(chunk)));
    table.Reserve(static_cast<int>(done), static_cast<int>(done) + rows);
    StepSequence sequence = {0, rows, static_cast<int>(done), {}};
    for (int g = 0; g < pool.groups(); ++g) sequence.pages[static_cast<size_t>(g)] = table.pages(g);
    const HeadRow head = BestOf(rows - 1);
    StepResult result;
    const Status status = executor.Run(
        {std::span(tokens).subspan(done, static_cast<size_t>(rows)), {&sequence, 1}, {&head, 1}, nullptr},
        &result);
    EXPECT(status.ok());
    if (!status.ok()) std::printf("    %s\n", status.message().c_str());
    if (!status.ok()) break;
    done += static_cast<size_t>(rows);
    if (done < tokens.size()) continue;
    const Candidate& best = result.head[0].candidates[0];
    said.tokens.push_back(best.token);
    said.log_probabilities.push_back(best.raw - result.head[0].log_sum_exp);
    tokens.push_back(best.token);
  }
  return said;
}

}  // namespace

TEST(TinyModelsSayWhatTheReferenceSays) {
  for (const std::string name : {"gemma3", "llama-tied", "llama3-scaled-untied", "mistral"}) {
    auto model = OpenModelFile(kFolder + name + ".gguf");
    EXPECT(model.ok());
    if (!model.ok()) continue;
    const Program& program = model.value()->program;
    const GgufWeightSource weights(*model.value());
    const std::vector<int32_t> prompt = PromptOf(name, 40);
    CompileOptions options = ToCompileOptions({.max_rows = 48, .terms = 2});
    auto reference = CompileReference(program, weights, options);
    EXPECT(reference.ok());
    const Said want = Say(*reference.value(), program, prompt, 48, 12);
    const auto executor = Compile(program, weights, NewDrivers(), options);
    if (executor == nullptr) continue;
    const Said whole = Say(*executor, program, prompt, 48, 12);
    EXPECT(whole.tokens == want.tokens);
    for (size_t i = 0; i < std::min(whole.tokens.size(), want.tokens.size()); ++i)
      EXPECT_LE(std::fabs(whole.log_probabilities[i] - want.log_probabilities[i]), 0.02f);
    const Said pieces = Say(*executor, program, prompt, 5, 12);
    EXPECT(pieces.tokens == whole.tokens && pieces.log_probabilities == whole.log_probabilities);
    const auto two = Compile(program, weights, NewDrivers(2), options);
    const Said split = Say(*two, program, prompt, 48, 4);
    EXPECT(std::equal(split.log_probabilities.begin(), split.log_probabilities.end(),
                      whole.log_probabilities.begin()));
  }
}

HARNESS_MAIN()
