"""The base classes of ``Ampho`` and ``AsyncAmpho``, with their commands, their packages, and the project of an app."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache, partial, wraps
from pathlib import Path
from pkgutil import resolve_name
from threading import Lock
from types import MethodType
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, Final, Generic, ParamSpec, TypeVar, cast, overload
from weakref import WeakKeyDictionary, WeakSet

import click

from ampho._text import did_you_mean
from ampho.commands import Commands
from ampho.database.url import (
    BINDS_SETTING,
    address,
    in_folder,
    is_in_memory,
    leaving_no_frames,
    parse_url,
    require_driver,
    schema_of_url,
    setting_of,
)
from ampho.errors import ConfigurationError
from ampho.settings import (
    DATABASE_URI,
    DATABASES,
    DEFAULT_DATABASE,
    PACKAGES,
    PENDING_PAGE,
    PLUGINS,
    READINESS_PATH,
    Settings,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from alembic.config import Config
    from flask.sansio.app import App
    from flask.sansio.blueprints import Blueprint
    from sqlalchemy import URL, Engine, MetaData
    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

    from ampho.database.redirect import Lead
    from ampho.database.schema import KeptConnection
    from ampho.fleet.listing import Group, Listing
    from ampho.history.homes import Homes
    from ampho.history.package import ConfiguredPackages
    from ampho.migrate.project import Member, Part, Project

P = ParamSpec("P")
R = TypeVar("R")
L = TypeVar("L", bound="Callable[[], Listing]")

DEFAULTS: dict[str, object] = {"compare_type": True, "render_as_batch": True}
"""The default arguments for ``context.configure``, the same as those of Flask-Migrate."""

_OF_EACH_RUN = frozenset(["connection", "dialect_name", "dialect_opts", "output_buffer", "starting_rev", "url"])
_ALWAYS_ON = frozenset(["literal_binds", "transaction_per_migration", "transactional_ddl"])

OPTIONS = _OF_EACH_RUN.union(
    _ALWAYS_ON,
    [
        "alembic_module_prefix",
        "autogenerate_plugins",
        "compare_server_default",
        "compare_type",
        "downgrade_token",
        "include_name",
        "include_object",
        "include_schemas",
        "mssql_batch_separator",
        "on_version_apply",
        "oracle_batch_separator",
        "process_revision_directives",
        "render_as_batch",
        "render_item",
        "sqlalchemy_module_prefix",
        "tag",
        "target_metadata",
        "template_args",
        "upgrade_token",
        "user_module_prefix",
        "version_table",
        "version_table_pk",
        "version_table_schema",
    ],
)
"""The arguments of Alembic's ``context.configure``, listed here so that checking them does not import Alembic."""

_PAGE = "ampho_pending"
"""The key of the pending page in ``app.extensions``: its hook before a request, or None if it is off."""

_deciding = Lock()  # held while the hook before a first request is replaced


class command(Generic[P, R]):  # noqa: N801 (it is used like a decorator)
    """Turns a command into a method with its signature and docstring; in ``AsyncAmpho``, the method is async."""

    def __init__(self, function: Callable[Concatenate[Commands, P], R]) -> None:
        self._function = function

    @overload
    def __get__(self, extension: None, owner: type[SyncExtension]) -> Callable[Concatenate[SyncExtension, P], R]: ...
    @overload
    def __get__(
        self, extension: None, owner: type[AsyncExtension]
    ) -> Callable[Concatenate[AsyncExtension, P], Coroutine[Any, Any, R]]: ...
    @overload
    def __get__(self, extension: SyncExtension, owner: type[SyncExtension]) -> Callable[P, R]: ...
    @overload
    def __get__(
        self, extension: AsyncExtension, owner: type[AsyncExtension]
    ) -> Callable[P, Coroutine[Any, Any, R]]: ...
    def __get__(self, extension: Extension | None, owner: type[Extension]) -> Callable[..., object]:
        method = _async_method(self._function) if owner.is_async else _method(self._function)
        return method if extension is None else MethodType(method, extension)


@cache
def _method(function: Callable[Concatenate[Commands, P], R]) -> Callable[Concatenate[SyncExtension, P], R]:
    @wraps(function)
    def method(self: SyncExtension, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.call(function, *args, **kwargs)

    return method


@cache
def _async_method(
    function: Callable[Concatenate[Commands, P], R],
) -> Callable[Concatenate[AsyncExtension, P], Coroutine[Any, Any, R]]:
    @wraps(function)
    async def method(self: AsyncExtension, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self.call(function, *args, **kwargs)

    return method


class Extension(ABC):
    """The base class of ``Ampho`` and ``AsyncAmpho``."""

    is_async: ClassVar[bool]

    init: Final = command(Commands.init)
    init_all: Final = command(Commands.init_all)
    adopt: Final = command(Commands.adopt)
    revision: Final = command(Commands.revision)
    autogenerate: Final = command(Commands.autogenerate)
    merge: Final = command(Commands.merge)
    rebase: Final = command(Commands.rebase)
    squash: Final = command(Commands.squash)
    prune: Final = command(Commands.prune)
    check: Final = command(Commands.check)
    check_heads: Final = command(Commands.check_heads)
    write_heads: Final = command(Commands.write_heads)
    check_phases: Final = command(Commands.check_phases)
    lint: Final = command(Commands.lint)
    plan: Final = command(Commands.plan)
    upgrade: Final = command(Commands.upgrade)
    downgrade: Final = command(Commands.downgrade)
    upgrade_sql: Final = command(Commands.upgrade_sql)
    downgrade_sql: Final = command(Commands.downgrade_sql)
    stamp: Final = command(Commands.stamp)
    forget: Final = command(Commands.forget)
    resolve: Final = command(Commands.resolve)
    status: Final = command(Commands.status)
    survey: Final = command(Commands.survey)
    current: Final = command(Commands.current)
    deployment: Final = command(Commands.deployment)
    wait: Final = command(Commands.wait)
    log: Final = command(Commands.log)
    show: Final = command(Commands.show)
    graph: Final = command(Commands.graph)
    provision: Final = command(Commands.provision)

    kept: KeptConnection | None = None
    """The connection to the schemas of a group, in a worker process; otherwise, each command opens a new connection."""

    check_member: Callable[[str, URL], None] | None = None
    """Raises an error if a database of a group, of which it receives the name and the URL, must not be used."""

    _template: ClassVar[str]
    _page: ClassVar[str]
    _known_options: ClassVar[frozenset[str]] = OPTIONS
    _arguments: ClassVar[tuple[str, ...]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in vars(cls):
            if isinstance(vars(Extension).get(name), command):
                raise ConfigurationError(
                    f"{cls.__name__} overrides {name}(), which the command line would not call. Override call()"
                    " instead, which runs every command."
                )

    def __init__(self, packages: Iterable[str] | None, options: Mapping[str, object]) -> None:
        for name, value in options.items():
            self._check_option(name, value)
        self._packages = None if packages is None else _entries(packages)
        self._added: dict[str, str | None] = {}
        self._groups: dict[str, Group] = {}
        self._groups_of: WeakKeyDictionary[App, dict[str, Group]] = WeakKeyDictionary()
        self._owner_hooks: list[Callable[[object, str, str], str | None]] = []
        self._added_to: WeakKeyDictionary[App, dict[str, str | None]] = WeakKeyDictionary()
        self._apps: WeakSet[App] = WeakSet()

    def _check_option(self, name: str, value: object) -> None:
        if name in _OF_EACH_RUN or (name in _ALWAYS_ON and value is not True):
            raise ConfigurationError(
                f"{type(self).__name__} got the option {name}={'...' if name in _OF_EACH_RUN else value}, which Ampho"
                " sets for each run. Leave it out."
            )
        if name not in self._known_options:
            guess = did_you_mean(name, sorted([*self._known_options, *self._arguments]), "{}=")
            instead = guess or "Leave it out, or correct the name."
            raise ConfigurationError(
                f"{type(self).__name__} got the option {name}=, which is not an argument of Alembic's"
                f" context.configure(). {instead}"
            )

    def _check_only_one(self, app: App) -> None:
        """Raise an error if another extension of Ampho is registered on an app."""
        other = app.extensions.get("ampho")
        if other is not None and other is not self:
            raise ConfigurationError(
                f'The app {app.import_name} already has an {type(other).__name__}. Use app.extensions["ampho"], or'
                " create only one."
            )

    def _add_commands(self, app: App) -> None:
        """Add the command group to an app. The commands are only imported when one of them is called."""
        if "ampho" not in app.cli.commands:
            load = partial(resolve_name, "ampho.cli:cli")
            app.cli.add_command(LazyGroup("ampho", "Manage the migrations of a database, package by package.", load))

    @abstractmethod
    def readiness(self, path: str) -> Blueprint:
        """Return a blueprint that answers whether the app is ready."""

    @abstractmethod
    def _before_first_request(self, app: App) -> Callable[[], Any]:
        """Return a hook that adds the pending page at the first request, if the app is to have it."""

    def _pending_page(self, app: App, hook: Callable[[], object]) -> Callable[[], Any] | None:
        """Replace the hook before the first request by that of the pending page, and return it; None if it is off.

        This is decided at the first request, because ``app.run(debug=True)`` turns on debug mode after ``init_app()``.
        """
        with _deciding:
            hooks = app.before_request_funcs[None]
            if hook in hooks:
                page, is_on = None, _read(PENDING_PAGE.read, app)
                if app.debug and not app.testing if is_on is None else is_on:
                    page = resolve_name(self._page)(app, self).before_request
                app.extensions[_PAGE] = page
                # A new list, because other requests may be reading the old one.
                app.before_request_funcs[None] = [*filter(None, (page if each == hook else each for each in hooks))]
            return cast("Callable[[], Any] | None", app.extensions[_PAGE])

    def _add_from_settings(self, app: App) -> None:
        """Add what the settings ask for: the pending page, the readiness endpoint, and the models of plug-ins."""
        if _PAGE in app.extensions:  # init_app() was called before
            return
        app.extensions[_PAGE] = None
        if _read(PENDING_PAGE.read, app) is not False:
            app.before_request_funcs.setdefault(None, []).insert(0, self._before_first_request(app))
        if path := _read(READINESS_PATH.read, app):
            app.register_blueprint(self.readiness(path))
        if plugins := _read(PLUGINS.read, app):
            from ampho.history.plugins import load_models

            load_models(plugins, app)

    def add_package(self, entry: str, database: str | None = None) -> None:
        """Add a package with migrations, such as the package of a plug-in or a blueprint.

        In an app context, this adds the package to that app; otherwise, to all apps of this extension.

        :param entry: the name of the package, or ``package:folder``. The package is looked up when a command runs.
        :param database: the database in which it lives, unless ``AMPHO_DATABASES`` names another one; by default,
            ``default``.
        """
        app = self._current_app()
        added = self._added if app is None else self._added_to.setdefault(app, {})
        added.setdefault(entry, database)

    def databases(self, group: str, *, packages: Iterable[str]) -> Callable[[L], L]:
        """Add a group of databases of one kind, such as one for each tenant. This is a decorator for a function.

        In an app context, this adds the group to that app; otherwise, to all apps of this extension. The function lists
        the databases of the group: it returns or yields :class:`Database` objects. It is called in an app context,
        whenever a command uses the group. On Quart, it may be async.

        :param group: the name of the group. The command line selects its databases with ``--database tenants``,
            ``--database tenants/acme``, or ``--database 'tenants/a*'``.
        :param packages: the packages that live in each of these databases, each a name or ``package:folder``.
        :raises ConfigurationError: if the group cannot have this name, or exists.
        """
        from ampho.fleet.listing import Group, check_group

        entries = _entries(packages)
        check_group(group, entries)
        app = self._current_app()
        groups = self._groups if app is None else self._groups_of.setdefault(app, {})

        def add(function: L) -> L:
            if group in groups:
                raise ConfigurationError(f"The group {group} exists. Give each group its own name.")
            groups[group] = Group(group, entries, function)
            return function

        return add

    def _groups_in(self, app: App) -> dict[str, Group]:
        return {**self._groups, **self._groups_of.get(app, {})}

    def owner(self, function: Callable[[object, str, str], str | None]) -> Callable[[object, str, str], str | None]:
        """Add a function that names the package of a table, a type, a view, or another object. This is a decorator.

        :param function: gets the object, or None if it is only in the database; its type, such as ``table``; and its
            name. It returns the name of the package, an empty string for an object that Ampho is to ignore, or None if
            the other rules apply.
        """
        self._owner_hooks.append(function)
        return function

    def project(self, app: App) -> Project:
        """Return the migrations of an app, as they are on disk now.

        :raises AmphoError: if the app's configuration is invalid.
        """
        from ampho.migrate.project import Project

        configured = self.packages(app)
        homes = self._homes(app, configured)
        database = next(iter(homes.names), DEFAULT_DATABASE)
        first = self._part(app, homes, database)
        return Project(
            app=app,
            packages=configured.packages,
            not_installed=configured.not_installed,
            find_packages=lambda: self.packages(app).packages,
            url=first.url,
            template=self._template,
            metadata=first.metadata,
            database=database,
            homes=homes,
            part=partial(self._part, app, homes),
            list_members=partial(self._members, app),
            models=partial(self._metadatas, app),
            is_same=partial(self._is_same, app),
            address=partial(self._address, app),
            options=first.options,
            configure=lambda config: self._configure(app, config),
            import_name=app.import_name,
            settings=_read(Settings, app),
            owner_hooks=tuple(self._owner_hooks),
        )

    def packages(self, app: App) -> ConfiguredPackages:
        """Return the packages of an app, without using its database.

        :raises AmphoError: if the app's list of packages is invalid.
        """
        from ampho.history.package import configured_packages

        listed, added = _read(PACKAGES.read, app), [*self._added, *self._added_to.get(app, ())]
        known = {_name_of(entry) for entry in (*(listed or ()), *(self._packages or ()), *added)}
        origins = dict.fromkeys(added, "add_package()")
        if plugins := _read(PLUGINS.read, app):
            from ampho.history.plugins import plugin_entries

            enabled = [entry for entry in plugin_entries(plugins) if _name_of(entry) not in known]
            origins |= dict.fromkeys(enabled, str(PLUGINS))
            known.update(map(_name_of, enabled))
        for entries in _read(DATABASES.read, app).values():
            origins |= {entry: str(DATABASES) for entry in entries if _name_of(entry) not in known}
        for group in self._groups_in(app).values():
            for entry in group.entries:
                if _name_of(entry) not in known:
                    origins.setdefault(entry, f"packages= of the group {group.name}")
        return configured_packages(listed, self._packages, origins, app.import_name)

    def _homes(self, app: App, configured: ConfiguredPackages) -> Homes:
        """Return the databases in which the packages of an app live.

        :raises ConfigurationError: if one of the databases is not configured.
        """
        from ampho.history.homes import Homes

        stated = _read(DATABASES.read, app)
        listed = {name: list(map(_name_of, entries)) for name, entries in stated.items()}
        origins = dict.fromkeys(listed, str(DATABASES))
        assigned = {package for packages in listed.values() for package in packages}
        for entry, database, origin in self._wished_homes(app):
            if _name_of(entry) not in assigned:
                listed.setdefault(database, []).append(_name_of(entry))
                origins.setdefault(database, origin)
        for name in listed:
            if name != DEFAULT_DATABASE and name not in self._binds(app):
                guess = did_you_mean(name, [DEFAULT_DATABASE, *self._binds(app)])
                remedy = guess or self._way_to_add_database(app)
                raise ConfigurationError(f"{origins[name]} names the database {name!a}, which has no URL. {remedy}")
        names = [package.name for package in configured.packages]
        groups = {name: list(map(_name_of, group.entries)) for name, group in self._groups_in(app).items()}
        for name in groups:
            if name in self._binds(app):
                raise ConfigurationError(
                    f"The group {name} has the name of a database in {BINDS_SETTING}. Rename one of them."
                )
        return Homes((*names, *configured.not_installed), listed, groups)

    def _wished_homes(self, app: App) -> Iterator[tuple[str, str, str]]:
        """Yield entries that name the database of their package, each with that name, and what the entry came from."""
        for entry, database in {**self._added, **self._added_to.get(app, {})}.items():
            if database is not None:
                yield entry, database, "add_package()"
        if plugins := _read(PLUGINS.read, app):
            from ampho.history.plugins import plugin_databases

            yield from plugin_databases(plugins)

    def _members(self, app: App, group: str) -> Generator[Member]:
        """Yield the databases of a group, one by one."""
        from ampho.fleet.listing import members

        found = self._groups_in(app)[group]
        return members(found, self._listed(app, found))

    @abstractmethod
    def _listed(self, app: App, group: Group) -> Generator[object]:
        """Yield what the function of a group lists, in an app context."""

    def _part(self, app: App, homes: Homes, database: str | Member) -> Part:
        from ampho.migrate.project import Part, metadata_of

        if isinstance(database, str):
            name, own, url = database, database, self._migrating_url(app, database)
        else:
            name, own, url = database.name, DEFAULT_DATABASE, self._member_url(app, database)
        metadata = metadata_of(self._metadatas(app), homes, name, partial(self._is_same, app))
        return Part(url, metadata, self._options(app, own))

    def _migrating_url(self, app: App, database: str) -> URL:
        return self._direct_url(app, database) or self._url(app, database)

    @leaving_no_frames
    def _member_url(self, app: App, member: Member) -> URL:
        """Return the URL of a database of a group; by default, with the app's driver."""
        if member.url is not None:
            return self._complete_url(app, member.url, f"url= of {member.name}", DEFAULT_DATABASE)
        if member.schema is None:
            raise ConfigurationError(f"The database {member.name} has no url= and no schema=. Add one of them.")
        return self._migrating_url(app, DEFAULT_DATABASE)

    def _is_same(self, app: App, one: str, other: str) -> bool:
        """Return whether two names of databases stand for the same address."""
        if one == other or not all(name == DEFAULT_DATABASE or name in self._binds(app) for name in (one, other)):
            return one == other
        return address(self._url(app, one)) == address(self._url(app, other))

    @leaving_no_frames
    def _address(self, app: App, database: str | Member) -> tuple[Hashable, str] | None:
        """Return a value that is equal for two names if their URLs lead to the same database, and the schema.

        A database in memory has none, because it is always another one.
        """
        if isinstance(database, str):
            url = self._migrating_url(app, database)
        else:
            url = parse_url(database.url, f"url= of {database.name}")
        is_own = url.get_backend_name() == "sqlite" and is_in_memory(url)
        return None if is_own else (address(url, app.instance_path), schema_of_url(url))

    @leaving_no_frames
    def _direct_url(self, app: App, database: str) -> URL | None:
        """Return the URL of a database that only migrations use, if it is set; by default, with the app's driver."""
        value, setting = DATABASE_URI.read(app.config, os.environ), DATABASE_URI.name
        if isinstance(value, Mapping):
            setting = f"{setting}[{database!r}]"
            urls = cast("Mapping[object, object]", value)
            self._check_names(app, urls)
            value = urls.get(database)
        elif database != DEFAULT_DATABASE:
            value = None
        if value is None:
            return None
        return self._complete_url(app, value, setting, database)

    def _check_names(self, app: App, urls: Iterable[object]) -> None:
        """Raise an error if one of the names in ``AMPHO_DATABASE_URI`` is not that of a database."""
        known = [DEFAULT_DATABASE, *self._binds(app)]
        for name in urls:
            if name not in known:
                guess = did_you_mean(str(name), known) or f"The databases are {', '.join(known)}."
                raise ConfigurationError(
                    f"{DATABASE_URI.name} names {name!a}, which is not a database. {guess}", setting=DATABASE_URI.name
                )

    def _complete_url(self, app: App, value: object, setting: str, database: str) -> URL:
        """Return a URL with the driver of one of the app's databases, and with the absolute path of an SQLite file.

        :param setting: where the URL came from, for errors.
        """
        url = parse_url(value, setting)
        own = self._url(app, database)
        if "+" not in url.drivername and url.get_backend_name() == own.get_backend_name():
            url = url.set(drivername=own.drivername)
        require_driver(url, is_async=self.is_async, setting=setting)
        if url.get_backend_name() != "sqlite" or is_in_memory(url):
            return url
        return in_folder(url, Path(app.instance_path))

    @contextmanager
    def migrating_connection(self, app: App, engine: Engine, project: Project) -> Iterator[Connection]:
        """Open the connection for migrations. If the engine is async, call this method in a greenlet.

        The connection is opened like the app's own connections, but is not returned to a pool, so that an app that
        forks after a migration does not share it with its child processes.

        :param engine: the app's engine for the database; for a database of a group, its engine for ``default``.
        :param project: the part of the app's project that belongs to the database.
        """
        from ampho.database.connection import connect

        own, setting = self.migrating_engine(app, engine, project)
        with connect(own, setting) as connection:
            yield connection

    def create_missing(self, app: App, engine: Engine, project: Project) -> tuple[str, ...]:
        """Create a database, or the schema that it is, if it does not exist, and return what was created.

        :param engine: as for :meth:`migrating_connection`. The same applies to ``project``.
        """
        from ampho.database.creation import create_missing

        own, setting = self.migrating_engine(app, engine, project)
        return create_missing(own, engine, setting)

    def migrating_engine(
        self, app: App, engine: Engine, project: Project, *, with_schema: bool = True
    ) -> tuple[Engine, str]:
        """Return an engine without a pool for migrations, and a name for the origin of its URL.

        :param engine: as for :meth:`migrating_connection`. The same applies to ``project``.
        :param with_schema: whether to limit the engine to the schema of the project's database, if it is one.
        """
        from ampho.database.engine import unpooled, with_address
        from ampho.database.schema import member_engine
        from ampho.database.schema import with_schema as limited

        member = project.member
        if member is not None and member.url is not None:
            if self.check_member is not None:
                self.check_member(member.name, project.url)
            setting = f"url= of {member.name}"
            make = partial(member_engine, engine, project.url, setting)
        else:
            name = DEFAULT_DATABASE if member is not None else project.database
            url = self._direct_url(app, name)
            setting = DATABASE_URI.name if url else setting_of(name)
            make = partial(with_address, engine, url, setting) if url else partial(unpooled, engine)
        if member is None or member.schema is None or not with_schema:
            return make(), setting
        origin = f"schema= of {member.name}"
        if self.kept is not None and member.url is None:
            return self.kept.engine(make, member.schema, origin), setting
        return limited(make(), member.schema, origin), setting

    def _app(self) -> App:
        """Return the current app; without an app context, the only app of this extension."""
        app = self._current_app()
        if app is None and len(self._apps) == 1:
            app = next(iter(self._apps))
        if app is None or app not in self._apps:
            raise ConfigurationError(
                f"{type(self).__name__} does not know which app to use. Call init_app(app) first, and use the"
                " extension in an app context of that app."
            )
        return app

    @abstractmethod
    def lead(self, app: App, database: str, how: Lead) -> AbstractContextManager[object]:
        """Lead the engines of one of the app's databases elsewhere, while the returned context manager is active.

        This includes engines for other event loops that are created meanwhile.
        """

    @abstractmethod
    def engine_names(self, app: App) -> list[str]:
        """Return the names of the databases for which the app has an engine."""

    @abstractmethod
    def _current_app(self) -> App | None:
        """Return the app whose context is active, if any."""

    @abstractmethod
    def _url(self, app: App, database: str) -> URL:
        """Return the URL of a database, from the app's configuration."""

    @abstractmethod
    def _binds(self, app: App) -> Collection[str]:
        """Return the names of the databases besides ``default``."""

    @abstractmethod
    def _metadatas(self, app: App) -> Mapping[str | None, MetaData | Sequence[MetaData]]:
        """Return the tables of the models, by bind key."""

    @abstractmethod
    def _options(self, app: App, database: str) -> Mapping[str, object]:
        """Return the arguments for Alembic's ``context.configure()`` for a database."""

    def _way_to_add_database(self, app: App) -> str:
        """Return a sentence that says how to add a database to an app."""
        return f"Add its URL to {BINDS_SETTING}."

    def _configure(self, app: App, config: Config) -> Config:
        """Return Alembic's configuration with the changes that the app's callbacks make."""
        return config


class SyncExtension(Extension):
    """The base class of ``Ampho``."""

    is_async: ClassVar[bool] = False

    template: Final = command(Commands.template)

    @abstractmethod
    def call(self, function: Callable[Concatenate[Commands, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a command for the current app."""

    @abstractmethod
    def engine(self, app: App, database: str = DEFAULT_DATABASE) -> Engine:
        """Return the engine of one of the app's databases."""

    @abstractmethod
    def dispose(self, app: App) -> None:
        """Close the idle connections of an app, so that forks of this process do not share them."""


class AsyncExtension(Extension):
    """The base class of ``AsyncAmpho``."""

    is_async: ClassVar[bool] = True

    @abstractmethod
    async def call(self, function: Callable[Concatenate[Commands, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a command for the current app, without blocking the running loop."""

    @abstractmethod
    def engine(self, app: App, database: str = DEFAULT_DATABASE) -> AsyncEngine:
        """Return the engine of one of the app's databases for the running loop."""

    @abstractmethod
    async def dispose(self, app: App) -> None:
        """Close the connections of an app in the running loop."""


def extension_of(app: App) -> SyncExtension | AsyncExtension:
    """Return the ``Ampho`` or ``AsyncAmpho`` of an app.

    :raises ConfigurationError: if the app has neither of them.
    """
    extension = app.extensions.get("ampho")
    if extension is None:
        raise ConfigurationError(
            f"The app {app.import_name} has no Ampho extension. Add Ampho(app) for Flask, or AsyncAmpho(app) for Quart."
        )
    return cast("SyncExtension | AsyncExtension", extension)


@leaving_no_frames
def _read(read: Callable[[Mapping[str, object], Mapping[str, str]], R], app: App) -> R:
    """Read settings without leaving the app's configuration, which contains secrets, in the frames of an error."""
    return read(app.config, os.environ)


def _name_of(entry: str) -> str:
    return entry.partition(":")[0].strip()


def _entries(packages: Iterable[str]) -> list[str]:
    entries = list(packages)
    if isinstance(packages, str) or not all(isinstance(entry, str) for entry in entries):
        raise ConfigurationError(f'packages= is {packages!a}. Pass a list of names, such as ["app", "acme.billing"].')
    return entries


class LazyGroup(click.Group):
    """A group of commands that is imported when it is called, not when the app is created.

    :param load: a function that imports the group, and returns it.
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
