"""Observers of a run: the base class, and the observer that logs every run and sends its signals."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from ampho._text import counted, elapsed, escaped, location, of_database

if TYPE_CHECKING:
    from blinker import NamedSignal
    from sqlalchemy.engine import URL

    from ampho.database.statement import Statement
    from ampho.errors import AmphoError
    from ampho.migrate.plan import Plan, Run, Step

P = ParamSpec("P")

EVENT = "ampho_event"
"""The name of an attribute that only the log records of a run have."""

_log = logging.getLogger("ampho")


@dataclass(frozen=True, slots=True)
class BackfillProgress:
    """How far a backfill has come.

    :ivar table: the name of the table.
    :ivar rows: the number of rows that were changed, including those of interrupted runs.
    :ivar seen: the number of rows that were gone through.
    :ivar total: the estimated number of rows of the table; None if the database has no estimate.
    :ivar rate: the number of rows that this run goes through in a second.
    :ivar left: the estimated number of seconds left; None if it is unknown.
    """

    table: str
    rows: int
    seen: int
    total: int | None
    rate: float
    left: float | None

    def __str__(self) -> str:
        total = f" of about {self.total:,}" if self.total is not None and self.total > self.seen else ""
        left = f", about {elapsed(self.left)} left" if self.left else ""
        return f"backfill of {self.table}: {self.seen:,}{total} rows, {self.rate:,.0f} rows/s{left}"


class Observer:
    """Receives the events of a run. Override the methods for the events that you need."""

    def planned(self, plan: Plan) -> None:
        """Called when the plan is accepted, before it runs."""

    def waiting(self, holder: str) -> None:
        """Called when the run waits for another process that migrates the database.

        :param holder: a description of that process; empty if the database does not report it.
        """

    def awaiting(self, what: str) -> None:
        """Called by ``wait()``, and by backfills, with what they are waiting for, which is logged by default."""
        _log.info("Waiting for %s", what)

    def created(self, what: str, database: str) -> None:
        """Called when ``upgrade(create=True)`` created something that was missing, which is logged by default.

        :param what: such as ``the schema acme``.
        :param database: the name of the database.
        """
        _log.info("Created %s for %s", escaped(what), database)

    def started(self, step: Step) -> None:
        """Called when a step begins."""

    def executing(self, statement: Statement) -> None:
        """Called before each statement. This adds no overhead unless the method is overridden."""

    def executed(self) -> None:
        """Called after each statement, or after the rollback if the statement failed."""

    def progressed(self, step: Step, progress: BackfillProgress) -> None:
        """Called about once a second while a backfill of a step runs in batches, and at its end."""

    def applied(self, step: Step, duration: float) -> None:
        """Called when a step is committed, after ``duration`` seconds."""

    def failed(self, step: Step, error: AmphoError) -> None:
        """Called when a step has failed and the run ends with ``error``."""

    def retrying(self, step: Step, seconds: float) -> None:
        """Called when a step could not get a lock, and will be retried after ``seconds`` seconds.

        It was rolled back; on MariaDB and MySQL, only its last DDL statement is retried.
        """

    def interrupted(self, step: Step) -> None:
        """Called when Ctrl-C or a cancelled task interrupts a step, which ends the run."""

    def finished(self, run: Run) -> None:
        """Called at the end of a successful run."""

    def warned(self, message: str) -> None:
        """Called with a warning about the configuration or the run, which is logged by default."""
        _log.warning("%s", escaped(message))


class Named(Observer):
    """Passes events on to another observer, with the database's name in what it waits for and in warnings."""

    def __init__(self, observer: Observer, database: str) -> None:
        self._observer = observer
        self._database = database
        for name in vars(Observer):
            if not name.startswith("_") and name not in vars(Named) and hasattr(observer, name):
                setattr(self, name, getattr(observer, name))

    def waiting(self, holder: str) -> None:
        """Pass the process on that is migrating the database."""
        self._observer.waiting(f"{self._database}{holder and f', {holder}'}")

    def warned(self, message: str) -> None:
        """Pass a warning on."""
        self._observer.warned(of_database(message, self._database))


class Observers:
    """The observers of one run. The first error that each observer raises is logged, and the run continues.

    :param url: the URL of the database; its password is masked in the log.
    :ivar members: the observers, in the order in which they receive each event.
    """

    def __init__(self, url: URL) -> None:
        self.members: list[Observer] = []
        self._url = url
        self._failed: set[str] = set()

    def call(self, name: str, function: Callable[..., object], *args: object, **kwargs: object) -> None:
        """Call a function of the observer or receiver ``name``, and log the first error that it raises."""
        try:
            function(*args, **kwargs)
        except Exception as exc:  # noqa: BLE001 (an observer may raise anything)
            if name in self._failed:
                return
            self._failed.add(name)
            from ampho.database.url import describe_without  # imported late, because --help imports this module

            why = f"{describe_without(exc, self._url)} ({location(exc, None)})"
            with suppress(Exception):  # the error may come from a handler of this log
                _log.warning("%s failed, and the run continues without it: %s", name, why)

    @property
    def want_statements(self) -> bool:
        """Whether an observer overrides a method that is called for each statement."""
        return any(
            getattr(getattr(observer, name, None), "__func__", None) not in (None, getattr(Observer, name))
            for observer in self.members
            for name in ("executing", "executed")
        )

    def notify(self, event: Callable[Concatenate[Any, P], None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call a method of :class:`Observer` on each observer."""
        for observer in self.members:
            method = getattr(observer, event.__name__, None)
            if method is not None:
                self.call(type(observer).__name__, method, *args, **kwargs)

    def announce(self, plan: Plan) -> None:
        """Report that the plan is accepted, and the plan's warning."""
        self.notify(Observer.planned, plan)
        if plan.warning:
            self.notify(Observer.warned, plan.warning)

    def only(self, *members: Observer) -> Observers:
        """Return an object for some of the observers, which does not log their errors again."""
        found = Observers(self._url)
        found.members += members
        found._failed = self._failed
        return found


class LogAndSignals(Observer):
    """Writes log records, with the details as attributes, and sends signals.

    If one receiver or the log fails, the other receivers still get the signal.

    :param app: the sender of the signals.
    :param database: the name of the database.
    :param named: whether to name the database in the texts of the log, because the app has several.
    :param guard: :meth:`Observers.call`.
    :param is_async: whether the run can await a receiver.
    """

    def __init__(self, app: object, database: str, guard: Callable[..., None], *, named: bool, is_async: bool) -> None:
        from ampho import signals

        self._signals = signals
        self._guard = guard
        self._app = app
        self._database = database
        self._prefix = f"{database.replace('%', '%%')}: " if named else ""
        self._is_async = is_async

    def planned(self, plan: Plan) -> None:
        level = logging.INFO if plan.steps else logging.DEBUG
        verb = "Upgrading" if plan.direction == "upgrade" else "Downgrading"
        words = (verb, plan.specifier, counted(len(plan.steps)), ", ".join(plan.packages) or "no package")
        self._record("planned", level, "%s (%s): %s of %s", words, _details(plan))

    def waiting(self, holder: str) -> None:
        text = "Waiting for another process that migrates this database%s"
        self._record("waiting", logging.INFO, text, [f": {holder}" if holder else ""], {"holder": holder})

    def started(self, step: Step) -> None:
        self._report("started", logging.DEBUG, "%s of %s started", step)

    def applied(self, step: Step, duration: float) -> None:
        self._report("applied", logging.INFO, "%s of %s finished in %.3f s", step, duration=duration)

    def progressed(self, step: Step, progress: BackfillProgress) -> None:
        revision = step.revision
        details = {"revision": revision.id, "package": revision.package, "rows": progress.rows}
        words = (revision.id, revision.package, str(progress))
        self._record("progressed", logging.DEBUG, "%s of %s: %s", words, details)

    def failed(self, step: Step, error: AmphoError) -> None:
        self._report("failed", logging.ERROR, "%s of %s failed: %s", step, error=error)

    def retrying(self, step: Step, seconds: float) -> None:
        text = "%s of %s could not get a lock, and will be retried in %.1f s"
        self._report("retrying", logging.WARNING, text, step, seconds=seconds)

    def interrupted(self, step: Step) -> None:
        self._report("interrupted", logging.WARNING, "%s of %s was interrupted", step)

    def finished(self, run: Run) -> None:
        direction = run.plan.direction
        details = _details(run.plan) | {"steps": len(run.steps), "duration": run.duration}
        words: list[object] = [direction.capitalize(), run.plan.specifier]
        text = "%s (%s): nothing to do"
        if run.plan.steps:
            text, words = "%s (%s) finished: %s in %.3f s", [*words, counted(len(run.steps)), run.duration]
        self._guard("logging", self._record, "finished", logging.INFO, text, words, details)
        signal = self._signals.upgrade_finished if direction == "upgrade" else self._signals.downgrade_finished
        self._send(signal, run=run, direction=direction, duration=run.duration)

    def warned(self, message: str) -> None:
        """Do nothing, because the user's observer handles warnings."""

    def _report(self, event: str, level: int, text: str, step: Step, **details: object) -> None:
        """Log an event of a step, and send its signal.

        :param text: the rest of the message, with placeholders for the revision, its package, and the details.
        """
        revision = step.revision
        common = {"revision": revision.id, "package": revision.package, "direction": step.direction}
        words = (step.direction.capitalize(), revision.id, revision.package, *details.values())
        self._guard("logging", self._record, event, level, f"%s of {text}", words, common | details)
        signal: NamedSignal = getattr(self._signals, f"revision_{event}")
        self._send(signal, step=step, **common, **details)

    def _record(
        self, event: str, level: int, text: str, words: Sequence[object], details: Mapping[str, object]
    ) -> None:
        # Without a handler, Python would print warnings and errors, but Ampho's methods must print nothing.
        if _log.isEnabledFor(level) and _log.hasHandlers():
            attributes = {f"ampho_{name}": _attribute(value) for name, value in details.items()}
            shown = [word if isinstance(word, float) else escaped(str(word)) for word in words]
            extra = {EVENT: event, "ampho_database": self._database, **attributes}
            _log.log(level, self._prefix + text, *shown, extra=extra)

    def _send(self, signal: NamedSignal, **details: object) -> None:
        # Do not use signal.send(), which stops at the first receiver that raises an error.
        if signal.receivers and not signal.is_muted:
            for receiver in signal.receivers_for(self._app):
                name = f"{receiver.__module__}.{getattr(receiver, '__qualname__', type(receiver).__qualname__)}"
                self._guard(name, self._call, receiver, database=self._database, **details)

    def _call(self, receiver: Callable[..., object], **details: object) -> None:
        result = receiver(self._app, **details)
        if not inspect.isawaitable(result):
            return
        if self._is_async:
            from sqlalchemy.util import await_only

            await_only(result)
            return
        if inspect.iscoroutine(result):
            result.close()  # otherwise Python warns that it was never awaited
        raise TypeError("the receiver is async, and Flask cannot await it")


def _details(plan: Plan) -> dict[str, object]:
    return {
        "specifier": plan.specifier,
        "direction": plan.direction,
        "steps": len(plan.steps),
        "packages": plan.packages,
    }


def _attribute(value: object) -> object:
    if isinstance(value, BaseException):
        return type(value).__name__
    return str(value) if isinstance(value, str) else value
