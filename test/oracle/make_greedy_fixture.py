"""Writes the oracle's greedy continuations of 8 prompts a model: test/fixtures/model/NAME.greedy.json.

    python test/oracle/make_greedy_fixture.py MODELS_FOLDER [NAME...]

A model with a chat template is given chat messages, another one plain text:
    {"model", "eos": id,
     "cases": [{"messages" | "prompt",
                "tokens": [...],         the rendered prompt as the model is to be fed, with any BOS
                "continuation": [...],   32 tokens, or fewer if the last one is the end token
                "margins": [...],        logit of the best token minus that of the second, at each step
                "text": "..."}]}         of the continuation, less the end token; for the reader

Quantized arithmetic may choose otherwise where the margin is small: compare up to the first step whose
margin is below what the arithmetic can move. Steps are computed with a KV cache and must agree with one
pass over the whole sequence.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from oracle import MODEL_FIXTURES, MODELS, Oracle
from text_tokens import TextTokenizer

STEPS = 32
CACHE_AGREEMENT = 2e-3  # largest difference of a margin between the two ways, in logits

# Chosen for their first small margin to come late.
CHATS = [
    [("user", "What is the capital of France? Answer with one word.")],
    [("user", "Count from 1 to 20.")],
    [("user", "What are the seven days of the week, in order?")],
    [("user", "Write a Python function that adds two numbers.")],
    [("system", "You are a helpful assistant."), ("user", "What is gravity?")],
    [
        ("user", "What is the capital of Italy?"),
        ("assistant", "The capital of Italy is Rome."),
        ("user", "And of Spain?"),
    ],
    [("user", "What is the boiling point of water in Celsius?")],
    [("user", "What is the speed of light?")],
]
PROMPTS = [
    "1, 2, 3, 4, 5, 6, 7, 8,",
    "A, B, C, D, E, F, G,",
    "The quick brown fox",
    "<html>\n<head>\n<title>",
    "We hold these truths to be self-evident, that all men are",
    "10 20 30 40 50",
    "| a | b |\n|---|---|\n| 1 | 2 |\n",
    "Montag, Dienstag, Mittwoch,",
]


@torch.no_grad()
def greedy(model: torch.nn.Module, tokens: list[int], eos: int) -> tuple[list[int], list[float]]:
    """Continuation and margins, one token a step through the cache."""
    step, cache, continuation, margins = tokens, None, [], []
    while len(continuation) < STEPS and continuation[-1:] != [eos]:
        output = model(
            input_ids=torch.tensor([step]), past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        cache = output.past_key_values
        best = output.logits[0, -1].topk(2)
        continuation.append(int(best.indices[0]))
        margins.append(float(best.values[0] - best.values[1]))
        step = continuation[-1:]
    return continuation, margins


def check_against_one_pass(
    oracle: Oracle, tokens: list[int], continuation: list[int], margins: list[float]
) -> None:
    hidden = oracle.hidden(np.array(tokens + continuation[:-1]))
    best = torch.from_numpy(oracle.head(hidden[len(tokens) - 1 :])).topk(2)
    difference = (best.values[:, 0] - best.values[:, 1] - torch.tensor(margins)).abs().max()
    if best.indices[:, 0].tolist() != continuation or difference > CACHE_AGREEMENT:
        raise RuntimeError(f"steps with and without the cache differ, margins by {difference:.2e}")


def greedy_fixture(path: Path) -> dict:
    tokenizer, oracle = TextTokenizer(path), Oracle.from_gguf(path)
    cases = []
    for prompt in CHATS if tokenizer.chat_template else PROMPTS:
        if tokenizer.chat_template:
            messages = [{"role": role, "content": content} for role, content in prompt]
            case = {"messages": messages, "tokens": tokenizer.render_chat(messages)}
        else:
            case = {"prompt": prompt, "tokens": [tokenizer.bos] + tokenizer.encode(prompt)}
        continuation, margins = greedy(oracle.model, case["tokens"], tokenizer.eos)
        check_against_one_pass(oracle, case["tokens"], continuation, margins)
        case["continuation"] = continuation
        case["margins"] = [round(margin, 4) for margin in margins]
        case["text"] = tokenizer.decode([token for token in continuation if token != tokenizer.eos])
        cases.append(case)
    return {"model": path.name, "eos": tokenizer.eos, "cases": cases}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, help="folder with the GGUF files")
    parser.add_argument("names", nargs="*", choices=[*MODELS, []], help="which of them; default all")
    args = parser.parse_args()
    for name in args.names or MODELS:
        record = greedy_fixture(args.models / MODELS[name])
        cases = ",\n".join("  " + json.dumps(case, ensure_ascii=False) for case in record.pop("cases"))
        fixture = MODEL_FIXTURES / f"{name}.greedy.json"
        fixture.write_text(f'{json.dumps(record)[:-1]}, "cases": [\n{cases}\n]}}\n', encoding="utf-8")
        print(f"{fixture.name}: {fixture.stat().st_size} bytes")


if __name__ == "__main__":
    main()
