"""Whether a database and the code that is deployed fit together: what is wrong between them, by name."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ampho.database.applied import ROWS_REMEDY, Applied
from ampho.database.journal import Journal
from ampho.history.graph import Graph


class Status(StrEnum):
    """How a database stands to the code, the worst first."""

    CORRUPT = "corrupt"
    """The version table has rows that cannot be revisions, or more rows than say what is applied."""
    INTERRUPTED = "interrupted"
    """A revision was left half done."""
    DIVERGED = "diverged"
    """A revision counts as applied because one that stands on it is, and was never run here."""
    MISSING = "missing"
    """Revisions are applied of a package that is not there."""
    AHEAD = "ahead"
    """Revisions are applied of a package that is there, and no file has them."""
    EDITED = "edited"
    """The file of an applied revision is not the one that was run."""
    BEHIND = "behind"
    """Revisions are not applied."""
    UP_TO_DATE = "up to date"

    @property
    def exit_code(self) -> int:
        """What ``db-check --deploy`` exits with."""
        return _EXIT_CODES[self]


_EXIT_CODES = {
    Status.UP_TO_DATE: 0,
    Status.BEHIND: 10,
    Status.EDITED: 11,
    Status.AHEAD: 12,
    Status.MISSING: 13,
    Status.DIVERGED: 14,
    Status.INTERRUPTED: 15,
    Status.CORRUPT: 16,
}


_MEANS = {
    Status.INTERRUPTED: "left half done; see 'ampho db-log -v', and say what came of it with 'ampho db-resolve'",
    Status.DIVERGED: "counts as applied because a later one is, but no record says that it was; {diverged}",
    Status.MISSING: "applied, and {missing}",
    Status.AHEAD: "applied, and {missing}",
    Status.EDITED: "applied, and its file was edited since; {edited}",
    Status.BEHIND: "not applied; 'ampho db-up' does that",
}
_UNREADABLE = f"the version table has what cannot be a revision; {ROWS_REMEDY}"
_REPEATED = f"the version table has it more than once; {ROWS_REMEDY}"
_SUPERFLUOUS = (
    "the version table has it beside what stands on it, which does Ampho no harm; its next step, or 'ampho db-stamp',"
    " takes it out"
)


WAITED_FOR = {
    Status.BEHIND: "{} to be applied",
    Status.INTERRUPTED: "{} to be finished or resolved",
    Status.CORRUPT: "the version table to be repaired: {}",
}
"""What ``db-wait`` waits for, by the status of a finding."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong between a database and the code.

    :ivar revisions: ids of the revisions that it is about; rows of the version table, where that is corrupt.
    :ivar means: what that is, in words.
    :ivar is_harmless: whether Ampho goes on all the same, as with a row beside one that stands on it.
    """

    status: Status
    package: str
    revisions: tuple[str, ...]
    means: str
    is_harmless: bool = False

    @property
    def is_waited_for(self) -> bool:
        """Whether ``db-wait`` waits for this to change."""
        return self.status in WAITED_FOR and not self.is_harmless


@dataclass(frozen=True, slots=True)
class Deployment:
    """How a database stands to the code that is deployed.

    :ivar findings: what is wrong, the worst first, and last what is harmless.
    """

    findings: tuple[Finding, ...]

    @property
    def status(self) -> Status:
        """The worst of it."""
        return self.findings[0].status if self.findings else Status.UP_TO_DATE


def assess(graph: Graph, applied: Applied, journal: Journal, *, files: bool = True) -> Deployment:
    """Return how a database stands to the code.

    :param graph: the revisions of the files.
    :param files: whether the files are compared with those that were run.
    """
    if applied.corrupt:
        return Deployment((Finding(Status.CORRUPT, "", applied.corrupt, _UNREADABLE),))
    interrupted = [entry.revision for entry in journal.half_done]
    known = applied.known.union(interrupted)
    found = [
        *((Status.INTERRUPTED, rid) for rid in interrupted),
        *((Status.DIVERGED, rid) for rid in applied.diverged(journal)),
        *(
            (Status.AHEAD if applied.package(rid) in graph.packages else Status.MISSING, rid)
            for rid in applied.graph.sort(applied.missing)
        ),
        *((Status.EDITED, rid) for rid in (applied.edited(journal) if files else ())),
        *((Status.BEHIND, rid) for rid in graph.ids if graph.has_file(rid) and rid not in known),
    ]
    grouped: dict[tuple[Status, str], list[str]] = {}
    for status, revision_id in found:
        package = applied.package(revision_id) if revision_id in applied.graph else ""
        grouped.setdefault((status, package), []).append(revision_id)
    order = list(Status)
    keys = sorted(grouped, key=lambda key: order.index(key[0]))
    findings = [Finding(*key, tuple(grouped[key]), _means(key[0], applied, grouped[key])) for key in keys]
    superfluous = applied.superfluous(journal)
    if superfluous:
        findings.append(Finding(Status.CORRUPT, "", superfluous, _SUPERFLUOUS, is_harmless=True))
    if applied.repeated:
        findings.insert(0, Finding(Status.CORRUPT, "", applied.repeated, _REPEATED))
    return Deployment(tuple(findings))


def _means(status: Status, applied: Applied, ids: list[str]) -> str:
    return _MEANS[status].format(
        missing=applied.explain_missing(ids) if status in (Status.MISSING, Status.AHEAD) else "",
        edited=applied.edited_remedy(ids) if status is Status.EDITED else "",
        diverged=applied.diverged_remedy(ids) if status is Status.DIVERGED else "",
    )
