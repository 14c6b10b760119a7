"""Engines that connect with the arguments, options, and listeners of the app's engine.

They do not keep connections open, so processes that are forked later share no connections. Nothing is attached to the
app's engine, its pool, or its dialect. SQLAlchemy has no public way to find out how an engine connects, so this module
reads private names of engines and pools.
"""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote
from weakref import WeakKeyDictionary

from sqlalchemy import NullPool, create_engine, event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import Pool
from sqlalchemy.pool.base import _AdhocProxiedConnection
from sqlalchemy.util import only_once

from ampho.database.url import is_in_memory
from ampho.errors import ConfigurationError, DriverError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import URL
    from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect
    from sqlalchemy.pool import ConnectionPoolEntry

DATABASE_ARGUMENTS = frozenset({"database", "dbname", "db"})
"""The driver arguments that name the database."""

_NAMING_DATABASE = DATABASE_ARGUMENTS | {"dsn", "service"}
"""The driver arguments that can name the database, including those that also contain other details."""

_MEMORY = ":memory:"

_ADDRESS = DATABASE_ARGUMENTS | {
    *("host", "hostaddr", "port", "unix_socket", "user", "username", "password", "passwd", "passfile"),
    *("dsn", "service", "servicefile", "uri"),  # "uri" is an argument of SQLite's driver
}
"""The driver arguments that a URL can set."""

WHICH_DATABASE = {
    "postgresql": "SELECT current_database()",
    "mysql": "SELECT DATABASE()",
    "mariadb": "SELECT DATABASE()",
    "sqlite": "SELECT file FROM pragma_database_list WHERE name = 'main'",
}
"""The queries for the name of a connection's database; for SQLite, for the path of its file."""


def unpooled(engine: Engine) -> Engine:
    """Return an engine for the same database that opens a new connection each time, without pooling.

    An in-memory database only exists on its connection, so its engine is returned unchanged.
    """
    if engine.dialect.name == "sqlite" and is_in_memory(engine.url):
        return engine
    return _twin(engine, engine.url, engine.dialect, engine.pool._creator)  # noqa: SLF001


def with_address(engine: Engine, url: URL, setting: str) -> Engine:
    """Return an engine that connects to a different address, with the options and listeners of the given engine.

    The address overrides the engine's own arguments, such as ``connect_args``.

    :param url: the address, with the same driver as the engine's URL.
    :param setting: the setting that the address came from.
    :raises DriverError: if the address names a different driver.
    :raises ConfigurationError: if the app's engine opens its connections with ``creator=`` or ``pool=``.
    """
    dialect = engine.dialect
    if url.get_dialect(_is_async=dialect.is_async).driver != dialect.driver:
        raise DriverError(
            f"{setting} names the driver {url.drivername}, but the app uses {engine.url.drivername}. Migrations connect"
            " with the app's options and listeners, so use the same driver in both.",
            setting=setting,
        )
    connect = _connect_of(engine, f"so Ampho cannot use {setting}. Unset it; migrations then connect as the app does")
    args, kwargs = dialect.create_connect_args(url)
    # If the address names no database, use the app's, not PostgreSQL's default, which is named after the user.
    other = _ADDRESS if kwargs.keys() & _NAMING_DATABASE else _ADDRESS - DATABASE_ARGUMENTS
    return _elsewhere(engine, url, connect.to(args, kwargs, other))


def with_similar_dialect(engine: Engine, url: URL) -> Engine:
    """Return an engine like one from :func:`with_address`, for another address on the same server.

    Its dialect is not initialized again, because that takes longer than to connect. Call :func:`update_dialect` before
    anything is reflected.

    :param engine: an engine that has connected.
    """
    dialect = _own_dialect(engine.dialect)
    args, kwargs = dialect.create_connect_args(url)
    connect = _connect_of(engine, "so it cannot be used for another address").to(args, kwargs, _ADDRESS)
    return _twin(engine, url, dialect, replace(connect, dialect=dialect))


def update_dialect(connection: Connection) -> None:
    """Update what the dialect of an engine from :func:`with_similar_dialect` stores about the database."""
    dialect = connection.dialect
    dialect.default_schema_name = dialect._get_default_schema_name(connection)  # noqa: SLF001


def with_database(
    engine: Engine, url: URL, check: Callable[[DBAPIConnection], None], poolclass: type[Pool] = NullPool
) -> Engine:
    """Return an engine for another database on the same server, with the options and listeners of the given engine.

    The other database overrides any database that the app's URL, ``connect_args``, or listeners name.

    :param url: the engine's URL with the name of the other database; for SQLite, the address of that database.
    :param check: called first with each new connection; raises an error if that connection is to the wrong database.
    :raises ConfigurationError: if the app's engine opens its connections with ``creator=`` or ``pool=``.
    """
    connect = _connect_of(
        engine, "so Ampho cannot connect to a throwaway database. Compare with the app's database, without --scratch"
    )
    args, kwargs = engine.dialect.create_connect_args(url)
    if engine.dialect.name == "sqlite":
        connect = connect.to(args, kwargs, _ADDRESS)
    else:
        forced = {name: value for name, value in kwargs.items() if name in DATABASE_ARGUMENTS}
        connect = replace(connect, forced=forced)
    return _elsewhere(engine, url, replace(connect, check=check), poolclass)


def with_own_dialect(engine: Engine, poolclass: type[Pool] = NullPool) -> Engine:
    """Return an engine for the same database whose dialect may be changed.

    Only the first of several such engines initializes its dialect, because that takes longer than to connect.
    """
    initialized = _initialized.get(engine.dialect)
    dialect, creator = _own_dialect(initialized or engine.dialect), engine.pool._creator  # noqa: SLF001
    if isinstance(creator, _Connect):
        creator = replace(creator, dialect=dialect)
    twin = _twin(engine, engine.url, dialect, creator, poolclass)
    if initialized is None:
        initialize_on_connect(twin, partial(_initialized.setdefault, engine.dialect, dialect))
    return twin


def has_connect_listeners(engine: Engine) -> bool:
    """Return whether listeners of the app, as opposed to those of SQLAlchemy and Ampho, prepare new connections."""
    dispatch: Any = engine.pool.dispatch
    listeners = [*dispatch.connect, *dispatch.first_connect, *engine.dialect.dispatch.do_connect]
    modules = [getattr(listener, "__module__", None) or "" for listener in listeners]
    return not all(module.startswith(("sqlalchemy.", "ampho.")) for module in modules)


_initialized: WeakKeyDictionary[Dialect, Dialect] = WeakKeyDictionary()
"""For the dialects of engines, their initialized copies."""


def served_database(dbapi_connection: DBAPIConnection, backend: str) -> str | None:
    """Return the name of a new connection's database as the server reports it; for SQLite, the path of its file.

    :param backend: the name of the dialect.
    :return: an empty string for an SQLite database without a file; None if the server does not report a name.
    """
    if backend not in WHICH_DATABASE:
        return None
    cursor = dbapi_connection.cursor()
    try:
        cursor.execute(WHICH_DATABASE[backend])
        row = cursor.fetchone()
    finally:
        cursor.close()
    # On SQLite, the query begins no transaction, and a rollback might end a transaction of the app.
    if backend != "sqlite":
        dbapi_connection.rollback()
    return None if row is None or row[0] is None else str(row[0])


def database_of(connection: Connection) -> str | None:
    """Return the name of the database in which a new connection runs its transactions, as the server reports it.

    Unlike :func:`served_database`, this runs the app's listeners, which may select another database.
    """
    backend = connection.dialect.name
    if backend == "sqlite" or backend not in WHICH_DATABASE:
        return served_database(cast("DBAPIConnection", connection.connection), backend)
    served: str | None = connection.exec_driver_sql(WHICH_DATABASE[backend]).scalar()
    connection.rollback()
    return served


def name_of_database(connection: Connection) -> str:
    """Return the name of the database of a new connection; for SQLite, the name of its file.

    This asks the server, because the name may come from a service file, the environment, or the engine's arguments
    instead of the URL.
    """
    served, url = database_of(connection), connection.engine.url
    name = url.database if served is None else served
    if connection.dialect.name == "sqlite":
        return PurePath(name or _MEMORY).name
    return name or url.username or url.get_backend_name()  # PostgreSQL names a database after the user by default


def make_folder_first(engine: Engine, folder: Path) -> None:
    """Create the folder of an SQLite file when an engine first connects to it.

    The folder is not created earlier, because starting an app must not write to the disk.
    """

    @event.listens_for(engine, "do_connect")
    def make(dialect: object, record: object, args: list[str], options: object) -> None:
        # Unlike the path of a throwaway database, or of one in memory; the path of a URI is quoted.
        if str(folder) in args[0] or str(folder) in unquote(args[0]):
            folder.mkdir(parents=True, exist_ok=True)


@dataclass(frozen=True)
class _Connect:
    """Opens connections as an engine does, with the app's listeners.

    :ivar forced: the arguments that name the database, which listeners cannot change.
    """

    dialect: Dialect
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    forced: Mapping[str, Any] = field(default_factory=dict)
    check: Callable[[DBAPIConnection], None] | None = None

    def to(self, args: Sequence[Any], kwargs: Mapping[str, Any], dropped: frozenset[str]) -> _Connect:
        """Return a copy for another address, without the old arguments that are named in ``dropped``."""
        kept = {name: value for name, value in self.kwargs.items() if name not in dropped}
        return replace(self, args=args, kwargs={**kept, **kwargs}, forced={}, check=None)

    def __call__(self, connection_record: ConnectionPoolEntry | None = None) -> DBAPIConnection:
        connection = self._open(connection_record)
        try:
            if self.check is not None:
                self.check(connection)
        except BaseException:
            self.dialect.do_terminate(connection)
            raise
        return connection

    def _open(self, connection_record: ConnectionPoolEntry | None) -> DBAPIConnection:
        args, kwargs = list(self.args), dict(self.kwargs)
        for listener in self.dialect.dispatch.do_connect:
            connection: DBAPIConnection | None = listener(self.dialect, connection_record, args, kwargs)
            if connection is not None:
                return connection
        if self.forced:
            kwargs = {name: value for name, value in kwargs.items() if name not in DATABASE_ARGUMENTS} | {**self.forced}
        return self.dialect.connect(*args, **kwargs)


def _connect_of(engine: Engine, consequence: str) -> _Connect:
    """Return the function that opens an engine's connections. SQLAlchemy stores its arguments only in a closure.

    :param consequence: the end of the error message, with the consequence and the remedy.
    :raises ConfigurationError: if the app's engine opens its connections with ``creator=`` or ``pool=``.
    """
    creator = engine.pool._creator  # noqa: SLF001
    creator = getattr(creator, "replaced", creator)  # the engine may be led elsewhere
    if isinstance(creator, _Connect):
        return creator
    if not (inspect.isfunction(creator) and creator.__module__ == create_engine.__module__):
        raise ConfigurationError(
            f"The app's engine opens its connections with creator= or pool=, {consequence}.",
            setting="SQLALCHEMY_ENGINE_OPTIONS",
        )
    names = inspect.getclosurevars(creator).nonlocals
    args = names["cargs_tup"] if "cargs_tup" in names else names["cargs"]  # the names in SQLAlchemy 2.1 and 2.0
    return _Connect(engine.dialect, tuple(args), dict(names["cparams"]))


def _elsewhere(engine: Engine, url: URL, connect: _Connect, poolclass: type[Pool] = NullPool) -> Engine:
    """Return an engine for another address, with its own dialect.

    A dialect stores details of the database that it first connects to, such as the default schema.
    """
    dialect = _own_dialect(engine.dialect)
    twin = _twin(engine, url, dialect, replace(connect, dialect=dialect), poolclass)
    initialize_on_connect(twin)
    return twin


def _twin(
    engine: Engine,
    url: URL,
    dialect: Dialect,
    creator: Callable[..., DBAPIConnection],
    poolclass: type[Pool] = NullPool,
) -> Engine:
    """Return an engine with its own pool, and with the options and current listeners of another engine."""
    old = engine.pool
    pool = poolclass(
        creator,
        dialect=dialect,
        echo=old.echo,
        reset_on_return=old._reset_on_return,  # noqa: SLF001
        _dispatch=old.dispatch,
    )
    twin = Engine(
        pool, dialect, url, engine.logging_name, echo=cast("bool", engine.echo), hide_parameters=engine.hide_parameters
    )
    # Share the dispatcher. If two dispatchers were joined, SQLAlchemy 2.0 would not allow listeners on connections.
    twin.dispatch = engine.dispatch  # pyright: ignore[reportAttributeAccessIssue]
    twin._has_events = engine._has_events  # noqa: SLF001
    twin._execution_options = engine.get_execution_options()  # noqa: SLF001
    return twin


def _own_dialect(dialect: Dialect) -> Dialect:
    """Return a copy of a dialect, with its options and listeners, that can be initialized from another database."""
    own: Any = copy.copy(dialect)
    own.identifier_preparer = type(dialect.identifier_preparer)(own)
    own.type_compiler_instance = own.type_compiler = type(dialect.type_compiler_instance)(own)
    vars(own).pop("_type_memos", None)
    return own  # type: ignore[no-any-return]


def initialize_on_connect(engine: Engine, initialized: Callable[[], object] = lambda: None) -> None:
    """Initialize an engine's dialect on its first connection, and leave the dialect of the app's engine alone.

    :param initialized: called afterwards.
    """

    def initialize(dbapi_connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        connection = Connection(
            engine,
            connection=_AdhocProxiedConnection(dbapi_connection, record),
            _has_events=False,
            _allow_revalidate=False,
            _allow_autobegin=False,
        )
        engine.dialect.initialize(connection)
        engine.dialect.do_rollback(connection.connection)
        initialized()

    listeners: Any = engine.pool.dispatch.connect.listeners
    for index, listener in enumerate(listeners):
        if _initializes(listener):
            listeners[index] = only_once(initialize, retry_on_exception=True)


def _initializes(listener: Callable[..., object]) -> bool:
    """Return whether a listener, from SQLAlchemy or this module, initializes its engine's dialect."""
    if not inspect.isfunction(listener):
        return False
    wrapped = inspect.getclosurevars(listener).nonlocals.get("fn")
    return getattr(wrapped, "__module__", None) in (create_engine.__module__, __name__)
