// The choice of an instruction set.

#include "engine/device.h"

#include <algorithm>
#include <cstdlib>

#include "harness.h"
#include "kernels/cpu/select_kernels.h"

using namespace tokenmill;

namespace {

Result<Device> Select(const char* wanted) {
  setenv("TOKENMILL_ISA", wanted, 1);
  auto device = SelectDevice();
  unsetenv("TOKENMILL_ISA");
  return device;
}

constexpr CpuIsa kAll[] = {CpuIsa::kReference,  CpuIsa::kAvx2, CpuIsa::kAvxVnni, CpuIsa::kAvx512,
                           CpuIsa::kAvx512Bf16, CpuIsa::kNeon, CpuIsa::kNeonI8mm};

}  // namespace

TEST(WithoutAWishTheBestIsTaken) {
  const auto device = Select("");
  EXPECT(device.ok() && device.value().isa == AvailableIsas().front());
  std::printf("    %s: %s\n", IsaName(device.value().isa), device.value().reason.c_str());
}

TEST(TheReferenceIsAlwaysThereAndLast) {
  EXPECT(AvailableIsas().back() == CpuIsa::kReference);
  EXPECT(Select("reference").ok());
}

TEST(WhatIsAvailableHasKernelsAndCanBeForced) {
  const std::vector<CpuIsa> available = AvailableIsas();
  for (const CpuIsa isa : kAll) {
    const bool has = std::find(available.begin(), available.end(), isa) != available.end();
    EXPECT_EQ(HasCpuIsa(isa), has);
    EXPECT_EQ(cpu::SelectKernels(isa) != nullptr, has && isa != CpuIsa::kReference);
    if (isa != CpuIsa::kReference && has) EXPECT_EQ(std::string(cpu::SelectKernels(isa)->name), IsaName(isa));
    const auto device = Select(IsaName(isa));
    if (has) EXPECT(device.ok() && device.value().isa == isa);
    else EXPECT(!device.ok() && device.status().code() == Code::kDeviceUnavailable);
  }
}

TEST(AnUnknownNameIsRefusedWithTheKnownOnes) {
  const auto device = Select("sse");
  EXPECT(!device.ok() && device.status().code() == Code::kInvalidArgument);
  for (const CpuIsa isa : kAll) {
    EXPECT(device.status().message().find(IsaName(isa)) != std::string::npos);
  }
}

HARNESS_MAIN()
