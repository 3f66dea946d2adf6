"""The plan's memory estimates beside what a training step takes, at the reference's geometry.

Two witnesses, with the tensors of a whole optimizer step of Llama-2 7B (the first also reads and
answers a batch of prompts):

- ``traced``: the step is run on fake tensors (``FakeTensorMode``), which have shapes and no memory,
  and the bytes of all live storages are added up. Needs no GPU and less than 1 GB. The kernels are
  those of a CPU, which keep a dropout's mask as float32, so it is compared with the estimate for a
  CPU, without its ``overhead``.
- ``measured``: where there is a GPU, real steps with random weights on real tokens, through the
  trainer's own arguments and collator; the peak that CUDA's allocator saw, and tokens a second.

    python bench/memory.py --json memory.json
    python bench/memory.py --data dolly.jsonl --tokenizer llama2-tokenizer --steps 20   # on a GPU

``ratios`` are estimate / witness. ``ceiling`` is the tokens a second that the card's peak allows.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import tempfile
import time
import unittest.mock
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from random_weights import random_model
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tuneproof.generate import rows as generate_rows
from tuneproof.generate.plan import Turn
from tuneproof.generate.rows import open_rows, prepare_attention
from tuneproof.plan.answering import AnsweringGib, Asks, Held, answering_memory
from tuneproof.plan.cards import CARDS, TRAINING_FLOP
from tuneproof.plan.geometry import (
    adapted_modules,
    build_config,
    build_on_meta,
    shape_of,
)
from tuneproof.plan.known_models import known_model
from tuneproof.plan.memory import GIB, Batch, MemoryGib, Setting, Shape, estimate_memory
from tuneproof.recipe import Lora, Monitor, Train, rng
from tuneproof.records import Budget
from tuneproof.train.model import ATTENTION, add_lora
from tuneproof.train.packed import Packing, packed_model

if TYPE_CHECKING:
    from peft import PeftModel

    from tuneproof.data.encode import EncodedRow

SEED = 42


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes of the storages that are alive, and remembers the most there were."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def add(self, tensor: torch.Tensor) -> None:
        """Count a tensor's storage until it is freed; a storage counts once."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive:
            return
        self.now += size
        self.peak = max(self.peak, self.now)

        def freed(_: object) -> None:
            self.now -= size
            del self._alive[key]

        self._alive[key] = weakref.ref(storage, freed)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.add(leaf)
        return out


def fake_model(model_id: str, lora: Lora, *, bf16: bool) -> tuple[PeftModel, Shape, FakeTensorMode]:
    """A model of that geometry with its adapter, of tensors without memory."""
    known = known_model(model_id)
    assert known is not None, model_id
    config = build_config(known)
    model = build_on_meta(config, lora, dtype=torch.bfloat16 if bf16 else torch.float32)
    mode = FakeTensorMode()
    device = torch.device("cpu")
    faked: dict[torch.nn.Parameter, torch.nn.Parameter] = {}  # tied weights stay one
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None and parameter not in faked:
                fake = FakeTensor(mode, parameter.detach(), device)
                faked[parameter] = torch.nn.Parameter(fake, parameter.requires_grad)
            if parameter is not None:
                module._parameters[name] = faked[parameter]
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[name] = FakeTensor(mode, buffer.to("meta"), device)
    shape = shape_of(config)
    assert shape is not None
    return model, shape, mode


def traced_answers(
    model_id: str, lora: Lora, *, rows: int, width: int, new: int, bf16: bool
) -> tuple[float, AnsweringGib]:
    """Peak GiB of reading a batch of prompts and of one step, and the estimate for the same."""
    model, shape, mode = fake_model(model_id, lora, bf16=bf16)
    model.eval()
    base = model.get_base_model()
    prepare_attention(base)
    live = LiveBytes()
    # As on a GPU, where a batch is read in one piece.
    whole = unittest.mock.patch.object(generate_rows, "GROUP_TOKENS", rows * width)
    with whole, mode, live, torch.inference_mode():
        for parameter in model.parameters():
            live.add(parameter)
        held = open_rows(base, new)
        held.read([[0] * width, *([[0] * (width - 1)] * (rows - 1))])
        held.step(torch.empty(rows, dtype=torch.long))
    trainable, total = model.get_nb_trainable_parameters()
    turns = [Turn(question_id=str(i), turn=1, length=width) for i in range(rows)]
    estimate = answering_memory(
        [Asks(name="bench", turns=tuple(turns))],
        Budget(batch_size=rows, batch_tokens=rows * (width + new), max_new_tokens=new),
        Held(
            shape=shape,
            frozen=total - trainable,
            adapters=trainable,
            element=2 if bf16 else 4,
        ),
    )
    assert estimate is not None
    assert (estimate.rows, estimate.width) == (rows, width)
    return live.peak / GIB, estimate


def traced_step(
    model_id: str, lora: Lora, batch: Batch, *, bf16: bool, checkpointing: bool = False
) -> tuple[float, MemoryGib]:
    """Peak GiB of one optimizer step on fake tensors, and the estimate for the same."""
    model, shape, mode = fake_model(model_id, lora, bf16=bf16)
    trainable, total = model.get_nb_trainable_parameters()
    if checkpointing:
        model.activation_checkpointing_enable()
    model.train()
    live = LiveBytes()
    inside = contextlib.nullcontext()
    if batch.packed:
        inside = packed_model(model, Packing(attention=ATTENTION, loss="chunked"))
    with inside, mode, live:
        for parameter in model.parameters():
            live.add(parameter)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
        ids = torch.empty((batch.rows, batch.length), dtype=torch.long)
        mask = torch.ones_like(ids) if batch.padded else None
        more: dict[str, Any] = {"attention_mask": mask, "labels": ids}
        if batch.packed:
            # One sequence, through PyTorch's attention: it keeps what the variable-length one does.
            places = torch.empty((batch.length - 1,), dtype=torch.long)
            more = {"labels": places[None], "logits_to_keep": places, "num_items_in_batch": 1}
            more["use_cache"] = False
        for _ in range(2):  # the moments are made in the first step and there in the second
            live.peak = live.now
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                out = model(input_ids=ids, **more)
            # accelerate hands the trainer a float32 copy of the logits, which it drops.
            out.logits = out.logits.float()
            loss = out.loss
            del out
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    estimate = estimate_memory(
        shape,
        adapted_modules(model),
        Setting(
            r=lora.r, dropout=lora.dropout, bf16=bf16, checkpointing=checkpointing, device="cpu"
        ),
        batch,
        frozen=total - trainable,
        trainable=trainable,
    )
    return live.peak / GIB, estimate


def real_rows(args: argparse.Namespace, train: Train) -> list[EncodedRow]:
    """Rows for ``--steps`` optimizer steps: the two longest, and others at random."""
    from tuneproof.data.prepare import prepare
    from tuneproof.data.templates import parse_template
    from tuneproof.plan.tokens import encode
    from tuneproof.recipe import Data, Model, Recipe, Source
    from tuneproof.records import Split
    from tuneproof.train.model import load_tokenizer

    recipe = Recipe(
        name="bench",
        data=Data(source=Source(path=str(args.data))),
        model=Model(id=args.model, tokenizer=str(args.tokenizer)),
        train=train,
    )
    examples = prepare(recipe.data, SEED).splits[Split.TRAIN]
    rows = encode(
        recipe, load_tokenizer(recipe.model), parse_template(recipe.data.template), examples
    ).used
    rows.sort(key=lambda r: -len(r.token_ids))
    longest, rest = rows[: train.micro_batch_size], rows[train.micro_batch_size :]
    rng(SEED, "bench", "rows").shuffle(rest)
    return (longest + rest)[: args.steps * train.batch_size]


def measured_steps(args: argparse.Namespace, lora: Lora) -> dict[str, Any]:
    """Real steps with random weights on this machine's GPU (or, for a small model, its CPU)."""
    from transformers import Trainer, TrainerCallback

    from tuneproof.recipe import Model
    from tuneproof.train.model import load_tokenizer
    from tuneproof.train.trainer import make_collator, make_features, training_arguments

    cuda = torch.cuda.is_available()
    train = Train(
        epochs=1.0,
        append_eos=False,
        max_length=args.max_length,
        gradient_checkpointing=args.checkpointing,
    )
    rows = real_rows(args, train)
    torch.backends.cuda.matmul.allow_tf32 = True
    bare = random_model(args.model, seed=SEED)
    model = add_lora(bare, lora)
    tokenizer = load_tokenizer(Model(id=args.model, tokenizer=str(args.tokenizer)))
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if cuda:
                torch.cuda.synchronize()
            ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=training_arguments(
                train, Monitor(), n_rows=len(rows), seed=SEED, bf16=True, out=Path(folder)
            ),
            data_collator=make_collator(train, tokenizer),
            train_dataset=make_features(train, rows),
            eval_dataset=make_features(train, rows[:2]),
            processing_class=tokenizer,
            callbacks=[Clock()],
        )
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        trainer.train()
    seen = sum(len(r.token_ids) for r in rows)
    # The first step, which also loads kernels, is not timed; its tokens are taken to be the mean.
    speed = seen * (len(ends) - 1) / len(ends) / (ends[-1] - ends[0]) if len(ends) > 1 else 0.0
    shape = shape_of(bare.config)
    assert shape is not None
    trainable, total = model.get_nb_trainable_parameters()
    estimate = estimate_memory(
        shape,
        adapted_modules(model),
        Setting(r=lora.r, dropout=lora.dropout, bf16=True, checkpointing=args.checkpointing),
        Batch(
            rows=train.micro_batch_size,
            length=max(len(r.token_ids) for r in rows),
            padded=train.micro_batch_size > 1,
        ),
        frozen=total - trainable,
        trainable=trainable,
    )
    name = torch.cuda.get_device_name() if cuda else "cpu"
    card = next((c for c in CARDS if c.name.split()[0] in name), None)
    return {
        "name": f"measured, {args.model} on {name}",
        "tokens_per_s": round(speed, 1),
        "peak_memory_gib": round(torch.cuda.max_memory_allocated() / GIB, 3) if cuda else None,
        "peak_reserved_gib": round(torch.cuda.max_memory_reserved() / GIB, 3) if cuda else None,
        "estimate_gib": estimate.total,
        "estimate_without_overhead_gib": round(estimate.total - estimate.overhead, 3),
        "steps": len(ends),
        "ceiling_tokens_per_s": round(card.peak_tflops * 1e12 / (TRAINING_FLOP * total))
        if card
        else None,
    }


def main() -> None:
    """Run both witnesses, print a table, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="meta-llama/Llama-2-7b-hf")
    parser.add_argument("--data", type=Path, help="Dolly as JSONL, for measured steps")
    parser.add_argument("--tokenizer", type=Path, help="its tokenizer's folder")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--max-length", type=int, default=1024)
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--measure-on-cpu", action="store_true", help="for a small --model")
    parser.add_argument("--json", type=Path, dest="out")
    args = parser.parse_args()

    lora = Lora()
    batch = Batch(rows=2, length=args.max_length, padded=True)
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    packed = Batch(rows=1, length=2 * args.max_length, padded=False, packed=True)
    for shape, checkpointing, name in (
        (packed, False, "traced, packed"),
        (packed, True, "traced, packed, with gradient checkpointing"),
        (batch, False, "traced, padded"),
        (batch, True, "traced, padded, with gradient checkpointing"),
    ):
        peak, estimate = traced_step(
            args.model, lora, shape, bf16=True, checkpointing=checkpointing
        )
        bare = estimate.total - estimate.overhead
        rows.append(
            {
                "name": name,
                "tokens_per_s": None,
                "peak_memory_gib": round(peak, 3),
                "estimate_without_overhead_gib": round(bare, 3),
            }
        )
        ratios[f"estimate / {name}"] = round(bare / peak, 4)
    answers = traced_answers(args.model, lora, rows=29, width=614, new=512, bf16=True)
    name = "traced, 29 prompts of 614 tokens answered with 512"
    bare = answers[1].total - answers[1].overhead
    rows.append(
        {
            "name": name,
            "tokens_per_s": None,
            "peak_memory_gib": round(answers[0], 3),
            "estimate_without_overhead_gib": round(bare, 3),
        }
    )
    ratios[f"estimate / {name}"] = round(bare / answers[0], 4)
    ceiling = None
    if torch.cuda.is_available() or args.measure_on_cpu:
        if args.data is None or args.tokenizer is None:
            parser.error("measured steps need --data and --tokenizer")
        row = measured_steps(args, lora)
        ceiling = row.pop("ceiling_tokens_per_s")
        rows.append(row)
        if row["peak_memory_gib"] is not None:
            bare = row["estimate_without_overhead_gib"]
            ratios["estimate without overhead / allocated"] = round(
                bare / row["peak_memory_gib"], 4
            )
            ratios["estimate / reserved"] = round(row["estimate_gib"] / row["peak_reserved_gib"], 4)
    else:
        print("No GPU here: nothing was measured, the step was traced only.")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    result = {
        "machine": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "cpu": platform.processor() or platform.machine(),
            "gpu": gpu,
        },
        "rows": rows,
        "ratios": ratios,
        "ceiling": {"tokens_per_s": ceiling},
    }
    for row in rows:
        print(json.dumps(row))
    for name, value in ratios.items():
        print(f"{name}: {value:.3f}")
    if args.out is not None:
        args.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
