#pragma once

#include <string>

namespace tokenmill::cuda::emu {

/// "matmul.cu:123" for an instruction's return address, with the callers it is inlined into; the bare address
/// where the system has no addr2line or the file was built without -g.
std::string SourceLine(const void* site);

}  // namespace tokenmill::cuda::emu
