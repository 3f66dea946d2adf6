"""The page ``docs/verdict.md``: its replies give its numbers and its sentences."""

from __future__ import annotations

import re
from pathlib import Path

from tuneproof.judge.accuracy import wilson
from tuneproof.judge.matches import Pair, preferences
from tuneproof.judge.own import OwnPairwise, parse
from tuneproof.recipe import Judge, VerdictRule
from tuneproof.records import Arm, CutPreference, Judgment, Prompt, preferred
from tuneproof.results import BenchmarkResult, Outcome, PairwiseResult, Verdict
from tuneproof.stats.second_opinion import second_opinion
from tuneproof.stats.summary import benchmark_result
from tuneproof.stats.verdict import decide

PAGE = Path(__file__).resolve().parents[2] / "docs/verdict.md"
TEXT = PAGE.read_text("utf-8")
PROSE = " ".join(re.sub(r"^> ?", "", line) for line in TEXT.splitlines())
PROTOCOL = OwnPairwise(orders=2)
SEED = 42


def replies() -> list[list[str]]:
    """The table's rows, cell by cell."""
    lines = [line for line in TEXT.splitlines() if re.match(r"\| q\d", line)]
    rows = [line.strip("| ").split(" | ") for line in lines]
    assert len(rows) == 16
    return rows


def prompt(question: str) -> Prompt:
    return Prompt(
        question_id=question, benchmark="heldout", category=None, instruction="?", context="",
        token_ids=(1,), reference=None, checkable=False,
    )  # fmt: skip


def judged(question: str, said: tuple[str, ...]) -> tuple[float, list[Judgment]]:
    """Base first, then tuned first, each read from a reply that ends in the verdict."""
    rows = []
    for first, word in zip((Arm.BASE, Arm.TUNED), said, strict=True):
        token = parse(f"Some reason.\nVERDICT: {word}")
        assert isinstance(token, str)
        p_first = {"A": 1.0, "B": 0.0, "tie": 0.5}[token]
        rows.append(
            Judgment(
                key=f"{question}/{first}", question_id=question, benchmark="heldout",
                opponent=Arm.BASE, protocol=PROTOCOL.name, judge="the judge", first=first,
                prefers=preferred(p_first), p_first=p_first, reply="",
            )
        )  # fmt: skip
    [found] = preferences(
        rows, [Pair(prompt=prompt(question), opponent=Arm.BASE, adapter=1)], PROTOCOL
    )
    assert found.value is not None
    return found.value, rows


def walked() -> tuple[PairwiseResult, Verdict, str]:
    """The result, the verdict and the second opinion's interval as the page shows it."""
    cuts, said = [], []
    for question, base_first, tuned_first, p, stopped, p_stopped, equal, p_equal in replies():
        value, rows = judged(question, (base_first, tuned_first))
        said += rows
        values = [value]
        for cell in (stopped, equal):
            new = values[-1] if cell == "=" else judged(question, tuple(cell.split(", ")))[0]
            values.append(new)
        assert values == [float(p), float(p_stopped), float(p_equal)], question
        cuts.append(
            CutPreference(
                question_id=question, benchmark="heldout", opponent=Arm.BASE,
                as_answered=values[0], stopped=values[1], equal_length=values[2],
            )
        )  # fmt: skip
    prompts = [prompt(row[0]) for row in replies()]
    pairs = [Pair(prompt=p, opponent=Arm.BASE, adapter=1) for p in prompts]
    preferred_rows = preferences(said, pairs, PROTOCOL)
    result: BenchmarkResult = benchmark_result(
        prompts, [], [], said, preferred_rows, judge=Judge(model="the judge"), level=0.95,
        seed=SEED, cuts=cuts,
    )  # fmt: skip
    assert result.pairwise is not None
    rule = VerdictRule(metric="win_rate", smallest_effect=0.02)
    verdict = decide(rule, None, {"heldout": result})
    other = second_opinion(
        rule, verdict, losses=[], similarities=[], preferences=preferred_rows, seed=SEED
    )
    assert other is not None
    assert other.low is not None
    assert other.high is not None
    return result.pairwise, verdict, f"{100 * other.low:.1f} to {100 * other.high:g} %"


def test_the_numbers_are_those_of_the_replies() -> None:
    pairwise, verdict, second = walked()
    rate = pairwise.win_rate
    assert rate.value is not None
    assert rate.low is not None
    assert rate.high is not None
    assert rate.detectable is not None
    assert f"**{100 * rate.value:.1f} %**" in PROSE
    assert f"**{100 * rate.low:.1f} to {100 * rate.high:.1f} %**" in PROSE
    assert f"Student's t gives {second}" in PROSE
    assert f"`detectable: {100 * rate.detectable:.1f} points`" in PROSE
    assert pairwise.decomposition is not None
    assert pairwise.decomposition.sentence in PROSE
    assert verdict.outcome is Outcome.BETTER
    assert verdict.sentence in PROSE


def test_position_and_cuts_are_counted_right() -> None:
    pairwise, _, _ = walked()
    decided = pairwise.first_preferred.value
    agreement = pairwise.order_agreement.value
    assert decided is not None
    assert agreement is not None
    words = [w for row in replies() for w in row[1:3] if w != "TIE"]
    assert f"preferred in {words.count('A')} of the {len(words)} decided replies" in PROSE
    assert f"both orders agree on {round(16 * agreement)} of 16 pairs" in PROSE
    stopped, equal = (sum(row[i] != "=" for row in replies()) for i in (4, 6))
    assert f"here {stopped} pairs for (a) and {equal} for (b)" in PROSE


def test_wilsons_bounds() -> None:
    assert f"begins at {int(1000 * wilson(86, 90, level=0.95)[0]) / 1000}" in PROSE
    low = wilson(78, 90, level=0.95)[0]
    assert low < 0.8
    assert f"with 78 of 90 at {int(1000 * low) / 1000}" in PROSE
