// Paged attention against scalar arithmetic in double, over pages whose unseen positions are NaN.

#include <algorithm>
#include <memory>

#include "core/float16.h"
#include "cpu_test_util.h"
#include "harness.h"
#include "kernels/cpu/attention.h"

using namespace tokenmill;
using namespace tokenmill::cpu;
using namespace cpu_test;

namespace {

struct Case {
  int kv_heads, group, dim, window, length;
  float softcap;
  KvType type = KvType::kF16;
};

// One sequence with random keys and values at positions 0 … length - 1 and random queries for each.
class Sequence {
 public:
  explicit Sequence(const Case& c) : c_(c) {
    program_.kv_groups.push_back({c.window, 1});
    program_.kv_layers.push_back({0, 0, c.kv_heads * c.group, c.kv_heads, c.dim});
    kv_ = std::make_unique<KvCache>(program_, c.type);
    const int count = (c.length + kPageTokens - 1) / kPageTokens;
    EXPECT(kv_->AddSlab(0, 0, count / 2 + 1).ok() && kv_->AddSlab(0, 1, count / 2 + 1).ok());
    for (int i = 0; i < count; ++i) pages_.push_back(count - 1 - i);
    Fill();
    queries_ = RandomFloats(static_cast<size_t>(c.length * width()), 3);
  }

  int width() const { return c_.kv_heads * c_.group * c_.dim; }

  // Output rows of positions first … first + rows - 1, worked off by `threads` in turn.
  std::vector<float> Run(const CpuKernels& kernels, int first, int rows, int threads) {
    AttentionPlan plan({0, c_.window, c_.kv_heads * c_.group, c_.kv_heads, c_.dim}, threads);
    EXPECT(plan.Allocate().ok());
    std::vector<AttentionScratch> scratch(1);
    EXPECT(scratch[0].Allocate(plan.queries_max(), plan.shape().padded_dim()).ok());
    std::vector<float> q(queries_.begin() + first * width(), queries_.begin() + (first + rows) * width());
    std::vector<float> out(q.size(), -1);
    std::vector<ActivationBlock> blocks(out.size() / kBlock + 1);
    StepState state;
    state.kernels = &kernels;
    state.program = &program_;
    state.kv = kv_.get();
    state.threads = threads;
    state.rows = rows;
    for (int i = 0; i < rows; ++i) state.sequence_of.push_back(0), state.position_of.push_back(first + i);
    const StepSequence sequence = {0, rows, first, {pages_.data()}};
    const std::vector<int32_t> tokens(static_cast<size_t>(rows));
    const StepInput input = {tokens, {&sequence, 1}, {}, nullptr};
    state.input = &input;
    plan.Prepare(input);
    const bool aligned = Attention::RoundsItself(program_.kv_layers[0]);
    const PagedAttention op = {0, 1, 0, scale(), c_.softcap};
    const Attention attention(&state, &plan, &scratch, op, {width(), q.data(), nullptr},
                              {width(), out.data(), aligned ? blocks.data() : nullptr});
    // Another layer goes before: what it leaves behind must not show.
    for (int layer = 0; layer < 2; ++layer) {
      if (layer == 0) std::fill(q.begin(), q.end(), 0.25f);
      else std::copy_n(queries_.begin() + first * width(), q.size(), q.begin());
      for (int task = attention.Tasks() - 1; task >= 0; --task) attention.Run(task, 0);
    }
    if (aligned) CheckBlocks(kernels, out, blocks);
    return out;
  }

  std::vector<float> Expected(int first, int rows) const {
    std::vector<float> out;
    for (int row = first; row < first + rows; ++row) {
      for (int head = 0; head < c_.kv_heads * c_.group; ++head) {
        const std::vector<double> values = ExpectedHead(row, head);
        out.insert(out.end(), values.begin(), values.end());
      }
    }
    return out;
  }

 private:
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(c_.dim)); }
  size_t KeyAt(int position, int kv_head, int d) const {
    return static_cast<size_t>((position * c_.kv_heads + kv_head) * c_.dim + d);
  }

  void Fill() {
    std::vector<float> k = RandomFloats(static_cast<size_t>(c_.length * c_.kv_heads * c_.dim), 1);
    std::vector<float> v = RandomFloats(k.size(), 2);
    for (const int32_t page : pages_) {
      for (int head = 0; head < c_.kv_heads; ++head) {
        uint16_t* keys = reinterpret_cast<uint16_t*>(kv_->Head(0, head, page).keys);
        const size_t head_bytes = kv_->page_bytes(0) / static_cast<size_t>(c_.kv_heads);
        std::fill_n(keys, head_bytes / 2, 0x7fff);  // NaN, also of two as one float
      }
    }
    for (int p = 0; p < c_.length; ++p) {
      for (int head = 0; head < c_.kv_heads; ++head) {
        const KvHead to = kv_->Head(0, head, pages_[static_cast<size_t>(p / kPageTokens)]);
        float* key = &k[KeyAt(p, head, 0)];
        float* value = &v[KeyAt(p, head, 0)];
        if (c_.type == KvType::kF16) PutHalves(to, p % kPageTokens, key, value);
        else PutInt8(to, p % kPageTokens, key, value);
      }
    }
    keys_ = k;
    values_ = v;
  }

  // Writes a token's key and value to its slot, and rounds both as they are stored.
  void PutHalves(const KvHead& to, int slot, float* key, float* value) const {
    uint16_t* keys = reinterpret_cast<uint16_t*>(to.keys);
    uint16_t* values = reinterpret_cast<uint16_t*>(to.values) + slot * KvCache::PaddedDim(c_.dim);
    for (int d = 0; d < c_.dim; ++d) {
      keys[d * kPageTokens + slot] = F32ToF16(key[d]);
      values[d] = F32ToF16(value[d]);
      key[d] = F16ToF32(F32ToF16(key[d]));
      value[d] = F16ToF32(F32ToF16(value[d]));
    }
  }

  void PutInt8(const KvHead& to, int slot, float* key, float* value) const {
    int8_t* keys = reinterpret_cast<int8_t*>(to.keys);
    int8_t* values = reinterpret_cast<int8_t*>(to.values) + slot * KvCache::PaddedDim(c_.dim);
    to.key_scales[slot] = 0.01f * static_cast<float>(slot + 1);
    to.value_scales[slot] = 0.02f / static_cast<float>(slot + 1);
    for (int d = 0; d < c_.dim; ++d) {
      keys[d * kPageTokens + slot] = static_cast<int8_t>(std::lround(key[d] * 20));
      values[d] = static_cast<int8_t>(std::lround(value[d] * 20));
      key[d] = static_cast<float>(keys[d * kPageTokens + slot]) * to.key_scales[slot];
      value[d] = static_cast<float>(values[d]) * to.value_scales[slot];
    }
  }

  std::vector<double> ExpectedHead(int row, int head) const {
    const float* q = queries_.data() + row * width() + head * c_.dim;
    const int kv_head = head / c_.group;
    const int first = c_.window > 0 ? std::max(0, row - c_.window + 1) : 0;
    std::vector<double> weights;
    for (int p = first; p <= row; ++p) {
      double score = 0;
      for (int d = 0; d < c_.dim; ++d) score += static_cast<double>(q[d]) * keys_[KeyAt(p, kv_head, d)];
      score *= scale();
      if (c_.softcap > 0) score = c_.softcap * std::tanh(score / c_.softcap);
      weights.push_back(score);
    }
    const double max = *std::max_element(weights.begin(), weights.end());
    double sum = 0;
    for (double& weight : weights) sum += weight = std::exp(weight - max);
    std::vector<double> out(static_cast<size_t>(c_.dim));
    for (int p = first; p <= row; ++p) {
      for (int d = 0; d < c_.dim; ++d) {
        out[static_cast<size_t>(d)] +=
            weights[static_cast<size_t>(p - first)] / sum * values_[KeyAt(p, kv_head, d)];
      }
    }
    return out;
  }

  void CheckBlocks(const CpuKernels& kernels, const std::vector<float>& out,
                   const std::vector<ActivationBlock>& got) {
    std::vector<ActivationBlock> want(out.size() / kBlock);
    kernels.quantize(out.data(), static_cast<int>(out.size()), want.data());
    EXPECT(std::memcmp(want.data(), got.data(), want.size() * sizeof(ActivationBlock)) == 0);
  }

  const Case c_;
  Program program_;
  std::unique_ptr<KvCache> kv_;
  std::vector<int32_t> pages_;
  std::vector<float> keys_, values_, queries_;
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (int group : {1, 3, 4, 8}) {
    for (int dim : {16, 32, 64, 80, 96, 128, 256}) cases.push_back({2, group, dim, 0, 37, 0});
  }
  for (int window : {1, 20, 256, 300}) {
    for (int length : {1, 15, 300, 700})
      cases.push_back({1, 3, 64, window, length, window == 20 ? 5.0f : 0.0f});
  }
  cases.push_back({3, 3, 64, 0, 1100, 0});
  cases.push_back({1, 4, 20, 0, 300, 30});
  cases.push_back({1, 40, 16, 0, 280, 0});  // more heads than a task usually has queries
  if (harness::Short()) std::erase_if(cases, [](const Case& c) { return c.length > 300; });
  for (size_t i = 0, count = cases.size(); i < count; ++i) {
    cases.push_back(cases[i]);
    cases.back().type = KvType::kInt8;
  }
  return cases;
}

}  // namespace

TEST(AgreesWithScalarArithmetic) {
  for (const CpuKernels* kernels : AllKernels()) {
    for (const Case& c : Cases()) {
      Sequence sequence(c);
      const std::vector<float> got = sequence.Run(*kernels, 0, c.length, 2),
                               want = sequence.Expected(0, c.length);
      const double nmse = Nmse(got.data(), want.data(), got.size());
      if (!(nmse <= 1e-11)) {
        std::printf("    group %d dim %d window %d length %d: %.2e\n", c.group, c.dim, c.window, c.length,
                    nmse);
      }
      EXPECT(nmse <= 1e-11);
    }
  }
}

TEST(ChunksAndSplitsDoNotShow) {
  for (const CpuKernels* kernels : AllKernels()) {
    for (const Case& c : Cases()) {
      if (c.length < 200) continue;
      Sequence sequence(c);
      const size_t width = static_cast<size_t>(sequence.width());
      const std::vector<float> whole = sequence.Run(*kernels, 0, c.length, 1);
      for (int rows : {1, 5, 16, 100}) {
        for (int threads : {1, 4}) {
          for (int first = 0; first < c.length; first += std::max(rows, c.length / 6)) {
            const int count = std::min(rows, c.length - first);
            const std::vector<float> part = sequence.Run(*kernels, first, count, threads);
            EXPECT(SameBits(part.data(), whole.data() + static_cast<size_t>(first) * width, part.size()));
          }
        }
      }
    }
  }
}

TEST(IsasGiveTheSameBits) {
  for (const Case& c : Cases()) {
    Sequence sequence(c);
    std::vector<float> first;
    for (const CpuKernels* kernels : AllKernels()) {
      const std::vector<float> got = sequence.Run(*kernels, 0, c.length, 2);
      if (first.empty()) first = got;
      EXPECT(SameBits(got.data(), first.data(), first.size()));
    }
  }
}

HARNESS_MAIN()
