// Loads, stores, atomics, fences, asynchronous copies. All accesses go through the emulator's checks.
import { address, spaceName } from "../addresses.mjs";
import { storage, types } from "../types.mjs";

const elements = [
  "b8",
  "b16",
  "b32",
  "b64",
  "u8",
  "u16",
  "u32",
  "u64",
  "s8",
  "s16",
  "s32",
  "s64",
  "f32",
  "f64",
];
const u32 = types.get("u32");

/** Where lines are kept and how much is read ahead: no effect on results. */
function skipCacheHints(i) {
  i.optional(
    "L1::evict_normal",
    "L1::evict_unchanged",
    "L1::evict_first",
    "L1::evict_last",
    "L1::no_allocate",
  );
  i.optional("L2::64B", "L2::128B", "L2::256B");
}

function readSpace(i, ...allowed) {
  return (i.optional(...allowed, "shared::cta") ?? "generic").replace("::cta", "");
}

function readVectorSize(i) {
  const vector = i.optional("v2", "v4");
  return vector ? Number(vector[1]) : 1;
}

/** The bits of one loaded element in its register, which may be wider. */
function assignLoaded(i, operand, type, element) {
  if (operand.kind === "sink") return "";
  const width = operand.kind === "register" ? operand.register.width : 0;
  if (width < type.width) i.fail(`the destination holds no ${type.name}`);
  if (width > type.width && type.kind === "float") i.fail("a float in a wider register");
  return i.assign(operand, width, `Widen<${storage(width)}, ${type.name}>(${element})`);
}

function load(i) {
  i.optional("weak");
  const space = readSpace(i, "global", "shared", "local", "param");
  i.optional("ca", "cg", "cs", "lu");
  if (i.flag("nc") && space !== "global") i.fail(".nc is for global memory");
  skipCacheHints(i);
  const count = readVectorSize(i);
  const type = i.type(...elements);
  i.end(2);
  const used = i.usedBytes === null ? "" : `, 0x${i.usedBytes.toString(16)}`;
  const call = `t.Load<${spaceName(space)}, ${storage(type.width)}, ${count}${used}>(${address(i, 1, space)})`;
  const lines = i.items(0, count).map((item, at) => assignLoaded(i, item, type, `loaded[${at}]`));
  return `{ const auto loaded = ${call}; ${lines.join(" ")} }`;
}

function store(i) {
  i.optional("weak");
  const space = readSpace(i, "global", "shared", "local");
  i.optional("wb", "cg", "cs", "wt");
  skipCacheHints(i);
  const count = readVectorSize(i);
  const type = i.type(...elements);
  i.end(2);
  const values = i.items(1, count).map((item) => i.narrowed(item, type));
  const bits = storage(type.width);
  return `t.Store<${spaceName(space)}, ${bits}, ${count}>(${address(i, 0, space)}, {${values.join(", ")}});`;
}

const atomicTypes = {
  add: ["u32", "s32", "u64", "f32", "f64"],
  min: ["u32", "s32", "u64", "s64"],
  max: ["u32", "s32", "u64", "s64"],
  and: ["b32", "b64"],
  or: ["b32", "b64"],
  xor: ["b32", "b64"],
  exch: ["b32", "b64"],
  cas: ["b32", "b64"],
};

/** C++ for what an atomic operation leaves in memory, from `old` and the operands. */
function atomicResult(operation, type, [b, c]) {
  if (operation === "exch") return b;
  if (operation === "cas") return `old == ${b} ? ${c} : old`;
  if (operation === "add" && type.kind === "float") return `AddFloat<${type.name}, kRn>(old, ${b})`;
  const name = { add: "Add", min: "Min", max: "Max" }[operation];
  if (name) return `${name}<${type.name}>(old, ${b})`;
  return `old ${{ and: "&", or: "|", xor: "^" }[operation]} ${b}`;
}

function readAtomic(i) {
  i.optional("relaxed");
  i.optional("cta", "gpu");
  const space = readSpace(i, "global", "shared");
  const operation = i.one(...Object.keys(atomicTypes));
  return { space, operation, type: i.type(...atomicTypes[operation]) };
}

/** atom d, [a], b{, c} and red [a], b: `first` is the address's index. */
function atomic(i, first) {
  const { space, operation, type } = readAtomic(i);
  const inputs = operation === "cas" ? 2 : 1;
  i.end(first + 1 + inputs);
  const values = [];
  for (let index = 1; index <= inputs; index += 1) values.push(i.value(first + index, type));
  const bits = storage(type.width);
  const change = `[&](${bits} old) -> ${bits} { return ${atomicResult(operation, type, values)}; }`;
  const call = `t.Atomic<${spaceName(space)}, ${bits}>(${address(i, first, space)}, ${change})`;
  return first === 0 ? `${call};` : i.assign(i.operand(0), type.width, call);
}

function membar(i) {
  const level = i.one("cta", "gl", "sys");
  i.end(0);
  return level === "cta" ? "t.FenceBlock();" : "t.FenceDevice();";
}

function fence(i) {
  i.optional("sc", "acq_rel");
  const scope = i.one("cta", "gpu", "sys");
  i.end(0);
  return scope === "cta" ? "t.FenceBlock();" : "t.FenceDevice();";
}

/** cp.async.{ca,cg}.shared.global [to], [from], bytes{, bytes that are read}: the rest is filled with zeros. */
function copyAsync(i) {
  const level = i.one("ca", "cg");
  i.one("shared", "shared::cta");
  i.one("global");
  i.optional("L2::64B", "L2::128B", "L2::256B");
  i.end(3, 4);
  const bytes = i.integer(2);
  const sizes = level === "cg" ? [16n] : [4n, 8n, 16n];
  if (!sizes.includes(bytes)) i.fail(`.${level} does not copy ${bytes} bytes`);
  const read = i.operands.length === 4 ? i.value(3, u32) : `${bytes}u`;
  return `t.CopyAsync<${bytes}>(${address(i, 0, "shared")}, ${address(i, 1, "global")}, ${read});`;
}

function copy(i) {
  i.one("async");
  const kind = i.optional("commit_group", "wait_group", "wait_all");
  if (!kind) return copyAsync(i);
  i.end(kind === "wait_group" ? 1 : 0);
  if (kind === "commit_group") return "t.CopyCommit();";
  return kind === "wait_all" ? "t.CopyWaitAll();" : `t.CopyWait(${i.integer(0)});`;
}

export const memory = {
  ld: load,
  st: store,
  atom: (i) => atomic(i, 1),
  red: (i) => atomic(i, 0),
  membar,
  fence,
  cp: copy,
};
