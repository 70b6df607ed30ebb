import type { Completion } from "./completion";

/** Every code that a {@link TokenmillError} can carry; the native library's list, in its order. */
export const errorCodes = [
  "InvalidArgument",
  "ModelNotFound",
  "CorruptFile",
  "UnsupportedModel",
  "UnsupportedQuantization",
  "OutOfMemory",
  "ContextOverflow",
  "Overloaded",
  "DeadlineExceeded",
  "Incompatible",
  "DeviceUnavailable",
  "Aborted",
  "Disposed",
  "Download",
  "Internal",
] as const;

export type ErrorCode = (typeof errorCodes)[number];

const marker = Symbol.for("tokenmill.error");

/**
 * Every failure of this library. `message` says what was found, what was expected and what to do.
 *
 * @example
 * try {
 *   await model.generate(prompt, { signal });
 * } catch (error) {
 *   if (TokenmillError.isInstance(error) && error.code === "Aborted") console.log(error.partial?.text);
 *   else throw error;
 * }
 */
export class TokenmillError extends Error {
  /** What kind of failure this is: one of {@link errorCodes}. */
  readonly code: ErrorCode;
  /** What a reply had produced before it failed. */
  readonly partial?: Completion;

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; partial?: Completion } = {}) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.name = code === "Aborted" ? "AbortError" : "TokenmillError";
    this.code = code;
    if (options.partial !== undefined) this.partial = options.partial;
    Object.defineProperty(this, marker, { value: true });
  }

  /** Whether `value` is an error of this library, also of another copy of the package. */
  static isInstance(value: unknown): value is TokenmillError {
    return typeof value === "object" && value !== null && (value as Record<symbol, unknown>)[marker] === true;
  }
}
