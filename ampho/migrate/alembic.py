"""Everything that uses private names of Alembic, except for three modules of autogenerate.

This module has five parts, which use these private names:

1. :class:`EnvironmentRun` runs the host's ``env.py`` and checks what it configures.
   ``MigrationContext._in_external_transaction`` and ``_transaction_per_migration`` show whether each revision has its
   own transaction; ``alembic.op._proxy`` stays bound after a failure, so it is cleared.
2. :class:`GraphScripts` passes the revisions of the graph to Alembic, and :func:`load_steps` the steps of a plan, with
   their version rows. ``ScriptDirectory._load_revisions`` is overridden, so that no file is read twice, or executed
   just to build the graph. ``RevisionMap`` sets ``Revision._resolved_dependencies`` and
   ``_normalized_resolved_dependencies`` in quadratic time, so :class:`LazyScript` sets the former and computes the
   latter on demand. ``literal_column`` in ``alembic.runtime.migration`` is replaced during a run, because compiling a
   statement for each version row takes a sixth of the time of a small step.
3. Functions read and write the version table, and control the transaction of a step. They use ``_has_version_table``,
   ``_ensure_version_table``, and ``_version`` of ``MigrationContext``, because the table must not be written before the
   plan is accepted, and set ``_transaction``, which Alembic commits at the end of a step.
4. Plain Alembic's commands see the graph of the configured packages. ``Script._all_down_revisions`` contains the
   parents and dependencies of a revision.
5. :class:`RevisionFiles` names and renders new files as the package's ``alembic.ini`` configures them, with
   ``ScriptDirectory._rev_path`` and ``_generate_create_date``, and runs hooks with ``write_hooks._invoke``.
"""

from __future__ import annotations

import argparse
import configparser
import locale
import logging
import os
import re
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial, update_wrapper
from pathlib import Path
from traceback import walk_tb
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import alembic.context
import alembic.op
from alembic import util
from alembic.config import CommandLine, Config
from alembic.runtime import migration
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, MigrationInfo, RevisionStep
from alembic.script import Script, ScriptDirectory, write_hooks
from alembic.util import CommandError
from mako.template import Template
from sqlalchemy import String, bindparam, literal_column
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateTable

from ampho._text import describe, is_of_database, listed_last, place, sentences, shown_path
from ampho.database.exclusive import is_inside
from ampho.database.transaction import TRANSACTIONAL
from ampho.database.url import database_error, describe_without, explain
from ampho.database.version_rows import Applied, VersionRows
from ampho.database.version_tables import Places
from ampho.errors import (
    AmphoError,
    ConfigurationError,
    DatabaseError,
    EnvironmentFileError,
    PlanChangedError,
    RevisionInputError,
)
from ampho.history.files import revision_folders
from ampho.history.graph import Graph
from ampho.history.host import TEMPLATES
from ampho.history.package import MigrationPackage
from ampho.history.revision import Revision, check_is_run, is_as_read, lacks_function, load_module
from ampho.migrate.function import close_coroutines, run_function
from ampho.migrate.plan import Cause, Direction, Step
from ampho.migrate.project import Project
from ampho.settings import VERSION_TABLES

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Table
    from sqlalchemy.engine import Connection, Dialect

DRIVEN = "ampho"
"""The key of the :class:`EnvironmentRun` in ``config.attributes``; plain Alembic does not set this key."""

ASK = ("current",)
"""The Alembic command that ``env.py`` sees when a command of Ampho changes nothing."""

Rows = tuple[str, ...]
Work = Callable[[Rows, MigrationContext], Iterable[RevisionStep]]
"""A function that Alembic calls inside ``env.py`` with the version rows and the context, and that returns the steps."""

Tables = Mapping[str, Sequence[str]]
"""The rows of version tables, by the names of the tables."""

_ID = String()
_PLACES = "ampho_places"  # the key in the options of a context
_log = logging.getLogger("ampho")
_SKIPPED = (
    "%s, line %d: %s() was skipped, because it would replace the app's logging configuration. Remove the"
    ' call, or make it only if context.config.attributes has no "connection", as is the case under plain Alembic.'
)


# ---- Running env.py ----


@dataclass(frozen=True, slots=True)
class Offline:
    """A stand-in for the connection when SQL is written instead of executed.

    :ivar output: the file to write SQL to.
    :ivar rows: the version rows to start from.
    """

    dialect: Dialect
    output: TextIO
    rows: Sequence[str] = ()


@dataclass
class EnvironmentRun:
    """One run of a project's ``env.py``.

    :ivar connection: the connection that Ampho passes to ``env.py``.
    :ivar x: the values of ``-x``.
    :ivar command: the equivalent Alembic command, which ``env.py`` can read.
    :ivar line: the line of ``env.py`` that calls ``context.configure()``.
    """

    project: Project
    connection: Connection | Offline
    x: Sequence[str] = ()
    command: Sequence[str] = ASK
    line: int | None = field(default=None, init=False)
    _ran: bool = field(default=False, init=False)
    _error: AmphoError | None = field(default=None, init=False)

    @property
    def path(self) -> Path:
        """The path of ``env.py``."""
        return self.project.env_folder / "env.py"

    def run(
        self,
        work: Callable[[Rows, MigrationContext, GraphScripts], Iterable[RevisionStep]],
        error_of: Callable[[BaseException], AmphoError | None] = lambda exc: None,
    ) -> None:
        """Run ``env.py`` with ``work`` inside it, and turn every exception into an :exc:`AmphoError`.

        :param error_of: returns the error for an exception from a revision, or None if ``env.py`` itself raised it.
        :raises AmphoError: if ``env.py`` does not run the migrations as Ampho requires, or anything in it fails.
        """
        try:
            self.execute(work)
        except (Exception, SystemExit) as exc:
            error = error_of(exc)
            if error is None:
                self.fail(exc)
            raise error from exc

    def execute(self, work: Callable[[Rows, MigrationContext, GraphScripts], Iterable[RevisionStep]]) -> None:
        """Run ``env.py`` with ``work`` inside it.

        :raises EnvironmentFileError: if ``env.py`` does not run the migrations as Ampho requires.
        :raises Exception: any exception from ``env.py``, a revision, Alembic, or the database; see :meth:`fail`.
        """
        script = GraphScripts(self.project)

        def fn(rows: tuple[str, ...], context: MigrationContext) -> Iterator[RevisionStep]:
            self._ran = True
            try:
                self._check(context)
                yield from work(rows, context, script)
            except AmphoError as exc:
                self._error = exc
                raise

        self._run_env_py(script, fn)
        if self._error is not None:
            raise self._error
        if not self._ran:
            raise self.refused("never runs the migrations. Call context.run_migrations() after context.configure()")

    def _run_env_py(self, script: ScriptDirectory, fn: Work) -> None:
        config = make_config(self.project, self.command, self.x)
        config.attributes["connection"] = self.connection
        config.attributes[DRIVEN] = self
        options: dict[str, Any] = {"fn": fn, "dont_mutate": True, "destination_rev": "heads", "template_args": {}}
        offline = self.connection if isinstance(self.connection, Offline) else None
        if offline is not None:
            options |= {"as_sql": True, "starting_rev": list(offline.rows), "output_buffer": offline.output}
        environment = EnvironmentContext(config, script, **options)
        adapt_context(environment, self.project)
        configure = environment.configure

        def configure_here(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401 (passed on)
            self.line = self._calling_line()
            configure(*args, **kwargs)

        environment.configure = configure_here  # type: ignore[method-assign]  # in a subclass, alembic.context.config would not work
        environment.__enter__()
        try:
            with _version_rows_as_parameters() if offline is None else nullcontext(), self._logging_untouched():
                script.run_env()
        finally:
            _release(alembic.op)
            _release(alembic.context)

    def _logging_untouched(self) -> AbstractContextManager[None]:
        """Skip ``fileConfig()`` and ``dictConfig()`` in ``env.py``, which would reconfigure the app's logging."""
        if self.project.is_env_pristine:
            return nullcontext()
        from logging import config

        def skip_in_env_py(name: str, function: Callable[..., None], *args: object, **kwargs: object) -> None:
            line = self._calling_line()
            if line is None:
                function(*args, **kwargs)
            else:
                _log.warning(_SKIPPED, shown_path(self.path), line, name)

        names = ("fileConfig", "dictConfig")
        return _replaced(config, **{name: partial(skip_in_env_py, name, getattr(config, name)) for name in names})

    def _calling_line(self) -> int | None:
        """Return the line of ``env.py`` that is running; None if its code is not running."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename != str(self.path):
            frame = frame.f_back
        return None if frame is None else frame.f_lineno

    def _check(self, context: MigrationContext) -> None:
        """Check, before anything is written, that ``env.py`` uses Ampho's connection and a transaction per revision."""
        if not isinstance(self.connection, Offline) and context.connection is not self.connection:
            raise self.refused(
                "does not use Ampho's connection. Pass the connection that run_migrations() receives to"
                " context.configure()"
            )
        if context._in_external_transaction:
            raise self.refused(
                "runs a statement before context.configure(), so all revisions would run in one transaction that is"
                " never committed. Run the statement after configure()"
            )
        if not context._transaction_per_migration:
            raise self.refused(
                "does not run each revision in its own transaction. Pass transaction_per_migration=True, as"
                " environment.options() does"
            )
        if context.dialect.name in TRANSACTIONAL and not context.impl.transactional_ddl:
            raise self.refused("disables transactional DDL. Leave transactional_ddl as environment.options() sets it")

    def refused(self, why: str) -> EnvironmentFileError:
        """Return the error for an ``env.py`` that does not run the migrations as Ampho requires."""
        where = f"{shown_path(self.path)}, line {self.line}," if self.line else shown_path(self.path)
        return EnvironmentFileError(f"{where} {why}.", path=self.path, line=self.line)

    def fail(self, exc: BaseException, finished: Sequence[str] = ()) -> NoReturn:
        """Raise the error for an exception that did not come from a revision.

        :param finished: the ids of the revisions that this run has completed.
        """
        if isinstance(exc, AmphoError):
            raise exc
        url = self.project.url
        before = f"Completed before the failure: {listed_last(finished)}." if finished else ""
        elsewhere = is_of_database(exc) and self._connects_itself(exc)
        if is_of_database(exc) and not elsewhere:
            raise database_error(exc, url, before) from exc
        where = place(exc, self.path)
        number = where.rpartition(":")[2]
        why = describe_without(exc, url).rstrip(".") if elsewhere else explain(exc, url)
        remedy = (
            "Use the connection that environment.connect() returns, instead of opening another one or running an event"
            " loop."
        )
        text = sentences(f"env.py failed at {where}: {why}", before, remedy if elsewhere else "")
        line = int(number) if number.isdigit() else self.line
        raise EnvironmentFileError(text, path=self.path, line=line) from exc

    def _connects_itself(self, exc: BaseException) -> bool:
        """Return whether an error comes from a connection or an event loop that ``env.py`` created itself.

        The traceback of an error on Ampho's connection contains a method of that connection.
        """
        frames = [frame for frame, _ in walk_tb(exc.__traceback__)]
        if not any(frame.f_code.co_filename == str(self.path) for frame in frames):
            return False
        close_coroutines(frames)
        return not any(frame.f_locals.get("self") is self.connection for frame in frames)


def _release(module: Any) -> None:  # noqa: ANN401 (both consist of proxies)
    """Unbind ``alembic.op`` or ``alembic.context``, unless a revision has already done so by running Alembic."""
    bound = getattr(module, "_proxy", None)
    if bound is not None:
        bound._remove_proxy()


@contextmanager
def _replaced(module: ModuleType, **values: object) -> Iterator[None]:
    """Replace attributes of a module while the body runs."""
    before = {name: getattr(module, name) for name in values}
    vars(module).update(values)
    try:
        yield
    finally:
        vars(module).update(before)


class _Config(Config):
    """Alembic's configuration, from a file that is decoded as UTF-8 or, failing that, in the locale's encoding.

    Alembic itself only tries the locale's encoding, which is ASCII in many containers.

    :param command: the equivalent Alembic command and its arguments.
    :param x: the values of ``-x``; a string is one value.
    """

    def __init__(self, ini: Path, command: Sequence[str] = ASK, x: Sequence[str] = ()) -> None:
        super().__init__(str(ini) if ini.is_file() else None)
        self._command = command
        self._x = [x] if isinstance(x, str) else list(x)
        del self.cmd_opts

    @cached_property
    def cmd_opts(self) -> argparse.Namespace:  # type: ignore[override]  # a plain attribute in Alembic
        """The arguments of the command, parsed on demand, because creating Alembic's parser is slow."""
        found = CommandLine("alembic").parser.parse_args(self._command)
        found.x = self._x
        return found

    @cached_property
    def file_config(self) -> configparser.ConfigParser:  # pyright: ignore[reportIncompatibleVariableOverride]
        ini = Path(self.config_file_name or "").absolute()
        self.config_args["here"] = ini.parent.as_posix() if self.config_file_name else Path().as_posix()
        parser = configparser.ConfigParser(self.config_args)
        if self.config_file_name:
            content = ini.read_bytes()
            try:
                text = content.decode("utf-8-sig")
            except UnicodeDecodeError:
                text = content.decode(locale.getencoding())
            parser.read_string(text, str(ini))
        else:
            parser.add_section(self.config_ini_section)
        return parser


def make_config(project: Project, command: Sequence[str] = ASK, x: Sequence[str] = ()) -> Config:
    """Return the configuration for a project: the host's ``alembic.ini`` with the folders of all packages."""
    ini = project.env_folder / "alembic.ini"
    config: Config = _Config(ini, command, x)
    try:
        set_locations(config, project)
    except (configparser.Error, UnicodeDecodeError, OSError) as exc:
        raise ConfigurationError(f"{shown_path(ini)} cannot be read: {describe(exc)}.") from exc
    if project.configure is not None:
        config = project.configure(config)
    return config


def set_locations(config: Config, project: Project) -> None:
    """Set the host's folder and the folders of all packages in Alembic's configuration."""
    config.set_main_option("script_location", str(project.env_folder).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", "\n".join(_version_locations(project)).replace("%", "%%"))
    config.set_main_option("recursive_version_locations", "false")


def _version_locations(project: Project) -> list[str]:
    """Return every folder with revision files, because Alembic's setting for subfolders applies to all packages."""
    return [folder for package in project.packages for folder in revision_folders(package)]


# ---- Scripts and steps ----


class LazyScript(Script):
    """A revision of the graph as an Alembic script, whose file is executed when Alembic first uses its module."""

    def __init__(self, graph: Graph, revision_id: str) -> None:
        self._source = revision = graph[revision_id]
        self._graph = graph
        self.path: str = revision.file
        dependencies = _dependencies(graph, revision)
        super(Script, self).__init__(
            revision.id,
            revision.down_revisions or None,
            dependencies=dependencies or None,
            branch_labels=revision.labels or None,
        )
        # Alembic's map of all revisions would set this, but building the map takes longer than a step.
        self._resolved_dependencies = dependencies

    @cached_property
    def _normalized_resolved_dependencies(self) -> tuple[str, ...]:  # type: ignore[override]  # a plain attribute in Alembic
        """The dependencies that no earlier revision of the branch has, as in Alembic's map of all revisions."""
        left, seen = list(self._source.down_revisions), set[str]()
        needed = dict.fromkeys(self._resolved_dependencies)
        while left and needed:
            revision_id = left.pop()
            if revision_id not in seen:
                seen.add(revision_id)
                earlier = self._graph[revision_id]
                for dependency in _dependencies(self._graph, earlier):
                    needed.pop(dependency, None)
                left += earlier.down_revisions
        return tuple(needed)

    @cached_property
    def module(self) -> ModuleType:  # type: ignore[override]  # a plain attribute in Alembic
        return load_module(self._source.path, self._source.package)

    @property
    def longdoc(self) -> str:
        return self._source.doc.strip()


def _dependencies(graph: Graph, revision: Revision) -> tuple[str, ...]:
    return tuple(parent for parent in graph.parents(revision.id) if parent not in revision.down_revisions)


class GraphScripts(ScriptDirectory):
    """The script directory of a project: the host's folder with the revisions of the graph.

    :ivar loaded: the revisions whose files were executed, by their ids.
    """

    def __init__(self, project: Project) -> None:
        self._graph = project.graph
        self.loaded: dict[str, LazyScript] = {}
        super().__init__(project.env_folder, version_locations=_version_locations(project))

    def _load_revisions(self) -> Iterator[Script]:
        for revision_id in self._graph.ids:
            yield self.loaded.get(revision_id) or LazyScript(self._graph, revision_id)


class _StepInfo(MigrationInfo):
    """The ``step`` of ``on_version_apply`` callbacks. It reads all revisions only if ``down_revision_ids`` is used."""

    def __init__(self, step: RevisionStep) -> None:
        super().__init__(
            step.revision_map, step.is_upgrade, is_stamp=False, up_revisions=step.revision.revision, down_revisions=()
        )
        self._revision = step.revision
        del self.__dict__["down_revision_ids"]

    @cached_property
    def down_revision_ids(self) -> tuple[str, ...]:  # type: ignore[override]  # a plain attribute in Alembic
        return self._revision._normalized_down_revisions


def _nothing(**arguments: object) -> None:
    """Stand in for the function of a revision that is only recorded."""


class ExactStep(RevisionStep):
    """A step that knows which version rows to write, because Alembic's rules fail on graphs of several packages.

    :param select: called before the version rows are written, to select the table that they are written to.
    :param runs: whether to call the revision's function.
    :ivar after_function: called after the revision's function, before the version rows are written.
    """

    def __init__(
        self,
        script: ScriptDirectory,
        revision: Script,
        direction: Direction,
        rows: VersionRows,
        select: Callable[[], None] | None = None,
        *,
        runs: bool = True,
    ) -> None:
        up = direction is Direction.UPGRADE
        super().__init__(script.revision_map, revision, up)
        function = self.migration_fn if runs else _nothing
        self.migration_fn: Callable[..., None] = update_wrapper(partial(self._run, function), function)
        self.after_function: Callable[[], None] = lambda: None
        self._select = select
        self._removed, self._added = rows.upgrade(revision.revision) if up else rows.downgrade(revision.revision)

    @property
    def info(self) -> MigrationInfo:
        return _StepInfo(self)

    def _run(self, function: Callable[..., object], **arguments: object) -> None:
        run_function(self.revision.path, function, arguments, alembic.op.run_async)
        self.after_function()
        if self._select is not None:
            self._select()

    def rows_after(self, rows: set[str]) -> set[str]:
        """Return the version rows after this step, given the version rows before it."""
        return (rows - set(self._removed)) | set(self._added)

    def should_create_branch(self, heads: set[str]) -> bool:
        return not self._removed

    def should_delete_branch(self, heads: set[str]) -> bool:
        return not self._added

    # An upgrade adds one row and may remove several; a downgrade removes one row and may add several.

    def should_merge_branches(self, heads: set[str]) -> bool:
        return self.is_upgrade

    def should_unmerge_branches(self, heads: set[str]) -> bool:
        return not self.is_upgrade

    def merge_branch_idents(self, heads: set[str]) -> tuple[list[str], str, str]:
        return self._removed[:-1], self._removed[-1], self._added[0]

    def unmerge_branch_idents(self, heads: set[str]) -> tuple[str, str, tuple[str, ...]]:
        return self._removed[0], self._added[-1], tuple(self._added[:-1])


def load_steps(
    script: GraphScripts,
    graph: Graph,
    rows: Iterable[str],
    steps: Iterable[Step],
    context: MigrationContext,
    *,
    is_async: bool,
) -> list[ExactStep]:
    """Execute the files of a plan's steps, and return the steps for Alembic.

    :param context: the context that runs the steps.
    :param is_async: whether the steps run on a connection of an async engine.
    :raises RevisionFileError: if a file cannot be executed, or lacks the function of its step.
    """
    rows = tuple(rows)
    version_rows = VersionRows(rows, graph.row_parents if graph.has_row_parents else graph.parents)
    tables = KeptTables(context, graph, rows) if graph.kept else None
    loaded: list[ExactStep] = []
    for step in steps:
        revision = script.loaded[step.revision.id] = LazyScript(graph, step.revision.id)
        runs = step.cause is not Cause.REPLACES
        if runs:
            _check_function(revision, step, is_async=is_async)
        select = tables.selecting(step.revision.id) if tables else None
        loaded.append(ExactStep(script, revision, step.direction, version_rows, select, runs=runs))
    return loaded


def _check_function(script: Script, step: Step, *, is_async: bool) -> None:
    revision = step.revision
    if not is_as_read(revision):
        raise PlanChangedError(
            f"The file of {revision.id}, {shown_path(revision.path)}, has changed since it was read. Run the command"
            " again; nothing was changed."
        )
    function = getattr(script.module, step.direction.value, None)
    if not callable(function):
        raise lacks_function(revision, step.direction.value)
    check_is_run(revision, getattr(function, "__code__", None), is_async=is_async)


def _version_rows_as_parameters() -> AbstractContextManager[None]:
    """Make Alembic write version rows as parameters instead of literals, so that each statement is compiled once."""

    def parameter(text: str) -> ColumnElement[str]:
        # Meanwhile, another thread may be writing SQL with plain Alembic, which needs literals.
        return bindparam(None, text[1:-1], _ID) if is_inside() else literal_column(text)

    return _replaced(migration, literal_column=parameter)


# ---- The version table and the transaction of a step ----


def has_version_table(context: MigrationContext) -> bool:
    """Return whether the database has the version table that ``env.py`` configured."""
    return context._has_version_table()


def ensure_version_table(context: MigrationContext) -> None:
    """Create the version table that ``env.py`` configured, if it does not exist."""
    context._ensure_version_table()


def leave_version_table(context: MigrationContext) -> None:
    """Keep Alembic from writing CREATE TABLE for a version table that exists and is empty."""
    context._version.create = lambda *args, **kwargs: None  # type: ignore[method-assign]  # only for this table


class KeptTables:
    """The version tables of packages that keep them, in a run of ``env.py``.

    :param rows: the version rows before the first step.
    """

    def __init__(self, context: MigrationContext, graph: Graph, rows: Sequence[str]) -> None:
        self._context, self._graph, self._needed = context, graph, dict[str, None]()
        self._ensure = context._ensure_version_table
        context._ensure_version_table = self._ensure_all  # type: ignore[method-assign]  # only for this run
        # If there are no rows at all, Alembic writes the statement that creates the app's table.
        names = {*graph.kept.values(), *([context.version_table] if rows else [])}
        self._unsure = names.difference(map(self._name, filter(graph.__contains__, rows))) if context.as_sql else set()

    def _name(self, revision_id: str) -> str:
        return self._graph.kept.get(self._graph[revision_id].package, self._context.version_table)

    def _ensure_all(self, purge: bool = False) -> None:  # noqa: FBT001, FBT002 (Alembic's signature)
        for name in (*self._needed, self._context.version_table):
            self._context._version = _version_table(self._context, name)
            self._ensure(purge)

    def selecting(self, revision_id: str) -> Callable[[], None]:
        """Return a function that makes Alembic write the rows of a revision into the right table."""
        name = self._name(revision_id)
        self._needed[name] = None
        table = _version_table(self._context, name)

        def select() -> None:
            if name in self._unsure:
                self._unsure.discard(name)
                self._context.execute(CreateTable(table, if_not_exists=True))
            self._context._version = table

        return select


def _version_table(context: MigrationContext, name: str) -> Table:
    return context.impl.version_table_impl(
        version_table=name,
        version_table_schema=context.version_table_schema,
        version_table_pk=context.opts.get("version_table_pk", True),
    )


def places_of(context: MigrationContext, rows: Rows) -> Places:
    """Return where the version rows of a database are.

    :param rows: the rows, if no package has a table of its own.
    """
    name = context.version_table
    return context.opts.get(_PLACES) or Places(name, context.version_table_schema, rows={name: rows})


def write_moves(context: MigrationContext, stored: Tables, wanted: Tables) -> None:
    """Write the SQL that moves version rows between tables, in one transaction."""

    def rows_of(tables: Tables) -> set[tuple[str, str]]:
        return {(name, row) for name, rows in tables.items() for row in rows}

    with context.begin_transaction(_per_migration=True):
        for name, row in sorted(rows_of(wanted) - rows_of(stored)):
            table = _version_table(context, name)
            if not stored.get(name):
                context.execute(CreateTable(table, if_not_exists=True))
            context.execute(table.insert().values(version_num=_literal(row)))
        for name, row in sorted(rows_of(stored) - rows_of(wanted)):
            table = _version_table(context, name)
            context.execute(table.delete().where(table.c.version_num == _literal(row)))


def _literal(row: str) -> ColumnElement[str]:
    quoted = row.replace("'", "''")
    return literal_column(f"'{quoted}'")


def write_rows(context: MigrationContext, stored: Tables, wanted: Tables, record: Callable[[], None]) -> None:
    """Replace the rows of version tables, in one transaction.

    :param stored: the present rows of each table.
    :param wanted: the rows that each table should have. A table that gets its first row is created.
    :param record: called in that transaction.
    :raises DatabaseError: if the connection was lost during the commit, so that its outcome is unknown.
    """
    connection = context.connection
    if connection is None:
        return
    if not connection.in_transaction():
        connection.begin()
    changed = {
        _version_table(context, name): sorted(rows)
        for name, rows in wanted.items()
        if sorted(map(str, stored.get(name, ()))) != sorted(rows)
    }
    for table in (table for table, rows in changed.items() if rows):
        table.create(connection, checkfirst=True)  # first, because some databases would commit the other statements
    for table, rows in changed.items():
        connection.execute(table.delete())
        for row in rows:
            connection.execute(table.insert().values(version_num=row))
    record()
    try:
        connection.commit()
    except DBAPIError as exc:
        if not exc.connection_invalidated:
            raise
        raise DatabaseError(
            f"The connection was lost during the commit ({type(exc.orig).__name__}). Run 'ampho db-current' to see"
            " which revisions are applied."
        ) from exc


def follow_transaction(context: MigrationContext, *, is_over: bool = False) -> None:
    """Make Alembic commit the connection's current transaction instead of the transaction that Alembic began.

    :param is_over: whether a statement has ended the current transaction without SQLAlchemy noticing.
    """
    connection = context.connection
    if connection is None:
        return
    if is_over:
        connection.commit()
    context._transaction = connection.get_transaction() or connection.begin()


def follow_in_blocks(context: MigrationContext) -> None:
    """Make ``autocommit_block()`` work after a commit in the same revision."""
    block = context.autocommit_block

    def autocommit_block() -> AbstractContextManager[None]:
        follow_transaction(context)
        return block()

    context.autocommit_block = autocommit_block  # type: ignore[assignment]  # only for this run


class _NoResult:
    """The result of a statement that is written, not executed. Using the result raises an error."""

    def _refuse(self, *args: object) -> NoReturn:
        raise RuntimeError("the revision reads data")

    __getattr__ = __iter__ = __bool__ = __len__ = __getitem__ = __call__ = _refuse


def refuse_results(context: MigrationContext) -> None:
    """Make ``op.get_bind()`` write the SQL of its statements, and raise an error if their results are read."""
    connection: Any = context.connection
    write = connection._execute_impl

    def execute(statement: object, parameters: object = None, *args: object, **kwargs: object) -> _NoResult:
        if parameters:
            raise RuntimeError("the revision passes parameters separately; bind them with .values() or bindparams()")
        write(statement)
        return _NoResult()

    connection._execute_impl = execute


# ---- Plain Alembic ----


def current_environment() -> EnvironmentContext:
    """Return the environment context behind ``alembic.context`` during a run of plain Alembic."""
    environment: EnvironmentContext = alembic.context._proxy  # type: ignore[attr-defined]  # set by Alembic's proxy
    return environment


def show_present_folders(script: ScriptDirectory, project: Project) -> None:
    """Make a plain Alembic command see the graph of the configured packages instead of its own.

    This executes no file, not even an ``env.py`` next to the revision files of a third party.
    """
    present = GraphScripts(project)
    script.version_locations = present.version_locations
    script.__dict__.pop("_version_locations", None)
    script.revision_map = present.revision_map


def with_exact_rows(fn: Work, project: Project) -> Work:
    """Wrap the work of a plain Alembic command so that its steps write the same version rows as Ampho's steps."""
    graph = project.graph

    def work(heads: tuple[str, ...], context: MigrationContext) -> Iterator[RevisionStep]:
        rows, script = None, context.script
        tables = KeptTables(context, graph, heads) if graph.kept else None
        for step in fn(heads, context):
            if rows is None and _PLACES in context.opts:
                _check_can_write(context.opts[_PLACES], Applied.from_rows(graph, heads), step)
            if type(step) is not RevisionStep or script is None:
                yield step
                continue
            if rows is None:
                below = graph.row_parents if graph.kept else lambda rid: script.get_revision(rid)._all_down_revisions
                rows = VersionRows(heads, below)
            direction = Direction.UPGRADE if step.is_upgrade else Direction.DOWNGRADE
            select = tables.selecting(step.revision.revision) if tables else None
            if tables and not context.as_sql:
                context._ensure_version_table()
            yield ExactStep(script, step.revision, direction, rows, select)

    return work


def _check_can_write(places: Places, applied: Applied, step: RevisionStep) -> None:
    """Raise an error if a plain Alembic command would write version rows into the wrong table."""
    if type(step) is not RevisionStep:
        raise CommandError(
            f"Alembic's stamp command cannot write the tables in {VERSION_TABLES}. Use 'ampho db-stamp'."
        )
    if not places.are_final(places.wanted(applied.graph, applied.rows)):
        raise CommandError(
            f"Not all version rows are in the tables that {VERSION_TABLES} says. Run 'ampho db-up' first, which moves"
            " them."
        )


def adapt_context(environment: EnvironmentContext, project: Project) -> None:
    """Hide Ampho's tables when ``env.py`` compares the models with the database, and read all version tables.

    The option is set after ``configure()``, because as an argument it would collide with the user's ``include_name``.
    """
    configure = environment.configure

    def configure_and_adapt(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401 (passed on)
        configure(*args, **kwargs)
        context = environment.get_context()
        context.opts["include_name"] = without_tables(project.own_tables, context.opts.get("include_name"))
        if project.version_tables and not context.as_sql:
            _read_own_tables(context, project)

    environment.configure = configure_and_adapt  # type: ignore[method-assign]  # only for this run


def _read_own_tables(context: MigrationContext, project: Project) -> None:
    """Make Alembic read the version rows of all tables, as if they were in one."""
    shared, read = context._version, context.get_current_heads

    def get_current_heads() -> Rows:
        context._version = shared
        rows, connection = read(), context.connection
        if connection is not None:
            names = (context.version_table, context.version_table_schema, project.settings.journal_table)
            own = project.version_tables
            rows, context.opts[_PLACES] = Places.read(connection, project.graph, names, own, rows)
        return rows

    context.get_current_heads = get_current_heads  # type: ignore[method-assign]  # only for this run


def without_tables(names: Container[str | None], users: Callable[..., object] | None) -> Callable[..., bool]:
    """Return an ``include_name`` function that excludes tables, and everything that ``users`` excludes."""

    def include_name(item: str | None, type_: str, parents: dict[str, Any]) -> bool:
        return not (type_ == "table" and item in names) and (users is None or bool(users(item, type_, parents)))

    return include_name


# ---- New revision files ----


@dataclass(frozen=True, slots=True)
class Body:
    """The bodies of a revision's functions, indented except for their first lines, and the imports that they need.

    :ivar options: the options that ``env.py`` configured.
    """

    upgrades: str
    downgrades: str
    imports: str
    options: Mapping[str, Any]


class RevisionFiles:
    """Names and renders new revision files, according to the package's ``alembic.ini`` and ``script.py.mako``."""

    def __init__(self, package: MigrationPackage) -> None:
        self._package = package
        ini = package.folder / "alembic.ini"
        self._config = _Config(ini)
        get = self._config.get_main_option
        try:
            self._script = ScriptDirectory(
                package.folder if package.exists else TEMPLATES,
                file_template=get("file_template") or "%(rev)s_%(slug)s",
                truncate_slug_length=int(get("truncate_slug_length") or 40),
                timezone=get("timezone"),
            )
            self._date = self._script._generate_create_date()
        except (CommandError, ValueError, configparser.Error, OSError) as exc:
            raise self._error(f"{shown_path(ini)} cannot be used: {describe(exc)}") from exc

    def path(self, revision_id: str, message: str, below: Path) -> Path:
        """Return the path of a new file.

        :param below: the package's versions folder, or a folder inside it.
        :raises RevisionInputError: if the file exists, or would be outside of the package's versions folder.
        """
        folder = self._package.versions
        try:
            path = Path(self._script._rev_path(below, revision_id, message, self._date))
        except (KeyError, TypeError, ValueError) as exc:
            raise self._error(f"file_template in alembic.ini cannot be used: {describe(exc)}") from exc
        if not re.search(r"\w", message):
            path = below / f"{revision_id}.py"
        around = [*path.resolve().parents] if self._package.is_recursive else [path.resolve().parent]
        folders = {Path(each).resolve() for each in self._package.layout[0]}
        if folders.isdisjoint(around) or not path.resolve().is_relative_to(self._package.root.resolve()):
            raise self._error(
                f"{shown_path(path)} must be in {shown_path(folder)}, which must be inside the package. Correct"
                " file_template in alembic.ini"
            )
        if os.path.lexists(path):
            raise self._error(f"{shown_path(path)} already exists")
        return path

    def render(self, revision: Revision, body: Body) -> bytes:
        """Return the content of a new revision file.

        :raises RevisionInputError: if the template cannot be rendered.
        """
        source = self._package.folder / "script.py.mako"
        if not source.is_file():
            source = TEMPLATES / "script.py.mako"
        options, down = body.options, revision.down_revisions
        arguments = {
            **(options.get("template_args") or {}),
            options.get("upgrade_token", "upgrades"): body.upgrades,
            options.get("downgrade_token", "downgrades"): body.downgrades,
        }
        try:
            text = Template(filename=str(source), input_encoding="utf-8").render_unicode(  # noqa: S702  # Python, not HTML
                message=_for_docstring(revision.doc),
                up_revision=revision.id,
                down_revision=down if len(down) > 1 else next(iter(down), None),
                branch_labels=revision.labels or None,
                depends_on=revision.depends_on or None,
                create_date=self._date,
                comma=util.format_as_comma,
                config=self._config,
                imports=body.imports,
                **arguments,
            )
        except (Exception, SystemExit) as exc:
            raise self._error(f"the template {shown_path(source)} cannot be rendered: {describe(exc)}") from exc
        return str(text).encode("utf-8")

    def run_hooks(self, path: Path, *, is_kept: bool) -> None:
        """Run the ``post_write_hooks`` of the package's ``alembic.ini`` on a file that was written.

        :param is_kept: whether the file is kept if a hook fails.
        :raises RevisionInputError: if a hook fails.
        """
        try:
            for hook in self._config.get_hooks_list():
                write_hooks._invoke(hook.get("type", ""), path, hook)  # _run_hooks() would also print
        except (Exception, SystemExit) as exc:
            what = "was written, but" if is_kept else "and the other new files were removed again, because"
            raise self._error(f"{shown_path(path)} {what} a post_write_hook failed: {describe(exc)}") from exc

    def _error(self, what: str) -> RevisionInputError:
        return RevisionInputError(f"{what}.", package=self._package.name)


def _for_docstring(message: str) -> str:
    """Escape a message for a string in triple quotes and for a comment."""
    escaped = message.replace("\\", "\\\\").replace('"', '\\"').replace("'''", "\\'\\'\\'")
    return escaped.replace("\n", "\\n").replace("\t", "\\t")
