"""How the numbers came about: the data's ledger, the training, the stages as they ran.

Turns counts and manifests into labelled lines for both outputs. Nothing is escaped here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneproof.naming import listed, spoken
from tuneproof.records import SEVERITIES
from tuneproof.report.numbers import NOT_MEASURED, count, duration, number, share_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tuneproof.recipe import Recipe
    from tuneproof.records import Finding, Ledger, Manifest, TrainingSummary
    from tuneproof.results import Results


@dataclass(frozen=True, kw_only=True)
class StageRun:
    """One stage as it ran."""

    stage: str
    manifest: Manifest
    checkout: str


NO_PREFLIGHT = "The run kept no preflight; tuneproof plan shows what it finds."


@dataclass(frozen=True, kw_only=True)
class Group:
    """The preflight's findings of one severity."""

    severity: str
    title: str
    findings: tuple[Finding, ...]


def preflight_groups(results: Results) -> list[Group]:
    """What the preflight found, the worst first."""
    found = results.preflight.findings if results.preflight is not None else ()
    groups = []
    for severity in SEVERITIES:
        mine = tuple(f for f in found if f.severity == severity)
        if mine:
            title = f"{len(mine)} {severity}{'' if len(mine) == 1 else 's'}"
            groups.append(Group(severity=severity, title=title, findings=mine))
    return groups


def preflight_said(results: Results) -> str:
    """What stands above the findings, or in their place."""
    kept = results.preflight
    if kept is None:
        return NO_PREFLIGHT
    if kept.problem is not None:
        return f"The preflight could not be made: {kept.problem}"
    if not kept.findings:
        return "Found before training: nothing."
    titles = [group.title for group in preflight_groups(results)]
    return f"Found before training: {', '.join(titles)}."


def ledger_rows(ledger: Ledger | None) -> list[tuple[str, str]]:
    """(What, count) for every line of a ledger."""
    if ledger is None:
        return []
    return [
        ("Read", count(ledger.read)),
        *((f"Dropped: {reason}", count(n)) for reason, n in ledger.dropped.items()),
        ("Kept", count(ledger.kept)),
        *((f"Kept, but cut: {reason}", count(n)) for reason, n in ledger.cut.items()),
    ]


def training_rows(results: Results) -> list[tuple[str, str]]:
    """(What, how much) for every line of the training summary; of the first adapter's training,
    with a line for each of the others. How it was set up is in ``experiment``."""
    t = results.training
    if t is None:
        return []
    best, final = _best(t), _final(t)
    return [
        (
            "Optimizer steps",
            f"{count(t.steps)} ({t.epochs:.3g} epoch{'' if t.epochs == 1 else 's'})",
        ),
        ("Training rows", count(t.rows)),
        (
            "Rows cut at the length limit",
            f"{count(t.rows_cut)} ({share_of(t.rows_cut, t.rows + t.rows_dropped)})",
        ),
        *(
            [("Contexts shortened to fit", count(t.contexts_shortened))]
            if t.contexts_shortened
            else []
        ),
        ("Responses lost to the cut", count(t.responses_lost)),
        ("Rows that teach the end token", f"{count(t.eos_supervised_rows)} of {count(t.rows)}"),
        ("Rows dropped, no token left to learn from", count(t.rows_dropped)),
        ("Tokens seen", f"{count(t.tokens)} in all"),
        ("Supervised tokens", f"{count(t.supervised_tokens_per_epoch)} an epoch"),
        *(
            (
                f"Loss after epoch {e.epoch}",
                f"train {number(e.train_loss)} (mean of the epoch), validation "
                f"{number(e.eval_loss)}",
            )
            for e in t.by_epoch
        ),
        *(
            [("Ended early", "validation loss had no new best (monitor.patience)")]
            if t.stopped_early
            else []
        ),
        ("Lowest validation loss", f"{best} (as logged)" if best != NOT_MEASURED else best),
        ("Last train loss", f"{final} (as logged)" if final != NOT_MEASURED else final),
        ("Duration", duration(t.duration_s)),
        *(
            (
                f"Adapter {which} (seed {'not known' if o.seed is None else o.seed})",
                f"{count(o.steps)} steps, lowest validation loss {_best(o)}, last train loss "
                f"{_final(o)} (as logged), {duration(o.duration_s)}",
            )
            for which, o in enumerate(results.other_trainings, start=2)
        ),
    ]


def _best(t: TrainingSummary) -> str:
    if t.best_eval_loss is None:
        return NOT_MEASURED
    at = f" at step {count(t.best_step)}" if t.best_step is not None else ""
    return number(t.best_eval_loss) + at


def _final(t: TrainingSummary) -> str:
    return NOT_MEASURED if t.final_train_loss is None else number(t.final_train_loss)


def stage_runs(manifests: Mapping[str, Manifest]) -> list[StageRun]:
    """The stages in the order given."""
    return [
        StageRun(stage=stage, manifest=m, checkout=_checkout(m)) for stage, m in manifests.items()
    ]


def registration_rows(results: Results) -> list[tuple[str, str]]:
    """The whole digest of what was fixed before judging; its sentence shows the beginning."""
    found = results.registration
    return [("SHA-256 of what was fixed", found.digest)] if found and found.digest else []


def machine_notes(recipe: Recipe) -> list[str]:
    """What in a recipe may not hold on another machine, a sentence each."""
    notes = ["Paths and addresses in it are those of the machine that it ran on."]
    read = [e.benchmark for e in recipe.evaluate if e.benchmark != "heldout"]
    if recipe.assets is not None:
        notes.append(
            f"Files of benchmarks were looked for in the folder {recipe.assets}: the recipe's "
            "assets names it, or the environment's TUNEPROOF_ASSETS."
        )
    elif read:
        notes.append(
            f"Files of {listed(spoken(name) for name in read)} that are not fetched are looked for "
            "in the folder that the environment's TUNEPROOF_ASSETS names (tuneproof assets list)."
        )
    return notes


def plan_rows(manifests: Mapping[str, Manifest]) -> list[tuple[str, str]]:
    """The batch plan that the answers were given by: which, how large, and what hangs on it."""
    made = manifests.get("generate")
    file = next((f for f in made.outputs if f.path == "generate/plan.json"), None) if made else None
    if made is None or file is None:
        return []
    facts = made.facts
    return [
        ("SHA-256 of the batch plan", file.sha256),
        (
            "Batches",
            f"{count(int(facts['batches'] or 0))}, of at most "
            f"{count(int(facts['batch size, at most'] or 0))} prompts and "
            f"{count(int(facts['batch tokens, at most'] or 0))} tokens",
        ),
        (
            "Answers",
            f"in {facts['dtype']}: "
            + (
                "they depend on the plan; other batches give other answers to the same prompts"
                if facts["answers depend on the plan"]
                else "the same in any batches"
            ),
        ),
    ]


def _checkout(manifest: Manifest) -> str:
    if manifest.commit is None:
        return "no checkout"
    dirty = {True: ", with uncommitted changes", False: "", None: ", state unknown"}
    return manifest.commit[:12] + dirty[manifest.dirty]


def package_sets(manifests: Mapping[str, Manifest]) -> list[tuple[str, str]]:
    """(Stages, versions): one line where all stages ran with the same packages, else one a set."""
    sets: dict[str, list[str]] = {}
    for stage, m in manifests.items():
        versions = ", ".join(f"{name} {v}" for name, v in sorted(m.packages.items()))
        text = f"Python {m.python}, tuneproof {m.tuneproof}" + (f", {versions}" if versions else "")
        sets.setdefault(text, []).append(stage)
    return [
        ("all stages" if len(sets) == 1 else ", ".join(stages), text)
        for text, stages in sets.items()
    ]
