"""What ``db-status`` prints."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from ampho._text import counted
from ampho.cli.lines import say
from ampho.cli.show.output import remarks
from ampho.cli.show.tables import Cell, Layout, draw, line
from ampho.cli.terminal import console, is_terminal, styled
from ampho.status.deployment import Status
from ampho.status.state import Mark
from ampho.status.summary import DatabaseStatus, PackageStatus, RevisionStatus

if TYPE_CHECKING:
    from rich.text import Text

_LEAST = 12  # columns of a message that are worth showing
_MARKS = {Mark.APPLIED: "[X]", Mark.EDITED: "[X]", Mark.PENDING: "[ ]", Mark.UNCERTAIN: "[?]"}
_NOTES = {
    Mark.EDITED: "edited",
    Mark.DIVERGED: "diverged",
    Mark.MISSING: "missing",
    Mark.UNCERTAIN: "may be applied",
    Mark.UNFINISHED: "unfinished",
}
_STYLES = {Mark.APPLIED: "green", Mark.PENDING: "yellow", Mark.UNCERTAIN: "yellow"}


def print_status(status: DatabaseStatus, *, all: bool) -> None:  # noqa: A002 (the option's name)
    """Print where a database is.

    :param all: whether each revision is listed, instead of a table of the packages.
    """
    if all:
        _print_revisions(status)
    elif status.packages:
        draw([partial(layout, status) for layout in (_wide, _narrow, _stacked)])
    told = list(remarks(status))
    told += [f"{package.package} has no revisions yet: {package.remedy}." for package in status if package.is_empty]
    if told:
        say()
    for text in told:
        say(text)
    if status.pending:
        behind = sum(bool(package.pending) for package in status)
        say()
        say(f"Pending: {counted(status.pending)} of {behind} package{'s' if behind > 1 else ''}.")
    elif status.status is Status.UP_TO_DATE and any(not package.is_empty for package in status):
        say()
        say("The database is up to date with the code.")


def _wide(status: DatabaseStatus) -> Layout:
    titles = ("Package", ">Applied", ">Implied", ">Pending", ">Missing", "Heads", "Last applied", "When (UTC)")
    rows: list[tuple[Cell, ...]] = []
    for package in status:
        mark = " (conflict)" if package.is_in_conflict else ""
        heads = [(", ".join(package.heads) + mark or "-", "red" if mark else "")]
        rows.append((_name(package), *_numbers(package), heads, package.last or "-", _moment(package.when)))
    return Layout(titles, rows)


def _narrow(status: DatabaseStatus, *, stacked: bool = False) -> Layout:
    """Show a head only where it is not what was applied last."""
    has_missing = any(package.missing for package in status)
    titles = ["Package", ">Applied", ">Implied", ">Pending", *([">Missing"] if has_missing else ()), "Last applied"]
    rows: list[tuple[Cell, ...]] = []
    for package in status:
        numbers = _numbers(package)[: None if has_missing else -1]
        when = _moment(package.when, "%Y-%m-%d %H:%M")
        is_empty = not (package.applied or package.missing)
        lines = [] if is_empty and package.heads else [package.last or "-"]
        lines += [when] if stacked and package.when else []
        lines += [f"head {head}" for head in package.heads if head != package.last]
        last = [("\n".join(lines), "")]
        if package.is_in_conflict:
            last.append((f"\nconflict: {len(package.heads)} heads", "red"))
        rows.append((_name(package), *numbers, last, *(() if stacked else (when,))))
    return Layout([*titles, *(() if stacked else ("When (UTC)",))], rows)


def _stacked(status: DatabaseStatus) -> Layout:
    return _narrow(status, stacked=True)


def _numbers(package: PackageStatus) -> tuple[Cell, ...]:
    return (
        [(str(package.applied), "green" if package.applied else "dim")],
        [(str(package.implied), "" if package.implied else "dim")],
        [(str(package.pending), "bold yellow" if package.pending else "dim")],
        [(str(package.missing), "bold red" if package.missing else "dim")],
    )


def _print_revisions(status: DatabaseStatus) -> None:
    terminal = console()
    lines = list(_lines(status))
    if is_terminal() and any(each.cell_len > terminal.width for each in lines):
        lines = list(_lines(status, terminal.width))
    for each in lines:
        line(terminal, each)


def _lines(status: DatabaseStatus, room: int | None = None) -> Iterator[Text]:
    """Give the lines of all packages.

    :param room: the columns that there are, if they are too few for whole lines.
    """
    for package in status:
        numbers = {"applied": package.applied, "pending": package.pending, "missing": package.missing}
        said = ", ".join(f"{number} {name}" for name, number in numbers.items() if number) or "no revisions yet"
        yield styled((f"{_name(package)}  ", "bold"), (said, ""))
        width = max((len(revision.id) for revision in package.revisions), default=0)
        yield from (_revision(revision, width, room) for revision in package.revisions)


def _revision(revision: RevisionStatus, width: int, room: int | None = None) -> Text:
    """Return the line of a revision.

    :param room: the columns that there are; then the time is a date, and the message may be cut.
    """
    notes = ["head"] if revision.is_head else []
    notes += filter(None, [_NOTES.get(revision.mark)])
    note = styled((f"  ({'; '.join(notes)})" if notes else "", ""))
    form, space = ("%Y-%m-%d %H:%M:%S", 19) if room is None else ("%Y-%m-%d", 10)
    mark = (f" {_MARKS.get(revision.mark, '[!]')} ", _STYLES.get(revision.mark, "red"))
    text = styled(mark, (f"{revision.id:<{width}}  {_moment(revision.when, form, ''):<{space}}  ", ""))
    message = styled((revision.message, ""))
    if room is not None:
        message.truncate(max(room - text.cell_len - note.cell_len, _LEAST), overflow="ellipsis")
    text.append(message)
    if not message and not notes:
        text.rstrip()
    return text.append(note)


def _name(package: PackageStatus) -> str:
    return package.package or "(unknown)"


def _moment(when: datetime | None, form: str = "%Y-%m-%d %H:%M:%S", missing: str = "-") -> str:
    return when.strftime(form) if when else missing
