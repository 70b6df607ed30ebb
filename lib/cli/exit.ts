import { inspect } from "node:util";
import { CommanderError } from "commander";
import { TokenmillError } from "../errors";
import { printable } from "../printable";

/** A command line that asks for something that cannot be. */
export class UsageError extends Error {}

/** The user leaves by Ctrl-C, and need not be told so. */
export class Interruption extends Error {}

/** What a shell expects of a process that was ended by Ctrl-C. */
export const interruptedExitCode = 130;

/** What stderr is told of an error: one line, or with TOKENMILL_DEBUG=1 its stack and causes. */
function describe(error: unknown): string {
  if (process.env.TOKENMILL_DEBUG === "1") return inspect(error);
  const message = error instanceof Error ? error.message : String(error);
  return message.split("\n").map(printable).join("\n"); // it may quote a file
}

/**
 * Reports an error on stderr and gives the exit code: 2 for a wrong command line, 130 after Ctrl-C, 1 for any
 * other failure.
 */
export function reportError(error: unknown): number {
  // Commander has printed its own errors, and help and version are none.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (error instanceof Interruption) return interruptedExitCode;
  process.stderr.write(`tokenmill: ${describe(error)}\n`);
  if (error instanceof UsageError) return 2;
  return TokenmillError.isInstance(error) && error.code === "Aborted" ? interruptedExitCode : 1;
}

/** A reader that leaves early, as `head` does, ends the command without a word. */
export function exitQuietlyOnClosedPipe(): void {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(0);
    throw error;
  });
}
