"""What the stores of PostgreSQL and MariaDB have in common: one connection that stays open, and its locks."""

from __future__ import annotations

import re
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, ClassVar, NamedTuple, TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.util import await_only, greenlet_spawn

from ampho._text import listed
from ampho.database.creation import create_database
from ampho.database.engine import served_database, with_database
from ampho.database.store.base import Store, check_served, exists, no_template, run_of, template_name
from ampho.database.url import describe_without
from ampho.errors import AmphoError, DatabaseError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection

_MARK = re.compile(r"(?P<template>ampho_template_\w+), last used (?P<microseconds>\d+)")

T = TypeVar("T")

_CONNECTIONS = 4
_LEAST_PARTS = 4  # for fewer, another connection would not pay
_REMEDY = "Use a database user who may create and drop databases."


class Template(NamedTuple):
    """A complete template on a server.

    :ivar used: when it was used last, in microseconds.
    """

    key: str
    name: str
    used: int


class ServerStore(Store):
    """Databases on a server.

    The connection to the server stays open, because a clone should not wait for a new one, and holds the locks. If it
    is lost, the next use opens and locks it again.
    """

    MAINTENANCE: ClassVar[str]
    """The database to connect to; the app's own database is only used if this one cannot be used."""

    def __init__(self, engine: Engine, connect: Callable[[Engine], Connection]) -> None:
        super().__init__(engine, connect)
        self._kept: Connection | None = None
        self._others: list[Connection] = []

    def create(self, name: str) -> None:
        """Create an empty database, with the schema in which the app's connections create tables."""
        self._create(name)
        try:
            with self._managing(name) as server:
                self._prepare(server, name)
        except BaseException:
            self._abandon(name)
            raise

    def drop(self, *names: str) -> None:
        """Drop databases, after closing the connections to them."""
        self._check_droppable(names)

        def drop(server: Connection, names: Sequence[str]) -> None:
            for name in names:
                self._disconnect(server, name)
                self._drop(server, name)

        if names:
            with self._managing(listed(names)) as server:
                self._share(server, names, drop)

    def sweep(self) -> None:
        """Drop the clones and builds of runs that no longer hold their lock, unless they are in use."""
        with self._managing() as server:
            alive = {self._run: True}
            for name in self._left_over(server):
                run = str(run_of(name))
                if run not in alive:
                    alive[run] = self._is_alive(server, run)
                if not alive[run]:
                    with suppress(DBAPIError):  # it is in use, or another process dropped it
                        self._drop(server, name)

    def close(self) -> None:
        """Release the lock of the run, and close the connection to the server."""
        if self._kept is not None:
            with suppress(DBAPIError):  # the server would release the lock a moment after the connection is closed
                self._unlock(self._kept, _run_lock(self._run))
            for connection in (self._kept, *self._others):
                connection.close()
            self._kept, self._others = None, []

    def _used(self) -> dict[str, float]:
        return {template.key: template.used / 1e6 for template in self._templates()}

    def _touch(self, key: str) -> None:
        template = self._find(key)
        if template is not None:
            try:
                with self._managing(template.name) as server:
                    self._mark(server, template.name, key)
            except DatabaseError:
                if self._find(key):  # unless another process dropped it meanwhile
                    raise

    def _forget(self, key: str) -> None:
        """Drop a template, unless another process has dropped it, or is connected to it."""
        template = self._find(key)
        if template is not None:
            with suppress(DatabaseError), self._managing(template.name) as server:
                self._drop(server, template.name)

    def _templates(self) -> list[Template]:
        with self._managing() as server:
            return sorted(self._complete(server), key=lambda template: template.used, reverse=True)

    def _find(self, key: str) -> Template | None:
        return next((template for template in self._templates() if template.key == key), None)

    def _existing(self, key: str) -> Template:
        """Return a template.

        :raises DatabaseError: if it does not exist.
        """
        template = self._find(key)
        if template is None:
            raise no_template(key)
        return template

    def _is_alive(self, server: Connection, run: str) -> bool:
        return self._is_locked(server, _run_lock(run))

    def _create(self, name: str, options: str | None = None) -> None:
        with self._managing(name) as server:
            if not create_database(server, name, options, remedy=_REMEDY):
                raise exists(name)
        if run_of(name) is None:
            self._named.add(name)

    def _abandon(self, name: str) -> None:
        """Drop a database that this store failed to complete; if that fails, too, raise the first error."""
        with suppress(DatabaseError):  # the caller raises the error that matters; sweep() drops what is left
            self.drop(name)

    def _try_to_build(self, key: str) -> Callable[[], object] | None:
        name = template_name(key)
        with self._managing(name) as server:
            return partial(self._unlock, server, name) if self._lock(server, name) else None

    @contextmanager
    def _managing(self, name: str = "") -> Iterator[Connection]:
        """Yield the connection to the server, outside of transactions, and explain errors.

        :param name: the name of the database that is created or dropped.
        """
        if self._kept is None or self._kept.invalidated:
            self._kept = self._open()
            self._lock(self._kept, _run_lock(self._run))
        try:
            yield self._kept
        except DBAPIError as exc:
            what = f"The throwaway database {name}" if name else "Throwaway databases"
            why = describe_without(exc, self._app_engine.url).rstrip(".")
            raise DatabaseError(f"{what} cannot be created or dropped: {why}. {_REMEDY}") from None

    def _share(self, server: Connection, parts: Sequence[T], work: Callable[[Connection, Sequence[T]], None]) -> None:
        """Do work on several connections at once, because most of the time, the server waits for its disk.

        :param work: called with a connection to the server, and some of the parts.
        """
        number = min(_CONNECTIONS, max(1, len(parts) // _LEAST_PARTS))
        self._others = [connection for connection in self._others if not connection.invalidated]
        while len(self._others) < number - 1:
            self._others.append(self._open())
        connections = [server, *self._others][:number]
        at_once(self._app_engine, [partial(work, each, parts[i::number]) for i, each in enumerate(connections)])

    def _open(self) -> Connection:
        """Return a new connection to the server."""
        with suppress(AmphoError):  # the user may not connect there, so the app's own database is used
            return self._started(self._connect(self._elsewhere(self.MAINTENANCE)))
        return self._started(self._connect(self._app_engine))

    def _elsewhere(self, name: str) -> Engine:
        def check(connection: DBAPIConnection) -> None:
            check_served(name, served_database(connection, self._app_engine.dialect.name))

        return with_database(self._app_engine, self.url(name), check)

    def _started(self, connection: Connection) -> Connection:
        try:
            connection = connection.execution_options(isolation_level="AUTOCOMMIT")
            self._start_session(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    @abstractmethod
    def _prepare(self, server: Connection, name: str) -> None:
        """Prepare a new database for a build."""

    @abstractmethod
    def _start_session(self, server: Connection) -> None:
        """Check, or set, what a new connection to the server needs."""

    @abstractmethod
    def _complete(self, server: Connection) -> Iterator[Template]:
        """Yield the complete templates that the user may copy."""

    @abstractmethod
    def _left_over(self, server: Connection) -> Iterator[str]:
        """Yield the names of all clones and builds."""

    @abstractmethod
    def _mark(self, server: Connection, name: str, key: str) -> None:
        """Write into the comment of a database that it is a template, and was used now."""

    @abstractmethod
    def _disconnect(self, server: Connection, name: str) -> None:
        """Close the connections to a database."""

    def _drop(self, server: Connection, name: str) -> None:
        server.exec_driver_sql(f"DROP DATABASE IF EXISTS {quote(server, name)}")

    @abstractmethod
    def _lock(self, server: Connection, name: str) -> bool:
        """Acquire a lock if it is free, and return whether that succeeded."""

    @abstractmethod
    def _unlock(self, server: Connection, name: str) -> None:
        """Release a lock."""

    @abstractmethod
    def _is_locked(self, server: Connection, name: str) -> bool:
        """Return whether any connection holds a lock."""


def mark(key: str) -> str:
    """Return the comment of a template that was used now."""
    return f"{template_name(key)}, last used {time.time_ns() // 1000}"


def read_mark(comment: str | None) -> tuple[str, int]:
    """Return the name of the template, and when it was used, from a comment; without a mark, an empty name and 0."""
    found = _MARK.fullmatch(comment or "")
    return (found["template"], int(found["microseconds"])) if found else ("", 0)


def quote(connection: Connection, name: str) -> str:
    """Return a name in the quotation marks of the database."""
    quoted = connection.dialect.identifier_preparer.quote_identifier
    is_doubled = "%%" in quoted("%")  # for drivers in whose statements a percent sign begins a parameter
    if is_doubled and connection.get_execution_options().get("no_parameters"):
        return quoted(name).replace("%%", "%")
    return quoted(name)


def at_once(engine: Engine, functions: Sequence[Callable[[], None]]) -> None:
    """Call functions at once, in threads or in greenlets, and raise the first error when all have ended."""
    if len(functions) == 1:
        functions[0]()
    elif engine.dialect.is_async:
        import asyncio

        for error in await_only(asyncio.gather(*map(greenlet_spawn, functions), return_exceptions=True)):
            if error is not None:
                raise error
    else:
        with ThreadPoolExecutor(len(functions)) as pool:
            running = [pool.submit(function) for function in functions]
        for each in running:
            each.result()


def _run_lock(run: str) -> str:
    return f"ampho_run_{run}"
