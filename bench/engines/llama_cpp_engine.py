"""llama.cpp without JavaScript: llama-cpp-python's bindings of the C API as an engine of the benchmark.

Only llama_decode and an arg-max over the logits run between tokens. Flash attention is on; for the prefill works
the physical batch is the fastest of a few.
"""

import ctypes
import time

START = time.perf_counter()

import llama_cpp
import numpy as np

from serve import milliseconds, serve, timings

IMPORT_SECONDS = time.perf_counter() - START
DEFAULT_UBATCH = 512
STREAM_CONTEXT = 512  # tokens of each of several streams
UBATCHES = (256, 512, 2048)
FLASH_ATTENTION_ON = 1
LOG_ERROR = 4

errors = []


@llama_cpp.llama_log_callback
def keep_errors(level, text, _data):
    """llama.cpp says why something fails only in its log."""
    if level == LOG_ERROR:
        errors.append(text.decode("utf-8", "replace").strip())


def failure(what):
    return RuntimeError(f"{what}: {'; '.join(errors[-3:])}" if errors else what)


class Context:
    """A llama_context, and a batch as large as its own."""

    def __init__(self, model, threads, tokens, sequences, ubatch):
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx = tokens * sequences
        settings.n_seq_max = sequences
        settings.n_batch = settings.n_ubatch = ubatch
        settings.n_threads = settings.n_threads_batch = threads
        settings.flash_attn_type = FLASH_ATTENTION_ON
        settings.no_perf = True
        self.handle = llama_cpp.llama_init_from_model(model, settings)
        if not self.handle:
            raise failure("the context cannot be made")
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        self.ubatch = ubatch
        self.batch = llama_cpp.llama_batch_init(ubatch, 0, 1)

    def clear(self):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.handle), False)

    def decode(self, rows):
        """Computes rows of (token, position, sequence, whether logits are wanted), at most a batch."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = wanted
        if llama_cpp.llama_decode(self.handle, batch) != 0:
            raise failure("llama_decode failed")

    def best(self, row):
        """The most likely token after a row of the last batch."""
        logits = llama_cpp.llama_get_logits_ith(self.handle, row)
        array = ctypes.cast(logits, ctypes.POINTER(ctypes.c_float * self.vocabulary)).contents
        return int(np.frombuffer(array, dtype=np.float32).argmax())

    def prefill(self, prompt):
        """Gives the first token after a prompt of sequence 0."""
        for at in range(0, len(prompt), self.ubatch):
            part = prompt[at : at + self.ubatch]
            ends = at + len(part) == len(prompt)
            last = len(part) - 1
            self.decode([(token, at + i, 0, ends and i == last) for i, token in enumerate(part)])
        return self.best(last)

    def step(self, tokens, position):
        """Gives the next token of each sequence, after one more token of each."""
        self.decode([(token, position, i, True) for i, token in enumerate(tokens)])
        return [self.best(i) for i in range(len(tokens))]


class Engine:
    def __init__(self):
        self.contexts = {}
        self.ubatches = {}

    def load(self, model, threads, contextTokens, **_):
        begin = time.perf_counter()
        llama_cpp.llama_log_set(keep_errors, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        settings = llama_cpp.llama_model_default_params()
        settings.n_gpu_layers = 0
        self.threads = threads
        self.context_tokens = -(-contextTokens // 256) * 256
        self.model = llama_cpp.llama_model_load_from_file(model.encode(), settings)
        if not self.model:
            raise failure("the model cannot be loaded")
        self.context()
        return {
            "version": llama_cpp.__version__,
            "importMs": IMPORT_SECONDS * 1000,
            "loadMs": milliseconds(begin),
            "configuration": {
                "flashAttention": True,
                "contextSize": self.context_tokens,
                "ubatch": DEFAULT_UBATCH,
            },
        }

    def context(self, sequences=1, ubatch=DEFAULT_UBATCH):
        """Made once for each setting."""
        key = (sequences, ubatch)
        if key not in self.contexts:
            tokens = self.context_tokens if sequences == 1 else STREAM_CONTEXT
            self.contexts[key] = Context(self.model, self.threads, tokens, sequences, ubatch)
        return self.contexts[key]

    def ubatch_for(self, prompt):
        """The physical batch for a prompt's length, tried out at its first prompt."""
        length = len(prompt)
        if length not in self.ubatches:
            candidates = [size for size in UBATCHES if size <= length] or [DEFAULT_UBATCH]
            times = {size: measure(self.context(ubatch=size), [prompt], 1)["totalMs"] for size in candidates}
            self.ubatches[length] = min(times, key=times.get)
        return self.ubatches[length]

    def run(self, prompts, tokens, purpose, **_):
        if purpose != "prefill":
            return measure(self.context(len(prompts)), prompts, tokens)
        ubatch = self.ubatch_for(prompts[0])
        return {**measure(self.context(ubatch=ubatch), prompts, tokens), "setting": {"ubatch": ubatch}}


def measure(context, prompts, tokens):
    """One prompt of any length, or several of one token each."""
    if len(prompts) > 1 and any(len(prompt) != 1 for prompt in prompts):
        raise ValueError("several streams start with one token each")
    context.clear()
    begin = time.perf_counter()
    length = len(prompts[0])
    if length == 1:
        last = context.step([prompt[0] for prompt in prompts], 0)
    else:
        last = [context.prefill(prompts[0])]
    first_ms = milliseconds(begin)
    for position in range(length, length + tokens - 1):
        last = context.step(last, position)
    return timings(begin, first_ms, len(prompts) * tokens)


engine = Engine()
serve({"load": engine.load, "run": engine.run})
