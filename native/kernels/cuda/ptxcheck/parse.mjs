// Reads a PTX file into a module:
//
//   { target, variables: [Variable], kernels: [Kernel] }
//   Variable { name, space, align, bytes }                               bytes: 0 for extern name[]
//   Kernel   { name, parameters: [{ name, align, offset, bytes }], parameterBytes, threadsMax,
//              registers: [{ name, width }], variables: [Variable], statements, line }
//   statement { kind: "label", name } | { kind: "instruction", guard: null | { register, negated }, opcode, operands,
//              usedBytes: null | bit mask, line } | { kind: "targets", name, labels }
import { readOperand } from "./operands.mjs";
import { Cursor, tokenize } from "./tokens.mjs";
import { types } from "./types.mjs";
import { readVariable } from "./variables.mjs";

/** Registers and variables that are visible at a place of a kernel's body. */
class Scope {
  constructor(kernel, symbols) {
    this.kernel = kernel;
    this.symbols = symbols;
    this.levels = [new Map()];
    this.usedBytes = null;
  }

  open() {
    this.levels.push(new Map());
  }

  close() {
    this.levels.pop();
  }

  get depth() {
    return this.levels.length;
  }

  declare(name, width) {
    const register = {
      name: `${name.replace(/\W/g, "")}_${this.kernel.registers.length}`,
      width,
      source: name,
    };
    this.kernel.registers.push(register);
    this.levels.at(-1).set(name, register);
  }

  register(name) {
    for (let level = this.levels.length - 1; level >= 0; level -= 1) {
      const found = this.levels[level].get(name);
      if (found) return found;
    }
    return undefined;
  }

  isSymbol(name) {
    return this.symbols.has(name);
  }
}

function readType(cursor) {
  const word = cursor.word();
  const type = types.get(word.slice(1));
  if (!word.startsWith(".") || !type) cursor.fail(`unknown type ${word}`);
  return type;
}

/** .reg .b32 %r<8>, %temp; */
function readRegisters(cursor, scope) {
  const { width } = readType(cursor);
  if (width === 8) cursor.fail("registers of 8 bits are not supported");
  do {
    const name = cursor.word();
    if (cursor.accept("<")) {
      const count = Number(cursor.integer());
      cursor.expect(">");
      for (let index = 0; index < count; index += 1) scope.declare(`${name}${index}`, width);
    } else {
      scope.declare(name, width);
    }
  } while (cursor.accept(","));
  cursor.expect(";");
}

function readParameters(cursor, kernel) {
  cursor.expect("(");
  let end = 0;
  while (!cursor.is(")")) {
    cursor.expect(".param");
    const parameter = readVariable(cursor, "param");
    const offset = Math.ceil(end / parameter.align) * parameter.align;
    kernel.parameters.push({ ...parameter, offset });
    end = offset + parameter.bytes;
    if (!cursor.is(")")) cursor.expect(",");
  }
  cursor.expect(")");
  kernel.parameterBytes = end;
}

/** .maxntid 128, 1, 1 and its like, up to the body. */
function readKernelDirectives(cursor, kernel) {
  while (!cursor.is("{")) {
    const directive = cursor.word();
    if (![".maxntid", ".minnctapersm", ".maxnreg"].includes(directive)) {
      cursor.fail(`unknown directive ${directive}`);
    }
    const values = [cursor.integer()];
    while (cursor.accept(",")) values.push(cursor.integer());
    if (directive === ".maxntid")
      kernel.threadsMax = Number(values.reduce((product, value) => product * value));
  }
}

function readGuard(cursor, scope) {
  if (!cursor.accept("@")) return null;
  const negated = cursor.accept("!");
  const register = scope.register(cursor.word());
  if (register?.width !== 1) cursor.fail("a guard has to be a predicate register");
  return { register, negated };
}

function readInstruction(cursor, scope) {
  const { line } = cursor;
  const guard = readGuard(cursor, scope);
  const opcode = cursor.word();
  const operands = [];
  while (!cursor.is(";")) {
    operands.push(readOperand(cursor, scope));
    if (!cursor.is(";")) cursor.expect(",");
  }
  cursor.expect(";");
  const { usedBytes } = scope;
  scope.usedBytes = null;
  return { kind: "instruction", guard, opcode, operands, usedBytes, line };
}

/** "nounroll", and which bytes of what the next instruction loads are used: "used_bytes_mask 61455". */
function readPragma(cursor, scope) {
  const pragma = cursor.next().text;
  const mask = /^"used_bytes_mask (\w+)"$/.exec(pragma);
  if (mask) scope.usedBytes = BigInt(mask[1]);
  else if (pragma !== '"nounroll"') cursor.fail(`unknown pragma ${pragma}`);
  cursor.expect(";");
}

/** The labels of an indirect branch, after `name: .branchtargets`. */
function readTargets(cursor, name) {
  const labels = [];
  do labels.push(cursor.word());
  while (cursor.accept(","));
  cursor.expect(";");
  return { kind: "targets", name, labels };
}

function readLabelled(cursor) {
  const { line } = cursor;
  const name = cursor.word();
  cursor.expect(":");
  if (cursor.accept(".branchtargets")) return readTargets(cursor, name);
  return { kind: "label", name, line };
}

function readDirective(cursor, scope) {
  const directive = cursor.word();
  if (directive === ".reg") {
    readRegisters(cursor, scope);
  } else if (directive === ".local") {
    const variable = readVariable(cursor, "local");
    scope.kernel.variables.push(variable);
    scope.symbols.set(variable.name, variable);
    cursor.expect(";");
  } else if (directive === ".pragma") {
    readPragma(cursor, scope);
  } else {
    cursor.fail(`unknown directive ${directive}`);
  }
}

function readBody(cursor, scope) {
  const { statements } = scope.kernel;
  cursor.expect("{");
  const depth = scope.depth;
  while (!(cursor.is("}") && scope.depth === depth)) {
    if (cursor.ended) cursor.fail("the file ends within a kernel");
    if (cursor.accept("{")) scope.open();
    else if (cursor.accept("}")) scope.close();
    else if (cursor.is("@")) statements.push(readInstruction(cursor, scope));
    else if (cursor.token.text.startsWith(".")) readDirective(cursor, scope);
    else if (cursor.tokens[cursor.at + 1].text === ":") statements.push(readLabelled(cursor));
    else statements.push(readInstruction(cursor, scope));
  }
  cursor.expect("}");
}

function readKernel(cursor, module) {
  const { line } = cursor;
  const kernel = {
    name: cursor.word(),
    parameters: [],
    parameterBytes: 0,
    threadsMax: 1024,
    registers: [],
    variables: [],
    statements: [],
    line,
  };
  readParameters(cursor, kernel);
  readKernelDirectives(cursor, kernel);
  const symbols = new Map([...module.variables, ...kernel.parameters].map((symbol) => [symbol.name, symbol]));
  readBody(cursor, new Scope(kernel, symbols));
  return { ...kernel, symbols };
}

function readHeader(cursor, module, directive) {
  if (directive === ".version") {
    cursor.next();
  } else if (directive === ".target") {
    module.target = cursor.word();
  } else {
    const { line } = cursor;
    const bits = cursor.integer();
    if (bits !== 64n) cursor.fail(`addresses of ${bits} bits are not supported`, line);
  }
}

function readTopLevel(cursor, module) {
  const directive = cursor.word();
  if ([".version", ".target", ".address_size"].includes(directive)) {
    readHeader(cursor, module, directive);
  } else if (directive === ".entry") {
    module.kernels.push(readKernel(cursor, module));
  } else if (directive === ".shared") {
    module.variables.push(readVariable(cursor, directive.slice(1)));
    cursor.expect(";");
  } else if (![".extern", ".visible", ".weak"].includes(directive)) {
    cursor.fail(`unknown directive ${directive}`);
  }
}

export function parse(text) {
  const cursor = new Cursor(tokenize(text));
  const module = { target: "", variables: [], kernels: [] };
  while (!cursor.ended) readTopLevel(cursor, module);
  return module;
}
