// Restores a session in a process of its own, and prints how it goes on.
import { readFile } from "node:fs/promises";
import { loadModel } from "../../dist/index.mjs";

const [model, options, snapshot, turns] = process.argv.slice(2);
const loaded = await loadModel(model, JSON.parse(options));
const session = await loaded.restore(await readFile(snapshot));
const said = [];
for (const [text, more] of JSON.parse(turns)) {
  const { tokens, logprobs, usage } = await session.send(text, more);
  said.push({ tokens, logprobs, cached: usage.cachedTokens });
}
console.log(JSON.stringify({ said, messages: session.messages }));
await loaded.dispose();
