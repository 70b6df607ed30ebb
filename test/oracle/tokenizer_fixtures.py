"""Writes test/fixtures/tokenizer: texts, what the oracles make of them, and small vocabularies that they trained.

    python test/oracle/tokenizer_fixtures.py --models FOLDER

FOLDER holds smollm2-135m-instruct.gguf and gemma-3-270m.gguf (only their ids are written). Lines of the text files
correspond: line n of every file is about line n of texts.txt.
"""

import argparse
import io
import json
import pathlib
import random

import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import tokenizer_oracles as oracles
import tokenizer_texts

FOLDER = pathlib.Path(__file__).parent.parent / "fixtures/tokenizer"
# Rows of the pre-tokenizers' table whose ids are written too: they differ in more than the cutting.
WHOLE = ["smollm", "llama-bpe", "qwen2"]
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im"]
USER_DEFINED = ["<think>", "</think>", "[think]"]
MISSING_BYTE = "\u0104"  # 0x04 in GPT-2's alphabet


def escaped(text):
    """One line: control characters, white space other than the space, and % as %XX of their UTF-8 bytes."""
    return "".join(
        c
        if c > " " and c.isprintable() and c != "%" or c == " "
        else "".join(f"%{b:02X}" for b in c.encode())
        for c in text
    )


def write_lines(name, lines):
    (FOLDER / name).write_text("".join(line + "\n" for line in lines))


def packed_lengths(lengths):
    """A character a piece: 1-9, a-z; longer ones in braces."""
    return "".join("0123456789abcdefghijklmnopqrstuvwxyz"[n] if n < 36 else f"{{{n}}}" for n in lengths)


def numbers(ids):
    return " ".join(map(str, ids))


def train_bpe(corpus):
    """A byte-level vocabulary whose merges cross every boundary that a pre-tokenizer could set."""
    trainee = Tokenizer(models.BPE())
    trainee.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainee.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=1000, initial_alphabet=alphabet, max_token_length=12, show_progress=False
        ),
    )
    model = json.loads(trainee.to_str())["model"]
    merges = [m for m in oracles.merge_pairs(model["merges"]) if MISSING_BYTE not in "".join(m)]
    words = [t for t, _ in sorted(model["vocab"].items(), key=lambda x: x[1]) if MISSING_BYTE not in t]
    return CONTROL + USER_DEFINED + words, merges


def bpe_oracle(name, tokens, merges, special):
    first = len(CONTROL) + len(USER_DEFINED)
    vocabulary = {t: i for i, t in enumerate(tokens) if i >= first}
    # Added tokens take their ids from the vocabulary when they are in it.
    vocabulary.update({t: i for i, t in enumerate(tokens[:first])})
    oracle = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=name == "llama-bpe"))
    if name == "qwen2":
        oracle.normalizer = normalizers.NFC()
    oracle.pre_tokenizer = oracles.byte_level_pre_tokenizer(name)
    oracle.add_tokens([AddedToken(t, normalized=False) for t in USER_DEFINED])
    if special:
        oracle.add_special_tokens([AddedToken(t, normalized=False) for t in CONTROL])
    return lambda text: oracle.encode(text, add_special_tokens=False).ids


def special_texts():
    pieces = (
        CONTROL + USER_DEFINED + ["<|im_", "<|im_start", "|>", "<", " ", "a", "\n", "é", "<think", "[think", "[think]"]
    )
    rng = random.Random(11)
    return ["".join(rng.choice(pieces) for _ in range(rng.randint(1, 12))) for _ in range(100)]


def mark_texts():
    """Texts that are hardly ever in NFC."""
    rng = random.Random(12)
    bases = "aAeEoOuUcqdfs ſΑαιω\u0415\u0438\u0915\u0928\u09c7\u0b47\u0dd9\u1100\u1112\uac00\uae4c\u212b\u2126\uf900\u0f40\u304b漢"
    marks = "\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030c\u0323\u0327\u0328\u0345\u0338\u0342\u0313\u093c\u09be\u0b57\u0dcf\u0dca\u1161\u1175\u11a8\u11c2\u0f71\u0f72\u0f73\u3099\u05b4\u0650\u08d3\u1df6\U0001d165\U0001d16d"
    pick = lambda: rng.choice(marks) if rng.random() < 0.65 else rng.choice(bases)
    return ["".join(pick() for _ in range(rng.randint(1, 8))) for _ in range(300)]


def write_bpe(texts):
    tokens, merges = train_bpe(tokenizer_texts.texts(3000, seed=21))
    kinds = (
        [3] * len(CONTROL) + [4] * len(USER_DEFINED) + [1] * (len(tokens) - len(CONTROL) - len(USER_DEFINED))
    )
    oracles.write_gguf(
        FOLDER / "bpe.gguf",
        "smollm",
        tokens,
        kinds,
        merges=merges,
        bos_token_id=1,
        eos_token_id=2,
        add_bos_token=False,
    )
    for name in WHOLE:
        encode = bpe_oracle(name, tokens, merges, special=False)
        write_lines(f"bpe_{name}.ids", [numbers(encode(t)) for t in texts])
    special = special_texts()
    write_lines("special_texts.txt", map(escaped, special))
    for flag in (False, True):
        encode = bpe_oracle("smollm", tokens, merges, special=flag)
        write_lines(f"special_{'on' if flag else 'off'}.ids", [numbers(encode(t)) for t in special])


def train_sentencepiece(byte_fallback):
    rng = random.Random(22)
    corpus = [
        "".join(tokenizer_texts.random_word(rng) + rng.choice(("", " ", "  ", ", ")) for _ in range(30))
        for _ in range(2000)
    ]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus),
        model_writer=model,
        model_type="bpe",
        vocab_size=2000,
        byte_fallback=byte_fallback,
        character_coverage=0.98,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=True,
        user_defined_symbols=["<table>", "\n", "\n\n", "\t", "▁▁", "▁▁▁▁", "dog's"],
        split_by_whitespace=False,
        split_by_number=False,
        split_by_unicode_script=False,
        max_sentencepiece_length=12,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def write_sentencepiece(texts, name, byte_fallback, unused):
    """`unused`: every so many pieces one that merging may use but a text may not become."""
    trained = train_sentencepiece(byte_fallback)
    tokens = [trained.id_to_piece(i) for i in range(len(trained))]
    scores = [trained.get_score(i) for i in range(len(trained))]
    kinds = [
        2 if trained.is_unknown(i) else 3 if trained.is_control(i) else 6 if trained.is_byte(i) else 1
        for i in range(len(trained))
    ]
    for i, token in enumerate(tokens):
        if token in ("<table>", "\n", "\n\n", "\t", "▁▁", "▁▁▁▁", "dog's"):
            kinds[i] = 4
        elif unused and kinds[i] == 1 and i % unused == 0:
            kinds[i] = 5
    path = FOLDER / f"{name}.gguf"
    oracles.write_gguf(
        path, None, tokens, kinds, scores=scores, bos_token_id=1, eos_token_id=2, unknown_token_id=0
    )
    write_lines(f"{name}.ids", [numbers(oracles.sentencepiece_of_gguf(path).encode(t)) for t in texts])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=pathlib.Path, required=True)
    models_folder = parser.parse_args().models
    texts = tokenizer_texts.texts(60, seed=20)
    write_lines("texts.txt", map(escaped, texts))
    for name in oracles.PRE_TOKENIZERS:
        oracle = oracles.ListedPreTokenizer(name)
        write_lines(
            f"pieces_{name}.txt", [packed_lengths(len(p.encode()) for p in oracle.pieces(t)) for t in texts]
        )
    nfc = normalizers.NFC()
    write_lines("nfc.txt", [escaped(t) + "\t" + escaped(nfc.normalize_str(t)) for t in mark_texts() + texts])
    write_bpe(texts)
    write_sentencepiece(texts, "sentencepiece", byte_fallback=True, unused=0)
    write_sentencepiece(texts, "sentencepiece_unk", byte_fallback=False, unused=7)
    smollm = oracles.oracle_of_gguf(models_folder / "smollm2-135m-instruct.gguf")
    write_lines("smollm2.ids", [numbers(smollm.encode(t).ids) for t in texts])
    gemma = oracles.sentencepiece_of_gguf(models_folder / "gemma-3-270m.gguf")
    write_lines("gemma3.ids", [numbers(gemma.encode(t)) for t in texts])


if __name__ == "__main__":
    main()
