// A backend's library around the reference executor, which poses as GPUs: what the tests of the table and of the
// device option load. TOKENMILL_TEST_DEVICE makes it fail: "none" is a machine without a driver, "old" has a device
// that is no use, "version" is a library of another version, "two" has two devices, "small" one with little memory.

#include <cstdlib>
#include <string_view>

#include "ops/backend_server.h"

namespace tokenmill {
namespace {

constexpr uint64_t kMemoryBytes = uint64_t{8} << 30, kSmallMemoryBytes = uint64_t{64} << 10;

bool Is(std::string_view mode) {
  const char* value = std::getenv("TOKENMILL_TEST_DEVICE");
  return value != nullptr && mode == value;
}

uint64_t MemoryBytes() { return Is("small") ? kSmallMemoryBytes : kMemoryBytes; }

// The reference executor with the device's memory in the place of the system's.
class DeviceExecutor final : public Executor {
 public:
  explicit DeviceExecutor(std::unique_ptr<Executor> inner) : inner_(std::move(inner)) {}

  Status LoadWeights(const WeightSource& source) override { return inner_->LoadWeights(source); }
  Result<std::unique_ptr<Executor>> Twin(int max_rows) const override {
    TM_ASSIGN_OR_RETURN(std::unique_ptr<Executor> twin, inner_->Twin(max_rows));
    return std::unique_ptr<Executor>(std::make_unique<DeviceExecutor>(std::move(twin)));
  }
  Status Run(const StepInput& input, StepResult* result) override { return inner_->Run(input, result); }
  Result<std::shared_ptr<const LoadedAdapter>> LoadAdapter(const AdapterSource& source) const override {
    return inner_->LoadAdapter(source);
  }
  size_t PageBytes(int group) const override { return inner_->PageBytes(group); }
  Status AddSlab(int group, int slab, int pages) override { return inner_->AddSlab(group, slab, pages); }
  void RemoveSlab(int group, int slab) override { inner_->RemoveSlab(group, slab); }
  void CopyPage(int group, PageId from, PageId to) override { inner_->CopyPage(group, from, to); }
  void ReadPage(int group, PageId page, int tokens, std::byte* out) const override {
    inner_->ReadPage(group, page, tokens, out);
  }
  void WritePage(int group, PageId page, const std::byte* in) override { inner_->WritePage(group, page, in); }
  size_t weight_bytes() const override { return inner_->weight_bytes(); }
  size_t scratch_bytes() const override { return inner_->scratch_bytes(); }
  uint64_t available_bytes() const override { return MemoryBytes(); }

 private:
  const std::unique_ptr<Executor> inner_;
};

class ReferenceLibrary final : public BackendLibrary {
 public:
  Result<std::vector<BackendDevice>> Devices() override {
    if (Is("none")) return Error(Code::kDeviceUnavailable, "the driver's library libtest.so was not found");
    std::vector<BackendDevice> devices = {
        {"Reference GPU", "", 0, 8, 9, 4, MemoryBytes()}};
    if (Is("old")) devices[0].problem = "compute capability 7.5; 8.0 or later is needed";
    if (Is("two")) devices.push_back({"Second GPU", "", 1, 9, 0, 4, MemoryBytes()});
    return devices;
  }

  Result<std::unique_ptr<Executor>> Compile(const Program& program, std::span<const int> devices,
                                            const CompileOptions& options) override {
    for (const int device : devices) {
      if (device < 0 || device > (Is("two") ? 1 : 0))
        return Error(Code::kInternal, "there is no device %d", device);
    }
    TM_ASSIGN_OR_RETURN(std::unique_ptr<Executor> inner, CompileReference(program, options));
    return std::unique_ptr<Executor>(std::make_unique<DeviceExecutor>(std::move(inner)));
  }
};

}  // namespace
}  // namespace tokenmill

extern "C" __attribute__((visibility("default"))) const TmBackend* tokenmill_backend(uint32_t version) {
  if (tokenmill::Is("version")) return tokenmill::ServeBackend(version + 1, nullptr);
  return tokenmill::ServeBackend(
      version, []() -> tokenmill::BackendLibrary* { return new tokenmill::ReferenceLibrary(); });
}
