"""A judge asked n numbered questions through ``ask_all``, with journals in a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuneproof.judge.asking import Asked, Journals, Request, ask_all
from tuneproof.judge.clients import RATINGS_JOURNAL
from tuneproof.progress import SilentReporter
from tuneproof.recipe import Judge
from tuneproof.records import Arm, Judgment, Rating, preferred
from tuneproof.workspace import Journal, read_records

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from tuneproof.judge.clients import Reply
    from tuneproof.progress import Reporter

MAX_TOKENS = 10


def judge(url: str, **more: Any) -> Judge:
    section: dict[str, Any] = {"base_url": url, "api_key_env": None, "model": "m"}
    return Judge(**section | {"timeout_s": 10.0} | more)


def body(i: int) -> dict[str, Any]:
    return {
        "model": "m",
        "messages": [{"role": "user", "content": f"question {i}"}],
        "max_tokens": MAX_TOKENS,
    }


def number(request: dict[str, Any]) -> int:
    """The i of a request's body."""
    return int(request["messages"][0]["content"].split()[1])


def request(i: int) -> Request:
    def row(reply: Reply) -> Judgment:
        prefers = preferred({"A": 1.0, "B": 0.0}.get(reply.text))
        unparsed = None if prefers else "neither A nor B"
        return Judgment(
            key=f"k{i}", question_id=f"q{i}", benchmark="heldout", opponent=Arm.BASE, protocol="p",
            judge="m", first=Arm.BASE, prefers=prefers, unparsed=unparsed,
            reply=reply.text, finish_reason=reply.finish_reason,
            prompt_tokens=reply.prompt_tokens, completion_tokens=reply.completion_tokens,
        )  # fmt: skip

    return Request(key=f"k{i}", body=lambda: body(i), row=row)


def ask(
    folder: Path,
    judge: Judge,
    numbers: Iterable[int],
    reporter: Reporter | None = None,
) -> Asked:
    return ask_requests(folder, judge, [request(i) for i in numbers], reporter)


def ask_requests(
    folder: Path,
    judge: Judge,
    requests: Sequence[Request],
    reporter: Reporter | None = None,
) -> Asked:
    with (
        Journal(folder / "journal.jsonl", Judgment) as judgments,
        Journal(folder / RATINGS_JOURNAL, Rating) as ratings,
    ):
        return ask_all(
            judge,
            requests,
            Journals(judgments=judgments, ratings=ratings),
            reporter or SilentReporter(),
        )


def recorded(folder: Path) -> list[Judgment]:
    return read_records(folder / "journal.jsonl", Judgment)
