import { promptsOf } from "../peers/prompts.mjs";
import { draftPrompts, draftTokens, prefix } from "./works.mjs";

let salts = 0;
/** Nothing is found that another measurement left. */
const freshSalt = () => `bench ${salts++}`;

async function decode(model, content, options) {
  const reply = model.chat([{ role: "user", content }], {
    maxTokens: draftTokens,
    temperature: 0,
    cacheSalt: freshSalt(),
    ...options,
  });
  const { tokens, timings } = await reply;
  return { tokens, speed: timings.decodeTokensPerSecond };
}

/**
 * Decoding with guesses, from the prompt or of a draft model, over without, round by round, the two in turn; and
 * whether the replies were the same.
 */
export async function measureDraft(model, rounds, draft = "promptLookup") {
  const works = [];
  for (const { id, quotes, content } of draftPrompts) {
    await decode(model, content, {});
    const measured = { id, quotes, plain: [], drafted: [], identical: true, guessed: 0, accepted: 0 };
    for (let round = 0; round < rounds; round += 1) {
      const plain = await decode(model, content, {});
      const before = model.stats().draft;
      const drafted = await decode(model, content, { draft });
      const after = model.stats().draft;
      measured.plain.push(plain.speed);
      measured.drafted.push(drafted.speed);
      measured.guessed += after.guessedTokens - before.guessedTokens;
      measured.accepted += after.acceptedTokens - before.acceptedTokens;
      measured.identical &&= plain.tokens.join() === drafted.tokens.join();
    }
    works.push(measured);
  }
  return works;
}

async function firstToken(model, prompt, cacheSalt) {
  const { timings, usage } = await model.generate(prompt, {
    maxTokens: prefix.answer,
    temperature: 0,
    ignoreEos: true,
    cacheSalt,
  });
  return { ttftMs: timings.ttftMs, computed: usage.promptTokens - usage.cachedTokens };
}

/**
 * Requests with a prefix in common: submitted at once, and one afterwards. `laterShare` is the most prefill that one
 * of the later ones needed, its suffix aside, over the first's; `speedup` how much sooner the one afterwards had its
 * first token than without the cache.
 */
export async function measurePrefix(model, rounds) {
  const vocabularySize = model.info.vocabularySize;
  const measured = { coldMs: [], warmMs: [], laterShare: [] };
  for (let round = 0; round < rounds; round += 1) {
    const streams = prefix.requests + 1;
    const [common] = promptsOf(
      { streams: 1, promptTokens: prefix.tokens },
      { vocabularySize, round, work: 0 },
    );
    const suffixes = promptsOf({ streams, promptTokens: prefix.suffix }, { vocabularySize, round, work: 1 });
    const prompts = suffixes.map((suffix) => [...common, ...suffix]);
    const salt = freshSalt();
    const cold = await firstToken(model, prompts[0], freshSalt());
    const together = await Promise.all(prompts.slice(0, -1).map((prompt) => firstToken(model, prompt, salt)));
    const warm = await firstToken(model, prompts.at(-1), salt);
    const work = together.map(({ computed }) => computed - prefix.suffix).sort((a, b) => b - a);
    measured.coldMs.push(cold.ttftMs);
    measured.warmMs.push(warm.ttftMs);
    measured.laterShare.push(work[1] / work[0]);
  }
  return measured;
}
