"""What the libraries receive, and what the model learns from it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from peft import LoraConfig
from transformers import DataCollatorForLanguageModeling, DataCollatorForSeq2Seq

from tests.conftest import tiny_rows
from tests.pipeline.test_pipeline import execute, make_run
from tuneproof.data.encode import encode_rows
from tuneproof.data.templates import parse_template
from tuneproof.errors import ModelError, StageError
from tuneproof.recipe import Lora, Model, Monitor, Train
from tuneproof.recipe_file import load_recipe
from tuneproof.records import (
    Answer,
    Arm,
    Example,
    LossPoint,
    SequenceLoss,
    Stop,
)
from tuneproof.results import Results
from tuneproof.train.model import add_lora, load_model, load_tokenizer
from tuneproof.train.trainer import make_collator, make_features, training_arguments
from tuneproof.workspace import read_records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LONG = {
    "epochs": 15,
    "batch_size": 8,
    "micro_batch_size": 8,
    "learning_rate": 0.005,
    "max_length": 128,
    "eval_steps": 50,
}


def stops(folder: Path, arm: Arm) -> float:
    answers = [a for a in read_records(folder / "generate/answers.jsonl", Answer) if a.arm is arm]
    return sum(a.stop is Stop.EOS for a in answers) / len(answers)


def mean_eos_nll(folder: Path) -> dict[Arm, float]:
    losses = read_records(folder / "generate/heldout_loss.jsonl", SequenceLoss)
    return {arm: sum(x.eos_nll for x in losses if x.arm is arm) / (len(losses) / 2) for arm in Arm}


def test_eos_is_learned_with_append_eos_and_only_then(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    """With pad = EOS, as the reference has it."""
    recipe = tiny_recipe(n_rows=200, train=LONG)
    learned, letter = tmp_path / "learned", tmp_path / "letter"
    execute(make_run(recipe, learned))
    execute(make_run(recipe, letter, "train.append_eos=false"))
    assert stops(learned, Arm.TUNED) > 0.9
    assert stops(letter, Arm.TUNED) < 0.1
    assert mean_eos_nll(learned)[Arm.TUNED] < 0.5
    assert mean_eos_nll(letter)[Arm.TUNED] > 3
    # The base arm is the same model in both, whatever was trained beside it.
    assert mean_eos_nll(learned)[Arm.BASE] == mean_eos_nll(letter)[Arm.BASE]
    results = Results.model_validate_json((letter / "report/results.json").read_bytes())
    assert results.training is not None
    assert results.training.eos_supervised_rows == 0
    # And what was learned is what was taught.
    better = Results.model_validate_json((learned / "report/results.json").read_bytes())
    assert better.heldout_loss is not None
    assert better.heldout_loss.difference.high is not None
    assert better.heldout_loss.difference.high < 0


@pytest.mark.parametrize("append_eos", [False, True])
def test_labels_that_the_collators_give(tiny_model: Path, *, append_eos: bool) -> None:
    tokenizer = load_tokenizer(Model(id=str(tiny_model)))
    train = Train(append_eos=append_eos, max_length=128)
    examples = [
        Example(id=str(i), category=None, instruction="one", context="", response=r)
        for i, r in enumerate(("red", "red green blue"))
    ]
    rows = encode_rows(
        tokenizer,
        parse_template("instruction-context-response"),
        examples,
        max_length=128,
        append_eos=append_eos,
        loss_on="text",
    )
    collator = make_collator(train, tokenizer)
    batch = collator(make_features(train, rows))
    expected = DataCollatorForSeq2Seq if append_eos else DataCollatorForLanguageModeling
    assert type(collator) is expected
    short, long = (len(r.token_ids) for r in rows)
    assert batch["input_ids"].shape == (2, long)
    assert batch["attention_mask"].sum(dim=1).tolist() == [short, long]
    # Padding is out of the loss, and an EOS of the row's own is in it.
    assert batch["labels"][0, short:].tolist() == [-100] * (long - short)
    assert batch["labels"][0, :short].tolist() == list(rows[0].token_ids)
    ends = (batch["labels"] == tokenizer.eos_token_id).sum().item()
    assert ends == (2 if append_eos else 0)


def test_training_arguments_of_the_reference(tmp_path: Path) -> None:
    train = Train(
        epochs=3, batch_size=16, micro_batch_size=2, learning_rate=2e-4, warmup_ratio=0.03
    )
    arguments = training_arguments(
        train, Monitor(), n_rows=12_008, seed=42, bf16=True, out=tmp_path
    )
    assert arguments.per_device_train_batch_size == 2
    assert arguments.gradient_accumulation_steps == 8
    assert arguments.num_train_epochs == 3
    assert arguments.learning_rate == 2e-4
    assert arguments.lr_scheduler_type == "cosine"
    assert arguments.weight_decay == 0.0
    assert arguments.optim == "adamw_torch"
    assert arguments.bf16
    assert not arguments.fp16
    assert arguments.get_warmup_steps(2253) == 68
    assert train.optimizer_steps(12_008) == 2253
    assert (arguments.eval_strategy, arguments.eval_steps) == ("steps", 100)
    assert (arguments.save_strategy, arguments.save_steps) == ("steps", 100)
    assert arguments.load_best_model_at_end
    assert arguments.metric_for_best_model == "eval_loss"
    assert arguments.report_to == []


def test_lora_of_the_reference(tiny_model: Path) -> None:
    model = add_lora(load_model(Model(id=str(tiny_model), dtype="float32")), Lora())
    config = model.peft_config["default"]
    assert isinstance(config, LoraConfig)
    assert (config.r, config.lora_alpha, config.lora_dropout) == (8, 16, 0.05)
    assert set(config.target_modules or ()) == {"q_proj", "v_proj"}
    assert config.bias == "none"
    assert config.task_type == "CAUSAL_LM"


def test_targets_that_match_nothing_name_those_that_exist(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match=r"lora\.target_modules") as error:
        add_lora(load_model(Model(id=str(tiny_model))), Lora(target_modules=("query",)))
    assert "down_proj, gate_proj, k_proj, lm_head, o_proj, q_proj" in str(error.value)


def test_the_best_adapter_is_kept(tmp_path: Path, tiny_recipe: Callable[..., Path]) -> None:
    """A rate that ruins the model after a good start: the adapter is the one of the best step."""
    import torch
    from safetensors.torch import load_file

    recipe = tiny_recipe(
        n_rows=120,
        train=LONG | {"learning_rate": 0.2, "scheduler": "constant", "eval_steps": 3},
    )
    run = make_run(recipe, tmp_path / "run")
    execute(run, until="train")
    curve = read_records(tmp_path / "run/train/loss.jsonl", LossPoint)
    measured = {p.step: p.eval_loss for p in curve if p.eval_loss is not None}
    state = json.loads((tmp_path / "run/train/trainer_state.json").read_text())
    best = min(measured, key=lambda step: measured[step])
    assert state["best_global_step"] == best
    assert best < max(measured), "the run must end worse than it was at its best"
    # The kept adapter has the best step's loss, measured once more with plain transformers.
    loaded = load_recipe(recipe)
    model = add_lora(load_model(loaded.model), loaded.lora)
    weights = load_file(tmp_path / "run/train/adapter/adapter_model.safetensors")
    names = {k.replace(".weight", ".default.weight"): v for k, v in weights.items()}
    _, unexpected = model.load_state_dict(names, strict=False)
    assert not unexpected
    tokenizer = load_tokenizer(loaded.model)
    validation = (tmp_path / "run/prepare/validation.jsonl").read_text("utf-8")
    texts = [json.loads(line) for line in validation.splitlines()]
    model.eval()
    losses = []
    with torch.no_grad():
        for row in texts:
            ids = torch.tensor([[*tokenizer(row["text"])["input_ids"], tokenizer.eos_token_id]])
            losses.append((model(input_ids=ids, labels=ids).loss.item(), ids.shape[1] - 1))
    mean = sum(x * n for x, n in losses) / sum(n for _, n in losses)
    assert mean == pytest.approx(measured[best], rel=0.02)


def test_a_loss_that_is_no_number_stops_with_a_message(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    recipe = tiny_recipe(n_rows=120, train=LONG | {"learning_rate": 1e30, "scheduler": "constant"})
    with pytest.raises(
        StageError, match=r"train, step \d+: the training loss is nan, no finite number"
    ):
        execute(make_run(recipe, tmp_path / "run"))
    assert not (tmp_path / "run/train/manifest.json").exists()


def test_the_tiny_language_is_what_the_tests_say() -> None:
    assert all(r["response"] == str(r["instruction"]).split()[-1] for r in tiny_rows(50))
