// An engine that behaves as its first parameter says; the second is the milliseconds that it reports.
import { createInterface } from "node:readline";

const [behaviour, ms = "10"] = process.argv.slice(2);

const answers = {
  load: ({ packedCache = true }) => ({
    version: "1",
    importMs: 1,
    loadMs: packedCache ? Number(ms) : 3 * Number(ms),
    configuration: { threads: 1 },
  }),
  run: ({ prompts, tokens }) => {
    const count = prompts.length * tokens;
    const tokensDone = behaviour === "stops-early" ? count - 1 : count;
    return { firstMs: Number(ms), decodeMs: Number(ms), totalMs: 2 * Number(ms), tokens: tokensDone };
  },
};

let runs = 0;
for await (const line of createInterface({ input: process.stdin })) {
  const { id, method, params } = JSON.parse(line);
  const isRun = method === "run" && ++runs > 1;
  if (behaviour === "dies" && isRun) {
    process.stderr.write("out of luck\n");
    process.exit(3);
  }
  if (behaviour === "hangs" && isRun) continue;
  if (behaviour === "rubbish" && isRun) process.stdout.write("loading layer 3…\n");
  else if (behaviour === "stale" && isRun)
    process.stdout.write(`${JSON.stringify({ id: id - 1, result: {} })}\n`);
  else if (behaviour === "empty" && isRun) process.stdout.write(`${JSON.stringify({ id })}\n`);
  else if (behaviour === "refuses")
    process.stdout.write(`${JSON.stringify({ id, error: "no such type" })}\n`);
  else process.stdout.write(`${JSON.stringify({ id, result: answers[method](params) })}\n`);
}
