"""Comparing the models of packages with a database, for ``db-rev --autogenerate`` and ``db-check``."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from ampho._text import listed, shown_path
from ampho.database.journal import Journal
from ampho.database.version_rows import Applied
from ampho.errors import ConfigurationError, NotUpToDateError, RevisionInputError
from ampho.history.graph import Graph
from ampho.history.revision import Phase, Revision
from ampho.migrate.observers import Observer
from ampho.migrate.plan import check_finished
from ampho.migrate.project import Project
from ampho.migrate.queries import query_env
from ampho.revise.autogenerate.comparison import Comparison
from ampho.revise.autogenerate.drafting import Drafting
from ampho.revise.autogenerate.operations.describe import Change, code_of, describe, replaced_columns, risks
from ampho.revise.autogenerate.owners.ownership import Ownership, find_owners
from ampho.revise.autogenerate.uncompared import uncompared, warn_of_uncompared
from ampho.revise.autogenerate.write.directives import apply_hook, has_hook, preset
from ampho.revise.autogenerate.write.safe import SafeOperations
from ampho.revise.replay import replay, replay_back
from ampho.revise.writer import Draft, Wish, check_message, single_revision, write_drafts
from ampho.settings import DEFAULT_DATABASE
from ampho.status import advice

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import MetaData
    from sqlalchemy.engine import Connection

    from ampho.migrate.template import Scratch
    from ampho.revise.autogenerate.ask.questions import Question
    from ampho.revise.autogenerate.operations.changes import Changes

Warn: TypeAlias = Callable[[str], None]

_COMPARE = ("revision", "--autogenerate")
"""The Alembic command that ``env.py`` sees, even during a check, so that its hooks behave the same."""


@dataclass(frozen=True, slots=True)
class Drift:
    """The differences between the models of a package and a database.

    :ivar package: the name of the package; empty for what no package owns in the models.
    :ivar operations: the operations of a revision that would make the database match the models, one line each, and
        what is not compared; empty if nothing differs.
    :ivar changes: the same differences, for people.
    :ivar from_hook: whether the app's ``process_revision_directives`` returned the operations.
    :ivar database: the name of the database.
    """

    package: str
    operations: tuple[str, ...]
    changes: tuple[Change, ...] = ()
    from_hook: bool = False
    database: str = DEFAULT_DATABASE


@dataclass(frozen=True, slots=True)
class Generated:
    """What a package needs so that the database matches its models, and the revisions that were written for it.

    :ivar package: the name of the package.
    :ivar revisions: the revisions that were written; empty if nothing differs.
    :ivar changes: what the revisions change.
    :ivar questions: the questions that only the developer can answer.
    :ivar paths: the files of the revisions, even if they were not written.
    :ivar moved: the tables of the package that another package created, each with that package.
    :ivar is_split: whether the revisions are in different phases.
    :ivar database: the name of the database with which the models were compared.
    """

    package: str
    revisions: tuple[Revision, ...] = ()
    changes: tuple[Change, ...] = ()
    questions: tuple[Question, ...] = ()
    moved: Mapping[str, str] = field(default_factory=dict)
    paths: tuple[Path, ...] = ()
    is_split: bool = False
    database: str = DEFAULT_DATABASE


@dataclass(frozen=True, slots=True)
class Compared:
    """The result of comparing the models of packages with one database, before anything is written.

    :ivar drafts: the files to write.
    :ivar found: a result for each package; first those with revisions, in the order in which these run.
    :ivar warn: reports a warning about the database.
    """

    drafts: Sequence[Draft]
    found: tuple[Generated, ...]
    warn: Warn


def compare(
    project: Project,
    connection: Connection,
    packages: Sequence[str],
    wish: Wish,
    *,
    are_named: bool,
    scratch: bool = False,
    rename: Iterable[str] = (),
    fill: Iterable[str] = (),
    safe_above: int | None = None,
    phased: bool = True,
    x: Sequence[str] = (),
    observer: Observer | None = None,
) -> Compared:
    """Prepare revisions that make the tables of packages in the database match the models, for ``db-rev -a``.

    Foreign keys to tables of other packages become ``depends_on``.

    ``Commands.autogenerate`` describes the other parameters.

    :param are_named: whether the user named the packages; if not, these are all that live in the database.
    :param scratch: whether the database is a throwaway database, on which the histories run first.
    :param phased: whether to write two revisions if the changes need both phases.
    :param safe_above: the number of rows above which a table is changed by the operations of ``ampho.operations``;
        -1 for all tables, and None for no table.
    """
    named = packages if are_named else ()
    names = _names(project, packages, wish, are_named=are_named)
    warn = (observer or Observer()).warned
    graph = (project.whole or project).graph
    if scratch:
        _replay(project, connection, names[0] if len(named) == 1 else "heads", wish.depends_on, x)

    def compare(rows: tuple[str, ...], journal: Journal, context: MigrationContext) -> Compared:
        comparison = _compare(project, names, rows, journal, context, rename=rename, fill=fill)
        questions = comparison.questions()
        warn_of_uncompared(project, comparison, warn)
        differing = [name for name, changes in comparison.packages.items() if not changes.is_empty]
        _warn_of_no_models(project, comparison.owners, named or differing, warn)
        safe = None if safe_above is None else SafeOperations(connection, safe_above)
        drafting = Drafting(project, comparison, wish, rows, warn, graph, phased, safe)
        drafting.add(names if are_named else _writable(project, names, differing, warn))
        moved = comparison.owners.moved()
        in_order = dict.fromkeys([*(draft.revision.package for draft in drafting.drafts), *names])

        def generated(name: str) -> Generated:
            new = [draft.revision for draft in drafting.drafts if draft.revision.package == name]
            return Generated(
                name,
                changes=tuple(drafting.changes.get(name, ())),
                questions=questions[name],
                moved=moved.get(name, {}),
                paths=tuple(revision.path for revision in new),
                is_split=wish.phase is None and any(revision.phase is Phase.POST for revision in new),
                database=project.database,
            )

        return Compared(drafting.drafts, tuple(map(generated, in_order)), warn)

    return query_env(project, connection, x, compare, _command(graph, named, wish))


def write(compared: Iterable[Compared], *, dry_run: bool, asks: bool) -> dict[str, tuple[Generated, ...]]:
    """Write the revisions for all databases, or none of them, and return the results of each database by its name."""
    every = [*compared]
    if not asks or not any(result.questions for each in every for result in each.found):
        for each in every:
            _warn_of_changes(each.found, each.warn, dry_run=dry_run)
        written = () if dry_run else write_drafts([draft for each in every for draft in each.drafts])
        every = [replace(each, found=_with_revisions(each.found, written)) for each in every]
    return {each.found[0].database: each.found for each in every}


def _with_revisions(found: Iterable[Generated], written: Sequence[Revision]) -> tuple[Generated, ...]:
    return tuple(
        replace(each, revisions=tuple(new for new in written if new.package == each.package)) for each in found
    )


def by_database(whole: Project, databases: Iterable[str], texts: Sequence[str]) -> dict[str, list[str]]:
    """Return values of ``--rename`` and ``--fill`` by the database that contains their tables.

    A value whose table is unknown is passed to the first database, which raises the error.
    """
    found: dict[str, list[str]] = {name: [] for name in databases}
    several = len(found) > 1
    owners = {name: find_owners(whole.of(name), whole.of(name).metadata) for name in found if several and texts}
    for text in texts:
        parts = text.partition("=")[0].strip().split(".")
        keys = {".".join(parts[start:end]) for end in range(len(parts) + 1) for start in (0, 1)}
        here = [name for name, each in owners.items() if not keys.isdisjoint([*(each.tables or ()), *each.history])]
        found[next(iter(here or found))].append(text)
    return found


def _warn_of_changes(found: Iterable[Generated], warn: Warn, *, dry_run: bool) -> None:
    """Warn about questions without an answer, and about changes that may lose data or fail on tables with rows."""
    found = tuple(found)
    for each in found:
        for question in each.questions:
            warn(question.warning)
        if each.questions and not dry_run:
            files = "file" if len(each.paths) == 1 else "files"
            alone = f" for {each.package} alone" if len(found) > 1 else ""
            warn(f"To add such an option, delete the new {files} of {each.package}, and run the command again{alone}.")
        for risk in risks(each.changes):
            warn(risk)
        for old, new in replaced_columns(each.changes) if each.is_split else ():
            warn(
                f"Phase pre copies {old} to {new}. What the old release writes to {old} after that is lost, unless a"
                ' trigger copies it: see "Rename a column" in docs/zero-downtime.md.'
            )


def _names(project: Project, packages: Sequence[str], wish: Wish, *, are_named: bool) -> list[str]:
    """Return the names of the packages to compare, after checking that all are listed."""
    if not (are_named and len(packages) == 1) and wish != Wish(wish.message, phase=wish.phase):
        raise RevisionInputError("depends_on, head, splice, and rev_id need exactly one package.", package="")
    names = list(dict.fromkeys(project.package(name).name for name in packages))
    if are_named:
        return names
    project.check_migratable(None)
    check_message(wish.message, "")
    if wish.message in [package.name for package in (project.whole or project).packages]:
        raise RevisionInputError(
            f"{wish.message} is the name of a package, and there is no message. Run 'ampho db-rev {wish.message}"
            " MESSAGE -a'.",
            package=wish.message,
        )
    return names


def _writable(project: Project, names: Sequence[str], differing: Sequence[str], warn: Warn) -> list[str]:
    """Return the packages that are not installed in site-packages, and warn about the others that differ."""
    installed = {name for name in names if project.package(name).installed}
    if others := [name for name in differing if name in installed]:
        warn(
            f"The models of {listed(others)} differ from the database, but Ampho does not write revisions of installed"
            " packages. Write them in the packages' own projects."
        )
    return [name for name in names if name not in installed]


def _replay(
    project: Project, connection: Connection, specifier: str, depends_on: Sequence[str], x: Sequence[str]
) -> None:
    """Run the history of a package, and the revisions that create the other tables that its new revision needs."""
    replay(project, connection, specifier, x)
    if specifier != "heads":
        metadata = cast("MetaData | None", project.options.get("target_metadata", project.metadata))
        makers = find_owners(project, metadata).unseen_makers(specifier)
        graph = (project.whole or project).graph
        stated = [single_revision(graph, specifier, name, "--depends-on") for name in depends_on]
        for needed in (*(rid for rid in stated if rid in project.graph), *makers):
            replay(project, connection, needed, x)


def _command(graph: Graph, packages: Sequence[str], wish: Wish) -> list[str]:
    """Return the Alembic command that ``env.py`` sees."""
    command = [*_COMPARE, f"--message={wish.message}", *(f"--depends-on={name}" for name in wish.depends_on)]
    if len(packages) == 1:
        has_parent = graph.of_package(packages[0]) and wish.head != "base"
        command.append(f"--head={packages[0]}@head" if has_parent else "--head=base")
    return command


def check(
    project: Project,
    connection: Connection,
    packages: Sequence[str] = (),
    *,
    scratch: Scratch | None = None,
    x: Sequence[str] = (),
    observer: Observer | None = None,
) -> tuple[Drift, ...]:
    """Return how the models of packages differ from the database, for ``db-check``.

    :param scratch: the throwaway database, if it is one. The histories of all packages ran on it, and are reverted
        afterwards, unless that was done before.
    """
    names = [project.package(name).name for name in packages] or [package.name for package in project.packages]
    warn = (observer or Observer()).warned
    if scratch:
        replay(project, connection, "heads", x)

    def compare(rows: tuple[str, ...], journal: Journal, context: MigrationContext) -> tuple[Drift, ...]:
        comparison = _compare(project, names, rows, journal, context)
        warn_of_uncompared(project, comparison, warn)
        left_out = uncompared(comparison)
        drifts = [
            _drift(changes, rows, project.graph, left_out.get(name, ()))
            for name, changes in comparison.packages.items()
        ]
        if "" in left_out:
            drifts.append(Drift("", tuple(change.text for change in left_out[""]), left_out[""]))
        _warn_of_no_models(
            project, comparison.owners, [each.package for each in drifts if each.package and each.operations], warn
        )
        return tuple(drifts)

    drifts = query_env(project, connection, x, compare, _COMPARE)
    if scratch and not scratch.was_reverted:
        connection.rollback()  # ends the transaction of the comparison
        if warning := replay_back(project, connection, x):
            warn(warning)
        scratch.is_reverted = not warning
    return drifts


def _compare(
    project: Project,
    packages: Sequence[str],
    rows: tuple[str, ...],
    journal: Journal,
    context: MigrationContext,
    **answers: Iterable[str],
) -> Comparison:
    """Compare the models of packages with the database, after checking that all their revisions are applied.

    :param answers: the values of ``--rename`` and ``--fill``.
    :raises UnfinishedRevisionError: if a revision of any package is unfinished.
    """
    check_finished(journal)
    applied = Applied.from_rows(project.graph, rows, journal)
    owners = owners_of(project, context, applied.known)
    _check_up_to_date(project.graph, applied, packages)
    return Comparison(context, owners, packages, **answers)


def owners_of(project: Project, context: MigrationContext, applied: Container[str] | None = None) -> Ownership:
    """Return the owners of the tables in the metadata that ``env.py`` configured.

    :param applied: the ids of the applied revisions; all by default.

    :raises ConfigurationError: if ``env.py`` did not configure any metadata.
    """
    metadata = context.opts.get("target_metadata")
    if metadata is None and project.metadata is None:
        raise ConfigurationError(
            "AsyncAmpho has an engine, but not the metadata of the models, so there is nothing to compare with. Pass"
            " the metadata, as in AsyncAmpho(app, engine, metadata=Base.metadata)."
        )
    if metadata is None:
        raise ConfigurationError(
            f"{shown_path(project.env_folder / 'env.py')} passes target_metadata=None, so there are no models to"
            " compare with. Remove that argument: environment.options() contains the metadata of the models."
        )
    return find_owners(project, metadata, applied)


def _warn_of_no_models(project: Project, owners: Ownership, packages: Iterable[str], warn: Warn) -> None:
    """Warn about packages without models, because the tables of models that are not imported would be dropped."""
    with_models = {*owners.models.values(), *owners.elsewhere}
    if without := [package for package in packages if package not in with_models]:
        remedy = (
            "import their module in the package's __init__.py or models.py, because Ampho only finds models that are"
            " imported"
        )
        if all(project.package(name).is_module for name in without):
            remedy = "list the module that contains them, because a single module only owns the tables of its own file"
        warn(f"Ampho found no models in {listed(without)}. If there are any, {remedy}.")


def _check_up_to_date(graph: Graph, applied: Applied, packages: Sequence[str]) -> None:
    """Raise a ``NotUpToDateError`` if revisions of the packages are missing or pending."""
    names = frozenset(packages)
    ahead = applied.graph.sort(rid for rid in applied.missing if applied.package(rid) in names)
    if ahead:
        raise NotUpToDateError(
            f"The database is ahead of the code: {advice.about_missing(applied, ahead)}, or compare with another"
            " database.",
            package=applied.package(ahead[0]),
            revisions=ahead,
        )
    pending = [rid for rid in graph.ids if graph[rid].package in names and rid not in applied.known]
    advice.check_appliable(applied, pending)
    if pending:
        behind = list(dict.fromkeys(graph[rid].package for rid in pending))
        raise NotUpToDateError(
            f"{listed(pending)} {'is' if len(pending) == 1 else 'are'} not applied, so the models of {listed(behind)}"
            f" cannot be compared with the database. Run 'ampho db-up{f' {behind[0]}' if len(behind) == 1 else ''}'"
            " first.",
            package=behind[0],
            revisions=pending,
        )


def _drift(changes: Changes, rows: tuple[str, ...], graph: Graph, left_out: tuple[Change, ...]) -> Drift:
    found = apply_hook(changes, rows, preset(changes, Wish(""), graph))
    lines = [line for each in found for line in code_of(each.autogen, each.upgrade.ops)]
    described = [change for each in found for change in describe(each)]
    operations = (*lines, *(each.text for each in left_out))
    return Drift(changes.package, operations, (*described, *left_out), from_hook=has_hook(changes))
