// Measurements → what the table and the JSON file say of each work.
import { advantage, median, summarize } from "../report/statistics.mjs";

/**
 * @typedef {{ work: string, round: number, engine: string, against?: string, value: number }} Measurement
 */

const of = (measurements, engine, against) =>
  measurements.filter((one) => one.engine === engine && (against === undefined || one.against === against));

/** One value a round: ours runs once for each peer. */
function perRound(measurements) {
  const rounds = new Map();
  for (const { round, value } of measurements) rounds.set(round, [...(rounds.get(round) ?? []), value]);
  return [...rounds.values()].map(median);
}

/** Ratios of the rounds in which both were measured, each to the run of ours beside the peer's. */
function ratiosTo(measurements, ours, peer, better) {
  const beside = new Map(of(measurements, ours, peer).map(({ round, value }) => [round, value]));
  return of(measurements, peer).flatMap(({ round, value }) =>
    beside.has(round) ? [advantage(beside.get(round), value, better)] : [],
  );
}

/** The name whose median is the best; undefined where none of them was measured. */
function fasterOf(names, engines, better) {
  const measured = names.filter((name) => engines[name] !== undefined);
  const figures = measured.map((name) => engines[name].median);
  return measured[figures.indexOf(better === "higher" ? Math.max(...figures) : Math.min(...figures))];
}

/**
 * A work's figures by engine, ratios to each peer, and the ratio that counts: to the faster llama.cpp.
 * @param {{ id: string, unit: string, better: string }} work
 * @param {Measurement[]} all
 */
export function summarizeWork({ id, unit, better }, all, { ours, peers, llamaCpps }) {
  const measurements = all.filter(({ work }) => work === id);
  const engines = {};
  const ratios = {};
  for (const engine of [ours, ...peers]) {
    const rounds = perRound(of(measurements, engine));
    if (rounds.length > 0) engines[engine] = summarize(rounds, better);
  }
  for (const peer of peers) {
    const rounds = ratiosTo(measurements, ours, peer, better);
    if (rounds.length > 0) ratios[peer] = summarize(rounds, "higher");
  }
  const faster = fasterOf(llamaCpps, engines, better);
  return {
    id,
    unit,
    better,
    engines,
    ratios,
    ...(faster !== undefined && ratios[faster] ? { fasterLlamaCpp: faster } : {}),
  };
}

/** Ours with many streams against a peer that answers one after the other, round by round. */
export function oneByOne(streams, single, all, { ours, peer }) {
  const alone = new Map(
    of(all, peer).flatMap(({ work, round, value }) => (work === single ? [[round, value]] : [])),
  );
  const rounds = of(all, ours, peer).flatMap(({ work, round, value }) =>
    work === streams && alone.has(round) ? [value / alone.get(round)] : [],
  );
  return rounds.length === 0 ? undefined : summarize(rounds, "higher");
}

/**
 * Ours as a fraction of the machine's limit; undefined without one.
 * @param {Map<number, number>} limits the highest possible figure, by round
 */
export function fractionOf(work, all, limits, ours) {
  const rounds = of(all, ours).flatMap(({ work: id, round, value }) =>
    id === work.id && limits.has(round) ? [{ round, value: value / limits.get(round) }] : [],
  );
  return rounds.length === 0 ? undefined : summarize(perRound(rounds), "higher");
}
