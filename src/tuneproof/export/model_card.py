"""A model card for a trained adapter: ``README.md`` with the hub's YAML front matter.

Data, recipe, results with their intervals, limits, verdict: what the report says, in the form in
which a model hub shows it. The licence is left to whoever publishes the adapter: it depends on the
base model's and the data's, and is their decision.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tuneproof.data.templates import parse_template
from tuneproof.recipe_file import dump_recipe
from tuneproof.report import content, evidence, experiment
from tuneproof.report.markdown import cell, fence, inline
from tuneproof.report.numbers import NOT_MEASURED, count
from tuneproof.report.provenance import ledger_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tuneproof.recipe import Data, Model, Recipe
    from tuneproof.records import Ledger, TrainingSummary
    from tuneproof.results import Results


def model_card(
    recipe: Recipe,
    training: TrainingSummary,
    *,
    ledger: Ledger | None,
    results: Results | None,
    missing: str,
    adapter: int = 1,
) -> str:
    """The card.

    Args:
        recipe: of the run.
        training: of this adapter.
        ledger: the data's; None where it is not known.
        results: of the run; None where they are not there, or not of this adapter.
        missing: why there are none.
        adapter: its number; results are over all adapters of the run.
    """
    blocks = [
        front_matter(recipe),
        f"# {inline(recipe.name)}" + (f", adapter {adapter}" if adapter > 1 else ""),
        f"A LoRA adapter for {_base(recipe.model)}, trained and evaluated with tuneproof.",
        *_verdict(results, missing),
        "## Use",
        _use(recipe),
        "## Data",
        *_data(recipe.data, ledger),
        "## Training",
        _table(("Setting", "Value"), _training(for_publication(recipe), training)),
        "## Results",
        *_results(results, missing),
        "## Limits",
        _list(_limits(recipe, results)),
        "## Licence",
        _licence(recipe),
        "## How to reproduce",
        "Save this recipe, in which every default is written out, put in paths and addresses of "
        "your own, and run it with `tuneproof run`:",
        fence(dump_recipe(for_publication(recipe)).rstrip("\n"), language="yaml"),
    ]
    return "\n\n".join(blocks) + "\n"


def front_matter(recipe: Recipe) -> str:
    """The hub's metadata. What is not on the hub is not named there."""
    from huggingface_hub import ModelCardData

    base, data = experiment.hub_model(recipe.model), recipe.data.source.hub
    known = ModelCardData(
        base_model=base,
        base_model_relation="adapter" if base is not None else None,
        library_name="peft",
        datasets=[data] if data is not None else None,
        pipeline_tag="text-generation",
        tags=["lora", "instruction-tuning", "tuneproof"],
    )
    return f"---\n{known.to_yaml()}\n---"


def for_publication(recipe: Recipe) -> Recipe:
    """The recipe without folders and addresses of the machine it ran on."""
    data, model, judge = recipe.data, recipe.model, recipe.judge
    source = data.source.model_copy(update={"path": _name(data.source.path)})
    changes: dict[str, object] = {
        "assets": None,
        "data": data.model_copy(update={"source": source, "output_dir": None}),
        "model": model.model_copy(
            update={
                "id": model.id if _public(model) else _name(model.id),
                "tokenizer": _name(model.tokenizer)
                if model.tokenizer and Path(model.tokenizer).is_absolute()
                else model.tokenizer,
            }
        ),
    }
    if judge is not None:
        own = {"journal": _name(judge.journal), "base_url": None}
        local = judge.kind == "local" and Path(judge.model).is_absolute()
        changes["judge"] = judge.model_copy(
            update={**own, **({"model": _name(judge.model)} if local else {})}
        )
    return recipe.model_copy(update=changes)


def _name(path: str | None) -> str | None:
    return None if path is None else Path(path).name


def _public(model: Model) -> bool:
    return model.id.startswith("asset:") or experiment.hub_model(model) is not None


def _base(model: Model) -> str:
    hub, asset = experiment.hub_model(model), experiment.asset_of(model)
    if hub is None:
        return f"a local model, {cell(Path(model.id).name)}"
    at = f", revision {cell(model.revision)}" if model.revision else ""
    copy = f" (its weights {cell(asset.weights)})" if asset is not None else ""
    return f"[{cell(hub)}](https://huggingface.co/{hub}){at}{copy}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell(c) for c in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {inline(item)}" for item in items)


def _verdict(results: Results | None, missing: str) -> list[str]:
    if results is None:
        return [f"**Not evaluated:** {inline(missing)}."]
    verdict, standing = results.verdict, evidence.standing(results)
    return [
        f"**Verdict: {verdict.outcome.value}**, {standing.badge}. {inline(verdict.sentence)}",
        _list(verdict.reasons),
    ]


def _use(recipe: Recipe) -> str:
    base = experiment.hub_model(recipe.model) or "BASE_MODEL"
    prompt = parse_template(recipe.data.template).prompt("Why is the sky blue?", "")
    code = (
        "from peft import PeftModel\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f'tokenizer = AutoTokenizer.from_pretrained("{base}")\n'
        f'base = AutoModelForCausalLM.from_pretrained("{base}")\n'
        'model = PeftModel.from_pretrained(base, "THIS_FOLDER_OR_ID")\n\n'
        f"prompt = {prompt!r}\n"
        'inputs = tokenizer(prompt, return_tensors="pt")\n'
        f"answer = model.generate(**inputs, max_new_tokens={recipe.generate.max_new_tokens})\n"
        'n = inputs["input_ids"].shape[1]\n'
        "print(tokenizer.decode(answer[0, n:], skip_special_tokens=True))"
    )
    return "The prompt is the training template, to the character:\n\n" + fence(
        code, language="python"
    )


def _data(data: Data, ledger: Ledger | None) -> list[str]:
    source = data.source
    if source.hub is not None:
        at = f", revision {cell(source.revision)}" if source.revision else ""
        said = f"[{cell(source.hub)}](https://huggingface.co/datasets/{source.hub}){at}."
    elif source.sample:
        said = "tuneproof's bundled sample: records about a town that does not exist."
    else:
        said = f"A file, {cell(Path(source.path or '').name)}."
    shares = data.split
    split = (
        f"Shuffled, then split {shares.train:g} train, {shares.validation:g} validation, "
        f"{shares.test:g} test."
    )
    blocks = [f"{said} {split}"]
    if ledger is not None:
        blocks.append(_table(("Rows", "Count"), ledger_rows(ledger)))
    return blocks


def _training(recipe: Recipe, t: TrainingSummary) -> list[tuple[str, str]]:
    return [
        *experiment.lora_rows(recipe, t),
        *experiment.training_settings(recipe, t),
        ("Tokens seen", count(t.tokens)),
        *experiment.hardware_rows(t),
    ]


def _results(results: Results | None, missing: str) -> list[str]:
    if results is None:
        return [f"{NOT_MEASURED.capitalize()}: {inline(missing)}."]
    level = f"{results.verdict.estimate.level * 100:g} %"
    blocks = [
        f"Each value with its {level} interval and the number of questions it rests on; "
        "differences are paired by question, tuned − base."
    ]
    if results.heldout_loss is not None:
        blocks.append(_measures(content.heldout_measures(results)))
    for name, result in results.benchmarks.items():
        shown = content.benchmark(name, result)
        blocks += [f"### {inline(shown.title)}", f"{cell(shown.asked)}.", _measures(shown.measures)]
        for found in shown.pairwise:
            blocks += [f"{cell(found.caption)}:", _table(("Measure", ""), found.rows)]
            if found.decomposed is not None and found.decomposed.sentence:
                blocks.append(inline(found.decomposed.sentence))
        if shown.rating_rows:
            blocks.append(_table(("Measure", ""), shown.rating_rows))
    return blocks


def _measures(measures: Iterable[content.Measure]) -> str:
    rows = []
    for m in measures:
        better = f", {m.kind.better} is better" if m.kind.better else ""
        values = [NOT_MEASURED if s is None else s.text for s in (m.base, m.tuned, m.difference)]
        rows.append((f"{m.kind.label} ({m.kind.unit}{better})", *values))
    return _table(("Measure", "Base", "Tuned", "Difference"), rows)


def _limits(recipe: Recipe, results: Results | None) -> list[str]:
    found = []
    if results is not None:
        found += [*evidence.alarms(results), *results.findings]
        found += [it.sentence for it in evidence.judges(results) if it.refused]
    if recipe.train.seeds == 1:
        found.append("One training seed was run: nothing is known of the luck of a training.")
    found.append(
        "Only what stands under Results was measured. Truthfulness, safety, bias and other "
        "languages were not."
    )
    return found


def _licence(recipe: Recipe) -> str:
    said = [
        "Not set here: choose one that the base model's licence and the data's allow, and put it "
        "under `license` in the front matter."
    ]
    asset = experiment.asset_of(recipe.model)
    if asset is not None:
        said.append(f"The base model's is {cell(asset.licence)}.")
    if recipe.data.source.sample:
        said.append("The bundled sample's is MIT.")
    return " ".join(said)
