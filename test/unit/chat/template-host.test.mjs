// Hostile templates end in typed errors, and what waits behind them goes on.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { dist } from "./dist.mjs";

const { renderChat, warmChatTemplates } = dist("./chat/render-chat.js");
const { TemplateHost } = dist("./chat/template-host.js");
const { TokenmillError } = dist("./errors.js");

const run = promisify(execFile);
const messages = [{ role: "user", content: "Hello" }];
const kindTemplate = "{% for m in messages %}<s>{{ m.content }}{% endfor %}";
const kindPieces = [
  { text: "<s>", special: true },
  { text: "Hello", special: false },
];

function render(template, host, options = {}) {
  return renderChat({ template, messages, specialTokens: ["<s>"], ...options }, host);
}

function doubling(times, seed = "abcdefgh") {
  const loop = `{% for i in range(${times}) %}{% set ns.x = ns.x + ns.x %}{% endfor %}`;
  return `{% set ns = namespace(x='${seed}', l=[]) %}${loop}`;
}

function filling(times, item) {
  return `{% for i in range(${times}) %}{% set ns.l = ns.l + [${item}] %}{% endfor %}`;
}

const hostile = {
  "an endless loop":
    "{% for i in range(1000000) %}{% for j in range(1000000) %}{{ '' }}{% endfor %}{% endfor %}",
  "an endless loop without output":
    "{% for i in range(1000000) %}{% for j in range(1000000) %}{% endfor %}{% endfor %}",
  "an endless pattern in the parser": " ".repeat(900_000),
  "an endless sort": `${doubling(18)}${filling(2000, "ns.x ~ i")}{{ ns.l | sort }}`,
  "text that doubles": `${doubling(40)}{{ ns.x }}`,
  "text in a loop": `${doubling(18)}{% for i in range(100000) %}{{ ns.x }}{% endfor %}`,
  "a huge replacement": `${doubling(16)}{{ ns.x | replace('a', ns.x) }}`,
  "a huge join": `${doubling(18)}{{ range(100000) | join(ns.x) }}`,
  "a huge indentation": `${doubling(17, "a\\n")}{{ ns.x | indent(100000) }}`,
  "huge separators": `${doubling(18)}{{ range(10000) | tojson(separators=(ns.x, ns.x)) }}`,
  "a huge JSON indentation": "{{ [[[1]]] | tojson(indent=400000000) }}",
  "a huge range": "{{ range(1000000000) }}",
  "a huge list": `${doubling(20, "a ")}{{ ns.x.split(' ') | length }}`,
  "lists of lists":
    "{% set ns = namespace(x=[1]) %}" +
    "{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
  "memory in many pieces": `${doubling(18, "\\u1234b")}${filling(1000, "(ns.x ~ i) | upper")}`,
  "an object within itself": "{% set ns = namespace(a=1) %}{% set ns.b = ns %}{{ ns }}",
  "a call of itself": "{% macro f(g) %}{{ g(g) }}{% endmacro %}{{ f(f) }}",
  "deep nesting": `{{ ${"(".repeat(100_000)}1${")".repeat(100_000)} }}`,
  "a file of a template": "x".repeat(2 << 20),
  "no template": "{% for m in messages",
  "an unknown filter": "{{ messages | frobnicate }}",
  "a call of nothing": "{{ nothing.at.all() }}",
};

describe("hostile templates", () => {
  const host = new TemplateHost({ timeMs: 1000 });
  after(() => host.close());

  for (const [title, template] of Object.entries(hostile)) {
    it(`end in an error: ${title}`, async () => {
      const bad = assert.rejects(render(template, host), (error) => {
        assert.ok(TokenmillError.isInstance(error));
        assert.equal(error.code, "UnsupportedModel");
        assert.match(error.message, /chat template/);
        return true;
      });
      const others = [render(kindTemplate, host), render(kindTemplate, host)];
      await bad;
      assert.deepEqual(await Promise.all(others), [kindPieces, kindPieces]);
    });
  }

  it("say what took too long", async () => {
    await assert.rejects(
      render(hostile["an endless loop"], host),
      /runs for more than 1 s|stopped after 1 s/,
    );
  });

  it("raise what they will with their own words", async () => {
    const raising = "{{ raise_exception('no turn for ' ~ messages[0].role ~ messages[0].content) }}";
    const spelled = [{ role: "user", content: " <s>" }];
    await assert.rejects(renderChat({ template: raising, messages: spelled, specialTokens: ["<s>"] }, host), {
      code: "InvalidArgument",
      message: "The model's chat template refuses these messages: no turn for user <s>",
    });
  });
});

describe("the template host", () => {
  it("aborts what waits and what runs", async () => {
    const host = new TemplateHost({ timeMs: 3000 });
    const [running, waiting] = [new AbortController(), new AbortController()];
    const isAborted = (reason) => (error) =>
      error.code === "Aborted" && error.name === "AbortError" && error.cause === reason;
    const bad = render(hostile["an endless loop"], host, { signal: running.signal });
    const waits = render(kindTemplate, host, { signal: waiting.signal });
    const good = render(kindTemplate, host);
    waiting.abort("first");
    await assert.rejects(waits, isAborted("first"));
    running.abort("second");
    await assert.rejects(bad, isAborted("second"));
    await assert.rejects(
      render(kindTemplate, host, { signal: AbortSignal.abort("before") }),
      isAborted("before"),
    );
    assert.deepEqual(await good, kindPieces);
    await host.close();
  });

  it("closes its thread when idle and starts another", async () => {
    const host = new TemplateHost({ idleMs: 20 });
    assert.equal(host.running, false);
    assert.deepEqual(await render(kindTemplate, host), kindPieces);
    assert.equal(host.running, true);
    while (host.running) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.deepEqual(await render(kindTemplate, host), kindPieces);
    await host.close();
  });

  it("reads an answer that came in time while the event loop was blocked", async () => {
    const host = new TemplateHost({ timeMs: 300 });
    await render(kindTemplate, host);
    await new Promise((resolve) => setImmediate(resolve)); // after it come timers, and only then messages
    const rendering = render(kindTemplate, host);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000);
    assert.deepEqual(await rendering, kindPieces);
    await host.close();
  });

  it("rejects what it works on when closed", async () => {
    const host = new TemplateHost();
    const rendering = render(kindTemplate, host);
    await Promise.all([assert.rejects(rendering, { code: "Disposed" }), host.close()]);
    assert.deepEqual(await render(kindTemplate, host), kindPieces);
    await host.close();
  });

  it("tells models apart that share neither template nor tokens", async () => {
    const host = new TemplateHost();
    const formats = Array.from({ length: 200 }, (_, i) => ({
      template: `<s>${i % 2 ? "<t>" : ""}${i}`,
      specialTokens: i % 3 ? ["<s>"] : ["<t>"],
    }));
    const all = await Promise.all(formats.map((format) => renderChat({ ...format, messages }, host)));
    all.forEach((pieces, i) => {
      const special = (i % 3 ? ["<s>"] : ["<t>"]).filter((text) => text === "<s>" || i % 2);
      assert.deepEqual(
        pieces.filter((piece) => piece.special).map((piece) => piece.text),
        special,
      );
      assert.ok(pieces.at(-1).text.endsWith(String(i)));
    });
    const sameTokens = ["<s>"];
    const [one, two] = await Promise.all(
      ["one", "two"].map((template) => renderChat({ template, specialTokens: sameTokens, messages }, host)),
    );
    assert.deepEqual([one[0].text, two[0].text], ["one", "two"]);
    await host.close();
  });

  it("warms up, with a template or without", async () => {
    const host = new TemplateHost();
    const format = { template: kindTemplate, specialTokens: ["<s>"] };
    warmChatTemplates(undefined, host);
    assert.equal(host.running, true);
    warmChatTemplates(format, host);
    assert.deepEqual(await renderChat({ ...format, messages }, host), kindPieces);
    const broken = { template: "{% for", specialTokens: ["<s>"] };
    warmChatTemplates(broken, host);
    await assert.rejects(renderChat({ ...broken, messages }, host), { code: "UnsupportedModel" });
    await assert.rejects(renderChat({ ...broken, messages }, host), { code: "UnsupportedModel" });
    await host.close();
  });
});

describe("a process that renders", () => {
  const module = JSON.stringify(fileURLToPath(new URL("../../../dist/chat/render-chat.js", import.meta.url)));
  const request = JSON.stringify({ template: kindTemplate, specialTokens: ["<s>"], messages });
  const print = ".then((pieces) => console.log(JSON.stringify(pieces)))";
  const commonJs = `require(${module}).renderChat(${request})${print}`;
  const node = async (...parameters) =>
    JSON.parse((await run(process.execPath, parameters, { timeout: 20_000 })).stdout);

  it("waits for the result and ends by itself, from CommonJS", async () => {
    assert.deepEqual(await node("--eval", commonJs), kindPieces);
  });

  it("waits for the result and ends by itself, from an ES module", async () => {
    const source = `import chat from ${module}; chat.renderChat(${request})${print};`;
    assert.deepEqual(await node("--input-type=module", "--eval", source), kindPieces);
  });

  it("waits for the result and ends by itself, in a worker thread", async () => {
    const source = `new (require("node:worker_threads").Worker)(${JSON.stringify(commonJs)}, { eval: true })`;
    assert.deepEqual(await node("--eval", source), kindPieces);
  });

  it("can leave in the middle of a rendering", async () => {
    const endless = request.replace(JSON.stringify(kindTemplate), JSON.stringify(hostile["an endless loop"]));
    const leave = 'setTimeout(() => { console.log("[]"); process.exit(); }, 300)';
    const source = `require(${module}).renderChat(${endless}); ${leave}`;
    assert.deepEqual(await node("--eval", source), []);
  });
});
