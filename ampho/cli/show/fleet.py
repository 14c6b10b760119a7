"""The text of the results of an upgrade of many databases."""

from __future__ import annotations

import re
from collections.abc import Sequence

import click

from ampho._text import counted, listed, printable
from ampho.cli.lines import say
from ampho.cli.reporter import in_seconds
from ampho.cli.show import print_text
from ampho.cli.show.migrate import print_held_back
from ampho.fleet.report import Failure, FleetReport, RevisionCount

_FAILURES = 20  # the maximum number of different failures that are listed
_LONGEST_CAUSE = 400  # characters; the JSON contains all of it


@print_text.register
def _(report: FleetReport, ctx: click.Context) -> None:
    counts = ", ".join(f"{number:,} {outcome}" for outcome, number in report.outcomes.items())
    for each in report.revisions:
        say(f"  {_revision(each)}")
    groups = _alike(report.failures)
    for first, *others in groups[:_FAILURES]:
        _print_failure(first, others)
    if left := sum(map(len, groups[_FAILURES:])):
        say(f"and {left} more; --json lists all of them.")
    if report.stopped:
        say(f"Stopped: {report.stopped}. To continue, run the command again.")
    say(f"{counts or 'No databases'}, in {in_seconds(report.duration)}.")
    print_held_back((each.step, each.databases) for each in report.held_back)


def _revision(count: RevisionCount) -> str:
    if not count.applied:
        return f"{count.revision}: failed on {counted(count.failed, 'database')}"
    failed = f", failed on {count.failed}" if count.failed else ""
    return f"{count.revision}: applied to {counted(count.applied, 'database')}{failed}"


def _alike(failures: Sequence[Failure]) -> list[list[Failure]]:
    """Return groups of failures that have the same cause, apart from the names of the databases in it."""
    groups: dict[tuple[str, str], list[Failure]] = {}
    for each in failures:
        name = re.escape(each.database.partition("/")[2])
        cause = re.sub(rf"(?<![A-Za-z0-9]){name}(?![A-Za-z0-9])", "", each.cause)
        groups.setdefault((each.outcome, cause), []).append(each)
    return list(groups.values())


def _print_failure(failure: Failure, others: Sequence[Failure]) -> None:
    """Print a failure, and the names of other databases with the same cause."""
    label = f"{failure.database}: {failure.outcome}:"
    say(f"{label} {printable(failure.cause, _LONGEST_CAUSE)}", colors={label: "red"})
    say(f"  Try it again with '{failure.command}'.")
    if others:
        count = counted(len(others), "other database")
        say(f"  The same applies to {count}: {listed([each.database for each in others])}.")
