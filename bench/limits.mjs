// The machine's limits, measured by bench/native/limits.cc with the threads that the engines use.
import { runProgram } from "./native-programs.mjs";
import { summarize } from "./report/statistics.mjs";

/** Of the issue rate times the clock, what the peak kernel must reach for a limit to count. */
const reachedAtLeast = 0.95;

/**
 * One measurement, some tenths of a second long.
 * @param {{ threads: number, bytes: number }} settings threads 0 are those that a model gets by default; reading is
 *   measured over so many bytes
 */
export function measureLimits({ threads, bytes }) {
  const [limits] = runProgram("limits", threads, bytes);
  return limits;
}

/** How near the peak kernel came to its issue rate, and whether the limit counts. */
export function judgeArithmetic(limit) {
  const reached = limit.issueRate > 0 ? limit.perCycle / limit.issueRate : 0;
  return { ...limit, reached, void: reached < reachedAtLeast };
}

/** The later limits, where their arithmetic could be measured, else the earlier one's. */
export function latestValid(earlier, later) {
  if (earlier === undefined) return later;
  const pick = (kind) => (judgeArithmetic(later[kind]).void ? earlier[kind] : later[kind]);
  return { ...later, integer: pick("integer"), float: pick("float") };
}

function bestArithmetic(measured) {
  const judged = measured.map(judgeArithmetic);
  const valid = judged.filter((limit) => !limit.void);
  return (valid.length > 0 ? valid : judged).reduce((a, b) =>
    b.operationsPerSecond > a.operationsPerSecond ? b : a,
  );
}

/** @param {ReturnType<typeof measureLimits>[]} measured the limits beside every work that has one */
export function summarizeLimits(measured) {
  return {
    threads: measured[0].threads,
    integer: bestArithmetic(measured.map(({ integer }) => integer)),
    float: bestArithmetic(measured.map(({ float }) => float)),
    read: {
      bytes: measured[0].read.bytes,
      ...summarize(
        measured.map(({ read }) => read.bytesPerSecond),
        "higher",
      ),
    },
    measured,
  };
}
