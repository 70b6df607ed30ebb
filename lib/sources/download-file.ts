import type { LogEvent } from "../options";
import { DownloadFailure, throwIfAborted } from "./failure";
import type { FileLock } from "./file-lock";
import {
  type Authorization,
  describeNetworkFailure,
  describeRefusal,
  displayUrl,
  type Network,
  type Response,
} from "./network";
import { PartialFile, type PartialOrigin } from "./partial-file";
import { withRetries } from "./retry";

/** Attempts are counted anew after this much progress. */
const progressBytes = 1 << 20;

/** What every transfer of one target shares. */
export interface TransferContext {
  network: Network;
  /** Held by the caller for as long as the transfer runs. */
  lock: FileLock;
  signal: AbortSignal;
  onLog?: ((event: LogEvent) => void) | undefined;
  /** Bytes that have come and that are to come; `total` is 0 while it is not known. */
  onBytes: (loaded: number, total: number) => void;
}

/** What the bytes must be. */
export interface Expectation {
  bytes?: number | undefined;
  /** Lower-case hexadecimal. */
  sha256?: string | undefined;
}

export interface DownloadRequest extends Expectation {
  url: URL;
  authorization?: Authorization | undefined;
  /** The finished file. Until then `<path>.partial` and `<path>.partial.json` hold what there is. */
  path: string;
  /** What the server's own headers promise; used where the caller expects nothing. */
  readExpectation?: (response: Response) => Expectation;
}

/** A validator that If-Range may be used with: a strong ETag, else a date. */
function validatorOf({ headers }: Response): string | undefined {
  const { etag } = headers;
  return etag !== undefined && !etag.startsWith("W/") ? etag : headers["last-modified"];
}

/** Start and total of an answer with part of a file. */
function contentRange(response: Response): { start: number; total: number | undefined } | undefined {
  const [, start, total] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.headers["content-range"] ?? "") ?? [];
  if (start === undefined) return undefined;
  return { start: Number(start), total: total === "*" ? undefined : Number(total) };
}

function contentLength({ headers }: Response): number | undefined {
  const text = headers["content-length"];
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
}

/** One file's download; its partial file stays open over all attempts. */
class Download {
  readonly #request: DownloadRequest;
  readonly #context: TransferContext;
  readonly #partial: PartialFile;
  #expected: Expectation;

  constructor(request: DownloadRequest, context: TransferContext, partial: PartialFile) {
    this.#request = request;
    this.#context = context;
    this.#partial = partial;
    this.#expected = { bytes: request.bytes, sha256: request.sha256 };
  }

  async run(): Promise<void> {
    let attemptedFrom = this.#partial.length;
    const attempt = async () => {
      attemptedFrom = this.#partial.length;
      await this.#attempt();
    };
    await withRetries(attempt, {
      signal: this.#context.signal,
      onLog: this.#context.onLog,
      hasProgressed: () => this.#partial.length - attemptedFrom >= progressBytes,
    });
    await this.#partial.publish(this.#request.path, this.#context.lock.assertHeld);
  }

  async #attempt(): Promise<void> {
    const partial = this.#partial;
    // What an earlier run left whole is not asked for again: without a digest nothing would tell what it is.
    if (this.#isWhole() && partial.isResumed && this.#sha256 === undefined) await partial.restart();
    if (!this.#isWhole()) await this.#receive();
    await this.#verify();
  }

  #isWhole(): boolean {
    const { length, origin } = this.#partial;
    return length > 0 && length === (origin?.bytes ?? this.#expected.bytes);
  }

  /** The digest that is expected, else the one that was promised for the beginning that is here. */
  get #sha256(): string | undefined {
    return this.#expected.sha256 ?? this.#partial.origin?.sha256;
  }

  async #receive(): Promise<void> {
    const { network, signal } = this.#context;
    const { url, authorization } = this.#request;
    const response = await network.get(url, { headers: await this.#rangeHeaders(), authorization, signal });
    const isRest = response.status === 206 && this.#partial.length > 0;
    if (!isRest && response.status !== 200) await this.#refuse(response);
    await this.#prepare(response, isRest);
    await this.#store(response);
  }

  /** Asks for the rest only if it can be told that the rest belongs to the beginning. */
  async #rangeHeaders(): Promise<Record<string, string>> {
    const partial = this.#partial;
    if (partial.length === 0) return {};
    const validator = partial.origin?.validator;
    if (validator === undefined && this.#expected.sha256 === undefined) {
      await partial.restart();
      return {};
    }
    const range = `bytes=${partial.length}-`;
    return validator === undefined ? { range } : { range, "if-range": validator };
  }

  async #refuse(response: Response): Promise<never> {
    const refusal = await describeRefusal(response);
    if (response.status !== 416 || this.#partial.length === 0) throw refusal;
    await this.#partial.restart();
    throw new DownloadFailure("transient", `${refusal.message}: what is here is longer than the file`);
  }

  /** Compares the answer's promises with what is expected, before a byte of it is stored. */
  async #prepare(response: Response, isRest: boolean): Promise<void> {
    const partial = this.#partial;
    const range = isRest ? contentRange(response) : undefined;
    const total = isRest ? (range?.total ?? partial.origin?.bytes) : contentLength(response);
    try {
      if (isRest && (range?.start !== partial.length || this.#isOtherVersion(response, total))) {
        await partial.restart();
        throw new DownloadFailure("transient", `${response.url.host} sent another part than was asked for`);
      }
      this.#checkPromise(response, total);
      if (isRest) return;
      if (partial.length > 0) await partial.restart();
      await partial.setOrigin(this.#describeOrigin(response, total));
    } catch (error) {
      response.body.destroy();
      throw error;
    }
  }

  #isOtherVersion(response: Response, total: number | undefined): boolean {
    const { validator, bytes } = this.#partial.origin ?? {};
    const isOtherLength = bytes !== undefined && total !== undefined && bytes !== total;
    return isOtherLength || (validator !== undefined && validator !== validatorOf(response));
  }

  #checkPromise(response: Response, total: number | undefined): void {
    const promised = this.#request.readExpectation?.(response) ?? {};
    const { bytes = promised.bytes, sha256 = promised.sha256 } = this.#request;
    const offeredBytes = promised.bytes ?? total;
    const where = displayUrl(this.#request.url);
    if (bytes !== undefined && offeredBytes !== undefined && bytes !== offeredBytes) {
      throw new DownloadFailure("mismatch", `${where} has ${offeredBytes} bytes; expected ${bytes}`);
    }
    if (promised.sha256 !== undefined && promised.sha256 !== sha256) {
      throw new DownloadFailure("mismatch", `${where} has sha256 ${promised.sha256}; expected ${sha256}`);
    }
    this.#expected = { bytes: bytes ?? total, sha256 };
  }

  #describeOrigin(response: Response, total: number | undefined): PartialOrigin {
    const validator = validatorOf(response);
    const { sha256 } = this.#expected;
    return {
      url: this.#request.url.href,
      ...(validator === undefined ? {} : { validator }),
      ...(total === undefined ? {} : { bytes: total }),
      ...(sha256 === undefined ? {} : { sha256 }),
    };
  }

  async #store(response: Response): Promise<void> {
    const { signal } = this.#context;
    const total = this.#expected.bytes ?? 0;
    this.#context.onBytes(this.#partial.length, total);
    const chunks = response.body[Symbol.asyncIterator]();
    try {
      for (;;) {
        const next = await chunks.next().catch((error) => {
          throw describeNetworkFailure(error, response.url, signal);
        });
        if (next.done) break;
        throwIfAborted(signal, `The download from ${response.url.host}`);
        if (total > 0 && this.#partial.length + next.value.length > total) {
          throw new DownloadFailure(
            "mismatch",
            `${response.url.host} sends more than the expected ${total} bytes`,
          );
        }
        await this.#partial.append(next.value);
        this.#context.onBytes(this.#partial.length, total);
      }
    } finally {
      response.body.destroy();
    }
  }

  async #verify(): Promise<void> {
    const partial = this.#partial;
    const { bytes } = this.#expected;
    const sha256 = this.#sha256;
    const where = displayUrl(this.#request.url);
    if (bytes !== undefined && partial.length < bytes) {
      throw new DownloadFailure("transient", `${where} ended after ${partial.length} of ${bytes} bytes`);
    }
    const digest = partial.digest();
    if (sha256 === undefined || sha256 === digest) return;
    const message = `${where} has sha256 ${digest}; expected ${sha256}`;
    // The fault may lie in what an earlier run left behind: one more try without it.
    if (!partial.isResumed) throw new DownloadFailure("mismatch", message);
    await partial.restart();
    throw new DownloadFailure("transient", message);
  }
}

/**
 * Downloads `request.url` to `request.path`, going on where an earlier run stopped. A file that is not what
 * was expected is deleted.
 *
 * @throws {@link DownloadFailure}, or `Aborted`, with the beginning left for later
 */
export async function downloadFile(request: DownloadRequest, context: TransferContext): Promise<void> {
  const partial = await PartialFile.open(request.path, request.url.href, context.signal);
  try {
    await new Download(request, context, partial).run();
  } catch (error) {
    await partial.close();
    if (error instanceof DownloadFailure && error.kind === "mismatch") await partial.remove();
    throw error;
  }
}
