"""Writing a plan as SQL, for a database as it stands or for given version rows. Complete, or absent."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from ._describe import describe
from .applied import exact_rows
from .errors import AmphoError, RenderError, SpecifierError
from .execute import perform
from .graph import Branch, Graph
from .plan import Plan, Step, plan_downgrade, plan_upgrade
from .project import Project
from .specifier import find_target, parse

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext, RevisionStep
    from alembic.script import ScriptDirectory
    from sqlalchemy.engine import Connection, Dialect


@dataclass(frozen=True, slots=True)
class DialectOnly:
    """What ``env.py`` is handed where SQL is written: all that Alembic asks of a connection then is its dialect."""

    dialect: Dialect


@dataclass(frozen=True, slots=True)
class _Start:
    """The state to start from: the version rows, and whether the version table is there."""

    rows: tuple[str, ...]
    has_table: bool


def upgrade_sql(
    project: Project,
    connection: Connection | None,
    specifier: str = "heads",
    *,
    start: str | Sequence[str] | None = None,
    x: Sequence[str] = (),
) -> str:
    """Return the SQL that an upgrade would run.

    :param connection: the database to start from; not used where ``start`` is given.
    :param start: ``base``, or the ids of the last applied revisions.
    :raises RenderError: if a revision of the plan needs a live database.
    """
    return _render(project, connection, lambda graph, rows: plan_upgrade(graph, rows, specifier), start, x)


def downgrade_sql(
    project: Project,
    connection: Connection | None,
    specifier: str = "-1",
    *,
    cascade: bool = False,
    start: str | Sequence[str] | None = None,
    x: Sequence[str] = (),
) -> str:
    """Return the SQL that a downgrade would run.

    :param connection: the database to start from; not used where ``start`` is given.
    :param cascade: whether revisions of other packages that depend on what goes may go too.
    :param start: the ids of the last applied revisions.
    :raises RenderError: if a revision of the plan needs a live database.
    """

    def make_plan(graph: Graph, rows: Iterable[str]) -> Plan:
        return plan_downgrade(graph, rows, specifier, cascade=cascade)

    return _render(project, connection, make_plan, start, x)


def _render(
    project: Project,
    connection: Connection | None,
    make_plan: Callable[[Graph, tuple[str, ...]], Plan],
    start: str | Sequence[str] | None,
    x: Sequence[str],
) -> str:
    from ._alembic import EnvironmentRun

    if start is not None or connection is None:
        state = _given_start(project.graph, start or ())
        dialect = _dialect(project)
    else:
        state = _present_start(project, connection, x)
        dialect = _dialect(project, connection)
    plan = make_plan(project.graph, state.rows)
    writer = _Writer(project.graph, plan, state)
    environment = EnvironmentRun(project, DialectOnly(dialect), x, rows=state.rows, output=writer.output)
    try:
        environment.perform(writer.work)
    except (Exception, SystemExit) as exc:
        raise writer.failure(exc) or environment.failure(exc) from exc
    if writer.current is not None:
        raise environment.refused(f"hides the failure of revision {writer.current.revision.id}. Let the error through")
    return writer.output.getvalue() if plan.steps else ""


def _given_start(graph: Graph, start: str | Sequence[str]) -> _Start:
    names = [start] if isinstance(start, str) else list(start)
    if names == ["base"]:
        return _Start((), has_table=False)
    ids = []
    for name in names:
        target = find_target(graph, parse(name))
        if isinstance(target, Branch):
            raise SpecifierError(
                f"{name} names no single revision to start from. Give an id, or 'base'.", specifier=name
            )
        ids.append(target)
    return _Start(exact_rows(graph, graph.ancestors(ids)), has_table=True)


def _present_start(project: Project, connection: Connection, x: Sequence[str]) -> _Start:
    found: list[_Start] = []

    def work(rows: tuple[str, ...], context: MigrationContext, script: ScriptDirectory) -> Iterable[RevisionStep]:
        found.append(_Start(rows, context._has_version_table()))
        return ()

    perform(project, connection, x, work)
    return found[0]


def _dialect(project: Project, connection: Connection | None = None) -> Dialect:
    """Return a dialect that writes SQL for the database's own client, which no driver's escapes may spoil.

    A connection makes it know the server, as MariaDB's types need.
    """
    dialect: Dialect = project.url.get_dialect()(paramstyle="named")
    if connection is not None:
        dialect.dbapi = connection.dialect.dbapi
        dialect.initialize(connection)
    return dialect


class _Writer:
    """Writes the steps of a plan through Alembic into a buffer."""

    def __init__(self, graph: Graph, plan: Plan, start: _Start) -> None:
        self.graph = graph
        self.plan = plan
        self.start = start
        self.output = io.StringIO()
        self.current: Step | None = None

    def work(self, rows: tuple[str, ...], context: MigrationContext, script: ScriptDirectory) -> Iterator[RevisionStep]:
        from ._alembic import load_steps

        steps = load_steps(script, self.graph, self.start.rows, self.plan.steps)
        _refuse_results(context.connection)
        if self.start.has_table:
            context._version.create = _leave_table  # type: ignore[method-assign]  # Alembic sees no rows, so no table
        for step, alembic_step in zip(self.plan.steps, steps, strict=True):
            self.current = step
            yield alembic_step
            self.current = None

    def failure(self, exc: BaseException) -> AmphoError | None:
        """Return the error that names the revision being written, if there is one."""
        if self.current is None:
            return None
        revision = self.current.revision
        return RenderError(
            f"Revision {revision.id} of {revision.package} ({revision.path}) cannot be written as SQL:"
            f" {describe(exc)}. It needs a live database: run the command without -s/--sql.",
            revision=revision.id,
            package=revision.package,
            path=revision.path,
        )


def _leave_table(*args: object, **kwargs: object) -> None:
    """Stand in for ``Table.create`` of a version table that is there already."""


class _NoResult:
    """What a statement returns where nothing is executed; using it is an error, and never silently empty."""

    def _refuse(self, *args: object) -> NoReturn:
        raise RuntimeError("it reads data")

    __getattr__ = __iter__ = __bool__ = __len__ = __getitem__ = __call__ = _refuse


def _refuse_results(connection: Any) -> None:
    """Make the connection of a revision, ``op.get_bind()``, write its statements and refuse to read."""
    write = connection._execute_impl

    def execute(statement: object, parameters: object = None, *args: object, **kwargs: object) -> _NoResult:
        if parameters:
            raise RuntimeError("it passes parameters beside the statement; bind them with .values() or bindparams()")
        write(statement)
        return _NoResult()

    connection._execute_impl = execute
