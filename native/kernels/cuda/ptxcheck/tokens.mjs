// Cuts the text of a PTX file into tokens, each with its line.
import { PtxError } from "./types.mjs";

// The order matters: a word may hold "::" (L2::128B) but a label's single colon ends it.
const patterns = [
  ["space", /[ \t\r\n]+/y],
  ["comment", /\/\/[^\n]*|\/\*[\s\S]*?\*\//y],
  ["string", /"[^"\n]*"/y],
  ["float", /0[fF][0-9a-fA-F]{8}\b|0[dD][0-9a-fA-F]{16}\b/y],
  ["integer", /(?:0[xX][0-9a-fA-F]+|\d+)U?(?![\w.$%])/y],
  ["word", /(?:::|[\w$%.])+/y],
  ["mark", /[{}()[\],;:|@!+\-<>=&~*/]/y],
];

function nextToken(text, at, line) {
  for (const [kind, pattern] of patterns) {
    pattern.lastIndex = at;
    const match = pattern.exec(text);
    if (match) return { kind, text: match[0], line };
  }
  throw new PtxError(line, `unknown character ${JSON.stringify(text[at])}`);
}

function lineBreaks(text) {
  let breaks = 0;
  for (const letter of text) if (letter === "\n") breaks += 1;
  return breaks;
}

/** [{ kind: "string" | "float" | "integer" | "word" | "mark" | "end", text, line }] */
export function tokenize(text) {
  const tokens = [];
  let line = 1;
  for (let at = 0; at < text.length; ) {
    const token = nextToken(text, at, line);
    if (token.kind !== "space" && token.kind !== "comment") tokens.push(token);
    line += lineBreaks(token.text);
    at += token.text.length;
  }
  tokens.push({ kind: "end", text: "", line });
  return tokens;
}

/** A place in a list of tokens. */
export class Cursor {
  constructor(tokens) {
    this.tokens = tokens;
    this.at = 0;
  }

  get token() {
    return this.tokens[this.at];
  }

  get line() {
    return this.token.line;
  }

  get ended() {
    return this.token.kind === "end";
  }

  is(text) {
    return this.token.kind !== "string" && this.token.text === text;
  }

  next() {
    const { token } = this;
    if (token.kind !== "end") this.at += 1;
    return token;
  }

  accept(text) {
    const found = this.is(text);
    if (found) this.next();
    return found;
  }

  expect(text) {
    if (!this.accept(text)) this.fail(`expected "${text}", found "${this.token.text}"`);
  }

  word() {
    if (this.token.kind !== "word") this.fail(`expected a name, found "${this.token.text}"`);
    return this.next().text;
  }

  /** A decimal or hexadecimal integer with an optional sign. */
  integer() {
    const negative = this.accept("-");
    if (this.token.kind !== "integer") this.fail(`expected an integer, found "${this.token.text}"`);
    const value = BigInt(this.next().text.replace(/U$/, ""));
    return negative ? -value : value;
  }

  fail(what, line = this.line) {
    throw new PtxError(line, what);
  }
}
