"""Checks kld.py against closed forms: a child serves the oracle's logits, disturbed in a known way.

`python kld_self_test.py MODE` is that child; `kld.py --self-test` calls `self_test`. The model is a tiny
one of the fixtures.
"""

import json
import sys

import numpy as np

from kld import ChildError, compare
from oracle import MODEL_FIXTURES, Oracle, Window, log_softmax

TINY = MODEL_FIXTURES / "tiny" / "llama-tied.gguf"
ROWS, WINDOWS = 96, 4
RAISE = 0.7
NOISE = 0.05


def raised_token(tokens: np.ndarray) -> np.ndarray:
    """The token whose logit mode `raise` lifts in each row: the one that follows, or 0 in the last row."""
    return np.append(tokens[1:], 0)


def disturb(mode: str, logits: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    rows = np.arange(len(logits))
    ours = logits.copy()
    if mode == "shift":
        ours += (rows[:, None] % 5 - 2).astype(np.float32)
    elif mode == "raise":
        ours[rows, raised_token(tokens)] += RAISE
    elif mode == "noise":
        ours += np.random.default_rng(tokens[0]).normal(0, NOISE, ours.shape).astype(np.float32)
    elif mode == "swap":
        some = rows[::4]
        second, first = np.argsort(ours[some], -1)[:, -2:].T
        ours[some, first], ours[some, second] = logits[some, second], logits[some, first]
    return ours


def serve(mode: str) -> None:
    oracle = Oracle.from_gguf(TINY)
    for line in sys.stdin:
        tokens = np.array(json.loads(line)["tokens"])
        ours = disturb(mode, np.concatenate(list(oracle.logits(tokens))), tokens)
        rows = len(ours) - 1 if mode == "rows" else len(ours)
        data = ours.astype("<f4").tobytes()
        if mode == "nan":
            data = np.full_like(ours, np.nan).tobytes()
        sys.stdout.buffer.write(
            f"{rows} {ours.shape[1]}\n".encode() + (data[:100] if mode == "short" else data)
        )
        sys.stdout.buffer.flush()
        if mode == "short":
            return


def made_up_windows(vocab: int) -> list[Window]:
    tokens = np.random.default_rng(7).integers(0, vocab, (WINDOWS, ROWS))
    return [Window(row, np.append(row[1:], -1)) for row in tokens]


def self_test() -> int:
    oracle = Oracle.from_gguf(TINY)
    texts = made_up_windows(oracle.vocab_size)
    logits = np.concatenate([np.concatenate(list(oracle.logits(w.tokens))) for w in texts])
    p = np.exp(log_softmax(logits))
    failures = 0

    def check(what: str, got: float, expected: float, relative: float = 0.0, absolute: float = 0.0) -> None:
        nonlocal failures
        good = abs(got - expected) <= max(absolute, relative * abs(expected))
        failures += not good
        print(f"{'ok  ' if good else 'FAIL'} {what}: {got:.9g}, expected {expected:.9g}")

    def run(mode: str) -> dict:
        return compare(oracle, texts, [sys.executable, __file__, mode]).summary()

    figures = run("shift")
    check("shift: mean KLD", figures["meanKld"], 0, absolute=1e-10)
    check("shift: same top %", figures["sameTopPercent"], 100)
    check("shift: perplexity", figures["perplexityOurs"], figures["perplexityOracle"], relative=1e-6)

    # Raising logit j by r makes p_j e^r / z of p_j and p_i / z of any other p_i; z = 1 + p_j (e^r - 1).
    figures = run("raise")
    raised = p[np.arange(len(p)), np.concatenate([raised_token(w.tokens) for w in texts])]
    z = 1 + raised * np.expm1(RAISE)
    kld = np.log(z) - raised * RAISE
    check("raise: mean KLD", figures["meanKld"], kld.mean(), relative=1e-5)
    check("raise: median KLD", figures["medianKld"], np.median(kld), relative=1e-4)
    check("raise: max KLD", figures["maxKld"], kld.max(), relative=1e-5)
    index = 0.99 * (len(kld) - 1)
    low, high = np.sort(kld)[int(index)], np.sort(kld)[int(index) + 1]
    check("raise: 99th percentile of KLD", figures["p99Kld"], low + (high - low) * (index % 1), relative=1e-5)
    known = np.arange(len(p)) % ROWS != ROWS - 1
    change = (raised * np.exp(RAISE) / z - raised)[known]
    check(
        "raise: RMS delta-p %", figures["rmsDeltaPPercent"], 100 * np.sqrt(np.mean(change**2)), relative=1e-5
    )
    check(
        "raise: oracle's perplexity",
        figures["perplexityOracle"],
        np.exp(-np.log(raised[known]).mean()),
        relative=1e-6,
    )
    ratio = figures["perplexityOurs"] / figures["perplexityOracle"]
    check("raise: ratio of perplexities", ratio, np.exp((np.log(z[known]) - RAISE).mean()), relative=1e-6)

    # To second order the KLD is half the variance of the noise under p: sigma^2 / 2 (1 - sum p^2) on average.
    figures = run("noise")
    check("noise: mean KLD", figures["meanKld"], NOISE**2 / 2 * np.mean(1 - (p**2).sum(-1)), relative=0.05)
    check("swap: same top %", run("swap")["sameTopPercent"], 75)

    for mode, complaint in {"rows": "rows, vocabulary", "short": "bytes of logits", "nan": "finite"}.items():
        try:
            run(mode)
            heard = False
        except ChildError as error:
            heard = complaint in str(error)
        check(f"{mode}: a child that breaks the protocol is refused", heard, True)
    print(f"{failures} failed" if failures else "all checks passed")
    return 1 if failures else 0


if __name__ == "__main__":
    serve(sys.argv[1])
