#pragma once

#include <napi.h>

#include "adapter/adapter_spec.h"

namespace tokenmill::binding {

/// The shape is that of AdapterSpec in lib/adapters/adapter-spec.ts.
AdapterSpec ToAdapterSpec(const Napi::Object& object);

/// readGgufAdapter(path): { spec, name, baseModel, alpha } from a GGUF file's header.
Napi::Value ReadGgufAdapterFile(const Napi::CallbackInfo& info);

/// mergeAdapter(model, spec, output, options, onProgress): { promise, abort }.
Napi::Value MergeAdapterInto(const Napi::CallbackInfo& info);

}  // namespace tokenmill::binding
