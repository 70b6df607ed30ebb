#pragma once

// What every executor is held to, for the tests of the CPU's and of the GPUs'.

#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu_test_models.h"
#include "harness.h"

namespace cpu_test {

using Logits = std::vector<std::vector<float>>;

inline bool Same(const Logits& a, const Logits& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].size() != b[i].size() || !SameBits(a[i].data(), b[i].data(), a[i].size())) return false;
  }
  return true;
}

inline double LogitNmse(const Logits& got, const Logits& want) {
  std::vector<float> a, b;
  for (const auto& row : got) a.insert(a.end(), row.begin(), row.end());
  for (const auto& row : want) b.insert(b.end(), row.begin(), row.end());
  EXPECT_EQ(a.size(), b.size());
  return Nmse(a.data(), b.data(), std::min(a.size(), b.size()));
}

/// That a row got what it asked for, by its whole logits.
inline void ExpectHead(const HeadRow& asked, const HeadResult& got, const std::vector<float>& logits) {
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
  EXPECT_LE(std::fabs(got.log_sum_exp - std::log(sum)), 2e-6 * std::fabs(std::log(sum)));
  std::vector<Candidate> all, raw;
  for (size_t t = 0; t < logits.size(); ++t) raw.push_back({static_cast<int32_t>(t), logits[t], logits[t]});
  all = raw;
  for (const LogitEdit& edit : asked.edits)
    all[static_cast<size_t>(edit.token)].logit = ApplyEdit(edit, logits[static_cast<size_t>(edit.token)]);
  for (auto* list : {&all, &raw}) {
    std::stable_sort(list->begin(), list->end(),
                     [](const Candidate& x, const Candidate& y) { return x.logit > y.logit; });
  }
  const size_t wanted = std::min(static_cast<size_t>(asked.candidates), logits.size());
  EXPECT_EQ(got.candidates.size(), wanted);
  EXPECT_EQ(got.raw_top.size(), static_cast<size_t>(asked.raw_top));
  for (size_t c = 0; c < got.candidates.size(); ++c) {
    EXPECT_EQ(got.candidates[c].token, all[c].token);
    EXPECT_EQ(got.candidates[c].logit, all[c].logit);
    EXPECT_EQ(got.candidates[c].raw, all[c].raw);
  }
  for (size_t c = 0; c < got.raw_top.size(); ++c) EXPECT_EQ(got.raw_top[c].token, raw[c].token);
  EXPECT_EQ(got.targets.size(), asked.targets.size());
  for (size_t t = 0; t < got.targets.size(); ++t)
    EXPECT_EQ(got.targets[t], logits[static_cast<size_t>(asked.targets[t])]);
}

/// Weights whose token 7 has an embedding of NaN: the first weight is a table in Q8_0.
class PoisonedWeights final : public WeightSource {
 public:
  static constexpr int64_t kToken = 7;

  PoisonedWeights(const RandomWeights& inner, int width) : inner_(inner), width_(width) {}
  Status Read(WeightId weight, int64_t row, int64_t rows, void* out) const override {
    TM_RETURN_IF_ERROR(inner_.Read(weight, row, rows, out));
    if (weight == 0 && row <= kToken && row + rows > kToken) {
      uint8_t* at = static_cast<uint8_t*>(out) +
                    (kToken - row) * static_cast<int64_t>(RowBytes(DType::kQ8_0, width_));
      at[0] = 0xff, at[1] = 0x7f;  // an f16 NaN
    }
    return {};
  }

 private:
  const RandomWeights& inner_;
  const int width_;
};

/// Two sequences of 20 tokens whose second has the poisoned token at place 9, or a harmless one.
struct PoisonedSteps {
  explicit PoisonedSteps(int vocabulary)
      : clean(RandomTokens(20, vocabulary, 7)), bad(RandomTokens(20, vocabulary, 8)) {
    for (auto* tokens : {&clean, &bad}) std::replace(tokens->begin(), tokens->end(), 7, 8);
    spoiled = bad;
    spoiled[9] = 7;
    for (size_t i = 0; i < head.size(); ++i) head[i].row = static_cast<int>(i), head[i].raw_top = 4;
  }

  std::vector<int32_t> clean, bad, spoiled;
  std::vector<HeadRow> head = std::vector<HeadRow>(40);
};

/// That the poisoned token spoiled its own sequence from there on, and nothing else.
inline void ExpectOnlyItsSequence(const StepResult& dirty, const StepResult& healed) {
  for (size_t i = 0; i < 40; ++i) {
    EXPECT_EQ(dirty.head[i].finite, i < 29);
    EXPECT(healed.head[i].finite);
    if (i < 29) EXPECT_EQ(dirty.head[i].log_sum_exp, healed.head[i].log_sum_exp);
  }
}

}  // namespace cpu_test
