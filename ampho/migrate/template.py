"""Templates: databases at a given point of the histories, from which clones are made in milliseconds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ampho._text import shown_path
from ampho.errors import AmphoError, DatabaseError
from ampho.history.files import read_bytes
from ampho.migrate import fingerprint
from ampho.migrate.executor import upgrade
from ampho.migrate.plan import plan_upgrade

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from sqlalchemy import URL
    from sqlalchemy.engine import Connection, Engine

    from ampho.database.store import Store
    from ampho.history.revision import Revision
    from ampho.migrate.project import Project

_SCHEMA = re.compile(rb"""\bschema\s*=\s*["']""")

KEPT = 10
"""The number of templates that are kept in a store; of the others, those that were used least recently are dropped."""


@dataclass(frozen=True)
class Point:
    """A point of the histories: what an empty database has to be upgraded to.

    :ivar project: the part of the app's project that belongs to the database.
    :ivar specifiers: the specifiers, in the order in which they are run.
    :ivar x: values for ``context.get_x_argument()``.
    :ivar key: what the caller adds to the keys.
    """

    project: Project
    specifiers: Sequence[str]
    x: Sequence[str] = ()
    key: str = ""

    def revisions(self) -> list[Revision]:
        """Return the revisions that lead to this point, in the order of the graph.

        :raises AmphoError: if one of the specifiers does not name revisions that an empty database can be upgraded to.
        """
        graph = self.project.graph
        for specifier in self.specifiers:
            self.project.check_migratable(specifier)
        plans = [plan_upgrade(graph, (), specifier) for specifier in self._used()]
        return [graph[each] for each in graph.sort({step.revision.id for plan in plans for step in plan.steps})]

    def keys(self, server: str) -> list[str]:
        """Return the keys of the states that the revisions lead to; the last is that of this point."""
        return fingerprint.keys(self.project, self.revisions(), server=server, x=self.x, key=self.key)

    def upgrade(self, connection: Connection) -> None:
        """Upgrade a throwaway database to this point.

        :raises RevisionFailedError: if a revision fails.
        """
        check_schemas(self.project, connection)
        for specifier in self._used():
            upgrade(self.project, connection, specifier, scratch=True, x=self.x)
            connection.rollback()  # ends the transaction of a run that had nothing to do

    def _used(self) -> list[str]:
        """Return the specifiers without those of packages that have no revisions yet."""
        graph = self.project.graph
        return [each for each in self.specifiers if each not in graph.packages or graph.of_package(each)]


def check_schemas(project: Project, connection: Connection) -> None:
    """Check that no revision names a schema, which is a real database on MariaDB, MySQL, and SQLite.

    :param connection: a connection to a throwaway database.
    :raises DatabaseError: if a revision names a schema, unless schemas are a part of their database.
    """
    if connection.dialect.name == "postgresql":
        return
    graph = project.graph
    for revision in (graph[revision_id] for revision_id in graph.ids if graph.has_file(revision_id)):
        with suppress(OSError):  # The run reports a file that cannot be read.
            if _SCHEMA.search(read_bytes(revision.file)):
                raise DatabaseError(
                    f"{shown_path(revision.path)} names a schema, which is a database of its own here, so the revision"
                    " would change that database, and not only the throwaway one. Do without --scratch, --verify, or a"
                    " template."
                )


def find_or_build(point: Point, store: Store) -> str:
    """Return the key of a complete template at a point of the histories, which is built if the store has none.

    Only one process builds it, and the others wait.

    :raises RevisionFailedError: if a revision fails.
    """
    store.sweep()
    keys = point.keys(store.server())
    key = keys[-1]
    if key not in store.templates():
        with store.building(key):
            if key not in store.templates():
                _build(point, store, keys)
    store.touch(key)
    store.prune(KEPT)
    return key


def _build(point: Point, store: Store, keys: Sequence[str]) -> None:
    """Build a template under another name, on top of the latest one that the history goes through."""
    present, name = {*store.templates()}, store.new_name("build")
    base = next((key for key in reversed(keys) if key in present), None)
    with _dropped_on_error(store, name):
        _create(store, name, base)
        with store.connection(name) as connection:
            point.upgrade(connection)
        store.publish(name, keys[-1])


@dataclass
class Scratch:
    """A throwaway database, a clone of a template.

    :ivar connection: a connection to it.
    :ivar was_reverted: whether a clone of the same template was reverted to nothing before.
    :ivar is_reverted: whether this one is, which is remembered; false unless the caller sets it.
    """

    connection: Connection
    was_reverted: bool
    is_reverted: bool = False


@contextmanager
def scratch(point: Point, store: Store) -> Iterator[Scratch]:
    """Yield a throwaway database at a point of the histories, and drop it at the end."""
    name, key = store.new_name("scratch"), find_or_build(point, store) if store.can_copy() else None
    reverted = key and fingerprint.reverted(key)
    with _dropped_on_error(store, name):
        _create(store, name, key)
        with store.connection(name) as connection:
            if key is None:
                point.upgrade(connection)
            found = Scratch(connection, was_reverted=reverted is not None and reverted in store.templates())
            yield found
        if reverted and found.is_reverted:
            store.publish(name, reverted)
        else:
            store.drop(name)
    if reverted and found.was_reverted:
        store.touch(reverted)


def _create(store: Store, name: str, key: str | None) -> None:
    """Create a copy of a template, or without a key, an empty database."""
    if key is None:
        store.create(name)
    else:
        store.copy(key, name)


@contextmanager
def _dropped_on_error(store: Store, name: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(AmphoError):  # which would hide the error that matters
            store.drop(name)
        raise


@dataclass
class Template:
    """A database at a given point of the histories, from which clones are made.

    Use it as a context manager, or call :meth:`close` at the end.

    :ivar key: a fingerprint of all that makes the template.
    """

    key: str
    _store: Store = field(repr=False)
    _clones: dict[str, Clone] = field(default_factory=dict, init=False, repr=False)

    def clone(self, name: str | None = None) -> Clone:
        """Return a new database, a copy of the template.

        :param name: the name of the database; by default, a new one. A database with this name must not exist.
        :raises DatabaseError: if the database cannot be created.
        """
        chosen = name or self._store.new_name("clone")
        self._store.copy(self.key, chosen)
        clone = self._clones[chosen] = Clone(chosen, self._store.url(chosen), self)
        return clone

    def engine(self, clone: Clone) -> Engine:
        """Return an engine like that of the app, without a pool, for a clone."""
        return self._store.engine(clone.name)

    def drop(self, clones: Sequence[Clone]) -> None:
        """Drop several clones together, which may be those of another template on the same server."""
        names = [each.name for each in clones if each._template._clones.pop(each.name, None)]  # noqa: SLF001 (this class)
        self._store.drop(*names)

    def close(self) -> None:
        """Drop the clones that are left, and close the connection with which they were made."""
        try:
            self.drop([*self._clones.values()])
        finally:
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        self.close()


@dataclass(frozen=True)
class Clone:
    """A copy of a template: a database of its own. As a context manager, it is dropped at the end.

    :ivar name: the name of the database.
    :ivar url: its URL.
    """

    name: str
    url: URL = field(repr=False)
    _template: Template = field(repr=False)

    def drop(self) -> None:
        """Drop the database, unless it was dropped before."""
        self._template.drop([self])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        self.drop()
