#pragma once

#include <memory>

#include "adapter/adapter_spec.h"
#include "core/status.h"
#include "io/gguf.h"

namespace tokenmill {

/// What a GGUF file of an adapter says of itself (general.type "adapter", adapter.type "lora", matrices
/// "<tensor>.lora_a" and "<tensor>.lora_b"). CorruptFile or UnsupportedModel naming the tensor or the key.
Result<AdapterSpec> ReadGgufAdapter(const GgufFile& file);

}  // namespace tokenmill
