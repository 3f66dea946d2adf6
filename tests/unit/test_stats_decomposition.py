"""Where a win comes from: parts by hand, what is left out, and the sentence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from tuneproof.records import Arm, CutPreference, Preference
from tuneproof.stats.decomposition import decompose, rounded, sentence
from tuneproof.stats.distributions import t_quantile
from tuneproof.stats.pairwise import win_rate

if TYPE_CHECKING:
    from tuneproof.results import Decomposition


def row(
    question: str,
    as_answered: float | None,
    stopped: float | None,
    equal: float | None,
    adapter: int = 1,
) -> CutPreference:
    return CutPreference(
        question_id=question,
        benchmark="heldout",
        opponent=Arm.BASE,
        as_answered=as_answered,
        stopped=stopped,
        equal_length=equal,
        adapter=adapter,
    )


def values(found: Decomposition) -> tuple[float | None, ...]:
    return tuple(e.value for e in (found.whole, *found.parts))


def test_by_hand() -> None:
    # Differences: whole ½, ½, 0, −½; stopping 1, 0, 0, 0; length 0, ½, 0, 0;
    # remaining −½, 0, 0, −½.
    found = decompose(
        [row("a", 1, 0, 0), row("b", 1, 1, 0.5), row("c", 0.5, 0.5, 0.5), row("d", 0, 0, 0)],
        level=0.95,
    )
    assert values(found) == (0.125, 0.25, 0.125, -0.25)
    # Stopping: sd 0.5, SE 0.25, t(3) = 3.182446.
    assert found.stopping.low == pytest.approx(0.25 - 3.182446 * 0.25, abs=1e-6)
    assert found.stopping.high == 1.0  # cut at the most there can be: 1.046
    # What remains: sd 1/√12, SE 1/(2·√12).
    half = 3.182446 / (2 * math.sqrt(12))
    assert found.remaining.high == pytest.approx(-0.25 + half, abs=1e-6)
    assert found.remaining.low == -0.5  # cut at the least there can be: −0.709
    assert (found.n_pairs, found.n_left_out, found.n_lost_to_cuts) == (4, 0, 0)
    assert all(e.n_scored == 4 and e.n_unscored == 0 for e in (found.whole, *found.parts))


def test_the_parts_sum_to_the_whole() -> None:
    thirds = [row(f"q{i}", (i % 3) / 2, (i % 2) / 3, (i % 7) / 7) for i in range(50)]
    found = decompose(thirds, level=0.9)
    whole, *parts = values(found)
    assert whole is not None
    assert sum(p or 0.0 for p in parts) == pytest.approx(whole, abs=1e-15)


def test_a_question_is_averaged_first() -> None:
    # Three turns of a, one of b: the mean of 1/3 and 0, not of 1, 0, 0, 0.
    rows = [row("a", 1, 0, 0), row("a", 0, 0, 0), row("a", 0, 0, 0), row("b", 0, 0, 0)]
    found = decompose(rows, level=0.95)
    assert found.stopping.value == pytest.approx(1 / 6)
    assert found.stopping.n_scored == 2
    assert found.n_pairs == 4


def test_the_intervals_are_paired() -> None:
    """A part that is the same on every question is known, however much the judge's view varies."""
    rows = [row(f"q{i}", 0.75 if i % 2 else 0.25, 0.5 if i % 2 else 0.0, 0.0) for i in range(40)]
    found = decompose(rows, level=0.95)
    assert found.stopping.value == 0.25
    assert found.whole.width > 0.1
    # Without spread, Wilson's bound on the share of questions that could differ: 1.25 · z²/(n + z²)
    # below and 0.75 of it above.
    assert found.stopping.width == pytest.approx(2 * 3.841459 / 43.841459, abs=1e-6)


def test_the_whole_has_the_win_rates_interval() -> None:
    """One quantity, one interval: the same method, the same resamples."""
    judged = [1.0, 1.0, 0.5, 0.0, 1.0, 1.0, 0.75, 1.0, 1.0, 0.5, 1.0, 1.0]
    rows = [row(f"q{i}", v, v / 2, v / 2) for i, v in enumerate(judged)]
    preferences = [
        Preference(
            question_id=r.question_id, benchmark="heldout", opponent=Arm.BASE, protocol="own",
            orders=2, value=r.as_answered, n_judgments=2, n_unparsed=0, orders_agree=None,
        )
        for r in rows
    ]  # fmt: skip
    for seed, few in ((42, 12), (7, 12), (42, 5), (None, 12)):
        questions = [r.question_id for r in rows[:few]]
        rate = win_rate(preferences[:few], questions, level=0.9, seed=seed)
        whole = decompose(rows[:few], level=0.9, seed=seed).whole
        assert rate.method == whole.method
        assert rate.low is not None
        assert rate.high is not None
        assert (whole.low, whole.high) == pytest.approx((rate.low - 0.5, rate.high - 0.5))


def test_what_no_cut_changed_is_known() -> None:
    def cut(n_at_stop: int, n_to_length: int) -> Decomposition:
        rows = [row(f"q{i}", float(i % 2), float(i % 2), float(i % 2)) for i in range(16)]
        said = [
            r.model_copy(update={"cut_at_stop": i < n_at_stop, "cut_to_length": i < n_to_length})
            for i, r in enumerate(rows)
        ]
        return decompose(said, level=0.95, seed=1)

    nothing = cut(0, 0)
    assert (nothing.n_cut_at_stop, nothing.n_cut_to_length) == (0, 0)
    for part in (nothing.stopping, nothing.length):
        assert (part.value, part.low, part.high) == (0.0, 0.0, 0.0)
        assert part.method == part.note
        assert "known" in part.method
    assert nothing.remaining.width > 0.4
    # Four were judged again and came out as before: Wilson's bound for these four, of sixteen.
    some = cut(4, 16)
    assert (some.n_cut_at_stop, some.n_cut_to_length) == (4, 16)
    bound = 4 / 16 * 3.841459 / (4 + 3.841459)
    assert (some.stopping.low, some.stopping.high) == pytest.approx((-bound, bound), abs=1e-6)
    assert some.length.high == pytest.approx(3.841459 / (16 + 3.841459), abs=1e-6)
    # Rows of before it was recorded: as if every pair could differ.
    before = decompose([row("a", 1, 1, 1), row("b", 0, 0, 0)], level=0.95)
    assert before.n_cut_at_stop is None
    assert before.stopping.width > 0


def test_only_pairs_scored_throughout_count() -> None:
    rows = [
        row("a", 1, 0, 0),
        row("b", 0, 0, 0),
        row("lost when cut", 1, None, 0),
        row("lost when equal", 1, 1, None),
        row("never scored", None, None, None),
        row("scored when cut alone", None, 1, 1),
        row("a", 1, None, 1),  # another turn of a question that is scored
    ]
    found = decompose(rows, level=0.95)
    assert values(found) == (0.0, 0.5, 0.0, -0.5)
    assert (found.n_pairs, found.n_left_out, found.n_lost_to_cuts) == (2, 5, 3)
    assert (found.whole.n_scored, found.whole.n_unscored) == (2, 4)


def test_adapters_widen_the_intervals() -> None:
    # Two adapters, alike within themselves, that differ in the whole by ½ and in stopping by 0.
    rows = [
        row(f"q{i}", base + (i % 2) / 4, base + (i % 2) / 4, 0.5, adapter)
        for adapter, base in ((1, 0.25), (2, 0.75))
        for i in range(20)
    ]
    both = decompose(rows, level=0.95)
    one = decompose([r for r in rows if r.adapter == 1], level=0.95)
    assert both.whole.method.endswith("between adapters")
    assert both.whole.width > 2 * one.whole.width
    # V_A = (½)²/2/2 less nothing: t(1)·0.25 alone is more than the range of a share.
    assert t_quantile(0.975, 1) * 0.25 > 0.5
    assert (both.whole.low, both.whole.high) == (-0.5, 0.5)


def test_nothing_and_one() -> None:
    nothing = decompose([row("a", 1, None, None)], level=0.95)
    assert values(nothing) == (None, None, None, None)
    assert (nothing.n_left_out, nothing.whole.n_unscored) == (1, 1)
    assert sentence(nothing) == (
        "Where the result comes from is not known: no pair was scored before and after."
    )
    one = decompose([row("a", 1, 0.5, 0.5)], level=0.95)
    assert sentence(one) == (
        "Of 50 points above one half, 50 are stopping, 0 are length, 0 remain, on 1 question; "
        "too few for an interval."
    )


# --- words -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        ([20.0, 6.0, 7.0], [20, 6, 7]),
        ([20.5, 6.4, 6.3], [21, 6, 6]),  # 33.2 is 33, and the floors give 32
        ([20.4, 6.45, 6.4], [20, 7, 6]),
        ([0.6, 0.6, 0.6], [1, 1, 0]),  # 1.8 is 2
        ([-3.4, 10.2, -1.0], [-3, 10, -1]),  # 5.8 is 6: floors −4, 10, −1 give 5
        ([0.3, -0.3, 0.0], [0, 0, 0]),
    ],
)
def test_whole_numbers_that_sum(parts: list[float], shown: list[int]) -> None:
    assert rounded(parts, sum(parts)) == shown
    assert sum(shown) == round(sum(parts))


def of(judged: float, stopped: float, equal: float, n: int = 100) -> Decomposition:
    """``n`` questions of which the given share prefers tuned in each condition."""
    rows = [
        row(f"q{i}", float(i < judged * n), float(i < stopped * n), float(i < equal * n))
        for i in range(n)
    ]
    return decompose(rows, level=0.95)


def test_the_sentence() -> None:
    # What remains: 57 of 100, sd 0.4976, t(99) = 1.984217: 7 ± 9.87.
    assert sentence(of(0.83, 0.63, 0.57)) == (
        "Of 33 points above one half, 20 are stopping, 6 are length, 7 remain, on 100 questions. "
        "What remains for tuned is 7.0 points (95 % interval −2.9 to 16.9) and may be none."
    )
    assert sentence(of(0.9, 0.85, 0.8)) == (
        "Of 40 points above one half, 5 are stopping, 5 are length, 30 remain, on 100 questions. "
        "What remains for tuned is 30.0 points (95 % interval 22.0 to 38.0)."
    )


def test_the_sentence_of_a_loss_and_of_parts_that_cancel() -> None:
    assert sentence(of(0.38, 0.47, 0.44)).startswith(
        "Of 12 points below one half, 9 are stopping, −3 are length, 6 remain, on 100 questions. "
        "What remains for tuned is −6.0 points"
    )
    assert sentence(of(0.5, 0.42, 0.42)).startswith(
        "The win rate is one half, to the nearest point: stopping adds 8 points, length 0, and "
        "what remains −8, on 100 questions."
    )


def test_the_sentence_counts_what_it_leaves_out() -> None:
    rows = [row("a", 1, 0, 0), row("b", 1, 1, 1), row("c", 1, None, 1), row("d", None, 1, 1)]
    assert sentence(decompose(rows, level=0.95)).endswith(
        "2 of 4 pairs are not in this, being unscored in one of the three judgments."
    )


def test_the_sentence_says_where_what_remains_is_a_bound() -> None:
    whole = of(0.9, 0.85, 0.8)

    def shortened(tuned: int, opponent: int) -> str:
        update = {"shortened_tuned": tuned, "shortened_opponent": opponent}
        return sentence(whole.model_copy(update=update))

    assert shortened(11, 93).endswith(
        "Of 104 answers cut off for equal length, 93 are those of the opponent, which a judge may "
        "hold against them: what remains is at most this."
    )
    assert "93 are those of tuned" in shortened(93, 11)
    assert shortened(93, 11).endswith("what remains is at least this.")
    assert shortened(50, 60) == sentence(whole)
