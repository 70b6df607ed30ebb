// What tool definitions are taken, and that a template which does not show them is found out.
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import { dist } from "./dist.mjs";

const { readTools, toolLimits } = dist("./chat/tools.js");
const { renderChat } = dist("./chat/render-chat.js");
const { TemplateHost } = dist("./chat/template-host.js");

const weather = {
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather of a place",
    parameters: {
      type: "object",
      properties: { city: { type: "string" }, days: { type: "integer", minimum: 1 } },
      required: ["city"],
    },
  },
};
const withFunction = (more) => [{ type: "function", function: { name: "a", ...more } }];

function refused(tools, message) {
  assert.throws(() => readTools(tools), { name: "TokenmillError", code: "InvalidArgument", message });
}

describe("tool definitions", () => {
  it("are copied as plain data, with what else they have", () => {
    const tools = [{ ...weather, cache: true }, ...withFunction({ strict: true, parameters: undefined })];
    const copies = readTools(tools);
    assert.deepEqual(copies, JSON.parse(JSON.stringify(tools)));
    assert.notEqual(copies[0].function, weather.function);
    assert.equal(readTools([]), undefined);
    assert.equal(readTools(undefined), undefined);
  });

  it("have a shape", () => {
    refused(null, /^tools is null; expected an array of tool definitions/);
    refused(weather, /^tools is a value of type object; expected an array/);
    refused([5], /^tools\[0\] is 5; expected a tool/);
    refused([weather, { ...weather, type: "retrieval" }], /^tools\[1\]\.type is "retrieval"; .*"function"/);
    refused([{ type: "function" }], /^tools\[0\]\.function is undefined; expected an object/);
    refused([weather.function], /^tools\[0\]\.type is undefined/);
    refused(withFunction({ name: "" }), /^tools\[0\]\.function\.name is ""; expected a string of 1 to 256/);
    refused(withFunction({ name: "a".repeat(257) }), /function\.name is "a+…"/);
    refused(withFunction({ description: 1 }), /^tools\[0\]\.function\.description is 1; expected a string/);
    refused(withFunction({ parameters: [] }), /^tools\[0\]\.function\.parameters is an array/);
    refused(withFunction({ parameters: null }), /^tools\[0\]\.function\.parameters is null/);
  });

  it("are JSON", () => {
    const parameters = (value) => withFunction({ parameters: { a: [value] } });
    for (const value of [
      () => 1,
      Symbol("a"),
      1n,
      Number.NaN,
      Number.POSITIVE_INFINITY,
      new Date(),
      undefined,
    ])
      refused(parameters(value), /^tools\[0\]\.function\.parameters\.a\[0\] is .*; expected what JSON has/);
    const circular = {};
    circular.again = circular;
    refused(parameters(circular), /nests too deeply, or refers to itself/);
    const polluting = JSON.parse('{ "__proto__": { "type": "string" } }');
    assert.deepEqual(readTools(parameters(polluting))[0].function.parameters.a, [polluting]);
  });

  it("have bounds", () => {
    refused(Array(toolLimits.tools + 1).fill(weather), /^tools has 1025 definitions; expected at most 1024/);
    assert.equal(readTools(Array(toolLimits.tools).fill(weather)).length, toolLimits.tools);
    const size = /^the tools have more than 1048576 characters, at tools\[0\]\.function/;
    refused(withFunction({ description: "a".repeat(toolLimits.characters) }), size);
    refused(withFunction({ parameters: { enum: Array(toolLimits.characters).fill(1) } }), size);
    let shared = [1];
    for (let i = 0; i < 24; ++i) shared = [shared, shared]; // 2^24 values, were they copied
    refused(withFunction({ parameters: { shared } }), size);
  });
});

describe("a template", () => {
  const host = new TemplateHost();
  after(() => host.close());
  const taking =
    "{% if tools %}<s>{{ tools | tojson }}</s>{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}";
  const messages = [{ role: "user", content: "a" }];
  const textOf = async (template, more) => {
    const pieces = await renderChat({ template, messages, specialTokens: ["<s>", "</s>"], ...more }, host);
    return pieces.map(({ text }) => text).join("");
  };

  it("is given the tools, and none where there are none", async () => {
    assert.equal(await textOf(taking, { tools: [weather] }), `<s>${python(weather)}</s>a`);
    assert.equal(await textOf(taking, { tools: [] }), "a");
    assert.equal(await textOf("{{ tools is none }}{{ messages[0].content }}", {}), "truea");
  });

  it("that does not take tools is refused", async () => {
    const ignoring = "{% for m in messages %}<s>{{ m.content }}</s>{% endfor %}";
    await assert.rejects(textOf(ignoring, { tools: [weather] }), {
      code: "InvalidArgument",
      message: /tools are given, but the model's chat template does not take any/,
    });
    assert.equal(await textOf(ignoring, { tools: [] }), "<s>a</s>");
    // One that cannot do without them takes them.
    const needing = "{% if not tools %}{{ raise_exception('no tools') }}{% endif %}{{ messages[0].content }}";
    assert.equal(await textOf(needing, { tools: [weather] }), "a");
  });

  it("has bounds on tools and messages together", async () => {
    const tools = withFunction({ description: "a".repeat(toolLimits.characters / 2) });
    const long = [{ role: "user", content: "b".repeat((1 << 22) - toolLimits.characters / 4) }];
    await assert.rejects(textOf(taking, { messages: long, tools }), {
      code: "ContextOverflow",
      message: /The messages and tools have \d+ characters/,
    });
  });
});

/** A list of one tool as Python's json.dumps writes it. */
function python(tool) {
  return JSON.stringify([tool]).replace(/([,:])(?=["[{\d])/g, "$1 ");
}
