"""What both facades share: the packages of an extension, and the project of an app. Nothing here waits."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary, WeakSet

import click

from ampho._text import all_words, did_you_mean, is_of_database, with_hint
from ampho.database.url import (
    describe_without,
    in_folder,
    is_in_memory,
    leaving_no_frames,
    parse_url,
    redact,
    require_driver,
)
from ampho.errors import AmphoError, ConfigurationError, DatabaseError, PackageNotFoundError
from ampho.migrate.observers import Observer
from ampho.settings import DATABASE_URI

if TYPE_CHECKING:
    from alembic.config import Config
    from flask.sansio.app import App
    from sqlalchemy import URL, Engine, MetaData
    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

    from ampho.history.package import MigrationPackage
    from ampho.project import Project

URL_SETTING = "SQLALCHEMY_DATABASE_URI"
DIRECT_SETTING = DATABASE_URI.name
"""The setting, and environment variable, for another address of the same database, for migrations only."""

DEFAULTS: dict[str, object] = {"compare_type": True, "render_as_batch": True}
"""What ``context.configure`` is passed unless told otherwise, as Flask-Migrate does."""

OPTIONS = frozenset(
    [
        "alembic_module_prefix",
        "autogenerate_plugins",
        "compare_server_default",
        "compare_type",
        "connection",
        "dialect_name",
        "dialect_opts",
        "downgrade_token",
        "include_name",
        "include_object",
        "include_schemas",
        "literal_binds",
        "mssql_batch_separator",
        "on_version_apply",
        "oracle_batch_separator",
        "output_buffer",
        "process_revision_directives",
        "render_as_batch",
        "render_item",
        "sqlalchemy_module_prefix",
        "starting_rev",
        "tag",
        "target_metadata",
        "template_args",
        "transaction_per_migration",
        "transactional_ddl",
        "upgrade_token",
        "url",
        "user_module_prefix",
        "version_table",
        "version_table_pk",
        "version_table_schema",
    ]
)
"""The arguments of Alembic's ``context.configure``, known without importing it."""

_OF_EACH_RUN = frozenset(["connection", "dialect_name", "dialect_opts", "output_buffer", "starting_rev", "url"])
_ALWAYS_ON = frozenset(["literal_binds", "transaction_per_migration", "transactional_ddl"])


class Extension(ABC):
    """The base of ``Ampho`` and ``AsyncAmpho``."""

    is_async: ClassVar[bool]
    _template: ClassVar[str]
    _known_options: ClassVar[frozenset[str]] = OPTIONS
    _arguments: ClassVar[tuple[str, ...]]

    def __init__(self, packages: Iterable[str] | None, options: Mapping[str, object]) -> None:
        for name, value in options.items():
            self._check_option(name, value)
        self._packages = None if packages is None else _entries(packages)
        self._added: list[str] = []
        self._added_to: WeakKeyDictionary[App, list[str]] = WeakKeyDictionary()
        self._apps: WeakSet[App] = WeakSet()

    def _check_option(self, name: str, value: object) -> None:
        if name in _OF_EACH_RUN or (name in _ALWAYS_ON and value is not True):
            raise ConfigurationError(
                f"{type(self).__name__} got the option {name}={'...' if name in _OF_EACH_RUN else value}, which Ampho"
                " sets for each run itself. Leave it out."
            )
        if name not in self._known_options:
            guess = did_you_mean(name, sorted([*self._known_options, *self._arguments]), "{}=")
            instead = guess or "Leave it out, or correct the name."
            raise ConfigurationError(
                f"{type(self).__name__} got the option {name}=, which Alembic's context.configure() does not know."
                f" {instead}"
            )

    def _check_only_one(self, app: App) -> None:
        """Check that no other extension of Ampho is on an app.

        :raises ConfigurationError: if one is.
        """
        other = app.extensions.get("ampho")
        if other is not None and other is not self:
            raise ConfigurationError(
                f'The app {app.import_name} has an {type(other).__name__} already. Use app.extensions["ampho"], or'
                " make one only."
            )

    def _add_commands(self, app: App) -> None:
        """Put the commands on an app, by their name as an entry point has it: they are imported when one is called."""
        if "ampho" not in app.cli.commands:
            load = partial(resolve_name, "ampho.cli:cli")
            app.cli.add_command(LazyGroup("ampho", "Database migrations, package by package.", load))

    def add_package(self, entry: str) -> None:
        """Add a package with migrations, as a plug-in or a blueprint does for its own.

        In an app context it is added to that app; outside of one, to all apps of this extension.

        :param entry: the package's name, or ``package:folder``. It is looked for when a command runs.
        """
        app = self._current_app()
        added = self._added if app is None else self._added_to.setdefault(app, [])
        if entry not in added:
            added.append(entry)

    def project(self, app: App) -> Project:
        """Return the migrations of an app, as they lie on the disk now.

        :raises AmphoError: if the configuration is not usable.
        """
        from ampho.database.lock import lock_settings
        from ampho.database.protection import Protection, is_protected
        from ampho.database.recorder import journal_name
        from ampho.history.host import ENV_SETTING, host_name
        from ampho.project import Project

        absent: dict[str, PackageNotFoundError] = {}
        packages = self.packages(app, absent)
        url = self._direct_url(app) or self._url(app)
        return Project(
            app=app,
            packages=packages,
            absent=absent,
            find_packages=partial(self.packages, app, {}),
            url=url,
            template=self._template,
            metadata=self._metadata(app),
            options=self._options(app),
            configure=lambda config: self._configure(app, config),
            host_name=host_name(app.config.get(ENV_SETTING)),
            import_name=app.import_name,
            journal=journal_name(app.config),
            lock=lock_settings(app.config, os.environ),
            protection=Protection(is_protected(app.config, os.environ)),
        )

    def packages(self, app: App, absent: dict[str, PackageNotFoundError]) -> tuple[MigrationPackage, ...]:
        """Return the packages of an app that have or may have migrations; its database has no part in that.

        :param absent: takes the errors of listed packages that are not there at all, by name.
        :raises AmphoError: if the list is not usable.
        """
        from ampho.history.package import SETTING, configured_packages

        added = [*self._added, *self._added_to.get(app, ())]
        return configured_packages(app.config.get(SETTING), self._packages, added, app.import_name, absent)

    @leaving_no_frames
    def _direct_url(self, app: App) -> URL | None:
        """Return the address that migrations have for themselves, if they have one."""
        value = app.config.get(DIRECT_SETTING) or os.environ.get(DIRECT_SETTING)
        if not value:
            return None
        url = parse_url(value, DIRECT_SETTING)
        require_driver(url, is_async=self.is_async, setting=DIRECT_SETTING)
        if url.get_backend_name() != "sqlite" or is_in_memory(url):
            return url
        return in_folder(url, Path(app.instance_path))

    @contextmanager
    def _connected(self, app: App, engine: Engine, *, scratch: bool = False) -> Iterator[Connection]:
        """Open the connection that migrates; for an async engine, in a greenlet.

        It is made as the app's connections are, and closed for good, so that an app that forks after migrating does not
        share it with its children.

        :param engine: the app's.
        :param scratch: whether it is to a throw-away database.
        """
        from ampho.database.connection import connect
        from ampho.database.engine import at, like
        from ampho.database.scratch import scratch_connection

        url = self._direct_url(app)
        setting = DIRECT_SETTING if url else URL_SETTING
        engine = at(engine, url, setting) if url else like(engine)
        opened = partial(connect, setting=setting)
        with scratch_connection(engine, opened) if scratch else opened(engine) as connection:
            yield connection

    def _app(self) -> App:
        """Return the current app; outside of an app context, the only one."""
        app = self._current_app()
        if app is None and len(self._apps) == 1:
            app = next(iter(self._apps))
        if app is None or app not in self._apps:
            raise ConfigurationError(
                f"{type(self).__name__} does not know which app is meant. Call init_app(app) before, and use it in an"
                " app context of that app."
            )
        return app

    @abstractmethod
    def _current_app(self) -> App | None:
        """Return the app whose context is active, if one is."""

    @abstractmethod
    def engine(self, app: App, bind_key: str | None = None) -> Engine | AsyncEngine:
        """Return an engine of an app."""

    @abstractmethod
    def _url(self, app: App) -> URL: ...

    @abstractmethod
    def _metadata(self, app: App) -> MetaData | Sequence[MetaData] | None: ...

    @abstractmethod
    def _options(self, app: App) -> Mapping[str, object]: ...

    def _configure(self, app: App, config: Config) -> Config:
        """Have a say in Alembic's configuration."""
        return config


def _entries(packages: Iterable[str]) -> list[str]:
    if isinstance(packages, str):
        raise ConfigurationError(f'packages= is one string. Give a list of names, such as ["{packages}"].')
    return list(packages)


@contextmanager
def warned(project: Project, observer: Observer | None, mending: str | None = None) -> Iterator[None]:
    """Warn an observer of what is odd about a project.

    Missing packages are reported after the work, which may end with an error that says the same.

    :param mending: the package whose several heads the command is about.
    """
    told = Observer() if observer is None else observer
    if not project.packages:
        yield
    for message in project.warnings(mending):
        told.warned(message)
    raised: PackageNotFoundError | None = None
    try:
        if project.packages:
            yield
    except PackageNotFoundError as exc:
        raised = exc
        raise
    finally:
        for message in project.absences(raised):
            told.warned(message)


def tell_unread(project: Project, observer: Observer) -> None:
    """Warn an observer of revision files of a project that are not read."""
    for message in project.unread():
        observer.warned(message)


@contextmanager
def clear_errors(url: URL, results: Sequence[object]) -> Iterator[None]:
    """Turn what a driver raises outside of a revision, as where the connection is lost, into one clear error.

    :param results: what the work has returned, if it has; then failing to close a connection is not an error.
    :raises DatabaseError: if the database, its driver or the network fails.
    """
    try:
        yield
    except AmphoError:
        raise
    except Exception as exc:
        if not is_of_database(exc):
            raise
        if results:
            return
        why = with_hint(describe_without(exc, url)).rstrip(".")
        raise DatabaseError(
            f"The database, or the connection to it, failed: {why}. Run the command again; 'ampho db-current' shows"
            " what is applied."
        ) from exc


@contextmanager
def without_secrets(url: URL) -> Iterator[None]:
    """Take the password of a URL out of the errors that pass, and out of what a log would show as their causes."""
    try:
        yield
    except AmphoError as exc:
        words = all_words(exc)
        if redact(words, url) == words:
            raise
        exc.args = (redact(str(exc), url),)
        exc.__context__ = None
        raise exc from None


class LazyGroup(click.Group):
    """A group of commands that is imported when it is called, not when the app is created.

    :param load: imports the group, and returns it.
    """

    def __init__(self, name: str, help: str, load: Callable[[], click.Group]) -> None:  # noqa: A002 (Click's own word)
        super().__init__(name, help=help)
        self._load = load

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:  # noqa: ANN401, D102 (Click's signature)
        return self._load().make_context(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: D102
        return self._load().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: D102
        return self._load().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401, D102
        return ctx.command.invoke(ctx) if ctx.command is not self else super().invoke(ctx)
