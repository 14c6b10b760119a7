"""Backfills whose process is killed: no batch is lost that was committed, and none is applied twice.

``AMPHO_BACKFILL_KILLS`` says how often; the moments are random, and ``AMPHO_SEED`` varies them.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable

import pytest
from facade import facade
from project import PROGRAMS, Project
from screen import Screen
from servers import JOURNAL, Database
from sqlalchemy import inspect, text

KILLS = int(os.environ.get("AMPHO_BACKFILL_KILLS", "1"))
SEED = int(os.environ.get("AMPHO_SEED", "42"))
ROWS, SIZE = 1500, 100

TABLE = f"""
op.create_table("users", sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Integer, nullable=False))
op.bulk_insert(sa.table("users", sa.column("id"), sa.column("n")),
    [{{"id": number, "n": 0}} for number in range(1, {ROWS} + 1)])
"""
COUNT = f"""
from ampho.operations import backfill
backfill("users", {{"n": sa.text("n + 1")}}, size={SIZE}, pause=0.02)
op.add_column("users", sa.Column("done", sa.Integer))
"""


@pytest.mark.usefixtures("unmeasured_processes")
@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg", "mariadb+pymysql")
def test_killed_runs_lose_at_most_a_batch(project: Project, database: Database) -> None:
    framework = "quart" if database.is_async else "flask"
    chance = random.Random(SEED)
    project.package("core")
    project.revision("core", "core_1", upgrade=TABLE)
    project.revision("core", "core_2", "core_1", upgrade=COUNT.replace("pause=0.02", "pause=0"))
    with facade(project, framework, ["core"], database.url) as each:
        each.call("upgrade", "core_1")
        project.revision("core", "core_2", "core_1", upgrade=COUNT)
        project.app(framework, ["core"], database.url)
        before = 0
        for _ in range(KILLS):
            aim = min(before + chance.randint(1, 5) * SIZE, ROWS - 5 * SIZE)
            _kill_after(project, lambda aim=aim: _count(database, "n = 1") >= aim, chance.random() * 0.03)
            before = _count(database, "n = 1")
            assert before % SIZE == 0
            assert _count(database, "n > 1") == 0
            assert [backfill.rows for backfill in each.call("status").backfills] == [before]
        each.call("upgrade")
        assert _count(database, "n = 1") == ROWS
        assert each.call("status").backfills == ()
        entries = [(entry.revision, str(entry.outcome)) for entry in each.call("log")]
        assert set(entries) == {("core_1", "done"), ("core_2", "resolved"), ("core_2", "done")}
        assert database.query(f"SELECT count(*) FROM {JOURNAL}_backfill") == [(0,)]


def _count(database: Database, where: str) -> int:
    return int(database.query(f"SELECT count(*) FROM users WHERE {where}")[0][0])


def _kill_after(project: Project, is_time: Callable[[], bool], delay: float) -> None:
    with subprocess.Popen(
        [str(PROGRAMS / "ampho"), "db-up"], cwd=project.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + 100
        while not is_time():
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
    time.sleep(0.3)  # until the server has rolled back what the process left open


ENDED = (
    "Revision core_2 of core was running. The 100 rows that its backfill of users has changed stay, and"
    " 'ampho db-up core_2' continues from there."
)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers("postgresql+asyncpg", "mariadb+pymysql")
def test_a_signal_says_what_stays_and_how_to_continue(project: Project, database: Database) -> None:
    """By Ctrl-C on Quart, with JSON, and by SIGTERM on Flask."""
    number, word = (signal.SIGINT, "Interrupted") if database.is_async else (signal.SIGTERM, "Terminated")
    options = ["--json"] if database.is_async else []
    _pausing(project, database)
    process = project.start("ampho", "db-up", *options)
    deadline = time.monotonic() + 30
    while process.poll() is None and not _is_in_a_pause(database):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert stderr.endswith(f"Error: {word}. {ENDED}\n")
    if options:
        assert json.loads(stdout)["error"]["message"] == f"{word}. {ENDED}"
    assert _count(database, "n = 1") == SIZE


@pytest.mark.usefixtures("unmeasured")
def test_ctrl_c_on_a_terminal_says_how_to_continue_in_each_database(
    project: Project, make_database: Callable[[str], Database]
) -> None:
    database = make_database("sqlite+pysqlite")
    project.package("more")
    project.revision("more", "more_1")
    _pausing(project, database, "more", AMPHO_DATABASES={"b": ["more"]}, SQLALCHEMY_BINDS={"b": "sqlite:///b.db"})
    screen = Screen(project, "ampho", "db-up", columns=250)
    screen.wait(lambda shown: _is_in_a_pause(database))
    screen.type("\x03")
    assert screen.end() == 130
    shown = " ".join(screen.shown.split())
    assert shown.endswith(
        f"interrupted Error: Interrupted. {ENDED.replace('db-up core_2', 'db-up core_2 --database default')}"
    )


def _pausing(project: Project, database: Database, *packages: str, **config: object) -> None:
    """Write an app with a backfill that waits after its first batch."""
    project.package("core")
    project.revision("core", "core_1", upgrade=TABLE)
    project.revision("core", "core_2", "core_1", upgrade=COUNT.replace("pause=0.02", "pause=20"))
    project.app("quart" if database.is_async else "flask", ["core", *packages], database.url, extra_config=config)


def _is_in_a_pause(database: Database) -> bool:
    with database.connect() as connection:
        is_so = inspect(connection).has_table("users") and _count(database, "n = 1") > 0
    time.sleep(0.2 if is_so else 0)  # until the process knows that the batch is committed
    return is_so


@pytest.mark.drivers("mariadb+pymysql")
def test_a_run_that_is_killed_after_a_backfill_is_unfinished_on_mariadb(project: Project, database: Database) -> None:
    project.package("core")
    project.revision("core", "core_1", upgrade=TABLE)
    after = "import os; os.kill(os.getpid(), 9)"
    project.revision("core", "core_2", "core_1", upgrade=f"{COUNT.replace('pause=0.02', 'pause=0')}{after}")
    project.app("flask", ["core"], database.url)
    assert project.run("ampho", "db-up", check=False, fresh=True, timeout=100).exit_code == -signal.SIGKILL
    with facade(project, "flask", ["core"], database.url) as each:
        line = each.error_line("db-up")
        assert "core_2" in line
        assert "was interrupted, so the changes of its first statement may remain" in line
        assert _count(database, "n = 1") == ROWS


def test_two_runs_share_a_backfill_on_sqlite(project: Project, make_database: Callable[[str], Database]) -> None:
    database = make_database("sqlite+pysqlite")
    project.package("core")
    project.revision("core", "core_1", upgrade=TABLE)
    project.revision("core", "core_2", "core_1", upgrade=COUNT)
    project.app("flask", ["core"], database.url)
    project.run("ampho", "db-up", "core_1")
    command = [str(PROGRAMS / "ampho"), "db-up"]
    both = [subprocess.Popen(command, cwd=project.folder, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert _count(database, "n = 1") == ROWS
    with database.connect() as connection:
        assert "done" in [column["name"] for column in inspect(connection).get_columns("users")]
        unfinished = text(f"SELECT count(*) FROM {JOURNAL} WHERE outcome IN ('started', 'backfill')")
        assert connection.execute(unfinished).scalar() == 0
