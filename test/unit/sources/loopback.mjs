// A server on the loopback interface that plays a model hub, a package index or a storage host.
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";

export const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

/** Bytes that look random and are the same each time. */
export function pseudoRandomBytes(length, seed = 1) {
  const bytes = Buffer.alloc(length);
  let state = seed;
  for (let index = 0; index < length; index++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[index] = state >>> 24;
  }
  return bytes;
}

/** Start of what a request asks for; undefined when the whole is to be sent. */
function rangeStart(request, file) {
  const [, start] = /^bytes=(\d+)-$/.exec(request.headers.range ?? "") ?? [];
  if (start === undefined || file.ignoresRanges) return undefined;
  const condition = request.headers["if-range"];
  return condition === undefined || condition === file.etag ? Number(start) : undefined;
}

export class LoopbackServer {
  /** Path to { body, etag?, type?, ignoresRanges?, bytesPerSecond?, cutAfter? }. */
  files = new Map();
  /** Answers before the files do; a handler that returns false leaves the request to them. */
  handlers = [];
  /** What was asked for and how much of it was sent. */
  requests = [];

  static async start(t) {
    const server = new LoopbackServer();
    server.http = createServer((request, response) => void server.#answer(request, response));
    server.http.listen(0, "127.0.0.1");
    await once(server.http, "listening");
    t.after(() => server.stop());
    return server;
  }

  get port() {
    return this.http.address().port;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** The same server under another host's name. */
  get otherUrl() {
    return `http://localhost:${this.port}`;
  }

  get sentBytes() {
    return this.requests.reduce((sum, { sent }) => sum + sent, 0);
  }

  stop() {
    this.http.closeAllConnections();
    this.http.close();
  }

  /** Answers the next requests for a path with these instead. */
  answerOnce(path, ...answers) {
    this.handlers.push((request, response) => {
      if (request.url !== path || answers.length === 0) return false;
      answers.shift()(response, request);
      return true;
    });
  }

  async #answer(request, response) {
    const record = { url: request.url, headers: request.headers, sent: 0 };
    this.requests.push(record);
    response.on("error", () => {});
    for (const handler of this.handlers) if (handler(request, response) !== false) return;
    const file = this.files.get(request.url);
    if (file === undefined) return void response.writeHead(404).end("not found");
    await this.#send(file, request, response, record);
  }

  async #send(file, request, response, record) {
    const { body, etag, type = "application/octet-stream" } = file;
    const start = rangeStart(request, file);
    const headers = { "content-type": type, ...(etag === undefined ? {} : { etag }) };
    if (start !== undefined && start >= body.length) {
      return void response.writeHead(416, { "content-range": `bytes */${body.length}` }).end();
    }
    if (start !== undefined) headers["content-range"] = `bytes ${start}-${body.length - 1}/${body.length}`;
    headers["content-length"] = body.length - (start ?? 0);
    response.writeHead(start === undefined ? 200 : 206, headers);
    await this.#sendBody(file, start ?? 0, response, record);
  }

  async #sendBody({ body, bytesPerSecond, cutAfter }, start, response, record) {
    const end = Math.min(body.length, cutAfter === undefined ? body.length : start + cutAfter);
    const step = bytesPerSecond === undefined ? 64 << 10 : Math.ceil(bytesPerSecond / 50);
    async function* chunks() {
      for (let offset = start; offset < end; offset += step) {
        const chunk = body.subarray(offset, Math.min(end, offset + step));
        record.sent += chunk.length;
        yield chunk;
        if (bytesPerSecond !== undefined) await sleep(20);
      }
    }
    const isCut = end < body.length;
    await pipeline(Readable.from(chunks(), { highWaterMark: 1 }), response, { end: !isCut }).catch(() => {});
    if (isCut) response.destroy();
  }
}
