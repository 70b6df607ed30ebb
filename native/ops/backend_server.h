#pragma once

#include <memory>
#include <span>
#include <vector>

#include "core/status.h"
#include "ops/backend.h"
#include "ops/backend_device.h"
#include "ops/backend_table.h"

// The library's side of a backend's table.

namespace tokenmill {

/// What a backend's library does; called from any thread.
class BackendLibrary {
 public:
  virtual ~BackendLibrary() = default;
  /// DeviceUnavailable says what is missing.
  virtual Result<std::vector<BackendDevice>> Devices() = 0;
  /// A program without its weights, on some of these devices.
  virtual Result<std::unique_ptr<Executor>> Compile(const Program& program, std::span<const int> devices,
                                                    const CompileOptions& options) = 0;
};

/// A table that calls a library, or null for another version than this one. Table and library are never destroyed;
/// the library is that of the first call.
const TmBackend* ServeBackend(uint32_t version, BackendLibrary* (*make_library)());

}  // namespace tokenmill
