#pragma once

#include <napi.h>

#include <memory>

#include "engine/engine.h"

namespace tokenmill::binding {

/// openSnapshot(bytes) → Promise<{ state, pages }>: copies a snapshot, and verifies it on one of libuv's threads.
Napi::Value OpenSnapshot(const Napi::CallbackInfo& info, std::shared_ptr<Engine> engine);

/// What openSnapshot gave as `pages`.
std::shared_ptr<const Snapshot> SnapshotOf(Napi::Env env, const Napi::Value& pages);

}  // namespace tokenmill::binding
