"""What a command did to a database: the run, and its steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ampho.history.revision import Revision
    from ampho.migrate.plan import Direction, Plan, Step


@dataclass(frozen=True, slots=True)
class StepRun:
    """A step that was run.

    :ivar duration: seconds, the commit included.
    """

    step: Step
    duration: float

    @property
    def revision(self) -> Revision:
        """The revision of the step."""
        return self.step.revision

    @property
    def direction(self) -> Direction:
        """Which way it went."""
        return self.step.direction


@dataclass(frozen=True, slots=True)
class Run:
    """What a command did.

    :ivar plan: what it set out to do; a plan without steps means that there was nothing to do.
    :ivar steps: what it did.
    """

    plan: Plan
    steps: tuple[StepRun, ...]

    @property
    def duration(self) -> float:
        """The seconds that its steps took."""
        return sum(step.duration for step in self.steps)
