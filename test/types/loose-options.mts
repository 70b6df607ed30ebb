// Checked without exactOptionalPropertyTypes, as most projects are: undefined is the same as left out.

import { loadModel, type Model, TokenmillError } from "tokenmill";

export async function ask(model: Model, maxTokens: number | undefined, signal: AbortSignal | undefined) {
  await loadModel("model.gguf", {
    contextLength: undefined,
    memory: undefined,
    onProgress: undefined,
    signal,
  });
  model.tokenize("Once", { bos: undefined });
  void new TokenmillError("Internal", "message", { partial: undefined });
  // @ts-expect-error null is no option's value
  model.generate("Once", { maxTokens: null });
  return model.generate("Once", { maxTokens, signal, stop: undefined });
}
