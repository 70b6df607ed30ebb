// What the models compute, against PyTorch + transformers on the same weights (test/oracle makes the fixtures).
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { loadModel } from "../../dist/index.mjs";
import { gemma3, modelTest, nativeTests, root, smollm2 } from "../support/models.mjs";
import { kldTop, readWindowFixture } from "./window-fixture.mjs";

const fixtures = join(root, "test/fixtures/model");

/** The instruction sets that this machine can run, besides the reference. */
const isas = await (async () => {
  const { native } = await import("../../dist/native.js").then((module) => module.default ?? module);
  return native().availableIsas();
})();

const loaded = [];
after(() => Promise.all(loaded.map((model) => model.dispose())));

async function load(path, options) {
  const model = await loadModel(path, options);
  loaded.push(model);
  return model;
}

/** Native programs to ask: this machine's, and those built with emulated AVX-512 where there are any. */
const builds = isas.map((isa) => ({ isa, programs: nativeTests }));
const emulated = process.env.TOKENMILL_EMULATED_TESTS;
if (emulated) builds.push({ isa: "avx512", programs: emulated });

/** All logits of a window, one Float32Array a position asked for. */
async function logitsAt(path, { isa, programs }, tokens, positions) {
  const child = spawn(join(programs, "logits_cli"), [path], {
    env: { ...process.env, TOKENMILL_ISA: isa },
    stdio: ["pipe", "pipe", "inherit"],
  });
  child.stdin.end(`${JSON.stringify({ tokens })}\n`);
  const wanted = new Set(positions);
  const rows = new Map();
  let header;
  let pending = Buffer.alloc(0);
  let row = 0;
  for await (const chunk of child.stdout) {
    pending = Buffer.concat([pending, chunk]);
    if (header === undefined) {
      const end = pending.indexOf("\n");
      if (end < 0) continue;
      header = pending.toString("latin1", 0, end).split(" ").map(Number);
      pending = pending.subarray(end + 1);
    }
    const bytes = header[1] * 4;
    while (pending.length >= bytes) {
      if (wanted.has(row)) rows.set(row, new Float32Array(new Uint8Array(pending.subarray(0, bytes)).buffer));
      pending = pending.subarray(bytes);
      row++;
    }
  }
  assert.equal(row, tokens.length);
  return positions.map((position) => rows.get(position));
}

// Bounds: the reference's own, and 1.1 times llama.cpp's mean divergence on this text (0.00295 and 0.00463).
const bounds = {
  "smollm2-135m-instruct": { reference: 1e-5, packed: 0.00324 },
  "gemma-3-270m": { reference: 1e-5, packed: 0.00509 },
};

for (const [name, path] of Object.entries({ "smollm2-135m-instruct": smollm2, "gemma-3-270m": gemma3 })) {
  for (const build of builds) {
    const { isa } = build;
    if (isa === "reference" && name === "gemma-3-270m") continue; // minutes; npm run test:kld has it
    modelTest(
      `${name}, ${isa}: one window's divergence from the f32 oracle is within its bound`,
      path,
      async () => {
        const fixture = readWindowFixture(name);
        const logits = await logitsAt(path, build, fixture.tokens, fixture.positions);
        const divergences = fixture.top.map((row, i) => kldTop(row, logits[i]));
        const mean = divergences.reduce((sum, value) => sum + value, 0) / divergences.length;
        const same = fixture.top.filter((row, i) => {
          const best = logits[i].reduce((top, value, id, all) => (value > all[top] ? id : top), 0);
          return best === row.ids[0];
        }).length;
        console.log(
          `# ${name} ${isa}: mean KLD ${mean.toExponential(3)}, same top ${same}/${divergences.length}`,
        );
        const bound = bounds[name][isa === "reference" ? "reference" : "packed"];
        assert.ok(mean <= bound, `mean KLD ${mean} is above ${bound}`);
        assert.ok(same / divergences.length >= 0.9, `${same} of ${divergences.length} top tokens agree`);
      },
    );
  }
}

modelTest(
  "SmolLM2 continues greedily as the oracle does, up to its first near tie",
  smollm2,
  async (path) => {
    const { cases } = JSON.parse(readFileSync(join(fixtures, "smollm2-135m-instruct.greedy.json"), "utf8"));
    const model = await load(path);
    const replies = await Promise.all(
      cases.map(({ messages, continuation }) =>
        model.chat(messages, { maxTokens: continuation.length, temperature: 0, ignoreEos: true }),
      ),
    );
    let compared = 0;
    for (const [i, { tokens, continuation, margins }] of cases.entries()) {
      assert.equal(
        replies[i].usage.promptTokens,
        tokens.length,
        "the prompt has the oracle's number of tokens",
      );
      for (let t = 0; t < continuation.length && margins[t] > 0.75; t++, compared++) {
        assert.equal(replies[i].tokens[t], continuation[t], `case ${i}, token ${t}`);
      }
    }
    assert.ok(compared >= 40, `${compared} tokens were compared`);
  },
);

modelTest("Gemma continues greedily as the oracle does, up to its first near tie", gemma3, async (path) => {
  const { cases } = JSON.parse(readFileSync(join(fixtures, "gemma-3-270m.greedy.json"), "utf8"));
  const model = await load(path, { contextLength: 2048 });
  const replies = await Promise.all(
    cases.map(({ tokens, continuation }) =>
      model.generate(tokens, { maxTokens: continuation.length, temperature: 0, ignoreEos: true }),
    ),
  );
  let compared = 0;
  for (const [i, { continuation, margins }] of cases.entries()) {
    for (let t = 0; t < continuation.length && margins[t] > 0.75; t++, compared++) {
      assert.equal(replies[i].tokens[t], continuation[t], `case ${i}, token ${t}`);
    }
  }
  assert.ok(compared >= 20, `${compared} tokens were compared`);
});

modelTest("the capital of France is Paris", smollm2, async (path) => {
  // Among the first tokens, two are within 0.08 nats of each other: less than 8-bit activations tell apart.
  const model = await load(path, { precision: "high" });
  const messages = [{ role: "user", content: "What is the capital of France?" }];
  const { text } = await model.chat(messages, { temperature: 0, maxTokens: 40 });
  assert.match(text, /Paris/);
});

const tiny = join(fixtures, "tiny");
for (const file of readdirSync(tiny).filter((name) => name.endsWith(".json"))) {
  test(`${file}: log-probabilities are the oracle's`, async () => {
    const expected = JSON.parse(readFileSync(join(tiny, file), "utf8"));
    const model = await load(join(tiny, file.replace(/json$/, "gguf")));
    const { logprobs } = await model.score(expected.tokens);
    assert.equal(logprobs.length, expected.tokens.length);
    const errors = expected.nextLogprobs.map((logprob, i) => Math.abs(logprobs[i + 1] - logprob));
    const worst = Math.max(...errors);
    const bound = model.info.device.isa === "reference" ? 2e-4 : 0.02;
    assert.ok(worst <= bound, `the largest difference is ${worst}`);
  });
}
