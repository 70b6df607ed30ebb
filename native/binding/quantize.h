#pragma once

#include <napi.h>

namespace tokenmill::binding {

/// quantizeModel(input, output, options, onProgress) → { promise, abort() }, as NativeQuantizeOptions and
/// NativeQuantizeResult in lib/native.ts have it. onProgress gets (done, total) in bytes of weights.
Napi::Value QuantizeModel(const Napi::CallbackInfo& info);

}  // namespace tokenmill::binding
