import assert from "node:assert/strict";
import { test } from "node:test";
import { describeFork } from "../../../bench/reuse/command.mjs";
import { measureFork, summarizeFork } from "../../../bench/reuse/fork.mjs";

/** A model whose forks take the milliseconds and bytes that the test says, and that answers with a text's words. */
class FakeModel {
  nowMs = 0;
  rssBytes = 50e6;
  pages = 7;
  live = 0;
  chats = [];
  sends = [];

  constructor({ forkMs, forkBytes = 0, forkPages = 0, forkAnswers = (words) => words }) {
    Object.assign(this, { forkMs, forkBytes, forkPages, forkAnswers });
    this.count = 0;
  }

  tokenize = (text) => text.split(" ").slice(0, -1);
  answer = (text) => ({ tokens: text.split(" "), usage: { promptTokens: 2100, completionTokens: 16 } });

  session() {
    this.live += 1;
    return this.#conversation(false);
  }

  #conversation(isFork) {
    return {
      messages: [{ role: "user", content: "said" }],
      send: async (content, options) => {
        this.sends.push({ content, isFork, options });
        const reply = this.answer(content);
        return isFork ? { ...reply, tokens: this.forkAnswers(reply.tokens) } : reply;
      },
      fork: () => {
        this.nowMs += this.forkMs(this.count++);
        this.rssBytes += this.forkBytes;
        this.pages += this.forkPages;
        this.live += 1;
        return this.#conversation(true);
      },
      dispose: () => {
        this.live -= 1;
      },
    };
  }

  async chat(messages, options) {
    this.chats.push({ messages, options });
    return this.answer(messages.at(-1).content);
  }
}

const measure = (model) =>
  measureFork(model, {
    now: () => model.nowMs,
    holds: async () => ({ rssBytes: model.rssBytes, kvBytes: model.pages * 1000, pages: model.pages }),
  });

test("each of a hundred forks is timed by itself, and what they hold is counted without what was there", async () => {
  const model = new FakeModel({
    forkMs: (i) => (i === 40 ? 0.9 : 0.01 * (i % 3)),
    forkBytes: 5000,
    forkPages: 1,
  });
  const measured = await measure(model);
  assert.equal(measured.timesMs.length, 100);
  assert.ok(Math.abs(measured.timesMs[40] - 0.9) < 1e-9);
  const summary = summarizeFork(measured);
  assert.ok(Math.abs(summary.medianMs - 0.01) < 1e-9 && Math.abs(summary.maxMs - 0.9) < 1e-9);
  assert.deepEqual(
    [summary.depth, summary.count, summary.rssBytes, summary.kvBytes, summary.pages],
    [2116, 100, 500_000, 100_000, 100],
  );
  assert.deepEqual([summary.identical, summary.holds, model.live], [true, true, 0]);
  assert.match(model.sends[0].content, /^On day 1 .*\?$/s);
  assert.ok(model.tokenize(model.sends[0].content).length >= 2000, "the conversation is as long as it says");
});

test("some forks are asked different things, and the same of conversations that share nothing", async () => {
  const model = new FakeModel({ forkMs: () => 0.1 });
  await measure(model);
  const [, ...forks] = model.sends;
  assert.ok(forks.length > 1 && forks.every(({ isFork }) => isFork));
  assert.equal(new Set(forks.map(({ content }) => content)).size, forks.length);
  assert.deepEqual(
    model.chats.map(({ messages }) => messages.map(({ content }) => content)),
    forks.map(({ content }) => ["said", content]),
  );
  assert.equal(new Set(model.chats.map(({ options }) => options.cacheSalt)).size, forks.length);
  for (const [i, { options }] of model.chats.entries())
    assert.deepEqual(options, { ...forks[i].options, cacheSalt: options.cacheSalt });
});

test("one slow fork, a byte too many and another answer are each told", async () => {
  const verdict = async (behaviour) => {
    const { holds, identical } = summarizeFork(await measure(new FakeModel(behaviour)));
    return [holds, identical];
  };
  const slow = (i) => (i === 99 ? 1.5 : 0.001);
  const quick = () => 0.001;
  assert.deepEqual(await verdict({ forkMs: slow }), [false, true]);
  assert.deepEqual(await verdict({ forkMs: quick, forkBytes: 9999 }), [true, true]);
  assert.deepEqual(await verdict({ forkMs: quick, forkBytes: 10_000 }), [false, true]);
  assert.deepEqual(await verdict({ forkMs: quick, forkPages: 10 }), [false, true], "slabs count as well");
  const other = (words) => [...words.slice(1), "else"];
  assert.deepEqual(await verdict({ forkMs: quick, forkAnswers: other }), [true, false]);
});

test("the row has the figures and what is demanded", async () => {
  const summary = summarizeFork(await measure(new FakeModel({ forkMs: () => 0.5, forkBytes: 20_000 })));
  const [head, row, time, memory] = describeFork(summary)
    .trimEnd()
    .split("\n")
    .map((line) => line.trim().split(/ {2,}/));
  assert.deepEqual(head.slice(0, 5), ["FORKS", "TOKENS", "MEDIAN MS", "MAX MS", "RESIDENT KB"]);
  assert.deepEqual(row, ["100", "2116", "0.500", "0.500", "2000", "0", "0", "yes"]);
  assert.deepEqual(
    [time, memory],
    [
      ["each fork's time: HOLDS, by 50 %: below 1 ms"],
      ["memory of all forks: MISSED, by 100 %: below 1000 KB"],
    ],
  );
});
