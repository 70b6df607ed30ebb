#pragma once

#include <napi.h>

#include <functional>
#include <string>

#include "quantize/mix.h"
#include "quantize/rewrite_file.h"

namespace tokenmill::binding {

/// Writes a file; runs on one of libuv's workers.
using RewriteWork = std::function<Result<RewriteResult>(const RewriteProgress&)>;

/// Starts it and gives { promise, abort }: NativeRewrite in lib/native.ts. `on_progress` is told a hundred times.
Napi::Object StartRewrite(Napi::Env env, Napi::Function on_progress, RewriteWork rewrite);

/// Of an object's `overwrite` and `threads`.
RewriteOptions ToRewriteOptions(const Napi::Object& object);

/// The type of this name; throws a JavaScript error when there is none.
FileType ToFileType(Napi::Env env, const std::string& name);

}  // namespace tokenmill::binding
