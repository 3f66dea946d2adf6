"""Writes the report of a case and reads it as a browser or a Markdown renderer would."""

from __future__ import annotations

import base64
import gzip
import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

from tests.unit import report_case as case
from tuneproof.report import write_report
from tuneproof.report.behaviour import behaviours
from tuneproof.report.cases import build_cases
from tuneproof.report.markdown import render_markdown
from tuneproof.report.page import render_page

if TYPE_CHECKING:
    from pathlib import Path

    from tuneproof.report.cases import Cases
    from tuneproof.results import Results

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    '"><svg onload=alert(3)>',
    "'-alert(4)-'",
    "{{7*7}}{% raw %}",
    "javascript:alert(5)",
    "a\u202egnp.exe",
    "lone\ud800surrogate",
    "nul\x00 esc\x1b[31m",
    "```\n# not a heading\n````text",
    "| a | pipe |",
    "</style></title></textarea>-->",
)
EVIL = "\n".join(HOSTILE)
FILES = ["results.json", "report.md", "index.html", "loss.csv", "loss.svg", "loss.png"]


class Page(HTMLParser):
    """Counts a page's elements and gathers its attributes and its text outside script and style."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: dict[str, int] = {}
        self.attributes: list[tuple[str, str, str]] = []
        self._words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        # No-break spaces read as spaces, in attributes as in ``text``.
        told = [(name, (value or "").replace("\u00a0", " ")) for name, value in attrs]
        self.attributes += [(tag, name, value) for name, value in told]
        if tag in ("script", "style"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1] == tag:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if not self._open:
            self._words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self._words).split())


def data_of(page: str) -> dict[str, Any]:
    """What the page's script reads, unpacked as it does it."""
    (inside,) = re.findall('<script type="application/json" id="cases">(.*?)</script>', page, re.S)
    data: dict[str, Any] = json.loads(inside)
    if "gzip" in data:
        data = json.loads(gzip.decompress(base64.b64decode(data["gzip"])))
    return data


def cases_of(**given: Any) -> Cases:
    """The questions, joined from the case's records."""
    asked = case.arguments(**given)
    names = ("answers", "similarities", "judgments", "preferences")
    return build_cases(asked["prompts"], **{name: asked[name] for name in names})


def write(folder: Path, results: Results | None = None, **changes: Any) -> dict[str, str]:
    """Write a report and read its text files back."""
    paths = write_report(results or case.results(), out=folder, **case.arguments(**changes))
    assert [p.name for p in paths] == FILES
    return {p.name: p.read_text("utf-8") for p in paths if p.suffix != ".png"}


def render(name: str, results: Results, **changes: Any) -> str:
    """One of the two texts, without the figures that take most of the time to write."""
    given = case.arguments(**changes)
    records = ("prompts", "answers", "similarities", "judgments", "preferences")
    asked = {key: given.pop(key) for key in records}
    told = behaviours(asked["prompts"], asked["answers"])
    cases = build_cases(asked.pop("prompts"), **asked)
    if name == "index.html":
        return render_page(results, cases=cases, behaviours=told, **given)
    del given["curve"]
    return render_markdown(results, cases=cases, **given)


def page_file(folder: Path, results: Results | None = None, **changes: Any) -> Path:
    """The page alone, as a file to open."""
    path = folder / "index.html"
    path.write_text(render("index.html", results or case.results(), **changes), "utf-8")
    return path


def outside_fences(markdown: str) -> str:
    """The lines of a Markdown text that stand in no fence, as CommonMark reads fences."""
    kept, closing = [], ""
    for line in markdown.split("\n"):
        run = re.match("`{3,}", line)
        if closing:
            if run and len(run[0]) >= len(closing) and not line.strip("`").strip():
                closing = ""
        elif run:
            closing = run[0]
        else:
            kept.append(line)
    assert not closing, "a fence was left open"
    return "\n".join(kept)
