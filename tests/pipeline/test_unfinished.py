"""A report of what there is: of runs that lack stages, were killed, or are damaged; and what the
preflight found, kept by a run for its report."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import write_tiny_recipe
from tests.pipeline.test_cli import refused, tuneproof
from tests.pipeline.test_kill import TRAIN, kill_when, lines, start
from tests.pipeline.test_pipeline import execute, make_run, states
from tuneproof.errors import StageError
from tuneproof.naming import listed
from tuneproof.pipeline import execute as execute_stages
from tuneproof.plan.kept import keep_findings
from tuneproof.records import Preflight
from tuneproof.report.code import code_digest
from tuneproof.report.results_file import read_results
from tuneproof.report.unfinished import live_points, missing_stages
from tuneproof.stages import STAGES, preflight, report_what_there_is
from tuneproof.train.live import LiveLine
from tuneproof.watch import snapshot
from tuneproof.workspace import digest_file

if TYPE_CHECKING:
    from collections.abc import Callable

ALL = ("prepare", "train", "generate", "judge")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> tuple[Path, Path]:
    """A finished run with what the preflight found; tests work on copies."""
    folder = tmp_path_factory.mktemp("whole")
    recipe = write_tiny_recipe(folder, tiny_model, train={"epochs": 1, **TRAIN})
    execute_stages(make_run(recipe, folder / "run"), STAGES, first=preflight)
    return recipe, folder / "run"


@pytest.fixture
def copy(whole: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    shutil.copytree(whole[1], tmp_path / "run")
    return whole[0], tmp_path / "run"


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_run_that_lacks_stages_is_reported_and_can_go_on(copy: tuple[Path, Path], n: int) -> None:
    recipe, folder = copy
    for stage in (*ALL[n:], "report"):
        shutil.rmtree(folder / stage)
    run = make_run(recipe, folder)
    missing = report_what_there_is(run)
    assert [m.stage for m in missing] == list(ALL[n:])
    assert missing[0].why == "it has not been run"
    assert missing[0].command == (f"tuneproof {ALL[n]} {folder}/recipe.yaml --run-dir {folder}")
    results = read_results(folder / "report/results.json")
    assert results.missing == missing
    assert results.verdict.estimate.value is None
    assert results.verdict.sentence.startswith("No verdict yet: ")
    assert (results.training is None) == (n < 2)
    assert results.rows["train"] == 36
    markdown = (folder / "report/report.md").read_text("utf-8")
    page = (folder / "report/index.html").read_text("utf-8")
    assert "> **Not finished.**" in markdown
    assert "Verdict: **no verdict yet**" in markdown
    assert f"--run-dir {folder}</code>" in page
    assert 'class="outcome">no verdict yet' in page
    assert ("of 18 questions" in markdown) == (n == 3)  # the answers are there before the judge

    assert states(run)["report"] == "waits"
    execute(run)
    assert set(states(run).values()) == {"fresh"}
    assert read_results(folder / "report/results.json").missing == ()
    assert "Not finished" not in (folder / "report/index.html").read_text("utf-8")


def test_a_stage_of_older_input_or_with_a_damaged_file_counts_as_missing(
    copy: tuple[Path, Path],
) -> None:
    recipe, folder = copy
    run = make_run(recipe, folder)
    assert missing_stages(run.dir) == ()
    with (folder / "generate/answers.jsonl").open("ab") as file:
        file.write(b"\n")
    found = missing_stages(run.dir)
    assert [m.stage for m in found] == ["generate", "judge"]
    assert found[0].why.startswith("generate/answers.jsonl")
    assert found[1].why == "judge read another generate/answers.jsonl than there is now"
    report_what_there_is(run)
    assert read_results(folder / "report/results.json").benchmarks == {}


def test_a_manifest_of_another_version_is_no_stage_that_never_ran(copy: tuple[Path, Path]) -> None:
    recipe, folder = copy
    path = folder / "judge/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"from_the_future": 1}))
    (found,) = missing_stages(make_run(recipe, folder).dir)
    assert found.stage == "judge"
    assert found.why == (
        "its manifest.json cannot be read: it is damaged, or of another version of tuneproof"
    )


def test_a_summary_of_another_version_is_refused_by_name(copy: tuple[Path, Path]) -> None:
    recipe, folder = copy
    path = folder / "train/summary.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"from_the_future": 1}))
    message = (
        r"train/summary\.json: holds no TrainingSummary of this version: from_the_future: Extra"
    )
    run = make_run(recipe, folder)
    with pytest.raises(StageError, match=message):
        snapshot(run.dir)
    # The manifest knows the bytes: to the report, the stage is damaged. No later one read it.
    (found,) = missing_stages(run.dir)
    assert (found.stage, found.later) == ("train", ("generate", "judge"))
    assert found.why == (
        "train/summary.json was changed; generate and judge, which rest on it, are shown as written"
    )


@pytest.mark.parametrize("gone", [("prepare",), ("train",), ("prepare", "train")])
def test_what_was_made_from_a_stage_that_is_gone_is_shown_with_a_warning(
    copy: tuple[Path, Path], gone: tuple[str, ...]
) -> None:
    recipe, folder = copy
    before = read_results(folder / "report/results.json")
    for stage in gone:
        shutil.rmtree(folder / stage)
    run = make_run(recipe, folder)
    missing = report_what_there_is(run)
    assert [m.stage for m in missing] == list(gone)
    later = [s for s in ALL[ALL.index(gone[-1]) + 1 :] if s not in gone]
    assert missing[-1].why == (
        f"its results are gone; {listed(later)}, which rest on it, are shown as written"
    )
    results = read_results(folder / "report/results.json")
    assert results.verdict == before.verdict, "all that it rests on is there"
    assert results.benchmarks == before.benchmarks
    assert (results.training is None) == ("train" in gone)
    page = (folder / "report/index.html").read_text("utf-8")
    markdown = (folder / "report/report.md").read_text("utf-8")
    assert "> **Not whole.**" in markdown
    assert "<strong>Not whole.</strong>" in page
    assert "of 18 questions" in markdown
    for stage, what in (("prepare", "Rows"), ("train", "Loss curve")):
        told = f"{what}: not shown ({stage} has no result in this run)"
        assert (told in page) == (stage in gone)
    assert states(run)["report"] == "waits", "it is no finished report"


def test_a_stage_begun_anew_or_run_anew_leaves_nothing_of_what_rested_on_it(
    copy: tuple[Path, Path],
) -> None:
    recipe, folder = copy
    run = make_run(recipe, folder)
    kept = folder.parent / "train"
    (folder / "train").rename(kept)
    (folder / "train").mkdir()
    shutil.copy(kept / "begun.json", folder / "train/begun.json")
    found = {m.stage: m.why for m in missing_stages(run.dir)}
    assert found == {
        "train": "it began, and has not finished",
        "generate": "generate read what train wrote before it was begun anew",
        "judge": "it rests on generate",
    }
    shutil.rmtree(folder / "train")
    kept.rename(folder / "train")
    path = folder / "train/manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    (weights,) = [f for f in manifest["outputs"] if f["path"].endswith(".safetensors")]
    weights["sha256"] = "0" * 64
    path.write_text(json.dumps(manifest), "utf-8")
    assert [m.stage for m in missing_stages(run.dir)] == ["train", "generate", "judge"]
    # What the manifest says is what counts, not its absence: the bytes are those that were read.
    path.unlink()
    (only,) = missing_stages(run.dir)
    assert only.why.startswith("its manifest.json is gone; generate and judge")
    shutil.rmtree(folder / "generate")
    (folder / "train/manifest.json").write_text(json.dumps(manifest), "utf-8")
    found = {m.stage: m.why for m in missing_stages(run.dir)}
    assert found["generate"] == "its results are gone"
    assert found["judge"] == "it rests on generate"


@pytest.mark.parametrize("judged", [True, False])
def test_a_report_that_fails_leaves_the_last_one_as_it_was(
    copy: tuple[Path, Path], judged: bool
) -> None:
    recipe, folder = copy
    before = {p: p.read_bytes() for p in (folder / "report").iterdir()}
    # A line that cannot be read, in a file whose manifest knows its bytes.
    path = folder / "generate/answers.jsonl"
    path.write_bytes(path.read_bytes() + b"no answer\n")
    for stage, files in (("generate", "outputs"), ("judge", "inputs")):
        manifest = folder / stage / "manifest.json"
        told = json.loads(manifest.read_text("utf-8"))
        (file,) = [f for f in told[files] if f["path"] == "generate/answers.jsonl"]
        file |= {"bytes": path.stat().st_size, "sha256": digest_file(path)}
        manifest.write_text(json.dumps(told), "utf-8")
    if not judged:
        shutil.rmtree(folder / "judge")
    run = make_run(recipe, folder)
    with pytest.raises(StageError, match=r"answers\.jsonl:\d+: holds no Answer"):
        report_what_there_is(run)
    after = {p: p.read_bytes() for p in (folder / "report").iterdir()}
    assert after == before
    assert sorted(p.name for p in folder.glob(".*")) == [".lock"]
    assert states(run)["report"] == ("stale" if judged else "waits")


def test_a_killed_training_is_reported_with_its_curve(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    recipe = tiny_recipe(400, train={**TRAIN, "epochs": 4})
    folder = tmp_path / "run"
    live = folder / "train/checkpoints/adapter/live.jsonl"
    kill_when(start(recipe, folder), lambda: lines(live) >= 8)
    done = tuneproof("report", folder)
    assert done.returncode == 0, done.stderr
    assert "No verdict yet: train, generate and judge have no result to rest on." in done.stdout
    results = read_results(folder / "report/results.json")
    assert results.missing[0].stage == "train"
    assert results.missing[0].why.startswith("it began, and reached step ")
    with (folder / "report/loss.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 5
    assert all(row["epoch"] == "" for row in rows)
    assert '<svg class="loss' in (folder / "report/index.html").read_text("utf-8")
    assert live.is_file(), "the report takes nothing from the training, which can go on"


def test_the_report_of_a_run_runs_nothing_else(copy: tuple[Path, Path]) -> None:
    _, folder = copy
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    done = tuneproof("report", folder)
    assert done.returncode == 0, done.stderr
    changed = {p for p, t in before.items() if p.name != ".lock" and p.stat().st_mtime_ns != t}
    assert changed == set(), "a fresh report is left alone"
    assert "is for a recipe" in refused(tuneproof("report", folder, "--set", "seed=1"))
    assert "is no run" in refused(tuneproof("report", folder.parent))


def test_a_training_taken_up_again_forgets_what_came_after_that_step() -> None:
    def line(step: int, **losses: float) -> LiveLine:
        return LiveLine(time=0, pid=1, host="h", began=0, step=step, steps=9, **losses)

    told = [
        line(0), line(1, train_loss=3.0), line(2, train_loss=2.0), line(2, eval_loss=2.5),
        line(3, train_loss=9.0), line(2), line(3, train_loss=1.0),
    ]  # fmt: skip
    assert [(p.step, p.train_loss, p.eval_loss) for p in live_points(told)] == [
        (1, 3.0, None),
        (2, 2.0, 2.5),
        (3, 1.0, None),
    ]


# --- what the report was made with -----------------------------------------------------------


def test_a_report_is_stale_when_what_makes_it_changed(
    copy: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, folder = copy
    run = make_run(recipe, folder)
    assert states(run)["report"] == "fresh"
    monkeypatch.setattr("tuneproof.report.code.code_digest", lambda: "another")
    assert states(run) == {**dict.fromkeys(ALL, "fresh"), "report": "stale"}


def test_the_digest_of_the_code_sees_templates_and_no_caches(tmp_path: Path) -> None:
    import tuneproof

    package = Path(tuneproof.__file__).parent
    for room in ("report", "stats"):
        shutil.copytree(
            package / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__")
        )
    digest = code_digest.__wrapped__
    assert digest(tmp_path) == code_digest()
    (tmp_path / "report/__pycache__").mkdir()
    (tmp_path / "report/__pycache__/page.pyc").write_bytes(b"x")
    assert digest(tmp_path) == code_digest()
    with (tmp_path / "report/templates/style.css").open("a") as file:
        file.write("\n")
    assert digest(tmp_path) != code_digest()


# --- the preflight ---------------------------------------------------------------------------


def test_what_the_preflight_found_is_kept_and_reported(copy: tuple[Path, Path]) -> None:
    recipe, folder = copy
    run = make_run(recipe, folder)
    kept = Preflight.model_validate_json(run.dir.preflight_file.read_bytes())
    assert "single-seed" in {f.id for f in kept.findings}
    assert read_results(folder / "report/results.json").preflight == kept
    markdown = (folder / "report/report.md").read_text("utf-8")
    page = (folder / "report/index.html").read_text("utf-8")
    for finding in kept.findings:
        assert f"- {finding.severity}, {finding.id}: " in markdown
        assert f"<code>{finding.id}</code>" in page

    # The same is not made again; another recipe has other findings, and its report is another.
    before = digest_file(run.dir.preflight_file), run.dir.preflight_file.stat().st_mtime_ns
    preflight(run)
    after = digest_file(run.dir.preflight_file), run.dir.preflight_file.stat().st_mtime_ns
    assert before == after
    other = make_run(recipe, folder, "train.seeds=2")
    preflight(other)
    found = Preflight.model_validate_json(run.dir.preflight_file.read_bytes())
    assert "single-seed" not in {f.id for f in found.findings}
    assert states(run)["report"] == "stale"


def test_a_preflight_of_another_version_is_made_again(copy: tuple[Path, Path]) -> None:
    recipe, folder = copy
    run = make_run(recipe, folder)
    whole = run.dir.preflight_file.read_bytes()
    run.dir.preflight_file.write_text('{"findings": "many"}')
    preflight(run)
    assert run.dir.preflight_file.read_bytes() == whole


def test_a_preflight_that_cannot_be_made_says_so_and_stops_nothing(
    copy: tuple[Path, Path], tmp_path: Path
) -> None:
    recipe, folder = copy
    run = make_run(recipe, folder, f"model.id={tmp_path / 'nothing'}")
    path = run.dir.preflight_file
    kept = keep_findings(path, run.recipe, rests_on={}, prepared=lambda: run.prepared)
    assert kept.problem is not None
    assert "nothing" in kept.problem
    report_what_there_is(make_run(recipe, folder))
    assert "The preflight could not be made: " in (folder / "report/report.md").read_text("utf-8")


def test_a_run_without_a_preflight_says_so(copy: tuple[Path, Path]) -> None:
    recipe, folder = copy
    os.remove(folder / "preflight.json")
    report_what_there_is(make_run(recipe, folder))
    assert "The run kept no preflight" in (folder / "report/report.md").read_text("utf-8")
