import { loadModel } from "../../dist/index.mjs";

/** Loads a model of one kind of layers with a budget that leaves so many pages for the KV cache. */
export async function loadWithPages(path, pages, options = {}) {
  const { weights, scratch, pageBytes } = await sizesOf(path, options);
  return loadModel(path, { ...options, memory: { budget: weights + scratch + pages * pageBytes } });
}

async function sizesOf(path, options) {
  const probe = await loadModel(path, options);
  await probe.generate("Hello", { maxTokens: 1 });
  const { bytes, pages } = probe.stats();
  await probe.dispose();
  return { ...bytes, pageBytes: bytes.kv / (pages.used + pages.cached + pages.free) };
}
