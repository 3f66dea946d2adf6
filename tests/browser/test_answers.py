"""The answer browser and the loss curve in a real Chromium: what a reader does with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit import report_case as case
from tests.unit.report_reading import data_of, page_file
from tuneproof.records import Arm
from tuneproof.report import embedded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.browser.conftest import Opened

    Visit = Callable[..., Opened]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve questions: see ``report_case``."""
    return page_file(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def two_turns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two benchmarks, two opponents, two adapters, questions of two turns."""
    folder = tmp_path_factory.mktemp("two-turns")
    return page_file(folder, case.two_turn_results(), **case.two_turns())


def listed(page: Any) -> list[str]:
    """The questions of the list that are shown."""
    found: list[str] = page.eval_on_selector_all("#list a", "all => all.map(a => a.dataset.q)")
    return found


def ids(*numbers: int) -> list[str]:
    return [case.question_id(number) for number in numbers]


def current(page: Any) -> str:
    found: str = page.get_attribute("#list a[aria-current]", "data-q")
    return found


def test_it_opens_with_the_first_question_and_asks_for_nothing(report: Path, visit: Visit) -> None:
    page, watch = visit(report)
    assert listed(page) == ids(*range(12))
    assert page.inner_text("#shown") == "12 of 12 questions"
    assert current(page) == case.question_id(0)
    told = page.inner_text("#question")
    for text in (
        "Why do leaves change colour in autumn?",
        "yellow and orange pigments that were there all along",
        "cut at the token limit · 256 tokens",
        "base shown first: prefers tuned",
        "tuned shown first: prefers tuned",
        "The second answer stops where it should. [[B]]",
    ):
        assert text in told, text
    assert "#" not in page.url, "a visit alone changes no address"
    watch.assert_quiet()


@pytest.mark.parametrize(
    ("name", "value", "left"),
    [
        ("category", "classification", (1, 5, 9)),
        ("result", "tuned", (0, 1, 2, 5, 6, 8, 9, 10)),
        ("result", "opponent", ()),
        ("result", "tie", (3, 7, 11)),
        ("result", "unscored", (4,)),
        ("orders", "true", (3, 7, 11)),
        # "Fruit" against nine times the whole prompt; question 7's base failed.
        ("length", "under half as long", (0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11)),
        ("stop", "opponent:error", (7,)),
        ("stop", "tuned:length", ()),
        ("stop", "opponent:length", (0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11)),
    ],
)
def test_a_filter_leaves_what_it_names(
    report: Path, visit: Visit, name: str, value: str, left: tuple[int, ...]
) -> None:
    page, watch = visit(report)
    offered = page.eval_on_selector_all(f"#{name} option", "all => all.map(o => o.value)")
    if value not in offered:
        assert left == (), f"{value} is not offered"
        return
    page.select_option(f"#{name}", value)
    assert listed(page) == ids(*left)
    assert page.is_visible("#none") == (not left)
    if left:
        assert current(page) == case.question_id(left[0])
    page.click("#clear")
    assert len(listed(page)) == 12
    watch.assert_quiet()


def test_filters_and_search_work_together_and_are_in_the_address(
    report: Path, visit: Visit
) -> None:
    page, watch = visit(report)
    page.select_option("#orders", "true")
    page.fill("#text", "SHELLS BACK")  # in the references and answers of 3, 7 and 11
    assert listed(page) == ids(3, 7, 11)
    page.select_option("#stop", "opponent:error")
    assert listed(page) == ids(7)
    page.wait_for_function("() => location.hash.includes('stop=')")  # a moment later
    at = page.url.split("#")[1]
    again, _ = visit(report, at)
    assert listed(again) == ids(7)
    assert again.input_value("#text") == "SHELLS BACK"
    assert again.input_value("#orders") == "true"
    assert "failed: out of memory" in again.inner_text("#question")
    watch.assert_quiet()


def test_search_reads_answers_and_replies(report: Path, visit: Visit) -> None:
    page, _ = visit(report)
    page.fill("#text", "both have their merits")
    assert listed(page) == ids(4)
    page.fill("#text", case.question_id(9))
    assert listed(page) == ids(9)
    for said, found in (
        ("Unparsed", ids(4)),
        ("prefers tuned", ids(0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11)),
        ("not scored", ids(4)),
        ("orders disagree", ids(3, 7, 11)),
    ):
        page.fill("#text", said)
        assert listed(page) == found, said
        assert said.lower() in page.inner_text("#question").lower()
    page.fill("#text", "nobody wrote this")
    assert listed(page) == []
    assert page.is_visible("#none")


def test_where_nothing_fits_nothing_is_shown(report: Path, visit: Visit) -> None:
    page, watch = visit(report)
    page.fill("#text", "nobody wrote this")
    assert page.inner_text("#question") == "No question fits."
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    assert page.inner_text("#question") == "No question fits."
    page.click("#clear")
    assert "Why do leaves change colour" in page.inner_text("#question")
    linked, _ = visit(report, "text=nobody+wrote+this")
    assert linked.inner_text("#question") == "No question fits."
    assert linked.inner_text("#shown") == "0 of 12 questions"
    watch.assert_quiet()


def test_only_the_categories_of_the_chosen_benchmark_are_offered(
    two_turns: Path, visit: Visit
) -> None:
    page, watch = visit(two_turns)
    offered = "all => all.map(o => o.value).slice(1)"
    assert "writing" in page.eval_on_selector_all("#category option", offered)
    page.select_option("#category", "classification")
    page.select_option("#benchmark", "mt_bench")
    assert page.eval_on_selector_all("#category option", offered) == ["writing"]
    assert listed(page) == ["mt-81"], "the category that it has not is no longer chosen"
    page.select_option("#benchmark", "heldout")
    assert "writing" not in page.eval_on_selector_all("#category option", offered)
    page.click("#clear")
    assert "writing" in page.eval_on_selector_all("#category option", offered)
    linked, _ = visit(two_turns, "benchmark=mt_bench&category=classification")
    assert listed(linked) == ["mt-81"]
    watch.assert_quiet()


def test_the_keyboard_alone_is_enough(report: Path, visit: Visit) -> None:
    page, watch = visit(report)
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert current(page) == case.question_id(2)
    assert page.evaluate("document.getElementById('browser').getBoundingClientRect().top") < 900
    page.keyboard.press("k")
    assert current(page) == case.question_id(1)
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "text"
    page.keyboard.type("jk")  # letters, not steps
    assert page.input_value("#text") == "jk"
    page.fill("#text", "")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") != "text"
    page.focus("#list a[aria-current]")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert current(page) == case.question_id(3)
    assert page.evaluate("document.activeElement.dataset.q") == current(page)
    page.keyboard.press("?")
    assert page.is_visible("#help")
    page.keyboard.press("Escape")
    assert not page.is_visible("#help")
    page.keyboard.press("?")
    page.uncheck("#single")
    page.keyboard.press("Escape")
    before = current(page)
    page.keyboard.press("j")
    assert current(page) == before, "single keys are off"
    watch.assert_quiet()


def test_the_end_of_the_list_is_an_end(report: Path, visit: Visit) -> None:
    page, _ = visit(report, f"q={case.question_id(11)}")
    page.keyboard.press("j")
    assert current(page) == case.question_id(11)
    page.click("#previous")
    assert current(page) == case.question_id(10)


def test_a_link_leads_to_its_question(report: Path, visit: Visit) -> None:
    page, watch = visit(report, f"q={case.question_id(4)}")
    assert "Both have their merits." in page.inner_text("#question")
    assert "unparsed: no verdict token in reply" in page.inner_text("#question")
    page.evaluate(f"location.hash = 'q={case.question_id(2)}'")
    page.wait_for_function(
        "id => document.querySelector('#list a[aria-current]').dataset.q === id",
        arg=case.question_id(2),
    )
    page.evaluate("location.hash = 'training'")  # a section: no business of the browser
    assert current(page) == case.question_id(2)
    page.evaluate("location.hash = 'q=row-99999&category=nonsense'")
    page.wait_for_selector("text=This report has no question row-99999.")
    assert len(listed(page)) == 12
    watch.assert_quiet()


def test_the_words_that_differ_are_marked_on_demand(tmp_path: Path, visit: Visit) -> None:
    page_file(
        tmp_path,
        prompts=case.prompts(1),
        answers=[
            case.answer(0, Arm.BASE, "The bridge opened in 1868, they say."),
            case.answer(0, Arm.TUNED, "The old bridge opened in 1874, they say."),
        ],
        similarities=[],
        judgments=[],
    )
    page, watch = visit(tmp_path / "index.html")
    marks = "all => all.map(m => m.textContent)"
    assert page.eval_on_selector_all("mark", marks) == []
    page.keyboard.press("d")
    assert page.eval_on_selector_all(".side:not(.tuned) mark", marks) == ["1868"]
    assert page.eval_on_selector_all(".side.tuned mark", marks) == ["old ", "1874"]
    texts = page.eval_on_selector_all(".answer", marks)
    assert texts == [
        "The bridge opened in 1868, they say.",
        "The old bridge opened in 1874, they say.",
    ], "marking changes no word"
    page.wait_for_function("() => location.hash.includes('words=1')")
    watch.assert_quiet()


def test_a_long_list_draws_what_can_be_seen_and_scrolls_to_the_rest(
    tmp_path: Path, visit: Visit
) -> None:
    path = page_file(tmp_path, prompts=case.prompts(900), answers=[], judgments=[])
    page, watch = visit(path, f"q={case.question_id(700)}")
    assert current(page) == case.question_id(700)
    row, box = (
        page.locator("#list a[aria-current]").bounding_box(),
        page.locator("#list").bounding_box(),
    )
    assert box["y"] <= row["y"] <= box["y"] + box["height"] - row["height"] + 2
    assert page.locator("#list li").count() < 60
    total = page.evaluate("document.getElementById('list').scrollHeight")
    assert total == pytest.approx(900 * row["height"], rel=0.02)
    page.evaluate("document.getElementById('list').scrollTop = 0")
    page.wait_for_selector(f"#list a[data-q='{case.question_id(0)}']")
    page.evaluate("document.getElementById('list').scrollTop = 1e6")
    page.wait_for_selector(f"#list a[data-q='{case.question_id(899)}']")
    assert page.get_attribute("#list li:last-child", "aria-posinset") == "900"
    page.fill("#text", "apple")  # every fourth question is about one
    assert page.inner_text("#shown") == "225 of 900 questions"
    watch.assert_quiet()


def test_turns_opponents_and_adapters_stand_side_by_side(two_turns: Path, visit: Visit) -> None:
    page, watch = visit(two_turns, "q=mt-81")
    heads = page.eval_on_selector_all(".side h5", "all => all.map(h => h.textContent)")
    assert heads == 2 * ["base", "tuned, adapter 1", "fair-base", "tuned, adapter 2"]
    assert "favours tuned" in page.inner_text("#question .about")
    page.select_option("#opponent", "fair-base")
    assert "favours fair-base" in page.inner_text("#question .about")
    heads = page.eval_on_selector_all(".side h5", "all => all.map(h => h.textContent)")
    assert heads[:2] == ["fair-base", "tuned, adapter 1"]
    page.select_option("#adapter", "2")
    assert "favours tuned" in page.inner_text("#question .about")
    assert page.locator(".reply").count() == 4  # two orders, two turns
    page.select_option("#benchmark", "mt_bench")
    assert set(listed(page)) == {"mt-81"}
    # Fair-base was not asked the held-out questions: they show base.
    page.select_option("#benchmark", "heldout")
    heads = page.eval_on_selector_all(".side h5", "all => all.map(h => h.textContent)")
    assert heads[:2] == ["base", "tuned, adapter 2"]
    watch.assert_quiet()


def test_packed_data_is_read_as_well(
    tmp_path: Path, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "PACK_FROM", 1)
    packed = page_file(tmp_path)
    assert '"gzip"' in packed.read_text("utf-8")
    assert len(data_of(packed.read_text("utf-8"))["questions"]) == 12
    page, watch = visit(packed, "category=classification")
    assert listed(page) == ids(1, 5, 9)
    watch.assert_quiet()


def test_data_that_cannot_be_read_say_so(tmp_path: Path, visit: Visit) -> None:
    broken = page_file(tmp_path).read_text("utf-8").replace('id="cases">{', 'id="cases">')
    (tmp_path / "broken.html").write_text(broken, "utf-8")
    page, _ = visit(tmp_path / "index.html")
    assert not page.is_visible("#unread")
    page.goto((tmp_path / "broken.html").as_uri())
    page.wait_for_selector("#unread:visible")
    assert "generate/answers.jsonl" in page.inner_text("#unread")


def test_without_scripts_everything_can_be_read(report: Path, visit: Visit) -> None:
    page, watch = visit(report, java_script_enabled=False)
    told = page.inner_text("main")
    assert told.count("cut at the token limit · 256 tokens") == 11  # base's, but the failed one
    assert "failed: out of memory" in told
    assert "The tide forgets each name" in told
    assert not page.is_visible("#browser")
    watch.assert_quiet()


# --- the loss curve ----------------------------------------------------------------------------


def test_the_loss_under_the_pointer_is_that_of_the_table(report: Path, visit: Visit) -> None:
    page, watch = visit(report)
    chart = page.locator("svg.loss.full")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    left, right = (float(chart.get_attribute(f"data-{side}")) for side in ("left", "right"))
    scale = box["width"] / 736
    page.mouse.move(
        box["x"] + scale * (left + (right - left) * 100 / 144), box["y"] + box["height"] / 2
    )
    told = page.inner_text("#at")
    at_100 = {p.step: p for p in case.curve() if p.eval_loss is None}[100]
    best = next(p for p in case.curve() if p.eval_loss is not None and p.step == 100)
    assert told == (
        f"train {at_100.train_loss:.3f} (step 100) · validation {best.eval_loss:.3f} (step 100)"
    )
    # The cross stands at the step that is told, wherever the pointer is between two of them.
    below = page.evaluate("document.documentElement.scrollHeight")
    page.mouse.move(
        box["x"] + scale * (left + (right - left) * 100.4 / 144), box["y"] + box["height"] / 2
    )
    assert "train" in page.inner_text("#at")
    cross = float(chart.locator(".cross").get_attribute("x1"))
    assert cross == pytest.approx(float(chart.locator(".at.train").get_attribute("cx")))
    page.mouse.move(2, 2)
    assert page.inner_text("#at") == ""
    assert page.evaluate("document.documentElement.scrollHeight") == below, "the page moved"
    chart.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert "(step 2)" in page.inner_text("#at")
    watch.assert_quiet()


# --- how it looks ------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [390, 768, 1280, 1920])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_is_wider_than_the_window(
    report: Path, visit: Visit, width: int, theme: str
) -> None:
    page, _ = visit(report, viewport={"width": width, "height": 900}, color_scheme=theme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = page.evaluate(
        """() => [...document.querySelectorAll("main td, main dd, main p, main li, main h3")]
        .filter(it => it.offsetParent && !it.closest(".wide, #list"))
        .filter(it => { const r = document.createRange(); r.selectNodeContents(it);
                        return r.getBoundingClientRect().right > innerWidth - 8; })
        .map(it => it.textContent.slice(0, 60))"""
    )
    assert outside == []


def test_the_first_tab_is_the_skip_link_and_focus_can_be_seen(report: Path, visit: Visit) -> None:
    page, _ = visit(report)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    box = page.locator(".skip").bounding_box()
    assert box["x"] >= 0
    for _ in range(60):
        width = page.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)")
        assert width >= 2, page.evaluate("document.activeElement.outerHTML.slice(0, 90)")
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "words":
            break
    else:
        pytest.fail("the controls were not reached")


@pytest.mark.parametrize("width", [390, 1280])
def test_key_figures_beside_each_other_share_a_line(report: Path, visit: Visit, width: int) -> None:
    page, _ = visit(report, viewport={"width": width, "height": 900})
    found = page.eval_on_selector_all(
        ".figures .value",
        "all => all.map(it => [it.getBoundingClientRect(), getComputedStyle(it)])"
        ".map(([box, style]) => [Math.round(box.top), box.height, parseFloat(style.lineHeight)])",
    )
    # 1280 px have room for all; 390 px for two in a row.
    assert len({top for top, *_ in found}) <= -(-len(found) // (2 if width == 390 else 4))
    assert all(height < 1.5 * line for _, height, line in found), "a numeral is broken"


def test_on_a_phone_the_next_question_is_within_reach(report: Path, visit: Visit) -> None:
    page, _ = visit(report, viewport={"width": 390, "height": 844})

    def top(part: str) -> float:
        found: float = page.eval_on_selector(part, "it => it.getBoundingClientRect().top")
        return found

    page.locator("#list a").nth(3).click()
    page.evaluate("scrollBy(0, 400)")
    assert 0 <= top("#next") < 100, "the buttons went with the list"
    page.locator("#next").click()
    assert current(page) == case.question_id(4)
    assert 44 <= top("#question") < 120, "it begins below the buttons"
    small = page.evaluate(
        """() => [...document.querySelectorAll(".name nav a, summary, button, select, #list a")]
        .filter(it => it.offsetParent && it.getBoundingClientRect().height < 44)
        .map(it => it.outerHTML)"""
    )
    assert small == []


def test_a_link_within_the_page_jumps(report: Path, visit: Visit) -> None:
    page, _ = visit(report)
    page.click("nav a[href='#meaning']")
    # At once, however far it is.
    top = page.eval_on_selector("#meaning", "it => it.getBoundingClientRect().top")
    assert top < 900


def test_on_a_phone_a_wide_tables_caption_is_read_whole(report: Path, visit: Visit) -> None:
    page, _ = visit(report, viewport={"width": 390, "height": 844})
    found = page.eval_on_selector_all(
        ".wide caption", "all => all.map(it => it.getBoundingClientRect().right)"
    )
    assert found
    assert all(right <= 390 for right in found)


def test_every_control_has_a_name(report: Path, visit: Visit) -> None:
    page, _ = visit(report)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("input, select, button")]
        .filter(it => !(it.labels?.length || it.textContent.trim() || it.ariaLabel))
        .map(it => it.outerHTML)"""
    )
    assert nameless == []


def test_on_paper_there_are_no_controls(report: Path, visit: Visit) -> None:
    page, _ = visit(report, f"q={case.question_id(4)}")
    page.emulate_media(media="print")
    for part in (".controls", ".tools", "#list", "nav", ".skip"):
        assert not page.is_visible(part), part
    assert "Both have their merits." in page.inner_text("#question")
    for part in (".evidence svg.full .bar", "svg.loss.full .train", ".measures .thin", ".ended"):
        assert page.locator(part).first.evaluate("it => getComputedStyle(it).display") != "none", (
            part
        )
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_on_paper_what_folds_is_open_and_bullets_lie_on_the_page(
    report: Path, visit: Visit
) -> None:
    page, _ = visit(report)
    closed = page.locator("details:not([open])")
    before = closed.count()
    assert before
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert closed.count() == 0
    page.emulate_media(media="print")
    assert page.is_visible("details.more td code"), "nobody can reproduce without the digests"
    for part in (".reasons", ".findings"):
        # A marker needs about 1.3 em: with less it lies left of the paper's edge.
        room = page.eval_on_selector(part, "it => parseFloat(getComputedStyle(it).paddingLeft)")
        assert room >= 1.5 * 12.6
    rule = page.eval_on_selector("caption", "it => getComputedStyle(it).breakAfter")
    assert rule == "avoid"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert closed.count() == before
