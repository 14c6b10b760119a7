"""The revisions of all packages as one graph, and the checks that this graph is valid.

This module does not use a database. A revision depends on its parents and on the revisions in its ``depends_on``. A
parent in another package is treated as a dependency, not as a parent.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from ampho._text import shown_path
from ampho.errors import CycleError, DuplicateRevisionError, HistoryError, MissingRevisionError, PackageNotFoundError
from ampho.history.files import REPLACED
from ampho.history.replaced import Replaced, inverted
from ampho.history.revision import Revision, package_of_id

E = TypeVar("E", bound=HistoryError)
N = TypeVar("N", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Branch:
    """The revisions that the name before ``@`` stands for: those of a package or of a branch label.

    :ivar name: the name as the user typed it.
    :ivar package: the package of the revisions.
    :ivar ids: the ids of the revisions, in the order of the graph.
    """

    name: str
    package: str
    ids: tuple[str, ...]


class Graph:
    """The history of all packages.

    A dependency that has no file becomes a missing revision if its package is not installed, because it may have been
    applied before the package was uninstalled. :meth:`check_files` rejects such a revision.

    :param revisions: the revisions of all packages.
    :param packages: the names of the packages, in the order in which they are listed.
    :param not_installed: the errors about packages that are listed but not installed, by package name.
    :param replaced: the replaced revisions. A parent or dependency among them means the revisions that replace it.
    :param kept: the packages whose version rows stay in a table of their own, each with the name of the table.
    :ivar ids: all ids, in the order in which the revisions run on an empty database; this order depends only on files.
    :ivar labels: the branch labels, each with the id of its revision.
    :raises HistoryError: if the revisions do not form a valid graph.
    """

    def __init__(
        self,
        revisions: Iterable[Revision],
        packages: Sequence[str],
        not_installed: Mapping[str, PackageNotFoundError] | None = None,
        replaced: Replaced | None = None,
        kept: Mapping[str, str] | None = None,
    ) -> None:
        self.packages: tuple[str, ...] = tuple(packages)
        self.not_installed: Mapping[str, PackageNotFoundError] = not_installed or {}
        self.replaced: Replaced = replaced or Replaced()
        self.kept: Mapping[str, str] = kept or {}
        self._revisions = _by_id(revisions)
        self._replacements = inverted(self._revisions.values())
        self._as_written: dict[str, Revision] = {}
        self._names: set[str] = set()
        if self._replacements:
            self._follow_replacements()
        self.labels: Mapping[str, str] = _by_label(self._revisions.values(), self.packages)
        missing = (revision.package for revision in self._revisions.values() if revision.is_missing)
        self._known_names = tuple(dict.fromkeys([*self.packages, *filter(None, missing)]))
        self._by_name = {**self._first_revisions(), **self.labels}
        self._needed_by: dict[str, Revision] = {}
        self._parents = {revision.id: self._resolve_parents(revision) for revision in [*self._revisions.values()]}
        self._parents |= dict.fromkeys(self._needed_by, ())
        self._children = _inverted(self._parents)
        self.ids: tuple[str, ...] = self._sorted()
        groups: dict[str, list[str]] = {name: [] for name in self.packages}
        for revision_id in self.ids:
            groups.setdefault(self._revisions[revision_id].package, []).append(revision_id)
        self._of_package = {name: tuple(ids) for name, ids in groups.items()}

    def __contains__(self, revision_id: object) -> bool:
        return revision_id in self._revisions

    def __getitem__(self, revision_id: str) -> Revision:
        return self._revisions[revision_id]

    def __len__(self) -> int:
        return len(self._revisions)

    def parents(self, revision_id: str) -> tuple[str, ...]:
        """Return the ids of a revision's direct dependencies: first its parents, then the others."""
        return self._parents[revision_id]

    def children(self, revision_id: str) -> tuple[str, ...]:
        """Return the ids of the revisions that depend directly on a revision."""
        return self._children[revision_id]

    def dependencies(self, revision_id: str) -> tuple[str, ...]:
        """Return the ids of a revision's parents in other packages, and of the revisions in its ``depends_on``."""
        revision = self[revision_id]
        own = {parent for parent in revision.down_revisions if self[parent].package == revision.package}
        return tuple(parent for parent in self._parents[revision_id] if parent not in own)

    def of_package(self, package: str) -> tuple[str, ...]:
        """Return the ids of a package's revisions, in the order of the graph."""
        return self._of_package[package]

    def heads(self, package: str) -> tuple[str, ...]:
        """Return the ids of a package's heads."""
        return self._heads[package]

    def parallel_heads(self, package: str) -> tuple[str, ...]:
        """Return the heads of a package that should be merged, if it has several.

        A package may have several branches on purpose, such as OpenStack's ``expand`` and ``contract``. A head that has
        a labeled branch to itself is not parallel to the others.
        """
        heads = self.heads(package)
        if len(heads) <= 1:
            return ()
        alone = self._heads_of_labels(package)
        others = tuple(head for head in heads if head not in alone)
        return heads if len(others) == 1 else others

    def branch_heads(self, package: str) -> Mapping[str, str]:
        """Return the labels of a package's branches by their heads; empty if it has only one head, or parallel ones."""
        is_branched = len(self.heads(package)) > 1 and not self.parallel_heads(package)
        return self._heads_of_labels(package) if is_branched else {}

    def _heads_of_labels(self, package: str) -> Mapping[str, str]:
        """Return the labels by their heads, of labels that have only one."""
        heads, found = self.heads(package), dict[str, str]()
        for branch in map(self.branch, self.labels):
            if branch is not None and branch.package == package:
                tips = set(heads).intersection(branch.ids)
                found |= dict.fromkeys(tips, branch.name) if len(tips) == 1 else {}
        return {head: found[head] for head in heads if head in found}

    @cached_property
    def _heads(self) -> dict[str, tuple[str, ...]]:
        return {name: self.tips(ids) for name, ids in self._of_package.items()}

    def tips(self, ids: Iterable[str]) -> tuple[str, ...]:
        """Return the given ids of one package that no other given revision revises, in the order of the graph."""
        among = set(ids)
        below = {parent for revision_id in among for parent in self._revisions[revision_id].down_revisions}
        return self.sort(among - below)

    def branch(self, name: str) -> Branch | None:
        """Return the branch that a package's name or a label stands for, or None if ``name`` is neither.

        As in Alembic, a label stands for the revision that has it and for the successors of that revision.
        """
        if name in self._of_package:
            return Branch(name, name, self._of_package[name])
        if name not in self.labels:
            return None
        first = self[self.labels[name]]
        return Branch(name, first.package, self.sort({first.id} | self.successors(first.id)))

    def part(self, packages: Collection[str]) -> Graph:
        """Return the graph of some packages, without what they depend on in other packages."""
        others = [rid for rid in self.ids if (name := self[rid].package) and name not in packages]
        if not others and {*self.packages, *self.not_installed} <= set(packages):
            return self
        outside = frozenset(others)
        kept = [self._inside(revision, outside) for revision in self._present() if revision.id not in outside]
        not_installed = {name: error for name, error in self.not_installed.items() if name in packages}
        names = [name for name in self.packages if name in packages]
        return Graph(kept, names, not_installed, self.replaced, self.kept)

    def _with(self, revisions: Iterable[Revision]) -> Graph:
        return Graph(revisions, self.packages, self.not_installed, self.replaced, self.kept)

    def _inside(self, revision: Revision, outside: frozenset[str]) -> Revision:
        parents = self._parents[revision.id]
        if outside.isdisjoint(parents):
            return revision
        return self._with_parents(self[revision.id], [parent for parent in parents if parent not in outside])

    def with_missing(self, revisions: Iterable[Revision]) -> Graph:
        """Return this graph with its missing revisions replaced by the missing revisions of a database.

        :param revisions: the missing revisions. They may depend on each other and on revisions in the graph.
        """
        return self._with([*self._present(), *revisions])

    def with_revision(self, revision: Revision) -> Graph:
        """Return this graph with one more revision.

        :raises HistoryError: if the result is not a valid graph.
        """
        return self._with([*self._present(), revision])

    def _present(self) -> Iterator[Revision]:
        return (self.as_written(each.id) for each in self._revisions.values() if not each.is_missing)

    def with_parents(self, parents: Mapping[str, Sequence[str]]) -> Graph:
        """Return this graph with different parents for some of its revisions.

        :param parents: for each of these revisions, the ids of its parents and dependencies.
        :raises HistoryError: if the result is not a valid graph.
        """
        revisions = (
            self._with_parents(revision, parents[revision.id]) if revision.id in parents else revision
            for revision in self._revisions.values()
        )
        return self._with(revisions)

    def _with_parents(self, revision: Revision, ids: Sequence[str]) -> Revision:
        """Return a revision with different parents. Ids that are dependencies in its file remain dependencies."""
        needed = set(self._parents[revision.id]).difference(revision.down_revisions)
        down_revisions = tuple(parent for parent in ids if parent not in needed)
        return replace(revision, down_revisions=down_revisions, depends_on=tuple(needed.intersection(ids)))

    def has_file(self, revision_id: object) -> bool:
        """Return whether a revision has a file."""
        return revision_id in self._revisions and not self._revisions[str(revision_id)].is_missing

    def is_missing(self, revision_id: str) -> bool:
        """Return whether the file of a revision in this graph is missing."""
        return self._revisions[revision_id].is_missing

    def check_files(self, ids: Iterable[str]) -> None:
        """Raise a ``MissingRevisionError`` if one of the ids is only in the graph because a revision depends on it."""
        for revision_id in ids:
            if revision_id in self._needed_by:
                raise _missing(self._needed_by[revision_id], revision_id)

    def ancestors(self, ids: Iterable[str]) -> set[str]:
        """Return the given ids and the ids of all their dependencies, direct and indirect."""
        return reach(ids, self._parents.get)

    def exact_rows(self, ids: Iterable[str]) -> tuple[str, ...]:
        """Return the version rows for applied revisions: the ids that no other applied revision depends on, sorted."""
        applied, parents = set(ids), self.row_parents if self.has_row_parents else self._parents.__getitem__
        return tuple(sorted(applied - {parent for rid in applied for parent in parents(rid)}))

    def row_parents(self, revision_id: str) -> Sequence[str]:
        """Return the parents and dependencies of a revision that need no version rows while it is applied.

        A revision that replaces others keeps its row if the dependency in the file is on one of these. Otherwise, the
        row would be the same as that of a database that has only a part of them. A revision whose row is in another
        table keeps it, because the tool that uses that table does not know of dependencies between packages.
        """
        parents, written = self._parents[revision_id], self._as_written.get(revision_id)
        if self.kept:
            table = self.kept.get(self[revision_id].package)
            parents = tuple(each for each in parents if self.kept.get(self[each].package) == table)
        if written is None:
            return parents
        names = (*written.down_revisions, *written.depends_on)
        old = (name for name in names if name not in self._revisions)
        instead = {each for name in old for each in self.replacements(name)}.difference(names)
        return [parent for parent in parents if parent not in instead]

    def row_children(self, revision_id: str) -> list[str]:
        """Return the ids of the revisions without which a revision has a version row."""
        return [each for each in self._children[revision_id] if revision_id in self.row_parents(each)]

    def descendants(self, ids: Iterable[str], within: str | None = None) -> set[str]:
        """Return the ids of all other revisions that depend on the given ones, directly or indirectly.

        :param within: a package; if given, only dependencies inside this package are followed.
        """
        start = set(ids)
        return reach(start, (self._children if within is None else self._children_inside(within)).get) - start

    def successors(self, revision_id: str) -> set[str]:
        """Return the ids of the revisions in the same package that revise a revision, directly or indirectly."""
        children = self._children_inside(self[revision_id].package)
        below = {
            parent: [child for child in found if parent in self[child].down_revisions]
            for parent, found in children.items()
        }
        return reach([revision_id], below.get) - {revision_id}

    def after(self, revision_id: str) -> set[str]:
        """Return the ids of a revision's successors, and of the revisions in its package that depend on them.

        A downgrade to the revision reverts all of these.
        """
        return reach(self.successors(revision_id), self._children_inside(self[revision_id].package).get)

    def _children_inside(self, package: str) -> dict[str, list[str]]:
        """Map each id of a package to the ids in the same package that depend on it directly."""
        ids = self._of_package[package]
        return {parent: [child for child in self._children[parent] if self[child].package == package] for parent in ids}

    def sort(self, ids: Iterable[str]) -> tuple[str, ...]:
        """Return the given ids in the order of the graph, each after its dependencies."""
        unsorted = tuple(ids)
        return tuple(sorted(unsorted, key=self._positions.__getitem__)) if len(unsorted) > 1 else unsorted

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {revision_id: position for position, revision_id in enumerate(self.ids)}

    def _first_revisions(self) -> dict[str, str]:
        """Map each package with one first revision to the id of that revision, to resolve names in ``depends_on``."""
        bases: defaultdict[str, list[str]] = defaultdict(list)
        for revision in self._revisions.values():
            if not revision.down_revisions and not revision.is_missing:
                bases[revision.package].append(revision.id)
        return {package: ids[0] for package, ids in bases.items() if len(ids) == 1}

    @property
    def has_replacements(self) -> bool:
        """Whether a revision replaces others."""
        return bool(self._replacements)

    @property
    def has_row_parents(self) -> bool:
        """Whether :meth:`row_parents` may differ from :meth:`parents`."""
        return bool(self._as_written or self.kept)

    @property
    def names_replaced(self) -> bool:
        """Whether the file of a revision names a parent or a dependency that has been replaced."""
        return bool(self._as_written)

    def replacements(self, revision_id: str) -> tuple[str, ...]:
        """Return the ids of the revisions that replace a revision, directly or indirectly; none if nothing does."""
        if not self._replacements:
            return ()
        found: dict[str, None] = {}
        todo = [revision_id]
        for old in todo:
            direct = dict.fromkeys([*self._replacements.get(old, ()), *self.replaced.replacements(old)])
            found |= dict.fromkeys(each for each in direct if each in self._revisions)
            todo += [each for each in direct if each not in self._revisions]
        return tuple(found)

    def is_recorded(self, revision_id: str) -> bool:
        """Return whether a revision is only recorded, not run, because what it replaces is in the graph."""
        replaces = self._revisions[revision_id].replaces
        return any(each in self._revisions and self._revisions[each].is_replaced for each in replaces)

    def as_written(self, revision_id: str) -> Revision:
        """Return a revision with the parents and dependencies in its file, which may be replaced."""
        return self._as_written.get(revision_id, self._revisions[revision_id])

    def with_replaced(self, revisions: Iterable[Revision]) -> Graph:
        """Return this graph with replaced revisions, which those that replace them depend on.

        :raises HistoryError: if the result is not a valid graph.
        """
        taken = {*self.packages, *self.labels}
        nodes = [replace(each, labels=tuple(name for name in each.labels if name not in taken)) for each in revisions]
        return self._with([*self._present(), *nodes])

    def _follow_replacements(self) -> None:
        """Replace parents and dependencies that have been replaced."""
        self._names = {*self.packages, *(label for each in self._revisions.values() for label in each.labels)}
        old = {rid for rid, each in self._revisions.items() if each.is_replaced or each.is_missing}
        for revision in [*self._revisions.values()]:
            present = self._revisions.keys() & revision.replaces
            for each in present - old:
                raise _still_present(revision, self._revisions[each])
            followed = self._following(revision, present)
            if followed != revision:
                self._as_written[revision.id] = revision
                self._revisions[revision.id] = followed

    def _following(self, revision: Revision, replaced: AbstractSet[str]) -> Revision:
        """Return a revision whose parents and dependencies are in the graph.

        :param replaced: the revisions that it replaces and that are in the graph.
        """
        last = replaced - {parent for rid in replaced for parent in self.as_written(rid).down_revisions}
        tips = sorted(each for each in last if self._revisions[each].package == revision.package)
        others = sorted(last - {*tips})
        return replace(
            revision,
            down_revisions=tuple(dict.fromkeys([*self._standing(revision.down_revisions, revision), *tips])),
            depends_on=tuple(dict.fromkeys([*self._standing(revision.depends_on, revision), *others])),
        )

    def _standing(self, names: Iterable[str], revision: Revision) -> Iterator[str]:
        """Yield what the parents or dependencies of a revision mean in this graph."""
        for name in names:
            if name in self._revisions:
                yield name
                continue
            found = [each for each in self.replacements(name) if revision.id not in self._revisions[each].replaces]
            later = reach([each for old in found for each in self.replacements(old)], self.replacements)
            nearest = [each for each in found if each not in later]
            if nearest or name in self._names or not revision.is_replaced:
                yield from nearest or [name]

    def _resolve_parents(self, revision: Revision) -> tuple[str, ...]:
        """Return the ids in ``down_revision`` and ``depends_on``. As in Alembic, the latter may also contain labels."""
        if not revision.depends_on and all(map(self._revisions.__contains__, revision.down_revisions)):
            return revision.down_revisions
        needed = (name if name in self._revisions else self._by_name.get(name, name) for name in revision.depends_on)
        parents = tuple(dict.fromkeys([*revision.down_revisions, *needed]))
        for parent in parents:
            if parent not in self._revisions:
                package = parent if parent in self.packages else package_of_id(parent, self._known_names)
                if parent in revision.down_revisions or package in self.packages:
                    raise _missing(revision, parent)
                self._revisions[parent] = Revision(parent, package, "", is_missing=True)
                self._needed_by[parent] = revision
        return parents

    def _sorted(self) -> tuple[str, ...]:
        """Return all ids, each after its dependencies, and otherwise the oldest first.

        An empty database thus goes through the same states as the databases that were migrated while the files were
        written. Because clocks differ, a revision is never treated as older than its dependencies. Revisions of the
        same age are sorted by package, in the order in which the packages are listed, and then by id.
        """
        rank = {name: position for position, name in enumerate(self.packages)}
        waiting = {revision_id: len(parents) for revision_id, parents in self._parents.items()}
        times = self._times()

        def key(revision_id: str) -> tuple[float, int, str]:
            time = max([times[revision_id], *map(times.__getitem__, self._parents[revision_id])])
            times[revision_id] = time
            return time, rank.get(self[revision_id].package, len(rank)), revision_id

        ready = [key(revision_id) for revision_id, count in waiting.items() if not count]
        heapq.heapify(ready)
        order: list[str] = []
        while ready:
            revision_id = heapq.heappop(ready)[-1]
            order.append(revision_id)
            for child in self._children[revision_id]:
                waiting[child] -= 1
                if not waiting[child]:
                    heapq.heappush(ready, key(child))
        if len(order) < len(waiting):
            raise self._cycle(set(waiting).difference(order))
        return tuple(order)

    def _times(self) -> dict[str, float]:
        """Return the time at which each revision was written.

        A revision without a date gets the time of the oldest revision that depends on it. If none of those has a date,
        it gets the time of the oldest revision of its package. A package without any dates gets the latest time of the
        packages that are listed before it.
        """
        times = {rid: time for rid, revision in self._revisions.items() if (time := revision.time) is not None}
        if len(times) == len(self._revisions):
            return times
        for revision_id in sorted(times, key=times.__getitem__):
            todo = [*self._parents[revision_id]]
            while todo:
                parent = todo.pop()
                if parent not in times:
                    times[parent] = times[revision_id]
                    todo += self._parents[parent]
        earliest = self._earliest(times)
        return {rid: times.get(rid, earliest[revision.package]) for rid, revision in self._revisions.items()}

    def _earliest(self, times: Mapping[str, float]) -> dict[str, float]:
        """Map each package to its earliest time. A package without times gets the latest time of those before it."""
        of_package: dict[str, list[float]] = {name: [] for name in self.packages}
        for revision_id in sorted(self._revisions):
            known = of_package.setdefault(self[revision_id].package, [])
            if revision_id in times:
                known.append(times[revision_id])
        earliest: dict[str, float] = {}
        latest = 0.0
        for name, known in of_package.items():
            earliest[name] = min(known, default=latest)
            latest = max([latest, *known])
        return earliest

    def _cycle(self, unordered: set[str]) -> CycleError:
        """Return an error about one of the cycles among revisions that cannot be sorted."""
        path = [min(unordered)]
        while path[-1] not in path[:-1]:
            path.append(min(parent for parent in self._parents[path[-1]] if parent in unordered))
        cycle = path[path.index(path[-1]) :]
        files = ", ".join(shown_path(self[revision_id].path) for revision_id in cycle[:-1])
        return CycleError(
            f"Revisions depend on each other in a cycle: {' -> '.join(cycle)}. Remove one dependency in {files}.",
            revisions=cycle[:-1],
        )


def _by_id(revisions: Iterable[Revision]) -> dict[str, Revision]:
    by_id: dict[str, Revision] = {}
    for revision in revisions:
        other = by_id.setdefault(revision.id, revision)
        if other is not revision:
            message = (
                f"Two files have the id {revision.id}: {shown_path(other.path)} of {other.package} and"
                f" {shown_path(revision.path)} of {revision.package}. Change the id of one of them, in its file"
                " and in the files that refer to it."
            )
            raise _error(DuplicateRevisionError, revision, message)
    return by_id


def _by_label(revisions: Iterable[Revision], packages: Sequence[str]) -> dict[str, str]:
    labels: dict[str, Revision] = {}
    for revision in revisions:
        for label in revision.labels:
            other = labels.setdefault(label, revision)
            if other is not revision:
                what = f"but {_located(other)} has it, too. Remove the label from one of them"
            elif label in packages and label != revision.package:
                what = f"which is the name of the package {label}. Remove the label"
            else:
                continue
            message = f"{_located(revision)} has the branch label {label}, {what}."
            raise _error(DuplicateRevisionError, revision, message)
    return {label: revision.id for label, revision in labels.items()}


def _still_present(revision: Revision, old: Revision) -> DuplicateRevisionError:
    message = (
        f"{_located(revision)} replaces {old.id}, but that is a revision of {old.package} ({shown_path(old.path)})."
        f" Move its file to the folder {REPLACED} beside versions, or remove it from replaces. If 'ampho db-squash' or"
        " 'ampho db-adopt' was interrupted, run it again."
    )
    return _error(DuplicateRevisionError, revision, message)


def _missing(revision: Revision, parent: str) -> MissingRevisionError:
    message = (
        f"{_located(revision)} depends on {parent}, which no revision file defines. Restore its file, list its"
        " package, or correct the dependency."
    )
    return _error(MissingRevisionError, revision, message)


def _located(revision: Revision) -> str:
    return f"{revision.id} of {revision.package} ({shown_path(revision.path)})"


def _error(kind: type[E], revision: Revision, message: str) -> E:
    return kind(message, package=revision.package, revision=revision.id, path=revision.path)


def _inverted(parents: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    children: dict[str, list[str]] = {revision_id: [] for revision_id in parents}
    for revision_id, ids in parents.items():
        for parent in ids:
            children[parent].append(revision_id)
    return {parent: tuple(found) for parent, found in children.items()}


def reach(start: Iterable[N], neighbors: Callable[[N], Iterable[N] | None]) -> set[N]:
    """Return the given ids and all ids that can be reached from them."""
    found = set(start)
    todo = list(found)
    while todo:
        for neighbor in neighbors(todo.pop()) or ():
            if neighbor not in found:
                found.add(neighbor)
                todo.append(neighbor)
    return found
