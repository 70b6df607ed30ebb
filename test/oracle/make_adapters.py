"""Adapters with random factors for the tiny models, and the log-probabilities that PEFT + transformers give with them.

    python test/oracle/make_adapters.py [OUTPUT_FOLDER]      (default test/fixtures/adapter/tiny)
    python test/oracle/make_adapters.py --model FILE.gguf OUTPUT_FOLDER

For each adapter NAME: a folder NAME/ as PEFT saves it, NAME.json with what make_tiny_models.py writes for a model
without ("tokens", "nextLogprobs", "positions", "rows"), and for some NAME.gguf, the same adapter as a GGUF file.
The factors are drawn large enough that each one that is wrong, left out, transposed or in a wrong order of rows changes
log-probabilities by far more than rounding does. With --model the adapters are for a real model, weaker, so that it
remains one of language, and without expectations: kld.py compares with those.
"""

import base64
import json
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from make_tiny_models import STORED_ROWS, TINY_MODELS, VOCAB, Tiny, build_model
from oracle import MODEL_FIXTURES, TEST_DIR, Oracle, log_softmax

LAYER_MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ALL = [*LAYER_MODULES, "lm_head"]
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
STRENGTH = 0.6  # of what an adapter adds, beside its matrix
# Of adapters for real models. With 0.1, SmolLM2's perplexity goes from 41 to 67, and the rounding of activations costs
# such a model a third more, also where the adapter is merged.
MODEL_STRENGTH = 0.03
CHANGES_AT_LEAST = 0.05  # mean KLD in nats between with and without


@dataclass(frozen=True)
class TinyAdapter:
    """`settings` go to LoraConfig; `as_gguf` writes a GGUF file too, in that type."""

    name: str
    model: str
    rank: int
    dtype: str
    targets: list[str] = field(default_factory=lambda: ALL)
    settings: dict = field(default_factory=dict)
    as_gguf: str = ""


TINY_ADAPTERS = [
    TinyAdapter("llama-all-f32", "llama-tied", 8, "f32", as_gguf="f32"),
    TinyAdapter(
        "llama-patterns-f16",
        "llama-tied",
        4,
        "f16",
        LAYER_MODULES,
        {
            "use_rslora": True,
            "rank_pattern": {r"^model.layers.1.*\.(q|k)_proj": 3, "down_proj": 16, "layers.0.self_attn.v_proj": 1},
            "alpha_pattern": {"mlp.gate_proj": 2, r"layers\.[1-9]\.self_attn\.q_proj": 5},
        },
    ),
    TinyAdapter("llama3-all-bf16", "llama3-scaled-untied", 16, "bf16", as_gguf="bf16"),
    TinyAdapter("mistral-attention-f16", "mistral", 2, "f16", ["q_proj", "k_proj", "v_proj", "o_proj"]),
    TinyAdapter("gemma3-all-f16", "gemma3", 4, "f16", as_gguf="f16"),
    TinyAdapter(
        "gemma3-patterns-f32", "gemma3", 2, "f32", ["q_proj", "up_proj"], {"rank_pattern": {"layers.5.mlp.up_proj": 7}}
    ),
]


@torch.no_grad()
def draw_factors(model: PeftModel, seed: int, dtype: torch.dtype, strength: float) -> None:
    """Random factors, rounded to what the file holds, such that scale * B A is as large as `strength` says."""
    random = np.random.default_rng(seed)
    for _, module in model.named_modules():
        for adapter, a in getattr(module, "lora_A", {}).items():
            b, scale = module.lora_B[adapter], module.scaling[adapter]
            rank, cols = a.weight.shape
            wanted = strength * float(module.get_base_layer().weight.std())
            spread = (wanted / (abs(scale) * rank**0.5)) ** 0.5
            for factor in (a.weight, b.weight):
                values = torch.from_numpy(random.standard_normal(tuple(factor.shape)) * spread)
                factor.copy_(values.to(dtype).float())


def save_peft(model: PeftModel, folder: Path, dtype: torch.dtype) -> None:
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    weights = folder / "adapter_model.safetensors"
    save_file({name: values.to(dtype) for name, values in load_file(weights).items()}, weights, {"format": "pt"})


def paired_rows(values: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head in the order of llama's GGUF files: (i, i + d/2) become neighbours."""
    shape = values.shape
    return values.reshape(heads, 2, shape[0] // heads // 2, shape[1]).swapaxes(1, 2).reshape(shape)


def save_gguf(model: PeftModel, path: Path, tiny: Tiny, alpha: float, dtype: str) -> None:
    """As llama.cpp's converter writes it: names of GGUF tensors, "lora_a" [rank, cols] and "lora_b" [rows, rank]."""
    arch = gguf.MODEL_ARCH.GEMMA3 if tiny.arch == "gemma3" else gguf.MODEL_ARCH.LLAMA
    names = gguf.get_tensor_name_map(arch, tiny.layers)
    writer = gguf.GGUFWriter(path, tiny.arch)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_name(path.stem)
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    for name, module in model.get_base_model().named_modules():
        for adapter, a in getattr(module, "lora_A", {}).items():
            target = names.get_name(f"{name}.weight", try_suffixes=(".weight",))
            b = module.lora_B[adapter].weight.detach().numpy()
            if tiny.arch == "llama" and name.endswith(("q_proj", "k_proj")):
                b = paired_rows(b, tiny.heads if name.endswith("q_proj") else tiny.kv_heads)
            for suffix, values in (("lora_a", a.weight.detach().numpy()), ("lora_b", b)):
                kind = gguf.GGMLQuantizationType[dtype.upper()]
                writer.add_tensor(f"{target}.{suffix}", gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    return float((np.exp(p) * (p - q)).sum(-1).mean())


def make(seed: int, adapter: TinyAdapter, output: Path) -> None:
    tiny = next(tiny for tiny in TINY_MODELS if tiny.name == adapter.model)
    base = json.loads((MODEL_FIXTURES / "tiny" / f"{tiny.name}.json").read_text())
    tokens = torch.tensor([base["tokens"]])
    model = build_model(tiny)
    with torch.no_grad():
        plain = log_softmax(model(input_ids=tokens).logits[0].numpy())
    config = LoraConfig(
        r=adapter.rank, lora_alpha=adapter.rank * 1.5, target_modules=adapter.targets, **adapter.settings
    )
    adapted = get_peft_model(model, config).eval()
    draw_factors(adapted, seed, DTYPES[adapter.dtype], STRENGTH)
    with torch.no_grad():
        logprobs = log_softmax(adapted(input_ids=tokens).logits[0].numpy())
    change = divergence(logprobs, plain)
    if change < CHANGES_AT_LEAST:
        raise RuntimeError(f"{adapter.name} changes too little: {change:.3f} nats")
    save_peft(adapted, output / adapter.name, DTYPES[adapter.dtype])
    if adapter.as_gguf:
        save_gguf(adapted, output / f"{adapter.name}.gguf", tiny, config.lora_alpha, adapter.as_gguf)
    positions = [(i + 1) * len(base["tokens"]) // STORED_ROWS - 1 for i in range(STORED_ROWS)]
    record = {
        "model": base["model"],
        "tokens": base["tokens"],
        "nextLogprobs": [round(float(logprobs[i, token]), 6) for i, token in enumerate(base["tokens"][1:])],
        "vocab": VOCAB,
        "positions": positions,
        "rows": base64.b64encode(logprobs[positions].astype("<f4").tobytes()).decode(),
    }
    (output / f"{adapter.name}.json").write_text(json.dumps(record) + "\n")
    print(f"{adapter.name}: {change:.2f} nats from {tiny.name}")


MODEL_ADAPTERS = {
    "r8": ("f16", {"r": 8, "lora_alpha": 16}),
    "r16-rslora-patterns": (
        "bf16",
        {
            "r": 16,
            "lora_alpha": 32,
            "use_rslora": True,
            "rank_pattern": {r"layers\.1?[0-9]\.self_attn\.(q|k)_proj": 4, "mlp.down_proj": 24},
            "alpha_pattern": {"gate_proj": 8, r"layers.5\..*": 11},
        },
    ),
    "r64": ("f32", {"r": 64, "lora_alpha": 16}),
}


def make_for_model(path: Path, output: Path) -> None:
    """What is there already is not made again."""
    for seed, (name, (dtype, settings)) in enumerate(MODEL_ADAPTERS.items()):
        if (output / name).exists():
            continue
        adapted = get_peft_model(Oracle.from_gguf(path).model, LoraConfig(target_modules=ALL, **settings))
        draw_factors(adapted, seed, DTYPES[dtype], MODEL_STRENGTH)
        draft = output / f"{name}.draft"
        save_peft(adapted, draft, DTYPES[dtype])
        draft.rename(output / name)


def main() -> None:
    warnings.filterwarnings("ignore", message=".*(tie_word_embeddings|save_embedding_layers).*")
    if sys.argv[1:2] == ["--model"]:
        return make_for_model(Path(sys.argv[2]), Path(sys.argv[3]))
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else TEST_DIR / "fixtures" / "adapter" / "tiny"
    output.mkdir(parents=True, exist_ok=True)
    for seed, adapter in enumerate(TINY_ADAPTERS):
        make(seed, adapter, output)


if __name__ == "__main__":
    main()
