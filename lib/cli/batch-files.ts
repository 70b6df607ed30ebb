import { createReadStream } from "node:fs";
import { truncate } from "node:fs/promises";
import type { BatchInput, BatchResult } from "../batch/batch-item";
import { UsageError } from "./exit";

const newline = 10;

interface Line {
  /** From 1. */
  number: number;
  text: string;
  /** Bytes of the file up to its end. */
  endBytes: number;
  /** Whether a newline ends it. */
  isWhole: boolean;
}

async function* linesOf(stream: AsyncIterable<Buffer>): AsyncGenerator<Line> {
  let [number, endBytes] = [0, 0];
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of stream) {
    rest = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk;
    let begin = 0;
    for (let end = rest.indexOf(newline); end >= 0; end = rest.indexOf(newline, begin)) {
      number += 1;
      endBytes += end + 1 - begin;
      yield { number, text: rest.toString("utf8", begin, end), endBytes, isWhole: true };
      begin = end + 1;
    }
    rest = rest.subarray(begin);
  }
  if (rest.length === 0) return;
  yield { number: number + 1, text: rest.toString("utf8"), endBytes: endBytes + rest.length, isWhole: false };
}

function parse(path: string, { number, text }: Line): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new UsageError(`${path}:${number} is not JSON: ${(error as Error).message}`, { cause: error });
  }
}

/** The items of a JSONL file, or of stdin for "-": a prompt as a string, or an item of `generateMany`, a line. */
export async function* readItems(path: string): AsyncGenerator<BatchInput> {
  const stream: AsyncIterable<Buffer> = path === "-" ? process.stdin : createReadStream(path);
  for await (const line of linesOf(stream)) {
    if (line.text.trim() !== "") yield parse(path, line) as BatchInput;
  }
}

/** One line of the output: what the completion has of use, or the error. */
export function toLine({ id, index, completion, error }: BatchResult): string {
  const row = error
    ? { id, index, error: { code: error.code, message: error.message } }
    : {
        id,
        index,
        text: completion.text,
        finishReason: completion.finishReason,
        seed: completion.seed,
        usage: completion.usage,
        ...(completion.logprobs ? { tokens: completion.tokens, logprobs: completion.logprobs } : {}),
      };
  return `${JSON.stringify(row)}\n`;
}

/** Ids that an output has a text for. A last line that was not written whole is cut off. */
export async function readDoneIds(path: string): Promise<Set<string>> {
  const done = new Set<string>();
  let wholeBytes = 0;
  for await (const line of linesOf(createReadStream(path))) {
    if (!line.isWhole) {
      await truncate(path, wholeBytes);
      break;
    }
    const row = parse(path, line) as { id?: unknown; text?: unknown } | null;
    if (typeof row?.id !== "string")
      throw new UsageError(`${path}:${line.number} is not a line of a batch's output`);
    if (typeof row.text === "string") done.add(row.id);
    wholeBytes = line.endBytes;
  }
  return done;
}
