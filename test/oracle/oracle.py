"""The f32 oracle: a GGUF file dequantized to f32, run by PyTorch + transformers on windows of text.

Everything is computed on the CPU in f32 with the eager attention of transformers; independent.py shows that
the loading (q/k permutation, Gemma's norm offset, rotary bases, tied head) is right for the models named
here.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
import transformers

TEST_DIR = Path(__file__).resolve().parent.parent
PROSE = TEST_DIR / "fixtures" / "text" / "prose.txt"
MODEL_FIXTURES = TEST_DIR / "fixtures" / "model"

# Fixture name -> file name in the models folder.
MODELS = {
    "smollm2-135m-instruct": "smollm2-135m-instruct.gguf",
    "gemma-3-270m": "gemma-3-270m.gguf",
}


@dataclass(frozen=True)
class Window:
    """One stretch of text as the model sees it: `tokens` starts with BOS if the model adds one.

    `targets[i]` is the token that follows `tokens[i]` in the text, or -1 where the text ends.
    """

    tokens: np.ndarray
    targets: np.ndarray


def windows(text_ids: list[int], bos: int | None, size: int, count: int) -> Iterator[Window]:
    """Consecutive windows of `size` text tokens each; with a BOS a window has size + 1 rows."""
    if len(text_ids) < size * count:
        raise ValueError(
            f"{count} windows of {size} need {size * count} tokens; the text has {len(text_ids)}"
        )
    prefix = [] if bos is None else [bos]
    for start in range(0, size * count, size):
        tokens = prefix + text_ids[start : start + size]
        after = text_ids[start + size] if start + size < len(text_ids) else -1
        yield Window(np.array(tokens, dtype=np.int64), np.array(tokens[1:] + [after], dtype=np.int64))


class Oracle:
    """A causal model in f32; logits come in chunks of rows, so that a large vocabulary fits in memory."""

    def __init__(self, model: torch.nn.Module):
        self.model = model.eval()
        self.vocab_size = model.get_output_embeddings().weight.shape[0]

    @classmethod
    def from_gguf(cls, path: str | Path, adapter: Path | None = None) -> "Oracle":
        """The file's model; with a PEFT adapter's folder, as PEFT puts that into its layers."""
        path = Path(path)
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        model, loading = transformers.AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            dtype=torch.float32,
            attn_implementation="eager",
            output_loading_info=True,
        )
        problems = {key: value for key, value in loading.items() if value}
        if problems:
            raise RuntimeError(f"{path.name}: transformers did not load every tensor: {problems}")
        if adapter is not None:
            from peft import PeftModel

            PeftModel.from_pretrained(model, adapter, autocast_adapter_dtype=True)  # changes the model in place
        return cls(model)

    @torch.no_grad()
    def hidden(self, tokens: np.ndarray) -> torch.Tensor:
        """Final hidden states after the last norm, [rows, hidden]."""
        ids = torch.from_numpy(np.asarray(tokens, dtype=np.int64))[None]
        return self.model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[0]

    @torch.no_grad()
    def head(self, hidden: torch.Tensor) -> np.ndarray:
        """Logits [rows, vocab] in f32 of the given hidden rows."""
        logits = self.model.get_output_embeddings()(hidden)
        cap = getattr(self.model.config, "final_logit_softcapping", None)
        return (logits if cap is None else torch.tanh(logits / cap) * cap).numpy()

    def logits(self, tokens: np.ndarray, chunk: int = 32) -> Iterator[np.ndarray]:
        """Logits of all rows in order, [<= chunk, vocab] at a time."""
        hidden = self.hidden(tokens)
        for start in range(0, hidden.shape[0], chunk):
            yield self.head(hidden[start : start + chunk])


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Row-wise log-softmax in float64."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
