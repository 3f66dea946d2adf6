from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit import report_case as case
from tests.unit.report_reading import (
    EVIL,
    FILES,
    HOSTILE,
    Page,
    cases_of,
    data_of,
    outside_fences,
    render,
    write,
)
from tuneproof.errors import StageError
from tuneproof.recipe import VerdictRule
from tuneproof.records import Arm, Judgment, Ledger, LossPoint, Stop
from tuneproof.report import content
from tuneproof.report.cases import Case, build_cases
from tuneproof.report.content import pairwise_results, rule
from tuneproof.report.results_file import read_results
from tuneproof.report.tables import Table, to_markdown
from tuneproof.report.untrusted import cell, fence, inline, visible
from tuneproof.results import Estimate, Outcome, Results, Verdict
from tuneproof.stats.summary import summarize

if TYPE_CHECKING:
    from pathlib import Path


def hostile_changes() -> dict[str, Any]:
    prompt = case.prompts(1)[0].model_copy(
        update={"instruction": EVIL, "context": EVIL, "reference": EVIL, "category": EVIL}
    )
    answers = [
        case.answer(0, Arm.BASE, EVIL, stop=Stop.LENGTH),
        case.answer(0, Arm.TUNED, "", stop=Stop.ERROR, error=EVIL),
    ]
    turns = case.two_turns(EVIL)
    unread = case.judgment(0, Arm.BASE, None, reply=EVIL).model_copy(update={"unparsed": EVIL})
    return {
        "prompts": [prompt, *turns["prompts"][-2:]],
        "answers": [*answers, *turns["answers"][-8:]],
        "judgments": [
            unread,
            case.judgment(0, Arm.TUNED, "A", reply=EVIL),
            *turns["judgments"][-16:],
        ],
        "findings": [EVIL],
        "recipe_text": EVIL,
        "manifests": {
            "train": case.manifests()["train"].model_copy(update={"device": EVIL, "commit": EVIL})
        },
    }


def hostile_results() -> Results:
    loss = case.heldout_loss()
    result = case.two_turn_results(EVIL).benchmarks["mt_bench"]
    assert result.pairwise is not None
    hostile = result.pairwise.model_copy(update={"judge": EVIL, "protocol": EVIL})
    return case.results(
        benchmarks={
            **case.results().benchmarks,
            EVIL: result.model_copy(update={"pairwise": hostile}),
        },
        name=EVIL,
        verdict=Verdict(
            outcome=Outcome.BETTER,
            sentence=EVIL,
            reasons=(EVIL,),
            metric="heldout_loss",
            estimate=loss.difference,
        ),
        heldout_loss=loss.model_copy(update={"by_category": {EVIL: loss.eos}}),
        ledger=Ledger(read=2, kept=1, dropped={EVIL: 1}),
    )


# --- the files ---------------------------------------------------------------------------------


def test_results_json_reads_back_as_the_same_results(tmp_path: Path) -> None:
    texts = write(tmp_path)
    assert Results.model_validate_json(texts["results.json"]) == case.results()


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == sorted(FILES)


def test_the_figure_that_the_verdict_rests_on_is_marked() -> None:
    figures = content.key_figures(case.results())
    assert [f.label for f in figures if f.decides] == ["Held-out loss"]
    assert Page(render("index.html", case.results())).text.count("the verdict rests on this") == 1


@pytest.mark.parametrize("n", range(2, 40))
def test_no_key_figure_is_left_alone_in_a_row(n: int) -> None:
    columns = content.figure_columns(n)
    assert n <= columns or n % columns != 1


def test_loss_csv_holds_every_point_and_leaves_empty_what_was_not_logged(tmp_path: Path) -> None:
    points = [
        LossPoint(step=10, epoch=0.5, train_loss=2.25, learning_rate=2e-4, grad_norm=0.75),
        LossPoint(step=10, epoch=0.5, eval_loss=2.0),
    ]
    texts = write(tmp_path, curve=points)
    assert list(csv.reader(texts["loss.csv"].splitlines())) == [
        ["step", "epoch", "train_loss", "eval_loss", "learning_rate", "grad_norm"],
        ["10", "0.5", "2.25", "", "0.0002", "0.75"],
        ["10", "0.5", "", "2.0", "", ""],
    ]
    assert "\r" not in texts["loss.csv"]


def test_figures_hold_no_date_and_survive_an_empty_curve(tmp_path: Path) -> None:
    texts = write(tmp_path)
    assert "<dc:date>" not in texts["loss.svg"]
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    texts = write(tmp_path, curve=[])
    assert "not measured (no loss was logged)" in Page(texts["index.html"]).text


# --- what it says ------------------------------------------------------------------------------


def test_both_reports_begin_with_the_verdict_and_its_interval(tmp_path: Path) -> None:
    texts = write(tmp_path)
    sentence = case.results().verdict.sentence
    number = "−0.412 (−0.478 to −0.346, n = 96)"
    assert texts["report.md"].startswith(f"# smollm2-dolly\n\n**{sentence}**\n")
    assert number in texts["report.md"].split("\n## ")[0]
    text = Page(texts["index.html"]).text
    assert text.index(sentence) < text.index(number) < text.index("What was measured")
    assert "← tuned is better" in text


@pytest.mark.parametrize("name", ["report.md", "index.html"])
def test_every_measure_is_told_with_interval_and_n(tmp_path: Path, name: str) -> None:
    text = write(tmp_path)[name]
    if name.endswith("html"):
        text = Page(text).text
    for told in (
        "69.8 % (61.5 to 78.1, n = 94, 2 unscored)",
        "78.7 % (70.7 to 86.7, n = 94, 2 without two replies: unparsed)",
        "59 / 13 / 22",
        "Reference similarity",
        "+11.0 to +14.8, n = 96",
        "Stopped by itself",
        "Answer length",
        "Loss of the end token",
        "closed_qa",
        "too few questions",
        "Dropped: empty response",
        "460,800 of 134,975,808 (0.341 %)",
        "with uncommitted changes",
        "torch 2.8.0",
        "tuneproof run smollm2-dolly.yaml",
        "id: HuggingFaceTB/SmolLM2-135M",
        "no verdict token in reply" if name.endswith("html") else "Judge gpt-4o-mini",
    ):
        assert told in text, told
    assert case.METHOD in text
    assert "win rate" not in re.sub(
        r"(?i)pairwise win rate|win rates? (of|below|against)", "", text
    )


@pytest.mark.parametrize("name", ["report.md", "index.html"])
def test_what_was_not_measured_says_so(tmp_path: Path, name: str) -> None:
    result = case.results().benchmarks["heldout"]
    bare = result.model_copy(update={"chrf": None, "exact_match": None, "pairwise": None})
    results = case.results(heldout_loss=None, benchmarks={"heldout": bare})
    text = write(tmp_path, results, similarities=[], judgments=[], manifests={})[name]
    if name.endswith("html"):
        text = Page(text).text
    assert text.count("not measured") == 5  # loss, its end token, exact match, chrF, win rate
    assert "no judge compared the answers" in text
    assert "No stage left a manifest." in text


def test_nothing_measured_at_all_is_still_a_report(tmp_path: Path) -> None:
    nothing = Estimate(
        value=None, low=None, high=None, n_scored=0, n_unscored=96, note="no answer was scored"
    )
    verdict = Verdict(
        outcome=Outcome.INCONCLUSIVE,
        sentence="Nothing can be said.",
        reasons=(),
        metric="win_rate",
        estimate=nothing,
    )
    results = case.results(verdict=verdict, heldout_loss=None, benchmarks={})
    texts = write(tmp_path, results, prompts=[], answers=[], similarities=[], judgments=[])
    assert "no answer was scored (n = 0, 96 unscored)" in texts["report.md"]
    page = Page(texts["index.html"])
    assert "no answer was scored (n = 0, 96 unscored)" in page.text
    assert "tuned is better" not in page.text, "there is no interval to draw"


def test_the_rule_is_told_in_the_unit_of_its_metric() -> None:
    loss = rule(VerdictRule(metric="heldout_loss", smallest_effect=0.05))
    assert "no difference by more than 0.05 nats a response token" in loss
    rate = rule(VerdictRule(metric="win_rate", smallest_effect=0.05, level=0.9))
    assert "whole 90 % interval of the pairwise win rate" in rate
    assert "one half by more than 5 points" in rate
    assert "at least 60 % of questions" in rate


# --- the questions -----------------------------------------------------------------------------


def test_cases_join_answers_scores_and_replies() -> None:
    joined = build_cases(
        case.prompts(),
        answers=[*case.answers(), case.answer(999, Arm.BASE, "whose?")],
        similarities=case.similarities(),
        judgments=case.judgments(),
        preferences=case.preferred(case.judgments(), case.prompts()),
    )
    assert joined.n_orphans == 1
    by_number = {c.number: c for c in joined.cases}

    def view(number: int) -> tuple[str, bool]:
        (one,) = by_number[number].views
        assert (one.against, one.adapter) == ("base", 0)
        return one.result, one.orders_disagree

    (apple,) = by_number[2].turns
    assert (apple.side(Arm.BASE).exact, apple.side(Arm.TUNED).exact) == (False, True)
    assert view(2) == ("tuned", False)
    assert [(r.first, r.says) for r in by_number[1].turns[0].replies] == [
        ("base", "prefers tuned"),
        ("tuned", "prefers tuned"),
    ]
    assert view(4) == ("tie", True)  # the judge preferred whatever came second
    assert view(5) == ("unscored", False)  # one of its two replies cannot be read
    assert by_number[5].views[0].said == "not scored"
    assert by_number[5].turns[0].replies[1].says == "unparsed: no verdict token in reply"
    failed = by_number[8].turns[0].side(Arm.BASE)
    assert (failed.text, failed.problem) == (None, "failed: out of memory")


def only(judgments: list[Judgment]) -> Case:
    (one,) = build_cases(
        case.prompts(1),
        answers=[],
        similarities=[],
        judgments=judgments,
        preferences=case.preferred(judgments, case.prompts(1)),
    ).cases
    return one


def test_a_tie_and_the_absence_of_a_judge_favour_nobody() -> None:
    ties = [case.judgment(0, Arm.BASE, "tie"), case.judgment(0, Arm.TUNED, "tie")]
    for judgments, said in ((ties, "tie"), ([], "not compared")):
        joined = only(judgments)
        assert [(v.said, v.orders_disagree) for v in joined.views] == [(said, False)]
        assert joined.turns[0].side(Arm.BASE).problem == "no answer was recorded"


def test_a_win_and_a_tie_favour_the_winner_and_the_orders_disagree() -> None:
    joined = only([case.judgment(0, Arm.BASE, "B"), case.judgment(0, Arm.TUNED, "tie")])
    assert [(v.result, v.orders_disagree) for v in joined.views] == [("tuned", True)]


def test_where_nobody_compared_answers_exact_match_tells() -> None:
    joined = build_cases(
        case.prompts(2),
        answers=case.answers(2),
        similarities=case.similarities(2),
        judgments=[],
        preferences=[],
    )
    assert [v.said for c in joined.cases for v in c.views] == ["not compared", "favours tuned"]


@pytest.mark.parametrize("turns", [False, True])
def test_the_filters_count_what_the_tables_count(turns: bool) -> None:
    given = case.arguments(**(case.two_turns() if turns else {}))
    # With one adapter a question is one view; with several the tables average them.
    for name in ("answers", "judgments", "preferences"):
        given[name] = [row for row in given[name] if row.adapter == 1]
    records = {k: given[k] for k in ("prompts", "answers", "similarities", "judgments")}
    records["preferences"] = given["preferences"]
    counted = summarize(losses=[], judge=case.recipe().judge, level=0.95, **records)
    joined = build_cases(records.pop("prompts"), **records)
    for name, result in counted.benchmarks.items():
        for found in pairwise_results(result):
            views = [
                v.result
                for c in joined.cases
                for v in c.views
                if c.benchmark == name and v.against == found.opponent
            ]
            told = found.questions
            assert [views.count(r) for r in ("tuned", "opponent", "tie", "unscored")] == [
                told.wins, told.losses, told.ties, told.unscored,
            ]  # fmt: skip
            assert told.total == len(views)
            if result.n_turns == 1:
                disagree = [
                    v.orders_disagree
                    for c in joined.cases
                    for v in c.views
                    if c.benchmark == name and v.against == found.opponent
                ]
                assert sum(disagree) == found.n_inconsistent


def test_the_markdown_sample_is_spread_evenly() -> None:
    joined = cases_of(answers=[], judgments=[], similarities=[])
    assert [c.number for c in joined.sample(6)] == [1, 3, 5, 7, 9, 11]
    assert [c.number for c in joined.sample(5)] == [1, 3, 5, 8, 10]
    assert joined.sample(50) == joined.cases


def test_turns_opponents_and_adapters_are_joined() -> None:
    joined = cases_of(**case.two_turns())
    assert (joined.opponents, joined.adapters) == (["base", "fair-base"], [1, 2])
    assert joined.benchmarks == ["heldout", "mt_bench"]
    mt = joined.cases[-1]
    assert (mt.number, mt.question_id, [t.number for t in mt.turns]) == (6, "mt-81", [1, 2])
    assert [t.instruction for t in mt.turns] == list(case.TURNS)
    for turn in mt.turns:
        assert [s.name for s in turn.sides] == [
            "base", "fair-base", "tuned, adapter 1", "tuned, adapter 2",
        ]  # fmt: skip
        assert len(turn.replies) == 8
    fair = mt.turns[1].side(Arm.FAIR_BASE)
    assert (fair.text, fair.stop) == (
        "It rains (fair-base 1, turn 2)",
        "stopped at a stop string",
    )
    assert [(v.against, v.adapter, v.said) for v in mt.views] == [
        ("base", 1, "favours tuned"),
        ("base", 2, "favours base"),
        ("fair-base", 1, "favours fair-base"),
        ("fair-base", 2, "favours tuned"),
    ]
    assert mt.turns[0].replies[0].about == "tuned (adapter 1) against base"
    # The held-out questions were not asked of fair-base.
    assert [(v.against, v.adapter) for v in joined.cases[0].views] == [("base", 1), ("base", 2)]


@pytest.mark.parametrize("name", ["report.md", "index.html"])
def test_every_opponent_turn_category_and_adapter_is_told(tmp_path: Path, name: str) -> None:
    text = write(tmp_path, case.two_turn_results(), **case.two_turns())[name]
    if name.endswith("html"):
        text = Page(text).text
    for told in (
        "MT-Bench",
        "2 questions of 2 turns, each answered by both models, and by each of 2 adapters",
        "Pairwise win rate against base",
        "Pairwise win rate against fair-base (base at its best)",
        "77.4 % (67.4 to 87.4, n = 2)",
        "33.1 % (23.1 to 43.1, n = 2)",
        "3 / 1 / 4",
        "turn 2",
        "29.0 %",
        "62.0 %",
        "adapter 2",
        "45.0 %",
        "Fair-base",
        "51.5 %",
        "this project's own prompt (tuneproof-pairwise)",
        "Adapter 2 (seed 43)",
        "tuned against fair-base (base at its best); 50 % is no difference",
        "cut where it began a new section or turn counts as stopped too",
        "it also covers what they differ by",
        case.TURNS[1],
        "It rains (fair-base 1, turn 2)",
    ):
        assert told in text, told
    # Where there are no references, nothing says that they were not compared with.
    part = text[text.index("2 questions of 2 turns") : text.index("Pairwise win rate against fair")]
    assert "not measured" not in part


def test_the_page_offers_opponents_adapters_and_benchmarks_to_choose_from(tmp_path: Path) -> None:
    texts = write(tmp_path, case.two_turn_results(), **case.two_turns())
    page = Page(texts["index.html"])
    ids = {value for _, name, value in page.attributes if name == "id"}
    assert {"opponent", "adapter", "benchmark"} <= ids
    (mt,) = [q for q in data_of(texts["index.html"])["questions"] if q["benchmark"] == "mt_bench"]
    assert [[s["arm"] for s in turn["sides"]] for turn in mt["turns"]] == 2 * [
        ["base", "fair-base", "tuned", "tuned"]
    ]
    plain = Page(write(tmp_path)["index.html"])
    assert not {"opponent", "adapter", "benchmark"} & {
        v for _, n, v in plain.attributes if n == "id"
    }


# --- text of others is inert -------------------------------------------------------------------


def test_hostile_text_adds_no_element_and_no_attribute_to_the_page(tmp_path: Path) -> None:
    texts = write(tmp_path, hostile_results(), **hostile_changes())
    page = Page(texts["index.html"])
    assert page.tags["script"] == 2  # ours, and the data that it reads
    assert "img" not in page.tags
    assert not [name for _, name, _ in page.attributes if name.startswith("on") or name == "style"]
    links = {value for _, name, value in page.attributes if name in ("href", "src", "action")}
    assert all(link == "data:," or link.startswith("#") for link in links)
    for told in ("</script><script>alert(1)</script>", "{{7*7}}{% raw %}", "javascript:alert(5)"):
        assert told in page.text
    assert "49{% raw" not in page.text
    assert "a⟨U+202E⟩gnp.exe" in page.text
    assert "lone\ufffdsurrogate" in page.text
    assert "nul␀ esc␛[31m" in page.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", texts["index.html"])


def test_hostile_text_is_fenced_or_escaped_in_markdown(tmp_path: Path) -> None:
    text = write(tmp_path, hostile_results(), **hostile_changes())["report.md"]
    outside = outside_fences(text)
    assert "<" not in outside
    assert not re.search(r"(?<!\\)`", outside)
    assert "\n# not a heading" not in outside
    for block in re.findall(r"(?:^\|.*\n)+", outside, flags=re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)


def test_hostile_results_can_be_written_as_json(tmp_path: Path) -> None:
    read = Results.model_validate_json(
        write(tmp_path, hostile_results(), **hostile_changes())["results.json"]
    )
    assert read.name == EVIL.replace("\ud800", "\ufffd")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_fence_is_longer_than_any_run_of_backticks_in_it(text: str) -> None:
    block = fence(text).split("\n")
    ticks = block[-1]
    assert set(ticks) == {"`"}
    assert block[0] == f"{ticks}text"
    assert ticks not in "\n".join(block[1:-1])


def test_lines_and_cells_escape_what_markdown_would_read() -> None:
    assert inline("# a\n- b") == "\\# a - b"
    assert inline("12. x") == "12\\. x"
    assert cell("a|b <i> `c` [d](e) & open_qa _f_") == (
        "a\\|b &lt;i\\> \\`c\\` \\[d\\](e) &amp; open_qa \\_f\\_"
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_a_benchmarks_table_escapes_as_every_cell_does(text: str) -> None:
    table = Table(caption="x", columns=("a",), rows=((text,),))
    assert to_markdown(table).splitlines()[2] == f"| {cell(text)} |"


@pytest.mark.parametrize("found", [-3, 0, True, "5", 5.0, None])
def test_what_is_no_format_is_refused(tmp_path: Path, found: object) -> None:
    path = tmp_path / "results.json"
    raw = case.results().model_dump(mode="json") | {"format": found}
    path.write_text(json.dumps(raw), "utf-8")
    with pytest.raises(StageError, match="is no format of tuneproof's results"):
        read_results(path)


def test_visible_keeps_what_scripts_need_and_shows_what_hides() -> None:
    assert visible("a\r\nb\tc\rd") == "a\nb\tc␍d"
    assert visible("\u2066x\u2069\u200b\ufeff\x7f\x85") == (
        "⟨U+2066⟩x⟨U+2069⟩⟨U+200B⟩⟨U+FEFF⟩␡⟨U+0085⟩"
    )
    family = "👩\u200d👩\u200d👧 می\u200cخواهم"
    assert visible(family) == family


# --- the page by itself ------------------------------------------------------------------------


def test_the_page_asks_the_network_for_nothing(tmp_path: Path) -> None:
    text = write(tmp_path)["index.html"]
    assert not re.search(r"(?i)https?:|url\(|@import|//[a-z]+\.", text)
    assert "<link" not in text.replace('<link rel="icon" href="data:,">', "")


def test_the_policy_lets_exactly_our_style_and_script_run(tmp_path: Path) -> None:
    text = write(tmp_path)["index.html"]
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    assert found is not None
    policy = found[1].replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_the_page_can_be_read_by_ear(tmp_path: Path) -> None:
    text = write(tmp_path)["index.html"]
    page = Page(text)
    assert all(page.tags[tag] == 1 for tag in ("main", "h1", "header"))
    assert page.tags["nav"] == 2  # the sections and the questions
    assert 'lang="en"' in text
    heads = re.findall(r"<th\b[^>]*>", text)
    assert heads
    assert all("scope=" in head for head in heads)
    assert all("aria-label=" in svg for svg in re.findall(r"<svg\b[^>]*>", text))
    names = [value for _, name, value in page.attributes if name == "id"]
    assert len(names) == len(set(names)), "an id occurs twice"
    wanted = [value[1:] for _, name, value in page.attributes if name == "href" and "#" in value]
    wanted += [value for _, name, value in page.attributes if name == "aria-labelledby"]
    assert set(wanted) <= set(names)


def test_numbers_keep_their_units_and_texts_their_characters() -> None:
    said = "It fell by 5 % to n = 3"
    answers = [case.answer(0, Arm.TUNED, said), case.answer(0, Arm.BASE, said)]
    page = render("index.html", case.results(), prompts=case.prompts(1), answers=answers)
    assert said in page, "what a model wrote is shown to the character"
    assert "0.0\u00a0%" in page
    assert "0.0 %" not in page.partition('<section aria-labelledby="answers">')[0]


def test_counts_are_aligned_to_the_right() -> None:
    page = render("index.html", case.results())
    for caption in ("Rows of the source, none lost in silence", "Rows of each split"):
        head = page[: page.index(f"<caption>{caption}")]
        assert head.rstrip().endswith('<table class="pairs numbers">')


def test_a_filters_value_is_that_of_the_data() -> None:
    """The script compares the two to the character."""
    prompt = case.prompts(1)[0].model_copy(update={"category": "less than 5 % of all"})
    page = render("index.html", case.results(), prompts=[prompt], answers=case.answers(1))
    assert '<option value="less than 5 % of all">' in page
