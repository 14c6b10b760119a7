"""A connection that is lost at any message: each command says so in one line, or has done its work.

All messages of a command to the server, those of connecting and closing among them, go over a wire that breaks at one
of them. By default a few are tried for each command; ``AMPHO_BOUNDARIES=all`` tries every one, in every way.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from facade import facade, one_error_line
from project import Project
from servers import Database
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from wire import BREAKS, Break, Wire

ALL = os.environ.get("AMPHO_BOUNDARIES") == "all"
SEED = int(os.environ.get("AMPHO_SEED", "42"))
TRIED = 2
"""How many messages of a command are tried by default."""

PACKAGES = ["core", "shop"]
MODELS = """
import sqlalchemy as sa
from {db} import db

sa.Table("{table}", db.metadata, sa.Column("id", sa.Integer, primary_key=True))
"""

# What is done on a database without, and with the revisions; each of them leaves it as it was.
READING = {
    "empty": (
        *(("db-up", "--plan"), ("db-up", "-s"), ("db-lint",), ("db-wait", "--timeout", "0.2")),
        *(("db-check", "--scratch"), ("db-rev", "core", "more", "-a", "--scratch")),
    ),
    "upgraded": (
        *(("db-up",), ("db-down", "--plan", "base"), ("db-down", "-s", "base"), ("db-status", "--all", "--check")),
        *(("db-current", "-v"), ("db-graph",), ("db-log",), ("db-check", "--deploy"), ("db-check",)),
        ("db-rev", "core", "more", "-a"),
    ),
}
# What changes the database, which is empty before, and how it gets there.
CHANGING = {
    ("db-up",): [],
    ("db-stamp", "heads"): [],
    ("db-down", "base"): [("db-up",)],
    ("db-stamp", "base", "--purge"): [("db-up",)],
}
END = {
    "postgresql": "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE client_port = :port",
    "mariadb": "SELECT id FROM information_schema.processlist WHERE SUBSTRING_INDEX(host, ':', -1) = :port",
}


class Fleet:
    """A project with two packages, and a database whose sessions are ended, or cut off."""

    def __init__(self, project: Project, database: Database, caplog: pytest.LogCaptureFixture) -> None:
        self.project, self.database, self.caplog = project, database, caplog
        self.chance = random.Random(f"{SEED} {database.driver}")
        for package, depends_on in (("core", None), ("shop", "core_1")):
            project.package(package)
            create = f'op.create_table("{package}", sa.Column("id", sa.Integer, primary_key=True))'
            drop = f'op.drop_table("{package}")'
            project.revision(package, f"{package}_1", depends_on=depends_on, upgrade=create, downgrade=drop)

    def run(self, *command: str, at: int | bytes = 0, how: Break = "cut") -> Wire:
        """Run a command over a wire that breaks, and check what it says and what it leaves."""
        assert self.database.url.host
        server = self.database.url.host, self.database.url.port or 0
        self.caplog.clear()
        with Wire(server, at, how, self.end) as wire:
            url = self.database.url.set(host="127.0.0.1", port=wire.port)
            framework = "quart" if self.database.is_async else "flask"
            with facade(self.project, framework, PACKAGES, url, AMPHO_LOCK_TIMEOUT=0) as each:
                result = each.run(*command)
            self.wait_for(wire)
        where = (command, at, how, result.stdout, result.stderr)
        assert result.exception is None or isinstance(result.exception, SystemExit), (where, result.exception)
        assert wire.open == 0, where
        loud = [record.getMessage() for record in self.caplog.records if record.levelno >= logging.WARNING]
        assert not [words for words in loud if "never retrieved" in words], (where, loud)
        said = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
        if wire.is_broken and said:
            assert result.exit_code == (3 if command[0] == "db-wait" else 1), where
            assert not said[0].startswith(("Error: env.py failed", "Error: Another process")), where
            one_error_line(said[0])
        return wire

    def end(self, port: int) -> None:
        """End the session of a client as its server does, if it has begun one."""
        with suppress(DBAPIError), self.database.connect() as connection:
            for (pid,) in connection.execute(text(END[self.database.backend]), {"port": port}).all():
                if self.database.backend == "mariadb":
                    connection.exec_driver_sql(f"KILL {pid}")
        time.sleep(0.01)

    def wait_for(self, wire: Wire) -> None:
        deadline = time.monotonic() + 10
        while wire.open and time.monotonic() < deadline:
            time.sleep(0.002)

    def points(self, command: tuple[str, ...]) -> Iterator[tuple[int, Break]]:
        count = self.run(*command).count
        every = [(number, how) for number in range(1, count + 1) for how in BREAKS]
        yield from every if ALL else self.chance.sample(every, TRIED)

    def written(self) -> Iterator[Path]:
        return self.project.migrations("core").glob("versions/*more.py")

    def clear(self) -> None:
        tables = ["shop", "core", "alembic_version", "ampho_journal"]
        self.database.run(*(f"DROP TABLE IF EXISTS {table}" for table in tables))


@pytest.fixture
def fleet(project: Project, database: Database, caplog: pytest.LogCaptureFixture) -> Fleet:
    return Fleet(project, database, caplog)


SERVERS = pytest.mark.drivers("postgresql", "mariadb")


LOCKED = {
    "postgresql": (b"pg_try_advisory_lock", b"alembic_version", b"pg_advisory_unlock"),
    "mariadb": (b"GET_LOCK", b"alembic_version", b"RELEASE_LOCK"),
}


@SERVERS
def test_a_connection_that_is_lost_at_the_lock(fleet: Fleet) -> None:
    before, within, after = LOCKED[fleet.database.backend]
    for at in (before, within, after):
        assert fleet.database.rows() == []
        assert fleet.run("db-stamp", "heads", at=at).is_broken
    assert fleet.database.rows() == ["shop_1"]  # the work was done, and the lock ends with the connection
    fleet.run("db-stamp", "base")
    assert fleet.database.rows() == []


@SERVERS
@pytest.mark.parametrize("command", [("db-up", "-s"), ("db-resolve", "shop_1", "--applied")], ids=" ".join)
def test_a_connection_that_is_lost_at_the_end(fleet: Fleet, command: tuple[str, ...]) -> None:
    """Where SQL is written, a dialect asks the server; and what is refused gives the lock back."""
    last = fleet.run(*command).count
    for at in range(last - 8, last + 1):
        fleet.run(*command, at=at)


@SERVERS
@pytest.mark.timeout(0 if ALL else 120)
@pytest.mark.parametrize("state", READING)
def test_what_reads_says_in_one_line_that_its_connection_was_lost(fleet: Fleet, state: str) -> None:
    if state == "upgraded":
        fleet.run("db-up")
    before = fleet.database.data()
    for command in READING[state]:
        for at, how in fleet.points(command):
            fleet.run(*command, at=at, how=how)
            for path in fleet.written():
                path.unlink()
    assert fleet.database.data() == before


@SERVERS
@pytest.mark.timeout(0 if ALL else 120)
@pytest.mark.parametrize("command", CHANGING, ids=" ".join)
def test_what_changes_says_in_one_line_that_its_connection_was_lost(fleet: Fleet, command: tuple[str, ...]) -> None:
    def prepare() -> None:
        fleet.clear()
        for earlier in CHANGING[command]:
            fleet.run(*earlier)

    prepare()
    for at, how in fleet.points(command):
        prepare()
        fleet.run(*command, at=at, how=how)
