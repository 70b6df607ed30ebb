// Specifications of adapters come back as they were, and those of one shape take memory once.
#include "adapter/spec_store.h"

#include <cstddef>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include "harness.h"

namespace {

size_t taken = 0;  // bytes asked for and not given back

constexpr size_t kFront = alignof(std::max_align_t);  // has the size

}  // namespace

[[gnu::noinline]] void* operator new(std::size_t bytes) {
  void* memory = std::malloc(bytes + kFront);
  if (memory == nullptr) throw std::bad_alloc();
  *static_cast<size_t*>(memory) = bytes;
  taken += bytes;
  return static_cast<char*>(memory) + kFront;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  if (memory == nullptr) return;
  void* const whole = static_cast<char*>(memory) - kFront;
  taken -= *static_cast<size_t*>(whole);
  std::free(whole);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { operator delete(memory); }

using namespace tokenmill;

namespace {

AdapterSpec MakeSpec(int number, uint64_t header, int layers = 30, int64_t rank = 16) {
  AdapterSpec spec;
  spec.path = "/models/adapters/adapter-" + std::to_string(number) + "/adapter_model.safetensors";
  spec.names = TargetNames::kModules;
  spec.architecture = number % 2 == 0 ? "llama" : "";
  uint64_t at = header;
  const auto factor = [&](const std::string& target, const char* suffix, int64_t rows, int64_t cols) {
    StoredFactor made{"base_model.model." + target + suffix, DType::kBF16, rows, cols, at, 0};
    made.bytes = static_cast<uint64_t>(2 * rows * cols);
    at += made.bytes;
    return made;
  };
  for (int layer = 0; layer < layers; ++layer) {
    for (const char* module : {"self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj", "mlp.down_proj"}) {
      const std::string target = "model.layers." + std::to_string(layer) + "." + module;
      const StoredFactor b = factor(target, ".lora_B.weight", 576, rank);
      spec.entries.push_back({target, 0.5f, factor(target, ".lora_A.weight", rank, 576), b});
    }
  }
  spec.file_bytes = at;
  return spec;
}

void ExpectSame(const StoredFactor& a, const StoredFactor& b) {
  EXPECT(a.tensor == b.tensor && a.dtype == b.dtype && a.rows == b.rows && a.cols == b.cols &&
         a.offset == b.offset && a.bytes == b.bytes);
}

void ExpectSame(const AdapterSpec& a, const AdapterSpec& b) {
  EXPECT(a.path == b.path && a.file_bytes == b.file_bytes && a.names == b.names &&
         a.architecture == b.architecture);
  EXPECT_EQ(a.entries.size(), b.entries.size());
  for (size_t i = 0; i < a.entries.size() && i < b.entries.size(); ++i) {
    EXPECT(a.entries[i].target == b.entries[i].target && a.entries[i].scale == b.entries[i].scale);
    ExpectSame(a.entries[i].a, b.entries[i].a);
    ExpectSame(a.entries[i].b, b.entries[i].b);
  }
}

}  // namespace

TEST(specifications_come_back_as_they_were) {
  SpecStore store;
  std::vector<AdapterSpec> specs = {MakeSpec(1, 4000), MakeSpec(2, 5000), MakeSpec(3, 4000, 2),
                                    MakeSpec(4, 4000, 30, 8), AdapterSpec{}};
  specs[1].entries[3].scale = 2;
  specs[1].entries[5].a.tensor.clear();
  std::vector<StoredSpec> stored;
  for (const AdapterSpec& spec : specs) stored.push_back(store.Put(spec));
  for (size_t i = 0; i < specs.size(); ++i) ExpectSame(stored[i].Get(), specs[i]);
}

TEST(thousands_of_one_shape_take_some_hundred_bytes_each) {
  constexpr size_t kAdapters = 4000;
  SpecStore store;
  std::vector<StoredSpec> stored;
  stored.reserve(kAdapters);
  stored.push_back(store.Put(MakeSpec(0, 4000)));
  const size_t before = taken;
  for (int i = 1; i < static_cast<int>(kAdapters); ++i)
    stored.push_back(store.Put(MakeSpec(i, 4000 + static_cast<uint64_t>(i))));
  EXPECT((taken - before) / kAdapters < 200);
  ExpectSame(stored.back().Get(), MakeSpec(kAdapters - 1, 4000 + kAdapters - 1));
}

TEST(a_layout_goes_with_the_last_that_has_it) {
  SpecStore store;
  {
    store.Put(MakeSpec(0, 4000));
  }
  const size_t before = taken;
  for (int layers = 1; layers <= 200; ++layers) store.Put(MakeSpec(0, 4000, layers));
  EXPECT(taken < before + 2000);
}

HARNESS_MAIN()
