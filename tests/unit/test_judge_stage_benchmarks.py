"""The judge stage with the benchmarks' protocols: probabilities, equal answers, ratings, files."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import benchmark_file, shared
from tests.fakes import ChatServer, Says
from tuneproof.benchmark_files import ALPACA_EVAL_PROMPT
from tuneproof.errors import EndpointError
from tuneproof.judge.alpaca_eval import NO_PROBABILITIES
from tuneproof.judge.asking import ENOUGH_WITHOUT_PROBABILITIES
from tuneproof.judge.stage import JudgeFacts, judge_answers
from tuneproof.progress import SilentReporter
from tuneproof.recipe import (
    AlpacaEval,
    Data,
    Evaluation,
    Heldout,
    Judge,
    Model,
    MtBench,
    Recipe,
    Source,
)
from tuneproof.records import Answer, Arm, Judgment, Preference, Prompt, Rating, Stop
from tuneproof.workspace import read_records, write_records

if TYPE_CHECKING:
    from pathlib import Path

N = 24
# The matches alone: control pairs, repeats and cut answers have tests of their own.
ALONE = {"decompose": False, "checks": {"controls": 0, "repeats": 0}}
WEIGHTED = AlpacaEval(benchmark="alpaca_eval")


@pytest.fixture(autouse=True)
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """FastChat's prompts and AlpacaEval's, and nothing else of this machine."""
    folder = tmp_path / "assets"
    prompt = folder / ALPACA_EVAL_PROMPT.folder / ALPACA_EVAL_PROMPT.file
    prompt.parent.mkdir(parents=True)
    prompt.write_bytes(benchmark_file(ALPACA_EVAL_PROMPT).read_bytes())
    (folder / "mt_bench").symlink_to(shared("mt_bench"))
    monkeypatch.setenv("TUNEPROOF_ASSETS", str(folder))


def recipe(url: str, evaluation: Evaluation, **judge: Any) -> Recipe:
    section = Judge.model_validate(
        {"base_url": url, "api_key_env": None, "model": "j", "orders": 1} | ALONE | judge
    )
    return Recipe(
        name="t",
        data=Data(source=Source(sample=True)),
        model=Model(id="m"),
        judge=section,
        evaluate=(Heldout(benchmark="heldout"), evaluation),
    )


def generated(folder: Path, *, equal: int = 0, failed: int = 0) -> None:
    """AlpacaEval's first N questions; the tuned answer is the good one."""
    prompts, answers = [], []
    for i in range(N):
        question = f"alpaca-{i:03}"
        prompts.append(
            Prompt(
                question_id=question, benchmark="alpaca_eval", category="koala",
                instruction=f"Question {i}?", context="", token_ids=(1,), reference=None,
                checkable=False,
            )
        )  # fmt: skip
        for arm in (Arm.BASE, Arm.TUNED):
            text = "same" if i < equal else f"{'good' if arm is Arm.TUNED else 'bad'} {i}"
            broken = arm is Arm.TUNED and i >= N - failed
            answers.append(
                Answer(
                    key=f"{question}/{arm}", question_id=question, benchmark="alpaca_eval",
                    arm=arm, text="" if broken else text,
                    stop=Stop.ERROR if broken else Stop.EOS, n_prompt_tokens=1, n_tokens=1,
                )
            )  # fmt: skip
    write_records(folder / "prompts.jsonl", prompts)
    write_records(folder / "answers.jsonl", answers)


def run(tmp_path: Path, server: ChatServer, evaluation: Evaluation, **judge: Any) -> JudgeFacts:
    return judge_answers(
        recipe(server.url, evaluation, **judge),
        prepare_dir=tmp_path / "prepare",
        generate_dir=tmp_path / "generate",
        out=tmp_path / "judge",
        reporter=SilentReporter(),
    )


def preferences(tmp_path: Path) -> dict[str, float | None]:
    rows = read_records(tmp_path / "judge/preferences.jsonl", Preference)
    return {p.question_id: p.value for p in rows}


def sure_of_good(body: dict[str, Any]) -> Says:
    """Nine to one for the good answer; it reads the official prompt's two outputs."""
    user = body["messages"][-1]["content"]
    first_is_good = user.index('"output": """good') < user.index('"model_identifier": "M"')
    p = 0.9 if first_is_good else 0.1
    likely = sorted((("m", math.log(p)), ("M", math.log(1 - p))), key=lambda t: -t[1])
    return Says(likely[0][0], "length", top_logprobs=(*likely, ("The", -9.0)))


def test_probabilities_become_preferences(tmp_path: Path) -> None:
    generated(tmp_path / "generate", equal=3, failed=2)
    with ChatServer(sure_of_good) as server:
        facts = run(tmp_path, server, WEIGHTED)
        bodies = [r.body for r in server.received]
    assert facts.n_matches == N - 2
    assert (facts.n_not_asked, facts.n_requests, facts.n_unparsed) == (3, N - 5, 0)
    assert facts.skipped == {"tuned answer failed": 2}
    assert {b["top_logprobs"] for b in bodies} == {5}
    found = preferences(tmp_path)
    assert [found[f"alpaca-{i:03}"] for i in range(3)] == [0.5] * 3
    assert [found[f"alpaca-{i:03}"] for i in (N - 2, N - 1)] == [None, None]
    rest = [found[f"alpaca-{i:03}"] for i in range(3, N - 2)]
    assert rest == pytest.approx([0.9] * len(rest))
    rows = read_records(tmp_path / "judge/judgments.jsonl", Judgment)
    assert {r.first for r in rows} == {Arm.BASE, Arm.TUNED}
    assert [r.asked for r in rows[:4]] == [False, False, False, True]
    assert rows[3].top_logprobs is not None
    # From the journal alone the same rows come again, read anew.
    before = (tmp_path / "judge/judgments.jsonl").read_bytes()
    again = run(tmp_path, server, WEIGHTED)
    assert (again.n_requests, again.n_not_asked, again.n_from_journal) == (0, 3, N - 5)
    assert (tmp_path / "judge/judgments.jsonl").read_bytes() == before


def test_both_orders_of_a_weighted_judge(tmp_path: Path) -> None:
    generated(tmp_path / "generate")
    with ChatServer(sure_of_good) as server:
        facts = run(tmp_path, server, WEIGHTED, orders=2)
    assert facts.n_requests == 2 * N
    rows = read_records(tmp_path / "judge/preferences.jsonl", Preference)
    assert {p.orders_agree for p in rows} == {True}
    assert [p.value for p in rows] == pytest.approx([0.9] * N)


def test_an_endpoint_without_probabilities_is_found_out_early(tmp_path: Path) -> None:
    generated(tmp_path / "generate")
    with ChatServer(lambda _: Says("m", "length")) as server:
        with pytest.raises(EndpointError, match="gives no token probabilities") as caught:
            run(tmp_path, server, WEIGHTED, concurrency=1)
        assert len(server.received) == ENOUGH_WITHOUT_PROBABILITIES
    assert "--set evaluate.1.protocol=binary" in caught.value.remedy
    # What it said is not kept: an endpoint that learns to answer is asked again.
    assert (tmp_path / "judge/journal.jsonl").read_bytes() == b""
    # Its word is enough for the binary protocol.
    binary = AlpacaEval(benchmark="alpaca_eval", protocol="binary")
    with ChatServer(lambda _: Says("m", "length")) as server:
        facts = run(tmp_path, server, binary)
    assert (facts.n_requests, facts.n_unparsed) == (N, 0)
    assert set(preferences(tmp_path).values()) == {0.0, 1.0}


def test_a_few_without_probabilities_are_found_out_at_the_end(tmp_path: Path) -> None:
    generated(tmp_path / "generate", equal=N - 3)
    with (
        ChatServer(lambda _: Says("m", "length")) as server,
        pytest.raises(EndpointError, match="none of 3 replies"),
    ):
        run(tmp_path, server, WEIGHTED)


def test_single_replies_without_probabilities_are_unparsed_and_kept(tmp_path: Path) -> None:
    generated(tmp_path / "generate")

    def reply(body: dict[str, Any]) -> Says:
        number = len(server.received)
        return Says("m", "length") if number in (2, 5) else sure_of_good(body)

    with ChatServer(reply) as server:
        facts = run(tmp_path, server, WEIGHTED, concurrency=1)
        assert facts.unparsed == {NO_PROBABILITIES: 2}
        assert run(tmp_path, server, WEIGHTED).n_requests == 0
    values = list(preferences(tmp_path).values())
    assert values.count(None) == 2


def test_the_first_reply_with_probabilities_frees_those_that_wait(tmp_path: Path) -> None:
    generated(tmp_path / "generate")
    few = ENOUGH_WITHOUT_PROBABILITIES - 1

    def reply(body: dict[str, Any]) -> Says:
        return Says("m", "length") if len(server.received) <= few else sure_of_good(body)

    with ChatServer(reply) as server:
        facts = run(tmp_path, server, WEIGHTED, concurrency=1)
    assert facts.unparsed == {NO_PROBABILITIES: few}
    assert len(read_records(tmp_path / "judge/journal.jsonl", Judgment)) == N


# --- MT-Bench --------------------------------------------------------------------------------

NUMBERS = (
    81,
    105,
    111,
    160,
)  # writing; reasoning and math; humanities; 105 and 111 are known wrong


def mt_generated(folder: Path) -> None:
    prompts, answers = [], []
    for number in NUMBERS:
        category = {81: "writing", 105: "reasoning", 111: "math", 160: "humanities"}[number]
        for turn in (1, 2):
            prompts.append(
                Prompt(
                    question_id=f"mt-{number}", benchmark="mt_bench", category=category, turn=turn,
                    instruction=f"{number} turn {turn}?", context="", token_ids=None,
                    reference=None, checkable=False,
                )
            )  # fmt: skip
            answers += [
                Answer(
                    key=f"{number}/{turn}/{arm}", question_id=f"mt-{number}", benchmark="mt_bench",
                    turn=turn, arm=arm, text=f"{'good' if arm is Arm.TUNED else 'bad'} {turn}",
                    stop=Stop.EOS, n_prompt_tokens=1, n_tokens=1,
                )
                for arm in (Arm.BASE, Arm.TUNED)
            ]  # fmt: skip
    write_records(folder / "prompts.jsonl", prompts)
    write_records(folder / "answers.jsonl", answers)


def good_by_turn(body: dict[str, Any]) -> str:
    """Prefers the good answer at the first turn, and A at the second."""
    user = body["messages"][-1]["content"]
    if "### User:" in user:
        return "[[A]]"
    assistant_a = user.split("[The Start of Assistant A's Answer]\n")[1]
    return "[[A]]" if assistant_a.startswith("good") else "[[B]]"


def test_mt_bench_plays_two_games_and_ties_what_disagrees(tmp_path: Path) -> None:
    mt_generated(tmp_path / "generate")
    with ChatServer(good_by_turn) as server:
        facts = run(tmp_path, server, MtBench(benchmark="mt_bench"))
        users = [r.body["messages"][-1]["content"] for r in server.received]
    assert (facts.n_matches, facts.n_requests, facts.n_excluded) == (16, 16, 0)
    assert sum("Reference" in u for u in users) == 8  # reasoning and math
    rows = read_records(tmp_path / "judge/preferences.jsonl", Preference)
    assert {(p.turn, p.value, p.orders_agree) for p in rows} == {(1, 1.0, True), (2, 0.5, False)}
    assert {p.protocol for p in rows} == {"mt-bench-pairwise"}


def test_known_wrong_references_can_be_left_out(tmp_path: Path) -> None:
    mt_generated(tmp_path / "generate")
    with ChatServer(good_by_turn) as server:
        evaluation = MtBench(benchmark="mt_bench", exclude_known_wrong=True)
        facts = run(tmp_path, server, evaluation)
    assert (facts.n_matches, facts.n_excluded) == (8, 4)  # two questions of two turns
    assert set(preferences(tmp_path)) == {"mt-81", "mt-160"}


def rates(body: dict[str, Any]) -> str:
    user = body["messages"][-1]["content"]
    last = user.rsplit("### Assistant A:\n", 1)[-1].rsplit("Assistant's Answer]\n", 1)[-1]
    if last.startswith("good 2") and "160 turn" in user:
        return "No idea."
    return "Fine. Rating: [[9]]" if last.startswith("good") else "Poor. [[4]]"


def test_answers_are_rated_one_by_one(tmp_path: Path) -> None:
    mt_generated(tmp_path / "generate")
    single = MtBench(benchmark="mt_bench", mode="single")
    with ChatServer(rates) as server:
        facts = run(tmp_path, server, single)
        url = server.url
        assert len(server.received) == 16
        assert run(tmp_path, server, single).n_requests == 0
    assert (facts.n_matches, facts.n_ratings, facts.n_requests) == (0, 16, 16)
    assert facts.unparsed == {"the reply holds no [[rating]]": 1}
    rows = read_records(tmp_path / "judge/ratings.jsonl", Rating)
    assert [(r.question_id, r.turn, r.arm, r.score) for r in rows[-4:]] == [
        ("mt-160", 1, Arm.BASE, 4.0),
        ("mt-160", 1, Arm.TUNED, 9.0),
        ("mt-160", 2, Arm.BASE, 4.0),
        ("mt-160", 2, Arm.TUNED, None),
    ]
    assert {r.protocol for r in rows} == {"mt-bench-single"}
    assert (tmp_path / "judge/preferences.jsonl").read_bytes() == b""
    # A recorded journal of judgments has that of ratings beside it.
    replayed = judge_answers(
        recipe(url, single, kind="replay", journal=str(tmp_path / "judge/journal.jsonl")),
        prepare_dir=tmp_path / "prepare",
        generate_dir=tmp_path / "generate",
        out=tmp_path / "again",
        reporter=SilentReporter(),
    )
    assert replayed.n_failed == 0
    assert (tmp_path / "again/ratings.jsonl").read_bytes() == (
        tmp_path / "judge/ratings.jsonl"
    ).read_bytes()
