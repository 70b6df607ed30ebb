import { run } from "node:test";
import { spec } from "node:test/reporters";

/** What a finished test or suite counts as; undefined for a suite that only stands for the tests inside. */
function outcomeOf(hasPassed, { skip, details: { type, error } }) {
  // A suite also fails by itself: when one of its hooks or its own body throws.
  const isOwnFailure = !hasPassed && error?.failureType !== "subtestsFailed";
  if (type === "suite" && !isOwnFailure) return undefined;
  if (skip !== undefined && skip !== false) return "skipped";
  return hasPassed ? "passed" : "failed";
}

/** Runs test files, prints a report, and adds to `count` how their tests ended, at any depth. */
export async function runNodeTests(files, concurrency, count) {
  if (files.length === 0) return;
  const stream = run({ files, concurrency, timeout: 15 * 60_000 });
  const tally = (hasPassed) => (event) => {
    const outcome = outcomeOf(hasPassed, event);
    if (outcome !== undefined) count[outcome] += 1;
  };
  stream.on("test:pass", tally(true));
  stream.on("test:fail", tally(false));
  for await (const text of stream.compose(spec)) process.stdout.write(text);
}
