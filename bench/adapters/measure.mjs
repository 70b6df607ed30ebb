import { promptsOf } from "../peers/prompts.mjs";

/**
 * Milliseconds until each stream has ended. A stream's prompt is one token, so that what is measured is decoding.
 */
async function decode(model, prompts, adapters, tokens) {
  const begun = performance.now();
  return Promise.all(
    prompts.map(async (prompt, i) => {
      await model.generate(prompt, {
        maxTokens: tokens,
        temperature: 0,
        ignoreEos: true,
        ...(adapters[i] ? { adapter: adapters[i] } : {}),
      });
      return performance.now() - begun;
    }),
  );
}

/** Tokens a second of some streams, from the begin of all until the last of these has ended. */
function rateOf(endsMs, tokens, isOne = () => true) {
  const ends = endsMs.filter((_, i) => isOne(i));
  return (ends.length * tokens * 1000) / Math.max(...ends);
}

/** Who uses which adapter, of as many adapters as there are streams. */
export const mixes = [
  { id: "own", text: "each stream has its own adapter", of: (all) => all },
  { id: "one", text: "all streams have one adapter", of: (all) => all.map(() => all[0]) },
  {
    id: "half",
    text: "one adapter, for half of the streams",
    of: (all) => all.map((_, i) => (i % 2 ? all[0] : undefined)),
  },
  {
    id: "single",
    text: "one adapter, for one stream",
    of: (all) => all.map((_, i) => (i === 0 ? all[0] : undefined)),
  },
];

/**
 * Tokens a second of all streams together, with adapters and right before without, round by round; and where some have
 * none, of these alone, in either run.
 */
export async function measureMixes(model, adapters, { rounds, tokens }) {
  const measured = mixes.map(({ id, text }) => ({
    id,
    text,
    plain: [],
    adapted: [],
    beside: { plain: [], adapted: [] },
  }));
  const { vocabularySize } = model.info;
  const streams = adapters.length;
  for (let round = -1; round < rounds; round += 1) {
    for (const [i, { of }] of mixes.entries()) {
      const prompts = promptsOf({ streams, promptTokens: 1 }, { vocabularySize, round: round + 1, work: i });
      const choice = of(adapters);
      const plain = await decode(model, prompts, [], tokens);
      const adapted = await decode(model, prompts, choice, tokens);
      if (round < 0) continue; // a warm-up
      measured[i].plain.push(rateOf(plain, tokens));
      measured[i].adapted.push(rateOf(adapted, tokens));
      const isPlain = (stream) => choice[stream] === undefined;
      if (!choice.some((adapter) => adapter === undefined)) continue;
      measured[i].beside.plain.push(rateOf(plain, tokens, isPlain));
      measured[i].beside.adapted.push(rateOf(adapted, tokens, isPlain));
    }
  }
  return measured;
}

/** Milliseconds that loading takes while nothing runs, from files in the page cache. */
export async function measureLoads(model, folder, rounds) {
  const times = [];
  for (let round = -1; round < rounds; round += 1) {
    const begun = performance.now();
    const adapter = await model.loadAdapter(folder, { name: `load ${round}` });
    if (round >= 0) times.push(performance.now() - begun);
    await adapter.unload();
  }
  return times;
}
