#include <cstdint>
#include <vector>

#include "core/float16.h"
#include "gpu_test.h"
#include "kernels/cuda/ptxcheck/ptx_convert.h"

// Instructions of PTX as the translator carries them out, against the results that the PTX ISA asks for.
// generated: ptx-semantics.mjs
// backends: emu ptx

using namespace gpu_test;

namespace {

constexpr size_t kSlots = 8;

struct Case {
  const char* instruction;
  std::vector<uint64_t> inputs, results;
};

const std::vector<Case> kCases = {
#include "ptx_semantics.inc"
};

struct Params {
  const uint64_t* in;
  uint64_t* out;
};

}  // namespace

TEST(instructions_give_what_the_isa_says) {
  tokenmill::cuda::EmuOptions options;
  options.target = "sm_80";
  const auto driver = tokenmill::cuda::CreateEmuDriver(options);
  std::vector<uint64_t> inputs(kCases.size() * kSlots);
  for (size_t i = 0; i < kCases.size(); ++i) {
    for (size_t at = 0; at < kCases[i].inputs.size(); ++at) inputs[i * kSlots + at] = kCases[i].inputs[at];
  }
  DeviceBuffer<uint64_t> in(*driver, inputs), out(*driver, inputs);
  if (!GPU_OK(*driver, driver->Launch("ptx_semantics", {.threads = 32}, Params{in.data(), out.data()}))) return;
  const std::vector<uint64_t> got = out.Download();
  for (size_t i = 0; i < kCases.size(); ++i) {
    for (size_t at = 0; at < kCases[i].results.size(); ++at) {
      const uint64_t expected = kCases[i].results[at], found = got[i * kSlots + at];
      if (found == expected) continue;
      harness::Fail(__FILE__, __LINE__,
                    tokenmill::Format("%s: %llx, not %llx", kCases[i].instruction,
                                      static_cast<unsigned long long>(found),
                                      static_cast<unsigned long long>(expected)));
    }
  }
}

TEST(sixteen_bit_floats_agree_with_the_librarys) {
  namespace ptx = tokenmill::cuda::ptx;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float expected = tokenmill::F16ToF32(half), found = static_cast<float>(ptx::DecodeHalf<ptx::f16>(half));
    EXPECT(std::isnan(expected) ? std::isnan(found) : expected == found);
    if (std::isnan(expected)) continue;
    // Around each value: itself, the middle to the next one, and that middle's neighbours.
    const float next = tokenmill::F16ToF32(static_cast<uint16_t>(half + 1));
    const float middle = std::isfinite(next) ? expected / 2 + next / 2 : expected;
    for (float x : {expected, middle, std::nextafter(middle, -INFINITY), std::nextafter(middle, INFINITY)}) {
      EXPECT_EQ((ptx::Convert<ptx::f16, ptx::f32, ptx::kRn>(std::bit_cast<uint32_t>(x))), tokenmill::F32ToF16(x));
    }
  }
}

HARNESS_MAIN()
