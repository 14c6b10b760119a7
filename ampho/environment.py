"""The functions that a generated ``env.py`` calls, whether Ampho or plain Alembic runs it."""

from __future__ import annotations

import ast
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from alembic import context
from sqlalchemy.engine import Connection, Engine

from ampho.apps import current_or_load
from ampho.database.exclusive import check_not_inside
from ampho.errors import ConfigurationError, DatabaseNameError
from ampho.extension import extension_of
from ampho.history.host import TEMPLATES
from ampho.migrate.alembic import (
    DRIVEN,
    EnvironmentRun,
    adapt_context,
    current_environment,
    show_present_folders,
    with_exact_rows,
)
from ampho.revise.autogenerate.compare.comparators import NAME

if TYPE_CHECKING:
    from types import FrameType

    from alembic.runtime.migration import MigrationContext, RevisionStep
    from flask.sansio.app import App
    from sqlalchemy import MetaData, Table
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from ampho.extension import AsyncExtension, SyncExtension
    from ampho.migrate.alembic import Work
    from ampho.migrate.project import Project

_APP = "ampho_app"
_PROJECT = "ampho_project"
_X_DATABASE = "database"
"""The argument ``-x database=NAME`` of plain Alembic, which selects one of several databases."""

_WITHOUT_MODELS = (
    *("upgrade", "downgrade", "do_stamp", "do_ensure_version"),
    *("display_version", "show_current", "edit_current", "_display_current_history", "nothing"),
)
"""The functions of Alembic's commands that do not compare the models with the database."""

_PLUGINS = ("alembic.autogenerate.*", NAME)
"""The plug-ins that compare the models with the database: Alembic's own, and Ampho's corrections to what they find."""

__all__ = ["connect", "connect_async", "is_async", "options"]


def options(**arguments: object) -> dict[str, Any]:
    """Return the arguments for ``context.configure()``.

    They contain the metadata of the models, a transaction for each revision, and the arguments of ``Migrate(...)`` or
    ``AsyncAmpho(...)``. If plain Alembic runs ``env.py``, they also make Alembic use the packages that are configured
    now, and write the same version rows as Ampho.

    :param arguments: arguments of ``configure()`` that override the others. They can also be passed next to
        ``**options()`` in the call to ``configure()``.
    """
    run = _run()
    project = run.project if run else _project()
    found: dict[str, Any] = {
        "target_metadata": project.metadata,
        "transaction_per_migration": True,
        "compare_server_default": True,
        "autogenerate_plugins": list(_PLUGINS),
        **project.options,
    }
    if context.is_offline_mode():
        found["literal_binds"] = True
    if run is not None:
        if run.connection.dialect.name == "sqlite":
            found["transactional_ddl"] = True
    else:
        found |= _for_plain_alembic(project)
    given = _given_beside(sys._getframe(1))  # noqa: SLF001 (documented)
    return {name: value for name, value in {**found, **arguments}.items() if name not in given}


def _for_plain_alembic(project: Project) -> dict[str, Any]:
    """Return arguments that make plain Alembic use the configured packages, and write the version rows like Ampho."""
    environment = current_environment()
    show_present_folders(environment.script, project)
    adapt_context(environment, project)
    found: dict[str, Any] = {}
    if "fn" in environment.context_opts:
        found["fn"] = with_exact_rows(_with_models(environment.context_opts["fn"], project), project)
    if context.is_offline_mode():
        found |= {"dialect_name": project.url.get_dialect().name, "dialect_opts": {"paramstyle": "named"}}
    return found


def _with_models(fn: Work, project: Project) -> Work:
    """Let the work of a plain Alembic command import the models first, if it may compare them with the database."""
    if getattr(fn, "__name__", "") in _WITHOUT_MODELS:
        return fn

    def work(heads: tuple[str, ...], context: MigrationContext) -> Iterable[RevisionStep]:
        from ampho.revise.autogenerate.owners.ownership import find_places

        places = find_places(project)
        places.check()
        if project.whole is not None:
            _leave_out(context.opts, places.is_here)
        return fn(heads, context)

    return work


def _leave_out(options: dict[str, Any], is_here: Callable[[Table], bool]) -> None:
    """Exclude the tables of the models that live in other databases from the comparison."""
    every, users = options["target_metadata"], options.get("include_object")
    if isinstance(every, Sequence):  # Alembic refuses two tables of the same name
        options["target_metadata"] = [_part_of(each, is_here) for each in every]

    def include_object(item: Any, name: str, type_: str, reflected: bool, other: Any) -> bool:  # noqa: ANN401, FBT001 (Alembic's signature)
        if type_ == "table" and not reflected and not is_here(item):
            return False
        return users is None or bool(users(item, name, type_, reflected, other))

    options["include_object"] = include_object


def _part_of(metadata: MetaData, is_here: Callable[[Table], bool]) -> SimpleNamespace:
    """Return what Alembic reads of a metadata in a list, with only those tables that live in the database."""
    ordered = [table for table in metadata.sorted_tables if is_here(table)]
    return SimpleNamespace(tables={table.key: table for table in ordered}, sorted_tables=ordered)


def _given_beside(caller: FrameType) -> frozenset[str]:
    """Return the names of the keyword arguments next to ``**options()`` in a call; these names must not be repeated.

    The caller's frame contains the position of ``options()`` in the file, from which the enclosing call is found.
    """
    place = next(islice(caller.f_code.co_positions(), caller.f_lasti // 2, None))
    try:
        tree = ast.parse(Path(caller.f_code.co_filename).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return frozenset()
    for call in ast.walk(tree):
        words = call.keywords if isinstance(call, ast.Call) else []
        nodes = [word.value for word in words if word.arg is None]
        if place in [(node.lineno, node.end_lineno, node.col_offset, node.end_col_offset) for node in nodes]:
            return frozenset(word.arg for word in words if word.arg)
    return frozenset()


def is_async() -> bool:
    """Return whether ``env.py`` has to connect with an async engine, for example if plain Alembic runs it for Quart."""
    given = context.config.attributes.get("connection")
    if _run() is not None or context.is_offline_mode():
        return False
    return _extension().is_async if given is None else not isinstance(given, (Connection, Engine))


@contextmanager
def connect() -> Iterator[Connection | None]:
    """Yield the connection that was passed to Alembic, or otherwise a new connection from the app's engine.

    Yield None if plain Alembic only writes SQL.
    """
    given = context.config.attributes.get("connection")
    if _run() is not None or isinstance(given, Connection):
        yield cast("Connection", given)
    elif context.is_offline_mode():
        yield None
    elif is_async():
        raise ConfigurationError(
            "The app's engine is async, but this env.py is for Flask. Replace it with a copy of the one for Quart:"
            f" {TEMPLATES / 'aio' / 'env.py'}"
        )
    else:
        engine = given if isinstance(given, Engine) else _extension().engine(_app(), _project().database)
        with cast("Engine", engine).connect() as connection:
            yield connection


@asynccontextmanager
async def connect_async() -> AsyncIterator[AsyncConnection]:
    """Yield a connection from the async engine that was passed to Alembic, or otherwise from the app's engine."""
    given = context.config.attributes.get("connection")
    own = _extension().engine(_app(), _project().database) if given is None else given
    engine = cast("AsyncEngine", own)
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        if given is None:
            await engine.dispose()


def _run() -> EnvironmentRun | None:
    run = cast("EnvironmentRun | None", context.config.attributes.get(DRIVEN))
    if run is None:
        check_not_inside()  # If a revision runs plain Alembic, both runs would wait for each other's locks.
    return run


def _project() -> Project:
    """Return the migrations of the database that plain Alembic migrates. They are only read once per run."""
    attributes = context.config.attributes
    if _PROJECT not in attributes:
        whole = _extension().project(_app())
        attributes[_PROJECT] = whole.of(_database(whole))
    return cast("Project", attributes[_PROJECT])


def _database(whole: Project) -> str:
    """Return the name of the database: of ``-x database=NAME``, or the only one in which the ini file's package lives.

    :raises DatabaseNameError: if neither names one of several databases, or if the database belongs to a group.
    """
    ini = context.config.config_file_name
    folder = Path(ini).resolve().parent if ini else None
    names = [value.partition("=")[2] for value in context.get_x_argument() if value.startswith(f"{_X_DATABASE}=")]
    if names or not whole.has_several_databases:
        name = whole.homes.select_one(names[-1] if names else None, "alembic")
        if whole.homes.home(name) in whole.homes.groups:
            raise _belongs_to_group(name)
        return name
    found = [name for each in whole.packages if each.folder.resolve() == folder for name in whole.homes.of(each.name)]
    if len(found) == 1 and found[0] in whole.homes.names:
        return found[0]
    known = [*whole.homes.names, *(f"{group}/NAME" for group in whole.homes.groups)]
    if not whole.homes.names:
        raise _belongs_to_group(known[0])
    raise DatabaseNameError(
        f"Alembic migrates one database, and the app has several: {', '.join(known)}. Add -x, for example '-x"
        f" {_X_DATABASE}={known[0]}', or use the alembic.ini of a package that lives in only one of them.",
        database="",
    )


def _belongs_to_group(name: str) -> DatabaseNameError:
    return DatabaseNameError(
        f"Alembic cannot use {name}, because it belongs to a group. Use ampho instead, as in"
        f" 'ampho db-up --database {name}'.",
        database=name,
    )


def _app() -> App:
    """Return the app. It is only loaded once per run of ``env.py``, because loading may call a factory."""
    attributes = context.config.attributes
    if _APP not in attributes:
        attributes[_APP] = current_or_load()
    return cast("App", attributes[_APP])


def _extension() -> SyncExtension | AsyncExtension:
    return extension_of(_app())
