// Writes a module as C++: one function a kernel, registers as variables that hold bits, labels and goto.
import { Instruction } from "./instruction.mjs";
import { labelName } from "./instructions/flow.mjs";
import { instructions } from "./instructions/index.mjs";
import { PtxError, storage } from "./types.mjs";

/** Registers hold this before they are written. */
function poison(width) {
  return width === 1 ? "true" : `uint${width}_t(kPoison)`;
}

function emitRegisters(kernel) {
  return kernel.registers.map(({ name, width }) => `  ${storage(width)} ${name} = ${poison(width)};`);
}

function emitInstruction(statement, kernel) {
  const instruction = new Instruction(statement, kernel);
  const translate = instructions.get(instruction.base);
  if (!translate) throw new PtxError(statement.line, `unknown opcode ${statement.opcode}`);
  if (statement.usedBytes !== null && instruction.base !== "ld")
    instruction.fail("a mask of bytes without a load");
  const code = translate(instruction);
  const { guard } = statement;
  return guard ? `if (${guard.negated ? "!" : ""}${guard.register.name}) { ${code} }` : code;
}

/** Gives local variables their places one after the other; the whole size in bytes. */
function placeLocals(kernel) {
  let end = 0;
  for (const variable of kernel.variables) {
    variable.offset = Math.ceil(end / variable.align) * variable.align;
    end = variable.offset + variable.bytes;
  }
  return end;
}

function indexLabels(kernel) {
  const { statements } = kernel;
  kernel.labels = new Set(statements.filter(({ kind }) => kind === "label").map(({ name }) => name));
  kernel.targets = new Map(
    statements.filter(({ kind }) => kind === "targets").map(({ name, labels }) => [name, labels]),
  );
}

/** Line numbers of the PTX file stand before its instructions, so that the emulator's reports give them. */
function emitStatement(statement, kernel, source) {
  if (statement.kind === "label") return [`${labelName(statement.name)}:;`];
  if (statement.kind === "targets") return [];
  return [`#line ${statement.line} ${JSON.stringify(source)}`, `  ${emitInstruction(statement, kernel)}`];
}

function emitKernel(kernel, source) {
  const localBytes = placeLocals(kernel);
  indexLabels(kernel);
  return [
    `static void ${kernel.name}_body(Thread& t) {`,
    ...(localBytes > 0 ? [`  Local<${localBytes}> local(t);`] : []),
    ...emitRegisters(kernel),
    ...kernel.statements.flatMap((statement) => emitStatement(statement, kernel, source)),
    "}",
    "",
  ];
}

/** The emulator knows a translated kernel as NAME@TARGET. */
function emitRegistration(module, { name, parameterBytes, threadsMax }) {
  const run = `[](const void* p) { RunThread(${name}_body, p, ${parameterBytes}); }`;
  const facts = `${JSON.stringify(`${name}@${module.target}`)}, ${run}, ${parameterBytes}, ${threadsMax}`;
  return `static const emu::Registrar ${name}_registrar(${facts});`;
}

/** `source` is the PTX file's name, for reports. */
export function emit(module, source) {
  const space = `${module.target}_${source.replace(/\W/g, "_")}`;
  return [
    `// Made by ptxcheck/translate.mjs from ${source}.`,
    '#include "kernels/cuda/ptxcheck/ptx_thread.h"',
    "",
    `namespace tokenmill::cuda::ptx::${space} {`,
    "",
    ...module.kernels.flatMap((kernel) => emitKernel(kernel, source)),
    ...module.kernels.map((kernel) => emitRegistration(module, kernel)),
    "",
    `}  // namespace tokenmill::cuda::ptx::${space}`,
    "",
  ].join("\n");
}
