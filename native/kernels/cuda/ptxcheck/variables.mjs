// Reads declarations of variables and parameters: .align 8 .b8 name[80] = {1, 2, …}
import { types } from "./types.mjs";

function littleEndian(value, bytes) {
  const data = [];
  for (let at = 0; at < bytes; at += 1) data.push(Number((value >> BigInt(8 * at)) & 255n));
  return data;
}

function readValue(cursor, elementBytes) {
  if (cursor.token.kind === "float") {
    const digits = cursor.next().text.slice(2);
    if (digits.length !== 2 * elementBytes) cursor.fail("an initial value of another size than its variable");
    return littleEndian(BigInt(`0x${digits}`), elementBytes);
  }
  return littleEndian(cursor.integer(), elementBytes);
}

function readInitializer(cursor, elementBytes, bytes) {
  const data = [];
  if (cursor.accept("{")) {
    do data.push(...readValue(cursor, elementBytes));
    while (cursor.accept(","));
    cursor.expect("}");
  } else {
    data.push(...readValue(cursor, elementBytes));
  }
  if (data.length > bytes) cursor.fail("more initial values than elements");
  return [...data, ...new Array(bytes - data.length).fill(0)];
}

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
  const data = cursor.accept("=") ? readInitializer(cursor, elementBytes, bytes) : null;
  return { name, space, align: align ?? elementBytes, bytes, data };
}
