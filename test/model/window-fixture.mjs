// The oracle's most likely tokens on the first window of the prose (test/oracle/make_window_fixture.py).

import { readFileSync } from "node:fs";

const headerBytes = 24;

/**
 * Reads test/fixtures/model/NAME.window.bin.
 *
 * @param {string} name "smollm2-135m-instruct" or "gemma-3-270m"
 * @returns {{ vocab: number, tokens: number[], positions: number[],
 *   top: { ids: Uint32Array, logprobs: Float32Array, rest: number }[] }}
 *   `tokens` is the whole window, BOS included if the model adds one; `top[i]` describes what follows
 *   `tokens[positions[i]]`: the most likely ids, the natural logarithms of their probabilities, and the
 *   probability of all others together.
 */
export function readWindowFixture(name) {
  const file = readFileSync(new URL(`../fixtures/model/${name}.window.bin`, import.meta.url));
  // A copy of its own starts at offset 0, so that the typed arrays below are aligned.
  const data = new Uint8Array(file).buffer;
  const view = new DataView(data);
  const [version, vocab, tokenCount, positionCount, topCount] = [4, 8, 12, 16, 20].map((at) =>
    view.getUint32(at, true),
  );
  if (file.toString("latin1", 0, 4) !== "TMWF" || version !== 1) {
    throw new Error(`${name}.window.bin is not a window fixture of version 1`);
  }
  const expectedBytes = headerBytes + 4 * (tokenCount + positionCount + positionCount * (2 * topCount + 1));
  if (data.byteLength !== expectedBytes) {
    throw new Error(`${name}.window.bin has ${data.byteLength} bytes, expected ${expectedBytes}`);
  }

  let offset = headerBytes;
  const take = (ArrayType, count) => {
    const array = new ArrayType(data, offset, count);
    offset += 4 * count;
    return array;
  };
  const tokens = Array.from(take(Uint32Array, tokenCount));
  const positions = Array.from(take(Uint32Array, positionCount));
  const top = positions.map(() => ({
    ids: take(Uint32Array, topCount),
    logprobs: take(Float32Array, topCount),
    rest: take(Float32Array, 1)[0],
  }));
  return { vocab, tokens, positions, top };
}

/**
 * KLD(oracle || ours) in nats over the oracle's top tokens and one bucket for all others. Merging tokens into
 * a bucket can only lower a KL divergence, so this is a lower bound of the full one.
 *
 * @param {{ ids: Uint32Array, logprobs: Float32Array, rest: number }} oracleRow one of the fixture's `top`
 * @param {Float32Array} logits raw logits of the whole vocabulary; NaN gives NaN
 */
export function kldTop(oracleRow, logits) {
  const { ids, logprobs, rest } = oracleRow;
  let max = -Infinity;
  for (const logit of logits) max = Math.max(max, logit);

  const isTop = new Uint8Array(logits.length);
  for (const id of ids) isTop[id] = 1;
  let topSum = 0;
  let otherSum = 0;
  for (let id = 0; id < logits.length; id++) {
    const weight = Math.exp(logits[id] - max);
    if (isTop[id]) topSum += weight;
    else otherSum += weight;
  }

  const logSum = Math.log(topSum + otherSum);
  let divergence = rest > 0 ? rest * (Math.log(rest) - Math.log(otherSum) + logSum) : 0;
  for (let i = 0; i < ids.length; i++) {
    divergence += Math.exp(logprobs[i]) * (logprobs[i] - (logits[ids[i]] - max - logSum));
  }
  return divergence;
}
