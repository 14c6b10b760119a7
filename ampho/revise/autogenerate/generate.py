"""Comparing the models of packages with a database, for ``db-rev --autogenerate`` and ``db-check``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from ampho._text import listed, shown_path
from ampho.database.journal import Journal
from ampho.database.version_rows import Applied
from ampho.errors import ConfigurationError, NotUpToDateError, RevisionInputError
from ampho.history.graph import Graph
from ampho.history.revision import Revision
from ampho.migrate.observers import Observer
from ampho.migrate.project import Project
from ampho.migrate.queries import query_env
from ampho.revise.autogenerate.describe import Change, describe
from ampho.revise.autogenerate.ownership import Ownership, find_owners
from ampho.revise.replay import replay, replay_back
from ampho.revise.writer import write_revision
from ampho.status import advice

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy.engine import Connection

    from ampho.migrate.alembic import Body
    from ampho.revise.autogenerate.changes import Changes
    from ampho.revise.autogenerate.comparison import Comparison

Warn: TypeAlias = Callable[[str], None]
_Changes: TypeAlias = tuple["Body | None", Sequence[str], Sequence[str]]

_COMPARE = ("revision", "--autogenerate")
"""The Alembic command that ``env.py`` sees, even during a check, so that its hooks behave the same."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How the models of a package differ from a database.

    :ivar package: the name of the package.
    :ivar operations: the operations of a revision that would make the database match the models, one line each; empty
        if nothing differs.
    :ivar changes: the same differences, for people.
    """

    package: str
    operations: tuple[str, ...]
    changes: tuple[Change, ...] = ()


def autogenerate(
    project: Project,
    connection: Connection,
    new: Revision,
    *,
    scratch: bool = False,
    x: Sequence[str] = (),
    observer: Observer | None = None,
) -> Revision | None:
    """Write a revision that makes the tables of its package in the database match the models, for ``db-rev -a``.

    Foreign keys to tables of other packages become ``depends_on``.

    :param new: the revision that :func:`ampho.revise.writer.prepare_revision` returned.
    :param scratch: whether the database is a throwaway database, on which the history of the package runs first.
    :return: the revision; None if nothing differs, and no file was written.
    """
    warn = (observer or Observer()).warned
    if scratch:
        replay(project, connection, new.package, x)

    def compare(rows: tuple[str, ...], journal: Journal, context: MigrationContext) -> _Changes:
        owners = _owners(project, context)
        _check_up_to_date(project.graph, rows, journal, new.package)
        comparison = _comparison(owners, [new.package], context)
        _warn_of_unowned(owners, comparison.unowned(), warn)
        _warn_of_no_models(owners, [new.package], warn)
        return _changes(project.graph, owners, new.package, rows, comparison)

    head = f"{new.package}@head" if new.down_revisions else "base"
    needs = [f"--depends-on={name}" for name in new.depends_on]
    command = [*_COMPARE, f"--message={new.doc}", f"--head={head}", *needs]
    body, found, left_out = query_env(project, connection, x, compare, command)
    if left_out:
        warn(
            f"The foreign keys to {_tables(left_out)} are left out, because the owner also depends on {new.package}."
            " Write the owner's revision, apply both, and run this command again to add the foreign keys."
        )
    if body is None:
        return None
    depends_on = tuple(dict.fromkeys([*new.depends_on, *found]))
    complete = replace(new, depends_on=_not_implied(project.graph, new.down_revisions, depends_on))
    return write_revision(project, complete, body)


def check(
    project: Project,
    connection: Connection,
    packages: Sequence[str] = (),
    *,
    scratch: bool = False,
    x: Sequence[str] = (),
    observer: Observer | None = None,
) -> tuple[Drift, ...]:
    """Return how the models of packages differ from the database, for ``db-check``.

    :param scratch: whether the database is a throwaway database, on which the histories of all packages run first,
        and are reverted afterwards.
    """
    names = [project.package(name).name for name in packages] or [package.name for package in project.packages]
    warn = (observer or Observer()).warned
    if scratch:
        replay(project, connection, "heads", x)

    def compare(rows: tuple[str, ...], journal: Journal, context: MigrationContext) -> tuple[Drift, ...]:
        owners = _owners(project, context)
        for name in names:
            _check_up_to_date(project.graph, rows, journal, name)
        comparison = _comparison(owners, names, context)
        _warn_of_unowned(owners, comparison.unowned(), warn)
        drifts = tuple(_drift(changes, rows) for changes in comparison.packages.values())
        _warn_of_no_models(owners, [drift.package for drift in drifts if drift.operations], warn)
        return drifts

    drifts = query_env(project, connection, x, compare, _COMPARE)
    if scratch:
        connection.rollback()  # ends the transaction of the comparison
        if warning := replay_back(project, connection, x):
            warn(warning)
    return drifts


def _owners(project: Project, context: MigrationContext) -> Ownership:
    """Return the owners of the tables in the metadata that ``env.py`` configured.

    :raises ConfigurationError: if it did not configure any metadata.
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
    return find_owners(project.packages, project.graph, metadata)


def _tables(keys: Sequence[str]) -> str:
    return f"the table{'s' if len(keys) > 1 else ''} {', '.join(keys)}"


def _warn_of_no_models(owners: Ownership, packages: Iterable[str], warn: Warn) -> None:
    """Warn about packages without models, because the tables of models that are not imported would be dropped."""
    with_models = set(owners.models.values())
    if without := [package for package in packages if package not in with_models]:
        warn(
            f"Ampho found no models in {listed(without)}. If there are any, import their module in the package's"
            " __init__.py or models.py, because Ampho only finds models that are imported."
        )


def _warn_of_unowned(owners: Ownership, keys: Iterable[str], warn: Warn) -> None:
    unowned = sorted(set(keys) - set(owners.unowned))
    for tables, place in ((unowned, "database"), (owners.unowned, "models")):
        if tables:
            warn(
                f"No package owns {_tables(tables)} in the {place}. Ampho ignores such tables, unless their"
                " info={'ampho_package': ...} names a package."
            )


def _check_up_to_date(graph: Graph, rows: Iterable[str], journal: Journal, package: str) -> None:
    applied = Applied.from_rows(graph, rows, journal)
    ahead = applied.graph.sort(rid for rid in applied.missing if applied.package(rid) == package)
    if ahead:
        raise NotUpToDateError(
            f"The database is ahead of the code: {advice.about_missing(applied, ahead)}, or compare with another"
            " database.",
            package=package,
            revisions=ahead,
        )
    pending = [revision_id for revision_id in graph.of_package(package) if revision_id not in applied.known]
    advice.check_appliable(applied, pending)
    if pending:
        raise NotUpToDateError(
            f"{listed(pending)} {'is' if len(pending) == 1 else 'are'} not applied, so the models of {package} cannot"
            f" be compared with the database. Run 'ampho db-up {package}' first.",
            package=package,
            revisions=pending,
        )


def _comparison(owners: Ownership, packages: Sequence[str], context: MigrationContext) -> Comparison:
    from ampho.revise.autogenerate.comparison import Comparison

    return Comparison(context, owners, packages)


def _drift(changes: Changes, rows: tuple[str, ...]) -> Drift:
    from ampho.revise.autogenerate.comparison import apply_users_hook, code_of

    apply_users_hook(changes, rows)
    return Drift(changes.package, tuple(code_of(changes.autogen, changes.upgrade.ops)), describe(changes))


def _changes(graph: Graph, owners: Ownership, package: str, rows: tuple[str, ...], comparison: Comparison) -> _Changes:
    """Return the new revision's body, or None, its dependencies, and the tables that it cannot reference yet."""
    from ampho.revise.autogenerate.comparison import apply_users_hook, body

    changes = comparison.packages[package]
    left_out = _not_created_yet(owners, changes, comparison)
    if left_out:
        changes.leave_out_references({*left_out})
    apply_users_hook(changes, rows)
    if changes.is_empty:
        return None, (), left_out
    keys = changes.references() | changes.changed()
    needed = {maker for key in keys for maker in _makers(graph, owners, key)}
    for key, column in changes.removed():
        needed |= owners.users_of(key, column)  # their revisions have to run first, even on an empty database
    depends_on = [_head(graph, name, package) for name in sorted(needed - {package})]
    return body(changes), depends_on, left_out


def _makers(graph: Graph, owners: Ownership, key: str) -> set[str]:
    """Return the packages whose revisions a table depends on: the package that created it, and its current owner.

    A package without revisions is only returned if neither package has any.
    """
    makers = {owner for owner in (owners.history.get(key), owners.models.get(key)) if owner is not None}
    return {name for name in makers if graph.of_package(name)} or makers


def _not_created_yet(owners: Ownership, changes: Changes, comparison: Comparison) -> list[str]:
    """Return the referenced tables that no revision creates yet, because their packages also depend on this package.

    :raises RevisionInputError: if the package of such a table does not depend on this package, so its revision can be
        written first.
    """
    missing: list[str] = []
    package = changes.package
    for key in sorted(changes.references()):
        owner = owners.owner(key)
        if owner in (None, package) or key in owners.history or comparison.has_table(key):
            continue
        if package not in owners.needed_by(str(owner)):
            raise RevisionInputError(
                f"{package} has a foreign key to the table {key} of {owner}, which no revision creates yet. Write that"
                f" revision first, with 'ampho db-rev {owner} MESSAGE --autogenerate'.",
                package=package,
            )
        missing.append(key)
    return missing


def _head(graph: Graph, owner: str, package: str) -> str:
    heads = graph.heads(owner)
    if len(heads) == 1:
        return heads[0]
    have = f"has {len(heads)} heads, {', '.join(heads)}: merge them" if heads else "has no revisions: write one"
    raise RevisionInputError(f"{package} depends on {owner}, which {have} first.", package=package)


def _not_implied(graph: Graph, down_revisions: Sequence[str], depends_on: Sequence[str]) -> tuple[str, ...]:
    """Return the dependencies that are not implied by the parents or by other dependencies."""
    implied = graph.ancestors(down_revisions)
    for revision_id in depends_on:
        implied |= graph.ancestors([revision_id]) - {revision_id}
    return tuple(revision_id for revision_id in depends_on if revision_id not in implied)
