"""What the commands print."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ampho._text import counted, listed, sentences, shown_path
from ampho.cli.lines import say, warn
from ampho.migrate.observers import Observer

if TYPE_CHECKING:
    from ampho.database.journal import Entry
    from ampho.migrate.plan import Plan, Run, Step
    from ampho.migrate.stamp import Stamped
    from ampho.revise.autogenerate import Drift
    from ampho.revise.lint import LintReport
    from ampho.status.deployment import Deployment
    from ampho.status.graph_view import Picture
    from ampho.status.state import CurrentState, MissingState, PackageState, RevisionRecord
    from ampho.status.summary import DatabaseStatus


PACKAGES = 10
"""The greatest number of packages that a line lists by name."""


class WarningsOnly(Observer):
    """Prints to standard error, and leaves standard output to the data."""

    def waiting(self, holder: str) -> None:
        say(f"Waiting for another process that is migrating this database{holder and f': {holder}'}", err=True)

    def awaiting(self, what: str) -> None:
        say(f"Waiting for {what}.", err=True)

    def warned(self, message: str) -> None:
        warn(message)


class Reporter(WarningsOnly):
    """Prints a run as it goes: a line for each revision, written whole when it is done.

    A line begun earlier would be interrupted by the log, or by what the revision prints.
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

    @property
    def _hang(self) -> int:
        """The column of the messages."""
        return self._width + len("  +   ")

    def _begun(self, step: Step) -> str:
        sign = "+" if step.direction == "upgrade" else "-"
        return f"  {sign} {step.revision.id:<{self._width}}  {step.revision.message} ... "

    def _ended(self, step: Step, how: str, colour: str) -> None:
        say(f"{self._begun(step)}{how}", hang=self._hang, colours={how: colour})

    def applied(self, step: Step, duration: float) -> None:
        self._ended(step, _seconds(duration), "green")

    def failed(self, step: Step, error: Exception) -> None:
        self._ended(step, "failed", "red")

    def retrying(self, step: Step, seconds: float) -> None:
        self._ended(step, f"waited for a lock; retrying in {_seconds(seconds)}", "yellow")

    def interrupted(self, step: Step) -> None:
        self._ended(step, "interrupted", "yellow")


def _already(plan: Plan) -> str:
    if plan.direction == "upgrade":
        if not plan.rows:
            return "there are no revisions yet"
        # not "is applied", which a package without revisions is not
        return "everything is applied" if plan.specifier == "heads" else f"nothing is pending for {plan.specifier}"
    package, _, target = plan.specifier.rpartition("@")
    if target == "base":
        return f"nothing of {package} is applied" if package else "nothing is applied"
    return f"nothing after {target} is applied"


def nothing_to_do(plan: Plan) -> str:
    """Say why a plan has no steps."""
    return f"Nothing to do: {_already(plan)}."


def _seconds(duration: float) -> str:
    return f"{duration * 1000:.0f} ms" if duration < 1 else f"{duration:.1f} s"


def print_run(run: Run) -> None:
    """Print the summary of a run, and how many steps of its plan another process did, as can happen on SQLite."""
    if run.plan.steps:
        verb = "Applied" if run.plan.direction == "upgrade" else "Reverted"
        others = len(run.plan.steps) - len(run.steps)
        rest = f"; another process ran the other {others}" if others else ""
        say(f"{verb} {counted(len(run.steps))} in {_seconds(run.duration)}{rest}.", colours={verb: "green"})


def print_current(state: CurrentState, *, verbose: bool) -> None:
    """Print where the database is, a line per package; with ``verbose`` also each revision."""
    width = max((len(package.package) for package in (*state, *state.missing)), default=0)
    for package in state:
        say(f"{package.package:<{width}}  {_position(package)}", hang=width + 2)
        if verbose:
            _print_lines(package.applied, "    applied  ", dict.fromkeys(state.edited or (), "edited"))
            _print_lines(package.pending, "    pending  ")
    for line in remarks(state):
        say(line)


def remarks(state: CurrentState | DatabaseStatus) -> Iterator[str]:
    """Give what else there is to know of a database, a line each."""
    width = max((len(package.package) for package in (*state, *state.missing)), default=0)
    for missing in state.missing:
        yield _missing_line(missing, width)
    yield from row_remarks(state)
    if state.diverged:
        counts, ran = ("counts", "it ran") if len(state.diverged) == 1 else ("count", "they ran")
        what = (
            f"{listed(state.diverged)} {counts} as applied because a later revision is, but no record says that {ran}"
        )
        yield f"{what}; {state.diverged_remedy}."
    if state.edited:
        yield f"Edited since they were applied: {listed(state.edited)}; {state.edited_remedy}."
    for entry in state.unfinished:
        what = f"The {entry.direction} of {entry.revision} is unfinished: see 'ampho db-log -v'"
        yield f"{what}, and mark it as applied or not applied with 'ampho db-resolve'."
    if state.uncertain:
        yield "No record says what the missing revisions depend on, so some pending revisions may be applied."


def row_remarks(state: CurrentState | DatabaseStatus | Picture) -> Iterator[str]:
    """Give what is wrong with the rows of the version table, a line each."""
    from ampho.status.advice import ROWS_REMEDY

    for row in state.corrupt:
        yield f"The version table has the row {row!a}, which cannot be a revision; {ROWS_REMEDY}."
    for row in state.repeated:
        yield f"The version table has the row {row} more than once; {ROWS_REMEDY}."


def _missing_line(missing: MissingState, width: int) -> str:
    ids, one = rows(missing.revisions), len(missing.revisions) == 1
    how = "ahead of its files" if missing.is_ahead else "missing"
    what = f"{ids} {'is applied but has no file' if one else 'are applied but have no files'}: {missing.means}."
    return f"{missing.package or '(unknown)':<{width}}  {how}: {what}"


def print_missing(state: CurrentState, name: str, *, stderr: bool = False) -> bool:
    """Print what a database would know no longer, if it forgot what is missing of a package, or one revision.

    :param stderr: whether it is said before a question, and so is no data.
    """
    lost = [missing for missing in state.missing if missing.named(name)]
    for missing in lost:
        ids = missing.named(name)
        whose = missing.package or "an unknown package"
        say(f"{counted(len(ids))} of {whose} will be forgotten:", err=stderr)
        for revision_id in ids:
            say(f"    {revision_id}", err=stderr)
    if lost:
        ways = "To revert them instead, restore the files, and run 'ampho db-down'."
        later = "If the files return later, mark the revisions as applied with 'ampho db-stamp'."
        say(f"The tables stay. {ways} {later}", err=stderr)
    return bool(lost)


def print_log(entries: Sequence[Entry], *, verbose: bool) -> None:
    """Print what a journal tells, a line per entry; with ``verbose`` also what is known of each."""
    width = max((len(entry.revision) for entry in entries), default=0)
    for entry in entries:
        moment = entry.started or entry.finished
        when = f"{moment:%Y-%m-%d %H:%M:%S}" if moment else "?"
        sign = "+" if entry.direction == "upgrade" else "-"
        took = f", {_seconds(entry.duration)}" if entry.duration is not None else ""
        who = "@".join(filter(None, (entry.db_user, entry.host)))
        say(f"{when}  {sign} {entry.revision:<{width}}  {entry.outcome}{took}  ({who})")
        if verbose:
            fields = {
                "Package": entry.package,
                "Depends on": ", ".join(entry.parents),
                "File": entry.checksum and f"SHA-256 {entry.checksum}",
                "Versions": entry.versions,
                "Statements": entry.statements,
                "Error": entry.error,
            }
            for name, value in fields.items():
                if value:
                    say(f"    {name + ':':<12}{value}", hang=16)
    if not entries:
        say("The database has no journal yet. The next 'ampho db-up' or 'ampho db-down' creates it.", err=True)


def _position(package: PackageState) -> str:
    pending = f" ({len(package.pending)} pending)" if package.pending else ""
    if not package.applied:
        return f"nothing applied{pending}"
    heads = {record.id for record in package.applied if record.is_head}
    marks = [f"{revision_id} (head)" if revision_id in heads else revision_id for revision_id in package.current]
    return f"{', '.join(marks)}{pending}"


def print_drifts(drifts: Sequence[Drift]) -> None:
    """Print what differs, a line per operation."""
    width = max((len(drift.package) for drift in drifts), default=0)
    for drift in drifts:
        count = len(drift.operations)
        say(f"{drift.package:<{width}}  {f'{count} to do' if count else 'matches its models'}")
        for line in drift.operations:
            say(f"    {line}")


def print_deployment(deployment: Deployment) -> None:
    """Print how the database stands to the code, the worst first."""
    for finding in deployment.findings:
        where = f" of {finding.package}" if finding.package else ""
        say(f"{finding.status}: {listed(list(map(_printable, finding.revisions)))}{where}: {finding.means}")
    if not deployment.findings:
        say("The database is up to date with the code.")


def print_lint(report: LintReport) -> None:
    """Print what is dangerous, by revision."""
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
    found = len(report.violations)
    say(f"{found or 'No'} finding{'' if found == 1 else 's'} in {counted(len(report.revisions))}{scope}.")


def print_heads(records: Sequence[RevisionRecord]) -> None:
    """Print the heads of each package, and how to mend it where a package has several."""
    packages = list(dict.fromkeys(record.package for record in records))
    width = max(map(len, packages), default=0)
    for package in packages:
        heads = [record for record in records if record.package == package]
        say(f"{package:<{width}}  {', '.join(record.id for record in heads)}")
        if len(heads) > 1:
            _print_conflict(package, heads)
    if len(records) == len(packages) > 1:
        say("One head in each package is normal: there is nothing to merge.")
    if not records:
        _say_that_there_are_none()


def _print_conflict(package: str, heads: Sequence[RevisionRecord]) -> None:
    for record in heads:
        say(f"    {record.id}: {record.message} ({shown_path(record.path)})")
    rebase = f", or move the later one after the other with 'ampho db-rebase {package}'" if len(heads) == 2 else ""
    say(f"    These are parallel: merge them with 'ampho db-merge {package}'{rebase}.")


def print_stamped(stamped: Stamped) -> None:
    """Print what became of the version rows."""
    for revision_id in stamped.recorded:
        say(f"Recorded that {revision_id} is applied, with its present file.")
    if stamped.recorded and stamped.before == stamped.after:
        return
    if stamped.before == stamped.after:
        say("Nothing to do: the version table already says so.")
        return
    say(f"Before: {rows(stamped.before)}", hang=8)
    say(f"Now:    {rows(stamped.after)}", hang=8)


def rows(ids: Sequence[str]) -> str:
    """Return rows as text; of another tool's making, one may be anything."""
    return ", ".join(_printable(row) for row in ids) or "nothing"


def _printable(row: str) -> str:
    return row if row and row.isprintable() else ascii(row)


def print_revisions(records: Sequence[RevisionRecord]) -> None:
    """Print revisions under the names of their packages."""
    for package in dict.fromkeys(record.package for record in records):
        say(package)
        _print_lines([record for record in records if record.package == package], "  ")
    if not records:
        _say_that_there_are_none()


def _say_that_there_are_none() -> None:
    say("There are no revisions yet. Write one with 'ampho db-rev PACKAGE MESSAGE'.", err=True)


def _print_lines(records: Iterable[RevisionRecord], indent: str, remarks: Mapping[str, str] | None = None) -> None:
    records = list(records)
    width = max((len(record.id) for record in records), default=0)
    for record in records:
        notes = []
        if record.is_head:
            notes.append("head")
        own = [parent for parent in record.down_revisions if parent not in record.depends_on]
        if len(own) > 1:
            notes.append(f"merges {', '.join(own)}")
        if record.depends_on:
            notes.append(f"needs {', '.join(record.depends_on)}")
        if remarks and record.id in remarks:
            notes.append(remarks[record.id])
        note = f"  ({'; '.join(notes)})" if notes else ""
        say(f"{indent}{record.id:<{width}}  {record.message}{note}", hang=len(indent) + width + 2)


def print_revision(record: RevisionRecord) -> None:
    """Print one revision in full."""
    fields = {
        "Revision": f"{record.id}{' (head)' if record.is_head else ''}",
        "Package": record.package,
        "Revises": ", ".join(record.down_revisions) or "nothing: it is a first revision",
        "Depends on": ", ".join(record.depends_on),
        "Required by": ", ".join(record.required_by),
        "Labels": ", ".join(record.labels),
        "File": shown_path(record.path),
    }
    for name, value in fields.items():
        if value:
            say(f"{name + ':':<13}{value}", hang=13)
    say()
    for line in record.doc.strip().splitlines():
        say(f"    {line}".rstrip(), hang=4)
