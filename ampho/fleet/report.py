"""The results of an upgrade of many databases: how each one ended, and a report on all of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from shlex import quote
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ampho.migrate.plan import Step


class FleetOutcome(StrEnum):
    """How the upgrade of a database ended."""

    UP_TO_DATE = "up to date"
    """Nothing was pending, apart from what was held back for phase ``post``."""
    UPGRADED = "upgraded"
    """Revisions were applied."""
    FAILED = "failed"
    """A revision failed, or the upgrade could not begin."""
    INTERRUPTED = "interrupted"
    """Ctrl-C or SIGTERM ended a revision that was running."""
    UNREACHABLE = "unreachable"
    """The survey could not connect to the database."""
    NOT_CREATED = "not created"
    """The database, or the schema that it is, does not exist."""
    LOCKED = "locked"
    """Another process was migrating the database, and did not finish in time."""
    SKIPPED = "skipped"
    """The command ended before the turn of the database."""

    @property
    def is_failure(self) -> bool:
        """Whether the database had its turn, and is not up to date."""
        return self not in (FleetOutcome.UP_TO_DATE, FleetOutcome.UPGRADED, FleetOutcome.SKIPPED)


@dataclass(frozen=True, slots=True)
class Ending:
    """How the upgrade of one database ended. A worker process sends this, so it contains only plain data.

    :ivar database: the name of the database, such as ``tenants/acme``.
    :ivar outcome: the outcome.
    :ivar applied: the ids of the revisions that were applied, in order.
    :ivar revision: the id of the revision that failed; None if the failure was not that of a revision.
    :ivar cause: the message of the error, without the name of the database; empty if there was none.
    :ivar duration: the number of seconds that the upgrade took.
    :ivar held_back: the steps that were left for phase ``post``.
    """

    database: str
    outcome: FleetOutcome
    applied: tuple[str, ...] = ()
    revision: str | None = None
    cause: str = ""
    duration: float = 0.0
    held_back: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """A database that could not be upgraded.

    :ivar database: the name of the database.
    :ivar outcome: ``failed``, ``interrupted``, ``unreachable``, ``not created``, or ``locked``.
    :ivar revision: the id of the revision that failed; None if the failure was not that of a revision.
    :ivar cause: what went wrong.
    :ivar command: the command that tries this database again.
    """

    database: str
    outcome: FleetOutcome
    revision: str | None
    cause: str
    command: str


@dataclass(frozen=True, slots=True)
class RevisionCount:
    """What an upgrade of many databases did with one revision.

    :ivar revision: the id of the revision.
    :ivar applied: the number of databases to which it was applied.
    :ivar failed: the number of databases on which it failed.
    """

    revision: str
    applied: int
    failed: int


@dataclass(frozen=True, slots=True)
class HeldBack:
    """A revision that an upgrade in phase ``pre`` of many databases left for phase ``post``.

    :ivar step: its step, as it is in the plan of the first of the databases.
    :ivar databases: the names of the databases in which it is pending.
    """

    step: Step
    databases: tuple[str, ...]


@dataclass(frozen=True)
class FleetReport:
    """The result of an upgrade of many databases.

    :ivar outcomes: the number of databases by outcome, without outcomes that did not occur.
    :ivar revisions: what was done with each revision that was applied or failed, by id.
    :ivar failures: the databases that could not be upgraded, or were locked until the end.
    :ivar upgraded: the names of the databases to which revisions were applied.
    :ivar skipped: the names of the databases whose turn did not come.
    :ivar stopped: why the command ended before all databases had their turn; empty if it did not.
    :ivar duration: the number of seconds that the command took.
    :ivar held_back: the revisions that were left for phase ``post``, by id.
    """

    outcomes: Mapping[FleetOutcome, int]
    revisions: tuple[RevisionCount, ...]
    failures: tuple[Failure, ...]
    upgraded: tuple[str, ...]
    skipped: tuple[str, ...]
    stopped: str
    duration: float
    held_back: tuple[HeldBack, ...] = ()

    @property
    def exit_code(self) -> int:
        """The exit code: 4 if a database is not up to date now, otherwise 0."""
        return 0 if set(self.outcomes) <= {FleetOutcome.UP_TO_DATE, FleetOutcome.UPGRADED} else 4


class Tally:
    """Counts endings, and keeps those of databases that were not up to date.

    :param command: the command that tries a database again, without the name of the database, which is its last word.
    """

    def __init__(self, command: str) -> None:
        self._begin = time.monotonic()
        self._command = command
        self._outcomes: Counter[FleetOutcome] = Counter()
        self._endings: list[Ending] = []
        self._held_back: dict[str, tuple[Step, list[str]]] = {}

    def add(self, ending: Ending) -> None:
        """Count how the upgrade of a database ended."""
        self._outcomes[ending.outcome] += 1
        for step in ending.held_back:
            self._held_back.setdefault(step.revision.id, (step, []))[1].append(ending.database)
        if ending.outcome is not FleetOutcome.UP_TO_DATE:
            self._endings.append(replace(ending, held_back=()))  # so that no steps are kept for each database

    def report(self, stopped: str = "") -> FleetReport:
        """Return the report; its duration begins when this object was created."""
        applied = Counter(rid for each in self._endings for rid in each.applied)
        failed = Counter(each.revision for each in self._endings if each.revision is not None)
        return FleetReport(
            outcomes={outcome: self._outcomes[outcome] for outcome in FleetOutcome if self._outcomes[outcome]},
            revisions=tuple(RevisionCount(rid, applied[rid], failed[rid]) for rid in sorted({*applied, *failed})),
            failures=tuple(self._failure(each) for each in self._endings if each.outcome.is_failure),
            upgraded=tuple(each.database for each in self._endings if each.outcome is FleetOutcome.UPGRADED),
            skipped=tuple(each.database for each in self._endings if each.outcome is FleetOutcome.SKIPPED),
            stopped=stopped,
            duration=time.monotonic() - self._begin,
            held_back=tuple(
                HeldBack(step, tuple(sorted(names))) for _, (step, names) in sorted(self._held_back.items())
            ),
        )

    def _failure(self, ending: Ending) -> Failure:
        create = " --create" if ending.outcome is FleetOutcome.NOT_CREATED else ""
        command = f"{self._command} {quote(ending.database)}{create}"
        return Failure(ending.database, ending.outcome, ending.revision, ending.cause, command)
