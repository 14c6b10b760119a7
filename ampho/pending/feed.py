"""The events of a run, for the page that started it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ampho.migrate.observers import Observer
from ampho.pending.answers import event

if TYPE_CHECKING:
    from ampho.database.statement import Statement
    from ampho.errors import AmphoError
    from ampho.migrate.observers import BackfillProgress
    from ampho.migrate.plan import Plan, Step

PULSE = 0.5
"""The number of seconds without an event after which the page is told that the run is still going."""

_LONG = 1.0  # seconds after which a running statement is shown


class Feed(Observer):
    """Sends the events of a run.

    :param send: receives each event as text, and None at the end.
    """

    def __init__(self, send: Callable[[str | None], object]) -> None:
        self._send = send
        self._statement: tuple[Statement, float] | None = None
        self._progress: BackfillProgress | None = None
        self._begun = 0.0

    def planned(self, plan: Plan) -> None:
        self._send(event("planned", total=len(plan.steps)))

    def waiting(self, holder: str) -> None:
        text = f"Waiting for another process that is migrating the database{holder and f': {holder}'}"
        self._send(event("note", text=text))

    def started(self, step: Step) -> None:
        self._progress, self._begun = None, time.monotonic()
        self._send(event("started", **_named(step)))

    def executing(self, statement: Statement) -> None:
        self._statement = statement, time.monotonic()

    def executed(self) -> None:
        self._statement = None

    def applied(self, step: Step, duration: float) -> None:
        self._send(event("applied", **_named(step), seconds=round(duration, 3)))

    def progressed(self, step: Step, progress: BackfillProgress) -> None:
        self._progress = progress

    def retrying(self, step: Step, seconds: float) -> None:
        self._send(event("note", text=f"{step.revision.id} could not get a lock, and will be retried"))

    def warned(self, message: str) -> None:
        self._send(event("note", text=message))

    def pulse(self) -> str:
        """Return how far a backfill is, or the statement that takes long; otherwise a comment, to stay connected."""
        if self._progress is not None:
            seconds = time.monotonic() - self._begun
            return event("statement", text=str(self._progress), seconds=round(seconds))
        running = self._statement
        if running is not None and (seconds := time.monotonic() - running[1]) > _LONG:
            return event("statement", text=str(running[0]), seconds=round(seconds))
        return ": running\n\n"

    def ended(self, error: AmphoError | None) -> None:
        """Send the end of the run, after which nothing comes."""
        if error is None:
            self._send(event("done"))
        else:
            self._send(event("failed", text=str(error), revision=getattr(error, "revision", None)))
        self._send(None)


def _named(step: Step) -> dict[str, object]:
    revision = step.revision
    return {
        "revision": revision.id,
        "package": revision.package,
        "message": revision.message,
        "database": step.database,
    }
