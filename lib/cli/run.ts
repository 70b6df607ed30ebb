import { text as readAll } from "node:stream/consumers";
import type { ChatMessage } from "../chat-message";
import { TokenmillError } from "../errors";
import { loadModel } from "../load-model";
import type { Model } from "../model";
import type { GenerationOptions, LoadOptions } from "../options";
import type { Reply } from "../reply";
import { checkGenerationOptions, checkLoadOptions } from "../validate";
import {
  type AdapterChoices,
  checkAdapterChoices,
  loadAdapters,
  withoutAdapterChoices,
} from "./adapter-choices";
import { UsageError } from "./exit";
import { withInterrupt } from "./interrupt";
import { type LoadChoices, loadOptions, withoutLoadChoices } from "./load-options";
import { write, writeJson } from "./output";
import { ProgressDisplay } from "./progress-display";
import type { SamplingChoices } from "./sampling-choices";
import { note } from "./text";

/** The options of `tokenmill run`, as commander names them. */
export interface RunOptions extends LoadChoices, SamplingChoices, AdapterChoices {
  system?: string;
  raw?: boolean;
  json?: boolean;
  /** A model's source, or "promptLookup". */
  draft?: string;
}

/** What is loaded for a run. */
interface Models {
  model: Model;
  draft: Model | undefined;
  adapters: Pick<GenerationOptions, "adapter">;
}

function generationOptions(options: RunOptions, models?: Models): GenerationOptions {
  const choices = withoutAdapterChoices(withoutLoadChoices(options));
  const { system, raw, json, draft: choice, ...generation } = choices;
  const guesses = choice === "promptLookup" ? choice : models?.draft;
  return { ...generation, ...models?.adapters, ...(guesses === undefined ? {} : { draft: guesses }) };
}

/** Has the library refuse at once what it would refuse only after the download. */
function checkOptions(options: RunOptions): void {
  try {
    checkGenerationOptions(generationOptions(options));
    checkLoadOptions(loadOptions(options));
  } catch (error) {
    throw TokenmillError.isInstance(error) ? new UsageError(error.message, { cause: error }) : error;
  }
}

async function loadOne(source: string, options: LoadOptions): Promise<Model> {
  const display = new ProgressDisplay();
  try {
    return await loadModel(source, { ...options, onProgress: display.update });
  } finally {
    display.stop();
  }
}

/** The model with its adapters, and the draft; `quantize` and `contextLength` are the model's alone. */
async function load(source: string, options: RunOptions, signal: AbortSignal): Promise<Models> {
  const own = { ...loadOptions(options), signal };
  const model = await loadOne(source, own);
  try {
    const adapters = await loadAdapters(model, options, signal);
    if (options.draft === undefined || options.draft === "promptLookup")
      return { model, draft: undefined, adapters };
    const { quantize, contextLength, ...shared } = own;
    return { model, draft: await loadOne(options.draft, { ...shared, precision: "fast" }), adapters };
  } catch (error) {
    await model.dispose();
    throw error;
  }
}

async function dispose({ model, draft }: Models): Promise<void> {
  await model.dispose();
  await draft?.dispose();
}

/** Starts the answer: through the chat template, or where there is none, as a continuation of the prompt. */
function startReply(models: Models, prompt: string, options: RunOptions, signal: AbortSignal): Reply {
  const { model } = models;
  const generation = { ...generationOptions(options, models), signal };
  if (options.raw) return model.generate(prompt, generation);
  if (!model.info.capabilities.chat) {
    if (options.system !== undefined) {
      throw new UsageError("The model has no chat template, so there is no place for --system");
    }
    process.stderr.write(note(process.stderr, "(the model has no chat template: the prompt is continued)\n"));
    return model.generate(prompt, generation);
  }
  const system: ChatMessage[] =
    options.system === undefined ? [] : [{ role: "system", content: options.system }];
  return model.chat([...system, { role: "user", content: prompt }], generation);
}

/** Writes a reply as it comes, and ends its last line also if it fails. */
async function stream(reply: Reply): Promise<void> {
  let hasWritten = false;
  try {
    for await (const part of reply) {
      await write(part.text);
      hasWritten ||= part.text !== "";
    }
  } catch (error) {
    if (hasWritten) await write("\n");
    throw error;
  }
  await write("\n");
}

async function answer(
  source: string,
  prompt: string,
  options: RunOptions,
  signal: AbortSignal,
): Promise<void> {
  const models = await load(source, options, signal);
  try {
    const reply = startReply(models, prompt, options, signal);
    if (options.json) return await writeJson(await reply);
    await stream(reply);
  } finally {
    await dispose(models);
  }
}

async function chat(source: string, options: RunOptions): Promise<void> {
  const models = await withInterrupt((signal) => load(source, options, signal));
  const { model } = models;
  try {
    if (!model.info.capabilities.chat) {
      throw new UsageError("The model has no chat template, so it cannot chat: give it a prompt to continue");
    }
    const { chatLoop } = await import("./chat-loop.js");
    const { openChatTerminal } = await import("./chat-terminal.js");
    const { system } = options;
    await chatLoop({
      model,
      terminal: openChatTerminal(),
      system,
      generation: generationOptions(options, models),
    });
  } finally {
    await dispose(models);
  }
}

/** `tokenmill run`: answers the prompt, else stdin; at a terminal without a prompt, chats. */
export async function run(source: string, prompt: string | undefined, options: RunOptions): Promise<void> {
  if (options.raw && options.system !== undefined)
    throw new UsageError("--raw and --system exclude each other");
  checkAdapterChoices(options);
  checkOptions(options);
  if (prompt === undefined && process.stdin.isTTY) {
    if (options.json || options.raw) throw new UsageError("--json and --raw need a prompt");
    return chat(source, options);
  }
  const asked = prompt ?? (await readAll(process.stdin)).replace(/\r?\n$/, "");
  if (asked === "") throw new UsageError("The prompt is empty");
  await withInterrupt((signal) => answer(source, asked, options, signal));
}
