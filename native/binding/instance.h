#pragma once

#include <napi.h>

namespace tokenmill::binding {

/// What one environment (the main thread or a worker) has of the addon.
struct Instance {
  Napi::FunctionReference tokenizer_class;
  Napi::FunctionReference model_class;
};

inline Instance& InstanceOf(Napi::Env env) { return *env.GetInstanceData<Instance>(); }

}  // namespace tokenmill::binding
