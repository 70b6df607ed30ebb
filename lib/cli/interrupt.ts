import { interruptedExitCode } from "./exit";

/** Ctrl-C as a signal to abort by; pressed again, it ends the process at once. */
export class Interrupt {
  readonly #controller = new AbortController();
  readonly #onSignal = () => {
    if (this.#controller.signal.aborted) process.exit(interruptedExitCode);
    this.#controller.abort(new Error("interrupted by Ctrl-C"));
  };

  constructor() {
    process.on("SIGINT", this.#onSignal);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  dispose(): void {
    process.off("SIGINT", this.#onSignal);
  }
}

/** Runs `action` with a signal that Ctrl-C fires. */
export async function withInterrupt<T>(action: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const interrupt = new Interrupt();
  try {
    return await action(interrupt.signal);
  } finally {
    interrupt.dispose();
  }
}
