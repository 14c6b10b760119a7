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
"""For how many seconds a report of differences holds, before the databases are asked again."""

MOMENT = 5.0
"""After how many seconds the databases are asked again, if nothing has changed."""

GLANCE = 0.5
"""After how many seconds the folders with revision files are looked at again."""


class Watch:
    """The last report on an app, and whether it still holds.

    A look at the databases takes milliseconds, so there is only one if files have changed, if a request has failed, or
    after a moment.

    :ivar report: the last report.
    :ivar is_running: whether the page is applying or reverting revisions.
    :ivar has_failed: whether a request has failed since the last report.
    """

    def __init__(self) -> None:
        self.report: Report = Report()
        self.is_running: bool = False
        self.has_failed: bool = False
        self._ignored: object = None
        self._signature: Sequence[int] | None = None
        self._time = self._glance = float("-inf")
        self._tokens: tuple[int, str] = (0, "")

    @property
    def is_quiet(self) -> bool:
        """Whether the app may answer, and files need not be looked at yet."""
        return time.monotonic() < self._glance and not (self.has_failed or self.is_running)

    @property
    def token(self) -> str:
        """A secret of this process, without which no button works."""
        if self._tokens[0] != os.getpid():  # also after a fork
            self._tokens = os.getpid(), secrets.token_urlsafe(32)
        return self._tokens[1]

    @property
    def may_answer(self) -> bool:
        """Whether the app may answer, according to the last report."""
        return self._is_fine and not self.is_running

    @property
    def _is_fine(self) -> bool:
        return self.report.is_clean or self.report.key == self._ignored

    @property
    def has_groups(self) -> bool:
        """Whether to look at the databases of groups, which there may be many of: not only because time has passed."""
        return self._signature is None or self.has_failed or not self.report.is_clean or self._has_changed()

    def holds(self) -> bool:
        """Return whether the last report still holds. During a run, it does, because the run would block a look."""
        if self.is_running:
            return True
        age = time.monotonic() - self._time
        if age > (FRESH if self.has_failed or not self._is_fine else MOMENT) or self._has_changed():
            return False
        if self._is_fine:
            self._glance = time.monotonic() + GLANCE
        return True

    def record(self, report: Report) -> None:
        """Keep a report."""
        self.report = report
        self.has_failed = False
        self._signature = _signature(report.folders)
        self._time = time.monotonic()
        self._glance = self._time + GLANCE if self._is_fine else self._time

    def forget(self) -> None:
        """Look again at the next request."""
        self._time = self._glance = float("-inf")

    def ignore(self) -> None:
        """Let the app answer until the differences are others."""
        self._ignored = self.report.key

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
