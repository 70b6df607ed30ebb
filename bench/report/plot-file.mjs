import { writeFileSync } from "node:fs";

/** Where a result's plot lies: beside it. */
export function plotPathOf(resultPath) {
  return `${resultPath.replace(/\.json$/, "")}.svg`;
}

/** Writes an SVG document and gives its path. */
export function writePlot(path, svg) {
  writeFileSync(path, svg);
  return path;
}
