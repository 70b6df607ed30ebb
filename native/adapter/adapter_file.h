#pragma once

#include <memory>

#include "adapter/adapter_spec.h"
#include "core/status.h"
#include "model/model_file.h"
#include "ops/adapter.h"

namespace tokenmill {

/// Binds an adapter to a model: finds its matrices and checks every shape and place against the model and the file.
/// Factors are read, and their values checked, when Read is called; what has another type than F32, F16 or BF16, or
/// two, becomes F32. ModelNotFound; CorruptFile, UnsupportedModel, UnsupportedQuantization or Incompatible naming
/// the tensor.
Result<std::unique_ptr<AdapterSource>> OpenAdapter(AdapterSpec spec, const ModelFile& model);

}  // namespace tokenmill
