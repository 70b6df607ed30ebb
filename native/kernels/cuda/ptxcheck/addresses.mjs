// Addresses: those of variables and parameters, and what stands in brackets.
import { integerLiteral } from "./types.mjs";

/** C++ for the address, in its own state space, of a variable or parameter. */
function symbolAddress(i, { name, offset }) {
  const symbol = i.kernel.symbols.get(name) ?? i.fail(`unknown symbol ${name}`);
  const shift = integerLiteral(offset, 64);
  if (symbol.space === "param") return `(kParameterBase + ${symbol.offset} + ${shift})`;
  if (symbol.space === "local") return `(t.LocalBase() + ${symbol.offset} + ${shift})`;
  if (symbol.space === "shared" && symbol.bytes === 0) return `(kSharedBase + ${shift})`;
  return i.fail(`a variable of ${symbol.space} memory is not supported: ${name}`);
}

export function spaceOfSymbol(i, operand) {
  return (i.kernel.symbols.get(operand.name) ?? i.fail(`unknown symbol ${operand.name}`)).space;
}

/** A symbol's address in `width` bits, as mov gives it. */
export function symbolValue(i, operand, width) {
  const address = symbolAddress(i, operand);
  if (width === 64) return address;
  if (width === 32 && spaceOfSymbol(i, operand) === "shared") return `uint32_t(${address})`;
  return i.fail(`${width} bits do not hold the address of ${operand.name}`);
}

/** C++ for the address [base + offset] in a state space, 64 bits wide. */
export function address(i, index, space) {
  const operand = i.operand(index);
  if (operand.kind !== "address") i.fail(`operand ${index + 1} has to be an address`);
  const { base, offset } = operand;
  if (base === null) return i.fail("an address without a base is not supported");
  if (base.kind === "symbol") {
    if (spaceOfSymbol(i, base) !== space) i.fail(`${base.name} is not in ${space} memory`);
    return symbolAddress(i, { name: base.name, offset });
  }
  const { register } = base;
  if (register.width === 64) return `(${register.name} + ${integerLiteral(offset, 64)})`;
  if (register.width !== 32 || space !== "shared")
    i.fail(`${register.source} cannot hold an address of ${space} memory`);
  return `uint32_t(${register.name} + ${integerLiteral(offset, 32)})`;
}

/** The C++ name of a state space. */
export function spaceName(space) {
  return `Space::k${space[0].toUpperCase()}${space.slice(1)}`;
}
