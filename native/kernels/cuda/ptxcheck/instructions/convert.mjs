// Moves, conversions between types, and between state spaces and generic addresses.
import { spaceOfSymbol, symbolValue } from "../addresses.mjs";
import { storage } from "../types.mjs";

const integers = ["u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64"];
const floats = ["f16", "f32", "f64", "bf16"];
const toInteger = ["rni", "rzi", "rmi", "rpi"];
const toFloat = ["rn", "rz", "rm", "rp"];

function rounding(mode) {
  return `k${mode[0].toUpperCase()}${mode[1]}`;
}

/** An integer result, extended to its register's width. */
function assignInteger(i, type, expression) {
  const operand = i.operand(0);
  const width = operand.kind === "register" ? operand.register.width : 0;
  if (width < type.width) i.fail(`the destination holds no ${type.name}`);
  return i.assign(operand, width, `Widen<${storage(width)}, ${type.name}>(${expression})`);
}

/** cvt.rn.f16x2.f32 d, high, low and the same for bf16x2. */
function convertPair(i, mode, type) {
  if (mode !== "rn") i.fail("pairs are supported with .rn alone");
  const f32 = i.type("f32");
  i.end(3);
  const half = type.name.replace("x2", "");
  const halves = [1, 2].map((index) => `Convert<${half}, f32, kRn>(${i.value(index, f32)})`);
  return `${i.destination(0, type)} = Pack16(${halves[1]}, ${halves[0]});`;
}

function checkConversion(i, mode, ftz, to, from) {
  const toFloatType = to.kind === "float";
  const fromFloatType = from.kind === "float";
  if (!toFloatType && !fromFloatType) return mode && i.fail("integers are not rounded");
  if (ftz && to.name !== "f32" && from.name !== "f32") i.fail(".ftz without f32");
  if (!toFloatType) return toInteger.includes(mode) || i.fail("to an integer: how to round is missing");
  const exact = fromFloatType && to.width > from.width;
  if (fromFloatType && to.name === from.name) {
    return !mode || toInteger.includes(mode) || i.fail("between the same types one rounds to integers");
  }
  if (exact) return mode && i.fail("widening is not rounded");
  return toFloat.includes(mode) || i.fail("how to round is missing");
}

function convert(i) {
  const mode = i.optional(...toInteger, ...toFloat);
  const ftz = i.flag("ftz");
  const saturate = i.flag("sat");
  const to = i.type(...integers, ...floats, "f16x2", "bf16x2");
  if (to.name.endsWith("x2")) {
    if (ftz || saturate) i.fail("pairs are supported without .ftz and .sat");
    return convertPair(i, mode, to);
  }
  const from = i.type(...integers, ...floats);
  checkConversion(i, mode, ftz, to, from);
  i.end(2);
  const flags = [
    mode && rounding(mode),
    ftz && "kFtz",
    saturate && "kSat",
    toInteger.includes(mode) && "kIntegral",
  ];
  const list = flags.filter(Boolean).join(" | ") || "0";
  const source = from.kind === "float" ? i.value(1, from) : i.narrowed(i.operand(1), from);
  const expression = `Convert<${to.name}, ${from.name}, ${list}>(${source})`;
  if (to.kind === "float") return `${i.destination(0, to)} = ${expression};`;
  return assignInteger(i, to, expression);
}

/** mov.b64 {a, b}, c: low part first; `_` drops a part. */
function unpack(i, type) {
  const parts = i.operand(0).items;
  const width = type.width / parts.length;
  const source = i.value(1, type);
  const lines = parts.map((part, at) =>
    part.kind === "sink" ? "" : i.assign(part, width, `${storage(width)}(whole >> ${width * at})`),
  );
  return `{ const ${storage(type.width)} whole = ${source}; ${lines.join(" ")} }`;
}

function pack(i, type) {
  const parts = i.operand(1).items;
  const width = type.width / parts.length;
  const whole = storage(type.width);
  const terms = parts.map((part, at) => `(${whole}(${i.valueOf(part, width)}) << ${width * at})`);
  return `${i.destination(0, type)} = ${terms.join(" | ")};`;
}

function move(i) {
  const names = ["pred", "b16", "b32", "b64", "u16", "u32", "u64", "s16", "s32", "s64", "f32", "f64"];
  const type = i.type(...names);
  i.end(2);
  const [target, source] = i.operands;
  if (target.kind === "vector" || source.kind === "vector") {
    const parts = (target.kind === "vector" ? target : source).items.length;
    if (type.kind !== "bits" || ![2, 4].includes(parts) || type.width / parts < 16)
      i.fail("not a way to split bits");
    if (target.kind === source.kind) i.fail("between vectors");
    return target.kind === "vector" ? unpack(i, type) : pack(i, type);
  }
  if (source.kind === "special") {
    if (type.width !== 32) i.fail("special registers have 32 bits");
    return `${i.destination(0, type)} = t.${source.name.replace(/\W+/g, "_").slice(1)}();`;
  }
  if (source.kind === "symbol") return `${i.destination(0, type)} = ${symbolValue(i, source, type.width)};`;
  return i.plain(type, "", 1);
}

const spaces = ["global", "shared", "shared::cta", "local", "param"];

/** cvta.space d, a: to a generic address; cvta.to.space d, a: back. */
function convertAddress(i) {
  const back = i.flag("to");
  const space = i.one(...spaces).replace("::cta", "");
  const type = i.type("u64");
  i.end(2);
  const source = i.operand(1);
  if (source.kind === "symbol" && spaceOfSymbol(i, source) !== space)
    i.fail(`${source.name} is not in ${space}`);
  const value = source.kind === "symbol" ? symbolValue(i, source, 64) : i.value(1, type);
  const name = `${back ? "GenericTo" : ""}${space[0].toUpperCase()}${space.slice(1)}${back ? "" : "ToGeneric"}`;
  return `${i.destination(0, type)} = t.${name}(${value});`;
}

export const conversions = { mov: move, cvt: convert, cvta: convertAddress };
