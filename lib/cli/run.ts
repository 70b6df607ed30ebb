import { text as readAll } from "node:stream/consumers";
import type { ChatMessage } from "../chat-message";
import { TokenmillError } from "../errors";
import { loadModel } from "../load-model";
import type { Model } from "../model";
import type { GenerationOptions } from "../options";
import type { Reply } from "../reply";
import { checkGenerationOptions, checkLoadOptions } from "../validate";
import { UsageError } from "./exit";
import { withInterrupt } from "./interrupt";
import { type LoadChoices, loadOptions, withoutLoadChoices } from "./load-options";
import { write, writeJson } from "./output";
import { ProgressDisplay } from "./progress-display";
import type { SamplingChoices } from "./sampling-choices";
import { note } from "./text";

/** The options of `tokenmill run`, as commander names them. */
export interface RunOptions extends LoadChoices, SamplingChoices {
  system?: string;
  raw?: boolean;
  json?: boolean;
}

function generationOptions(options: RunOptions): GenerationOptions {
  const { system, raw, json, ...generation } = withoutLoadChoices(options);
  return generation;
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

async function load(source: string, options: RunOptions, signal: AbortSignal): Promise<Model> {
  const display = new ProgressDisplay();
  try {
    return await loadModel(source, { ...loadOptions(options), signal, onProgress: display.update });
  } finally {
    display.stop();
  }
}

/** Starts the answer: through the chat template, or where there is none, as a continuation of the prompt. */
function startReply(model: Model, prompt: string, options: RunOptions, signal: AbortSignal): Reply {
  const generation = { ...generationOptions(options), signal };
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
  const model = await load(source, options, signal);
  try {
    const reply = startReply(model, prompt, options, signal);
    if (options.json) return await writeJson(await reply);
    await stream(reply);
  } finally {
    await model.dispose();
  }
}

async function chat(source: string, options: RunOptions): Promise<void> {
  const model = await withInterrupt((signal) => load(source, options, signal));
  try {
    if (!model.info.capabilities.chat) {
      throw new UsageError("The model has no chat template, so it cannot chat: give it a prompt to continue");
    }
    const { chatLoop } = await import("./chat-loop.js");
    const { openChatTerminal } = await import("./chat-terminal.js");
    const { system } = options;
    await chatLoop({ model, terminal: openChatTerminal(), system, generation: generationOptions(options) });
  } finally {
    await model.dispose();
  }
}

/** `tokenmill run`: answers the prompt, else stdin; at a terminal without a prompt, chats. */
export async function run(source: string, prompt: string | undefined, options: RunOptions): Promise<void> {
  if (options.raw && options.system !== undefined)
    throw new UsageError("--raw and --system exclude each other");
  checkOptions(options);
  if (prompt === undefined && process.stdin.isTTY) {
    if (options.json || options.raw) throw new UsageError("--json and --raw need a prompt");
    return chat(source, options);
  }
  const asked = prompt ?? (await readAll(process.stdin)).replace(/\r?\n$/, "");
  if (asked === "") throw new UsageError("The prompt is empty");
  await withInterrupt((signal) => answer(source, asked, options, signal));
}
