#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "core/status.h"
#include "core/thread_pool.h"
#include "ops/page_memory.h"
#include "ops/program.h"
#include "ops/step.h"

namespace tokenmill {

/// The bytes of a program's weights, as stored in the file. Safe to use from several threads at once.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  /// Reads `rows` rows from `row` on; out has RowBytes(dtype, cols) * rows bytes.
  virtual Status Read(WeightId weight, int64_t row, int64_t rows, void* out) const = 0;
};

struct CompileOptions {
  int max_rows = 512;       // most rows of one step
  int max_head_rows = 16;   // head rows are worked off in chunks of so many; any number can be asked for
  int threads = 1;
  /// CPU backend, quantized weights: 1 rounds activations to 8 bits, 2 adds what that leaves over as another 8.
  int activation_terms = 1;
  ThreadPool* pool = nullptr;
  /// Told the bytes of weights read since the last call, from any thread; compiling stops with Aborted when it
  /// returns false.
  std::function<bool(size_t)> on_progress;
};

/// A compiled program with its weights and KV pages. Run is called by one thread at a time.
class Executor : public PageMemory {
 public:
  /// Runs one step. The input has at most max_rows rows and refers only to mapped pages; a failure leaves
  /// pages of the step's own rows undefined.
  virtual Status Run(const StepInput& input, StepResult* result) = 0;

  virtual size_t weight_bytes() const = 0;
  virtual size_t scratch_bytes() const = 0;
};

/// Plain f32 loops over dequantized weights and an f32 KV cache: the oracle of every other backend.
Result<std::unique_ptr<Executor>> CompileReference(const Program& program, const WeightSource& weights,
                                                   const CompileOptions& options);

enum class CpuIsa { kReference, kAvx2, kAvxVnni, kAvx512, kNeon, kNeonI8mm };

/// Whether this build has an ISA's kernels and this CPU can run them; always for the reference.
bool HasCpuIsa(CpuIsa isa);

/// Packed weights, int8 activations and an f16 KV cache, through one ISA's kernels. `isa` must be one that
/// HasCpuIsa.
Result<std::unique_ptr<Executor>> CompileCpu(const Program& program, const WeightSource& weights, CpuIsa isa,
                                             const CompileOptions& options);

}  // namespace tokenmill
