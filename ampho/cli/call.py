"""Calling an extension's methods from a command: at once for Flask, in a loop of its own for Quart."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from ampho._text import describe, with_hint
from ampho.cli.lines import warn
from ampho.errors import AmphoError, AppNotFoundError, ConfigurationError
from ampho.settings import misspelt

if TYPE_CHECKING:
    from flask.sansio.app import App

T = TypeVar("T")


class Loader(Protocol):
    """What the group needs of ``ctx.obj``: Flask's and Quart's ``ScriptInfo`` have it, and the console's loader."""

    def load_app(self) -> App: ...


def call(ctx: click.Context, method: str, *args: object, **kwargs: object) -> Any:
    """Call a method of the ``Ampho`` or ``AsyncAmpho`` of the app that the command line found.

    :raises AmphoError: what the method raises, or that there is no such app.
    """
    app = _load(ctx.obj)
    for message in misspelt(app.config, os.environ):
        warn(message)
    extension = app.extensions.get("ampho")
    if extension is None:
        raise ConfigurationError(
            f"The app {app.import_name} has no Ampho. Add Ampho(app) for Flask, or AsyncAmpho(app) for Quart."
        )
    if not extension.is_async:
        # Flask's; the class that it shares with Quart has none
        with app.app_context(), _ended_by_signals(_raise):  # type: ignore[attr-defined]
            return getattr(extension, method)(*args, **kwargs)
    return _in_a_loop(lambda: _call_async(app, extension, method, *args, **kwargs))


def _load(loader: Loader) -> App:
    try:
        return loader.load_app()
    except (AmphoError, click.ClickException):
        raise
    except (Exception, SystemExit) as exc:
        raise AppNotFoundError(f"The app cannot be loaded: {with_hint(describe(exc))}.") from exc


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


_ENDINGS: tuple[tuple[int, object, type[KeyboardInterrupt]], ...] = (
    (signal.SIGTERM, signal.SIG_DFL, Terminated),
    (signal.SIGINT, signal.default_int_handler, KeyboardInterrupt),
)
"""The signals that end a command, Python's own handlers of them, and what they raise."""


@contextmanager
def _ended_by_signals(end: Callable[[type[KeyboardInterrupt]], None]) -> Iterator[None]:
    """Call ``end`` with what a signal raises, unless the app handles that signal, or this is not the main thread."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number, usual, kind in _ENDINGS:
            if signal.getsignal(number) is usual:
                before[number] = signal.signal(number, lambda *_, kind=kind: end(kind))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise(kind: type[KeyboardInterrupt]) -> None:
    raise kind


class _InALoop:
    """Ends what runs in an event loop when a signal arrives."""

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._kind: type[KeyboardInterrupt] | None = None

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Wait for ``work``; if a signal ends it, raise what the signal raises after the cleanup."""
        self._task = asyncio.current_task()
        try:
            return await work()
        except asyncio.CancelledError:
            if self._kind is None:
                raise
            raise self._kind from None

    def end(self, kind: type[KeyboardInterrupt]) -> None:
        """Cancel what runs, once. A second Ctrl-C does not wait for the cleanup."""
        if self._task is None or (self._kind is not None and kind is KeyboardInterrupt):
            raise kind
        if self._kind is not None:
            return
        self._kind = kind
        if _is_in_greenlet():
            # A revision's own Python code may run for long, and keeps the loop from delivering a cancellation.
            raise asyncio.CancelledError
        self._task.get_loop().call_soon_threadsafe(self._task.cancel)


def _is_in_greenlet() -> bool:
    """Return whether the sync code of a run is executing, which SQLAlchemy runs in a greenlet of its own."""
    from greenlet import getcurrent  # type: ignore[import-untyped,unused-ignore]

    return bool(getcurrent().parent)


async def _call_async(app: Any, extension: Any, method: str, *args: object, **kwargs: object) -> Any:
    async with app.app_context():
        try:
            return await getattr(extension, method)(*args, **kwargs)
        finally:
            await extension.dispose(app)


def _in_a_loop(work: Callable[[], Awaitable[T]]) -> T:
    """Run ``work`` in a loop of its own; in another thread if this one has a running loop, as in an async test."""
    import anyio

    running = _InALoop()
    if not _has_running_loop():
        with _ended_by_signals(running.end):
            return anyio.run(running.run, work)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        # in this context, by which a run knows that it is inside of another
        return pool.submit(copy_context().run, asyncio.run, running.run(work)).result()


def _has_running_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
