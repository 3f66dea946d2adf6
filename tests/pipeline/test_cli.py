"""The command line as a user meets it: in a process of its own, with mistakes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fakes import ChatServer, Status
from tuneproof.records import Judgment
from tuneproof.results import Outcome, Results
from tuneproof.workspace import read_records

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
VERBS = [
    "demo",
    "run",
    "prepare",
    "train",
    "generate",
    "judge",
    "report",
    "status",
    "watch",
    "chat",
    "compare",
    "export",
    "plan",
    "preview",
    "audit",
    "assets",
    "score",
]


def tuneproof(
    *arguments: object, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tuneproof", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )


def refused(done: subprocess.CompletedProcess[str], code: int = 2) -> str:
    """The message of a run that was refused, without a traceback."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    message = done.stderr[done.stderr.index("error: ") :]
    return re.sub(r"\s+", " ", message)


def test_the_verbs() -> None:
    done = tuneproof("--help")
    assert done.returncode == 0
    listed = re.findall(r"^  (\w+)  ", done.stdout.partition("Commands:")[2], re.MULTILINE)
    assert listed == VERBS


@pytest.mark.parametrize("verb", [v for v in VERBS if v != "assets"])
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    done = tuneproof(verb, "--help")
    assert done.returncode == 0
    assert f"Example: tuneproof {verb}" in done.stdout


def test_no_recipe() -> None:
    assert "no such recipe" in refused(tuneproof("run", "nowhere.yaml"))


def test_an_unknown_option_is_bad_usage() -> None:
    assert tuneproof("run", "--nonsense").returncode == 2


BAD_INPUT = {
    "unknown key": (["--set", "train.epoch=3"], "--set: train.epoch: unknown key Did you mean"),
    "wrong type": (["--set", "train.epochs=many"], "train.epochs = many: expected a number"),
    "split": (["--set", "data.split.train=0.9"], "they sum to 1.3"),
    "missing file": (
        ["--set", "data.source.path=absent.jsonl"],
        "data.source.path = absent.jsonl: no such file Relative paths start at",
    ),
    "missing column": (
        ["--set", "data.columns.response=output"],
        "data.columns.response = output: no such column",
    ),
    "template": (["--set", "data.template='{instruction}'"], "has no {response}"),
    "unknown model": (
        ["--set", "model.id=./no/such/model"],
        "model.id = ./no/such/model: no such folder",
    ),
    "unknown asset": (["--set", "model.id=asset:gpt-5"], "asset = gpt-5: no such asset"),
    "no key": (
        ["--set", "judge.model=gpt-4o-mini"],
        "OPENAI_API_KEY",
    ),
    "unreachable endpoint": (
        ["--set", "judge.base_url=http://127.0.0.1:9/v1", "--set", "judge.api_key_env=null"],
        "127.0.0.1:9",
    ),
    "zero steps of a metric": (["--set", "verdict.metric=win_rate"], "needs a judge section"),
}


@pytest.mark.parametrize("case", BAD_INPUT, ids=str)
def test_bad_input_is_refused_and_nothing_is_written(
    tmp_path: Path, tiny_recipe: Callable[..., Path], case: str
) -> None:
    arguments, message = BAD_INPUT[case]
    folder = tmp_path / "run"
    done = tuneproof(
        "run", tiny_recipe(), "--run-dir", folder, *arguments, OPENAI_API_KEY="", HF_HUB_OFFLINE="1"
    )
    assert message in refused(done)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"instruction": "a", "response": "b"}\n{"instruction"\n', "rows.jsonl:2"),
        ('{"instruction": "a", "response": ""}\n', "no row is left after cleaning: 1 × empty"),
        ("", "has no rows"),
    ],
)
def test_bad_data_is_refused_and_nothing_is_written(
    tmp_path: Path, tiny_recipe: Callable[..., Path], content: str, message: str
) -> None:
    recipe = tiny_recipe()
    (tmp_path / "rows.jsonl").write_text(content)
    done = tuneproof(
        "run", recipe, "--run-dir", tmp_path / "run", "--set", "verdict.metric=heldout_loss",
        "--set", "data.columns={checkable: null, context: null}",
    )  # fmt: skip
    assert message in refused(done)
    assert not (tmp_path / "run").exists()


def test_the_source_is_never_overwritten(tmp_path: Path, tiny_recipe: Callable[..., Path]) -> None:
    recipe = tiny_recipe()
    source = (tmp_path / "rows.jsonl").rename(tmp_path / "train.jsonl")
    before = source.read_bytes()
    done = tuneproof(
        "prepare", recipe, "--run-dir", tmp_path / "run", "--set", f"data.output_dir={tmp_path}",
        "--set", f"data.source.path={source}",
    )  # fmt: skip
    assert "holds a train.jsonl that this run did not write" in refused(done)
    assert source.read_bytes() == before
    assert not (tmp_path / "run").exists()


def test_secrets_do_not_get_into_a_run(tmp_path: Path, tiny_recipe: Callable[..., Path]) -> None:
    for override in ("judge.api_key_env=sk-proj-123", "judge.base_url=https://me:sk-proj-123@h/v1"):
        done = tuneproof("prepare", tiny_recipe(), "--run-dir", tmp_path / "run", "--set", override)
        assert "expected" in refused(done)
        assert "sk-proj-123" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_exact_match_needs_a_checkable_row(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    recipe = tiny_recipe()
    rows = (tmp_path / "rows.jsonl").read_text().replace("true", "false")
    (tmp_path / "rows.jsonl").write_text(rows)
    done = tuneproof("run", recipe, "--run-dir", tmp_path / "run")
    assert "heldout has no question with one right answer for it" in refused(done)


def test_max_steps_only_ends_training_early(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    for given, steps in ((4, 4), (30, 9)):
        folder = tmp_path / f"run-{given}"
        done = tuneproof(
            "train", tiny_recipe(), "--run-dir", folder, "--set", f"train.max_steps={given}"
        )
        assert done.returncode == 0, done.stderr
        assert json.loads((folder / "train/summary.json").read_text())["steps"] == steps


def test_a_folder_that_is_no_run(tmp_path: Path, tiny_recipe: Callable[..., Path]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("years of work")
    message = refused(tuneproof("run", tiny_recipe(), "--run-dir", tmp_path / "mine"))
    assert "is not empty and holds no recipe.yaml" in message
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.tex"]
    assert "is no run: it holds no recipe.yaml" in refused(tuneproof("status", tmp_path / "mine"))


def test_a_run_of_another_recipe(tmp_path: Path, tiny_recipe: Callable[..., Path]) -> None:
    folder = tmp_path / "run"
    assert tuneproof("prepare", tiny_recipe(), "--run-dir", folder).returncode == 0
    message = refused(tuneproof("run", tiny_recipe(name="other"), "--run-dir", folder))
    assert "is the run of another recipe, 'tiny'; this one is 'other'" in message


def test_run_status_and_plan_for_programs(tmp_path: Path, tiny_recipe: Callable[..., Path]) -> None:
    recipe, folder = tiny_recipe(), tmp_path / "run"
    done = tuneproof("run", recipe, "--run-dir", folder, "--json")
    assert done.returncode == 0, done.stderr
    results = Results.model_validate_json(done.stdout)
    assert results.name == "tiny"
    # Piped, progress is plain lines.
    assert "\x1b" not in done.stderr
    assert re.search(r"^train +done in", done.stderr, re.MULTILINE)

    states = json.loads(tuneproof("status", folder, "--json").stdout)
    assert [s["state"] for s in states] == ["fresh"] * 5

    plan = json.loads(tuneproof("plan", recipe, "--json").stdout)
    assert plan["rows"] == results.rows
    assert results.training is not None
    assert plan["optimizer_steps"] == results.training.steps
    assert plan["trainable_parameters"] == results.training.trainable_parameters
    assert plan["total_parameters"] == results.training.total_parameters
    assert plan["tokens"]["real"] == results.training.tokens
    assert plan["tokens"]["eos_supervised_rows"] == results.training.eos_supervised_rows


def test_quiet_says_the_verdict_and_nothing_else(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    done = tuneproof("run", tiny_recipe(), "--run-dir", tmp_path / "run", "--quiet")
    assert done.stderr == ""
    assert done.stdout.startswith("\nverdict   ")
    assert done.stdout.rstrip().endswith("report/index.html")


def with_judge(server: ChatServer) -> list[str]:
    """The matches alone: control pairs, repeats and cut answers have tests of their own."""
    return [
        "--set", "judge.checks.controls=0",
        "--set", "judge.checks.repeats=0",
        "--set", "judge.decompose=false",
        "--set", f"judge.base_url={server.url}",
        "--set", "judge.api_key_env=null",
        "--set", "verdict.metric=win_rate",
    ]  # fmt: skip


def test_a_judge_who_always_says_a_decides_nothing(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    recipe, folder = tiny_recipe(), tmp_path / "run"
    with ChatServer(lambda request: "It is clear.\nVERDICT: A") as server:
        done = tuneproof("run", recipe, "--run-dir", folder, "--json", *with_judge(server))
        assert done.returncode == 0, done.stderr
        results = Results.model_validate_json(done.stdout)
        assert results.verdict.outcome is Outcome.INCONCLUSIVE
        pairwise = results.benchmarks["heldout"].pairwise
        assert pairwise is not None
        assert pairwise.first_preferred.value == 1.0
        assert pairwise.order_agreement.value == 0.0
        asked = len(server.received)
        assert asked == 2 * 18

        # All replies are on disk: nothing is asked again, even when the rest is made anew.
        shutil.rmtree(folder / "report")
        (folder / "judge/manifest.json").unlink()
        done = tuneproof("run", recipe, "--run-dir", folder, *with_judge(server))
        assert done.returncode == 0, done.stderr
        assert len(server.received) == asked

    # The recorded journal is a judge too, and gives the same numbers without a server.
    replayed = tmp_path / "replayed"
    arguments = with_judge(server)
    done = tuneproof(
        "run", recipe, "--run-dir", replayed, "--json", *arguments,
        "--set", "judge.kind=replay", "--set", f"judge.journal={folder / 'judge/journal.jsonl'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    again = Results.model_validate_json(done.stdout)
    assert again.benchmarks == results.benchmarks


def test_requests_that_fail_are_asked_again_next_time(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    recipe, folder = tiny_recipe(), tmp_path / "run"
    broken = True

    def reply(request: dict[str, object]) -> Status | str:
        # Every fifth request; 400 is not tried again by the client.
        return Status(400) if broken and len(server.received) % 5 == 0 else "VERDICT: TIE"

    with ChatServer(reply) as server:
        done = tuneproof("run", recipe, "--run-dir", folder, "--json", *with_judge(server))
        assert done.returncode == 0, done.stderr
        results = Results.model_validate_json(done.stdout)
        assert results.benchmarks["heldout"].pairwise is not None
        assert results.benchmarks["heldout"].pairwise.win_rate.n_unscored > 0
        assert results.verdict.outcome is Outcome.INCONCLUSIVE
        status = tuneproof("status", folder).stdout
        assert re.search(r"judge +stale +because \d+ requests failed and can be tried", status)

        broken, before = False, len(server.received)
        failed = before - len(read_records(folder / "judge/judgments.jsonl", Judgment))
        done = tuneproof("run", recipe, "--run-dir", folder, "--json", *with_judge(server))
        results = Results.model_validate_json(done.stdout)
        assert results.benchmarks["heldout"].pairwise is not None
        assert results.benchmarks["heldout"].pairwise.win_rate.n_unscored == 0
        assert len(server.received) - before == failed
    assert "fresh" in tuneproof("status", folder).stdout.splitlines()[3]


def test_compare_makes_no_folder_for_its_page(tmp_path: Path) -> None:
    page = tmp_path / "nonexist/x.html"
    said = refused(tuneproof("compare", "a", "b", "--html", page))
    assert f"--html = {page}: there is no folder {page.parent}" in said
    assert not page.parent.exists()
    assert "is a folder" in refused(tuneproof("compare", "a", "b", "--html", tmp_path))
