"""``Ampho``, the extension for Flask."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, ParamSpec, TypeVar, cast
from weakref import WeakKeyDictionary

from flask import Flask, current_app, has_app_context

from ampho.commands import Commands
from ampho.database.exclusive import exclusive
from ampho.database.url import (
    BINDS_SETTING,
    URL_SETTING,
    configured_urls,
    is_in_memory,
    missing_driver,
    require_driver,
    setting_of,
)
from ampho.errors import ConfigurationError
from ampho.extension import DEFAULTS, OPTIONS, SyncExtension
from ampho.running import Framework
from ampho.settings import DATABASES, DEFAULT_DATABASE
from ampho.sync.migrate import KEY, MigrateOnDemand, db_group, use_packages

if TYPE_CHECKING:
    from alembic.config import Config
    from flask import Blueprint
    from flask.sansio.app import App
    from flask_migrate import Migrate
    from flask_sqlalchemy import SQLAlchemy
    from sqlalchemy import URL, Engine, MetaData
    from sqlalchemy.engine import Connection

    from ampho.database.redirect import Lead
    from ampho.fleet.listing import Group
    from ampho.migrate.project import Project

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Ampho(SyncExtension):
    """Per-package migrations for a Flask app.

    :param app: the app; with an app factory, leave it out and call :meth:`init_app` in the factory.
    :param db: the app's ``SQLAlchemy``; by default, the one that is registered on the app, or otherwise a new one.
    :param migrate: the app's ``Migrate``; by default, the one that is registered on the app, or otherwise a new one.
    :param packages: names of packages with migrations, in addition to those in ``AMPHO_MIGRATION_PACKAGES``.
    :param options: arguments for the new ``Migrate``, such as ``compare_type`` or ``include_object``. It is an error to
        pass them if the app already has a ``Migrate``.

    The methods need an app context, unless this extension serves only one app.
    """

    _template: ClassVar[str] = "sync"
    _page: ClassVar[str] = "ampho.pending.sync:FlaskPage"
    _known_options: ClassVar[frozenset[str]] = OPTIONS | {"command", "directory"}
    _arguments: ClassVar[tuple[str, ...]] = ("packages", "migrate")

    def __init__(
        self,
        app: Flask | None = None,
        db: SQLAlchemy | None = None,
        migrate: Migrate | None = None,
        *,
        packages: Iterable[str] | None = None,
        **options: object,
    ) -> None:
        super().__init__(packages, options)
        self._db = db
        self._migrate = migrate
        self._migrate_options = options
        self._dbs: WeakKeyDictionary[App, SQLAlchemy] = WeakKeyDictionary()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, db: SQLAlchemy | None = None, migrate: Migrate | None = None) -> None:
        """Register this extension, and Flask-SQLAlchemy and Flask-Migrate if necessary, on an app.

        :raises ConfigurationError: if this extension does not support the app or its database, or if the app already
            has a different ``SQLAlchemy``, ``Migrate``, or extension of Ampho.
        """
        if not isinstance(app, Flask):
            raise ConfigurationError(
                f"Ampho is for Flask, and this is a {type(app).__name__} app. Use ampho.AsyncAmpho for Quart."
            )
        self._check_only_one(app)
        db, migrate = db or self._db, migrate or self._migrate
        _check_db(app, db)
        self._check_migrate(app, migrate)
        db = _register_db(app, db)
        self._register_migrate(app, db, migrate)
        app.extensions["ampho"] = self
        self._dbs[app] = db
        self._apps.add(app)
        self._add_commands(app)
        self._add_from_settings(app)

    def readiness(self, path: str = "/-/ready") -> Blueprint:
        """Return a blueprint that answers whether the app is ready: whether its databases have what its code needs.

        The status code is 200 or 503. ``AMPHO_READINESS_PATH`` registers it without further code.

        :param path: the path at which it answers.
        """
        from ampho.sync.readiness import blueprint  # imported late, because few apps have it

        return blueprint(self, path)

    def _before_first_request(self, app: App) -> Callable[[], Any]:
        def hook() -> object:
            page = self._pending_page(app, hook)
            return None if page is None else page()

        return hook

    def _check_migrate(self, app: Flask, migrate: Migrate | None) -> None:
        registered = app.extensions.get(KEY)
        if migrate is not None:
            from flask_migrate import Migrate

            if not isinstance(migrate, Migrate):
                raise ConfigurationError(
                    f"Ampho cannot use a {_kind(migrate)} as Migrate. Pass a flask_migrate.Migrate."
                )
            _check_same("Migrate", migrate, registered and registered.migrate)
        if self._migrate_options and app not in self._apps and (registered is not None or migrate is not None):
            names = ", ".join(f"{name}=" for name in self._migrate_options)
            raise ConfigurationError(
                f"Ampho got {names} for an app that has a Migrate with options of its own. Pass them to Migrate(...)"
                " instead."
            )

    def _register_migrate(self, app: Flask, db: SQLAlchemy, migrate: Migrate | None) -> None:
        if KEY not in app.extensions:
            if migrate is None:
                stand_in = MigrateOnDemand(app, db, dict(self._migrate_options))
                app.extensions[KEY] = stand_in
                app.cli.add_command(db_group(stand_in))
                return
            migrate.init_app(app, db)
        use_packages(app.extensions[KEY].migrate)

    @property
    def db(self) -> SQLAlchemy:
        """The ``SQLAlchemy`` of the current app; outside of an app context, the ``SQLAlchemy`` of the only app."""
        return self._dbs[self._app()]

    @property
    def migrate(self) -> Migrate:
        """The ``Migrate`` of the current app, created when it is first used."""
        return cast("Migrate", self._app().extensions[KEY].migrate)

    def call(self, function: Callable[Concatenate[Commands, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a command for the current app."""
        return function(Commands(FlaskFramework(self, self._app())), *args, **kwargs)

    def _current_app(self) -> App | None:
        return cast("Any", current_app)._get_current_object() if has_app_context() else None  # noqa: SLF001 (documented)

    def engine(self, app: App, database: str = DEFAULT_DATABASE) -> Engine:
        """Return the engine of one of the app's databases."""
        with cast("Flask", app).app_context():
            engine = self._dbs[app].engines.get(None if database == DEFAULT_DATABASE else database)
        if engine is None:
            setting = setting_of(database)
            remedy = f" Set it, or list all packages in {DATABASES}." if self._binds(app) else ""
            raise ConfigurationError(f"{setting} is not set, so there is nothing to migrate.{remedy}", setting=setting)
        return engine

    def dispose(self, app: App) -> None:
        """Close the idle connections of an app, except those to in-memory databases, which would be lost."""
        with cast("Flask", app).app_context():
            engines = list(self._dbs[app].engines.values())
        for engine in engines:
            if not (engine.dialect.name == "sqlite" and is_in_memory(engine.url)):
                engine.dispose()

    def lead(self, app: App, database: str, how: Lead) -> AbstractContextManager[object]:
        """Lead the engine of one of the app's databases elsewhere, while the returned context manager is active."""
        return how(self.engine(app, database))

    def engine_names(self, app: App) -> list[str]:
        """Return the names of the databases for which the app has an engine."""
        with cast("Flask", app).app_context():
            return [key or DEFAULT_DATABASE for key in self._dbs[app].engines]

    def _url(self, app: App, database: str) -> URL:
        return self.engine(app, database).url

    def _listed(self, app: App, group: Group) -> Generator[object]:
        from ampho.fleet.listing import check_is_iterable

        with nullcontext() if self._current_app() is app else cast("Flask", app).app_context():
            found = group.function()
            check_is_iterable(found, group)
            yield from cast("Iterable[object]", found)

    def _binds(self, app: App) -> Collection[str]:
        return app.config.get(BINDS_SETTING) or ()

    def _metadatas(self, app: App) -> Mapping[str | None, MetaData]:
        return self._dbs[app].metadatas

    def _options(self, app: App, database: str) -> Mapping[str, object]:
        registered = app.extensions[KEY]
        if isinstance(registered, MigrateOnDemand):
            options = DEFAULTS | registered.options
            return {name: value for name, value in options.items() if name not in ("directory", "command")}
        return cast("Mapping[str, object]", registered.configure_args)

    def _configure(self, app: App, config: Config) -> Config:
        registered = app.extensions[KEY]
        if isinstance(registered, MigrateOnDemand):
            return config
        with cast("Flask", app).app_context():
            return cast("Config", registered.migrate.call_configure_callbacks(config))


class FlaskFramework(Framework):
    """Runs commands for a Flask app directly, in the thread that calls them."""

    def __init__(self, extension: SyncExtension, app: App) -> None:
        self._extension = extension
        self._app = app

    def project(self) -> Project:
        """Return the app's migrations, as they are on disk now."""
        return self._extension.project(self._app)

    def exclusive(self) -> AbstractContextManager[None]:
        """Block this thread until no other run is in progress in this process."""
        return exclusive()

    def connect(self, project: Project, *, renews: bool = False) -> AbstractContextManager[Connection]:
        """Open the connection for migrations. The pools of sync drivers never have to be renewed."""
        return self._extension.migrating_connection(self._app, self._engine(project), project)

    def in_time(self, function: Callable[[], object], seconds: float) -> None:
        """Run a function in a thread, which is left alone if it takes too long."""
        from ampho.sync.threads import in_time  # imported late, because an app that only serves requests needs none

        in_time(function, seconds)

    def ended(self, opened: AbstractContextManager[T]) -> AbstractContextManager[T]:
        """Return a context manager as it is, because an exception ends it."""
        return opened

    def create(self, project: Project) -> tuple[str, ...]:
        """Create a database, or the schema that it is, if it does not exist, and return what was created."""
        return self._extension.create_missing(self._app, self._engine(project), project)

    def migrating_engine(self, project: Project, *, with_schema: bool = True) -> tuple[Engine, str]:
        """Return an engine without a pool for a database, and a name for the origin of its URL."""
        engine = self._engine(project)
        return self._extension.migrating_engine(self._app, engine, project, with_schema=with_schema)

    def _engine(self, project: Project) -> Engine:
        name = project.database if project.member is None else DEFAULT_DATABASE
        return self._extension.engine(self._app, name)

    def at_once(self, functions: Iterator[Callable[[], R]], limit: int) -> Generator[R]:
        """Run functions in threads, and yield their results as they come."""
        from ampho.sync.threads import at_once  # imported late, because an app that only serves requests needs none

        return at_once(functions, limit)

    def sleep(self, seconds: float) -> None:
        """Block this thread for a number of seconds."""
        time.sleep(seconds)

    def in_thread(self, function: Callable[[], R]) -> R:
        """Call a function in this thread, because there is no loop to block."""
        return function()


def _check_db(app: Flask, db: SQLAlchemy | None) -> None:
    registered = app.extensions.get("sqlalchemy")
    if db is not None or registered is not None:
        from flask_sqlalchemy import SQLAlchemy

        if not isinstance(db or registered, SQLAlchemy):
            raise ConfigurationError(
                f"Ampho cannot use a {_kind(db or registered)} as the database. Pass the flask_sqlalchemy.SQLAlchemy of"
                " the app."
            )
    _check_same("SQLAlchemy", db, registered)


def _check_same(name: str, given: object, registered: object) -> None:
    if given is not None and registered is not None and given is not registered:
        raise ConfigurationError(
            f"Ampho got a different {name} instance from the one registered on this app. Pass the registered instance,"
            " or none."
        )


def _kind(given: object) -> str:
    return f"{type(given).__module__}.{type(given).__qualname__}"


def _register_db(app: Flask, given: SQLAlchemy | None) -> SQLAlchemy:
    # The URLs are checked first, because Flask-SQLAlchemy quotes them in its errors, and accepts async drivers.
    urls = configured_urls(app.config)
    for setting, url in urls.items():
        require_driver(url, is_async=False, setting=setting)
    if "sqlalchemy" in app.extensions:
        return cast("SQLAlchemy", app.extensions["sqlalchemy"])
    if given is None and not urls:
        raise ConfigurationError(
            f"{URL_SETTING} is not set. Set it in app.config before Ampho(app) or init_app(app), for example to"
            " sqlite:///app.db.",
            setting=URL_SETTING,
        )
    from ampho.sync.database import QuietSQLAlchemy

    db = given or QuietSQLAlchemy()
    try:
        db.init_app(app)
    except ImportError as exc:
        setting, url = next(iter(urls.items()))
        raise missing_driver(url, exc, setting) from exc
    return db
