"""Observers that print a command's progress as plain lines. :mod:`ampho.cli.progress` has a display for terminals."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ampho._text import counted, listed
from ampho.cli.databases import say_name
from ampho.cli.lines import say, warn
from ampho.migrate.observers import Observer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ampho.migrate.observers import BackfillProgress
    from ampho.migrate.plan import Plan, Step

PROGRESS_SECONDS = 10.0
"""The number of seconds between two lines about the same step."""

PACKAGES = 10
"""The maximum number of packages that a line lists by name."""


class WarningsOnly(Observer):
    """Prints warnings, and what a command is waiting for, to standard error. Standard output is for the result."""

    def waiting(self, holder: str) -> None:
        say(f"Waiting for another process that is migrating this database{holder and f': {holder}'}", err=True)

    def awaiting(self, what: str) -> None:
        say(f"Waiting for {what}.", err=True)

    def created(self, what: str, database: str) -> None:
        say(f"Created {what}.", err=True)

    def warned(self, message: str) -> None:
        warn(message)


class Reporter(WarningsOnly):
    """Prints a line for each step of a run when the step ends.

    If it printed the beginning of the line earlier, the output of the revision could interrupt that line.

    :ivar selected: the names of the databases that the user selected, if any.
    """

    def __init__(self) -> None:
        self.selected: Sequence[str] = ()
        self._width = 0
        self._database: str | None = None  # the database of the last line, if the plan has several
        self._said = 0.0

    def planned(self, plan: Plan) -> None:
        if not plan.steps:
            say(nothing_to_do(plan, self.selected))
            return
        self._width = max(len(step.revision.id) for step in plan.steps)
        verb = "Upgrading" if plan.direction == "upgrade" else "Downgrading"
        what = f"{counted(len(plan.steps))} of {listed(plan.packages, PACKAGES)}{in_databases(plan)}"
        limit = f", phase {plan.phase}" if plan.phase else ""
        say(f"{verb} ({plan.specifier}{limit}): {what}")
        self._database = "" if len(plan.databases) > 1 else None

    def _head(self, step: Step) -> None:
        """Print the name of a step's database, if it differs from that of the step before."""
        if self._database is not None and step.database != self._database:
            self._database = step.database
            say_name(step.database)

    def _ended(self, step: Step, how: str, color: str) -> None:
        self._head(step)
        sign = "+" if step.direction == "upgrade" else "-"
        line = f"  {sign} {step.revision.id:<{self._width}}  {step.revision.message} ... {how}"
        say(line, hang=self._width + len("  +   "), colors={how: color})

    def started(self, step: Step) -> None:
        self._said = time.monotonic()

    def progressed(self, step: Step, progress: BackfillProgress) -> None:
        now = time.monotonic()
        if now - self._said >= PROGRESS_SECONDS:
            self._said = now
            self._head(step)
            say(f"    {step.revision.id}: {progress}")

    def applied(self, step: Step, duration: float) -> None:
        self._ended(step, "recorded" if step.is_recorded else in_seconds(duration), "green")

    def failed(self, step: Step, error: Exception) -> None:
        self._ended(step, "failed", "red")

    def retrying(self, step: Step, seconds: float) -> None:
        self._ended(step, f"waited for a lock; retrying in {in_seconds(seconds)}", "yellow")

    def interrupted(self, step: Step) -> None:
        self._ended(step, "interrupted", "yellow")


def in_databases(plan: Plan) -> str:
    """Return the names of the databases of a plan as a phrase; empty if the app has only one."""
    if not plan.is_of_several:
        return ""
    noun = "database" if len(plan.databases) == 1 else "databases"
    return f", in the {noun} {listed(plan.databases, PACKAGES)}"


def nothing_to_do(plan: Plan, selected: Sequence[str] = ()) -> str:
    """Return a sentence that explains why a plan has no steps.

    :param selected: the names of the databases that the user selected, if any.
    """
    package, _, target = plan.specifier.rpartition("@")
    if plan.direction == "downgrade" and target == "base":
        reason = f"nothing of {package} is applied" if package else "nothing is applied"
    elif plan.direction == "downgrade":
        reason = f"nothing after {target} is applied"
    elif not plan.rows:
        reason = "there are no revisions yet"
    elif plan.held_back:
        reason = "only revisions in phase post are pending"
    elif plan.specifier == "heads":
        where = f" to {listed(selected, PACKAGES)}" if selected and plan.is_of_several else ""
        reason = f"everything is applied{where}"
    else:  # "X is applied" would be wrong for a package without revisions
        reason = f"nothing is pending for {plan.specifier}"
    return f"Nothing to do: {reason}."


def in_seconds(duration: float) -> str:
    """Return a duration as text, in seconds or milliseconds."""
    return f"{duration * 1000:.0f} ms" if duration < 1 else f"{duration:.1f} s"
