#include "engine/sampler.h"

#include <algorithm>
#include <map>
#include <set>

#include "allocations.h"
#include "engine/penalties.h"
#include "engine/random.h"
#include "harness.h"

using namespace tokenmill;

namespace {

std::vector<float> Logits(uint64_t seed, size_t count) {
  std::vector<float> logits;
  for (size_t i = 0; i < count; ++i) logits.push_back(static_cast<float>(UniformAt(seed, i) * 12 - 6));
  return logits;
}

std::vector<Candidate> Sorted(const std::vector<float>& logits) {
  std::vector<Candidate> candidates;
  for (size_t i = 0; i < logits.size(); ++i)
    candidates.push_back({static_cast<int32_t>(i), logits[i], logits[i]});
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return a.logit > b.logit; });
  return candidates;
}

// Tokens that the filters leave, by their definitions, with their probabilities.
std::map<int32_t, double> Allowed(const SamplingOptions& options, const std::vector<float>& logits) {
  std::vector<Candidate> sorted = Sorted(logits);
  if (options.top_k > 0) sorted.resize(std::min(sorted.size(), static_cast<size_t>(options.top_k)));
  std::vector<double> weights;
  double total = 0;
  for (const Candidate& c : sorted)
    total += weights.emplace_back(std::exp((c.logit - sorted[0].logit) / options.temperature));
  std::map<int32_t, double> allowed;
  double before = 0, kept = 0;
  for (size_t i = 0; i < sorted.size() && before < options.top_p * total && weights[i] >= options.min_p;
       ++i) {
    allowed[sorted[i].token] = weights[i];
    before += weights[i];
  }
  for (const auto& [token, weight] : allowed) kept += weight;
  for (auto& [token, weight] : allowed) weight /= kept;
  return allowed;
}

Candidate Sample(const SamplingOptions& options, uint64_t index, const std::vector<float>& logits) {
  const HeadRow row = HeadRowFor(options, 0);
  if (row.full) {
    SampleScratch scratch;
    return SampleLogits(options, index, {}, logits, &scratch);
  }
  std::vector<Candidate> candidates = Sorted(logits);
  candidates.resize(std::min(candidates.size(), static_cast<size_t>(row.candidates)));
  return SampleCandidates(options, index, candidates);
}

}  // namespace

TEST(random_numbers_are_philox) {
  // The first known-answer vector of the authors' Random123: counter 0, key 0.
  EXPECT_EQ(UniformAt(0, 0), static_cast<double>(0x6627e8d5e169c58dull >> 11) * 0x1.0p-53);
  EXPECT(UniformAt(1, 0) != UniformAt(0, 0) && UniformAt(0, 1) != UniformAt(0, 0));
}

TEST(draws_follow_the_filtered_distribution) {
  const std::vector<float> logits = Logits(3, 600);
  std::vector<SamplingOptions> cases;
  for (const int top_k : {0, 1, 40, 5000}) {
    for (const double top_p : {1.0, 0.8, 0.05}) {
      for (const double min_p : {0.0, 0.2}) {
        SamplingOptions options;
        options.temperature = 0.9;
        options.top_k = top_k;
        options.top_p = top_p;
        options.min_p = min_p;
        options.seed = 99;
        cases.push_back(options);
      }
    }
  }
  constexpr int kDraws = 4000;
  for (const SamplingOptions& options : cases) {
    const auto allowed = Allowed(options, logits);
    std::map<int32_t, int> counts;
    for (int i = 0; i < kDraws; ++i) ++counts[Sample(options, static_cast<uint64_t>(i), logits).token];
    for (const auto& [token, count] : counts) EXPECT(allowed.count(token) == 1);
    for (const auto& [token, probability] : allowed) {
      const double deviation = std::sqrt(probability * (1 - probability) * kDraws);
      EXPECT_LE(std::abs(counts[token] - probability * kDraws), 5 * deviation + 1);
    }
  }
}

TEST(greedy_takes_the_first_and_ties_go_to_the_lower_id) {
  SamplingOptions options;
  EXPECT_EQ(SampleCandidates(options, 0, std::vector<Candidate>{{7, 2, 2}, {9, 2, 2}}).token, 7);
  EXPECT_EQ(HeadRowFor(options, 3).candidates, 1);
  EXPECT_EQ(HeadRowFor(options, 3).raw_top, 3);
}

TEST(a_draw_depends_on_seed_and_index_alone) {
  const std::vector<float> logits = Logits(5, 300);
  SamplingOptions options;
  options.temperature = 1;
  options.seed = 123456789012345ull;
  std::set<int32_t> seen;
  for (uint64_t i = 0; i < 50; ++i) {
    EXPECT_EQ(Sample(options, i, logits).token, Sample(options, i, logits).token);
    seen.insert(Sample(options, i, logits).token);
  }
  EXPECT(seen.size() > 10);
}

TEST(penalties_edit_what_was_seen) {
  SamplingOptions options;
  options.repetition_penalty = 2;
  options.frequency_penalty = 0.5;
  options.presence_penalty = 0.25;
  Penalties penalties(options);
  penalties.Count(5, false);
  penalties.Count(3, true);
  penalties.Count(3, true);
  const auto edits = penalties.Edits();
  EXPECT_EQ(edits.size(), 2u);
  EXPECT_EQ(edits[0].token, 3);
  EXPECT_EQ(ApplyEdit(edits[0], 4.0f), 2.0f - 1.25f);
  EXPECT_EQ(ApplyEdit(edits[0], -4.0f), -8.0f - 1.25f);
  EXPECT_EQ(ApplyEdit(edits[1], 4.0f), 2.0f);
  SamplingOptions sampling;
  sampling.temperature = 0.5;
  std::vector<float> logits = {0, 0, 0, 9, 0, 9};
  const std::vector<LogitEdit> ban = {{3, 1, 1000}, {5, 1, 1000}};
  for (uint64_t i = 0; i < 200; ++i) {
    SampleScratch scratch;
    const Candidate drawn = SampleLogits(sampling, i, ban, logits, &scratch);
    EXPECT(drawn.token != 3 && drawn.token != 5);
    EXPECT_EQ(drawn.raw, 0.0f);
  }
}

TEST(whole_rows_are_sampled_without_allocating_once_the_scratch_is_there) {
  SampleScratch scratch;
  SamplingOptions plain, filtered;
  plain.temperature = filtered.temperature = 2;
  filtered.top_p = 0.999;
  SampleLogits(plain, 0, {}, Logits(1, 5000), &scratch);
  for (uint64_t i = 0; i < 20; ++i) {
    const std::vector<float> logits = Logits(i, 5000);
    const int before = allocations::count;
    SampleLogits(plain, i, {}, logits, &scratch);
    SampleLogits(filtered, i, {}, logits, &scratch);
    EXPECT_EQ(allocations::count, before);
  }
}

HARNESS_MAIN()
