"""Many processes that migrate one database at once: one does, and the others find nothing to do."""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from facade import facade, one_error_line
from project import Project
from servers import Database
from sqlalchemy import text

from ampho.errors import ConfigurationError, LockTimeoutError
from ampho.migrate.observers import Observer
from ampho.settings import Settings

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

PROCESSES = int(os.environ.get("AMPHO_LOCK_PROCESSES", "4"))
ROUNDS = int(os.environ.get("AMPHO_LOCK_ROUNDS", "1"))

# Each revision counts itself, slowly enough for others to meet it.
COUNTED = """
op.execute("INSERT INTO counted (id) VALUES ('{0}')")
import time; time.sleep(0.02)
op.create_table("table_{0}", sa.Column("id", sa.Integer, primary_key=True))
"""
MAKE = 'op.create_table("counted", sa.Column("id", sa.String(20)))'


# What `ampho db-up` does, but that it takes its time between two revisions, where others may get in.
UP = """
import asyncio, sys, time
from ampho import Observer
from app import app

class Slow(Observer):
    def applied(self, step, duration):
        print("+", step.revision.id)
        time.sleep(0.05)

async def up():
    async with app.app_context():
        await app.extensions["ampho"].upgrade(observer=Slow())
        await app.extensions["ampho"].dispose(app)

try:
    if app.extensions["ampho"].is_async:
        asyncio.run(up())
    else:
        with app.app_context():
            app.extensions["ampho"].upgrade(observer=Slow())
except Exception as exc:
    sys.exit(f"{type(exc).__name__}: {exc}")
"""


def write(project: Project, database: Database, **config: object) -> None:
    for package in ("core", "shop"):
        project.package(package)
    project.revision("core", "core_1", upgrade=MAKE)
    project.revision("core", "core_2", "core_1", upgrade=COUNTED.format("core_2"))
    project.revision("core", "core_3", "core_2", upgrade=COUNTED.format("core_3"))
    project.revision("shop", "shop_1", None, "core_1", upgrade=COUNTED.format("shop_1"))
    project.revision("shop", "shop_2", "shop_1", "core_2", upgrade=COUNTED.format("shop_2"))
    framework = "quart" if database.is_async else "flask"
    project.app(framework, ["core", "shop"], database.url, extra_config=config)
    project.write("up.py", UP)


def up_at_once(project: Project) -> list[tuple[str, int]]:
    """Upgrade in many processes at once; return their exit codes and outputs."""
    running = [project.start("python", "up.py") for _ in range(PROCESSES)]
    return [("".join(process.communicate()), process.wait()) for process in running]


def clean(database: Database) -> None:
    for table in [*database.tables(), "ampho_journal"]:
        database.run(f"DROP TABLE IF EXISTS {table}")


@pytest.mark.timeout(0 if PROCESSES > 4 else 120)
def test_each_revision_is_applied_once(project: Project, database: Database) -> None:
    write(project, database)
    for _ in range(ROUNDS):
        results = up_at_once(project)

        assert {code for _, code in results} == {0}, results
        ran = Counter(line for output, _ in results for line in output.splitlines() if line.startswith("+"))
        assert ran == dict.fromkeys(("+ core_1", "+ core_2", "+ core_3", "+ shop_1", "+ shop_2"), 1)
        assert sorted(database.query("SELECT id FROM counted")) == [("core_2",), ("core_3",), ("shop_1",), ("shop_2",)]
        assert database.rows() == ["core_3", "shop_2"]
        journal = database.query("SELECT revision FROM ampho_journal WHERE outcome = 'done'")
        assert sorted(journal) == [("core_1",), ("core_2",), ("core_3",), ("shop_1",), ("shop_2",)]
        clean(database)


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg", "mariadb+pymysql")
def test_without_the_lock_they_get_in_each_others_way(project: Project, database: Database) -> None:
    write(project, database, AMPHO_LOCK=False, AMPHO_JOURNAL_TABLE=None)
    for _ in range(10):
        if {code for _, code in up_at_once(project)} != {0}:
            return
        clean(database)
    raise AssertionError("ten times nobody met anybody: the test of the lock proves nothing")


class Recorder(Observer):
    def __init__(self) -> None:
        self.holders: list[str] = []

    def waiting(self, holder: str) -> None:
        self.holders.append(holder)


@contextmanager
def held(project: Project, database: Database) -> Iterator[Any]:
    """Another process that holds the lock, until the test is done with it."""
    project.package("core")
    gate = project.folder / "gate"
    slow = f"import pathlib, time\nwhile not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.05)"
    project.revision("core", "core_1", upgrade=f"op.execute('CREATE TABLE t (id INTEGER)')\n{slow}")
    framework = "quart" if database.is_async else "flask"
    project.app(framework, ["core"], database.url)
    with project.start("ampho", "db-up") as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("Upgrading")
            time.sleep(0.3)
            yield gate.touch
        finally:
            gate.touch()
            assert process.wait(30) == 0


def test_who_waits_is_told_for_whom_and_ends_in_time(project: Project, database: Database) -> None:
    with held(project, database) as free:
        framework = "quart" if database.is_async else "flask"
        with facade(project, framework, ["core"], database.url, AMPHO_LOCK_TIMEOUT=0.5) as each:
            begun = time.monotonic()
            recorder = Recorder()
            with pytest.raises(LockTimeoutError) as caught:
                each.call("upgrade", observer=recorder)
            assert 0.4 < time.monotonic() - begun < 8
            assert caught.value.exit_code == 3
            assert recorder.holders == [caught.value.holder]
            if database.backend == "sqlite":
                assert "waiting for another process that writes to this database" in str(caught.value)
            else:
                assert "waiting for another migration of this database (" in str(caught.value)
                who = {"postgresql": r"pid \d+, .+@.+ since", "mariadb": r"connection \d+, .+@"}[database.backend]
                assert re.search(who, caught.value.holder)
            assert "AMPHO_LOCK_TIMEOUT" in str(caught.value)
        with facade(project, framework, ["core"], database.url) as each:
            threading.Timer(0.3, free).start()
            assert each.call("upgrade").steps == ()


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg", "mariadb+asyncmy")
def test_the_command_ends_in_an_exit_code_of_its_own(project: Project, database: Database) -> None:
    with held(project, database):
        for command in (["db-up"], ["db-stamp", "heads"], ["db-down", "base"]):
            done = project.run("ampho", *command, env={"AMPHO_LOCK_TIMEOUT": "0.3"}, check=False)
            assert done.exit_code == 3, str(done)
            assert one_error_line(done.stderr.splitlines()[-1] + "\n")
            holder = "\n" if database.backend == "sqlite" else ": "
            assert f"Waiting for another process that is migrating this database{holder}" in done.stderr
        assert project.run("ampho", "db-current").stdout  # which changes nothing, waits for nobody


def test_the_lock_is_free_after_a_failure(project: Project, database: Database) -> None:
    project.package("core")
    project.revision("core", "core_1", upgrade="op.execute('SELECT nonsense')")
    framework = "quart" if database.is_async else "flask"
    with facade(project, framework, ["core"], database.url, AMPHO_LOCK_TIMEOUT=0) as each:
        for _ in range(3):
            with pytest.raises(Exception, match="nonsense"):
                each.call("upgrade")
        if database.backend != "sqlite":
            with database.connect() as connection:
                statement = {
                    "postgresql": "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database ="
                    " (SELECT oid FROM pg_database WHERE datname = current_database())",
                    "mariadb": "SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE()"
                    " AND state LIKE '%lock%' AND id <> connection_id()",
                }[database.backend]
                assert connection.execute(text(statement)).scalar() == 0


@pytest.mark.parametrize("value", ["soon", -1, None, "", float("inf"), float("nan"), []])
def test_a_timeout_that_is_none(value: object) -> None:
    with pytest.raises(ConfigurationError, match="AMPHO_LOCK_TIMEOUT is"):
        Settings({"AMPHO_LOCK_TIMEOUT": value}, {})


def test_settings_come_from_the_app_and_then_from_the_environment() -> None:
    assert (Settings({}, {}).lock, Settings({}, {}).lock_timeout) == (True, 60)
    assert Settings({}, {"AMPHO_LOCK_TIMEOUT": "2.5"}).lock_timeout == 2.5
    of_app = Settings({"AMPHO_LOCK_TIMEOUT": 0, "AMPHO_LOCK": False}, {"AMPHO_LOCK_TIMEOUT": "2"})
    assert (of_app.lock, of_app.lock_timeout) == (False, 0)
    with pytest.raises(ConfigurationError, match="AMPHO_LOCK is 'no'"):
        Settings({"AMPHO_LOCK": "no"}, {})
