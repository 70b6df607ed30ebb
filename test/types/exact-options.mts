// Checked with exactOptionalPropertyTypes: what is optional is left out, or spread in where it is there.

import { type GenerationOptions, type Model, TokenmillError } from "tokenmill";

export function ask(model: Model, maxTokens: number | undefined, signal: AbortSignal | undefined) {
  const options: GenerationOptions = {
    ...(maxTokens === undefined ? {} : { maxTokens }),
    ...(signal && { signal }),
  };
  // @ts-expect-error undefined is not the same as left out
  model.generate("Once", { maxTokens });
  // @ts-expect-error an error has a partial completion or none
  void new TokenmillError("Internal", "message", { partial: undefined });
  return model.generate("Once", options);
}
