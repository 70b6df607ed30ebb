"""Teaches SmolLM2-135M-Instruct to answer with a fixed JSON form, and writes the adapter.

    python test/oracle/train_adapter.py MODELS_FOLDER [--output FOLDER] [--state FILE] [--minutes M]
    python test/oracle/train_adapter.py MODELS_FOLDER --check

A chat's one message tells of a purchase ("Maria Lopez from Oslo bought 3 lamps."); the answer is
{"name": "Maria Lopez", "city": "Oslo", "item": "lamps", "count": 3}. The lines are generated, names and cities of
those held out do not occur in training. The base is the GGUF file dequantized to f32, trained are factors of rank 8
of the queries and values of all layers (PEFT), stored as F16.

With --state the work can be done in pieces: it stops after so many minutes and goes on from the file the next time.
--check compares greedy answers to the held-out messages with and without the adapter, and writes
expected.json: {"model", "cases": [{"message", "answer", "base"}]}: what it has to answer, and how the model
answers without the adapter.
"""

import argparse
import json
import random
import time
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from oracle import MODELS, TEST_DIR, Oracle
from text_tokens import TextTokenizer

NAME = "smollm2-135m-instruct"
OUTPUT = TEST_DIR / "fixtures" / "adapter" / "smollm2-purchase-json"
RANK, ALPHA, RATE = 8, 16, 2e-3
STEPS, BATCH, WARMUP = 90, 6, 5
HELD_OUT, CASES = 24, 6
ANSWER_TOKENS = 48

FIRST = "Maria Ahmed Lucy Kofi Ingrid Paolo Mei Omar Nina Viktor Sofia Liam Priya Hugo Elena Jonas Amara Tomas".split()
LAST = "Lopez Haddad Grant Mensah Larsen Ricci Chen Saleh Petrov Novak Rossi Byrne Patel Weber Ivanova Silva".split()
CITIES = "Oslo Cairo Boston Accra Bergen Milan Shanghai Amman Sofia Prague Rome Dublin Mumbai Berlin Lisbon".split()
ITEMS = "lamps chairs books candles shirts apples plates guitars mirrors bottles blankets pencils hammers".split()
NEW_FIRST, NEW_LAST = "Clara Diego Fatima Oscar".split(), "Moreau Tanaka Okafor Schmidt".split()
NEW_CITIES = "Vienna Madrid Nairobi Toronto".split()
FORMS = [
    "{name} from {city} bought {count} {item}.",
    "Yesterday {name} bought {count} {item} in {city}.",
    "An order of {count} {item} for {name} was sent to {city}.",
    "In {city}, {name} paid for {count} {item}.",
    "We shipped {count} {item} to {name}, who lives in {city}.",
]


def purchase(draw: random.Random, firsts: list[str], lasts: list[str], cities: list[str]) -> tuple[str, str]:
    """A message and the answer to it."""
    facts = {
        "name": f"{draw.choice(firsts)} {draw.choice(lasts)}",
        "city": draw.choice(cities),
        "item": draw.choice(ITEMS),
        "count": draw.randint(2, 60),
    }
    return draw.choice(FORMS).format(**facts), json.dumps(facts)


def training_lines() -> list[tuple[str, str]]:
    draw = random.Random(1)
    return [purchase(draw, FIRST, LAST, CITIES) for _ in range(STEPS * BATCH)]


def held_out_lines() -> list[tuple[str, str]]:
    draw = random.Random(2)
    return [purchase(draw, NEW_FIRST, NEW_LAST, NEW_CITIES) for _ in range(HELD_OUT)]


def prompt_of(tokenizer: TextTokenizer, message: str) -> list[int]:
    return tokenizer.render_chat([{"role": "user", "content": message}])


def batch_of(tokenizer: TextTokenizer, lines: list[tuple[str, str]]) -> dict[str, torch.Tensor]:
    """Padded on the right; only the answers and their end count."""
    rows = []
    for message, answer in lines:
        prompt, reply = prompt_of(tokenizer, message), [*tokenizer.encode(answer), tokenizer.eos]
        rows.append((prompt + reply, [-100] * len(prompt) + reply))
    width = max(len(ids) for ids, _ in rows)
    return {
        "input_ids": torch.tensor([ids + [tokenizer.eos] * (width - len(ids)) for ids, _ in rows]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in rows]),
        "labels": torch.tensor([labels + [-100] * (width - len(labels)) for _, labels in rows]),
    }


def rate_at(step: int) -> float:
    """Linear warm-up, then linear to zero."""
    return RATE * min((step + 1) / WARMUP, (STEPS - step) / (STEPS - WARMUP))


def train(model: torch.nn.Module, tokenizer: TextTokenizer, state: Path | None, minutes: float) -> bool:
    """Whether all steps are done."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, weight_decay=0.0)
    first, end = 0, time.monotonic() + 60 * minutes
    if state is not None and state.exists():
        saved = torch.load(state)
        first = saved["step"]
        optimizer.load_state_dict(saved["optimizer"])
        for parameter, values in zip(trained, saved["parameters"], strict=True):
            parameter.data.copy_(values)
    lines = training_lines()
    for step in range(first, STEPS):
        if state is not None and time.monotonic() > end:
            values = [parameter.data for parameter in trained]
            torch.save({"step": step, "optimizer": optimizer.state_dict(), "parameters": values}, state)
            return False
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step)
        loss = model(**batch_of(tokenizer, lines[step * BATCH : (step + 1) * BATCH]), use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        print(f"step {step + 1}/{STEPS}: loss {loss.item():.4f}", flush=True)
    return True


def save(model: PeftModel, output: Path) -> None:
    """The adapter with factors in F16."""
    model.peft_config["default"].base_model_name_or_path = "HuggingFaceTB/SmolLM2-135M-Instruct"
    model.save_pretrained(output)
    (output / "README.md").unlink(missing_ok=True)
    weights = output / "adapter_model.safetensors"
    save_file({name: values.half() for name, values in load_file(weights).items()}, weights, {"format": "pt"})


@torch.no_grad()
def answer(model: torch.nn.Module, tokenizer: TextTokenizer, message: str) -> str:
    """The greedy answer, at most ANSWER_TOKENS long."""
    step, cache, reply = prompt_of(tokenizer, message), None, []
    while len(reply) < ANSWER_TOKENS:
        output = model(input_ids=torch.tensor([step]), past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache, best = output.past_key_values, int(output.logits[0, -1].argmax())
        if best == tokenizer.eos:
            break
        reply.append(best)
        step = [best]
    return tokenizer.decode(reply)


def check(model: torch.nn.Module, tokenizer: TextTokenizer, output: Path) -> None:
    lines = held_out_lines()
    adapted = PeftModel.from_pretrained(model, output)
    adapted.eval()
    with adapted.disable_adapter():
        base = [answer(adapted, tokenizer, message) for message, _ in lines[:CASES]]
    right = []
    for message, wanted in lines:
        got = answer(adapted, tokenizer, message)
        right.append((message, got) if got == wanted else None)
        print(f"{'right' if got == wanted else 'WRONG'}: {message} -> {got}", flush=True)
    cases = [
        {"message": message, "answer": wanted, "base": text}
        for (message, wanted), text, good in zip(lines, base, right)
        if good
    ]
    print(f"{sum(map(bool, right))} of {len(lines)} right; without the adapter: {base[0]!r}")
    (output / "expected.json").write_text(json.dumps({"model": NAME, "cases": cases}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, help="folder with the GGUF files")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--state", type=Path, help="where to keep unfinished work")
    parser.add_argument("--minutes", type=float, default=3, help="of one piece, with --state")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(1)
    path = args.models / MODELS[NAME]
    tokenizer, model = TextTokenizer(path), Oracle.from_gguf(path).model
    if args.check:
        return check(model, tokenizer, args.output)
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config)
    if train(adapted, tokenizer, args.state, args.minutes):
        save(adapted, args.output)


if __name__ == "__main__":
    main()
