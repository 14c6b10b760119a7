"""The states of many databases, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, repeat

from ampho._text import of_database
from ampho.errors import AmphoError, ConfigurationError, DatabaseError
from ampho.history.revision import Phase
from ampho.status.deployment import Deployment, Finding, Status


@dataclass(frozen=True, slots=True)
class MemberState:
    """The state of one of many databases.

    :ivar database: its name, such as ``tenants/acme``.
    :ivar status: how well it matches the code.
    :ivar rows: its version rows.
    :ivar findings: the differences between it and the code.
    :ivar error: why it could not be looked at; None if it could.
    :ivar taken: the revisions that the next upgrade only records, because all that they replace is applied, or because
        their version rows are in other tables than they should be.
    """

    database: str
    status: Status
    rows: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    error: AmphoError | None = field(default=None, compare=False)
    taken: tuple[str, ...] = field(default=(), compare=False)

    @property
    def pending(self) -> int:
        """The number of pending revisions."""
        return sum(len(each.revisions) for each in self.findings if each.status is Status.BEHIND)

    @property
    def post(self) -> int:
        """How many of these are in phase ``post``."""
        return sum(len(each.post) for each in self.findings)

    def without_post(self) -> MemberState:
        """Return this state without the revisions that can wait until the old release of the app is gone."""
        if self.error is not None:
            return self
        found = Deployment(self.findings).in_phase(Phase.PRE)
        return replace(self, status=found.status, findings=found.findings)


def failed(database: str, error: AmphoError) -> MemberState:
    """Return the state of a database that could not be looked at."""
    error.__context__ = error.__cause__ = None  # these would keep the connection
    error.args = (of_database(str(error), database),)
    status = Status.UNREACHABLE if isinstance(error, (DatabaseError, ConfigurationError)) else Status.CORRUPT
    if isinstance(error, DatabaseError) and error.is_missing:
        status = Status.NOT_CREATED
    return MemberState(database, status, error=error.with_traceback(None))


@dataclass(frozen=True, slots=True)
class StateCount:
    """How many databases are in the same state.

    :ivar status: how well they match the code.
    :ivar rows: their version rows; empty if nothing is applied, or if they could not be looked at.
    :ivar number: the number of databases.
    :ivar pending: how many revisions are pending in each of them.
    :ivar post: how many of these are in phase ``post``.
    """

    status: Status
    rows: tuple[str, ...]
    number: int
    pending: int = 0
    post: int = 0


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """The states of many databases.

    :ivar selected: the names and patterns that selected the databases.
    :ivar total: the number of databases.
    :ivar counts: the numbers of databases by state, the worst state first.
    :ivar others: the states of the databases that are not up to date, by name.
    """

    selected: tuple[str, ...]
    total: int
    counts: tuple[StateCount, ...]
    others: tuple[MemberState, ...]

    @property
    def status(self) -> Status:
        """The worst status of a database."""
        return self.counts[0].status if self.counts else Status.UP_TO_DATE

    def in_phase(self, phase: Phase | str | None) -> FleetStatus:
        """Return this result without the revisions that can wait, if the phase is ``pre``; otherwise, unchanged."""
        if phase != Phase.PRE:
            return self
        same = chain.from_iterable(
            repeat(MemberState("", each.status, each.rows), each.number)
            for each in self.counts
            if each.status is Status.UP_TO_DATE
        )
        return fleet_status(self.selected, chain(same, (state.without_post() for state in self.others)))


def fleet_status(selected: Sequence[str], states: Iterable[MemberState]) -> FleetStatus:
    """Count the states of databases, and keep those that are not up to date."""
    counter: Counter[tuple[Status, tuple[str, ...], int, int]] = Counter()
    others: list[MemberState] = []
    for state in states:
        counter[state.status, state.rows, state.pending, state.post] += 1
        if state.status is not Status.UP_TO_DATE:
            others.append(state)
    counts = [StateCount(*key[:2], number, *key[2:]) for key, number in counter.items()]
    return FleetStatus(
        tuple(selected),
        counter.total(),
        tuple(sorted(counts, key=lambda each: ([*Status].index(each.status), -each.number, each.rows))),
        tuple(sorted(others, key=lambda each: each.database)),
    )
