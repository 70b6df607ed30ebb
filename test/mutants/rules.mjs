// Ways to break a kernel. A rule gives, for a line of code, the lines it can be changed into; of the many, a few a rule
// and file are chosen by a hash of the line, so that changes elsewhere choose the same ones.
import { createHash } from "node:crypto";

/** Every place of a line where `pattern` matches, replaced by `by` (text or function of the match). */
function replaced(line, pattern, by) {
  return [...line.matchAll(pattern)].map((match) => {
    const text = typeof by === "function" ? by(match) : by;
    return line.slice(0, match.index) + text + line.slice(match.index + match[0].length);
  });
}

/** float sums[4]; and parameters that are references to arrays. */
const isDeclaration = (line) => /^\s*(const )?[\w:]+ \w+(\[\w+\])+( = .*)?;|\(&\w+\)\[/.test(line);
/** Loops over a thread's own arrays: what lies beyond their ends is undefined, and no memory that anyone watches. */
const isUnrolled = (line) => /for \(int \w+ = 0; \w+ < (\d+|k[A-Z]\w*);/.test(line);
const otherIndex = ([, index]) => `[${Number(index) ^ 1}]`;

const removal = (name) => (line) => replaced(line, new RegExp(`\\bgpu::${name}(<\\w+>)?\\(\\);`, "g"), ";");

/** The texts of a call's arguments, and where it begins and ends; null where the call does not end on the line. */
function callAt(line, open) {
  const arguments_ = [];
  let depth = 0;
  let begin = open + 1;
  for (let at = open; at < line.length; at += 1) {
    const letter = line[at];
    if ("([{".includes(letter)) depth += 1;
    if (")]}".includes(letter)) depth -= 1;
    if ((letter === "," && depth === 1) || depth === 0) {
      arguments_.push(line.slice(begin, at).trim());
      begin = at + 1;
    }
    if (depth === 0) return { arguments_, end: at };
  }
  return null;
}

/** Changes the arguments of calls of functions that `pattern` names. */
function withArguments(line, pattern, change) {
  return [...line.matchAll(pattern)].flatMap((match) => {
    const open = match.index + match[0].length - 1;
    const call = callAt(line, open);
    const changed = call && change(call.arguments_);
    return changed ? [`${line.slice(0, open)}(${changed.join(", ")})${line.slice(call.end + 1)}`] : [];
  });
}

const swapped = ([a, b, ...rest]) => (b === undefined || a === b ? null : [b, a, ...rest]);

/** `perFile`: how many are kept of a file; everything that orders threads is kept. */
export const rules = [
  { name: "no sync_block", perFile: Infinity, change: removal("sync_block") },
  { name: "no sync_warp", perFile: Infinity, change: removal("sync_warp") },
  { name: "no cp_async_wait", perFile: Infinity, change: removal("cp_async_wait") },
  { name: "no cp_async_commit", perFile: Infinity, change: removal("cp_async_commit") },
  { name: "no fence_device", perFile: Infinity, change: removal("fence_device") },
  {
    name: "waits for one group less",
    perFile: Infinity,
    change: (line) =>
      replaced(line, /cp_async_wait<(\d+)>/g, ([, pending]) => `cp_async_wait<${Number(pending) + 1}>`),
  },
  {
    name: "other fragment",
    perFile: 4,
    change: (line) => (isDeclaration(line) ? [] : replaced(line, /(?<=[\w\]])\[([0-7])\]/g, otherIndex)),
  },
  {
    name: "no transposition",
    perFile: 3,
    change: (line) => replaced(line, /(?<=ldmatrix_x[24])_trans/g, ""),
  },
  {
    name: "always valid",
    perFile: 3,
    change: (line) =>
      withArguments(line, /cp_async(16|4)\(/g, (list) => (list.length === 3 ? list.slice(0, 2) : null)),
  },
  { name: "halves swapped", perFile: 3, change: (line) => withArguments(line, /pack_b?f16\(/g, swapped) },
  {
    name: "other lane",
    perFile: 3,
    change: (line) => withArguments(line, /shuffle(_xor)?\(/g, ([value, lane]) => [value, `(${lane}) ^ 1`]),
  },
  {
    name: "bound one further",
    perFile: 4,
    change: (line) => (isUnrolled(line) ? [] : replaced(line, / < (?!=)/g, " <= ")),
  },
  { name: "bound one nearer", perFile: 3, change: (line) => replaced(line, / >= /g, " > ") },
  {
    name: "no early end",
    perFile: 3,
    change: (line) => replaced(line, /\) (return|continue|break);/g, ") {}"),
  },
  {
    name: "sum to difference",
    perFile: 3,
    change: (line) => replaced(line, /(?<=[\w)\]]) \+ (?=[\w(])/g, " - "),
  },
  {
    name: "difference to sum",
    perFile: 3,
    change: (line) => replaced(line, /(?<=[\w)\]]) - (?=[\w(])/g, " + "),
  },
  {
    name: "product to sum",
    perFile: 3,
    change: (line) => replaced(line, /(?<=[\w)\]]) \* (?=[\w(])/g, " + "),
  },
  {
    name: "quotient to remainder",
    perFile: 3,
    change: (line) => replaced(line, /(?<=[\w)\]]) \/ (?=[\w(])/g, " % "),
  },
  {
    name: "remainder to quotient",
    perFile: 3,
    change: (line) => replaced(line, /(?<=[\w)\]]) % (?=[\w(])/g, " / "),
  },
  { name: "shift the other way", perFile: 3, change: (line) => replaced(line, / << (?=[\w(])/g, " >> ") },
  {
    name: "other stride",
    perFile: 3,
    change: (line) =>
      replaced(line, /(?<= [*/%] )(2|4|8|16|32|64|128)\b(?!\.)/g, ([number]) => String(2 * Number(number))),
  },
  { name: "max to min", perFile: 3, change: (line) => replaced(line, /gpu::max\(/g, "gpu::min(") },
  { name: "min to max", perFile: 3, change: (line) => replaced(line, /gpu::min\(/g, "gpu::max(") },
  {
    name: "scale left out",
    perFile: 3,
    change: (line) => replaced(line, /(?<=[\w)\]]) \* (?:\w+\.)?\w*scale\w*(?![\w([])/g, ""),
  },
  {
    name: "condition dropped",
    perFile: 3,
    change: (line) => replaced(line, / && [^&|?;{]+(?=\)[ ;]|;)/g, ""),
  },
  { name: "the other condition", perFile: 2, change: (line) => replaced(line, / == (?=\w)/g, " != ") },
];

/** Lines of kernels: not comments, directives, declarations of types and what only the host compiles. */
function kernelLines(text) {
  const lines = text.split("\n");
  let hostDepth = 0;
  return lines.flatMap((line, index) => {
    const trimmed = line.trim();
    if (/^#if/.test(trimmed))
      hostDepth = hostDepth > 0 || /^#ifndef __CUDACC__/.test(trimmed) ? hostDepth + 1 : 0;
    if (/^#endif/.test(trimmed)) hostDepth = Math.max(0, hostDepth - 1);
    const skipped = /^(\/\/|#|static_assert|template|GPU_KERNEL|using |namespace|struct |enum )/.test(
      trimmed,
    );
    return hostDepth > 0 || skipped || trimmed === "" ? [] : [{ index, line }];
  });
}

function hash(text) {
  return createHash("sha256").update(text).digest("hex").slice(0, 12);
}

/** All that `rule` makes of a file, in an order by hash. */
function changesBy(rule, file, lines) {
  const seen = new Map();
  const found = lines.flatMap(({ index, line }) => {
    const comment = line.indexOf("  //");
    const code = comment < 0 ? line : line.slice(0, comment);
    return rule.change(code).map((after) => ({ index, before: code.trim(), after }));
  });
  return found
    .map(({ index, before, after }) => {
      const key = `${file}: ${rule.name}: ${before} -> ${after.trim()}`;
      const occurrence = (seen.get(key) ?? 0) + 1;
      seen.set(key, occurrence);
      return { id: hash(`${key} ${occurrence}`), file, rule: rule.name, line: index + 1, before, after };
    })
    .sort((a, b) => a.id.localeCompare(b.id));
}

/** [{ id, file, rule, line, before, after }]: the chosen mutants of a file's text. */
export function mutantsOf(file, text) {
  const lines = kernelLines(text);
  return rules
    .flatMap((rule) => changesBy(rule, file, lines).slice(0, rule.perFile))
    .sort((a, b) => a.line - b.line || a.id.localeCompare(b.id));
}

/** The file's text with the mutant's line in it. */
export function applied(text, mutant) {
  const lines = text.split("\n");
  lines[mutant.line - 1] = mutant.after;
  return lines.join("\n");
}
