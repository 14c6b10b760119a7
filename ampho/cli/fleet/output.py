"""What ``db-up`` prints while it upgrades many databases."""

from __future__ import annotations

import os
import sys
import time

from ampho._text import counted, escaped, listed, printable
from ampho.cli.lines import columns, say
from ampho.cli.reporter import in_seconds
from ampho.cli.terminal import is_terminal
from ampho.fleet.driver import Driver
from ampho.fleet.report import Ending, FleetOutcome

_LONGEST_CAUSE = 80  # characters; the report at the end contains more
_RUNNING = 3  # the maximum number of databases that the line of progress names
_SECONDS = 0.1  # how often the line is drawn during the survey
_WARNING = "Warning: "


def observer() -> Lines:
    """Return the observer for the current output."""
    is_dumb = os.environ.get("TERM", "" if os.name == "nt" else "dumb") in ("dumb", "unknown")
    return ProgressLine() if is_terminal() and not is_dumb else Lines()


class Lines:
    """Prints a line for each database that is changed or fails, and what the workers print."""

    def __init__(self) -> None:
        self._warned: set[str] = set()

    def looked(self, number: int) -> None:
        """Report at how many databases the survey has looked."""

    def progressed(self, driver: Driver) -> None:
        """Report how far the upgrade is, several times per second."""

    def clear(self) -> None:
        """Remove what will be replaced."""

    def ended(self, ending: Ending) -> None:
        """Report that a database has had its turn."""
        self.clear()
        if ending.outcome is FleetOutcome.UP_TO_DATE:
            return
        color = "green" if ending.outcome is FleetOutcome.UPGRADED else "red"
        how = f"{counted(len(ending.applied))} in {in_seconds(ending.duration)}"
        if ending.outcome is not FleetOutcome.UPGRADED:
            how = f"{ending.outcome}: {printable(ending.cause, _LONGEST_CAUSE)}"
        say(f"{ending.database}: {how}", colors={f"{ending.database}:": color})

    def printed(self, database: str, line: str) -> None:
        """Report a line that a worker printed while it was upgrading a database, if any."""
        if line.startswith(_WARNING):
            text = line.replace(database, "") if database else line
            if text in self._warned:
                return
            self._warned.add(text)
        self.clear()
        say(f"{database}: {line}" if database else line, err=True)

    def stopping(self, seconds: float) -> None:
        """Report an interruption. What is still running after a number of seconds will be interrupted."""
        self.clear()
        say(f"Stopping. What is running has {seconds:g} s to finish; Ctrl-C interrupts it now.", err=True)


class ProgressLine(Lines):
    """Also shows how far the survey and the upgrade are, in a line below the others."""

    _CLEAR = "\r\x1b[2K"

    def __init__(self) -> None:
        super().__init__()
        self._drawn = 0.0
        self._begin = 0.0

    def looked(self, number: int) -> None:
        if time.monotonic() - self._drawn >= _SECONDS:
            self._drawn = time.monotonic()
            self._draw(f"Looking at the databases: {number:,} ...")

    def progressed(self, driver: Driver) -> None:
        self._begin = self._begin or time.monotonic()
        self._draw(escaped(_line(driver, time.monotonic() - self._begin))[: columns(sys.stdout) - 1])

    def clear(self) -> None:
        self._draw("")

    def _draw(self, text: str) -> None:
        sys.stdout.write(f"{self._CLEAR}{text}")
        sys.stdout.flush()


def _line(driver: Driver, seconds: float) -> str:
    failed = f", {driver.failures} failed" if driver.failures else ""
    running = f", running {listed(sorted(driver.running), _RUNNING)}" if driver.running else ""
    rate = driver.done / seconds if seconds else 0.0
    left = f", {rate:.1f}/s, {(driver.total - driver.done) / rate:.0f} s left" if rate else ""
    return f"{driver.done} of {driver.total} done{failed}{left}{running}"
