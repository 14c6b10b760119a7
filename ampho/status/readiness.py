"""Readiness: whether an app may serve requests, because its databases have what its code needs."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from ampho.errors import AmphoError, DatabaseError, DatabasesError
from ampho.history.revision import Phase
from ampho.status.deployment import Deployment, Status

PATH = "/-/ready"
"""The default path of the readiness endpoint."""

BLUEPRINT = "ampho_readiness"
"""The name of the blueprint; its only endpoint is ``ampho_readiness.ready``."""

FRESH = 1.0
"""The number of seconds for which an answer that is not "ready" holds, before the databases are queried again."""

PATIENCE = 0.8
"""The number of seconds for which a request waits for the databases; Kubernetes gives a probe one second."""

GIVE_UP = 10.0
"""The number of seconds without an answer after which a server counts as unreachable, and is queried again."""

HEADERS: Mapping[str, str] = {"Cache-Control": "no-store"}

UNKNOWN = "error"
"""The status if the answer is not known, for example because a setting is wrong."""

_log = logging.getLogger("ampho")


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the code may run on its databases.

    :ivar is_ready: whether it may; as for ``db-wait``, a database may have more than the code needs.
    :ivar status: the worst status, ``unreachable``, ``waiting`` if the databases have not answered yet, or ``error``.
    :ivar counts: the number of revisions, or of version rows, by status.
    :ivar findings: all findings, by the name of the database.
    :ivar error: why the databases could not be looked at; may be empty.
    """

    is_ready: bool
    status: str
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    findings: Mapping[str, Deployment] = field(default_factory=dict[str, Deployment])
    error: str = ""

    @classmethod
    def of(cls, deployment: Deployment) -> Readiness:
        """Return whether the code may run on the databases that were compared with it."""
        deployment = deployment.in_phase(Phase.PRE)
        parts: dict[str, Deployment] = {**deployment.databases} or {deployment.database: deployment}
        counts: Counter[str] = Counter()
        for finding in (each for part in parts.values() for each in part.findings if not each.is_harmless):
            counts[finding.status.value] += len(finding.revisions)
        waits = any(finding.is_waited_for for part in parts.values() for finding in part.findings)
        status = deployment.status if counts else Status.UP_TO_DATE
        return cls(not waits, status.value, counts, parts)

    @classmethod
    def failed(cls, error: Exception) -> Readiness:
        """Return the answer if the databases could not be looked at. Log an unexpected error with its traceback."""
        if not isinstance(error, (AmphoError, TimeoutError)):
            _log.error("Ampho could not check whether the app is ready", exc_info=error)
            return cls(is_ready=False, status=UNKNOWN, error=type(error).__name__)
        errors = [*error.errors.values()] if isinstance(error, DatabasesError) else [error]
        is_down = all(isinstance(each, (DatabaseError, TimeoutError)) for each in errors)
        status = Status.UNREACHABLE.value if is_down else UNKNOWN
        return cls(is_ready=False, status=status, error=str(error) or "The databases do not answer.")

    @property
    def code(self) -> int:
        """The HTTP status code."""
        return 200 if self.is_ready else 503

    @property
    def reason(self) -> str:
        """Why the app is not ready; empty if it is."""
        if self.is_ready:
            return ""
        return self.error or ", ".join(f"{number} {status}" for status, number in self.counts.items())

    def as_json(self, *, details: bool) -> dict[str, object]:
        """Return the answer.

        :param details: whether to name packages, revisions, and databases, and to give the error.
        """
        answer: dict[str, object] = {"ready": self.is_ready, "status": self.status, "counts": dict(self.counts)}
        if details:
            answer["findings"] = [
                {
                    "database": name,
                    "status": finding.status.value,
                    "package": finding.package,
                    "revisions": list(finding.revisions),
                }
                for name, deployment in self.findings.items()
                for finding in deployment.findings
            ]
            answer["error"] = self.error or None
        return answer


WAITING = Readiness(is_ready=False, status="waiting", error="The databases have not answered yet.")
"""The answer while the databases are being asked."""


class Answers:
    """The last answer of an app: the databases are asked at most once a second, for all requests together.

    Once the app has been ready, it stays ready, and the databases are no longer queried.

    :ivar last: the last answer.
    """

    def __init__(self) -> None:
        self.last: Readiness = WAITING
        self._time = float("-inf")

    def holds(self) -> bool:
        """Return whether the last answer still holds."""
        return self.last.is_ready or time.monotonic() - self._time < FRESH

    def record(self, answer: Readiness) -> None:
        """Keep an answer, and log why the app is not ready, if the reason is a new one."""
        reason, before = answer.reason, self.last.reason
        if reason and reason != before:
            _log.warning("Not ready: %s", reason)
        self.last, self._time = answer, time.monotonic()
