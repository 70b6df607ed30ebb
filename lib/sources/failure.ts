import { TokenmillError } from "../errors";

/**
 * Why a download failed:
 * - `unreachable`: no connection, or no answer. Another mirror may do; asking again at once will not.
 * - `transient`: broken off, or the server is busy. Asking again may do.
 * - `refused`: the server answered that there is nothing for us.
 * - `mismatch`: other bytes came than were expected.
 * - `disk`: this machine cannot store it. No other mirror will do.
 */
export type FailureKind = "unreachable" | "transient" | "refused" | "mismatch" | "disk";

export interface FailureOptions {
  cause?: unknown;
  /** The HTTP status that the server answered with. */
  status?: number;
  /** How long the server asks us to wait. */
  retryAfterMs?: number;
}

/** A failed attempt to get bytes. */
export class DownloadFailure extends TokenmillError {
  readonly kind: FailureKind;
  readonly status?: number;
  readonly retryAfterMs?: number;

  constructor(kind: FailureKind, message: string, options: FailureOptions = {}) {
    super("Download", message, options);
    this.kind = kind;
    if (options.status !== undefined) this.status = options.status;
    if (options.retryAfterMs !== undefined) this.retryAfterMs = options.retryAfterMs;
  }
}

/** Rejects with `Aborted` once `signal` has fired. */
export function throwIfAborted(signal: AbortSignal | undefined, doing: string): void {
  if (signal?.aborted) throw new TokenmillError("Aborted", `${doing} was aborted`, { cause: signal.reason });
}

export function errorCode(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null | undefined)?.code;
  return typeof code === "string" ? code : undefined;
}

/** An error's message; where several were tried and the group has none, theirs. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.message !== "") return error.message;
  if (error instanceof AggregateError) return error.errors.map(describeError).join("; ");
  return errorCode(error) ?? error.name;
}

const diskFullCodes = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);
const diskDeniedCodes = new Set(["EACCES", "EPERM", "EROFS"]);

/**
 * Turns a failed file operation on the way to `path` into an error that says what to do; gives back anything
 * else as it is.
 */
export function describeDiskFailure(error: unknown, path: string, neededBytes?: number): unknown {
  const { code, syscall } = (error ?? {}) as NodeJS.ErrnoException;
  if (code === undefined || syscall === undefined || error instanceof TokenmillError) return error;
  const elsewhere = "or set TOKENMILL_CACHE to a folder elsewhere";
  const needed = neededBytes === undefined ? "" : ` (${neededBytes} bytes are needed)`;
  let message = `Cannot write ${path} (${describeError(error)}): make way for it, ${elsewhere}`;
  if (diskFullCodes.has(code)) message = `No space left to write ${path}${needed}: free some, ${elsewhere}`;
  if (diskDeniedCodes.has(code))
    message = `Not allowed to write ${path}: change its permissions, ${elsewhere}`;
  return new DownloadFailure("disk", message, { cause: error });
}
