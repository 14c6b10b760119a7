"""What a command reports while it runs, in plain lines; :mod:`ampho.cli.progress` has the display for terminals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ampho._text import counted, listed
from ampho.cli.lines import say, warn
from ampho.migrate.observers import Observer

if TYPE_CHECKING:
    from ampho.migrate.plan import Plan, Step

PACKAGES = 10
"""The greatest number of packages that a line lists by name."""


class WarningsOnly(Observer):
    """Prints warnings to standard error, and nothing to standard output, which is for the result."""

    def waiting(self, holder: str) -> None:
        say(f"Waiting for another process that is migrating this database{holder and f': {holder}'}", err=True)

    def awaiting(self, what: str) -> None:
        say(f"Waiting for {what}.", err=True)

    def warned(self, message: str) -> None:
        warn(message)


class Reporter(WarningsOnly):
    """Prints a line for each step of a run when the step ends.

    Starting the line earlier would mix it with what the revision prints or logs.
    """

    def __init__(self) -> None:
        self._width = 0

    def planned(self, plan: Plan) -> None:
        if not plan.steps:
            say(nothing_to_do(plan))
            return
        self._width = max(len(step.revision.id) for step in plan.steps)
        verb = "Upgrading" if plan.direction == "upgrade" else "Downgrading"
        say(f"{verb} ({plan.specifier}): {counted(len(plan.steps))} of {listed(plan.packages, PACKAGES)}")

    def _ended(self, step: Step, how: str, color: str) -> None:
        sign = "+" if step.direction == "upgrade" else "-"
        line = f"  {sign} {step.revision.id:<{self._width}}  {step.revision.message} ... {how}"
        say(line, hang=self._width + len("  +   "), colors={how: color})

    def applied(self, step: Step, duration: float) -> None:
        self._ended(step, in_seconds(duration), "green")

    def failed(self, step: Step, error: Exception) -> None:
        self._ended(step, "failed", "red")

    def retrying(self, step: Step, seconds: float) -> None:
        self._ended(step, f"waited for a lock; retrying in {in_seconds(seconds)}", "yellow")

    def interrupted(self, step: Step) -> None:
        self._ended(step, "interrupted", "yellow")


def nothing_to_do(plan: Plan) -> str:
    """Return a sentence that says why a plan has no steps."""
    return f"Nothing to do: {_why_nothing(plan)}."


def _why_nothing(plan: Plan) -> str:
    if plan.direction == "upgrade":
        if not plan.rows:
            return "there are no revisions yet"
        # "X is applied" would be wrong for a package without revisions.
        return "everything is applied" if plan.specifier == "heads" else f"nothing is pending for {plan.specifier}"
    package, _, target = plan.specifier.rpartition("@")
    if target == "base":
        return f"nothing of {package} is applied" if package else "nothing is applied"
    return f"nothing after {target} is applied"


def in_seconds(duration: float) -> str:
    """Return a duration as text."""
    return f"{duration * 1000:.0f} ms" if duration < 1 else f"{duration:.1f} s"
