#pragma once

#include <napi.h>

namespace tokenmill::binding {

/// estimateMemory(path, options) → Promise<NativeEstimate>, with the options of loadModel, as lib/native.ts has them.
/// Reads the file's header away from the event loop.
Napi::Value EstimateMemory(const Napi::CallbackInfo& info);

}  // namespace tokenmill::binding
