#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/status.h"
#include "ops/adapter.h"

// What every backend refuses of an adapter.

namespace tokenmill {

/// The matrices of an operation that adapters can add to, in its order; they share their input.
std::vector<WeightId> LinearMatrices(const Op& op);

/// InvalidArgument for what is no linear layer of the program, for a rank or an element type that does not run;
/// CorruptFile for a matrix that comes twice and for a scale that is not finite.
Status CheckAdapter(const Program& program, std::span<const AdapterFactors> factors);

/// Elements of a factor that passed.
int64_t FactorElements(const Program& program, const AdapterFactors& factors, AdapterFactor which);

/// Reads a factor into out, of as many bytes as its elements take: CorruptFile when one of these is not finite.
Status ReadFactor(const Program& program, const AdapterSource& source, size_t index, AdapterFactor which,
                  void* out);

}  // namespace tokenmill
