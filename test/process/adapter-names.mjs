// Run by adapter-names.test.mjs: registers adapters under many names and prints what each takes.
import { setTimeout as sleep } from "node:timers/promises";
import { loadModel } from "../../dist/index.mjs";

const { modelPath, folders, first, more } = JSON.parse(process.argv[2]);
const model = await loadModel(modelPath, { contextLength: 64 });

async function register(from, count) {
  for (let i = from; i < from + count; i += 1)
    await model.loadAdapter(folders[i % folders.length], { name: `adapter ${i}` });
  for (let i = 0; i < 5; i += 1) {
    globalThis.gc();
    await sleep(10);
  }
  return process.memoryUsage();
}

const before = await register(0, first);
const after = await register(first, more);
const each = (of) => (after[of] - before[of]) / more / 1024;
const { registered } = model.stats().adapters;
const names = model.adapters().length;
await model.dispose();
console.log(JSON.stringify({ rss: each("rss"), heap: each("heapUsed"), registered, names }));
