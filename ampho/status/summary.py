"""The result of ``db-status``: how many revisions of each package are applied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from ampho.database.journal import Journal
from ampho.database.version_rows import Applied
from ampho.history.graph import Graph
from ampho.history.phases import Phases, Placement
from ampho.history.revision import Phase
from ampho.history.specifier import find_branch
from ampho.settings import VERSION_TABLES
from ampho.status.deployment import Status
from ampho.status.phases import Schedule
from ampho.status.state import DatabaseState, Mark, marks, missing_states


@dataclass(frozen=True, slots=True)
class RevisionStatus:
    """A revision and its state in a database.

    :ivar id: the id of the revision.
    :ivar package: the name of its package; empty if it is not known.
    :ivar message: the first paragraph of the docstring of its file, as one line; empty if it has no file.
    :ivar mark: the state of the revision.
    :ivar is_head: whether it is a head of its package.
    :ivar when: when it was applied; None if that is not recorded.
    :ivar phase: its phase, if it is pending; otherwise, None.
    :ivar is_phase_inferred: whether the phase was inferred from what the revision does.
    """

    id: str
    package: str
    message: str
    mark: Mark
    is_head: bool
    when: datetime | None = None
    phase: Phase | None = None
    is_phase_inferred: bool = False


@dataclass(frozen=True, slots=True)
class PackageStatus:
    """How many revisions of a package are applied, pending, and missing.

    :ivar package: the name of the package; empty for missing revisions whose package is not known.
    :ivar applied: the number of applied revisions that have files.
    :ivar implied: the number of applied revisions that applied revisions of other packages depend on, directly or
        indirectly. Reverting them also reverts the revisions of the other packages.
    :ivar pending: the number of pending revisions.
    :ivar post: how many of these are in phase ``post``.
    :ivar missing: the number of missing revisions; without a journal, only the last ones are counted.
    :ivar heads: the ids of the heads; several heads are a conflict, unless each is that of a labeled branch.
    :ivar branches: the labels of these branches, in the order of the heads; empty if the package has only one head, or
        if its heads are in conflict.
    :ivar last: the id of the revision that was applied last; None if there is none, or if that is not recorded.
    :ivar when: when that revision was applied; None if that is not recorded.
    :ivar revisions: the revisions, in order; empty unless requested with ``--all``.
    :ivar remedy: how to write the first revision; empty if the package has revisions.
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
    branches: tuple[str, ...] = ()
    post: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether the package has no revisions, either in files or in the database."""
        return not (self.applied or self.pending or self.missing)

    @property
    def is_in_conflict(self) -> bool:
        """Whether the package has several heads that are not those of labeled branches."""
        return len(self.heads) > 1 and not self.branches


@dataclass(frozen=True, slots=True)
class DatabaseStatus(DatabaseState[PackageStatus]):
    """The number of applied and pending revisions of each package, and the problems of the database.

    It has all attributes of :class:`ampho.status.state.DatabaseState`.

    :ivar edited: the ids of applied revisions whose files were changed after they ran.
    :ivar unread_tables: the tables that look like version tables, but are not those of the app or of a package.
    :ivar unread_tables_remedy: what to do about these tables; empty if there are none.
    :ivar plugins: the plug-ins that are installed and not enabled, each with its distribution.
    """

    edited: tuple[str, ...] = ()
    unread_tables: tuple[str, ...] = ()
    unread_tables_remedy: str = ""
    plugins: tuple[str, ...] = ()

    @property
    def pending(self) -> int:
        """The number of pending revisions."""
        return sum(package.pending for package in self.packages)

    @property
    def post(self) -> int:
        """The number of pending revisions in phase ``post``."""
        return sum(package.post for package in self.packages)

    @property
    def status(self) -> Status:
        """The status of the worst problem, as ``db-check --deploy`` reports it. Superfluous rows are ignored."""
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
    phases: Phases | None = None,
) -> DatabaseStatus:
    """Return the status of a database.

    :param graph: the revisions that have files.
    :param applied: the revisions that are applied to the database.
    :param journal: the journal of the database.
    :param packages: the packages to report, including packages that are not listed; by default, all packages.
    :param all: whether to report each revision.
    :param beginning: a function that returns instructions for writing the first revision of a package.
    :param phases: tells the phases of pending revisions.
    :raises SpecifierError: if one of ``packages`` is not a package.
    """
    missing = [each.package for each in missing_states(applied) if each.package not in graph.packages]
    chosen = [find_branch(applied.graph, name, name).package for name in packages] or [*graph.packages, *missing]
    found = DatabaseStatus.of((), applied, journal, set(chosen) if packages else None, compare_files=True)
    mark = marks(applied, journal, found.edited, found.diverged) if all else None
    pending = [rid for rid in applied.graph.ids if rid not in applied.known]
    placements = Schedule.of(applied, pending, phases).placements if phases and pending else {}
    counter = _Counter(graph, applied, journal, _implied(applied), mark, placements)
    counted = map(counter.count, dict.fromkeys(chosen))
    return replace(
        found, packages=tuple(replace(one, remedy=beginning(one.package)) if one.is_empty else one for one in counted)
    )


def unread_remedy(tables: Mapping[str, str]) -> str:
    """Return what to do about tables that look like version tables.

    :param tables: the packages that the tables may belong to, by table; an empty string if nothing is known.
    """
    example = ", ".join(f'"{package or "PACKAGE"}": "{name}"' for name, package in tables.items())
    it, belongs = ("it", "belongs to a package") if len(tables) == 1 else ("they", "belong to packages")
    return f"if {it} {belongs}, set {VERSION_TABLES} = {{{example}}}"


def _implied(applied: Applied) -> frozenset[str]:
    """Return the applied revisions that applied revisions of other packages depend on, directly or indirectly."""
    graph, known = applied.graph, applied.known
    found: set[str] = set()
    for rid in reversed(graph.sort(known)):
        package, children = applied.package(rid), known.intersection(graph.children(rid))
        if any(child in found or applied.package(child) != package for child in children):
            found.add(rid)
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class _Counter:
    """Counts the revisions of packages, one package at a time."""

    graph: Graph
    applied: Applied
    journal: Journal
    implied: frozenset[str]
    mark: Callable[[str], Mark] | None
    placements: Mapping[str, Placement]

    def count(self, package: str) -> PackageStatus:
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
            branches=tuple(self.graph.branch_heads(package).values()) if len(heads) > 1 else (),
            post=len([rid for rid in ids if rid in self.placements and self.placements[rid].phase is Phase.POST]),
        )

    def _last(self, tips: Sequence[str]) -> str | None:
        """Return the tip that was applied last; None if there are no tips, or if the journal lacks one of them."""
        if len(tips) == 1:
            return tips[0]
        recorded = tips and all(map(self.journal.records_applied, tips))
        return max(tips, key=self.journal.positions.__getitem__) if recorded else None

    def _when(self, revision_id: str | None) -> datetime | None:
        entry = self.journal.applied(revision_id) if revision_id is not None else None
        return (entry.finished or entry.started) if entry is not None else None

    def _revisions(self, ids: Iterable[str], heads: Sequence[str]) -> Iterator[RevisionStatus]:
        if self.mark is None:
            return
        for rid in ids:
            is_applied, revision = rid in self.applied.known, self.applied.graph[rid]
            if is_applied or not revision.is_missing:
                when = self._when(rid) if is_applied else None
                placed, mark = self.placements.get(rid), self.mark(rid)
                phase, is_inferred = (placed.phase, placed.is_inferred) if placed is not None else (None, False)
                is_head = rid in heads
                yield RevisionStatus(rid, revision.package, revision.message, mark, is_head, when, phase, is_inferred)
