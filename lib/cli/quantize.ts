import type { FileType, QuantizeResult } from "../options";
import { quantizeModel } from "../quantize-model";
import { withInterrupt } from "./interrupt";
import { write, writeJson } from "./output";
import { ProgressDisplay } from "./progress-display";
import { formatBytes, formatTable } from "./text";

/** The options of `tokenmill quantize`, as commander names them. */
export interface QuantizeCommandOptions {
  type: FileType;
  pure?: boolean;
  allowRequantize?: boolean;
  force?: boolean;
  threads?: number;
  json?: boolean;
}

function describeResult({ path, inputBytes, outputBytes, types }: QuantizeResult): string {
  const rows = types.map(({ type, tensors, bytes }) => [type, String(tensors), formatBytes(bytes)]);
  return [
    `${path}: ${formatBytes(outputBytes)} from ${formatBytes(inputBytes)}\n`,
    formatTable([["TYPE", "TENSORS", "SIZE"], ...rows], [1, 2]),
  ].join("");
}

/** `tokenmill quantize`: writes a model in another type. */
export async function quantize(
  source: string,
  output: string,
  { json, force, ...options }: QuantizeCommandOptions,
): Promise<void> {
  const display = new ProgressDisplay();
  const result = await withInterrupt(async (signal) => {
    try {
      const overwrite = force === true;
      return await quantizeModel(source, output, {
        ...options,
        overwrite,
        signal,
        onProgress: display.update,
      });
    } finally {
      display.stop();
    }
  });
  if (json) await writeJson(result);
  else await write(describeResult(result));
}
