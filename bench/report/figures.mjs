// Results of all kinds as one flat list, which two of them can be compared by.

function ofPeers({ models }) {
  return models.flatMap(({ name, works = [] }) =>
    works.flatMap(({ id, unit, better, engines }) =>
      Object.entries(engines).map(([engine, { rounds }]) => ({
        name: [name, id, engine],
        unit,
        better,
        rounds,
      })),
    ),
  );
}

function ofKernels({ kernels }) {
  return kernels.map(({ op, format, shape, rows, microseconds }) => ({
    name: [op, format, `${shape}, ${rows}`],
    unit: "µs",
    better: "lower",
    rounds: microseconds.rounds,
  }));
}

function ofServe({ model, figures }) {
  return figures.map(({ phase, figure, unit, better, rounds }) => ({
    name: [model.name, phase, figure],
    unit,
    better,
    rounds,
  }));
}

const readers = { peers: ofPeers, kernels: ofKernels, serve: ofServe };

/** What a kind's figures are named by. */
export const figureColumns = {
  peers: ["MODEL", "WORK", "ENGINE"],
  kernels: ["OP", "FORMAT", "SHAPE, ROWS"],
  serve: ["MODEL", "PHASE", "FIGURE"],
};

/**
 * @param {{ kind: "peers" | "kernels" | "serve" }} result what result-file.mjs reads
 * @returns {{ name: string[], unit: string, better: "higher" | "lower", rounds: number[] }[]}
 */
export function figuresOf(result) {
  return readers[result.kind](result);
}
