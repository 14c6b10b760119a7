"""Where a database is, counted: what ``db-status`` shows. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from ampho.database.applied import Applied
from ampho.database.journal import Entry, Journal
from ampho.history.graph import Graph
from ampho.history.specifier import find_branch
from ampho.status.deployment import Status
from ampho.status.state import Mark, MissingState, marks, missing_states


@dataclass(frozen=True, slots=True)
class RevisionStatus:
    """How a database stands to one revision.

    :ivar message: the first paragraph of its docstring; empty where no file has it.
    :ivar is_head: whether it is a head of its package.
    :ivar when: when it was applied, as far as that is recorded.
    """

    id: str
    package: str
    message: str
    mark: Mark
    is_head: bool
    when: datetime | None = None


@dataclass(frozen=True, slots=True)
class PackageStatus:
    """Where a database is in the history of one package, in numbers.

    :ivar package: the package's name; empty where nobody knows the package of what is missing.
    :ivar applied: how many of the revisions that have files are applied.
    :ivar implied: on how many of those applied revisions of other packages stand: they would have come with those, and
        are taken back only with them.
    :ivar pending: how many revisions are not applied.
    :ivar missing: how many applied revisions no file has; without a journal, the last ones only.
    :ivar heads: ids of the heads; several are a conflict.
    :ivar last: the id of the revision applied last; None if there is none, or nothing records which of several.
    :ivar when: when that was, as far as it is recorded.
    :ivar revisions: each revision, in order, if that was asked for.
    :ivar remedy: how it gets its first revision, in words; empty where it has one.
    """

    package: str
    applied: int
    implied: int
    pending: int
    missing: int
    heads: tuple[str, ...]
    last: str | None
    when: datetime | None
    revisions: tuple[RevisionStatus, ...] = ()
    remedy: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether it has no revisions: neither files, nor anything applied."""
        return not (self.applied or self.pending or self.missing)

    @property
    def is_in_conflict(self) -> bool:
        """Whether it has several heads."""
        return len(self.heads) > 1


@dataclass(frozen=True, slots=True)
class DatabaseStatus:
    """Where a database is: one record per package, and what is wrong.

    :ivar packages: the records, in the order of the packages, and then those of packages that are gone.
    :ivar missing: what is applied and no file has, a record per package.
    :ivar uncertain: ids of the revisions that are counted as pending and may be applied.
    :ivar corrupt: version rows that cannot be a revision, as text.
    :ivar repeated: version rows that are there more than once.
    :ivar unfinished: what was left half done, where the database could not roll it back.
    :ivar diverged: ids of the revisions that count as applied and were never run here.
    :ivar edited: ids of the applied revisions whose files are not those that were run.
    :ivar edited_remedy: what to do about those, in words; empty where there are none.
    :ivar diverged_remedy: what to do about what has diverged.
    """

    packages: tuple[PackageStatus, ...]
    missing: tuple[MissingState, ...] = ()
    uncertain: tuple[str, ...] = ()
    corrupt: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    unfinished: tuple[Entry, ...] = ()
    diverged: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()
    edited_remedy: str = ""
    diverged_remedy: str = ""

    def __iter__(self) -> Iterator[PackageStatus]:
        return iter(self.packages)

    def __len__(self) -> int:
        return len(self.packages)

    def __getitem__(self, package: str) -> PackageStatus:
        for status in self.packages:
            if status.package == package:
                return status
        raise KeyError(package)

    @property
    def pending(self) -> int:
        """How many revisions are not applied."""
        return sum(package.pending for package in self.packages)

    @property
    def status(self) -> Status:
        """The worst of it, as ``db-check --deploy`` finds it; a row that does no harm is left out."""
        found = {
            Status.CORRUPT: self.corrupt or self.repeated,
            Status.INTERRUPTED: self.unfinished,
            Status.DIVERGED: self.diverged,
            Status.MISSING: [missing for missing in self.missing if not missing.is_ahead],
            Status.AHEAD: self.missing,
            Status.EDITED: self.edited,
            Status.BEHIND: self.pending,
        }
        return next((status for status, what in found.items() if what), Status.UP_TO_DATE)


def database_status(
    graph: Graph,
    applied: Applied,
    journal: Journal,
    *,
    packages: Sequence[str] = (),
    all: bool = False,  # noqa: A002 (the option's name)
    beginning: Callable[[str], str] = lambda package: "",
) -> DatabaseStatus:
    """Return where a database is.

    :param graph: the revisions of the files.
    :param applied: what its version rows mean.
    :param journal: what was done to it.
    :param packages: the packages that are looked at, which may be gone; by default all.
    :param all: whether each revision is told of.
    :param beginning: says of a package how it gets its first revision.
    :raises SpecifierError: if one of the packages is none.
    """
    gone = [missing.package for missing in missing_states(applied) if missing.package not in graph.packages]
    chosen = [_package(applied, name) for name in packages] or [*graph.packages, *gone]
    among = set(chosen)

    def own(ids: Iterable[str]) -> tuple[str, ...]:
        return tuple(rid for rid in ids if applied.package(rid) in among)

    edited = own(applied.edited(journal))
    diverged = own(applied.diverged(journal))
    found = DatabaseStatus(
        packages=(),
        missing=tuple(missing for missing in missing_states(applied) if missing.package in among),
        uncertain=own(graph.sort(applied.uncertain)),
        corrupt=applied.corrupt,
        repeated=applied.repeated,
        unfinished=tuple(entry for entry in journal.half_done if not packages or entry.package in among),
        diverged=diverged,
        edited=edited,
        edited_remedy=applied.edited_remedy(edited) if edited else "",
        diverged_remedy=applied.diverged_remedy(diverged) if diverged else "",
    )
    mark = marks(applied, journal, found.edited, found.diverged) if all else None
    count = _Count(graph, applied, journal, _implied(applied), mark)
    counted = map(count, dict.fromkeys(chosen))
    return replace(
        found, packages=tuple(replace(one, remedy=beginning(one.package)) if one.is_empty else one for one in counted)
    )


def _package(applied: Applied, name: str) -> str:
    return find_branch(applied.graph, name, name).package


def _implied(applied: Applied) -> frozenset[str]:
    """Return the applied revisions on which applied ones of other packages stand, at whatever distance."""
    graph, known = applied.graph, applied.known
    found: set[str] = set()
    for rid in reversed(graph.ids):
        package = applied.package(rid)
        if rid in known and any(
            child in known and (child in found or applied.package(child) != package) for child in graph.children(rid)
        ):
            found.add(rid)
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class _Count:
    """Counts package by package, from what was found of all."""

    graph: Graph
    applied: Applied
    journal: Journal
    implied: frozenset[str]
    mark: Callable[[str], Mark] | None

    def __call__(self, package: str) -> PackageStatus:
        """Return the status of a package."""
        applied = self.applied
        ids = applied.graph.of_package(package)
        known = [rid for rid in ids if rid in applied.known]
        present = [rid for rid in known if rid not in applied.missing]
        heads = self.graph.heads(package) if package in self.graph.packages else ()
        last = self._last(heads if len(present) == len(ids) else applied.graph.tips(known))
        return PackageStatus(
            package,
            applied=len(present),
            implied=sum(rid in self.implied for rid in present),
            pending=sum(map(applied.graph.has_file, ids)) - len(present),
            missing=len(known) - len(present),
            heads=heads,
            last=last,
            when=self._when(last),
            revisions=tuple(self._revisions(ids, heads)),
        )

    def _last(self, tips: Sequence[str]) -> str | None:
        """Return which of the last applied revisions was the last one: where there are several, the journal knows."""
        if len(tips) == 1:
            return tips[0]
        if not tips or not all(map(self.journal.affirms, tips)):
            return None
        return max(tips, key=self.journal.positions.__getitem__)

    def _when(self, revision_id: str | None) -> datetime | None:
        entry = self.journal.applied(revision_id) if revision_id is not None else None
        return (entry.finished or entry.started) if entry is not None else None

    def _revisions(self, ids: Iterable[str], heads: Sequence[str]) -> Iterator[RevisionStatus]:
        if self.mark is None:
            return
        for rid in ids:
            is_applied, revision = rid in self.applied.known, self.applied.graph[rid]
            if is_applied or self.applied.graph.has_file(rid):
                when = self._when(rid) if is_applied else None
                yield RevisionStatus(rid, revision.package, revision.message, self.mark(rid), rid in heads, when)
