"""Wait until another process has brought many databases up to date."""

from __future__ import annotations

from collections.abc import Iterable
from shlex import quote

from ampho._text import counted, listed
from ampho.errors import ConfigurationError
from ampho.migrate.observers import Observer
from ampho.migrate.waiting import Waiting
from ampho.status.deployment import Deployment, Status
from ampho.status.fleet import MemberState


class FleetWaiting(Waiting):
    """Waits until databases have the revisions that the code needs, in several attempts.

    :ivar left: the names of the databases to look at again; before the first attempt, there are none.
    """

    _PAUSE = 1.0

    def __init__(self, timeout: float, deadline: float, observer: Observer | None) -> None:
        super().__init__(timeout, deadline, observer)
        self._others: dict[str, Deployment] = {}
        self._total = 0
        self.left: list[str] = []

    def look(self, states: Iterable[MemberState]) -> Deployment | None:
        """Return the result if no database has to be waited for any more, and otherwise None.

        :raises WaitTimeoutError: if the timeout passes first.
        :raises ConfigurationError: if a database cannot be used, because waiting does not fix that.
        """
        is_first, lacking = not self.left, list[MemberState]()
        number = 0
        for number, state in enumerate(states, 1):  # noqa: B007 (it is the number of states)
            if isinstance(state.error, ConfigurationError):
                raise state.error
            if state.error is not None or any(finding.is_waited_for for finding in state.findings):
                lacking.append(state)
            elif state.status is not Status.UP_TO_DATE:
                self._others[state.database] = Deployment(state.findings, state.database)
        self._total = number if is_first else self._total
        lacking.sort(key=lambda state: state.database)
        self.left = [state.database for state in lacking]
        if not lacking:
            return Deployment((), "", self._others)
        what = f"{len(lacking)} of {counted(self._total, 'database')}"
        names = listed([f"{state.database} ({state.status})" for state in lacking])
        options = " ".join(
            f"--database {quote(home)}" for home in dict.fromkeys(name.partition("/")[0] for name in self.left)
        )
        self._wait_for(
            f"{what} to be up to date: {names}",
            f"{what} were not up to date within {self._timeout:g} s: {names}. Run 'ampho db-up --all' in one process,"
            f" or increase --timeout. 'ampho db-status {options}' shows the reasons.",
        )
        return None
