"""How much our encoders lose beside llama.cpp's: ratios of RMSE per format and tensor.

    python test/oracle/quantize_compare.py [MODEL.gguf ...] [--tensors N] [--formats Q4_0,Q4_K] [--limit 1.02]

Takes N matrices of each model (default 12, spread over the file; all with 0) whose rows divide by 256, dequantized
to f32, and encodes each with llama.cpp's quantizer (ggml_quantize_chunk without an importance matrix), with ours
(build/native-tests/encode_cli) and by round-to-nearest. Prints ours / llama.cpp's and ours / round-to-nearest, and
fails when a ratio to llama.cpp's is beyond the limit or one to round-to-nearest beyond 1. Blocks are decoded by the
gguf package, an implementation of its own. Without models those of scripts/fetch-test-models.mjs are taken.

llama.cpp's libraries come with node-llama-cpp, which npm installs into a folder beside the build at first use
(TOKENMILL_PEERS names another one). encode_cli is built by `npm test`.
"""

import argparse
import ctypes
import os
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
PEER = "node-llama-cpp@3.22"
FORMATS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]
MATRIX_ELEMENTS_MAX = 1 << 24  # of the head, so many rows are enough


def load_peer() -> ctypes.CDLL:
    """libggml-base, fetched on demand."""
    folder = Path(os.environ.get("TOKENMILL_PEERS", ROOT / "build" / "peers"))
    pattern = "node_modules/@node-llama-cpp/linux-x64/bins/linux-x64/libggml-base.so"
    if not list(folder.glob(pattern)):
        command = ["npm", "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", PEER]
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    library = ctypes.CDLL(str(next(folder.glob(pattern))))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        *[ctypes.c_int64] * 3,
        ctypes.c_void_p,
    ]
    return library


def peer_blocks(library: ctypes.CDLL, kind: gguf.GGMLQuantizationType, values: np.ndarray) -> np.ndarray:
    block, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = np.empty((values.shape[0], values.shape[1] // block * size), np.uint8)
    rows, columns = values.shape
    library.ggml_quantize_chunk(int(kind), values.ctypes.data, blocks.ctypes.data, 0, rows, columns, None)
    return blocks


def our_blocks(kind: gguf.GGMLQuantizationType, values: np.ndarray, *mode: str) -> np.ndarray:
    command = [ROOT / "build" / "native-tests" / "encode_cli", kind.name, *mode]
    done = subprocess.run(command, input=values.tobytes(), stdout=subprocess.PIPE, check=True)
    return np.frombuffer(done.stdout, np.uint8).reshape(values.shape[0], -1)


def rmse(kind: gguf.GGMLQuantizationType, blocks: np.ndarray, values: np.ndarray) -> float:
    miss = gguf.dequantize(blocks, kind).astype(np.float64).reshape(values.shape) - values
    return float(np.sqrt(np.mean(miss * miss)))


def matrices(path: str, count: int):
    """Names and f32 values of matrices spread over a file."""
    tensors = [t for t in gguf.GGUFReader(path).tensors if len(t.shape) == 2 and t.shape[0] % 256 == 0]
    picked = range(len(tensors)) if count == 0 else np.linspace(0, len(tensors) - 1, min(count, len(tensors)))
    for i in sorted({int(i) for i in picked}):
        tensor = tensors[i]
        values = gguf.dequantize(tensor.data, tensor.tensor_type).reshape(int(tensor.shape[1]), int(tensor.shape[0]))
        rows = max(1, MATRIX_ELEMENTS_MAX // values.shape[1])
        yield tensor.name, np.ascontiguousarray(values[:rows], np.float32)


def default_models() -> list[str]:
    command = ["node", str(ROOT / "scripts" / "fetch-test-models.mjs")]
    folder = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    return [f"{folder}/{name}.gguf" for name in ("smollm2-135m-instruct", "gemma-3-270m")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*")
    parser.add_argument("--tensors", type=int, default=12)
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--limit", type=float, default=1.02)
    arguments = parser.parse_args()
    library = load_peer()
    formats = [gguf.GGMLQuantizationType[name] for name in arguments.formats.split(",")]
    worst = {kind: [0.0, 0.0] for kind in formats}
    print(f"{'tensor':34}{'format':8}{'/ llama.cpp':>12}{'/ rounding':>12}")
    for model in arguments.models or default_models():
        print(model)
        for name, values in matrices(model, arguments.tensors):
            for kind in formats:
                ours = rmse(kind, our_blocks(kind, values), values)
                others = [peer_blocks(library, kind, values), our_blocks(kind, values, "round")]
                ratios = [ours / max(rmse(kind, blocks, values), 1e-30) for blocks in others]
                worst[kind] = [max(pair) for pair in zip(worst[kind], ratios)]
                print(f"{name:34}{kind.name:8}{ratios[0]:12.4f}{ratios[1]:12.4f}", flush=True)
    print("worst")
    failed = False
    for kind, ratios in worst.items():
        failed |= ratios[0] > arguments.limit or ratios[1] > 1
        print(f"{'':34}{kind.name:8}{ratios[0]:12.4f}{ratios[1]:12.4f}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
