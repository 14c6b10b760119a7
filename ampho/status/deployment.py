"""The results of ``db-check --deploy`` and ``db-wait``: whether a database matches the deployed code."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Self

from ampho.database.journal import Journal
from ampho.database.version_rows import Applied
from ampho.history.phases import Phases
from ampho.history.revision import Phase
from ampho.settings import DEFAULT_DATABASE
from ampho.status import advice
from ampho.status.phases import Schedule


class Status(StrEnum):
    """How well a database matches the code, from worst to best."""

    UNREACHABLE = "unreachable"
    """The database could not be looked at; only for the databases of a group."""
    NOT_CREATED = "not created"
    """The database, or the schema that it is, does not exist; only for the databases of a group."""
    CORRUPT = "corrupt"
    """The version table has rows that cannot be revisions, or that are repeated or superfluous."""
    INTERRUPTED = "interrupted"
    """A revision is unfinished."""
    DIVERGED = "diverged"
    """A revision counts as applied because revisions that depend on it are applied, but no record says that it ran."""
    MISSING = "missing"
    """The database has missing revisions of a package that is not installed or not listed."""
    AHEAD = "ahead"
    """The database has missing revisions of a package that is listed and installed."""
    EDITED = "edited"
    """The file of an applied revision was changed after the revision ran."""
    BEHIND = "behind"
    """Revisions are pending."""
    UP_TO_DATE = "up to date"

    @property
    def exit_code(self) -> int:
        """The exit code of ``db-check --deploy`` and of ``db-status --check``."""
        return _EXIT_CODES[self]


_EXIT_CODES = dict(zip(Status, (1, 1, 16, 15, 14, 13, 12, 11, 10, 0), strict=True))

_STOPPED = "only partly reverted, because a backfill was interrupted; continue with 'ampho db-down'"
_UNREADABLE = f"in the version table, but cannot be a revision id; {advice.ROWS_REMEDY}"
_REPEATED = f"more than once in the version table; {advice.ROWS_REMEDY}"
_SUPERFLUOUS = (
    "not needed in the version table, which has the row of a revision that depends on it; this is harmless, and the"
    " next upgrade, downgrade, or 'ampho db-stamp' removes the row"
)

WAITED_FOR = {
    Status.BEHIND: "{} to be applied",
    Status.INTERRUPTED: "{} to be finished or resolved",
    Status.CORRUPT: "the version table to be repaired: {}",
}
"""Descriptions of what ``db-wait`` waits for, by the status of a finding. It ignores all other findings."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A difference between a database and the code.

    :ivar status: the kind of difference.
    :ivar package: the name of the package; empty if it is not known, or if the finding is not about a package.
    :ivar revisions: the ids of the affected revisions; if the version table is corrupt, the affected version rows.
    :ivar means: what is wrong, and what to do about it.
    :ivar is_harmless: whether Ampho ignores the finding. A superfluous version row is harmless.
    :ivar phase: ``post`` if the revisions are pending, and can wait until the old release is gone; ``pre`` if they are
        pending otherwise; None if they are not pending.
    :ivar post: the ids of those pending revisions that are in phase ``post`` themselves; the others may depend on them.
    """

    status: Status
    package: str
    revisions: tuple[str, ...]
    means: str
    is_harmless: bool = False
    phase: Phase | None = None
    post: tuple[str, ...] = ()

    @property
    def is_waited_for(self) -> bool:
        """Whether ``db-wait`` waits for the finding to disappear."""
        return self.status in WAITED_FOR and not self.is_harmless and self.phase is not Phase.POST


@dataclass(frozen=True, slots=True)
class Deployment:
    """How well a database matches the deployed code.

    :ivar findings: the differences, the worst first and the harmless ones last.
    :ivar database: the name of the database; empty for the combined result of several databases.
    :ivar databases: the results of the single databases, by name, if this is the combined result of several.
    """

    findings: tuple[Finding, ...]
    database: str = DEFAULT_DATABASE
    databases: Mapping[str, Self] = field(default_factory=dict, compare=False, repr=False)

    @property
    def status(self) -> Status:
        """The status of the worst finding."""
        worst = [each.status for each in self.databases.values()] or [each.status for each in self.findings[:1]]
        return min(worst, key=list(Status).index, default=Status.UP_TO_DATE)

    @property
    def nothing_found(self) -> str:
        """What to say about several databases in which only revisions that can wait are pending; otherwise, empty."""
        can_wait = self.findings and all(each.phase is Phase.POST for each in self.findings)
        return "only revisions in phase post are pending" if can_wait else ""

    @property
    def total(self) -> int:
        """The number of databases."""
        return len(self.databases) or 1

    def in_phase(self, phase: Phase | str | None) -> Self:
        """Return this result without the revisions that can wait, if the phase is ``pre``; otherwise, unchanged."""
        if phase != Phase.PRE:
            return self
        findings = tuple(each for each in self.findings if each.phase is not Phase.POST)
        parts = {name: each.in_phase(phase) for name, each in self.databases.items()}
        return replace(self, findings=findings, databases=parts)


def assess(applied: Applied, journal: Journal, phases: Phases, *, compare_files: bool = True) -> Deployment:
    """Return how well a database matches the code.

    :param phases: tells the phases of revisions.
    :param compare_files: whether to compare the files of applied revisions with those that ran.
    """
    if applied.corrupt:
        return Deployment((Finding(Status.CORRUPT, "", applied.corrupt, _UNREADABLE),))
    graph = applied.graph
    unfinished = [entry.revision for entry in journal.interrupted]
    missing, ahead = graph.sort(applied.missing), applied.ahead
    known = applied.known.union(unfinished)
    found: dict[Status, Iterable[str]] = {
        Status.INTERRUPTED: unfinished,
        Status.DIVERGED: applied.diverged(journal),
        Status.MISSING: [rid for rid in missing if applied.package(rid) not in ahead],
        Status.AHEAD: [rid for rid in missing if applied.package(rid) in ahead],
        Status.EDITED: applied.edited(journal) if compare_files else (),
        Status.BEHIND: [rid for rid in graph.ids if graph.has_file(rid) and rid not in known],
    }
    stopped = {each.revision for each in journal.backfills}
    schedule = Schedule.of(applied, found[Status.BEHIND], phases)
    can_wait = schedule.optional
    grouped: defaultdict[tuple[Status, str, Phase | None], list[str]] = defaultdict(list)
    for status, ids in found.items():
        for rid in ids:
            phase = None
            if status is Status.BEHIND:
                phase = Phase.POST if rid in can_wait else Phase.PRE
            grouped[status, applied.package(rid) if rid in graph else "", phase].append(rid)
    findings = [
        Finding(
            status,
            package,
            tuple(ids),
            _STOPPED
            if status is Status.INTERRUPTED and stopped.issuperset(ids)
            else _means(status, applied, ids, phase, has_post=bool(schedule.held)),
            phase=phase,
            post=tuple(rid for rid in ids if phase and schedule.placements[rid].phase is Phase.POST),
        )
        for (status, package, phase), ids in grouped.items()
    ]
    superfluous = applied.superfluous(journal)
    if superfluous:
        findings.append(Finding(Status.CORRUPT, "", superfluous, _SUPERFLUOUS, is_harmless=True))
    if applied.repeated:
        findings.insert(0, Finding(Status.CORRUPT, "", applied.repeated, _REPEATED))
    return Deployment(tuple(findings))


def _means(status: Status, applied: Applied, ids: list[str], phase: Phase | None, *, has_post: bool) -> str:
    """Return what is wrong with some revisions, and what to do about it."""
    one = len(ids) == 1
    it = "it" if one else "them"
    match status:
        case Status.INTERRUPTED:
            return f"unfinished; see 'ampho db-log -v', and mark {it} as applied or not applied with 'ampho db-resolve'"
        case Status.DIVERGED:
            counts, ran = ("counts", "it ran") if one else ("count", "they ran")
            remedy = advice.diverged_remedy(applied, ids)
            return f"{counts} as applied because a later revision is applied, but no record says that {ran}; {remedy}"
        case Status.EDITED:
            edited = "its file was edited" if one else "their files were edited"
            return f"applied, but {edited} afterwards; {advice.edited_remedy(applied, ids)}"
        case Status.BEHIND if phase is Phase.POST:
            return f"pending in phase post; once the old release is gone, apply {it} with 'ampho db-up --phase post'"
        case Status.BEHIND:
            return f"pending; apply {it} with 'ampho db-up{' --phase pre' if has_post else ''}'"
    return f"applied but missing: {advice.explain_missing(applied, ids)}"
