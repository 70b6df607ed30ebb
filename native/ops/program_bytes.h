#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "core/status.h"
#include "ops/program.h"

// A program as bytes, for a backend in another library of the same process and version.

namespace tokenmill {

std::vector<std::byte> EncodeProgram(const Program& program);

/// A program that passes CheckProgram. Incompatible for bytes of another version, Internal for any that are no program.
Result<Program> DecodeProgram(std::span<const std::byte> bytes);

}  // namespace tokenmill
