"""What a training would stumble over, found before any weight is loaded.

From the configuration, the tokenizer and the shape of the model on the meta device.
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

from tuneproof.data.placebo import shuffle_responses
from tuneproof.errors import ModelError, RecipeError
from tuneproof.progress import hush_transformers
from tuneproof.records import Split

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuneproof.progress import Reporter
    from tuneproof.recipe import Recipe
    from tuneproof.records import Example

_MODULES = {
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "mlflow": "mlflow",
    "trackio": "trackio",
}


def check_training(
    recipe: Recipe, splits: Mapping[Split, Sequence[Example]], reporter: Reporter | None = None
) -> None:
    """Refuse what cannot be trained as the recipe says.

    Args:
        splits: the prepared rows.

    Raises:
        DataError: a placebo is asked for, and the rows of a split give none.
        RecipeError: ``max_length`` exceeds the model's context; the rows do not fill one optimizer
            step; a tracker is not installed; the GPU does not compute in bfloat16; the processes
            were told to shard the weights.
        ModelError: configuration or tokenizer cannot be loaded or do not belong together; no
            module matches ``target_modules``.
    """
    hush_transformers()
    check_not_sharded()
    _check_steps(recipe, len(splits[Split.TRAIN]))
    if recipe.verdict.beat_placebo:
        for split in (Split.TRAIN, Split.VALIDATION):
            shuffle_responses(splits[split], seed=recipe.seed, split=split)
    _check_trackers(recipe)

    from tuneproof.train.model import has_bf16, load_config, load_tokenizer, parameter_counts

    _check_bf16(recipe.model.dtype, supported=has_bf16())
    config = load_config(recipe.model, reporter)
    context = getattr(config, "max_position_embeddings", None)
    if context is not None and recipe.train.max_length > context:
        raise RecipeError(
            f"is more than the context of the model, {context:,} tokens",
            place="train.max_length",
            value=recipe.train.max_length,
            remedy=f"--set train.max_length={context}, or a model with a longer context.",
        )
    tokenizer = load_tokenizer(recipe.model, reporter)
    vocabulary = getattr(config, "vocab_size", None)
    if vocabulary is not None and len(tokenizer) > vocabulary:
        raise ModelError(
            f"its tokenizer has {len(tokenizer):,} tokens, and the model only {vocabulary:,}",
            place="model.tokenizer",
            value=recipe.model.tokenizer or recipe.model.id,
            remedy="It is the tokenizer of another model: leave model.tokenizer out to use the "
            "model's own.",
        )
    parameter_counts(recipe.model, recipe.lora)


SHARDED = "ACCELERATE_USE_FSDP"
"""What ``accelerate launch --use_fsdp`` sets in the environment of its processes."""


def check_not_sharded() -> None:
    """Refuse FSDP: it trains to the end, and then no process has a whole adapter to write.

    Raises:
        RecipeError: the environment asks for it.
    """
    value = os.environ.get(SHARDED, "false")
    if value.lower() in ("1", "true"):
        raise RecipeError(
            "weights sharded by FSDP can be trained, but the adapter cannot be saved from them",
            place=SHARDED,
            value=value,
            remedy="Start the processes with torchrun, or accelerate launch --multi_gpu: each then "
            "has the whole model (DDP). Where that does not fit, lower train.token_budget, set "
            "train.gradient_checkpointing=true, or take a GPU with more memory.",
        )


def _check_steps(recipe: Recipe, n_rows: int) -> None:
    if recipe.train.batch_size > n_rows:
        raise RecipeError(
            f"leaves no whole optimizer step: the train split has {n_rows:,} rows",
            place="train.batch_size",
            value=recipe.train.batch_size,
            remedy=f"--set train.batch_size=N with N at most {n_rows} (and train.micro_batch_size "
            "a divisor of it), or more data.",
        )


def _check_bf16(dtype: str, *, supported: bool) -> None:
    if dtype == "bfloat16" and not supported:
        raise RecipeError(
            "this GPU does not compute in it",
            place="model.dtype",
            value=dtype,
            remedy="--set model.dtype=auto, which here is float32: slower, and twice the memory.",
        )


def _check_trackers(recipe: Recipe) -> None:
    for tracker in recipe.monitor.trackers:
        if importlib.util.find_spec(_MODULES[tracker]) is None:
            raise RecipeError(
                "is not installed",
                place="monitor.trackers",
                value=tracker,
                remedy=f"pip install {_MODULES[tracker]}, or leave it out.",
            )
