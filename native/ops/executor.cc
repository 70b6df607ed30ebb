#include "core/memory.h"
#include "ops/backend.h"

namespace tokenmill {

uint64_t Executor::available_bytes() const { return AvailableMemoryBytes(); }

}  // namespace tokenmill
