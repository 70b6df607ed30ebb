// sources: kernels/reference/head_rows.cc
#include "kernels/cuda/head.h"

#include <algorithm>
#include <limits>

#include "gpu_test.h"
#include "kernels/reference/head_rows.h"
#include "row_forms.h"

using namespace gpu_test;
using tokenmill::Candidate;
using tokenmill::HeadResult;
using tokenmill::HeadRow;
using tokenmill::LogitEdit;
using tokenmill::cuda::HeadEdit;
using tokenmill::cuda::HeadFound;
using tokenmill::cuda::HeadOutput;
using tokenmill::cuda::HeadParams;
using tokenmill::cuda::HeadPart;
using tokenmill::cuda::HeadRequest;
using tokenmill::cuda::LaunchHead;

namespace {

// What a row asks for; `mask` empty: all tokens are allowed.
struct Wanted {
  int candidates = 0, raw_top = 0;
  std::vector<LogitEdit> edits = {};
  std::vector<int32_t> targets = {};
  std::vector<bool> mask = {};
};

struct Got {
  std::vector<HeadResult> rows;
  std::vector<float> logits;  // after the cap
};

// Runs the head over rows `first` … of `wanted`; `logits` has those alone.
Got Run(Driver& driver, const std::vector<float>& logits, int vocabulary, const std::vector<Wanted>& wanted,
        float softcap = 0, int first = 0) {
  std::vector<HeadRequest> requests;
  std::vector<HeadEdit> edits(1);
  std::vector<int32_t> targets(1);
  const size_t mask_words = static_cast<size_t>(vocabulary + 31) / 32;
  std::vector<uint32_t> masks(1);
  int found = 0, list_max = 1, mask_count = 0;
  masks.clear();
  for (const Wanted& row : wanted) {
    HeadRequest request = {};
    request.candidates = row.candidates;
    request.raw_top = row.raw_top;
    request.candidates_at = found;
    request.raw_top_at = found += row.candidates;
    found += row.raw_top;
    list_max = std::max({list_max, row.candidates, row.raw_top});
    request.edits_at = static_cast<int32_t>(edits.size());
    request.edits = static_cast<int32_t>(row.edits.size());
    for (const LogitEdit& edit : row.edits) edits.push_back({edit.token, edit.repetition, edit.subtract});
    request.targets_at = static_cast<int32_t>(targets.size());
    request.targets = static_cast<int32_t>(row.targets.size());
    targets.insert(targets.end(), row.targets.begin(), row.targets.end());
    request.mask = row.mask.empty() ? -1 : mask_count++;
    if (!row.mask.empty()) {
      masks.resize(masks.size() + mask_words);
      for (size_t t = 0; t < row.mask.size(); ++t) {
        if (row.mask[t]) masks[masks.size() - mask_words + t / 32] |= 1u << t % 32;
      }
    }
    requests.push_back(request);
  }
  masks.push_back(0);
  const int rows = static_cast<int>(wanted.size()) - first;
  const size_t all = wanted.size();
  DeviceBuffer<float> device_logits(driver, logits), target_logits(driver, targets.size());
  DeviceBuffer<HeadRequest> device_requests(driver, requests);
  DeviceBuffer<HeadEdit> device_edits(driver, edits);
  DeviceBuffer<int32_t> device_targets(driver, targets);
  DeviceBuffer<uint32_t> device_masks(driver, masks);
  DeviceBuffer<uint8_t> parts(driver, tokenmill::cuda::HeadPartsBytes(rows, vocabulary));
  DeviceBuffer<uint8_t> keys(driver, tokenmill::cuda::HeadKeysBytes(rows, vocabulary, list_max));
  DeviceBuffer<HeadOutput> outputs(driver, all);
  DeviceBuffer<HeadFound> device_found(driver, static_cast<size_t>(found) + 1);
  outputs.Fill(0xcd);
  device_found.Fill(0xcd);
  target_logits.Fill(0xcd);
  const DeviceBuffer<StepCounts> counts = Counts(driver, static_cast<int>(all), static_cast<int>(all));
  HeadParams params = {};
  params.counts = counts.data();
  params.requests = device_requests.data();
  params.logits = device_logits.data();
  params.edits = device_edits.data();
  params.targets = device_targets.data();
  params.masks = device_masks.data();
  params.parts = reinterpret_cast<HeadPart*>(parts.data());
  params.keys = reinterpret_cast<uint64_t*>(keys.data());
  params.outputs = outputs.data();
  params.found = device_found.data();
  params.target_logits = target_logits.data();
  params.row_first = first;
  params.vocabulary = vocabulary;
  params.mask_words = static_cast<int32_t>(mask_words);
  params.list_max = list_max;
  params.softcap = softcap;
  if (!GPU_OK(driver, LaunchHead(driver, params, rows + 1))) return {};

  Got got;
  got.logits = device_logits.Download();
  const std::vector<HeadOutput> output = outputs.Download();
  const std::vector<HeadFound> tokens = device_found.Download();
  const std::vector<float> target = target_logits.Download();
  for (size_t r = static_cast<size_t>(first); r < all; ++r) {
    HeadResult result;
    result.finite = output[r].finite != 0;
    result.log_sum_exp = output[r].log_sum_exp;
    const auto take = [&](int at, int count, std::vector<Candidate>* list) {
      for (int i = at; i < at + count; ++i) {
        const HeadFound& token = tokens[static_cast<size_t>(i)];
        list->push_back({token.token, token.logit, token.raw});
      }
    };
    if (result.finite) {
      take(requests[r].candidates_at, output[r].candidates, &result.candidates);
      take(requests[r].raw_top_at, output[r].raw_top, &result.raw_top);
      const auto begin = target.begin() + requests[r].targets_at;
      result.targets.assign(begin, begin + requests[r].targets);
    }
    got.rows.push_back(result);
  }
  return got;
}

bool Same(const std::vector<Candidate>& a, const std::vector<Candidate>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Candidate& x, const Candidate& y) {
    return x.token == y.token && x.logit == y.logit && x.raw == y.raw;
  });
}

// Candidates by the reference, those that the mask forbids left out.
HeadResult Expected(const Wanted& wanted, std::vector<float> logits) {
  HeadRow row;
  const int vocabulary = static_cast<int>(logits.size());
  row.candidates = wanted.mask.empty() ? wanted.candidates : vocabulary;
  row.raw_top = wanted.raw_top;
  row.edits = wanted.edits;
  row.targets = wanted.targets;
  HeadResult result;
  tokenmill::ReduceHeadRow(row, 0, logits, nullptr, 0, &result);
  if (wanted.mask.empty()) return result;
  std::erase_if(result.candidates,
                [&](const Candidate& c) { return !wanted.mask[static_cast<size_t>(c.token)]; });
  if (static_cast<int>(result.candidates.size()) > wanted.candidates)
    result.candidates.resize(static_cast<size_t>(wanted.candidates));
  return result;
}

void CheckHead(Driver& driver, const std::vector<float>& logits, int vocabulary,
               const std::vector<Wanted>& wanted, float softcap = 0) {
  const Got got = Run(driver, logits, vocabulary, wanted, softcap);
  if (got.rows.empty() && !wanted.empty()) return;
  if (softcap == 0) EXPECT(SameFloats(got.logits, logits));
  for (size_t r = 0; r < wanted.size(); ++r) {
    const auto begin = got.logits.begin() + static_cast<std::ptrdiff_t>(r) * vocabulary;
    const HeadResult expected = Expected(wanted[r], {begin, begin + vocabulary});
    const HeadResult& row = got.rows[r];
    EXPECT_EQ(row.finite, expected.finite);
    if (!expected.finite) continue;
    EXPECT_LE(std::fabs(row.log_sum_exp - expected.log_sum_exp),
              2e-7f * std::fabs(expected.log_sum_exp) + 1e-7f);
    EXPECT(Same(row.candidates, expected.candidates));
    EXPECT(Same(row.raw_top, expected.raw_top));
    EXPECT(row.targets == expected.targets);
  }
}

// Every kind of request. Edits lift the worst token, sink the best one, and leave others where they were.
std::vector<Wanted> ManyRequests(const std::vector<float>& row) {
  const int32_t vocabulary = static_cast<int32_t>(row.size());
  const auto best = static_cast<int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
  const auto worst = static_cast<int32_t>(std::min_element(row.begin(), row.end()) - row.begin());
  std::vector<LogitEdit> edits = {{best, 4, 100}};
  if (worst != best) edits.push_back({worst, 1.5f, -50});
  for (int32_t t = 0; t < vocabulary; t += vocabulary / 7 + 1) {
    if (t != best && t != worst) edits.push_back({t, t % 2 == 0 ? 1.25f : 0.5f, 0.125f});
  }
  std::sort(edits.begin(), edits.end(), [](const auto& a, const auto& b) { return a.token < b.token; });
  std::vector<bool> some(row.size()), none(row.size());
  for (size_t t = 0; t < row.size(); t += 3) some[t] = true;
  return {{},
          {1},
          {0, 1},
          {5, 3, edits, {vocabulary - 1, 0, 0}},
          {64, 20, edits, {}, some},
          {7, 1, {}, {}, none},
          {1000, 1000}};
}

void CheckVocabulary(Driver& driver, int vocabulary, float scale, float softcap = 0) {
  const std::vector<float> row =
      RandomFloats(static_cast<size_t>(vocabulary), static_cast<uint32_t>(vocabulary), scale);
  const std::vector<Wanted> wanted = ManyRequests(row);
  std::vector<float> logits;
  for (size_t r = 0; r < wanted.size(); ++r) logits.insert(logits.end(), row.begin(), row.end());
  CheckHead(driver, logits, vocabulary, wanted, softcap);
}

}  // namespace

TEST(reduces_small_vocabularies) {
  ForSeeds([](Driver& driver) {
    for (const int vocabulary : {1, 2, 31, 1000}) CheckVocabulary(driver, vocabulary, 4);
  });
}

TEST(reduces_several_chunks) {
  SetSeed(5);
  for (const int vocabulary : {4096, 4097, 9000}) CheckVocabulary(TestDriver(), vocabulary, 4);
}

TEST(reduces_a_large_vocabulary) {
  SetSeed(6);
  const int vocabulary = 50000;
  std::vector<float> logits = RandomFloats(vocabulary, 1, 5);
  logits.insert(logits.end(), logits.begin(), logits.end());
  CheckHead(TestDriver(), logits, vocabulary, {{1}, {1024, 0, {{7, 1, -80}, {49999, 1, -90}}, {49999}}});
}

TEST(gives_ties_to_lower_tokens) {
  ForSeeds([](Driver& driver) {
    for (const int vocabulary : {100, 5000}) {
      const size_t n = static_cast<size_t>(vocabulary);
      std::vector<float> logits(n, 2.5f);  // all equal
      for (int t = 0; t < vocabulary; ++t) logits.push_back(static_cast<float>(t % 3));
      for (int t = 0; t < vocabulary; ++t) logits.push_back(t % 2 == 0 ? 0.0f : -0.0f);
      for (int t = 0; t < vocabulary; ++t) logits.push_back(t == 77 ? 1e-45f : t % 2 == 0 ? -1e-45f : -0.0f);
      CheckHead(driver, logits, vocabulary, {{40, 3}, {40, 40}, {9, 64}, {3, 3}});
    }
  });
}

TEST(edits_reorder) {
  ForSeeds([](Driver& driver) {
    const std::vector<float> logits = {3, 1, -2, 3, 0, -5};
    CheckHead(driver, logits, 6, {{6, 6, {{0, 2, 0}, {2, 0.1f, 0}, {4, 3, -3}, {5, 1, -INFINITY}}}});
    CheckHead(driver, logits, 6, {{2, 2, {{0, 1, INFINITY}, {3, 1, 1e30f}}}});
  });
}

TEST(tells_rows_that_are_not_finite) {
  ForSeeds([](Driver& driver) {
    std::vector<float> logits;
    for (const float bad : {NAN, -NAN, INFINITY, -INFINITY, 3.0e38f, -3.0e38f}) {
      const size_t begin = logits.size();
      const std::vector<float> row = RandomFloats(4500, 3);
      logits.insert(logits.end(), row.begin(), row.end());
      logits[begin + 4200] = bad;
    }
    CheckHead(driver, logits, 4500, std::vector<Wanted>(6, {3, 2, {{4200, 2, 1}}, {4200, 1}}));
  });
}

TEST(caps_logits) {
  ForSeeds([](Driver& driver) {
    const std::vector<float> row = RandomFloats(1000, 8, 20);
    const Got got = Run(driver, row, 1000, {{5}}, 30);
    std::vector<double> expected;
    for (const float logit : row) expected.push_back(30 * std::tanh(static_cast<double>(logit) / 30));
    EXPECT_LE(Nmse(got.logits, expected), 1e-13);
    CheckVocabulary(driver, 1000, 40, 30);
    const Got infinite = Run(driver, {INFINITY, -INFINITY, 1}, 3, {{3}}, 30);
    if (infinite.rows.empty()) return;
    EXPECT(infinite.rows[0].finite);
    EXPECT(infinite.logits[0] == 30 && infinite.logits[1] == -30);
    EXPECT(!Run(driver, {NAN, 1, 2}, 3, {{3}}, 30).rows[0].finite);
  });
}

TEST(sums_far_apart_logits) {
  ForSeeds([](Driver& driver) {
    std::vector<float> logits(6000, -200.0f);
    logits[5000] = 300;
    std::vector<float> flat(6000, -1.0e4f);
    logits.insert(logits.end(), flat.begin(), flat.end());
    CheckHead(driver, logits, 6000, {{2}, {2}});
  });
}

TEST(rows_do_not_depend_on_the_step) {
  const int vocabulary = 5000, rows = 33;
  SetSeed(4);
  const std::vector<float> logits = RandomFloats(static_cast<size_t>(rows * vocabulary), 2, 3);
  std::vector<Wanted> wanted(rows);
  for (int r = 0; r < rows; ++r) wanted[static_cast<size_t>(r)] = {1 + r % 5, r % 2, {{r, 2, 1}}, {r}};
  const Got all = Run(TestDriver(), logits, vocabulary, wanted);
  if (all.rows.empty()) return;
  for (const size_t r : {size_t{0}, size_t{32}}) {
    const auto begin = logits.begin() + static_cast<std::ptrdiff_t>(r) * vocabulary;
    const Got alone = Run(TestDriver(), {begin, begin + vocabulary}, vocabulary, {wanted[r]});
    if (alone.rows.empty()) return;
    EXPECT_EQ(alone.rows[0].log_sum_exp, all.rows[r].log_sum_exp);
    EXPECT(Same(alone.rows[0].candidates, all.rows[r].candidates));
  }
  // The last rows as a later piece of the same step.
  const Got piece =
      Run(TestDriver(), {logits.begin() + 31 * vocabulary, logits.end()}, vocabulary, wanted, 0, 31);
  if (piece.rows.empty()) return;
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(piece.rows[i].log_sum_exp, all.rows[31 + i].log_sum_exp);
    EXPECT(Same(piece.rows[i].candidates, all.rows[31 + i].candidates));
    EXPECT(Same(piece.rows[i].raw_top, all.rows[31 + i].raw_top));
    EXPECT(piece.rows[i].targets == all.rows[31 + i].targets);
  }
}

TEST(does_nothing_without_rows) {
  ForSeeds([](Driver& driver) { EXPECT(Run(driver, {1, 2}, 2, {}).rows.empty()); });
}

HARNESS_MAIN()
