import { TokenmillError } from "../errors";

/** Above the largest real tokenizer.json several times over, below what a thread's heap cannot take. */
export const jsonLimits = { bytes: 64 << 20, containers: 2_000_000, separators: 6_000_000 } as const;

function corrupt(message: string): TokenmillError {
  return new TokenmillError("CorruptFile", message);
}

/**
 * Parses a file's JSON. Its shape is counted first: JSON.parse makes up to thirty bytes of one byte of text
 * and cannot be stopped half-way.
 *
 * @param name the file's, for messages
 */
export function parseJson(bytes: Uint8Array, name: string): JsonReader {
  if (bytes.length > jsonLimits.bytes) {
    throw corrupt(`${name} has ${bytes.length} bytes; at most ${jsonLimits.bytes} are read`);
  }
  const containers = count(bytes, "[") + count(bytes, "{");
  const separators = count(bytes, ",") + count(bytes, ":");
  if (containers > jsonLimits.containers || separators > jsonLimits.separators) {
    throw corrupt(
      `${name} has more entries than any tokenizer: ${separators} separators, ${containers} brackets`,
    );
  }
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
  try {
    return new JsonReader(JSON.parse(text), name);
  } catch (error) {
    throw new TokenmillError(
      "CorruptFile",
      `${name} is not JSON: ${(error as Error).message.slice(0, 200)}`,
      {
        cause: error,
      },
    );
  }
}

function count(bytes: Uint8Array, character: string): number {
  const wanted = character.charCodeAt(0);
  let found = 0;
  for (let at = bytes.indexOf(wanted); at >= 0; at = bytes.indexOf(wanted, at + 1)) ++found;
  return found;
}

function quoted(text: string): string {
  return JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}…` : text);
}

function describe(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "string") return quoted(value);
  return typeof value === "object" ? "an object" : String(value);
}

/**
 * A value in a JSON file that knows where it stands. What is not as expected throws CorruptFile naming the
 * place.
 */
export class JsonReader {
  constructor(
    readonly value: unknown,
    readonly path: string,
  ) {}

  /** Absent and null are the same. */
  get isAbsent(): boolean {
    return this.value === undefined || this.value === null;
  }

  wrong(expected: string): TokenmillError {
    return corrupt(`${this.path} must be ${expected}, found ${describe(this.value)}`);
  }

  /** A property of an object; absent where the object or the property is. */
  get(key: string): JsonReader {
    const path = /^\w+$/.test(key)
      ? `${this.path}.${key}`
      : `${this.path}[${JSON.stringify(key.slice(0, 40))}]`;
    const value = this.isAbsent || !Object.hasOwn(this.object(), key) ? undefined : this.object()[key];
    return new JsonReader(value, path);
  }

  object(): Record<string, unknown> {
    if (typeof this.value !== "object" || this.value === null || Array.isArray(this.value)) {
      throw this.wrong("an object");
    }
    return this.value as Record<string, unknown>;
  }

  array(): unknown[] {
    if (!Array.isArray(this.value)) throw this.wrong("an array");
    return this.value;
  }

  /** The elements of an array, none where it is absent. */
  items(): JsonReader[] {
    if (this.isAbsent) return [];
    return this.array().map((item, index) => new JsonReader(item, `${this.path}[${index}]`));
  }

  string(): string {
    if (typeof this.value !== "string") throw this.wrong("a string");
    return this.value;
  }

  /** `fallback` where absent. */
  boolean(fallback: boolean): boolean {
    if (this.isAbsent) return fallback;
    if (typeof this.value !== "boolean") throw this.wrong("true or false");
    return this.value;
  }

  /** A token's id. */
  id(): number {
    if (!isTokenId(this.value)) throw this.wrong(`a token id from 0 to ${tokenIdMax}`);
    return this.value;
  }
}

/** Vocabularies have up to some hundred thousand tokens; ids beyond this would only make tables of holes. */
export const tokenIdMax = (1 << 22) - 1;

export function isTokenId(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= tokenIdMax;
}
