"""``AsyncAmpho``, the extension for Quart."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, ParamSpec, TypeVar, cast
from weakref import WeakKeyDictionary

from quart import Quart, current_app, has_app_context
from sqlalchemy import MetaData
from sqlalchemy.util import await_only, greenlet_spawn

from ampho.aio.adapters import Database, adapt
from ampho.aio.framework import QuartFramework, finish
from ampho.aio.sqlalchemy import AsyncSQLAlchemy
from ampho.aio.sqlalchemy.pool import treat_as_current
from ampho.commands import Commands
from ampho.errors import ConfigurationError
from ampho.extension import DEFAULTS, AsyncExtension
from ampho.settings import DEFAULT_DATABASE

if TYPE_CHECKING:
    from flask.sansio.app import App
    from quart import Blueprint
    from sqlalchemy import URL
    from sqlalchemy.ext.asyncio import AsyncEngine

    from ampho.aio.template import AsyncTemplate
    from ampho.database.redirect import Lead
    from ampho.fleet.listing import Group

P = ParamSpec("P")
R = TypeVar("R")


class AsyncAmpho(AsyncExtension):
    """Per-package migrations for a Quart app.

    :param app: the app; with an app factory, leave it out and call :meth:`init_app` in the factory.
    :param db: the app's ``AsyncSQLAlchemy``, an ``AsyncEngine``, a function that returns one, an
        ``async_sessionmaker``, or advanced-alchemy's ``SQLAlchemyAsyncConfig``. By default, the ``AsyncSQLAlchemy``
        that is registered on the app, or otherwise a new one. For several databases, a dictionary of them by name, or
        a list of ``SQLAlchemyAsyncConfig``.
    :param metadata: the tables of the models, as one ``MetaData`` or several; needed if ``db`` is an engine.
    :param packages: names of packages with migrations, in addition to those in ``AMPHO_MIGRATION_PACKAGES``.
    :param options: further arguments for Alembic's ``context.configure``, such as ``include_object``.

    Await the methods. They need an app context, unless this extension serves only one app.
    """

    _template: ClassVar[str] = "aio"
    _page: ClassVar[str] = "ampho.pending.aio:QuartPage"
    _arguments: ClassVar[tuple[str, ...]] = ("packages", "metadata")

    def __init__(
        self,
        app: Quart | None = None,
        db: object | None = None,
        *,
        metadata: MetaData | Sequence[MetaData] | None = None,
        packages: Iterable[str] | None = None,
        **options: object,
    ) -> None:
        super().__init__(packages, options)
        self._db = db
        _check_metadata(metadata)
        self._given_metadata = metadata
        self._given_options = options
        self._databases: WeakKeyDictionary[App, Database] = WeakKeyDictionary()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Quart, db: object | None = None) -> None:
        """Register this extension, and its database extension if necessary, on an app.

        :raises ConfigurationError: if this extension does not support the app or its database, or if the app already
            has an extension of Ampho.
        """
        if not isinstance(app, Quart):
            raise ConfigurationError(
                f"AsyncAmpho is for Quart, and this is a {type(app).__name__} app. Use ampho.Ampho for Flask."
            )
        self._check_only_one(app)
        registered = app.extensions.get("sqlalchemy")
        db = next((each for each in (db, self._db, registered) if each is not None), None)
        db = AsyncSQLAlchemy() if db is None else db
        if isinstance(db, AsyncSQLAlchemy) and db is not registered:
            db.init_app(app)
        self._databases[app] = adapt(app, db)
        self._apps.add(app)
        app.extensions["ampho"] = self
        self._add_commands(app)
        self._add_from_settings(app)

    def readiness(self, path: str = "/-/ready") -> Blueprint:
        """Return a blueprint that answers whether the app is ready: whether its databases have what its code needs.

        The status code is 200 or 503. ``AMPHO_READINESS_PATH`` registers it without further code.

        :param path: the path at which it answers.
        """
        from ampho.aio.readiness import blueprint  # imported late, because few apps have it

        return blueprint(self, path)

    def _before_first_request(self, app: App) -> Callable[[], Any]:
        async def hook() -> object:
            page = self._pending_page(app, hook)
            return None if page is None else await page()

        return hook

    @property
    def db(self) -> Any:  # noqa: ANN401 (the object that the app passed)
        """The database of the current app; outside of an app context, the database of the only app."""
        return self._databases[self._app()].given

    def _current_app(self) -> App | None:
        return cast("Any", current_app)._get_current_object() if has_app_context() else None  # noqa: SLF001 (documented)

    def engine(self, app: App, database: str = DEFAULT_DATABASE) -> AsyncEngine:
        """Return the engine of one of the app's databases for the running loop."""
        return self._databases[app].engine(database)

    async def dispose(self, app: App) -> None:
        """Close the connections of an app in the running loop, at the end of a command."""
        await self._databases[app].dispose()

    async def call(self, function: Callable[Concatenate[Commands, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a command for the current app in a new task.

        If the caller is cancelled, wait until the command has cleaned up.
        """
        commands = Commands(QuartFramework(self, self._app()))
        task = asyncio.ensure_future(greenlet_spawn(partial(function, commands, *args, **kwargs)))
        treat_as_current(task)
        return await finish(task, cancels=True)

    async def template(
        self,
        specifier: str = "heads",
        packages: Iterable[str] | None = None,
        *,
        database: str | None = None,
        server: str | URL | None = None,
        key: str = "",
        x: Sequence[str] = (),
    ) -> AsyncTemplate:
        """Return a template: a database at a given point of the histories, from which clones are made in milliseconds.

        The parameters and errors are those of :meth:`ampho.Ampho.template`.
        """
        from ampho.aio.template import AsyncTemplate

        made = await self.call(Commands.template, specifier, packages, database=database, server=server, key=key, x=x)
        return AsyncTemplate(made, self)

    def lead(self, app: App, database: str, how: Lead) -> AbstractContextManager[object]:
        """Lead the engines of a database elsewhere, also those for other event loops that are created meanwhile."""
        return self._databases[app].lead(database, how)

    def engine_names(self, app: App) -> list[str]:
        """Return the names of the databases for which the app has an engine."""
        return list(self._databases[app].names())

    def _url(self, app: App, database: str) -> URL:
        return self._databases[app].url(database)

    def _listed(self, app: App, group: Group) -> Generator[object]:
        found = self._listed_async(cast("Quart", app), group)
        try:
            while True:
                yield await_only(anext(found))
        except StopAsyncIteration:
            return
        finally:
            await_only(found.aclose())

    async def _listed_async(self, app: Quart, group: Group) -> AsyncGenerator[object]:
        from ampho.fleet.listing import check_is_iterable

        async with nullcontext() if self._current_app() is app else app.app_context():
            found: object = group.function()
            if inspect.isawaitable(found):
                found = await found
            if isinstance(found, AsyncIterable):
                async for each in found:
                    yield each
                return
            check_is_iterable(found, group)
            for each in cast("Iterable[object]", found):
                yield each

    def _binds(self, app: App) -> Collection[str]:
        return self._databases[app].binds()

    def _metadatas(self, app: App) -> Mapping[str | None, MetaData | Sequence[MetaData]]:
        return self._databases[app].metadatas if self._given_metadata is None else {None: self._given_metadata}

    def _options(self, app: App, database: str) -> Mapping[str, object]:
        return {**DEFAULTS, **self._databases[app].options(database), **self._given_options}

    def _way_to_add_database(self, app: App) -> str:
        if isinstance(self._databases[app].given, AsyncSQLAlchemy):
            return super()._way_to_add_database(app)
        return 'Pass it to AsyncAmpho, as in AsyncAmpho(app, {"default": engine, "reports": other}).'


def _check_metadata(given: object) -> None:
    several = given if isinstance(given, Sequence) else [] if given is None else [given]
    for one in several:
        if not isinstance(one, MetaData):
            kind = f"{type(one).__module__}.{type(one).__qualname__}"
            raise ConfigurationError(
                f"metadata= got a {kind}, not a MetaData. Pass Base.metadata, or a list of MetaData objects."
            )
