import { isTokenId, JsonReader, tokenIdMax } from "./json-reader";
import type { PackedStrings } from "./packed-tokenizer";
import { unsupported } from "./tokenizer-pipeline";

/** The native TokenKind. */
export const tokenKinds = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** A vocabulary by id and by text. Ids without a token have an empty text. */
export class Vocabulary {
  readonly texts: string[] = [];
  readonly kinds: number[] = [];
  readonly #ids = new Map<string, number>();

  idOf(text: string): number | undefined {
    return this.#ids.get(text);
  }

  /** The text of a token, "" where there is none. */
  textOf(id: number): string {
    return this.texts[id] ?? "";
  }

  /** Adds a token, or changes the kind of one that is there under the same id. */
  set(text: string, id: number, kind: number, where: () => JsonReader): void {
    const known = this.#ids.get(text);
    if (known !== undefined && known !== id)
      throw where().wrong(`${known}, the id that this token has elsewhere`);
    if (known === undefined && this.textOf(id) !== "") {
      throw where().wrong(`an id of its own; ${JSON.stringify(this.texts[id])} has it`);
    }
    while (this.texts.length <= id) {
      this.texts.push("");
      this.kinds.push(tokenKinds.unused);
    }
    this.#ids.set(text, id);
    this.texts[id] = text;
    this.kinds[id] = kind;
  }

  packTexts(): PackedStrings {
    const ends = new Uint32Array(this.texts.length);
    const chunks = Buffer.from(this.texts.join(""), "utf8");
    let end = 0;
    this.texts.forEach((text, id) => {
      end += Buffer.byteLength(text, "utf8");
      ends[id] = end;
    });
    return { bytes: new Uint8Array(chunks), ends };
  }
}

/** Reads model.vocab. */
export function readVocabulary(model: JsonReader): Vocabulary {
  const vocabulary = new Vocabulary();
  const vocab = model.get("vocab");
  const object = vocab.object();
  for (const text in object) {
    const id = object[text];
    const where = () => vocab.get(text);
    if (!isTokenId(id)) throw where().wrong(`a token id from 0 to ${tokenIdMax}`);
    if (text === "") throw where().wrong("the id of a token with a text");
    vocabulary.set(text, id, tokenKinds.normal, where);
  }
  if (vocabulary.texts.length === 0) throw vocab.wrong("a vocabulary of at least one token");
  return vocabulary;
}

/** Texts that are made to be control tokens also where a file does not say so. */
function looksSpecial(text: string): boolean {
  return /^<[|｜].*[|｜]>$/s.test(text);
}

/** Reads added_tokens into the vocabulary. */
export function addAddedTokens(file: JsonReader, vocabulary: Vocabulary): void {
  for (const token of file.get("added_tokens").items()) {
    const text = token.get("content").string();
    if (text === "") throw token.get("content").wrong("a text");
    for (const flag of ["single_word", "lstrip", "rstrip"]) {
      if (token.get(flag).boolean(false))
        throw unsupported(token.get(flag), `${flag} of ${JSON.stringify(text)}`);
    }
    const isControl = token.get("special").boolean(false) || looksSpecial(text);
    const kind = isControl ? tokenKinds.control : tokenKinds.userDefined;
    vocabulary.set(text, token.get("id").id(), kind, () => token.get("id"));
  }
}

/** The parts of a merge: "a b" or ["a", "b"]. */
function mergeParts(merge: unknown, where: () => JsonReader): [string, string] {
  if (typeof merge === "string") {
    const [left, right, ...rest] = merge.split(" ");
    if (left && right && rest.length === 0) return [left, right];
  } else if (Array.isArray(merge) && merge.length === 2) {
    const [left, right] = merge;
    if (typeof left === "string" && typeof right === "string") return [left, right];
  }
  throw where().wrong('two tokens, as "a b" or ["a", "b"]');
}

/** A merge list by rank, and by token what it makes. */
export interface Merges {
  /** The ids of left and right part; two elements a merge. */
  pairs: Uint32Array;
  /**
   * By token: the ranks of the first and the last merge that makes it, and how many do. -1 where none does.
   */
  first: Int32Array;
  last: Int32Array;
  count: Int32Array;
}

/** Reads model.merges. */
export function readMerges(model: JsonReader, vocabulary: Vocabulary): Merges {
  const reader = model.get("merges");
  const list = reader.array();
  const size = vocabulary.texts.length;
  const merges: Merges = {
    pairs: new Uint32Array(list.length * 2),
    first: new Int32Array(size).fill(-1),
    last: new Int32Array(size).fill(-1),
    count: new Int32Array(size),
  };
  for (const [rank, merge] of list.entries()) {
    const where = () => new JsonReader(merge, `${reader.path}[${rank}]`);
    const [left, right] = mergeParts(merge, where);
    const idOf = (text: string): number => {
      const id = vocabulary.idOf(text);
      if (id === undefined)
        throw where().wrong(`of tokens in the vocabulary; ${JSON.stringify(text)} is none`);
      return id;
    };
    merges.pairs[rank * 2] = idOf(left);
    merges.pairs[rank * 2 + 1] = idOf(right);
    const product = idOf(left + right);
    if (merges.first[product] === -1) merges.first[product] = rank;
    merges.last[product] = rank;
    merges.count[product] = (merges.count[product] ?? 0) + 1;
  }
  return merges;
}
