"""A training seen from another process: what it has written to disk so far.

While it runs there is a line for every logged loss (``train/checkpoints/…/live.jsonl``); where
there is none, the trainer's state in the last checkpoint; when it is done, the loss curve of the
stage. The frame says which of these it rests on. Nothing in the run is touched.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tuneproof.errors import StageError
from tuneproof.loss_chart import Curve, told
from tuneproof.progress import curve_lines, printable
from tuneproof.records import LossPoint, TrainingSummary
from tuneproof.report.unfinished import live_files, live_points
from tuneproof.train.live import read_live
from tuneproof.workspace import read_record, read_records

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Group

    from tuneproof.workspace import RunDir

EVERY_S = 1.0

State = Literal["waiting", "running", "ended", "done"]


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What is known at one moment. ``facts`` are step, speed, memory, time left; ``rests_on`` says
    where all of it comes from, and ``says`` how the training stands."""

    title: str
    state: State
    says: str
    curve: Curve
    facts: tuple[str, ...]
    rests_on: str


def snapshot(run: RunDir) -> Frame:
    """The frame of this moment.

    Raises:
        RunDirError: the folder is no run.
        StageError: a file of the training cannot be read.
    """
    run.must_be_run()
    train = run.stage("train")
    if run.manifest("train") is not None:
        return _done(run, train)
    lives = live_files(run)
    if lives:
        return _live(run, lives[-1])
    states = sorted(
        train.glob("checkpoints/*/checkpoint-*/trainer_state.json"), key=lambda p: p.stat().st_mtime
    )
    if states:
        return _checkpoint(run, states[-1])
    return Frame(
        title=run.owner,
        state="waiting",
        says="training has not begun",
        curve=Curve(steps=1),
        facts=(),
        rests_on=f"no loss in {train}",
    )


def _done(run: RunDir, train: Path) -> Frame:
    summary = read_record(train / "summary.json", TrainingSummary)
    curve = Curve(steps=summary.steps)
    for p in read_records(train / "loss.jsonl", LossPoint):
        curve.add(p.step, train=p.train_loss, validation=p.eval_loss)
    facts = [
        f"{summary.steps:,} steps",
        f"{summary.tokens:,} tokens",
        f"{summary.tokens / max(summary.duration_s, 1e-9):,.0f} tokens/s, all included",
        clock(summary.duration_s),
    ]
    others = sorted(p.name for p in train.glob("loss-*.jsonl"))
    if others:
        facts.append(f"of the first adapter; others in {', '.join(others)}")
    return Frame(
        title=run.owner,
        state="done",
        says="training is done",
        curve=curve,
        facts=tuple(facts),
        rests_on="train/loss.jsonl and train/summary.json",
    )


def _live(run: RunDir, path: Path) -> Frame:
    lines = read_live(path)
    if not lines:
        # Its first line is being written, or was torn by a kill.
        return Frame(
            title=_title(run, path),
            state="waiting",
            says="training begins",
            curve=Curve(steps=1),
            facts=(),
            rests_on=f"no whole line yet in {path.relative_to(run.path)}",
        )
    curve = Curve(steps=lines[-1].steps)
    for p in live_points(lines):
        curve.add(p.step, train=p.train_loss, validation=p.eval_loss)
    last = lines[-1]
    # The line that this process began with; where it was torn, the first of its others.
    of_process = [line for line in lines if line.pid == last.pid]
    begun = [x for x in of_process if x.step == x.began and x.train_loss is None]
    first = begun[-1] if begun else of_process[0]
    facts = [f"step {last.step:,} of {last.steps:,}"]
    if last.tokens_per_s is not None:
        facts.append(f"{last.tokens_per_s:,.0f} tokens/s")
    if last.memory_gib is not None:
        facts.append(f"{last.memory_gib:.1f} GiB")
    alive = _alive(last.pid, last.host)
    age = max(0.0, time.time() - last.time)
    if alive is not False and last.step > first.step:
        pace = (last.time - first.time) / (last.step - first.step)
        left = (last.steps - last.step) * pace - age
        facts.append(f"{clock(max(0.0, left))} left")
    says = {
        True: f"training, last heard of {clock(age)} ago",
        False: f"the process that trained is gone, last heard of {clock(age)} ago; the same "
        "command goes on from its last checkpoint",
        None: f"training on {last.host}, last heard of {clock(age)} ago",
    }[alive]
    return Frame(
        title=_title(run, path),
        state="ended" if alive is False else "running",
        says=says,
        curve=curve,
        facts=tuple(facts),
        rests_on=f"{path.relative_to(run.path)}, a line for every logged loss",
    )


def _checkpoint(run: RunDir, path: Path) -> Frame:
    try:
        state = json.loads(path.read_bytes())
        curve = Curve(steps=int(state["max_steps"]))
        for entry in state["log_history"]:
            curve.add(
                int(entry["step"]), train=entry.get("loss"), validation=entry.get("eval_loss")
            )
        step = int(state["global_step"])
    except (ValueError, KeyError, TypeError) as error:
        raise StageError(f"is no trainer state: {error}", place=str(path)) from None
    age = time.time() - path.stat().st_mtime
    return Frame(
        title=_title(run, path.parent),
        state="running",
        says=f"a checkpoint of {clock(age)} ago; whether it still trains is not known",
        curve=curve,
        facts=(f"step {step:,} of {curve.steps:,}",),
        rests_on=f"{path.relative_to(run.path)}, as of that checkpoint",
    )


def _title(run: RunDir, path: Path) -> str:
    adapter = path.parent.name
    return run.owner if adapter == "adapter" else f"{run.owner}, {adapter}"


def _alive(pid: int, host: str) -> bool | None:
    """Whether the process is there; None where it is on another machine."""
    if host != socket.gethostname():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def clock(seconds: float) -> str:
    """``42 s``, ``6 min``, ``3 h 5 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


# --- showing ---------------------------------------------------------------------------------


def watch(run: RunDir, *, once: bool) -> None:
    """Show frames on standard output until the training ends; with ``once``, a single one.

    On a terminal the frame is drawn again and again; elsewhere a line is printed for each new loss.
    """
    from rich.console import Console

    frame = snapshot(run)
    if not sys.stdout.isatty():
        _lines(run, frame, once=once)
        return
    console = Console(highlight=False, markup=False)
    if once:
        console.print(_drawn(frame, console.width))
        return
    from rich.live import Live

    with Live(_drawn(frame, console.width), console=console, auto_refresh=False) as live:
        while frame.state in ("waiting", "running"):
            time.sleep(EVERY_S)
            frame = snapshot(run)
            live.update(_drawn(frame, console.width), refresh=True)


def _drawn(frame: Frame, width: int) -> Group:
    from rich.console import Group
    from rich.text import Text

    return Group(
        Text.assemble((printable(frame.title), "bold cyan"), f"  {printable(frame.says)}"),
        *curve_lines(frame.curve, width=width, below=_facts(frame)),
        Text(f"  from {printable(frame.rests_on)}", style="dim"),
    )


def _facts(frame: Frame) -> str:
    train = frame.curve.train
    loss = [f"train loss {train[max(train)]:.3f}"] if train else []
    return " · ".join([*loss, *frame.facts])


def _lines(run: RunDir, frame: Frame, *, once: bool) -> None:
    print(printable(f"{frame.title}: {frame.says} (from {frame.rests_on})"))  # noqa: T201
    shown = ""
    while True:
        said = "  ".join(part for part in (_facts(frame), told(frame.curve)) if part)
        # The time left changes with every look, and is no news.
        news = f"{frame.curve.last_step} {told(frame.curve)}"
        if said and news != shown:
            print(printable(said), flush=True)  # noqa: T201
            shown = news
        if once or frame.state in ("ended", "done"):
            break
        time.sleep(EVERY_S)
        frame = snapshot(run)
    if not once:
        print(printable(frame.says))  # noqa: T201
