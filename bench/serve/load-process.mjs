// The process that loads the model and puts it under load, through the public API.
import { serve } from "../engines/serve.mjs";
import { promptsOf } from "../peers/prompts.mjs";
import { watch } from "./client.mjs";
import { arrive, interrupt, saturate, sustain, together } from "./phases.mjs";
import { drawArrivals, drawRequests } from "./workload.mjs";

const { loadModel } = await import("../../dist/index.mjs");

/** Of answers that are cancelled: more than they come to. */
const answerTokens = 2000;

let model;

async function load({ model: path, threads, targetTpot }) {
  model = await loadModel(path, { threads, targetTpot });
  const { name, contextLength, vocabularySize, device } = model.info;
  return { name, contextLength, vocabularySize, device };
}

const drawn = (seed) => drawRequests({ seed, vocabularySize: model.info.vocabularySize });

/** Requests of the given lengths, with prompts that follow from the seed. */
function fixed(seed, count, promptTokens, answerTokens) {
  const { vocabularySize } = model.info;
  const prompts = promptsOf({ streams: count, promptTokens }, { vocabularySize, round: -1, work: seed });
  return prompts.map((prompt) => ({ prompt, answerTokens }));
}

await serve({
  load,
  decodeTogether: ({ seed, streams, tokens }) =>
    watch(model, () => together(model, { requests: fixed(seed, streams, 1, tokens) })),
  sustain: ({ seed, streams, promptTokens, tokens }) =>
    watch(model, () =>
      sustain(model, { requests: fixed(seed, streams, promptTokens, answerTokens), tokens }),
    ),
  prefillTogether: ({ seed, streams }) => {
    const source = drawn(seed);
    const requests = Array.from({ length: streams }, () => ({ ...source.next().value, answerTokens: 1 }));
    return watch(model, () => together(model, { requests }));
  },
  saturate: ({ seed, ...plan }) => watch(model, () => saturate(model, { requests: drawn(seed), ...plan })),
  arrive: ({ seed, perSecond, ...plan }) => {
    const arrivals = drawArrivals({ seed: seed + 1, perSecond });
    return watch(model, () => arrive(model, { requests: drawn(seed), arrivals, ...plan }));
  },
  interrupt: ({ seed, streams, promptTokens, longTokens, ...plan }) => {
    const [long] = fixed(seed + 1, 1, longTokens, 1);
    const requests = fixed(seed, streams, promptTokens, answerTokens);
    return watch(model, () => interrupt(model, { streams: requests, long, ...plan }));
  },
});
