"""A training's curve drawn in characters, and watched from another process."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.terminal import Terminal, foreign, plain, widest
from tests.unit import report_case
from tests.unit.compare_case import manifest
from tuneproof.errors import RunDirError, StageError
from tuneproof.loss_chart import Curve, chart, told
from tuneproof.train.live import FILE, LiveLog, read_live
from tuneproof.watch import clock, snapshot
from tuneproof.workspace import RunDir, write_json, write_records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def text(curve: Curve, *, width: int, height: int = 6) -> list[str]:
    return ["".join(t for t, _ in line) for line in chart(curve, width=width, height=height)]


def test_a_curve_by_hand() -> None:
    curve = Curve(steps=10)
    for step, loss in enumerate([3.0, 3.0, 2.0, 2.0, 1.0, 1.0], start=1):
        curve.add(step, train=loss)
    curve.add(6, validation=2.0)
    # Ten columns for ten steps; two rows are sixteen eighths: 3.0 has all, 2.0 half, 1.0 one.
    assert text(curve, width=20, height=2) == [
        "   3.000 ┤██▁▁ ●",
        "   1.000 ┤████▁▁",
        "         └──────────",
        "          0  step 10",
    ]


def test_a_curve_that_has_no_points_or_no_room_is_not_drawn() -> None:
    assert chart(Curve(steps=10), width=80) == []
    curve = Curve(steps=10)
    curve.add(1, train=math.nan, validation=math.inf)
    assert chart(curve, width=80) == []
    curve.add(1, train=1.0)
    assert chart(curve, width=15) == []
    assert text(curve, width=80)  # one value has no range, and is drawn all the same


@pytest.mark.parametrize("width", [20, 80, 160, 400])
def test_no_line_is_wider_than_asked(width: int) -> None:
    curve = Curve(steps=2253)
    for p in report_case.curve():
        curve.add(p.step * 15, train=p.train_loss, validation=p.eval_loss)
    lines = text(curve, width=width)
    assert max(map(len, lines)) <= min(width, 110)
    assert sum(line.count("●") for line in lines) == 7
    roles = {role for line in chart(curve, width=width) for _, role in line}
    assert roles == {"axis", "train", "validation"}


def test_the_last_validations_are_told() -> None:
    curve = Curve(steps=100)
    for step, loss in ((10, 3.0), (20, 1.5), (30, 2.0), (40, 1.9)):
        curve.add(step, validation=loss)
    assert told(curve) == "● validation 1.500 (step 20), 2.000 (30), 1.900 (40); lowest 1.500 (20)"
    assert told(Curve(steps=3)) == ""


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    folder = RunDir(tmp_path / "run")
    folder.path.mkdir()
    folder.recipe_file.write_text("name: watched\nseed: 1\n")
    return folder


def live_path(run: RunDir, adapter: str = "adapter") -> Path:
    return run.stage("train") / "checkpoints" / adapter / FILE


def test_a_training_that_runs(run: RunDir) -> None:
    assert snapshot(run).says == "training has not begun"
    log = LiveLog(live_path(run), began=0, steps=40)
    log.write(10, train_loss=3.0, tokens_per_s=123.4, memory_gib=2.04)
    log.write(10, eval_loss=2.5)
    log.write(20, train_loss=float("nan"), tokens_per_s=120.0, memory_gib=2.1)
    frame = snapshot(run)
    assert frame.state == "running"
    assert frame.facts[:3] == ("step 20 of 40", "120 tokens/s", "2.1 GiB")
    assert frame.facts[3].endswith(" left")
    assert (frame.curve.train, frame.curve.validation) == ({10: 3.0}, {10: 2.5})
    assert frame.rests_on == "train/checkpoints/adapter/live.jsonl, a line for every logged loss"


def test_a_training_that_was_killed_and_resumed(run: RunDir) -> None:
    path = live_path(run)
    log = LiveLog(path, began=0, steps=40)
    for step in (10, 20, 30):
        log.write(step, train_loss=4.0 - step / 10)
    with path.open("a") as file:
        file.write('{"time": 1.0, "pid"')  # torn by a kill
    assert len(read_live(path)) == 4
    again = LiveLog(path, began=20, steps=40)
    frame = snapshot(run)
    assert frame.curve.train == {10: 3.0, 20: 2.0}  # 30 is to be done again
    again.write(30, train_loss=0.5)
    assert snapshot(run).curve.train == {10: 3.0, 20: 2.0, 30: 0.5}


def test_before_the_first_whole_line_it_waits(run: RunDir) -> None:
    path = live_path(run)
    path.parent.mkdir(parents=True)
    for torn in (b"", b'{"time": 1.0, "pid"'):
        path.write_bytes(torn)
        frame = snapshot(run)
        assert (frame.state, frame.says, frame.facts) == ("waiting", "training begins", ())
    # What comes after a first line that a full disk tore is shown.
    LiveLog(path, began=5, steps=40).write(10, train_loss=3.0)
    whole = path.read_text().splitlines()
    path.write_text("\n".join([whole[0], whole[1][:20], whole[2]]) + "\n")
    frame = snapshot(run)
    assert (frame.state, frame.facts) == ("running", ("step 10 of 40",))


def rewrite_last(path: Path, **changes: Any) -> None:
    *before, last = path.read_text().splitlines()
    path.write_text("\n".join([*before, json.dumps(json.loads(last) | changes)]) + "\n")


def test_whether_somebody_is_working(run: RunDir) -> None:
    path = live_path(run, "adapter-2")
    LiveLog(path, began=0, steps=40).write(10, train_loss=3.0)
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    rewrite_last(path, pid=gone.pid, time=time.time() - 300)
    frame = snapshot(run)
    assert (frame.title, frame.state) == ("watched, adapter-2", "ended")
    assert "gone, last heard of 5 min ago" in frame.says
    rewrite_last(path, host="elsewhere")
    assert snapshot(run).says.startswith("training on elsewhere")
    rewrite_last(path, host=socket.gethostname(), pid=os.getpid())
    assert snapshot(run).state == "running"


def test_without_lines_the_last_checkpoint_tells(run: RunDir) -> None:
    path = run.stage("train") / "checkpoints/adapter/checkpoint-20/trainer_state.json"
    history = [{"step": 10, "loss": 3.0}, {"step": 20, "loss": 2.0}, {"step": 20, "eval_loss": 2.2}]
    write_json(path, {"max_steps": 40, "global_step": 20, "log_history": history})
    frame = snapshot(run)
    assert frame.curve.train == {10: 3.0, 20: 2.0}
    assert frame.facts == ("step 20 of 40",)
    assert frame.rests_on.endswith("checkpoint-20/trainer_state.json, as of that checkpoint")
    path.write_text("{}")
    with pytest.raises(StageError, match=r"trainer_state\.json: is no trainer state"):
        snapshot(run)


def test_what_is_no_run_or_damaged_is_refused(run: RunDir, tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match="is no run"):
        snapshot(RunDir(tmp_path))
    live_path(run).parent.mkdir(parents=True)
    live_path(run).write_text('{"step": 1}\n')
    with pytest.raises(StageError, match=r"live\.jsonl:1: not a LiveLine"):
        snapshot(run)


def test_clock() -> None:
    assert [clock(s) for s in (0.4, 99, 100, 5999, 11100)] == [
        "0 s", "99 s", "2 min", "100 min", "3 h 5 min",
    ]  # fmt: skip


@pytest.fixture
def done(run: RunDir) -> RunDir:
    write_records(run.stage("train") / "loss.jsonl", report_case.curve())
    summary = report_case.training().model_dump(mode="json")
    write_json(run.stage("train") / "summary.json", summary)
    run.write_manifest(manifest("train", {}))
    return run


@pytest.mark.parametrize("columns", [80, 160])
def test_one_look_on_a_terminal(done: RunDir, columns: int) -> None:
    done.recipe_file.write_text("name: 'a\x1b[2Jb'\n")
    terminal = Terminal("watch", done.path, "--once", columns=columns)
    assert terminal.finish() == 0
    assert foreign(terminal.seen) == ""
    assert "\x1b[2J" not in terminal.seen
    assert columns * 0.6 < widest(terminal.seen) <= columns
    shown = plain(terminal.seen)
    assert "training is done" in shown
    assert "from train/loss.jsonl and train/summary.json" in shown
    assert sum("┤" in line or "│" in line for line in shown.splitlines()) == 6


def test_piped(done: RunDir) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "tuneproof", "watch", done.path],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "\x1b" not in said
    assert "144 steps · 412,334 tokens" in said
    assert "● validation" in said
    assert said.endswith("training is done\n")


def test_live_and_watched_from_elsewhere(tmp_path: Path, tiny_recipe: Callable[..., Path]) -> None:
    """A real training in one terminal, its curve in another, and its lines in a pipe."""
    recipe, run = tiny_recipe(n_rows=120), tmp_path / "run"
    training = Terminal("train", recipe, "--run-dir", run, columns=80)
    end = time.monotonic() + 120
    while not (run / "recipe.yaml").exists() and time.monotonic() < end:
        training._read(0.1)
    watching = Terminal("watch", run, columns=160)
    piped = subprocess.Popen(
        [sys.executable, "-m", "tuneproof", "watch", run], stdout=subprocess.PIPE, text=True
    )
    assert training.finish() == 0
    assert watching.finish() == 0
    said, _ = piped.communicate(timeout=60)
    for seen, columns in ((training.seen, 80), (watching.seen, 160)):
        assert foreign(seen) == ""
        assert widest(seen) <= columns
        assert "18/18" in plain(seen) or "18 steps" in plain(seen)
        assert "┤" in seen
        assert "● validation" in plain(seen)
    assert "tokens/s" in plain(training.seen)
    assert "GiB" in plain(training.seen)
    assert said.endswith("training is done\n")
    assert "\x1b" not in said
    assert not list((run / "train").rglob(FILE))  # gone with the checkpoints
