// Small random programs, of all weight formats, on the ISA of TOKENMILL_ISA: a line for each with a digest of its
// logits' bits, and one with those of an adapter on all its linear layers. Every ISA, on every machine, prints the
// same. BF16 weights are taken at high precision, for products of bf16 have bits of their own.

#include <cstdio>

#include "adapter_test_util.h"
#include "cpu_test_runner.h"
#include "engine/device.h"

using namespace tokenmill;
using namespace cpu_test;

namespace {

// FNV-1a
uint64_t Digest(const std::vector<std::vector<float>>& rows) {
  uint64_t digest = 0xcbf29ce484222325u;
  for (const std::vector<float>& row : rows) {
    for (const float value : row) {
      uint32_t bits;
      std::memcpy(&bits, &value, sizeof(bits));
      digest = (digest ^ bits) * 0x100000001b3u;
    }
  }
  return digest;
}

}  // namespace

int main() {
  const auto device = SelectDevice();
  if (!device.ok()) {
    std::fprintf(stderr, "%s\n", device.status().message().c_str());
    return 1;
  }
  for (const ModelShape* shape : kShapes) {
    const auto model = MakeModel(*shape);
    const std::vector<int32_t> tokens = RandomTokens(45, shape->vocabulary, 6);
    Runner runner(*model, device.value().isa, 2, 64, 5, shape == &kBf16 ? 2 : 1);
    const auto adapter = runner.Load(RandomAdapter(model->program, {5, 16, 3}, 1));
    const auto digest = static_cast<unsigned long long>(Digest(Feed(runner, 0, tokens, 13)));
    const auto adapted =
        static_cast<unsigned long long>(Digest(Feed(runner, 1, tokens, 13, {{adapter.get(), 0.75f}})));
    std::printf("%s %016llx\n%s+adapter %016llx\n", shape->name, digest, shape->name, adapted);
  }
  return harness::Failures() == 0 ? 0 : 1;
}
