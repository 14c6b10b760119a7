"""The results of ``db-show`` and ``db-current``: the existing revisions, and the applied revisions."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar

from ampho.database.journal import Backfill, Entry, Journal
from ampho.database.version_rows import Applied
from ampho.errors import SpecifierError
from ampho.history.graph import Branch, Graph
from ampho.history.revision import Phase, id_prefix
from ampho.history.specifier import Specifier, check_one_head, find_branch, find_target, parse
from ampho.settings import DEFAULT_DATABASE
from ampho.status import advice


class Mark(StrEnum):
    """The state of a revision in a database."""

    APPLIED = "applied"
    EDITED = "edited"
    """The revision is applied, and its file was changed after it ran."""
    DIVERGED = "diverged"
    """The revision counts as applied because revisions that depend on it are applied, but no record says it ran."""
    PENDING = "pending"
    MISSING = "missing"
    """The revision is applied, and has no file."""
    UNFINISHED = "unfinished"
    """The revision was interrupted or failed halfway, and the database could not roll it back."""
    UNCERTAIN = "uncertain"
    """The revision may be applied, because no record says what a missing revision depends on."""
    ABSENT = "absent"
    """The revision has no file and is not known to be applied, but another revision depends on it."""
    UNKNOWN = "unknown"
    """Ampho did not look at a database."""


@dataclass(frozen=True, slots=True)
class RevisionRecord:
    """A revision and its connections to other revisions.

    :ivar id: the id of the revision.
    :ivar package: the name of its package.
    :ivar message: the first paragraph of the docstring of its file, as one line.
    :ivar doc: the docstring of its file.
    :ivar file: the path of its file; see :attr:`path`.
    :ivar down_revisions: the ids of its parents.
    :ivar depends_on: the ids of its other dependencies: those in ``depends_on``, and parents in other packages.
    :ivar required_by: the ids of the revisions that depend on it directly.
    :ivar labels: the branch labels in its file.
    :ivar is_head: whether it is a head of its package.
    :ivar branch: the label of the branch whose head it is, if each head of its package has a labeled branch.
    :ivar phase: the phase in its file; None if the file has none.
    """

    id: str
    package: str
    message: str
    doc: str
    file: str
    down_revisions: tuple[str, ...]
    depends_on: tuple[str, ...]
    required_by: tuple[str, ...]
    labels: tuple[str, ...]
    is_head: bool
    branch: str = ""
    phase: Phase | None = None

    @property
    def path(self) -> Path:
        """The path of the revision's file."""
        return Path(self.file)


@dataclass(frozen=True, slots=True)
class PackageState:
    """The applied and the pending revisions of a package.

    :ivar package: the name of the package.
    :ivar applied: the applied revisions, in order.
    :ivar pending: the pending revisions, in order.
    :ivar current: the ids of the last applied revisions: one, none, or several if the package has several heads.
    """

    package: str
    applied: tuple[RevisionRecord, ...]
    pending: tuple[RevisionRecord, ...]
    current: tuple[str, ...]

    @property
    def is_up_to_date(self) -> bool:
        """Whether all revisions of the package that have files are applied."""
        return not self.pending


@dataclass(frozen=True, slots=True)
class MissingState:
    """The missing revisions of a package.

    :ivar package: the name of the package; empty if neither the journal nor the ids contain it.
    :ivar revisions: the ids of the revisions, in order; without a journal, only the last ones.
    :ivar is_ahead: whether the package is listed and installed, in which case the database is ahead of its files.
    :ivar means: why the files may be missing, and what to do about it.
    """

    package: str
    revisions: tuple[str, ...]
    is_ahead: bool
    means: str = ""

    def named(self, name: str) -> tuple[str, ...]:
        """Return the ids of the revisions that ``db-forget`` forgets when called with ``name``.

        :param name: the id of one of the revisions, or the package if it is not installed or not listed.
        """
        if name in self.revisions:
            return (name,)
        is_it = bool(self.package) and not self.is_ahead and id_prefix(self.package) == id_prefix(name)
        return self.revisions if is_it else ()


class _OfPackage(Protocol):
    @property
    def package(self) -> str: ...


P = TypeVar("P", bound=_OfPackage)


@dataclass(frozen=True, slots=True)
class DatabaseState(Generic[P]):
    """The records of the packages, and the problems of the database.

    It is the base of :class:`ampho.CurrentState` and :class:`ampho.DatabaseStatus`.

    :ivar packages: a record for each package, in order.
    :ivar missing: a record for each package with missing revisions.
    :ivar uncertain: the ids of revisions that are shown as pending but may be applied, because no record says what a
        missing revision depends on.
    :ivar corrupt: the version rows that cannot be revisions, as text.
    :ivar repeated: the version rows that occur more than once.
    :ivar unfinished: the journal's entries of unfinished revisions.
    :ivar backfills: the backfills that are running, or that the next run continues.
    :ivar diverged: the ids of revisions that count as applied, although no record says that they ran.
    :ivar edited: the ids of applied revisions whose files were changed after they ran; None if the files were not
        compared, for example without ``-v``.
    :ivar edited_remedy: what to do about the edited revisions; empty if there are none.
    :ivar diverged_remedy: what to do about the diverged revisions; empty if there are none.
    :ivar database: the name of the database; empty for the combined result of several databases.
    :ivar databases: the results of the single databases, by name, if this is the combined result of several.
    """

    packages: tuple[P, ...]
    missing: tuple[MissingState, ...] = ()
    uncertain: tuple[str, ...] = ()
    corrupt: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    unfinished: tuple[Entry, ...] = ()
    backfills: tuple[Backfill, ...] = ()
    diverged: tuple[str, ...] = ()
    edited: tuple[str, ...] | None = None
    edited_remedy: str = ""
    diverged_remedy: str = ""
    database: str = DEFAULT_DATABASE
    databases: Mapping[str, Self] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(
        cls,
        packages: tuple[P, ...],
        applied: Applied,
        journal: Journal,
        among: Container[str] | None,
        *,
        compare_files: bool,
    ) -> Self:
        """Return the state of a database.

        :param packages: the records of the packages.
        :param among: the packages whose problems are reported; None for all.
        :param compare_files: whether to compare the files of applied revisions with those that ran.
        """

        def own(ids: Iterable[str]) -> tuple[str, ...]:
            return tuple(rid for rid in ids if among is None or applied.package(rid) in among)

        edited = own(applied.edited(journal)) if compare_files else None
        diverged = own(applied.diverged(journal))
        return cls(
            packages,
            missing=tuple(each for each in missing_states(applied) if among is None or each.package in among),
            uncertain=own(applied.graph.sort(applied.uncertain)),
            corrupt=applied.corrupt,
            repeated=applied.repeated,
            unfinished=tuple(each for each in journal.interrupted if among is None or each.package in among),
            backfills=journal.backfills_of(among),
            diverged=diverged,
            edited=edited,
            edited_remedy=advice.edited_remedy(applied, edited) if edited else "",
            diverged_remedy=advice.diverged_remedy(applied, diverged) if diverged else "",
        )

    def __iter__(self) -> Iterator[P]:
        return iter(self.packages)

    def __len__(self) -> int:
        return len(self.packages)

    def __getitem__(self, package: str) -> P:
        for record in self.packages:
            if record.package == package:
                return record
        raise KeyError(package)


@dataclass(frozen=True, slots=True)
class CurrentState(DatabaseState[PackageState]):
    """The applied and the pending revisions of each package, and the problems of the database.

    It has all attributes of :class:`ampho.status.state.DatabaseState`.

    :ivar unknown: the version rows whose revisions have no files.
    """

    unknown: tuple[str, ...] = ()


def record(graph: Graph, revision_id: str) -> RevisionRecord:
    """Return the record of one revision."""
    revision = graph[revision_id]
    is_head = revision_id in graph.heads(revision.package)
    return RevisionRecord(
        id=revision.id,
        package=revision.package,
        message=revision.message,
        doc=revision.doc,
        file=revision.file,
        down_revisions=revision.down_revisions,
        depends_on=graph.dependencies(revision_id),
        required_by=graph.sort(graph.children(revision_id)),
        labels=revision.labels,
        is_head=is_head,
        branch=graph.branch_heads(revision.package).get(revision_id, "") if is_head else "",
        phase=revision.phase,
    )


def current_state(
    graph: Graph, rows: Iterable[str], journal: Journal | None = None, *, compare_files: bool = False
) -> CurrentState:
    """Return the state of a database with the given version rows.

    :param journal: the journal of the database.
    :param compare_files: whether to compare the files of applied revisions with those that ran.
    """
    journal = journal or Journal()
    if compare_files:
        journal.load()
    applied = Applied.from_rows(graph, rows, journal)
    whole = applied.graph if graph.has_replacements else graph
    packages = tuple(_package_state(whole, package, applied) for package in graph.packages)
    return replace(
        CurrentState.of(packages, applied, journal, None, compare_files=compare_files), unknown=applied.unknown
    )


def marks(applied: Applied, journal: Journal, edited: Iterable[str], diverged: Iterable[str]) -> Callable[[str], Mark]:
    """Return a function that returns the mark of a revision, or the worst mark if several apply.

    :param edited: the result of :meth:`Applied.edited`.
    :param diverged: the result of :meth:`Applied.diverged`.
    """
    worst = {
        **dict.fromkeys(applied.uncertain, Mark.UNCERTAIN),
        **dict.fromkeys(edited, Mark.EDITED),
        **dict.fromkeys(diverged, Mark.DIVERGED),
        **dict.fromkeys(applied.missing, Mark.MISSING),
        **{entry.revision: Mark.UNFINISHED for entry in journal.interrupted},
    }

    def mark(revision_id: str) -> Mark:
        if revision_id in worst:
            return worst[revision_id]
        if revision_id in applied.known:
            return Mark.APPLIED
        return Mark.ABSENT if applied.graph.is_missing(revision_id) else Mark.PENDING

    return mark


def missing_states(applied: Applied) -> Iterator[MissingState]:
    """Yield a record for each package with missing revisions."""
    ids = applied.graph.sort(applied.missing)
    for package in sorted(set(map(applied.package, ids))):
        own = tuple(revision_id for revision_id in ids if applied.package(revision_id) == package)
        yield MissingState(package, own, package in applied.ahead, advice.explain_missing(applied, own))


def _package_state(graph: Graph, package: str, state: Applied) -> PackageState:
    ids = [revision_id for revision_id in graph.of_package(package) if graph.has_file(revision_id)]
    known, applied = state.known, [revision_id for revision_id in ids if revision_id in state.known]
    return PackageState(
        package,
        tuple(record(graph, revision_id) for revision_id in applied),
        tuple(record(graph, revision_id) for revision_id in ids if revision_id not in known),
        graph.tips(applied),
    )


def show(graph: Graph, specifier: str | None = None) -> tuple[RevisionRecord, ...]:
    """Return the revisions that a specifier names.

    :param specifier: a package or label, an id or a unique prefix of an id, ``heads``, or ``PACKAGE@head(s)``; None for
        all revisions.
    :raises SpecifierError: if the specifier names no revision.
    """
    if specifier is None:
        return tuple(record(graph, rid) for name in graph.packages for rid in graph.of_package(name))
    spec = parse(specifier)
    match spec:
        case Specifier(branch=None, target="heads"):
            return tuple(record(graph, rid) for name in graph.packages for rid in graph.heads(name))
        case Specifier(branch=str(name), target="head" | "heads"):
            branch = find_branch(graph, name, specifier)
            if spec.target == "head":
                check_one_head(graph, branch, spec)
            return tuple(record(graph, rid) for rid in graph.tips(branch.ids))
        case Specifier(offset=offset, target=target) if offset or target in ("head", "base"):
            raise SpecifierError(
                f"{specifier} does not name a revision on its own. Type a package, an id, 'heads', or PACKAGE@head.",
                specifier=specifier,
            )
    found = find_target(graph, spec)
    return tuple(record(graph, rid) for rid in (found.ids if isinstance(found, Branch) else [found]))
