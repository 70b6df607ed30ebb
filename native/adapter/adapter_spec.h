#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace tokenmill {

/// A factor as it lies in an adapter's file, row-major.
struct StoredFactor {
  std::string tensor;  // its name there, for errors
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

/// What is added to one matrix: scale * B A.
struct AdapterEntry {
  std::string target;  // see AdapterSpec::names
  float scale = 1;
  StoredFactor a;  // [rank, columns of the matrix]
  StoredFactor b;  // [rows of the matrix, rank]
};

enum class TargetNames : uint8_t {
  kModules,  // of checkpoints: "model.layers.3.self_attn.q_proj"; rows lie as there
  kTensors,  // of GGUF files: "blk.3.attn_q.weight"
};

/// What an adapter's file says of itself. Nothing of it is trusted but that numbers are numbers.
struct AdapterSpec {
  std::string path;
  uint64_t file_bytes = 0;  // when the header was read
  TargetNames names = TargetNames::kTensors;
  std::string architecture;  // of the base model, "" where the file does not say
  std::vector<AdapterEntry> entries;
};

}  // namespace tokenmill
