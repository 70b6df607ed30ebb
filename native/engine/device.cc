#include "engine/device.h"

#include <cstdlib>

#include "core/cpu_features.h"

namespace tokenmill {
namespace {

struct IsaRow {
  const char* name;
  CpuIsa isa;
  const char* needs;
};

// Best first.
constexpr IsaRow kIsas[] = {
    {"avx512", CpuIsa::kAvx512, "AVX-512 (F, BW, VL, DQ, VNNI)"},
    {"avx2", CpuIsa::kAvx2, "AVX2, FMA and F16C"},
    {"reference", CpuIsa::kReference, "nothing"},
};

bool Available(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::kAvx512:
#if defined(TOKENMILL_EMULATE_AVX512)
      return HostCpuFeatures().avx2;
#else
      return HostCpuFeatures().avx512_vnni;
#endif
    case CpuIsa::kAvx2:
      return HostCpuFeatures().avx2;
    case CpuIsa::kReference:
      return true;
  }
  return false;
}

}  // namespace

const char* IsaName(CpuIsa isa) {
  for (const IsaRow& row : kIsas) {
    if (row.isa == isa) return row.name;
  }
  return "reference";
}

std::vector<CpuIsa> AvailableIsas() {
  std::vector<CpuIsa> isas;
  for (const IsaRow& row : kIsas) {
    if (Available(row.isa)) isas.push_back(row.isa);
  }
  return isas;
}

Result<Device> SelectDevice() {
  const char* wanted = std::getenv("TOKENMILL_ISA");
  if (wanted != nullptr && wanted[0] != '\0') {
    for (const IsaRow& row : kIsas) {
      if (std::string(wanted) != row.name) continue;
      if (Available(row.isa)) return Device{row.isa, "TOKENMILL_ISA asks for it"};
      return Error(Code::kDeviceUnavailable,
                   "TOKENMILL_ISA is '%s' but this CPU lacks %s; unset it to use '%s'", wanted, row.needs,
                   Available(CpuIsa::kAvx2) ? "avx2" : "reference");
    }
    return Error(Code::kInvalidArgument, "TOKENMILL_ISA is '%s'; known are avx512, avx2 and reference",
                 wanted);
  }
  for (const IsaRow& row : kIsas) {
    if (!Available(row.isa)) continue;
    if (row.isa == CpuIsa::kReference) {
      return Device{
          row.isa,
          "this CPU has no AVX2: plain f32 loops are used, which are slow and hold the weights in f32"};
    }
    return Device{row.isa, std::string("the best that this CPU has: ") + row.needs};
  }
  return Device{};
}

}  // namespace tokenmill
