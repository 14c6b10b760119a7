"""What is applied to a database, and the version rows that say so.

Alembic's version table keeps an applied revision only while no other applied revision stands on it. So what is applied
is the rows and all their ancestors, and every step removes and adds just the rows that keep this true.

A row whose file is gone hides what it stands on, unless the journal tells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ampho._text import listed
from ampho.database.journal import Journal
from ampho.errors import VersionTableError
from ampho.history.graph import Graph
from ampho.history.package import RESERVED
from ampho.history.revision import Revision, package_of_id

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

VERSION_TABLE = "alembic_version"
"""The name of Alembic's version table by default."""

_MOST = 1000  # rows; a version table has one for each head
_IN_SCHEMA = (
    "SELECT table_name FROM information_schema.columns WHERE column_name = 'version_num' AND data_type IN"
    " ('character varying', 'character', 'varchar', 'char', 'text') AND table_schema = "
)
_LIKE_IT = {
    # By the text first: SQLite cannot tell the columns of a view or a virtual table that lacks what it is made of.
    "sqlite": "SELECT m.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'"
    " AND m.sql LIKE 'CREATE TABLE%version_num%' AND c.name = 'version_num'",
    "postgresql": f"{_IN_SCHEMA}current_schema()",
    "mysql": f"{_IN_SCHEMA}DATABASE()",
    "mariadb": f"{_IN_SCHEMA}DATABASE()",
}


@dataclass(frozen=True, slots=True)
class Applied:
    """What the version rows of a database mean.

    :ivar graph: the revisions of the files, and those that the database knows of without a file.
    :ivar known: ids of the revisions whose change is in the database.
    :ivar missing: those of them that no file has.
    :ivar uncertain: ids of the revisions of which it is not known: nothing records what a missing one stands on.
    :ivar unknown: rows that no revision file explains.
    :ivar corrupt: rows that cannot be a revision, as text.
    :ivar rows: all other rows, as they are.
    """

    graph: Graph
    known: frozenset[str]
    missing: frozenset[str] = frozenset()
    uncertain: frozenset[str] = frozenset()
    unknown: tuple[str, ...] = ()
    corrupt: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()

    @classmethod
    def from_rows(cls, graph: Graph, rows: Iterable[str], journal: Journal | None = None) -> Applied:
        """Return what ``rows`` mean in ``graph``."""
        every = tuple(rows)
        corrupt = tuple(str(row) for row in dict.fromkeys(every) if not _can_be_row(row))
        every = tuple(row for row in every if _can_be_row(row))
        listed = tuple(dict.fromkeys(every))
        unknown = tuple(row for row in listed if not graph.has_file(row))
        present = graph.ancestors(row for row in listed if row in graph)
        seeds = [*unknown, *filter(graph.is_missing, present)]
        if not seeds:
            return cls(graph, frozenset(present), corrupt=corrupt, rows=every)
        record = journal or Journal()
        missing, unrecorded = _missing_revisions(graph, seeds, record)
        whole = graph.with_missing(missing)
        known = frozenset(whole.ancestors(listed))
        gone = frozenset(filter(whole.is_missing, known))
        uncertain: frozenset[str] = frozenset()
        if unrecorded:
            # Rows are exact: were a revision applied that stands on a row, that would not be a row.
            above = graph.descendants(row for row in listed if row not in unknown)
            left = set(filter(graph.has_file, graph.ids)) - known - above
            uncertain = frozenset(rid for rid in left if not record.denies(rid))
        return cls(whole, known, gone, uncertain, unknown, corrupt, every)

    @property
    def ahead(self) -> frozenset[str]:
        """The packages of which the database has more than their files."""
        return frozenset(package for package in map(self.package, self.missing) if package in self.graph.packages)

    def superfluous(self, journal: Journal) -> tuple[str, ...]:
        """Return the rows that say nothing, since another one stood on them already when it ran."""
        standing = {parent for revision_id in self.known for parent in self._parents_then(revision_id, journal)}
        return tuple(sorted(standing.intersection(self.rows)))

    @property
    def repeated(self) -> tuple[str, ...]:
        """Rows that are there more than once, which a version table without a primary key allows."""
        return tuple(row for row, count in Counter(self.rows).items() if count > 1)

    def edited(self, journal: Journal) -> tuple[str, ...]:
        """Return the applied revisions whose files are not those that were run, as far as that is recorded."""
        entries = ((rid, journal.applied(rid)) for rid in self.known - self.missing)
        return self.graph.sort(
            rid for rid, entry in entries if entry and entry.checksum not in (None, self.graph[rid].checksum)
        )

    def diverged(self, journal: Journal) -> tuple[str, ...]:
        """Return what counts as applied because of what stands on it now, and was put there after that had run.

        A version row, and what has an entry, was applied, and so was what it stood on then.
        """
        rows = set(self.rows)
        if all(rid in rows or journal.affirms(rid) for rid in self.known):
            return ()
        proven = rows.union(filter(journal.affirms, self.known))
        todo = list(proven)
        while todo:
            for parent in self._parents_then(todo.pop(), journal):
                if parent not in proven:
                    proven.add(parent)
                    todo.append(parent)
        return self.graph.sort(self.known - proven)

    def _parents_then(self, revision_id: str, journal: Journal) -> Iterable[str]:
        """Return what a revision stood on when it ran; also what it does now, where a file is gone in between."""
        entry = journal.applied(revision_id)
        now = self.graph.parents(revision_id) if revision_id in self.graph else ()
        if entry is None:
            return now
        return entry.parents if all(map(self.graph.__contains__, entry.parents)) else {*entry.parents, *now}

    def as_ran(self, journal: Journal) -> Applied:
        """Return the same without what has diverged, and with each revision based on what it was based on when it ran.

        :raises HistoryError: if those do not form a graph.
        """
        diverged = self.diverged(journal)
        if not diverged:
            return self
        then = {rid: tuple(self._parents_then(rid, journal)) for rid in self.known - set(diverged)}
        moved = {rid: parents for rid, parents in then.items() if set(parents) != set(self.graph.parents(rid))}
        return Applied.from_rows(self.graph.with_parents(moved), self.rows, journal)

    def package(self, revision_id: str) -> str:
        """Return the package of a revision; an empty name where nobody knows."""
        return self.graph[revision_id].package


def _can_be_row(row: object) -> bool:
    """Tell whether a row can be the id of some tool's revision."""
    return isinstance(row, str) and bool(row.strip()) and row not in RESERVED


def _missing_revisions(graph: Graph, seeds: Iterable[str], journal: Journal) -> tuple[list[Revision], bool]:
    """Return the applied revisions without a file, and whether nothing records what one of them stands on."""
    found: dict[str, Revision] = {}
    labels = {name: first for name in filter(graph.is_missing, graph.ids) if (first := _first_of(name, journal))}
    todo, seen = list(seeds), set[str]()
    unrecorded = False
    while todo:
        revision_id = todo.pop()
        if revision_id in seen:
            continue
        seen.add(revision_id)
        if graph.has_file(revision_id):
            todo += graph.parents(revision_id)  # one of which may be gone, too
            continue
        if revision_id in labels:
            todo.append(labels[revision_id])
            continue
        entry = journal.applied(revision_id)
        parents: tuple[str, ...] = ()
        if entry is None:
            unrecorded = True
        else:
            parents = entry.parents
            todo += parents
        package = entry.package if entry else package_of_id(revision_id, graph.packages)
        found[revision_id] = Revision(revision_id, package, "", parents, is_missing=True)
    for label, first in labels.items():
        if first in found:
            found[first] = replace(found[first], labels=(label,))
    return list(found.values()), unrecorded


def _first_of(package: str, journal: Journal) -> str | None:
    """Return the first revision that was applied of a package: what its name means in a dependency."""
    own = {entry.revision: entry for entry in journal if entry.package == package and journal.affirms(entry.revision)}
    first = [revision_id for revision_id, entry in own.items() if own.keys().isdisjoint(entry.parents)]
    return first[0] if len(first) == 1 else None


class VersionRows:
    """The version rows of a database, kept exact from step to step at a constant cost.

    :param rows: the rows to start from.
    :param parents: gives the ids that a revision stands on.
    """

    def __init__(self, rows: Iterable[str], parents: Callable[[str], Sequence[str]]) -> None:
        self.current: set[str] = set(rows)
        self._parents = parents
        self._applied = self._closure()
        self._standing = Counter(parent for revision_id in self._applied for parent in parents(revision_id))
        self._stale = [row for row in sorted(self.current) if self._standing[row]]

    def _closure(self) -> set[str]:
        applied = set(self.current)
        todo = list(applied)
        while todo:
            for parent in self._parents(todo.pop()):
                if parent not in applied:
                    applied.add(parent)
                    todo.append(parent)
        return applied

    def upgrade(self, revision_id: str) -> tuple[list[str], list[str]]:
        """Apply a revision whose ancestors are applied; return the rows to remove and the rows to add."""
        parents = self._parents(revision_id)
        stale = [row for row in self._stale if self._standing[row] and row not in parents]
        self._stale = []  # of another tool's making; they go with the first step that can take them
        removed = stale + [parent for parent in parents if parent in self.current]
        self._applied.add(revision_id)
        self._standing.update(parents)
        self.current.difference_update(removed)
        self.current.add(revision_id)
        return removed, [revision_id]

    def downgrade(self, revision_id: str) -> tuple[list[str], list[str]]:
        """Take back a revision on which no applied one stands; return the rows to remove and the rows to add."""
        parents = self._parents(revision_id)
        self._applied.remove(revision_id)
        self._standing.subtract(parents)
        added = [parent for parent in parents if not self._standing[parent] and parent not in self.current]
        self.current.remove(revision_id)
        self.current.update(added)
        return [revision_id], added


def exact_rows(graph: Graph, applied: Iterable[str]) -> tuple[str, ...]:
    """Return the rows for a set of applied revisions: those that no other of them stands on, sorted."""
    known = set(applied)
    return tuple(sorted(known - {parent for revision_id in known for parent in graph.parents(revision_id)}))


def check_not_elsewhere(connection: Connection, graph: Graph, version_table: str, journal: Journal) -> None:
    """Check that no other table has rows of this history, where the version table has none.

    A version table that was given a name may be one of several, such as those of tenants. So then only the one of the
    default name counts. A table of the same name is in another schema, and belongs to something else.

    :param journal: what it says was taken back is in a copy that somebody keeps.
    :raises VersionTableError: if one has.
    """
    like_it = _LIKE_IT.get(connection.dialect.name)
    if like_it is None or not graph.ids:
        return
    from sqlalchemy import String, column, select, table, text  # imported late, because the help imports this module

    names = {name for (name,) in connection.execute(text(like_it))} - {version_table}
    for name in sorted(names if version_table == VERSION_TABLE else names & {VERSION_TABLE}):
        query = select(column("version_num", String)).select_from(table(name)).limit(_MOST)
        if ids := [row for (row,) in connection.execute(query) if row in graph and not journal.denies(row)]:
            raise VersionTableError(
                f"Nothing is applied according to the version table {version_table}, but the table {name} has"
                f" {listed(ids)} of this history, and everything would run again. If that is the version table, pass"
                f' version_table="{name}" to context.configure() in the env.py that is used, or to the extension. If it'
                " is a copy, drop it; nothing was changed.",
                rows=ids,
            )
