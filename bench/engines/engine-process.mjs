// An engine in a process of its own, asked by JSON lines: {"id", "method", "params"} to its standard input,
// {"id", "result"} or {"id", "error"} from its standard output.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

/** What went wrong with an engine; the run goes on without it. */
export class EngineError extends Error {}

const stderrLinesKept = 8;

/** A child process that answers one request at a time. */
export class EngineProcess {
  #child;
  #name;
  #nextId = 1;
  #pending;
  #failure;
  #stderr = [];
  #closing = false;

  /**
   * @param {string} name what messages call it
   * @param {{ command: string, parameters: string[], environment?: Record<string, string> }} program
   */
  constructor(name, { command, parameters, environment = {} }) {
    this.#name = name;
    this.#child = spawn(command, parameters, {
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...process.env, ...environment },
    });
    this.#child.on("error", (error) => this.#fail(`cannot be started: ${error.message}`));
    // Its output may still be on the way when it exits; "close" comes after both.
    this.#child.on("close", (code, signal) => this.#fail(`ended early (${signal ?? `exit code ${code}`})`));
    this.#child.stdin.on("error", () => {}); // It has ended, and "close" says so.
    createInterface({ input: this.#child.stdout }).on("line", (line) => this.#accept(line));
    createInterface({ input: this.#child.stderr }).on("line", (line) => {
      this.#stderr.push(line);
      if (this.#stderr.length > stderrLinesKept) this.#stderr.shift();
    });
  }

  get pid() {
    return this.#child.pid;
  }

  /** Why the engine is of no more use; undefined as long as it is. */
  get failure() {
    return this.#failure;
  }

  /**
   * The engine's answer. Rejects with an EngineError if it answers with an error, with something else than an
   * answer, not in time, or ends; except after an error of its own it is ended then. One request at a time.
   */
  async request(method, params, timeoutMs) {
    if (this.#failure) throw this.#failure;
    if (this.#pending) throw new Error(`${this.#name} still has a request`);
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#fail(`gave no answer to '${method}' within ${timeoutMs / 1000} s`);
      }, timeoutMs);
      const settle = (action) => (value) => {
        clearTimeout(timer);
        this.#pending = undefined;
        action(value);
      };
      this.#pending = { id, method, resolve: settle(resolve), reject: settle(reject) };
      this.#child.stdin.write(`${JSON.stringify({ id, method, params })}\n`);
    });
  }

  /** Ends the process, by force if it does not go by itself. */
  async close() {
    this.#closing = true;
    const { exitCode, signalCode, pid } = this.#child;
    if (pid === undefined || exitCode !== null || signalCode !== null) return;
    const ended = once(this.#child, "exit");
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), 5_000);
    this.#child.stdin.end();
    await ended;
    clearTimeout(timer);
  }

  #accept(line) {
    if (this.#failure) return;
    let answer;
    try {
      answer = JSON.parse(line);
    } catch {
      return this.#fail(`wrote something that is not JSON: ${shorten(line)}`);
    }
    const pending = this.#pending;
    if (typeof answer !== "object" || answer === null || pending === undefined || answer.id !== pending.id)
      return this.#fail(`wrote something that answers no request: ${shorten(line)}`);
    if (typeof answer.error === "string") pending.reject(new EngineError(`${this.#name}: ${answer.error}`));
    else if (typeof answer.result === "object" && answer.result !== null) pending.resolve(answer.result);
    else this.#fail(`answered '${pending.method}' with neither a result nor an error: ${shorten(line)}`);
  }

  #fail(reason) {
    if (this.#failure || (this.#closing && !this.#pending)) return;
    const told = this.#stderr.length > 0 ? `; it last said: ${this.#stderr.join(" | ")}` : "";
    this.#failure = new EngineError(`${this.#name} ${reason}${told}`);
    this.#child.kill("SIGKILL");
    this.#pending?.reject(this.#failure);
  }
}

function shorten(text) {
  return text.length <= 120 ? text : `${text.slice(0, 119)}…`;
}
