// Forks of a long conversation: what making them takes, and what they take before they go their own ways.
import { setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { median } from "../report/statistics.mjs";
import { fork as work } from "./works.mjs";

/** The engine takes note of forks between two steps: after so long it has. */
const settleMs = 100;

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc");

/** What a process and a model's KV cache hold: resident bytes without garbage, bytes of slabs, pages in use. */
async function held(model) {
  await sleep(settleMs);
  collectGarbage();
  const { bytes, pages } = model.stats();
  return { rssBytes: process.memoryUsage.rss(), kvBytes: bytes.kv, pages: pages.used };
}

/** A text of so many tokens. */
function textOf(model, tokens) {
  let text = "";
  for (let day = 1; model.tokenize(text).length < tokens; ++day) {
    text += `On day ${day} the keeper lit the lamp at ${day % 12} and counted ${day * 7} ships. `;
  }
  return text;
}

/** Whether forks that go on answer as the same conversations do that were never forked. */
async function sameReplies(model, session, forks, options) {
  const questions = work.questions.slice(0, forks.length);
  const replies = await Promise.all(questions.map((question, i) => forks[i].send(question, options)));
  const alone = [];
  for (const [i, content] of questions.entries()) {
    const messages = [...session.messages, { role: "user", content }];
    alone.push(await model.chat(messages, { ...options, cacheSalt: `bench fork ${i}` }));
  }
  return replies.every(({ tokens }, i) => tokens.join() === alone[i].tokens.join());
}

/**
 * Forks a session of some depth many times. `timesMs` has each call's time; `before` and `after` what was held
 * without the forks and with them all; `identical` whether a few of them answer as conversations of their own.
 */
export async function measureFork(model, { now = () => performance.now(), holds = held } = {}) {
  const options = { maxTokens: work.answer, temperature: 0 };
  const session = model.session(options);
  const { usage } = await session.send(`${textOf(model, work.depth)}\n\nWhat did the keeper do?`);
  const before = await holds(model);
  const timesMs = [];
  const forks = [];
  for (let i = 0; i < work.count; ++i) {
    const startMs = now();
    forks.push(session.fork());
    timesMs.push(now() - startMs);
  }
  const after = await holds(model);
  const identical = await sameReplies(model, session, forks, options);
  for (const each of [session, ...forks]) each.dispose();
  return { depth: usage.promptTokens + usage.completionTokens, timesMs, before, after, identical };
}

/** The figures of the forks, beside what is demanded of them. Bytes are those of all forks together. */
export function summarizeFork({ depth, timesMs, before, after, identical }) {
  const grown = (name) => after[name] - before[name];
  const figures = {
    depth,
    count: timesMs.length,
    medianMs: median(timesMs),
    maxMs: Math.max(...timesMs),
    rssBytes: grown("rssBytes"),
    kvBytes: grown("kvBytes"),
    pages: grown("pages"),
    identical,
  };
  const { maxMs, bytes } = work.demanded;
  const holds = figures.maxMs < maxMs && Math.max(figures.rssBytes, figures.kvBytes) < bytes;
  return { ...figures, demanded: work.demanded, holds };
}
