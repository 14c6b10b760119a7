"""SQLAlchemy for Quart: engines, metadata, and sessions, configured with the settings of Flask-SQLAlchemy."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar, overload
from weakref import WeakKeyDictionary, WeakSet

from click import Command
from quart import Quart, abort, has_app_context
from quart.signals import appcontext_pushed
from sqlalchemy.exc import MultipleResultsFound, NoResultFound
from sqlalchemy.util import greenlet_spawn

from ampho.aio.sqlalchemy.context import current_context
from ampho.aio.sqlalchemy.engines import Engines, read_specs
from ampho.aio.sqlalchemy.model import Metadatas, make_model
from ampho.aio.sqlalchemy.names import SQLAlchemyNames
from ampho.aio.sqlalchemy.pagination import Pagination, page_arguments
from ampho.aio.sqlalchemy.sessions import Sessions
from ampho.aio.sqlalchemy.table import make_table_class
from ampho.database.url import display
from ampho.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager
    from typing import Any

    from quart.ctx import AppContext
    from sqlalchemy import URL, MetaData, Select
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
    from sqlalchemy.orm import DeclarativeBase

    from ampho.aio.sqlalchemy.table import BindTable
    from ampho.database.redirect import Lead

T = TypeVar("T")

_log = logging.getLogger("ampho")
ALL = "__all__"


class AsyncSQLAlchemy(SQLAlchemyNames):
    """Connects Quart apps to SQLAlchemy, as Flask-SQLAlchemy does for Flask.

    ::

        db = AsyncSQLAlchemy()

        class User(db.Model):
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str]

        def create_app():
            app = Quart(__name__)
            app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite+aiosqlite:///shop.db"
            db.init_app(app)
            return app

        @app.post("/users/<name>")
        async def add_user(name):
            db.session.add(User(name=name))
            await db.session.commit()
            return "", 201

    It reads ``SQLALCHEMY_DATABASE_URI``, ``SQLALCHEMY_BINDS``, ``SQLALCHEMY_ENGINE_OPTIONS``, ``SQLALCHEMY_ECHO``, and
    ``SQLALCHEMY_RECORD_QUERIES`` from the app's config. These settings have the same meaning and precedence as in
    Flask-SQLAlchemy. The path of an SQLite file is relative to the app's instance folder.

    The names of ``sqlalchemy`` and ``sqlalchemy.orm`` are attributes, such as ``db.select`` and ``db.relationship``.

    An in-memory SQLite database (``sqlite+aiosqlite://``) has one connection. Concurrent sessions use it in turn, each
    from its first statement to its commit, rollback, or close, so that no session rolls back the changes of another.
    A session that waits for more than 30 seconds (``pool_timeout`` in the engine options) raises
    :exc:`sqlalchemy.exc.TimeoutError`. If the same task is using the connection in another session, waiting would never
    end, so :exc:`sqlalchemy.exc.InvalidRequestError` is raised immediately.

    :param app: the app; with an app factory, leave it out and call :meth:`init_app` in the factory.
    :param metadata: metadata for the default bind, for example with a naming convention.
    :param model_class: the parent of :attr:`Model`: your own :class:`~sqlalchemy.orm.DeclarativeBase`, with its
        metadata and models, or any other class.
    :param engine_options: default arguments for all engines; the configuration overrides them.
    :param session_options: arguments for each session; ``class_`` is a subclass of ``AsyncSession``. By default,
        ``expire_on_commit`` is off, because an expired attribute cannot be loaded without ``await``.
    :param add_models_to_shell: make this object and the models available in ``quart shell``.
    :param disable_autonaming: do not name tables after the classes of their models.
    :raises ConfigurationError: if an argument or the app's configuration is invalid.
    """

    def __init__(
        self,
        app: Quart | None = None,
        *,
        metadata: MetaData | None = None,
        model_class: type | None = None,
        engine_options: Mapping[str, object] | None = None,
        session_options: Mapping[str, object] | None = None,
        add_models_to_shell: bool = True,
        disable_autonaming: bool = False,
    ) -> None:
        self._metadatas = Metadatas()
        if metadata is not None:
            metadata.info["bind_key"] = None
            self._metadatas[None] = metadata
        self._model = make_model(model_class, self._metadatas, disable_autonaming=disable_autonaming)
        self._table = make_table_class(self._metadatas)
        self._add_models_to_shell = add_models_to_shell
        self._engine_options = dict(engine_options or {})
        self._sessions = Sessions(session_options or {})
        self._engines: WeakKeyDictionary[Quart, Engines] = WeakKeyDictionary()
        self._last_contexts: WeakSet[AppContext] = WeakSet()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Quart) -> None:
        """Register this extension on an app, whose configuration must be complete. Files and databases are not opened.

        :raises ConfigurationError: if the app is not a Quart app or already has a database extension, or if a setting
            is missing or invalid.
        """
        if not isinstance(app, Quart):
            raise ConfigurationError(
                f"AsyncSQLAlchemy is for Quart, and this is a {type(app).__name__} app. With Flask, use "
                "Flask-SQLAlchemy, and ampho.Ampho for the migrations."
            )
        if "sqlalchemy" in app.extensions:
            raise ConfigurationError(
                f"The app {app.name!r} already has an object at app.extensions['sqlalchemy']. Use that object."
            )
        specs = read_specs(app.config, self._engine_options, str(app.instance_path))
        for key in specs:
            self._metadatas[key]
        if app.config.get("SQLALCHEMY_TRACK_MODIFICATIONS"):
            _log.warning(
                "SQLALCHEMY_TRACK_MODIFICATIONS has no effect, because AsyncSQLAlchemy sends no signals of changed "
                "models. Remove the setting, and listen to the events of RoutingSession instead."
            )
        self._engines[app] = Engines(specs)
        app.extensions["sqlalchemy"] = self
        if self._add_models_to_shell:
            app.shell_context_processor(self._shell_context)
        app.cli.add_command(_shell_command(app, self))
        appcontext_pushed.connect(self._reopen_session, app)
        app.teardown_appcontext(self._close_session)
        app.after_serving(self._end_serving)

    @property
    def Model(self) -> type[DeclarativeBase]:  # noqa: N802 (Flask-SQLAlchemy's name)
        """The base class of models.

        The table of a model without ``__tablename__`` is named after its class, such as ``account_entry`` for
        ``AccountEntry``, unless the model shares its parent's table. The ``__bind_key__`` of a model or of its parent
        selects its metadata and its engine.
        """
        return self._model

    @property
    def Table(self) -> type[BindTable]:  # noqa: N802 (Flask-SQLAlchemy's name)
        """The class of tables. Metadata is not required as an argument: ``bind_key`` selects it."""
        return self._table

    @property
    def metadata(self) -> MetaData:
        """The metadata of the default bind."""
        return self._metadatas[None]

    @property
    def metadatas(self) -> dict[str | None, MetaData]:
        """The metadata of each bind key; looking up a new key creates its metadata."""
        return self._metadatas

    @property
    def session(self) -> AsyncSession:
        """The session of the current app context, which is closed when the context ends.

        Each request, each websocket, and each background task of Quart has a context of its own. The session of a
        websocket lasts as long as the websocket: commit or roll back to return its connection. Before Quart 0.23, a
        request of the test client inside an ``app.app_context()`` uses that context, and so shares its session.

        :raises RuntimeError: outside of an app context, or after the context has ended.
        """
        context = current_context()
        return self._sessions.get(context, self._engines_of(context.app))

    @property
    def engine(self) -> AsyncEngine:
        """The default engine of the current app, for the running event loop.

        :raises RuntimeError: outside of an app context or an event loop.
        """
        return self.get_engine()

    @property
    def engines(self) -> dict[str | None, AsyncEngine]:
        """The engine of each bind key of the current app, for the running event loop.

        :raises RuntimeError: outside of an app context or an event loop.
        """
        engines = self._engines_of(current_context().app)
        return {key: engines.get(key) for key in engines.specs}

    def get_engine(self, bind_key: str | None = None, *, app: Quart | None = None) -> AsyncEngine:
        """Return the engine for a bind key in the running event loop.

        :param app: the app; by default, the current app.
        :raises ConfigurationError: if the bind key is not configured.
        :raises RuntimeError: outside of an event loop, or outside of an app context if no app is given.
        """
        return self._engines_of(app or current_context().app).get(bind_key)

    def get_url(self, bind_key: str | None = None, *, app: Quart | None = None) -> URL:
        """Return the database URL for a bind key, with the defaults for its driver, without creating an engine.

        :param app: the app; by default, the current app.
        :raises ConfigurationError: if the bind key is not configured.
        :raises RuntimeError: outside of an app context if no app is given.
        """
        return self._engines_of(app or current_context().app).url(bind_key)

    def get_bind_keys(self, *, app: Quart) -> list[str | None]:
        """Return the bind keys for which an app has engines."""
        return [*self._engines_of(app).specs]

    def lead_engines(self, bind_key: str | None, how: Lead, *, app: Quart) -> AbstractContextManager[None]:
        """Lead the engines of a bind key elsewhere, in all event loops, while the context manager is active."""
        return self._engines_of(app).led(bind_key, how)

    async def get_or_404(self, entity: type[T], ident: object, *, description: str | None = None, **options: Any) -> T:  # noqa: ANN401 (SQLAlchemy's own options)
        """Return the object with a primary key, as ``session.get()`` does, or answer with 404 if there is none.

        :param description: the message of the error page.
        :param options: arguments for :meth:`AsyncSession.get() <sqlalchemy.ext.asyncio.AsyncSession.get>`.
        """
        found = await self.session.get(entity, ident, **options)
        if found is None:
            abort(404, description=description)
        return found

    # The first signature is for SQLAlchemy 2.0, which types the columns of a statement as one tuple.
    @overload
    async def first_or_404(self, statement: Select[tuple[T]], *, description: str | None = None) -> T: ...
    @overload
    async def first_or_404(self, statement: Select[T], *, description: str | None = None) -> T: ...
    async def first_or_404(self, statement: Select[Any], *, description: str | None = None) -> object:
        """Return the first result of a statement, or answer with 404 if there is none.

        :param description: the message of the error page.
        """
        found = await self.session.scalar(statement)
        if found is None:
            abort(404, description=description)
        return found

    @overload
    async def one_or_404(self, statement: Select[tuple[T]], *, description: str | None = None) -> T: ...
    @overload
    async def one_or_404(self, statement: Select[T], *, description: str | None = None) -> T: ...
    async def one_or_404(self, statement: Select[Any], *, description: str | None = None) -> object:
        """Return the only result of a statement, or answer with 404 if there is none, or more than one.

        :param description: the message of the error page.
        """
        try:
            return (await self.session.execute(statement)).scalar_one()
        except (NoResultFound, MultipleResultsFound):
            abort(404, description=description)

    @overload
    async def paginate(
        self,
        select: Select[tuple[T]],
        *,
        page: int | None = None,
        per_page: int | None = None,
        max_per_page: int | None = None,
        error_out: bool = True,
        count: bool = True,
    ) -> Pagination[T]: ...
    @overload
    async def paginate(
        self,
        select: Select[T],
        *,
        page: int | None = None,
        per_page: int | None = None,
        max_per_page: int | None = None,
        error_out: bool = True,
        count: bool = True,
    ) -> Pagination[T]: ...
    async def paginate(
        self,
        select: Select[Any],
        *,
        page: int | None = None,
        per_page: int | None = None,
        max_per_page: int | None = None,
        error_out: bool = True,
        count: bool = True,
    ) -> Pagination[Any]:
        """Return one page of the results of a statement, which selects a model or one column.

        :param page: the number of the page; by default, the argument ``page`` of the request, or 1.
        :param per_page: the number of items on a page; by default, the argument ``per_page`` of the request, or 20.
        :param max_per_page: a limit of ``per_page``; by default, there is none.
        :param error_out: answer with 404 if the page is empty and not the first one, or if ``page`` or ``per_page`` is
            not a positive number, or is too large for a database; otherwise, use their defaults.
        :param count: count the items of all pages, with a second query.
        """
        number, size = page_arguments(page, per_page, max_per_page, error_out=error_out)
        found: Pagination[Any] = Pagination(self, select, page=number, per_page=size, max_per_page=max_per_page)
        await found.load(error_out=error_out, count=count)
        return found

    async def create_all(self, bind_key: str | Iterable[str | None] | None = ALL) -> None:
        """Create the models' tables that do not exist yet, without migrations.

        :param bind_key: one or more bind keys; by default, all bind keys.
        """
        await self._for_binds(bind_key, lambda metadata: metadata.create_all)

    async def drop_all(self, bind_key: str | Iterable[str | None] | None = ALL) -> None:
        """Drop all tables of the models.

        :param bind_key: one or more bind keys; by default, all bind keys.
        """
        await self._for_binds(bind_key, lambda metadata: metadata.drop_all)

    async def reflect(self, bind_key: str | Iterable[str | None] | None = ALL) -> None:
        """Load the definitions of the tables in the database into the metadata.

        :param bind_key: one or more bind keys; by default, all bind keys.
        """
        await self._for_binds(bind_key, lambda metadata: metadata.reflect)

    async def dispose(self, app: Quart | None = None) -> None:
        """Close the connections of an app in the running event loop, at the end of a command or a test.

        The session of the current app context is closed first, without a commit. The contents of in-memory databases
        are lost; other engines connect again when they are used. A server calls this itself when it stops.

        :param app: the app; by default, the current app.
        """
        engines = self._engines_of(app or current_context().app)
        if has_app_context() and self._engines.get(current_context().app) is engines:
            await self._sessions.discard(current_context())
        await engines.dispose()

    async def _for_binds(
        self, bind_key: str | Iterable[str | None] | None, action: Callable[[MetaData], Callable[..., None]]
    ) -> None:
        engines = self._engines_of(current_context().app)
        keys: Iterable[str | None]
        if bind_key == ALL:
            keys = [key for key, metadata in self._metadatas.items() if key in engines.specs or metadata.tables]
        else:
            keys = [bind_key] if isinstance(bind_key, str) or bind_key is None else bind_key
        for key in keys:
            engine, work = engines.get(key), action(self._metadatas[key])
            idle = self._sessions.idle_connection(engine)
            if idle is not None:
                await greenlet_spawn(work, idle)
            else:
                async with engine.begin() as connection:
                    await connection.run_sync(work)

    def __repr__(self) -> str:
        if not has_app_context() or current_context().app not in self._engines:
            return f"<{type(self).__name__}>"
        specs = self._engines[current_context().app].specs
        shown = specs.get(None) or next(iter(specs.values()))
        others = f" +{len(specs) - 1}" if len(specs) > 1 else ""
        return f"<{type(self).__name__} {display(shown.url)}{others}>"

    def _shell_context(self) -> dict[str, object]:
        models = (mapper.class_ for mapper in self._model.registry.mappers)
        return {**{model.__name__: model for model in models}, "db": self}

    def _engines_of(self, app: Quart) -> Engines:
        try:
            return self._engines[app]
        except KeyError:
            raise ConfigurationError(
                f"The app {app.name!r} is not registered with this AsyncSQLAlchemy. Call its init_app(app), or use the "
                "object at app.extensions['sqlalchemy']."
            ) from None

    async def _reopen_session(self, app: Quart, **sent: object) -> None:
        self._sessions.reopen(current_context())

    async def _close_session(self, error: BaseException | None) -> None:
        context = current_context()
        await self._sessions.close(context)
        if context in self._last_contexts:
            await self._engines_of(context.app).dispose()

    async def _end_serving(self) -> None:
        # The engines are disposed of later, because other functions that run after serving may use the database.
        self._last_contexts.add(current_context())


def _shell_command(app: Quart, db: AsyncSQLAlchemy) -> Command:
    def run() -> None:
        from ampho.aio.sqlalchemy.shell import run_shell

        run_shell(app, db)

    return Command("async-shell", callback=run, help="Run a Python shell in the app context, with 'await'.")
