"""Findings about judging: which questions are asked, who is the opponent, who judges, how often.

Whether they are enough for the verdict is ``power``'s, and how the judge is tested ``controls``'s.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tuneproof import recipe as recipes
from tuneproof.naming import listed, spoken
from tuneproof.plan.judging import decisive, games_of, is_pairwise
from tuneproof.records import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuneproof.plan.judging import Asked
    from tuneproof.recipe import Recipe


# --- questions -------------------------------------------------------------------------------

_IN_ORDER = {
    "alpaca_eval": {
        "helpful_base": 129,
        "koala": 156,
        "oasst": 188,
        "selfinstruct": 252,
        "vicuna": 80,
    },
    "mt_bench": dict.fromkeys(
        (
            "writing",
            "roleplay",
            "reasoning",
            "math",
            "coding",
            "extraction",
            "stem",
            "humanities",
        ),
        10,
    ),
}
"""The categories of each benchmark's questions, in the order of its file."""


def first_categories(benchmark: str, n: int) -> dict[str, int]:
    """How many of the first ``n`` questions of a benchmark are of each category."""
    found: dict[str, int] = {}
    for category, size in _IN_ORDER[benchmark].items():
        if n > 0:
            found[category] = min(size, n)
        n -= size
    return found


def first_n_subset(asked: Sequence[Asked]) -> Finding | None:
    """Benchmarks of which only the first questions are asked: whole categories are missing."""
    parts, remedies, n_asked = [], [], 0
    for a in asked:
        e = a.evaluation
        if isinstance(e, recipes.Heldout) or e.selection != "first-n" or e.questions is None:
            continue
        everything = _IN_ORDER[a.name]
        if a.n_questions >= sum(everything.values()):
            continue
        present = first_categories(a.name, a.n_questions)
        counted = ", ".join(f"{n} {c}" for c, n in present.items())
        missing = [c for c in everything if c not in present]
        n_asked += a.n_questions
        lacking = f"; none is {' or '.join(missing)}" if missing else ""
        parts.append(
            f"the first {a.n_questions} questions of {spoken(a.name)} are {counted}{lacking}"
        )
        remedies.append(f"--set evaluate.{a.index}.selection=stratified")
    if not parts:
        return None
    return Finding(
        id="first-n-subset",
        severity="warning",
        count=n_asked,
        evidence="".join(f"{part[:1].upper()}{part[1:]}. " for part in parts)
        + "Such a rate is not the benchmark's.",
        remedy=f"{' '.join(remedies)}, or ask all of them (questions=null).",
    )


def unused_test_split(asked: Sequence[Asked], n_test: int) -> Finding | None:
    """Rows held out for a test that is not made."""
    if any(a.name == "heldout" for a in asked):
        return None
    return Finding(
        id="test-split-unused",
        severity="warning",
        count=n_test,
        evidence=f"The {n_test:,} rows of the test split are prepared and never asked: nothing is "
        "measured on rows like those that were learned.",
        remedy="Add {benchmark: heldout, questions: 300} under evaluate.",
    )


def no_capability_benchmark() -> Finding:
    """No academic benchmark is among those of a recipe (yet): what tuning costs is not seen."""
    return Finding(
        id="no-capability-benchmark",
        severity="note",
        count=1,
        evidence="No knowledge or reasoning benchmark (MMLU, GSM8K) is run: a loss of what the "
        "base model could do is not seen.",
        remedy="Run one on the base model and on the adapter beside this recipe.",
    )


# --- opponents and judges --------------------------------------------------------------------

_TUNED_NAMES = ("instruct", "chat", "-it", "sft", "dpo", "rlhf", "zephyr", "tulu", "assistant")


def is_instruction_tuned(model_id: str) -> bool:
    """Whether a model's name says that it was taught to follow instructions."""
    name = model_id.rstrip("/").rpartition("/")[2].casefold()
    return any(part in name for part in _TUNED_NAMES)


def weak_opponent(recipe: Recipe, asked: Sequence[Asked]) -> Finding | None:
    """Win rates against nothing but the base model, prompted with the training template.

    A warning where the verdict rests on one, else a note.
    """
    if recipe.judge is None:
        return None
    weak = [a for a in asked if a.opponents == ("base",)]
    if not weak:
        return None
    decides = recipe.verdict.metric == "win_rate" and decisive(recipe, asked) in weak
    why = (
        "asked with a template that is not its own"
        if is_instruction_tuned(recipe.model.id)
        else "which by its name was never taught to follow instructions or to stop, asked with a "
        "template it never saw"
    )
    return Finding(
        id="weak-opponent",
        severity="warning" if decides else "note",
        count=sum(a.n_questions for a in weak),
        evidence=f"On {listed(spoken(a.name) for a in weak)} the only opponent is the base model, "
        f"{why}: format alone can win.",
        remedy=" ".join(f"--set 'evaluate.{a.index}.against=[base, fair-base]'" for a in weak),
    )


def foreign_length_control(asked: Sequence[Asked]) -> Finding | None:
    """A length-controlled rate by the leaderboard's coefficients, for another match."""
    for a in asked:
        if not isinstance(a.evaluation, recipes.AlpacaEval):
            continue
        if a.evaluation.length_control != "official":
            continue
        part = "" if a.n_questions == 805 else f" {a.n_questions} questions are matched by row."
        return Finding(
            id="foreign-length-control",
            severity="error",
            count=a.n_questions,
            evidence="The official length-controlled rate has the question difficulties of the "
            "leaderboard's match, all 805 questions against GPT-4 Turbo; here the opponent is "
            f"{' and '.join(a.opponents)}.{part} The rate is of no match that was played.",
            remedy=f"--set evaluate.{a.index}.length_control=fitted",
        )
    return None


def single_order(recipe: Recipe, asked: Sequence[Asked]) -> Finding | None:
    """Pairs that a judge sees one way round."""
    judge = recipe.judge
    if judge is None or judge.kind == "reference":
        return None
    once = [a for a in asked if is_pairwise(a) and games_of(a, judge) == 1]
    if not once:
        return None
    return Finding(
        id="single-order",
        severity="warning",
        count=sum(a.n_judged * a.n_turns for a in once),
        evidence=f"On {listed(spoken(a.name) for a in once)} each pair is judged in one order. "
        "Judges favour a position: in published GPT-4 judgments a model loses nine points on the "
        "mean by being shown first.",
        remedy="--set judge.orders=2",
    )


def single_judge(recipe: Recipe) -> Finding | None:
    """One judge, whose taste is the result."""
    if recipe.judge is None:
        return None
    if recipe.judge.kind == "reference":
        return Finding(
            id="single-judge",
            severity="note",
            count=1,
            evidence="An answer is judged by its nearness to the reference response alone: a good "
            "one in other words loses.",
            remedy="Judge the same answers by a model: --run-dir with a copy of the run, and --set "
            "judge.kind=openai.",
        )
    return Finding(
        id="single-judge",
        severity="note",
        count=1,
        evidence=f"{recipe.judge.model} alone judges: its taste cannot be told from quality.",
        remedy="Judge the same answers by a model of another family: --run-dir with a copy of the "
        "run, and --set judge.model=MODEL.",
    )


def single_seed(recipe: Recipe) -> Finding | None:
    """One training, whose luck is the result."""
    if recipe.train.seeds > 1:
        return None
    return Finding(
        id="single-seed",
        severity="warning",
        count=1,
        evidence="One adapter is trained: intervals cover the choice of questions and not the luck "
        "of a training.",
        remedy="--set train.seeds=3",
    )


_FAMILIES = {
    "gpt": ("gpt", "chatgpt"),
    "llama": ("llama", "codellama", "tinyllama", "vicuna"),
    "qwen": ("qwen", "qwq"),
    "mistral": ("mistral", "mixtral", "ministral", "zephyr"),
    "gemma": ("gemma", "gemini"),
    "smollm": ("smollm",),
    "claude": ("claude",),
    "phi": ("phi",),
    "deepseek": ("deepseek",),
    "falcon": ("falcon",),
    "olmo": ("olmo", "tulu"),
}
_WRITTEN_BY = {
    "alpaca": "gpt",
    "self-instruct": "gpt",
    "sharegpt": "gpt",
    "gpt4": "gpt",
    "gpt-4": "gpt",
    "ultrachat": "gpt",
    "openorca": "gpt",
    "wizardlm": "gpt",
}
"""Data sets by a part of their name, and the family of models that wrote their responses."""


def families_of(model_id: str) -> frozenset[str]:
    """The families of a model by the words of its name: ``meta-llama/Llama-2-7b-hf`` is a llama.

    A distilled model may have two.
    """
    name = model_id.rstrip("/").removeprefix("asset:").rpartition("/")[2].casefold()
    parts = set(re.findall(r"[a-z]+", name))
    found = {family for family, names in _FAMILIES.items() if parts & set(names)}
    return frozenset(found | ({"gpt"} if re.match(r"o\d", name) else set()))


def judge_kinship(recipe: Recipe) -> Finding | None:
    """A judge of the model's own family, or of the family that wrote the data."""
    if recipe.judge is None or recipe.judge.kind == "reference":
        return None
    judge = families_of(recipe.judge.model)
    source = (recipe.data.source.hub or recipe.data.source.path or "").casefold()
    source = source.rstrip("/").rpartition("/")[2]
    author = next((who for part, who in _WRITTEN_BY.items() if part in source), None)
    kin = []
    if judge & families_of(recipe.model.id):
        kin.append(f"so is the model, {recipe.model.id}")
    if author in judge:
        kin.append(f"so was the author of the responses in {source}")
    if not kin:
        return None
    return Finding(
        id="judge-kinship",
        severity="warning",
        count=len(kin),
        evidence=f"The judge {recipe.judge.model} is of the family {' and '.join(sorted(judge))}; "
        f"{' and '.join(kin)}. Judges prefer what is like their own.",
        remedy="--set judge.model=MODEL, one of another family",
    )
