import { callNative, native } from "./native";
import type { QuantizeOptions, QuantizeResult } from "./options";
import { resolveSource } from "./sources/resolve-source";
import { checkQuantizeOptions, invalid } from "./validate";
import { writeModel } from "./write-model";

/**
 * Writes a model in another type, such as Q4_K_M: a smaller file, and faster where reading weights takes the
 * time. The source is anything that `loadModel` takes, as a GGUF file with weights in F32, F16 or BF16. Everything
 * else in it is copied. The output appears when it is complete, and is the same however many threads compute; what
 * was aborted or failed leaves nothing. An error that `onProgress` throws ends the work and is what the promise
 * rejects with.
 *
 * @throws TokenmillError InvalidArgument when the source is quantized already (see `allowRequantize`), when the
 *   output exists (see `overwrite`), is the source itself or cannot be written; CorruptFile for damaged files and
 *   weights that are not finite; UnsupportedQuantization for weights that cannot be read or that the type cannot
 *   hold; OutOfMemory, also of the disk; ModelNotFound, Download, UnsupportedModel, Incompatible or Aborted
 * @example
 * const { outputBytes } = await quantizeModel("model-f16.gguf", "model-q4.gguf", { type: "Q4_K_M" });
 */
export async function quantizeModel(
  source: string,
  output: string,
  options: QuantizeOptions,
): Promise<QuantizeResult> {
  if (typeof source !== "string" || source === "")
    throw invalid("source", source, "a path, alias or model reference");
  if (typeof output !== "string" || output === "") throw invalid("output", output, "the path of a file");
  checkQuantizeOptions(options);
  const { path } = await resolveSource(source, options);
  const { type, threads, pure = false, allowRequantize = false, overwrite = false } = options;
  const nativeOptions = {
    type,
    pure,
    allowRequantize,
    overwrite,
    ...(threads === undefined ? {} : { threads }),
  };
  return writeModel(output, options, { doing: `quantizing '${source}'`, file: path }, (target, report) =>
    callNative(() => native().quantizeModel(path, target, nativeOptions, report)),
  );
}
