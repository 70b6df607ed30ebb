// Executors that share their weights.

#include "cpu_test_runner.h"

using namespace tokenmill;
using namespace cpu_test;

namespace {

bool Same(const std::vector<std::vector<float>>& a, const std::vector<std::vector<float>>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].size() != b[i].size() || !SameBits(a[i].data(), b[i].data(), a[i].size())) return false;
  }
  return true;
}

std::vector<CpuIsa> AllIsas() {
  std::vector<CpuIsa> isas = Isas();
  isas.push_back(CpuIsa::kReference);
  return isas;
}

}  // namespace

TEST(a_twin_gives_the_same_bits_from_pages_of_its_own) {
  const int length = harness::Short() ? 12 : 40;
  for (const ModelShape* shape : kShapes) {
    const auto model = MakeModel(*shape);
    const std::vector<int32_t> tokens = RandomTokens(length, shape->vocabulary, 1);
    const std::vector<int32_t> others = RandomTokens(length, shape->vocabulary, 2);
    for (const CpuIsa isa : AllIsas()) {
      auto first = std::make_unique<Runner>(*model, isa, 2, length);
      const auto want = Feed(*first, 0, tokens, static_cast<size_t>(length));
      Runner twin(*first, 8);
      const std::vector<int32_t> beginning(tokens.begin(), tokens.begin() + length / 2);
      Feed(twin, 0, beginning, 7);
      EXPECT(Same(Feed(*first, 0, others, 10), Feed(*std::make_unique<Runner>(*first, 16), 0, others, 10)));
      first.reset();  // the weights stay
      std::vector<std::vector<float>> rest;
      for (int position = length / 2; position < length; ++position)
        rest.push_back(twin.Step({{0, position, {tokens[static_cast<size_t>(position)]}}})[0]);
      EXPECT(Same(rest, {want.begin() + length / 2, want.end()}));
    }
  }
}

HARNESS_MAIN()
