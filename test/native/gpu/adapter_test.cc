#include "kernels/cuda/adapter.h"

#include <map>

#include "gpu_test.h"
#include "row_forms.h"

using namespace gpu_test;
using tokenmill::cuda::AdapterGroup;
using tokenmill::cuda::AdapterMatrix;
using tokenmill::cuda::AdapterParams;
using tokenmill::cuda::AdapterTarget;
using tokenmill::cuda::FactorType;
using tokenmill::cuda::kAdapterGroupRows;
using tokenmill::cuda::LaunchAdapter;

namespace {

// Factors in device memory and as the doubles that they stand for; rank 0: the adapter does not have the
// matrix.
struct Factors {
  int rank = 0;
  float scale = 1;
  std::vector<float> a, b;
  std::vector<DeviceBuffer<uint8_t>> device;
  AdapterMatrix matrix = {};
};

DeviceBuffer<uint8_t> Store(Driver& driver, FactorType type, std::vector<float>* values) {
  std::vector<uint8_t> bytes;
  for (float& value : *values) {
    uint32_t bits = tokenmill::BitsOfF32(value);
    if (type == FactorType::kF16) bits = tokenmill::F32ToF16(value);
    if (type == FactorType::kBF16) bits = tokenmill::F32ToBf16(value);
    if (type == FactorType::kF16) value = tokenmill::F16ToF32(static_cast<uint16_t>(bits));
    if (type == FactorType::kBF16) value = tokenmill::Bf16ToF32(static_cast<uint16_t>(bits));
    for (int i = 0; i < (type == FactorType::kF32 ? 4 : 2); ++i)
      bytes.push_back(static_cast<uint8_t>(bits >> 8 * i));
  }
  return DeviceBuffer<uint8_t>(driver, bytes);
}

Factors MakeFactors(Driver& driver, int rank, FactorType type, int width, int features, uint32_t seed) {
  Factors factors;
  if (rank == 0) return factors;
  factors.rank = rank;
  factors.scale = 0.5f + static_cast<float>(seed % 5);
  factors.a = RandomFloats(static_cast<size_t>(rank * width), seed * 2 + 1, 0.1f);
  factors.b = RandomFloats(static_cast<size_t>(features * rank), seed * 2 + 2, 0.1f);
  factors.device.push_back(Store(driver, type, &factors.a));
  factors.device.push_back(Store(driver, type, &factors.b));
  factors.matrix = {factors.device[0].data(), factors.device[1].data(), rank, type, factors.scale, 0};
  return factors;
}

struct Use {
  int adapter;
  float scale;
};
using Uses = std::vector<std::vector<Use>>;  // of each row, in the order in which they are added

// Groups as the host makes them: level after level, rows of the same adapter and scale together, at most 8 a
// group.
struct Plan {
  std::vector<int32_t> level_groups = {0}, row_list;
  std::vector<AdapterGroup> groups;
};

Plan PlanOf(const Uses& uses, int levels) {
  Plan plan;
  for (size_t level = 0; level < static_cast<size_t>(levels); ++level) {
    std::map<std::pair<int, float>, std::vector<int32_t>> rows;
    for (size_t r = 0; r < uses.size(); ++r) {
      if (level < uses[r].size())
        rows[{uses[r][level].adapter, uses[r][level].scale}].push_back(static_cast<int32_t>(r));
    }
    for (const auto& [use, list] : rows) {
      for (size_t i = 0; i < list.size(); i += kAdapterGroupRows) {
        const size_t count = std::min<size_t>(kAdapterGroupRows, list.size() - i);
        plan.groups.push_back(
            {use.first, static_cast<int32_t>(plan.row_list.size()), static_cast<int32_t>(count), use.second});
        plan.row_list.insert(plan.row_list.end(), list.begin() + static_cast<std::ptrdiff_t>(i),
                             list.begin() + static_cast<std::ptrdiff_t>(i + count));
      }
    }
    plan.level_groups.push_back(static_cast<int32_t>(plan.groups.size()));
  }
  return plan;
}

struct Shape {
  int width;
  std::vector<int> features;                // of each target
  std::vector<std::vector<int>> ranks;      // [adapter][target]
  FactorType type;
};

using Outputs = std::vector<std::vector<float>>;  // of each target

/// What is in `outs` afterwards; nothing when a fault was found.
Outputs Run(Driver& driver, const Shape& shape, const std::vector<std::vector<Factors>>& adapters,
            const Uses& uses, const std::vector<float>& in, const Outputs& outs) {
  const int levels = 3;
  const Plan plan = PlanOf(uses, levels);
  // One element more, so that empty lists have memory too; never read.
  DeviceBuffer<int32_t> level_groups(driver, plan.level_groups), row_list(driver, plan.row_list.size() + 1);
  DeviceBuffer<AdapterGroup> groups(driver, plan.groups.size() + 1);
  row_list.Upload(plan.row_list);
  groups.Upload(plan.groups);
  DeviceBuffer<float> device_in(driver, in);
  const int list_max = static_cast<int>(plan.row_list.size()) + 3;
  DeviceBuffer<uint8_t> inner(driver, tokenmill::cuda::AdapterScratchBytes(list_max));
  std::vector<DeviceBuffer<float>> device_outs;
  std::vector<DeviceBuffer<AdapterMatrix>> tables;
  AdapterParams params = {};
  params.level_groups = level_groups.data();
  params.groups = groups.data();
  params.row_list = row_list.data();
  params.in = device_in.data();
  params.inner = reinterpret_cast<float*>(inner.data());
  params.target_count = static_cast<int32_t>(shape.features.size());
  params.width = shape.width;
  params.list_max = list_max;
  params.levels = levels;
  int rank_max = 1;
  for (size_t t = 0; t < shape.features.size(); ++t) {
    std::vector<AdapterMatrix> table;
    for (const auto& adapter : adapters) {
      table.push_back(adapter[t].matrix);
      rank_max = std::max(rank_max, adapter[t].rank);
    }
    device_outs.emplace_back(driver, outs[t]);
    tables.emplace_back(driver, table);
    params.targets[t] = {tables[t].data(), device_outs[t].data(), shape.features[t], 0};
  }
  const int groups_max = static_cast<int>(plan.groups.size()) + 2;
  if (!GPU_OK(driver, LaunchAdapter(driver, params, groups_max, groups_max, rank_max))) return {};
  Outputs results;
  for (const auto& out : device_outs) results.push_back(out.Download());
  return results;
}

std::vector<std::vector<Factors>> MakeAdapters(Driver& driver, const Shape& shape) {
  std::vector<std::vector<Factors>> adapters;
  for (size_t i = 0; i < shape.ranks.size(); ++i) {
    adapters.emplace_back();
    for (size_t t = 0; t < shape.features.size(); ++t) {
      adapters[i].push_back(MakeFactors(driver, shape.ranks[i][t], shape.type, shape.width, shape.features[t],
                                        static_cast<uint32_t>(10 * i + t)));
    }
  }
  return adapters;
}

std::vector<double> Expected(const Shape& shape, size_t target,
                             const std::vector<std::vector<Factors>>& adapters, const Uses& uses,
                             const std::vector<float>& in, const std::vector<float>& out) {
  std::vector<double> result(out.begin(), out.end());
  const size_t width = static_cast<size_t>(shape.width),
               features = static_cast<size_t>(shape.features[target]);
  for (size_t r = 0; r < uses.size(); ++r) {
    for (const Use& use : uses[r]) {
      const Factors& factors = adapters[static_cast<size_t>(use.adapter)][target];
      for (size_t j = 0; j < static_cast<size_t>(factors.rank); ++j) {
        double sum = 0;
        for (size_t k = 0; k < width; ++k)
          sum += static_cast<double>(factors.a[j * width + k]) * in[r * width + k];
        sum *= static_cast<double>(use.scale) * factors.scale;
        for (size_t o = 0; o < features; ++o)
          result[r * features + o] += sum * factors.b[o * static_cast<size_t>(factors.rank) + j];
      }
    }
  }
  return result;
}

void CheckAdapters(Driver& driver, const Shape& shape, const Uses& uses) {
  const std::vector<std::vector<Factors>> adapters = MakeAdapters(driver, shape);
  const std::vector<float> in = RandomFloats(uses.size() * static_cast<size_t>(shape.width), 91);
  Outputs outs;
  for (const int features : shape.features)
    outs.push_back(RandomFloats(uses.size() * static_cast<size_t>(features), 92));
  const Outputs got = Run(driver, shape, adapters, uses, in, outs);
  if (got.empty()) return;
  for (size_t t = 0; t < got.size(); ++t) {
    EXPECT_LE(Nmse(got[t], Expected(shape, t, adapters, uses, in, outs[t])), 1e-12);
    const size_t features = static_cast<size_t>(shape.features[t]);
    for (size_t r = 0; r < uses.size(); ++r) {
      bool used = false;
      for (const Use& use : uses[r]) used = used || adapters[static_cast<size_t>(use.adapter)][t].rank > 0;
      if (used) continue;
      for (size_t o = r * features; o < (r + 1) * features; ++o) EXPECT(got[t][o] == outs[t][o]);
    }
  }
}

// Rows of no adapter, of one and of several, in no order.
Uses MixedUses(int rows, int adapters) {
  Uses uses;
  for (int r = 0; r < rows; ++r) {
    uses.emplace_back();
    for (int level = 0; level < r % 4; ++level)
      uses.back().push_back({(r + level * 2 + r / 4) % adapters, r % 3 == 0 ? 1.0f : 0.25f});
  }
  return uses;
}

constexpr FactorType kTypes[] = {FactorType::kF32, FactorType::kF16, FactorType::kBF16};

}  // namespace

TEST(adds_adapters_of_mixed_ranks) {
  ForSeeds([](Driver& driver) {
    for (const FactorType type : kTypes) {
      CheckAdapters(driver, {64, {100, 32}, {{1, 16}, {3, 0}, {8, 4}, {0, 5}}, type}, MixedUses(13, 4));
    }
  });
}

TEST(takes_any_width_and_rank) {
  for (const FactorType type : kTypes) {
    CheckAdapters(TestDriver(), {100, {130}, {{256}}, type}, {{{0, 2}}, {}, {{0, 2}}});
    CheckAdapters(TestDriver(), {31, {7}, {{6}}, type}, {{{0, 2}}});
    CheckAdapters(TestDriver(), {2052, {128, 64, 64}, {{16, 8, 5}}, type}, {{}, {{0, 1}}});
  }
}

TEST(cuts_many_rows_into_groups) {
  Uses uses(33, std::vector<Use>{{0, 0.5f}});
  for (size_t r = 20; r < 33; ++r) uses[r].push_back({1, 1});
  CheckAdapters(TestDriver(), {96, {64}, {{4}, {7}}, FactorType::kF16}, uses);
}

TEST(rows_do_not_depend_on_the_step) {
  ForSeeds([](Driver& driver) {
    const Shape shape = {160, {48}, {{5}, {16}}, FactorType::kF16};
    const std::vector<std::vector<Factors>> adapters = MakeAdapters(driver, shape);
    Uses uses(11, std::vector<Use>{{0, 0.5f}, {1, 3}});
    uses[4] = {{1, 3}, {0, 0.5f}};
    const std::vector<float> in = RandomFloats(11 * 160, 1), out = RandomFloats(11 * 48, 2);
    const Outputs all = Run(driver, shape, adapters, uses, in, {out});
    if (all.empty()) return;
    for (const int r : {0, 4, 10}) {
      const Outputs alone = Run(driver, shape, adapters, {uses[static_cast<size_t>(r)]},
                                {in.begin() + r * 160, in.begin() + (r + 1) * 160},
                                {{out.begin() + r * 48, out.begin() + (r + 1) * 48}});
      if (alone.empty()) return;
      EXPECT(alone[0] == std::vector<float>(all[0].begin() + r * 48, all[0].begin() + (r + 1) * 48));
    }
  });
}

TEST(does_nothing_without_adapters) {
  ForSeeds([](Driver& driver) { CheckAdapters(driver, {64, {32}, {{4}}, FactorType::kF16}, {{}, {}}); });
}

HARNESS_MAIN()
