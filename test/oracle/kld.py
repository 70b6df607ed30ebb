"""How far an engine's log-probabilities are from the f32 oracle's on the same file.

    python test/oracle/kld.py --model FILE.gguf [--text FILE] [--window 512] [--windows 8] [--adapter FOLDER]
                                --ours CMD...
    python test/oracle/kld.py --self-test

Window w is the text's tokens [w * size, (w + 1) * size), without any context of earlier windows. The text is
tokenized once, from the model's own vocabulary, special tokens not recognized. Where the model asks for a BOS
(tokenizer.ggml.add_bos_token) each window gets one in front, so it has size + 1 rows; else it has size rows.

CMD is started once. For each window it is sent one line of JSON, {"tokens": [...]}, BOS included, and
answers on stdout with one line "ROWS VOCAB", then ROWS x VOCAB logits (before any softmax) as raw
little-endian f32, row after row: row i holds the logits that follow tokens[i]. Its input is closed after
the last window. Nothing else may go to its stdout.

Per row, in float64: KLD(oracle || ours), whether both agree on the top token, and the probability of the
token that follows in the text, whose difference (ours - oracle) gives RMS delta-p in percentage points and
whose logarithm gives the perplexities. The row after which the text ends has no following token and is left
out of those. Logits pass through in chunks of rows on both sides: 512 rows of a vocabulary of 262,144 are
537 MB.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from oracle import PROSE, Oracle, log_softmax, windows

CHUNK_ROWS = 32


class ChildError(RuntimeError):
    """The command under test broke the protocol."""


class LogitsChild:
    """The engine under test, speaking the protocol above over a pipe."""

    def __init__(self, command: list[str]):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> "LogitsChild":
        return self

    def __exit__(self, *_) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ask(self, tokens: np.ndarray, vocab: int) -> None:
        """Sends a window and checks the answer's shape; the rows are then read with `rows`."""
        try:
            self.process.stdin.write((json.dumps({"tokens": tokens.tolist()}) + "\n").encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            raise ChildError("the command closed its input") from None
        shape = self.process.stdout.readline(64).split()
        if shape != [str(len(tokens)).encode(), str(vocab).encode()]:
            raise ChildError(f"expected the line '{len(tokens)} {vocab}' (rows, vocabulary), got {shape}")

    def rows(self, count: int, vocab: int) -> np.ndarray:
        data = self.process.stdout.read(count * vocab * 4)
        if len(data) != count * vocab * 4:
            raise ChildError(f"expected {count * vocab * 4} bytes of logits, got {len(data)}")
        logits = np.frombuffer(data, dtype="<f4").reshape(count, vocab)
        if not np.isfinite(logits).all():
            raise ChildError("a logit is not a finite number")
        return logits


class Comparison:
    """Collects one figure a row."""

    def __init__(self) -> None:
        self.kld: list[np.ndarray] = []
        self.same_top: list[np.ndarray] = []
        self.oracle_next: list[np.ndarray] = []
        self.ours_next: list[np.ndarray] = []

    def add(self, oracle: np.ndarray, ours: np.ndarray, targets: np.ndarray) -> None:
        """Logits of both sides, [rows, vocab], and the token that follows each row, -1 if none."""
        self.same_top.append(oracle.argmax(-1) == ours.argmax(-1))
        p, q = log_softmax(oracle), log_softmax(ours)
        known = np.flatnonzero(targets >= 0)
        self.oracle_next.append(p[known, targets[known]])
        self.ours_next.append(q[known, targets[known]])
        np.subtract(p, q, out=q)
        self.kld.append(np.einsum("rv,rv->r", np.exp(p, out=p), q))

    def summary(self) -> dict:
        kld, same_top = np.concatenate(self.kld), np.concatenate(self.same_top)
        p, q = np.concatenate(self.oracle_next), np.concatenate(self.ours_next)
        return {
            "rows": len(kld),
            "meanKld": kld.mean(),
            "meanKldStandardError": kld.std() / len(kld) ** 0.5,
            "medianKld": np.median(kld),
            "p99Kld": np.percentile(kld, 99),
            "maxKld": kld.max(),
            "sameTopPercent": 100 * same_top.mean(),
            "rmsDeltaPPercent": 100 * np.sqrt(np.mean((np.exp(q) - np.exp(p)) ** 2)),
            "perplexityOracle": np.exp(-p.mean()),
            "perplexityOurs": np.exp(-q.mean()),
        }


def compare(oracle: Oracle, texts, command: list[str], on_window=None) -> Comparison:
    """Runs every window of `texts` through both sides."""
    comparison = Comparison()
    with LogitsChild(command) as child:
        for index, window in enumerate(texts):
            child.ask(window.tokens, oracle.vocab_size)
            done = 0
            for logits in oracle.logits(window.tokens, CHUNK_ROWS):
                ours = child.rows(len(logits), oracle.vocab_size)
                comparison.add(logits, ours, window.targets[done : done + len(logits)])
                done += len(logits)
            if on_window:
                on_window(index, comparison)
    return comparison


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="GGUF file that both sides load")
    parser.add_argument("--adapter", type=Path, help="PEFT folder that the oracle uses, and CMD too")
    parser.add_argument("--text", type=Path, default=PROSE)
    parser.add_argument("--window", type=int, default=512, help="text tokens a window")
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--mean-kld-limit", type=float, help="exit with 1 if the mean KLD is above")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument(
        "--self-test", action="store_true", help="check the arithmetic and the protocol of this script"
    )
    parser.add_argument(
        "--ours", nargs=argparse.REMAINDER, help="command under test; everything after it is its own"
    )
    args = parser.parse_args()
    if args.self_test:
        from kld_self_test import self_test

        return self_test()
    if not args.model or not args.ours:
        parser.error("--model and --ours are needed")

    from text_tokens import TextTokenizer

    tokenizer = TextTokenizer(args.model)
    ids = tokenizer.encode(args.text.read_text(encoding="utf-8"))

    def progress(index: int, comparison: Comparison) -> None:
        print(
            f"window {index + 1}/{args.windows}: mean KLD {comparison.summary()['meanKld']:.5f}",
            file=sys.stderr,
        )

    texts = windows(ids, tokenizer.bos, args.window, args.windows)
    figures = compare(Oracle.from_gguf(args.model, args.adapter), texts, args.ours, progress).summary()
    for name, value in figures.items():
        print(f"{name:<22}{value:>12.6g}")
    record = {
        "model": args.model.name,
        "adapter": args.adapter and args.adapter.name,
        "window": args.window,
        "windows": args.windows,
        "bos": tokenizer.bos,
        **figures,
    }
    print(json.dumps(record, default=float))
    if args.json:
        args.json.write_text(json.dumps(record, default=float, indent=2) + "\n")
    return 1 if args.mean_kld_limit is not None and figures["meanKld"] > args.mean_kld_limit else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ChildError as error:
        sys.exit(f"kld.py: {error}")
