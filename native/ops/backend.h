#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/status.h"
#include "core/thread_pool.h"
#include "ops/adapter.h"
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

/// How the CPU backend's KV cache holds keys and values: in 16 bits, or in 8 with a scale per token and head. The
/// reference backend holds f32, rounded to 8 bits likewise.
enum class KvType : uint8_t { kF16, kInt8 };

struct CompileOptions {
  int max_rows = 512;  // most rows of one step
  int max_head_rows = 16;  // head rows are worked off in chunks of so many; any number can be asked for
  int threads = 1;
  /// CPU backend: 1 rounds activations to 8 bits for quantized weights (where products of bf16 are fast, to bf16 for
  /// BF16 weights), 2 adds what that leaves over as another 8 (and rounds nothing to bf16).
  int activation_terms = 1;
  KvType kv_type = KvType::kF16;
  ThreadPool* pool = nullptr;
  /// CPU backend: where packed weights are kept for the next load, in a file of at most packed_limit_bytes; empty
  /// for nowhere. What differs between two sources of weights must differ in the fingerprint.
  std::string packed_folder;
  uint64_t packed_limit_bytes = 0;
  uint64_t source_fingerprint = 0;
  /// Told the bytes of weights read since the last call, from any thread; compiling stops with Aborted when it
  /// returns false.
  std::function<bool(size_t)> on_progress;
};

/// What became of the file with packed weights.
enum class PackedCache { kOff, kRead, kWritten, kFailed };

/// A compiled program, which can be asked for its sizes, and once loaded its weights and KV pages. Run is called by
/// one thread at a time.
class Executor : public PageMemory {
 public:
  /// Reads the weights of a program that was compiled without; once.
  virtual Status LoadWeights(const WeightSource& source) = 0;
  /// Another executor of the program, with steps of so many rows at most. It shares the weights, which are loaded and
  /// stay as long as either lives; scratch and pages are its own. From any thread, also while a step runs.
  virtual Result<std::unique_ptr<Executor>> Twin(int max_rows) const = 0;

  /// Runs one step. The input has at most max_rows rows and refers only to mapped pages; a failure leaves
  /// pages of the step's own rows undefined.
  virtual Status Run(const StepInput& input, StepResult* result) = 0;

  /// Reads an adapter for steps of this executor, once it is compiled; on the calling thread alone, whichever it
  /// is, also while a step runs. What CheckAdapter (ops/adapter_check.h) refuses is InvalidArgument or CorruptFile.
  virtual Result<std::shared_ptr<const LoadedAdapter>> LoadAdapter(const AdapterSource& source) const = 0;

  /// Copies a page out, zeros in the place of what is behind its first `tokens` tokens, and in. PageBytes of its
  /// group; what they mean is the same for executors that give the same results. Not while a step runs.
  virtual void ReadPage(int group, PageId page, int tokens, std::byte* out) const = 0;
  virtual void WritePage(int group, PageId page, const std::byte* in) = 0;

  /// The same before the weights are loaded and afterwards.
  virtual size_t weight_bytes() const = 0;
  virtual size_t scratch_bytes() const = 0;
  /// What the memory that holds weights, scratch and pages could still give: the system's, or its devices'.
  virtual uint64_t available_bytes() const;
  /// `problem` says why a file could not be written.
  virtual PackedCache packed_cache(std::string* problem) const { return PackedCache::kOff; }
};

/// Plain f32 loops over dequantized weights and an f32 KV cache: the oracle of every other backend. Without its weights
/// first; with a source they are loaded.
Result<std::unique_ptr<Executor>> CompileReference(const Program& program, const CompileOptions& options);
Result<std::unique_ptr<Executor>> CompileReference(const Program& program, const WeightSource& weights,
                                                   const CompileOptions& options);

enum class CpuIsa { kReference, kAvx2, kAvxVnni, kAvx512, kAvx512Bf16, kNeon, kNeonI8mm };

/// Whether this build has an ISA's kernels and this CPU can run them; always for the reference.
bool HasCpuIsa(CpuIsa isa);

/// Packed weights, int8 activations and an f16 KV cache, through one ISA's kernels. `isa` must be one that
/// HasCpuIsa. Scratch is address space until the first step; with a source the weights are loaded.
Result<std::unique_ptr<Executor>> CompileCpu(const Program& program, CpuIsa isa,
                                             const CompileOptions& options);
Result<std::unique_ptr<Executor>> CompileCpu(const Program& program, const WeightSource& weights, CpuIsa isa,
                                             const CompileOptions& options);

}  // namespace tokenmill
