import type { NativeLoadOptions } from "./native";
import type { LoadOptions } from "./options";
import { toNativeBudget } from "./validate";

/** Checked options as native code takes them, but for where packed weights are kept. */
export function nativeLoadOptions(options: LoadOptions): NativeLoadOptions {
  const { contextLength, threads, maxBatchTokens, maxQueue, targetTpot, memory, prefixCache } = options;
  const prefixCacheBytes = typeof prefixCache === "object" ? prefixCache.maxBytes : undefined;
  return {
    ...(contextLength !== undefined ? { contextLength } : {}),
    ...(threads !== undefined ? { threads } : {}),
    ...(options.precision === "high" ? { highPrecision: true } : {}),
    ...(options.quantize !== undefined ? { quantize: options.quantize } : {}),
    ...(options.kvCache?.type === "int8" ? { kvInt8: true } : {}),
    ...(prefixCache === false ? { prefixCache: false } : {}),
    ...(prefixCacheBytes !== undefined ? { prefixCacheBytes } : {}),
    ...(maxBatchTokens !== undefined ? { maxRows: maxBatchTokens } : {}),
    ...(maxQueue !== undefined ? { maxQueue } : {}),
    ...(targetTpot !== undefined ? { targetTpot } : {}),
    ...(memory?.budget !== undefined ? { budget: toNativeBudget("memory.budget", memory.budget) } : {}),
    ...(memory?.adapters !== undefined ? { adapterBytes: memory.adapters } : {}),
  };
}
