"""Runs written by hand for the tests of ``compare`` and of what else reads finished runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.unit import report_case
from tuneproof.recipe_file import dump_recipe
from tuneproof.records import (
    Answer,
    Arm,
    Example,
    Judgment,
    Manifest,
    Preference,
    PreparedRow,
    Prompt,
    Record,
    SequenceLoss,
    Similarity,
    Split,
    Stop,
)
from tuneproof.workspace import RunDir, write_json, write_records

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PARTS = {
    "generate": {
        "tokenizer": '"t"', "model": '"m"', "generate.max_new_tokens": "64",
        "generate.temperature": "0.0",
    },
    "judge": {"judge.temperature": "0.0", "judge.max_tokens": "512"},
    "train": {"lora.r": "8", "seed": "42"},
}  # fmt: skip


def manifest(stage: str, parts: Mapping[str, str]) -> Manifest:
    return Manifest(
        stage=stage, version=1, key="k", key_parts=dict(parts), inputs=(), outputs=(), packages={},
        tuneproof="0.1.0", commit=None, dirty=None, python="3.11", device="cpu",
        started="2026-01-02T03:04:05+00:00", duration_s=1.0, resumed=0,
    )  # fmt: skip


def write_run(
    folder: Path,
    *,
    exact: Sequence[float],
    nll: Sequence[float] | None = None,
    tokens: Sequence[int] | None = None,
    wins: Sequence[float | None] | None = None,
    name: str = "one",
    judge: str = "gpt-4o-mini",
    questions: Mapping[int, str] | None = None,
    trained_on: Sequence[str] = (),
    judged: bool = True,
    parts: Mapping[str, Mapping[str, str]] | None = None,
    sentence: str | None = "Better.",
    more_adapters: Sequence[Sequence[float]] = (),
    results: Mapping[str, Any] | None = None,
    level: float = 0.95,
) -> Path:
    """A run over questions 0, 1, … with these values of the tuned model, in their order.

    ``questions`` maps a number to another text; ``exact`` of further adapters may be given.
    """
    n = len(exact)
    run = RunDir(folder)
    folder.mkdir(parents=True)
    recipe = report_case.recipe()
    rule = recipe.verdict.model_copy(update={"level": level})
    recipe = recipe.model_copy(update={"name": name, "verdict": rule})
    run.recipe_file.write_text(dump_recipe(recipe), encoding="utf-8")
    texts = {i: f"question {i}?" for i in range(n)} | dict(questions or {})
    prompts = [
        Prompt(
            question_id=f"row-{i:05d}", benchmark="heldout", category="qa", instruction=texts[i],
            context="", token_ids=(1,), reference="r", checkable=True,
        )
        for i in range(n)
    ]  # fmt: skip

    def answer(i: int, arm: Arm, adapter: int = 1) -> Answer:
        return Answer(
            key=f"{i}/{arm}/{adapter}", question_id=f"row-{i:05d}", benchmark="heldout", arm=arm,
            adapter=adapter, text="t", stop=Stop.EOS, n_prompt_tokens=1, n_tokens=3 + i,
        )  # fmt: skip

    columns = [exact, *more_adapters]
    losses = [
        SequenceLoss(
            key=f"{i}/{a}", question_id=f"row-{i:05d}", arm=Arm.TUNED, adapter=a, category="qa",
            response_nll=(nll or [1.0] * n)[i], n_tokens=(tokens or [1] * n)[i], eos_nll=0.1,
        )
        for a in range(1, len(columns) + 1) for i in range(n)
    ]  # fmt: skip
    similar = [
        Similarity(
            question_id=f"row-{i:05d}", arm=Arm.TUNED, adapter=a, category="qa", chrf=0.5,
            exact=bool(values[i]),
        )
        for a, values in enumerate(columns, start=1) for i in range(n)
    ]  # fmt: skip
    preferences = [
        Preference(
            question_id=f"row-{i:05d}", benchmark="heldout", opponent=Arm.BASE, protocol="own",
            orders=2, value=value, n_judgments=2, n_unparsed=0, orders_agree=None,
        )
        for i, value in enumerate(wins or ())
    ]  # fmt: skip
    judgments = [
        Judgment(
            key=str(i), question_id=f"row-{i:05d}", benchmark="heldout", opponent=Arm.BASE,
            protocol="own", judge=judge, first=Arm.BASE, prefers="tie", p_first=0.5, reply="C",
        )
        for i, _ in enumerate(wins or ())
    ]  # fmt: skip
    rows = [
        PreparedRow(
            split=Split.TRAIN, line=i,
            example=Example(id=f"row-9{i:04d}", instruction=text, context="", response="r",
                            category=None),
        )
        for i, text in enumerate(trained_on)
    ]  # fmt: skip
    files: dict[str, Sequence[Record]] = {
        "prepare/examples": rows,
        "generate/prompts": prompts,
        "generate/answers": [
            answer(i, arm, a)
            for i in range(n)
            for arm, a in [(Arm.BASE, 1), *((Arm.TUNED, a + 1) for a in range(len(columns)))]
        ],
        "generate/heldout_loss": losses,
    }
    if judged:
        files |= {
            "judge/similarity": similar, "judge/preferences": preferences,
            "judge/judgments": judgments, "judge/ratings": [],
        }  # fmt: skip
    for path, records in files.items():
        write_records(folder / f"{path}.jsonl", records)
    for stage in ("prepare", "train", "generate", *(["judge"] if judged else [])):
        own = PARTS.get(stage, {}) | dict((parts or {}).get(stage, {}))
        run.write_manifest(manifest(stage, own))
    if sentence is not None:
        made = report_case.results(name=name).model_dump(mode="json")
        made["verdict"]["sentence"] = sentence
        write_json(folder / "report" / "results.json", made | dict(results or {}))
    return folder
