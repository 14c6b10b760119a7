"""The text of the results of an upgrade of many databases."""

from __future__ import annotations

import click

from ampho._text import counted, printable
from ampho.cli.fleet.output import LONGEST_CAUSE
from ampho.cli.lines import say
from ampho.cli.reporter import in_seconds
from ampho.cli.show import print_text
from ampho.fleet.report import Failure, FleetReport, RevisionCount

_FAILURES = 20  # the maximum number of failures that are listed


@print_text.register
def _(report: FleetReport, ctx: click.Context) -> None:
    counts = ", ".join(f"{number:,} {outcome}" for outcome, number in report.outcomes.items())
    for each in report.revisions:
        say(f"  {_revision(each)}")
    for failure in report.failures[:_FAILURES]:
        _print_failure(failure)
    if len(report.failures) > _FAILURES:
        say(f"and {len(report.failures) - _FAILURES} more; --json lists all of them.")
    if report.stopped:
        say(f"Stopped: {report.stopped}. To continue, run the command again.")
    say(f"{counts or 'No databases'}, in {in_seconds(report.duration)}.")


def _revision(count: RevisionCount) -> str:
    failed = f", failed on {count.failed}" if count.failed else ""
    return f"{count.revision}: applied to {counted(count.applied, 'database')}{failed}"


def _print_failure(failure: Failure) -> None:
    label = f"{failure.database}: {failure.outcome}:"
    say(f"{label} {printable(failure.cause, LONGEST_CAUSE)}", colors={label: "red"})
    say(f"  Try it again with '{failure.command}'.")
