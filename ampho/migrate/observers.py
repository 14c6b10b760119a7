"""Who is told what a run does."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ampho._text import escaped

if TYPE_CHECKING:
    from ampho.database.statement import Statement
    from ampho.errors import AmphoError
    from ampho.migrate.plan import Plan, Step
    from ampho.migrate.run import Run

_log = logging.getLogger("ampho")


class Observer:
    """Is told what a run does. Override what you want to hear of."""

    def planned(self, plan: Plan) -> None:
        """Hear that the plan is accepted, and about to run."""

    def waiting(self, holder: str) -> None:
        """Hear that another process migrates the database, and who that is, as far as the database tells."""

    def awaiting(self, what: str) -> None:
        """Receive from ``wait()`` what the database lacks and who migrates it, or why it does not answer yet.

        Unless overridden, it writes to the logger ``ampho``.
        """
        _log.info("Waiting for %s", what)

    def started(self, step: Step) -> None:
        """Hear that a step begins."""

    def executing(self, statement: Statement) -> None:
        """Hear that a statement goes to the database; who does not override this costs a statement nothing."""

    def executed(self) -> None:
        """Hear that the statement has come to its end, or was rolled back."""

    def applied(self, step: Step, duration: float) -> None:
        """Hear that a step is committed, after ``duration`` seconds."""

    def failed(self, step: Step, error: AmphoError) -> None:
        """Hear that a step failed; the run ends with ``error``."""

    def retrying(self, step: Step, seconds: float) -> None:
        """Hear that a step met a lock, was rolled back, and is tried again after some seconds."""

    def interrupted(self, step: Step) -> None:
        """Hear that a step was interrupted, by Ctrl-C or a cancelled task, which ends the run."""

    def finished(self, run: Run) -> None:
        """Hear that the run has come to its end, which is not told of one that failed."""

    def warned(self, message: str) -> None:
        """Hear that something about the configuration is odd; unless overridden, the logger ``ampho`` does."""
        _log.warning("%s", escaped(message))
