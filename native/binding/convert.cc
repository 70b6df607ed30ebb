#include "binding/convert.h"

#include "engine/adapters.h"

#include <charconv>

namespace tokenmill::binding {
namespace {

const char* ReasonName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kAborted:
      return "aborted";
  }
  return "aborted";
}

const char* NoticeName(Notice notice) {
  constexpr const char* kNames[] = {"", "prefill", "preempted", "evicted"};
  return kNames[static_cast<int>(notice)];
}

Napi::Array FromLogprobs(Napi::Env env, const std::vector<TokenLogprob>& logprobs) {
  Napi::Array array = Napi::Array::New(env, logprobs.size());
  for (uint32_t i = 0; i < logprobs.size(); ++i) {
    const auto pair = [env](Token token, float logprob) {
      Napi::Object object = Napi::Object::New(env);
      object.Set("token", token);
      object.Set("logprob", logprob);
      return object;
    };
    Napi::Object entry = pair(logprobs[i].token, logprobs[i].logprob);
    Napi::Array top = Napi::Array::New(env, logprobs[i].top.size());
    for (uint32_t t = 0; t < logprobs[i].top.size(); ++t) {
      top.Set(t, pair(logprobs[i].top[t].first, logprobs[i].top[t].second));
    }
    entry.Set("top", top);
    array.Set(i, entry);
  }
  return array;
}

Napi::Object FromOutcome(Napi::Env env, const Outcome& outcome) {
  Napi::Object object = Napi::Object::New(env);
  if (!outcome.status.ok()) {
    object.Set("code", CodeName(outcome.status.code()));
    object.Set("message", outcome.status.message());
  }
  object.Set("reason", ReasonName(outcome.reason));
  object.Set("promptTokens", outcome.prompt_tokens);
  object.Set("cachedTokens", outcome.cached_tokens);
  object.Set("completionTokens", outcome.completion_tokens);
  object.Set("queueMs", outcome.queue_ms);
  object.Set("ttftMs", outcome.ttft_ms);
  object.Set("prefillTokensPerSecond", outcome.prefill_tokens_per_second);
  object.Set("decodeTokensPerSecond", outcome.decode_tokens_per_second);
  if (!outcome.score_tokens.empty()) {
    object.Set("scoreTokens", FromTokens(env, outcome.score_tokens));
    Napi::Float32Array logprobs = Napi::Float32Array::New(env, outcome.score_logprobs.size());
    std::copy(outcome.score_logprobs.begin(), outcome.score_logprobs.end(), logprobs.Data());
    object.Set("scoreLogprobs", logprobs);
  }
  return object;
}

SamplingOptions ToSampling(const Napi::Object& object) {
  SamplingOptions sampling;
  sampling.temperature = GetNumber(object, "temperature", 0);
  sampling.top_k = static_cast<int>(GetNumber(object, "topK", 0));
  sampling.top_p = GetNumber(object, "topP", 1);
  sampling.min_p = GetNumber(object, "minP", 0);
  sampling.repetition_penalty = GetNumber(object, "repetitionPenalty", 1);
  sampling.frequency_penalty = GetNumber(object, "frequencyPenalty", 0);
  sampling.presence_penalty = GetNumber(object, "presencePenalty", 0);
  sampling.seed = static_cast<uint64_t>(GetNumber(object, "seed", 0));
  return sampling;
}

}  // namespace

Napi::Error ToError(Napi::Env env, const Status& status) {
  Napi::Error error = Napi::Error::New(env, status.message());
  error.Set("code", Napi::String::New(env, CodeName(status.code())));
  return error;
}

std::string GetString(const Napi::Object& object, const char* key, std::string fallback) {
  const Napi::Value value = object.Get(key);
  return value.IsString() ? value.As<Napi::String>().Utf8Value() : fallback;
}

double GetNumber(const Napi::Object& object, const char* key, double fallback) {
  const Napi::Value value = object.Get(key);
  return value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : fallback;
}

bool GetBool(const Napi::Object& object, const char* key, bool fallback) {
  const Napi::Value value = object.Get(key);
  return value.IsBoolean() ? value.As<Napi::Boolean>().Value() : fallback;
}

std::vector<Token> ToTokens(const Napi::Value& value) {
  const Napi::Int32Array array = value.As<Napi::Int32Array>();
  return std::vector<Token>(array.Data(), array.Data() + array.ElementLength());
}

Napi::Array FromTokens(Napi::Env env, const std::vector<Token>& tokens) {
  Napi::Array array = Napi::Array::New(env, tokens.size());
  for (uint32_t i = 0; i < tokens.size(); ++i) array.Set(i, tokens[i]);
  return array;
}

std::vector<PromptPiece> ToPieces(const Napi::Value& value) {
  std::vector<PromptPiece> pieces;
  if (!value.IsArray()) return pieces;
  const Napi::Array array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Object piece = array.Get(i).As<Napi::Object>();
    pieces.push_back({GetString(piece, "text", ""), GetBool(piece, "special", false)});
  }
  return pieces;
}

std::vector<AdapterChoice> ToAdapterChoices(const Napi::Value& value) {
  std::vector<AdapterChoice> choices;
  if (!value.IsArray()) return choices;
  const Napi::Array array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Object choice = array.Get(i).As<Napi::Object>();
    choices.push_back({static_cast<AdapterId>(GetNumber(choice, "id", 0)),
                       static_cast<float>(GetNumber(choice, "scale", 1))});
  }
  return choices;
}

std::string ToAdapterKey(const Napi::Value& value) {
  if (!value.IsArray()) return "";
  const Napi::Array array = value.As<Napi::Array>();
  std::vector<AdapterMark> marks;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Object mark = array.Get(i).As<Napi::Object>();
    const std::string digest = GetString(mark, "digest", "");
    const auto word = [&digest](size_t from) {
      uint64_t bits = 0;
      if (digest.size() == 32) std::from_chars(digest.data() + from, digest.data() + from + 16, bits, 16);
      return bits;
    };
    marks.push_back({{word(0), word(16)}, static_cast<float>(GetNumber(mark, "scale", 1))});
  }
  return AdapterKey(marks);
}

Request ToRequest(const Napi::Object& object) {
  Request request;
  request.id = static_cast<RequestId>(GetNumber(object, "id", 0));
  const Napi::Value tokens = object.Get("tokens");
  if (tokens.IsTypedArray()) request.tokens = ToTokens(tokens);
  request.pieces = ToPieces(object.Get("pieces"));
  request.bos = GetBool(object, "bos", false);
  request.score = GetBool(object, "score", false);
  request.max_tokens = static_cast<int>(GetNumber(object, "maxTokens", -1));
  request.sampling = ToSampling(object);
  const Napi::Value stop = object.Get("stop");
  if (stop.IsArray()) {
    const Napi::Array array = stop.As<Napi::Array>();
    for (uint32_t i = 0; i < array.Length(); ++i)
      request.stop.push_back(array.Get(i).As<Napi::String>().Utf8Value());
  }
  request.ignore_eos = GetBool(object, "ignoreEos", false);
  request.logprobs = static_cast<int>(GetNumber(object, "logprobs", -1));
  request.cache_salt = GetString(object, "cacheSalt", "");
  request.adapters = ToAdapterChoices(object.Get("adapters"));
  request.prompt_lookup = GetBool(object, "promptLookup", false);
  request.credits = static_cast<int>(GetNumber(object, "credits", 0));
  request.notices = GetBool(object, "notices", false);
  request.priority = static_cast<int>(GetNumber(object, "priority", 0));
  request.tenant = GetString(object, "tenant", "");
  request.hold = static_cast<HoldId>(GetNumber(object, "hold", 0));
  const Napi::Value deadline = object.Get("deadline");
  if (deadline.IsNumber()) {
    const std::chrono::duration<double, std::milli> ms(deadline.As<Napi::Number>().DoubleValue());
    request.deadline = std::chrono::duration_cast<std::chrono::nanoseconds>(ms);
  }
  return request;
}

Napi::Object FromHistograms(Napi::Env env, const SchedulerHistograms& histograms) {
  Napi::Object object = Napi::Object::New(env);
  const auto numbers = [env](auto values) {
    Napi::Array array = Napi::Array::New(env, values.size());
    for (uint32_t i = 0; i < values.size(); ++i) array.Set(i, static_cast<double>(values[i]));
    return array;
  };
  const auto set = [&](const char* name, const Histogram& histogram) {
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("bounds", numbers(histogram.bounds()));
    entry.Set("counts", numbers(histogram.counts()));
    entry.Set("sum", histogram.sum());
    object.Set(name, entry);
  };
  set("queueMs", histograms.queue_ms);
  set("ttftMs", histograms.ttft_ms);
  set("tpotMs", histograms.tpot_ms);
  set("stepRows", histograms.step_rows);
  set("stepSequences", histograms.step_sequences);
  set("pagesUsed", histograms.pages_used);
  return object;
}

Napi::Object FromEvent(Napi::Env env, const Event& event) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("id", static_cast<double>(event.id));
  object.Set("text", event.text);
  object.Set("tokens", FromTokens(env, event.tokens));
  if (!event.logprobs.empty()) object.Set("logprobs", FromLogprobs(env, event.logprobs));
  if (event.outcome) object.Set("outcome", FromOutcome(env, *event.outcome));
  if (event.snapshot) {
    // Where memory from outside the heap is not allowed, as in Electron, it is copied.
    auto* owner = new std::shared_ptr<const SystemBuffer>(event.snapshot);
    object.Set(
        "snapshot",
        Napi::Buffer<uint8_t>::NewOrCopy(
            env, event.snapshot->as<uint8_t>(), event.snapshot_bytes,
            [](Napi::Env, uint8_t*, std::shared_ptr<const SystemBuffer>* held) { delete held; }, owner));
  }
  if (event.notice != Notice::kNone) {
    object.Set("notice", NoticeName(event.notice));
    object.Set("noticeValue", event.notice_value);
  }
  return object;
}

}  // namespace tokenmill::binding
