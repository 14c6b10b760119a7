"""Record in the version table and the journal which revisions are applied, without running them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from ampho._text import listed
from ampho.database.connection import migrating
from ampho.database.journal import Entry, Journal, Outcome
from ampho.database.protection import Protection
from ampho.database.version_rows import Applied
from ampho.errors import DependentsError, SpecifierError
from ampho.history.graph import Branch, Graph
from ampho.history.package import RESERVED
from ampho.history.specifier import Specifier, check_one_head, find_branch, find_target, parse
from ampho.migrate.observers import Observer
from ampho.migrate.project import Project
from ampho.migrate.queries import journal_table, query, query_env
from ampho.migrate.verify import Claim, tables_of_alembic
from ampho.settings import DEFAULT_DATABASE
from ampho.status import advice
from ampho.status.state import missing_states

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy.engine import Connection

    from ampho.migrate.verify import Verification

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Stamped:
    """How a command changed the version rows.

    :ivar before: the version rows before the command.
    :ivar after: the version rows after the command.
    :ivar recorded: the ids of diverged or edited revisions that were already applied; the journal now records them
        as applied, with their current files.
    :ivar database: the name of the database.
    :ivar verified: whether the database was compared with what the revisions make; None for commands that only forget
        or resolve revisions.
    :ivar notes: what the comparison found that is no reason to fail, in sentences.
    """

    before: tuple[str, ...]
    after: tuple[str, ...]
    recorded: tuple[str, ...] = ()
    database: str = DEFAULT_DATABASE
    verified: bool | None = None
    notes: tuple[str, ...] = ()


def stamp(
    project: Project,
    connection: Connection,
    specifier: str,
    *,
    purge: bool = False,
    confirm: str | None = None,
    fingerprint: str | None = None,
    x: Sequence[str] = (),
    observer: Observer | None = None,
    verification: Verification | None = None,
) -> Stamped:
    """Record which revisions are applied, without running any; see :meth:`ampho.commands.Commands.stamp`.

    :param verification: checks first that the database is in the state that the stamp claims.
    """
    project.check_specifier(specifier)
    protection = Protection(project.settings.protected, confirm, fingerprint).on(connection)
    command = _command(specifier, purge=purge, verify=verification is not None, x=x)

    def verify(known: AbstractSet[str], context: MigrationContext) -> tuple[str, ...]:
        if verification is None:
            return ()
        own = tables_of_alembic(context, project.own_tables)
        return verification.check(known, connection, own, specifier)

    spec = parse(specifier)
    stamped = _write(
        project,
        connection,
        partial(known_after_stamp, specifier=specifier),
        specifier,
        x=x,
        observer=observer,
        purge=purge,
        described=spec,
        check=partial(_check_confirmed, protection, command, purge=purge),
        verify=verify,
    )
    return replace(stamped, verified=verification is not None)


def claim(
    project: Project,
    connection: Connection,
    specifier: str,
    *,
    purge: bool = False,
    confirm: str | None = None,
    fingerprint: str | None = None,
    x: Sequence[str] = (),
) -> Claim:
    """Return what a stamp would say about a database, without changing it. The parameters are those of the stamp."""
    project.check_specifier(specifier)
    protection = Protection(project.settings.protected, confirm, fingerprint).on(connection)
    command = _command(specifier, purge=purge, verify=True, x=x)

    def look(rows: tuple[str, ...], journal: Journal) -> Claim:
        was = Applied.from_rows(project.graph, rows, journal)
        before = Applied.from_rows(project.graph, (), journal) if purge else was
        advice.check_sound(before)
        packages = _packages_of(project.graph, parse(specifier))
        known = known_after_stamp(before, specifier)
        _check_confirmed(protection, command, was, known, journal, purge=purge)
        return Claim.of(project.graph, was, known, packages, specifier)

    return query(project, connection, x, look)


def _command(specifier: str, *, purge: bool, verify: bool, x: Sequence[str]) -> str:
    options = [" --verify"] * verify + [" --purge"] * purge + [" -x ..."] * bool(x)
    return f"db-stamp {specifier}{''.join(options)}"


def _check_confirmed(
    protection: Protection, command: str, was: Applied, known: AbstractSet[str], journal: Journal, *, purge: bool
) -> None:
    """Check that a stamp is confirmed, if it removes something from a protected database."""
    removed = was.rows if purge else was.graph.sort(was.known - known)
    what = "removes applied revisions from the version table" if removed else "removes no version rows"
    names = f": {listed(removed, _SHOWN)}" if removed else ""
    protection.check(
        f"'ampho {command}' {'deletes all version rows' if purge else what}{names}.",
        command,
        lambda: journal.fingerprint([sorted(was.rows), sorted(known), purge]),
        removes=purge or bool(removed),
    )


def _packages_of(graph: Graph, spec: Specifier) -> tuple[str, ...]:
    """Return the packages whose revisions a specifier marks as applied or not applied."""
    if spec.branch is None and spec.target in RESERVED:
        return graph.packages
    found = find_branch(graph, spec.branch, spec.text) if spec.branch else find_target(graph, spec)
    return (found.package if isinstance(found, Branch) else graph[found].package,)


def forget(
    project: Project,
    connection: Connection,
    name: str,
    *,
    x: Sequence[str] = (),
    observer: Observer | None = None,
) -> Stamped:
    """Remove missing revisions from the version table; see :meth:`ampho.commands.Commands.forget`."""

    def change(before: Applied) -> AbstractSet[str]:
        return before.known - _forgotten(before, name)

    return _write(project, connection, change, name, x=x, observer=observer, outcome=Outcome.FORGOTTEN)


def _forgotten(before: Applied, name: str) -> set[str]:
    graph = before.graph
    missing = {rid for state in missing_states(before) for rid in state.named(name)}
    if not missing:
        ways = advice.ways_to_forget(before, graph.sort(before.missing))
        remedy = f"Run {' or '.join(ways)}." if ways else "Run 'ampho db-current' to see which revisions are applied."
        raise SpecifierError(f"{name}: no missing revision has that name. {remedy}", specifier=name)
    dependents = (graph.descendants(missing) & before.known) - missing
    if dependents:
        raise DependentsError(
            f"{advice.describe_missing(before, dependents)} {'depends' if len(dependents) == 1 else 'depend'} on the"
            f" revisions to forget. First run {' and '.join(advice.ways_out(before, graph.sort(dependents)))}.",
            specifier=name,
            dependents=graph.sort(dependents),
        )
    return missing


def resolve(
    project: Project,
    connection: Connection,
    revision: str,
    *,
    applied: bool,
    x: Sequence[str] = (),
    observer: Observer | None = None,
) -> Stamped:
    """Mark an unfinished revision as applied or not applied; see :meth:`ampho.commands.Commands.resolve`."""

    def change(before: Applied) -> AbstractSet[str]:
        if revision in before.graph:
            if applied:
                return before.known | before.graph.ancestors([revision])
            return _without(before, {revision}, parse(revision))
        if applied:
            raise SpecifierError(
                f"{revision} is missing, so Ampho cannot know what it depends on. Restore its file first.",
                specifier=revision,
            )
        return before.known

    return _write(project, connection, change, revision, x=x, observer=observer, resolving=revision)


def _unfinished(revision: str, journal: Journal) -> list[Entry]:
    entries = [entry for entry in journal.unfinished if entry.revision == revision]
    if not entries:
        others = ", ".join(entry.revision for entry in journal.unfinished)
        remedy = f"These revisions are unfinished: {others}." if others else "No revision is unfinished."
        raise SpecifierError(f"{revision} is not recorded as unfinished. {remedy}", specifier=revision)
    return entries


def _write(
    project: Project,
    connection: Connection,
    change: Callable[[Applied], AbstractSet[str]],
    name: str,
    *,
    x: Sequence[str],
    observer: Observer | None,
    outcome: Outcome = Outcome.STAMPED,
    purge: bool = False,
    described: Specifier | None = None,
    resolving: str | None = None,
    check: Callable[[Applied, AbstractSet[str], Journal], None] = lambda was, known, journal: None,
    verify: Callable[[AbstractSet[str], MigrationContext], tuple[str, ...]] = lambda known, context: (),
) -> Stamped:
    """Record in the version table and the journal, in one transaction, which revisions are applied.

    :param change: returns the applied revisions after the command, from those before it.
    :param name: the specifier or the name that the user typed.
    :param purge: whether to ignore the existing rows.
    :param described: a specifier; each revision of its packages gets an entry in the journal that says whether it is
        applied, unless the journal already says so.
    :param resolving: the unfinished revision to resolve.
    :param check: called with the state before the command, the applied revisions after it, and the journal.
    :param verify: called with the revisions that are applied after the command; returns notes, or raises an error.
    """
    graph = project.graph

    def write(rows: tuple[str, ...], journal: Journal, context: MigrationContext) -> Stamped:
        from ampho.migrate.alembic import write_rows

        table = journal_table(project, context)
        entries = _unfinished(resolving, journal) if resolving else []
        was = Applied.from_rows(graph, rows, journal)
        before = Applied.from_rows(graph, (), journal) if purge else was
        advice.check_sound(before)
        known = change(before)
        check(was, known, journal)
        notes = verify(known, context)
        after = before.graph.exact_rows(known)
        packages = set(_packages_of(graph, described)) if described else set[str]()
        doubtful = {*was.diverged(journal), *was.edited(journal)} if packages else set()
        affirmed = {rid for rid in doubtful & known if was.package(rid) in packages}
        denied = {rid for rid in before.uncertain - known if before.package(rid) in packages}
        wanted = journal.places.wanted(before.graph, after)
        outcomes = dict.fromkeys(journal.places.moved(wanted), Outcome.MOVED)
        outcomes |= dict.fromkeys({*before.taken} & known, Outcome.REPLACED)
        changes = {"upgrade": (known - was.known) | affirmed, "downgrade": (was.known - known) | denied}
        if table is not None and (outcomes or any(changes.values())):
            table.ensure()  # before the rows are written, because some databases would commit them here

        def record() -> None:
            if table is not None:
                # Above a revision that is not applied any more, a backfill would begin again with other rows.
                changed = changes["upgrade"] | changes["downgrade"] | was.graph.descendants(changes["downgrade"])
                stopped = [each for each in journal.unfinished if each.is_resumable and each.revision in changed]
                for entry in (*entries, *(each for each in stopped if each not in entries)):
                    table.resolve(entry)
                for rid in was.graph.sort(outcomes):
                    table.note(was.graph[rid], "upgrade", was.graph.parents(rid), outcomes[rid])
                for direction, ids in changes.items():
                    for rid in was.graph.sort(ids):
                        table.note(was.graph[rid], direction, was.graph.parents(rid), outcome)

        write_rows(context, journal.places.rows, wanted, record)
        # A row may be NULL in a table that another tool created.
        return Stamped(tuple(sorted(map(str, rows))), after, was.graph.sort(affirmed), notes=notes)

    waiting = (Observer() if observer is None else observer).waiting
    with migrating(connection, project.url, project.settings, waiting) as migrating_connection:
        command = ("stamp", *(["--purge"] if purge else ()), "--", name)
        return query_env(project, migrating_connection, x, write, command)


def known_after_stamp(before: Applied, specifier: str) -> set[str]:
    """Return the ids of the revisions that are applied after a stamp."""
    graph, applied, spec = before.graph, before.known, parse(specifier)
    match spec:
        case Specifier(branch=None, target="heads"):
            return set(graph.ids)
        case Specifier(branch=None, target="base"):
            return _without(before, set(applied - before.missing), spec)
        case Specifier(branch=str(name), target="base"):
            return _without(before, set(find_branch(graph, name, spec.text).ids), spec)
        case Specifier(branch=str(name), target="head" | "heads"):
            branch = find_branch(graph, name, spec.text)
            if spec.target == "head":
                check_one_head(graph, branch, spec)
            return set(applied) | graph.ancestors(branch.ids)
        case Specifier(offset=offset, target=target) if offset or target == "head":
            raise SpecifierError(
                f"{spec.text}: that does not say which revisions are applied. Type 'heads', 'base', a package, an id,"
                " or PACKAGE@base.",
                specifier=spec.text,
            )
    named = find_target(graph, spec)
    if isinstance(named, Branch):
        return set(applied) | graph.ancestors(named.ids)
    return _without(before, graph.after(named), spec) | graph.ancestors([named])


def _without(before: Applied, removed: set[str], spec: Specifier) -> set[str]:
    advice.check_has_files(before, removed, f"'ampho db-stamp {spec.text}'")
    graph, applied = before.graph, before.known
    dependents = (graph.descendants(removed & applied) & applied) - removed
    if dependents:
        ids = graph.sort(dependents)
        present = dict.fromkeys(graph[rid].package for rid in ids if not graph[rid].is_missing)
        ways = [f"run 'ampho db-stamp {name}@base', or stamp an earlier revision of {name}" for name in present]
        ways += [f"run {way}" for way in advice.ways_to_forget(before, before.missing & dependents)]
        raise DependentsError(
            f"Other applied revisions depend on those that '{spec.text}' marks as not applied: {listed(ids)}. First"
            f" {', and '.join(ways)}.",
            specifier=spec.text,
            dependents=ids,
        )
    return set(applied) - removed
