"""How the command line ends: by a signal, with an error, or with what it did."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STOPPED = """
import os, signal, sys, time
from tuneproof.cli import app, main

@app.command()
def wait() -> None:
    if {ignored}:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        os.kill(os.getpid(), signal.{name})
        time.sleep(30)
    finally:
        print("ended cleanly")

sys.argv = ["tuneproof", "wait"]
main()
"""


def stopped(name: str, *, ignored: bool = False) -> subprocess.CompletedProcess[str]:
    code = STOPPED.format(name=name, ignored=ignored)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )


def test_sigterm_ends_it_as_ctrl_c_does() -> None:
    for done, code in (
        (stopped("SIGINT"), 130),
        (stopped("SIGTERM"), 143),
        (stopped("SIGTERM", ignored=True), 143),
    ):
        assert (done.returncode, done.stdout) == (code, "ended cleanly\n")
        assert "the same command goes on where this one stopped" in done.stderr
        assert "Traceback" not in done.stderr


def tuneproof(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tuneproof", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_an_error_is_a_result_for_a_program(tmp_path: Path) -> None:
    for verb in ("status", "report"):
        done = tuneproof(verb, tmp_path, "--json")
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        error = json.loads(done.stdout)["error"]
        assert error["exit_code"] == 2
        assert error["kind"] == "RunDirError"
        assert error["place"]
        assert error["message"] in done.stderr
    assert tuneproof("status", tmp_path).stdout == ""


def test_the_facts_of_each_stage_that_ran(tmp_path: Path, tiny_recipe: Callable[..., Path]) -> None:
    recipe, folder = tiny_recipe(), tmp_path / "run"
    done = tuneproof("prepare", recipe, "--run-dir", folder, "--json")
    told = json.loads(done.stdout)
    manifest = json.loads((folder / "prepare/manifest.json").read_bytes())
    assert told == {
        "run": str(folder), "ran": ["prepare"], "facts": {"prepare": manifest["facts"]},
    }  # fmt: skip
    again = json.loads(tuneproof("prepare", recipe, "--run-dir", folder, "--json").stdout)
    assert (again["ran"], again["facts"]) == ([], {})
