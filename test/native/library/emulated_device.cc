// The backend for NVIDIA GPUs on emulated ones: a library that runs its kernels on the CPU, for tests of the whole
// engine. TOKENMILL_EMULATED_DEVICES says how many there are (1), GPU_SEED which schedule their threads have.

#include <cstdlib>

#include "kernels/cuda/emu/emu_driver.h"
#include "kernels/cuda/executor.h"
#include "ops/backend_server.h"

namespace tokenmill::cuda {
namespace {

long NumberOf(const char* name, long fallback) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != 0 ? std::strtol(value, nullptr, 10) : fallback;
}

EmuOptions OptionsOf(int device) {
  EmuOptions options;
  options.device = device;
  options.seed = static_cast<uint64_t>(NumberOf("GPU_SEED", 1));
  return options;
}

class EmulatedLibrary final : public BackendLibrary {
 public:
  Result<std::vector<BackendDevice>> Devices() override {
    std::vector<BackendDevice> devices;
    for (int index = 0; index < NumberOf("TOKENMILL_EMULATED_DEVICES", 1); ++index) {
      const EmuOptions options = OptionsOf(index);
      devices.push_back({"Emulated GPU", "", index, options.major, options.minor, options.multiprocessors,
                         options.memory_bytes});
    }
    return devices;
  }

  Result<std::unique_ptr<Executor>> Compile(const Program& program, std::span<const int> devices,
                                            const CompileOptions& options) override {
    std::vector<std::shared_ptr<Driver>> drivers;
    for (const int device : devices) drivers.push_back(CreateEmuDriver(OptionsOf(device)));
    return CompileCuda(program, drivers, options);
  }
};

}  // namespace
}  // namespace tokenmill::cuda

extern "C" __attribute__((visibility("default"))) const TmBackend* tokenmill_backend(uint32_t version) {
  return tokenmill::ServeBackend(
      version, []() -> tokenmill::BackendLibrary* { return new tokenmill::cuda::EmulatedLibrary(); });
}
