// What kernel_bench prints of an operation → its row in the table and the JSON file.
import { judgeArithmetic } from "../limits.mjs";
import { median, summarize } from "../report/statistics.mjs";

/**
 * The least time that the machine allows, and what sets it: arithmetic or reading. An arithmetic limit that does not
 * count leaves it unknown.
 */
function bound({ operations, bytes, integer: isInteger }, { integer, float, read }) {
  const peak = judgeArithmetic(isInteger ? integer : float);
  if (peak.void) return undefined;
  const reading = { by: "read", seconds: bytes / read.bytesPerSecond };
  const computing = {
    by: isInteger ? "integer peak" : "f32 peak",
    seconds: operations / peak.operationsPerSecond,
  };
  return computing.seconds > reading.seconds ? computing : reading;
}

/** With the limits that were measured last before it. */
export function summarizeKernel({ seconds, referenceSeconds, ...measured }, limits) {
  const { op, format, shape, rows } = measured;
  const least = bound(measured, limits);
  const fractions = seconds.map((value) => least?.seconds / value);
  return {
    op,
    format,
    shape,
    rows,
    microseconds: summarize(
      seconds.map((value) => value * 1e6),
      "lower",
    ),
    fraction: least === undefined ? { void: true } : { of: least.by, ...summarize(fractions, "higher") },
    ...(referenceSeconds > 0 ? { timesReference: referenceSeconds / median(seconds) } : {}),
  };
}
