"""The only file that touches Alembic's private names, and the only one that runs an ``env.py``.

What is private, and why it is needed:

- ``ScriptDirectory._load_revisions`` is where the graph's revisions enter, so that no file is read twice or executed
  to learn the graph.
- ``MigrationContext._transaction_per_migration``, ``_in_external_transaction``, ``_has_version_table``,
  ``_ensure_version_table`` and ``_version`` tell how ``env.py`` configured the run, and write the version table when
  the plan is accepted, not before. ``_transaction`` is what Alembic commits at the end of a step.
- ``ScriptDirectory._rev_path``, ``_generate_create_date`` and ``write_hooks._invoke`` make a new file look as the
  package's ``alembic.ini`` says.
- ``Revision._resolved_dependencies`` and ``_normalized_resolved_dependencies`` are set by ``RevisionMap`` when all
  revisions are loaded, in a time that grows with their square where they depend on each other. A step has the former as
  they are written, and reduces them to the latter, and to ``_normalized_down_revisions``, when a callback asks for it.
- ``Script._all_down_revisions`` has a revision's parents and dependencies for plain Alembic's runs.
- ``alembic.runtime.migration.HeadMaintainer`` is replaced while a run lasts, and does the same: Alembic writes the ids
  of the version rows into its statements, so that each is compiled again, a sixth of the time of a small step.
- ``alembic.op._proxy`` stays bound after a failure, and is cleared.
"""

from __future__ import annotations

import argparse
import configparser
import locale
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial, update_wrapper
from inspect import CORO_CREATED, Parameter, getcoroutinestate, iscoroutine, iscoroutinefunction, signature
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
from alembic.runtime.migration import HeadMaintainer, MigrationContext, MigrationInfo, RevisionStep
from alembic.script import Script, ScriptDirectory, write_hooks
from alembic.util import CommandError
from mako.template import Template
from sqlalchemy import bindparam
from sqlalchemy.exc import DBAPIError
from sqlalchemy.util import await_only

from ampho._text import describe, is_of_database, listed_last, place, shown_path, with_hint
from ampho.database.applied import VersionRows
from ampho.database.url import describe_without
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
from ampho.migrate.plan import Direction, Step
from ampho.project import Project

if TYPE_CHECKING:
    from sqlalchemy import Delete, Insert, Update
    from sqlalchemy.engine import Connection, Dialect
    from sqlalchemy.ext.asyncio import AsyncConnection


DRIVEN = "ampho"
"""The key in ``config.attributes`` under which a run that Ampho drives is found by ``ampho.environment``."""

_log = logging.getLogger("ampho")
_SKIPPED = (
    "%s, line %d: %s() was skipped, because it would replace the logging configuration of the app. Take it out, or call"
    ' it only where context.config.attributes has no "connection", as under plain Alembic.'
)

_NEVER_AWAITED = re.compile(r"coroutine .* was never awaited")
_CREATED = re.compile(r'File "(.*)", line (\d+)')
_ORIGIN_DEPTH = 8  # calls, from a coroutine to the revision that has made it

ASK = ("current",)
"""The Alembic command that comes closest to those of ours that change nothing."""

Rows = tuple[str, ...]
Work = Callable[[Rows, MigrationContext], Iterable[RevisionStep]]
"""What a run does: from the version rows, and within the context that ``env.py`` configured, to Alembic's steps."""


@dataclass(frozen=True, slots=True)
class DialectOnly:
    """What ``env.py`` is handed where SQL is written: all that Alembic asks of a connection then is its dialect."""

    dialect: Dialect


class LazyScript(Script):
    """A revision of the graph as Alembic wants it, executed when its step runs."""

    def __init__(self, revision: Revision, graph: Graph) -> None:
        self._source = revision
        self._graph = graph
        self._module: ModuleType | None = None
        self.path = revision.file
        dependencies = _dependencies(graph, revision)
        super(Script, self).__init__(
            revision.id,
            revision.down_revisions or None,
            dependencies=dependencies or None,
            branch_labels=revision.labels or None,
        )
        # The map of all revisions sets them, but takes longer than a step, and is made for who asks for it.
        self._resolved_dependencies = dependencies

    @classmethod
    def of(cls, graph: Graph, revision_id: str) -> LazyScript:
        """Return a revision of a graph."""
        return cls(graph[revision_id], graph)

    @cached_property
    def _normalized_resolved_dependencies(self) -> tuple[str, ...]:  # type: ignore[override]  # Alembic's is set, as well
        """The dependencies that no earlier revision of its line has, as the map of all revisions reduces them."""
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

    @property
    def module(self) -> ModuleType:  # type: ignore[override]  # Alembic has an attribute that is set at once
        if self._module is None:
            self._module = load_module(self._source.path, self._source.package)
        return self._module

    @property
    def longdoc(self) -> str:
        return self._source.doc.strip()


def _dependencies(graph: Graph, revision: Revision) -> tuple[str, ...]:
    return tuple(parent for parent in graph.parents(revision.id) if parent not in revision.down_revisions)


class GraphScripts(ScriptDirectory):
    """The script directory of a project: the host's folder, with the revisions of the graph.

    :ivar loaded: the revisions whose files were executed, by their ids.
    """

    def __init__(self, project: Project) -> None:
        self._graph = project.graph
        self.loaded: dict[str, LazyScript] = {}
        super().__init__(project.env_folder, version_locations=_version_locations(project))

    def _load_revisions(self) -> Iterator[Script]:
        for revision_id in self._graph.ids:
            yield self.loaded.get(revision_id) or LazyScript.of(self._graph, revision_id)


class StepInfo(MigrationInfo):
    """What callbacks are told of a step; what takes a look at all that is before it, when they ask for it."""

    def __init__(self, step: RevisionStep) -> None:
        super().__init__(
            step.revision_map, step.is_upgrade, is_stamp=False, up_revisions=step.revision.revision, down_revisions=()
        )
        self._revision = step.revision
        del self.__dict__["down_revision_ids"]

    @cached_property
    def down_revision_ids(self) -> tuple[str, ...]:  # type: ignore[override]  # Alembic has it at once
        return self._revision._normalized_down_revisions


def _nothing() -> None:
    """Do nothing."""


class ExactStep(RevisionStep):
    """A step whose version rows are known beforehand, where Alembic's own arithmetic fails on cross-package graphs.

    :ivar after_function: called when the revision's function has run, before the version rows are written.
    """

    def __init__(self, script: ScriptDirectory, revision: Script, direction: Direction, rows: VersionRows) -> None:
        up = direction is Direction.UPGRADE
        super().__init__(script.revision_map, revision, up)
        self.migration_fn = update_wrapper(partial(self._run, self.migration_fn), self.migration_fn)
        self.after_function: Callable[[], None] = _nothing
        self._removed, self._added = rows.upgrade(revision.revision) if up else rows.downgrade(revision.revision)

    @property
    def info(self) -> MigrationInfo:
        return StepInfo(self)

    def _run(self, function: Callable[..., object], **arguments: object) -> None:
        with _all_awaited(self.revision.path, is_async=iscoroutinefunction(function)):
            _run_function(function, arguments)
        self.after_function()

    def rows_after(self, rows: set[str]) -> set[str]:
        """Return the version rows after this step, of those before it."""
        return (rows - set(self._removed)) | set(self._added)

    def should_create_branch(self, heads: set[str]) -> bool:
        return not self._removed

    def should_delete_branch(self, heads: set[str]) -> bool:
        return not self._added

    def should_merge_branches(self, heads: set[str]) -> bool:
        return len(self._removed) > 1

    def should_unmerge_branches(self, heads: set[str]) -> bool:
        return len(self._added) > 1

    def merge_branch_idents(self, heads: set[str]) -> tuple[list[str], str, str]:
        return self._removed[:-1], self._removed[-1], self._added[0]

    def unmerge_branch_idents(self, heads: set[str]) -> tuple[str, str, tuple[str, ...]]:
        return self._removed[0], self._added[-1], tuple(self._added[:-1])

    def update_version_num(self, heads: set[str]) -> tuple[str, str]:
        return self._removed[0], self._added[0]


@contextmanager
def _all_awaited(path: str, *, is_async: bool) -> Iterator[None]:
    """Raise an error if code of a revision's file makes a coroutine that nothing awaits, since nothing of it runs then.

    Python only warns of it, when it drops the coroutine.
    """
    forgotten: list[tuple[str, str]] = []

    def show(message: Warning | str, category: type[Warning], *args: Any) -> None:  # noqa: ANN401
        lines = [line for file, line in _CREATED.findall(str(message)) if file == path]
        if lines and _NEVER_AWAITED.match(str(message)):
            forgotten.append((str(message).split("'")[1], lines[-1]))
        else:
            shown(message, category, *args)

    depth = sys.get_coroutine_origin_tracking_depth()
    with warnings.catch_warnings():
        shown: Callable[..., None] = warnings.showwarning
        warnings.showwarning = show  # type: ignore[assignment]  # it passes on whatever it is given
        warnings.filterwarnings("always", _NEVER_AWAITED.pattern, RuntimeWarning)
        sys.set_coroutine_origin_tracking_depth(max(depth, _ORIGIN_DEPTH))
        try:
            yield
        except BaseException as exc:
            _close_coroutines(frame for frame, _ in walk_tb(exc.__traceback__))
            for name, line in forgotten[:1]:  # which may be why
                _log.warning("%s, line %s: %s() is called and never awaited.", shown_path(path), line, name)
            raise
        finally:
            sys.set_coroutine_origin_tracking_depth(depth)
    for name, line in forgotten[:1]:
        remedy = "await it" if is_async else "await it in op.run_async(), or make it 'async def upgrade()'"
        raise RuntimeError(f"in line {line} {name}() is called and never awaited, so nothing of it has run: {remedy}")


def _close_coroutines(frames: Iterable[FrameType]) -> None:
    """Close the coroutines in failed calls that were never begun, since Python warns of each when it drops it."""
    for value in [value for frame in frames for value in frame.f_locals.values()]:
        if iscoroutine(value) and getcoroutinestate(value) == CORO_CREATED:
            value.close()


def _run_function(function: Callable[..., object], arguments: dict[str, object]) -> None:
    """Run the function of a revision; awaiting is part of running it, and a result other than None is an error.

    :param arguments: what ``env.py`` passed to ``context.run_migrations()``.
    """
    result = _run_async(function, arguments) if iscoroutinefunction(function) else function(**arguments)
    if result is None:
        return
    if iscoroutine(result):
        result.close()  # otherwise Python warns that it was never awaited
    raise TypeError(
        f"{getattr(function, '__name__', 'the function')}() returned an object of type '{type(result).__name__}'. It"
        " must do its work itself, and return None"
    )


def _run_async(function: Callable[..., Coroutine[object, object, object]], arguments: dict[str, object]) -> object:
    """Run an async function in this greenlet, so that ``op.create_table()`` and the like work in it as in any other.

    :param arguments: by name; a parameter that is not among them gets the ``AsyncConnection``.
    """
    connection = alembic.op.run_async(_itself)  # which refuses a sync engine, and SQL that is only written
    positional = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    wants = [each for each in signature(function).parameters.values() if each.kind in positional]
    takes_connection = any(each.name not in arguments for each in wants)
    coroutine = function(connection, **arguments) if takes_connection else function(**arguments)
    proceed: Callable[[], object] = partial(coroutine.send, None)
    while True:
        try:
            waiting = proceed()
        except StopIteration as end:
            return end.value
        try:
            proceed = partial(coroutine.send, await_only(_Waiting(waiting)))
        except BaseException as exc:  # noqa: BLE001 (the function has to see a cancellation, too)
            proceed = partial(coroutine.throw, exc)


async def _itself(connection: AsyncConnection) -> AsyncConnection:
    return connection


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Makes the event loop wait for what a coroutine waits for."""

    future: object

    def __await__(self) -> Generator[object, object, object]:
        return (yield self.future)


def load_steps(
    script: GraphScripts, graph: Graph, rows: Iterable[str], steps: Iterable[Step], *, is_async: bool
) -> list[ExactStep]:
    """Load the modules of a plan's steps, and return the steps as Alembic runs them.

    :param is_async: whether they run on a connection of an async engine.
    :raises RevisionFileError: if a module cannot be imported, or lacks a function of its step that can be run.
    """
    version_rows = VersionRows(rows, graph.parents)
    loaded: list[ExactStep] = []
    for step in steps:
        revision = script.loaded[step.revision.id] = LazyScript.of(graph, step.revision.id)
        _check_function(revision, step, is_async=is_async)
        loaded.append(ExactStep(script, revision, step.direction, version_rows))
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


class BoundHeads(HeadMaintainer):
    """Writes the version rows by statements that are compiled once, with the ids as parameters."""

    @cached_property
    def _statements(self) -> tuple[Insert, Delete, Update]:
        table = self.context._version
        was = table.c.version_num == bindparam("was")
        return table.insert(), table.delete().where(was), table.update().where(was).values(version_num=bindparam("now"))

    def _insert_version(self, version: str) -> None:
        if self.context.as_sql:
            super()._insert_version(version)
            return
        self.heads.add(version)
        self._write(self._statements[0], version_num=version)

    def _delete_version(self, version: str) -> None:
        if self.context.as_sql:
            super()._delete_version(version)
            return
        self.heads.remove(version)
        self._check_one(self._write(self._statements[1], was=version), version)

    def _update_version(self, from_: str, to_: str) -> None:
        if self.context.as_sql:
            super()._update_version(from_, to_)
            return
        self.heads.remove(from_)
        self.heads.add(to_)
        self._check_one(self._write(self._statements[2], was=from_, now=to_), from_)

    def _write(self, statement: Insert | Delete | Update, **values: str) -> int:
        connection = self.context.connection
        if connection is None:
            raise RuntimeError("there is no connection")
        return connection.execute(statement, values).rowcount

    def _check_one(self, count: int, row: str) -> None:
        if self.context.dialect.supports_sane_rowcount and count != 1:
            raise CommandError(f"{self.context.version_table} has the row {row} {count} times, and not once")


@contextmanager
def _writing_bound_rows() -> Iterator[None]:
    before = migration.HeadMaintainer
    migration.HeadMaintainer = BoundHeads  # type: ignore[misc]  # put back below
    try:
        yield
    finally:
        migration.HeadMaintainer = before  # type: ignore[misc]


def with_exact_rows(fn: Work) -> Work:
    """Wrap the work of a plain Alembic command, so that its steps write exact version rows."""

    def work(heads: tuple[str, ...], context: MigrationContext) -> Iterator[RevisionStep]:
        rows: VersionRows | None = None
        for step in fn(heads, context):
            if type(step) is not RevisionStep or context.script is None:
                yield step
                continue
            script = context.script
            if rows is None:
                rows = VersionRows(heads, _parents_in(script))
            direction = Direction.UPGRADE if step.is_upgrade else Direction.DOWNGRADE
            yield ExactStep(script, step.revision, direction, rows)

    return work


def _parents_in(script: ScriptDirectory) -> Callable[[str], Sequence[str]]:
    return lambda revision_id: script.get_revision(revision_id)._all_down_revisions


class IniConfig(Config):
    """Alembic's configuration, from a file that is read as UTF-8, or otherwise in the locale's encoding.

    Alembic itself tries only the locale's encoding, which is ASCII in many containers.
    """

    def __init__(self, ini: Path) -> None:
        super().__init__(str(ini) if ini.is_file() else None)

    @cached_property
    def file_config(self) -> configparser.ConfigParser:
        """The file's sections."""
        ini = Path(self.config_file_name or "").absolute()
        self.config_args["here"] = ini.parent.as_posix() if self.config_file_name else Path().as_posix()
        parser = configparser.ConfigParser(self.config_args)
        if self.config_file_name:
            parser.read_string(_decoded(ini.read_bytes()), str(ini))
        else:
            parser.add_section(self.config_ini_section)
        return parser


def _decoded(text: bytes) -> str:
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError:
        return text.decode(locale.getencoding())


class CommandConfig(IniConfig):
    """Alembic's configuration, with the arguments of the Alembic command that does the same as ours.

    :param command: the command and its arguments, as they are typed.
    :param x: the values of ``-x``; a string is one.
    """

    def __init__(self, ini: Path, command: Sequence[str], x: Sequence[str]) -> None:
        super().__init__(ini)
        self._command = command
        self._x = [x] if isinstance(x, str) else list(x)
        del self.cmd_opts

    @cached_property
    def cmd_opts(self) -> argparse.Namespace:  # type: ignore[override]  # Alembic has an attribute that is set at once
        """The arguments as Alembic's own parser returns them; parsed on demand, since making the parser is slow."""
        found = CommandLine("alembic").parser.parse_args(self._command)
        found.x = self._x
        return found


def make_config(project: Project, command: Sequence[str], x: Sequence[str]) -> Config:
    """Return Alembic's configuration for a project: the host's ``alembic.ini``, with the present list of folders.

    :param command: as for :class:`CommandConfig`, and so is ``x``.
    """
    ini = project.env_folder / "alembic.ini"
    config: Config = CommandConfig(ini, command, x)
    try:
        set_locations(config, project)
    except (configparser.Error, UnicodeDecodeError, OSError) as exc:
        raise ConfigurationError(f"{shown_path(ini)} cannot be read: {describe(exc)}.") from exc
    if project.configure is not None:
        config = project.configure(config)
    return config


def set_locations(config: Config, project: Project) -> None:
    """Name the host's folder and every package's folder of revisions in a configuration."""
    config.set_main_option("script_location", str(project.env_folder).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", "\n".join(_version_locations(project)).replace("%", "%%"))
    config.set_main_option("recursive_version_locations", "false")


def _version_locations(project: Project) -> list[str]:
    """Return every folder with revision files, since Alembic's setting for subfolders applies to all of them."""
    return [folder for package in project.packages for folder in revision_folders(package)]


def show_present_folders(script: ScriptDirectory, project: Project) -> None:
    """Let a plain Alembic command see the graph of the packages that are configured now, and not that of its ini file.

    No file is executed to learn it, least of all a third party's ``env.py`` that lies beside its revision files.
    """
    present = GraphScripts(project)
    script.version_locations = present.version_locations
    script.__dict__.pop("_version_locations", None)
    script.revision_map = present.revision_map


def without_table(name: str | None, users: Callable[..., object] | None) -> Callable[..., bool]:
    """Return an ``include_name`` that leaves out a table, beside what the user's own leaves out."""

    def include_name(item: str | None, type_: str, parents: dict[str, Any]) -> bool:
        return not (type_ == "table" and item == name) and (users is None or bool(users(item, type_, parents)))

    return include_name


def hide_table(environment: EnvironmentContext, name: str | None) -> None:
    """Leave a table out of any comparison in an ``env.py``, beside what its own ``include_name`` leaves out.

    It is done when ``env.py`` has configured: an argument of its ``configure()`` call would be in the way of its own.
    """
    configure = environment.configure

    def configure_and_hide(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401 (it passes on what env.py gives)
        configure(*args, **kwargs)
        options = environment.get_context().opts
        options["include_name"] = without_table(name, options.get("include_name"))

    environment.configure = configure_and_hide  # type: ignore[method-assign]  # of this run only


@dataclass
class EnvironmentRun:
    """One run of a project's ``env.py``.

    :ivar connection: what ``env.py`` is handed.
    :ivar x: the values of ``-x``.
    :ivar command: the equivalent Alembic command, which ``env.py`` may look at.
    :ivar rows: for SQL, the version rows to start from; None for a run on a connection.
    :ivar output: for SQL, where it goes.
    """

    project: Project
    connection: Connection | DialectOnly
    x: Sequence[str] = ()
    command: Sequence[str] = ASK
    rows: Sequence[str] | None = None
    output: TextIO | None = None
    line: int | None = field(default=None, init=False)
    _ran: bool = field(default=False, init=False)
    _error: AmphoError | None = field(default=None, init=False)

    @property
    def offline(self) -> bool:
        """Whether SQL is written instead of run."""
        return self.rows is not None

    @property
    def path(self) -> Path:
        """The ``env.py``."""
        return self.project.env_folder / "env.py"

    def perform(self, work: Callable[[Rows, MigrationContext, GraphScripts], Iterable[RevisionStep]]) -> None:
        """Run ``env.py`` once, and ``work`` within it, which gets the version rows of the user's own version table.

        :raises EnvironmentFileError: if ``env.py`` breaks the contract.
        :raises Exception: whatever ``env.py``, a revision, Alembic or the database raise; see :meth:`failure`.
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

        self._execute(script, fn)
        if self._error is not None:
            raise self._error
        if not self._ran:
            raise self.refused("never runs the migrations. Call context.run_migrations() after context.configure()")

    def _execute(self, script: ScriptDirectory, fn: Work) -> None:
        config = make_config(self.project, self.command, self.x)
        config.attributes["connection"] = self.connection
        config.attributes[DRIVEN] = self
        options: dict[str, Any] = {"fn": fn, "dont_mutate": True, "destination_rev": "heads", "template_args": {}}
        if self.offline:
            options |= {"as_sql": True, "starting_rev": list(self.rows or ()), "output_buffer": self.output}
        environment = EnvironmentContext(config, script, **options)
        hide_table(environment, self.project.journal)
        configure = environment.configure

        def configure_here(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401 (it passes on what env.py gives)
            self.line = self._calling_line()
            configure(*args, **kwargs)

        environment.configure = configure_here  # type: ignore[method-assign]  # a subclass loses alembic.context.config
        environment.__enter__()
        try:
            with _writing_bound_rows(), self._keeping_the_logging():
                script.run_env()
        finally:
            _release(alembic.op)
            _release(alembic.context)

    @contextmanager
    def _keeping_the_logging(self) -> Iterator[None]:
        """Skip ``fileConfig()`` and ``dictConfig()`` in ``env.py``, which would replace what the app has configured."""
        if self.project.is_env_pristine:
            yield
            return
        from logging import config

        def skipped_in_env_py(name: str) -> Callable[..., None]:
            function = getattr(config, name)

            def configure(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401 (it passes on what it is given)
                line = self._calling_line()
                if line is None:
                    function(*args, **kwargs)
                else:
                    _log.warning(_SKIPPED, shown_path(self.path), line, name)

            return configure

        before = {name: getattr(config, name) for name in ("fileConfig", "dictConfig")}
        vars(config).update({name: skipped_in_env_py(name) for name in before})
        try:
            yield
        finally:
            vars(config).update(before)

    def _calling_line(self) -> int | None:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename != str(self.path):
            frame = frame.f_back
        return None if frame is None else frame.f_lineno

    def _check(self, context: MigrationContext) -> None:
        """Check that ``env.py`` configured what the promises need, before anything is written."""
        if not self.offline and context.connection is not self.connection:
            raise self.refused("uses a connection of its own. Configure with the one that run_migrations() is given")
        if context._in_external_transaction:
            raise self.refused(
                "runs a statement before context.configure(), which puts all revisions into one transaction that is"
                " lost. Run it after configure()"
            )
        if not context._transaction_per_migration:
            raise self.refused(
                "switches off the transaction per revision. Pass transaction_per_migration=True, as"
                " environment.options() does"
            )
        if context.dialect.name in ("sqlite", "postgresql") and not context.impl.transactional_ddl:
            raise self.refused(
                "switches off transactional DDL. Leave transactional_ddl as environment.options() has it"
            )

    def refused(self, why: str) -> EnvironmentFileError:
        """Return the error for an ``env.py`` that breaks the contract."""
        where = f"{shown_path(self.path)}, line {self.line}," if self.line else shown_path(self.path)
        return EnvironmentFileError(f"{where} {why}.", path=self.path, line=self.line)

    def failure(self, exc: BaseException, finished: Sequence[str] = ()) -> AmphoError:
        """Return what raised outside of any revision as an error of Ampho.

        :param finished: ids of the revisions that the run had finished before.
        """
        if isinstance(exc, AmphoError):
            return exc
        before = f" Finished before it: {listed_last(finished)}." if finished else ""
        why = describe_without(exc, self.project.url)
        elsewhere = is_of_database(exc) and self._connects_itself(exc)
        if is_of_database(exc) and not elsewhere:
            before = before or " This command changed nothing."
            return DatabaseError(f"The database refused: {with_hint(why).rstrip('.')}.{before}")
        where = place(exc, self.path)
        number = where.rpartition(":")[2]
        text = f"env.py failed at {where}: {(why if elsewhere else with_hint(why)).rstrip('.')}.{before}"
        if elsewhere:
            text += " Ampho hands it a connection, which environment.connect() gives: open none, and run no event loop."
        return EnvironmentFileError(text, path=self.path, line=int(number) if number.isdigit() else self.line)

    def _connects_itself(self, exc: BaseException) -> bool:
        """Return whether the error comes from a connection, or an event loop, of ``env.py``'s own.

        An error of the connection that it was passed has a method of that connection in its traceback.
        """
        frames = [frame for frame, _ in walk_tb(exc.__traceback__)]
        if not any(frame.f_code.co_filename == str(self.path) for frame in frames):
            return False
        _close_coroutines(frames)
        return not any(frame.f_locals.get("self") is self.connection for frame in frames)


def has_version_table(context: MigrationContext) -> bool:
    """Tell whether the database has the version table that ``env.py`` configured."""
    return context._has_version_table()


def ensure_version_table(context: MigrationContext) -> None:
    """Create the version table that ``env.py`` configured, in the transaction of the first step."""
    context._ensure_version_table()


def follow_transaction(context: MigrationContext, *, is_over: bool = False) -> None:
    """Make Alembic commit the connection's current transaction, instead of the one that it began itself.

    :param is_over: whether a statement has ended the current one without SQLAlchemy noticing.
    """
    connection = context.connection
    if connection is None:
        return
    if is_over:
        connection.commit()
    context._transaction = connection.get_transaction() or connection.begin()


def follow_in_blocks(context: MigrationContext) -> None:
    """Make an ``autocommit_block()`` work after a revision has committed on its own."""
    block = context.autocommit_block

    def autocommit_block() -> AbstractContextManager[None]:
        follow_transaction(context)
        return block()

    context.autocommit_block = autocommit_block  # type: ignore[assignment]  # of this run only


def write_rows(
    context: MigrationContext, before: Iterable[str], after: Iterable[str], record: Callable[[], None]
) -> None:
    """Write other rows into the version table that ``env.py`` configured, in one transaction.

    :param record: called in that transaction.
    :raises DatabaseError: if the connection was lost at its end, so that nobody knows what came of it.
    """
    connection = context.connection
    if connection is None:
        return
    if not connection.in_transaction():
        connection.begin()
    if sorted(map(str, before)) != sorted(after):
        context._ensure_version_table()
        connection.execute(context._version.delete())
        for row in sorted(after):
            connection.execute(context._version.insert().values(version_num=row))
    record()
    try:
        connection.commit()
    except DBAPIError as exc:
        if not exc.connection_invalidated:
            raise
        raise DatabaseError(
            f"The connection was lost at the commit ({type(exc.orig).__name__}), so 'ampho db-current' knows what is"
            " applied."
        ) from exc


def leave_version_table(context: MigrationContext) -> None:
    """Keep Alembic from writing CREATE TABLE for a version table that is there, but empty."""
    context._version.create = lambda *args, **kwargs: None  # type: ignore[method-assign]  # of this one table


class _NoResult:
    """What a statement returns where nothing is executed; using it is an error, and never silently empty."""

    def _refuse(self, *args: object) -> NoReturn:
        raise RuntimeError("it reads data")

    __getattr__ = __iter__ = __bool__ = __len__ = __getitem__ = __call__ = _refuse


def refuse_results(context: MigrationContext) -> None:
    """Make ``op.get_bind()`` write its statements where SQL is written, and refuse to read."""
    connection: Any = context.connection
    write = connection._execute_impl

    def execute(statement: object, parameters: object = None, *args: object, **kwargs: object) -> _NoResult:
        if parameters:
            raise RuntimeError("it passes parameters beside the statement; bind them with .values() or bindparams()")
        write(statement)
        return _NoResult()

    connection._execute_impl = execute


def _release(module: Any) -> None:  # noqa: ANN401 (both are made of proxies)
    """Unbind ``alembic.op`` or ``alembic.context``, unless a revision that ran Alembic itself has done it."""
    bound = getattr(module, "_proxy", None)
    if bound is not None:
        bound._remove_proxy()


@dataclass(frozen=True, slots=True)
class Body:
    """The bodies of a revision's functions, as Python indented except for the first line, and their imports.

    :ivar options: what ``env.py`` configured.
    """

    upgrades: str
    downgrades: str
    imports: str
    options: Mapping[str, Any]


class RevisionFiles:
    """How a package's new revision files look and are called: its ``alembic.ini`` and ``script.py.mako``."""

    def __init__(self, package: MigrationPackage) -> None:
        self._package = package
        ini = package.folder / "alembic.ini"
        self._config = IniConfig(ini)
        get = self._config.get_main_option
        try:
            self._script = ScriptDirectory(
                package.folder,
                file_template=get("file_template") or "%(rev)s_%(slug)s",
                truncate_slug_length=int(get("truncate_slug_length") or 40),
                timezone=get("timezone"),
            )
            self._date = self._script._generate_create_date()
        except (CommandError, ValueError, configparser.Error, OSError) as exc:
            raise self._error(f"{shown_path(ini)} cannot be used: {describe(exc)}") from exc

    def path(self, revision_id: str, message: str) -> Path:
        """Return the path of a new file.

        :raises RevisionInputError: if it is taken, or would not be in the folder of the package's revisions.
        """
        folder = self._package.versions
        try:
            path = Path(self._script._rev_path(folder, revision_id, message, self._date))
        except (KeyError, TypeError, ValueError) as exc:
            raise self._error(f"file_template in alembic.ini cannot be used: {describe(exc)}") from exc
        if not re.search(r"\w", message):
            path = folder / f"{revision_id}.py"
        around = [*path.resolve().parents] if self._package.is_recursive else [path.resolve().parent]
        if folder.resolve() not in around or not folder.resolve().is_relative_to(self._package.root.resolve()):
            raise self._error(
                f"{shown_path(path)} is not in {shown_path(folder)}, inside the package. Correct file_template in"
                " alembic.ini"
            )
        if os.path.lexists(path):
            raise self._error(f"{shown_path(path)} is there already")
        return path

    def render(self, revision: Revision, body: Body) -> bytes:
        """Return the text of a new revision's file.

        :raises RevisionInputError: if the template fails.
        """
        source = self._package.folder / "script.py.mako"
        if not source.is_file():
            source = TEMPLATES / "script.py.mako"
        options = body.options
        arguments = {
            **(options.get("template_args") or {}),
            options.get("upgrade_token", "upgrades"): body.upgrades,
            options.get("downgrade_token", "downgrades"): body.downgrades,
        }
        try:
            text = Template(filename=str(source), input_encoding="utf-8").render_unicode(  # noqa: S702  # Python, not HTML
                message=_for_docstring(revision.doc),
                up_revision=revision.id,
                down_revision=_scalar(revision.down_revisions),
                branch_labels=revision.labels or None,
                depends_on=revision.depends_on or None,
                create_date=self._date,
                comma=util.format_as_comma,
                config=self._config,
                imports=body.imports,
                **arguments,
            )
        except (Exception, SystemExit) as exc:
            raise self._error(f"the template {shown_path(source)} fails: {describe(exc)}") from exc
        return str(text).encode("utf-8")

    def run_hooks(self, path: Path) -> None:
        """Run the ``post_write_hooks`` of the package's ``alembic.ini``.

        :raises RevisionInputError: if one fails; the file is there then.
        """
        try:
            for hook in self._config.get_hooks_list():
                write_hooks._invoke(hook.get("type", ""), path, hook)  # _run_hooks() prints
        except (Exception, SystemExit) as exc:
            raise self._error(f"{shown_path(path)} was written, but a post_write_hook failed: {describe(exc)}") from exc

    def _error(self, what: str) -> RevisionInputError:
        return RevisionInputError(f"{what}.", package=self._package.name)


def _scalar(ids: tuple[str, ...]) -> str | tuple[str, ...] | None:
    return ids if len(ids) > 1 else next(iter(ids), None)


def _for_docstring(message: str) -> str:
    """Escape a message so that between triple quotes, and in a comment, it is what was typed and nothing more."""
    escaped = message.replace("\\", "\\\\").replace('"', '\\"').replace("'''", "\\'\\'\\'")
    return escaped.replace("\n", "\\n").replace("\t", "\\t")


def current_environment() -> EnvironmentContext:
    """Return the environment context behind ``alembic.context``, where plain Alembic made it."""
    environment: EnvironmentContext = alembic.context._proxy  # type: ignore[attr-defined]  # set by Alembic's proxy
    return environment
