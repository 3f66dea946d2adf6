"""Texts that a model or a judge may write, in a real Chromium: none of them does anything.

Whatever they try would show: as a request, as a message of the console, as a dialog, or as a mark
on ``window``. That the watch would see it is tested first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from tests.unit import report_case as case
from tests.unit.report_reading import page_file
from tests.unit.test_report import hostile_changes, hostile_results
from tuneproof.records import Arm
from tuneproof.report import embedded
from tuneproof.report.untrusted import visible

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.browser.conftest import Opened

    Visit = Callable[..., Opened]

MARK = "window.ran=(window.ran||0)+1"
PLACE = "http://127.0.0.1:9/"  # nobody answers there; asking alone would be seen
HOSTILE = {
    "script": f"</script><script>{MARK}</script>",
    "data-end": f"\u2028</SCRIPT ><!--<script>{MARK}//--><script>{MARK}</script>",
    "noscript-end": f"</noscript><script>{MARK}</script><noscript>",
    "image": f"<img src=x onerror='{MARK}'><img src={PLACE}i.png>",
    "svg": f"<svg onload='{MARK}'><animate onbegin='{MARK}' attributeName=x dur=1s></svg>",
    "frame": f"<iframe srcdoc='<script>parent.{MARK}</script>'></iframe><iframe src={PLACE}>",
    "refresh": f"<meta http-equiv=refresh content='0;url={PLACE}'><base href={PLACE}>",
    "style": f"</style><style>@import url({PLACE}s.css); body {{ display: none }}</style>",
    "link": f"[a](javascript:{MARK}) <a href='javascript:{MARK}'>b</a> javascript:{MARK}",
    "events": f"\" onmouseover=\"{MARK}\" autofocus onfocus='{MARK}' x='",
    "form": f"<form action={PLACE}><button autofocus onfocus='{MARK}'>x</button></form>",
    "template": "{{ 7*7 }} {% raw %} ${7*7} #{7*7} <%= 7*7 %> {{constructor.constructor('x')()}}",
    "mathml": f"<math><mtext><table><mglyph><style><img src=x onerror='{MARK}'></style></math>",
    "bidi": "user\u202e}{gro.elpmaxe\u202c \u2066isolated\u2069 \u200b\ufeff",
    "surrogates": "high \ud800 low \udfff pair \ud83d",
    "controls": "nul\x00 bell\x07 esc\x1b[31m red\x9b0m del\x7f cr\rlf",
    "entities": "&lt;script&gt; &#60;b&#62; &amp;amp; \\u003cscript\\u003e",
    "json": '"},{"id":"x"}]} \\" \\\\ \u2029 __proto__ constructor',
}


@pytest.fixture(params=[True, False], ids=["script", "no-script"])
def scripted(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def write_hostile(folder: Path, text: str) -> Path:
    """A report in which every text of others is this one."""
    prompt = case.prompts(1)[0].model_copy(
        update={"instruction": text, "context": text, "reference": text, "category": text}
    )
    judged = case.judgment(0, Arm.BASE, "B", reply=text).model_copy(update={"judge": text})
    return page_file(
        folder,
        prompts=[prompt],
        answers=[case.answer(0, Arm.BASE, text), case.answer(0, Arm.TUNED, f"{text} and {text}")],
        judgments=[judged, case.judgment(0, Arm.TUNED, None, reply=text)],
        findings=[text],
    )


def test_the_watch_sees_what_these_texts_would_do(tmp_path: Path, visit: Visit) -> None:
    """A page without escaping and without a policy: the tests below are able to fail."""
    page_of = tmp_path / "naive.html"
    page_of.write_text(
        f"<!doctype html><p>{HOSTILE['image']}<script>{MARK};console.error('x')</script>", "utf-8"
    )
    page, watch = visit(page_of)
    page.wait_for_timeout(200)
    assert page.evaluate("window.ran") >= 1
    assert any(url.startswith(PLACE) for url in watch.requests)
    with pytest.raises(AssertionError):
        watch.assert_quiet()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_is_only_text(
    tmp_path: Path, visit: Visit, name: str, scripted: bool
) -> None:
    text = HOSTILE[name]
    page, watch = visit(write_hostile(tmp_path, text), java_script_enabled=scripted)
    shown = page.locator(".side .text").all_text_contents()
    assert shown == [visible(text), visible(f"{text} and {text}")]
    assert (
        page.locator("main :is(img, iframe, form:not([method=dialog]), a[href^=java])").count() == 0
    )
    if scripted:
        page.check("#words")
        page.fill("#text", visible(text)[:12].lower())
        page.select_option("#category", index=1)
        page.hover(".side.tuned")
        assert "".join(page.locator(".side.tuned .text").all_text_contents()) == shown[1]
        assert page.evaluate("window.ran") is None
    watch.assert_quiet()


def test_all_of_them_at_once_packed_and_in_every_place(
    tmp_path: Path, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "PACK_FROM", 1)
    page_file(tmp_path, hostile_results(), **hostile_changes())
    page, watch = visit(tmp_path / "index.html")
    for _ in range(3):
        page.keyboard.press("j")
    assert page.locator("#list li").count() == 2
    assert page.evaluate("window.ran") is None
    watch.assert_quiet()


@pytest.mark.parametrize("name", ["script", "events", "json", "template", "bidi"])
def test_a_hostile_address_is_only_text(tmp_path: Path, visit: Visit, name: str) -> None:
    text = HOSTILE[name]
    page_file(tmp_path)
    asked = {"q": text, "text": text, "category": text, "stop": text, "__proto__": text}
    page, watch = visit(tmp_path / "index.html", urlencode(asked))
    assert page.inner_text("#question").startswith("This report has no question ")
    assert page.evaluate("window.ran") is None
    watch.assert_quiet()


def test_a_hostile_question_id_leads_to_its_question(tmp_path: Path, visit: Visit) -> None:
    evil = "a&q=b#<img src=x onerror=alert(1)>\u202e%"
    prompts = [p.model_copy(update={"question_id": evil}) for p in case.prompts(1)]
    page_file(tmp_path, prompts=prompts, answers=[], similarities=[], judgments=[])
    page, watch = visit(tmp_path / "index.html")
    page.click("#question h3 a")
    assert visible(evil) in page.inner_text("#question")
    again, _ = visit(tmp_path / "index.html", page.url.split("#", 1)[1])
    assert visible(evil) in again.inner_text("#question")
    watch.assert_quiet()


@pytest.mark.parametrize("line", ["x" * 1_000_000, "word " * 200_000, "\u05d0<b>" * 250_000])
def test_a_line_of_a_million_characters_survives(tmp_path: Path, visit: Visit, line: str) -> None:
    answers = [case.answer(0, Arm.BASE, line), case.answer(0, Arm.TUNED, "short")]
    page_file(tmp_path, prompts=case.prompts(1), answers=answers, judgments=[])
    page, watch = visit(tmp_path / "index.html")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    length = "document.querySelector('.side .text').textContent.length"
    assert page.evaluate(length) == 20_000
    page.check("#words")
    assert page.is_visible("text=too long to compare word by word")
    page.uncheck("#words")
    assert page.inner_text(".side .more") == "Show 100,000 of 980,000 more characters"
    page.click(".side .more")
    assert page.evaluate(length) == 120_000
    assert page.inner_text(".side .more") == "Show 100,000 of 880,000 more characters"
    page.fill("#text", line[-30:])  # search reads all of it
    assert page.inner_text("#shown") == "1 of 1 questions"
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    watch.assert_quiet()


def test_a_script_that_got_in_would_not_run(tmp_path: Path, visit: Visit) -> None:
    """Were escaping to fail, the policy is left: it refuses scripts, images and requests."""
    page_file(tmp_path)
    page, watch = visit(tmp_path / "index.html")

    def insert(markup: str) -> Any:
        return page.evaluate(
            """m => document.body.append(document.createRange().createContextualFragment(m))""",
            markup,
        )

    insert(f"<script>{MARK}</script><img src={PLACE}i.png><img src=x onerror='{MARK}'>")
    insert(f"<script src={PLACE}s.js></script><iframe src={PLACE}></iframe>")
    page.evaluate(f"fetch('{PLACE}').catch(() => 0)")
    page.wait_for_timeout(200)
    assert page.evaluate("window.ran") is None
    assert all("Content Security Policy" in it for it in watch.problems), watch.problems
    assert len(watch.problems) >= 5
