#include "engine/device.h"

#include <cstdlib>
#include <iterator>
#include <utility>

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

Device Cpu(CpuIsa isa, std::string reason) {
  Device device;
  device.isa = isa;
  device.reason = std::move(reason);
  return device;
}

const char* WantedIsa() {
  const char* wanted = std::getenv("TOKENMILL_ISA");
  return wanted != nullptr && wanted[0] != '\0' ? wanted : nullptr;
}

// "cuda:0, NVIDIA A100: problem; cuda:1, …"
std::string Describe(const std::vector<BackendDevice>& gpus) {
  std::string text;
  for (const BackendDevice& gpu : gpus) {
    text += (text.empty() ? "" : "; ") + Format("cuda:%d, %s", gpu.index, gpu.name.c_str());
    if (!gpu.problem.empty()) text += ": " + gpu.problem;
  }
  return text;
}

// Those of all that can be used and are wanted.
Result<std::vector<BackendDevice>> Usable(const std::vector<BackendDevice>& all, int index) {
  std::vector<BackendDevice> usable;
  for (const BackendDevice& gpu : all) {
    if (gpu.problem.empty() && (index < 0 || gpu.index == index)) usable.push_back(gpu);
  }
  if (!usable.empty()) return usable;
  const std::string found = all.empty() ? "there is none" : "found: " + Describe(all);
  if (index >= 0) return Error(Code::kDeviceUnavailable, "GPU %d cannot be used; %s", index, found.c_str());
  return Error(Code::kDeviceUnavailable, "no GPU can be used; %s", found.c_str());
}

Result<Device> SelectGpu(const DeviceOptions& options) {
  Device device;
  TM_ASSIGN_OR_RETURN(device.backend, Backend::Open(options.library));
  TM_ASSIGN_OR_RETURN(const std::vector<BackendDevice> all, device.backend->Devices());
  TM_ASSIGN_OR_RETURN(device.gpus, Usable(all, options.index));
  device.reason = options.kind == DeviceOptions::Kind::kCuda ? "device asks for it" : "a GPU is there";
  if (device.gpus.size() > 1) device.reason += "; layers may lie on several: " + Describe(device.gpus);
  return device;
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
  if (const char* wanted = WantedIsa()) {
    for (const IsaRow& row : kIsas) {
      if (std::string(wanted) != row.name) continue;
      if (HasCpuIsa(row.isa)) return Cpu(row.isa, "TOKENMILL_ISA asks for it");
      return Error(Code::kDeviceUnavailable,
                   "TOKENMILL_ISA is '%s' but this CPU lacks %s; unset it to use '%s'", wanted, row.needs,
                   IsaName(AvailableIsas().front()));
    }
    return Error(Code::kInvalidArgument, "TOKENMILL_ISA is '%s'; known are %s", wanted, KnownNames().c_str());
  }
  for (const IsaRow& row : kIsas) {
    if (!HasCpuIsa(row.isa)) continue;
    if (row.isa == CpuIsa::kReference) {
      return Cpu(row.isa,
                 "this CPU has neither AVX2 nor Arm's dotprod: plain f32 loops are used, which are slow "
                 "and hold the weights in f32");
    }
    return Cpu(row.isa, std::string("the best that this CPU has: ") + row.needs);
  }
  return Device{};
}

Result<Device> InsteadOfGpu(std::string problem) {
  TM_ASSIGN_OR_RETURN(Device device, SelectDevice());
  device.problem = std::move(problem);
  return device;
}

Result<Device> SelectDevice(const DeviceOptions& options) {
  if (options.kind == DeviceOptions::Kind::kCpu) return SelectDevice();
  const bool may_choose = options.kind == DeviceOptions::Kind::kAuto;
  if (may_choose && WantedIsa() != nullptr) return InsteadOfGpu("TOKENMILL_ISA asks for the CPU");
  Result<Device> gpu = SelectGpu(options);
  if (gpu.ok()) return gpu;
  const Status status = gpu.status();
  if (may_choose) return InsteadOfGpu(status.message());
  return Error(status.code(), "device \"cuda\" was asked for but %s. Mend that, or load with device \"cpu\"",
               status.message().c_str());
}

Result<std::unique_ptr<Executor>> CompileOn(const Device& device, const Program& program,
                                            const CompileOptions& options) {
  if (!device.gpus.empty()) {
    std::vector<int> indices;
    for (const BackendDevice& gpu : device.gpus) indices.push_back(gpu.index);
    return device.backend->Compile(program, indices, options);
  }
  return device.isa == CpuIsa::kReference ? CompileReference(program, options)
                                          : CompileCpu(program, device.isa, options);
}

}  // namespace tokenmill
