"""``Ampho``, the extension for Flask."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, ParamSpec, TypeVar, cast
from weakref import WeakKeyDictionary

from flask import current_app, has_app_context

from ampho.commands import Commands
from ampho.database.url import leaving_no_frames, missing_driver, parse_url, require_driver
from ampho.errors import ConfigurationError
from ampho.extension import DEFAULTS, OPTIONS, URL_SETTING, SyncExtension
from ampho.sync.framework import FlaskFramework
from ampho.sync.migrate import KEY, MigrateOnDemand, db_group, feed

if TYPE_CHECKING:
    from alembic.config import Config
    from flask import Flask
    from flask.sansio.app import App
    from flask_migrate import Migrate
    from flask_sqlalchemy import SQLAlchemy
    from sqlalchemy import URL, Engine, MetaData

P = ParamSpec("P")
R = TypeVar("R")


class Ampho(SyncExtension):
    """Per-package migrations for a Flask app.

    :param app: the app; leave it out if you use a factory, and call :meth:`init_app` there.
    :param db: the app's ``SQLAlchemy``; by default the one registered on the app, or else a new one.
    :param migrate: the app's ``Migrate``; by default the one registered on the app, or else a new one.
    :param packages: names of packages with migrations, in addition to those in ``AMPHO_MIGRATION_PACKAGES``.
    :param options: arguments for the new ``Migrate``, such as ``compare_type`` or ``include_object``. They are an error
        if the app already has a ``Migrate``.

    The methods need an app context, unless this extension serves only one app.
    """

    _template: ClassVar[str] = "sync"
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
        """Register this extension, and what it needs, on an app.

        :raises ConfigurationError: if the app or its database URL is not for this extension, or if the app already has
            other extensions than those that were passed.
        """
        _check_app(app)
        self._check_only_one(app)
        _check_db(db or self._db or app.extensions.get("sqlalchemy"))
        self._check_migrate(app, migrate or self._migrate)
        _check_urls(app)
        if db is None and self._db is None and "sqlalchemy" not in app.extensions:
            _check_configured(app)
        db = self._register_db(app, db or self._db)
        self._register_migrate(app, db, migrate or self._migrate)
        app.extensions["ampho"] = self
        self._dbs[app] = db
        self._apps.add(app)
        self._add_commands(app)

    def _register_db(self, app: Flask, db: SQLAlchemy | None) -> SQLAlchemy:
        registered = app.extensions.get("sqlalchemy")
        if registered is None:
            from ampho.sync.database import QuietSQLAlchemy

            db = db or QuietSQLAlchemy()
            try:
                db.init_app(app)
            except ImportError as exc:
                setting, url = next(iter(_urls(app).items()))
                raise missing_driver(url, exc, setting) from exc
        elif db is not None and db is not registered:
            raise ConfigurationError(
                "Ampho was given a different SQLAlchemy instance from the one registered on this app. Pass that one, or"
                " omit it."
            )
        return db or cast("SQLAlchemy", registered)

    def _check_migrate(self, app: Flask, migrate: Migrate | None) -> None:
        if migrate is not None:
            from flask_migrate import Migrate

            if not isinstance(migrate, Migrate):
                raise ConfigurationError(
                    f"Ampho cannot use a {_kind(migrate)} as Migrate. Pass a flask_migrate.Migrate."
                )
        registered = app.extensions.get(KEY)
        if registered is not None and migrate is not None and registered.migrate is not migrate:
            raise ConfigurationError(
                "Ampho was given a different Migrate instance from the one registered on this app. Pass that one, or"
                " omit it."
            )
        if self._migrate_options and app not in self._apps and (registered is not None or migrate is not None):
            names = ", ".join(f"{name}=" for name in self._migrate_options)
            raise ConfigurationError(
                f"Ampho got {names} beside a Migrate, which has options of its own. Pass that to Migrate(...) instead."
            )

    def _register_migrate(self, app: Flask, db: SQLAlchemy, migrate: Migrate | None) -> None:
        registered = app.extensions.get(KEY)
        if registered is None and migrate is None:
            stand_in = MigrateOnDemand(app, db, dict(self._migrate_options))
            app.extensions[KEY] = stand_in
            app.cli.add_command(db_group(stand_in))
            return
        if registered is None:
            cast("Migrate", migrate).init_app(app, db)
            registered = app.extensions[KEY]
        feed(registered.migrate)

    @property
    def db(self) -> SQLAlchemy:
        """The ``SQLAlchemy`` of the current app, or without an app context that of the only one."""
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

    def engine(self, app: App, bind_key: str | None = None) -> Engine:
        """Return an engine of an app."""
        with cast("Flask", app).app_context():
            engine = self._dbs[app].engines.get(bind_key)
        if engine is None:
            raise ConfigurationError(f"{URL_SETTING} is not set, so there is nothing to migrate.", setting=URL_SETTING)
        return engine

    def _url(self, app: App) -> URL:
        return self.engine(app).url

    def _metadata(self, app: App) -> MetaData | None:
        return self._dbs[app].metadatas.get(None)

    def _options(self, app: App) -> Mapping[str, object]:
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


def _check_app(app: object) -> None:
    from flask import Flask

    if not isinstance(app, Flask):
        raise ConfigurationError(
            f"Ampho is for Flask, and this app is a {type(app).__module__.split('.')[0]} app. Use ampho.AsyncAmpho for"
            " Quart."
        )


def _check_db(db: object) -> None:
    if db is None:
        return
    from flask_sqlalchemy import SQLAlchemy

    if not isinstance(db, SQLAlchemy):
        raise ConfigurationError(
            f"Ampho cannot use a {_kind(db)} as database. Pass the flask_sqlalchemy.SQLAlchemy of the app."
        )


def _kind(given: object) -> str:
    return f"{type(given).__module__}.{type(given).__qualname__}"


def _check_configured(app: Flask) -> None:
    options = app.config.get("SQLALCHEMY_ENGINE_OPTIONS") or {}
    if not (app.config.get(URL_SETTING) or app.config.get("SQLALCHEMY_BINDS") or "url" in options):
        raise ConfigurationError(
            f"{URL_SETTING} is not set. Set it in app.config before Ampho(app) or init_app(app), for example to"
            " sqlite:///app.db.",
            setting=URL_SETTING,
        )


def _check_urls(app: Flask) -> None:
    """Check the URLs first, because Flask-SQLAlchemy quotes them in its errors, and accepts async drivers."""
    for setting, url in _urls(app).items():
        require_driver(url, is_async=False, setting=setting)


@leaving_no_frames
def _urls(app: Flask) -> dict[str, URL]:
    """Return the URLs in an app's configuration, by setting."""
    options = app.config.get("SQLALCHEMY_ENGINE_OPTIONS") or {}
    urls = {URL_SETTING: app.config.get(URL_SETTING), "SQLALCHEMY_ENGINE_OPTIONS['url']": options.get("url")}
    for key, bind in (app.config.get("SQLALCHEMY_BINDS") or {}).items():
        urls[f"SQLALCHEMY_BINDS[{key!r}]"] = bind.get("url") if isinstance(bind, dict) else bind
    return {setting: parse_url(value, setting) for setting, value in urls.items() if value is not None}
