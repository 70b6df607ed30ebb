// What a model asks of the machine: multiply-adds of a prompt, bytes of a decode step.
import { createRequire } from "node:module";

const { callNative, native } = createRequire(import.meta.url)("../../dist/native.js");

const floats = new Set(["F32", "F16", "BF16"]);
const size = ({ shape }) => shape.reduce((product, length) => product * length, 1);
const sum = (values) => values.reduce((total, value) => total + value, 0);

/**
 * @param {{ name: string, type: string, shape: number[], bytes: number }[]} tensors
 * @returns {{ layerMacs: number, headMacs: number, stepBytes: number, isQuantized: boolean }} multiply-adds of
 *   the matrices of all layers for a token, of the head for a token that needs logits; bytes of weights that a
 *   decode step reads, where an embedding table counts only if it is the head as well
 */
export function costsOf(tensors) {
  const table = "token_embd.weight";
  const head =
    tensors.find(({ name }) => name === "output.weight") ?? tensors.find(({ name }) => name === table);
  const matrices = tensors.filter(
    (tensor) => tensor.shape.length >= 2 && tensor !== head && tensor.name !== table,
  );
  const read = tensors.filter((tensor) => tensor.name !== table || tensor === head);
  return {
    layerMacs: sum(matrices.map(size)),
    headMacs: head === undefined ? 0 : size(head),
    stepBytes: sum(read.map(({ bytes }) => bytes)),
    isQuantized: matrices.every(({ type }) => !floats.has(type)),
  };
}

/** The costs of a file, and the sizes that the works need. */
export function readModel(path) {
  const { fileBytes, metadata, tensors } = callNative(() => native().inspectGguf(path));
  const { value: tokens } = metadata.find(({ key }) => key === "tokenizer.ggml.tokens") ?? {};
  return { fileBytes, vocabularySize: tokens?.length, ...costsOf(tensors) };
}

/** Operations (two a multiply-add) of a prompt of so many tokens; only its last one needs the head. */
export function prefillOperations({ layerMacs, headMacs }, tokens) {
  return 2 * (layerMacs * tokens + headMacs);
}
