/** The `pre_tokenizer` of a tokenizer.json, as far as it decides how a text is cut. */
export interface PreTokenizerConfig {
  readonly type: string;
  readonly pretokenizers?: readonly PreTokenizerConfig[];
  readonly pattern?: { readonly Regex?: string; readonly String?: string };
  readonly behavior?: string;
  readonly invert?: boolean;
  readonly individual_digits?: boolean;
  readonly add_prefix_space?: boolean;
  readonly use_regex?: boolean;
}

const contraction = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const afterWords = " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const word = "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+";
const upper = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]";
const lower = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";
const casedEnd = " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

function cased(suffix: string, digits: string): string {
  const prefix = "[^\\r\\n\\p{L}\\p{N}]?";
  return `${prefix}${upper}*${lower}+${suffix}|${prefix}${upper}+${lower}*${suffix}|${digits}|${casedEnd}`;
}

/** ByteLevel's own expression, and the marks of stages that are not expressions. */
const byteLevel = "<ByteLevel>";
const digitsAlone = "<Digits>";

const bloom = " ?[^(\\s|.,!?…。，、।۔،)]+";

/** The stages that cut, in order → the native name. Expressions are spelled as by `canonical`. */
const names: readonly (readonly [name: string, stages: readonly string[]])[] = [
  ["gpt-2", [byteLevel]],
  ["smollm", [digitsAlone, byteLevel]],
  ["llama-bpe", [`${contraction}|${word}|\\p{N}{1,3}|${afterWords}`]],
  ["qwen2", [`${contraction}|${word}|\\p{N}|${afterWords}`]],
  [
    "qwen35",
    [
      `${contraction}|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*` +
        "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    ],
  ],
  [
    "seed-coder",
    [`${contraction}|${word}|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`],
  ],
  [
    "bailingmoe",
    [
      "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*" +
        "|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+",
    ],
  ],
  ["gpt-4o", [cased(`${contraction}?`, "\\p{N}{1,3}")]],
  ["tekken", [cased("", "\\p{N}")]],
  [
    "deepseek-v3",
    [
      "\\p{N}{1,3}",
      "[一-龥぀-ゟ゠-ヿ]+",
      "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+" +
        "| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    ],
  ],
  ["deepseek-coder", ["[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+", digitsAlone]],
  ["bloom", [bloom]],
  ["viking", [bloom, digitsAlone]],
];

const nameByStages = new Map(names.map(([name, stages]) => [stages.join("\n"), name]));

/** Line ends stand in files both raw and escaped; one set is also written with a nested class. */
function canonical(expression: string): string {
  return expression
    .replaceAll("\r", "\\r")
    .replaceAll("\n", "\\n")
    .replace("[^(\\s|[.,!?…。，、।۔،])]", "[^(\\s|.,!?…。，、।۔،)]");
}

/** A Split whose matches are pieces and whose gaps are pieces or do not occur. */
function isolates(config: PreTokenizerConfig): boolean {
  const invert = config.invert ?? false;
  return (config.behavior === "Isolated" && !invert) || (config.behavior === "Removed" && invert);
}

/** Appends the stages that cut; false when one of them is nothing that native code has. */
function flatten(config: PreTokenizerConfig, stages: string[]): boolean {
  switch (config.type) {
    case "Sequence":
      return (config.pretokenizers ?? []).every((inner) => flatten(inner, stages));
    case "Split":
      if (config.pattern?.Regex === undefined || !isolates(config)) return false;
      stages.push(canonical(config.pattern.Regex));
      return true;
    case "Digits":
      stages.push(digitsAlone);
      return config.individual_digits === true;
    case "ByteLevel":
      if (config.use_regex ?? true) stages.push(byteLevel);
      return !(config.add_prefix_space ?? true);
    default:
      return false;
  }
}

/**
 * The native name (`TokenizerSpec.pre`) of a byte-level BPE tokenizer.json's pre-tokenizer.
 *
 * The name stands for the cutting alone: whether the text is normalized to NFC, the beginning-of-sequence
 * token and `ignore_merges` are fields of the specification, to be filled from the file's other parts.
 *
 * @returns `undefined` when native code has no equal; the model is then unsupported.
 * @example
 * preTokenizerName({ type: "ByteLevel", add_prefix_space: false, use_regex: true }); // "gpt-2"
 */
export function preTokenizerName(config: PreTokenizerConfig): string | undefined {
  const stages: string[] = [];
  return flatten(config, stages) ? nameByStages.get(stages.join("\n")) : undefined;
}
