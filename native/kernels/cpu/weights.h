#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/memory.h"
#include "core/status.h"
#include "kernels/cpu/packed_format.h"
#include "kernels/cpu/packed_store.h"
#include "ops/backend.h"

namespace tokenmill::cpu {

/// A matrix in the kernels' layout (packed_format.h).
struct PackedMatrix {
  PackedFormat format = PackedFormat::kPlainF32;
  int64_t rows = 0;  // output features
  int64_t cols = 0;  // input features
  int pairs = 0;     // of strips
  size_t pair_bytes = 0;
  const uint8_t* data = nullptr;  // [pairs][pair_bytes]

  InputForm input() const { return LayoutOf(format).input; }
  const uint8_t* pair(int64_t index) const { return data + static_cast<size_t>(index) * pair_bytes; }
};

/// Some pairs of strips of a matrix, read and packed at once.
struct WeightPiece {
  WeightId weight;
  int pair;
  int pairs;
};

/// A program's weights by WeightId: packed where an operation multiplies by them or looks up rows, else as
/// f32 vectors. Each is stored once, however often it is used.
class Weights {
 public:
  /// Sizes and places, which stay; the bytes come with Load. `formats` of the matrices by WeightId.
  Status Plan(const Program& program, const std::vector<PackedFormat>& formats);
  /// Maps what an earlier load packed, else reads and packs on the pool's threads, in blocks of bounded size.
  Status Load(const Program& program, const std::vector<PackedFormat>& formats, const WeightSource& source,
              const CompileOptions& options);
  /// Instead of Load: the bytes of another one of the same program and formats, which stay as long as either lives.
  void Share(const Weights& other);

  const PackedMatrix& matrix(WeightId weight) const { return matrices_[static_cast<size_t>(weight)]; }
  /// nullptr for kNone.
  const float* vector(WeightId weight) const {
    return weight == kNone ? nullptr : vectors_[static_cast<size_t>(weight)].data();
  }
  size_t bytes() const { return bytes_; }
  const PackedStore& store() const { return *store_; }

 private:
  void Place(const std::byte* base);
  Status CheckStored(const Program& program, const std::vector<WeightPiece>& pieces,
                     const CompileOptions& options, bool* intact);
  Status Pack(const Program& program, const std::vector<WeightPiece>& pieces, const WeightSource& source,
              const CompileOptions& options);
  Status LoadVectors(const Program& program, const WeightSource& source, const CompileOptions& options);

  std::shared_ptr<PackedStore> store_;  // the matrices' memory, when they are mapped from it
  std::shared_ptr<const SystemBuffer>
      memory_;  // else of all matrices: one piece, so that the system can back it with huge pages
  size_t matrix_bytes_ = 0;
  std::vector<size_t> offsets_;  // of the matrices in their memory
  std::vector<PackedMatrix> matrices_;
  std::vector<std::vector<float>> vectors_;
  size_t bytes_ = 0;
};

}  // namespace tokenmill::cpu
