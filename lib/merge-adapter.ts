import { readAdapter } from "./adapters/read-adapter";
import { callNative, native } from "./native";
import type { MergeOptions, QuantizeResult } from "./options";
import { resolveAdapterSource } from "./sources/resolve-adapter-source";
import { resolveSource } from "./sources/resolve-source";
import { checkMergeOptions, invalid } from "./validate";
import { writeModel } from "./write-model";

/**
 * Writes a model with an adapter (LoRA) merged into its weights: W + scale * B A in f32, then each tensor in its own
 * type again, or in those of `type`. Weights of 4 bits round most of a small adapter away: start from a file of 16
 * bits, or let the output have `type` "Q8_0". The adapter is a folder as PEFT saves it, a GGUF file, or any source
 * that leads to one. Where the model shares the output matrix with its embedding and the adapter changes it, the
 * output has two. The file appears when it is complete.
 *
 * @throws TokenmillError InvalidArgument, ModelNotFound, Download, Aborted, OutOfMemory; CorruptFile,
 *   UnsupportedModel and UnsupportedQuantization for what is wrong with either, naming the tensor; Incompatible for
 *   an adapter of another model
 * @example
 * await mergeAdapter("model.gguf", "./my-adapter", "merged.gguf");
 */
export async function mergeAdapter(
  model: string,
  adapter: string,
  output: string,
  options: MergeOptions = {},
): Promise<QuantizeResult> {
  for (const [name, source] of Object.entries({ model, adapter })) {
    if (typeof source !== "string" || source === "")
      throw invalid(name, source, "a path, alias or other source");
  }
  if (typeof output !== "string" || output === "") throw invalid("output", output, "the path of a file");
  checkMergeOptions(options);
  const { path } = await resolveSource(model, options);
  const { spec } = await readAdapter((await resolveAdapterSource(adapter, options)).path);
  const { type, threads, scale = 1, overwrite = false } = options;
  const nativeOptions = {
    scale,
    overwrite,
    ...(type === undefined ? {} : { type }),
    ...(threads === undefined ? {} : { threads }),
  };
  return writeModel(
    output,
    options,
    { doing: `merging '${adapter}' into '${model}'`, file: path },
    (target, report) => callNative(() => native().mergeAdapter(path, spec, target, nativeOptions, report)),
  );
}
