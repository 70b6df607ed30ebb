import { TokenmillError } from "../errors";
import { printable } from "../printable";

/** A JSON value; objects keep the order of their keys, whatever these are. */
export type StrictJson = null | boolean | number | string | StrictJson[] | StrictObject;
export type StrictObject = Map<string, StrictJson>;

/** Headers and configurations nest three or four deep. */
const depthMaximum = 16;

/**
 * Parses JSON as the standard has it, and refuses what JSON.parse lets pass: keys that come twice, of which it
 * keeps the last, so that two readers can see two files in one. Names the key at fault.
 *
 * @param name the file's, for messages
 * @throws TokenmillError CorruptFile
 */
export function parseStrictJson(bytes: Uint8Array, name: string): StrictJson {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new TokenmillError("CorruptFile", `${name} is not JSON: it is not UTF-8`, { cause });
  }
  return new StrictParser(text, name).parse();
}

const space = /[ \t\n\r]*/y;
/** A string as nearly all are, without escapes: headers have thousands, and are read on the event loop. */
const plainString = /"[^"\\\p{Cc}]*"/uy;
const numberPattern = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const words: [string, StrictJson][] = [
  ["true", true],
  ["false", false],
  ["null", null],
];

class StrictParser {
  readonly #text: string;
  readonly #name: string;
  #at = 0;
  /** Keys that lead to where we are. */
  readonly #path: string[] = [];

  constructor(text: string, name: string) {
    this.#text = text;
    this.#name = name;
  }

  parse(): StrictJson {
    const value = this.#value(0);
    if (this.#at < this.#text.length) throw this.#error("is followed by something else");
    return value;
  }

  #value(depth: number): StrictJson {
    if (depth > depthMaximum) throw this.#error(`is nested more than ${depthMaximum} deep`);
    this.#skipSpace();
    const value = this.#bareValue(depth);
    this.#skipSpace();
    return value;
  }

  #bareValue(depth: number): StrictJson {
    const first = this.#text[this.#at];
    if (first === "{") return this.#object(depth);
    if (first === "[") return this.#array(depth);
    if (first === '"') return this.#string();
    for (const [word, value] of words) if (this.#skip(word)) return value;
    const number = this.#take(numberPattern);
    if (number === "") throw this.#error("is no value");
    return Number(number);
  }

  #object(depth: number): StrictObject {
    const object: StrictObject = new Map();
    this.#skip("{");
    this.#skipSpace();
    if (this.#skip("}")) return object;
    do {
      this.#skipSpace();
      const key = this.#string();
      this.#path.push(key);
      if (object.has(key)) throw this.#error("comes twice");
      this.#skipSpace();
      if (!this.#skip(":")) throw this.#error("has no ':' after it");
      object.set(key, this.#value(depth + 1));
      this.#path.pop();
    } while (this.#skip(","));
    if (!this.#skip("}")) throw this.#error("has no ',' or '}' after it");
    return object;
  }

  #array(depth: number): StrictJson[] {
    const array: StrictJson[] = [];
    this.#skip("[");
    this.#skipSpace();
    if (this.#skip("]")) return array;
    do array.push(this.#value(depth + 1));
    while (this.#skip(","));
    if (!this.#skip("]")) throw this.#error("has no ',' or ']' after it");
    return array;
  }

  #string(): string {
    const begin = this.#at;
    plainString.lastIndex = begin;
    if (plainString.test(this.#text)) {
      this.#at = plainString.lastIndex;
      return this.#text.slice(begin + 1, this.#at - 1);
    }
    if (!this.#skip('"')) throw this.#error("is no string");
    while (this.#at < this.#text.length && this.#text[this.#at] !== '"')
      this.#at += this.#text[this.#at] === "\\" ? 2 : 1;
    this.#at++;
    try {
      return JSON.parse(this.#text.slice(begin, this.#at)) as string;
    } catch {
      this.#at = begin;
      throw this.#error("is no string that ends");
    }
  }

  #skipSpace(): void {
    if (this.#text.charCodeAt(this.#at) <= 0x20) this.#take(space);
  }

  #skip(word: string): boolean {
    if (!this.#text.startsWith(word, this.#at)) return false;
    this.#at += word.length;
    return true;
  }

  #take(pattern: RegExp): string {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0] ?? "";
    this.#at += found.length;
    return found;
  }

  #error(what: string): TokenmillError {
    const found = JSON.stringify(this.#text.slice(this.#at, this.#at + 20));
    const key =
      this.#path.length === 0
        ? "the text"
        : this.#path.map((name) => JSON.stringify(name.slice(0, 200))).join(" → ");
    const message = `${this.#name} is not sound JSON: ${key} ${what}, at character ${this.#at} (${found})`;
    return new TokenmillError("CorruptFile", printable(message));
  }
}
