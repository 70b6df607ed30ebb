import { type FileType, fileTypes, type QuantizeResult } from "../options";
import { quantizeModel } from "../quantize-model";
import { UsageError } from "./exit";
import { withInterrupt } from "./interrupt";
import { write, writeJson } from "./output";
import { ProgressDisplay } from "./progress-display";
import { formatBytes, formatTable } from "./text";

/** The options of `tokenmill quantize`, as commander names them. */
export interface QuantizeCommandOptions {
  type: string;
  pure?: boolean;
  allowRequantize?: boolean;
  force?: boolean;
  threads?: number;
  json?: boolean;
}

function fileTypeOf(name: string): FileType {
  const type = fileTypes.find((known) => known === name);
  if (type === undefined) throw new UsageError(`--type is '${name}'; known are ${fileTypes.join(", ")}`);
  return type;
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
  { json, force, type: name, ...options }: QuantizeCommandOptions,
): Promise<void> {
  const type = fileTypeOf(name);
  const display = new ProgressDisplay();
  const result = await withInterrupt(async (signal) => {
    try {
      const overwrite = force === true;
      return await quantizeModel(source, output, {
        ...options,
        type,
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
