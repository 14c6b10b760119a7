"""Wait until another process has brought the database up to date."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ampho._text import listed, sentences
from ampho.database.lock import holder
from ampho.errors import DatabaseError, WaitTimeoutError
from ampho.migrate.observers import Observer
from ampho.migrate.queries import deployment
from ampho.status.deployment import WAITED_FOR, Deployment, Status

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from ampho.migrate.project import Project


def deployment_and_holder(
    project: Project, connection: Connection, *, x: Sequence[str] = ()
) -> tuple[Deployment, str | None]:
    """Return how well the database matches the deployed code, and a description of the process that is migrating it.

    The description is empty if the database reports no such process, and None if it is not known or not needed.
    """
    found = deployment(project, connection, read_files=False, x=x)
    is_lacking = any(finding.is_waited_for for finding in found.findings)
    return found, holder(connection, project.settings) if is_lacking else None


_LABELS = {
    Status.BEHIND: "Pending",
    Status.INTERRUPTED: "Unfinished",
    Status.CORRUPT: "Version rows to repair",
}


class Waiting:
    """Waits until a database has the revisions that the code needs, in several attempts.

    :param timeout: the maximum number of seconds to wait, for messages.
    :param deadline: when to stop waiting, as :func:`time.monotonic` counts.
    :param observer: receives the warnings of the first attempt, and a message each time the reason for waiting changes.
    :param database: the name of the database, for messages; empty if the app has only one.
    """

    _PAUSE = 0.5  # seconds between two attempts
    _PATIENCE = 10.0  # seconds to wait for a server that does not answer, before it is tried again
    _LEAST_PATIENCE = 1.0

    def __init__(self, timeout: float, deadline: float, observer: Observer | None, database: str = "") -> None:
        self._timeout = timeout
        self._deadline = deadline
        self._observer = observer or Observer()
        self._database = database
        self._reported = ""
        self._is_first = True

    @property
    def pause(self) -> float:
        """The number of seconds until the next attempt; the last attempt is made at the timeout."""
        return max(0.0, min(self._PAUSE, self._deadline - time.monotonic()))

    @property
    def patience(self) -> float:
        """The number of seconds to wait for an answer of the server; in the last attempt, a second."""
        return max(self._LEAST_PATIENCE, min(self._PATIENCE, self._deadline - time.monotonic()))

    @contextmanager
    def attempt(self) -> Iterator[Observer]:
        """Yield the observer for one attempt, and suppress the error if the database does not answer yet.

        Other errors are not suppressed, because waiting does not fix the app, its configuration, or its files.

        :raises WaitTimeoutError: if the database does not answer in time.
        """
        try:
            yield self._observer if self._is_first else _WithoutWarnings()
        except DatabaseError as exc:
            why = str(exc).removeprefix(f"{self._database}: ").rstrip(".")
            self._wait_for(
                f"{f'the database {self._database}'.rstrip()} to answer: {why}",
                f"The database did not become available within {self._timeout:g} s. {why}.",
            )
        self._is_first = False

    def is_over(self, found: Deployment, process: str | None) -> bool:
        """Return whether the database has everything that the code needs.

        :param process: the description from :func:`deployment_and_holder`, which also returns ``found``.
        :raises WaitTimeoutError: if the timeout passes first.
        """
        lacking = [finding for finding in found.findings if finding.is_waited_for]
        if not lacking:
            return True
        statuses: dict[Status, list[str]] = {}
        for finding in lacking:
            statuses.setdefault(finding.status, []).extend(finding.revisions)
        who = ""
        if process is not None:
            who = f"the database is being migrated by {process}" if process else "no process is migrating the database"
        remedy = "Run 'ampho db-up' in one process, or increase --timeout."
        if lacking[0].status is not Status.BEHIND:
            remedy = "Run 'ampho db-check --deploy' to see what to do."
        what = ", ".join(WAITED_FOR[status].format(listed(ids)) for status, ids in statuses.items())
        left = " ".join(
            f"{_LABELS[status]}: {listed([each or repr(each) for each in ids])}." for status, ids in statuses.items()
        )
        where = f"the database {self._database}: " if self._database else ""
        self._wait_for(
            f"{where}{what}; {who}" if who else f"{where}{what}",
            f"The database was not brought up to date within {self._timeout:g} s."
            f" {sentences(left, who[:1].upper() + who[1:], remedy)}",
        )
        return False

    def _wait_for(self, what: str, timed_out: str) -> None:
        if time.monotonic() >= self._deadline:
            raise WaitTimeoutError(timed_out)
        if what != self._reported:
            self._reported = what
            self._observer.awaiting(what)


class _WithoutWarnings(Observer):
    def warned(self, message: str) -> None:
        """Ignore the warning, because the first attempt has already passed it on."""
