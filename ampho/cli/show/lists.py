"""The text of results that are lists. Each kind of list has a class, so that ``print_text()`` can recognize it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import click

from ampho._text import counted, shown_path
from ampho.cli.lines import say
from ampho.cli.reporter import in_seconds
from ampho.cli.show import is_verbose, print_text

if TYPE_CHECKING:
    from ampho.database.journal import Entry
    from ampho.revise.autogenerate.generate import Drift, Generated
    from ampho.revise.autogenerate.operations.describe import Change
    from ampho.revise.heads import HeadsCheck
    from ampho.revise.writer import Initialized
    from ampho.status.state import RevisionRecord

_NO_REVISIONS = "There are no revisions yet. Write one with 'ampho db-rev PACKAGE MESSAGE'."


class Revisions(tuple["RevisionRecord", ...]):
    """The revisions that a specifier names, in the order in which they run."""


@print_text.register
def _(revisions: Revisions, ctx: click.Context) -> None:
    """Print the revisions of each package. If the specifier names a single revision, print that revision in full."""
    spec = ctx.params["spec"]
    if spec and len(revisions) == 1 and spec not in {revisions[0].package, "heads", *revisions[0].labels}:
        _print_in_full(revisions[0])
        return
    for package in dict.fromkeys(record.package for record in revisions):
        say(package)
        print_records([record for record in revisions if record.package == package], "  ")
    if not revisions:
        say(_NO_REVISIONS, err=True)


def _print_in_full(record: RevisionRecord) -> None:
    fields = {
        "Revision": f"{record.id} ({_head(record)})" if record.is_head else record.id,
        "Package": record.package,
        "Revises": ", ".join(record.down_revisions) or "nothing (first revision)",
        "Depends on": ", ".join(record.depends_on),
        "Required by": ", ".join(record.required_by),
        "Labels": ", ".join(record.labels),
        "Phase": record.phase,
        "File": shown_path(record.path),
    }
    _print_fields(fields, indent="", width=13)
    say()
    for line in record.doc.strip().splitlines():
        say(f"    {line}".rstrip(), hang=4)


def _print_fields(fields: Mapping[str, object], *, indent: str, width: int) -> None:
    for name, value in fields.items():
        if value:
            say(f"{indent}{name + ':':<{width}}{value}", hang=len(indent) + width)


def print_records(
    records: Iterable[RevisionRecord], indent: str, remarks: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Print a line for each revision.

    :param remarks: notes for the lines of some revisions, by revision id.
    """
    records = list(records)
    width = max((len(record.id) for record in records), default=0)
    for record in records:
        notes = [_head(record)] if record.is_head else []
        own = [parent for parent in record.down_revisions if parent not in record.depends_on]
        if len(own) > 1:
            notes.append(f"merges {', '.join(own)}")
        if record.depends_on:
            notes.append(f"depends on {', '.join(record.depends_on)}")
        if record.id in remarks:
            notes.append(remarks[record.id])
        note = f"  ({'; '.join(notes)})" if notes else ""
        say(f"{indent}{record.id:<{width}}  {record.message}{note}", hang=len(indent) + width + 2)


def _head(record: RevisionRecord) -> str:
    return f"head of {record.branch}" if record.branch else "head"


@dataclass(frozen=True)
class PackageHeads:
    """The heads of one package.

    :ivar package: the name of the package.
    :ivar revisions: the heads of the package.
    """

    package: str
    revisions: tuple[RevisionRecord, ...]


class Heads(tuple[PackageHeads, ...]):
    """The heads of each package."""

    @classmethod
    def of(cls, records: Sequence[RevisionRecord]) -> Heads:
        """Group heads by package."""
        packages = dict.fromkeys(each.package for each in records)
        return cls(PackageHeads(name, tuple(each for each in records if each.package == name)) for name in packages)


@print_text.register
def _(heads: Heads, ctx: click.Context) -> None:
    width = max((len(each.package) for each in heads), default=0)
    for each in heads:
        say(f"{each.package:<{width}}  {', '.join(map(_in_branch, each.revisions))}")
        if len(each.revisions) > 1 and not each.revisions[0].branch:
            _print_conflict(each)
    if len(heads) > 1 and all(len(each.revisions) == 1 for each in heads):
        say("One head in each package is normal: there is nothing to merge.")
    if not heads:
        say(_NO_REVISIONS, err=True)


class HeadsChecks(tuple["HeadsCheck", ...]):
    """The heads of each package, and what is wrong with them."""


@print_text.register
def _(checks: HeadsChecks, ctx: click.Context) -> None:
    width = max((len(each.package) for each in checks), default=0)
    for each in checks:
        say(f"{each.package:<{width}}  {', '.join(each.heads) or '-'}")
        if each.problem:
            say(f"    {each.problem}", hang=4)
    if not checks:
        say(_NO_REVISIONS, err=True)


def _in_branch(record: RevisionRecord) -> str:
    return f"{record.id} ({record.branch})" if record.branch else record.id


def _print_conflict(heads: PackageHeads) -> None:
    for record in heads.revisions:
        say(f"    {record.id}: {record.message} ({shown_path(record.path)})")
    ways = [f"merge them with 'ampho db-merge {heads.package}'"]
    if len(heads.revisions) == 2:
        ways.append(f"move the later one on top of the other with 'ampho db-rebase {heads.package}'")
    say(f"    These are parallel: {', or '.join(ways)}.")


class Log(tuple["Entry", ...]):
    """The entries of the journal, with the oldest first."""


@print_text.register
def _(log: Log, ctx: click.Context) -> None:
    width = max((len(entry.revision) for entry in log), default=0)
    for entry in log:
        moment = entry.started or entry.finished
        when = f"{moment:%Y-%m-%d %H:%M:%S}" if moment else "?"
        sign = "+" if entry.direction == "upgrade" else "-"
        took = f", {in_seconds(entry.duration)}" if entry.duration is not None else ""
        who = "@".join(filter(None, (entry.db_user, entry.host)))
        say(f"{when}  {sign} {entry.revision:<{width}}  {entry.outcome}{took}  ({who})")
        if is_verbose(ctx):
            fields = {
                "Package": entry.package,
                "Depends on": ", ".join(entry.parents),
                "File": entry.checksum and f"SHA-256 {entry.checksum}",
                "Versions": entry.versions,
                "Statements": entry.statements,
                "Error": entry.error,
            }
            _print_fields(fields, indent="    ", width=12)
    if not log:
        say("The database has no journal yet. The next 'ampho db-up' or 'ampho db-down' creates it.", err=True)


class Drifts(tuple["Drift", ...]):
    """The differences between the models and a database, by package."""

    @property
    def nothing_found(self) -> str:
        """What to say about several databases without differences; empty if there are differences."""
        return "" if any(drift.operations for drift in self) else "no differences"


@print_text.register
def _(drifts: Drifts, ctx: click.Context) -> None:
    names = [drift.package or "(no package)" for drift in drifts]
    width = max(map(len, names), default=0)
    for name, drift in zip(names, drifts, strict=True):
        differences = counted(len(drift.changes), "difference")
        say(f"{name:<{width}}  {differences if drift.changes else 'matches its models'}")
        print_changes(drift.changes, "    ")
        texts = {change.text for change in drift.changes}
        for operation in drift.operations if drift.from_hook or is_verbose(ctx) else ():
            if operation not in texts:
                say(f"      {operation}", hang=len("      "))


def print_changes(changes: Iterable[Change], indent: str = "") -> None:
    """Print a line for each change of the schema."""
    colors = {f"{indent}+": "green", f"{indent}-": "red", f"{indent}~": "yellow"}
    for change in changes:
        say(f"{indent}{change.text}", hang=len(indent) + len("+ "), colors=colors)


class AllGenerated(tuple["Generated", ...]):
    """The revisions that were generated to make the database match the models, by package."""


@print_text.register
def _(found: AllGenerated, ctx: click.Context) -> None:
    for each in found:
        print_changes(each.changes)
        for revision in each.revisions:
            say(f"Wrote {shown_path(revision.path)}")
        for path in () if each.revisions else each.paths:
            say(f"Would write {shown_path(path)}")
        if each.is_split:
            say(
                "There are two phases: the new release of the app needs the first part of these changes, but the old"
                " release may fail with the second. Apply them with 'ampho db-up --phase pre' and '--phase post', or"
                " all with 'ampho db-up'. To keep the changes together, add --no-split."
            )
    if not found:
        say("Nothing to do: its packages were compared with another database.")
    elif not any(each.paths for each in found):
        for each in found:
            for table, package in each.moved.items():
                say(f"The table {table} has moved from {package} to {each.package}. No revision is needed for that.")
        one = len(found) == 1
        whose = f"the tables of {found[0].package} match its" if one else "the tables of all packages match their"
        say(f"Nothing to do: {whose} models.")


class AllInitialized(tuple["Initialized", ...]):
    """The migrations folders that were written."""


@print_text.register
def _(found: AllInitialized, ctx: click.Context) -> None:
    for each in found:
        say(f"Wrote {shown_path(each.package.folder)}: {', '.join(path.name for path in each.files)}")
    if hint := next((each.naming_hint for each in found if each.naming_hint), None):
        say(hint)
    say('Next: ampho db-rev -a "Initial"' if found else "Nothing to do: all listed packages have a migrations folder.")
