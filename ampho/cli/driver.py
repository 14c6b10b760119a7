"""Calling an extension's methods from a command: at once for Flask, in a loop of its own for Quart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from ampho._describe import describe
from ampho.errors import AmphoError, AppNotFoundError, ConfigurationError

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
    extension = app.extensions.get("ampho")
    if extension is None:
        raise ConfigurationError(
            f"The app {app.import_name} has no Ampho. Add Ampho(app) for Flask, or AsyncAmpho(app) for Quart."
        )
    if not extension.is_async:
        with app.app_context():  # type: ignore[attr-defined]  # Flask's; the class that it shares with Quart has none
            return getattr(extension, method)(*args, **kwargs)
    return _in_a_loop(lambda: _call_async(app, extension, method, *args, **kwargs))


def _load(loader: Loader) -> App:
    try:
        return loader.load_app()
    except (AmphoError, click.ClickException):
        raise
    except (Exception, SystemExit) as exc:
        raise AppNotFoundError(f"The app cannot be loaded: {describe(exc)}.") from exc


async def _call_async(app: Any, extension: Any, method: str, *args: object, **kwargs: object) -> Any:
    async with app.app_context():
        try:
            return await getattr(extension, method)(*args, **kwargs)
        finally:
            await extension.dispose(app)


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
