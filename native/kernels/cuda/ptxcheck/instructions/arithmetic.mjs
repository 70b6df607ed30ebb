// Integer and floating-point arithmetic.
import { types } from "../types.mjs";

const integers = ["s16", "u16", "s32", "u32", "s64", "u64"];
const halves = ["f16", "f16x2", "bf16", "bf16x2"];
const u32 = types.get("u32");

/**
 * The modifiers of floating-point arithmetic: [.rnd][.ftz][.sat]. Without a rounding mode, ptxas may contract products
 * and sums of f32 and f64, which changes results: kernels are compiled so that nvcc always gives one.
 */
function readFloatFlags(i, { rounding = ["rn", "rz", "rm", "rp"], required = true, sat = true } = {}) {
  const mode = required ? i.one(...rounding) : (i.optional(...rounding) ?? "rn");
  const flags = [`k${mode[0].toUpperCase()}${mode[1]}`];
  if (i.flag("ftz")) flags.push("kFtz");
  if (sat && i.flag("sat")) flags.push("kSat");
  return { ftz: flags.includes("kFtz"), sat: flags.includes("kSat"), list: flags.join(" | ") };
}

/** .ftz is for f16 and f32, .sat for these too, rounding modes other than .rn for f32 and f64. */
function checkFloatFlags(i, flags, type) {
  const wide = type.name === "f64";
  const brain = type.name.startsWith("bf16");
  if ((wide || brain) && (flags.ftz || flags.sat)) i.fail("this type has no .ftz and no .sat");
  if (halves.includes(type.name) && !flags.list.startsWith("kRn")) i.fail("this type has .rn alone");
}

function float(i, name, count) {
  const flags = readFloatFlags(i);
  const type = i.type("f32", "f64", ...halves);
  checkFloatFlags(i, flags, type);
  i.end(count + 1);
  return i.plain(type, `${name}<${type.name}, ${flags.list}>`, count);
}

function isFloat(i) {
  const last = i.parts.at(-1);
  return types.get(last)?.kind === "float";
}

function addOrSubtract(name) {
  return (i) => {
    if (isFloat(i)) return float(i, `${name}Float`, 2);
    const saturate = i.flag("sat");
    const type = i.type(...(saturate ? ["s32"] : integers));
    i.end(3);
    return i.plain(type, `${name}${saturate ? "Saturated" : ""}<${type.name}>`, 2);
  };
}

/** d = the low, the high or all bits of a * b, and + c for mad. */
function multiply(i, addend) {
  const part = i.one("lo", "hi", "wide");
  const type = i.type(...(part === "wide" ? integers.filter((name) => !name.endsWith("64")) : integers));
  const result = part === "wide" ? types.get(`${type.name[0]}${2 * type.width}`) : type;
  i.end(addend ? 4 : 3);
  const call = `Multiply${part[0].toUpperCase()}${part.slice(1)}<${type.name}>`;
  const product = `${call}(${i.value(1, type)}, ${i.value(2, type)})`;
  const sum = addend ? `Add<${result.name}>(${product}, ${i.value(3, result)})` : product;
  return `${i.destination(0, result)} = ${sum};`;
}

function multiply24(i, addend) {
  const part = i.one("lo", "hi");
  const type = i.type("s32", "u32");
  i.end(addend ? 4 : 3);
  const product = `Multiply24${part === "lo" ? "Lo" : "Hi"}<${type.name}>(${i.value(1, type)}, ${i.value(2, type)})`;
  const sum = addend ? `Add<${type.name}>(${product}, ${i.value(3, type)})` : product;
  return `${i.destination(0, type)} = ${sum};`;
}

function divide(i) {
  if (!isFloat(i)) return integer(i, "Divide", 2);
  const approximate = i.optional("approx", "full");
  if (!approximate) {
    const flags = readFloatFlags(i, { sat: false });
    const type = i.type("f32", "f64");
    checkFloatFlags(i, flags, type);
    i.end(3);
    return i.plain(type, `DivideFloat<${type.name}, ${flags.list}>`, 2);
  }
  return approximated(i, approximate === "full" ? "DivideFull" : "DivideApprox", 2);
}

/** Functions of the special function unit, after .approx: [.ftz].f32 */
function approximated(i, name, count = 1) {
  const ftz = i.flag("ftz");
  const type = i.type("f32");
  i.end(count + 1);
  return i.plain(type, `${name}<${ftz}>`, count);
}

function reciprocal(i) {
  if (i.flag("approx")) {
    if (i.parts.at(-1) !== "f64") return approximated(i, "ReciprocalApprox");
    i.all("ftz", "f64");
    i.end(2);
    return i.plain(types.get("f64"), "ReciprocalApproxF64", 1);
  }
  const flags = readFloatFlags(i, { sat: false });
  const type = i.type("f32", "f64");
  checkFloatFlags(i, flags, type);
  i.end(2);
  return i.plain(type, `Reciprocal<${type.name}, ${flags.list}>`, 1);
}

function squareRoot(i) {
  if (i.flag("approx")) return approximated(i, "SquareRootApprox");
  const flags = readFloatFlags(i, { sat: false });
  const type = i.type("f32", "f64");
  checkFloatFlags(i, flags, type);
  i.end(2);
  return i.plain(type, `SquareRoot<${type.name}, ${flags.list}>`, 1);
}

function approxOnly(name) {
  return (i) => {
    i.one("approx");
    return approximated(i, name);
  };
}

function integer(i, name, count) {
  const type = i.type(...integers);
  i.end(count + 1);
  return i.plain(type, `${name}<${type.name}>`, count);
}

function minOrMax(name) {
  return (i) => {
    if (!isFloat(i)) return integer(i, name, 2);
    const ftz = i.flag("ftz");
    const nan = i.flag("NaN");
    const type = i.type("f32", "f64", ...halves);
    if ((type.name === "f64" && (ftz || nan)) || (type.name.startsWith("bf16") && ftz))
      i.fail("not for this type");
    i.end(3);
    return i.plain(type, `${name}Float<${type.name}, ${ftz ? "kFtz" : "0"}, ${nan}>`, 2);
  };
}

function absOrNegate(name) {
  return (i) => {
    if (!isFloat(i)) {
      const type = i.type("s16", "s32", "s64");
      i.end(2);
      return i.plain(type, `${name}<${type.name}>`, 1);
    }
    const ftz = i.flag("ftz");
    const type = i.type("f32", "f64", ...halves);
    if (ftz && type.name !== "f32") i.fail(".ftz is supported for f32 alone");
    i.end(2);
    return i.plain(type, `${name}Float<${type.name}, ${ftz}>`, 1);
  };
}

/** popc and clz: the result has 32 bits. */
function count(name) {
  return (i) => {
    const type = i.type("b32", "b64");
    i.end(2);
    return `${i.destination(0, u32)} = ${name}<${type.name}>(${i.value(1, type)});`;
  };
}

function findLeadingBit(i) {
  const shift = i.flag("shiftamt");
  const type = i.type("u32", "u64", "s32", "s64");
  i.end(2);
  return `${i.destination(0, u32)} = FindLeadingBit<${type.name}, ${shift}>(${i.value(1, type)});`;
}

function dotProduct4(i) {
  const a = i.type("s32", "u32");
  const b = i.type("s32", "u32");
  i.end(4);
  return i.plain(u32, `DotProduct4<${a.name}, ${b.name}>`, 3);
}

export const arithmetic = {
  add: addOrSubtract("Add"),
  sub: addOrSubtract("Subtract"),
  mul: (i) => (isFloat(i) ? float(i, "MultiplyFloat", 2) : multiply(i, false)),
  mad: (i) => multiply(i, true),
  fma: (i) => float(i, "FusedMultiplyAdd", 3),
  mul24: (i) => multiply24(i, false),
  mad24: (i) => multiply24(i, true),
  div: divide,
  rem: (i) => integer(i, "Remainder", 2),
  rcp: reciprocal,
  sqrt: squareRoot,
  rsqrt: approxOnly("ReciprocalSquareRootApprox"),
  ex2: approxOnly("Exp2Approx"),
  lg2: approxOnly("Log2Approx"),
  min: minOrMax("Min"),
  max: minOrMax("Max"),
  abs: absOrNegate("Abs"),
  neg: absOrNegate("Negate"),
  popc: count("PopulationCount"),
  clz: count("LeadingZeros"),
  bfind: findLeadingBit,
  dp4a: dotProduct4,
};
