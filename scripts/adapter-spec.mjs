// node scripts/adapter-spec.mjs ADAPTER: prints where an adapter's factors lie, as logits_cli takes it (the format is
// in test/native/adapter_spec_file.h).
import { createRequire } from "node:module";
import { resolve } from "node:path";

const { readAdapter } = createRequire(import.meta.url)("../dist/adapters/read-adapter.js");

const factor = ({ tensor, dtype, rows, cols, offset, bytes }) => [tensor, dtype, rows, cols, offset, bytes];
const { spec } = await readAdapter(resolve(process.argv[2] ?? ""));
console.log([spec.names, spec.fileBytes, spec.path].join(" "));
for (const { target, scale, a, b } of spec.entries)
  console.log([target, scale, ...factor(a), ...factor(b)].join(" "));
