"""The whole road on a tiny model: what is written, what is skipped, what is done again and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tuneproof.errors import BusyRunError, RunDirError
from tuneproof.pipeline import Run, StageStatus, run_status
from tuneproof.pipeline import execute as execute_stages
from tuneproof.progress import SilentReporter
from tuneproof.recipe_file import load_recipe
from tuneproof.records import Answer, Arm, BatchPlan, Prompt, Stop
from tuneproof.results import Results
from tuneproof.stages import STAGES, stages_until
from tuneproof.workspace import RunDir, digest_file, read_records

if TYPE_CHECKING:
    from collections.abc import Callable


def make_run(recipe: Path, folder: Path, *overrides: str) -> Run:
    return Run(load_recipe(recipe, overrides), RunDir(folder), SilentReporter())


def execute(run: Run, *, until: str = "report") -> list[StageStatus]:
    return execute_stages(run, stages_until(until))


def status(run: Run) -> list[StageStatus]:
    return run_status(run, STAGES)


def states(run: Run) -> dict[str, str]:
    return {s.stage: s.state for s in status(run)}


@pytest.fixture
def finished(tmp_path: Path, tiny_recipe: Callable[..., Path]) -> tuple[Path, Path]:
    recipe, folder = tiny_recipe(), tmp_path / "run"
    execute(make_run(recipe, folder))
    return recipe, folder


def test_a_run_holds_what_it_promises(finished: tuple[Path, Path]) -> None:
    recipe, folder = finished
    for name in (
        "recipe.yaml",
        "prepare/train.jsonl",
        "prepare/validation.jsonl",
        "prepare/test.jsonl",
        "prepare/examples.jsonl",
        "train/adapter/adapter_config.json",
        "train/adapter/adapter_model.safetensors",
        "train/trainer_state.json",
        "train/loss.jsonl",
        "generate/answers.jsonl",
        "generate/plan.json",
        "generate/heldout_loss.jsonl",
        "judge/similarity.jsonl",
        "report/index.html",
        "report/report.md",
        "report/results.json",
        "report/loss.svg",
        "report/loss.csv",
        *(f"{stage.name}/manifest.json" for stage in STAGES),
    ):
        assert (folder / name).is_file(), name
    assert not list(folder.rglob("*.partial"))
    assert not (folder / "train/checkpoints").exists()
    # The resolved copy is the recipe, every default written out.
    assert load_recipe(folder / "recipe.yaml") == load_recipe(recipe)
    # Nothing in the run names the folder it was made in, so that it can be moved, or the
    # working directory; the model's folder stands in the recipe and where that is quoted.
    for path in folder.rglob("*.json*"):
        assert str(folder) not in path.read_text("utf-8"), path
        assert str(Path.cwd()) not in path.read_text("utf-8"), path


def test_every_number_of_the_report_is_there(finished: tuple[Path, Path]) -> None:
    results = Results.model_validate_json((finished[1] / "report/results.json").read_bytes())
    assert results.heldout_loss is not None
    assert results.heldout_loss.difference.value is not None
    heldout = results.benchmarks["heldout"]
    assert heldout.n_questions == 18
    assert heldout.exact_match is not None
    assert heldout.chrf is not None
    assert heldout.pairwise is None
    assert results.rows == {"train": 36, "validation": 6, "test": 18}
    assert results.training is not None
    assert results.training.steps == 9
    assert results.training.eos_supervised_rows == 36
    # The trainer counted the tokens that it saw: in one epoch all of them, and of each row all
    # but the first are targets.
    assert results.training.tokens == results.training.supervised_tokens_per_epoch + 36


def test_a_second_run_does_nothing(finished: tuple[Path, Path]) -> None:
    recipe, folder = finished
    before = {p: (p.stat().st_mtime_ns, digest_file(p)) for p in folder.rglob("*") if p.is_file()}
    done = execute(make_run(recipe, folder))
    assert [s.state for s in done] == ["fresh"] * 5
    after = {p: (p.stat().st_mtime_ns, digest_file(p)) for p in folder.rglob("*") if p.is_file()}
    before.pop(folder / ".lock")
    after.pop(folder / ".lock")
    assert before == after


def test_status_names_what_changed(finished: tuple[Path, Path]) -> None:
    recipe, folder = finished
    run = make_run(recipe, folder, "train.learning_rate=0.02")
    by_name = {s.stage: s for s in status(run)}
    assert by_name["prepare"].state == "fresh"
    assert by_name["train"].state == "stale"
    assert by_name["train"].reasons == ("train.learning_rate was 0.01, is 0.02",)
    assert by_name["generate"].state == "waits"
    # The report's own key holds the whole recipe.
    assert by_name["report"].state == "stale"


def test_what_does_not_matter_to_a_stage_leaves_it_fresh(finished: tuple[Path, Path]) -> None:
    recipe, folder = finished
    run = make_run(recipe, folder, "verdict.metric=heldout_loss", "train.loader_workers=1")
    assert states(run) == {
        "prepare": "fresh",
        "train": "fresh",
        "generate": "fresh",
        "judge": "fresh",
        "report": "stale",
    }


def test_same_bytes_upstream_leave_the_rest_fresh(finished: tuple[Path, Path]) -> None:
    """A row that is dropped changes the source's digest, and not one prepared byte."""
    recipe, folder = finished
    source = Path(json.loads(recipe.read_text())["data"]["source"]["path"])
    with source.open("a") as file:
        file.write(json.dumps({"instruction": "x", "context": "", "response": " "}) + "\n")
    done = execute(make_run(recipe, folder))
    assert {s.stage: s.state for s in done} == {
        "prepare": "stale",
        "train": "fresh",
        "generate": "fresh",
        "judge": "fresh",
        "report": "stale",  # it prints the ledger
    }
    ledger = make_run(recipe, folder).dir.manifest("prepare")
    assert ledger is not None
    assert ledger.ledger is not None
    assert ledger.ledger.dropped == {"empty response": 1}


def test_a_damaged_output_is_made_again(finished: tuple[Path, Path]) -> None:
    recipe, folder = finished
    answers = folder / "generate/answers.jsonl"
    whole = answers.read_bytes()
    answers.write_bytes(whole[:-10])
    run = make_run(recipe, folder)
    by_name = {s.stage: s for s in status(run)}
    assert by_name["generate"].reasons == ("generate/answers.jsonl was changed",)
    execute(run)
    assert answers.read_bytes() == whole
    manifest = run.dir.manifest("generate")
    assert manifest is not None
    # Nothing was generated again: the journal had it all.
    assert manifest.resumed == 2 * 18 + 2 * 18


def test_another_recipe_does_not_get_the_folder(
    finished: tuple[Path, Path], tiny_recipe: Callable[..., Path]
) -> None:
    other = tiny_recipe(name="other")
    with pytest.raises(RunDirError, match="is the run of another recipe, 'tiny'") as error:
        execute(make_run(other, finished[1]))
    assert error.value.exit_code == 2


def test_a_run_can_be_moved(finished: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, folder = finished
    moved = folder.rename(tmp_path / "elsewhere")
    assert set(states(make_run(recipe, moved)).values()) == {"fresh"}


def test_a_stage_that_waits_for_another_process(finished: tuple[Path, Path]) -> None:
    recipe, folder = finished
    with (
        RunDir(folder).locked(),
        pytest.raises(BusyRunError, match="another process is working in this run") as error,
    ):
        execute(make_run(recipe, folder))
    assert error.value.exit_code == 1


def test_a_lost_batch_plan_is_the_same_again(finished: tuple[Path, Path]) -> None:
    recipe, folder = finished
    plan = folder / "generate/plan.json"
    before, answers = plan.read_bytes(), (folder / "generate/answers.jsonl").read_bytes()
    plan.unlink()
    assert states(make_run(recipe, folder))["generate"] == "stale"
    execute(make_run(recipe, folder))
    assert plan.read_bytes() == before
    assert (folder / "generate/answers.jsonl").read_bytes() == answers
    manifest = RunDir(folder).manifest("generate")
    assert manifest is not None
    assert manifest.facts["batches"] == len(BatchPlan.model_validate_json(before).batches)
    assert manifest.resumed == 4 * len(read_records(folder / "generate/prompts.jsonl", Prompt))


def test_answers_say_why_they_stopped(finished: tuple[Path, Path]) -> None:
    answers = read_records(finished[1] / "generate/answers.jsonl", Answer)
    assert [a.arm for a in answers] == [Arm.BASE] * 18 + [Arm.TUNED] * 18
    for answer in answers:
        assert answer.stop in (Stop.EOS, Stop.LENGTH)
        assert (answer.stop is Stop.LENGTH) == (answer.n_tokens == 6)


def test_a_prompt_beyond_the_context_is_a_counted_failure(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    """The tiny model has 256 positions."""
    recipe = tiny_recipe(generate={"max_new_tokens": 235, "batch_size": 4})
    run = make_run(recipe, tmp_path / "run")
    execute(run)
    answers = read_records(tmp_path / "run/generate/answers.jsonl", Answer)
    failed = [a for a in answers if a.stop is Stop.ERROR]
    assert failed
    assert all(a.text == "" and a.error and "exceed the context of 256" in a.error for a in failed)
    manifest = run.dir.manifest("generate")
    assert manifest is not None
    assert manifest.facts["errors"] == len(failed)


def test_output_dir_is_relative_to_the_working_directory(
    tmp_path: Path, tiny_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe()
    monkeypatch.chdir(tmp_path)
    run = make_run(recipe, tmp_path / "run", "data.output_dir=data/prepared")
    execute(run, until="prepare")
    assert (tmp_path / "data/prepared/train.jsonl").is_file()
    assert not (tmp_path / "run/prepare/train.jsonl").exists()
    assert (tmp_path / "run/prepare/examples.jsonl").is_file()
    assert states(run)["prepare"] == "fresh"
    (tmp_path / "data/prepared/test.jsonl").write_text("")
    assert states(run)["prepare"] == "stale"
