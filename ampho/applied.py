"""What is applied to a database, and the version rows that say so.

Alembic's version table keeps an applied revision only while no other applied revision stands on it. So what is applied
is the rows and all their ancestors, and every step removes and adds just the rows that keep this true.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ampho.errors import UnknownRevisionsError
from ampho.graph import Graph


@dataclass(frozen=True, slots=True)
class Applied:
    """What the version rows of a database mean.

    :ivar known: ids of the revisions whose change is in the database.
    :ivar unknown: rows that no revision file explains.
    """

    known: frozenset[str]
    unknown: tuple[str, ...] = ()

    @classmethod
    def from_rows(cls, graph: Graph, rows: Iterable[str]) -> Applied:
        """Return what ``rows`` mean in ``graph``."""
        listed = tuple(dict.fromkeys(rows))
        known = graph.ancestors(row for row in listed if row in graph)
        return cls(frozenset(known), tuple(row for row in listed if row not in graph))

    def check_known(self) -> None:
        """Check that a file explains every row.

        :raises UnknownRevisionsError: if not.
        """
        if self.unknown:
            raise UnknownRevisionsError(
                f"The database is at {', '.join(map(ascii, self.unknown))}, which no revision file explains. Install"
                " or list the package that it belongs to, or use the release that applied it; nothing was changed.",
                rows=self.unknown,
            )


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
