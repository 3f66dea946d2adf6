"""The Batch API against an imitation on loopback: files, batches, what fails, and coming back."""

from __future__ import annotations

import json
import re
import threading
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import pytest

from tests.fakes import ChatServer
from tests.unit.judge_case import ask, judge, number, recorded
from tests.unit.test_judge_asking import ONE, PRICES, WORST, Hearing, says
from tuneproof.errors import CredentialError, EndpointError, RecipeError, StageError
from tuneproof.judge import batch as batches
from tuneproof.records import BatchEvent
from tuneproof.workspace import read_records, write_records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class BatchServer:
    """OpenAI's /files and /batches, in memory. ``received`` counts requests by method and path.

    ``answer`` says what becomes of one request: a text is a completion; a number an HTTP status in
    the error file; None the request that a batch which expires did not come to. ``polls`` is how
    many looks at a batch find it at work; ``status`` its state in the end.
    """

    def __init__(
        self,
        answer: Callable[[int], str | int | None] = lambda _: "A",
        *,
        polls: int = 1,
        status: str = "completed",
        errors: tuple[tuple[str, str], ...] = (),
        refuse: dict[str, int] | None = None,
    ) -> None:
        self.answer, self.polls, self.status, self.errors = answer, polls, status, errors
        self.refuse = refuse or {}
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.looks: dict[str, int] = {}
        self.received: list[str] = []
        self.sold = 0
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                self._answer()

            def _answer(self) -> None:
                raw = self.rfile.read(int(self.headers.get("content-length", 0)))
                path = self.path.partition("?")[0].removeprefix("/v1")
                what = f"{self.command} {re.sub(r'/(file|batch)_[a-z0-9_]+', '/ID', path)}"
                owner.received.append(what)
                status, body = owner.handle(what, path, raw, self.headers.get("content-type", ""))
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.send_header("retry-after-ms", "1")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Silence."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def handle(self, what: str, path: str, raw: bytes, content_type: str) -> tuple[int, bytes]:
        if what in self.refuse:
            said = {"error": {"message": f"no {what}", "code": None, "type": "test"}}
            return self.refuse[what], json.dumps(said).encode()
        if what == "POST /files":
            return 200, self._upload(raw, content_type)
        if what == "POST /batches":
            return 200, self._make(json.loads(raw))
        if what == "GET /batches":
            listed = {"object": "list", "data": list(self.batches.values()), "has_more": False}
            return 200, json.dumps(listed).encode()
        name = path.split("/")[2]
        if what == "GET /batches/ID" and name in self.batches:
            return 200, json.dumps(self._look(name)).encode()
        if what == "GET /files/ID/content" and name in self.files:
            return 200, self.files[name]
        return 404, json.dumps({"error": {"message": "no such thing", "type": "t"}}).encode()

    def _upload(self, raw: bytes, content_type: str) -> bytes:
        form = BytesParser().parsebytes(b"content-type: " + content_type.encode() + b"\n\n" + raw)
        parts: dict[str, Any] = {}
        for part in form.get_payload():
            assert not isinstance(part, str)
            name = part.get_param("name", header="content-disposition")
            parts[str(name)] = part.get_payload(decode=True)
        assert parts["purpose"] == b"batch"
        return self._keep(parts["file"])

    def _keep(self, content: bytes) -> bytes:
        name = f"file_{len(self.files)}"
        self.files[name] = content
        return json.dumps(
            {"id": name, "object": "file", "bytes": len(content), "created_at": 0,
             "filename": "x.jsonl", "purpose": "batch", "status": "processed"}
        ).encode()  # fmt: skip

    def _make(self, asked: dict[str, Any]) -> bytes:
        assert asked["endpoint"] == "/v1/chat/completions"
        assert asked["completion_window"] == "24h"
        name = f"batch_{len(self.batches)}"
        lines = self.files[asked["input_file_id"]].splitlines()
        self.looks[name] = 0
        self.batches[name] = {
            "id": name, "object": "batch", "endpoint": asked["endpoint"], "created_at": 0,
            "input_file_id": asked["input_file_id"], "completion_window": "24h",
            "metadata": asked["metadata"], "status": "in_progress",
            "request_counts": {"total": len(lines), "completed": 0, "failed": 0},
        }  # fmt: skip
        return json.dumps(self.batches[name]).encode()

    def _look(self, name: str) -> dict[str, Any]:
        self.looks[name] += 1
        batch = self.batches[name]
        if self.looks[name] <= self.polls or batch["status"] != "in_progress":
            return batch
        batch["status"] = self.status
        if self.status == "failed":
            data = [{"code": code, "message": message} for code, message in self.errors]
            batch["errors"] = {"object": "list", "data": data}
            return batch
        out: list[dict[str, Any]] = []
        wrong: list[dict[str, Any]] = []
        for line in self.files[batch["input_file_id"]].splitlines():
            asked = json.loads(line)
            assert (asked["method"], asked["url"]) == ("POST", "/v1/chat/completions")
            self._answer_line(asked, out, wrong)
        for kind, lines in (("output_file_id", out), ("error_file_id", wrong)):
            if lines:
                content = "".join(json.dumps(one) + "\n" for one in lines).encode()
                batch[kind] = json.loads(self._keep(content))["id"]
        return batch

    def _answer_line(
        self, asked: dict[str, Any], out: list[dict[str, Any]], wrong: list[dict[str, Any]]
    ) -> None:
        said = self.answer(number(asked["body"]))
        line: dict[str, Any] = {"id": "x", "custom_id": asked["custom_id"], "error": None}
        if said is None:
            error = {"code": "batch_expired", "message": "could not be executed in time"}
            wrong.append(line | {"response": None, "error": error})
        elif isinstance(said, int):
            refusal = {"error": {"message": "too long"}}
            wrong.append(line | {"response": {"status_code": said, "body": refusal}})
        else:
            self.sold += 1
            message = {"role": "assistant", "content": said}
            body = {
                "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                "usage": {"prompt_tokens": 20, "completion_tokens": 5},
            }
            out.insert(0, line | {"response": {"status_code": 200, "body": body}})  # any order


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "POLL_S", (0.01, 0.01))


def batched(server: BatchServer, **more: Any) -> Any:
    return judge(server.url, **{"batch_api": True, "prices": PRICES} | more)


def test_replies_come_into_the_journal_at_half_the_price(tmp_path: Path) -> None:
    with BatchServer(polls=3) as server:
        asked = ask(tmp_path, batched(server), range(10))
        assert server.received == [
            "POST /files", "POST /batches", *["GET /batches/ID"] * 4, "GET /files/ID/content",
        ]  # fmt: skip
        assert (asked.n_requests, asked.failures) == (10, {})
        assert {r.key for r in recorded(tmp_path)} == {f"k{i}" for i in range(10)}
        assert {r.reply for r in recorded(tmp_path)} == {"A"}
        assert asked.usd == pytest.approx(10 * ONE / 2)
        before = (tmp_path / "journal.jsonl").read_bytes()
        # Again: nothing is asked. And one by one: what the batch cost stays half.
        assert ask(tmp_path, batched(server), range(10)).n_requests == 0
        assert ask(tmp_path, batched(server, batch_api=False), range(10)).usd == pytest.approx(
            10 * ONE / 2
        )
        assert len(server.received) == 7
    assert (tmp_path / "journal.jsonl").read_bytes() == before


def test_some_fail_and_are_asked_again_by_the_next_run(tmp_path: Path) -> None:
    with BatchServer(lambda i: 400 if i in (2, 3) else "A") as server:
        asked = ask(tmp_path, batched(server), range(6))
        assert asked.failures == {"HTTP 400": 2}
        assert len(recorded(tmp_path)) == 4
        server.answer = lambda _: "B"
        asked = ask(tmp_path, batched(server), range(6))
        assert (asked.n_requests, asked.failures) == (2, {})
        assert len(server.batches) == 2
        assert server.sold == 6
    assert sorted(r.reply for r in recorded(tmp_path)) == ["A"] * 4 + ["B"] * 2


def test_what_an_expired_batch_answered_is_kept(tmp_path: Path) -> None:
    with BatchServer(lambda i: "A" if i < 30 else None, status="expired") as server:
        # However many expire: they failed with the batch, not one after another.
        asked = ask(tmp_path, batched(server), range(60))
        assert asked.failures == {"batch: batch_expired": 30}
        assert len(recorded(tmp_path)) == 30
        assert asked.unsure_usd == 0
        server.status, server.answer = "completed", lambda _: "A"
        asked = ask(tmp_path, batched(server), range(60))
        assert (asked.n_requests, asked.failures, server.sold) == (30, {}, 60)


def test_requests_that_are_in_neither_file_have_failed(tmp_path: Path) -> None:
    with BatchServer(status="cancelled") as server:
        server._answer_line = lambda *_: None  # type: ignore[method-assign]
        with pytest.raises(EndpointError, match="all 3 requests failed; the last: batch cancelled"):
            ask(tmp_path, batched(server), range(3))


def stop_at(server: BatchServer, what: str) -> None:
    """Let the client lose its endpoint for good at a kind of request."""
    server.refuse[what] = 400


def test_a_stopped_run_finds_its_batch_again(tmp_path: Path) -> None:
    with BatchServer() as server:
        stop_at(server, "GET /batches/ID")
        with pytest.raises(EndpointError, match="HTTP 400") as caught:
            ask(tmp_path, batched(server), range(8))
        assert "the batch goes on" in caught.value.remedy
        server.refuse.clear()
        # Days later, with two questions more.
        asked = ask(tmp_path, batched(server), range(10))
        assert len(server.batches) == 2
        assert (asked.failures, server.sold) == ({}, 10)
    assert asked.usd == pytest.approx(10 * ONE / 2)


def test_one_killed_between_two_lines_takes_the_rest_from_the_same_file(tmp_path: Path) -> None:
    with BatchServer() as server:
        ask(tmp_path, batched(server), range(8))
        journal = tmp_path / "journal.jsonl"
        journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:3]) + b'{"k')
        asked = ask(tmp_path, batched(server), range(8))
        assert (len(server.batches), server.sold, asked.failures) == (1, 8, {})
    assert {r.key for r in recorded(tmp_path)} == {f"k{i}" for i in range(8)}


def test_a_batch_whose_name_was_not_written_down_is_found_by_its_tag(tmp_path: Path) -> None:
    log = tmp_path / batches.BATCHES_JOURNAL
    with BatchServer() as server:
        ask(tmp_path, batched(server), range(5))
        # As a kill leaves it between the endpoint's answer and our line, and before any reply.
        events = read_records(log, BatchEvent)
        assert [e.event for e in events] == ["planned", "made", "ended"]
        write_records(log, events[:1])
        (tmp_path / "journal.jsonl").unlink()
        ask(tmp_path, batched(server), range(5))
        assert len(server.batches) == 1
        assert "GET /batches" in server.received
        # And one that was planned but never made is made.
        write_records(log, [events[0].model_copy(update={"tag": "other", "key": "other/planned"})])
        (tmp_path / "journal.jsonl").unlink()
        ask(tmp_path, batched(server), range(5))
        assert len(server.batches) == 2
    assert len(recorded(tmp_path)) == 5


def begun(tmp_path: Path, server: BatchServer, n: int) -> None:
    """A batch that is at work, and a run that was stopped."""
    stop_at(server, "GET /batches/ID")
    with pytest.raises(EndpointError):
        ask(tmp_path, batched(server), range(n))
    server.refuse.clear()


def test_a_batch_that_the_key_does_not_see_is_kept_until_it_is_given_up(tmp_path: Path) -> None:
    """Another project's key: the batch is there, and paid for."""
    log = tmp_path / batches.BATCHES_JOURNAL
    with BatchServer() as server:
        begun(tmp_path, server, 4)
        server.refuse["GET /batches/ID"] = 404
        with pytest.raises(EndpointError, match="does not know the batch batch_0") as caught:
            ask(tmp_path, batched(server), range(4))
        server.refuse.clear()
        tag = read_records(log, BatchEvent)[0].tag
        assert f"delete the lines with {tag} from {log}" in caught.value.remedy
        assert ask(tmp_path, batched(server), range(4)).failures == {}
        assert (len(server.batches), server.sold) == (1, 4)

        # One that really is gone, given up as the message says.
        begun(tmp_path / "b", server, 4)
        server.batches.clear()
        log = tmp_path / "b" / batches.BATCHES_JOURNAL
        with pytest.raises(EndpointError, match="does not know the batch"):
            ask(tmp_path / "b", batched(server), range(4))
        log.write_text("")
        assert ask(tmp_path / "b", batched(server), range(4)).failures == {}


def test_a_batch_at_work_is_not_asked_one_by_one_too(tmp_path: Path) -> None:
    with BatchServer() as server:
        begun(tmp_path, server, 4)
        with pytest.raises(RecipeError, match="may be at work on 4 of the requests") as caught:
            ask(tmp_path, batched(server, batch_api=False), range(6))
        assert "--set judge.batch_api=true" in caught.value.remedy
        assert ask(tmp_path, batched(server), range(4)).usd == pytest.approx(4 * ONE / 2)
    with ChatServer(says) as singly:
        # Each reply at the price of the way it came, in every later run.
        for _ in range(2):
            usd = ask(tmp_path, judge(singly.url, prices=PRICES), range(6)).usd
            assert usd == pytest.approx(4 * ONE / 2 + 2 * ONE)


def test_what_a_batch_answered_that_is_not_asked_any_more_is_counted(tmp_path: Path) -> None:
    with BatchServer() as server:
        begun(tmp_path, server, 4)
        assert ask(tmp_path, batched(server), range(3)).usd == pytest.approx(3 * ONE / 2)
        asked = ask(tmp_path, batched(server), range(3))
    assert asked.usd == pytest.approx(3 * ONE / 2)
    assert asked.unsure_usd == pytest.approx(ONE / 2)


def test_a_batch_of_another_recipe_counts_at_its_worst(tmp_path: Path) -> None:
    hearing = Hearing()
    with BatchServer() as server:
        begun(tmp_path, server, 4)
    with ChatServer(says) as singly:
        section = judge(singly.url, prices=PRICES)
        asked = ask(tmp_path, section, range(5, 7), hearing)
        assert asked.unsure_usd == pytest.approx(4 * WORST / 2)
        assert [text for text in hearing.said if "1 earlier batch are" in text] == hearing.said
        section = section.model_copy(update={"budget_usd": 2 * ONE + 2.5 * WORST})
        with pytest.raises(StageError, match=r"up to \$0.0003 for tries"):
            ask(tmp_path, section, range(5, 9))


def test_a_batch_that_is_refused_says_why(tmp_path: Path) -> None:
    errors = (("token_limit_exceeded", "Enqueued token limit reached"),)
    with BatchServer(status="failed", errors=errors) as server:
        with pytest.raises(EndpointError, match=r"token_limit_exceeded\): Enqueued") as caught:
            ask(tmp_path, batched(server), range(4))
        assert "batch_api=false" in caught.value.remedy
        server.status = "completed"
        assert ask(tmp_path, batched(server), range(4)).failures == {}
    with (
        BatchServer(status="failed", errors=(("model_not_found", "what?"),)) as server,
        pytest.raises(EndpointError, match=r"does not know the model 'm'.*: what"),
    ):
        ask(tmp_path / "b", batched(server), range(4))


@pytest.mark.parametrize(
    ("what", "status", "error", "words"),
    [
        ("POST /files", 404, EndpointError, "has no Batch API"),
        ("POST /files", 500, EndpointError, "does not take the batch's file"),
        ("POST /files", 401, CredentialError, "refuses the key"),
        ("POST /batches", 402, EndpointError, "quota is used up"),
        ("GET /files/ID/content", 500, EndpointError, "does not give the batch's file"),
    ],
)
def test_what_the_endpoint_refuses(
    tmp_path: Path, what: str, status: int, error: type[Exception], words: str
) -> None:
    with BatchServer(refuse={what: status}) as server:
        with pytest.raises(error, match=words):
            ask(tmp_path, batched(server), range(4))
        server.refuse.clear()
        assert ask(tmp_path, batched(server), range(4)).failures == {}
        assert server.sold == 4
        assert len(server.batches) == 1


def test_making_a_batch_is_never_tried_twice(tmp_path: Path) -> None:
    with BatchServer(refuse={"POST /batches": 500}) as server:
        with pytest.raises(EndpointError, match="does not say that it made the batch") as caught:
            ask(tmp_path, batched(server), range(4))
        assert server.received.count("POST /batches") == 1
        assert "the batch goes on" not in caught.value.remedy
        # Where it cannot be looked up either, the way out is named.
        server.refuse = {"GET /batches": 404}
        with pytest.raises(EndpointError, match="lists no batches") as caught:
            ask(tmp_path, batched(server), range(4))
        assert "To give it up" in caught.value.remedy


def test_after_a_refusal_to_make_a_batch_there_is_none_to_wait_for(tmp_path: Path) -> None:
    with (
        BatchServer(refuse={"POST /batches": 405}) as server,
        pytest.raises(EndpointError, match="has no Batch API") as caught,
    ):
        ask(tmp_path, batched(server), range(4))
    assert "batch_api=false" in caught.value.remedy
    with ChatServer(says) as singly:
        assert ask(tmp_path, judge(singly.url, prices=PRICES), range(4)).failures == {}


def test_a_budget_splits_what_it_covers_and_then_ends(tmp_path: Path) -> None:
    # A batch counts at its worst: two of half the worst price fit, then what is left of it.
    budget = 2.5 * WORST / 2
    with BatchServer() as server:
        with pytest.raises(StageError, match="are left to ask"):
            ask(tmp_path, batched(server, budget_usd=budget), range(9))
        assert server.sold * ONE / 2 <= budget
        assert server.sold == len(recorded(tmp_path)) >= 3
        more = batched(server, budget_usd=1.0)
        assert ask(tmp_path, more, range(9)).failures == {}
        assert server.sold == 9


def test_limits_of_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_REQUESTS", 3)
    with BatchServer() as server:
        ask(tmp_path, batched(server), range(7))
        counts = [b["request_counts"]["total"] for b in server.batches.values()]
        assert counts == [3, 3, 1]
    monkeypatch.setattr(batches, "MAX_BYTES", 400)
    with BatchServer() as server:
        ask(tmp_path / "b", batched(server), range(3))
        assert [b["request_counts"]["total"] for b in server.batches.values()] == [2, 1]
