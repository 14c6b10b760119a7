"""A stand-in for Flask-SQLAlchemy: AsyncSQLAlchemy and Quart, with an event loop that awaits whatever they return.

`install()` replaces `flask.Flask` and the modules of `flask_sqlalchemy` for a test suite that is written for Flask.
The stand-in awaits, and names the async drivers in the URLs. It adds nothing that `AsyncSQLAlchemy` does not have.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import operator
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import flask
import quart.ctx
from blinker import Signal
from quart import Quart
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeMeta

from ampho.aio import sqlalchemy as room
from ampho.aio.sqlalchemy import AsyncSQLAlchemy
from ampho.aio.sqlalchemy.model import table_name

DRIVERS = {"sqlite:": "sqlite+aiosqlite:", "mysql:": "mysql+asyncmy:"}

loop = asyncio.new_event_loop()
calls: asyncio.Queue[tuple[Callable[[], Any], asyncio.Future[Any]]] = asyncio.Queue()
workers: list[asyncio.Task[None]] = []
extensions: list[SQLAlchemy] = []


def run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function inside the loop, await what it returns, and wrap the result."""
    if not workers:
        workers.append(loop.create_task(work()))
    future = loop.create_future()
    calls.put_nowait((functools.partial(function, *args, **kwargs), future))
    return wrap(loop.run_until_complete(future))


async def work() -> None:
    """Make all calls in one task, as a view does, because Quart's contexts belong to the task."""
    while True:
        call, future = await calls.get()
        try:
            result = call()
            future.set_result(await result if inspect.isawaitable(result) else result)
        except Exception as error:  # noqa: BLE001 (it is raised where the call was made)
            future.set_exception(error)


def wrap(value: Any) -> Any:
    if isinstance(value, AsyncEngine):
        return value.sync_engine
    if isinstance(value, dict) and any(isinstance(item, AsyncEngine) for item in value.values()):
        return {key: wrap(item) for key, item in value.items()}
    if isinstance(value, (AsyncSession, getattr(room, "Pagination", ()))):
        return Awaited(value)
    return value


class Awaited:
    """An object whose attributes are looked up, and whose methods are called and awaited, in the loop."""

    def __init__(self, target: Any) -> None:
        self.__dict__["target"] = target

    def __getattr__(self, name: str) -> Any:
        value = run(getattr, self.target, name)
        return functools.partial(run, value) if inspect.ismethod(value) else value

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.target, name, value)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.target)

    def __repr__(self) -> str:
        return str(run(repr, self.target))

    def __call__(self) -> object:
        """Return the session itself: Flask-SQLAlchemy's `db.session` is called to get the session of the context."""
        return self.target


class SQLAlchemy(Awaited):
    def __init__(self, app: Any = None, **options: Any) -> None:
        super().__init__(AsyncSQLAlchemy(**options))
        extensions.append(self)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Any) -> None:
        for setting in ("SQLALCHEMY_DATABASE_URI", "SQLALCHEMY_BINDS"):
            if setting in app.config:
                app.config[setting] = with_async_driver(app.config[setting])
        self.target.init_app(app)


def with_async_driver(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: with_async_driver(item) for key, item in value.items()}
    for sync, asynchronous in DRIVERS.items():
        if str(value).startswith(sync):
            return asynchronous + str(value).removeprefix(sync)
    return value


class Flask(Quart):
    def app_context(self) -> Any:
        return entered_without_await(super().app_context())

    def test_request_context(self, path: str = "/", **options: Any) -> Any:
        # Werkzeug omits an argument that is None.
        given = {key: value for key, value in options.pop("query_string", {}).items() if value is not None}
        return entered_without_await(super().test_request_context(path, query_string=given, **options))


def entered_without_await(entered: Any) -> Any:
    """Return a context that a plain `with` statement can enter."""
    kind = type(entered)
    if not hasattr(kind, "__enter__"):
        kind.__enter__ = lambda self: run(self.__aenter__)
        kind.__exit__ = lambda self, *error: run(self.__aexit__, *error)
    return entered


class Model:
    """Flask-SQLAlchemy's base class of models, which is a plain class for AsyncSQLAlchemy."""


class Query:
    """Legacy queries, which AsyncSQLAlchemy does not have."""


def pagination() -> type:
    """Return a class with the constructor of Flask-SQLAlchemy's `Pagination`, which queries as it is created."""

    class Pagination(room.Pagination):  # type: ignore[name-defined, misc]
        def __init__(self, page: int, per_page: int, total: object) -> None:
            self.page, self.per_page = page, per_page
            self.items = self._query_items()
            self.total = self._query_count()

        @property
        def _query_offset(self) -> int:
            return int((self.page - 1) * self.per_page)

    return Pagination


def install() -> None:
    flask.Flask = Flask  # type: ignore[misc]
    module("flask_sqlalchemy", SQLAlchemy=SQLAlchemy)
    module("flask_sqlalchemy.cli", add_models_to_shell=shell_context)
    module("flask_sqlalchemy.model", Model=Model, DefaultMeta=DeclarativeMeta, camel_to_snake_case=table_name)
    module("flask_sqlalchemy.pagination", Pagination=pagination() if hasattr(room, "Pagination") else object)
    module("flask_sqlalchemy.query", Query=Query)
    module("flask_sqlalchemy.record_queries", get_recorded_queries=recorded_queries)
    module("flask_sqlalchemy.session", Session=AsyncSession)
    module("flask_sqlalchemy.track_modifications", before_models_committed=Signal(), models_committed=Signal())


def module(name: str, **content: object) -> None:
    sys.modules[name] = found = ModuleType(name)
    vars(found).update(content)


def recorded_queries() -> Any:
    return run(room.get_recorded_queries)  # type: ignore[attr-defined]


def shell_context() -> dict[str, Any]:
    """Return what the shell offers, with the stand-in instead of the object that it stands for."""
    found = run(operator.methodcaller("make_shell_context"), quart.current_app)
    return {name: extensions[-1] if isinstance(value, AsyncSQLAlchemy) else value for name, value in found.items()}


def close() -> None:
    """Close the connections of a test, and end its task with the contexts that are left in it."""

    async def dispose() -> None:
        for extension in extensions:
            for app in list(extension.target._engines):
                await extension.target.dispose(app)

    run(dispose)
    extensions.clear()
    worker = workers.pop()
    worker.cancel()
    loop.run_until_complete(asyncio.wait([worker]))
