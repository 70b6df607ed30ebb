/// <reference lib="esnext.disposable" preserve="true" />
import type { AdapterMark } from "../adapters/loaded-adapters";
import type { ChatMessage, ContentPart } from "../chat-message";
import type { Completion } from "../completion";
import { TokenmillError } from "../errors";
import type { Reply } from "../reply";
import type { ReplyState } from "../reply-state";
import { checkSendOptions, ownMessages, type SessionParts, stateOf } from "./check-session";
import { fitPrompt } from "./fit-prompt";
import type { PromptSource, SessionHost } from "./session-host";
import type { SendOptions } from "./session-options";

// What a session that nobody has any more holds of the KV cache is released.
const collected = new FinalizationRegistry<() => void>((release) => release());

/**
 * A conversation that grows turn by turn. A reply is the one that `chat` gives on the same messages; what was computed
 * for the conversation stays in the KV cache between its turns, before what is only cached and after what runs, so a
 * turn reads little more than what is new.
 *
 * A turn joins the conversation when its reply has ended: with an end token, a stop string or at a limit, or because
 * its user stopped it (the signal, `cancel()`, leaving the loop) when it had said something, which then is the answer.
 * One that failed otherwise, was stopped before its first text or was left unread leaves no trace.
 *
 * @example
 * const session = model.session({ system: "Be brief." });
 * console.log((await session.send("Why is the sky blue?")).text);
 * const other = session.fork();
 * console.log((await session.send("And at sunset?")).text, (await other.send("Says who?")).text);
 */
export class Session implements Disposable {
  readonly #host: SessionHost;
  readonly #hold: number;
  readonly #parts: Omit<SessionParts, "messages">;
  #messages: readonly ChatMessage[];
  #current: ReplyState | undefined;
  #idle: Promise<unknown> = Promise.resolve();
  #disposed = false;

  /** @internal Sessions are made by a model. */
  constructor(host: SessionHost, hold: number, { messages, ...parts }: SessionParts) {
    this.#host = host;
    this.#hold = hold;
    this.#parts = parts;
    this.#messages = messages;
    collected.register(this, () => host.releaseHold(hold), this);
  }

  /** The conversation so far, the system message included. It does not change; a turn makes another one. */
  get messages(): readonly ChatMessage[] {
    return this.#messages;
  }

  /**
   * The next user's turn. While its reply is under way another one is refused with `InvalidArgument`: `fork()` asks two
   * things at once. One that was stopped is waited for.
   *
   * The reply fails as those of `chat` do, and with `Disposed` when the session was disposed.
   */
  send(content: string | ContentPart[], options: SendOptions = {}): Reply {
    const { defaults } = this.#parts;
    let end: ((answer: string | undefined) => void) | undefined;
    return this.#host.reply(
      { ...defaults, ...options },
      {
        prompt: async (state, signal) => {
          checkSendOptions(options);
          const user = ownMessages([{ role: "user", content }]);
          const previous = this.#begin(state);
          const ended = new Promise<void>((resolve) => {
            end = (answer) => {
              if (answer !== undefined)
                this.#messages = Object.freeze([...this.#messages, ...user, said(answer)]);
              if (this.#current === state) this.#current = undefined;
              resolve();
            };
          });
          this.#idle = Promise.all([previous, ended]);
          await previous;
          const maxTokens = options.maxTokens ?? defaults.maxTokens;
          const source = await this.#prompt([...this.#messages, ...user], maxTokens, signal);
          return { ...source, hold: this.#hold };
        },
        ended: (state, result) => end?.(answerOf(state, result)),
      },
    );
  }

  /**
   * A session with the same conversation, options and held pages, which goes on by itself. A turn under way is not part
   * of it.
   *
   * @throws TokenmillError Disposed
   */
  fork(): Session {
    this.#checkUsable();
    const hold = this.#host.newHold();
    this.#host.forkHold(this.#hold, hold);
    return new Session(this.#host, hold, { ...this.#parts, messages: this.#messages });
  }

  /**
   * The conversation with its options and what is held of it, as bytes for `model.restore`, here or in another process
   * or on another machine. A turn under way is not part of it, nor is a draft model. It holds the `cacheSalt`, and it
   * has checksums but no signature: keep it where only those can write whom you let speak for the user.
   *
   * @throws TokenmillError Disposed, OutOfMemory
   * @example
   * await writeFile("conversation.bin", await session.snapshot());
   */
  async snapshot(): Promise<Buffer> {
    this.#checkUsable();
    const adapters = this.#adapters();
    const state = stateOf({ ...this.#parts, adapters, messages: this.#messages });
    return this.#host.exportHold(this.#hold, state, adapters);
  }

  /** Ends a reply under way with `Disposed` and releases what is held; the messages stay. Idempotent. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    collected.unregister(this);
    const { code, message } = disposedError();
    this.#current?.stop({ code, message });
    this.#host.releaseHold(this.#hold);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #checkUsable(): void {
    if (this.#disposed) throw disposedError();
    this.#host.checkUsable();
  }

  /** The adapters that its turns would use now; as it was made, where these are unloaded. */
  #adapters(): AdapterMark[] {
    try {
      return this.#host.markAdapters(this.#parts.defaults.adapter);
    } catch {
      return this.#parts.adapters;
    }
  }

  async #prompt(
    messages: readonly ChatMessage[],
    maxTokens: number | undefined,
    signal: AbortSignal | undefined,
  ): Promise<PromptSource> {
    const { tools, overflow } = this.#parts;
    const host = this.#host;
    if (overflow === "error") return host.promptOf({ messages, tools }, signal);
    const quarter = Math.floor(host.contextLength / 4);
    const room = host.contextLength - Math.max(1, Math.min(maxTokens ?? quarter, quarter));
    const tokens = await fitPrompt(messages, overflow, room, (part) =>
      host.tokensOf({ messages: part, tools }, signal),
    );
    return tokens ? { tokens } : host.promptOf({ messages, tools }, signal);
  }

  /** Makes a reply the current one; gives what it has to wait for. */
  #begin(state: ReplyState): Promise<unknown> {
    this.#checkUsable();
    if (this.#current && !this.#current.stopped) {
      throw new TokenmillError(
        "InvalidArgument",
        "a reply of this session is under way; await it, cancel() it, or ask a fork() of the session",
      );
    }
    this.#current = state;
    return this.#idle;
  }
}

function said(text: string): ChatMessage {
  return Object.freeze({ role: "assistant", content: text });
}

/** The assistant's message that a reply leaves, if any. */
function answerOf(state: ReplyState, result: Completion | TokenmillError): string | undefined {
  if (!TokenmillError.isInstance(result)) {
    if (result.finishReason !== "aborted") return result.text;
    return state.abandoned ? undefined : result.text || undefined;
  }
  return result.code === "Aborted" ? result.partial?.text || undefined : undefined;
}

function disposedError(): TokenmillError {
  return new TokenmillError("Disposed", "the session was disposed; make another one from its messages");
}
