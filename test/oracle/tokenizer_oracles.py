"""The oracles that the tokenizers are held against, and vocabulary-only GGUF files for them."""

import json
import struct

import gguf
import sentencepiece
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

CI = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LLAMA3 = CI + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = CI + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN35 = (
    CI + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SEED_CODER = CI + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
BAILING = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
MINICPM5 = CI + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*%s|\p{{N}}%s| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT4O = CASED % (CI + "?", CI + "?", "{1,3}")
TEKKEN = CASED % ("", "", "")
DEEPSEEK_V3 = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
BLOOM = r" ?[^(\s|.,!?…。，、।۔،)]+"
EAST_ASIAN = "[一-龥ࠀ-一가-\ud7ff]+".encode("utf-16", "surrogatepass").decode("utf-16")

gpt2 = lambda: pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
digits = lambda: pre_tokenizers.Digits(individual_digits=True)
split = lambda pattern: pre_tokenizers.Split(Regex(pattern), "isolated")

# A name of each row of the table → the stages of its oracle.
PRE_TOKENIZERS = {
    "smollm": [digits, gpt2],
    "gpt-2": [gpt2],
    "llama-bpe": [LLAMA3],
    "qwen2": [QWEN2],
    "bailingmoe": [BAILING],
    "seed-coder": [SEED_CODER],
    "qwen35": [QWEN35],
    "minicpm5": [r"\p{N}{1,3}", MINICPM5],
    "deepseek-v3": [r"\p{N}{1,3}", "[一-龥\u3040-\u309f\u30a0-\u30ff]+", DEEPSEEK_V3],
    "deepseek-coder": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", EAST_ASIAN, digits],
    "gpt-4o": [GPT4O],
    "tekken": [TEKKEN],
    "bloom": [BLOOM],
    "viking": [BLOOM, digits],
    "default": [r"[\p{P}\$\+<=>\^~\|]+", gpt2, r"\p{N}+", "[0-9][0-9][0-9]"],
}


class ListedPreTokenizer:
    """The stages of a name one after the other, each on the pieces of the one before, in plain characters."""

    def __init__(self, name):
        self.stages = [stage() if callable(stage) else split(stage) for stage in PRE_TOKENIZERS[name]]

    def pieces(self, text):
        parts = [text] if text else []
        for stage in self.stages:
            parts = [part[a:b] for part in parts for _, (a, b) in stage.pre_tokenize_str(part)]
        return parts


def byte_level_pre_tokenizer(name):
    """The same as one object for a Tokenizer: it ends in GPT-2's byte alphabet."""
    stages = []
    for stage in PRE_TOKENIZERS[name]:
        if stage is gpt2:
            # ByteLevel would rewrite the text; its expression alone does not.
            stages.append(
                split(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
            )
        else:
            stages.append(stage() if callable(stage) else split(stage))
    return pre_tokenizers.Sequence(
        stages + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )


def merge_pairs(merges):
    return [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in merges]


def gguf_vocabulary(path):
    """tokenizer.ggml.* of a file as a dictionary."""
    fields = gguf.GGUFReader(path).fields
    return {
        key[len("tokenizer.ggml.") :]: field.contents()
        for key, field in fields.items()
        if key.startswith("tokenizer.ggml.")
    }


def oracle_of_gguf(path):
    """The `tokenizers` object of a byte-level BPE file, control tokens not recognized."""
    v = gguf_vocabulary(path)
    normal = {t: i for i, (t, k) in enumerate(zip(v["tokens"], v["token_type"])) if k == 1}
    oracle = Tokenizer(
        models.BPE(
            normal, merge_pairs(v["merges"]), ignore_merges=v["pre"] in ("llama-bpe", "tekken", "minicpm5")
        )
    )
    if v["pre"] in ("qwen2", "qwen35"):
        oracle.normalizer = normalizers.NFC()
    oracle.pre_tokenizer = byte_level_pre_tokenizer(v["pre"])
    oracle.decoder = decoders.ByteLevel()
    return oracle


def field(number, value):
    """A protobuf field: bytes, float or a number."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3) + varint(int(value))


def varint(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def sentencepiece_of_gguf(path):
    """The SentencePiece processor of a "llama" file. Control tokens are never recognized by it."""
    v = gguf_vocabulary(path)
    unknown = v.get("unknown_token_id", 0)
    model = b""
    for i, (token, score, kind) in enumerate(zip(v["tokens"], v["scores"], v["token_type"])):
        piece = (
            field(1, token.replace(" ", "▁").encode())
            + field(2, float(score))
            + field(3, 2 if i == unknown else kind)
        )
        model += field(1, piece)
    bpe = 2
    model += field(2, field(3, bpe) + field(35, 6 in v["token_type"]) + field(40, unknown))
    model += field(3, field(1, b"identity") + field(3, v.get("add_space_prefix", True)) + field(4, False))
    return sentencepiece.SentencePieceProcessor(model_proto=model)


def write_gguf(path, pre, tokens, kinds, merges=None, scores=None, **values):
    """A file with a vocabulary and no tensors. `pre` None: SentencePiece."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2" if pre else "llama")
    if pre:
        writer.add_tokenizer_pre(pre)
        writer.add_token_merges([" ".join(m) for m in merges])
    else:
        writer.add_token_scores(scores)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    for key, value in values.items():
        add = writer.add_bool if isinstance(value, bool) else writer.add_uint32
        add("tokenizer.ggml." + key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def gguf_of_json(json_path, gguf_path, pre):
    """Writes a byte-level BPE tokenizer.json as a GGUF vocabulary and returns its oracle."""
    spec = json.load(open(json_path))
    vocabulary = spec["model"]["vocab"]
    added = {t["id"]: t for t in spec["added_tokens"]}
    size = max([*vocabulary.values(), *added]) + 1
    tokens, kinds = [f"[PAD{i}]" for i in range(size)], [5] * size
    for token, i in vocabulary.items():
        tokens[i], kinds[i] = token, 1
    for i, token in added.items():
        tokens[i], kinds[i] = token["content"], 3 if token["special"] else 4
    write_gguf(gguf_path, pre, tokens, kinds, merges=merge_pairs(spec["model"]["merges"]))
    oracle = Tokenizer.from_file(str(json_path))
    oracle.post_processor = None
    return oracle, [t["content"] for t in spec["added_tokens"]]


def gguf_of_sentencepiece_json(json_path, gguf_path):
    """Writes a tokenizer.json with byte fallback as tokenizer.h says that it is to be read; returns its oracle."""
    spec = json.load(open(json_path))
    vocabulary = spec["model"]["vocab"]
    added = {t["id"]: t for t in spec["added_tokens"]}
    size = max([*vocabulary.values(), *added]) + 1
    tokens, kinds, scores = [""] * size, [1] * size, [0.0] * size
    for token, i in vocabulary.items():
        tokens[i] = token
        if len(token) == 6 and token.startswith("<0x"):
            kinds[i] = 6
    for i, token in added.items():
        tokens[i], kinds[i] = token["content"], 3 if token["special"] else 4
    for rank, (left, right) in reversed(list(enumerate(merge_pairs(spec["model"]["merges"])))):
        scores[vocabulary[left + right]] = -float(rank)
    unknown = vocabulary[spec["model"]["unk_token"]]
    kinds[unknown] = 2
    prefix = '"Prepend"' in json.dumps(spec["normalizer"])
    write_gguf(
        gguf_path, None, tokens, kinds, scores=scores, unknown_token_id=unknown, add_space_prefix=prefix
    )
    oracle = Tokenizer.from_file(str(json_path))
    oracle.post_processor = None
    return oracle, [t["content"] for t in spec["added_tokens"]]
