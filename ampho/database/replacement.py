"""Which revisions a database has because it has all that they replace.

A database that has none of what a revision replaces runs the revision. One that has a part of it first runs the rest,
from the files in the folder ``replaced``, and then counts as having the revision, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ampho.database.journal import Journal
from ampho.history.files import REPLACED
from ampho.history.graph import Graph, reach
from ampho.history.revision import Revision


def take_over(graph: Graph, rows: Sequence[str], journal: Journal) -> tuple[Graph, tuple[str, ...], tuple[str, ...]]:
    """Return the graph for a database, its version rows in that graph, and the revisions that it has taken over.

    The graph has replaced revisions only if the database has a part of what a revision replaces. The revisions that are
    taken over are those that no row names yet.

    :param graph: a graph with revisions that replace others.
    """
    if not graph.names_replaced and all(map(graph.__contains__, rows)):
        return graph, tuple(rows), ()
    history = _History(graph, rows, journal)
    if not history.replaced:
        return graph, tuple(rows), ()
    parts = [*history.parts, *history.stranded]
    whole = graph.with_replaced(parts) if parts else graph
    unknown = [row for row in rows if not whole.has_file(row) and row not in history.replaced]
    known = whole.ancestors(rid for rid in history.applied if rid in whole)
    instead = known.intersection(rid for old in history.replaced for rid in whole.replacements(old))
    if instead <= history.reached and all(row in whole or row in unknown for row in rows):
        return whole, tuple(rows), ()
    return whole, (*unknown, *whole.exact_rows(known)), whole.sort(instead.difference(rows))


@dataclass
class _History:
    """What a database has, according to the files as they are written.

    :ivar reached: the revisions that its rows reach, with and without files.
    :ivar replaced: those of them that have been replaced.
    :ivar applied: all of them, and the revisions whose replaced revisions are all applied.
    """

    graph: Graph
    rows: Sequence[str]
    journal: Journal
    reached: set[str] = field(init=False)
    replaced: frozenset[str] = field(init=False)
    applied: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.reached = reach(self.rows, self._parents)
        self.replaced = frozenset(rid for rid in self.reached if self._is_replaced(rid))
        self.applied = {*self.reached}
        for revision in map(self.graph.__getitem__, self.graph.ids if self.replaced else ()):
            # A revision that depends on one of another package waits for it.
            is_ready = self.applied.issuperset(self.graph.parents(revision.id))
            if self._has_all(revision) and is_ready:
                self.applied.add(revision.id)

    def _is_replaced(self, revision_id: str) -> bool:
        return revision_id not in self.graph and bool(self.graph.replacements(revision_id))

    def _parents(self, revision_id: str) -> Iterable[str]:
        """Return what a revision depends on, in its file or, if its file was deleted, in the journal."""
        if revision_id in self.graph:
            written = self.graph.as_written(revision_id)
            old = [name for name in (*written.down_revisions, *written.depends_on) if self._is_replaced(name)]
            return [*old, *self.graph.row_parents(revision_id)]
        if (file := self._file(revision_id)) is not None:
            return [self.graph.labels.get(name, name) for name in (*file.down_revisions, *file.depends_on)]
        if not self.graph.replacements(revision_id):
            return ()
        if (entry := self.journal.applied(revision_id)) is not None:
            return entry.parents
        # The last one in ``replaces`` depends on the others, unless the journal has only some of them.
        by = [self.graph[each].replaces for each in self.graph.replacements(revision_id)]
        ids = next((ids for ids in by if ids[-1] == revision_id), ())
        return tuple(filter(self.journal.records_applied, ids)) or ids

    def _file(self, revision_id: str) -> Revision | None:
        return self.graph.replaced.by_id.get(revision_id)

    def _has_all(self, revision: Revision) -> bool:
        """Return whether all that a revision replaces is applied, perhaps because all that this replaces is."""
        for old in map(self._file, revision.replaces):
            if old is not None and old.id not in self.applied and self._has_all(old) and self._is_ready(old):
                self.applied.add(old.id)
        return bool(revision.replaces) and self.applied.issuperset(revision.replaces)

    def _is_ready(self, old: Revision) -> bool:
        """Return whether what a replaced revision depends on is applied, as far as that was replaced, too.

        Otherwise, its version row would replace one that tells which other revisions are still to be recorded.
        """
        needed = {new for name in (*old.down_revisions, *old.depends_on) for new in self.graph.replacements(name)}
        return self.applied.issuperset(needed.difference(self.graph.replacements(old.id)))

    def _has_part(self, revision: Revision) -> bool:
        return any(each in self.applied or self._part_of(each) for each in revision.replaces)

    def _part_of(self, revision_id: str) -> bool:
        file = self._file(revision_id)
        return file is not None and self._has_part(file)

    @cached_property
    def started(self) -> tuple[Revision, ...]:
        """The revisions of which the database has a part."""
        pending = (self.graph[rid] for rid in self.graph.ids if rid not in self.applied)
        return tuple(each for each in pending if self._has_part(each))

    @cached_property
    def parts(self) -> tuple[Revision, ...]:
        """What those revisions replace, except for those of which the files of the rest were deleted."""
        found = {each.id: each for revision in self.started if self._is_whole(revision) for each in self._old(revision)}
        return tuple(found.values())

    def _old(self, revision: Revision) -> Iterator[Revision]:
        for revision_id in revision.replaces:
            file = self._file(revision_id)
            yield file or Revision(revision_id, revision.package, f"{REPLACED}/{revision_id}.py")
            if file is not None and revision_id not in self.applied and self._has_part(file):
                yield from self._old(file)

    def _is_whole(self, revision: Revision) -> bool:
        """Return whether the files of all that has to be run are there."""
        return all(self._file(each.id) or each.id in self.applied for each in self._old(revision))

    @property
    def stranded(self) -> Iterator[Revision]:
        """The applied parts of revisions whose other parts have no files, as missing revisions."""
        found = {old: each for each in self.started if not self._is_whole(each) for old in each.replaces}
        for old in self.replaced.intersection(found):
            yield Revision(old, found[old].package, "", is_missing=True)
