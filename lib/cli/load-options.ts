import type { LoadOptions } from "../options";

/** How a command's model is loaded, as commander names it. */
export interface LoadChoices
  extends Pick<
    LoadOptions,
    "device" | "threads" | "contextLength" | "precision" | "quantize" | "packedCache" | "prefixCache"
  > {
  kvCache?: "f16" | "int8";
}

/** A command's options without those that say how its model is loaded. */
export function withoutLoadChoices<Options extends LoadChoices>(options: Options) {
  const { device, threads, contextLength, precision, quantize, kvCache, packedCache, prefixCache, ...rest } =
    options;
  return rest;
}

/** The library's options of what was chosen; the rest stays at its defaults. */
export function loadOptions(choices: LoadChoices): LoadOptions {
  const { device, threads, contextLength, precision, quantize, kvCache, packedCache, prefixCache } = choices;
  return {
    ...(device === undefined ? {} : { device }),
    ...(precision === undefined ? {} : { precision }),
    ...(quantize === undefined ? {} : { quantize }),
    ...(kvCache === undefined ? {} : { kvCache: { type: kvCache } }),
    ...(packedCache === false ? { packedCache } : {}), // else as the environment says
    ...(prefixCache === false ? { prefixCache } : {}),
    ...(threads === undefined ? {} : { threads }),
    ...(contextLength === undefined ? {} : { contextLength }),
  };
}
