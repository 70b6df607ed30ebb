#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/dtype.h"
#include "core/status.h"
#include "ops/program.h"

// Low-rank adapters (LoRA). A matrix W of the program becomes, for the rows that use an adapter, W + scale * B A.

namespace tokenmill {

/// What an adapter adds to one matrix of a program: A [rank, cols of the matrix], B [rows of the matrix, rank].
struct AdapterFactors {
  WeightId matrix = kNone;
  int rank = 0;  // 1 … kMaxAdapterRank
  float scale = 1;  // alpha / rank, or alpha / sqrt(rank)
  DType dtype = DType::kF32;  // of both factors: kF32, kF16 or kBF16
};
inline constexpr int kMaxAdapterRank = 256;

enum class AdapterFactor : uint8_t { kA, kB };

/// An adapter's factors for a program, each matrix at most once. Safe to use from several threads at once.
class AdapterSource {
 public:
  virtual ~AdapterSource() = default;
  virtual std::span<const AdapterFactors> factors() const = 0;
  /// The whole factor of factors()[index], row-major, in its dtype.
  virtual Status Read(size_t index, AdapterFactor which, void* out) const = 0;
};

/// An adapter in the layout of the executor that loaded it, immutable.
class LoadedAdapter {
 public:
  virtual ~LoadedAdapter() = default;
  virtual size_t bytes() const = 0;
};

/// One of the adapters of a sequence's rows, with a weight of the caller's.
struct AdapterUse {
  const LoadedAdapter* adapter = nullptr;
  float scale = 1;
};

}  // namespace tokenmill
