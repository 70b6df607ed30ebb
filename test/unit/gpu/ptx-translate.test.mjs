// The translator of PTX stops, with the line, at whatever it does not know.
import assert from "node:assert/strict";
import { test } from "node:test";
import { translate } from "../../../native/kernels/cuda/ptxcheck/translate.mjs";

/** A kernel with one line of its own, its tenth. */
function kernel(line, header = "") {
  return `.version 9.0
.target sm_80
.address_size 64 ${header}
.visible .entry k(.param .align 8 .b8 k_param_0[64])
{
.reg .b16 %h<8>; .reg .b32 %r<8>; .reg .b64 %d<8>; .reg .pred %p<8>;
.reg .f32 %f<8>;


${line}
L1:
ret;
}
`;
}

function translateLine(line) {
  return translate(kernel(line), "k.ptx");
}

const refused = [
  ["unknown opcodes", "frobnicate.b32 %r0, %r1;", /unknown opcode/],
  ["opcodes that are not carried out", "nanosleep.u32 %r0;", /unknown opcode/],
  ["unknown modifiers", "add.fancy.s32 %r0, %r1, %r2;", /\.fancy/],
  ["modifiers that are left over", "shl.b32.wrap %r0, %r1, %r2;", /\.wrap/],
  ["modifiers of another instruction", "mul.wide.s64 %d0, %d1, %d2;", /\.s64/],
  ["missing modifiers", "mul.s32 %r0, %r1, %r2;", /\.lo \.hi \.wide/],
  ["sums that ptxas may contract", "add.f32 %r0, %r1, %r2;", /expected one of \.rn/],
  ["products that ptxas may contract", "mul.f64 %d0, %d1, %d2;", /expected one of \.rn/],
  [".ftz of f64", "add.rn.ftz.f64 %d0, %d1, %d2;", /\.ftz/],
  ["rounding of f16 other than to nearest", "add.rz.f16 %h0, %h1, %h2;", /\.rn alone/],
  ["registers of another width", "add.s32 %r0, %r1, %d2;", /%d2 has 64 bits, not 32/],
  ["results of another width", "mul.wide.s32 %r0, %r1, %r2;", /%r0 has 32 bits, not 64/],
  ["immediates that do not fit", "add.s32 %r0, %r1, 0x123456789;", /does not fit/],
  ["unknown registers", "add.s32 %r0, %r1, %x2;", /unknown register %x2/],
  ["too few operands", "add.s32 %r0, %r1;", /2 operands/],
  ["too many operands", "add.s32 %r0, %r1, %r2, %r3;", /4 operands/],
  ["a truth table that is none", "lop3.b32 %r0, %r1, %r2, %r3, 256;", /table/],
  ["comparisons of another type", "setp.geu.s32 %p0, %r1, %r2;", /\.geu/],
  ["order of bits", "setp.lt.b32 %p0, %r1, %r2;", /\.lt/],
  ["conversions without rounding", "cvt.f16.f32 %h0, %f1;", /how to round/],
  ["rounding of widening", "cvt.rn.f32.f16 %f0, %h1;", /not rounded/],
  ["loads of unknown spaces", "ld.surface.b32 %r0, [%d1];", /\.surface/],
  ["loads with an order", "ld.acquire.gpu.global.b32 %r0, [%d1];", /\.acquire/],
  ["volatile loads", "ld.volatile.global.b32 %r0, [%d1];", /\.volatile/],
  ["vectors of another size", "ld.global.v4.b32 {%r0, %r1}, [%d1];", /2 elements, not 4/],
  ["loads into narrower registers", "ld.global.b32 %h0, [%d1];", /holds no b32/],
  ["addresses of 32 bits in global memory", "ld.global.b32 %r0, [%r1];", /cannot hold an address/],
  ["parameters in another space", "ld.global.b32 %r0, [k_param_0];", /not in global memory/],
  ["unknown symbols", "ld.shared.b32 %r0, [nothing];", /unknown symbol/],
  ["atomics that are not known", "atom.global.inc.u32 %r0, [%d1], %r2;", /\.inc/],
  ["atomics with an order", "atom.acq_rel.gpu.global.add.u32 %r0, [%d1], %r2;", /acq_rel/],
  ["other barriers", "bar.sync 1;", /barriers other than 0/],
  ["barriers of a part of the block", "bar.sync 0, 64;", /2 operands/],
  [
    "shapes of other matrices",
    "mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32 {%r0}, {%r1}, {%r2}, {%r3};",
    /m8n8k4/,
  ],
  ["other layouts", "mma.sync.aligned.m16n8k16.row.row.f32.f16.f16.f32 {%r0}, {%r1}, {%r2}, {%r3};", /\.row/],
  [
    "fragments of another size",
    "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%r0,%r1,%r2,%r3}, {%r0,%r1}, {%r2,%r3}, {%r0,%r1,%r2,%r3};",
    /2 elements, not 4/,
  ],
  ["ldmatrix of bytes", "ldmatrix.sync.aligned.m8n8.x1.shared.b8 {%r0}, [%r1];", /\.b8/],
  ["copies of other sizes", "cp.async.cg.shared.global [%r0], [%d1], 8;", /8 bytes/],
  ["unknown special registers", "mov.u32 %r0, %clock;", /unknown register %clock/],
  ["unknown labels", "bra L7;", /unknown label/],
  ["guards that are no predicates", "@%r1 ret;", /guard/],
  ["calls", "call.uni foo;", /unknown opcode/],
  ["unknown directives in a body", '.pragma "fast";', /unknown pragma/],
  ["masks of bytes without a load", '.pragma "used_bytes_mask 15"; add.s32 %r0, %r1, %r2;', /without a load/],
  ["variables in a body", ".shared .b32 x;", /unknown directive/],
];

for (const [what, line, expected] of refused) {
  test(`refuses ${what}`, () => {
    assert.throws(
      () => translateLine(line),
      (error) => {
        assert.match(error.message, expected);
        assert.match(error.message, /^line 10: /);
        return true;
      },
    );
  });
}

test("refuses what it does not know beside kernels", () => {
  assert.throws(
    () => translate(kernel("", ".global .b32 x = 1;"), "k.ptx"),
    /line 3: unknown directive \.global/,
  );
  assert.throws(
    () => translate(kernel("", ".visible .func f()"), "k.ptx"),
    /line 3: unknown directive \.func/,
  );
  assert.throws(
    () => translate(kernel("").replace("size 64", "size 32"), "k.ptx"),
    /line 3: addresses of 32 bits/,
  );
});

test("takes the same lines without the fault", () => {
  for (const line of [
    "add.s32 %r0, %r1, %r2;",
    "mul.lo.s32 %r0, %r1, -3;",
    "add.rn.ftz.f32 %r0, %r1, 0f3F800000;",
    "@!%p1 bra L1;",
    "ld.global.nc.L1::no_allocate.L2::128B.v2.u8 {%h0, %r1}, [%d1+-8];",
    "atom.relaxed.gpu.global.add.u32 %r0, [%d1], %r2;",
    "cp.async.ca.shared.global.L2::128B [%r0], [%d1], 16, %r2;",
    '.pragma "nounroll";',
  ]) {
    assert.match(translateLine(line), /static void k_body/);
  }
});

test("gives each block of braces registers of its own", () => {
  const code = translateLine("{ .reg .b32 %t; mov.b32 %t, 1; } { .reg .b64 %t; mov.b64 %t, 1; }");
  assert.match(code, /uint32_t t_\d+ = /);
  assert.match(code, /uint64_t t_\d+ = /);
});
