#pragma once

#include <memory>
#include <vector>

#include "core/memory.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/kv_cache.h"
#include "kernels/cpu/weights.h"
#include "ops/backend.h"

namespace tokenmill::cpu {

/// Rows of activations [max_rows][width] in the forms that someone reads; the others are null. With two terms
/// a row has its blocks twice: the values to 8 bits, then what that left over to 8 bits. Where products read rounded
/// forms alone, rows with adapters also leave what was rounded, for these read floats.
struct RowBuffer {
  int width = 0;
  float* floats = nullptr;
  ActivationBlock* blocks = nullptr;
  uint16_t* bf16 = nullptr;
  float* unrounded = nullptr;  // where there are rounded forms; `floats` where these are not null
  const uint8_t* adapted = nullptr;  // [max_rows] whether a row has adapters
  int terms = 1;

  float* row(int64_t index) const { return floats + index * width; }
  ActivationBlock* row_blocks(int64_t index) const { return blocks + index * terms * (width / kBlock); }
  uint16_t* row_bf16(int64_t index) const { return bf16 + index * width; }
  /// [max_rows][width], of rows with adapters at least.
  const float* for_adapters() const { return floats != nullptr ? floats : unrounded; }
  bool rounded() const { return blocks != nullptr || bf16 != nullptr; }

  /// Gives `n` values of a row, from column `first` on, in the rounded forms. Blocks need whole ones.
  void Round(const CpuKernels& kernels, int64_t row, int first, const float* x, int n) const;

 private:
  void Quantize(const CpuKernels& kernels, int64_t row, int first_block, const float* x, int n) const;
};

/// What the phases of an executor share. Everything but the step's own fields is fixed when compiled.
struct StepState {
  const CpuKernels* kernels = nullptr;
  const Program* program = nullptr;
  const Weights* weights = nullptr;
  const KvCache* kv = nullptr;
  int threads = 1;

  // The step under way.
  const StepInput* input = nullptr;
  StepResult* result = nullptr;
  int rows = 0;
  std::vector<int> sequence_of;  // [max_rows] index into StepInput::sequences
  std::vector<int> position_of;  // [max_rows]

  const StepSequence& sequence(int row) const {
    return input->sequences[static_cast<size_t>(sequence_of[static_cast<size_t>(row)])];
  }
};

}  // namespace tokenmill::cpu
