"""Readiness: whether an app may serve requests, because its databases have what its code needs."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from ampho.errors import AmphoError, DatabaseError, DatabasesError
from ampho.status.deployment import Deployment, Status

PATH = "/-/ready"
"""The path of the answer, unless the app chooses another one."""

BLUEPRINT = "ampho_readiness"
"""The name of the blueprint; its only endpoint is ``ampho_readiness.ready``."""

FRESH = 1.0
"""For how many seconds an answer that is not "ready" holds, before the databases are asked again."""

PATIENCE = 0.8
"""For how many seconds a request waits for the databases; Kubernetes gives a probe one second."""

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
        parts: dict[str, Deployment] = {**deployment.databases} or {deployment.database: deployment}
        counts: Counter[str] = Counter()
        for finding in (each for part in parts.values() for each in part.findings if not each.is_harmless):
            counts[finding.status.value] += len(finding.revisions)
        waits = any(finding.is_waited_for for part in parts.values() for finding in part.findings)
        status = deployment.status if counts else Status.UP_TO_DATE
        return cls(not waits, status.value, counts, parts)

    @classmethod
    def failed(cls, error: AmphoError) -> Readiness:
        """Return the answer if a database could not be looked at."""
        errors = [*error.errors.values()] if isinstance(error, DatabasesError) else [error]
        is_down = all(isinstance(each, DatabaseError) for each in errors)
        return cls(is_ready=False, status=Status.UNREACHABLE.value if is_down else UNKNOWN, error=str(error))

    @property
    def code(self) -> int:
        """The status code of HTTP."""
        return 200 if self.is_ready else 503

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

    def log(self, before: Readiness | None) -> None:
        """Log why the app is not ready, if that has changed."""
        if self.is_ready or (before is not None and (before.status, before.error) == (self.status, self.error)):
            return
        why = self.error or ", ".join(f"{number} {status}" for status, number in self.counts.items())
        _log.warning("Not ready: %s", why)


WAITING = Readiness(is_ready=False, status="waiting", error="The databases have not answered yet.")
"""The answer while the databases are being asked for the first time."""
