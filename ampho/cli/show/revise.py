"""The text of the results of ``db-init``, ``db-lint``, and ``db-squash``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from ampho._text import counted, listed, sentences, shown_path
from ampho.cli.lines import say
from ampho.cli.show import print_text
from ampho.history.package import SETTING
from ampho.revise.adopt.adopt import Adopted
from ampho.revise.adopt.parts import SplitRevision
from ampho.revise.lint.report import LintReport, Violation
from ampho.revise.squash.prune import Pruned
from ampho.revise.squash.squash import Squashed
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
    source = shown_path(done.source)
    for each in (done, *done.others):
        if each.revisions:
            _print_moved(each, source)
    print_parts(done)
    if not done.revisions:
        say(f"Nothing to do: {source} has no revision files that are not in {done.package} already.")
    _print_copied(done)
    if done.installed:
        say(f"Installed packages keep their files. Add to {SETTING}: {', '.join(done.installed)}")
    for each in (done, *done.others):
        if each.hint:
            say(each.hint)
    if done.written and not done.is_planned:
        say("Throwaway databases have the same schema with the old and the new revisions. No database was changed.")
        say("Next: 'ampho db-up' on each database, which records the new revisions where the old ones are applied.")
    elif done.revisions and not done.is_planned:
        say("No database was changed, and none needs to be. 'ampho db-status' shows the state of each.")


def _print_copied(done: Adopted) -> None:
    if done.arguments:
        copied = "Would copy" if done.is_planned else "Copied"
        places = [shown_path(each.folder / "env.py") for each in (done, *done.others)]
        where = "the env.py of each package" if done.written else ", ".join(places)
        say(f"{copied} to {where}: {', '.join(done.arguments)}")
    if done.by_hand:
        say("Look at these lines, which were not copied:")
        for line in done.by_hand:
            say(f"  {line}", hang=4)
    if done.left:
        unused = listed([shown_path(path) for path in done.left])
        say(f"No longer used: {unused}. Delete them once you have checked them.")


def _print_moved(done: Adopted, source: str) -> None:
    folder = shown_path(done.moved[0].target.parent if done.written else done.folder)
    ids = counted(len(done.revisions))
    if done.is_in_place:
        verb = "Would take over" if done.is_planned else "Took over"
        say(f"{verb} {ids} of {done.package} in {folder}, with a new env.py: {listed(done.revisions)}")
    else:
        say(f"{'Would move' if done.is_planned else 'Moved'} {ids} from {source} to {folder}: {listed(done.revisions)}")


def print_parts(done: Adopted, *, before_question: bool = False) -> None:
    """Print the new revisions of a history that is split over several packages."""
    for part in done.written:
        verb = "Would write" if done.is_planned else "Wrote"
        say(f"{verb} {shown_path(part.revision.path)}: {_tables(part)}", err=before_question)
        if part.carried:
            what, how, why = "these statements", "only as comments", "they are more than changes of the schema"
            if len(part.carried) == 1:
                what, how, why = "this statement", "only as a comment", "it is more than a change of the schema"
            say(f"  It contains {what} {how}, because {why}:", err=before_question)
        for each in part.carried:
            say(f"    {each.text}", err=before_question)
    for path in done.changed:
        say(f"{'Would change' if done.is_planned else 'Changed'} {shown_path(path)}: it names the new revisions")


def _tables(part: SplitRevision) -> str:
    needed = f"; it depends on {listed(part.revision.depends_on)}" if part.revision.depends_on else ""
    one = len(part.tables) == 1
    what = f"the table{'' if one else 's'} {listed(part.tables)}" if part.tables else "foreign keys"
    return f"{what}{needed}"


def _by_statement(report: LintReport) -> Mapping[tuple[str, int, str], Sequence[Violation]]:
    found: dict[tuple[str, int, str], list[Violation]] = {}
    for one in report.violations:
        found.setdefault((one.revision, one.line, one.statement), []).append(one)
    return found


@print_text.register
def _(report: LintReport, ctx: click.Context) -> None:
    shown = None
    for (revision, line, statement), violations in _by_statement(report).items():
        if revision != shown:
            shown = revision
            say(f"{shown}  ({shown_path(violations[0].path)})")
        first, *others = statement.splitlines() or [""]
        say(f"  line {line}: {first.strip()}" if first else f"  line {line}:")
        for each in others:
            say(f"      {each.strip()}")
        for number, violation in enumerate(violations):
            say(f"    {violation.rule}: {sentences(violation.message)}")
            if violation.help not in ("", *(other.help for other in violations[number + 1 :])):
                say(f"      Fix: {sentences(violation.help)}")
    if not report.revisions:
        is_diff = ctx.params.get("diff_base") is not None
        say(f"Nothing to check: {'the branch adds or changes no revision' if is_diff else 'no revision is pending'}.")
        return
    scope = "" if report.has_squawk else " (without squawk, which only checks SQL for PostgreSQL)"
    found = counted(len(report.violations), "finding") if report.violations else "No findings"
    say(f"{found} in {counted(len(report.revisions))}{scope}.")


@print_text.register
def _(done: Squashed, ctx: click.Context) -> None:
    if not done.is_written:
        for new in done.revisions:
            say(f"{new.id} would replace {_range(new.replaces)}")
        print_carried(done)
        say(f"{counted(len(done.moved), 'file')} would be moved to {shown_path(done.moved[0].parent)}")
        for path in done.changed:
            say(f"{shown_path(path)} would name the new revision")
        return
    for new in done.revisions:
        say(f"Wrote {shown_path(new.path)}: it replaces {_range(new.replaces)}")
    say(f"Moved {counted(len(done.moved), 'file')} to {shown_path(done.moved[0].parent)}")
    for path in done.changed:
        say(f"Changed {shown_path(path)}: it names the new revision")


def _range(ids: Sequence[str]) -> str:
    return f"{counted(len(ids))}, {ids[0]} to {ids[-1]}"


def print_carried(plan: Squashed, *, before_question: bool = False) -> None:
    """Print the statements that a new revision would contain only as comments."""
    if plan.carried:
        one = len(plan.carried) == 1
        what = "This statement does" if one else "These statements do"
        how = "it only as a comment" if one else "them only as comments"
        say(f"{what} more than change the schema, and the new file would contain {how}:", err=before_question)
        for each in plan.carried:
            say(f"  {each.text}", err=before_question)


@print_text.register
def _(done: Pruned, ctx: click.Context) -> None:
    verb = "Deleted" if done.is_deleted else "Would delete"
    say(f"{verb} {counted(len(done.files), 'file')} in {shown_path(done.files[0].parent)}")
    if not done.is_deleted:
        say(done.consequence)
