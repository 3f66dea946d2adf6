"""The reference's training, written a second time from its document, against ours.

``document_training`` knows nothing of this project: plain transformers and PEFT, as section 1 and 2
of the document describe them. Ours is the whole road from the recipe: prepare, then train.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import tiny_rows, write_jsonl
from tests.pipeline.test_pipeline import execute, make_run
from tuneproof.cli.stages import bundled_recipe
from tuneproof.records import LossPoint
from tuneproof.train import trainer as trainer_module
from tuneproof.train.packed import PackedSteps
from tuneproof.workspace import read_records

if TYPE_CHECKING:
    from pathlib import Path

    from peft import PeftModel

STEPS = 20


def document_training(
    records: Path, model_folder: Path, out: Path, *, dtype: str, max_length: int
) -> list[float]:
    """The training loss at each step; dropout is 0, and every step is logged."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        DataCollatorForLanguageModeling,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    texts = []
    for line in records.read_text("utf-8").splitlines():
        row = {k: v.strip() for k, v in json.loads(line).items() if isinstance(v, str)}
        if row["response"]:
            texts.append(
                f"### Instruction:\n{row['instruction']}\n\n### Context:\n{row['context']}\n\n"
                f"### Response:\n{row['response']}\n"
            )
    random.Random(42).shuffle(texts)
    texts = texts[: int(0.8 * len(texts))]

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    tokenizer.pad_token = tokenizer.eos_token
    dataset = Dataset.from_dict({"text": texts}).map(
        lambda batch: tokenizer(batch["text"], truncation=True, max_length=max_length),
        batched=True,
        remove_columns=["text"],
    )
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=getattr(torch, dtype))
    set_seed(42)
    adapted = get_peft_model(
        model,
        LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM"),
    )
    loop = Trainer(
        model=adapted,
        args=TrainingArguments(
            output_dir=str(out),
            learning_rate=2e-4,
            warmup_steps=0.03,
            num_train_epochs=2,
            weight_decay=0.0,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=8,
            lr_scheduler_type="cosine",
            optim="adamw_torch",
            fp16=False,
            bf16=dtype == "bfloat16",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=dataset,
        data_collator=DataCollatorForLanguageModeling(tokenizer=tokenizer, mlm=False),
    )
    loop.train()
    return [entry["loss"] for entry in loop.state.log_history if "loss" in entry]


def our_training(
    records: Path,
    model_folder: Path,
    out: Path,
    *,
    dtype: str,
    max_length: int,
    packing: bool = True,
) -> tuple[list[float], Path]:
    """The same, and the run's folder, from the recipe of the reference."""
    run = make_run(
        bundled_recipe("llama2-7b-dolly15k"),
        out / "run",
        f"data.source.path={records}",
        f"data.output_dir={out / 'prepared'}",
        f"model.id={model_folder}",
        f"model.dtype={dtype}",
        "lora.dropout=0.0",
        "train.epochs=2",
        f"train.max_length={max_length}",
        f"train.packing={str(packing).lower()}",
        "train.loader_workers=0",
        "train.eval_rows=2",
        "monitor.logging_steps=1",
    )
    execute(run, until="train")
    curve = read_records(out / "run/train/loss.jsonl", LossPoint)
    return [p.train_loss for p in curve if p.train_loss is not None], out / "run"


def differences(ours: list[float], theirs: list[float]) -> list[float]:
    return [abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True)]


def test_the_same_loss_at_each_of_twenty_steps(tmp_path: Path, tiny_model: Path) -> None:
    """In float32. 155 rows: nine whole steps an epoch, and a partial one; some rows are cut."""
    rows = tiny_rows(194)
    for row in rows[::12]:
        row["context"] = "red green blue " * 40
    records = write_jsonl(tmp_path / "rows.jsonl", rows)
    settings = {"dtype": "float32", "max_length": 96}
    theirs = document_training(records, tiny_model, tmp_path / "theirs", **settings)  # type: ignore[arg-type]
    ours, _ = our_training(records, tiny_model, tmp_path, **settings)  # type: ignore[arg-type]
    assert len(theirs) == STEPS
    assert len(set(theirs)) == STEPS, "a loss that stands still would prove nothing"
    assert max(differences(ours, theirs)) < 1e-5


def some_of_dolly(folder: Path, dolly: Path) -> tuple[Path, Path]:
    """194 records, of which 155 are trained on: two epochs of ten steps; and SmolLM2."""
    from tuneproof.assets import ensure_model, find_asset

    records = folder / "dolly.jsonl"
    lines = dolly.read_text("utf-8").splitlines(keepends=True)
    records.write_text("".join(lines[:194]), "utf-8")
    return records, ensure_model(find_asset("smollm2-135m-instruct"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_same_loss_and_adapter_on_smollm2_in_float32(tmp_path: Path, dolly: Path) -> None:
    """A model of 30 layers and a vocabulary of 49,152: the document's, padded and packed."""
    import torch
    from safetensors.torch import load_file

    records, model = some_of_dolly(tmp_path, dolly)
    settings = {"dtype": "float32", "max_length": 96}
    theirs = document_training(records, model, tmp_path / "theirs", **settings)  # type: ignore[arg-type]
    assert len(set(theirs)) == STEPS
    adapters = []
    for packing in (False, True):
        out = tmp_path / ("packed" if packing else "padded")
        ours, run = our_training(records, model, out, packing=packing, **settings)  # type: ignore[arg-type]
        assert max(differences(ours, theirs)) < 1e-5, packing
        weights = load_file(run / "train/adapter/adapter_model.safetensors")
        adapters.append(torch.cat([weights[name].flatten() for name in sorted(weights)]))
    padded, packed = adapters
    assert (packed - padded).norm() < 1e-5 * padded.norm()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_same_loss_on_smollm2_with_dolly(tmp_path: Path, dolly: Path) -> None:
    """In bfloat16, on 155 rows of Dolly, most of them cut: whole rows would take half an hour.

    Padded, our training calls what the document's calls, in the same order: a thousandth. Packed,
    the same sums are rounded in another order, which in bfloat16 (8 bits) makes more: 0.0016 at
    most when this was written; that the two are the same is proved in float32, above.
    """
    records, model = some_of_dolly(tmp_path, dolly)
    settings = {"dtype": "bfloat16", "max_length": 160}
    theirs = document_training(records, model, tmp_path / "theirs", **settings)  # type: ignore[arg-type]
    assert len(theirs) == STEPS
    for packing, most in ((False, 1e-3), (True, 3e-3)):
        out = tmp_path / ("packed" if packing else "padded")
        ours, _ = our_training(records, model, out, packing=packing, **settings)  # type: ignore[arg-type]
        assert max(differences(ours, theirs)) < most, packing


# --- what the libraries receive ---------------------------------------------------------------


@pytest.fixture(scope="module")
def small_llama(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """Llama-2's context and vocabulary handling in a model of two layers."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("small-llama")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=4096,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(params=[False, True], ids=["padded", "packed"])
def received(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    small_llama: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Any, PeftModel]:
    """The trainer and the model of a training by the reference's recipe, as they were built.

    Of the recipe only what must be is another: the model is small, the data 60 rows. Padded it is
    what the document describes; packed, as the recipe has it, the same steps computed faster.
    """
    built: list[Any] = []
    name = "_PackedTrainer" if request.param else "_Trainer"

    class Seen(getattr(trainer_module, name)):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            built.append(self)

    monkeypatch.setattr(trainer_module, name, Seen)
    monkeypatch.chdir(tmp_path)
    records = write_jsonl(tmp_path / "rows.jsonl", tiny_rows(60))
    run = make_run(
        bundled_recipe("llama2-7b-dolly15k"),
        tmp_path / "run",
        f"data.source.path={records}",
        f"model.id={small_llama}",
        f"train.packing={str(request.param).lower()}",
    )
    execute(run, until="train")
    assert len(built) == 1
    return built[0], built[0].model


@pytest.mark.filterwarnings("ignore:This DataLoader will create 8 worker processes")
def test_what_the_libraries_receive_from_the_reference_recipe(
    tmp_path: Path, received: tuple[Any, PeftModel]
) -> None:
    """Section 2 of the document, value by value, on the objects of transformers and PEFT."""
    import torch
    from peft import LoraConfig
    from transformers import DataCollatorForLanguageModeling

    trainer, model = received
    packed = isinstance(trainer, PackedSteps)
    # 1.2, 1.3: three files of {"text": …}.
    prepared = tmp_path / "data/dolly15k_prepared"
    assert sorted(p.name for p in prepared.iterdir()) == [
        "test.jsonl", "train.jsonl", "validation.jsonl",
    ]  # fmt: skip
    lines = (prepared / "train.jsonl").read_text("utf-8").splitlines()
    assert {tuple(json.loads(line)) for line in lines} == {("text",)}
    assert len(lines) == 48
    # 2.1 model
    base = model.get_base_model()
    assert {p.dtype for n, p in base.named_parameters() if "lora" not in n} == {torch.bfloat16}
    # 2.2 LoRA
    config = model.peft_config["default"]
    assert isinstance(config, LoraConfig)
    assert (config.r, config.lora_alpha, config.lora_dropout) == (8, 16, 0.05)
    assert set(config.target_modules or ()) == {"q_proj", "v_proj"}
    assert (config.bias, config.task_type) == ("none", "CAUSAL_LM")
    # Two matrices for each of two modules in two layers, in float32 as PEFT has them.
    trained = [p for group in trainer.optimizer.param_groups for p in group["params"]]
    assert len(trained) == 2 * 2 * 2
    assert {p.dtype for p in trained} == {torch.float32}
    assert {8} == {min(p.shape) for p in trained}
    # 2.3 tokenization and collation
    tokenizer = trainer.processing_class
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    assert type(trainer.data_collator) is DataCollatorForLanguageModeling
    assert not trainer.data_collator.mlm
    if not packed:
        assert {tuple(row) for row in trainer.train_dataset} == {("input_ids", "attention_mask")}
    ids = [row["input_ids"] for row in trainer.train_dataset]
    assert ids == [tokenizer(json.loads(line)["text"])["input_ids"][:1024] for line in lines]
    batch = next(iter(trainer.get_train_dataloader()))
    if packed:
        # The first step's rows; every token of each is a target but the first.
        (tokens,) = batch["micro_batches"]
        kept = tokens["logits_to_keep"]
        assert (tokens["labels"][0] == tokens["input_ids"][0, kept + 1]).all()
        assert len(kept) == batch["n_tokens"] - 16 == batch["n_targets"]
    else:
        padding = batch["attention_mask"] == 0
        assert (batch["labels"][padding] == -100).all()
        assert (batch["labels"][~padding] == batch["input_ids"][~padding]).all()
    # 2.4 hyperparameters
    args = trainer.args
    assert args.learning_rate == 2e-4
    assert args.num_train_epochs == 3
    assert args.per_device_eval_batch_size == 2
    sizes = (args.per_device_train_batch_size, args.gradient_accumulation_steps)
    assert sizes == ((16, 1) if packed else (2, 8))
    assert args.optim == "adamw_torch"
    assert (args.fp16, args.bf16) == (False, True)
    assert not args.activation_checkpointing
    assert not model.is_gradient_checkpointing
    assert args.get_warmup_steps(2253) == 68
    assert args.weight_decay == 0.0
    assert args.lr_scheduler_type == "cosine"
    assert args.dataloader_num_workers == 8
    assert (args.eval_strategy, args.eval_steps) == ("steps", 100)
    assert (args.save_strategy, args.save_steps) == ("steps", 100)
    assert args.load_best_model_at_end
    assert args.metric_for_best_model == "eval_loss"
    assert (args.seed, args.data_seed, args.max_steps) == (42, 42, -1)
    assert type(trainer.optimizer.optimizer) is torch.optim.AdamW
    assert {g["weight_decay"] for g in trainer.optimizer.param_groups} == {0.0}
    assert trainer.state.max_steps == 3 * 3
    # After each epoch, both losses; the best weights and adapter_config.json.
    curve = read_records(tmp_path / "run/train/loss.jsonl", LossPoint)
    assert [p.step for p in curve if p.eval_loss is not None] == [3, 6, 9]
    adapter = tmp_path / "run/train/adapter"
    assert {p.name for p in adapter.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors",
    }  # fmt: skip
    assert json.loads((adapter / "adapter_config.json").read_text())["r"] == 8


def test_trainable_parameters_of_llama_2_7b(tmp_path: Path) -> None:
    """Section 2.2: on the meta device, from the published configuration."""
    from transformers import LlamaConfig

    from tuneproof.recipe import Lora, Model
    from tuneproof.train.model import parameter_counts

    LlamaConfig(
        vocab_size=32_000,
        hidden_size=4096,
        intermediate_size=11_008,
        num_hidden_layers=32,
        num_attention_heads=32,
        max_position_embeddings=4096,
        rms_norm_eps=1e-5,
    ).save_pretrained(tmp_path)
    trainable, total = parameter_counts(Model(id=str(tmp_path)), Lora())
    assert (trainable, total) == (4_194_304, 6_742_609_920)
    assert f"{100 * trainable / total:.4f}" == "0.0622"
