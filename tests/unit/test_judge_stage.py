"""The judge stage on disk, against a real server: kills, failures, replays, and what it proves."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes import Behaviour, ChatServer, Garbage, Status, shown
from tuneproof.errors import CredentialError, EndpointError, StageError
from tuneproof.judge import own
from tuneproof.judge.stage import JudgeFacts, judge_answers
from tuneproof.progress import SilentReporter
from tuneproof.recipe import Data, Heldout, Judge, Model, MtBench, Recipe, Source, VerdictRule
from tuneproof.records import (
    Answer,
    Arm,
    Judgment,
    Preference,
    Prompt,
    Similarity,
    Stop,
)
from tuneproof.results import Outcome, Verdict
from tuneproof.stats.summary import summarize
from tuneproof.stats.verdict import decide
from tuneproof.workspace import read_records, write_records

if TYPE_CHECKING:
    from pathlib import Path

N = 40
# The matches alone: control pairs, repeats and cut answers have tests of their own.
ALONE = {"decompose": False, "checks": {"controls": 0, "repeats": 0}}
GOOD, BAD = "a good answer", "a bad answer"


def generated(folder: Path, n: int = N, failed: int = 0) -> Path:
    """Prompts and answers of n questions; the tuned answer is the good one."""
    prompts, answers = [], []
    for i in range(n):
        question = f"row-{i:05d}"
        prompts.append(
            Prompt(
                question_id=question, benchmark="heldout", category=None,
                instruction=f"Question {i}?", context="", token_ids=(1,), reference=GOOD,
                checkable=False,
            )
        )  # fmt: skip
        for arm in (Arm.BASE, Arm.TUNED):
            broken = arm is Arm.TUNED and i < failed
            answers.append(
                Answer(
                    key=f"{question}/{arm}", question_id=question, benchmark="heldout", arm=arm,
                    text="" if broken else f"{GOOD if arm is Arm.TUNED else BAD} {i}",
                    stop=Stop.ERROR if broken else Stop.EOS, n_prompt_tokens=1, n_tokens=4,
                    error="boom" if broken else None,
                )
            )  # fmt: skip
    write_records(folder / "prompts.jsonl", prompts)
    write_records(folder / "answers.jsonl", answers)
    return folder


def recipe(url: str | None, **judge: Any) -> Recipe:
    section = Judge.model_validate(
        {"base_url": url, "api_key_env": None, "model": "judge-1"} | ALONE | judge
    )
    return Recipe(
        name="t", data=Data(source=Source(sample=True)), model=Model(id="m"), judge=section
    )


def run(tmp_path: Path, server: ChatServer, **judge: Any) -> JudgeFacts:
    if not (tmp_path / "generate").exists():
        generated(tmp_path / "generate")
    return judge_answers(
        recipe(server.url, **judge),
        prepare_dir=tmp_path / "prepare",
        generate_dir=tmp_path / "generate",
        out=tmp_path / "judge",
        reporter=SilentReporter(),
    )


def verdict(tmp_path: Path, **judge: Any) -> Verdict:
    summary = summarize(
        losses=[],
        prompts=read_records(tmp_path / "generate/prompts.jsonl", Prompt),
        answers=read_records(tmp_path / "generate/answers.jsonl", Answer),
        similarities=read_records(tmp_path / "judge/similarity.jsonl", Similarity),
        judgments=read_records(tmp_path / "judge/judgments.jsonl", Judgment),
        preferences=read_records(tmp_path / "judge/preferences.jsonl", Preference),
        judge=recipe(None, **judge).judge,
        level=0.95,
    )
    return decide(VerdictRule(metric="win_rate"), None, summary.benchmarks)


def good_judge(body: dict[str, Any]) -> str:
    return "Seen.\nVERDICT: " + ("A" if shown(body, "answer-A").startswith(GOOD) else "B")


def test_a_good_judge_finds_the_better_model(tmp_path: Path) -> None:
    with ChatServer(good_judge) as server:
        facts = run(tmp_path, server)
        assert len(server.received) == 2 * N
    assert facts == JudgeFacts(
        n_similarities=2 * N,
        registration=facts.registration,
        n_matches=2 * N,
        n_requests=2 * N,
        prompt_tokens=2 * N * 100,
        completion_tokens=2 * N * 10,
    )
    found = verdict(tmp_path)
    assert found.outcome is Outcome.BETTER
    assert found.estimate.value == 1.0
    assert found.estimate.low is not None
    assert 0.9 < found.estimate.low < 1.0


def test_judgments_are_in_the_order_of_the_matches(tmp_path: Path) -> None:
    with ChatServer(good_judge) as server:
        run(tmp_path, server, concurrency=7)
    rows = read_records(tmp_path / "judge/judgments.jsonl", Judgment)
    expected = [(f"row-{i:05d}", arm) for i in range(N) for arm in (Arm.BASE, Arm.TUNED)]
    assert [(r.question_id, r.first) for r in rows] == expected
    assert {(r.first, r.prefers) for r in rows} == {(Arm.BASE, "B"), (Arm.TUNED, "A")}


def test_a_judge_that_always_says_a_proves_nothing(tmp_path: Path) -> None:
    with ChatServer(lambda _: "VERDICT: A") as server:
        run(tmp_path, server)
    found = verdict(tmp_path)
    assert found.outcome is Outcome.INCONCLUSIVE
    assert "follows the order" in found.sentence
    assert found.estimate.value == 0.5


def test_a_judge_that_throws_a_coin_proves_nothing(tmp_path: Path) -> None:
    coin = random.Random(3)
    with ChatServer(lambda _: f"VERDICT: {coin.choice('AB')}") as server:
        run(tmp_path, server)
    assert verdict(tmp_path).outcome is Outcome.INCONCLUSIVE


def test_a_judge_that_prefers_the_base_model(tmp_path: Path) -> None:
    with ChatServer(lambda body: good_judge(body).translate(str.maketrans("AB", "BA"))) as server:
        # "VERDICT" holds no A and no B, so that the swap touches the verdict only.
        run(tmp_path, server)
    assert verdict(tmp_path).outcome is Outcome.WORSE


def test_a_second_run_asks_nothing_and_needs_no_endpoint(tmp_path: Path) -> None:
    with ChatServer(good_judge) as server:
        run(tmp_path, server)
        before = (tmp_path / "judge/judgments.jsonl").read_bytes()
    facts = run(tmp_path, server)  # the server is gone
    assert (facts.n_requests, facts.n_from_journal) == (0, 2 * N)
    assert (tmp_path / "judge/judgments.jsonl").read_bytes() == before


def test_a_killed_run_loses_only_what_was_in_flight(tmp_path: Path) -> None:
    journal = tmp_path / "judge/journal.jsonl"
    with ChatServer(good_judge) as server:
        run(tmp_path, server)
        whole = (tmp_path / "judge/judgments.jsonl").read_bytes()
        lines = journal.read_bytes().splitlines(keepends=True)
        # As a kill leaves it: 30 whole lines, one torn, and none of the other files.
        journal.write_bytes(b"".join(lines[:30]) + lines[30][: len(lines[30]) // 2])
        (tmp_path / "judge/judgments.jsonl").unlink()
        (tmp_path / "judge/preferences.jsonl").unlink()
        asked_before = len(server.received)
        facts = run(tmp_path, server)
        assert len(server.received) - asked_before == 2 * N - 30
    assert (facts.n_requests, facts.n_from_journal) == (2 * N - 30, 30)
    assert (tmp_path / "judge/judgments.jsonl").read_bytes() == whole
    assert len(read_records(journal, Judgment)) == 2 * N


def test_every_reply_is_on_disk_before_the_stage_ends(tmp_path: Path) -> None:
    journal = tmp_path / "judge/journal.jsonl"
    lines_seen: list[int] = []

    def reply(body: dict[str, Any]) -> str:
        lines_seen.append(journal.read_bytes().count(b"\n"))
        return good_judge(body)

    with ChatServer(reply) as server:
        run(tmp_path, server, concurrency=1)
    assert lines_seen == list(range(2 * N))


def test_changed_answers_are_asked_about_again_and_only_those(tmp_path: Path) -> None:
    with ChatServer(good_judge) as server:
        run(tmp_path, server)
        path = tmp_path / "generate/answers.jsonl"
        answers = read_records(path, Answer)
        answers[0] = answers[0].model_copy(update={"text": "another"})
        write_records(path, answers)
        assert run(tmp_path, server).n_requests == 2
        assert run(tmp_path, server, model="judge-2").n_requests == 2 * N


def test_unparsed_replies_are_kept_counted_and_not_asked_again(tmp_path: Path) -> None:
    def reply(body: dict[str, Any]) -> str:
        return "Hard to say." if shown(body, "instruction") == "Question 3?" else good_judge(body)

    with ChatServer(reply) as server:
        facts = run(tmp_path, server)
        assert (facts.n_unparsed, facts.n_failed) == (2, 0)
        assert facts.unparsed == {own.NO_VERDICT: 2}
        assert run(tmp_path, server).n_requests == 0
    rows = read_records(tmp_path / "judge/judgments.jsonl", Judgment)
    assert [r.reply for r in rows if r.prefers is None] == ["Hard to say."] * 2
    preferences = read_records(tmp_path / "judge/preferences.jsonl", Preference)
    assert [(p.question_id, p.n_unparsed) for p in preferences if p.value is None] == [
        ("row-00003", 2)
    ]
    # One question of 40 is 2.5 % and the rule allows 2 %.
    found = verdict(tmp_path)
    assert found.outcome is Outcome.INCONCLUSIVE
    assert "1 of 40 questions are unscored" in found.sentence


def test_failures_are_counted_and_never_cached(tmp_path: Path) -> None:
    broken = threading.Event()
    broken.set()

    def reply(body: dict[str, Any]) -> Behaviour | str:
        if broken.is_set() and shown(body, "instruction") == "Question 5?":
            return Status(400, "too long")
        if broken.is_set() and shown(body, "instruction") == "Question 6?":
            return Garbage()
        return good_judge(body)

    with ChatServer(reply) as server:
        facts = run(tmp_path, server)
        assert facts.failures == {"HTTP 400": 2, "not a chat completion": 2}
        assert (facts.n_failed, facts.n_unparsed, facts.n_requests) == (4, 0, 2 * N)
        assert len(read_records(tmp_path / "judge/journal.jsonl", Judgment)) == 2 * N - 4
        unscored = [
            p.question_id
            for p in read_records(tmp_path / "judge/preferences.jsonl", Preference)
            if p.value is None
        ]
        assert unscored == ["row-00005", "row-00006"]
        # The failing ones are asked again, and a run in which these alone fail is no error.
        assert run(tmp_path, server).n_failed == 4
        broken.clear()
        facts = run(tmp_path, server)
        assert (facts.n_requests, facts.n_failed, facts.n_from_journal) == (4, 0, 2 * N - 4)


def test_questions_with_a_failed_answer_are_counted_and_unscored(tmp_path: Path) -> None:
    generated(tmp_path / "generate", failed=3)
    with ChatServer(good_judge) as server:
        facts = run(tmp_path, server)
    assert facts.skipped == {"tuned answer failed": 3}
    assert facts.n_matches == 2 * (N - 3)
    preferences = read_records(tmp_path / "judge/preferences.jsonl", Preference)
    assert sum(p.value is None for p in preferences) == 3
    assert len(preferences) == N


def test_an_endpoint_that_fails_every_time_stops_the_stage(tmp_path: Path) -> None:
    with ChatServer(lambda _: Status(400, "no such parameter")) as server:
        with pytest.raises(EndpointError, match=r"in a row failed.*HTTP 400, no such parameter"):
            run(tmp_path, server)
        assert 20 <= len(server.received) < 20 + 8
    generated(tmp_path / "few/generate", n=3)
    with (
        ChatServer(lambda _: Status(400)) as server,
        pytest.raises(EndpointError, match="all 6 requests failed"),
    ):
        run(tmp_path / "few", server)


def test_scattered_failures_do_not_stop_the_stage(tmp_path: Path) -> None:
    def reply(body: dict[str, Any]) -> Behaviour | str:
        number = int(shown(body, "instruction").split()[1].rstrip("?"))
        return Status(400) if number % 2 else good_judge(body)

    with ChatServer(reply) as server:
        facts = run(tmp_path, server, concurrency=1)
    assert (facts.n_failed, facts.n_requests) == (N, 2 * N)


def test_an_endpoint_that_breaks_down_leaves_what_it_said(tmp_path: Path) -> None:
    said = iter(range(25))

    def reply(body: dict[str, Any]) -> Behaviour | str:
        return good_judge(body) if next(said, None) is not None else Status(400)

    with ChatServer(reply) as server, pytest.raises(EndpointError, match="in a row"):
        run(tmp_path, server)
    with ChatServer(good_judge) as other:
        # Another port is another endpoint; under the first one's address its replies are there.
        assert run(tmp_path, other).n_from_journal == 0
    assert len(read_records(tmp_path / "judge/journal.jsonl", Judgment)) == 25 + 2 * N


@pytest.mark.parametrize(
    ("status", "error"), [(Status(401), CredentialError), (Status(404), EndpointError)]
)
def test_hopeless_errors_end_the_stage_at_once(
    tmp_path: Path, status: Status, error: type[Exception]
) -> None:
    with ChatServer(lambda _: status) as server:
        with pytest.raises(error):
            run(tmp_path, server, concurrency=2)
        assert len(server.received) <= 2


def test_a_missing_key_is_found_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("THE_KEY", raising=False)
    with ChatServer(good_judge) as server:
        with pytest.raises(CredentialError):
            run(tmp_path, server, api_key_env="THE_KEY")
        assert server.received == []


def test_concurrency_is_bounded_and_used(tmp_path: Path) -> None:
    meeting = threading.Barrier(3, timeout=10)

    class Meeting(ChatServer):
        """Answers only when three requests are there at once."""

        def begin(self) -> None:
            super().begin()
            meeting.wait()

    generated(tmp_path / "generate", n=15)
    with Meeting(good_judge) as server:
        run(tmp_path, server, concurrency=3)
        assert server.most_at_once == 3


def test_one_order_asks_once(tmp_path: Path) -> None:
    with ChatServer(good_judge) as server:
        assert run(tmp_path, server, orders=1).n_requests == N
    found = verdict(tmp_path, orders=1)
    assert found.outcome is Outcome.BETTER
    assert any("one order only" in reason for reason in found.reasons)


def test_without_a_judge(tmp_path: Path) -> None:
    generated(tmp_path / "generate")
    facts = judge_answers(
        recipe(None).model_copy(update={"judge": None}),
        prepare_dir=tmp_path / "prepare",
        generate_dir=tmp_path / "generate",
        out=tmp_path / "judge",
        reporter=SilentReporter(),
    )
    assert facts == JudgeFacts(n_similarities=2 * N, registration=facts.registration)
    assert (tmp_path / "judge/judgments.jsonl").read_bytes() == b""
    assert (tmp_path / "judge/preferences.jsonl").read_bytes() == b""
    assert not (tmp_path / "judge/journal.jsonl").exists()


def test_replay_gives_the_same_bytes_and_leaves_its_journal_alone(tmp_path: Path) -> None:
    with ChatServer(good_judge) as server:
        run(tmp_path, server)
        url = server.url
    recorded = tmp_path / "judge/journal.jsonl"
    before = recorded.read_bytes()

    def replay(out: str) -> JudgeFacts:
        return judge_answers(
            recipe(url, kind="replay", journal=str(recorded)),
            prepare_dir=tmp_path / "prepare",
            generate_dir=tmp_path / "generate",
            out=tmp_path / out,
            reporter=SilentReporter(),
        )

    facts = replay("again")
    assert facts.n_failed == 0
    for name in ("judgments.jsonl", "preferences.jsonl", "similarity.jsonl"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "judge" / name).read_bytes()
    assert recorded.read_bytes() == before
    # What the journal lacks is a failure with a count.
    recorded.write_bytes(b"".join(before.splitlines(keepends=True)[:50]))
    assert replay("again").failures == {"not in the recorded journal": 2 * N - 50}
    # What an earlier run journaled in the same folder does not stand in for what it lacks.
    part = tmp_path / "part.jsonl"
    part.write_bytes(recorded.read_bytes())
    recorded.write_bytes(before)
    facts = judge_answers(
        recipe(url, kind="replay", journal=str(part)),
        prepare_dir=tmp_path / "prepare",
        generate_dir=tmp_path / "generate",
        out=tmp_path / "judge",
        reporter=SilentReporter(),
    )
    assert facts.n_failed == 2 * N - 50
    recorded.write_bytes(b"")
    with pytest.raises(EndpointError, match="all 80 requests failed"):
        replay("again")


def test_missing_inputs_are_named(tmp_path: Path) -> None:
    with ChatServer(good_judge) as server, pytest.raises(StageError, match=r"prompts\.jsonl"):
        judge_answers(
            recipe(server.url),
            prepare_dir=tmp_path / "prepare",
            generate_dir=tmp_path,
            out=tmp_path / "judge",
            reporter=SilentReporter(),
        )


def test_adapters_with_the_same_answer_share_a_reply(tmp_path: Path) -> None:
    folder = generated(tmp_path / "generate", n=5)
    answers = read_records(folder / "answers.jsonl", Answer)
    second = [
        a.model_copy(update={"adapter": 2, "key": f"{a.key}/2"})
        for a in answers
        if a.arm is Arm.TUNED
    ]
    second[0] = second[0].model_copy(update={"text": "neither good nor bad"})
    write_records(folder / "answers.jsonl", [*answers, *second])
    with ChatServer(good_judge) as server:
        facts = run(tmp_path, server)
        # Two orders of five pairs, and of the one in which the second adapter differs.
        assert len(server.received) == 12
        assert (facts.n_matches, facts.n_requests, facts.n_shared) == (20, 12, 8)
        again = run(tmp_path, server)
        assert (again.n_requests, again.n_from_journal, again.n_shared) == (0, 12, 8)
        # Paid for once.
        assert again.prompt_tokens == facts.prompt_tokens == 12 * 100
    rows = read_records(tmp_path / "judge/judgments.jsonl", Judgment)
    assert [(r.question_id, r.adapter, r.first) for r in rows] == [
        (f"row-{i:05d}", adapter, arm)
        for i in range(5) for adapter in (1, 2) for arm in (Arm.BASE, Arm.TUNED)
    ]  # fmt: skip
    preferences = read_records(tmp_path / "judge/preferences.jsonl", Preference)
    values = [(p.adapter, p.value) for p in preferences if p.question_id == "row-00000"]
    assert values == [(1, 1.0), (2, 0.5)]  # this judge says B where neither is good
    assert {p.value for p in preferences if p.question_id != "row-00000"} == {1.0}


def test_mt_bench_always_plays_both_games(tmp_path: Path) -> None:
    folder = generated(tmp_path / "generate", n=3)
    prompts = read_records(folder / "prompts.jsonl", Prompt)
    answers = read_records(folder / "answers.jsonl", Answer)
    questions = {p.question_id: p.question_id.replace("row", "mt") for p in prompts}
    turns: list[Prompt] = []
    said: list[Answer] = []
    for turn in (1, 2):
        new = {"benchmark": "mt_bench", "turn": turn}
        turns += [p.model_copy(update=new | {"question_id": questions[p.question_id],
                                             "token_ids": None}) for p in prompts]  # fmt: skip
        said += [
            a.model_copy(update=new | {"question_id": questions[a.question_id],
                                       "key": f"{a.key}/{turn}", "text": f"{a.text} at {turn}"})
            for a in answers
        ]  # fmt: skip
    write_records(folder / "prompts.jsonl", [*prompts, *turns])
    write_records(folder / "answers.jsonl", [*answers, *said])
    with ChatServer(good_judge) as server:
        whole = recipe(server.url, orders=1).model_copy(
            update={
                "evaluate": (
                    Heldout(benchmark="heldout"),
                    MtBench(benchmark="mt_bench", questions=3, protocol="own"),
                )
            }
        )
        facts = judge_answers(
            whole,
            prepare_dir=tmp_path,
            generate_dir=folder,
            out=tmp_path / "judge",
            reporter=SilentReporter(),
        )
    assert facts.n_matches == 3 + 3 * 2 * 2
    rows = read_records(tmp_path / "judge/preferences.jsonl", Preference)
    assert [(p.benchmark, p.turn, p.orders, p.value) for p in rows] == (
        [("heldout", 1, 1, 1.0)] * 3 + [("mt_bench", 1, 2, 1.0)] * 3 + [("mt_bench", 2, 2, 1.0)] * 3
    )
    second = [r.body for r in server.received if "turn-1-answer-A" in str(r.body)]
    assert len(second) == 6
    assert {shown(b, "turn-1-answer-A")[-4:] for b in second} == {"at 1"}
