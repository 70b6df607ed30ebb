"""PyTorch + transformers as an engine of the benchmark. The first parameter is the type: bfloat16 or float32.

Weights are dequantized as transformers does for `gguf_file`; decoding is a plain greedy loop over its KV cache,
several streams as one batch.
"""

import os
import sys
import time

START = time.perf_counter()
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
import transformers
from transformers import AutoModelForCausalLM, DynamicCache

from serve import milliseconds, serve, timings

DTYPE = getattr(torch, sys.argv[1])
IMPORT_SECONDS = time.perf_counter() - START


class Engine:
    def load(self, model, threads, **_):
        begin = time.perf_counter()
        torch.set_num_threads(threads)
        folder, name = os.path.split(model)
        self.model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=DTYPE).eval()
        return {
            "version": f"{transformers.__version__} (torch {torch.__version__})",
            "importMs": IMPORT_SECONDS * 1000,
            "loadMs": milliseconds(begin),
            "configuration": {"dtype": sys.argv[1], "attention": self.model.config._attn_implementation},
        }

    @torch.inference_mode()
    def run(self, prompts, tokens, **_):
        begin = time.perf_counter()
        cache = DynamicCache(config=self.model.config)
        ids = torch.tensor(prompts)
        first_ms = None
        for _step in range(tokens):
            logits = self.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
            ids = logits[:, -1].argmax(dim=-1, keepdim=True)
            ids.tolist()  # what a caller would read
            if first_ms is None:
                first_ms = milliseconds(begin)
        return timings(begin, first_ms, len(prompts) * tokens)


engine = Engine()
serve({"load": engine.load, "run": engine.run})
