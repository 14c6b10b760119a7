"""Waiting until another process has brought the database up to date."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ampho._text import listed
from ampho.errors import DatabaseError, WaitTimeoutError
from ampho.migrate.observers import Observer
from ampho.status.deployment import WAITED_FOR, Deployment, Status


class Turns:
    """The attempts of a process that waits until a database has what the code needs.

    :param timeout: seconds.
    :param observer: receives what it waits for, each time that this changes, and the warnings of the first attempt.
    """

    _PAUSE = 0.5  # seconds between two attempts

    def __init__(self, timeout: float, observer: Observer | None) -> None:
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._observer = observer or Observer()
        self._told = ""
        self.observer: Observer = self._observer
        """Receives the warnings of an attempt; only those of the first one are passed on."""

    @property
    def pause(self) -> float:
        """Seconds until the next attempt; the last one is made when time is up."""
        return max(0.0, min(self._PAUSE, self._deadline - time.monotonic()))

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Suppress the error of a database that does not answer yet.

        What is wrong with the app, its configuration or its revision files is raised: waiting does not help there.

        :raises WaitTimeoutError: if it does not answer in time.
        """
        try:
            yield
        except DatabaseError as exc:
            why = str(exc).rstrip(".")
            self._go_on(
                f"the database to answer: {why}",
                f"The database could not be used within {self._timeout:g} s. {why}.",
            )
        self.observer = _Mute()

    def is_over(self, found: Deployment, holder: str | None) -> bool:
        """Return whether there is nothing to wait for any more.

        :param holder: the process that migrates the database, empty if none does; None if that is not known.
        :raises WaitTimeoutError: if there is, and time is up.
        """
        lacking = [finding for finding in found.findings if finding.is_waited_for]
        if not lacking:
            return True
        statuses: dict[Status, list[str]] = {finding.status: [] for finding in lacking}
        for finding in lacking:
            statuses[finding.status] += finding.revisions
        who = "" if holder is None else f"; migrating now: {holder or 'no process'}"
        way = "Let one process run 'ampho db-up', or wait longer with --timeout."
        if lacking[0].status is not Status.BEHIND:
            way = "'ampho db-check --deploy' says what to do."
        what = "; ".join(f"{status}: {listed(ids)}" for status, ids in statuses.items())
        self._go_on(
            f"{', '.join(WAITED_FOR[status].format(listed(ids)) for status, ids in statuses.items())}{who}",
            f"The database was not brought up to date within {self._timeout:g} s. It is {what}{who}. {way}",
        )
        return False

    def _go_on(self, what: str, end: str) -> None:
        if time.monotonic() >= self._deadline:
            raise WaitTimeoutError(end)
        if what != self._told:
            self._told = what
            self._observer.awaiting(what)


class _Mute(Observer):
    def warned(self, message: str) -> None:
        """Leave out the warning, which the first attempt has passed on."""
