// The other end of engine-process.mjs, in an engine's own process.
import { createInterface } from "node:readline";

/**
 * Answers requests by the handlers' methods, one after the other, until standard input ends.
 * @param {Record<string, (params: object) => Promise<object>>} handlers
 */
export async function serve(handlers) {
  for await (const line of createInterface({ input: process.stdin })) {
    const { id, method, params } = JSON.parse(line);
    let answer;
    try {
      answer = { id, result: await handlers[method](params) };
    } catch (error) {
      answer = { id, error: error instanceof Error ? error.message : String(error) };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
  process.exit(0);
}
