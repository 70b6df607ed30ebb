// What docs/cuda.md's tables know of GPUs: NVIDIA's published figures, and what a multiprocessor has.

/**
 * Of the boards that the tables are for: bytes per second of memory, and operations per second of the tensor cores on
 * f16 with f32 sums and on int8, both dense, and of f32 without them. `target` is the cubin that such a board runs.
 */
export const gpus = [
  {
    name: "A100",
    board: "A100 80GB SXM",
    target: "sm_80",
    multiprocessors: 108,
    bandwidth: 2039e9,
    f16: 312e12,
    int8: 624e12,
    f32: 19.5e12,
    source: "NVIDIA A100 data sheet",
  },
  {
    name: "RTX 4090",
    board: "GeForce RTX 4090",
    target: "sm_89",
    multiprocessors: 128,
    bandwidth: 1008e9,
    f16: 165.2e12,
    int8: 660.6e12,
    f32: 82.6e12,
    source: "NVIDIA Ada GPU architecture white paper, appendix A",
  },
  {
    name: "H100",
    board: "H100 80GB SXM",
    target: "sm_90",
    multiprocessors: 132,
    bandwidth: 3350e9,
    f16: 989.4e12,
    int8: 1978.9e12,
    f32: 66.9e12,
    source: "NVIDIA H100 GPU architecture white paper and data sheet",
  },
  {
    name: "RTX 5090",
    board: "GeForce RTX 5090",
    target: "sm_120",
    multiprocessors: 170,
    bandwidth: 1792e9,
    f16: 209.5e12,
    int8: 838e12,
    f32: 104.8e12,
    source: "NVIDIA RTX Blackwell GPU architecture white paper, appendix A",
  },
];

/**
 * A multiprocessor of a target (CUDA programming guide, technical specifications per compute capability): what it
 * can hold of warps, blocks, registers and shared memory, all of it and for one block, in bytes.
 */
export const multiprocessors = {
  sm_80: { warps: 64, blocks: 32, registers: 65536, shared: 164 * 1024, sharedOfBlock: 163 * 1024 },
  sm_86: { warps: 48, blocks: 16, registers: 65536, shared: 100 * 1024, sharedOfBlock: 99 * 1024 },
  sm_89: { warps: 48, blocks: 24, registers: 65536, shared: 100 * 1024, sharedOfBlock: 99 * 1024 },
  sm_90: { warps: 64, blocks: 32, registers: 65536, shared: 228 * 1024, sharedOfBlock: 227 * 1024 },
  sm_120: { warps: 48, blocks: 24, registers: 65536, shared: 100 * 1024, sharedOfBlock: 99 * 1024 },
};

const roundUp = (value, to) => Math.ceil(value / to) * to;

/**
 * Theoretical occupancy: the share of a multiprocessor's warps that blocks of so many threads, registers a thread and
 * bytes of shared memory can fill. Registers are given out 256 at a time to a warp, warps by 4, shared memory in 128
 * bytes with 1 KiB a block for the system.
 */
export function occupancyOf({ threads, registers, shared }, target) {
  const of = multiprocessors[target];
  const warps = Math.ceil(threads / 32);
  const warpsByRegisters = Math.floor(of.registers / roundUp(registers * 32, 256) / 4) * 4;
  const blocks = Math.min(
    of.blocks,
    Math.floor(of.warps / warps),
    Math.floor(warpsByRegisters / warps),
    shared > of.sharedOfBlock ? 0 : Math.floor(of.shared / roundUp(shared + 1024, 128)),
  );
  return (blocks * warps) / of.warps;
}
