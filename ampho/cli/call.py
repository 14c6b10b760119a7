"""Call commands for the app that the command line finds: directly on Flask, and in an event loop on Quart."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

import click

from ampho._text import describe, with_hint, with_notes_of
from ampho.cli.json import UPDATED
from ampho.cli.lines import warn
from ampho.commands import Commands
from ampho.errors import AmphoError, AppNotFoundError
from ampho.settings import misspelled

if TYPE_CHECKING:
    from flask import Flask
    from flask.sansio.app import App
    from quart import Quart

P = ParamSpec("P")
T = TypeVar("T")


class Loader(Protocol):
    """The type of ``ctx.obj``: the ``ScriptInfo`` of Flask or Quart, or the loader of the console script."""

    def load_app(self) -> App: ...


def call(
    ctx: click.Context, function: Callable[Concatenate[Commands, P], T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Call a command for the app that the command line finds, and return its result.

    :raises AmphoError: if the command fails, if no app is found, or if the app has no extension.
    """
    app = load(ctx.obj)
    for message in misspelled(app.config, os.environ):
        warn(message)

    def run(commands: Commands) -> T:
        result = function(commands, *args, **kwargs)
        ctx.meta.setdefault(UPDATED, []).extend(commands.updated)
        return result

    return call_for(app, run)


def call_for(app: App, function: Callable[Concatenate[Commands, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a command for an app, and return its result. SIGTERM and Ctrl-C end it.

    :raises AmphoError: if the command fails, or if the app has no extension.
    """
    from ampho.extension import SyncExtension, extension_of

    extension = extension_of(app)
    if isinstance(extension, SyncExtension):
        with cast("Flask", app).app_context(), ended_by_signals():
            return extension.call(function, *args, **kwargs)

    async def call_async() -> T:
        async with cast("Quart", app).app_context():
            try:
                return await extension.call(function, *args, **kwargs)
            finally:
                await extension.dispose(app)

    return _in_a_loop(call_async)


def load(loader: Loader) -> App:
    """Return the app that the command line finds.

    :raises AppNotFoundError: if there is no app, or it cannot be loaded.
    """
    try:
        return loader.load_app()
    except (AmphoError, click.ClickException):
        raise
    except (Exception, SystemExit) as exc:
        raise AppNotFoundError(f"The app cannot be loaded: {with_hint(describe(exc))}.") from exc


class Terminated(KeyboardInterrupt):
    """Raised when SIGTERM ends a command, just as Ctrl-C raises ``KeyboardInterrupt``."""


_ENDINGS: tuple[tuple[int, object, type[KeyboardInterrupt]], ...] = (
    (signal.SIGTERM, signal.SIG_DFL, Terminated),
    (signal.SIGINT, signal.default_int_handler, KeyboardInterrupt),
)
"""The signals that end a command, their default handlers, and the exceptions that they raise."""


@contextmanager
def ended_by_signals(end: Callable[[type[KeyboardInterrupt]], None] | None = None) -> Iterator[None]:
    """Call ``end`` when SIGTERM or SIGINT arrives, unless the app handles that signal or this is not the main thread.

    :param end: a function that is called with the class of the signal's exception; by default, the exception is raised,
        unless an inner block has a function.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number, usual, kind in _ENDINGS:
            if signal.getsignal(number) in (usual, _raise):
                before[number] = signal.signal(number, (lambda *_, kind=kind: end(kind)) if end else _raise)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise(number: int, frame: object) -> None:
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


class _Interruptible:
    """Runs a coroutine that a signal can end."""

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._kind: type[KeyboardInterrupt] | None = None

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run ``work`` and return its result. If a signal ends it, raise the signal's exception after the cleanup."""
        self._task = asyncio.current_task()
        try:
            return await work()
        except asyncio.CancelledError as exc:
            if self._kind is None:
                raise
            # A variable with the new exception would keep the frames of its traceback, and thus connections, alive.
            raise with_notes_of(exc, self._kind()) from None

    def end(self, kind: type[KeyboardInterrupt]) -> None:
        """Cancel the work at the first signal. A second Ctrl-C does not wait for the cleanup."""
        if self._task is None or (self._kind is not None and kind is KeyboardInterrupt):
            raise kind
        if self._kind is not None:
            return
        self._kind = kind
        if _is_in_greenlet():
            # A revision may run for a long time and block the loop, so the loop could not cancel the task.
            raise asyncio.CancelledError
        self._task.get_loop().call_soon_threadsafe(self._task.cancel)


def _is_in_greenlet() -> bool:
    """Return whether the current code runs in the greenlet of a command, and not in the event loop itself."""
    from greenlet import getcurrent  # type: ignore[import-untyped,unused-ignore]

    return bool(getcurrent().parent)


def _in_a_loop(work: Callable[[], Awaitable[T]]) -> T:
    """Run ``work`` in a new event loop, in another thread if this one already has a running loop."""
    import anyio

    running = _Interruptible()
    if not _has_running_loop():
        with ended_by_signals(running.end):
            return anyio.run(running.run, work)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        # The copied context lets a command notice that it was called during a run.
        return pool.submit(copy_context().run, asyncio.run, running.run(work)).result()


def _has_running_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
