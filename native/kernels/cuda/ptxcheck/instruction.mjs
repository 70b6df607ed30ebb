// One instruction while it is translated: its modifiers, which have to be taken one after the other in the order of
// the PTX ISA's syntax until none is left, and its operands as C++.
import { integerLiteral, PtxError, storage, types } from "./types.mjs";

export class Instruction {
  constructor(statement, kernel) {
    this.line = statement.line;
    this.opcode = statement.opcode;
    this.operands = statement.operands;
    this.usedBytes = statement.usedBytes;
    this.kernel = kernel;
    this.parts = statement.opcode.split(".");
    this.at = 1;
  }

  get base() {
    return this.parts[0];
  }

  fail(what) {
    throw new PtxError(this.line, `${this.opcode}: ${what}`);
  }

  // --- Modifiers

  /** The next modifier when it is one of `names`, else null. */
  optional(...names) {
    const found = names.includes(this.parts[this.at]);
    if (!found) return null;
    this.at += 1;
    return this.parts[this.at - 1];
  }

  flag(name) {
    return this.optional(name) !== null;
  }

  one(...names) {
    const found = this.optional(...names);
    return found ?? this.fail(`expected one of .${names.join(" .")}, found .${this.parts[this.at] ?? ""}`);
  }

  all(...names) {
    for (const name of names) this.one(name);
  }

  type(...names) {
    return types.get(this.one(...names));
  }

  /** Ends the modifiers; the instruction has `least` to `most` operands. */
  end(least, most = least) {
    if (this.at < this.parts.length) this.fail(`modifier .${this.parts[this.at]} is not understood here`);
    const count = this.operands.length;
    if (count < least || count > most) this.fail(`${count} operands, expected ${least}`);
  }

  // --- Operands

  operand(index) {
    return this.operands[index] ?? this.fail(`operand ${index + 1} is missing`);
  }

  /** C++ for the bits of an operand, which is exactly as wide as the type. */
  value(index, type) {
    return this.valueOf(this.operand(index), type.width);
  }

  valueOf(operand, width) {
    if (operand.kind === "register") {
      const { register } = operand;
      if (register.width !== width) this.fail(`${register.source} has ${register.width} bits, not ${width}`);
      return register.name;
    }
    if (operand.kind === "integer") {
      return (
        integerLiteral(operand.value, width) ?? this.fail(`${operand.value} does not fit into ${width} bits`)
      );
    }
    if (operand.kind === "float" && operand.width === width) {
      return `0x${operand.digits}${width === 64 ? "ull" : "u"}`;
    }
    return this.fail(`an operand of kind "${operand.kind}" is not understood here`);
  }

  /** The low bits of an operand that may be wider than the type. */
  narrowed(operand, type) {
    if (operand.kind !== "register" || operand.register.width < type.width) {
      return this.valueOf(operand, type.width);
    }
    return `${storage(type.width)}(${operand.register.name})`;
  }

  integer(index) {
    const operand = this.operand(index);
    if (operand.kind !== "integer") this.fail(`operand ${index + 1} has to be an integer`);
    return operand.value;
  }

  /** A predicate that is read: p or !p. */
  predicate(index) {
    const operand = this.operand(index);
    if (operand.kind === "not") return `!${this.valueOf(operand.operand, 1)}`;
    return this.valueOf(operand, 1);
  }

  /** A register that is written. */
  destination(index, type) {
    return this.destinationOf(this.operand(index), type.width);
  }

  destinationOf(operand, width) {
    if (operand.kind !== "register") this.fail(`cannot write to an operand of kind "${operand.kind}"`);
    return this.valueOf(operand, width);
  }

  /** The C++ of `target = expression`, or of the expression alone where the target is `_`. */
  assign(operand, width, expression) {
    if (operand.kind === "sink") return `static_cast<void>(${expression});`;
    return `${this.destinationOf(operand, width)} = ${expression};`;
  }

  /** The items of a vector of `count` operands; a lone operand counts as one. */
  items(index, count) {
    const operand = this.operand(index);
    const items = operand.kind === "vector" ? operand.items : [operand];
    if (items.length !== count) this.fail(`operand ${index + 1} has ${items.length} elements, not ${count}`);
    return items;
  }

  /** `d = function(operands…)` where all are of one type. */
  plain(type, call, count) {
    const values = [];
    for (let index = 1; index <= count; index += 1) values.push(this.value(index, type));
    return `${this.destination(0, type)} = ${call}(${values.join(", ")});`;
  }
}
