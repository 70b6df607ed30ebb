import { type FileType, fileTypes, type QuantizeResult, type SourceOptions } from "../options";
import { UsageError } from "./exit";
import { withInterrupt } from "./interrupt";
import { write, writeJson } from "./output";
import { ProgressDisplay } from "./progress-display";
import { formatBytes, formatTable } from "./text";

/** The value of --type. */
export function fileTypeOf(name: string): FileType {
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

/** Runs what writes a model, with its progress shown, and says what was written. */
export async function writeModelFile(
  json: boolean,
  run: (options: SourceOptions) => Promise<QuantizeResult>,
): Promise<void> {
  const display = new ProgressDisplay();
  const result = await withInterrupt(async (signal) => {
    try {
      return await run({ signal, onProgress: display.update });
    } finally {
      display.stop();
    }
  });
  if (json) await writeJson(result);
  else await write(describeResult(result));
}
