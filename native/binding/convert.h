#pragma once

#include <napi.h>

#include <string>
#include <vector>

#include "engine/histogram.h"
#include "engine/request.h"

namespace tokenmill::binding {

/// A JavaScript Error with the status's message and code; TypeScript makes a TokenmillError of it.
Napi::Error ToError(Napi::Env env, const Status& status);

/// The value of a result, or a thrown JavaScript error.
template <class T>
T Unwrap(Napi::Env env, Result<T> result) {
  if (!result.ok()) throw ToError(env, result.status());
  return std::move(result).value();
}

std::string GetString(const Napi::Object& object, const char* key, std::string fallback);
double GetNumber(const Napi::Object& object, const char* key, double fallback);
bool GetBool(const Napi::Object& object, const char* key, bool fallback);

/// Token ids from an Int32Array.
std::vector<Token> ToTokens(const Napi::Value& value);
Napi::Array FromTokens(Napi::Env env, const std::vector<Token>& tokens);

/// The shapes are those of NativeRequest and NativeEvent in lib/native.ts, and ModelStats in lib/model.ts.
std::vector<PromptPiece> ToPieces(const Napi::Value& value);
/// Of { id, scale }; none for what is no array.
std::vector<AdapterChoice> ToAdapterChoices(const Napi::Value& value);
/// AdapterKey of { digest, scale }, as LoadAdapter gives digests.
std::string ToAdapterKey(const Napi::Value& value);
Request ToRequest(const Napi::Object& object);
Napi::Object FromHistograms(Napi::Env env, const SchedulerHistograms& histograms);
Napi::Object FromEvent(Napi::Env env, const Event& event);

}  // namespace tokenmill::binding
