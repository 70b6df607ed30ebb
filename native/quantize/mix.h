#pragma once

#include <string_view>
#include <vector>

#include "core/status.h"
#include "io/gguf.h"

namespace tokenmill {

/// How a file's matrices share out types.
enum class Mix : uint8_t {
  kUniform,  // all of one type; the head, and so a tied embedding, Q6_K, or Q8_0 with Q8_0
  kSmall,    // Q4_K_S: the first values and down projections a step finer
  kMedium,   // Q4_K_M and Q5_K_M: half of the values and down projections in Q6_K
  kFourBit,  // uniform, but rows that Q4_K does not divide stay at 4 bits
};

/// A kind of file as the field names it.
struct FileType {
  const char* name;
  uint32_t number;  // general.file_type
  DType dtype;
  Mix mix;
};

/// The type of this name, or nullptr. Q4_K and Q5_K are Q4_K_M and Q5_K_M.
const FileType* FindFileType(std::string_view name);

/// "F32, F16, …": all names.
std::string FileTypeNames();

struct PlanOptions {
  FileType type;
  bool pure = false;              // every matrix the one type, the head too
  bool allow_requantize = false;  // also from what is quantized already
};

/// The type that each tensor of the file gets, in file order, as llama.cpp's quantizer assigns them: norms,
/// vectors, routers and positions keep their own; rows that a type's blocks do not divide fall back to the
/// nearest that do. InvalidArgument when the file is quantized already, UnsupportedQuantization when a tensor
/// cannot be read.
Result<std::vector<DType>> PlanTypes(const GgufFile& file, const PlanOptions& options);

}  // namespace tokenmill
