#pragma once

#include <napi.h>

#include "engine/engine.h"

namespace tokenmill::binding {

/// Of an object as lib/native.ts has it: { bytes } or { share }, nothing for the default.
MemoryBudget ToBudget(const Napi::Value& value);
/// Of NativeLoadOptions.
EngineOptions ToEngineOptions(const Napi::Object& given);

}  // namespace tokenmill::binding
