"""A real Chromium, and a page that tells what it asked for and what went wrong.

Debian's ``chromium``, driven by Playwright (extra ``browser``). Nothing is downloaded: where one of
the two is missing, these tests are skipped and say so.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
Opened = tuple[Any, "Watch"]


@dataclass
class Watch:
    """What a page did that it must not: requests beside the page itself, errors, dialogs."""

    requests: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def attach(self, page: Any) -> None:
        page.on("request", lambda it: self.requests.append(it.url))
        page.on("console", lambda it: self.problems.append(f"{it.type}: {it.text}"))
        page.on("pageerror", lambda it: self.problems.append(f"error: {it}"))
        page.on("dialog", self._dismiss)

    def _dismiss(self, dialog: Any) -> None:
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def assert_quiet(self) -> None:
        # The page itself; Chromium names blobs and data in memory as requests too.
        others = [url for url in self.requests[1:] if not url.startswith(("data:", "blob:"))]
        assert (others, self.problems) == ([], [])


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser a module: while it runs, no other test can run an event loop."""
    driver = pytest.importorskip("playwright.sync_api", reason="needs the extra 'browser'")
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"needs a browser: none of {', '.join(NAMES)} is installed")
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Opened]]:
    """Opens a file in a context of its own; ``at`` is the part of the address after ``#``."""
    contexts = []

    def open_page(path: Path, at: str = "", **settings: Any) -> Opened:
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        watch = Watch()
        watch.attach(page)
        page.goto(path.as_uri() + (f"#{at}" if at else ""))
        if settings.get("java_script_enabled", True) and page.query_selector("#browser"):
            page.wait_for_selector("#browser[data-ready]")
        return page, watch

    yield open_page
    for context in contexts:
        context.close()
