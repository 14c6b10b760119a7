"""Upgrade many databases in worker processes: the loop between the driver, the workers, and an observer."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ampho.fleet.driver import Driver
from ampho.fleet.report import Ending, FleetReport, Tally
from ampho.fleet.workers import SECONDS_TO_END, Output, Workers

SECONDS_TO_FINISH = 10.0
"""How long running upgrades may continue after Ctrl-C or SIGTERM, before they are interrupted."""

_TICK = 0.1  # seconds
_INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an upgrade of many databases is.

    :ivar total: the number of databases that were to be upgraded.
    :ivar done: the number of databases that have had their turn.
    :ivar failed: how many of these failed.
    :ivar running: the names of the databases that are being upgraded now.
    :ivar seconds: how long it has taken so far.
    """

    total: int
    done: int
    failed: int
    running: frozenset[str]
    seconds: float


class FleetObserver:
    """Receives the events of an upgrade of many databases. A subclass overrides what it needs."""

    def looked(self, number: int) -> None:
        """Report at how many databases the survey has looked."""

    def ended(self, ending: Ending) -> None:
        """Report that a database has had its turn."""

    def printed(self, database: str, line: str) -> None:
        """Report a line that a worker printed while it was upgrading a database, if any."""

    def progressed(self, progress: Progress) -> None:
        """Report how far the upgrade is, several times per second."""

    def finished(self) -> None:
        """Report that nothing is running any more."""

    def stopping(self, seconds: float) -> None:
        """Report an interruption. What is still running after a number of seconds will be interrupted."""


class FleetUpgrade:
    """An upgrade of many databases.

    :param driver: decides what comes next.
    :param tally: counts the endings; it may already have counted databases that need no turn.
    """

    def __init__(self, driver: Driver, tally: Tally, observer: FleetObserver) -> None:
        self._driver = driver
        self._tally = tally
        self._observer = observer
        self._done = 0
        self._failed = 0
        self._interruptions = 0
        self._obeyed = 0
        self._deadline: float | None = None
        self._begin = time.monotonic()

    def run(self, workers: Workers) -> FleetReport:
        """Upgrade the databases, and return the report."""
        with workers:
            while not self._driver.is_over:
                self._obey(workers)
                self._assign(workers)
                self._observer.progressed(self._progress())
                for event in workers.wait(_TICK):
                    self._handle(event)
        self._observer.finished()
        for ending in self._driver.rest():
            self._tally.add(ending)
        return self._tally.report(self._driver.stopped)

    def interrupt(self) -> None:
        """Stop soon, as a signal handler asks: finish what is running. The second time, interrupt it at once."""
        self._interruptions += 1

    def _assign(self, workers: Workers) -> None:
        while not workers.is_full and (turn := self._driver.next()) is not None:
            workers.begin(turn)

    def _handle(self, event: Ending | Output) -> None:
        if isinstance(event, Output):
            self._observer.printed(event.database, event.line)
        elif self._driver.ended(event):
            self._done += 1
            self._failed += event.outcome.is_failure
            self._tally.add(event)
            self._observer.ended(event)

    def _obey(self, workers: Workers) -> None:
        """Do what the user asked for by Ctrl-C, step by step: stop, interrupt, kill."""
        now = time.monotonic()
        if self._deadline is not None and now >= self._deadline:
            self._interruptions += 1
        if self._interruptions <= self._obeyed:
            return
        self._obeyed = self._interruptions
        self._driver.stop(_INTERRUPTED)
        if self._interruptions == 1:
            self._deadline = now + SECONDS_TO_FINISH
            self._observer.stopping(SECONDS_TO_FINISH)
        elif self._interruptions == 2:
            self._deadline = now + SECONDS_TO_END
            workers.terminate()
        else:
            self._deadline = None
            workers.kill()

    def _progress(self) -> Progress:
        seconds = time.monotonic() - self._begin
        return Progress(self._driver.total, self._done, self._failed, frozenset(self._driver.running), seconds)
