// A CommonJS consumer's view of the package: the same names and types, by `require` and by `import`.

import tokenmill = require("tokenmill");
import manifest = require("tokenmill/package.json");
import opentelemetry = require("tokenmill/opentelemetry");
import prometheus = require("tokenmill/prometheus");
import {
  type Completion,
  loadModel,
  type Model,
  quantizeModel,
  type Reply,
  type ReplyPart,
  TokenmillError,
} from "tokenmill";
import type { Same } from "./same.cjs";

const same = <A, B>(_same: Same<A, B>) => undefined;

same<
  keyof typeof tokenmill,
  | "errorCodes"
  | "estimateMemory"
  | "fileTypes"
  | "loadModel"
  | "loadTokenizer"
  | "mergeAdapter"
  | "quantizeModel"
  | "Reply"
  | "Session"
  | "TokenmillError"
>(true);
same<typeof tokenmill.quantizeModel, typeof quantizeModel>(true);
same<typeof tokenmill.loadModel, typeof loadModel>(true);
same<tokenmill.Model, Model>(true);
same<typeof manifest.version, string>(true);
same<keyof typeof prometheus, "collectMetrics">(true);
same<keyof typeof opentelemetry, "instrument">(true);

export async function run(): Promise<Completion> {
  const model = await tokenmill.loadModel("model.gguf", { contextLength: 4096 });
  same<typeof model, Model>(true);
  const reply = model.chat([{ role: "user", content: "Hello" }], { maxTokens: 10 });
  same<typeof reply, Reply>(true);
  try {
    for await (const part of reply) {
      same<typeof part, ReplyPart>(true);
      if (part.type === "text") process.stdout.write(part.text);
    }
  } catch (error) {
    if (TokenmillError.isInstance(error) && error.code === "Aborted" && error.partial) return error.partial;
    throw error;
  } finally {
    await model.dispose();
  }
  return reply;
}

/** The ESM entry gives the very types of this one: they describe one copy. */
export async function imported(): Promise<void> {
  const esm = await import("tokenmill");
  same<typeof esm.TokenmillError, typeof TokenmillError>(true);
  same<typeof esm.loadModel, typeof loadModel>(true);
  const model: Model = await esm.loadModel("model.gguf");
  await model.dispose();
}

export async function mistakes(model: Model): Promise<void> {
  // @ts-expect-error there is no default export
  tokenmill.default;
  // @ts-expect-error the library cannot be called
  tokenmill("model.gguf");
  // @ts-expect-error misspelled
  model.generate("Once", { temprature: 1 });
  // @ts-expect-error a completion has no parts
  for await (const part of await model.generate("Once")) void part;
}
