"""The house: which way imports flow, what is light, and the names that must not exist."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "tuneproof"

LEVELS = [
    {"errors", "records", "loss_chart", "naming"},
    {"results"},
    {"recipe", "workspace", "progress", "hub", "registration", "processes"},
    {"recipe_file", "endpoint"},
    {"assets"},
    {"benchmark_files"},
    {"data"},
    {"train"},
    {"generate", "judge", "stats", "audit"},
    {"score"},
    {"report", "plan", "preview"},
    {"chat", "compare", "export", "watch"},
    {"pipeline"},
    {"stages"},
    {"cli"},
    {"__main__"},
]
"""Bottom to top. A module imports from its own package and from levels below."""


def room(path: Path) -> str:
    part = path.relative_to(SOURCE).parts[0]
    return part.removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """Also imports inside functions, and those for types alone."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found.update(n.split(".")[1] for n in names if n.startswith("tuneproof."))
    return found


MODULES = sorted(p for p in SOURCE.rglob("*.py") if p != SOURCE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_flow_one_way(path: Path) -> None:
    level = {name: i for i, names in enumerate(LEVELS) for name in names}
    mine = room(path)
    for other in imported_rooms(path) - {mine}:
        assert level[other] < level[mine], f"{mine} imports {other}"


def test_no_drawers_without_a_name() -> None:
    drawers = {"utils", "util", "helpers", "common", "misc"}
    assert not [p for p in SOURCE.rglob("*") if p.stem in drawers]


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import tuneproof.cli", {"torch", "transformers", "numpy", "pydantic", "rich", "openai"}),
        ("import tuneproof.stages, tuneproof.recipe_file", {"torch", "transformers", "numpy"}),
        ("import tuneproof.train.model, tuneproof.train.stage", {"torch", "transformers", "peft"}),
        ("import tuneproof.judge.stage, tuneproof.judge.clients", {"openai", "sacrebleu", "torch"}),
        ("import tuneproof.report.stage", {"matplotlib", "jinja2", "torch"}),
        ("import tuneproof.audit.audit, tuneproof.audit.wording", {"numpy", "pydantic", "torch"}),
        (
            "import tuneproof.watch, tuneproof.compare.text, tuneproof.compare.page, "
            "tuneproof.chat.show, tuneproof.export.run",
            {"rich", "torch", "transformers", "matplotlib", "jinja2", "numpy"},
        ),
        (
            "import tuneproof.preview.rows, tuneproof.preview.show",
            {"rich", "torch", "transformers"},
        ),
    ],
)
def test_what_is_heavy_is_imported_where_it_is_used(statement: str, absent: set[str]) -> None:
    code = f"import sys; {statement}; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not absent & set(done.stdout.split())


def test_the_demo_is_fresh_without_torch(tmp_path: Path) -> None:
    """Status of a run that never started: the keys of all stages, and no heavy library."""
    code = (
        "import sys; from pathlib import Path;"
        "from tuneproof.cli.stages import bundled_recipe, run_of;"
        "from tuneproof.pipeline import run_status; from tuneproof.stages import STAGES;"
        "from tuneproof.recipe_file import load_recipe;"
        f"run = run_of(load_recipe(bundled_recipe('demo')), Path({str(tmp_path)!r}), quiet=True);"
        "print([s.state for s in run_status(run, STAGES)]); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "['missing', 'waits', 'waits', 'waits', 'waits']",
        "False",
    ]
