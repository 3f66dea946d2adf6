"""What the report says of answers beside their estimates: their data, their ends, their lengths."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

import pytest

from tests.unit import report_case as case
from tests.unit.report_reading import EVIL, HOSTILE, Page, cases_of, data_of, render
from tests.unit.test_report import hostile_changes
from tuneproof.records import Arm, Preference, Stop
from tuneproof.report import embedded, page
from tuneproof.report.behaviour import WIDTH, behaviours
from tuneproof.report.drawing import forest
from tuneproof.report.pairwise import PAIRS_BY_LENGTH, TURNS_APART, pairwise
from tuneproof.report.untrusted import visible
from tuneproof.stats.lengths import BANDS, bands, length_band

# --- the data in the page ----------------------------------------------------------------------


def test_no_text_ends_or_comments_out_the_data() -> None:
    text = embedded.embedded(cases_of(**hostile_changes()), titles={})
    assert not set("<>&\u2028\u2029") & set(text)
    text.encode()  # no lone surrogate
    first = json.loads(text)["questions"][0]["turns"][0]
    assert first["instruction"] == first["reference"] == visible(EVIL)
    for hostile in HOSTILE:
        assert visible(hostile) in first["sides"][0]["text"]


def test_packed_data_are_the_same_data_and_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = data_of(render("index.html", case.results()))
    monkeypatch.setattr(embedded, "PACK_FROM", 1)
    texts = [render("index.html", case.results()) for _ in range(2)]
    assert texts[0] == texts[1]
    assert '{"gzip": "' in texts[0]
    assert data_of(texts[0]) == plain
    assert len(plain["questions"]) == 12


def test_a_large_report_is_packed_and_shows_a_sample_without_scripts() -> None:
    words = "The tide forgets each name we write in sand. " * 100
    answers = [
        a.model_copy(update={"text": f"{a.key} {words}"})
        for a in case.answers(300)
        if a.stop is not Stop.ERROR
    ]
    text = render("index.html", case.results(), prompts=case.prompts(300), answers=answers)
    assert '{"gzip": "' in text
    told = re.search(r"this page shows (\d+) of 300 questions", Page(text).text)
    assert told is not None
    assert int(told[1]) == text.count('<article class="case"')
    # 300 questions of two answers, 4,500 characters each, are 2.7 million: about a third fits.
    assert 80 < int(told[1]) < 120
    assert len(data_of(text)["questions"]) == 300
    assert len(text.encode()) < 2_000_000


def test_a_long_text_is_cut_without_scripts_and_says_so() -> None:
    answers = [case.answer(0, Arm.BASE, "y" * (page.MOST_OF_ONE + 1234))]
    text = render("index.html", case.results(), prompts=case.prompts(1), answers=answers)
    assert "1,234 more characters are not shown here." in Page(text).text
    sides = data_of(text)["questions"][0]["turns"][0]["sides"]
    assert len(sides[0]["text"]) == page.MOST_OF_ONE + 1234, "the script has all of it"


def test_gzip_headers_hold_no_time() -> None:
    assert gzip.compress(b"x", mtime=0)[4:8] == b"\0\0\0\0"


# --- how answers end and how long they are -----------------------------------------------------


def test_behaviour_counts_ends_and_quantiles() -> None:
    lengths = [10, 20, 30, 40, 50]
    said = [
        case.answer(number, Arm.BASE, "x").model_copy(
            update={"n_tokens": n, "stop": Stop.LENGTH if n > 30 else Stop.EOS}
        )
        for number, n in enumerate(lengths)
    ]
    failed = case.answer(5, Arm.BASE, "", stop=Stop.ERROR, error="x")
    stored = case.answer(0, Arm.BASELINE, "z", stop=Stop.GIVEN)
    rows = behaviours(case.prompts(6), [*said, failed, stored])["heldout"]
    base, baseline = rows
    assert base.ended == "3 stopped by themselves, 2 cut at the token limit, 1 failed, of 6"
    # 5 %: 10 + 0.2 · 10; 95 %: 40 + 0.8 · 10.
    assert base.lengths == "median 30 tokens; half are 20 to 40, nine tenths 12 to 48"
    assert [(s.stop, s.at, s.width) for s in base.segments] == [
        ("eos", 0.0, WIDTH / 2), ("length", WIDTH / 2, round(WIDTH / 3, 1)),
        ("error", round(WIDTH * 5 / 6, 1), round(WIDTH / 6, 1)),
    ]  # fmt: skip
    assert base.box is not None
    assert base.box.p95 == WIDTH - 3, "the longest reaches the end"
    assert (baseline.lengths, baseline.box) == ("not known in tokens", None)


def test_bands_are_told_by_characters() -> None:
    assert [length_band(n, 100) for n in (0, 49, 50, 89, 90, 100, 111, 112, 200, 201)] == [
        BANDS[0], BANDS[0], BANDS[1], BANDS[1], BANDS[2], BANDS[2], BANDS[2], BANDS[3], BANDS[3],
        BANDS[4],
    ]  # fmt: skip
    assert (length_band(0, 0), length_band(1, 0)) == (BANDS[2], BANDS[4])


def test_each_pair_is_in_the_band_of_its_own_answers() -> None:
    answers = [
        case.answer(0, Arm.BASE, "x" * 100), case.answer(0, Arm.TUNED, "x" * 30),
        case.answer(1, Arm.BASE, "x" * 100), case.answer(1, Arm.TUNED, "x" * 100),
        case.answer(2, Arm.BASE, "", stop=Stop.ERROR, error="x"), case.answer(2, Arm.TUNED, "x"),
    ]  # fmt: skip
    preferences = [
        Preference(question_id=case.question_id(n), benchmark="heldout", opponent=Arm.BASE,
                   protocol="p", orders=2, value=1.0, n_judgments=2, n_unparsed=0,
                   orders_agree=True)
        for n in range(3)
    ]  # fmt: skip
    found = bands(answers, preferences)
    assert {band: [p.question_id for p in pairs] for band, pairs in found.items()} == {
        BANDS[0]: [case.question_id(0)],
        BANDS[2]: [case.question_id(1)],
    }


# --- win rates ---------------------------------------------------------------------------------


def test_win_rates_are_drawn_on_the_whole_scale() -> None:
    (row,) = forest([case.estimate(0.75, 0.25)], width=102, null=0.5, ends=(0.0, 1.0))
    assert row is not None
    # 0 and 1 lie 2 % inside what is drawn, from 2 to 100 pixels.
    assert (row.low, row.value, row.high) == pytest.approx((51.0, 74.6, 98.1), abs=0.1)
    assert row.null == 51.0


def test_win_rates_by_length_are_told_and_drawn() -> None:
    found = case.pairwise().model_copy(
        update={"by_length": {BANDS[0]: case.estimate(0.4, 0.1), BANDS[4]: case.estimate(0.8, 0.1)}}
    )
    results = case.results()
    result = results.benchmarks["heldout"].model_copy(update={"pairwise": found})
    whole = results.model_copy(update={"benchmarks": {"heldout": result}})
    text = Page(render("index.html", whole)).text
    assert "tuned over twice as long 80.0 % 70.0 to 90.0, n = 96" in text
    assert "tuned under half as long" in render("report.md", whole)


@pytest.mark.parametrize("name", ["report.md", "index.html"])
def test_a_rate_outside_its_turns_and_lengths_of_pairs_are_explained(name: str) -> None:
    results = case.two_turn_results()
    mt_bench = results.benchmarks["mt_bench"]
    whole = mt_bench.pairwise
    assert whole is not None

    def told(by_turn: tuple[float, float], **more: Any) -> str:
        found = whole.model_copy(
            update={
                "by_turn": {str(t): case.estimate(v, 0.1, n=2) for t, v in enumerate(by_turn, 1)},
                **more,
            }
        )
        result = mt_bench.model_copy(update={"pairwise": found})
        text = render(name, results.model_copy(update={"benchmarks": {"mt_bench": result}}))
        return Page(text).text if name.endswith("html") else text

    # The whole is 77.4 %; of fair-base's, 33.1 % lies between its turns.
    assert told((0.71, 0.65)).count(TURNS_APART) == 1
    assert TURNS_APART not in told((0.71, 0.8))
    lengths = {BANDS[0]: case.estimate(0.4, 0.1), BANDS[4]: case.estimate(0.8, 0.1)}
    assert told((0.71, 0.8), by_length=lengths).count(PAIRS_BY_LENGTH) == 1
    assert PAIRS_BY_LENGTH not in told((0.71, 0.8))


def test_the_reference_judge_decides_without_asking() -> None:
    found = case.pairwise().model_copy(
        update={"protocol": "reference-chrf", "n_judgments": 0, "n_not_asked": 100}
    )
    assert dict(pairwise(found).rows)["Judgments"] == "100, decided without asking"
    asked = case.pairwise().model_copy(update={"n_not_asked": 3})
    assert dict(pairwise(asked).rows)["Judgments"].endswith("3 not asked, the answers being equal")
    decided = case.judgment(0, Arm.BASE, "B", reply="").model_copy(
        update={"protocol": "reference-chrf", "asked": False}
    )
    joined = cases_of(judgments=[decided])
    assert joined.cases[0].turns[0].replies[0].says == "prefers tuned (decided without asking)"
