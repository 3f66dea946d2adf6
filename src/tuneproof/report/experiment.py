"""What was tuned on what, how, and on which machine: the experiment's settings in words.

One place for the page, ``report.md``, the model card and a paper's table. Where training has not
finished, the recipe's settings stand alone. Nothing is computed or escaped here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuneproof.assets import ASSETS
from tuneproof.report.content import TITLES
from tuneproof.report.numbers import count, duration, share_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tuneproof.assets import GgufModel
    from tuneproof.recipe import Data, Judge, Model, Recipe
    from tuneproof.records import TrainingSummary
    from tuneproof.results import Results

Rows = tuple[tuple[str, str], ...]
"""(Setting, value)."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one part of the experiment."""

    title: str
    rows: Rows


def experiment(results: Results, recipe: Recipe) -> list[Settings]:
    """All settings, by part."""
    t = results.training
    return [
        Settings(title="Model and LoRA", rows=lora_rows(recipe, t)),
        Settings(title="Data", rows=data_rows(recipe, results.rows)),
        Settings(title="Evaluation", rows=tuple(_evaluated(recipe))),
        Settings(title="Training", rows=training_settings(recipe, t)),
        *([Settings(title="Hardware", rows=hardware_rows(t))] if t is not None else []),
    ]


def in_one_line(results: Results, recipe: Recipe) -> str:
    """Base model, adapter, data with row counts, judge: for the place below the verdict."""
    rows = results.rows
    said = f"{base_name(recipe.model)}, tuned with LoRA (r {recipe.lora.r}) on "
    if rows:
        said += f"{count(rows.get('train', 0))} rows of "
    said += data_name(recipe.data)
    if rows:
        said += (
            f"; {count(rows.get('validation', 0))} rows to validate, "
            f"{count(rows.get('test', 0))} to test"
        )
    judge = recipe.judge
    return said + (f"; judge: {judge_name(judge)}." if judge is not None else "; no judge.")


# --- names -----------------------------------------------------------------------------------


def asset_of(model: Model) -> GgufModel | None:
    """The asset that a recipe names; None where it names none."""
    return next((a for a in ASSETS if a.id == model.id), None)


def hub_model(model: Model) -> str | None:
    """The base model's id on the hub, an asset's too; None for a folder."""
    asset = asset_of(model)
    if asset is not None:
        return asset.hub_id
    if model.id.startswith(("asset:", ".", "/", "~")) or model.id.count("/") > 1:
        return None
    return None if Path(model.id).is_dir() else model.id


def base_name(model: Model) -> str:
    """The base model's id on the hub, or its folder's name; never a path of this machine."""
    return hub_model(model) or Path(model.id).name


def data_name(data: Data) -> str:
    """The data set's id on the hub, its file's name, or that it is the bundled sample."""
    source = data.source
    if source.sample:
        return "the bundled sample"
    return source.hub or Path(source.path or "").name


def judge_name(judge: Judge) -> str:
    """The judge as records call it; of one in a folder, the folder's name."""
    return Path(judge.name).name if Path(judge.name).is_absolute() else judge.name


# --- the parts -------------------------------------------------------------------------------


def lora_rows(recipe: Recipe, t: TrainingSummary | None) -> Rows:
    """The base model and the adapter on it."""
    lora, model, asset = recipe.lora, recipe.model, asset_of(recipe.model)
    base = base_name(model) + (f", revision {model.revision}" if model.revision else "")
    targets = lora.target_modules
    asked = ", ".join(targets) if isinstance(targets, tuple) else targets or "PEFT's default"
    named = ", ".join(t.lora_modules) if t is not None and t.lora_modules else asked
    rows = [
        ("Base model", base),
        *([("Its weights", f"{asset.weights}, as {model.id}")] if asset is not None else []),
        ("r", str(lora.r)),
        ("alpha", str(lora.alpha)),
        ("Dropout", f"{lora.dropout:g}"),
        ("Modules", named),
        ("Bias", lora.bias),
    ]
    if t is not None:
        trainable = share_of(t.trainable_parameters, t.total_parameters)
        rows.append(
            (
                "Trainable parameters",
                f"{count(t.trainable_parameters)} of {count(t.total_parameters)} ({trainable})",
            )
        )
    return tuple(rows)


def data_rows(recipe: Recipe, rows: Mapping[str, int]) -> Rows:
    """Source, split and template."""
    data, shares = recipe.data, recipe.data.split
    source = data_name(data) + (
        f", revision {data.source.revision}" if data.source.revision else ""
    )
    template = data.template
    # One of the recipe's own has its placeholders in it, and stands whole in the recipe.
    named = "the recipe's own" if "{" in template else template
    found = [
        ("Source", source),
        (
            "Split",
            f"shuffled (seed {recipe.seed}), {shares.train:g} train, {shares.validation:g} "
            f"validation, {shares.test:g} test",
        ),
        ("Template", named),
    ]
    found[1:1] = [(f"Rows, {split}", count(n)) for split, n in rows.items()]
    return tuple(found)


def training_settings(recipe: Recipe, t: TrainingSummary | None) -> Rows:
    """The optimisation, as the recipe asks for it and as it came out."""
    train = recipe.train
    seeds = [recipe.seed + k for k in range(train.seeds)]
    over = {
        "cut": "longer rows are cut",
        "shorten-context": "longer rows' contexts are shortened",
        "drop": "longer rows are dropped",
    }[train.over_length]
    if t is not None:
        over += f" ({count(t.rows_cut)} of {count(t.rows + t.rows_dropped)})"
    end = "appended to every row" if train.append_eos else "not appended"
    if t is not None:
        end += f"; taught by {count(t.eos_supervised_rows)} of {count(t.rows)} rows"
    # What it came to, with why where it is none; older runs do not say.
    said = t.packing if t is not None and t.packing != "none" else ""
    packing = said or ("on" if train.packing else "off")
    return (
        ("Epochs", _epochs(recipe, t)),
        *([("Optimizer steps", count(t.steps))] if t is not None else []),
        ("Effective batch", _batch(recipe)),
        ("Learning rate", f"{train.learning_rate:g}"),
        ("Schedule", f"{train.scheduler}, warm-up over {train.warmup_ratio:g} of the steps"),
        ("Optimizer", f"{train.optimizer}, weight decay {train.weight_decay:g}"),
        ("Longest row", f"{count(train.max_length)} tokens; {over}"),
        ("End token", end),
        ("Loss on", f"the {train.loss_on}"),
        ("Packing", packing),
        ("Gradient checkpointing", "on" if train.gradient_checkpointing else "off"),
        ("Precision", t.dtype if t is not None else recipe.model.dtype),
        ("Validation", f"every {count(train.eval_steps)} steps; the best weights are kept"),
        ("Seed" if len(seeds) == 1 else "Seeds", ", ".join(map(str, seeds))),
    )


def hardware_rows(t: TrainingSummary) -> Rows:
    """The machine that trained, and for how long."""
    processes = [("Processes", count(t.processes))] if t.processes > 1 else []
    return (
        ("Device", t.device),
        *t.hardware.items(),
        *processes,
        ("Duration of training", duration(t.duration_s)),
    )


def _epochs(recipe: Recipe, t: TrainingSummary | None) -> str:
    asked = f"{recipe.train.epochs:g}"
    if t is None or f"{t.epochs:.3g}" == f"{recipe.train.epochs:.3g}":
        return asked
    most = recipe.train.max_steps
    why = f", ended by max_steps {count(most)}" if most is not None and t.steps >= most else ""
    return f"{t.epochs:.3g} of {asked}{why}"


def _batch(recipe: Recipe) -> str:
    """Packed rows of a step go through the model as many at once as there is room for."""
    train = recipe.train
    told = f"{count(train.batch_size)} rows a step"
    if train.packing:
        return told
    return f"{told}: {count(train.micro_batch_size)} at once, {count(train.accumulation)} times"


def _evaluated(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """The benchmarks, how both arms answer, and who judges."""
    for evaluation in recipe.evaluate:
        asked = evaluation.questions
        of = f"{count(asked)} questions" if asked is not None else "all questions"
        against = " and ".join(evaluation.against)
        title = TITLES.get(evaluation.benchmark, evaluation.benchmark)
        yield title, f"{of}, against {against}"
    answering = recipe.generate
    drawn = (
        "greedy"
        if answering.temperature == 0
        else f"temperature {answering.temperature:g}, top-p {answering.top_p:g}"
    )
    yield "Answers", f"{drawn}, at most {count(answering.max_new_tokens)} new tokens"
    judge = recipe.judge
    if judge is not None:
        orders = "both orders" if judge.orders == 2 else "one order"
        # Which answer comes first is nothing to a judge that is no model.
        how = "" if judge.kind == "reference" else f", in {orders}"
        yield "Judge", f"{judge_name(judge)}{how}"
