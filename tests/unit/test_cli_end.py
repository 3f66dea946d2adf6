"""How the command line ends: by a signal, or with an error."""

from __future__ import annotations

import subprocess
import sys

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
