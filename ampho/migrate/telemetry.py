"""What an app hears of any run without an observer of its own: records of the logger ``ampho``, and signals."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ampho import signals
from ampho._text import counted, escaped
from ampho.migrate.audience import Audience, Guard
from ampho.migrate.observers import Observer
from ampho.migrate.plan import Direction

if TYPE_CHECKING:
    from blinker import Signal
    from sqlalchemy.engine import URL, Connection

    from ampho.errors import AmphoError
    from ampho.migrate.plan import Plan, Step
    from ampho.migrate.run import Run

_log = logging.getLogger("ampho")

EVENT = "ampho_event"
"""The attribute that the records of a run have, and no others."""


def audience_of(connection: Connection, url: URL, sender: object, observer: Observer | None) -> Audience:
    """Return who is told of a run: its observer, then the log, then the receivers of the signals.

    :param sender: the app, which is the sender of the signals.
    """
    guard = Guard(url)
    return Audience(
        guard,
        Observer() if observer is None else observer,
        LogRecords(),
        Signals(guard, sender, is_async=connection.dialect.is_async),
    )


class LogRecords(Observer):
    """Logs a run, in words and in the attributes of the records."""

    def planned(self, plan: Plan) -> None:
        level = logging.INFO if plan.steps else logging.DEBUG
        what = {"steps": len(plan.steps), "packages": plan.packages}
        text = "%s (%s): %s of %s"
        verb = "Upgrading" if plan.direction is Direction.UPGRADE else "Downgrading"
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
        text = "%s of %s met a lock, and is tried again in %.1f s"
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
        """Leave it to the observer, by which it is logged unless that does something else with it."""


def _record_step(level: int, event: str, text: str, step: Step, *words: object, **what: object) -> None:
    revision = step.revision
    what |= {"revision": revision.id, "package": revision.package, "direction": str(step.direction)}
    _record(level, event, f"{step.direction.capitalize()} of {text}", revision.id, revision.package, *words, **what)


def _record(level: int, event: str, text: str, *words: object, **what: object) -> None:
    # Where nobody handles records, Python itself would print those of a failure, and a method prints nothing.
    if _log.isEnabledFor(level) and _log.hasHandlers():
        extra = {EVENT: event, **{f"ampho_{name}": value for name, value in what.items()}}
        shown = [word if isinstance(word, float) else escaped(str(word)) for word in words]
        _log.log(level, text, *shown, extra=extra)


class Signals(Observer):
    """Sends the signals of a run, each receiver for itself.

    :param sender: the app.
    :param is_async: whether the run can wait for a receiver that is async.
    """

    def __init__(self, guard: Guard, sender: object, *, is_async: bool) -> None:
        self._guard = guard
        self._sender = sender
        self._is_async = is_async

    def started(self, step: Step) -> None:
        self._send_step(signals.revision_started, step)

    def applied(self, step: Step, duration: float) -> None:
        self._send_step(signals.revision_applied, step, duration=duration)

    def failed(self, step: Step, error: AmphoError) -> None:
        self._send_step(signals.revision_failed, step, error=error)

    def retrying(self, step: Step, seconds: float) -> None:
        self._send_step(signals.revision_retrying, step, seconds=seconds)

    def interrupted(self, step: Step) -> None:
        self._send_step(signals.revision_interrupted, step)

    def finished(self, run: Run) -> None:
        direction = run.plan.direction
        upgrades = direction is Direction.UPGRADE
        signal = signals.upgrade_finished if upgrades else signals.downgrade_finished
        self._send(signal, run=run, direction=direction, duration=run.duration)

    def warned(self, message: str) -> None:
        """Leave it: no signal tells of warnings."""

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
            result.close()  # which else warns that nobody awaited it
        raise TypeError("it is async, and nothing awaits it in Flask")
