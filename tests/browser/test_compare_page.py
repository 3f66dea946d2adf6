"""The page of ``tuneproof compare`` in a real Chromium: quiet, whatever a run is called or says;
on narrow screens, in the dark and on paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.test_hostile import HOSTILE
from tests.unit.compare_case import write_run
from tuneproof.compare.comparison import Comparison, compare_runs
from tuneproof.compare.page import render_comparison
from tuneproof.report.untrusted import visible
from tuneproof.workspace import write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.browser.conftest import Opened

    Visit = Callable[..., Opened]

FREE = {"label", "sentence", "run", "reason", "setting"}
"""What others may have written, by the field's name."""


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("runs")
    return compare_runs([
        write_run(folder / "a", exact=[0, 1, 0, 0], wins=[0.5, 1, 0, 1]),
        write_run(
            folder / "b", exact=[1, 1, 0, 1], name="two", parts={"train": {"lora.r": "64"}},
        ),
    ])  # fmt: skip


def with_text(value: Any, text: str) -> Any:
    """The same comparison with this text in every free field, the first run's name told apart."""
    if isinstance(value, dict):
        settings = {"first", "second"} if "setting" in value else set()
        return {
            k: text if k in FREE | settings and v is not None else with_text(v, text)
            for k, v in value.items()
        }
    return [with_text(v, text) for v in value] if isinstance(value, (list, tuple)) else value


def page_of(path: Path, comparison: Comparison) -> Path:
    write_atomic(path, render_comparison(comparison))
    return path


def test_it_asks_for_nothing_and_shows_every_difference(
    tmp_path: Path, comparison: Comparison, visit: Visit
) -> None:
    page, watch = visit(page_of(tmp_path / "c.html", comparison))
    assert page.locator("h1").inner_text() == "two compared with one"
    rows = page.locator(".measures tbody tr")
    assert rows.count() == comparison.n_comparisons
    assert page.locator(".measures svg:visible").count() > 0
    assert "+50.0\u00a0points" in page.inner_text("main")
    assert "lora.r" in page.inner_text("main")
    watch.assert_quiet()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_and_sentences_are_only_text(
    tmp_path: Path, comparison: Comparison, visit: Visit, name: str
) -> None:
    text = HOSTILE[name]
    evil = Comparison.model_validate(with_text(comparison.model_dump(), text))
    page, watch = visit(page_of(tmp_path / "c.html", evil))
    titles = page.locator("h1 bdi").all_text_contents()
    assert titles == [visible(text)] * 2
    assert page.locator("main td bdi").first.text_content() == visible(text)
    assert (
        page.locator(":is(img, iframe, form, script, a, base, meta[http-equiv=refresh])").count()
        == 0
    )
    assert page.evaluate("window.ran") is None
    watch.assert_quiet()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_it_fits_every_screen(
    tmp_path: Path, comparison: Comparison, visit: Visit, width: int, scheme: str
) -> None:
    path = page_of(tmp_path / "c.html", comparison)
    page, watch = visit(path, viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(253, 253, 252)", "dark": "rgb(22, 24, 26)"}[scheme]
    # Narrow screens have no head: each cell says what it is.
    assert page.locator(".measures .label").first.is_visible() == (width == 390)
    watch.assert_quiet()


def test_on_paper_the_ground_is_white(tmp_path: Path, comparison: Comparison, visit: Visit) -> None:
    page, watch = visit(page_of(tmp_path / "c.html", comparison), color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf(format="A4").startswith(b"%PDF")
    watch.assert_quiet()
