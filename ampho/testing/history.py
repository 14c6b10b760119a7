"""What the ready-made tests check: the histories of an app, on throwaway databases that are empty at first."""

from __future__ import annotations

import ast
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect
from sqlalchemy.dialects.postgresql.base import PGInspector
from sqlalchemy.exc import SAWarning
from sqlalchemy.ext.asyncio import AsyncEngine

from ampho._text import counted, listed
from ampho.errors import RevisionFailedError
from ampho.history.losses import functions, only_upgrades
from ampho.testing.loading import fail
from ampho.testing.rows import fill

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from ampho.commands import Commands
    from ampho.migrate.project import Project
    from ampho.testing.databases import AppDatabases

_SHOWN = 20
_DOES_NOTHING = (
    "\nThe downgrade() of {} does nothing, but upgrade() changes the schema. Revert that in downgrade(), or raise"
    " NotImplementedError there if the revision is irreversible."
)
_UNSTABLE = frozenset(["name", "comment", "autoincrement"])
"""What is part of a line already, or does not belong to the schema."""


class History:
    """The histories of an app. Each method fails with a message that lists what is wrong."""

    def __init__(self, databases: AppDatabases) -> None:
        self._databases = databases

    def check_heads(self) -> None:
        """Check that each package has one head."""
        graph = self._project().graph
        several = {package: graph.parallel_heads(package) for package in graph.packages}
        _report(
            f"{package} has {len(heads)} heads: {', '.join(heads)}. Merge them with 'ampho db-merge {package}', or"
            f" rebase one line onto the other with 'ampho db-rebase {package}'."
            for package, heads in several.items()
            if heads
        )

    def check_models(self) -> None:
        """Check that the models of each package match the migrated database."""
        with _quiet(), self._databases.cloned():
            drifts = self._databases.run(lambda commands: commands.check())
        _report(
            f"The migrated database does not match the models of {drift.package or 'no package'}:{_lines(changes)}\n"
            f"Write a revision with 'ampho db-rev --autogenerate {drift.package}', or correct the models."
            for drift in drifts
            if (changes := [change.text for change in drift.changes] or drift.operations)
        )

    def check_down_and_up_again(self) -> None:
        """Check that reverting all revisions leaves nothing, and that applying them again leaves the same schema."""

        def look(commands: Commands, name: str) -> str:
            empty = self._schema(name)
            commands.upgrade(database=name)
            applied = self._schema(name)
            if self._revert(commands, name) and (left := _differences(empty, self._schema(name))):
                return f"After all downgrades, {left}{self._doing_nothing(self._project().graph.ids)}"
            commands.upgrade(database=name)
            changed = _differences(applied, self._schema(name))
            return changed and f"After an upgrade, a downgrade, and an upgrade again, {changed}"

        self._on_empty(look)

    def check_downgrades(self) -> None:
        """Check that each revision can be reverted right after it was applied, and leaves the schema as it was."""

        def look(commands: Commands, name: str) -> str:
            for revision_id in self._steps(commands, name):
                before = self._schema(name)
                commands.upgrade(revision_id, database=name)
                if self._is_irreversible(revision_id):
                    continue
                commands.downgrade("-1", database=name)
                if changed := _differences(before, self._schema(name)):
                    return f"After the downgrade of {revision_id}, {changed}{self._doing_nothing([revision_id])}"
                commands.upgrade(revision_id, database=name)
            return ""

        self._on_empty(look)

    def check_on_data(self) -> None:
        """Check that each revision can be applied if all tables have rows."""

        def look(commands: Commands, name: str) -> str:
            for revision_id in self._steps(commands, name):
                with self._connection(name) as connection:
                    fill(connection, self._own_tables())
                try:
                    commands.upgrade(revision_id, database=name)
                except RevisionFailedError as exc:
                    return f"All tables had rows. {exc}"
            return ""

        self._on_empty(look)

    def _project(self) -> Project:
        return self._databases.ampho.project(self._databases.app)

    def _on_empty(self, look: Callable[[Commands, str], str]) -> None:
        """Look for a fault on each of the app's databases, which are empty at first."""

        def each(commands: Commands) -> list[str]:
            return [look(commands, name) for name in self._project().homes.names]

        with _quiet(), self._databases.cloned(empty=True):
            _report(self._databases.run(each))

    def _steps(self, commands: Commands, name: str) -> Sequence[str]:
        return [step.revision.id for step in commands.plan(database=name).steps if step.database == name]

    def _revert(self, commands: Commands, name: str) -> bool:
        """Revert the revisions of a database, and return whether all of them were reverted.

        Revisions below one that is irreversible by design stay applied.
        """
        steps = commands.plan("base", direction="downgrade", database=name).steps
        ids = [step.revision.id for step in steps]
        stop = next((number for number, each in enumerate(ids) if self._is_irreversible(each)), len(ids))
        if stop:
            commands.downgrade("base" if stop == len(ids) else f"-{stop}", database=name)
        return stop == len(ids)

    def _is_irreversible(self, revision_id: str) -> bool:
        """Return whether the ``downgrade()`` of a revision raises NotImplementedError on purpose."""
        downgrade = self._functions(revision_id).get("downgrade")
        raised = [node for node in getattr(downgrade, "body", ()) if isinstance(node, ast.Raise)]
        return any("NotImplementedError" in _names(node) for node in raised)

    def _doing_nothing(self, ids: Iterable[str]) -> str:
        """Return what to do about those revisions whose upgrade changes the schema, but whose downgrade is empty."""
        found = [each for each in ids if only_upgrades(self._functions(each))]
        return _DOES_NOTHING.format(listed(found)) if found else ""

    def _functions(self, revision_id: str) -> dict[str, ast.stmt | None]:
        return functions(self._project().graph[revision_id].path.read_bytes())

    @contextmanager
    def _connection(self, name: str) -> Iterator[Connection]:
        engine = self._databases.ampho.engine(self._databases.app, name)
        sync_engine = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
        with warnings.catch_warnings(), sync_engine.connect() as connection:
            warnings.simplefilter("ignore", SAWarning)  # about what SQLAlchemy cannot reflect
            yield connection

    def _own_tables(self) -> set[str]:
        """Return the names of the tables of Alembic and Ampho."""
        project = self._project()
        return {*project.own_tables, str(project.options.get("version_table") or "alembic_version")}

    def _schema(self, name: str) -> set[str]:
        with self._connection(name) as connection:
            return _schema(connection, self._own_tables())


@contextmanager
def _quiet() -> Iterator[None]:
    """Log nothing of what many commands do, since pytest would show it below the message of a failure."""
    logger = logging.getLogger("ampho")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _schema(connection: Connection, excluded: set[str]) -> set[str]:
    """Return a line for each object of a schema."""
    inspector = inspect(connection)
    found = {f"view {view}: {inspector.get_view_definition(view)}" for view in inspector.get_view_names()}
    parts: dict[str, Mapping[Any, Any]] = {
        "column": inspector.get_multi_columns(),
        "primary key": inspector.get_multi_pk_constraint(),
        "foreign key": inspector.get_multi_foreign_keys(),
        "unique constraint": inspector.get_multi_unique_constraints(),
        "check constraint": inspector.get_multi_check_constraints(),
        "index": inspector.get_multi_indexes(),
    }
    for kind, by_table in parts.items():
        for (_, table), objects in by_table.items():
            if table not in excluded:
                found.add(f"table {table}")
                found.update(_line(kind, table, each) for each in (objects if isinstance(objects, list) else [objects]))
    if isinstance(inspector, PGInspector):
        found |= {f"enum {each['name']}: {', '.join(each['labels'])}" for each in inspector.get_enums()}
    return found


def _names(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _line(kind: str, table: str, description: Mapping[str, Any]) -> str:
    """Return a line for a part of a table, with the details that the inspector reports, sorted by name."""
    name = description.get("name") or "without a name"
    details = {key: value for key, value in sorted(description.items()) if key not in _UNSTABLE and value}
    return f"{kind} {table}.{name}  " + ", ".join(f"{key}={value}" for key, value in details.items())


def _differences(wanted: set[str], found: set[str]) -> str:
    changes = [*(f"- {each}" for each in sorted(wanted - found)), *(f"+ {each}" for each in sorted(found - wanted))]
    return f"the schema has {counted(len(changes), 'difference')}:{_lines(changes)}" if changes else ""


def _lines(changes: Sequence[str]) -> str:
    more = [f"and {len(changes) - _SHOWN} more"] if len(changes) > _SHOWN else []
    return "".join(f"\n    {each}" for each in [*changes[:_SHOWN], *more])


def _report(faults: Iterable[str]) -> None:
    """Fail if there are faults."""
    if message := "\n".join(filter(None, faults)):
        fail(message)
