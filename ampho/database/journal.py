"""The journal of a database, with an entry for each revision that was run, stamped, or forgotten.

:mod:`ampho.database.recorder` reads and writes it. While the version rows record which revisions are applied, the
journal records their order, the checksums of their files, and what missing revisions depend on.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

from ampho.database.version_tables import Places
from ampho.settings import DEFAULT_DATABASE


class Outcome(StrEnum):
    """What happened to the revision of an entry."""

    STARTED = "started"
    """The revision is running, or was interrupted, on a database that cannot roll it back."""
    DONE = "done"
    FAILED = "failed"
    """The revision failed, and was rolled back."""
    PARTIAL = "partial"
    """The revision failed, and part of it may remain."""
    STAMPED = "stamped"
    """The revision was recorded as applied, or as not applied, without being run."""
    REPLACED = "replaced"
    """The revision was recorded as applied, because all that it replaces is applied."""
    MOVED = "moved"
    """The version row of the revision was moved from one version table to another."""
    FORGOTTEN = "forgotten"
    """The revision was missing, and its version row was removed without running anything."""
    BACKFILL = "backfill"
    """The revision is running a backfill in batches, or stopped in one or after it; the next run continues it."""
    RESOLVED = "resolved"
    """The revision was unfinished, and a user has resolved it."""


EFFECTIVE = frozenset({Outcome.DONE, Outcome.STAMPED, Outcome.REPLACED, Outcome.MOVED, Outcome.FORGOTTEN})
UNFINISHED = frozenset({Outcome.STARTED, Outcome.PARTIAL, Outcome.BACKFILL})

_LONGEST = 63  # PostgreSQL cuts longer names


@dataclass(frozen=True, slots=True)
class Entry:
    """A revision that was run, stamped, or forgotten.

    :ivar number: the number of the entry in the journal; later entries have higher numbers.
    :ivar revision: the id of the revision.
    :ivar package: the name of the revision's package; empty if it is unknown.
    :ivar direction: ``upgrade`` or ``downgrade``.
    :ivar outcome: what happened to the revision. A ``started`` revision is still running or was interrupted. A
        ``partial`` revision failed, and part of it may remain.
    :ivar parents: the ids of the revisions that it directly depended on at that time.
    :ivar started: when it started; None if that is not recorded.
    :ivar finished: when it ended; None if it did not, or if that is not recorded.
    :ivar duration: how long it took, in seconds.
    :ivar statements: the number of statements that were started, on a database that cannot roll them back.
    :ivar checksum: the SHA-256 of its file at that time, in hexadecimal.
    :ivar db_user: the database user who ran it.
    :ivar host: the machine that it ran on.
    :ivar versions: the versions of Ampho, Alembic, and SQLAlchemy.
    :ivar error: the error, if it failed.
    :ivar database: the name of the database.
    """

    number: int
    revision: str
    package: str
    direction: str
    outcome: Outcome
    parents: tuple[str, ...] = ()
    started: datetime | None = None
    finished: datetime | None = None
    duration: float | None = None
    statements: int | None = None
    checksum: str | None = None
    db_user: str | None = None
    host: str | None = None
    versions: str | None = None
    error: str | None = None
    database: str = DEFAULT_DATABASE

    @property
    def is_effective(self) -> bool:
        """Whether the entry changed the version rows."""
        return self.outcome in EFFECTIVE

    @property
    def is_unfinished(self) -> bool:
        """Whether the revision was interrupted or failed halfway, and has not been resolved."""
        return self.outcome in UNFINISHED

    @property
    def is_untouched(self) -> bool:
        """Whether the revision is unfinished but changed nothing, because none of its statements was started."""
        return self.outcome is Outcome.STARTED and self.statements == 0

    @property
    def is_resumable(self) -> bool:
        """Whether the revision is unfinished but changed nothing outside of its backfills."""
        return self.outcome is Outcome.BACKFILL and not self.statements


@dataclass(frozen=True, slots=True)
class Backfill:
    """How far a backfill that runs in batches has come.

    :ivar revision: the id of its revision.
    :ivar direction: ``upgrade`` or ``downgrade``.
    :ivar number: the position of the backfill among those of its revision, starting at 1.
    :ivar table: the name of the table.
    :ivar key: the names of the columns by which the table is divided into batches.
    :ivar rows: the number of rows that were changed.
    :ivar seen: the number of rows that were gone through, including those that needed no change.
    :ivar place: the key of the last row of the last batch, as JSON; None before the first batch of a pass.
    :ivar passes: how often the whole table was gone through.
    :ivar is_done: whether the backfill is complete, so that only the rest of the revision remains.
    :ivar checksum: the SHA-256 of the revision's file at the last batch, in hexadecimal.
    """

    revision: str
    direction: str
    number: int
    table: str
    key: str
    rows: int = 0
    seen: int = 0
    place: str | None = None
    passes: int = 0
    is_done: bool = False
    checksum: str | None = None

    @property
    def continued_by(self) -> str:
        """The command that continues the backfill, in quotation marks."""
        return f"'ampho db-up {self.revision}'" if self.direction == "upgrade" else "'ampho db-down'"

    def __str__(self) -> str:
        return f"backfill of {self.table}: {self.rows:,} rows done"


def source_table(journal: str) -> str:
    """Return the name of the table with the sources of applied revisions, by the name of the journal's table."""
    return _beside(journal, "_source")


def backfill_table(journal: str) -> str:
    """Return the name of the table with the places of backfills, by the name of the journal's table."""
    return _beside(journal, "_backfill")


def _beside(journal: str, suffix: str) -> str:
    return f"{journal[: _LONGEST - len(suffix)]}{suffix}"


class _Brief(NamedTuple):
    """A summary of the entries, made only from their revisions, directions, and outcomes.

    :ivar directions: the last direction in which each revision changed the version rows. The revisions are in the order
        in which they ran; stamping an applied revision does not change this order.
    """

    directions: dict[str, str]
    is_unfinished: bool
    failed: str


class Journal:
    """The entries in a database's journal, which are read when they are first needed.

    :param read: returns the entries, in order.
    :param read_brief: returns only the revision, direction, and outcome of each entry, which is much faster.
    :param places: where the version rows of the database are.
    :param read_sources: returns the sources of those of the given revisions for which they were kept.
    :param read_backfills: returns the backfills whose places are recorded.
    """

    def __init__(
        self,
        read: Callable[[], Iterable[Entry]] = tuple,
        read_brief: Callable[[], Iterable[tuple[str, str, str]]] | None = None,
        places: Places | None = None,
        read_sources: Callable[[Iterable[str]], Mapping[str, str]] = lambda ids: {},
        read_backfills: Callable[[], Iterable[Backfill]] = tuple,
    ) -> None:
        self._read = read
        self._read_brief = read_brief
        self._read_sources = read_sources
        self._read_backfills = read_backfills
        self._sources: dict[str, str | None] = {}
        self.places: Places = places or Places()

    def load(self) -> None:
        """Read all entries. Call this if all of them are needed, so that the table is read only once."""
        self.entries  # noqa: B018 (it is cached)

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """All entries, in order."""
        return tuple(self._read())

    def sources(self, ids: Iterable[str]) -> Mapping[str, str]:
        """Return the sources of revisions, by id; without those of revisions whose source was not kept."""
        wanted = [*ids]
        if new := [each for each in wanted if each not in self._sources]:
            self._sources |= {**dict.fromkeys(new), **self._read_sources(new)}
        return {each: source for each in wanted if (source := self._sources[each]) is not None}

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def fingerprint(self, plan: object) -> str:
        """Return a text that changes with what a command would do, and with the last entry.

        Without the entry, a script could repeat a downgrade with the same fingerprint after each upgrade.

        :param plan: what the command would do, as lists and texts.
        """
        last = [(entry.number, entry.revision, entry.outcome, entry.finished) for entry in self.entries[-1:]]
        return hashlib.blake2s(json.dumps([plan, last], default=str).encode(), digest_size=4).hexdigest()

    @cached_property
    def unfinished(self) -> tuple[Entry, ...]:
        """The unfinished entries, in order."""
        return tuple(entry for entry in self.entries if entry.is_unfinished) if self._in_brief.is_unfinished else ()

    @property
    def unresolved(self) -> tuple[Entry, ...]:
        """The entries of unfinished revisions that may have changed something, so a user must resolve them."""
        return tuple(entry for entry in self.unfinished if not (entry.is_untouched or entry.is_resumable))

    @property
    def interrupted(self) -> tuple[Entry, ...]:
        """The entries of unfinished revisions that an upgrade does not finish.

        These are the unresolved ones, and those whose downgrade has stopped in a backfill.
        """
        stopped = [each for each in self.unfinished if each.direction == "downgrade" and self.stopped(each)]
        return (*self.unresolved, *stopped)

    @cached_property
    def backfills(self) -> tuple[Backfill, ...]:
        """The backfills of the unfinished revisions that the next run continues, in order."""
        resumable = {(entry.revision, entry.direction) for entry in self.unfinished if entry.is_resumable}
        found = self._read_backfills() if resumable else ()
        return tuple(each for each in found if (each.revision, each.direction) in resumable)

    def backfills_of(self, packages: Container[str] | None) -> tuple[Backfill, ...]:
        """Return the last backfill of each unfinished revision that the next run continues.

        :param packages: the packages of the revisions; None for all.
        """
        among = (entry for entry in self.unfinished if packages is None or entry.package in packages)
        found = {entry.revision: stopped for entry in among if (stopped := self.stopped(entry))}
        return tuple(found.values())

    def stopped(self, entry: Entry) -> Backfill | None:
        """Return the last backfill of an unfinished revision that the next run continues; otherwise, None."""
        of = entry.revision, entry.direction
        found = [each for each in self.backfills if (each.revision, each.direction) == of]
        return found[-1] if found and entry.is_resumable else None

    @property
    def failed(self) -> str:
        """The id of the revision whose upgrade failed, if its entry is the last one; otherwise, an empty string."""
        return self._in_brief.failed

    @cached_property
    def _in_brief(self) -> _Brief:
        directions: dict[str, str] = {}
        is_any_unfinished, failed = False, ""
        read = self._from_entries if "entries" in self.__dict__ or not self._read_brief else self._read_brief
        for revision, direction, outcome in read():
            if outcome in EFFECTIVE:
                if outcome == Outcome.DONE or directions.get(revision) != direction:
                    directions.pop(revision, None)  # so that the revision moves to the end
                # Intern these, like the ids in the files, so that a long journal does not keep many equal strings.
                directions[sys.intern(revision)] = sys.intern(direction)
            elif outcome in UNFINISHED:
                is_any_unfinished = True
            failed = revision if (direction, outcome) == ("upgrade", Outcome.FAILED) else ""
        return _Brief(directions, is_any_unfinished, failed)

    def _from_entries(self) -> Iterator[tuple[str, str, str]]:
        return ((entry.revision, entry.direction, entry.outcome) for entry in self.entries)

    @cached_property
    def _last(self) -> dict[str, Entry]:
        """The last entry that changed the version rows, for each revision."""
        return {entry.revision: entry for entry in self.entries if entry.is_effective}

    def applied(self, revision_id: str) -> Entry | None:
        """Return the entry that records a revision as applied; None if there is none."""
        entry = self._last.get(revision_id) if self.records_applied(revision_id) else None
        return entry if entry is not None and entry.direction == "upgrade" else None

    @cached_property
    def positions(self) -> Mapping[str, int]:
        """The position of each applied revision in the order in which they were applied, starting at 1."""
        applied = (revision for revision, direction in self._in_brief.directions.items() if direction == "upgrade")
        return {revision: position for position, revision in enumerate(applied, 1)}

    def records_applied(self, revision_id: str) -> bool:
        """Return whether a revision's last entry records it as applied."""
        return self._in_brief.directions.get(revision_id) == "upgrade"

    def records_not_applied(self, revision_id: str) -> bool:
        """Return whether a revision's last entry records it as not applied."""
        return self._in_brief.directions.get(revision_id) == "downgrade"
