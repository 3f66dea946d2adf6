"""Answers from a completions server: a real one on loopback, in good health and in bad."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.fakes import ChatServer, Close, Drip, Garbage, Hang, Status, Truncated
from tuneproof.data.encode import token_ids
from tuneproof.data.templates import parse_template
from tuneproof.errors import CredentialError, EndpointError
from tuneproof.generate.answers import Answers, Interview, answer_all
from tuneproof.generate.asking import ChatAsking, Stops, TemplateAsking
from tuneproof.generate.plan import BASE, PLACEBO, Respondent, plan_answers
from tuneproof.generate.prompts import benchmark_prompts
from tuneproof.generate.served import as_text, ask_server, served_name
from tuneproof.generate.stage import failure_lines
from tuneproof.generate.transformers_backend import TransformersBackend
from tuneproof.progress import SilentReporter
from tuneproof.recipe import Generate, Lora, Model, Server
from tuneproof.records import Answer, Arm, Stop
from tuneproof.train.model import add_lora, load_model, load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from tests.fakes import Behaviour
    from tuneproof.records import Prompt

TUNED = Respondent(Arm.TUNED)
TEMPLATE = parse_template("{instruction}\n{response}\n")


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(Model(id=str(tiny_model)))


@pytest.fixture(scope="module")
def prompts(tokenizer: PreTrainedTokenizerBase) -> list[Prompt]:
    from tuneproof.data.questions import Question

    words = ["red", "green", "blue", "one", "two", "three", "four"]
    questions = [
        Question(
            id=f"q{i}",
            benchmark="mt_bench",
            category="math" if i else "writing",
            turns=(" ".join(words[: i % 7 + 1]), "yes no"),
        )
        for i in range(6)
    ]
    return benchmark_prompts(tokenizer, TEMPLATE, questions)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's tries are counted here, not waited for."""
    monkeypatch.setattr("tuneproof.endpoint.pacing.FIRST_PAUSE_S", 0.01)


@pytest.fixture
def ask(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, prompts: list[Prompt]
) -> Callable[..., Answers]:
    """Asks base and tuned everything; keywords are of the server section."""

    def run(
        url: str, *, temperature: float = 0.0, stops: Stops | None = None, **server: Any
    ) -> Answers:
        asking = TemplateAsking(tokenizer, TEMPLATE)
        asking.stops = stops or Stops()
        generate = Generate(
            max_new_tokens=8,
            temperature=temperature,
            backend="completions",
            server=Server(**{"base_url": url, "base": "base", "adapters": ("tuned",)} | server),
        )
        return ask_server(
            [
                Interview(who=who, asking=asking, prompts=tuple(prompts), weights=who.name)
                for who in (BASE, TUNED)
            ],
            generate,
            tokenizer,
            seed=7,
            journal_file=tmp_path / "answers.journal.jsonl",
            reporter=SilentReporter(),
        )

    return run


def says(
    text: str, finish_reason: str | None = "stop", read: int | None = None, **more: Any
) -> Garbage:
    """A completion, as the double's body of any kind; ``read`` tokens of the prompt, if told."""
    body: dict[str, Any] = {
        "choices": [{"index": 0, "text": text, "finish_reason": finish_reason, **more}]
    }
    if read is not None:
        body["usage"] = {"prompt_tokens": read}
    return Garbage(json.dumps(body).encode(), "application/json")


def text_of(answers: Answers) -> dict[tuple[str, int, Arm], str]:
    return {(a.question_id, a.turn, a.arm): a.text for a in answers.rows}


class ServedModel:
    """The tiny model behind the double, one request at a time."""

    def __init__(self, folder: Path) -> None:
        self._model = load_model(Model(id=str(folder), dtype="float32"))
        self._tokenizer = load_tokenizer(Model(id=str(folder)))

    def __call__(self, body: dict[str, Any]) -> Behaviour:
        prompt = body["prompt"]
        ids = self._tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else prompt
        with torch.no_grad():
            out = self._model.generate(  # type: ignore[operator]
                input_ids=torch.tensor([ids]), max_new_tokens=body["max_tokens"], do_sample=False
            )[0, len(ids) :].tolist()
        ended = out[-1] == self._tokenizer.eos_token_id
        text = self._tokenizer.decode(out, skip_special_tokens=True)
        return says(str(text), "stop" if ended else "length", read=len(ids))


@pytest.mark.parametrize("as_what", ["tokens", "text"])
def test_a_server_with_our_model_answers_as_we_do(
    ask: Callable[..., Answers],
    tiny_model: Path,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[Prompt],
    tmp_path: Path,
    as_what: str,
) -> None:
    """Greedy, both turns, by token ids and by text."""
    with ChatServer(ServedModel(tiny_model)) as server:
        answers = ask(server.url, prompts=as_what)
        bodies = [r.body for r in server.received]
    assert {r.path for r in server.received} == {"/v1/completions"}
    assert all(isinstance(b["prompt"], str if as_what == "text" else list) for b in bodies)
    assert Counter(b["model"] for b in bodies) == {"base": 12, "tuned": 12}
    model = add_lora(load_model(Model(id=str(tiny_model), dtype="float32")), Lora(dropout=0.0))
    interviews = [
        Interview(
            who=BASE,
            asking=TemplateAsking(tokenizer, TEMPLATE),
            prompts=tuple(prompts),
            weights="w",
        )
    ]
    settings = Generate(max_new_tokens=8)
    ours = answer_all(
        TransformersBackend(model.eval(), tokenizer),
        interviews,
        settings,
        plan_answers(
            interviews, settings.budget, file=tmp_path / "plan.json", reporter=SilentReporter()
        ),
        seed=7,
        journal_file=tmp_path / "ours.jsonl",
        reporter=SilentReporter(),
    ).rows

    def said(answers: list[Answer]) -> list[tuple[object, ...]]:
        return [
            (a.question_id, a.turn, a.text, a.stop, a.n_prompt_tokens, a.n_tokens)
            for a in answers
            if a.arm is Arm.BASE
        ]

    assert said(answers.rows) == said(ours)
    assert answers.failed == 0


def test_what_is_asked_and_how_it_is_read(ask: Callable[..., Answers]) -> None:
    replies = iter(
        [
            says(" red ", "stop"),
            says("red green", "length"),
            says("red", "stop", stop_reason="\nx"),
            says("red", "stop", stop_reason=2),
            says("red\nx blue", "length"),
            says("half", "content_filter"),
            says("none", None),
        ]
    )
    with ChatServer(lambda _: next(replies, says("red"))) as server:
        answers = ask(
            server.url,
            temperature=0.5,
            stops=Stops(strings=("\nx",), token_ids=(5, 9)),
            concurrency=1,
        )
        bodies = [r.body for r in server.received]
    first = bodies[0]
    assert (first["max_tokens"], first["temperature"], first["top_p"]) == (8, 0.5, 1.0)
    assert (first["stop"], first["stop_token_ids"]) == (["\nx"], [5, 9])
    # A seed for each question, turn and respondent; the same in every run.
    assert len({b["seed"] for b in bodies}) == len(bodies)
    assert all(0 <= b["seed"] < 2**31 for b in bodies)
    # One at a time, first turns come first: those of base, and one of tuned.
    read = [(a.text, a.stop) for a in answers.rows if a.arm is Arm.BASE and a.turn == 1]
    assert read == [
        ("red", Stop.EOS),
        ("red green", Stop.LENGTH),
        ("red", Stop.STOP_STRING),
        ("red", Stop.EOS),
        ("red", Stop.STOP_STRING),
        ("", Stop.ERROR),
    ]
    errors = [a for a in answers.rows if a.stop is Stop.ERROR]
    assert answers.failed == len(errors) == 4
    assert [e.error for e in errors if e.turn == 1] == [
        "no whole answer: finish_reason 'content_filter'",
        "no whole answer: finish_reason None",
    ]


def test_second_turns_do_not_wait_for_other_questions(ask: Callable[..., Answers]) -> None:
    """While one first turn hangs, all other questions get both of theirs."""
    seen: list[str] = []

    def reply(body: dict[str, Any]) -> Behaviour:
        seen.append(json.dumps([body["model"], body["prompt"]]))
        return Hang(2.0) if len(seen) == 1 else says("yes")

    with ChatServer(reply) as server:
        answers = ask(server.url, concurrency=3)
        assert server.most_at_once <= 3
    assert answers.failed == 0
    # 24 prompts, and one of them twice; only its second turn comes after it.
    assert len(seen) == 25
    assert seen.index(seen[0], 1) == 23


def test_an_answer_is_asked_for_once_and_a_failure_again(ask: Callable[..., Answers]) -> None:
    tries: Counter[str] = Counter()

    def sick(body: dict[str, Any]) -> Behaviour:
        """One prompt is refused for good; others fail once, each in another way."""
        place = json.dumps([body["model"], body["prompt"]])
        tries[place] += 1
        if body["model"] == "tuned" and len(body["prompt"]) < 5:
            return Status(400, "too long for me")
        if tries[place] == 1:
            ways: list[Behaviour] = [Truncated(), Close(), Garbage(), Status(500), Status(429)]
            return ways[len(tries) % 5]
        return says("well")

    with ChatServer(sick) as server:
        answers = ask(server.url)
        asked = len(server.received)
    failed = [a for a in answers.rows if a.stop is Stop.ERROR]
    assert answers.failed == len(failed) > 0
    assert {a.error for a in failed if a.turn == 1} == {"HTTP 400: too long for me"}
    assert all("not asked" in str(a.error) for a in failed if a.turn == 2)
    assert all(a.text == "well" for a in answers.rows if a.stop is not Stop.ERROR)
    assert asked > 24 - len(failed)

    with ChatServer(lambda _: says("well")) as other:
        # Another address is another server.
        elsewhere = ask(other.url)
        assert elsewhere.resumed == 0
        assert elsewhere.failed == 0
        assert len(other.received) == 24
        again = ask(other.url, concurrency=2, timeout_s=9)
        assert (again.resumed, len(other.received)) == (24, 24)
        assert again.rows == elsewhere.rows


def test_finished_work_is_kept_when_the_key_or_the_model_is_refused(
    ask: Callable[..., Answers], monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal: list[Status] = []

    def reply(body: dict[str, Any]) -> Behaviour:
        if body["model"] == "tuned" and refusal:
            return refusal[0]
        return says("well")

    with ChatServer(reply) as server:
        for status, error, words in (
            (
                Status(401, "wrong key s3cret"),
                CredentialError,
                "refuses the key.*wrong key \\*\\*\\*",
            ),
            (Status(404, "no such model"), EndpointError, "does not know the model 'tuned'"),
            (Status(400, "x", "model_not_found"), EndpointError, "does not know the model 'tuned'"),
            (Status(403, "x", "model_not_found"), EndpointError, "does not know the model 'tuned'"),
            (Status(400, "x", "invalid_api_key"), CredentialError, "refuses the key"),
            (Status(429, "pay", "insufficient_quota"), EndpointError, "quota is used up.*: pay"),
            (Status(402, "pay"), EndpointError, "quota is used up"),
        ):
            refusal[:] = [status]
            monkeypatch.setenv("OUR_KEY", "s3cret")
            with pytest.raises(error, match=words) as refused:
                ask(server.url, api_key_env="OUR_KEY", concurrency=1)
            assert refused.value.place == server.url
            assert refused.value.remedy
            assert "s3cret" not in str(refused.value)
        base = sum(r.body["model"] == "base" for r in server.received)
        assert {r.authorization for r in server.received} == {"Bearer s3cret"}
        refusal.clear()
        answers = ask(server.url)
        assert answers.resumed >= 6
        assert sum(r.body["model"] == "base" for r in server.received) == 12 >= base
        assert answers.failed == 0
    monkeypatch.delenv("OUR_KEY")
    with pytest.raises(CredentialError, match="OUR_KEY is not set"):
        ask("http://127.0.0.1:9/v1", api_key_env="OUR_KEY")


def test_no_server_and_no_completions_are_said_at_once(ask: Callable[..., Answers]) -> None:
    with pytest.raises(EndpointError, match="cannot be reached"):
        ask("http://127.0.0.1:9/v1")
    with ChatServer(lambda _: Garbage()) as server:
        answers = ask(server.url)
    assert answers.failed == len(answers.rows)
    assert (
        "not a completion: content type text/html; no JSON: b'<html>it works!</html>' "
        "(check generate.server.base_url: on most servers it ends in /v1)"
    ) in {a.error for a in answers.rows}


def test_a_server_that_goes_away_leaves_counted_failures_and_what_it_said(
    ask: Callable[..., Answers],
) -> None:
    """It closes connections in the middle of answers, for good; the next run asks for the rest."""
    said = itertools.count()
    gone = 5

    def reply(_: dict[str, Any]) -> Behaviour:
        return says("well") if next(said) < gone else Truncated()

    with ChatServer(reply) as server:
        first = ask(server.url)
        kept = sum(a.stop is not Stop.ERROR for a in first.rows)
        assert (kept, first.failed) == (5, 19)
        asked = [a.error for a in first.rows if a.error and "not asked" not in a.error]
        assert asked
        assert all(str(e).startswith("no connection: ") for e in asked)
        gone = 10**6
        second = ask(server.url)
    assert (second.resumed, second.failed) == (5, 0)


def test_another_recipe_finds_no_answer_of_this_one(
    ask: Callable[..., Answers], tmp_path: Path
) -> None:
    """Over the same journal: temperature, stops and the name of a model; and back again."""
    with ChatServer(lambda _: says("well")) as server:
        first = ask(server.url)
        for changed in (
            {"temperature": 0.5},
            {"stops": Stops(strings=("x",))},
            {"base": "b2", "adapters": ("t2",)},
        ):
            assert ask(server.url, **changed).resumed == 0
        again = ask(server.url)
        assert (again.resumed, again.rows) == (24, first.rows)
        assert len(server.received) == 4 * 24
    lines = (tmp_path / "answers.journal.jsonl").read_bytes().splitlines()
    assert len({json.loads(line)["key"] for line in lines}) == len(lines) == 4 * 24


def test_names_of_served_models() -> None:
    server = Server(base_url="http://h/v1", base="b", adapters=("one", "two"))
    assert served_name(server, BASE) == "b"
    assert served_name(server, Respondent(Arm.FAIR_BASE)) == "b"
    assert served_name(server, Respondent(Arm.TUNED, 2)) == "two"
    for who, place in ((Respondent(Arm.TUNED, 3), "adapters"), (PLACEBO, "placebo")):
        with pytest.raises(EndpointError, match=f"generate.server.{place}"):
            served_name(server, who)


def test_a_prompt_goes_as_text_only_where_it_comes_back(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    (ids,) = token_ids(tokenizer, ["red green\n\nblue"])
    text = as_text(tokenizer, ids)
    assert text == "red green\n\nblue"
    # A word cut in two tokens where the tokenizer would take one; and a second BOS.
    pieces = [tokenizer("r", add_special_tokens=False)["input_ids"],
              tokenizer("ed", add_special_tokens=False)["input_ids"]]  # fmt: skip
    assert as_text(tokenizer, [ids[0], *pieces[0], *pieces[1]]) is None
    assert as_text(tokenizer, ids[1:]) is None


def test_special_tokens_end_an_answer_by_their_text(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, prompts: list[Prompt]
) -> None:
    """A server that takes text is told of stop tokens by what they are written as."""
    asking = ChatAsking(tokenizer)
    asking.encode = TemplateAsking(tokenizer, TEMPLATE).encode  # type: ignore[method-assign]
    with ChatServer(lambda _: says("red")) as server:
        ask_server(
            [Interview(who=BASE, asking=asking, prompts=tuple(prompts[:1]), weights="w")],
            Generate(
                backend="completions",
                server=Server(base_url=server.url, base="b", adapters=(), prompts="text"),
            ),
            tokenizer,
            seed=1,
            journal_file=tmp_path / "j.jsonl",
            reporter=SilentReporter(),
        )
    assert server.received[0].body["stop"] == ["<unk>", "<s>", "</s>"]
    assert "stop_token_ids" not in server.received[0].body


def test_a_server_that_only_fails_is_given_up(
    ask: Callable[..., Answers], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After so many failures in a row; prompts that it refuses are none, however many."""
    monkeypatch.setattr("tuneproof.generate.served.IN_A_ROW", 4)
    with ChatServer(lambda _: Status(400, "too long")) as server:
        assert ask(server.url).failed == 24
    said = itertools.count()
    with ChatServer(lambda _: says("well") if next(said) < 3 else Garbage()) as server:
        with pytest.raises(EndpointError, match="4 requests in a row failed; the last: not a comp"):
            ask(server.url, concurrency=1)
        said = itertools.count(-99)
        assert ask(server.url).resumed == 3


def test_a_prompt_that_the_server_cuts_is_a_counted_failure(ask: Callable[..., Answers]) -> None:
    """A context of seven tokens; and a server that counts nothing."""
    with ChatServer(lambda b: says("red", read=min(len(b["prompt"]), 7))) as server:
        answers = ask(server.url)
    cut = [a for a in answers.rows if a.n_prompt_tokens > 7]
    assert 0 < len(cut) < len(answers.rows)
    failed = [a for a in answers.rows if a.stop is Stop.ERROR]
    assert cut == [a for a in failed if not str(a.error).startswith("not asked")]
    n = cut[0].n_prompt_tokens
    assert cut[0].error == (
        f"prompt changed by the server: of {n} tokens the server read 7: it cuts prompts"
    )
    assert answers.failed == len(failed)
    with ChatServer(lambda _: says("red", read=0)) as server:
        assert ask(server.url).failed == 0


def test_a_second_bos_is_found_and_ends_the_run(
    ask: Callable[..., Answers],
    tokenizer: PreTrainedTokenizerBase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is before every prompt, so that no answer is one."""
    monkeypatch.setattr("tuneproof.generate.served.IN_A_ROW", 4)

    def reply(body: dict[str, Any]) -> Behaviour:
        return says("red", read=1 + len(tokenizer(body["prompt"])["input_ids"]))

    with (
        ChatServer(reply) as server,
        pytest.raises(EndpointError, match=r"4 requests in a row.*a second BOS perhaps") as caught,
    ):
        ask(server.url, prompts="text")
    assert "generate.server.prompts=tokens" in caught.value.remedy


def test_a_rate_limit_slows_and_loses_nothing(ask: Callable[..., Answers]) -> None:
    """Four requests in a tenth of a second, and no more: what is beyond is told to wait."""
    let_in: list[float] = []

    def reply(_: dict[str, Any]) -> Behaviour:
        now = time.monotonic()
        let_in[:] = [t for t in let_in if now - t < 0.1]
        if len(let_in) >= 4:
            return Status(429, "slow down", headers={"retry-after-ms": "100"})
        let_in.append(now)
        return says("well")

    with ChatServer(reply) as server:
        answers = ask(server.url, concurrency=32)
    assert answers.failed == 0
    assert {a.text for a in answers.rows} == {"well"}


def test_a_server_that_drips_ends_at_the_timeout(ask: Callable[..., Answers]) -> None:
    """A byte now and then is no reply, and does not begin the time anew."""
    first = itertools.count()
    with ChatServer(lambda _: Drip() if next(first) < 2 else says("well")) as server:
        answers = ask(server.url, timeout_s=0.5, concurrency=1)
    failed = [a.error for a in answers.rows if a.stop is Stop.ERROR and a.turn == 1]
    assert failed == ["timeout: no reply within 0.5 s"]


def test_a_used_up_quota_is_not_asked_again(ask: Callable[..., Answers]) -> None:
    said = itertools.count()

    def reply(_: dict[str, Any]) -> Behaviour:
        return says("well") if next(said) < 5 else Status(429, "pay", "insufficient_quota")

    with ChatServer(reply) as server:
        with pytest.raises(EndpointError, match="quota is used up"):
            ask(server.url, concurrency=4)
        assert len(server.received) < 5 + 2 * 4


def test_a_server_that_turns_all_away_for_long_is_given_up(
    ask: Callable[..., Answers], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuneproof.generate.served.PATIENCE_S", 0.2)
    with (
        ChatServer(lambda _: Status(429, "not now", headers={"retry-after-ms": "20"})) as server,
        pytest.raises(EndpointError, match="no reply for 0 minutes; the last: HTTP 429: not now"),
    ):
        ask(server.url)


def test_failures_are_told_by_their_reason() -> None:
    def answer(error: str | None) -> Answer:
        return Answer(
            key="k", question_id="q", benchmark="b", arm=Arm.BASE, text="", n_prompt_tokens=1,
            stop=Stop.ERROR if error else Stop.EOS, n_tokens=0, error=error,
        )  # fmt: skip

    long = [f"prompt of {n} tokens and 8 new ones exceed the context of 64" for n in (99, 70)]
    assert failure_lines([answer(None)], again=False) == []
    assert failure_lines([answer(None), *map(answer, [*"abcdde", *long, *long])], again=True) == [
        "10 of 11 answers failed; run again to ask again",
        f"  4 × {long[0]}",
        "  2 × d",
        "  1 × a",
        "  1 × b",
        "  2 × other",
    ]
