"""A second opinion on the oracle: plain forward passes of llama and gemma3 straight from a GGUF's tensors.

Nothing of transformers is used. Rotary styles, norms and metadata follow what GGUF files mean: llama's q
and k are stored permuted so that neighbours (2i, 2i+1) rotate together, gemma3's norm weights already
include the +1, `rope_freqs.weight` divides the rotary frequencies. Run as a script it compares
log-probabilities with oracle.py:

    python test/oracle/independent.py MODELS_FOLDER [--tokens 64]
"""

import argparse
import sys
from pathlib import Path

import gguf
import numpy as np
import torch

TOLERANCE = 1e-4  # largest difference of a log-probability, f32 against f64


class IndependentModel:
    """`arch` is llama (also mistral) or gemma3; `dtype` is what weights and activations are computed in."""

    def __init__(self, path: str | Path, dtype: torch.dtype = torch.float64):
        reader = gguf.GGUFReader(path)
        self.arch = reader.fields["general.architecture"].contents()
        self.fields = {key: field for key, field in reader.fields.items() if key.startswith(self.arch + ".")}
        self.dtype = dtype
        self.weights = {
            t.name: torch.from_numpy(np.array(gguf.dequantize(t.data, t.tensor_type), dtype=np.float32)).to(
                dtype
            )
            for t in reader.tensors
        }
        hidden = self.read("embedding_length")
        self.layers: int = self.read("block_count")
        self.heads: int = self.read("attention.head_count")
        self.kv_heads: int = self.read("attention.head_count_kv", self.heads)
        self.head_dim: int = self.read("attention.key_length", hidden // self.heads)
        self.eps: float = self.read("attention.layer_norm_rms_epsilon")
        self.base: float = self.read("rope.freq_base", 10000.0)
        self.gemma = self.arch == "gemma3"
        self.local_base: float = self.read("rope.freq_base_swa", 10000.0)
        self.window: int | None = self.read("attention.sliding_window") if self.gemma else None
        self.embed_scale = hidden**0.5 if self.gemma else 1.0

    def read(self, key: str, default=None):
        field = self.fields.get(f"{self.arch}.{key}")
        return default if field is None else field.contents()

    def is_local(self, layer: int) -> bool:
        return self.gemma and layer % 6 != 5

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weights[name + ".weight"]

    def project(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ self.weights[name + ".weight"].T

    def rotate(self, x: torch.Tensor, local: bool) -> torch.Tensor:
        """Rotates x [heads, rows, head_dim] by position: halves for gemma3, neighbours for llama."""
        pairs = self.head_dim // 2
        exponent = -torch.arange(pairs, dtype=torch.float64) / pairs
        frequency = (self.local_base if local else self.base) ** exponent
        if "rope_freqs.weight" in self.weights:
            frequency = frequency / self.weights["rope_freqs.weight"].double()
        angle = torch.arange(x.shape[1], dtype=torch.float64)[:, None] * frequency
        cos, sin = angle.cos().to(self.dtype), angle.sin().to(self.dtype)
        if self.gemma:
            a, b = x[..., :pairs], x[..., pairs:]
            return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)

    def attention(self, x: torch.Tensor, layer: int) -> torch.Tensor:
        rows, block, local = x.shape[0], f"blk.{layer}.", self.is_local(layer)

        def heads(name: str, count: int) -> torch.Tensor:
            return self.project(x, block + name).view(rows, count, self.head_dim).transpose(0, 1)

        q, k, v = heads("attn_q", self.heads), heads("attn_k", self.kv_heads), heads("attn_v", self.kv_heads)
        if self.gemma:
            q, k = self.norm(q, block + "attn_q_norm"), self.norm(k, block + "attn_k_norm")
        q, k = self.rotate(q, local), self.rotate(k, local)
        group = self.heads // self.kv_heads
        scores = q @ k.repeat_interleave(group, 0).transpose(1, 2) / self.head_dim**0.5
        distance = torch.arange(rows)[:, None] - torch.arange(rows)
        hidden = (distance < 0) | (distance >= self.window) if local else distance < 0
        mixed = scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v.repeat_interleave(group, 0)
        return self.project(mixed.transpose(0, 1).flatten(1), block + "attn_output")

    def mlp(self, x: torch.Tensor, layer: int) -> torch.Tensor:
        block = f"blk.{layer}."
        gate = self.project(x, block + "ffn_gate")
        activation = (
            torch.nn.functional.gelu(gate, approximate="tanh")
            if self.gemma
            else torch.nn.functional.silu(gate)
        )
        return self.project(activation * self.project(x, block + "ffn_up"), block + "ffn_down")

    @torch.no_grad()
    def log_probabilities(self, tokens: np.ndarray) -> torch.Tensor:
        """Log-softmax of the logits, [rows, vocab], in `dtype`."""
        x = self.weights["token_embd.weight"][torch.as_tensor(tokens)] * self.embed_scale
        for layer in range(self.layers):
            block = f"blk.{layer}."
            update = self.attention(self.norm(x, block + "attn_norm"), layer)
            x = x + (self.norm(update, block + "post_attention_norm") if self.gemma else update)
            update = self.mlp(self.norm(x, block + "ffn_norm"), layer)
            x = x + (self.norm(update, block + "post_ffw_norm") if self.gemma else update)
        head = "output" if "output.weight" in self.weights else "token_embd"
        return self.project(self.norm(x, "output_norm"), head).log_softmax(-1)


def main() -> int:
    from oracle import MODELS, PROSE, Oracle, log_softmax, windows
    from text_tokens import TextTokenizer

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, help="folder with the GGUF files")
    parser.add_argument("--tokens", type=int, default=64)
    args = parser.parse_args()
    worst = 0.0
    for name, file in MODELS.items():
        tokenizer = TextTokenizer(args.models / file)
        window = next(windows(tokenizer.encode(PROSE.read_text()), tokenizer.bos, args.tokens, 1))
        ours = IndependentModel(args.models / file).log_probabilities(window.tokens).numpy()
        oracle = log_softmax(np.concatenate(list(Oracle.from_gguf(args.models / file).logits(window.tokens))))
        difference = np.abs(ours - oracle)
        likely = oracle > np.log(1e-4)
        divergence = (np.exp(oracle) * (oracle - ours)).sum(-1)
        print(
            f"{name}: {len(window.tokens)} rows, largest difference of a log-probability"
            f" {difference.max():.2e} ({difference[likely].max():.2e} where p > 1e-4),"
            f" largest KLD {divergence.max():.1e},"
            f" same top {np.mean(ours.argmax(-1) == oracle.argmax(-1)):.4f}"
        )
        worst = max(worst, difference.max())
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
