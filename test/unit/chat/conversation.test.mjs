import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { dist } from "./dist.mjs";

const { readConversation } = dist("./chat/conversation.js");

const user = (content) => [{ role: "user", content }];

describe("messages", () => {
  it("are copied as plain data", () => {
    const messages = [
      {
        role: "user",
        content: "Hi",
        name: "Ann",
        at: new Date(),
        call() {},
        nested: { a: [1, undefined, Number.NaN, true] },
      },
      { role: "assistant", content: [{ type: "text", text: "Ho", extra: 1 }] },
    ];
    assert.deepEqual(readConversation(messages), [
      { role: "user", content: "Hi", name: "Ann", nested: { a: [1, null, null, true] } },
      { role: "assistant", content: [{ type: "text", text: "Ho" }] },
    ]);
  });

  it("keep a property named __proto__ their own", () => {
    const [message] = readConversation([
      { role: "user", content: "", ...JSON.parse('{"extra": {"__proto__": {"polluted": 1}}}') },
    ]);
    assert.equal(message.extra.polluted, undefined);
    assert.deepEqual(Object.keys(message.extra), ["__proto__"]);
  });

  const invalid = [
    [undefined, "messages must be an array of at least one message, found undefined"],
    [[], "messages must be an array of at least one message, found none"],
    [["Hi"], "messages[0] must be a message { role, content }, found string"],
    [[null], "messages[0] must be a message { role, content }, found null"],
    [[{ content: "Hi" }], "messages[0].role must be a string, found undefined"],
    [
      [...user("Hi"), { role: "", content: "Hi" }],
      'messages[1].role must be a string that is not empty, found ""',
    ],
    [user(undefined), "messages[0].content must be a string or an array of parts, found undefined"],
    [user({ text: "Hi" }), "messages[0].content must be a string or an array of parts, found object"],
    [user(["Hi"]), 'messages[0].content[0] must be a part of type "text", found string'],
    [user([{ type: "text" }]), "messages[0].content[0].text must be a string, found undefined"],
    [user([{ type: "video" }]), 'messages[0].content[0] must be a part of type "text", found type "video"'],
  ];
  for (const [messages, message] of invalid) {
    it(`must be right: ${message}`, () => {
      assert.throws(() => readConversation(messages), { code: "InvalidArgument", message });
    });
  }

  it("must not refer to themselves", () => {
    const message = { role: "user", content: "Hi" };
    message.self = message;
    assert.throws(() => readConversation([message]), {
      code: "InvalidArgument",
      message: /refers to itself/,
    });
  });

  for (const type of ["image", "audio"]) {
    it(`cannot have parts of type ${type} yet`, () => {
      const parts = [
        { type: "text", text: "See:" },
        { type, data: new Uint8Array(3) },
      ];
      assert.throws(() => readConversation(user(parts)), {
        code: "UnsupportedModel",
        message: `messages[0].content[1] is of type "${type}"; the model takes text only`,
      });
    });
  }

  it("have an end", () => {
    assert.throws(() => readConversation(user("x".repeat((1 << 22) + 1))), { code: "ContextOverflow" });
  });
});
