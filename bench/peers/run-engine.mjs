import { readFileSync } from "node:fs";
import { EngineError, EngineProcess } from "../engines/engine-process.mjs";

/**
 * Starts an engine and has it load the model.
 * @param {boolean} [packedCache] whether ours may keep packed weights; the peers have no such thing
 */
export async function startEngine(
  { name, program },
  { path, threads, contextTokens, timeoutMs },
  packedCache,
) {
  const engine = new EngineProcess(name, program);
  try {
    const loaded = await engine.request(
      "load",
      { model: path, threads, contextTokens, packedCache },
      timeoutMs,
    );
    return { engine, loaded };
  } catch (error) {
    await engine.close();
    throw error;
  }
}

/** Has an engine answer a work's prompts; it must decode as many tokens as were asked for. */
export async function runRequest(engine, name, { request, prompts, timeoutMs }) {
  const { purpose, tokens } = request;
  const answer = await engine.request("run", { purpose, prompts, tokens }, timeoutMs);
  const expected = tokens * prompts.length;
  if (answer.tokens === expected) return answer;
  throw new EngineError(`${name}: decoded ${answer.tokens} tokens instead of ${expected}`);
}

/** The most memory that a process has had resident; undefined where the system does not say. */
export function peakBytesOf(pid) {
  try {
    const [, kilobytes] = /^VmHWM:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
    return kilobytes === undefined ? undefined : Number(kilobytes) * 1024;
  } catch {
    return undefined;
  }
}
