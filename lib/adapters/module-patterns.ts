import { createContext, Script } from "node:vm";
import { TokenmillError } from "../errors";
import { printable } from "../printable";

/** Matching is stopped then: a pattern of a file can take exponential time. */
const matchMs = 500;

/** What Python's and JavaScript's expressions have in common. */
const escapes = /\\[^dDwWsSbB.\-_^$*+?()[\]{}|\\/]/;
const groups = /\(\?(?!:|=|!)/;

function compile(pattern: string, key: string): RegExp {
  const text = printable(JSON.stringify(pattern.slice(0, 200)));
  const refuse = (cause?: unknown) =>
    new TokenmillError(
      "UnsupportedModel",
      `adapter_config.json has the pattern ${text} in '${key}', which cannot be read; write out the modules' names`,
      { cause },
    );
  if (escapes.test(pattern) || groups.test(pattern)) throw refuse();
  try {
    return new RegExp(`^(?:.*\\.)?(?:${pattern})$`);
  } catch (error) {
    throw refuse(error);
  }
}

const script = new Script("modules.map((module) => patterns.findIndex((pattern) => pattern.test(module)))");

/**
 * For each module the first pattern that matches its path or an end of it after a dot, as PEFT looks up `rank_pattern`
 * and `alpha_pattern`; -1 for none.
 *
 * @param key where in the configuration the patterns stand, for messages
 * @throws TokenmillError UnsupportedModel for what is no common regular expression, or takes too long
 */
export function matchPatterns(
  patterns: readonly string[],
  modules: readonly string[],
  key: string,
): number[] {
  if (patterns.length === 0) return modules.map(() => -1);
  const compiled = patterns.map((pattern) => compile(pattern, key));
  try {
    const context = createContext({ patterns: compiled, modules });
    return [...(script.runInContext(context, { timeout: matchMs }) as number[])];
  } catch (cause) {
    throw new TokenmillError(
      "UnsupportedModel",
      `the patterns in '${key}' of adapter_config.json took longer than ${matchMs} ms to match; write out the ` +
        "modules' names",
      { cause },
    );
  }
}
