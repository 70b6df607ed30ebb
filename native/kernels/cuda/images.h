#pragma once

#include <cstddef>
#include <span>

// The compiled kernels that a build carries in itself.

namespace tokenmill::cuda {

/// What nvcc made of one .cu file for one architecture.
struct Image {
  const char* module = nullptr;  // the file's name: of each, one image is loaded
  int sm = 0;                    // 10 * major + minor of the compute capability
  bool ptx = false;              // text that the driver compiles, ended by a zero; else a cubin
  const void* bytes = nullptr;
  size_t size = 0;
};

/// Those of this build; the build defines it.
std::span<const Image> Images();

/// The order in which images of a module are tried on a device: cubins of its own major version up to its
/// minor one, the newest first, then PTX up to its version, the newest first. Negative: does not run there.
int ImageRank(const Image& image, int major, int minor);

}  // namespace tokenmill::cuda
