"""Text to token ids from a GGUF's own vocabulary: byte-level BPE (tokenizers), SentencePiece BPE (here).

The loader of transformers chooses a pre-tokenizer by architecture, this module by the file's
`tokenizer.ggml.pre`. Special tokens are never recognized in the text.
"""

import heapq
import re
from pathlib import Path

import gguf
import jinja2
from tokenizers import Tokenizer, models, pre_tokenizers

CONTROL, BYTE = 3, 6  # tokenizer.ggml.token_type of special tokens and of single bytes
PRE_TOKENIZERS = {
    "gpt-2": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False),
    "smollm": lambda: pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
}


class TextTokenizer:
    """`encode` gives ids without BOS; `bos` is the id that the model wants in front of a text, or None."""

    def __init__(self, path: str | Path):
        fields = gguf.GGUFReader(path).fields

        def read(key: str, default=None):
            return fields[key].contents() if key in fields else default

        self.tokens: list[str] = read("tokenizer.ggml.tokens")
        self.types: list[int] = read("tokenizer.ggml.token_type")
        self.chat_template: str | None = read("tokenizer.chat_template")
        self.eos: int = read("tokenizer.ggml.eos_token_id")
        kind = read("tokenizer.ggml.model")
        adds_bos = read("tokenizer.ggml.add_bos_token", kind == "llama")
        self.bos: int | None = read("tokenizer.ggml.bos_token_id") if adds_bos else None
        vocab = {token: index for index, token in enumerate(self.tokens)}
        if kind == "gpt2":
            merges = [tuple(merge.split(" ")) for merge in read("tokenizer.ggml.merges")]
            bpe = Tokenizer(models.BPE(vocab, merges))
            bpe.pre_tokenizer = PRE_TOKENIZERS[read("tokenizer.ggml.pre", "gpt-2")]()
            characters = byte_level_bytes()
            self.encode = lambda text: bpe.encode(text, add_special_tokens=False).ids
            self.token_bytes = lambda token: bytes(characters[c] for c in self.tokens[token])
        elif kind == "llama":
            prefix = "\u2581" if read("tokenizer.ggml.add_space_prefix", True) else ""
            scores = read("tokenizer.ggml.scores")
            self.encode = lambda text: encode_sentencepiece(
                prefix + text.replace(" ", "\u2581"), vocab, scores
            )
            self.token_bytes = self.sentencepiece_bytes
        else:
            raise ValueError(f"tokenizer.ggml.model {kind!r} is not supported")

    def render_chat(self, messages: list[dict]) -> list[int]:
        """Ids of the model's chat template with a generation prompt."""
        environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
        text = environment.from_string(self.chat_template).render(
            messages=messages, add_generation_prompt=True
        )
        special = {self.tokens[i]: i for i, kind in enumerate(self.types) if kind == CONTROL}
        pieces = re.split("(" + "|".join(map(re.escape, special)) + ")", text)
        return [i for piece in pieces for i in ([special[piece]] if piece in special else self.encode(piece))]

    def sentencepiece_bytes(self, token: int) -> bytes:
        if self.types[token] == BYTE:
            return bytes([int(self.tokens[token][3:-1], 16)])
        return self.tokens[token].replace("\u2581", " ").encode()

    def decode(self, tokens: list[int]) -> str:
        """The text of ids other than special ones."""
        return b"".join(map(self.token_bytes, tokens)).decode(errors="replace")


def byte_level_bytes() -> dict[str, int]:
    """The byte of each character of a byte-level token: itself if printable Latin-1, else from U+0100 on."""
    kept = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    moved = [b for b in range(256) if b not in kept]
    return {chr(b): b for b in kept} | {chr(256 + index): b for index, b in enumerate(moved)}


def encode_sentencepiece(text: str, vocab: dict[str, int], scores: list[float]) -> list[int]:
    """Merges the adjacent pair whose union has the best score, leftmost first, until none is a token."""
    symbols = list(text)
    after = list(range(1, len(symbols) + 1))
    before = list(range(-1, len(symbols) - 1))
    queue: list[tuple[float, int, str]] = []

    def propose(left: int) -> None:
        if left >= 0 and after[left] < len(symbols):
            union = symbols[left] + symbols[after[left]]
            if union in vocab:
                heapq.heappush(queue, (-scores[vocab[union]], left, union))

    for left in range(len(symbols) - 1):
        propose(left)
    while queue:
        _, left, union = heapq.heappop(queue)
        right = after[left]
        if not symbols[left] or right >= len(symbols) or symbols[left] + symbols[right] != union:
            continue
        symbols[left], symbols[right] = union, ""
        after[left] = after[right]
        if after[left] < len(symbols):
            before[after[left]] = left
        propose(before[left])
        propose(left)
    ids: list[int] = []
    for symbol in filter(None, symbols):
        known = symbol in vocab
        ids += [vocab[symbol]] if known else [vocab[f"<0x{byte:02X}>"] for byte in symbol.encode()]
    return ids
