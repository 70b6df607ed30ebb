// The thread of the template host: runs what a model's files can make endless or huge. Answers requests in
// turn.
import { parentPort } from "node:worker_threads";
import { readAdapter } from "../adapters/read-adapter";
import { TokenmillError } from "../errors";
import { packedBuffers, readTokenizerFiles } from "../tokenizer/tokenizer-files";
import { boundBuiltins } from "./bounded-builtins";
import { failTooLong } from "./compiled-template";
import { FormatRenderer } from "./format-renderer";
import { markedGrowth, renderLimits } from "./render-limits";
import type { FormatReference, WorkerReply, WorkerRequest } from "./worker-protocol";

const formats = new Map<number, FormatRenderer>();

function formatOf({ format, spec }: FormatReference): FormatRenderer {
  let renderer = formats.get(format);
  if (renderer === undefined) {
    if (spec === undefined)
      throw new TokenmillError("Internal", "The template worker was not told of this format");
    renderer = new FormatRenderer(spec);
    formats.set(format, renderer);
  }
  return renderer;
}

function post(reply: WorkerReply, transfer: ArrayBuffer[] = []): void {
  parentPort?.postMessage(reply, transfer);
}

async function answer(request: WorkerRequest): Promise<void> {
  if (request.type === "wake") {
    const { format, spec } = request;
    if (format !== undefined && spec !== undefined) formatOf({ format, spec }).compile();
    post({ type: "result", value: null });
  } else if (request.type === "render") {
    post({ type: "result", value: formatOf(request).render(request) });
  } else if (request.type === "adapter") {
    post({ type: "result", value: await readAdapter(request.path, request.folderName) });
  } else {
    const value = readTokenizerFiles(request.files);
    post({ type: "result", value }, packedBuffers(value));
  }
}

boundBuiltins(markedGrowth * renderLimits.conversationCharacters, failTooLong);
parentPort?.on("message", async (request: WorkerRequest) => {
  try {
    await answer(request);
  } catch (error) {
    const code = TokenmillError.isInstance(error) ? error.code : "Internal";
    post({ type: "failure", code, message: error instanceof Error ? error.message : String(error) });
  }
});
post({ type: "ready" });
