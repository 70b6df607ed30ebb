#pragma once

#include <cstdint>
#include <string>

namespace tokenmill {

/// A device that a backend's library knows.
struct BackendDevice {
  std::string name;
  std::string problem;  // why it cannot be used; empty when it can
  int index = 0;
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  uint64_t memory_bytes = 0;
};

}  // namespace tokenmill
