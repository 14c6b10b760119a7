"""What there is to draw of a run: written by the run, and read by the thread that draws it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ampho.database.statement import Statement
    from ampho.migrate.plan import Step

_LONG = 2.0  # seconds after which a statement is worth showing


@dataclass
class Scene:
    """A run at this moment; moments are ``time.monotonic()``.

    :ivar ids: the revisions of its plan, in their order.
    :ivar begin: when it began.
    :ivar done: how many of them are done.
    :ivar step: what runs, and since when.
    :ivar statement: the statement that runs, and since when.
    """

    ids: tuple[str, ...] = ()
    begin: float = 0.0
    done: int = 0
    step: tuple[Step, float] | None = None
    statement: tuple[Statement, float] | None = None

    def number(self) -> int:
        """Return which revision of the plan runs, or ran last."""
        step = self.step
        return self.ids.index(step[0].revision.id) + 1 if step else self.done

    def long_statement(self, now: float) -> tuple[Statement, float] | None:
        """Return the statement that has been running for long, and since when."""
        statement = self.statement
        return statement if statement and now - statement[1] > _LONG else None
