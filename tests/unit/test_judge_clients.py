"""The clients, against a real server on loopback."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes import (
    Behaviour,
    ChatServer,
    Close,
    Drip,
    Garbage,
    Hang,
    Says,
    Status,
    Truncated,
)
from tuneproof.endpoint.transport import Failed
from tuneproof.errors import CredentialError, EndpointError, RecipeError, StageError
from tuneproof.judge.clients import (
    ReplayClient,
    Reply,
    check,
    endpoint,
    make_client,
)
from tuneproof.judge.openai_client import OpenAIClient
from tuneproof.recipe import Judge
from tuneproof.records import Arm, Judgment
from tuneproof.workspace import write_records

if TYPE_CHECKING:
    from pathlib import Path

BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}


def judge(url: str | None, **more: Any) -> Judge:
    return Judge(**{"base_url": url, "api_key_env": None, "model": "m", "timeout_s": 10.0} | more)


def ask(server: ChatServer, *, times: int = 1, **more: Any) -> Any:
    async def go() -> Any:
        async with OpenAIClient(judge(server.url, **more)) as client:
            return [await client.ask(BODY, key="k") for _ in range(times)]

    replies = asyncio.run(go())
    return replies[0] if times == 1 else replies


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


def test_a_reply_with_its_costs() -> None:
    with ChatServer(lambda _: Says("VERDICT: A", "stop", 12, 3)) as server:
        assert ask(server) == Reply(
            text="VERDICT: A", finish_reason="stop", prompt_tokens=12, completion_tokens=3
        )
        (received,) = server.received
    assert received.body == BODY
    assert received.path == "/v1/chat/completions"


def test_probabilities_are_asked_for_and_come_back() -> None:
    wanted = BODY | {"logprobs": True, "top_logprobs": 5, "top_p": 1.0, "temperature": 1}
    likely = (("m", -0.25), ("M", -1.5))

    def asked(server: ChatServer) -> Any:
        async def go() -> Any:
            async with OpenAIClient(judge(server.url)) as client:
                return await client.ask(wanted, key="k")

        return asyncio.run(go())

    with ChatServer(lambda _: Says("m", "length", top_logprobs=likely)) as server:
        assert asked(server).top_logprobs == likely
        assert server.received[0].body == wanted
    with ChatServer(lambda _: Says("m", "length", top_logprobs=())) as server:
        assert asked(server).top_logprobs is None


@pytest.mark.parametrize(
    ("logprobs", "found"),
    [
        (b"null", None),
        (b'{"content": null}', None),
        (b'{"content": []}', None),
        (b'{"content": [{"token": "m", "logprob": -1}]}', None),
        (b'{"content": [{"token": "m", "logprob": -1, "top_logprobs": []}]}', ()),
        (
            b'{"content": [{"top_logprobs": [{"token": "m", "logprob": -1},'
            b' {"token": "M", "logprob": -Infinity}]}, {"top_logprobs": []}]}',
            (("m", -1.0),),
        ),
    ],
)
def test_only_the_first_tokens_finite_probabilities_are_kept(logprobs: bytes, found: Any) -> None:
    body = b'{"choices": [{"message": {"content": "m"}, "logprobs": ' + logprobs + b"}]}"
    with ChatServer(lambda _: Garbage(body, "application/json")) as server:
        assert ask(server).top_logprobs == found


def test_a_reply_without_usage_or_finish_reason() -> None:
    with ChatServer(lambda _: Says("x", None, None)) as server:
        assert ask(server) == Reply(text="x")


@pytest.mark.parametrize(
    ("behaviour", "again", "turned_away", "may_cost"),
    [
        (Status(408), True, False, False),
        (Status(409), True, False, False),
        (Status(429), True, True, False),
        (Status(500), True, False, False),
        (Status(503), True, True, False),
        (Status(400), False, False, False),
        (Status(413), False, False, False),
        (Status(422), False, False, False),
        (Garbage(), True, False, True),
        (Close(), True, False, True),
        (Truncated(), True, False, True),
        (Says(None, "stop"), True, False, True),
    ],
)
def test_what_may_succeed_when_it_is_sent_again(
    behaviour: Behaviour, again: bool, turned_away: bool, may_cost: bool
) -> None:
    with ChatServer(lambda _: behaviour) as server:
        failed = ask(server)
        assert len(server.received) == 1  # the library sends nothing by itself
    assert isinstance(failed, Failed)
    assert (failed.again, failed.turned_away, failed.may_cost) == (again, turned_away, may_cost)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
    ],
)
def test_how_long_the_endpoint_wants_to_be_left_alone(
    headers: dict[str, str], wait_s: float | None
) -> None:
    with ChatServer(lambda _: Status(429, headers=headers)) as server:
        assert ask(server).wait_s == wait_s


def test_a_date_to_come_back_at_is_read_by_the_endpoints_own_clock() -> None:
    at = formatdate(time.time() + 60, usegmt=True)
    with ChatServer(lambda _: Status(429, headers={"retry-after": at})) as server:
        wait_s = ask(server).wait_s
    assert wait_s is not None
    assert 55 < wait_s <= 60


def test_a_refused_connection_costs_nothing() -> None:
    async def go() -> Any:
        async with OpenAIClient(judge(f"http://127.0.0.1:{closed_port()}/v1")) as client:
            return await client.ask(BODY, key="k")

    failed = asyncio.run(go())
    assert (failed.reason, failed.again, failed.may_cost) == ("no connection", True, False)


def test_a_refusal_is_counted_by_its_code() -> None:
    with ChatServer(lambda _: Status(400, "too long", "context_length_exceeded")) as server:
        failed = ask(server)
    assert failed == Failed(
        "HTTP 400, context_length_exceeded", "too long", unfit=True, wait_s=failed.wait_s
    )


def test_a_page_in_the_place_of_a_reply_names_the_address() -> None:
    with ChatServer(lambda _: Garbage()) as server:
        detail = ask(server).detail
    assert "content type text/html; no JSON: b'<html>it works!" in detail
    assert "check judge.base_url: on most servers it ends in /v1" in detail


@pytest.mark.parametrize(
    "body",
    [
        b'{"error": {"message": "upstream is\\n overloaded", "code": 502}}',
        b'{"error": "upstream is overloaded"}',
    ],
)
def test_an_error_with_status_200_is_told_in_the_servers_words(body: bytes) -> None:
    with ChatServer(lambda _: Garbage(body, "application/json")) as server:
        failed = ask(server)
    assert (failed.reason, failed.detail) == ("not a chat completion", "upstream is overloaded")
    assert failed.again


def test_a_reply_in_drops_is_a_failure_after_the_timeout() -> None:
    with ChatServer(lambda _: Drip()) as server:
        failed = ask(server, timeout_s=0.5)
    assert (failed.reason, failed.timed_out) == ("timeout", True)


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (Status(429), "HTTP 429"),
        (Status(500), "HTTP 500"),
        (Status(503), "HTTP 503"),
        (Status(400, "too long"), "HTTP 400"),
        (Close(), "no connection"),
        (Garbage(), "not a chat completion"),
        (Garbage(b"{broken", "application/json"), "not a chat completion"),
        (Garbage(b"\xff\xfe", "application/json"), "not a chat completion"),
        (Garbage(b"[1]", "application/json"), "not a chat completion"),
        (Garbage(b"null", "application/json"), "not a chat completion"),
        (Garbage(b'{"choices": []}', "application/json"), "not a chat completion"),
        (Garbage(b'{"choices": ["a"]}', "application/json"), "not a chat completion"),
        (Garbage(b'{"choices": [{"message": {"content": 5}}]}', "x/y"), "not a chat completion"),
        (Garbage(b'{"error": {"message": "x"}}', "application/json"), "not a chat completion"),
        (Garbage(b"[" * 200_000, "application/json"), "not a chat completion"),
        (Says(None, "stop"), "no text in the completion"),
    ],
)
def test_one_request_fails_as_a_value(behaviour: Any, reason: str) -> None:
    with ChatServer(lambda _: behaviour) as server:
        failed = ask(server)
    assert isinstance(failed, Failed)
    assert failed.reason == reason


def test_a_hanging_server_is_a_failure_after_the_timeout() -> None:
    with ChatServer(lambda _: Hang()) as server:
        failed = ask(server, timeout_s=0.2)
    assert (failed.reason, failed.detail) == ("timeout", "no reply within 0.2 s")
    assert (failed.again, failed.timed_out, failed.may_cost) == (True, True, True)


def test_empty_texts_that_say_why_are_replies() -> None:
    with ChatServer(lambda _: Says(None, "length")) as server:
        assert ask(server) == Reply(
            text="", finish_reason="length", prompt_tokens=100, completion_tokens=10
        )
    with ChatServer(lambda _: Says("")) as server:
        assert ask(server).text == ""


def test_a_refusal_and_half_a_surrogate_pair_are_text() -> None:
    body = b'{"choices": [{"message": {"content": null, "refusal": "no \\ud800"}}]}'
    with ChatServer(lambda _: Garbage(body, "application/json")) as server:
        assert ask(server) == Reply(text="no ?")


@pytest.mark.parametrize(
    ("behaviour", "error", "words"),
    [
        (Status(401, "bad key"), CredentialError, "refuses the key.*401.*bad key"),
        (Status(403), CredentialError, "403"),
        (Status(404, "no such model"), EndpointError, "does not know the model 'm'.*404"),
        (Status(400, "?", "model_not_found"), EndpointError, "does not know the model 'm'"),
        (Status(403, "not yours", "model_not_found"), EndpointError, "model 'm'.*403.*not yours"),
        (Status(429, "pay", "insufficient_quota"), EndpointError, "quota is used up"),
        (Status(402, "pay"), EndpointError, "quota is used up"),
    ],
)
def test_what_no_further_request_could_mend_is_raised(
    behaviour: Status, error: type[Exception], words: str
) -> None:
    with ChatServer(lambda _: behaviour) as server, pytest.raises(error, match=words):
        ask(server)


def test_the_key_comes_from_the_named_variable_and_stays_out_of_messages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("THE_KEY", "sk-secret\n")
    with ChatServer(lambda _: Status(401, "no such key: sk-secret")) as server:
        with pytest.raises(CredentialError) as caught:
            ask(server, api_key_env="THE_KEY")
        assert server.received[0].authorization == "Bearer sk-secret"
    assert "sk-secret" not in str(caught.value)
    assert "THE_KEY" in str(caught.value)


def test_openais_key_and_address_never_leak_in_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    with ChatServer(lambda _: "fine") as server:
        assert ask(server).text == "fine"
        assert "sk-secret" not in str(server.received[0].authorization)
    assert endpoint(Judge()) == "https://api.openai.com/v1"


def test_openai_is_asked_at_its_own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    # A proxy that is not there: whatever is meant for OpenAI fails, and reaches nobody.
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{closed_port()}")
    with ChatServer(lambda _: "never") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)

        async def go() -> Any:
            async with OpenAIClient(judge(None)) as client:
                return await client.ask(BODY, key="k")

        failed = asyncio.run(go())
        assert server.received == []
    assert isinstance(failed, Failed)
    assert failed.reason == "no connection"


@pytest.mark.parametrize("value", [None, "", "  ", "schlüssel", "two words"])
def test_no_usable_key(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("THE_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("THE_KEY", value)
    with ChatServer(lambda _: "never") as server:
        named = judge(server.url, api_key_env="THE_KEY")
        with pytest.raises(CredentialError, match="THE_KEY"):
            check(named)
        with pytest.raises(CredentialError, match="api_key_env=null"):
            make_client(named)
        assert server.received == []


def test_check_connects_and_sends_nothing() -> None:
    with ChatServer(lambda _: "never") as server:
        check(judge(server.url))
        check(judge(server.url + "/"))
        assert server.received == []


def test_check_names_the_address_and_a_remedy() -> None:
    url = f"http://127.0.0.1:{closed_port()}/v1"
    with pytest.raises(EndpointError) as caught:
        check(judge(url))
    assert url in str(caught.value)
    assert "Start the server" in caught.value.remedy


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8000",
        "ftp://host/v1",
        "http://",
        "http://host:port/v1",
        "http://h:99999",
        "http://[::1",
    ],
)
def test_check_wants_an_http_address(url: str) -> None:
    with pytest.raises(EndpointError, match="expected an address"):
        check(judge(url))


def test_check_goes_through_the_proxy_that_requests_would(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    port = closed_port()
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    with pytest.raises(EndpointError, match=f"through the proxy 127.0.0.1:{port}"):
        check(judge("http://judge.invalid/v1"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ChatServer(lambda _: "never") as server:
        check(judge(server.url))


def test_replay(tmp_path: Path) -> None:
    recorded = Judgment(
        key="k", question_id="q", benchmark="heldout", opponent=Arm.BASE, protocol="p", judge="m",
        first=Arm.BASE, prefers="A",
        reply="VERDICT: A", finish_reason="stop", prompt_tokens=1, completion_tokens=2,
    )  # fmt: skip
    path = tmp_path / "journal.jsonl"
    write_records(path, [recorded])
    client = make_client(Judge(kind="replay", journal=str(path)))
    assert isinstance(client, ReplayClient)
    assert asyncio.run(client.ask({}, key="k")) == Reply(
        text="VERDICT: A", finish_reason="stop", prompt_tokens=1, completion_tokens=2
    )
    assert asyncio.run(client.ask({}, key="other")) == Failed("not in the recorded journal")


def test_replay_of_a_missing_or_broken_journal(tmp_path: Path) -> None:
    absent = Judge(kind="replay", journal=str(tmp_path / "none.jsonl"))
    with pytest.raises(RecipeError, match="no such file"):
        check(absent)
    broken = tmp_path / "broken.jsonl"
    broken.write_text("{}\n")
    with pytest.raises(StageError, match=r"broken\.jsonl:1"):
        make_client(Judge(kind="replay", journal=str(broken)))


def test_importing_the_package_does_not_import_openai() -> None:
    code = (
        "import sys, tuneproof.judge.stage, tuneproof.stats.summary, tuneproof.stats.verdict;"
        "print([m for m in ('openai', 'scipy', 'numpy', 'sacrebleu') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
