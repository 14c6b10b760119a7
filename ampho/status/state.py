"""What a user is shown of revisions: those that exist, and those that are applied. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ampho.database.applied import Applied
from ampho.database.journal import Entry, Journal
from ampho.errors import SpecifierError
from ampho.history.graph import Branch, Graph
from ampho.history.revision import id_prefix
from ampho.history.specifier import Specifier, find_branch, find_target, parse


class Mark(StrEnum):
    """How a database stands to a revision."""

    APPLIED = "applied"
    EDITED = "edited"
    """It is applied, and its file is not the one that was run."""
    DIVERGED = "diverged"
    """It counts as applied because one that stands on it is, and was never run here."""
    PENDING = "pending"
    MISSING = "missing"
    """It is applied, and no file has it."""
    UNFINISHED = "unfinished"
    """It was interrupted, or failed half-way, where the database could not roll it back."""
    UNCERTAIN = "uncertain"
    """Nothing records whether it is applied: a missing revision may stand on it."""
    ABSENT = "absent"
    """No file has it, and it is not known to be applied; another revision depends on it."""
    UNKNOWN = "unknown"
    """No database was asked."""


@dataclass(frozen=True, slots=True)
class RevisionRecord:
    """A revision and its place in the graph.

    :ivar file: the path of its file; see :attr:`path`.
    :ivar down_revisions: ids of its parents.
    :ivar depends_on: ids of what it depends on: of ``depends_on``, and of parents in another package.
    :ivar required_by: ids of what stands on it.
    :ivar is_head: whether it is a head of its package.
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

    @property
    def path(self) -> Path:
        """Its file."""
        return Path(self.file)


@dataclass(frozen=True, slots=True)
class PackageState:
    """Where a database is in the history of one package.

    :ivar applied: the applied revisions, in order.
    :ivar pending: the others, in order.
    :ivar current: ids of the last applied ones: one, none, or several where the package has several heads.
    """

    package: str
    applied: tuple[RevisionRecord, ...]
    pending: tuple[RevisionRecord, ...]
    current: tuple[str, ...]

    @property
    def is_up_to_date(self) -> bool:
        """Whether nothing is pending."""
        return not self.pending


@dataclass(frozen=True, slots=True)
class MissingState:
    """What is applied of a package, and no file has.

    :ivar package: the package's name, as far as the journal or an id tells it; else empty.
    :ivar revisions: ids of the revisions, in order; without a journal, the last ones only.
    :ivar is_ahead: whether the package is configured, so that the database is ahead of its files.
    :ivar means: why no file may have it, and what to do about that, in words.
    """

    package: str
    revisions: tuple[str, ...]
    is_ahead: bool
    means: str = ""

    def named(self, name: str) -> tuple[str, ...]:
        """Return the ids that a name means to ``db-forget``.

        :param name: the package, if it is gone, or one of the revisions.
        """
        if name in self.revisions:
            return (name,)
        is_it = bool(self.package) and not self.is_ahead and id_prefix(self.package) == id_prefix(name)
        return self.revisions if is_it else ()


@dataclass(frozen=True, slots=True)
class CurrentState:
    """Where a database is: one record per package.

    :ivar packages: the records, in the order of the packages.
    :ivar missing: what is applied and no file has, a record per package.
    :ivar uncertain: ids of the revisions that are shown as pending and may be applied: nothing records what a missing
        one stands on.
    :ivar unknown: version rows that no revision file explains.
    :ivar corrupt: version rows that cannot be a revision, as text.
    :ivar repeated: version rows that are there more than once.
    :ivar unfinished: what was interrupted, or failed half-way, where the database could not roll it back.
    :ivar diverged: ids of the revisions that count as applied because of what stands on them, and were never run here.
    :ivar edited: ids of the applied revisions whose files are not those that were run; None if that was not asked for.
    :ivar edited_remedy: what to do about those, in words; empty where there are none.
    :ivar diverged_remedy: what to do about what has diverged.
    """

    packages: tuple[PackageState, ...]
    missing: tuple[MissingState, ...] = ()
    uncertain: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    corrupt: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    unfinished: tuple[Entry, ...] = ()
    diverged: tuple[str, ...] = ()
    edited: tuple[str, ...] | None = None
    edited_remedy: str = ""
    diverged_remedy: str = ""

    def __iter__(self) -> Iterator[PackageState]:
        return iter(self.packages)

    def __len__(self) -> int:
        return len(self.packages)

    def __getitem__(self, package: str) -> PackageState:
        for state in self.packages:
            if state.package == package:
                return state
        raise KeyError(package)


def record(graph: Graph, revision_id: str, heads: frozenset[str] | None = None) -> RevisionRecord:
    """Return the record of one revision.

    :param heads: the heads of its package, where the caller has them.
    """
    revision = graph[revision_id]
    if heads is None:
        heads = frozenset(graph.heads(revision.package))
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
        is_head=revision_id in heads,
    )


def _records(graph: Graph, package: str, ids: Iterable[str]) -> tuple[RevisionRecord, ...]:
    heads = frozenset(graph.heads(package))
    return tuple(record(graph, revision_id, heads) for revision_id in ids)


def current_state(
    graph: Graph, rows: Iterable[str], journal: Journal | None = None, *, files: bool = False
) -> CurrentState:
    """Return what version rows mean, per package.

    :param journal: what was done to the database, as far as it is recorded.
    :param files: whether the files are compared with those that were run.
    """
    journal = journal or Journal()
    if files:
        journal.entries  # noqa: B018 (all of it is needed, so it is read once)
    applied = Applied.from_rows(graph, rows, journal)
    edited = applied.edited(journal) if files else None
    diverged = applied.diverged(journal)
    return CurrentState(
        packages=tuple(_package_state(graph, package, applied.known) for package in graph.packages),
        missing=tuple(missing_states(applied)),
        uncertain=graph.sort(applied.uncertain),
        unknown=applied.unknown,
        corrupt=applied.corrupt,
        repeated=applied.repeated,
        unfinished=journal.half_done,
        diverged=diverged,
        edited=edited,
        edited_remedy=applied.edited_remedy(edited) if edited else "",
        diverged_remedy=applied.diverged_remedy(diverged) if diverged else "",
    )


def marks(applied: Applied, journal: Journal, edited: Iterable[str], diverged: Iterable[str]) -> Callable[[str], Mark]:
    """Return what gives each revision its mark: the worst that there is to say of it.

    :param edited: what :meth:`Applied.edited` has found, and ``diverged`` likewise.
    """
    worst = {
        **dict.fromkeys(applied.uncertain, Mark.UNCERTAIN),
        **dict.fromkeys(edited, Mark.EDITED),
        **dict.fromkeys(diverged, Mark.DIVERGED),
        **dict.fromkeys(applied.missing, Mark.MISSING),
        **{entry.revision: Mark.UNFINISHED for entry in journal.half_done},
    }

    def mark(revision_id: str) -> Mark:
        if revision_id in worst:
            return worst[revision_id]
        if revision_id in applied.known:
            return Mark.APPLIED
        return Mark.ABSENT if applied.graph.is_missing(revision_id) else Mark.PENDING

    return mark


def missing_states(applied: Applied) -> Iterator[MissingState]:
    """Give what is applied and no file has, a record per package."""
    ids = applied.graph.sort(applied.missing)
    for package in sorted(set(map(applied.package, ids))):
        own = tuple(revision_id for revision_id in ids if applied.package(revision_id) == package)
        yield MissingState(package, own, package in applied.ahead, applied.explain_missing(own))


def _package_state(graph: Graph, package: str, known: frozenset[str]) -> PackageState:
    ids = graph.of_package(package)
    applied = [revision_id for revision_id in ids if revision_id in known]
    return PackageState(
        package,
        _records(graph, package, applied),
        _records(graph, package, (revision_id for revision_id in ids if revision_id not in known)),
        graph.tips(applied),
    )


def show(graph: Graph, specifier: str | None = None) -> tuple[RevisionRecord, ...]:
    """Return the revisions that a specifier stands for.

    :param specifier: a package or label, an id or the unique beginning of one, ``heads``, ``PACKAGE@head(s)``; None
        for all revisions.
    :raises SpecifierError: if it stands for no revision.
    """
    if specifier is None:
        return tuple(item for name in graph.packages for item in _records(graph, name, graph.of_package(name)))
    spec = parse(specifier)
    match spec:
        case Specifier(branch=None, target="heads"):
            return tuple(record(graph, rid) for name in graph.packages for rid in graph.heads(name))
        case Specifier(branch=str(name), target="head" | "heads"):
            return _branch_heads(graph, find_branch(graph, name, specifier), spec)
        case Specifier(offset=offset, target=target) if offset or target in ("head", "base"):
            raise SpecifierError(
                f"{specifier}: that names no revision by itself. Type a package, an id, 'heads', or PACKAGE@head.",
                specifier=specifier,
            )
    found = find_target(graph, spec)
    if isinstance(found, Branch):
        return _records(graph, found.package, found.ids)
    return (record(graph, found),)


def _branch_heads(graph: Graph, branch: Branch, spec: Specifier) -> tuple[RevisionRecord, ...]:
    heads = graph.tips(branch.ids)
    if spec.target == "head" and len(heads) > 1:
        raise SpecifierError(
            f"{spec.text}: {branch.name} has {len(heads)} heads: {', '.join(heads)}. Type {branch.name}@heads.",
            specifier=spec.text,
        )
    return tuple(record(graph, head) for head in heads)
