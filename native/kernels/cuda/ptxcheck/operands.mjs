// Reads an instruction's operands.
//
//   { kind: "register", register }            %r1
//   { kind: "integer", value }                -4, 0xEA
//   { kind: "float", width, digits }          0f3F800000, 0d3FF0000000000000
//   { kind: "special", name }                 %tid.x
//   { kind: "symbol", name, offset }          a variable's or parameter's address, or a label
//   { kind: "sink" }                          _
//   { kind: "not", operand }                  !%p1
//   { kind: "pair", first, second }           %r1|%p2
//   { kind: "vector", items }                 {%r1, %r2}
//   { kind: "address", base, offset }         [%rd1+8], [symbol], [16]

const specials = new Set([
  ...["tid", "ntid", "ctaid", "nctaid"].flatMap((name) => ["x", "y", "z"].map((axis) => `%${name}.${axis}`)),
  ...["%laneid", "%lanemask_eq", "%lanemask_le", "%lanemask_lt", "%lanemask_ge", "%lanemask_gt"],
]);

function readOffset(cursor) {
  if (cursor.accept("+")) return cursor.integer();
  return cursor.is("-") ? cursor.integer() : 0n;
}

function readName(cursor, scope) {
  const { line } = cursor;
  const name = cursor.word();
  if (name === "_") return { kind: "sink" };
  if (specials.has(name)) return { kind: "special", name };
  const register = scope.register(name);
  if (register) return { kind: "register", register };
  if (name.startsWith("%") && !scope.isSymbol(name)) cursor.fail(`unknown register ${name}`);
  return { kind: "symbol", name, offset: 0n, line };
}

function readAddress(cursor, scope) {
  cursor.expect("[");
  let base = null;
  let offset = 0n;
  if (cursor.token.kind === "integer") {
    offset = cursor.integer();
  } else {
    base = readName(cursor, scope);
    if (base.kind !== "register" && base.kind !== "symbol") cursor.fail("not an address");
    offset = readOffset(cursor);
  }
  cursor.expect("]");
  return { kind: "address", base, offset };
}

function readVector(cursor, scope) {
  cursor.expect("{");
  const items = [];
  do items.push(readSimple(cursor, scope));
  while (cursor.accept(","));
  cursor.expect("}");
  return { kind: "vector", items };
}

function readSimple(cursor, scope) {
  const { kind, text } = cursor.token;
  if (kind === "integer" || text === "-") return { kind: "integer", value: cursor.integer() };
  if (kind === "float") {
    cursor.next();
    return { kind: "float", width: /^0f/i.test(text) ? 32 : 64, digits: text.slice(2) };
  }
  return readName(cursor, scope);
}

export function readOperand(cursor, scope) {
  if (cursor.is("[")) return readAddress(cursor, scope);
  if (cursor.is("{")) return readVector(cursor, scope);
  if (cursor.accept("!")) return { kind: "not", operand: readSimple(cursor, scope) };
  const operand = readSimple(cursor, scope);
  if (cursor.accept("|")) return { kind: "pair", first: operand, second: readSimple(cursor, scope) };
  if (operand.kind === "symbol") operand.offset = readOffset(cursor);
  return operand;
}
