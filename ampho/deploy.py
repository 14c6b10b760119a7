"""Whether a database and the code that is deployed fit together: what is wrong between them, by name."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from ampho.applied import Applied
from ampho.errors import WaitTimeoutError
from ampho.graph import Graph
from ampho.journal import Journal


class Status(StrEnum):
    """How a database stands to the code, the worst first."""

    CORRUPT = "corrupt"
    """The version table has rows that cannot be revisions."""
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


_WAITED_FOR = frozenset({Status.BEHIND, Status.INTERRUPTED, Status.CORRUPT})


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong between a database and the code.

    :ivar revisions: ids of the revisions that it is about; rows of the version table, where that is corrupt.
    """

    status: Status
    package: str
    revisions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Deployment:
    """How a database stands to the code that is deployed.

    :ivar findings: what is wrong, the worst first.
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
        return Deployment((Finding(Status.CORRUPT, "", applied.corrupt),))
    found = [
        *((Status.INTERRUPTED, entry.revision) for entry in journal.unfinished if not entry.is_untouched),
        *((Status.DIVERGED, rid) for rid in _diverged(applied, journal)),
        *(
            (Status.AHEAD if applied.package(rid) in graph.packages else Status.MISSING, rid)
            for rid in applied.graph.sort(applied.missing)
        ),
        *((Status.EDITED, rid) for rid in _edited(applied, journal) if files),
        *((Status.BEHIND, rid) for rid in graph.ids if graph.has_file(rid) and rid not in applied.known),
    ]
    grouped: dict[tuple[Status, str], list[str]] = {}
    for status, revision_id in found:
        package = applied.package(revision_id) if revision_id in applied.graph else ""
        grouped.setdefault((status, package), []).append(revision_id)
    order = list(Status)
    keys = sorted(grouped, key=lambda key: order.index(key[0]))
    return Deployment(tuple(Finding(*key, tuple(grouped[key])) for key in keys))


def _diverged(applied: Applied, journal: Journal) -> Iterator[str]:
    """Give what was put under an applied revision after that had run, and was not run itself."""
    found: set[str] = set()
    for revision_id in applied.known:
        entry = journal.applied(revision_id)
        if entry is not None:
            later = set(applied.graph.parents(revision_id)) - set(entry.parents)
            found |= {parent for parent in later if journal.applied(parent) is None}
    yield from applied.graph.sort(found)


def _edited(applied: Applied, journal: Journal) -> Iterator[str]:
    for revision_id in applied.graph.sort(applied.known - applied.missing):
        entry = journal.applied(revision_id)
        if entry is not None and entry.checksum not in (None, applied.graph[revision_id].checksum()):
            yield revision_id


class Turns:
    """The turns of one who waits until a database has what the code needs.

    :param timeout: seconds.
    :ivar pause: seconds between two turns.
    """

    pause: float = 0.5

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout

    def is_over(self, found: Deployment) -> bool:
        """Tell whether there is nothing to wait for any more.

        :raises WaitTimeoutError: if there is, and time is up.
        """
        lacking = [finding for finding in found.findings if finding.status in _WAITED_FOR]
        if not lacking:
            return True
        if time.monotonic() < self._deadline:
            return False
        what = "; ".join(f"{finding.status}: {', '.join(finding.revisions)}" for finding in lacking)
        raise WaitTimeoutError(
            f"The database was not brought up to date within {self._timeout:g} s. It is {what}. Let one process run"
            " 'ampho db-up', or wait longer with --timeout."
        )
