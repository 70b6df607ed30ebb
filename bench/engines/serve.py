"""The other end of engine-process.mjs, in a Python engine's own process."""

import json
import os
import sys
import time


def milliseconds(since):
    return (time.perf_counter() - since) * 1000


def timings(begin, first_ms, tokens):
    """The answer to `run`, at its end: of a run that began at `begin` and had its first token after `first_ms`."""
    total_ms = milliseconds(begin)
    return {"firstMs": first_ms, "decodeMs": total_ms - first_ms, "totalMs": total_ms, "tokens": tokens}


def serve(handlers):
    """Answers requests by the handlers' methods, one after the other, until standard input ends.

    Whatever else writes to standard output from now on goes to standard error.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"id": request["id"], "result": handlers[request["method"]](**request["params"])}
        except Exception as error:  # whatever a library raises is the engine's answer
            answer = {"id": request["id"], "error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
