#pragma once

#include <cstddef>
#include <cstdint>

namespace tokenmill {

/// 61 bits that tell bytes apart also where somebody chose them to be taken for each other: under a key that this
/// process has drawn, and that must not leave it. Another process gives others. Reads at memory speed.
uint64_t KeyedHash(const void* data, size_t bytes);

}  // namespace tokenmill
