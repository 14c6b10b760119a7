"""When the pending page looks at the databases again."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ampho.pending.report import Action, Report

FRESH = 1.0
"""The number of seconds for which a report of differences holds, before the databases are queried again."""

MOMENT = 5.0
"""The number of seconds after which the databases are queried again, if nothing has changed."""

DOWN = 60.0
"""The number of seconds after which databases that could not be reached are queried again."""

GLANCE = 0.5
"""The number of seconds after which the folders with revision files are looked at again."""


class Watch:
    """The last report on an app, and whether it still holds.

    A look at the databases takes milliseconds, so there is only one if files have changed, if a request has failed, or
    after a moment.

    :ivar report: the last report.
    :ivar error: why the last run that a button started failed; empty if it did not fail, or if all is well again.
    :ivar has_failed: whether a request has failed since the last report.
    :ivar generation: a number that changes when :meth:`forget` is called.
    """

    def __init__(self) -> None:
        self.report: Report = Report()
        self.error: str = ""
        self.has_failed: bool = False
        self._signature: Sequence[int] | None = None
        self._time = self._glance = float("-inf")
        self.generation: int = 0
        self._running_in = 0  # the id of the process, because a forked child inherits this attribute, but not the run
        self._tokens: tuple[int, str] = (0, "")

    @property
    def is_quiet(self) -> bool:
        """Whether the app may answer, and files need not be looked at yet."""
        return time.monotonic() < self._glance and not (self.has_failed or self._running_in)

    @property
    def is_running(self) -> bool:
        """Whether the page is applying or reverting revisions."""
        return self._running_in == os.getpid()

    @is_running.setter
    def is_running(self, value: bool) -> None:
        self._running_in = os.getpid() if value else 0

    @property
    def token(self) -> str:
        """A secret of this process, without which no button works."""
        if self._tokens[0] != os.getpid():  # also after a fork
            self._tokens = os.getpid(), secrets.token_urlsafe(32)
        return self._tokens[1]

    @property
    def has_groups(self) -> bool:
        """Whether to look at the databases of groups. There may be many, so the passage of time is no reason to."""
        return self._signature is None or self.has_failed or not self.report.is_clean or self._has_changed()

    def may_answer(self, ignored: str) -> bool:
        """Return whether the app may answer, according to the last report.

        :param ignored: the key of the report that the user has seen, and ignores.
        """
        return not self.is_running and (self.report.is_clean or self.report.key == ignored)

    def holds(self, ignored: str = "") -> bool:
        """Return whether the last report still holds. It always does during a run, which would block a new look.

        :param ignored: as for :meth:`may_answer`.
        """
        if self.is_running:
            return True
        is_fine = self.may_answer(ignored)
        seconds = MOMENT if is_fine and not self.has_failed else FRESH
        if time.monotonic() - self._time > (seconds if self.report.is_known else DOWN) or self._has_changed():
            return False
        if self.report.is_clean:
            self._glance = time.monotonic() + GLANCE
        return True

    def record(self, report: Report, generation: int) -> None:
        """Keep a report.

        :param generation: the generation in which the look began; if a newer one has begun, the report is discarded.
        """
        if generation != self.generation:
            return
        self.report = report
        self.has_failed = False
        self._signature = _signature(report.folders)
        self._time = self._glance = time.monotonic()
        if report.is_clean:
            self._glance += GLANCE
        if report.is_clean and report.is_known:
            self.error = ""

    def forget(self) -> None:
        """Look again at the next request."""
        self.generation += 1
        self._time = self._glance = float("-inf")

    def end(self, error: str) -> None:
        """Record the end of a run.

        :param error: why it failed; empty if it did not.
        """
        self.error = error
        self.is_running = False
        self.forget()

    def action(self, key: str) -> Action | None:
        """Return an action of the last report."""
        return next((each for each in self.report.actions if each.is_offered and each.key == key), None)

    def _has_changed(self) -> bool:
        return self._signature != _signature(self.report.folders)


def _signature(folders: Sequence[Path]) -> Sequence[int]:
    """Return when files were last added to folders, or removed from them."""
    return [_changed(folder) for folder in folders]


def _changed(folder: Path) -> int:
    with suppress(OSError):
        return folder.stat().st_mtime_ns
    return 0
