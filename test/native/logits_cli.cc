// The engine's side of test/oracle/kld.py: `logits_cli MODEL [CHUNK [KV [QUANTIZE [ADAPTER]]]]` reads lines
// {"tokens":[…]} and answers each with "ROWS VOCABULARY" and raw f32 logits, row after row. TOKENMILL_ISA chooses
// the path; ADAPTER is what scripts/adapter-spec.mjs prints.

#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>

#include "adapter_spec_file.h"
#include "model_runner.h"

using namespace tokenmill;

namespace {

std::vector<Token> ReadNumbers(const std::string& line) {
  std::vector<Token> numbers;
  const char* at = line.c_str();
  while (*at != '\0') {
    if (std::isdigit(static_cast<unsigned char>(*at)) == 0) {
      ++at;
      continue;
    }
    char* end = nullptr;
    numbers.push_back(static_cast<Token>(std::strtol(at, &end, 10)));
    at = end;
  }
  return numbers;
}

int Fail(const Status& status) {
  std::fprintf(stderr, "%s: %s\n", CodeName(status.code()), status.message().c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: logits_cli MODEL [CHUNK [f16|int8 [none|int8|int4 [ADAPTER_SPEC]]]]\n");
    return 2;
  }
  const int chunk = argc > 2 ? std::atoi(argv[2]) : 64;
  const auto device = SelectDevice();
  if (!device.ok()) return Fail(device.status());
  const KvType kv_type = argc > 3 && std::string(argv[3]) == "int8" ? KvType::kInt8 : KvType::kF16;
  const std::string quantize = argc > 4 ? argv[4] : "";
  const LoadQuantization quantization = quantize == "int8"   ? LoadQuantization::kInt8
                                        : quantize == "int4" ? LoadQuantization::kInt4
                                                             : LoadQuantization::kNone;
  auto runner =
      testing::ModelRunner::Load(argv[1], device.value().isa, UsableCores(), chunk, kv_type, quantization);
  if (!runner.ok()) return Fail(runner.status());
  testing::ModelRunner& model = *runner.value();
  if (argc > 5) {
    const auto spec = testing::ReadAdapterSpecFile(argv[5]);
    const Status used = spec.ok() ? model.Use(spec.value()) : spec.status();
    if (!used.ok()) return Fail(used);
  }
  for (std::string line; std::getline(std::cin, line);) {
    const std::vector<Token> tokens = ReadNumbers(line);
    std::printf("%zu %d\n", tokens.size(), model.vocabulary());
    const Status status = model.Run(tokens, chunk, [](size_t, std::span<const float> logits) {
      std::fwrite(logits.data(), sizeof(float), logits.size(), stdout);
    });
    if (!status.ok()) return Fail(status);
    std::fflush(stdout);
  }
  return 0;
}
