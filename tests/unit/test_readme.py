"""The README's commands exist, its recipe is one, and the demo keeps to its budget."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from tuneproof.cli import app
from tuneproof.recipe_file import load_recipe, parse_recipe

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def commands() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    lines = [line.partition("   #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.mark.parametrize("line", [c for c in commands() if c.startswith("tuneproof ")])
def test_every_command_line_is_understood(line: str) -> None:
    """Parsed by the command line itself, recipe and overrides read; not run."""
    words = shlex.split(line)[1:]
    root = typer.main.get_command(app)
    context = root.make_context("tuneproof", list(words))
    name, command, rest = root.resolve_command(context, words)  # type: ignore[attr-defined]
    parsed = command.make_context(name, rest).params
    if "recipe" in parsed:
        load_recipe(ROOT / parsed["recipe"], parsed["overrides"] or ())


@pytest.mark.parametrize("line", [c for c in commands() if c.startswith("make ")])
def test_every_make_target_exists(line: str) -> None:
    target = line.split()[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)


def test_ci_runs_the_readmes_test_command() -> None:
    assert "make test" in commands()
    assert "\nmake test\n" in (ROOT / ".ci/run").read_text("utf-8")


def test_the_recipe_shown_is_the_recipe_shipped() -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert parse_recipe(shown, name="README") == load_recipe(ROOT / "recipes/smollm2-dolly.yaml")


def test_every_path_named_exists() -> None:
    for path in re.findall(r"`((?:src|tools|docs|recipes)/[\w./-]*)`", README):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"\]\(([\w./-]+)\)", README):
        assert (ROOT / path).exists(), path
