// The load test's three charts.
import { lineCharts } from "../report/line-chart.mjs";
import { bars, judgedLoad } from "./plan.mjs";

/** Percentiles of a latency over the load. */
function overLoad(name, key, loads) {
  const { below } = bars[`${name} p99 at ${judgedLoad * 100} %`];
  const series = ["p50", "p90", "p99"].map((percentile) => ({
    name: percentile,
    points: loads.map(({ load, latencies }) => [load * 100, latencies[key][percentile]]),
  }));
  return {
    title: `${name} over load`,
    x: { label: "% of the saturated throughput" },
    y: { label: "ms" },
    series,
    horizontals: [{ at: below, label: `${below} ms` }],
  };
}

function aroundArrival({ timeline: { arrivalMs, firstTokenMs, bins } }) {
  const seriesOf = (key) => bins.map((bin) => [bin.atMs / 1000, bin[key]]);
  return {
    title: "Time per token of running streams around a long prompt",
    x: { label: "s" },
    y: { label: "ms" },
    series: [
      { name: "median", points: seriesOf("median") },
      { name: "maximum", points: seriesOf("maximum") },
    ],
    verticals: [
      { at: arrivalMs / 1000, label: "arrives" },
      { at: firstTokenMs / 1000, label: "first token" },
    ],
  };
}

/** @returns {string} an SVG document */
export function plotServe({ loads, long }) {
  return lineCharts([overLoad("TTFT", "ttft", loads), overLoad("TPOT", "tpot", loads), aroundArrival(long)]);
}
