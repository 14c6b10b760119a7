"""The text of the results of ``db-init`` and ``db-lint``."""

from __future__ import annotations

import click

from ampho._text import counted, listed, sentences, shown_path
from ampho.cli.lines import say
from ampho.cli.show import print_text
from ampho.revise.adopt import Adopted
from ampho.revise.lint import LintReport
from ampho.revise.writer import Initialized


@print_text.register
def _(done: Initialized, ctx: click.Context) -> None:
    say(f"Wrote {shown_path(done.package.folder)}: {', '.join(path.name for path in done.files)}")
    if done.updated:
        say(f"Added {done.package.name} to {', '.join(map(shown_path, done.updated))}")
    if done.hint:
        say(done.hint)
    if done.naming_hint:
        say(done.naming_hint)
    say(f'Next: ampho db-rev {done.package.name} "Initial" -a')


@print_text.register
def _(done: Adopted, ctx: click.Context) -> None:
    source, folder = shown_path(done.source), shown_path(done.folder)
    if not done.revisions:
        say(f"Nothing to do: {source} has no revision files that are not in {done.package} already.")
        return
    verb = "Would move" if done.is_planned else "Moved"
    say(f"{verb} {counted(len(done.revisions))} from {source} to {folder}: {listed(done.revisions)}")
    if done.arguments:
        copied = "Would copy" if done.is_planned else "Copied"
        say(f"{copied} to {shown_path(done.folder / 'env.py')}: {', '.join(done.arguments)}")
    if done.by_hand:
        say("Look at these lines, which were not copied:")
        for line in done.by_hand:
            say(f"  {line}", hang=4)
    if done.left:
        say(f"No longer used: {listed([shown_path(path) for path in done.left])}. Delete them when you have looked.")
    if done.hint:
        say(done.hint)
    if not done.is_planned:
        say("Next: ampho db-status, on each database, and then db-up. No database was changed.")


@print_text.register
def _(report: LintReport, ctx: click.Context) -> None:
    shown = None
    for violation in report.violations:
        if violation.revision != shown:
            shown = violation.revision
            say(f"{shown}  ({shown_path(violation.path)})")
        say(f"  {violation.rule}: {sentences(violation.message, violation.help)}")
        for line in violation.statement.splitlines():
            say(f"      {line.strip()}")
    if not report.revisions:
        say("Nothing to check: no revision is pending.")
        return
    scope = "" if report.has_squawk else " (without squawk, which only checks SQL for PostgreSQL)"
    found = counted(len(report.violations), "finding") if report.violations else "No findings"
    say(f"{found} in {counted(len(report.revisions))}{scope}.")
