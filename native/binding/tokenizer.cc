#include "binding/tokenizer.h"

#include <functional>

#include "binding/convert.h"
#include "binding/instance.h"

namespace tokenmill::binding {
namespace {

std::vector<std::string> ToStrings(const Napi::Value& value) {
  std::vector<std::string> strings;
  if (!value.IsArray()) return strings;
  const Napi::Array array = value.As<Napi::Array>();
  strings.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); ++i)
    strings.push_back(array.Get(i).As<Napi::String>().Utf8Value());
  return strings;
}

// Merges come as one flat list: left and right of each in turn.
std::vector<std::pair<std::string, std::string>> ToMerges(const Napi::Value& value) {
  std::vector<std::string> flat = ToStrings(value);
  std::vector<std::pair<std::string, std::string>> merges;
  for (size_t i = 0; i + 1 < flat.size(); i += 2)
    merges.emplace_back(std::move(flat[i]), std::move(flat[i + 1]));
  return merges;
}

TokenizerSpec ToSpec(const Napi::Object& object) {
  TokenizerSpec spec;
  spec.model = GetString(object, "model", "") == "sentencePieceBpe" ? TokenizerSpec::Model::kSentencePieceBpe
                                                                    : TokenizerSpec::Model::kByteLevelBpe;
  spec.pre = GetString(object, "pre", "default");
  spec.tokens = ToStrings(object.Get("tokens"));
  if (object.Get("kinds").IsTypedArray()) {
    const Napi::Uint8Array kinds = object.Get("kinds").As<Napi::Uint8Array>();
    for (size_t i = 0; i < kinds.ElementLength(); ++i) spec.kinds.push_back(static_cast<TokenKind>(kinds[i]));
  }
  if (object.Get("scores").IsTypedArray()) {
    const Napi::Float32Array scores = object.Get("scores").As<Napi::Float32Array>();
    spec.scores.assign(scores.Data(), scores.Data() + scores.ElementLength());
  }
  spec.merges = ToMerges(object.Get("merges"));
  spec.add_bos = GetBool(object, "addBos", false);
  spec.add_eos = GetBool(object, "addEos", false);
  spec.add_space_prefix = GetBool(object, "addSpacePrefix", false);
  spec.ignore_merges = GetBool(object, "ignoreMerges", false);
  spec.nfc = GetBool(object, "nfc", false);
  spec.bos = static_cast<Token>(GetNumber(object, "bos", -1));
  spec.eos = static_cast<Token>(GetNumber(object, "eos", -1));
  spec.unk = static_cast<Token>(GetNumber(object, "unk", -1));
  spec.pad = static_cast<Token>(GetNumber(object, "pad", -1));
  if (object.Get("endOfGeneration").IsArray()) {
    const Napi::Array ends = object.Get("endOfGeneration").As<Napi::Array>();
    for (uint32_t i = 0; i < ends.Length(); ++i)
      spec.end_of_generation.push_back(ends.Get(i).ToNumber().Int32Value());
  }
  return spec;
}

using MakeResult = Result<std::shared_ptr<const Tokenizer>>;

// Builds a tokenizer away from the event loop.
class MakeTokenizerWorker final : public Napi::AsyncWorker {
 public:
  static Napi::Promise Start(Napi::Env env, std::function<MakeResult()> make) {
    auto* worker = new MakeTokenizerWorker(env, std::move(make));
    const Napi::Promise promise = worker->deferred_.Promise();
    worker->Queue();
    return promise;
  }

  void Execute() override { result_ = make_(); }

  void OnOK() override {
    if (result_.ok()) {
      deferred_.Resolve(TokenizerHandle::New(Env(), std::move(result_).value()));
    } else {
      deferred_.Reject(ToError(Env(), result_.status()).Value());
    }
  }
  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

 private:
  MakeTokenizerWorker(Napi::Env env, std::function<MakeResult()> make)
      : Napi::AsyncWorker(env), make_(std::move(make)), deferred_(Napi::Promise::Deferred::New(env)) {}

  const std::function<MakeResult()> make_;
  Napi::Promise::Deferred deferred_;
  MakeResult result_ = Status(Code::kInternal, "not made");
};

}  // namespace

Napi::Value Tokenize(const Napi::CallbackInfo& info, const Tokenizer& tokenizer) {
  const std::string text = info[0].As<Napi::String>().Utf8Value();
  EncodeOptions options;
  options.special = info[1].ToBoolean();
  options.bos = info[2].IsUndefined() ? tokenizer.spec().add_bos : info[2].ToBoolean().Value();
  std::vector<Token> tokens;
  tokenizer.Encode(text, options, &tokens);
  return FromTokens(info.Env(), tokens);
}

Napi::Value Detokenize(const Napi::CallbackInfo& info, const Tokenizer& tokenizer) {
  const std::vector<Token> tokens = ToTokens(info[0]);
  for (const Token token : tokens) {
    if (token >= 0 && token < tokenizer.vocabulary_size()) continue;
    throw ToError(info.Env(), Error(Code::kInvalidArgument, "token %d is not in the vocabulary of %d tokens",
                                    token, tokenizer.vocabulary_size()));
  }
  return Napi::String::New(info.Env(), tokenizer.Decode(tokens.data(), tokens.size(), info[1].ToBoolean()));
}

Napi::Object DescribeTokenizer(Napi::Env env, const Tokenizer& tokenizer) {
  const TokenizerSpec& spec = tokenizer.spec();
  const auto text = [&](Token token) {
    return token < 0 ? std::string() : std::string(tokenizer.Bytes(token, true));
  };
  Napi::Object object = Napi::Object::New(env);
  object.Set("vocabularySize", tokenizer.vocabulary_size());
  object.Set("addBos", spec.add_bos);
  object.Set("bos", text(spec.bos));
  object.Set("eos", text(spec.eos));
  Napi::Array special = Napi::Array::New(env);
  for (Token token = 0; token < tokenizer.vocabulary_size(); ++token) {
    if (tokenizer.kind(token) == TokenKind::kControl) special.Set(special.Length(), text(token));
  }
  object.Set("special", special);
  return object;
}

Napi::Function TokenizerHandle::Define(Napi::Env env) {
  return DefineClass(env, "NativeTokenizer",
                     {InstanceMethod("tokenize", &TokenizerHandle::TokenizeText),
                      InstanceMethod("detokenize", &TokenizerHandle::DetokenizeTokens),
                      InstanceMethod("describe", &TokenizerHandle::Describe)});
}

Napi::Object TokenizerHandle::New(Napi::Env env, std::shared_ptr<const Tokenizer> tokenizer) {
  Napi::Object object = InstanceOf(env).tokenizer_class.New({});
  Unwrap(object)->tokenizer_ = std::move(tokenizer);
  return object;
}

Napi::Value OpenTokenizer(const Napi::CallbackInfo& info) {
  return MakeTokenizerWorker::Start(info.Env(),
                                    [path = info[0].As<Napi::String>().Utf8Value()]() -> MakeResult {
                                      TM_ASSIGN_OR_RETURN(const auto file, GgufFile::Open(path));
                                      TM_ASSIGN_OR_RETURN(TokenizerSpec spec, ReadTokenizerSpec(*file));
                                      return Tokenizer::Create(std::move(spec));
                                    });
}

Napi::Value MakeTokenizer(const Napi::CallbackInfo& info) {
  auto spec = std::make_shared<TokenizerSpec>(ToSpec(info[0].As<Napi::Object>()));
  return MakeTokenizerWorker::Start(info.Env(), [spec] { return Tokenizer::Create(std::move(*spec)); });
}

}  // namespace tokenmill::binding
