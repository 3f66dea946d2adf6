from __future__ import annotations

import math

import pytest

from tests.unit import report_evidence_case as case
from tuneproof.records import Arm, LossPoint
from tuneproof.report.drawing import (
    LEGEND,
    MOST_ROWS,
    IntervalBar,
    forest,
    forest_ticks,
    interval_bar,
    loss_chart,
    loss_rows,
    waterfall,
)
from tuneproof.report.numbers import parts
from tuneproof.report.pairwise import decomposed
from tuneproof.results import Estimate


def of(value: float, low: float | None, high: float | None) -> Estimate:
    return Estimate(value=value, low=low, high=high, n_scored=96, n_unscored=0)


def bar(
    estimate: Estimate, *, null: float = 0.0, effect: float = 0.0, lower: bool = True
) -> IntervalBar:
    drawn = interval_bar(
        estimate,
        width=600,
        null=null,
        smallest_effect=effect,
        lower_is_better=lower,
        percent=null > 0,
    )
    assert drawn is not None
    return drawn


def test_an_interval_keeps_its_order_and_proportions() -> None:
    drawn = bar(of(-0.4, -0.5, -0.3))
    assert 0 < drawn.low < drawn.value < drawn.high < drawn.null < 600
    assert drawn.value - drawn.low == pytest.approx(drawn.high - drawn.value, abs=0.2)
    assert drawn.null - drawn.high == pytest.approx(3 * (drawn.high - drawn.value), abs=0.5)


def test_the_better_side_is_left_for_a_loss_and_right_for_a_rate() -> None:
    loss = bar(of(-0.4, -0.5, -0.3), effect=0.1)
    assert (loss.better_from, loss.left_label) == (0, "← tuned is better")
    assert loss.high < loss.better_to < loss.null
    rate = bar(of(0.7, 0.62, 0.78), null=0.5, effect=0.05, lower=False)
    assert (rate.better_to, rate.right_label) == (600, "tuned is better →")
    assert rate.null < rate.better_from < rate.low
    assert rate.value_label == "70.0 %"
    assert "50 %" in [tick.label for tick in rate.ticks]


def test_ticks_stand_where_their_labels_say() -> None:
    drawn = bar(of(-0.4, -0.5, -0.3))
    at = {tick.label: tick.at for tick in drawn.ticks}
    assert at["0.0"] == drawn.null
    assert at["−0.4"] == drawn.value


def test_no_ticks_label_is_cut_at_an_edge() -> None:
    """Wherever the interval lies; without the rule a label would begin left of the drawing."""
    for i in range(40):
        low = 0.3 + i / 200
        drawn = bar(of(low + 0.1, low, low + 0.2), null=0.5, lower=False)
        assert drawn.ticks
        assert all(20 <= tick.at <= 580 for tick in drawn.ticks)


@pytest.mark.parametrize("value", [0.0, 1e-9, 3.0, -2e6])
def test_an_interval_without_width_can_be_drawn(value: float) -> None:
    drawn = bar(of(value, value, value))
    assert all(math.isfinite(x) for x in (drawn.low, drawn.value, drawn.high, drawn.null))
    assert 1 <= len(drawn.ticks) <= 10


def test_no_interval_no_drawing() -> None:
    none = of(0.5, None, None)
    assert (
        interval_bar(
            none, width=600, null=0, smallest_effect=0, lower_is_better=True, percent=False
        )
        is None
    )
    unscored = Estimate(value=None, low=None, high=None, n_scored=0, n_unscored=3)
    assert forest([unscored], width=100) == [None]
    assert forest([], width=100) == []


def test_rows_of_a_forest_share_one_scale() -> None:
    first, second, absent = forest(
        [of(-0.4, -0.5, -0.3), of(0.2, 0.1, 0.3), of(1.0, None, None)], width=180
    )
    assert first is not None
    assert second is not None
    assert absent is not None
    assert (absent.low, absent.high) == (None, None), "a value without an interval is a point"
    assert second.high is not None
    assert second.high < absent.value < 180
    assert first.null == second.null
    assert first.high is not None
    assert second.low is not None
    assert first.high < first.null < second.low


def test_a_forests_ticks_stand_where_its_rows_do() -> None:
    estimates = [of(-0.4, -0.5, -0.3), of(0.2, 0.1, 0.3)]
    rows = forest(estimates, width=180)
    at = {tick.label: tick.at for tick in forest_ticks(estimates, width=180)}
    assert rows[0] is not None
    assert at["0.0"] == rows[0].null
    assert len(at) >= 2


def test_a_waterfall_leads_from_the_win_rate_down_to_one_half() -> None:
    drawn = waterfall(case.decomposition(), width=700)
    assert drawn is not None
    whole, stopping, length, rest = drawn.steps
    assert whole.foot == rest.foot == drawn.null
    # Each step begins where the next one ends.
    assert stopping.tip == pytest.approx(whole.tip, abs=0.1)
    assert (stopping.foot, length.foot) == (length.tip, rest.tip)
    # 14.1, -2.1 and 7.8 of 19.8 points, at one scale.
    point = whole.length / 19.8
    assert stopping.length == pytest.approx(14.1 * point, abs=0.2)
    assert rest.length == pytest.approx(7.8 * point, abs=0.2)
    assert length.length == pytest.approx(2.1 * point, abs=0.2)
    assert [s.takes for s in drawn.steps] == [False, False, True, False]
    assert length.left == length.tip < length.foot
    at = {tick.label: tick.at for tick in drawn.ticks}
    assert at["50 %"] == drawn.null


def test_a_steps_interval_is_drawn_from_its_foot() -> None:
    drawn = waterfall(case.decomposition(), width=700)
    assert drawn is not None
    rest = drawn.steps[-1]
    assert rest.low is not None
    assert rest.high is not None
    # -0.4 to 16.0 points: it reaches beyond one half, so what remains may be none.
    assert 0 < rest.low < drawn.null < rest.tip < rest.high < 700
    point = rest.length / 7.8
    assert rest.high - drawn.null == pytest.approx(16.0 * point, abs=0.3)


def test_a_part_for_which_nothing_was_cut_is_a_point() -> None:
    wide = case.effect(0.0, -0.6, 0.6)
    split = case.decomposition(
        whole=case.effect(0.057, -0.02, 0.13), stopping=wide, n_cut_at_stop=0, n_cut_to_length=9
    )
    drawn = waterfall(split, width=700)
    assert drawn is not None
    whole, stopping, length, _ = drawn.steps
    assert stopping.label == "Stopping: 0.0 points (nothing was cut)"
    assert (stopping.low, stopping.high) == (None, None)
    assert length.low is not None
    assert whole.high is not None
    assert whole.length > 100, "what is not drawn does not stretch the scale"
    (row,) = [v for what, v in decomposed(split, Arm.BASE).rows if what.startswith("Stopping")]
    assert row == "0.0 points (nothing was cut, n = 94, 2 unscored)"
    # Without a count of cuts nobody knows.
    unknown = waterfall(split.model_copy(update={"n_cut_at_stop": None}), width=700)
    assert unknown is not None
    assert unknown.steps[1].low is not None


def test_the_bars_value_is_written_as_everywhere() -> None:
    small = bar(of(-0.0004, -0.0006, -0.0002))
    assert small.value_label == parts(of(-0.0004, -0.0006, -0.0002), signed=True).value
    assert small.value_label == "−0.0004"


def test_a_loss_is_drawn_to_the_left_of_one_half() -> None:
    drawn = waterfall(
        case.decomposition(
            whole=case.effect(-0.15, -0.25, -0.05),
            stopping=case.effect(0.05, -0.02, 0.12),
            length=case.effect(-0.1, -0.18, -0.02),
            remaining=case.effect(-0.1, -0.2, 0.0),
        ),
        width=340,
    )
    assert drawn is not None
    assert [s.takes for s in drawn.steps] == [True, False, True, True]
    assert all(s.left >= 0 and s.left + s.length <= drawn.null + 0.1 for s in drawn.steps)


def test_a_waterfall_without_intervals_or_without_values() -> None:
    bare = {
        name: of(value, None, None)
        for name, value in (
            ("whole", 0.5), ("stopping", 0.25), ("length", 0.0), ("remaining", 0.25),
        )
    }  # fmt: skip
    drawn = waterfall(case.decomposition(**bare), width=700)
    assert drawn is not None
    assert {(s.low, s.high) for s in drawn.steps} == {(None, None)}
    assert drawn.steps[0].label == "As answered: +50.0 points"
    assert drawn.steps[2].length == 0
    nothing = Estimate(value=None, low=None, high=None, n_scored=0, n_unscored=9)
    assert waterfall(case.decomposition(whole=nothing), width=700) is None
    assert waterfall(case.decomposition(length=nothing), width=700) is None


def test_a_loss_chart_places_both_series_and_rings_the_best() -> None:
    curve = [LossPoint(step=s, epoch=s / 10, train_loss=3.0 - s / 10) for s in range(1, 11)]
    curve += [LossPoint(step=s, epoch=s / 10, eval_loss=2.8 - s / 20) for s in (5, 10)]
    chart = loss_chart(curve, width=600, height=300, best_step=10)
    assert chart is not None
    assert len(chart.train.split()) == 10
    assert [m.title for m in chart.marks] == [
        "step 5: validation loss 2.550",
        "step 10: validation loss 2.300",
    ]
    assert chart.best == chart.marks[1]
    assert chart.best.x == chart.right
    assert chart.marks[1].y > chart.marks[0].y, "a lower loss lies lower"
    highest = min(float(point.split(",")[1]) for point in chart.train.split())
    assert chart.top >= LEGEND, "the legend stands above the lines"
    assert highest >= chart.top


def test_a_long_curve_has_a_short_table_and_all_of_its_line() -> None:
    curve = [LossPoint(step=s, epoch=0.0, train_loss=2.0) for s in range(1, 5001)]
    chart = loss_chart(curve, width=600, height=300, best_step=None)
    assert chart is not None
    assert len(chart.train.split()) == 5000
    rows = loss_rows([*curve, LossPoint(step=77, epoch=0.0, eval_loss=1.5)])
    assert len(rows) <= MOST_ROWS
    assert rows[:2] == [("1", "2.000", ""), ("10", "2.000", "")]
    assert ("77", "2.000", "1.500") in rows, "no validation loss is left out"


def test_no_loss_no_chart() -> None:
    assert loss_chart([], width=600, height=300, best_step=None) is None
    rate = [LossPoint(step=1, epoch=0.1, learning_rate=1e-4)]
    assert loss_chart(rate, width=600, height=300, best_step=1) is None
