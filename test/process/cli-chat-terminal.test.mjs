// The chat's terminal, with streams that play a keyboard and a screen.
import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { chatLoop } from "../../dist/cli/chat-loop.js";
import { openChatTerminal } from "../../dist/cli/chat-terminal.js";
import { Interruption, interruptedExitCode, reportError } from "../../dist/cli/exit.js";

function openTerminal() {
  const keyboard = Object.assign(new PassThrough(), { isTTY: true, setRawMode() {} });
  const screen = Object.assign(new PassThrough(), { isTTY: true, columns: 80 });
  screen.resume();
  return { keyboard, terminal: openChatTerminal(keyboard, screen) };
}

const ctrlC = "\x03";

test("a line that is typed is read, and the end of input is told", async () => {
  const { keyboard, terminal } = openTerminal();
  const first = terminal.readLine(false);
  keyboard.write("hello\r");
  assert.equal(await first, "hello");
  const second = terminal.readLine(false);
  keyboard.write("\x04");
  assert.equal(await second, undefined);
});

test("every line of a paste is read, also one that comes in two pieces", async () => {
  const { keyboard, terminal } = openTerminal();
  const read = [terminal.readLine(false)];
  keyboard.write("one\rtwo\rthree\rfo");
  read.push(await read[0].then(() => terminal.readLine(false)), await terminal.readLine(false));
  const last = terminal.readLine(false);
  keyboard.write("ur\r");
  assert.deepEqual(await Promise.all([...read, last]), ["one", "two", "three", "four"]);
});

test("a paste that ends the input is read as well", async () => {
  const { keyboard, terminal } = openTerminal();
  const first = terminal.readLine(false);
  keyboard.write("one\rtwo\r\x04");
  assert.equal(await first, "one");
  assert.equal(await terminal.readLine(false), "two");
});

test("stopping an answer drops what was pasted behind its question", async () => {
  const { keyboard, terminal } = openTerminal();
  const first = terminal.readLine(false);
  keyboard.write("one\rtwo\rthr");
  assert.equal(await first, "one");
  const next = terminal.readLine(true);
  keyboard.write("other\r");
  assert.equal(await next, "other");
});

test("Ctrl-C clears the line, the second one leaves with 130", async () => {
  const { keyboard, terminal } = openTerminal();
  const line = terminal.readLine(false);
  keyboard.write(`wrong${ctrlC}right\r`);
  assert.equal(await line, "right");
  const chat = chatLoop({ model: {}, terminal, generation: {} });
  keyboard.write(`${ctrlC}${ctrlC}`);
  await assert.rejects(chat, (error) => {
    assert.ok(error instanceof Interruption);
    assert.equal(reportError(error), interruptedExitCode);
    return true;
  });
});
