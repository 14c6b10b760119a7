"""Decide which database of a fleet is upgraded next, and when to stop. Nothing here does any I/O.

The canaries come first, and the others only if all canaries are up to date afterwards. A database that another process
is migrating is left for later, and tried again when its phase has nothing else to do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from ampho._text import counted
from ampho.fleet.report import Ending, FleetOutcome

if TYPE_CHECKING:
    from ampho.migrate.project import Member

CANARY_FAILED = "a canary is not up to date"
"""Why nothing new begins if one of the databases that come first is not up to date."""


class Turn(NamedTuple):
    """The upgrade of one database, which a worker process is asked for.

    :ivar member: the database.
    :ivar waits: whether to wait for another process that is migrating the database.
    """

    member: Member
    waits: bool


class Driver:
    """The state of an upgrade of many databases.

    :param canaries: the databases to upgrade first.
    :param others: the other databases, in order.
    :param max_failures: the number of failures after which nothing new begins; None if there is no limit.
    :ivar total: the number of databases.
    :ivar done: the number of databases that get no other turn.
    :ivar failures: how many of these failed.
    :ivar running: the databases that are being upgraded, by name.
    :ivar stopped: why nothing new begins; empty while the upgrade goes on.
    """

    def __init__(self, canaries: Iterable[Member], others: Iterable[Member], max_failures: int | None = 1) -> None:
        self._queue = deque(canaries)
        self._others = deque(others)
        self._are_canaries = bool(self._queue)
        self._waits = False
        self._locked: deque[Member] = deque()
        self._max_failures = max_failures
        self.total: int = len(self._queue) + len(self._others)
        self.done: int = 0
        self.failures: int = 0
        self.running: dict[str, Member] = {}
        self.stopped: str = ""

    def next(self) -> Turn | None:
        """Return what a free worker is to do now; None if it has to wait, or if nothing is left to do."""
        if self.stopped:
            return None
        while not self._queue and not self.running and (self._locked or self._others):
            self._begin_phase()
        if not self._queue:
            return None
        member = self._queue.popleft()
        self.running[member.name] = member
        return Turn(member, self._waits)

    def _begin_phase(self) -> None:
        if self._locked:
            self._queue, self._locked, self._waits = self._locked, deque(), True
        else:
            self._queue, self._others, self._waits = self._others, deque(), False
            self._are_canaries = False

    def ended(self, ending: Ending) -> bool:
        """Take note of how a turn ended, and return whether the database gets no other turn."""
        member = self.running.pop(ending.database)
        is_locked = ending.outcome is FleetOutcome.LOCKED
        if is_locked and not self._waits:
            self._locked.append(member)
            return False
        self.done += 1
        if self._are_canaries and ending.outcome.is_failure:
            self.stop(CANARY_FAILED)
        self.failures += ending.outcome.is_failure and not is_locked
        if self.failures == self._max_failures:
            self.stop(f"the limit of {counted(self.failures, 'failure')} was reached")
        return True

    def stop(self, reason: str) -> None:
        """Begin nothing new."""
        self.stopped = self.stopped or reason

    @property
    def is_over(self) -> bool:
        """Whether no turn is running or left to begin."""
        return not self.running and (bool(self.stopped) or not (self._queue or self._locked or self._others))

    def rest(self) -> Iterator[Ending]:
        """Yield an ending for each database whose turn did not come, after the end."""
        self._locked.extend(self._queue if self._waits else ())
        for member in self._locked:
            yield Ending(member.name, FleetOutcome.LOCKED, cause="Another process was migrating this database.")
        for member in (*(() if self._waits else self._queue), *self._others):
            yield Ending(member.name, FleetOutcome.SKIPPED)
