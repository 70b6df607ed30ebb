import type { ChatMessage } from "../chat-message";
import { TokenmillError } from "../errors";
import type { Model } from "../model";
import type { GenerationOptions } from "../options";

/** The terminal as a chat sees it. */
export interface ChatTerminal {
  /**
   * Asks for a line; undefined at the input's end. `wasInterrupted`: a Ctrl-C was pressed just before. Rejects
   * with an Interruption when the user leaves by Ctrl-C.
   */
  readLine(wasInterrupted: boolean): Promise<string | undefined>;
  write(text: string): Promise<void>;
  /** Shows what is not part of the conversation. */
  note(text: string): Promise<void>;
  /** Calls `onInterrupt` for Ctrl-C until the function that it gives back is called. */
  listenForInterrupt(onInterrupt: () => void): () => void;
}

export interface ChatLoopOptions {
  model: Pick<Model, "chat">;
  terminal: ChatTerminal;
  system?: string | undefined;
  generation: GenerationOptions;
}

const commandHelp = "/clear forgets the conversation, /exit leaves; Ctrl-C stops an answer, twice leaves";

/** A conversation: what was said, and the answer that is being given. */
class Conversation {
  readonly #options: ChatLoopOptions;
  #messages: ChatMessage[] = [];

  constructor(options: ChatLoopOptions) {
    this.#options = options;
    this.clear();
  }

  clear(): void {
    const { system } = this.#options;
    this.#messages = system === undefined ? [] : [{ role: "system", content: system }];
  }

  /** Answers a message; gives whether the user stopped it. A failed message is forgotten. */
  async answer(content: string): Promise<boolean> {
    const { model, terminal, generation } = this.#options;
    this.#messages.push({ role: "user", content });
    const reply = model.chat([...this.#messages], generation);
    let isInterrupted = false;
    const stopListening = terminal.listenForInterrupt(() => {
      isInterrupted = true;
      reply.cancel();
    });
    try {
      for await (const part of reply) await terminal.write(part.text);
      const { text } = await reply;
      this.#messages.push({ role: "assistant", content: text });
    } catch (error) {
      if (!TokenmillError.isInstance(error)) throw error;
      this.#messages.pop();
      await terminal.note(`tokenmill: ${error.message}\n`);
    } finally {
      stopListening();
    }
    await terminal.write("\n\n");
    return isInterrupted;
  }
}

/** Reads lines and answers them until the user leaves. */
export async function chatLoop(options: ChatLoopOptions): Promise<void> {
  const { terminal } = options;
  const conversation = new Conversation(options);
  await terminal.note(`${commandHelp}\n`);
  let wasInterrupted = false;
  for (;;) {
    const line = (await terminal.readLine(wasInterrupted))?.trim();
    wasInterrupted = false;
    if (line === undefined || line === "/exit") return;
    if (line === "/clear") conversation.clear();
    else if (line.startsWith("/")) await terminal.note(`${commandHelp}\n`);
    else if (line !== "") wasInterrupted = await conversation.answer(line);
  }
}
