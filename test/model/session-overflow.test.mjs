// Conversations that outgrow the context: what the model reads then.
import assert from "node:assert/strict";
import { test } from "node:test";
import { modelTest, smollm2, tinyModel } from "../support/models.mjs";

process.env.TOKENMILL_INTEGRITY = "1"; // the engine checks its pages after each step
const { loadModel } = await import("../../dist/index.mjs");

const context = 256;
const user = (content) => ({ role: "user", content });
const said = (content) => ({ role: "assistant", content });
const system = { role: "system", content: "The mill stands by the river, and <|im_end|> is text." };
const essence = ({ tokens, text }) => ({ tokens, text });
const settings = { maxTokens: 20, ignoreEos: true };
const room = context - 20;

/** Many turns, of which each is too short to fill the context. */
const history = Array.from({ length: 14 }, (_, i) => [
  user(`Question ${i} of many?`),
  said(`Answer <|im_start|> ${i}.`),
]).flat();

/** The conversations that the oldest turns are missing from, the longest first. */
function shortened(messages) {
  const [first, ...rest] = messages[0].role === "system" ? messages : [undefined, ...messages];
  const starts = rest.flatMap(({ role }, i) => (i === 0 || role === "user" ? [i] : []));
  return starts.map((start) => [...(first ? [first] : []), ...rest.slice(start)]);
}

async function checkDropping(path) {
  const model = await loadModel(path, { contextLength: context });
  for (const messages of [[system, ...history], history, [said("Hello!"), ...history]]) {
    const session = model.session({ ...settings, messages, overflow: "dropOldestTurns" });
    const completion = await session.send("And now?");
    const asked = [...messages, user("And now?")];
    assert.deepEqual(session.messages, [...asked, said(completion.text)]);
    const kept = [];
    for (const conversation of shortened(asked)) {
      const reply = await model.chat(conversation, settings).then(
        (reply) => reply,
        () => undefined,
      );
      if (reply && reply.usage.promptTokens <= room) kept.push(reply);
    }
    assert.ok(kept.length > 1 && kept.length < shortened(asked).length);
    assert.deepEqual(essence(completion), essence(kept[0]));
    assert.equal(completion.usage.promptTokens, kept[0].usage.promptTokens);
    const failing = model.session({ ...settings, messages });
    await assert.rejects(Promise.resolve(failing.send("And now?")), { code: "ContextOverflow" });
  }
  await model.dispose();
}

test("the fewest oldest turns are dropped", () => checkDropping(tinyModel({ context })));
modelTest("the fewest oldest turns are dropped, SmolLM2", smollm2, checkDropping);

const rendered = (messages) =>
  `${messages.map(({ role, content }) => `${role}: ${content}\n`).join("")}assistant: `;

test("a window slides over the tokens", async () => {
  const model = await loadModel(tinyModel({ context }), { contextLength: context });
  for (const messages of [[system, ...history], history]) {
    const session = model.session({ ...settings, messages, overflow: "slidingWindow" });
    const completion = await session.send("And now?");
    assert.equal(completion.usage.promptTokens, room);
    const asked = [...messages, user("And now?")];
    const prompts = shortened(asked).map((conversation) => model.tokenize(rendered(conversation)));
    const fits = prompts.findIndex(({ length }) => length <= room);
    const [longer, fitting] = [prompts[fits - 1], prompts[fits]];
    const head = fitting.findIndex((token, i) => token !== longer[i]);
    const prompt = [...longer.slice(0, head), ...longer.slice(longer.length - (room - head))];
    assert.deepEqual(essence(completion), essence(await model.generate(prompt, settings)));
    await session.send("And then?"); // slides on
    assert.equal(session.messages.length, messages.length + 4);
  }
  await model.dispose();
});

for (const overflow of ["dropOldestTurns", "slidingWindow"]) {
  test(`${overflow}: what fits is as without, the last turn stays, and settings travel`, async () => {
    const model = await loadModel(tinyModel({ context }), { contextLength: context });
    const short = model.session({ ...settings, system: "Short.", overflow });
    const reply = await short.send("Why?");
    assert.deepEqual(
      essence(reply),
      essence(await model.chat([{ role: "system", content: "Short." }, user("Why?")], settings)),
    );
    await assert.rejects(Promise.resolve(short.send("long ".repeat(500))), { code: "ContextOverflow" });
    // Without maxTokens a quarter of the context stays for the answer; a last turn that needs it has it.
    const open = model.session({ messages: history, overflow });
    assert.ok((await open.send("And now?")).usage.promptTokens <= (context * 3) / 4);
    let text = "x ";
    while (model.tokenize(rendered([user(text)])).length < 225) text += "y ";
    const { usage } = await open.send(text);
    assert.equal(usage.promptTokens, model.tokenize(rendered([user(text)])).length);
    const long = model.session({ ...settings, messages: [system, ...history], overflow });
    const twin = await model.restore(await long.fork().snapshot());
    assert.deepEqual(essence(await twin.send("And now?")), essence(await long.send("And now?")));
    assert.throws(() => model.session({ overflow: "forget" }), { code: "InvalidArgument" });
    await model.dispose();
  });
}
