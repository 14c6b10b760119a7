"""The version rows of a database, and the revisions that are applied according to them.

Alembic's version table only has a row for an applied revision while no other applied revision depends on it. So the
applied revisions are those in the rows, and everything that they depend on. Each step removes and adds rows so that
this remains true. If the revision in a row is missing, only the journal records what it depends on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from ampho._text import listed
from ampho.database.journal import Journal
from ampho.database.replacement import take_over
from ampho.database.version_tables import MOST, Places, rows_of, tables_like_it
from ampho.errors import VersionTableError
from ampho.history.graph import Graph, reach
from ampho.history.package import RESERVED
from ampho.history.revision import Revision, package_of_id
from ampho.history.rewritten import was
from ampho.settings import VERSION_TABLES

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

VERSION_TABLE = "alembic_version"
"""The default name of Alembic's version table."""


@dataclass(frozen=True, slots=True)
class Applied:
    """The revisions that are applied to a database, according to its version rows.

    :ivar graph: the revisions that have files, and the missing revisions.
    :ivar known: the ids of the applied revisions.
    :ivar missing: the ids of the applied revisions that have no file.
    :ivar uncertain: the ids of revisions that may be applied, because the dependencies of a missing revision are not
        recorded.
    :ivar unknown: the rows of missing revisions.
    :ivar corrupt: the rows whose values cannot be revision ids, as text.
    :ivar rows: all rows that are not corrupt.
    :ivar taken: the revisions that count as applied because all that they replace is applied, although no row says so
        yet. :attr:`rows` already has them.
    :ivar tables: the tables of packages that have rows of missing revisions, by the ids of the revisions.
    :ivar sources: the missing revisions whose sources are in the journal.
    """

    graph: Graph
    known: frozenset[str]
    missing: frozenset[str] = frozenset()
    uncertain: frozenset[str] = frozenset()
    unknown: tuple[str, ...] = ()
    corrupt: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
    tables: Mapping[str, str] = field(default_factory=dict[str, str])
    sources: frozenset[str] = frozenset()

    @classmethod
    def from_rows(cls, graph: Graph, rows: Iterable[str], journal: Journal | None = None) -> Applied:
        """Return the revisions of a graph that are applied according to version rows."""
        given = tuple(rows)
        corrupt = tuple(str(row) for row in dict.fromkeys(given) if not _can_be_row(row))
        every, taken = tuple(filter(_can_be_row, given)), tuple[str, ...]()
        if graph.has_replacements:
            graph, every, taken = take_over(graph, every, journal or Journal())
        listed = tuple(dict.fromkeys(every))
        unknown = tuple(row for row in listed if not graph.has_file(row))
        present = graph.ancestors(row for row in listed if row in graph)
        seeds = [*unknown, *filter(graph.is_missing, present)]
        if not seeds:
            return cls(graph, frozenset(present), corrupt=corrupt, rows=every, taken=taken)
        record = journal or Journal()
        missing, unrecorded = _missing_revisions(graph, seeds, record)
        whole = graph.with_missing(missing)
        known = frozenset(whole.ancestors(listed))
        uncertain: frozenset[str] = frozenset()
        if unrecorded:
            # A revision has a row only while no other applied revision depends on it, so the descendants of a revision
            # with a row are not applied.
            tips = [row for row in listed if row not in unknown]
            above = graph.descendants(tips) if not graph.kept else reach(tips, graph.row_children)
            left = set(filter(graph.has_file, graph.ids)) - known - above
            uncertain = frozenset(rid for rid in left if not record.records_not_applied(rid))
        missing_ids = frozenset(filter(whole.is_missing, known))
        tables = {row: own[1] for row in unknown if (own := record.places.own_table_of(row))}
        sources = frozenset(record.sources(missing_ids))
        return cls(whole, known, missing_ids, uncertain, unknown, corrupt, every, taken, tables, sources)

    @property
    def ahead(self) -> frozenset[str]:
        """The packages that have both files and missing revisions."""
        return frozenset(package for package in map(self.package, self.missing) if package in self.graph.packages)

    def superfluous(self, journal: Journal) -> tuple[str, ...]:
        """Return the rows that are not needed, because an applied revision depended on their revisions when it ran."""
        needed = {parent for revision_id in self.known for parent in self._parents_then(revision_id, journal)}
        return tuple(sorted(needed.intersection(self.rows).difference(self.graph.exact_rows(self.known))))

    @property
    def repeated(self) -> tuple[str, ...]:
        """The rows that occur more than once, which a version table without a primary key allows."""
        return tuple(row for row, count in Counter(self.rows).items() if count > 1)

    def edited(self, journal: Journal) -> tuple[str, ...]:
        """Return the applied revisions whose files were changed after they ran, according to the journal."""
        entries = ((self.graph[rid], journal.applied(rid)) for rid in self.known - self.missing)
        return self.graph.sort(
            revision.id
            for revision, entry in entries
            if entry
            and entry.checksum not in (None, revision.checksum)
            and not (self.graph.has_replacements and was(self.graph, revision, entry.checksum))
        )

    def diverged(self, journal: Journal) -> tuple[str, ...]:
        """Return the revisions that never ran, but are treated as applied because applied revisions depend on them.

        The revisions in the version rows and in the journal did run, and so did those that they depended on at that
        time.
        """
        rows, reverted = set(self.rows), self._reverted
        if all(rid in rows or journal.records_applied(rid) for rid in self.known):
            return self.graph.sort(reverted)
        proven = rows.union(filter(journal.records_applied, self.known))
        return self.graph.sort(self.known - reach(proven, partial(self._parents_then, journal=journal)) | reverted)

    @property
    def _reverted(self) -> AbstractSet[str]:
        """The revisions that another tool has reverted, although revisions of other packages depend on them."""
        if not self.graph.kept:
            return frozenset()
        present = [row for row in self.rows if row in self.graph]
        left = self.known.difference(reach(present, partial(self.graph.row_parents)))
        return {rid for rid in left if self.graph.has_file(rid) and self.package(rid) in self.graph.kept}

    def _parents_then(self, revision_id: str, journal: Journal) -> Iterable[str]:
        """Return the parents a revision had when it ran; if any is not in the graph, add its present parents."""
        entry = journal.applied(revision_id)
        now = self.graph.parents(revision_id) if revision_id in self.graph else ()
        if entry is None:
            return now
        return entry.parents if all(map(self.graph.__contains__, entry.parents)) else {*entry.parents, *now}

    def as_ran(self, journal: Journal) -> Applied:
        """Return this state without diverged revisions, and with the dependencies that the revisions had when they ran.

        :raises HistoryError: if those dependencies do not form a valid graph.
        """
        diverged = self.diverged(journal)
        if not diverged:
            return self
        then = {rid: tuple(self._parents_then(rid, journal)) for rid in self.known - set(diverged)}
        if reverted := self._reverted:
            then = {rid: tuple(each for each in parents if each not in reverted) for rid, parents in then.items()}
        moved = {rid: parents for rid, parents in then.items() if set(parents) != set(self.graph.parents(rid))}
        return Applied.from_rows(self.graph.with_parents(moved), self.rows, journal)

    def package(self, revision_id: str) -> str:
        """Return the package of a revision, or an empty string if it is not known."""
        return self.graph[revision_id].package


def owing_state(applied: Applied, rows: tuple[str, ...], places: Places) -> Applied | None:
    """Return the state with the rows that a database should have, if it has others or has them in other tables.

    :param applied: the state of the database.
    :param rows: its rows.
    """
    if places.are_final(places.wanted(applied.graph, applied.rows)) and {*applied.rows} == {*rows}:
        return None
    exact = {*applied.graph.exact_rows(applied.known)}
    return replace(applied, rows=tuple(row for row in dict.fromkeys(applied.rows) if row in exact))


def _can_be_row(row: object) -> bool:
    """Return whether the value of a row can be a revision id, from Ampho or from another tool."""
    return isinstance(row, str) and bool(row.strip()) and row not in RESERVED


def _missing_revisions(graph: Graph, seeds: Iterable[str], journal: Journal) -> tuple[list[Revision], bool]:
    """Return the missing revisions, and whether any of them lacks a record of its dependencies."""
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
            todo += graph.parents(revision_id)  # one of these may be missing, too
            continue
        if revision_id in labels:
            todo.append(labels[revision_id])
            continue
        entry = journal.applied(revision_id)
        unrecorded = unrecorded or entry is None
        parents = entry.parents if entry else ()
        todo += parents
        own = journal.places.own_table_of(revision_id)
        package = own[0] if own else entry.package if entry else package_of_id(revision_id, graph.packages)
        found[revision_id] = Revision(revision_id, package, "", parents, is_missing=True)
    for label, first in labels.items():
        if first in found:
            found[first] = replace(found[first], labels=(label,))
    return list(found.values()), unrecorded


def _first_of(package: str, journal: Journal) -> str | None:
    """Return a package's first applied revision, which a dependency on the package's name stands for."""
    own = {
        entry.revision: entry
        for entry in journal
        if entry.package == package and journal.records_applied(entry.revision)
    }
    first = [revision_id for revision_id, entry in own.items() if own.keys().isdisjoint(entry.parents)]
    return first[0] if len(first) == 1 else None


class VersionRows:
    """Computes the exact version rows after each step, at a constant cost per step.

    :param rows: the rows before the first step.
    :param parents: returns the ids that a revision depends on.
    """

    def __init__(self, rows: Iterable[str], parents: Callable[[str], Sequence[str]]) -> None:
        self.current: set[str] = set(rows)
        self._parents = parents
        self._dependents = Counter(parent for applied in reach(self.current, parents) for parent in parents(applied))
        self._stale = [row for row in sorted(self.current) if self._dependents[row]]

    def upgrade(self, revision_id: str) -> tuple[list[str], list[str]]:
        """Apply a revision whose ancestors are applied; return the rows to remove and the rows to add."""
        parents = self._parents(revision_id)
        stale = [row for row in self._stale if self._dependents[row] and row not in parents]
        self._stale = []  # this step removes the rows that another tool left
        removed = stale + [parent for parent in parents if parent in self.current]
        self._dependents.update(parents)
        self.current.difference_update(removed)
        self.current.add(revision_id)
        return removed, [revision_id]

    def downgrade(self, revision_id: str) -> tuple[list[str], list[str]]:
        """Revert a revision that no applied revision depends on; return the rows to remove and the rows to add."""
        parents = self._parents(revision_id)
        self._dependents.subtract(parents)
        added = [parent for parent in parents if not self._dependents[parent] and parent not in self.current]
        self.current.remove(revision_id)
        self.current.update(added)
        return [revision_id], added


def check_not_elsewhere(connection: Connection, graph: Graph, version_table: str, journal: Journal) -> None:
    """Check that no other table has version rows of this history. Call this if the version table is empty.

    Another table has such rows if ``env.py`` used to name the version table differently. All revisions would then run
    again. If the version table does not have the default name, it may be one of several, such as one per tenant, so
    only the table with the default name is checked.

    :param journal: the journal; rows of revisions that it records as not applied, as in an old copy, are ignored.
    :raises VersionTableError: if another table has such rows.
    """
    if not graph.ids:
        return
    names = {*tables_like_it(connection)} - {version_table, *journal.places.rows}
    for name in sorted(names if version_table == VERSION_TABLE else names & {VERSION_TABLE}):
        if ids := [
            row
            for row in rows_of(connection, name, limit=MOST)
            if row in graph and not journal.records_not_applied(row)
        ]:
            raise VersionTableError(
                f"The version table {version_table} has no rows, but the table {name} contains revisions of this"
                f' history: {listed(ids)}. If that is the version table, pass version_table="{name}" to'
                " context.configure() in env.py, or to the extension; otherwise, all revisions would run again. If it"
                f" belongs to one package, set {VERSION_TABLES}. If it is a copy, drop it. Nothing was changed.",
                rows=ids,
            )
