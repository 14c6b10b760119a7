"""What a generated ``env.py`` calls, whether Ampho runs it or plain Alembic does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, cast

from alembic import context
from sqlalchemy.engine import Connection, Engine

from ampho._alembic import (
    DRIVEN,
    EnvironmentRun,
    current_environment,
    hide_table,
    show_present_folders,
    with_exact_rows,
)
from ampho.app import current_or_load
from ampho.errors import ConfigurationError
from ampho.exclusive import check_not_inside
from ampho.project import TEMPLATES

if TYPE_CHECKING:
    from flask.sansio.app import App
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from ampho.extension import Extension

_APP = "ampho_app"

__all__ = ["connect", "connect_async", "is_async", "options"]


def options() -> dict[str, Any]:
    """Return the arguments for ``context.configure()``.

    They are the tables of the models, one transaction for each revision, and what was passed to ``Migrate(...)`` or
    ``AsyncAmpho(...)``. Where plain Alembic runs ``env.py``, they also make it see every package that is configured
    now, and write exact version rows.
    """
    run = _run()
    project = run.project if run else _extension().project(_app())
    arguments: dict[str, Any] = {
        "target_metadata": project.metadata,
        "transaction_per_migration": True,
        **project.options,
    }
    if context.is_offline_mode():
        arguments["literal_binds"] = True
    if run is not None:
        if run.connection.dialect.name == "sqlite":
            arguments["transactional_ddl"] = True
        return arguments
    environment = current_environment()
    show_present_folders(environment.script, project)
    hide_table(environment, project.journal)
    if "fn" in environment.context_opts:
        arguments["fn"] = with_exact_rows(environment.context_opts["fn"])
    if context.is_offline_mode():
        arguments |= {"dialect_name": project.url.get_dialect().name, "dialect_opts": {"paramstyle": "named"}}
    return arguments


def is_async() -> bool:
    """Tell whether ``env.py`` has to open a connection of an async engine itself, as under plain Alembic with Quart."""
    given = context.config.attributes.get("connection")
    if _run() is not None or context.is_offline_mode():
        return False
    return _extension().is_async if given is None else not isinstance(given, (Connection, Engine))


@contextmanager
def connect() -> Iterator[Connection | None]:
    """Give the connection to migrate on: the one that was handed over, else one of the app's engine.

    None where plain Alembic writes SQL and needs none.
    """
    given = context.config.attributes.get("connection")
    if _run() is not None or isinstance(given, Connection):
        yield cast("Connection", given)
    elif context.is_offline_mode():
        yield None
    elif is_async():
        raise ConfigurationError(
            "The app's engine is async, and this env.py is the one for Flask. Copy the one for Quart over it:"
            f" {TEMPLATES / 'aio' / 'env.py'}"
        )
    else:
        engine = given if isinstance(given, Engine) else _extension().engine(_app())
        with cast("Engine", engine).connect() as connection:
            yield connection


@asynccontextmanager
async def connect_async() -> AsyncIterator[AsyncConnection]:
    """Give a connection of the async engine that was handed over, else of the app's."""
    given = context.config.attributes.get("connection")
    engine = cast("AsyncEngine", given if given is not None else _extension().engine(_app()))
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        if given is None:
            await engine.dispose()


def _run() -> EnvironmentRun | None:
    run = cast("EnvironmentRun | None", context.config.attributes.get(DRIVEN))
    if run is None:
        check_not_inside()  # plain Alembic, called by a revision: the two would wait for each other's locks
    return run


def _app() -> App:
    """Return the app, found once in a run of ``env.py``, since finding it may call a factory."""
    attributes = context.config.attributes
    if _APP not in attributes:
        attributes[_APP] = current_or_load()
    return cast("App", attributes[_APP])


def _extension() -> Extension:
    app = _app()
    extension = app.extensions.get("ampho")
    if extension is None:
        raise ConfigurationError(
            f"The app {app.import_name} has no Ampho. Add Ampho(app) for Flask, or AsyncAmpho(app) for Quart."
        )
    return cast("Extension", extension)
