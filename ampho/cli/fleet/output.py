"""What ``db-up`` prints while it upgrades many databases."""

from __future__ import annotations

import os
import sys
import time

from ampho._text import counted, escaped, listed, printable
from ampho.cli.lines import columns, say
from ampho.cli.reporter import in_seconds
from ampho.cli.terminal import is_terminal
from ampho.fleet.report import Ending, FleetOutcome
from ampho.fleet.upgrade import FleetObserver, Progress

_LONGEST_CAUSE = 80  # characters; the report at the end contains more
_RUNNING = 3  # the maximum number of databases that the line of progress names
_SECONDS = 0.1  # how often the line is drawn during the survey
_WARNING = "Warning: "


def observer() -> Lines:
    """Return the observer for the current output."""
    is_dumb = os.environ.get("TERM", "" if os.name == "nt" else "dumb") in ("dumb", "unknown")
    return ProgressLine() if is_terminal() and not is_dumb else Lines()


class Lines(FleetObserver):
    """Prints a line for each database that is changed or fails, and what the workers print."""

    def __init__(self) -> None:
        self._warned: set[str] = set()

    def ended(self, ending: Ending) -> None:
        if ending.outcome is FleetOutcome.UP_TO_DATE:
            return
        color = "green" if ending.outcome is FleetOutcome.UPGRADED else "red"
        how = f"{counted(len(ending.applied))} in {in_seconds(ending.duration)}"
        if ending.outcome is not FleetOutcome.UPGRADED:
            how = f"{ending.outcome}: {printable(ending.cause, _LONGEST_CAUSE)}"
        say(f"{ending.database}: {how}", colors={f"{ending.database}:": color})

    def printed(self, database: str, line: str) -> None:
        if line.startswith(_WARNING):
            text = line.replace(database, "") if database else line
            if text in self._warned:
                return
            self._warned.add(text)
        say(f"{database}: {line}" if database else line, err=True)

    def stopping(self, seconds: float) -> None:
        say(f"Stopping. What is running has {seconds:g} s to finish; Ctrl-C interrupts it now.", err=True)


class ProgressLine(Lines):
    """Also shows how far the survey and the upgrade are, in a line below the others."""

    _CLEAR = "\r\x1b[2K"

    def __init__(self) -> None:
        super().__init__()
        self._drawn = 0.0

    def looked(self, number: int) -> None:
        if time.monotonic() - self._drawn >= _SECONDS:
            self._drawn = time.monotonic()
            self._draw(f"{self._CLEAR}Looking at the databases: {number:,} ...")

    def ended(self, ending: Ending) -> None:
        self.clear()
        super().ended(ending)

    def printed(self, database: str, line: str) -> None:
        self.clear()
        super().printed(database, line)

    def stopping(self, seconds: float) -> None:
        self.clear()
        super().stopping(seconds)

    def progressed(self, progress: Progress) -> None:
        self._draw(self._CLEAR + escaped(_line(progress))[: columns(sys.stdout) - 1])

    def finished(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Remove the line."""
        self._draw(self._CLEAR)

    @staticmethod
    def _draw(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def _line(progress: Progress) -> str:
    failed = f", {progress.failed} failed" if progress.failed else ""
    running = f", running {listed(sorted(progress.running), _RUNNING)}" if progress.running else ""
    rate = progress.done / progress.seconds if progress.seconds else 0.0
    left = f", {rate:.1f}/s, {(progress.total - progress.done) / rate:.0f} s left" if rate else ""
    return f"{progress.done} of {progress.total} done{failed}{left}{running}"
