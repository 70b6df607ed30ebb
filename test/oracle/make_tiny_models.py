"""Tiny seeded models of each architecture, as GGUF, with the log-probabilities that transformers gives them.

    python test/oracle/make_tiny_models.py [OUTPUT_FOLDER]      (default test/fixtures/model/tiny)

For each model NAME.gguf and NAME.json:
    {"model", "text",
     "tokens": [...],                          of the text, BOS first if the model adds one
     "nextLogprobs": [...],                    [i]: log of the probability of tokens[i + 1] after tokens[0..i]
     "vocab": 320, "positions": [...],         rows that are stored in full
     "rows": "base64 of little-endian f32"}    log-softmax of the logits, [positions, vocab]

The oracle is the transformers model that the weights were made for, not one read back from the GGUF;
independent.py, which reads the GGUF, has to agree before anything is written. Matrices are rounded to the
file's type first, so both hold the same numbers. Norm weights are drawn around 1, and the attention is made
sharp enough that a wrong rotary base, window, permutation or scale changes the log-probabilities by far
more than rounding does.
"""

import base64
import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from independent import IndependentModel
from oracle import MODEL_FIXTURES, PROSE, log_softmax
from text_tokens import TextTokenizer

HIDDEN, VOCAB = 64, 320
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEXT_CHARACTERS = 162
STORED_ROWS = 8
AGREEMENT = (
    1e-4  # largest difference of a log-probability between transformers in f32 and independent.py in f64
)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Tiny:
    """`kind` is llama, mistral or gemma3; `half` stores matrices as F16."""

    name: str
    seed: int
    kind: str
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    tied: bool
    half: bool
    adds_bos: bool = False
    theta: float = 10000.0
    rope_scaling: dict = field(default_factory=dict)
    window: int | None = None

    @property
    def arch(self) -> str:
        return "gemma3" if self.kind == "gemma3" else "llama"


# The original context of 64 reaches all three branches of llama3's scaling.
LLAMA3_SCALING = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
TINY_MODELS = [
    Tiny("llama-tied", 1, "llama", 2, 4, 2, 16, 32, tied=True, half=False),
    Tiny(
        "llama3-scaled-untied",
        2,
        "llama",
        2,
        4,
        1,
        32,
        32,
        tied=False,
        half=True,
        rope_scaling=LLAMA3_SCALING,
    ),
    Tiny("mistral", 3, "mistral", 1, 4, 2, 32, 32, tied=False, half=True, adds_bos=True, theta=1e6),
    Tiny("gemma3", 4, "gemma3", 7, 4, 1, 16, 32, tied=True, half=True, adds_bos=True, theta=1e6, window=32),
]


def build_model(tiny: Tiny) -> torch.nn.Module:
    """The transformers model with its seeded weights, f32."""
    shape = dict(
        vocab_size=VOCAB,
        hidden_size=HIDDEN,
        intermediate_size=tiny.feed_forward,
        num_hidden_layers=tiny.layers,
        num_attention_heads=tiny.heads,
        num_key_value_heads=tiny.kv_heads,
        head_dim=tiny.head_dim,
        max_position_embeddings=512,
        tie_word_embeddings=tiny.tied,
    )
    rope = {"rope_type": "default", "rope_theta": tiny.theta}
    if tiny.kind == "gemma3":
        local = {"rope_type": "default", "rope_theta": 10000.0}
        config = transformers.Gemma3TextConfig(
            **shape,
            rms_norm_eps=1e-4,
            query_pre_attn_scalar=tiny.head_dim,
            sliding_window=tiny.window,
            rope_parameters={"full_attention": rope, "sliding_attention": local},
        )
    elif tiny.kind == "mistral":
        config = transformers.MistralConfig(
            **shape, rms_norm_eps=1e-5, rope_parameters=rope, sliding_window=None
        )
    else:
        if tiny.rope_scaling:
            rope = {"rope_type": "llama3", "rope_theta": tiny.theta, **tiny.rope_scaling}
        config = transformers.LlamaConfig(**shape, rms_norm_eps=1e-5, rope_parameters=rope)
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    randomize(model, tiny)
    return model


@torch.no_grad()
def randomize(model: torch.nn.Module, tiny: Tiny) -> None:
    random = np.random.default_rng(tiny.seed)
    for name, parameter in model.named_parameters():
        values = random.standard_normal(tuple(parameter.shape))
        if parameter.dim() == 1:
            values = 0.2 * values + (0.0 if tiny.kind == "gemma3" else 1.0)
        elif "embed" in name or "lm_head" in name:
            values *= 0.25
        else:
            values *= (1.5 if "q_proj" in name or "k_proj" in name else 1.0) / parameter.shape[1] ** 0.5
        rounded = values.astype(np.float16 if tiny.half and parameter.dim() == 2 else np.float32)
        parameter.copy_(torch.from_numpy(rounded.astype(np.float32)))


def gguf_tensors(model: torch.nn.Module, tiny: Tiny) -> dict[str, np.ndarray]:
    """Tensors under their GGUF names and conventions, f32, [rows, columns]."""
    names = gguf.get_tensor_name_map(
        gguf.MODEL_ARCH.GEMMA3 if tiny.arch == "gemma3" else gguf.MODEL_ARCH.LLAMA, tiny.layers
    )
    tensors = {}
    for name, parameter in model.named_parameters():
        values = parameter.detach().numpy()
        if tiny.arch == "llama" and ("q_proj" in name or "k_proj" in name):
            # Rotating halves (i, i + d/2) becomes rotating neighbours (2i, 2i + 1).
            heads = values.reshape(-1, 2, tiny.head_dim // 2, HIDDEN)
            values = np.ascontiguousarray(heads.swapaxes(1, 2)).reshape(values.shape)
        if tiny.arch == "gemma3" and "norm" in name:
            values = values + np.float32(1)
        tensors[names.get_name(name, try_suffixes=(".weight",))] = values
    if tiny.rope_scaling:
        tensors["rope_freqs.weight"] = rope_divisors(tiny)
    return tensors


def rope_divisors(tiny: Tiny) -> np.ndarray:
    """What llama3's scaling divides each rotary frequency by, [head_dim / 2]."""
    scaling = tiny.rope_scaling
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = (
        scaling["original_max_position_embeddings"]
        * tiny.theta ** (-np.arange(0, 1, 2 / tiny.head_dim))
        / (2 * np.pi)
    )
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return (1 / (kept + (1 - kept) / scaling["factor"])).astype(np.float32)


def train_vocabulary() -> tuple[list[str], list[str]]:
    """Tokens and merges of a byte-level BPE on the prose: the special tokens, all bytes, then merges."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(PROSE.read_text(encoding="utf-8").split("\n"), trainer)
    state = json.loads(bpe.to_str())["model"]
    return sorted(state["vocab"], key=state["vocab"].get), [" ".join(merge) for merge in state["merges"]]


def write_gguf(path: Path, tiny: Tiny, model: torch.nn.Module, tokens: list[str], merges: list[str]) -> None:
    config, writer = model.config, gguf.GGUFWriter(path, tiny.arch)
    writer.add_name(f"tiny {tiny.name}")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if tiny.half else gguf.LlamaFileType.ALL_F32)
    writer.add_block_count(tiny.layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(tiny.feed_forward)
    writer.add_head_count(tiny.heads)
    writer.add_head_count_kv(tiny.kv_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(tiny.theta)
    if tiny.head_dim * tiny.heads != HIDDEN or tiny.arch == "gemma3":
        writer.add_key_length(tiny.head_dim)
        writer.add_value_length(tiny.head_dim)
    if tiny.arch == "gemma3":
        writer.add_sliding_window(tiny.window)
    else:
        writer.add_vocab_size(VOCAB)
        writer.add_rope_dimension_count(tiny.head_dim)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [int(gguf.TokenType.CONTROL if t in SPECIAL else gguf.TokenType.NORMAL) for t in tokens]
    )
    writer.add_token_merges(merges)
    writer.add_bos_token_id(SPECIAL.index("<|endoftext|>"))
    writer.add_eos_token_id(SPECIAL.index("<|im_end|>"))
    writer.add_add_bos_token(tiny.adds_bos)
    writer.add_chat_template(CHAT_TEMPLATE)
    for name, values in gguf_tensors(model, tiny).items():
        writer.add_tensor(name, values.astype(np.float16) if tiny.half and values.ndim == 2 else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def expected(path: Path, tiny: Tiny, model: torch.nn.Module) -> dict:
    """The contents of NAME.json, once independent.py agrees."""
    text = PROSE.read_text(encoding="utf-8").split("\n\n")[1][:TEXT_CHARACTERS]
    tokenizer = TextTokenizer(path)
    tokens = ([] if tokenizer.bos is None else [tokenizer.bos]) + tokenizer.encode(text)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([tokens])).logits[0].numpy()
    logprobs = log_softmax(logits)
    difference = np.abs(logprobs - IndependentModel(path).log_probabilities(np.array(tokens)).numpy()).max()
    if difference > AGREEMENT:
        raise RuntimeError(f"{tiny.name}: independent.py differs by {difference:.2e}")
    positions = [(i + 1) * len(tokens) // STORED_ROWS - 1 for i in range(STORED_ROWS)]
    print(
        f"{tiny.name}: {path.stat().st_size} bytes, {len(tokens)} tokens,"
        f" independent.py differs by {difference:.1e}"
    )
    return {
        "model": path.name,
        "text": text,
        "tokens": tokens,
        "nextLogprobs": [round(float(logprobs[i, token]), 6) for i, token in enumerate(tokens[1:])],
        "vocab": VOCAB,
        "positions": positions,
        "rows": base64.b64encode(logprobs[positions].astype("<f4").tobytes()).decode(),
    }


def main() -> None:
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else MODEL_FIXTURES / "tiny"
    output.mkdir(parents=True, exist_ok=True)
    tokens, merges = train_vocabulary()
    for tiny in TINY_MODELS:
        model = build_model(tiny)
        path = output / f"{tiny.name}.gguf"
        with tempfile.TemporaryDirectory(dir=output) as scratch:
            draft = Path(scratch) / path.name
            write_gguf(draft, tiny, model, tokens, merges)
            record = expected(draft, tiny, model)
            draft.replace(path)
        path.with_suffix(".json").write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
