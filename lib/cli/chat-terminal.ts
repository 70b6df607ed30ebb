import { createInterface } from "node:readline";
import type { ChatTerminal } from "./chat-loop";
import { Interruption } from "./exit";
import { write } from "./output";
import { note } from "./text";

/**
 * A terminal with line editing and history. Between questions the terminal is in its ordinary mode, where
 * Ctrl-C is a signal.
 */
export function openChatTerminal(
  input: NodeJS.ReadStream = process.stdin,
  output: NodeJS.WriteStream = process.stdout,
): ChatTerminal {
  let history: string[] = [];
  // What was pasted behind the line that was asked for: whole lines, and the beginning of one. Ctrl-C drops it.
  let pasted: string[] = [];
  let unfinished = "";

  const ask = (wasInterrupted: boolean): Promise<string | undefined> => {
    const lines = createInterface({ input, output, history });
    let isLeaving = wasInterrupted;
    lines.on("history", (entries) => {
      history = [...entries];
    });
    lines.on("line", (line) => {
      pasted.push(line);
      queueMicrotask(() => lines.close()); // when all lines of the paste have come
    });
    return new Promise((resolve, reject) => {
      lines.on("close", () => {
        unfinished = lines.line;
        if (unfinished !== "") output.write("\n");
        resolve(pasted.shift());
      });
      lines.on("SIGINT", () => {
        if (isLeaving && lines.line === "") {
          reject(new Interruption());
          return lines.close();
        }
        isLeaving = true;
        lines.write(null, { ctrl: true, name: "u" });
        output.write(note(output, "\n(Ctrl-C again leaves)\n"));
        lines.prompt();
      });
      lines.setPrompt("> ");
      lines.prompt();
      lines.write(unfinished);
    });
  };

  const readLine = async (wasInterrupted: boolean): Promise<string | undefined> => {
    if (wasInterrupted) [pasted, unfinished] = [[], ""];
    const next = pasted.shift();
    if (next === undefined) return ask(wasInterrupted);
    output.write(`> ${next}\n`);
    return next;
  };

  return {
    readLine,
    write,
    note: (text) => write(note(process.stdout, text)),
    listenForInterrupt(onInterrupt) {
      process.on("SIGINT", onInterrupt);
      return () => process.off("SIGINT", onInterrupt);
    },
  };
}
