"""Write a plan as SQL, for the current state of a database or for given version rows.

The SQL is complete; if any of it cannot be written, an error is raised.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import CompileError

from ampho._text import describe, listed, place
from ampho.database.journal import Journal
from ampho.database.schema import select_schema
from ampho.database.version_rows import Applied, check_not_elsewhere, owing_state
from ampho.errors import RenderError, SpecifierError
from ampho.history.graph import Branch, Graph
from ampho.history.package import RESERVED
from ampho.history.revision import Phase, Revision
from ampho.history.specifier import find_branch, find_target, parse
from ampho.migrate.plan import (
    Direction,
    Plan,
    Step,
    check_direction,
    check_finished,
    graph_of,
    plan_downgrade,
    plan_upgrade,
)
from ampho.migrate.project import Project
from ampho.migrate.queries import query_env

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext, RevisionStep
    from sqlalchemy.engine import Connection, Dialect
    from sqlalchemy.sql.compiler import SQLCompiler
    from sqlalchemy.sql.elements import BindParameter

    from ampho.migrate.alembic import GraphScripts


_NEED_DATABASE = ("reads data", "reads the database", "reads the table", "MockConnection", "No inspection system")


@dataclass(frozen=True, slots=True)
class _Start:
    """The state that the SQL starts from.

    :ivar rows: the version rows.
    :ivar has_table: whether the app's version table exists.
    :ivar journal: the journal.
    :ivar moved: the rows that the SQL puts into other tables first, by the names of all tables; empty if there are
        none.
    """

    rows: tuple[str, ...]
    has_table: bool
    journal: Journal = field(default_factory=Journal)
    moved: Mapping[str, Sequence[str]] = field(default_factory=dict[str, list[str]])


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The SQL of one revision.

    :ivar sql: the SQL.
    :ivar lines: where the SQL of each statement ends, with the line of the revision file that the statement is from.
    """

    sql: str
    lines: Sequence[tuple[int, int]] = ()

    def parts(self) -> Iterator[tuple[int, int, str]]:
        """Yield the place where the SQL of each write begins, the line that wrote it (0 if unknown), and the SQL."""
        begin = 0
        for end, line in (*self.lines, (len(self.sql), 0)):
            yield begin, line, self.sql[begin:end]
            begin = end


def upgrade_sql(
    project: Project,
    connection: Connection | None,
    specifier: str = "heads",
    *,
    phase: Phase | None = None,
    start: str | Sequence[str] | None = None,
    x: Sequence[str] = (),
) -> str:
    """Return the SQL of an upgrade; see :meth:`ampho.commands.Commands.upgrade_sql`."""
    project.check_migratable(specifier)
    phases = project.phases if phase else None
    make_plan = partial(plan_upgrade, specifier=specifier, phases=phases, phase=phase)
    return _render(project, connection, make_plan, start, x)


def downgrade_sql(
    project: Project,
    connection: Connection | None,
    specifier: str = "-1",
    *,
    cascade: bool = False,
    start: str | Sequence[str] | None = None,
    x: Sequence[str] = (),
) -> str:
    """Return the SQL of a downgrade; see :meth:`ampho.commands.Commands.downgrade_sql`."""
    project.check_migratable(specifier)
    return _render(project, connection, partial(plan_downgrade, specifier=specifier, cascade=cascade), start, x)


def _render(
    project: Project,
    connection: Connection | None,
    make_plan: Callable[..., Plan],
    start: str | Sequence[str] | None,
    x: Sequence[str],
) -> str:
    if start is not None or connection is None:
        state = _given_start(project.graph, start or ())
        dialect = _dialect(project)
    else:
        state = _present_start(project, connection, x)
        _check_not_replaced(project.graph, state.rows)
        dialect = _dialect(project, connection)

    from ampho.migrate.alembic import EnvironmentRun, Offline

    plan = make_plan(project.graph, state.rows, journal=state.journal)
    graph = graph_of(plan, project.graph, state.rows, state.journal)
    writer = _Writer(graph, plan, state)
    known = [row for row in state.rows if row in project.graph]  # Alembic cannot look up the other rows
    command = (plan.direction.value, "--sql", "--", plan.specifier)
    environment = EnvironmentRun(project, Offline(dialect, writer.output, known), x, command)
    environment.run(writer.work, writer.failure)
    if writer.current is not None:
        raise environment.refused(
            f"suppresses the failure of revision {writer.current.revision.id}. Do not catch the exception"
        )
    return f"{select_schema(connection)}{writer.output.getvalue()}" if plan.steps or state.moved else ""


def _check_not_replaced(graph: Graph, rows: Iterable[str]) -> None:
    """Raise an error if the version rows name replaced revisions, which Alembic cannot write SQL for."""
    if old := [row for row in rows if row not in graph and graph.replacements(row)]:
        new = dict.fromkeys(each for row in old for each in graph.replacements(row))
        raise SpecifierError(
            f"The database has {listed(old)}, which {listed(list(new))} replaced, and SQL cannot record that. Run"
            " 'ampho db-up' on the database, without -s/--sql, or pass --start.",
            specifier=old[0],
        )


def render_each(
    project: Project, connection: Connection, revisions: Iterable[Revision], x: Sequence[str] = ()
) -> dict[str, Excerpt | RenderError]:
    """Map each revision id to the SQL of its upgrade, or to an error if the upgrade cannot be written as SQL.

    The SQL contains neither the transaction around it nor the statements for the version table.

    :param connection: the database that the SQL is for.
    """
    from ampho.migrate.alembic import EnvironmentRun, Offline

    steps = tuple(Step(revision, Direction.UPGRADE) for revision in revisions)
    writer = _Excerpts(project.graph, Plan("", Direction.UPGRADE, steps), _Start((), has_table=True))
    offline = Offline(_dialect(project, connection), writer.output)
    EnvironmentRun(project, offline, x, ("upgrade", "--sql", "heads")).run(writer.work)
    return writer.found


def _given_start(graph: Graph, start: str | Sequence[str]) -> _Start:
    names = [start] if isinstance(start, str) else list(start)
    if not any(names):
        raise SpecifierError("start is empty. Use revision ids, packages (for their heads), or 'base'.", specifier="")
    if names == ["base"]:
        return _Start((), has_table=False)
    ids: list[str] = []
    for name in names:
        spec = parse(name)
        if spec.offset or spec.target == "base" or (spec.branch is None and spec.target in RESERVED):
            raise SpecifierError(
                f"{name} does not name a revision to start from. Use revision ids, packages (for their heads),"
                " or 'base'.",
                specifier=name,
            )
        if spec.branch is not None and spec.target in RESERVED:
            ids += find_branch(graph, spec.branch, name).ids
            continue
        target = find_target(graph, spec)
        ids += target.ids if isinstance(target, Branch) else (target,)
    return _Start(graph.exact_rows(graph.ancestors(ids)), has_table=True)


def _present_start(project: Project, connection: Connection, x: Sequence[str]) -> _Start:
    def look(rows: tuple[str, ...], journal: Journal, context: MigrationContext) -> _Start:
        from ampho.migrate.alembic import has_version_table

        check_finished(journal)
        check_direction(journal, "")  # in either direction, because SQL would begin the backfill again
        if not rows:
            check_not_elsewhere(connection, project.graph, context.version_table, journal)
        start, places = _Start(rows, has_version_table(context), journal), journal.places
        if not places.own:
            return start
        state = owing_state(Applied.from_rows(project.graph, rows, journal), rows, places)
        return replace(start, rows=state.rows, moved=places.wanted(state.graph, state.rows)) if state else start

    return query_env(project, connection, x, look)


def _dialect(project: Project, connection: Connection | None = None) -> Dialect:
    """Return a dialect that writes SQL for the database's own client, without a driver's escapes.

    :param connection: a connection that reports the server's version, on which MariaDB's types depend.
    """
    # The same psycopg URL can mean a sync or an async dialect.
    make: Callable[..., Dialect] = project.url.get_dialect() if connection is None else type(connection.dialect)
    dialect = make(paramstyle="named")  # pyright: ignore[reportCallIssue]
    dialect.statement_compiler = _with_all_values(dialect.statement_compiler)
    if dialect.name == "postgresql":
        # SQLAlchemy 2.0 doubles backslashes until it has asked a server. Servers since PostgreSQL 9.1 do not expect
        # that; see "standard_conforming_strings" in PostgreSQL's documentation.
        dialect._backslash_escapes = False  # type: ignore[attr-defined]  # noqa: SLF001
    if connection is not None:
        dialect.dbapi = connection.dialect.dbapi
        dialect.initialize(connection)
    return dialect


def _with_all_values(compiler: type[SQLCompiler]) -> type[SQLCompiler]:
    """Return a compiler that rejects a parameter without a value, as a driver does, instead of writing NULL."""
    write: Callable[..., str] = compiler.render_literal_bindparam

    def render_literal_bindparam(self: SQLCompiler, bindparam: BindParameter[Any], **options: Any) -> str:  # noqa: ANN401
        if bindparam.required and bindparam.value is None and bindparam.callable is None:
            raise CompileError(
                f"A value is required for bind parameter {bindparam.key!r}; if the colon is part of the SQL, write"
                rf" \:{bindparam.key}"
            )
        return write(self, bindparam, **options)

    return type(compiler.__name__, (compiler,), {"render_literal_bindparam": render_literal_bindparam})


class _Writer:
    """Writes the SQL of a plan's steps into a buffer.

    :cvar takes_async: whether to raise the error for an async revision only when its own step is written.
    """

    takes_async = False

    def __init__(self, graph: Graph, plan: Plan, start: _Start) -> None:
        self.graph = graph
        self.plan = plan
        self.start = start
        self.output = io.StringIO()
        self.current: Step | None = None

    def work(self, rows: tuple[str, ...], context: MigrationContext, script: GraphScripts) -> Iterator[RevisionStep]:
        from ampho.migrate.alembic import leave_version_table, load_steps, refuse_results, write_moves

        steps = load_steps(script, self.graph, self.start.rows, self.plan.steps, context, is_async=self.takes_async)
        refuse_results(context)
        if self.start.moved:
            write_moves(context, self.start.journal.places.rows, self.start.moved)
        if self.start.has_table:
            leave_version_table(context)
        for step, alembic_step in zip(self.plan.steps, steps, strict=True):
            self.current = step
            yield self.prepared(alembic_step)
            self.current = None

    def prepared(self, step: RevisionStep) -> RevisionStep:
        """Return the step that Alembic runs. A subclass may change it."""
        return step

    def failure(self, exc: BaseException) -> RenderError | None:
        """Return the error for the revision that is being written; otherwise, return None."""
        if self.current is None:
            return None
        revision = self.current.revision
        where = place(exc, revision.path)
        return RenderError(
            f"Revision {revision.id} of {revision.package} cannot be written as SQL, at {where}: {self.why_not(exc)}",
            revision=revision.id,
            package=revision.package,
            path=revision.path,
        )

    def why_not(self, exc: BaseException) -> str:
        """Return why a revision cannot be written, and the remedy."""
        text = _why_not(exc)
        if "literal value renderer" in text or "without a renderable value" in text:
            return f"{text}. For the column or bind parameter, use a type whose values can be written as literals."
        if any(part in text for part in _NEED_DATABASE):
            return f"{text}. The revision needs a live database, so run the command without -s/--sql."
        return f"{text}. Correct the revision, or if it needs a live database, run the command without -s/--sql."


class _Lines(io.StringIO):
    """A buffer that records which line of the revision file of the current step each write is for."""

    def __init__(self, current: Callable[[], Step | None]) -> None:
        super().__init__()
        self.lines: list[tuple[int, int]] = []
        self._current = current

    def write(self, text: str, /) -> int:
        written = super().write(text)
        step = self._current()
        frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 (documented)
        while step is not None and frame is not None:
            if frame.f_code.co_filename == step.revision.file:
                self.lines.append((self.tell(), frame.f_lineno))
                break
            frame = frame.f_back
        return written


class _Excerpts(_Writer):
    """Writes the SQL of each step separately; if one fails, the others are still written."""

    takes_async = True
    output: _Lines

    def __init__(self, graph: Graph, plan: Plan, start: _Start) -> None:
        super().__init__(graph, plan, start)
        self.output = _Lines(lambda: self.current)
        self.found: dict[str, Excerpt | RenderError] = {}

    def why_not(self, exc: BaseException) -> str:
        """Return why a revision cannot be written."""
        text = _why_not(exc)
        is_alive = any(part in text for part in _NEED_DATABASE)
        return f"{text}." if is_alive else f"{text}. Correct the revision, unless it runs on a live database."

    def prepared(self, step: RevisionStep) -> RevisionStep:
        write = step.migration_fn

        def excerpted(**arguments: object) -> None:
            begin = self.output.tell()
            self.output.lines.clear()
            try:
                write(**arguments)
            except (Exception, SystemExit) as exc:  # noqa: BLE001 (a revision may raise anything)
                self._keep(self.failure(exc))
            else:
                self.output.seek(begin)
                lines = [(end - begin, line) for end, line in self.output.lines]
                self._keep(Excerpt(self.output.read(), lines))

        step.migration_fn = excerpted
        return step

    def _keep(self, found: Excerpt | RenderError | None) -> None:
        if self.current is not None and found is not None:
            self.found[self.current.revision.id] = found


def _why_not(exc: BaseException) -> str:
    text = describe(exc).rstrip(".")
    is_batch = "requires a live database connection" in text  # as Alembic says
    return "SQLite's batch mode reads the table that it rebuilds" if is_batch else text
