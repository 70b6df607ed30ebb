// Reads declarations of variables and parameters: .align 8 .b8 name[80]
import { types } from "./types.mjs";

/** Sizes in brackets, multiplied: 1 without brackets, 0 for `[]`. */
function readCount(cursor) {
  let count = 1;
  while (cursor.accept("[")) {
    count *= cursor.is("]") ? 0 : Number(cursor.integer());
    cursor.expect("]");
  }
  return count;
}

export function readVariable(cursor, space) {
  let align = null;
  let word = cursor.word();
  if (word === ".align") {
    align = Number(cursor.integer());
    word = cursor.word();
  }
  const type = types.get(word.slice(1));
  if (!type || type.kind === "pred") cursor.fail(`unknown type ${word} of a variable`);
  const elementBytes = type.width / 8;
  const name = cursor.word();
  const bytes = elementBytes * readCount(cursor);
  return { name, space, align: align ?? elementBytes, bytes };
}
