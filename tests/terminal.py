"""A terminal for tests: a command in a pseudo-terminal of a given width, as a person has it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_SEQUENCE = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
OWN = re.compile(r"\x1b\[(?:[0-9;]*m|[0-9]*[ABCDEFGJK]|\?25[lh]|\?2004[lh])")
"""What our own drawing may send: colours, cursor movement, erasing, hiding the cursor; and the line
editor, its paste mode."""


class Terminal:
    """``tuneproof`` at work in a pseudo-terminal; ``seen`` is all that it wrote, as it came."""

    def __init__(
        self,
        *arguments: object,
        columns: int = 80,
        rows: int = 40,
        program: Sequence[str] = ("-m", "tuneproof"),
        **environment: str,
    ) -> None:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        ours = {"TERM": "xterm-256color", "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
        inherited = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "CI")}
        self._process = subprocess.Popen(
            [sys.executable, *program, *map(str, arguments)],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env=inherited | ours | environment,
        )  # fmt: skip
        os.close(slave)
        self._master = master
        self._raw = b""

    @property
    def seen(self) -> str:
        return self._raw.decode("utf-8", "replace").replace("\r\n", "\n")

    def _read(self, wait_s: float) -> bool:
        """Read what is there; False at the end."""
        ready, _, _ = select.select([self._master], [], [], wait_s)
        if not ready:
            return self._process.poll() is None
        try:
            got = os.read(self._master, 65536)
        except OSError:  # Linux says so when the other side is closed
            return False
        self._raw += got
        return bool(got)

    def wait_for(self, text: str, *, timeout_s: float = 60) -> None:
        """Until the text has been written since the last ``type``."""
        end = time.monotonic() + timeout_s
        while text not in plain(self.seen[self._typed_at :]):
            if time.monotonic() > end or not self._read(0.2):
                if text in plain(self.seen[self._typed_at :]):
                    return
                raise AssertionError(f"never saw {text!r} in {self.seen[-2000:]!r}")

    _typed_at = 0

    def type(self, text: str) -> None:
        """Type a line."""
        self._typed_at = len(self.seen)
        os.write(self._master, text.encode() + b"\n")

    def finish(self, *, timeout_s: float = 120) -> int:
        """Until the command ends; its exit code."""
        end = time.monotonic() + timeout_s
        while self._read(0.2):
            if time.monotonic() > end:
                self._process.kill()
                raise AssertionError(f"did not end: {self.seen[-2000:]!r}")
        code = self._process.wait(timeout=30)
        os.close(self._master)
        return code


def plain(text: str) -> str:
    """The text without control sequences."""
    return _SEQUENCE.sub("", text)


def foreign(text: str) -> str:
    """Control characters that are not our own drawing; empty where all is well."""
    rest = OWN.sub("", text)
    return "".join(c for c in rest if not c.isprintable() and c not in "\n\r\t")


def widest(text: str) -> int:
    """The longest line, in columns (wide characters are not counted as such)."""
    return max(len(line) for part in plain(text).split("\n") for line in part.split("\r"))
