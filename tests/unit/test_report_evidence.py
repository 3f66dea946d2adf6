"""What the report says for and against its own verdict, in both outputs."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

from tests.unit import report_case as plain
from tests.unit import report_evidence_case as case
from tests.unit.report_reading import EVIL, Page, outside_fences, render
from tuneproof.recipe import REFERENCE_JUDGE, AlpacaEval, Recipe, VerdictRule
from tuneproof.records import Arm, OutputFile, Rating
from tuneproof.report import evidence
from tuneproof.report.content import key_figures
from tuneproof.report.judging import replies
from tuneproof.report.pairwise import decomposed, pairwise
from tuneproof.results import (
    Alarm,
    Estimate,
    PairwiseResult,
    RatingsResult,
    Registered,
    ReplyDrift,
    Results,
    Tally,
)

OUTPUTS = pytest.mark.parametrize("name", ["report.md", "index.html"])
CHANGES = ("verdict.smallest_effect was 0.02, is 0", "judge.model was gpt-4o, is gpt-4o-mini")
CHANGED = Registered(
    registered=False,
    digest=case.DIGEST,
    sentence="The verdict is no longer pre-registered, since what was fixed before judging was "
    f"changed: {'; '.join(CHANGES)}.",
    differences=CHANGES,
)


def read(name: str, results: Results, **changes: Any) -> str:
    """The text as a reader sees it; Markdown with its escapes undone."""
    recipe = plain.recipe().model_copy(update={"verdict": VerdictRule(metric="win_rate")})
    text = render(name, results, recipe=recipe, **changes)
    return Page(text).text if name.endswith("html") else re.sub(r"\\(.)", r"\1", text)


def with_pairwise(**changes: Any) -> Results:
    """The full results with another comparison."""
    whole = case.full_results()
    heldout = whole.benchmarks["heldout"]
    assert heldout.pairwise is not None
    found = heldout.pairwise.model_copy(update=changes)
    return whole.model_copy(
        update={"benchmarks": {"heldout": heldout.model_copy(update={"pairwise": found})}}
    )


def without_judge() -> Results:
    whole = case.full_results()
    heldout = whole.benchmarks["heldout"].model_copy(update={"pairwise": None})
    return whole.model_copy(update={"benchmarks": {"heldout": heldout}})


# --- all of it ---------------------------------------------------------------------------------


@OUTPUTS
def test_all_that_is_known_is_told_with_the_records_numbers(name: str) -> None:
    text = read(name, case.full_results())
    assert case.REGISTERED.sentence in text
    assert case.decomposition().sentence in text
    assert case.check().sentence in text
    assert case.placebo().sentence in text
    assert case.DIGEST in text
    for told in (
        "pre-registered",
        "by the bootstrap: 60.8 to 77.4 %; detectable: 11.9 points",
        "Where the win comes from",
        "+19.8 points (+11.5 to +28.1, n = 94, 2 unscored); detectable: 11.9 points",
        "+14.1 points (+8.2 to +20.0, n = 94, 2 unscored); detectable: 8.4 points",
        "−2.1 points (−6.6 to +2.4, n = 94, 2 unscored); detectable: 6.4 points",
        "+7.8 points (−0.4 to +16.0, n = 94, 2 unscored); detectable: 11.7 points",
        "94; 2 not, being unscored, 1 of them only after a cut",
        "17 of tuned, 46 of base",
        "Replies asked for this",
        "123",
        "against a truncated answer",
        case.check().cannot[0],
        "56.1 % (49.1 to 63.1, n = 94, 2 undecided: tied or unparsed)",
        "78.7 % (70.7 to 86.7, n = 94, 2 without two replies: unparsed)",
        "10; of 9 that could be compared, the preferred answer changed on 1; its probability "
        "moved by 0.044 on the mean",
        "51.2 % (43.1 to 59.3, n = 40, 2 unscored); detectable: 11.6 points",
        "Held-out loss, nats a response token; above 0 is better",
        "+0.412 (+0.346 to +0.478, n = 94, 2 unscored); detectable: 0.094",
        "+0.091 (+0.044 to +0.138, n = 94, 2 unscored); detectable: 0.067",
        "+0.321 (+0.261 to +0.381, n = 94, 2 unscored); detectable: 0.086",
        "Tuned: 7 of 96 answers carry a judge's verdict.",
        "on the mean (91 of 96).",
        "the minimum detectable effect".capitalize(),
    ):
        assert told in text, told


def test_the_controls_are_told_kind_by_kind() -> None:
    text = render("report.md", case.full_results())
    rows = [re.split(r" ?\| ?", line)[1:-1] for line in text.splitlines() if "n = 11)" in line]
    assert rows == [["against a truncated answer", "72.7 % (43.4 to 90.3, n = 11)", "0", "2", "1"]]
    assert "| all control pairs | 94.4 % (86.4 to 97.8, n = 71) | 1 | 2 | 1 |" in text
    (shown,) = evidence.judges(case.full_results())
    assert [c.name for c in shown.controls][:1] == ["against the answer to another question"]
    assert [(c.contradictions, c.ties, c.unparsed) for c in shown.controls] == [
        ("1", "0", "0"), ("0", "2", "1"), ("0", "0", "0"), ("1", "2", "1"),
    ]  # fmt: skip
    page = Page(render("index.html", case.full_results())).text
    assert "against a truncated answer 72.7 % 43.4 to 90.3, n = 11 Contradict0 Ties2" in page


def _numbers(text: str) -> set[str]:
    return set(re.findall(r"\d[\d,.]*\d|\d", text))


def test_every_number_of_the_new_sections_is_a_records() -> None:
    results = with_pairwise(judge="a judge")
    text = render("report.md", results)
    parts = [
        text[text.index("##### Where the win") : text.index("## Does the judge")],
        text[text.index("## Does the judge") : text.index("## The experiment")],
    ]
    known: set[str] = set()
    for value in _values(results.model_dump()):
        if isinstance(value, str):
            known |= _numbers(value)
        elif isinstance(value, float):
            known |= {f"{abs(value):.3f}", f"{abs(100 * value):.1f}"}
        else:
            known.add(str(value))
    for part in parts:
        assert len(_numbers(part)) > 15
        assert _numbers(part) <= known, _numbers(part) - known


def _values(value: Any) -> Any:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _values(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _values(inner)
    elif isinstance(value, int | float | str):
        yield value


def test_the_drawing_stands_twice_and_says_in_words_what_it_shows() -> None:
    page = Page(render("index.html", case.full_results()))
    labels = [v for tag, name, v in page.attributes if (tag, name) == ("svg", "aria-label")]
    told = (
        "As answered: +19.8 points (+11.5 to +28.1); Stopping: +14.1 points (+8.2 to +20.0); "
        "Length: −2.1 points (−6.6 to +2.4); What remains: +7.8 points (−0.4 to +16.0)"
    )
    assert labels.count(told) == 2, "one for wide screens, one for narrow ones"
    steps = [v for tag, name, v in page.attributes if (tag, name) == ("rect", "class")]
    assert steps.count("step part takes") == 2
    assert steps.count("step rest") == 2


def test_what_remains_of_a_win_rate_stands_beside_it() -> None:
    labels = [f.label for f in key_figures(case.full_results())]
    at = labels.index("Pairwise win rate")
    figure = key_figures(case.full_results())[at + 1]
    assert figure.label == "Win rate beyond stopping and length"
    assert figure.shown.text == "+7.8 points (−0.4 to +16.0, n = 94, 2 unscored)"


@OUTPUTS
def test_nothing_is_said_twice(name: str) -> None:
    whole = case.full_results()
    split, untested = case.decomposition().sentence, "The judge was not tested on pairs."
    headline = "Inconclusive, for this adapter: 3 of 20 questions are unscored."
    results = with_pairwise(
        check=case.check(passes=None, sentence=untested, overall=None, by_kind={}, cannot=())
    )
    verdict = whole.verdict.model_copy(
        update={
            "sentence": headline,
            "reasons": ("3 of 20 questions are unscored.", split, untested, "One seed was run."),
        }
    )
    other = with_pairwise(judge="another", check=None, decomposition=None)
    text = read(
        name,
        results.model_copy(
            update={
                "verdict": verdict,
                "benchmarks": {**results.benchmarks, "other": other.benchmarks["heldout"]},
            }
        ),
    )
    assert text.count("3 of 20 questions are unscored.") == 1
    assert text.count(untested) == 1
    assert text.count(evidence.NOT_TESTED) == 1
    assert text.count(split) == 1
    assert text.count("One seed was run.") == 1


def test_lists_of_the_markdown_have_words_between_them() -> None:
    lines = render("report.md", case.full_results()).split("\n\n")
    lists = [block.startswith("- ") for block in lines]
    assert not any(a and b for a, b in itertools.pairwise(lists))


# --- the verdict's standing --------------------------------------------------------------------


@OUTPUTS
def test_what_was_changed_since_is_listed_once(name: str) -> None:
    text = read(name, case.full_results(registration=CHANGED))
    assert "not pre-registered" in text
    for change in CHANGES:
        assert text.count(change) == 1
    assert "no longer pre-registered, since what was fixed before judging was changed:" in text


@OUTPUTS
def test_a_record_claims_no_more_than_it_can_show(name: str) -> None:
    text = read(name, case.full_results())
    assert "pre-registered, by the run's own record" in text
    assert text.count(evidence.OWN_RECORD) == 1
    assert evidence.OWN_RECORD not in read(name, case.full_results(registration=CHANGED))


@OUTPUTS
def test_what_holds_on_one_machine_only_is_told(name: str) -> None:
    recipe = plain.recipe()
    asked = recipe.model_copy(
        update={"evaluate": (*recipe.evaluate, AlpacaEval(benchmark="alpaca_eval"))}
    )
    folder = asked.model_copy(update={"assets": "/data/files"})

    def told(recipe: Recipe) -> str:
        text = render(name, plain.results(), recipe=recipe)
        return Page(text).text if name.endswith("html") else text

    assert "Paths and addresses in it are those of the machine" in told(recipe)
    assert "TUNEPROOF_ASSETS" not in told(recipe)
    assert "Files of AlpacaEval 2 that are not fetched are looked for" in told(asked)
    assert "TUNEPROOF" in told(folder)
    assert "in the folder /data/files" in told(folder)


@OUTPUTS
def test_without_a_record_the_verdict_is_not_pre_registered(name: str) -> None:
    text = read(name, case.full_results(registration=None))
    assert evidence.NOT_RECORDED in text
    assert "SHA-256 of what was fixed" not in text


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ("BCa bootstrap of 10,000, clustered by question", "by the bootstrap"),
        ("t(93), clustered by question", "by Student's t"),
        ("Wilson", "by Wilson"),
    ],
)
def test_a_second_opinion_says_whose_it_is(method: str, told: str) -> None:
    whole = case.full_results()
    second = case.effect(0.698, 0.608, 0.774, method=method)
    verdict = whole.verdict.model_copy(update={"second_opinion": second})
    said = evidence.beside_verdict(whole.model_copy(update={"verdict": verdict}))
    assert said.startswith(f"{told}: 60.8 to 77.4 %; ")


def test_a_second_opinion_on_a_loss_is_in_its_unit_and_none_says_nothing() -> None:
    results = plain.results()
    assert evidence.beside_verdict(results) == ""
    second = Estimate(value=-0.412, low=-0.49, high=-0.33, n_scored=96, n_unscored=0)
    verdict = results.verdict.model_copy(update={"second_opinion": second})
    said = evidence.beside_verdict(results.model_copy(update={"verdict": verdict}))
    assert said == "by another method: −0.490 to −0.330"


# --- alarms ------------------------------------------------------------------------------------


@OUTPUTS
def test_alarms_stand_before_the_reasons(name: str) -> None:
    text = read(name, case.full_results())
    reason = case.full_results().verdict.reasons[0]
    assert text.index(evidence.ALARMED) < text.index("7 of 96 answers carry") < text.index(reason)
    assert text.count(evidence.ALARMS_ABOVE) == 1
    quiet = read(name, case.full_results(alarms=()))
    assert evidence.ALARMED not in quiet
    assert quiet.count(evidence.NO_ALARM) == 1


def test_an_alarm_names_its_benchmark_where_there_are_several() -> None:
    alarm = Alarm(id="x", benchmark="mt_bench", arm="fair-base", count=3, of=1200, text="loop")
    several = plain.two_turn_results().model_copy(update={"alarms": (alarm,)})
    assert evidence.alarms(several) == ["Fair-base (MT-Bench): loop (3 of 1,200)."]
    nobodys = alarm.model_copy(update={"arm": None, "benchmark": None})
    assert evidence.alarms(plain.results(alarms=(nobodys,))) == ["Loop (3 of 1,200)."]


def test_an_alarm_on_the_answers_of_several_is_said_once() -> None:
    def loops(arm: str, benchmark: str, n: int, of: int) -> Alarm:
        text = f"{n} of {of} answers repeat themselves in a loop"
        return Alarm(id="loops", benchmark=benchmark, arm=arm, count=n, of=of, text=text)

    found = (
        loops("tuned", "heldout", 7, 40),
        loops("base", "heldout", 4, 40),
        loops("tuned", "mt_bench", 8, 32),
        Alarm(id="empty", benchmark="mt_bench", arm="base", count=2, of=32,
              text="2 of 32 answers are empty"),
    )  # fmt: skip
    assert evidence.alarms(plain.two_turn_results().model_copy(update={"alarms": found})) == [
        "Answers repeat themselves in a loop. Answers to held-out questions: tuned 7 of 40, base "
        "4 of 40; MT-Bench: tuned 8 of 32.",
        "Base (MT-Bench): 2 of 32 answers are empty.",
    ]


# --- the judge ---------------------------------------------------------------------------------


@OUTPUTS
def test_a_refused_judge_is_a_warning(name: str) -> None:
    refusal = "The judge is refused: it named the better answer on 40 of 71 control pairs."
    refused = with_pairwise(check=case.check(passes=False, sentence=refusal))
    assert refusal in read(name, refused)
    text = render(name, refused.model_copy(update={"alarms": ()}))
    mark = '<div class="warning">' if name.endswith("html") else "> **Warning.** The judge"
    assert text.count(mark) == 1
    passed = render(name, case.full_results(alarms=()))
    assert mark not in passed


@OUTPUTS
def test_a_judge_that_was_not_tested_says_so(name: str) -> None:
    text = read(name, with_pairwise(check=None))
    assert evidence.NOT_TESTED in text
    assert "Both orders agree" in text
    for absent in ("Control pairs", "control pairs,", "Requests sent twice", "A/A"):
        assert absent not in text, absent


@OUTPUTS
def test_a_check_without_controls_has_its_sentence_and_no_table(name: str) -> None:
    said = "The judge was not tested: the recipe asks for no control pairs."
    check = case.check(
        passes=None, sentence=said, overall=None, by_kind={}, cannot=(), self_comparison=None,
        drift=ReplyDrift(n_repeated=4, n_compared=0, n_changed=0, mean_shift=None),
    )  # fmt: skip
    text = read(name, with_pairwise(check=check))
    assert said in text
    assert "The right answer" not in text
    assert "could not be built" not in text
    assert "4; no two replies could be compared" in text


@OUTPUTS
def test_without_a_judge_nothing_is_said_of_one(name: str) -> None:
    results = without_judge().model_copy(update={"alarms": (), "placebo": None})
    text = read(name, results, judgments=[])
    assert "no judge compared the answers" in text
    for absent in ("Does the judge", "Where the", "Placebo", evidence.NO_ALARM):
        assert absent not in text, absent
    assert "#judge" not in render("index.html", results, judgments=[])


def test_opponents_under_one_protocol_share_a_block_and_have_rows_of_their_own() -> None:
    results = plain.two_turn_results()
    mt_bench = results.benchmarks["mt_bench"]
    assert mt_bench.pairwise is not None
    (one,) = evidence.judges(results)
    assert one.sentence == evidence.NOT_TESTED
    assert [what for what, _ in one.rows if what.startswith("Both")] == [
        "Both orders agree (Answers to held-out questions, against base)",
        "Both orders agree (MT-Bench, against base)",
        "Both orders agree (MT-Bench, against fair-base)",
    ]
    other = mt_bench.pairwise.model_copy(update={"protocol": "mt-bench-pairwise"})
    changed = mt_bench.model_copy(update={"pairwise": other})
    two = evidence.judges(
        results.model_copy(update={"benchmarks": {**results.benchmarks, "mt_bench": changed}})
    )
    assert [b.title.partition(", with ")[2] for b in two] == [
        "this project's own prompt (tuneproof-pairwise)",
        "FastChat's prompts and its rule for ties (mt-bench-pairwise)",
    ]


def test_what_a_judge_did_not_decide_is_not_called_unscored() -> None:
    """A question that is tied, or whose answers are equal, is scored: the judge just says nothing
    of the order."""
    results = with_pairwise(
        n_unparsed=0, n_not_asked=20, pairs=Tally(wins=5, losses=1, ties=10, unscored=0),
        first_preferred=plain.estimate(0.5, 0.2, n=6, unscored=10),
        order_agreement=plain.estimate(0.5, 0.2, n=6, unscored=10),
    )  # fmt: skip
    rows = dict(evidence.judges(results)[0].rows)
    assert rows["Answer shown first preferred"] == (
        "50.0 % (30.0 to 70.0, n = 6, 10 undecided: tied or not asked)"
    )
    assert rows["Both orders agree"] == (
        "50.0 % (30.0 to 70.0, n = 6, 10 without two replies: not asked)"
    )
    lost = with_pairwise(n_unparsed=0, pairs=Tally(wins=5, losses=1, ties=8, unscored=2))
    assert dict(evidence.judges(lost)[0].rows)["Both orders agree"].endswith(
        "2 without two replies: not judged)"
    )


def test_replies_that_could_not_be_read_are_told_for_each_judge() -> None:
    given = plain.judgments()
    cut = [
        plain.judgment(0, Arm.BASE, None).model_copy(update={"unparsed": "the reply is empty"}),
        plain.judgment(0, Arm.TUNED, "A"),
        plain.judgment(1, Arm.TUNED, "tie").model_copy(update={"asked": False}),
    ]
    rating = Rating(
        key="r", question_id="mt-81", benchmark="mt_bench", category=None, arm=Arm.TUNED,
        protocol="mt-bench-single", judge="gpt-4", score=None, unparsed="no rating", reply="",
    )  # fmt: skip
    told = replies([*given, plain.judgment(20, Arm.BASE, None)], cut, [rating])
    assert [(r.judge, r.n_replies, r.n_cut, list(r.unparsed.items())) for r in told] == [
        ("gpt-4o-mini", 27, 2, [("no verdict token in reply", 2), ("the reply is empty", 1)]),
        ("gpt-4", 1, 0, [("no rating", 1)]),
    ]
    (block,) = evidence.judges(case.full_results(replies=tuple(told)))
    assert block.rows[0] == (
        "Replies that could not be read",
        "3 of 27 (with 2 on cut answers): no verdict token in reply (2); the reply is empty (1)",
    )
    for name in ("report.md", "index.html"):
        assert block.rows[0][1] in read(name, case.full_results(replies=tuple(told)))


def test_a_judge_in_one_order_has_no_orders_that_disagree() -> None:
    (one,) = evidence.judges(with_pairwise(orders=1))
    assert [what for what, _ in one.rows][:2] == [
        "Answer shown first preferred",
        "Both orders agree",
    ]
    assert "Pairs whose two orders disagree" not in dict(one.rows)


def test_of_a_judge_that_sees_no_order_nothing_is_said_of_orders() -> None:
    (one,) = evidence.judges(with_pairwise(orders=1, judge=REFERENCE_JUDGE))
    assert not [what for what, _ in one.rows if "order" in what or "first preferred" in what]


def test_a_judge_that_rates_was_not_tested() -> None:
    rated = RatingsResult(
        judge="gpt-4", protocol="mt-bench-single", against={}, lines=(), n_ratings=4,
        n_unparsed=0, n_known_wrong=0,
    )  # fmt: skip
    heldout = plain.results().benchmarks["heldout"]
    single = heldout.model_copy(update={"pairwise": None, "ratings": rated})
    (one,) = evidence.judges(plain.results(benchmarks={"mt_bench": single}))
    assert (one.title, one.sentence, one.rows) == (
        "gpt-4, with FastChat's prompts (mt-bench-single)", evidence.NOT_TESTED, (),
    )  # fmt: skip


# --- where it comes from -----------------------------------------------------------------------


@OUTPUTS
def test_without_a_decomposition_there_is_nothing_of_it(name: str) -> None:
    text = read(name, with_pairwise(decomposition=None))
    for absent in ("comes from", "beyond stopping", "What remains", "Stopping, length"):
        assert absent not in text, absent


@OUTPUTS
def test_where_no_pair_was_scored_throughout_the_sentence_stands_alone(name: str) -> None:
    none = Estimate(value=None, low=None, high=None, n_scored=0, n_unscored=96)
    said = "Where the result comes from is not known: no pair was scored before and after."
    lost = case.decomposition(
        whole=none, stopping=none, length=none, remaining=none, n_pairs=0, sentence=said
    )
    text = read(name, with_pairwise(decomposition=lost))
    assert said in text
    for absent in ("Pairs in this", "As answered:", "beyond stopping"):
        assert absent not in text, absent


def test_a_verdict_on_a_win_rate_shows_what_it_is_made_of() -> None:
    """At the top, and not drawn a second time below; a verdict on anything else does not."""
    results = case.full_results()
    text = read("index.html", results)
    sentence = case.decomposition().sentence
    assert text.index(sentence) < text.index("What was measured")
    page = render("index.html", results)
    assert page.count('class="step whole') == 2, "once for wide screens, once for narrow ones"
    loss = results.verdict.model_copy(update={"metric": "heldout_loss"})
    text = read("index.html", results.model_copy(update={"verdict": loss}))
    assert text.index(sentence) > text.index("What was measured")


@pytest.mark.parametrize(
    ("low", "high", "word"), [(0.01, 0.2, "win"), (-0.2, -0.01, "loss"), (-0.1, 0.1, "result")]
)
def test_a_win_is_called_one_only_where_its_interval_says_so(
    low: float, high: float, word: str
) -> None:
    found = case.decomposition(whole=case.effect((low + high) / 2, low, high))
    assert decomposed(found, Arm.BASE).title == f"Where the {word} comes from"


# --- the placebo -------------------------------------------------------------------------------


def test_a_placebo_judged_against_tuned_has_one_estimate() -> None:
    judged = case.placebo(
        metric="win_rate", tuned_gain=None, placebo_gain=None, placebo_is_better=None,
        over_placebo=case.effect(0.12, 0.02, 0.22),
    )  # fmt: skip
    shown = evidence.placebo(plain.results(placebo=judged))
    assert shown is not None
    assert shown.rows == (
        (
            "Tuned against placebo: win rate less one half",
            "+12.0 points (+2.0 to +22.0, n = 94, 2 unscored); detectable: 14.3 points",
        ),
    )
    assert shown.caption == "Pairwise win rate; above 0 is better"
    assert evidence.placebo(plain.results()) is None


# --- text of others is inert, and the page can be read by ear ----------------------------------


def hostile() -> Results:
    """Everything that a text can stand in, with a text that tries to get out."""
    check = case.check(
        sentence=EVIL, passes=False, protocol=EVIL, cannot=(EVIL,),
        by_kind={EVIL: case.accuracy(1, 2, 0.1, 0.9)},
    )  # fmt: skip
    whole = with_pairwise(
        judge=EVIL, protocol=EVIL, check=check, decomposition=case.decomposition(sentence=EVIL)
    )
    second = case.effect(0.698, 0.608, 0.774, method=EVIL)
    return whole.model_copy(
        update={
            "verdict": whole.verdict.model_copy(update={"second_opinion": second}),
            "registration": Registered(
                registered=False, digest=EVIL, sentence=EVIL, differences=(EVIL, "harmless")
            ),
            "placebo": case.placebo(metric=EVIL, sentence=EVIL),
            "alarms": (Alarm(id=EVIL, benchmark=EVIL, arm=EVIL, count=1, of=2, text=EVIL),),
        }
    )


def test_hostile_text_stays_text_on_the_page() -> None:
    text = render("index.html", hostile())
    page = Page(text)
    assert page.tags["script"] == 2  # ours, and the data that it reads
    assert "img" not in page.tags
    assert not [name for _, name, _ in page.attributes if name.startswith("on") or name == "style"]
    assert page.text.count("</script><script>alert(1)</script>") > 10
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)


def test_hostile_text_is_escaped_in_markdown() -> None:
    text = render("report.md", hostile())
    outside = outside_fences(text)
    assert "<" not in outside
    assert not re.search(r"(?<!\\)`", outside)
    assert "\n# not a heading" not in outside
    for block in re.findall(r"(?:^\|.*\n)+", outside, flags=re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block


@pytest.mark.parametrize("make", [case.full_results, without_judge])
def test_the_page_with_all_of_it_can_be_read_by_ear(make: Any) -> None:
    text = render("index.html", make())
    page = Page(text)
    assert all("scope=" in head for head in re.findall(r"<th\b[^>]*>", text))
    assert all("aria-label=" in svg for svg in re.findall(r"<svg\b[^>]*>", text))
    names = [value for _, name, value in page.attributes if name == "id"]
    assert len(names) == len(set(names)), "an id occurs twice"
    wanted = [value[1:] for _, name, value in page.attributes if name == "href" and "#" in value]
    wanted += [value for _, name, value in page.attributes if name == "aria-labelledby"]
    assert set(wanted) <= set(names)


def test_the_case_is_one_that_the_records_allow() -> None:
    found = case.full_results().benchmarks["heldout"].pairwise
    assert found is not None
    split = found.decomposition
    assert split is not None
    assert PairwiseResult.model_validate(found.model_dump()) == found
    values = [part.value for part in split.parts]
    assert sum(v for v in values if v is not None) == pytest.approx(split.whole.value)


# --- the batch plan --------------------------------------------------------------------------


@OUTPUTS
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_batch_plan_of_the_answers(name: str, dtype: str) -> None:
    """Its digest and size; and in bfloat16 that other batches give other answers."""
    made = plain.manifests()
    facts: dict[str, str | int | float | bool | None] = {
        "batches": 1234,
        "batch size, at most": 64,
        "batch tokens, at most": 32768,
        "dtype": dtype,
        "answers depend on the plan": dtype != "float32",
    }
    file = OutputFile(path="generate/plan.json", bytes=3, sha256="c3" * 32)
    before = made["generate"]
    made["generate"] = before.model_copy(
        update={"facts": facts, "outputs": (*before.outputs, file)}
    )
    text = read(name, case.full_results(), manifests=made)
    assert re.search(r"SHA-256 of the batch plan[:\s]*" + "c3" * 32, text)
    assert re.search(r"Batches[:\s]*1,234, of at most 64 prompts and 32,768 tokens", text)
    depends = "other batches give other answers to the same prompts"
    assert (f"in {dtype}: they depend on the plan" in text) == (dtype == "bfloat16")
    assert (depends in text) == (dtype == "bfloat16")
    assert (f"in {dtype}: the same in any batches" in text) == (dtype == "float32")
    assert "batch plan" not in read(name, case.full_results())


def test_a_split_says_where_its_interval_is_of_another_kind() -> None:
    found = plain.pairwise()
    of = {
        name: found.win_rate.model_copy(update={"method": method})
        for name, method in (("math", "t(4), clustered by question"), ("coding", "BCa bootstrap"))
    }
    whole = found.win_rate.model_copy(update={"method": "BCa bootstrap of 10,000"})
    shown = pairwise(found.model_copy(update={"by_category": of, "win_rate": whole}))
    (split,) = [it for it in shown.splits if it.title == "By category"]
    first, second = (name for name, _ in split.rows)
    assert first.endswith(" (Student's t)")
    assert "Student" not in second
