import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { linearLayers, writeAdapter } from "../../bench/adapters/synthetic-adapter.mjs";

const folder = mkdtempSync(join(tmpdir(), "tokenmill-adapters-"));
after(() => rmSync(folder, { recursive: true, force: true }));

let adapters = 0;

/** An adapter's folder, for the linear layers of a model that `of` selects, strong enough to change its replies. */
export function randomAdapter(
  modelPath,
  { rank = 8, seed = adapters, alpha = 64 * rank, of = () => true } = {},
) {
  const layers = linearLayers(modelPath).filter(({ module }) => of(module));
  return writeAdapter(join(folder, `adapter-${adapters++}`), layers, { rank, seed, alpha });
}
