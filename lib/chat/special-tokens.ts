/** A part of a rendered conversation. */
export interface Piece {
  /** A special token's text, or text in which none is to be recognized. */
  text: string;
  special: boolean;
}

interface Node {
  readonly next: Map<number, Node>;
  ends: boolean;
}

/**
 * Characters that are no text but say whose the text around them is: callers' text has `open` before and
 * `close` after.
 */
export interface Marks {
  open: string;
  close: string;
}

/** A model's special tokens by their texts: finds the longest one at a place. A trie over UTF-16 units. */
export class SpecialTokens {
  readonly #root: Node = { next: new Map(), ends: false };
  readonly #firsts = new Uint8Array(1 << 16);

  /** All characters that special tokens are made of. */
  readonly characters: string;

  constructor(texts: readonly string[]) {
    for (const text of texts) if (text !== "") this.#add(text);
    this.characters = [...new Set(texts.join(""))].join("");
  }

  /** Whether `text` is a special token. */
  has(text: string): boolean {
    return this.#longestAt(text, 0, () => true) === text.length;
  }

  #add(text: string): void {
    let node = this.#root;
    for (let i = 0; i < text.length; ++i) {
      const unit = text.charCodeAt(i);
      let child = node.next.get(unit);
      if (child === undefined) {
        child = { next: new Map(), ends: false };
        node.next.set(unit, child);
      }
      node = child;
    }
    node.ends = true;
    this.#firsts[text.charCodeAt(0)] = 1;
  }

  /** The end of the longest special token that begins at `start` and that `accepts` its end, or -1. */
  #longestAt(text: string, start: number, accepts: (end: number) => boolean): number {
    if (this.#firsts[text.charCodeAt(start)] === 0) return -1;
    let longest = -1;
    let node: Node | undefined = this.#root;
    for (let at = start; at < text.length; ++at) {
      node = node.next.get(text.charCodeAt(at));
      if (node === undefined) break;
      if (node.ends && accepts(at + 1)) longest = at + 1;
    }
    return longest;
  }

  /**
   * Cuts `text` at its special tokens, leftmost first, the longest at a place. With `marks`, special tokens
   * with a marked character are text, and the marks are deleted from the pieces.
   */
  split(text: string, marks?: Marks): Piece[] {
    const accepts = (end: number) => marks === undefined || !text.startsWith(marks.close, end);
    const pieces: Piece[] = [];
    const pushText = (start: number, end: number) => {
      const raw = text.slice(start, end);
      const plain = marks === undefined ? raw : withoutMarks(raw, marks);
      if (plain !== "") pieces.push({ text: plain, special: false });
    };
    let done = 0;
    for (let at = 0; at < text.length; ) {
      const end = this.#longestAt(text, at, accepts);
      if (end < 0 || (marks !== undefined && text.endsWith(marks.open, at))) {
        ++at;
        continue;
      }
      pushText(done, at);
      pieces.push({ text: text.slice(at, end), special: true });
      done = at = end;
    }
    pushText(done, text.length);
    return pieces;
  }

  /** Puts every character of the special tokens that `text` spells between marks. */
  markSpelled(text: string, marks: Marks): string {
    return this.split(text)
      .map((piece) => (piece.special ? markAll(piece.text, marks) : piece.text))
      .join("");
  }
}

/**
 * Puts every character between marks. Whitespace stays as it is, so that trimming and splitting at it work.
 */
export function markAll(text: string, { open, close }: Marks): string {
  return text.replace(/\S/gu, `${open}$&${close}`);
}

/** `text` as it was before it was marked. */
export function withoutMarks(text: string, marks: Marks): string {
  let plain = text;
  for (const mark of [marks.open, marks.close]) {
    plain = plain.replaceAll(mark, "").replaceAll(jsonEscape(mark), "");
  }
  return plain;
}

/** How JSON spells a mark in ASCII: a template's `tojson(ensure_ascii=true)` turns marks into these. */
function jsonEscape(mark: string): string {
  return Array.from({ length: mark.length }, (_, i) => `\\u${mark.charCodeAt(i).toString(16)}`).join("");
}

const privateUse = /[\ue000-\uf8ff]|[\udb80-\udbff][\udc00-\udfff]/g;
const escapedPrivateUse = /\\u([ef][0-9a-f]{3})/gi;

function* privateUseCharacters(): Generator<string> {
  for (let code = 0xe000; code <= 0xf8ff; ++code) yield String.fromCodePoint(code);
  for (let code = 0xf0000; code <= 0xffffd; ++code) yield String.fromCodePoint(code);
  for (let code = 0x100000; code <= 0x10fffd; ++code) yield String.fromCodePoint(code);
}

/**
 * Two private-use characters that occur in none of `texts`, nor can their escapes; undefined when all occur.
 */
export function chooseMarks(texts: Iterable<string>): Marks | undefined {
  const used = new Set<string>();
  for (const text of texts) {
    for (const [character] of text.matchAll(privateUse)) used.add(character);
    for (const [, digits] of text.matchAll(escapedPrivateUse))
      used.add(String.fromCharCode(Number.parseInt(digits ?? "", 16)));
  }
  let open: string | undefined;
  for (const character of privateUseCharacters()) {
    if (used.has(character)) continue;
    if (open !== undefined) return { open, close: character };
    open = character;
  }
  return undefined;
}
