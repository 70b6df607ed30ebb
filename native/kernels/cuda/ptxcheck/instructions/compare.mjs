// Comparisons and selections.

const ordered = ["eq", "ne", "lt", "le", "gt", "ge"];
const unsigned = ["lo", "ls", "hi", "hs"];
const unordered = ["equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"];
const combinations = { and: "&", or: "|", xor: "^" };

function allowedFor(type) {
  if (type.kind === "float") return [...ordered, ...unordered];
  if (type.kind === "bits") return ["eq", "ne"];
  return type.kind === "unsigned" ? [...ordered, ...unsigned] : ordered;
}

/** setp.CmpOp{.BoolOp}{.ftz}.type p{|q}, a, b{, c}: p = (a op b) bool c, q = !(a op b) bool c */
function setPredicate(i) {
  const comparison = i.one(...ordered, ...unsigned, ...unordered);
  const combine = i.optional("and", "or", "xor");
  const ftz = i.flag("ftz");
  const type = i.type("b16", "b32", "b64", "u16", "u32", "u64", "s16", "s32", "s64", "f32", "f64");
  if (!allowedFor(type).includes(comparison)) i.fail(`.${comparison} does not compare .${type.name}`);
  if (ftz && type.name !== "f32") i.fail(".ftz is for f32");
  i.end(combine ? 4 : 3);
  const name = `Compare${type.kind === "float" ? "Float" : ""}`;
  const arguments_ = `<${type.name}, Comparison::k${comparison[0].toUpperCase()}${comparison.slice(1)}${
    type.kind === "float" ? `, ${ftz}` : ""
  }>`;
  const result = `${name}${arguments_}(${i.value(1, type)}, ${i.value(2, type)})`;
  const combined = combine ? ` ${combinations[combine]} ${i.predicate(3)}` : "";
  const target = i.operand(0);
  const [first, second] = target.kind === "pair" ? [target.first, target.second] : [target, null];
  const lines = [`const bool holds = ${result};`, `const bool p = holds${combined};`];
  if (second) lines.push(`const bool q = !holds${combined};`, i.assign(second, 1, "q"));
  return `{ ${lines.join(" ")} ${i.assign(first, 1, "p")} }`;
}

function select(i) {
  const type = i.type("b16", "b32", "b64", "u16", "u32", "u64", "s16", "s32", "s64", "f32", "f64");
  i.end(4);
  return `${i.destination(0, type)} = ${i.predicate(3)} ? ${i.value(1, type)} : ${i.value(2, type)};`;
}

/** slct: c >= 0 ? a : b */
function selectBySign(i) {
  const ftz = i.flag("ftz");
  const type = i.type("b16", "b32", "b64", "u16", "u32", "u64", "s16", "s32", "s64", "f32", "f64");
  const sign = i.type(...(ftz ? ["f32"] : ["s32", "f32"]));
  i.end(4);
  const holds =
    sign.kind === "float"
      ? `CompareFloat<f32, Comparison::kGe, ${ftz}>(${i.value(3, sign)}, 0u)`
      : `Compare<s32, Comparison::kGe>(${i.value(3, sign)}, 0u)`;
  return `${i.destination(0, type)} = ${holds} ? ${i.value(1, type)} : ${i.value(2, type)};`;
}

export const compare = { setp: setPredicate, selp: select, slct: selectBySign };
