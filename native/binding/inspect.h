#pragma once

#include <napi.h>

namespace tokenmill::binding {

/// inspectGguf(path) → { version, alignment, fileBytes, metadata, tensors }, as NativeInspection in
/// lib/native.ts. Arrays of more than a few elements are given as { length, head }.
Napi::Value InspectGguf(const Napi::CallbackInfo& info);

}  // namespace tokenmill::binding
