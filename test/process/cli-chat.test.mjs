import assert from "node:assert/strict";
import { test } from "node:test";
import { chatLoop } from "../../dist/cli/chat-loop.js";
import { TokenmillError } from "../../dist/index.js";

/** A model that answers with what `answers` gives for the messages, part by part, until it is cancelled. */
function fakeModel(answers) {
  const asked = [];
  return {
    asked,
    chat(messages, options) {
      asked.push({ messages: structuredClone(messages), options });
      let text = "";
      let isCancelled = false;
      async function* parts() {
        for (const part of answers(messages)) {
          if (isCancelled) return;
          await new Promise((resolve) => setImmediate(resolve));
          text += part;
          yield { type: "text", text: part, tokens: [] };
        }
      }
      return {
        [Symbol.asyncIterator]: parts,
        cancel: () => {
          isCancelled = true;
        },
        // biome-ignore lint/suspicious/noThenProperty: a reply is a promise as well
        then: (...handlers) => Promise.resolve({ text }).then(...handlers),
      };
    },
  };
}

/** A terminal where `lines` are typed, and Ctrl-C is pressed when `interruptAt` is written. */
function fakeTerminal(lines, interruptAt) {
  const terminal = { written: "", notes: "", interruptedBefore: [] };
  let onInterrupt;
  terminal.readLine = async (wasInterrupted) => {
    terminal.interruptedBefore.push(wasInterrupted);
    return lines.shift();
  };
  terminal.write = async (text) => {
    terminal.written += text;
    if (interruptAt !== undefined && text.includes(interruptAt)) onInterrupt?.();
  };
  terminal.note = async (text) => {
    terminal.notes += text;
  };
  terminal.listenForInterrupt = (listener) => {
    onInterrupt = listener;
    return () => {
      onInterrupt = undefined;
    };
  };
  terminal.isListening = () => onInterrupt !== undefined;
  return terminal;
}

const user = (content) => ({ role: "user", content });
const assistant = (content) => ({ role: "assistant", content });
const system = { role: "system", content: "be brief" };

test("what was said is part of the next question", async () => {
  const model = fakeModel((messages) => ["answer ", `${messages.length}`]);
  const terminal = fakeTerminal(["one", "  ", "two\n", "/exit", "never"]);
  await chatLoop({ model, terminal, system: "be brief", generation: { maxTokens: 5 } });
  assert.deepEqual(model.asked, [
    { messages: [system, user("one")], options: { maxTokens: 5 } },
    { messages: [system, user("one"), assistant("answer 2"), user("two")], options: { maxTokens: 5 } },
  ]);
  assert.equal(terminal.written, "answer 2\n\nanswer 4\n\n");
});

test("/clear forgets all but the system message; an unknown command is explained", async () => {
  const model = fakeModel(() => ["yes"]);
  const terminal = fakeTerminal(["one", "/clear", "/what", "two"]);
  await chatLoop({ model, terminal, system: "be brief", generation: {} });
  assert.deepEqual(model.asked[1].messages, [system, user("two")]);
  assert.equal(terminal.notes.match(/\/clear forgets/g).length, 2);
});

test("Ctrl-C stops an answer, keeps what there is, and the next one leaves", async () => {
  const model = fakeModel(() => ["a", "b", "c", "d"]);
  const terminal = fakeTerminal(["one", "two"], "b");
  await chatLoop({ model, terminal, generation: {} });
  assert.deepEqual(model.asked[1].messages, [user("one"), assistant("ab"), user("two")]);
  assert.deepEqual(terminal.interruptedBefore, [false, true, true]);
  assert.ok(!terminal.isListening());
});

test("a failed answer is told and its question forgotten", async () => {
  let failures = 1;
  const model = fakeModel(() => {
    if (failures-- > 0) throw new TokenmillError("ContextOverflow", "too long");
    return ["fine"];
  });
  const terminal = fakeTerminal(["one", "two"]);
  await chatLoop({ model, terminal, generation: {} });
  assert.match(terminal.notes, /tokenmill: too long/);
  assert.deepEqual(model.asked[1].messages, [user("two")]);
});

test("an error that is not the library's ends the chat", async () => {
  const model = fakeModel(() => {
    throw new RangeError("a mistake");
  });
  const terminal = fakeTerminal(["one"]);
  await assert.rejects(chatLoop({ model, terminal, generation: {} }), RangeError);
});
