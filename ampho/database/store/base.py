"""What every store does: names, the check of the database that a connection leads to, and the lock of a build."""

from __future__ import annotations

import re
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Literal, TypeAlias

from sqlalchemy import event

from ampho.database.engine import DATABASE_ARGUMENTS, database_of, served_database, with_database
from ampho.database.lock import pause
from ampho.errors import DatabaseError

if TYPE_CHECKING:
    from sqlalchemy import URL
    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection

Kind: TypeAlias = Literal["build", "clone", "scratch"]

TEMPLATE = "ampho_template_"
_TEMPORARY = re.compile(r"ampho_(?:build|clone|scratch)_(?P<run>[0-9a-f]{12})_\d+")  # as new_name() returns
_KEY = re.compile(r"[0-9a-f]{16,40}")
_POLL_SECONDS = 0.05
_TOUCH_SECONDS = 300


class Store(ABC):
    """Templates and clones on one server, or in one folder.

    A store is used by one thread, or in one event loop, at a time. With an async engine, its methods are called in a
    greenlet. It holds the lock of its run until it is closed; after that, or if the process is killed, the next
    :meth:`sweep` of any store drops the clones and builds of that run.
    """

    def __init__(self, engine: Engine, connect: Callable[[Engine], Connection]) -> None:
        self._app_engine = engine
        self._connect = connect
        self._run = secrets.token_hex(6)
        self._numbers = count(1)
        self._touched: dict[str, float] = {}
        self._named: set[str] = set()  # the databases that the caller named, and this store created

    def can_copy(self) -> bool:
        """Return whether this store can copy databases of the server."""
        return True

    @contextmanager
    def building(self, key: str) -> Iterator[None]:
        """Wait until no other process builds the template with this key, and keep others waiting meanwhile.

        If a process that builds is killed, the server or the kernel releases its lock.
        """
        while (release := self._try_to_build(key)) is None:
            pause(self._app_engine, _POLL_SECONDS)
        try:
            yield
        finally:
            release()

    @abstractmethod
    def create(self, name: str) -> None:
        """Create an empty database.

        :raises DatabaseError: if the database exists, or cannot be created.
        """

    def copy(self, key: str, name: str) -> None:
        """Copy a complete template.

        :param name: the name of the copy, from :meth:`new_name` or chosen by the user; for SQLite, also an absolute
            path.
        :raises DatabaseError: if the template does not exist, ``is_missing`` is true; also if the database ``name``
            exists, or cannot be created.
        """
        self._copy(key, name)
        if time.monotonic() > self._touched.get(key, 0.0) + _TOUCH_SECONDS:
            self.touch(key)

    @abstractmethod
    def _copy(self, key: str, name: str) -> None:
        """Copy a template without recording its use."""

    @abstractmethod
    def publish(self, name: str, key: str) -> None:
        """Turn a complete build into the template with this key. Nothing may be connected to the build.

        If the template already exists, the build is dropped.
        """

    def touch(self, key: str) -> None:
        """Record that a template was used. :meth:`copy` also does that from time to time."""
        self._touched[key] = time.monotonic()
        self._touch(key)

    @abstractmethod
    def _touch(self, key: str) -> None:
        """Record that a template was used now."""

    def prune(self, keep: int, unused: float = 3600) -> None:
        """Drop all templates except those that were used most recently.

        :param keep: the number of templates to keep.
        :param unused: the seconds for which other templates are kept, too, because a process may still copy them.
        """
        before = time.time() - unused
        for key, used in [*self._used().items()][keep:]:
            if used <= before:
                self._forget(key)

    def templates(self) -> list[str]:
        """Return the keys of the complete templates, the most recently used first."""
        return [*self._used()]

    @abstractmethod
    def _used(self) -> dict[str, float]:
        """Return when the complete templates were used, in seconds since the epoch, the most recent ones first."""

    @abstractmethod
    def _forget(self, key: str) -> None:
        """Drop a template."""

    @abstractmethod
    def drop(self, *names: str) -> None:
        """Drop clones and builds, as well as databases that this store created under a name of the user's choice.

        On a server, drop many at once.

        :raises DatabaseError: if a name is not one of those; then nothing is dropped.
        """

    @abstractmethod
    def sweep(self) -> None:
        """Drop the clones and builds of runs that have ended."""

    @abstractmethod
    def server(self) -> str:
        """Return what a template depends on besides the history: versions, the user, and the server's defaults."""

    @abstractmethod
    def close(self) -> None:
        """Release the lock of the run, and close the connection to the server."""

    @abstractmethod
    def _try_to_build(self, key: str) -> Callable[[], object] | None:
        """Acquire the lock of a key, and return a function that releases it; None if the lock is not free."""

    def provide(self, key: str, name: str) -> None:
        """Copy a complete template for good, unless a database with this name exists.

        :param name: as for :meth:`copy`.
        """
        try:
            self.copy(key, name)
        except DatabaseExistsError:
            return

    def new_name(self, kind: Kind) -> str:
        """Return a new name for a build or a clone."""
        return f"ampho_{kind}_{self._run}_{next(self._numbers)}"

    def url(self, name: str) -> URL:
        """Return the URL of a database of this store."""
        return self._app_engine.url.difference_update_query(DATABASE_ARGUMENTS).set(database=name)

    def engine(self, name: str) -> Engine:
        """Return an engine without a pool for a database, with the options and listeners of the app's engine.

        Each new connection is asked twice which database it leads to, before and after the app's listeners run, because
        a listener may select another database.

        :raises ConfigurationError: if the app's engine opens its connections with ``creator=`` or ``pool=``.
        """
        backend, wanted = self._app_engine.dialect.name, self._served_as(name)

        def check(connection: DBAPIConnection, record: object = None) -> None:
            check_served(wanted, served_database(connection, backend))
            self._start(connection)

        engine = with_database(self._app_engine, self.url(name), check)
        event.listen(engine.pool, "connect", check)
        return engine

    def _start(self, connection: DBAPIConnection) -> None:  # noqa: B027 (most databases need nothing)
        """Prepare a new connection to a throwaway database."""

    @contextmanager
    def connection(self, name: str) -> Iterator[Connection]:
        """Yield a connection to a database, after asking in a transaction which database it leads to."""
        engine = self.engine(name)
        try:
            with self._connect(engine) as connection:
                check_served(self._served_as(name), database_of(connection))
                yield connection
        finally:
            engine.dispose()

    def _served_as(self, name: str) -> str:
        """Return what the server reports as the name of a database; for SQLite, its path."""
        return name

    def _check_droppable(self, names: tuple[str, ...]) -> None:
        for name in names:
            if run_of(name) is None and name not in self._named:
                raise DatabaseError(f"Ampho did not create the database {name}, so it was not dropped.")


def template_name(key: str) -> str:
    """Return the name of the template with a key."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"not the key of a template: {key!a}")
    return f"{TEMPLATE}{key}"


def key_of(name: str) -> str | None:
    """Return the key of the template with a name; None for other databases."""
    key = name.removeprefix(TEMPLATE)
    return key if key != name and _KEY.fullmatch(key) else None


def run_of(name: str) -> str | None:
    """Return the run that created a clone or a build; None for other databases."""
    match = _TEMPORARY.fullmatch(name)
    return match and match["run"]


def no_template(key: str) -> DatabaseError:
    """Return the error for a template that another process dropped meanwhile."""
    return DatabaseError(f"The template {key} does not exist. Run the command again.", is_missing=True)


class DatabaseExistsError(DatabaseError):
    """A database with the name of a copy exists."""


def exists(name: str) -> DatabaseExistsError:
    """Return the error for a name that is taken."""
    return DatabaseExistsError(
        f"The database {name} already exists, and was not changed. Choose another name, or drop it."
    )


def check_served(wanted: str, served: str | None) -> None:
    """Check that a connection leads to a database of the store.

    :param served: the name of the connection's database, as the server reports it.
    """
    if served != wanted:
        raise DatabaseError(
            f"The connection to the throwaway database {wanted or 'in memory'} leads to {served or 'no database'}, so"
            " nothing was run on it. Look for a pooler, or a listener of the engine, that redirects connections."
        )
