#pragma once

#include <cstddef>
#include <cstdint>

namespace tokenmill {

/// 64 bits that differ, but for chance, where bytes differ: for checksums and keys, not against an attacker.
/// Reads at memory speed.
uint64_t Hash64(const void* data, size_t bytes, uint64_t seed = 0);

}  // namespace tokenmill
