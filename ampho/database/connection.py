"""Open connections to a database, and prepare a connection for migrating it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError, InvalidRequestError, ProgrammingError

from ampho.database.lock import import_alembic, locked, patient
from ampho.database.schema import check_schema
from ampho.database.url import database_error, describe_without, display, explain, missing_folder, redact
from ampho.errors import AmphoError, ConfigurationError, DatabaseError, LockTimeoutError
from ampho.settings import LOCK_TIMEOUT

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine
    from sqlalchemy.engine import Connection

    from ampho.settings import Settings

_UNNOTICED = 0.2  # the seconds to wait for SQLite's lock before reporting the wait
_UNKNOWN_DATABASE = re.compile(r'database "[^"]+" does not exist|Unknown database')  # unless the server translates it
_MISUSE = (TypeError, ValueError, ImportError, AttributeError, RuntimeError, ProgrammingError)
"""The exceptions that a driver raises if it is misused or incomplete, as opposed to errors from a server."""


def connect(engine: Engine, setting: str, *, check: bool = True) -> Connection:
    """Return a new connection.

    :param setting: the setting that the URL came from.
    :param check: whether to check that the schema exists that the engine is limited to.
    :raises DatabaseError: if the database cannot be reached or reports an error; retrying later may help.
    :raises ConfigurationError: if the driver does not accept the URL or the options of the engine.
    """
    url = engine.url
    try:
        return _open(engine, check=check)
    except AmphoError:
        raise
    except InvalidRequestError as exc:  # the only connection to an in-memory database is in use
        raise DatabaseError(redact(str(exc), url)) from None
    except _MISUSE as exc:
        why = describe_without(exc, url).rstrip(".?")
        raise ConfigurationError(
            f"Cannot connect to {display(url)}: {why}. Check {setting} and SQLALCHEMY_ENGINE_OPTIONS.", setting=setting
        ) from None
    except Exception as exc:  # noqa: BLE001 (drivers raise OSError and exceptions of their own)
        folder = "" if isinstance(exc, OSError) else missing_folder(url)
        if folder:
            why = f"the folder {folder} does not exist. Create it, or correct {setting}"
        else:
            why = f"{explain(exc, url)}. Check {setting}, and that the database is up"
        is_missing = bool(folder or _UNKNOWN_DATABASE.search(why))
        raise DatabaseError(f"Cannot connect to {display(url)}: {why}.", is_missing=is_missing) from None


def _open(engine: Engine, *, check: bool) -> Connection:
    with ExitStack() as stack:
        connection = stack.enter_context(engine.connect())
        if check:
            check_schema(connection)
        stack.pop_all()
    return connection


@contextmanager
def migrating(
    connection: Connection, url: URL, settings: Settings, waiting: Callable[[str], None]
) -> Iterator[Connection]:
    """Yield a connection for a migration, and hold the database's lock until the migration ends.

    :param connection: a new connection that has not executed anything.
    :param url: the URL of the database; errors show it with its password masked.
    :param waiting: called with a description of the process that holds the lock, if there is one.
    :raises LockTimeoutError: if the lock cannot be acquired in time.
    """
    import_alembic(connection)
    with _sqlite_lock_timeout(connection, settings), ExitStack() as stack:
        if connection.dialect.name == "sqlite":
            from ampho.database.sqlite import is_locked, transactional

            patience = settings.lock_timeout if settings.lock else None
            connection = stack.enter_context(transactional(connection, patience))
            if patience is not None and is_locked(connection, min(_UNNOTICED, patience)):
                waiting("")
        elif _autocommits(connection):
            level = connection.default_isolation_level
            level = "READ COMMITTED" if level in (None, "AUTOCOMMIT") else level
            connection = connection.execution_options(isolation_level=level)
        try:
            stack.enter_context(locked(connection, settings, waiting))
            stack.enter_context(patient(connection, settings))
        except DBAPIError as exc:
            raise database_error(exc, url) from exc
        yield connection


@contextmanager
def _sqlite_lock_timeout(connection: Connection, settings: Settings) -> Iterator[None]:
    """Raise a :exc:`LockTimeoutError`, as on other databases, if SQLite's own lock times out."""
    try:
        yield
    except DatabaseError as exc:
        if not (settings.lock and connection.dialect.name == "sqlite" and "database is locked" in str(exc)):
            raise
        raise LockTimeoutError(
            f"Timed out after {settings.lock_timeout:g} s waiting for another process that writes to this database."
            f" Wait for it to finish, stop it, or raise {LOCK_TIMEOUT}. {exc}",
            holder="",
        ) from exc


def _autocommits(connection: Connection) -> bool:
    """Return whether the driver commits each statement. ``get_isolation_level()`` seldom reports that."""
    try:
        return connection.dialect.detect_autocommit_setting(connection.connection.dbapi_connection)  # type: ignore[arg-type]  # never None here
    except NotImplementedError:  # raised by some third-party dialects
        options = connection.get_execution_options()
        of_engine = getattr(connection.dialect, "_on_connect_isolation_level", None)
        return "AUTOCOMMIT" in (options.get("isolation_level"), of_engine, connection.get_isolation_level())
