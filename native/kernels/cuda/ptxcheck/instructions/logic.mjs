// Bits: logic, shifts, fields, permutations.
import { types } from "../types.mjs";

const u32 = types.get("u32");
const b32 = types.get("b32");

function bitwise(sign) {
  return (i) => {
    const type = i.type("pred", "b16", "b32", "b64");
    i.end(3);
    const values = type.width === 1 ? [i.predicate(1), i.predicate(2)] : [i.value(1, type), i.value(2, type)];
    return `${i.destination(0, type)} = ${values.join(` ${sign} `)};`;
  };
}

function not(i) {
  const type = i.type("pred", "b16", "b32", "b64");
  i.end(2);
  const value = i.value(1, type);
  return `${i.destination(0, type)} = ${type.width === 1 ? "!" : "~"}${value};`;
}

function shift(name, ...allowed) {
  return (i) => {
    const type = i.type(...allowed);
    i.end(3);
    return `${i.destination(0, type)} = ${name}<${type.name}>(${i.value(1, type)}, ${i.value(2, u32)});`;
  };
}

function funnelShift(i) {
  const direction = i.one("l", "r");
  const mode = i.one("clamp", "wrap");
  i.one("b32");
  i.end(4);
  return i.plain(b32, `FunnelShift${direction === "l" ? "Left" : "Right"}<${mode === "wrap"}>`, 3);
}

function anyOfThree(i) {
  i.one("b32");
  i.end(5);
  const table = i.integer(4);
  if (table < 0n || table > 255n) i.fail(`${table} is not a table of 8 bits`);
  return i.plain(b32, `Lookup3<${table}>`, 3);
}

const permuteModes = new Map([
  ["f4e", "kForward4"],
  ["b4e", "kBackward4"],
  ["rc8", "kReplicate8"],
  ["ecl", "kEdgeClampLeft"],
  ["ecr", "kEdgeClampRight"],
  ["rc16", "kReplicate16"],
]);

function permute(i) {
  i.one("b32");
  const mode = i.optional(...permuteModes.keys());
  i.end(4);
  return i.plain(
    b32,
    `Permute<${mode ? `PermuteMode::${permuteModes.get(mode)}` : "PermuteMode::kGeneric"}>`,
    3,
  );
}

function extractField(i) {
  const type = i.type("u32", "u64", "s32", "s64");
  i.end(4);
  const values = [i.value(1, type), i.value(2, u32), i.value(3, u32)];
  return `${i.destination(0, type)} = ExtractField<${type.name}>(${values.join(", ")});`;
}

function insertField(i) {
  const type = i.type("b32", "b64");
  i.end(5);
  const values = [i.value(1, type), i.value(2, type), i.value(3, u32), i.value(4, u32)];
  return `${i.destination(0, type)} = InsertField<${type.name}>(${values.join(", ")});`;
}

function reverse(i) {
  const type = i.type("b32", "b64");
  i.end(2);
  return i.plain(type, `ReverseBits<${type.name}>`, 1);
}

export const logic = {
  and: bitwise("&"),
  or: bitwise("|"),
  xor: bitwise("^"),
  not,
  shl: shift("ShiftLeft", "b16", "b32", "b64"),
  shr: shift("ShiftRight", "b16", "b32", "b64", "u16", "u32", "u64", "s16", "s32", "s64"),
  shf: funnelShift,
  lop3: anyOfThree,
  prmt: permute,
  bfe: extractField,
  bfi: insertField,
  brev: reverse,
};
