import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { dist } from "./dist.mjs";
import { Random } from "./random.mjs";

const { chooseMarks, markAll, SpecialTokens } = dist("./chat/special-tokens.js");

/** Leftmost first, the longest at a place, the plain way. */
function splitPlainly(text, special) {
  const pieces = [];
  let plain = "";
  const flush = () => {
    if (plain !== "") pieces.push({ text: plain, special: false });
    plain = "";
  };
  for (let at = 0; at < text.length; ) {
    const found = special.filter((token) => token !== "" && text.startsWith(token, at));
    const longest = found.sort((a, b) => b.length - a.length)[0];
    if (longest === undefined) {
      plain += text[at++];
      continue;
    }
    flush();
    pieces.push({ text: longest, special: true });
    at += longest.length;
  }
  flush();
  return pieces;
}

describe("special tokens", () => {
  it("are found leftmost first, the longest at a place", () => {
    const letters = ["a", "b", "<", ">", "|", "😀", "｜"];
    for (let seed = 1; seed <= 3000; ++seed) {
      const random = new Random(seed);
      const special = Array.from({ length: 1 + random.below(6) }, () => random.join(letters, 4));
      const text = random.join([...letters, ...special], 12);
      assert.deepEqual(new SpecialTokens(special).split(text), splitPlainly(text, special), `seed ${seed}`);
    }
  });

  it("are text where a caller wrote them", () => {
    const special = new SpecialTokens(["<s>", "<s>x", "y"]);
    const marks = chooseMarks([]);
    const own = special.split(
      `<s>${markAll("<s>xy", marks)}<s>x${markAll("y", marks)}<s>${markAll("x", marks)}`,
      marks,
    );
    assert.deepEqual(own, [
      { text: "<s>", special: true },
      { text: "<s>xy", special: false },
      { text: "<s>x", special: true },
      { text: "y", special: false },
      { text: "<s>", special: true },
      { text: "x", special: false },
    ]);
  });

  it("know themselves", () => {
    const special = new SpecialTokens(["<s>", "<s>x"]);
    assert.deepEqual(
      ["<s>", "<s>x", "<s", "s>", "", "<s>xx"].map((text) => special.has(text)),
      [true, true, false, false, false, false],
    );
  });
});

describe("marks", () => {
  it("are two characters that no text has, as such or escaped", () => {
    assert.deepEqual(chooseMarks(["a", "b"]), { open: "\ue000", close: "\ue001" });
    assert.deepEqual(chooseMarks(["\ue000", "x\ue002", "\\uE003"]), { open: "\ue001", close: "\ue004" });
  });
});
