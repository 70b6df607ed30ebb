import { chooseDevice } from "./device";
import { native, toTokenmillError } from "./native";
import { nativeLoadOptions } from "./native-load-options";
import type { LoadOptions } from "./options";
import { throwIfAborted } from "./sources/failure";
import { resolveSource } from "./sources/resolve-source";
import { checkLoadOptions, invalid } from "./validate";

/** What a model takes, in bytes. */
export interface MemoryEstimate {
  /** The weights, as the kernels hold them. */
  weights: number;
  /**
   * Keys and values of one reply of `contextLength` tokens. Further replies and, with `prefixCache`, what earlier ones
   * left take more, as far as the budget goes.
   */
  kv: number;
  /** What steps compute in. */
  scratch: number;
  /** All of that: the least budget for this context. */
  total: number;
  /**
   * Tokens of context that the model would have: those asked for, else as trained or what the budget holds. If that is
   * too little, the fewest that a load would accept.
   */
  contextLength: number;
  /** What `memory.budget` comes to. */
  budget: number;
  /** What the system could give now, or the GPUs that would hold the model. */
  available: number;
  /** Whether `total` is within the budget; `loadModel` refuses with `OutOfMemory` if not. */
  fits: boolean;
}

/**
 * Says what `loadModel` would take with the same source and options, from the file's header, by the code that sizes a
 * load. A source that is not on this machine is downloaded as `loadModel` does it.
 *
 * @throws TokenmillError as `loadModel`, without OutOfMemory for the budget
 * @example
 * const { total, fits } = await estimateMemory("smollm2-135m-instruct", { contextLength: 4096 });
 */
export async function estimateMemory(source: string, options: LoadOptions = {}): Promise<MemoryEstimate> {
  if (typeof source !== "string" || source === "")
    throw invalid("source", source, "a path, alias or model reference");
  checkLoadOptions(options, "estimateMemory");
  const { options: device } = chooseDevice(options.device);
  const { path } = await resolveSource(source, options);
  try {
    const estimate = await native().estimateMemory(path, { ...nativeLoadOptions(options), ...device });
    throwIfAborted(options.signal, "Estimating the memory");
    return estimate;
  } catch (error) {
    throw toTokenmillError(error);
  }
}
