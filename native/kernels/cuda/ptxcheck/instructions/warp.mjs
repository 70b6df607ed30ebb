// Barriers and what the lanes of a warp do together.
import { address } from "../addresses.mjs";
import { types } from "../types.mjs";

const u32 = types.get("u32");
const b32 = types.get("b32");

/** bar.sync 0, barrier.sync.aligned 0: all threads of the block. */
function barrier(i) {
  if (i.base === "bar" && i.flag("warp")) {
    i.one("sync");
    i.end(1);
    return `t.SyncWarp(${i.value(0, b32)});`;
  }
  i.optional("cta");
  i.one("sync");
  i.optional("aligned");
  i.end(1);
  if (i.integer(0) !== 0n) i.fail("barriers other than 0 are not supported");
  return "t.SyncBlock();";
}

function vote(i) {
  i.one("sync");
  const kind = i.one("ballot", "all", "any", "uni");
  const type = i.type(kind === "ballot" ? "b32" : "pred");
  i.end(3);
  const name = `Vote${kind[0].toUpperCase()}${kind.slice(1)}`;
  return `${i.destination(0, type)} = t.${name}(${i.predicate(1)}, ${i.value(2, b32)});`;
}

/** shfl.sync.mode.b32 d|p, a, b, c, mask: p says whether the source lane lay within bounds. */
function shuffle(i) {
  i.one("sync");
  const mode = i.one("up", "down", "bfly", "idx");
  i.one("b32");
  i.end(5);
  const target = i.operand(0);
  const [value, valid] = target.kind === "pair" ? [target.first, target.second] : [target, { kind: "sink" }];
  const inputs = [i.value(1, b32), i.value(2, b32), i.value(3, b32), i.value(4, b32)];
  const call = `t.Shuffle<ShuffleMode::k${mode[0].toUpperCase()}${mode.slice(1)}>(${inputs.join(", ")})`;
  const lines = [i.assign(value, 32, "shuffled.value")];
  if (valid.kind !== "sink") lines.push(i.assign(valid, 1, "shuffled.valid"));
  return `{ const auto shuffled = ${call}; ${lines.join(" ")} }`;
}

function loadMatrix(i) {
  i.all("sync", "aligned", "m8n8");
  const count = Number(i.one("x1", "x2", "x4")[1]);
  const transposed = i.flag("trans");
  i.one("shared", "shared::cta");
  i.one("b16");
  i.end(2);
  const lines = i.items(0, count).map((item, at) => i.assign(item, 32, `matrices[${at}]`));
  const call = `t.LoadMatrix<${count}, ${transposed}>(${address(i, 1, "shared")})`;
  return `{ const auto matrices = ${call}; ${lines.join(" ")} }`;
}

/** Shapes of mma.sync: element types of A and B → k → registers of A and of B. */
const shapes = {
  f16: { m16n8k8: [2, 1], m16n8k16: [4, 2] },
  bf16: { m16n8k8: [2, 1], m16n8k16: [4, 2] },
  s8: { m16n8k16: [2, 1], m16n8k32: [4, 2] },
  u8: { m16n8k16: [2, 1], m16n8k32: [4, 2] },
};

function readShape(i) {
  i.all("sync", "aligned");
  const shape = i.one("m16n8k8", "m16n8k16", "m16n8k32");
  i.all("row", "col");
  const sum = i.one("f32", "s32");
  const a = i.one(...(sum === "f32" ? ["f16", "bf16"] : ["s8", "u8"]));
  const b = i.one(...(sum === "f32" ? [a] : ["s8", "u8"]));
  i.one(sum);
  i.end(4);
  const registers = shapes[a][shape] ?? i.fail(`.${shape} is not a shape of .${a}`);
  return { k: Number(shape.slice(6)), a, b, registers };
}

function multiplyMatrices(i) {
  const { k, a, b, registers } = readShape(i);
  const list = (index, count) =>
    `{${i
      .items(index, count)
      .map((item) => i.valueOf(item, 32))
      .join(", ")}}`;
  const inputs = [list(1, registers[0]), list(2, registers[1]), list(3, 4)];
  const call = `t.MultiplyMatrices<${k}, ${a}, ${b}>(${inputs.join(", ")})`;
  const lines = i.items(0, 4).map((item, at) => i.assign(item, 32, `sums[${at}]`));
  return `{ const auto sums = ${call}; ${lines.join(" ")} }`;
}

const reductions = { add: "Add", min: "Min", max: "Max", and: "And", or: "Or", xor: "Xor" };

function reduce(i) {
  i.one("sync");
  const operation = i.one(...Object.keys(reductions));
  const type = i.type(...(["and", "or", "xor"].includes(operation) ? ["b32"] : ["u32", "s32"]));
  i.end(3);
  const name = `Reduce<${type.name}, Reduction::k${reductions[operation]}>`;
  return `${i.destination(0, u32)} = t.${name}(${i.value(1, type)}, ${i.value(2, b32)});`;
}

export const warp = {
  bar: barrier,
  barrier,
  vote,
  shfl: shuffle,
  ldmatrix: loadMatrix,
  mma: multiplyMatrices,
  redux: reduce,
};
