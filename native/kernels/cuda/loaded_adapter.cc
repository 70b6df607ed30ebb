#include "kernels/cuda/loaded_adapter.h"

#include <new>

#include "ops/adapter_check.h"

namespace tokenmill::cuda {
namespace {

FactorType TypeOf(DType dtype) {
  return dtype == DType::kF32   ? FactorType::kF32
         : dtype == DType::kF16 ? FactorType::kF16
                                : FactorType::kBF16;
}

// The linear layers of some operations, by WeightId.
std::vector<bool> LayersOf(const Program& program, std::span<const Op> ops) {
  std::vector<bool> layers(program.weights.size(), false);
  for (const Op& op : ops) {
    for (const WeightId matrix : LinearMatrices(op)) layers[static_cast<size_t>(matrix)] = true;
  }
  return layers;
}

}  // namespace

Result<std::shared_ptr<const LoadedAdapter>> CudaAdapter::Load(const Program& program,
                                                               std::span<const AdapterTargetDevice> devices,
                                                               const AdapterSource& source) {
  TM_RETURN_IF_ERROR(CheckAdapter(program, source.factors()));
  try {
    auto adapter = std::make_shared<CudaAdapter>();
    adapter->program_ = &program;
    for (const AdapterTargetDevice& device : devices)
      TM_RETURN_IF_ERROR(adapter->LoadShare(program, device, source));
    return std::shared_ptr<const LoadedAdapter>(std::move(adapter));
  } catch (const std::bad_alloc&) {
    return Error(Code::kOutOfMemory, "no memory to load an adapter");
  }
}

Status CudaAdapter::LoadShare(const Program& program, const AdapterTargetDevice& device,
                              const AdapterSource& source) {
  Share& share = shares_.emplace_back();
  share.driver = device.driver;
  share.index.assign(program.weights.size(), -1);
  const std::vector<bool> layers = LayersOf(program, device.ops);
  const std::span<const AdapterFactors> given = source.factors();
  for (size_t i = 0; i < given.size(); ++i) {
    const AdapterFactors& one = given[i];
    if (!layers[static_cast<size_t>(one.matrix)]) continue;
    Factors factors = {one};
    for (const AdapterFactor which : {AdapterFactor::kA, AdapterFactor::kB}) {
      const size_t at = share.host.size();
      (which == AdapterFactor::kA ? factors.a : factors.b) = at;
      const size_t elements = static_cast<size_t>(FactorElements(program, one, which));
      share.host.resize(at + Aligned(elements * (one.dtype == DType::kF32 ? 4 : 2)));
      TM_RETURN_IF_ERROR(ReadFactor(program, source, i, which, share.host.data() + at));
    }
    share.index[static_cast<size_t>(one.matrix)] = static_cast<int>(share.factors.size());
    share.factors.push_back(factors);
    rank_max_ = std::max(rank_max_, one.rank);
  }
  if (share.host.empty()) return {};
  auto memory = DeviceBuffer::Allocate(device.driver, share.host.size());
  if (!memory.ok()) {
    const Status status = memory.status();
    return Status(status.code(), Format("no memory for an adapter: %s", status.message().c_str()));
  }
  share.memory = std::move(memory).value();
  return {};
}

Status CudaAdapter::Upload() const {
  for (const Share& share : shares_) {
    if (share.host.empty()) continue;
    TM_RETURN_IF_ERROR(
        share.driver->Upload(Stream::kCopy, share.memory.at(), share.host.data(), share.host.size()));
    TM_RETURN_IF_ERROR(share.driver->Synchronize(Stream::kCopy));
    share.host = std::vector<std::byte>();
  }
  return {};
}

AdapterMatrix CudaAdapter::matrix(int device, WeightId weight) const {
  const Share& share = shares_[static_cast<size_t>(device)];
  const int index = share.index[static_cast<size_t>(weight)];
  if (index < 0) return {};
  const Factors& factors = share.factors[static_cast<size_t>(index)];
  return {As<const void>(share.memory.at() + factors.a),
          As<const void>(share.memory.at() + factors.b),
          factors.given.rank,
          TypeOf(factors.given.dtype),
          factors.given.scale,
          0};
}

size_t CudaAdapter::bytes() const {
  size_t bytes = 0;
  for (const Share& share : shares_) bytes += share.memory.bytes();
  return bytes;
}

}  // namespace tokenmill::cuda
