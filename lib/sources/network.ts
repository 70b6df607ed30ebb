import type { IncomingHttpHeaders } from "node:http";
import type { Socket } from "node:net";
import type { Readable } from "node:stream";
import type * as Undici from "undici";
import { TokenmillError } from "../errors";
import { DownloadFailure, describeError, errorCode, throwIfAborted } from "./failure";

const redirectsMaximum = 10;
const stalledBodyMs = 30_000;

export interface NetworkLimits {
  /** Until the connection stands, name lookup, proxy and TLS included; for each host anew. */
  connectMs: number;
  /** From the request to the answer's headers. */
  answerMs: number;
}

/** A header that only one origin may see. */
export interface Authorization {
  origin: string;
  value: string;
}

export interface RequestOptions {
  headers?: Record<string, string>;
  authorization?: Authorization | undefined;
  signal?: AbortSignal | undefined;
}

export interface Response {
  status: number;
  headers: IncomingHttpHeaders;
  /** The headers of the first answer, before any redirect. */
  firstHeaders: IncomingHttpHeaders;
  /** Must be read to its end or destroyed. */
  body: Readable & { dump(): Promise<void> };
  /** Where the answer came from, after redirects. */
  url: URL;
}

/** A URL as it may be shown: without user, password and signed query. */
export function displayUrl(url: URL): string {
  return `${url.origin}${url.pathname}`;
}

/** A connector that gives up after `timeoutMs` exactly; undici's own rounds up by as much as a second. */
function connectorWithin(undici: typeof Undici, timeoutMs: number): Undici.buildConnector.connector {
  const connect = undici.buildConnector({ timeout: 0 });
  return (options, callback) => {
    const socket = connect(options, (...result) => {
      clearTimeout(timer);
      callback(...result);
    }) as unknown as Socket;
    const timer = setTimeout(() => {
      socket.destroy(new undici.errors.ConnectTimeoutError(`no connection within ${timeoutMs} ms`));
    }, timeoutMs);
  };
}

/** Undici is loaded when something is fetched: most runs find their model in the cache. */
async function createAgent({ connectMs, answerMs }: NetworkLimits) {
  const undici = await import("undici");
  const agent = new undici.EnvHttpProxyAgent({
    connect: connectorWithin(undici, connectMs),
    headersTimeout: answerMs,
    bodyTimeout: stalledBodyMs,
    // What goes to a plain http: server is sent through the proxy as such; tunnels are for https:.
    proxyTunnel: false,
    proxyTls: { timeout: connectMs },
    requestTls: { timeout: connectMs },
    clientFactory: (origin, options) => new undici.Pool(origin, { ...options, headersTimeout: connectMs }),
  });
  return { agent, request: undici.request };
}

const brokenOffCodes = new Set(["ECONNRESET", "EPIPE", "UND_ERR_SOCKET", "UND_ERR_BODY_TIMEOUT"]);

/** Turns what undici threw for a request to `url` into the failure that it is. */
export function describeNetworkFailure(
  error: unknown,
  url: URL,
  signal: AbortSignal | undefined,
): TokenmillError {
  throwIfAborted(signal, `The download from ${url.host}`);
  if (error instanceof TokenmillError) return error;
  const isBrokenOff = brokenOffCodes.has(errorCode(error) ?? "");
  const message = isBrokenOff
    ? `The connection to ${url.host} broke off (${describeError(error)})`
    : `Cannot reach ${url.host} (${describeError(error)})`;
  return new DownloadFailure(isBrokenOff ? "transient" : "unreachable", message, { cause: error });
}

function retryAfterMs(headers: IncomingHttpHeaders): number | undefined {
  const value = headers["retry-after"];
  if (value === undefined) return undefined;
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined;
}

/** The failure that an answer other than 2xx means. Discards its body. */
export async function describeRefusal(response: Response): Promise<DownloadFailure> {
  await response.body.dump().catch(() => {});
  const { status, headers, url } = response;
  const isTransient = status === 408 || status === 429 || status >= 500;
  const said = typeof headers["x-error-message"] === "string" ? `: ${headers["x-error-message"]}` : "";
  const waitMs = retryAfterMs(headers);
  return new DownloadFailure(
    isTransient ? "transient" : "refused",
    `${url.host} answered ${status} for ${displayUrl(url)}${said}`,
    { status, ...(waitMs === undefined ? {} : { retryAfterMs: waitMs }) },
  );
}

function redirectTarget(response: Response): URL | undefined {
  const { status, headers, url } = response;
  if (![301, 302, 303, 307, 308].includes(status) || typeof headers.location !== "string") return undefined;
  const target = URL.canParse(headers.location, url.href) ? new URL(headers.location, url) : undefined;
  const isDowngrade = url.protocol === "https:" && target?.protocol !== "https:";
  if (target === undefined || isDowngrade || !/^https?:$/.test(target.protocol)) {
    throw new DownloadFailure("refused", `${url.host} redirects to an address that is not followed`);
  }
  return target;
}

/** HTTP GET with the environment's proxies, redirects, and credentials that stay with their origin. */
export class Network {
  readonly #limits: NetworkLimits;
  #agent: ReturnType<typeof createAgent> | undefined;

  constructor(limits: NetworkLimits) {
    this.#limits = limits;
  }

  /** Gives any answer that is not a redirect. Throws {@link DownloadFailure} or `Aborted`. */
  async get(start: URL, options: RequestOptions = {}): Promise<Response> {
    let url = start;
    let firstHeaders: IncomingHttpHeaders | undefined;
    for (let hop = 0; hop <= redirectsMaximum; hop++) {
      const response = await this.#getOnce(url, options);
      firstHeaders ??= response.headers;
      const target = redirectTarget(response);
      if (target === undefined) return { ...response, firstHeaders };
      await response.body.dump().catch(() => {});
      url = target;
    }
    throw new DownloadFailure("refused", `${start.host} redirects more than ${redirectsMaximum} times`);
  }

  async #getOnce(url: URL, { headers, authorization, signal }: RequestOptions): Promise<Response> {
    const isTrusted = authorization !== undefined && authorization.origin === url.origin;
    this.#agent ??= createAgent(this.#limits);
    const { agent, request } = await this.#agent;
    try {
      const response = await request(url, {
        dispatcher: agent,
        headers: {
          "user-agent": "tokenmill",
          // Lengths, ranges and digests are those of the file, not of a compressed form.
          "accept-encoding": "identity",
          ...headers,
          ...(isTrusted ? { authorization: authorization.value } : {}),
        },
        ...(signal === undefined ? {} : { signal }),
      });
      const { statusCode: status, headers: answered, body } = response;
      // Whoever reads the body gets its error; one that is left unread must not raise it elsewhere.
      body.on("error", () => {});
      return { status, headers: answered, firstHeaders: answered, body, url };
    } catch (error) {
      throw describeNetworkFailure(error, url, signal);
    }
  }

  /** Breaks off what still runs. */
  async close(): Promise<void> {
    const created = await this.#agent;
    await created?.agent.destroy();
  }
}
