"""A command on a real pseudo-terminal, and what is to be seen there."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pexpect
import pyte
from pexpect.fdpexpect import fdspawn
from project import Project


def spawn(
    project: Project, *command: str, env: Mapping[str, str] | None = None, size: tuple[int, int] = (24, 80)
) -> tuple[Any, Any]:
    """Start a command on a terminal; return what pexpect has for its text, and the process."""
    program, terminal = project.start_on_terminal(*command, env=env, size=size)
    return fdspawn(terminal, encoding="utf-8", timeout=30), program


def interrupt(terminal: Any, program: Any) -> None:
    """Press Ctrl-C when the program waits for input. Python would not notice it if it came shortly before."""
    state, seen = Path(f"/proc/{program.pid}/stat"), ""
    while state.exists() and not seen.endswith("SSS"):
        seen += state.read_text("utf-8").rpartition(")")[2].split()[0]
        time.sleep(0.02)
    terminal.send("\x03")


class Screen:
    """A terminal in which a command runs.

    :ivar raw: all that was written to it.
    """

    def __init__(
        self, project: Project, *command: str, columns: int = 80, lines: int = 24, env: Mapping[str, str] | None = None
    ) -> None:
        self._program, terminal = project.start_on_terminal(
            *command, env={"TERM": "xterm-256color", **(env or {})}, size=(lines, columns)
        )
        self._process = fdspawn(terminal)
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self.raw = b""

    @property
    def shown(self) -> str:
        """The lines on it, without what is blank."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip()

    @property
    def has_cursor(self) -> bool:
        return not self._screen.cursor.hidden

    def wait(self, condition: Callable[[str], object], seconds: float = 30) -> str:
        """Wait until the screen shows something, and return what it shows then."""
        deadline = time.monotonic() + seconds
        while not condition(shown := self.shown):
            assert time.monotonic() < deadline, shown
            assert self._read(), f"it ended:\n{shown}"
        return shown

    def _read(self) -> bool:
        try:
            data = self._process.read_nonblocking(65536, 0.05)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.raw += data
        self._stream.feed(data)
        return True

    def type(self, text: str) -> None:
        self._process.send(text)

    def interrupt(self) -> None:
        interrupt(self._process, self._program)

    def signal(self, number: signal.Signals) -> None:
        self._program.send_signal(number)

    def end(self) -> int:
        """Wait for the command, and return its exit code."""
        while self._read():
            pass
        self._process.close()
        return self._program.wait(30)
