#include "binding/quantize.h"

#include "binding/convert.h"
#include "binding/rewrite_work.h"
#include "quantize/quantize_file.h"

namespace tokenmill::binding {

Napi::Value QuantizeModel(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Napi::Object given = info[2].As<Napi::Object>();
  const QuantizeOptions options{{ToFileType(env, GetString(given, "type", "")), GetBool(given, "pure", false),
                                 GetBool(given, "allowRequantize", false)},
                                ToRewriteOptions(given)};
  return StartRewrite(
      env, info[3].As<Napi::Function>(),
      [input = info[0].As<Napi::String>().Utf8Value(), output = info[1].As<Napi::String>().Utf8Value(),
       options](const RewriteProgress& on_progress) {
        return QuantizeFile(input, output, options, on_progress);
      });
}

}  // namespace tokenmill::binding
