"""Writes the oracle's most likely tokens on the first 512-token window of the prose, small enough to commit.

    python test/oracle/make_window_fixture.py MODELS_FOLDER [NAME...]

The files are test/fixtures/model/NAME.window.bin.

The window is kld.py's first one: 512 text tokens, after a BOS if the model adds one (then it has 513 rows).
Of its rows 64 are stored, evenly spaced, the last one included. Everything is little-endian and four bytes
wide:

    offset  type                    what
    0       char[4]                 "TMWF"
    4       u32                     format version, 1
    8       u32                     vocab: size of the vocabulary
    12      u32                     token_count: rows of the window, BOS included
    16      u32                     position_count
    20      u32                     top_count
    24      u32[token_count]        tokens, as the model is to be fed
    ...     u32[position_count]     positions: ascending indices into tokens, each of a stored row
    ...     position_count times:
              u32[top_count]        ids, most likely first
              f32[top_count]        natural logarithms of their probabilities
              f32                   rest: probability of all other tokens together, as summed in float64
"""

import argparse
import struct
from pathlib import Path

import numpy as np

from oracle import MODEL_FIXTURES, MODELS, PROSE, Oracle, log_softmax, windows
from text_tokens import TextTokenizer

MAGIC, VERSION = b"TMWF", 1
WINDOW, POSITIONS, TOP = 512, 64, 256


def stored_row(logprobs: np.ndarray) -> bytes:
    """One row of the fixture from log-probabilities [vocab] in float64."""
    order = np.argsort(-logprobs, kind="stable")
    rest = np.exp(logprobs[order[TOP:]]).sum()
    return (
        order[:TOP].astype("<u4").tobytes()
        + logprobs[order[:TOP]].astype("<f4").tobytes()
        + struct.pack("<f", rest)
    )


def window_fixture(path: Path) -> bytes:
    tokenizer, oracle = TextTokenizer(path), Oracle.from_gguf(path)
    window = next(windows(tokenizer.encode(PROSE.read_text(encoding="utf-8")), tokenizer.bos, WINDOW, 1))
    count = len(window.tokens)
    positions = [(i + 1) * count // POSITIONS - 1 for i in range(POSITIONS)]
    hidden = oracle.hidden(window.tokens)
    rows = [stored_row(log_softmax(oracle.head(hidden[[position]]))[0]) for position in positions]
    header = struct.pack("<4s5I", MAGIC, VERSION, oracle.vocab_size, count, POSITIONS, TOP)
    return b"".join(
        [header, window.tokens.astype("<u4").tobytes(), np.array(positions, "<u4").tobytes(), *rows]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, help="folder with the GGUF files")
    parser.add_argument("names", nargs="*", choices=[*MODELS, []], help="which of them; default all")
    args = parser.parse_args()
    for name in args.names or MODELS:
        fixture = MODEL_FIXTURES / f"{name}.window.bin"
        fixture.write_bytes(window_fixture(args.models / MODELS[name]))
        print(f"{fixture.name}: {fixture.stat().st_size} bytes")


if __name__ == "__main__":
    main()
