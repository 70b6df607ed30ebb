/**
 * The order of measurements: round by round and work by work, each peer followed by ours, so that the two of a
 * ratio see the machine in the same state. Without peers, ours alone.
 *
 * @param {{ firstRound?: number, rounds: number, works: { roundsMaximum?: number }[], peers: string[],
 *   ours: string }} plan
 * @returns {Generator<{ round: number, work: object, engine: string, against?: string }>} `against` names
 *   the peer that a measurement of ours is to be compared with
 */
export function* schedule({ firstRound = 0, rounds, works, peers, ours }) {
  for (let round = firstRound; round < rounds; round++) {
    for (const work of works) {
      if (round >= (work.roundsMaximum ?? Number.POSITIVE_INFINITY)) continue;
      if (peers.length === 0) yield { round, work, engine: ours };
      for (const peer of peers) {
        yield { round, work, engine: peer };
        yield { round, work, engine: ours, against: peer };
      }
    }
  }
}
