// PTX's types: what modifiers such as .s32 mean, and how wide registers are.

/** Everything the translator refuses; the message carries the line of the PTX file. */
export class PtxError extends Error {
  constructor(line, what) {
    super(`line ${line}: ${what}`);
    this.line = line;
  }
}

const kinds = { s: "signed", u: "unsigned", b: "bits", f: "float" };

function widths(letter, bits) {
  return bits.map((width) => [
    `${letter}${width}`,
    { name: `${letter}${width}`, kind: kinds[letter], width },
  ]);
}

/** name → { name, kind, width in bits } */
export const types = new Map([
  ...widths("s", [8, 16, 32, 64]),
  ...widths("u", [8, 16, 32, 64]),
  ...widths("b", [8, 16, 32, 64]),
  ...widths("f", [16, 32, 64]),
  ["bf16", { name: "bf16", kind: "float", width: 16 }],
  ["f16x2", { name: "f16x2", kind: "float", width: 32 }],
  ["bf16x2", { name: "bf16x2", kind: "float", width: 32 }],
  ["pred", { name: "pred", kind: "pred", width: 1 }],
]);

/** The C++ type that holds a register's bits. */
export function storage(width) {
  return width === 1 ? "bool" : `uint${width}_t`;
}

const mask = (width) => (1n << BigInt(width)) - 1n;

/** A C++ literal of `width` bits for an integer, which may be negative; null where it does not fit. */
export function integerLiteral(value, width) {
  if (width === 1) return String(value !== 0n);
  if (value > mask(width) || value < -(1n << BigInt(width - 1))) return null;
  const digits = `0x${(value & mask(width)).toString(16)}`;
  if (width === 64) return `${digits}ull`;
  return width === 32 ? `${digits}u` : `uint${width}_t(${digits}u)`;
}
