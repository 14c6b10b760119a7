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

from ampho._describe import describe
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
        with app.app_context(), _terminated_by_signal():  # type: ignore[attr-defined]
            return getattr(extension, method)(*args, **kwargs)
    return _in_a_loop(lambda: _call_async(app, extension, method, *args, **kwargs))


def _load(loader: Loader) -> App:
    try:
        return loader.load_app()
    except (AmphoError, click.ClickException):
        raise
    except (Exception, SystemExit) as exc:
        raise AppNotFoundError(f"The app cannot be loaded: {describe(exc)}.") from exc


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


@contextmanager
def _terminated_by_signal() -> Iterator[None]:
    """Let SIGTERM raise :class:`Terminated`, unless the app handles it, or this is not the main thread."""
    if not _is_ours():
        yield
        return

    def terminate(*args: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _is_ours() -> bool:
    in_main_thread = threading.current_thread() is threading.main_thread()
    return in_main_thread and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def _call_async(app: Any, extension: Any, method: str, *args: object, **kwargs: object) -> Any:
    async with app.app_context():
        try:
            return await _terminable(getattr(extension, method)(*args, **kwargs))
        finally:
            await extension.dispose(app)


async def _terminable(work: Awaitable[T]) -> T:
    """Let SIGTERM cancel the running task, and raise :class:`Terminated` when that has come to its end."""
    task = asyncio.current_task()
    if task is None or not _is_ours():
        return await work
    terminated = False

    def terminate() -> None:
        nonlocal terminated
        if not terminated:
            terminated = True
            task.cancel()

    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(signal.SIGTERM, terminate)
    except NotImplementedError:  # by the loops of Windows, where SIGTERM ends a process at once
        return await work
    try:
        return await work
    except asyncio.CancelledError:
        if terminated:
            raise Terminated from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


def _in_a_loop(work: Callable[[], Awaitable[T]]) -> T:
    """Run ``work`` in a loop of its own; in another thread if this one has a running loop, as in an async test."""
    import anyio

    if not _has_running_loop():
        return anyio.run(work)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        # in this context, by which a run knows that it is inside of another
        return pool.submit(copy_context().run, asyncio.run, _awaited(work)).result()


async def _awaited(work: Callable[[], Awaitable[T]]) -> T:
    return await work()


def _has_running_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
