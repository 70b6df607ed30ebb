#pragma once

#include <string>

#include "adapter/adapter_spec.h"
#include "core/status.h"
#include "model/model_file.h"

namespace tokenmill {

/// A matrix of a model that an adapter changes.
struct AdapterTarget {
  WeightId matrix = kNone;
  /// The heads whose rows the model has in pairs and the adapter in halves; 0: both have them in one order.
  int paired_heads = 0;
};

/// The head's name where an adapter changes it, whether or not the model shares it with its embedding.
inline constexpr char kHeadTensor[] = "output.weight";

/// The matrix that an adapter calls `target`. UnsupportedModel for embeddings and other things that are no linear
/// layer; Incompatible for what this model does not have.
Result<AdapterTarget> FindTarget(const ModelFile& model, TargetNames names, const std::string& target);

}  // namespace tokenmill
