#pragma once

#include <napi.h>

#include <memory>

#include "tokenizer/tokenizer.h"

namespace tokenmill::binding {

/// tokenize(text, special, bos) for both kinds of handle; `bos` undefined: as the tokenizer's metadata says.
Napi::Value Tokenize(const Napi::CallbackInfo& info, const Tokenizer& tokenizer);
/// detokenize(Int32Array, special)
Napi::Value Detokenize(const Napi::CallbackInfo& info, const Tokenizer& tokenizer);
/// { vocabularySize, addBos, bos, eos, special: string[] }: texts of the special tokens, "" where absent.
Napi::Object DescribeTokenizer(Napi::Env env, const Tokenizer& tokenizer);

/// A tokenizer alone.
class TokenizerHandle : public Napi::ObjectWrap<TokenizerHandle> {
 public:
  static Napi::Function Define(Napi::Env env);
  static Napi::Object New(Napi::Env env, std::shared_ptr<const Tokenizer> tokenizer);
  explicit TokenizerHandle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<TokenizerHandle>(info) {}

 private:
  Napi::Value TokenizeText(const Napi::CallbackInfo& info) { return Tokenize(info, *tokenizer_); }
  Napi::Value DetokenizeTokens(const Napi::CallbackInfo& info) { return Detokenize(info, *tokenizer_); }
  Napi::Value Describe(const Napi::CallbackInfo& info) { return DescribeTokenizer(info.Env(), *tokenizer_); }

  std::shared_ptr<const Tokenizer> tokenizer_;
};

/// openTokenizer(path) → promise; of any GGUF file, also one without tensors.
Napi::Value OpenTokenizer(const Napi::CallbackInfo& info);
/// makeTokenizer(spec) → promise; NativeTokenizerSpec of lib/native.ts.
Napi::Value MakeTokenizer(const Napi::CallbackInfo& info);

}  // namespace tokenmill::binding
