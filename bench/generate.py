"""Tokens a second of our decoding, of ``generate`` one prompt at a time, and in plain batches.

    python bench/generate.py --json out.json
    python bench/generate.py --gguf FILE      beside llama.cpp; the file: see bench/llama_arm.py
    python bench/generate.py --agreement      how many answers depend on their batch, by type
    python bench/generate.py --alpaca-eval 300 --random-weights --tokenizer llama2-tokenizer
                                              on a GPU: what the reference's evaluation takes

The 80 first turns of MT-Bench through the recipe's template, greedy, 128 new tokens. Plain batches
are padded on the left and in the file's order. One at a time answers every tenth prompt only, and
its rate is that of those. The methods take turns, ``--rounds`` times, the order reversed every
other time; a rate is that of all rounds together. The end token does not count.

``--alpaca-eval N`` times something else: base and tuned, one after the other and on one set of
weights, answer AlpacaEval's first N questions with 512 new tokens, by the plan of a run, under
several budgets. Random weights never stop by themselves, so nothing is shorter than that.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from llama_arm import LlamaCpp, installed
from random_weights import LLAMA_2_7B, random_model
from transformers import GenerationConfig

from tuneproof.benchmark_files import MT_BENCH_QUESTIONS, ensure_file
from tuneproof.data.encode import encode_prompts
from tuneproof.data.questions import alpaca_eval_questions
from tuneproof.data.templates import parse_template
from tuneproof.generate.asking import Stops
from tuneproof.generate.batch import Ask, make_batch
from tuneproof.generate.plan import BASE, Respondent, Turn, compose
from tuneproof.generate.prompts import benchmark_prompts
from tuneproof.generate.transformers_backend import TransformersBackend
from tuneproof.progress import hush_transformers
from tuneproof.recipe import Generate, Lora, Model
from tuneproof.records import Answer, Arm, Prompt
from tuneproof.train.model import add_lora, load_model, load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NEW = 128
STEP = 10
"""One at a time answers every tenth prompt."""

AT_ONCE = 32
"""Sequences that llama.cpp answers at once."""


def read_prompts(path: Path, tokenizer: PreTrainedTokenizerBase) -> list[Prompt]:
    """The first turns, in the file's order."""
    questions = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    template = parse_template("instruction-context-response")
    encoded = encode_prompts(tokenizer, template, [(q["turns"][0], "") for q in questions])
    return [
        Prompt(
            question_id=str(q["question_id"]),
            benchmark="mt_bench",
            category=q["category"],
            instruction=q["turns"][0],
            context="",
            token_ids=tuple(ids),
            reference=None,
            checkable=False,
        )
        for q, ids in zip(questions, encoded, strict=True)
    ]


def plain(
    model: PreTrainedModel, rows: list[tuple[int, ...]], size: int, end: int, new: int
) -> int:
    """Batches in the rows' order through transformers' ``generate``; tokens generated."""
    config = GenerationConfig(
        max_new_tokens=new, do_sample=False, pad_token_id=end, eos_token_id=end
    )
    n = 0
    for first in range(0, len(rows), size):
        batch = rows[first : first + size]
        width = max(map(len, batch))
        ids = torch.tensor([[end] * (width - len(r)) + list(r) for r in batch])
        mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in batch])
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                generation_config=config,
            )[:, width:].tolist()
        n += sum(r.index(end) if end in r else len(r) for r in out)
    return n


def ours(
    backend: TransformersBackend,
    prompts: list[Prompt],
    settings: Generate,
    *,
    who: Respondent = BASE,
) -> list[Answer]:
    """All prompts by the plan."""
    asks = {p.question_id: Ask(prompt=p, token_ids=p.token_ids or ()) for p in prompts}
    turns = [Turn(question_id=q, turn=1, length=len(a.token_ids)) for q, a in asks.items()]
    return [
        answer
        for turns_together in compose(turns, settings.budget)
        for answer in backend.answer(
            make_batch(
                [asks[t.question_id] for t in turns_together],
                settings, who=who, weights="bench", stops=Stops(), seed=42,
            )
        )
    ]  # fmt: skip


def continuous(model: PreTrainedModel, rows: list[tuple[int, ...]], end: int, new: int) -> int:
    """transformers' continuous batching; tokens generated."""
    config = GenerationConfig(
        max_new_tokens=new, do_sample=False, pad_token_id=end, eos_token_id=end
    )
    with torch.no_grad():  # it does not run in inference mode
        outs = model.generate_batch(
            inputs=[list(r) for r in rows], generation_config=config, progress_bar=False
        )
    made = [list(o.generated_tokens) for o in outs.values()]
    if len(made) < len(rows):
        raise RuntimeError(f"{len(made)} of {len(rows)} prompts were answered")
    return sum(r.index(end) if end in r else len(r) for r in made)


def llama_cpp(args: argparse.Namespace, rows: list[tuple[int, ...]], end: int) -> dict[str, Any]:
    """Its methods: one prompt at a time, as many as ours, and several at once."""
    length = max(map(len, rows)) + args.new
    threads = torch.get_num_threads()
    models = {
        n: LlamaCpp(args.gguf, parallel=n, length=length, threads=threads) for n in (1, AT_ONCE)
    }

    def run(n: int, rows: list[tuple[int, ...]]) -> int:
        return sum(map(len, models[n].answer(rows, end=end, new=args.new)))

    run(AT_ONCE, rows[:2])
    return {
        "llama.cpp, one at a time": functools.partial(run, 1, rows[::STEP]),
        f"llama.cpp, {AT_ONCE} at once": functools.partial(run, AT_ONCE, rows),
    }


def agreement(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Of eleven prompts, how many answers are the same alone and all together."""
    rows = []
    for dtype in ("float32", "bfloat16"):
        model = Model(id=args.model, dtype=dtype)
        tokenizer = load_tokenizer(model)
        backend = TransformersBackend(
            add_lora(load_model(model), Lora(dropout=0.0)).eval(), tokenizer
        )
        prompts = read_prompts(args.questions, tokenizer)[3::7]
        for temperature in (0.0, 0.7):
            said = [
                {
                    a.question_id: a.text
                    for a in ours(
                        backend,
                        prompts,
                        Generate(max_new_tokens=80, temperature=temperature, batch_size=size),
                    )
                }
                for size in (1, 12, 12)
            ]
            row: dict[str, Any] = {
                "name": f"{dtype}, temperature {temperature:g}",
                "alone = together": sum(said[0][q] == said[1][q] for q in said[0]),
                "together = again": sum(said[1][q] == said[2][q] for q in said[0]),
                "of": len(prompts),
            }
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def whole_benchmark(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds that base and tuned take for AlpacaEval's first questions, by budget."""
    tokenizer = load_tokenizer(Model(id=args.model, tokenizer=args.tokenizer))
    bare = (
        random_model(args.model)
        if args.random_weights
        else load_model(Model(id=args.model, dtype=args.dtype))
    )
    backend = TransformersBackend(add_lora(bare, Lora(dropout=0.0)).eval(), tokenizer)
    questions = alpaca_eval_questions()[: args.alpaca_eval]
    template = parse_template("instruction-context-response")
    prompts = benchmark_prompts(tokenizer, template, questions)
    cuda = torch.cuda.is_available()
    rows = []
    for size in args.batch_sizes:
        # Twice the tokens for twice the prompts, from the recipe's own budget on.
        plain = Generate()
        tokens = plain.batch_tokens * size // plain.batch_size
        settings = Generate(max_new_tokens=args.new, batch_size=size, batch_tokens=tokens)
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        said = [
            answer
            for who in (BASE, Respondent(Arm.TUNED))
            for answer in ours(backend, prompts, settings, who=who)
        ]
        row: dict[str, Any] = {
            "name": f"batches of at most {size} prompts and {tokens} tokens",
            "seconds": round(time.perf_counter() - began, 1),
            "answers": len(said),
            "tokens": sum(a.n_tokens for a in said),
            "peak_memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2)
            if cuda
            else None,
        }
        row["tokens_per_s"] = round(row["tokens"] / row["seconds"], 1)
        rows.append(row)
        print(json.dumps(row), flush=True)
    return {"model": args.model, "rows": rows, "ratios": {}, "ceiling": {}}


def main() -> None:
    """Run all methods in turn, print a table, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", default="asset:smollm2-135m-instruct", help="folder, hub id or asset:NAME"
    )
    parser.add_argument("--questions", type=Path, help="MT-Bench's question.jsonl, if not its own")
    parser.add_argument("--gguf", type=Path, help="the same weights, for llama.cpp")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--limit", type=int, help="the first so many prompts only")
    parser.add_argument("--new", type=int, help=f"new tokens [default: {NEW}; 512 for AlpacaEval]")
    parser.add_argument(
        "--continuous", action="store_true", help="transformers' own, where it runs"
    )
    parser.add_argument("--agreement", action="store_true", help="only this")
    parser.add_argument("--alpaca-eval", type=int, metavar="N", help="only this: N questions")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--random-weights", action="store_true", help="of Llama-2 7B's geometry")
    parser.add_argument("--tokenizer", help="its folder, where the model's own is not here")
    parser.add_argument("--json", type=Path, dest="out")
    args = parser.parse_args()
    if args.random_weights:
        args.model = LLAMA_2_7B
    if args.new is None:
        args.new = 512 if args.alpaca_eval else NEW
    hush_transformers()
    if args.questions is None and not args.alpaca_eval:
        args.questions = ensure_file(MT_BENCH_QUESTIONS)
    result: dict[str, Any] = {
        "machine": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "load before": os.getloadavg()[0],
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        }
    }
    if args.alpaca_eval:
        result |= whole_benchmark(args)
    elif args.agreement:
        result |= {"rows": agreement(args), "ratios": {}, "ceiling": {}}
    else:
        result |= speeds(args)
    result["machine"]["load after"] = os.getloadavg()[0]
    print(json.dumps(result["machine"]))
    if args.out is not None:
        args.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


def speeds(args: argparse.Namespace) -> dict[str, Any]:
    """The methods in turn."""
    source = Model(id=args.model, dtype=args.dtype)
    tokenizer = load_tokenizer(source)
    prompts = read_prompts(args.questions, tokenizer)[: args.limit]
    rows = [p.token_ids or () for p in prompts]
    end = tokenizer.eos_token_id
    # Two sets of weights: what we make of a model must not help its rivals, nor hinder them.
    model = load_model(source)
    backend = TransformersBackend(add_lora(load_model(source), Lora(dropout=0.0)).eval(), tokenizer)
    settings = Generate(max_new_tokens=args.new)
    methods: dict[str, Callable[[], int]] = {
        "one at a time": lambda: plain(model, rows[::STEP], 1, end, args.new),
        **{
            f"plain batches of {n}": functools.partial(plain, model, rows, n, end, args.new)
            for n in (8, 16, 32)
        },
        "tuneproof": lambda: sum(a.n_tokens for a in ours(backend, prompts, settings)),
    }
    if args.continuous:
        methods["continuous batching"] = lambda: continuous(model, rows, end, args.new)
    if args.gguf is not None and installed():
        methods |= llama_cpp(args, rows, end)
    plain(model, rows[:2], 2, end, 4)
    ours(backend, prompts[:2], Generate(max_new_tokens=4))
    tokens = dict.fromkeys(methods, 0)
    seconds = dict.fromkeys(methods, 0.0)
    cpu = dict.fromkeys(methods, 0.0)
    failed: dict[str, str] = {}
    for i in range(args.rounds):
        for name in list(methods)[:: -1 if i % 2 else 1]:
            if name in failed:
                continue
            began, worked = time.perf_counter(), time.process_time()
            try:
                tokens[name] += methods[name]()
            except Exception as error:
                # A rival that does not run here is a line of the table; if ours does not, the bench
                # has nothing to say.
                if name == "tuneproof":
                    raise
                failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
                continue
            seconds[name] += time.perf_counter() - began
            cpu[name] += time.process_time() - worked
            print(f"  round {i + 1}: {name}: {seconds[name]:.0f} s in all", flush=True)
    table: list[dict[str, Any]] = [
        {
            "name": name,
            "tokens_per_s": round(tokens[name] / seconds[name], 1),
            "tokens_per_cpu_s": round(tokens[name] / cpu[name], 1),
            "tokens": tokens[name],
            "peak_memory_gib": None,
        }
        for name in methods
        if name not in failed
    ]
    rate = {row["name"]: row["tokens_per_s"] for row in table}
    best = max((n for n in rate if n.startswith("plain")), key=lambda n: rate[n])
    peers = ["one at a time", best, *(n for n in rate if n.startswith("llama.cpp"))]
    ratios = {f"tuneproof / {name}": rate["tuneproof"] / rate[name] for name in peers}
    print("\n| method | tokens/s | of CPU time | × one at a time |\n|---|---|---|---|")
    for row in table:
        print(
            f"| {row['name']} | {row['tokens_per_s']} | {row['tokens_per_cpu_s']} | "
            f"{row['tokens_per_s'] / rate['one at a time']:.1f} |"
        )
    for name, why in failed.items():
        print(f"{name}: did not run ({why})")
    if not installed():
        print("llama.cpp: not installed (pip install llama-cpp-python, and --gguf)")
    elif args.gguf is None:
        print("llama.cpp: no weights; --gguf names them")
    if importlib.util.find_spec("vllm") is None:
        print("vLLM: not installed (it needs a GPU)")
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f}")
    return {"rows": table, "ratios": ratios, "failed": failed, "ceiling": {}}


if __name__ == "__main__":
    main()
