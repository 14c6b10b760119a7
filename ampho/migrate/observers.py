"""Observers of a run: the base class, and those that every run has, which write the log and send the signals."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from ampho._text import counted, escaped, location

if TYPE_CHECKING:
    from blinker import Signal
    from sqlalchemy.engine import URL

    from ampho.database.statement import Statement
    from ampho.errors import AmphoError
    from ampho.migrate.plan import Plan, Run, Step

P = ParamSpec("P")

EVENT = "ampho_event"
"""An attribute that only the log records of a run have."""

_log = logging.getLogger("ampho")


class Observer:
    """Receives the events of a run. Override the methods for the events that you need."""

    def planned(self, plan: Plan) -> None:
        """Called when the plan is accepted, before it runs."""

    def waiting(self, holder: str) -> None:
        """Called when another process migrates the database: ``holder``, if the database reports it."""

    def awaiting(self, what: str) -> None:
        """Called by ``wait()`` with what the database lacks and which process migrates it, or why it does not answer.

        Unless overridden, it writes to the logger ``ampho``.
        """
        _log.info("Waiting for %s", what)

    def started(self, step: Step) -> None:
        """Called when a step begins."""

    def executing(self, statement: Statement) -> None:
        """Called before each statement. Not overriding it adds no overhead."""

    def executed(self) -> None:
        """Called when the statement is done, or was rolled back."""

    def applied(self, step: Step, duration: float) -> None:
        """Called when a step is committed, after ``duration`` seconds."""

    def failed(self, step: Step, error: AmphoError) -> None:
        """Called when a step has failed and the run ends with ``error``."""

    def retrying(self, step: Step, seconds: float) -> None:
        """Called when a step could not get a lock, was rolled back, and will be retried after some seconds."""

    def interrupted(self, step: Step) -> None:
        """Called when Ctrl-C or a cancelled task interrupts a step, which ends the run."""

    def finished(self, run: Run) -> None:
        """Called at the end of a run that did not fail."""

    def warned(self, message: str) -> None:
        """Called with a warning about the configuration or the run; unless overridden, it goes to the log."""
        _log.warning("%s", escaped(message))


class _Guard:
    """Calls observers and receivers of signals: if one raises, the first error is logged, and the run continues.

    :param url: the database, whose password is kept out of the log.
    """

    def __init__(self, url: URL) -> None:
        self._url = url
        self._failed: set[str] = set()

    def call(self, name: str, function: Callable[..., object], *args: object, **kwargs: object) -> None:
        """Call a function of the observer or receiver with this name."""
        try:
            function(*args, **kwargs)
        except Exception as exc:  # noqa: BLE001 (an observer may raise anything)
            if name in self._failed:
                return
            self._failed.add(name)
            from ampho.database.url import describe_without  # imported late, because the help imports this module

            why = f"{describe_without(exc, self._url)} ({location(exc, None)})"
            with suppress(Exception):  # a handler of this log may be what failed
                _log.warning("%s failed, and the run continues without it: %s", name, why)


class Observers:
    """The observers of one run. An error in one of them does not stop the run."""

    def __init__(self, url: URL, *observers: Observer) -> None:
        self._guard = _Guard(url)
        self._observers = observers

    @property
    def want_statements(self) -> bool:
        """Whether one of them overrides the methods that are called for each statement."""
        return any(
            getattr(type(observer), name, None) not in (None, getattr(Observer, name))
            for observer in self._observers
            for name in ("executing", "executed")
        )

    def notify(self, event: Callable[Concatenate[Any, P], None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call a method of :class:`Observer` on each of them."""
        for observer in self._observers:
            method = getattr(observer, event.__name__, None)
            if method is not None:
                self._guard.call(type(observer).__name__, method, *args, **kwargs)


def observers_of(app: object, url: URL, observer: Observer | None, *, is_async: bool) -> Observers:
    """Return the observers of a run: the one that was passed, then the log, then the signals.

    :param app: the sender of the signals.
    :param is_async: whether the run can await receivers.
    """
    given = Observer() if observer is None else observer
    return Observers(url, given, _LogRecords(), _Signals(url, app, is_async=is_async))


class _LogRecords(Observer):
    """Logs a run; the records have the details as attributes, too."""

    def planned(self, plan: Plan) -> None:
        level = logging.INFO if plan.steps else logging.DEBUG
        what = {"steps": len(plan.steps), "packages": plan.packages}
        text = "%s (%s): %s of %s"
        verb = "Upgrading" if plan.direction == "upgrade" else "Downgrading"
        words = (verb, plan.specifier, counted(len(plan.steps)), ", ".join(plan.packages) or "no package")
        _record(level, "planned", text, *words, specifier=plan.specifier, direction=str(plan.direction), **what)

    def waiting(self, holder: str) -> None:
        whom = f": {holder}" if holder else ""
        text = "Waiting for another process that migrates this database%s"
        _record(logging.INFO, "waiting", text, whom, holder=holder)

    def started(self, step: Step) -> None:
        _record_step(logging.DEBUG, "started", "%s of %s begins", step)

    def applied(self, step: Step, duration: float) -> None:
        _record_step(logging.INFO, "applied", "%s of %s is done, in %.3f s", step, duration, duration=duration)

    def failed(self, step: Step, error: AmphoError) -> None:
        _record_step(logging.ERROR, "failed", "%s of %s failed: %s", step, error, error=type(error).__name__)

    def retrying(self, step: Step, seconds: float) -> None:
        text = "%s of %s could not get a lock, and is retried in %.1f s"
        _record_step(logging.WARNING, "retrying", text, step, seconds, seconds=seconds)

    def interrupted(self, step: Step) -> None:
        _record_step(logging.WARNING, "interrupted", "%s of %s was interrupted", step)

    def finished(self, run: Run) -> None:
        plan = run.plan
        text, words = "%s (%s) is done: %s in %.3f s", [counted(len(run.steps)), run.duration]
        if not plan.steps:
            text, words = "%s (%s): nothing to do", []
        what = {"specifier": plan.specifier, "direction": str(plan.direction), "duration": run.duration}
        named = (plan.direction.capitalize(), plan.specifier)
        _record(logging.INFO, "finished", text, *named, *words, steps=len(run.steps), packages=plan.packages, **what)

    def warned(self, message: str) -> None:
        """Do nothing: the observer that was passed logs a warning, or uses it in another way."""


def _record_step(level: int, event: str, text: str, step: Step, *words: object, **what: object) -> None:
    revision = step.revision
    what |= {"revision": revision.id, "package": revision.package, "direction": str(step.direction)}
    _record(level, event, f"{step.direction.capitalize()} of {text}", revision.id, revision.package, *words, **what)


def _record(level: int, event: str, text: str, *words: object, **what: object) -> None:
    # Without a handler, Python itself would print warnings and errors, and a method prints nothing.
    if _log.isEnabledFor(level) and _log.hasHandlers():
        extra = {EVENT: event, **{f"ampho_{name}": value for name, value in what.items()}}
        shown = [word if isinstance(word, float) else escaped(str(word)) for word in words]
        _log.log(level, text, *shown, extra=extra)


class _Signals(Observer):
    """Sends the signals of a run. An error in one receiver does not keep a signal from the others.

    :param sender: the app.
    :param is_async: whether the run can await a receiver.
    """

    def __init__(self, url: URL, sender: object, *, is_async: bool) -> None:
        from ampho import signals

        self._signals = signals
        self._guard = _Guard(url)
        self._sender = sender
        self._is_async = is_async

    def started(self, step: Step) -> None:
        self._send_step(self._signals.revision_started, step)

    def applied(self, step: Step, duration: float) -> None:
        self._send_step(self._signals.revision_applied, step, duration=duration)

    def failed(self, step: Step, error: AmphoError) -> None:
        self._send_step(self._signals.revision_failed, step, error=error)

    def retrying(self, step: Step, seconds: float) -> None:
        self._send_step(self._signals.revision_retrying, step, seconds=seconds)

    def interrupted(self, step: Step) -> None:
        self._send_step(self._signals.revision_interrupted, step)

    def finished(self, run: Run) -> None:
        direction = run.plan.direction
        is_upgrade = direction == "upgrade"
        signal = self._signals.upgrade_finished if is_upgrade else self._signals.downgrade_finished
        self._send(signal, run=run, direction=direction, duration=run.duration)

    def warned(self, message: str) -> None:
        """Do nothing: there is no signal for warnings."""

    def _send_step(self, signal: Signal, step: Step, **what: object) -> None:
        if signal.receivers:
            revision = step.revision
            what |= {"revision": revision.id, "package": revision.package, "direction": step.direction}
            self._send(signal, step=step, **what)

    def _send(self, signal: Signal, **what: object) -> None:
        # Not signal.send(), which stops at the first receiver that raises.
        if signal.receivers and not signal.is_muted:
            for receiver in signal.receivers_for(self._sender):
                name = f"{receiver.__module__}.{getattr(receiver, '__qualname__', type(receiver).__qualname__)}"
                self._guard.call(name, self._call, receiver, **what)

    def _call(self, receiver: Callable[..., object], **what: object) -> None:
        result = receiver(self._sender, **what)
        if inspect.isawaitable(result):
            self._wait(result)

    def _wait(self, result: Awaitable[object]) -> None:
        if self._is_async:
            from sqlalchemy.util import await_only

            await_only(result)
            return
        if inspect.iscoroutine(result):
            result.close()  # otherwise Python warns that it was never awaited
        raise TypeError("it is async, and nothing awaits it in Flask")
