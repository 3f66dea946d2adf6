"""Training and validation speed: ours, plain transformers, and peers, in one run.

Every arm trains the same rows of Dolly with the same model, adapter (r 8 on q and v), optimizer and
16 sequences a step, each in a process of its own; the arms take turns, ``--rounds`` times. Real
tokens, no padding, are counted. On a CPU the model is SmolLM2-135M; on a GPU the geometry of
Llama-2 7B with random weights.

Each peer has the best setting that we know for it, beside the one that people have:

* ``plain Trainer`` pads by 2, as the reference's scripts do; ``by 1`` it pads nothing.
* ``TRL`` is its defaults, gradient checkpointing included, by 2. ``TRL, no checkpointing`` goes by
  1; or, where FlashAttention is installed, by 4 without padding (``padding_free``).
* ``TRL packed``, without checkpointing: its packing is free of padding, so several rows a device
  would be one long row under a dense mask. It goes by 1, in rows of 1,024 tokens, 4 to a step.
  Where FlashAttention is installed, which needs no mask, it has rows of 2,048, 2 to a step, the
  micro-batches that ours have. With Liger, the same. Unsloth brings an attention of its own, and
  has the latter.
* Validation is the plain Trainer's, by 1, 2 and 8, and ours.

The script is long, each arm being a program of its own.

The plain Trainer's attention is ``sdpa``, its default. On a GPU every arm runs once to warm up,
with a model of its own that is gone when the timed one is loaded.

    python bench/train.py --data dolly.jsonl --json bench/results/FILE.json
    python bench/train.py --data dolly.jsonl --tokenizer llama2-tokenizer --steps 10     # on a GPU

TRL is in the extra ``bench``; a peer that is not installed or fails is left out and named.
``ceiling`` is the rate of a bfloat16 product of this model's shapes, measured here, over 4 FLOP a
parameter and token (2 in validation). ``tokens_per_cpu_s`` tells what other work on the machine
took: on an idle one it is ``tokens_per_s`` over the threads in use.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED = 42
GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train or validate; ``needs`` is the package it comes from."""

    name: str
    kind: str
    dropout: float = 0.05
    needs: str | None = None
    cuda: bool = False


TRAIN_TOKENS = 2_518_407
"""An epoch of the reference's training in Llama-2's tokens, as ``tuneproof plan`` counts them."""

VALIDATION_TOKENS = 311_856

PADDED_BY_1 = "validation, by 1"
"""Without padding."""

PADDED_BY_2 = "validation, padded by 2"
"""As the reference's scripts have it."""

PADDED_BY_8 = "validation, padded by 8"
"""As the Trainer has it where a recipe says nothing."""

ROWS_A_STEP = 16

ARMS = (
    Arm(name="plain Trainer", kind="padded-by-2"),
    Arm(name="plain Trainer, by 1", kind="padded-by-1"),
    Arm(name="TRL", kind="trl", needs="trl"),
    Arm(name="TRL, no checkpointing", kind="trl-fast", needs="trl"),
    Arm(name="TRL packed", kind="trl-packed", needs="trl"),
    Arm(name="TRL packed, Liger", kind="trl-liger", needs="liger_kernel", cuda=True),
    Arm(name="Unsloth, packed", kind="unsloth", dropout=0.0, needs="unsloth", cuda=True),
    Arm(name="tuneproof", kind="packed"),
    Arm(name="tuneproof, no dropout", kind="packed", dropout=0.0),
    Arm(name=PADDED_BY_1, kind="validate-padded-by-1"),
    Arm(name=PADDED_BY_2, kind="validate-padded-by-2"),
    Arm(name=PADDED_BY_8, kind="validate-padded-by-8"),
    Arm(name="validation, tuneproof", kind="validate-packed"),
)


# --- one arm, in a process of its own -----------------------------------------------------------


def load_rows(args: argparse.Namespace, n: int) -> list[Any]:
    """``n`` rows of Dolly's train split in its order, cut at 1024 tokens as the reference does."""
    from tuneproof.data.encode import encode_rows
    from tuneproof.data.prepare import prepare
    from tuneproof.data.templates import parse_template
    from tuneproof.recipe import Data, Model, Source
    from tuneproof.records import Split
    from tuneproof.train.model import load_tokenizer

    source = Source(path=str(args.data)) if args.data else Source(sample=True)
    examples = prepare(Data(source=source), SEED).splits[Split.TRAIN][:n]
    if len(examples) < n:
        sys.exit(f"{n} rows are wanted and there are {len(examples)}: name Dolly with --data.")
    tokenizer = load_tokenizer(Model(id=args.model, tokenizer=args.tokenizer))
    template = parse_template("instruction-context-response")
    rows = encode_rows(
        tokenizer, template, examples, max_length=1024, append_eos=False, loss_on="text"
    )
    return [tokenizer, rows]


def load(args: argparse.Namespace, dropout: float) -> Any:
    """The model with its adapter, in bfloat16: real weights, or a known geometry's at random."""
    from random_weights import random_model
    from transformers import set_seed

    from tuneproof.recipe import Lora, Model
    from tuneproof.train.model import add_lora, load_model

    set_seed(SEED)
    if args.random_weights:
        base = random_model(args.model, seed=SEED)
    else:
        base = load_model(Model(id=args.model, dtype="bfloat16"))
    return add_lora(base, Lora(dropout=dropout))


def measure(args: argparse.Namespace, arm: Arm, round_number: int) -> dict[str, Any]:
    """Train or validate ``--steps`` × 16 rows; real tokens, seconds and peak memory."""
    if arm.kind == "unsloth":
        import unsloth  # noqa: F401  (it changes what is imported after it)
    import torch

    from tuneproof.progress import hush_transformers

    hush_transformers()
    torch.set_num_threads(args.threads)
    n = ROWS_A_STEP * args.steps
    tokenizer, rows = load_rows(args, n * args.rounds)
    rows = rows[n * round_number : n * (round_number + 1)]
    cuda = torch.cuda.is_available()
    if cuda:
        # Kernels are chosen and compiled for the process; what wraps a model goes with it.
        with prepared(args, arm, tokenizer, rows) as (go, _):
            go()
        gc.collect()
        torch.cuda.empty_cache()
    with prepared(args, arm, tokenizer, rows) as (go, parameters):
        if cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        began, cpu = time.perf_counter(), time.process_time()
        go()
        if cuda:
            torch.cuda.synchronize()
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    peak = (
        torch.cuda.max_memory_allocated()
        if cuda
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    return {
        "tokens": sum(len(r.token_ids) for r in rows),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_memory_gib": peak / GIB,
        "parameters": parameters,
    }


@contextlib.contextmanager
def prepared(
    args: argparse.Namespace, arm: Arm, tokenizer: Any, rows: list[Any]
) -> Iterator[tuple[Any, int]]:
    """A model of its own and a trainer around it: what is to be timed, and its parameters."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as opened:
        out = Path(folder)
        if arm.kind.startswith(("trl", "unsloth")):
            trainer = peer(args, arm, tokenizer, rows, out)
        else:
            trainer = ours_or_plain(args, arm, tokenizer, rows, out, opened)
        parameters = sum(p.numel() for p in trainer.model.parameters())
        yield trainer.evaluate if arm.kind.startswith("validate") else trainer.train, parameters


def ours_or_plain(
    args: argparse.Namespace,
    arm: Arm,
    tokenizer: Any,
    rows: list[Any],
    out: Path,
    opened: contextlib.ExitStack,
) -> Any:
    """The trainer of a run of ours, packed or padded by what the arm's kind ends with."""
    from transformers import PrinterCallback, TrainerCallback

    from tuneproof.progress import SilentReporter
    from tuneproof.recipe import Monitor, Train
    from tuneproof.train.memory import trim_heap
    from tuneproof.train.packed import packed_model
    from tuneproof.train.trainer import make_trainer, packing_for

    class Trim(TrainerCallback):
        """As in a run of ours, and as a plain Trainer does not."""

        def on_step_end(self, *_: Any, **__: Any) -> None:
            trim_heap()

        def on_prediction_step(self, *_: Any, **__: Any) -> None:
            trim_heap()

    model = load(args, arm.dropout)
    packed = arm.kind.endswith("packed")
    by = 2 if packed else int(arm.kind.rpartition("-")[2])
    train = Train(
        epochs=1.0, append_eos=False, packing=packed, eval_steps=10**6, micro_batch_size=by
    )
    packing, said = packing_for(model, tokenizer, train, rows, SilentReporter())
    assert (packing is not None) == packed, said
    if packing is not None:
        opened.enter_context(packed_model(model, packing))
    trainer = make_trainer(
        model,
        tokenizer,
        train,
        Monitor(),
        seed=SEED,
        rows=rows,
        validation=rows,
        out=out,
        packed=packed,
    )
    trainer.remove_callback(PrinterCallback)
    if packed and trainer.args.device.type == "cpu":
        trainer.add_callback(Trim())
    _no_checkpoints(trainer.args)
    return trainer


def peer_settings(kind: str, *, flash: bool) -> dict[str, Any]:
    """What TRL is told, for its defaults or for what is fastest (see the module's docstring)."""
    settings: dict[str, Any] = {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": ROWS_A_STEP // 2,
        "num_train_epochs": 1,
        "learning_rate": 2e-4,
        "max_length": 1024,
        "bf16": True,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    if kind == "trl":
        return settings
    settings |= {"gradient_checkpointing": False, "per_device_train_batch_size": 1}
    if kind == "trl-fast":
        settings["gradient_accumulation_steps"] = ROWS_A_STEP
        if flash:
            settings |= {
                "padding_free": True,
                "max_length": None,
                "per_device_train_batch_size": 4,
                "gradient_accumulation_steps": ROWS_A_STEP // 4,
            }
        return settings
    # 16 sequences are three or four thousand tokens.
    long = flash or kind == "unsloth"
    settings |= {
        "packing": True,
        "max_length": 2048 if long else 1024,
        "gradient_accumulation_steps": 2 if long else 4,
    }
    if kind == "trl-liger":
        settings["use_liger_kernel"] = True
    return settings


def peer(args: argparse.Namespace, arm: Arm, tokenizer: Any, rows: list[Any], out: Path) -> Any:
    """TRL's trainer on the same token ids: its defaults, or as fast as it goes."""
    import torch
    from datasets import Dataset
    from transformers import PrinterCallback
    from transformers.utils.import_utils import is_flash_attn_2_available
    from trl import SFTConfig, SFTTrainer

    flash = torch.cuda.is_available() and is_flash_attn_2_available()
    if arm.kind == "unsloth":
        model = unsloth_model(args, tokenizer, out)
    else:
        model = load(args, arm.dropout)
        if flash and arm.kind != "trl":
            model.get_base_model().set_attn_implementation("flash_attention_2")
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(out),
            use_cpu=not torch.cuda.is_available(),
            dataloader_pin_memory=torch.cuda.is_available(),
            **peer_settings(arm.kind, flash=flash),
        ),
        train_dataset=Dataset.from_dict({"input_ids": [list(r.token_ids) for r in rows]}),
        processing_class=tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def unsloth_model(args: argparse.Namespace, tokenizer: Any, out: Path) -> Any:
    """The same weights as Unsloth loads and adapts them; alone in the GPU's memory."""
    import torch
    from unsloth import FastLanguageModel

    load(args, 0.0).unload().save_pretrained(out / "base")
    gc.collect()
    torch.cuda.empty_cache()
    tokenizer.save_pretrained(out / "base")
    base, _ = FastLanguageModel.from_pretrained(
        str(out / "base"), max_seq_length=2048, dtype=torch.bfloat16, load_in_4bit=False
    )
    return FastLanguageModel.get_peft_model(
        base,
        r=8,
        lora_alpha=16,
        lora_dropout=0.0,
        target_modules=["q_proj", "v_proj"],
        use_gradient_checkpointing=False,
        random_state=SEED,
    )


def _no_checkpoints(arguments: Any) -> None:
    arguments.save_strategy = arguments.eval_strategy = "no"
    arguments.load_best_model_at_end = False


def product_rate(args: argparse.Namespace) -> dict[str, float]:
    """FLOP a second of a bfloat16 product of the MLP's shapes, the best of seven."""
    import torch

    torch.set_num_threads(args.threads)
    model = load(args, 0.0)
    hidden, inner = model.config.hidden_size, model.config.intermediate_size
    device = next(model.parameters()).device
    x = torch.randn(2048, hidden, dtype=torch.bfloat16, device=device)
    w = torch.randn(hidden, inner, dtype=torch.bfloat16, device=device)
    best = 0.0
    for _ in range(7):
        began = time.perf_counter()
        for _ in range(20):
            x @ w
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = max(best, 20 * 2 * 2048 * hidden * inner / (time.perf_counter() - began))
    return {"flop_per_s": best, "parameters": sum(p.numel() for p in model.parameters())}


# --- all arms -----------------------------------------------------------------------------------


def words_of(args: argparse.Namespace) -> list[str]:
    """What the process of an arm is called with, to mean the same."""
    words = [f"--{name}={getattr(args, name)}" for name in ("model", "steps", "rounds", "threads")]
    for name in ("tokenizer", "data"):
        if getattr(args, name) is not None:
            words.append(f"--{name}={getattr(args, name)}")
    return [*words, "--random-weights"] if args.random_weights else words


def in_process(words: list[str], what: str, threads: int) -> dict[str, Any]:
    """Run this script for one arm; what it printed last."""
    done = subprocess.run(
        [sys.executable, __file__, *words, "--child", what],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or f"it ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def summed(arm: Arm, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """One row of the table: all rounds together."""
    tokens = sum(r["tokens"] for r in runs)
    each = [r["tokens"] / r["seconds"] for r in runs]
    return {
        "name": arm.name,
        "tokens_per_s": round(tokens / sum(r["seconds"] for r in runs), 1),
        "tokens_per_cpu_s": round(tokens / sum(r["cpu_seconds"] for r in runs), 1),
        "by_round": [round(v, 1) for v in each],
        "peak_memory_gib": round(max(r["peak_memory_gib"] for r in runs), 2),
        "tokens": tokens,
        "seconds": round(sum(r["seconds"] for r in runs), 1),
        "dropout": arm.dropout,
    }


def ratios(rows: list[dict[str, Any]], key: str) -> dict[str, float]:
    """Ours over each other arm of the same kind."""
    speed = {r["name"]: r[key] for r in rows}
    peers = [n for n in speed if n.startswith(("TRL", "Unsloth"))]
    found = {}
    for ours in ("tuneproof", "tuneproof, no dropout"):
        for other in ("plain Trainer", "plain Trainer, by 1", *peers):
            found[f"{ours} / {other}"] = round(speed[ours] / speed[other], 3)
    mine = "validation, tuneproof"
    for other in (PADDED_BY_1, PADDED_BY_2, PADDED_BY_8):
        found[f"{mine} / {other}"] = round(speed[mine] / speed[other], 3)
    return found


def projection(speed: dict[str, float]) -> str:
    """Three epochs of Dolly as the reference trains them, and its 22 validations beside."""
    training = 3 * TRAIN_TOKENS / speed["tuneproof"] / 60
    validating = 22 * VALIDATION_TOKENS / speed["validation, tuneproof"] / 60
    return f"three epochs: {training:.1f} min; with 22 validations {training + validating:.1f} min"


def machine(args: argparse.Namespace) -> dict[str, Any]:
    """What it ran on and with."""
    from importlib.metadata import version

    import torch

    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line for line in info.read_text("utf-8").splitlines() if "model name" in line]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    packages = ("torch", "transformers", "peft", "accelerate", "trl")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": args.threads,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "load_average_before": [round(v, 2) for v in os.getloadavg()],
        "packages": {n: version(n) for n in packages if importlib.util.find_spec(n)},
    }


def parse(words: list[str]) -> argparse.Namespace:
    """The command line; rows become whole optimizer steps, and the model is named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a folder, a hub id or an asset")
    parser.add_argument("--tokenizer", help="its tokenizer's folder, if another")
    parser.add_argument("--random-weights", action="store_true", help="of a known geometry")
    parser.add_argument("--data", type=Path, help="Dolly as JSONL; else the bundled sample")
    parser.add_argument("--steps", type=int, default=2, help="optimizer steps an arm and round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rows", type=int, help="rows an arm and round, in place of --steps")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, dest="out")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    if args.rows:
        args.steps = -(-args.rows // ROWS_A_STEP)
        if args.rows % ROWS_A_STEP:
            print(
                f"--rows {args.rows}: {ROWS_A_STEP * args.steps}, whole optimizer steps of "
                f"{ROWS_A_STEP}",
                file=sys.stderr,
            )
    import torch

    if args.model is None:
        args.random_weights = torch.cuda.is_available()
        args.model = (
            "meta-llama/Llama-2-7b-hf" if args.random_weights else "asset:smollm2-135m-instruct"
        )
    if args.random_weights and args.tokenizer is None:
        parser.error(
            f"random weights of {args.model} have no tokenizer: give --tokenizer the folder of "
            "Llama-2's, or the id of a model on the hub whose tokenizer you may download"
        )
    return args


def main() -> None:
    """Run all arms in turn, print a table, write JSON."""
    args = parse(sys.argv[1:])
    import torch

    if args.child == "ceiling":
        print(json.dumps(product_rate(args)))
        return
    if args.child:
        number, _, round_number = args.child.partition(",")
        print(json.dumps(measure(args, ARMS[int(number)], int(round_number))))
        return

    described = machine(args)
    words = words_of(args)
    chosen, left_out = [], []
    for i, arm in enumerate(ARMS):
        missing = arm.needs is not None and importlib.util.find_spec(arm.needs) is None
        if missing or (arm.cuda and not torch.cuda.is_available()):
            left_out.append(f"{arm.name}: {'not installed' if missing else 'needs a GPU'}")
        else:
            chosen.append((i, arm))
    began = time.perf_counter()
    runs: dict[str, list[dict[str, Any]]] = {arm.name: [] for _, arm in chosen}
    rates = []
    for round_number in range(args.rounds):
        rates.append(in_process(words, "ceiling", args.threads))
        for i, arm in chosen:
            if arm.name not in runs:
                continue
            try:
                runs[arm.name].append(in_process(words, f"{i},{round_number}", args.threads))
            except RuntimeError as error:
                if arm.needs is None:
                    raise
                # Only a peer may fail, and is named with why.
                left_out.append(f"{arm.name}: {str(error).splitlines()[-1]}")
                del runs[arm.name]
                continue
            print(f"round {round_number + 1}: {summed(arm, runs[arm.name])}", file=sys.stderr)
    rows = [summed(arm, runs[arm.name]) for _, arm in chosen if arm.name in runs]
    rate = statistics.median(r["flop_per_s"] for r in rates)
    parameters = rates[0]["parameters"]
    ceiling = rate / (4 * parameters)
    for row in rows:
        top = 2 * ceiling if row["name"].startswith("validation") else ceiling
        row["share_of_ceiling"] = round(row["tokens_per_s"] / top, 3)
    result = {
        "machine": described,
        "settings": {
            "model": Path(args.model).name,
            "data": args.data.name if args.data else "the bundled sample",
            "rows an arm": ROWS_A_STEP * args.steps * args.rounds,
            "rounds": args.rounds,
            "random weights": args.random_weights,
        },
        "rows": rows,
        "left_out": left_out,
        "ratios": ratios(rows, "tokens_per_s"),
        "ratios_of_cpu_time": ratios(rows, "tokens_per_cpu_s"),
        "ceiling": {
            "bf16_tflop_per_s": round(rate / 1e12, 4),
            "tokens_per_s": round(ceiling, 1),
        },
        "seconds": round(time.perf_counter() - began, 1),
        "load_average_after": [round(v, 2) for v in os.getloadavg()],
    }
    print(f"{'':30}{'tokens/s':>10}{'of ceiling':>12}{'peak GiB':>10}")
    for row in rows:
        print(
            f"{row['name']:30}{row['tokens_per_s']:>10}{row['share_of_ceiling']:>12.0%}"
            f"{row['peak_memory_gib']:>10}"
        )
    for name, value in result["ratios"].items():
        print(f"{name}: {value:.2f}")
    if args.random_weights:
        print(projection({r["name"]: r["tokens_per_s"] for r in rows}))
    for line in left_out:
        print(f"left out: {line}")
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
