#include "engine/device.h"

#include <cstdlib>
#include <iterator>

namespace tokenmill {
namespace {

struct IsaRow {
  const char* name;
  CpuIsa isa;
  const char* needs;
};

// Best first.
constexpr IsaRow kIsas[] = {
    {"neon-i8mm", CpuIsa::kNeonI8mm, "Arm's products of int8 vectors and matrices (dotprod, i8mm)"},
    {"neon", CpuIsa::kNeon, "Arm's products of int8 vectors (dotprod)"},
    {"avx512bf16", CpuIsa::kAvx512Bf16, "AVX-512 (F, BW, VL, DQ, VNNI, BF16)"},
    {"avx512", CpuIsa::kAvx512, "AVX-512 (F, BW, VL, DQ, VNNI)"},
    {"avxvnni", CpuIsa::kAvxVnni, "AVX2, FMA, F16C and AVX-VNNI"},
    {"avx2", CpuIsa::kAvx2, "AVX2, FMA and F16C"},
    {"reference", CpuIsa::kReference, "nothing"},
};

// "avx512, avx2 and reference"
std::string KnownNames() {
  std::string names;
  for (const IsaRow& row : kIsas) {
    const bool first = &row == std::begin(kIsas), last = &row == std::end(kIsas) - 1;
    names += (first ? "" : last ? " and " : ", ") + std::string(row.name);
  }
  return names;
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
    if (HasCpuIsa(row.isa)) isas.push_back(row.isa);
  }
  return isas;
}

Result<Device> SelectDevice() {
  const char* wanted = std::getenv("TOKENMILL_ISA");
  if (wanted != nullptr && wanted[0] != '\0') {
    for (const IsaRow& row : kIsas) {
      if (std::string(wanted) != row.name) continue;
      if (HasCpuIsa(row.isa)) return Device{row.isa, "TOKENMILL_ISA asks for it"};
      return Error(Code::kDeviceUnavailable,
                   "TOKENMILL_ISA is '%s' but this CPU lacks %s; unset it to use '%s'", wanted, row.needs,
                   IsaName(AvailableIsas().front()));
    }
    return Error(Code::kInvalidArgument, "TOKENMILL_ISA is '%s'; known are %s", wanted, KnownNames().c_str());
  }
  for (const IsaRow& row : kIsas) {
    if (!HasCpuIsa(row.isa)) continue;
    if (row.isa == CpuIsa::kReference) {
      return Device{row.isa,
                    "this CPU has neither AVX2 nor Arm's dotprod: plain f32 loops are used, which are slow "
                    "and hold the weights in f32"};
    }
    return Device{row.isa, std::string("the best that this CPU has: ") + row.needs};
  }
  return Device{};
}

}  // namespace tokenmill
