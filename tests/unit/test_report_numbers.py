from __future__ import annotations

from typing import Any

import pytest

from tuneproof.report.numbers import (
    are_numbers,
    count,
    duration,
    moment,
    number,
    parts,
    share_of,
    size,
    unbroken,
)
from tuneproof.results import Estimate


def of(value: float | None, low: float | None, high: float | None, **more: object) -> Estimate:
    fields = {"value": value, "low": low, "high": high, "n_scored": 96, "n_unscored": 0} | more
    return Estimate.model_validate(fields)


def show(estimate: Estimate | None, **how: Any) -> str:
    return parts(estimate, **how).text


def test_a_percentage_carries_its_interval_and_n() -> None:
    assert show(of(0.632, 0.571, 0.690), percent=True) == "63.2 % (57.1 to 69.0, n = 96)"


def test_a_difference_of_percentages_is_in_points_and_signed() -> None:
    shown = show(of(0.125, -0.01, 0.26), percent=True, signed=True)
    assert shown == "+12.5 points (−1.0 to +26.0, n = 96)"


def test_a_loss_has_three_digits_and_a_true_minus() -> None:
    assert show(of(-0.4122, -0.478, -0.346), signed=True) == "−0.412 (−0.478 to −0.346, n = 96)"


def test_unscored_questions_are_told() -> None:
    assert (
        show(of(0.5, 0.4, 0.6, n_unscored=1203)) == "0.500 (0.400 to 0.600, n = 96, 1,203 unscored)"
    )


def test_an_absent_measure_is_not_measured() -> None:
    assert show(None) == "not measured"
    assert not parts(None).measured


def test_an_estimate_without_value_reads_as_its_note() -> None:
    assert show(of(None, None, None, n_scored=1, note="too few questions")) == (
        "too few questions (n = 1)"
    )
    assert show(of(None, None, None, n_scored=0)) == "not measured (n = 0)"


def test_a_value_without_interval_says_so() -> None:
    assert show(of(2.4, None, None, n_scored=1)) == "2.400 (no interval, n = 1)"
    assert show(of(2.4, None, None, note="one value")) == "2.400 (no interval: one value, n = 96)"
    assert show(of(2.4, None, None, n_scored=1, note="one question gives no interval")) == (
        "2.400 (no interval, n = 1)"
    )


def test_another_level_is_named() -> None:
    assert show(of(0.5, 0.4, 0.6, level=0.99)) == "0.500 (99 % interval 0.400 to 0.600, n = 96)"


def test_a_bound_that_is_not_zero_is_not_shown_as_zero() -> None:
    # An interval wholly below zero must not look as if it touched zero.
    assert show(of(-0.01, -0.02, -0.00004)) == "−0.01000 (−0.02000 to −0.00004, n = 96)"
    assert show(of(0.0, 0.0, 0.0), percent=True) == "0.0 % (0.0 to 0.0, n = 96)"
    assert show(of(0.3, 0.0004, 0.5), percent=True) == "30.00 % (0.04 to 50.00, n = 96)"


def test_what_only_rounding_tells_from_zero_is_zero() -> None:
    # A judge's probabilities make bounds such as 1e-7.
    assert show(of(4e-8, 1e-9, 1e-7), percent=True) == "0.0 % (0.0 to 0.0, n = 96)"
    assert show(of(0.3, 1e-9, 0.5), percent=True) == "30.0 % (0.0 to 50.0, n = 96)"


def test_a_detectable_effect_is_told_in_the_unit_of_a_difference() -> None:
    rate = of(0.698, 0.615, 0.781, detectable=0.1187)
    assert parts(rate, percent=True).detectable == "11.9 points"
    assert parts(rate, percent=True).full == (
        "69.8 % (61.5 to 78.1, n = 96); detectable: 11.9 points"
    )
    loss = of(-0.412, -0.478, -0.346, detectable=0.0944)
    assert parts(loss, signed=True).detectable == "0.094"
    # An effect that is not zero is not shown as zero.
    assert parts(of(-0.4, -0.5, -0.3, detectable=0.00004)).detectable == "0.00004"


def test_without_a_detectable_effect_nothing_is_said_of_it() -> None:
    plain = parts(of(0.5, 0.4, 0.6), percent=True)
    assert (plain.detectable, plain.full) == ("", plain.text)
    assert parts(of(None, None, None, n_scored=0)).detectable == ""


@pytest.mark.parametrize(
    ("value", "text"), [(-0.0001, "0.000"), (0.0, "0.000"), (-1234.5678, "−1,234.568")]
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.84, "0.8 s"),
        (42.2, "42 s"),
        (59.6, "1 min 0 s"),
        (252.4, "4 min 12 s"),
        (3599.7, "1 h 0 min"),
        (3661, "1 h 1 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_moment_is_told_to_the_minute_in_utc() -> None:
    assert moment("2025-11-03T14:02:11+00:00") == "2025-11-03 14:02 UTC"
    assert moment("2025-11-03T14:02:11+02:00") == "2025-11-03 12:02 UTC"
    assert moment("2025-11-03T14:02:11") == "2025-11-03 14:02"
    assert moment("yesterday") == "yesterday"


def test_counts_shares_and_sizes() -> None:
    assert count(4_194_304) == "4,194,304"
    assert share_of(4_194_304, 6_742_609_920) == "0.0622 %"
    assert share_of(0, 0) == "–"
    assert (size(812), size(1_048_576), size(3 * 2**40)) == ("812 B", "1.0 MiB", "3.0 TiB")


def test_no_line_ends_inside_a_number_with_its_unit() -> None:
    said = "55.9 % (95 % interval 1 to 2, n = 17) is 3.6 points, 100 times"
    whole = (
        "55.9\u00a0% (95\u00a0% interval 1 to 2, n\u00a0=\u00a017) is 3.6\u00a0points, 100 times"
    )
    assert unbroken(said) == whole


def test_a_column_of_numbers_is_known() -> None:
    assert are_numbers(["12,008", "1,501", "0", "41.4 %", "−0.5"])
    assert not are_numbers(["12,008", "3 of 4"])
