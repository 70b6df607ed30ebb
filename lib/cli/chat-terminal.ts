import { createInterface } from "node:readline/promises";
import type { ChatTerminal } from "./chat-loop";
import { write } from "./output";
import { note } from "./text";

/**
 * A terminal with line editing and history. Between questions the terminal is in its ordinary mode, where
 * Ctrl-C is a signal.
 */
export function openChatTerminal(): ChatTerminal {
  let history: string[] = [];

  const readLine = (wasInterrupted: boolean): Promise<string | undefined> => {
    const lines = createInterface({ input: process.stdin, output: process.stdout, history });
    let isLeaving = wasInterrupted;
    lines.on("history", (entries) => {
      history = [...entries];
    });
    return new Promise((resolve, reject) => {
      lines.on("close", () => resolve(undefined));
      lines.on("SIGINT", () => {
        if (isLeaving && lines.line === "") return lines.close();
        isLeaving = true;
        lines.write(null, { ctrl: true, name: "u" });
        process.stdout.write(note(process.stdout, "\n(Ctrl-C again leaves)\n"));
        lines.prompt();
      });
      lines.on("line", () => {
        isLeaving = false;
      });
      lines
        .question("> ")
        .then((line) => {
          resolve(line);
          lines.close();
        })
        .catch(reject);
    });
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
