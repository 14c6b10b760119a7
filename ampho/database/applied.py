"""What is applied to a database, and the version rows that say so.

Alembic's version table keeps an applied revision only while no other applied revision stands on it. So what is applied
is the rows and all their ancestors, and every step removes and adds just the rows that keep this true.

A row whose file is gone hides what it stands on, unless the journal tells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from ampho._text import listed
from ampho.database.journal import Journal
from ampho.errors import DivergedError, HistoryError, UnknownRevisionsError, VersionTableError
from ampho.history.graph import Graph
from ampho.history.package import RESERVED
from ampho.history.revision import Revision, id_prefix, package_of_id

ROWS_REMEDY = "correct the table by hand, or write it anew with 'ampho db-stamp SPEC --purge'"
"""What to do about version rows that cannot be right."""

_SHOWN = 5
_LOST_HERE = {
    "a file was deleted": "restore the file",
    "an older release of the code is running": "install the newer release",
}
_LOST_PACKAGE = {"a package is not installed or not listed": "install and list the package"}


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
        """Return the same without what has diverged, and each revision on what it stood on when it ran.

        :raises DivergedError: if that is no order any more.
        """
        diverged = self.diverged(journal)
        if not diverged:
            return self
        then = {rid: tuple(self._parents_then(rid, journal)) for rid in self.known - set(diverged)}
        moved = {rid: parents for rid, parents in then.items() if set(parents) != set(self.graph.parents(rid))}
        try:
            return Applied.from_rows(self.graph.with_parents(moved), self.rows, journal)
        except HistoryError:
            raise self._diverged_error(diverged) from None

    def check_not_diverged(self, ids: Iterable[str], journal: Journal) -> None:
        """Check that nothing that some revisions need counts as applied without having been run.

        :raises DivergedError: if something does.
        """
        found = self.diverged(journal)
        needed = self.graph.ancestors(ids) if found else ()
        if found := tuple(revision_id for revision_id in found if revision_id in needed):
            raise self._diverged_error(found)

    def _diverged_error(self, found: Sequence[str]) -> DivergedError:
        counts, they = ("counts", "it was") if len(found) == 1 else ("count", "they were")
        return DivergedError(
            f"{self._listed(found)} {counts} as applied, because what depends on {_it(found)} is, but no record says"
            f" that {they}: {they} inserted later, or forgotten. {_begun(self.diverged_remedy(found))}. Nothing was"
            " changed.",
            revisions=found,
        )

    def diverged_remedy(self, ids: Sequence[str]) -> str:
        """Return what to do about revisions that count as applied without a record of it."""
        above = self.graph.tips((self.graph.descendants(ids) & self.known) - set(ids))
        what = "it does" if len(ids) == 1 else "they do"
        by_hand = f"do by hand what {what}, unless the database has it already, and say so with {self.way_to_note(ids)}"
        return f"take back what depends on {_it(ids)}, {listed(above)}, and run again; or {by_hand}"

    def edited_remedy(self, ids: Iterable[str]) -> str:
        """Say what to do about applied revisions whose files were edited since."""
        return f"where that changes nothing, say so with {self.way_to_note(ids)}"

    def way_to_note(self, ids: Iterable[str]) -> str:
        """Return the commands that note applied revisions as they are now, and change nothing else."""
        noted = set(ids)
        packages = dict.fromkeys(map(self.package, self.graph.sort(noted)))
        applied = [[rid for rid in self.graph.of_package(name) if rid in self.known] for name in packages]
        above = self.graph.descendants(noted) | noted
        return " and ".join(
            f"'ampho db-stamp {tip}'" for own in applied for tip in self.graph.tips(own) if tip in above
        )

    def package(self, revision_id: str) -> str:
        """Return the package of a revision; an empty name where nobody knows."""
        return self.graph[revision_id].package

    def check_sound(self) -> None:
        """Check that each row can be a revision, and is there once.

        :raises VersionTableError: if one cannot, or is there twice.
        """
        if self.corrupt:
            raise VersionTableError(
                f"The version table has the row {', '.join(map(ascii, self.corrupt))}, which cannot be a revision."
                f" {_begun(ROWS_REMEDY)}; nothing was changed.",
                rows=self.corrupt,
            )
        if self.repeated:
            raise VersionTableError(
                f"The version table has the row {', '.join(self.repeated)} more than once, and Alembic changes one row"
                f" at a time. {_begun(ROWS_REMEDY)}; nothing was changed.",
                rows=self.repeated,
            )

    def check_nothing_absent(self) -> None:
        """Check that the listed packages that are not there have been applied, as one that was uninstalled has.

        :raises PackageNotFoundError: if nothing of one is applied: its name may be mistyped.
        """
        applied = {id_prefix(self.package(revision_id)) for revision_id in self.missing}
        for name, error in self.graph.absent.items():
            if id_prefix(name) not in applied:
                raise error

    def describe_missing(self, ids: Iterable[str] | None = None) -> str:
        """Say which applied revisions no file has, by package."""
        return self._listed(self.graph.sort(self.missing if ids is None else ids))

    def explain_missing(self, ids: Sequence[str]) -> str:
        """Say why no file may explain applied revisions, and what to do about it."""
        lost = self._lost(ids)
        ways = self.ways_to_forget(reversed(self.graph.sort(ids)))  # what others stand on cannot be forgotten before
        given_up = " and ".join(ways) if len(ways) <= _SHOWN else "'ampho db-forget REVISION', the last one first"
        remedy = _or([*lost.values(), f"give {_it(ids)} up with {given_up}"])
        return f"no file explains {_it(ids)}: {_or(lost)}. {_begun(remedy)}"

    def _lost(self, ids: Iterable[str]) -> dict[str, str]:
        """Return why no file may explain applied revisions, each with what helps."""
        packages = set(map(self.package, ids))
        is_here = not packages.isdisjoint(["", *self.graph.packages])
        return (_LOST_HERE if is_here else {}) | (_LOST_PACKAGE if packages.difference(self.graph.packages) else {})

    def _listed(self, ids: Sequence[str]) -> str:
        packages = [name for name in dict.fromkeys(map(self.package, ids)) if name]
        return f"{listed(ids)} of {' and '.join(packages)}" if packages else listed(ids)

    def check_appliable(self, ids: Iterable[str]) -> None:
        """Check that revisions have files, are known not to be applied, and that no later one of their packages is.

        :raises MissingRevisionError: if one has no file.
        :raises UnknownRevisionsError: if not.
        """
        self.graph.check_files(ids)
        touched = self.ahead.intersection(map(self.package, ids))
        beyond = [rid for rid in self.missing if self.package(rid) in touched]
        if beyond:
            raise UnknownRevisionsError(
                f"The database is ahead of the code: {self.describe_missing(beyond)} {_is(beyond)} applied, and"
                f" {self.explain_missing(beyond)}; nothing was changed.",
                rows=beyond,
            )
        doubtful = self.graph.sort(self.uncertain.intersection(ids))
        if doubtful:
            packages = " ".join(dict.fromkeys(map(self.package, doubtful)))
            raise UnknownRevisionsError(
                f"Whether {doubtful[0]} of {self.package(doubtful[0])} is applied is not known:"
                f" {self.describe_missing()} is, which no file explains, and may stand on it."
                f" {_begun(_or(self._lost(self.missing).values()))}. Or say what is applied of {packages}:"
                " 'ampho db-stamp REVISION', or PACKAGE@base for nothing; nothing was changed.",
                rows=self.graph.sort(self.missing),
            )

    def check_has_files(self, ids: Iterable[str], command: str) -> None:
        """Check that the files of applied revisions are there.

        :raises UnknownRevisionsError: if one is not.
        """
        gone = self.graph.sort(self.missing.intersection(ids))
        if gone:
            raise UnknownRevisionsError(
                f"{command}: {self.describe_missing(gone)} {_is(gone)} applied, and {self.explain_missing(gone)};"
                " nothing was changed.",
                rows=gone,
            )

    def ways_out(self, ids: Iterable[str]) -> list[str]:
        """Return the commands that take revisions out of a database: back where they have files, else from view."""
        listed = list(ids)
        present = dict.fromkeys(self.package(rid) for rid in listed if not self.graph.is_missing(rid))
        ways = [f"'ampho db-down {name}@base', or less of it" for name in present]
        return ways + self.ways_to_forget(rid for rid in listed if self.graph.is_missing(rid))

    def ways_to_forget(self, ids: Iterable[str]) -> list[str]:
        """Return the commands that make a database forget missing revisions."""
        names = dict.fromkeys(
            self.package(rid) if self.package(rid) and self.package(rid) not in self.graph.packages else rid
            for rid in ids
        )
        return [f"'ampho db-forget {name}'" for name in names]


def _is(ids: Sequence[str]) -> str:
    return "is" if len(ids) == 1 else "are"


def _it(ids: Sequence[str]) -> str:
    return "it" if len(ids) == 1 else "them"


def _or(texts: Iterable[str]) -> str:
    *first, last = texts
    return f"{', '.join(first)}, or {last}" if first else last


def _begun(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


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
