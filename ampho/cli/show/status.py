"""The text of the results of ``db-status``, ``db-current``, ``db-check --deploy``, and ``db-wait``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import partial
from shlex import quote
from typing import TYPE_CHECKING

import click

from ampho._text import counted, listed, printable
from ampho.cli.databases import selecting
from ampho.cli.lines import say
from ampho.cli.show import is_verbose, print_text, version_row, version_rows
from ampho.cli.show.lists import print_records
from ampho.cli.show.tables import Cell, Layout, draw, line
from ampho.cli.terminal import console, is_terminal, styled
from ampho.history.revision import Phase
from ampho.settings import PLUGINS
from ampho.status.advice import ROWS_REMEDY
from ampho.status.deployment import Deployment, Finding, Status
from ampho.status.fleet import FleetStatus, StateCount
from ampho.status.graph_view import Picture
from ampho.status.state import CurrentState, Mark, PackageState
from ampho.status.summary import DatabaseStatus, PackageStatus, RevisionStatus

if TYPE_CHECKING:
    from rich.text import Text

_LEAST_MESSAGE = 12  # the minimum width of a message, in columns
_LABEL = 40  # the maximum length of a branch label, in characters
_UNLIKELY_NAME = 24  # the same for a name that is not that of a package
_MARKS = {Mark.APPLIED: "[X]", Mark.EDITED: "[X]", Mark.PENDING: "[ ]", Mark.UNCERTAIN: "[?]"}
_UP_TO_DATE = "The database is up to date with the code."
_ALL_UP_TO_DATE = "All databases are up to date with the code."
_SHOWN_DATABASES = 20
_UNREAD = (Status.UNREACHABLE, Status.NOT_CREATED)
_STYLES = {Mark.APPLIED: "green", Mark.PENDING: "yellow", Mark.UNCERTAIN: "yellow"}


@print_text.register
def _(state: CurrentState, ctx: click.Context) -> None:
    width = max((len(package.package) for package in (*state, *state.missing)), default=0)
    for package in state:
        say(f"{package.package:<{width}}  {_position(package)}", hang=width + 2)
        if is_verbose(ctx):
            print_records(package.applied, "    applied  ", dict.fromkeys(state.edited or (), "edited"))
            print_records(package.pending, "    pending  ")
    for text in remarks_on(state):
        say(selecting(text, state.database))


def _position(package: PackageState) -> str:
    pending = f" ({len(package.pending)} pending)" if package.pending else ""
    if not package.applied:
        return f"nothing applied{pending}"
    heads = {record.id for record in package.applied if record.is_head}
    marks = [f"{revision_id} (head)" if revision_id in heads else revision_id for revision_id in package.current]
    return f"{', '.join(marks)}{pending}"


def remarks_on(state: CurrentState | DatabaseStatus) -> Iterator[str]:
    """Yield a line for each problem of a database."""
    width = max((len(package.package) for package in (*state, *state.missing)), default=0)
    for missing in state.missing:
        how = "ahead of its files" if missing.is_ahead else "missing"
        one = len(missing.revisions) == 1
        what = "is applied but has no file" if one else "are applied but have no files"
        ids = version_rows(missing.revisions)
        yield f"{missing.package or '(unknown)':<{width}}  {how}: {ids} {what}: {missing.means}."
    yield from row_remarks(state)
    if state.diverged:
        counts, ran = ("counts", "it ran") if len(state.diverged) == 1 else ("count", "they ran")
        what = f"{listed(state.diverged)} {counts} as applied because a later revision is applied"
        yield f"{what}, but no record says that {ran}; {state.diverged_remedy}."
    if state.edited:
        edited = "was edited after it ran" if len(state.edited) == 1 else "were edited after they ran"
        yield f"{listed(state.edited)} {edited}; {state.edited_remedy}."
    continued = {backfill.revision for backfill in state.backfills}
    for entry in state.unfinished:
        if entry.revision in continued:
            continue
        what = f"The {entry.direction} of {entry.revision} is unfinished: see 'ampho db-log -v'"
        yield f"{what}, and mark it as applied or not applied with 'ampho db-resolve'."
    for backfill in state.backfills:
        what = f"The {backfill.direction} of {backfill.revision} is running, or was interrupted, in its {backfill}"
        yield f"{what}. If it is not running, {backfill.continued_by} continues it."
    if state.uncertain:
        yield "No record says what the missing revisions depend on, so some pending revisions may already be applied."


@print_text.register
def _(picture: Picture, ctx: click.Context) -> None:
    from ampho.cli.graph.output import print_picture  # imported late, because that module imports this one

    print_picture(picture, "text", None)


def row_remarks(state: CurrentState | DatabaseStatus | Picture) -> Iterator[str]:
    """Yield a line for each row that should not be in the version table."""
    for row in state.corrupt:
        yield f"The version table has the row {row!a}, which cannot be a revision id; {ROWS_REMEDY}."
    for row in state.repeated:
        yield f"The version table has the row {row} more than once; {ROWS_REMEDY}."


def print_missing(state: CurrentState, name: str, *, stderr: bool) -> bool:
    """Print the missing revisions that ``db-forget`` would forget; return whether there are any.

    :param name: the name of the package, or the id of one revision.
    :param stderr: whether to print to standard error, because a question follows.
    """
    forgotten = [(missing, ids) for missing in state.missing if (ids := missing.named(name))]
    for missing, ids in forgotten:
        say(f"{counted(len(ids))} of {missing.package or 'an unknown package'} will be forgotten:", err=stderr)
        for revision_id in ids:
            say(f"    {revision_id}", err=stderr)
    if forgotten:
        ways = "To revert the revisions instead, restore their files, and run 'ampho db-down'."
        later = "If the files come back later, mark the revisions as applied with 'ampho db-stamp'."
        say(selecting(f"The tables stay. {ways} {later}", state.database), err=stderr)
    return bool(forgotten)


@print_text.register
def _(deployment: Deployment, ctx: click.Context) -> None:
    for finding in deployment.findings:
        where = f" of {finding.package}" if finding.package else ""
        say(f"{finding.status}: {listed(list(map(version_row, finding.revisions)))}{where}: {finding.means}")
    if not deployment.findings:
        say(_UP_TO_DATE if deployment.database else _ALL_UP_TO_DATE)


@print_text.register
def _(found: FleetStatus, ctx: click.Context) -> None:
    say(f"{', '.join(found.selected)}: {counted(found.total, 'database')}")
    if not found.counts:
        return
    say()
    has_post = any(each.post for each in found.counts)
    titles = (">databases", "status", *(["pending"] if has_post else ()), "version rows")
    draw([partial(Layout, titles, [_count(each, has_post=has_post) for each in found.counts])])
    shown = found.others if ctx.params.get("all_") or is_verbose(ctx) else found.others[:_SHOWN_DATABASES]
    if shown:
        say()
    for state in shown:
        what = str(state.error) if state.error else "; ".join(map(_in_short, state.findings))
        say(f"{state.database}: {state.status}: {what}" if what else f"{state.database}: {state.status}")
    options = " ".join(f"-d {quote(name)}" for name in found.selected)
    if len(shown) < len(found.others):
        say(f"... and {len(found.others) - len(shown)} more. To list them, run 'ampho db-status --all {options}'.")
    if any(state.status is Status.BEHIND for state in found.others):
        say(_remedy(found, options, only_pre=bool(ctx.params.get("phase"))))


def _count(count: StateCount, *, has_post: bool) -> tuple[Cell, ...]:
    """Return a row of the table of states.

    :param has_post: whether the table has a column with the pending revisions.
    """
    pending = [_pending(count) if count.pending else "-"] if has_post else []
    rows = "-" if count.status in _UNREAD else version_rows(count.rows)
    return (str(count.number), str(count.status), *pending, rows)


def _remedy(found: FleetStatus, options: str, *, only_pre: bool) -> str:
    """Return how to upgrade the databases that are behind."""
    behind = [each for state in found.others for each in state.findings if each.status is Status.BEHIND]
    has_post = any(each.post for each in behind)
    if not (has_post or only_pre):
        return f"To upgrade those that are behind, run 'ampho db-up {options}'."
    post = f"'ampho db-up --phase post {options}'"
    if all(each.phase is Phase.POST for each in behind):
        return f"Those that are behind only lack phase post. Once the old release is gone, run {post}."
    then = f", and once the old release is gone, {post}" if has_post else ""
    return f"To upgrade those that are behind, run 'ampho db-up --phase pre {options}'{then}."


def _in_short(finding: Finding) -> str:
    ids = [f"{version_row(each)}{' (post)' if each in finding.post else ''}" for each in finding.revisions]
    return f"{listed(ids)}{f' ({finding.status})' if finding.is_harmless else ''}"


@print_text.register
def _(status: DatabaseStatus, ctx: click.Context) -> None:
    if ctx.params["all_"]:
        _print_revisions(status)
    elif status.packages:
        draw([partial(_wide, status), partial(_narrow, status), partial(_narrow, status, stacked=True)])
    remarks = list(remarks_on(status))
    if status.unread_tables:
        what = f"the version table{'s' if status.unread_tables[1:] else ''} {listed(status.unread_tables)}"
        remarks.append(f"Ampho does not read {what}; {status.unread_tables_remedy}.")
    remarks += [f"{package.package} has no revisions yet: {package.remedy}." for package in status if package.is_empty]
    if status.plugins:
        it = "it" if len(status.plugins) == 1 else "them"
        names = ",".join(plugin.split()[0] for plugin in status.plugins)
        remarks.append(
            f"Installed but not enabled: {listed(status.plugins)}. To enable {it}, add {names} to {PLUGINS}."
        )
    if remarks:
        say()
    for text in remarks:
        say(selecting(text, status.database))
    if status.pending:
        behind = sum(bool(package.pending) for package in status)
        say()
        post = f", {status.post} of them in phase post" if status.post else ""
        say(f"Pending: {counted(status.pending)} of {counted(behind, 'package')}{post}.")
    elif status.status is Status.UP_TO_DATE and any(not package.is_empty for package in status):
        say()
        say(_UP_TO_DATE)


def _wide(status: DatabaseStatus) -> Layout:
    titles = ("Package", ">Applied", ">Implied", ">Pending", ">Missing", "Heads", "Last applied", "When (UTC)")
    rows: list[tuple[Cell, ...]] = []
    for package in status:
        mark = " (conflict)" if package.is_in_conflict else ""
        heads = [(", ".join(_heads(package)) + mark or "-", "red" if mark else "")]
        rows.append((_name(package), *_numbers(package), heads, package.last or "-", _moment(package.when)))
    return Layout(titles, rows)


def _heads(package: PackageStatus) -> list[str]:
    if not package.branches:
        return [*package.heads]
    return [f"{head} ({printable(label, _LABEL)})" for head, label in zip(package.heads, package.branches, strict=True)]


def _narrow(status: DatabaseStatus, *, stacked: bool = False) -> Layout:
    """Return a table that only shows a head if it is not the revision that was applied last.

    :param stacked: whether to print the time of the last applied revision below its id, instead of in its own column.
    """
    has_missing = any(package.missing for package in status)
    titles = ["Package", ">Applied", ">Implied", ">Pending", *([">Missing"] if has_missing else ()), "Last applied"]
    rows: list[tuple[Cell, ...]] = []
    for package in status:
        numbers = _numbers(package)[: None if has_missing else -1]
        when = _moment(package.when, "%Y-%m-%d %H:%M")
        is_empty = not (package.applied or package.missing)
        lines = [] if is_empty and package.heads else [package.last or "-"]
        lines += [when] if stacked and package.when else []
        lines += [f"head {shown}" for shown in _heads(package) if shown.partition(" ")[0] != package.last]
        last = [("\n".join(lines), "")]
        if package.is_in_conflict:
            last.append((f"\nconflict: {len(package.heads)} heads", "red"))
        rows.append((_name(package), *numbers, last, *(() if stacked else (when,))))
    return Layout([*titles, *(() if stacked else ("When (UTC)",))], rows)


def _numbers(package: PackageStatus) -> tuple[Cell, ...]:
    return (
        [(str(package.applied), "green" if package.applied else "dim")],
        [(str(package.implied), "" if package.implied else "dim")],
        [(_pending(package), "bold yellow" if package.pending else "dim")],
        [(str(package.missing), "bold red" if package.missing else "dim")],
    )


def _pending(counted: PackageStatus | StateCount) -> str:
    return f"{counted.pending} ({counted.post} post)" if counted.post else str(counted.pending)


def _print_revisions(status: DatabaseStatus) -> None:
    terminal = console()
    lines = list(_lines(status))
    if is_terminal() and any(each.cell_len > terminal.width for each in lines):
        lines = list(_lines(status, terminal.width))
    for each in lines:
        line(terminal, each)


def _lines(status: DatabaseStatus, room: int | None = None) -> Iterator[Text]:
    """Yield the lines of all packages.

    :param room: the width of the terminal, if lines must be shortened to fit.
    """
    for package in status:
        numbers = {"applied": package.applied, "pending": package.pending, "missing": package.missing}
        said = ", ".join(f"{number} {name}" for name, number in numbers.items() if number) or "no revisions yet"
        yield styled((f"{_name(package)}  ", "bold"), (said, ""))
        width = max((len(revision.id) for revision in package.revisions), default=0)
        yield from (_revision(revision, width, room) for revision in package.revisions)


def _revision(revision: RevisionStatus, width: int, room: int | None = None) -> Text:
    """Return the line of a revision.

    :param room: the width of the terminal, if the line must be shortened to fit: it then contains a date without a
        time, and its message may be cut.
    """
    notes = ["head"] if revision.is_head else []
    if revision.phase is Phase.POST:
        notes.append("post, inferred" if revision.is_phase_inferred else "post")
    if revision.mark not in (Mark.APPLIED, Mark.PENDING):
        notes.append("may be applied" if revision.mark is Mark.UNCERTAIN else str(revision.mark))
    note = styled((f"  ({'; '.join(notes)})" if notes else "", ""))
    form, space = ("%Y-%m-%d %H:%M:%S", 19) if room is None else ("%Y-%m-%d", 10)
    mark = (f" {_MARKS.get(revision.mark, '[!]')} ", _STYLES.get(revision.mark, "red"))
    text = styled(mark, (f"{revision.id:<{width}}  {_moment(revision.when, form, ''):<{space}}  ", ""))
    message = styled((revision.message, ""))
    if room is not None:
        message.truncate(max(room - text.cell_len - note.cell_len, _LEAST_MESSAGE), overflow="ellipsis")
    text.append(message)
    if not message and not notes:
        text.rstrip()
    return text.append(note)


def _name(package: PackageStatus) -> str:
    name = package.package or "(unknown)"
    # A name in the journal may be any text.
    return name if name.replace(".", "").isidentifier() else printable(name, _UNLIKELY_NAME)


def _moment(when: datetime | None, form: str = "%Y-%m-%d %H:%M:%S", missing: str = "-") -> str:
    return when.strftime(form) if when else missing
