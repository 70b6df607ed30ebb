// What is measured. A work's `request` goes to an engine as it is; `value` makes its figure of the answer.

const perSecond = (tokens, ms) => (tokens * 1000) / ms;

function prefill(length) {
  return {
    id: `prefill-${length}`,
    stage: "speed",
    unit: "tokens/s",
    better: "higher",
    limit: "prefill",
    request: { purpose: "prefill", streams: 1, promptTokens: length, tokens: 1 },
    value: ({ firstMs }) => perSecond(length, firstMs),
  };
}

/** From the first token on, which the prompt gives: a prompt of one token is depth 0. */
function decode(depth, steps) {
  return {
    id: `decode-${depth}`,
    stage: "speed",
    unit: "tokens/s",
    better: "higher",
    limit: "decode",
    request: { purpose: "decode", streams: 1, promptTokens: Math.max(1, depth), tokens: steps + 1 },
    value: ({ decodeMs }) => perSecond(steps, decodeMs),
  };
}

/** All streams together, each from a prompt of one token on. */
function streams(count, tokens) {
  return {
    id: `streams-${count}`,
    stage: "speed",
    unit: "tokens/s",
    better: "higher",
    request: { purpose: "streams", streams: count, promptTokens: 1, tokens },
    value: ({ totalMs }) => perSecond(count * tokens, totalMs),
  };
}

/** @param {{ cold?: boolean, packedCache?: boolean }} setting without `packedCache` its default, which is on */
function load(name, setting = {}) {
  return {
    id: `load-${name}`,
    stage: "load",
    unit: "ms",
    better: "lower",
    value: ({ loadMs }) => loadMs,
    ...setting,
  };
}

/** After a prompt and its reply, in the configuration that load and decode are measured in. */
function memory(depth, steps) {
  return {
    id: "peak-rss",
    stage: "load",
    unit: "MB",
    better: "lower",
    roundsMaximum: 3,
    request: decode(depth, steps).request,
    value: ({ peakBytes }) => peakBytes / 1e6,
  };
}

/** Every work, in the order of the table. */
export function allWorks({ quick = false } = {}) {
  const [long, steps, streamTokens] = quick ? [1024, 32, 16] : [4096, 128, 64];
  return [
    prefill(512),
    prefill(long),
    decode(0, steps),
    decode(long, steps),
    ...[2, 3, 8, 32].map((count) => streams(count, streamTokens)),
    load("cold", { cold: true }),
    load("warm"),
    load("unpacked", { packedCache: false }),
    memory(long, steps),
  ];
}

/** Tokens of context that the works of one stream need. */
export function contextTokensOf(works) {
  const requests = works.flatMap(({ request }) => (request && request.streams === 1 ? [request] : []));
  return Math.max(512, ...requests.map(({ promptTokens, tokens }) => promptTokens + tokens));
}
