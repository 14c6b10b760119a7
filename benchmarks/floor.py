"""What the database and SQLAlchemy take at the least: a program that the benchmarks run beside the tools.

    python floor.py up SIZE [--journal] [--files]
    python floor.py down SIZE [--journal] [--files]
    python floor.py bare

The same tables in the same transactions, one for each revision, and the same statements for the version rows; with
``--journal`` also a row for each revision, like the one in Ampho's journal; with ``--files`` by what the project's
revision files say, which are below the current folder, and so by Alembic's operations. ``bare`` opens one connection.
The app is a bare Flask-SQLAlchemy app; with an async driver it is a bare Quart app and SQLAlchemy's own async engine.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from projects import Revision, RowChange, Shape, versions
from sqlalchemy import Column, Connection, Engine, Integer, MetaData, String, Table, event
from sqlalchemy.schema import CreateTable, DropTable

Work = Callable[[Connection], None]
Change = Callable[[Revision, str], None]

_JOURNAL = Table(
    "floor_journal",
    MetaData(),
    Column("id", Integer, primary_key=True),
    *(Column(name, String(255)) for name in ("revision", "package", "direction", "outcome", "parents", "started")),
    *(Column(name, String(255)) for name in ("finished", "duration", "checksum", "db_user", "host", "versions")),
)


def main(command: str, size: str = "1x1", *options: str) -> None:
    def work(connection: Connection) -> None:
        if command == "bare":
            connection.exec_driver_sql("SELECT 1")
        else:
            journals, by_files = "--journal" in options, "--files" in options
            direction = {"up": "upgrade", "down": "downgrade"}[command]
            run(connection, Shape.parse(size), direction, journals=journals, by_files=by_files)

    url = os.environ["BENCH_URL"]
    if any(driver in url for driver in ("aiosqlite", "asyncpg")):
        asyncio.run(_on_quart(url, work))
    else:
        _on_flask(url, work)


def _on_flask(url: str, work: Work) -> None:
    from flask import Flask
    from flask_sqlalchemy import SQLAlchemy

    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    db = SQLAlchemy(app)
    with app.app_context():
        _use_real_transactions(db.engine)
        with db.engine.connect() as connection:
            work(connection)


async def _on_quart(url: str, work: Work) -> None:
    from quart import Quart
    from sqlalchemy.ext.asyncio import create_async_engine

    Quart(__name__)
    engine = create_async_engine(url)
    _use_real_transactions(engine.sync_engine)
    async with engine.connect() as connection:
        await connection.run_sync(work)
    await engine.dispose()


def _use_real_transactions(engine: Engine) -> None:
    """Make SQLite's driver begin where SQLAlchemy says so, and so keep a table and its version row together."""
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: object) -> None:  # noqa: ANN401  # two drivers' connections, which share no type
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def run(connection: Connection, shape: Shape, direction: str, *, journals: bool, by_files: bool) -> None:
    """Apply, or take back, all revisions of a project."""
    is_up = direction == "upgrade"
    with connection.begin():
        if is_up:
            connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
        if journals:
            _JOURNAL.create(connection, checkfirst=not is_up)
    changes = list(shape.row_changes())
    with _files(connection) if by_files else nullcontext(partial(_alone, connection)) as change:
        for row_change in changes if is_up else reversed(changes):
            with connection.begin():
                change(row_change.revision, direction)
                _write_rows(connection, row_change, direction)
                if journals:
                    _write_entry(connection, row_change.revision)


def _alone(connection: Connection, revision: Revision, direction: str) -> None:
    table = Table(
        revision.table,
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("name", String(50), nullable=False),
    )
    connection.execute(CreateTable(table) if direction == "upgrade" else DropTable(table))


@contextmanager
def _files(connection: Connection) -> Iterator[Change]:
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext

    def change(revision: Revision, direction: str) -> None:
        path = versions(Path(), revision.package) / f"{revision.id}.py"
        spec = spec_from_file_location(revision.id, path)
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        getattr(module, direction)()

    with Operations.context(MigrationContext.configure(connection)):
        yield change


def _write_entry(connection: Connection, revision: Revision) -> None:
    now = str(datetime.now(UTC))
    values = dict.fromkeys(("outcome", "parents", "duration", "checksum", "db_user", "host", "versions"), "-")
    values |= {"revision": revision.id, "package": revision.package, "direction": "-"}
    connection.execute(_JOURNAL.insert(), values | {"started": now, "finished": now})


def _write_rows(connection: Connection, change: RowChange, direction: str) -> None:
    """Write Alembic's statements, without the work of composing them."""
    removed, added = (change.removed, change.added) if direction == "upgrade" else (change.added, change.removed)
    for old, new in zip(removed, added, strict=False):
        connection.exec_driver_sql(
            f"UPDATE alembic_version SET version_num='{new}' WHERE alembic_version.version_num = '{old}'"
        )
    for old in removed[len(added) :]:
        connection.exec_driver_sql(f"DELETE FROM alembic_version WHERE alembic_version.version_num = '{old}'")
    for new in added[len(removed) :]:
        connection.exec_driver_sql(f"INSERT INTO alembic_version (version_num) VALUES ('{new}')")


if __name__ == "__main__":
    main(*sys.argv[1:])
