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
from tuneproof.report.numbers import NOT_MEASURED, count, parts
from tuneproof.report.provenance import ledger_rows
from tuneproof.report.untrusted import cell, fence, inline, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from huggingface_hub import EvalResult

    from tuneproof.recipe import Data, Model, Recipe
    from tuneproof.records import Ledger, TrainingSummary
    from tuneproof.results import Estimate, Results


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
        front_matter(recipe, results),
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


def front_matter(recipe: Recipe, results: Results | None = None) -> str:
    """The hub's metadata, with the results as its ``model-index``. What is not on the hub is not
    named as if it were."""
    from huggingface_hub import ModelCardData

    base, data = experiment.hub_model(recipe.model), recipe.data.source.hub
    known = ModelCardData(
        base_model=base,
        base_model_relation="adapter" if base is not None else None,
        library_name="peft",
        datasets=[data] if data is not None else None,
        pipeline_tag="text-generation",
        tags=["lora", "instruction-tuning", "tuneproof"],
        model_name=recipe.name,
        eval_results=_measured(recipe, results) or None if results is not None else None,
    )
    return f"---\n{known.to_yaml()}\n---"


def _measured(recipe: Recipe, results: Results) -> list[EvalResult]:
    """What tuned reached, as the hub lists results: each with its interval and n in its name."""
    from huggingface_hub import EvalResult

    own = experiment.data_name(recipe.data)
    data = {"heldout": (recipe.data.source.hub or own, own, "test")}
    taken: list[tuple[str, str, content.Kind, str, Estimate | None]] = []
    loss = results.heldout_loss
    if loss is not None:
        taken.append(("heldout", "loss", content.HELDOUT_LOSS, "", loss.tuned))
    for name, result in results.benchmarks.items():
        for metric, kind, pair in (
            ("exact_match", content.EXACT_MATCH, result.exact_match),
            ("chrf", content.SIMILARITY, result.chrf),
        ):
            taken.append((name, metric, kind, "", pair.tuned if pair is not None else None))
        for found in content.pairwise_results(result):
            match = f" against {found.opponent}, judged by {found.judge}"
            taken.append((name, "win_rate", content.WIN_RATE, match, found.win_rate))
        if result.ratings is not None:
            rated = result.ratings.against.get("base")
            judged = f" by {result.ratings.judge}"
            tuned = rated.tuned if rated is not None else None
            taken.append((name, "rating", content.RATING, judged, tuned))
    listed = []
    for name, metric, kind, of, estimate in taken:
        if estimate is None or estimate.value is None:
            continue
        shown = parts(estimate, percent=kind.percent, digits=kind.digits)
        at, title, split = data.get(name, (name, content.TITLES.get(name, name), None))
        unit = "%" if kind.percent else kind.unit
        told = ", ".join(part for part in (unit, shown.interval, shown.n) if part)
        listed.append(
            EvalResult(
                task_type="text-generation",
                dataset_type=at,
                dataset_name=title,
                dataset_split=split,
                metric_type=metric,
                metric_name=visible(f"{kind.label}{of} ({told})"),
                metric_value=round(estimate.value * (100 if kind.percent else 1), 4),
            )
        )
    return listed


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
    badge, sentence = evidence.standing(results).badge, inline(results.verdict.sentence)
    # Where a win rate comes from is said with it, under Results.
    elsewhere = {
        found.decomposition.sentence
        for result in results.benchmarks.values()
        for found in content.pairwise_results(result)
        if found.decomposition is not None
    }
    reasons = [r for r in content.reasons(results) if r not in elsewhere]
    return [f"**Verdict, {badge}:** {sentence}", *([_list(reasons)] if reasons else [])]


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
    said = "The prompt is the training template, to the character:\n\n"
    asset = experiment.asset_of(recipe.model)
    copy = (
        f"\n\nIt was trained and measured on a copy of the base model's weights, "
        f"{cell(asset.weights)}: on the hub's own its answers may differ."
        if asset is not None
        else ""
    )
    return said + fence(code, language="python") + copy


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
