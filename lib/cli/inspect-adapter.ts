import type { AdapterFile } from "../adapters/adapter-spec";
import { readAdapter, summarizeAdapter } from "../adapters/read-adapter";
import { printable } from "../printable";
import { write, writeJson } from "./output";
import { formatBytes, formatTable } from "./text";

function describeAdapter(file: AdapterFile): string {
  const { ranks, scales, targets, types, bytes, parameters } = summarizeAdapter(file);
  const { spec, name, format, baseModel, alpha } = file;
  const base = printable(baseModel === "" ? spec.architecture : baseModel);
  const scaleText = scales.map((scale) => String(Number(scale.toPrecision(4)))).join(", ");
  const targetRows = targets.map(({ target, count }) => [printable(target), String(count)]);
  const tensorRows = spec.entries.map(({ target, scale, a, b }) => {
    const type = a.dtype === b.dtype ? a.dtype : `${a.dtype}, ${b.dtype}`;
    return [
      printable(target),
      type,
      String(a.rows),
      String(Number(scale.toPrecision(4))),
      `${b.rows} × ${a.cols}`,
    ];
  });
  return [
    `${printable(spec.path)}\n${format === "peft" ? "PEFT" : "GGUF"} adapter "${name}"`,
    `${base === "" ? "" : ` of ${base}`}, ${formatBytes(bytes)} in ${types.join(", ")}, ${parameters} parameters\n`,
    `Rank ${ranks.join(", ")}, alpha ${alpha}, scale ${scaleText}\n`,
    `\n${formatTable([["TARGET", "COUNT"], ...targetRows], [1])}`,
    `\n${formatTable([["MODULE", "TYPE", "RANK", "SCALE", "SHAPE"], ...tensorRows], [2, 3])}`,
  ].join("");
}

/** `tokenmill inspect` of an adapter: what its files say of it. */
export async function inspectAdapter(
  path: string,
  folderName: string | undefined,
  options: { json?: boolean },
): Promise<void> {
  const file = await readAdapter(path, folderName);
  if (!options.json) return write(describeAdapter(file));
  const { spec, ...rest } = file;
  await writeJson({ ...rest, path: spec.path, ...summarizeAdapter(file), entries: spec.entries });
}
