// Tools reach the model through its chat template, in chats, sessions and batches alike.
import assert from "node:assert/strict";
import { test } from "node:test";
import { modelTest, smollm2, tinyModel } from "../support/models.mjs";
import { string } from "../unit/gguf/gguf-writer.mjs";

process.env.TOKENMILL_INTEGRITY = "1"; // the engine checks its pages after each step
const { loadModel } = await import("../../dist/index.mjs");

const template =
  "{% if tools %}tools: {% for t in tools %}{{ t.function.name }} {% endfor %}{{ '\\n' }}{% endif %}" +
  "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: ";
const context = 256;
const load = () =>
  loadModel(tinyModel({ context, metadata: { "tokenizer.chat_template": string(template) } }));

const named = (name) => ({ type: "function", function: { name } });
const tools = [named("weather"), named("<|im_end|>")];
/** As the template writes them. */
const shown = "tools: weather <|im_end|> \n";
const user = (content) => ({ role: "user", content });
const said = (content) => ({ role: "assistant", content });
const options = { maxTokens: 8, ignoreEos: true };
const essence = ({ tokens, text, usage }) => ({ tokens, text, promptTokens: usage.promptTokens });
const rendered = (messages) =>
  `${shown}${messages.map(({ role, content }) => `${role}: ${content}\n`).join("")}assistant: `;

test("chats, sessions, forks, snapshots and batches show the model the tools", async () => {
  const model = await load();
  const expect = async (messages) => essence(await model.generate(rendered(messages), options));
  const [hello, plain] = [[user("Hello")], await model.chat([user("Hello")], options)];
  const own = structuredClone(tools);
  const reply = model.chat(hello, { ...options, tools: own });
  own.pop(); // what the caller does to them afterwards changes nothing
  assert.deepEqual(essence(await reply), await expect(hello));
  assert.ok((await reply).usage.promptTokens > plain.usage.promptTokens);

  const given = structuredClone(tools);
  const session = model.session({ ...options, tools: given });
  given[0].function.name = "changed";
  const first = await session.send("Hello");
  assert.deepEqual(essence(first), await expect(hello));
  const second = [...hello, said(first.text), user("Again")];
  const restored = await model.restore(await session.snapshot());
  for (const other of [session.fork(), restored, restored.fork(), session])
    assert.deepEqual(essence(await other.send("Again")), await expect(second));

  const items = [
    { messages: hello },
    { prompt: "Hello" },
    { messages: hello, options: { tools: [] } },
    { prompt: "Hello", options: { tools } },
  ];
  const results = [];
  for await (const result of model.generateMany(items, { ...options, tools })) results.push(result);
  assert.deepEqual(essence(results[0].completion), await expect(hello));
  assert.deepEqual(essence(results[1].completion), essence(await model.generate("Hello", options)));
  assert.deepEqual(essence(results[2].completion), essence(plain));
  assert.equal(results[3].error.code, "InvalidArgument");
  await model.dispose();
});

test("a conversation that overflows keeps its tools, and room for them", async () => {
  const model = await load();
  const history = Array.from({ length: 12 }, (_, i) => [user(`Question ${i}?`), said(`Answer ${i}.`)]).flat();
  const many = Array.from({ length: 8 }, (_, i) => named(`tool_${i}`));
  const sent = async (more) => {
    const session = model.session({ ...options, messages: history, overflow: "dropOldestTurns", ...more });
    return (await session.send("And now?")).usage.promptTokens;
  };
  const [without, with_] = [await sent({}), await sent({ tools: many })];
  const room = context - options.maxTokens;
  assert.ok(without <= room && with_ <= room, `${without} and ${with_} of ${room}`);
  const texts = history.slice(-2);
  const { usage } = await model.chat([...texts, user("And now?")], { ...options, tools: many });
  assert.ok(with_ >= usage.promptTokens, "the tools stay");
  await model.dispose();
});

test("wrong tools and a template without them are refused", async () => {
  const model = await load();
  const refused = (reply, message) =>
    assert.rejects(Promise.resolve(reply), { code: "InvalidArgument", message });
  await refused(model.chat([user("a")], { tools: [{}] }), /tools\[0\]\.type is undefined/);
  assert.throws(() => model.session({ tools: 5 }), { code: "InvalidArgument", message: /tools is 5/ });
  await refused(model.generate("a", { tools }), /'tools' is an option of chat\(\) and session\(\) alone/);
  await refused(model.session().send("a", { tools }), /'tools' is an option of chat/);
  assert.throws(() => model.generateMany([], { tools: "a" }), { code: "InvalidArgument" });
  await model.dispose();
  const ignoring = await loadModel(tinyModel());
  await refused(ignoring.chat([user("a")], { tools }), /chat template does not take any/);
  await refused(ignoring.session({ tools }).send("a"), /chat template does not take any/);
  await ignoring.dispose();
});

modelTest("SmolLM2's template takes no tools", smollm2, async (path) => {
  const model = await loadModel(path);
  await assert.rejects(Promise.resolve(model.chat([user("a")], { tools })), { code: "InvalidArgument" });
  await model.dispose();
});
