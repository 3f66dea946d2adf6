"""What the judge stage finds out about itself: controls, cut answers, repeats, A/A, registration.

The judges are real endpoints on loopback, with a rule that the test decides.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes import ChatServer, Status, shown
from tuneproof.errors import EndpointError
from tuneproof.judge.registering import REGISTRATIONS, registered
from tuneproof.judge.stage import judge_answers
from tuneproof.progress import SilentReporter
from tuneproof.recipe import Data, Generate, Judge, Model, Recipe, Source, VerdictRule
from tuneproof.records import (
    Answer,
    Arm,
    Condition,
    ControlOutcome,
    CutPreference,
    Example,
    Judgment,
    Preference,
    PreparedRow,
    Prompt,
    RepeatedReply,
    Similarity,
    Split,
    Stop,
)
from tuneproof.report.judging import drift, registration, with_checks
from tuneproof.results import JudgeCheck, Outcome
from tuneproof.stats.decomposition import decompose
from tuneproof.stats.summary import summarize
from tuneproof.stats.verdict import decide
from tuneproof.workspace import read_records, write_records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fakes import Behaviour
    from tuneproof.judge.stage import JudgeFacts
    from tuneproof.results import Verdict

N = 20
# 18 of 18 controls: a lower bound of 0.824.
FEW = {"controls": 6, "repeats": 0}
RUNS_ON = "\n### Instruction:\nAnd now something else."
LONG = " ".join(f"word{i}" for i in range(30))


def right(i: int) -> str:
    """A right answer of 33 words: long enough to be cut visibly."""
    return f"The answer {i} is {LONG}"


def example(i: int) -> Example:
    return Example(
        id=f"row-{i:05d}", instruction=f"Question {i}?", context="", response=right(i),
        category=None,
    )  # fmt: skip


def made(
    tmp_path: Path,
    *,
    base: Callable[[int], str] = lambda i: f"bad {i}",
    tuned: Callable[[int], str] = right,
    n_test: int = 100,
    samples: int = 0,
) -> None:
    """Both earlier stages' files: N questions of a test split of ``n_test`` rows."""
    rows = [PreparedRow(split=Split.TEST, line=i, example=example(i)) for i in range(n_test)]
    for folder in ("prepare", "generate"):
        (tmp_path / folder).mkdir()
    write_records(tmp_path / "prepare/examples.jsonl", rows)
    prompts, answers = [], []
    for i in range(min(N, n_test)):
        e = example(i)
        prompts.append(
            Prompt(
                question_id=e.id, benchmark="heldout", category=None, instruction=e.instruction,
                context="", token_ids=(1,), reference=e.response, checkable=False,
            )
        )  # fmt: skip
        said = [(Arm.BASE, base(i), 1), (Arm.TUNED, tuned(i), 1)]
        said += [(Arm.TUNED, f"another {i}", 2)] if i < samples else []
        for arm, text, sample in said:
            answers.append(
                Answer(
                    key=f"{e.id}/{arm}/{sample}", question_id=e.id, benchmark="heldout", arm=arm,
                    sample=sample, text=text, stop=Stop.EOS, n_prompt_tokens=1, n_tokens=4,
                )
            )  # fmt: skip
    write_records(tmp_path / "generate/prompts.jsonl", prompts)
    write_records(tmp_path / "generate/answers.jsonl", answers)


def recipe(
    url: str | None, checks: dict[str, Any] | None = None, *, rule: Any = None, **judge: Any
) -> Recipe:
    section = {
        "base_url": url, "api_key_env": None, "model": "judge-1",
        "checks": FEW | (checks or {}),
    }  # fmt: skip
    return Recipe(
        name="t",
        data=Data(source=Source(sample=True)),
        model=Model(id="m"),
        generate=Generate(temperature=0.7),
        judge=Judge.model_validate(section | judge),
        verdict=VerdictRule.model_validate({"metric": "win_rate"} | (rule or {})),
    )


def run(tmp_path: Path, of: Recipe) -> JudgeFacts:
    return judge_answers(
        of,
        prepare_dir=tmp_path / "prepare",
        generate_dir=tmp_path / "generate",
        out=tmp_path / "judge",
        reporter=SilentReporter(),
    )


def verdict(tmp_path: Path, of: Recipe) -> Verdict:
    judged, generated = tmp_path / "judge", tmp_path / "generate"
    summary = summarize(
        losses=[],
        prompts=read_records(generated / "prompts.jsonl", Prompt),
        answers=[a for a in read_records(generated / "answers.jsonl", Answer) if a.sample == 1],
        similarities=read_records(judged / "similarity.jsonl", Similarity),
        judgments=read_records(judged / "judgments.jsonl", Judgment),
        preferences=read_records(judged / "preferences.jsonl", Preference),
        judge=of.judge,
        level=0.95,
        seed=1,
        cuts=read_records(judged / "cut_preferences.jsonl", CutPreference),
        cut_judgments=read_records(judged / "cut_judgments.jsonl", Judgment),
    )
    benchmarks = with_checks(
        summary.benchmarks,
        read_records(judged / "checks.jsonl", JudgeCheck),
        read_records(judged / "repeats.jsonl", RepeatedReply),
        read_records(judged / "self_preferences.jsonl", Preference),
        level=0.95,
        seed=1,
    )
    return decide(of.verdict, None, benchmarks)


def score(text: str, instruction: str) -> float:
    """A judge's taste: the right answer to this question, as much of it as there is, and an end."""
    number = instruction.split()[1].rstrip("?")
    good = len(text) if text.startswith(f"The answer {number} is") else 0
    return 0.1 * bool(text.strip()) + good - 50 * ("### Instruction" in text)


def tasteful(body: dict[str, Any]) -> str:
    asked = shown(body, "instruction")
    a, b = (score(shown(body, f"answer-{letter}"), asked) for letter in "AB")
    return f"Seen.\nVERDICT: {'TIE' if a == b else 'A' if a > b else 'B'}"


def is_match(body: dict[str, Any]) -> bool:
    """A game of the two answers that were generated to its question."""
    number = int(shown(body, "instruction").split()[1].rstrip("?"))
    return {shown(body, "answer-A"), shown(body, "answer-B")} == {f"bad {number}", right(number)}


# --- controls --------------------------------------------------------------------------------


def test_controls_come_first_and_a_good_judge_passes(tmp_path: Path) -> None:
    made(tmp_path)
    with ChatServer(tasteful) as server:
        of = recipe(server.url, {"controls": 30})
        facts = run(tmp_path, of)
        asked = [r.body for r in server.received]
    # 30 of each of three kinds in both orders; nothing runs on, and cutting to equal length leaves
    # the right answer a word or two.
    assert facts.n_checks == 180
    assert not any(map(is_match, asked[:180]))
    assert sum(map(is_match, asked[180:])) == 2 * N
    assert not facts.refused
    rows = read_records(tmp_path / "judge/controls.jsonl", ControlOutcome)
    assert len(rows) == 90
    assert {r.p_right_first for r in rows} == {1.0} == {r.p_right_second for r in rows}
    [check] = read_records(tmp_path / "judge/checks.jsonl", JudgeCheck)
    assert check.passes is True
    assert check.overall is not None
    assert check.overall.n_right == 90
    assert set(check.by_kind) == {"other-question", "truncated", "empty"}
    found = verdict(tmp_path, of)
    assert found.outcome is Outcome.BETTER
    assert any(r.startswith("The judge may decide: it named the better") for r in found.reasons)


def test_a_judge_that_goes_by_the_place_is_refused_and_asked_no_more(tmp_path: Path) -> None:
    made(tmp_path)
    with ChatServer(lambda body: "VERDICT: A") as server:
        of = recipe(server.url, {"repeats": 5})
        facts = run(tmp_path, of)
        assert len(server.received) == 36
    assert facts.refused == ("tuneproof-pairwise",)
    assert facts.n_matches == 0
    assert facts.skipped == {"the judge is refused": N}
    found = verdict(tmp_path, of)
    assert found.outcome is Outcome.INCONCLUSIVE
    assert "the judge is refused: it named the better answer in both orders on 0 of 18" in (
        found.sentence
    )


def test_a_lower_bar_lets_it_go_on(tmp_path: Path) -> None:
    made(tmp_path)
    with ChatServer(lambda body: "VERDICT: A") as server:
        facts = run(tmp_path, recipe(server.url, {"min_accuracy": 0.0}))
    assert not facts.refused
    assert facts.n_matches == 2 * N


def test_controls_that_cannot_be_built(tmp_path: Path) -> None:
    """Of three short answers no judge could be shown to be good."""
    made(tmp_path, n_test=3)
    with ChatServer(tasteful) as server:
        of = recipe(server.url)
        facts = run(tmp_path, of)
        assert len(server.received) == 18
    assert facts.refused
    [check] = read_records(tmp_path / "judge/checks.jsonl", JudgeCheck)
    assert check.passes is False
    assert "With so few controls no judge could pass" in check.sentence
    assert len(check.cannot) == 3
    assert check.cannot[0].startswith("3 ")


def test_without_controls_the_judge_is_said_to_be_untested(tmp_path: Path) -> None:
    made(tmp_path)
    with ChatServer(tasteful) as server:
        of = recipe(server.url, {"controls": 0})
        assert run(tmp_path, of).n_checks == 0
    assert any(
        "was not tested on pairs with a known winner" in r for r in verdict(tmp_path, of).reasons
    )


# --- cuts ------------------------------------------------------------------------------------


def test_a_win_by_stopping_alone_is_told_as_such(tmp_path: Path) -> None:
    """Base gives the same answers and runs on into the template."""
    made(tmp_path, base=lambda i: right(i) + RUNS_ON)
    with ChatServer(tasteful) as server:
        of = recipe(server.url)
        facts = run(tmp_path, of)
    # Both cuts leave the same two texts: their requests are the same ones.
    assert facts.n_rejudged == 4 * N
    assert facts.n_shared == 2 * N
    assert facts.n_requests == 36 + 4 * N
    found = decompose(
        read_records(tmp_path / "judge/cut_preferences.jsonl", CutPreference), level=0.95
    )
    assert (found.whole.value, found.stopping.value) == (0.5, 0.5)
    assert (found.length.value, found.remaining.value) == (0.0, 0.0)
    assert found.n_pairs == N
    # What both cuts leave alike is no cut for length, and was not asked again.
    assert (found.n_cut_at_stop, found.n_cut_to_length) == (N, 0)
    assert (found.length.low, found.length.high) == (0.0, 0.0)
    assert found.sentence.startswith("Of 50 points above one half, 50 are stopping")
    told = verdict(tmp_path, of)
    assert told.outcome is Outcome.BETTER
    assert found.sentence in told.reasons
    rows = read_records(tmp_path / "judge/cut_judgments.jsonl", Judgment)
    assert {r.condition for r in rows} == {Condition.STOPPED, Condition.EQUAL_LENGTH}
    # Its own file: the judgments of the answers as they are hold none of them.
    whole = read_records(tmp_path / "judge/judgments.jsonl", Judgment)
    assert {r.condition for r in whole} == {Condition.AS_ANSWERED}
    assert len(whole) == 2 * N


def test_answers_that_no_cut_changes_are_not_asked_about_again(tmp_path: Path) -> None:
    made(tmp_path, base=lambda i: f"The reply {i} is {LONG}")
    with ChatServer(tasteful) as server:
        facts = run(tmp_path, recipe(server.url))
    # "answer" has one letter more than "reply": one word goes, and the rest is judged again.
    assert facts.n_rejudged == 2 * N
    rows = read_records(tmp_path / "judge/cut_preferences.jsonl", CutPreference)
    assert {(r.as_answered, r.stopped, r.equal_length) for r in rows} == {(1.0, 1.0, 1.0)}
    assert {(r.shortened_tuned, r.shortened_opponent) for r in rows} == {(1, 0)}
    assert {(r.cut_at_stop, r.cut_to_length) for r in rows} == {(False, True)}


def test_without_decomposition(tmp_path: Path) -> None:
    made(tmp_path, base=lambda i: right(i) + RUNS_ON)
    with ChatServer(tasteful) as server:
        assert run(tmp_path, recipe(server.url, decompose=False)).n_rejudged == 0
    assert (tmp_path / "judge/cut_preferences.jsonl").read_bytes() == b""


# --- the same again, and one model twice -----------------------------------------------------


def test_repeats_show_a_judge_that_changes_its_mind(tmp_path: Path) -> None:
    made(tmp_path)
    seen: dict[str, int] = {}

    def fickle(body: dict[str, Any]) -> str:
        """Says the other answer the second time it is asked the very same."""
        key = json.dumps(body, sort_keys=True)
        seen[key] = seen.get(key, 0) + 1
        said = tasteful(body)
        if seen[key] == 1 or shown(body, "instruction") > "Question 15?":
            return said
        return said.translate(str.maketrans("AB", "BA"))

    with ChatServer(fickle) as server:
        facts = run(tmp_path, recipe(server.url, {"repeats": 12}))
        assert len(server.received) == facts.n_requests
    assert facts.n_checks == 36 + 12
    rows = read_records(tmp_path / "judge/repeats.jsonl", RepeatedReply)
    changed = sum(r.p_first != r.p_again for r in rows)
    found = drift(rows)
    assert found is not None
    assert (found.n_repeated, found.n_compared, found.n_changed) == (12, 12, changed)
    assert 0 < changed < 12
    assert found.mean_shift is None, "its word was not weighed: there is no probability"
    weighed = [r.model_copy(update={"p_first": 0.75, "p_again": 0.5}) for r in rows[:2]]
    shifted = drift([*weighed, *rows[2:3]])
    assert shifted is not None
    assert shifted.mean_shift is not None
    # Asked once more nothing is asked at all: second replies are journaled like first ones.
    with ChatServer(fickle) as again:
        more = run(tmp_path, recipe(server.url, {"repeats": 12}))
        assert not again.received
    assert (more.n_requests, more.n_from_journal) == (0, facts.n_requests)


def test_one_model_against_itself(tmp_path: Path) -> None:
    made(tmp_path, samples=8)
    with ChatServer(tasteful) as server:
        of = recipe(server.url, {"self_comparisons": 8})
        facts = run(tmp_path, of)
    assert facts.n_checks == 36 + 16
    rows = read_records(tmp_path / "judge/self_preferences.jsonl", Preference)
    assert len(rows) == 8
    assert {(r.opponent, r.value) for r in rows} == {(Arm.TUNED, 0.0)}
    # The second answers are in no preference but these.
    whole = read_records(tmp_path / "judge/preferences.jsonl", Preference)
    assert {(p.opponent, p.value) for p in whole} == {(Arm.BASE, 1.0)}
    near = read_records(tmp_path / "judge/similarity.jsonl", Similarity)
    assert len(near) == 2 * N


# --- registration ----------------------------------------------------------------------------


def standing_of(tmp_path: Path, of: Recipe) -> tuple[bool, str]:
    found = registration(
        of,
        read_records(tmp_path / "generate/prompts.jsonl", Prompt),
        read_records(tmp_path / "judge/preferences.jsonl", Preference),
        [],
        judge_dir=tmp_path / "judge",
    )
    return found.registered, found.sentence


def test_the_rule_is_on_disk_before_the_first_request(tmp_path: Path) -> None:
    made(tmp_path)
    there: list[bool] = []

    def watching(body: dict[str, Any]) -> str:
        there.append((tmp_path / "judge" / REGISTRATIONS).is_file())
        return tasteful(body)

    with ChatServer(watching) as server:
        of = recipe(server.url)
        facts = run(tmp_path, of)
        assert all(there)
        registered_then, sentence = standing_of(tmp_path, of)
        assert registered_then
        assert facts.registration[:12] in sentence
        # Changed afterwards, judged again or not: the verdict is no longer pre-registered.
        easier = recipe(server.url, rule={"smallest_effect": 0.0, "level": 0.9})
        for _ in range(2):
            now, why = standing_of(tmp_path, easier)
            assert not now
            assert "verdict.level was 0.95, is 0.9" in why
            run(tmp_path, easier)
        # Back to what it was.
        run(tmp_path, of)
        assert standing_of(tmp_path, of)[0]
        lower = recipe(server.url, {"min_accuracy": 0.5})
        assert "judge.checks.min_accuracy was 0.8, is 0.5" in standing_of(tmp_path, lower)[1]


def test_before_the_first_reply_the_rule_may_change(tmp_path: Path) -> None:
    """An endpoint that never answered has judged nothing."""
    made(tmp_path)

    def down(body: dict[str, Any]) -> Behaviour:
        return Status(400)

    with ChatServer(down) as server:
        with pytest.raises(EndpointError):
            run(tmp_path, recipe(server.url))
        url = server.url
    first = registered(tmp_path / "judge")
    assert first is not None
    assert first.made_before_judging
    of = recipe(None, rule={"level": 0.9}, base_url=url)
    with pytest.raises(EndpointError):
        run(tmp_path, of)
    second = registered(tmp_path / "judge")
    assert second is not None
    assert second.made_before_judging
    assert second.rule["level"] == 0.9


def test_replies_from_before_there_were_registrations(tmp_path: Path) -> None:
    made(tmp_path)
    with ChatServer(tasteful) as server:
        of = recipe(server.url)
        run(tmp_path, of)
        (tmp_path / "judge" / REGISTRATIONS).unlink()
        assert standing_of(tmp_path, of) == (
            False,
            "The verdict is not pre-registered: its rule was not recorded before judging.",
        )
        run(tmp_path, of)
    found, sentence = standing_of(tmp_path, of)
    assert not found
    assert "judgments were there before its rule was recorded" in sentence


# --- the judge that is no model --------------------------------------------------------------


def test_the_reference_judge_asks_nobody(tmp_path: Path) -> None:
    made(tmp_path, base=lambda i: right(i) + RUNS_ON)
    of = recipe(None, {"repeats": 10}, kind="reference", decompose=True)
    facts = run(tmp_path, of)
    assert (facts.n_requests, facts.n_from_journal) == (0, 0)
    assert facts.n_not_asked == facts.n_matches + facts.n_rejudged + facts.n_checks
    assert facts.n_matches == N
    found = verdict(tmp_path, of)
    assert found.outcome is Outcome.BETTER
    assert found.sentence.startswith(
        "Better, for this adapter: nearness to the reference response (chrF) preferred the tuned "
        "model's answers at a rate of 100.0 %"
    )
    assert any("50 are stopping" in reason for reason in found.reasons)
    assert any("18 of 18 control pairs" in reason for reason in found.reasons)
    assert standing_of(tmp_path, of)[0]
    # A rule made after it has judged comes too late, though no reply tells of the judging.
    later = recipe(None, rule={"level": 0.9}, kind="reference")
    run(tmp_path, later)
    assert not standing_of(tmp_path, later)[0]
