#pragma once

#include <string>

#include "core/status.h"

namespace tokenmill {

/// A library that the process has opened. It is never closed: it may have threads, and what it made may outlive this.
class SharedLibrary {
 public:
  /// A file's path, or a plain name that the system looks for. DeviceUnavailable with the system's reason.
  static Result<SharedLibrary> Open(const std::string& path);

  /// Null when the library has no such symbol.
  void* Find(const char* symbol) const;

  template <class Function>
  Function* FindFunction(const char* symbol) const {
    return reinterpret_cast<Function*>(Find(symbol));
  }

 private:
  explicit SharedLibrary(void* handle) : handle_(handle) {}
  void* handle_;
};

}  // namespace tokenmill
