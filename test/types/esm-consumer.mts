// An ESM consumer's view of the package, checked by tsc and never run. The mistakes are ones that tsc must find.

import {
  type Adapter,
  type AdapterChoice,
  type AdapterOptions,
  type ChatMessage,
  type ChatOptions,
  type Completion,
  type ContentPart,
  type CpuDevice,
  type CudaDevice,
  type DeviceChoice,
  type ErrorCode,
  errorCodes,
  estimateMemory,
  type FileType,
  type FinishReason,
  type GenerationOptions,
  type LoadOptions,
  type LogEvent,
  loadModel,
  loadTokenizer,
  type MemoryBudget,
  type MemoryEstimate,
  type MergeOptions,
  type Model,
  type ModelInfo,
  type ModelStats,
  mergeAdapter,
  type Progress,
  type QuantizeOptions,
  type QuantizeResult,
  quantizeModel,
  Reply,
  type ReplyPart,
  type Score,
  type ScoreOptions,
  type SendOptions,
  Session,
  type SessionOptions,
  type SourceOptions,
  type TextPart,
  type Timings,
  type TokenizeOptions,
  type Tokenizer,
  type TokenLogprob,
  TokenmillError,
  type ToolDefinition,
  type Usage,
  type WeightedAdapter,
} from "tokenmill";
import type { Same } from "./same.cjs";

const same = <A, B>(_same: Same<A, B>) => undefined;

type Names = keyof typeof import("tokenmill");

same<
  Names,
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
// @ts-expect-error the package's inside cannot be imported
export type Inside = typeof import("tokenmill/dist/native.js");

export async function quantize(): Promise<number> {
  const type: FileType = "Q4_K_M";
  const options: QuantizeOptions = { type, pure: false, overwrite: true, threads: 2 };
  const result: QuantizeResult = await quantizeModel("in.gguf", "out.gguf", options);
  const merge: MergeOptions = { scale: 0.5, type: "Q8_0", overwrite: true };
  const merged: QuantizeResult = await mergeAdapter("in.gguf", "hf:owner/adapter", "out.gguf", merge);
  // @ts-expect-error not a type that files have
  await mergeAdapter("in.gguf", "adapter", "out.gguf", { type: "Q3" });
  console.log(merged.outputBytes);
  same<(typeof result.types)[number], { type: string; tensors: number; bytes: number }>(true);
  // @ts-expect-error a type is needed
  await quantizeModel("in.gguf", "out.gguf", {});
  // @ts-expect-error not a type that is written
  await quantizeModel("in.gguf", "out.gguf", { type: "Q2_K" });
  return result.outputBytes;
}

export async function load(): Promise<Model> {
  const controller = new AbortController();
  const options: LoadOptions = {
    device: "cuda:1",
    contextLength: 4096,
    threads: 4,
    maxBatchTokens: 256,
    quantize: "int4",
    memory: { budget: "25.5%" },
    signal: controller.signal,
    onProgress: ({ phase, loaded, total, file }) => {
      same<typeof phase, "download" | "load" | "quantize">(true);
      same<[typeof loaded, typeof total, typeof file], [number, number, string]>(true);
    },
    onLog: ({ level, message }) => {
      same<typeof level, "debug" | "info" | "warn">(true);
      same<typeof message, string>(true);
    },
  };
  same<Parameters<NonNullable<LoadOptions["onProgress"]>>, [progress: Progress]>(true);
  same<Parameters<NonNullable<LoadOptions["onLog"]>>, [event: LogEvent]>(true);
  const source: SourceOptions = options;
  await loadTokenizer("model.gguf", source);
  // @ts-expect-error a source is needed
  await loadModel();
  // @ts-expect-error a source is a string
  await loadModel(new URL("file:///model.gguf"));
  // @ts-expect-error misspelled
  await loadModel("model.gguf", { contextLenght: 4096 });
  const devices: DeviceChoice[] = ["auto", "cpu", "cuda", "cuda:0"];
  for (const device of devices) await estimateMemory("model.gguf", { device });
  // @ts-expect-error no such device
  await loadModel("model.gguf", { device: "gpu" });
  // @ts-expect-error a number of bytes or percents
  await loadModel("model.gguf", { memory: { budget: "1 GiB" } });
  const { weights, kv, scratch, total, contextLength, budget, available, fits }: MemoryEstimate =
    await estimateMemory("model.gguf", { ...options, memory: { budget: 2 ** 30 } });
  same<[typeof weights, typeof kv, typeof scratch, typeof total], [number, number, number, number]>(true);
  same<
    [typeof contextLength, typeof budget, typeof available, typeof fits],
    [number, number, number, boolean]
  >(true);
  // @ts-expect-error a signal, not its controller
  await loadModel("model.gguf", { signal: controller });
  // @ts-expect-error the load's options are not the generation's
  await loadModel("model.gguf", { maxTokens: 5 });
  // @ts-expect-error a tokenizer has no threads
  await loadTokenizer("model.gguf", { threads: 2 });
  return loadModel("model.gguf", options);
}

export async function generate(model: Model, controller: AbortController): Promise<string> {
  const options: GenerationOptions = {
    maxTokens: 100,
    temperature: 0.8,
    topK: 40,
    topP: 0.95,
    minP: 0.05,
    repetitionPenalty: 1.1,
    frequencyPenalty: 0,
    presencePenalty: 0,
    seed: 1,
    stop: ["\n\n", "###"],
    ignoreEos: false,
    logprobs: 5,
    signal: controller.signal,
  };
  const reply = model.generate("Once", options);
  same<typeof reply, Reply>(true);
  for await (const part of reply) {
    same<typeof part, ReplyPart>(true);
    process.stdout.write(part.text);
  }
  const completion = await reply;
  same<typeof completion, Completion>(true);
  same<Awaited<Reply>, Completion>(true);
  const { text, tokens, finishReason, seed, usage, timings, logprobs } = completion;
  same<[typeof text, typeof tokens, typeof seed], [string, number[], number]>(true);
  same<typeof finishReason, FinishReason>(true);
  same<FinishReason, "stop" | "length" | "aborted">(true);
  same<[typeof usage, typeof timings], [Usage, Timings]>(true);
  same<typeof logprobs, TokenLogprob[] | undefined>(true);
  same<keyof Usage, "promptTokens" | "cachedTokens" | "completionTokens">(true);
  same<keyof Timings, "queueMs" | "ttftMs" | "prefillTokensPerSecond" | "decodeTokensPerSecond">(true);

  const all = await Promise.all([model.generate(tokens), model.generate([1, 2, 3] as const, { stop: "." })]);
  same<typeof all, [Completion, Completion]>(true);
  const length = await reply.then(({ tokens }) => tokens.length);
  same<typeof length, number>(true);
  const rescued = await reply.then(null, () => "failed" as const);
  same<typeof rescued, Completion | "failed">(true);
  same<ReturnType<Reply["cancel"]>, void>(true);

  // @ts-expect-error a reply is no completion until it is awaited
  reply.text;
  // @ts-expect-error parts come asynchronously
  for (const part of reply) void part;
  // @ts-expect-error replies are made by a model
  new Reply();
  // @ts-expect-error token ids are numbers
  model.generate(["Once"]);
  // @ts-expect-error misspelled
  model.generate("Once", { max_tokens: 100 });
  // @ts-expect-error stop strings are strings
  model.generate("Once", { stop: [13] });
  // @ts-expect-error how many alternatives, not whether
  model.generate("Once", { logprobs: true });
  // @ts-expect-error no such reason
  if (finishReason === "eos") return "";
  return text;
}

/** An async function that returns a Reply returns its Completion. */
export async function ask(model: Model, content: string) {
  return model.chat([{ role: "user", content }]);
}
same<ReturnType<typeof ask>, Promise<Completion>>(true);

export function narrow(part: ReplyPart): string {
  if (part.type !== "text") return "a kind of part that comes later";
  same<typeof part, TextPart>(true);
  same<typeof part.logprobs, TokenLogprob[] | undefined>(true);
  const [best] = part.logprobs?.[0]?.top ?? [];
  return `${part.text}${part.tokens.length}${best?.token}${best?.logprob}`;
}

// @ts-expect-error a part of another type
export const unknownPart: ReplyPart = { type: "image", text: "", tokens: [] };

export async function chat(model: Model, picture: Uint8Array): Promise<void> {
  const parts: ContentPart[] = [
    { type: "text", text: "What is this?" },
    { type: "image", data: picture, mediaType: "image/png" },
    { type: "audio", data: "https://example.org/sound.ogg" },
  ];
  const messages: readonly ChatMessage[] = [
    { role: "system", content: "Be brief." },
    { role: "user", content: parts },
    { role: "tool", content: "42" },
  ];
  await model.chat(messages, { maxTokens: 20 });
  for (const part of parts) {
    if (part.type === "text") same<typeof part.text, string>(true);
    else same<typeof part.data, Uint8Array | string>(true);
  }
  // @ts-expect-error a conversation is a list of messages
  model.chat("What is this?");
  // @ts-expect-error a message has a role
  model.chat([{ content: "What is this?" }]);
  // @ts-expect-error an image has data
  model.chat([{ role: "user", content: [{ type: "image" }] }]);
}

export function handle(error: unknown): ErrorCode | undefined {
  // @ts-expect-error nothing is known of a caught value
  error.code;
  if (!TokenmillError.isInstance(error)) {
    same<typeof error, unknown>(true);
    return undefined;
  }
  same<typeof error, TokenmillError>(true);
  same<typeof error.code, ErrorCode>(true);
  same<typeof error.partial, Completion | undefined>(true);
  const asError: Error = error;
  // @ts-expect-error no such code
  if (error.code === "ENOENT") throw asError;
  // @ts-expect-error the list does not change
  errorCodes.push("Internal");
  // @ts-expect-error no such code
  void new TokenmillError("Nonsense", "message");
  if (error.code === "Aborted") process.stdout.write(error.partial?.text ?? "");
  // @ts-expect-error codes do not change
  error.code = "Internal";
  return error.code;
}

export async function inspect(model: Model): Promise<void> {
  same<typeof model.info, ModelInfo>(true);
  type Isa = "reference" | "avx2" | "avxvnni" | "avx512" | "avx512bf16" | "neon" | "neon-i8mm";
  same<ModelInfo["device"], CpuDevice | CudaDevice>(true);
  if (model.info.device.type === "cpu") same<typeof model.info.device.isa, Isa>(true);
  else same<typeof model.info.device.computeCapability, string>(true);
  // @ts-expect-error a GPU has no instruction set
  void model.info.device.isa;
  same<ModelInfo["capabilities"]["chat"], boolean>(true);
  const template: string | undefined = model.info.chatTemplate;
  const stats: ModelStats = model.stats();
  const budget: MemoryBudget = "50%";
  const reached = await model.setMemoryBudget(budget);
  same<typeof reached, ModelStats["bytes"]>(true);
  // @ts-expect-error not a share
  await model.setMemoryBudget("half");
  same<[typeof stats.pages.free, typeof stats.bytes.kv], [number, number]>(true);
  same<keyof ModelStats["prefix"], "lookups" | "hits" | "hitTokens" | "evictedPages">(true);
  const score: Score = await model.score("The mill", { signal: new AbortController().signal });
  const salted: ScoreOptions = { cacheSalt: "tenant" };
  const drafts: GenerationOptions[] = [{ draft: "promptLookup" }, { draft: model }];
  // @ts-expect-error neither a model nor a known way to guess
  drafts.push({ draft: "other" });
  // @ts-expect-error a model has to be loaded first
  drafts.push({ draft: loadModel("draft.gguf") });
  await model.score("The mill", salted);
  same<[typeof score.tokens, typeof score.logprobs], [number[], Float32Array]>(true);
  same<ReturnType<Model["dispose"]>, Promise<void>>(true);
  void template;
  // @ts-expect-error a model keeps its description
  model.info = { ...model.info };
  // @ts-expect-error how a text is scored is not for options to say
  await model.score("The mill", { temperature: 1 });
}

export async function adapt(model: Model, signal: AbortSignal): Promise<string[]> {
  const options: AdapterOptions = { name: "formal", scale: 0.5, signal, onProgress: () => undefined };
  const adapter: Adapter = await model.loadAdapter("./formal", options);
  same<
    [typeof adapter.name, typeof adapter.rank, typeof adapter.targets, typeof adapter.bytes],
    [string, number, readonly string[], number]
  >(true);
  const weighted: WeightedAdapter = { adapter: "formal", scale: 2 };
  const choices: AdapterChoice[] = [adapter, "formal", [], [weighted, { adapter }]];
  for (const choice of choices) await model.chat([], { adapter: choice });
  await model.score("x", { adapter });
  const session = model.session({ adapter: [weighted] });
  void session.send("x", { adapter });
  void model.generateMany([{ prompt: "x", options: { adapter: "formal" } }], { adapter });
  await loadModel("model.gguf", { memory: { adapters: 2 ** 28 } });
  same<ReturnType<Adapter["unload"]>, Promise<void>>(true);
  same<ReturnType<Model["adapters"]>, Adapter[]>(true);
  // @ts-expect-error an adapter is not its promise
  model.generate("x", { adapter: model.loadAdapter("./formal") });
  // @ts-expect-error several adapters each have their own entry
  model.generate("x", { adapter: [adapter] });
  // @ts-expect-error a factor is a number
  model.generate("x", { adapter: [{ adapter, scale: "2" }] });
  // @ts-expect-error an adapter keeps its scale
  adapter.scale = 2;
  // @ts-expect-error a source is a string
  await model.loadAdapter({ path: "./formal" });
  return model.adapters().map(({ name }) => name);
}

export async function converse(model: Model): Promise<void> {
  const options: SessionOptions = { system: "Be brief.", messages: [], temperature: 0.5, cacheSalt: "a" };
  using session: Session = model.session(options);
  const more: SendOptions = { maxTokens: 5, signal: new AbortController().signal };
  same<ReturnType<typeof session.send>, Reply>(true);
  await session.send([{ type: "text", text: "Why?" }], more);
  same<typeof session.messages, readonly ChatMessage[]>(true);
  const [fork, snapshot] = [session.fork(), await session.snapshot()];
  same<[typeof fork, typeof snapshot], [Session, Buffer]>(true);
  same<ReturnType<Model["restore"]>, Promise<Session>>(true);
  await model.restore(new Uint8Array(snapshot));
  same<ReturnType<Session["dispose"]>, void>(true);
  // @ts-expect-error a signal is a turn's
  model.session({ signal: more.signal });
  // @ts-expect-error a salt is the session's
  session.send("Why?", { cacheSalt: "b" });
  // @ts-expect-error sessions are made by a model
  new Session();
  // @ts-expect-error turns make other messages
  session.messages.push({ role: "user", content: "Why?" });
}

export async function call(model: Model): Promise<void> {
  const parameters = { type: "object", properties: { city: { type: "string" } } } as const;
  const tool: ToolDefinition = { type: "function", function: { name: "weather", parameters } };
  const options: ChatOptions = { tools: [tool, { type: "function", function: { name: "time" } }] };
  await model.chat([], options);
  const session = model.session({ tools: [tool] as const });
  void model.generateMany([{ messages: [], options }, { prompt: "x" }], options);
  // @ts-expect-error a tool has a name
  options.tools = [{ type: "function", function: {} }];
  // @ts-expect-error the only type there is
  options.tools = [{ type: "retrieval", function: { name: "time" } }];
  // @ts-expect-error tools belong to messages
  model.generate("x", { tools: [tool] });
  // @ts-expect-error tools are the session's
  session.send("x", { tools: [tool] });
  // @ts-expect-error an item with a prompt has no tools
  void model.generateMany([{ prompt: "x", options: { tools: [tool] } }]);
}

export function tokenize(tokenizer: Tokenizer): string {
  const options: TokenizeOptions = { special: true, bos: false };
  const tokens = tokenizer.tokenize("The mill", options);
  same<typeof tokens, number[]>(true);
  same<typeof tokenizer.vocabularySize, number>(true);
  // @ts-expect-error tokens, not text
  tokenizer.detokenize("The mill");
  // @ts-expect-error the vocabulary does not grow
  tokenizer.vocabularySize += 1;
  return tokenizer.detokenize(tokens, { special: true });
}

export async function dispose(): Promise<number> {
  await using model = await loadModel("model.gguf");
  const tokenizer: Tokenizer = model; // a model is its own tokenizer
  return tokenizer.vocabularySize;
}
