#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/status.h"
#include "ops/backend.h"
#include "ops/backend_device.h"
#include "ops/backend_table.h"

// The engine's side of a backend's table.

namespace tokenmill {

/// A backend in a shared library, which stays open as long as the process.
class Backend {
 public:
  /// DeviceUnavailable where the file is no library, no backend's, or one of another version.
  static Result<std::shared_ptr<const Backend>> Open(const std::string& path);

  /// DeviceUnavailable says what is missing.
  Result<std::vector<BackendDevice>> Devices() const;
  /// A program without its weights, on some of these devices. Of the options, the pool and where packed weights are
  /// kept have no meaning.
  Result<std::unique_ptr<Executor>> Compile(const Program& program, std::span<const int> devices,
                                            const CompileOptions& options) const;

 private:
  explicit Backend(const TmBackend* table) : table_(table) {}
  const TmBackend* const table_;
};

}  // namespace tokenmill
