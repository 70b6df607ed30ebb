import type { GenerationOptions } from "../options";

/** How a command's replies are generated, as commander names it. */
export interface SamplingChoices
  extends Pick<GenerationOptions, "maxTokens" | "temperature" | "topK" | "topP" | "minP" | "seed"> {
  stop?: string[];
}
