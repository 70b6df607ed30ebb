#include "kernels/cpu/adapter.h"

#include <algorithm>
#include <atomic>
#include <new>

#include "ops/adapter_check.h"

namespace tokenmill::cpu {
namespace {

FactorType TypeOf(DType dtype) {
  return dtype == DType::kF32   ? FactorType::kF32
         : dtype == DType::kF16 ? FactorType::kF16
                                : FactorType::kBf16;
}

// `from` [rank][cols]
template <class T>
void PackA(const PackedFactors& factors, const T* from) {
  T* to = reinterpret_cast<T*>(const_cast<std::byte*>(factors.a));
  for (int first = 0; first < factors.rank; first += kRankGroup) {
    const int group = std::min(kRankGroup, factors.rank - first);
    for (int64_t k = 0; k < factors.cols; k += 16) {
      const int64_t n = std::min<int64_t>(16, factors.cols - k);
      for (int j = 0; j < group; ++j, to += 16) std::copy_n(from + (first + j) * factors.cols + k, n, to);
    }
  }
}

// `from` [rows][rank]
template <class T>
void PackB(const PackedFactors& factors, const T* from) {
  T* to = reinterpret_cast<T*>(const_cast<std::byte*>(factors.b));
  const int rank = factors.rank;
  for (int64_t row = 0; row < factors.rows; row += kPairColumns, to += int64_t{rank} * kPairColumns) {
    const int64_t columns = std::min<int64_t>(kPairColumns, factors.rows - row);
    for (int64_t c = 0; c < columns; ++c, from += rank) {
      for (int j = 0; j < rank; ++j) to[j * kPairColumns + c] = from[j];
    }
  }
}

// A factor's place, rounded so that vectors do not straddle lines.
size_t Aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

// Where in its memory an adapter begins. The system gives equal sizes equally aligned memory: without this, what steps
// read of several adapters side by side would compete for the same sets of the caches.
constexpr size_t kPlaceBytes = 17 * 64;
constexpr unsigned kPlaces = 61;
size_t NextPlace() {
  static constinit std::atomic<unsigned> count{0};
  return count.fetch_add(1, std::memory_order_relaxed) % kPlaces * kPlaceBytes;
}

}  // namespace

Result<std::shared_ptr<const LoadedAdapter>> CpuAdapter::Load(const Program& program,
                                                              const AdapterSource& source, int rows) {
  TM_RETURN_IF_ERROR(CheckAdapter(program, source.factors()));
  try {
    auto adapter = std::make_shared<CpuAdapter>();
    adapter->program_ = &program;
    TM_RETURN_IF_ERROR(adapter->Allocate(source.factors(), rows));
    TM_RETURN_IF_ERROR(adapter->Pack(source));
    return std::shared_ptr<const LoadedAdapter>(std::move(adapter));
  } catch (const std::bad_alloc&) {
    return Error(Code::kOutOfMemory, "no memory for an adapter");
  }
}

Status CpuAdapter::Allocate(std::span<const AdapterFactors> given, int rows) {
  index_.assign(program_->weights.size(), -1);
  for (size_t i = 0; i < given.size(); ++i) {
    const WeightDesc& matrix = program_->weights[static_cast<size_t>(given[i].matrix)];
    factors_.push_back(
        {TypeOf(given[i].dtype), given[i].rank, given[i].scale, matrix.rows, matrix.cols, nullptr, nullptr});
    index_[static_cast<size_t>(given[i].matrix)] = static_cast<int>(i);
  }
  size_t bytes = 0;
  for (const PackedFactors& one : factors_) bytes += Aligned(one.a_bytes()) + Aligned(one.b_bytes());
  const size_t place = NextPlace();
  if (bytes > 0) memory_ = SystemBuffer(place + bytes);
  const std::byte* next = memory_.data() + place;
  factor_bytes_ = bytes;
  for (const Op& op : program_->ops) {
    const std::vector<WeightId> matrices = LinearMatrices(op);
    int ranks = 0;
    for (const bool is_a : {true, false}) {
      for (const WeightId matrix : matrices) {
        const int index = index_[static_cast<size_t>(matrix)];
        if (index < 0) continue;
        PackedFactors& one = factors_[static_cast<size_t>(index)];
        if (is_a) ranks += one.rank;
        const std::byte*& place = is_a ? one.a : one.b;
        if (place != nullptr) continue;  // of a matrix that several operations have
        place = next;
        next += Aligned(is_a ? one.a_bytes() : one.b_bytes());
      }
    }
    ranks_ = std::max(ranks_, ranks);
  }
  if (ranks_ > 0)
    inner_ = SystemBuffer(static_cast<size_t>(rows) * static_cast<size_t>(ranks_) * sizeof(float));
  if (ranks_ > 0 && (!memory_ || !inner_)) {
    return Error(Code::kOutOfMemory, "the system refused %zu bytes for an adapter", bytes);
  }
  return {};
}

Status CpuAdapter::Pack(const AdapterSource& source) {
  size_t bytes = 0;
  for (const PackedFactors& one : factors_) {
    const size_t columns = static_cast<size_t>(std::max(one.rows, one.cols));
    bytes = std::max(bytes, columns * static_cast<size_t>(one.rank) * one.element_bytes());
  }
  const std::unique_ptr<std::byte[]> raw(new std::byte[bytes]);
  for (size_t i = 0; i < factors_.size(); ++i) {
    const PackedFactors& one = factors_[i];
    for (const AdapterFactor which : {AdapterFactor::kA, AdapterFactor::kB}) {
      TM_RETURN_IF_ERROR(ReadFactor(*program_, source, i, which, raw.get()));
      const auto pack = [&](auto element) {
        const auto* from = reinterpret_cast<const decltype(element)*>(raw.get());
        which == AdapterFactor::kA ? PackA(one, from) : PackB(one, from);
      };
      one.type == FactorType::kF32 ? pack(uint32_t{}) : pack(uint16_t{});
    }
  }
  return {};
}

size_t CpuAdapter::bytes() const {
  return factor_bytes_ + inner_.size() + index_.size() * sizeof(int) +
         factors_.size() * sizeof(PackedFactors);
}

}  // namespace tokenmill::cpu
