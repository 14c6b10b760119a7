"""What the database and SQLAlchemy take at the least: a program that the benchmarks run beside the tools.

    python floor.py up SIZE [--journal]
    python floor.py down SIZE [--journal]
    python floor.py bare

The same tables in the same transactions, one for each revision, and the same statements for the version rows; with
``--journal`` also a row for each revision, like the one in Ampho's journal. ``bare`` opens one connection. The app is a
bare Flask-SQLAlchemy app; with an async driver it is a bare Quart app and SQLAlchemy's own async engine.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from projects import Shape
from sqlalchemy import Column, Connection, Engine, Integer, MetaData, String, Table, event
from sqlalchemy.schema import CreateTable, DropTable

Work = Callable[[Connection], None]

_JOURNAL = Table(
    "floor_journal",
    MetaData(),
    Column("id", Integer, primary_key=True),
    *(Column(name, String(255)) for name in ("revision", "package", "direction", "outcome", "parents", "started")),
    *(Column(name, String(255)) for name in ("finished", "duration", "checksum", "db_user", "host", "versions")),
)


def main(command: str, size: str = "1x1", journal: str = "") -> None:
    def work(connection: Connection) -> None:
        if command == "bare":
            connection.exec_driver_sql("SELECT 1")
        else:
            run(connection, Shape.parse(size), is_up=command == "up", journals=bool(journal))

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


def run(connection: Connection, shape: Shape, *, is_up: bool, journals: bool) -> None:
    """Apply, or take back, all revisions of a project."""
    with connection.begin():
        if is_up:
            connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
        if journals:
            _JOURNAL.create(connection, checkfirst=not is_up)
    changes = list(shape.row_changes())
    for change in changes if is_up else reversed(changes):
        revision = change.revision
        table = Table(
            revision.table,
            MetaData(),
            Column("id", Integer, primary_key=True),
            Column("name", String(50), nullable=False),
        )
        with connection.begin():
            if is_up:
                connection.execute(CreateTable(table))
                _write_rows(connection, change.removed, change.added)
            else:
                connection.execute(DropTable(table))
                _write_rows(connection, change.added, change.removed)
            if journals:
                now = str(datetime.now(UTC))
                values = dict.fromkeys(
                    ("outcome", "parents", "duration", "checksum", "db_user", "host", "versions"), "-"
                )
                values |= {"revision": revision.id, "package": revision.package, "direction": "upgrade"}
                connection.execute(_JOURNAL.insert(), values | {"started": now, "finished": now})


def _write_rows(connection: Connection, removed: tuple[str, ...], added: tuple[str, ...]) -> None:
    """Write Alembic's statements, without the work of composing them."""
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
