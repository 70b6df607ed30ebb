import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { bool, string, tinyLlama } from "../unit/gguf/gguf-writer.mjs";

export const root = fileURLToPath(new URL("../..", import.meta.url));
export const nativeTests = process.env.TOKENMILL_NATIVE_TESTS ?? join(root, "build/native-tests");

/** Path of a real model, or undefined where none were fetched. */
export function realModel(name) {
  const folder = process.env.TOKENMILL_TEST_MODELS;
  if (!folder) return undefined;
  const path = join(folder, `${name}.gguf`);
  if (!existsSync(path)) throw new Error(`${path} is absent: run node scripts/fetch-test-models.mjs`);
  return path;
}

export const smollm2 = realModel("smollm2-135m-instruct");
export const gemma3 = realModel("gemma-3-270m");

/** A test that needs a real model; skipped, and said so, where there is none. */
export function modelTest(name, path, body) {
  test(name, { skip: path ? false : "TOKENMILL_TEST_MODELS is not set: no real models here" }, () =>
    body(path),
  );
}

const folder = mkdtempSync(join(tmpdir(), "tokenmill-test-"));
after(() => rmSync(folder, { recursive: true, force: true }));

let files = 0;

/** Writes a file that is removed after the tests. */
export function temporaryFile(bytes, extension = "gguf") {
  const path = join(folder, `${files++}.${extension}`);
  writeFileSync(path, bytes);
  return path;
}

/** A small llama model with random weights and a ChatML template. */
export function tinyModel({ metadata = {}, ...sizes } = {}) {
  return temporaryFile(
    tinyLlama({
      ...sizes,
      metadata: {
        "tokenizer.chat_template": string(
          "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}",
        ),
        "tokenizer.ggml.add_bos_token": bool(false),
        ...metadata,
      },
    }),
  );
}

setFlagsFromString("--expose-gc");
/** Collects garbage now. */
export const collectGarbage = runInNewContext("gc");

/** Waits until a condition holds, for a few seconds. */
export async function until(condition, what, timeoutMs = 20_000) {
  const deadline = Date.now() + timeoutMs;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`waited in vain for ${what ?? condition}`);
    await sleep(2);
  }
}

export async function collect(reply) {
  const parts = [];
  for await (const part of reply) parts.push(part);
  return parts;
}
