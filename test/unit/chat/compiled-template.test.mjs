import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { dist } from "./dist.mjs";

const { CompiledTemplate, TemplateRefusal } = dist("./chat/compiled-template.js");
const { RenderLimitError } = dist("./chat/render-limits.js");

function render(template, context = {}, bounds = {}) {
  const limits = { deadline: Number.POSITIVE_INFINITY, charactersMax: 10_000, ...bounds };
  return new CompiledTemplate(template).render(context, limits);
}

function isLimit(message) {
  return (error) => error instanceof RenderLimitError && message.test(error.message);
}

describe("a template's limits", () => {
  it("are kept by the interpreter itself", () => {
    const endless = "{% for i in range(1000000) %}{% for j in range(1000) %}{{ j }}{% endfor %}{% endfor %}";
    const deadline = performance.now() + 50;
    assert.throws(() => render(endless, {}, { deadline, charactersMax: 1e9 }), isLimit(/runs for more than/));
    assert.ok(performance.now() < deadline + 5000);
  });

  it("hold for every string on the way", () => {
    const doubling =
      "{% set n = namespace(x='ab') %}{% for i in range(20) %}{% set n.x = n.x + n.x %}{% endfor %}";
    assert.throws(() => render(`${doubling}{{ n.x | length }}`), isLimit(/characters of text/));
  });

  it("hold for lists", () => {
    const split = () =>
      render("{{ t.split('a') | length }}", { t: "a".repeat(2 << 20) }, { charactersMax: 1e9 });
    assert.throws(split, isLimit(/a list of/));
    assert.throws(() => render("{{ range(1, 100000000) }}"), isLimit(/a range of 99999999 numbers/));
  });
});

describe("what templates are given", () => {
  it("is a range as in Python", () => {
    const cases = {
      "range(3)": "0,1,2",
      "range(2, 5)": "2,3,4",
      "range(5, 0, -2)": "5,3,1",
      "range(3, 1)": "",
      "range(-1)": "",
    };
    for (const [source, numbers] of Object.entries(cases))
      assert.equal(render(`{{ ${source} | join(',') }}`), numbers, source);
  });

  it("is a way to refuse", () => {
    assert.throws(
      () => render("{{ raise_exception('no') }}"),
      (error) => error instanceof TemplateRefusal && error.reason === "no",
    );
  });

  it("is today's date", () => {
    assert.equal(render("{{ strftime_now('%Y') }}"), String(new Date().getFullYear()));
  });

  it("is stripping by the characters named", () => {
    const strip = (method, text) => render(`[{{ text.${method} }}]`, { text });
    assert.equal(strip("lstrip('\\n')", "\n\n  x\n"), "[  x\n]");
    assert.equal(strip("rstrip('\\n')", "\n x \n\n"), "[\n x ]");
    assert.equal(strip("strip('ab')", "abcab"), "[c]");
    assert.equal(strip("strip('😀')", "😀x😀"), "[x]");
    assert.equal(strip("strip('x')", "xxx"), "[]");
    assert.equal(strip("strip()", " \n x "), "[x]");
    assert.equal(strip("strip(none)", " \n x "), "[x]");
  });
});

describe("bounded built-ins", () => {
  /** Evaluates in a thread whose built-ins are bounded to ten characters. */
  async function evaluate(source) {
    const module = JSON.stringify(
      fileURLToPath(new URL("../../../dist/chat/bounded-builtins.js", import.meta.url)),
    );
    const worker = new Worker(
      `const { parentPort } = require("node:worker_threads");
       require(${module}).boundBuiltins(10, () => { throw new Error("too long"); });
       let result;
       try { result = ${source}; } catch (error) { result = error.message; }
       parentPort.postMessage(result);`,
      { eval: true },
    );
    const [result] = await once(worker, "message");
    return result;
  }

  it("work as before within their bounds", async () => {
    assert.deepEqual(
      await evaluate(`[
        [1, null, undefined, "a", [2, [3]]].join(), ["a", "b"].join("--"), [].join("-"),
        "aXbX".replaceAll("X", "$&$&"), "aXbX".replaceAll(/X/gu, (x) => x + 1),
        "aaaaa".replaceAll("a", () => "bb"),
      ]`),
      ["1,,,a,2,3", "a--b", "", "aXXbXX", "aX1bX1", "bbbbbbbbbb"],
    );
  });

  it("make nothing longer", async () => {
    assert.equal(await evaluate('["aaaaaa", "bbbbb"].join("")'), "too long");
    assert.equal(await evaluate('Array(12).fill("").join("-")'), "too long");
    assert.equal(await evaluate('"aaaaaa".replaceAll(/a/gu, () => "bb")'), "too long");
  });
});
