"""``db-up`` on many databases: worker processes, canaries, failures, locks, interruptions, and kills."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from facade import FRAMEWORKS
from jsonschema import Draft202012Validator
from project import Project
from servers import Database
from tenants import Fleet, files, locked, processes_of, schemas, servers_databases

from ampho.cli.json import SCHEMA
from ampho.fleet.workers import INTERRUPTED

COUNT = int(os.environ.get("AMPHO_FLEET", "12"))
ROUNDS = int(os.environ.get("AMPHO_FLEET_ROUNDS", "1"))
SIGNALS = int(os.environ.get("AMPHO_FLEET_SIGNALS", "2"))
MEMORY = int(os.environ.get("AMPHO_FLEET_MEMORY", "150"))
LOCK = os.environ.get("AMPHO_FLEET_LOCK", "1") == "1"  # without the lock, the test with kills has to fail
POSTGRES = pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg")
PSYCOPG = pytest.mark.drivers("postgresql+psycopg")

SLEEPING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'SELECT pg_sleep%'"


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_worker_processes_upgrade_the_databases_of_a_group(project: Project, framework: str) -> None:
    fleet = files(project, framework, 6)
    done = project.run("ampho", "db-up", "-d", "tenants", "-j", "2")
    lines = done.stdout.splitlines()
    assert sorted(line.partition(" in ")[0] for line in lines[:6]) == [
        f"tenants/{name}: 1 revision" for name in fleet.names
    ]
    assert lines[6] == "  orders_1: applied to 6 databases"
    assert lines[7].startswith("6 upgraded, in ")
    assert sorted(done.stderr.splitlines()) == [f"tenants/{name}: upgrading {name}" for name in fleet.names]
    assert not (project.folder / "instance" / "app.db").exists()

    fleet.add_revision()
    (project.folder / "instance" / "t002.db").unlink()
    found = json.loads(project.run("ampho", "db-up", "--all", "--json").stdout)
    assert found["fleet"]["outcomes"] == {"upgraded": 6}
    assert found["fleet"]["revisions"] == [
        {"revision": "orders_1", "applied": 1, "failed": 0},
        {"revision": "orders_2", "applied": 6, "failed": 0},
    ]
    assert project.run("ampho", "db-up", "-d", "tenants/t00*").stdout.startswith("6 up to date, in ")
    assert (
        project.run("ampho", "db-up", "-d", "tenants/t001").stdout
        == "Nothing to do: everything is applied to tenants/t001.\n"
    )


def test_a_terminal_shows_the_progress_in_one_line(project: Project) -> None:
    fleet = files(project, "flask", 3)
    fleet.add_revision("import time, sys; time.sleep(0.3); sys.stdout.write('x' * 200_000)")
    shown = project.type("ampho", "db-up", "-d", "tenants", "-j", "2", answer="", env={"TERM": "xterm"}).stdout
    assert "\r\x1b[2K0 of 3 done, running tenants/t000, tenants/t001" in shown
    assert "\r\x1b[2KLooking at the databases: 0 ...\r\x1b[2K" in shown
    assert re.search(r"[12] of 3 done, ", shown)  # the first two may end at the same time
    *_, last = shown.split("\x1b[2K")
    assert last.splitlines()[-1].startswith("3 upgraded, in ")
    for name in fleet.names:
        assert f"tenants/{name}:\n  xxx" in shown


def test_options_for_groups_need_a_group(project: Project) -> None:
    files(project, "flask", 2)
    for options in (["-j", "2"], ["--canary", "1", "-d", "tenants/t001"], ["--max-failures", "3"]):
        failed = project.run("ampho", "db-up", *options, check=False)
        assert failed.exit_code == 2
        assert "is only for groups of databases" in failed.stderr
    failed = project.run("ampho", "db-up", "-d", "tenants", "--canary", "t9", check=False)
    assert failed.exit_code == 2
    assert "t9" in failed.stderr
    failed = project.run("ampho", "db-up", "-d", "tenants", "--canary", "0", check=False)
    assert failed.exit_code == 2
    assert "Use a number of at least 1, or the name of a database." in failed.stderr


def test_a_command_without_databases_says_which_groups_it_did_not_look_at(project: Project) -> None:
    files(project, "flask", 3)
    project.package("shop")
    project.revision("shop", "shop_1")
    app = project.read("app.py").replace("'AMPHO_MIGRATION_PACKAGES': []", "'AMPHO_MIGRATION_PACKAGES': ['shop']")
    project.write("app.py", app)
    done = project.run("ampho", "db-up")
    assert "Applied 1 revision" in done.stdout
    assert done.stderr == "Databases of groups were not looked at: 3 of tenants. To upgrade them, add --all.\n"
    project.write("app.py", app.replace("['t000', 't001', 't002']", "[]"))
    assert project.run("ampho", "db-up").stderr == ""
    project.write("app.py", app)
    done = project.run("ampho", "db-up", "--all", "--json")
    found = json.loads(done.stdout)
    assert found["run"]["steps"] == []
    assert found["fleet"]["outcomes"] == {"upgraded": 3}


def test_an_upgrade_that_goes_on_reports_the_database_that_failed_in_json(project: Project) -> None:
    files(project, "flask", 1)
    project.package("shop")
    project.revision("shop", "shop_1", upgrade="op.execute('no SQL')")
    app = project.read("app.py").replace("'AMPHO_MIGRATION_PACKAGES': []", "'AMPHO_MIGRATION_PACKAGES': ['shop']")
    project.write("app.py", app)
    failed = project.run("ampho", "db-up", "--all", "-k", "--json", check=False)
    assert failed.exit_code == 1
    found = json.loads(failed.stdout)
    Draft202012Validator(json.loads(SCHEMA.read_text("utf-8"))).validate(found)
    assert found["error"]["revision"] == "shop_1"
    assert found["fleet"]["outcomes"] == {"upgraded": 1}


def test_a_wrong_specifier_is_an_error_even_if_everything_is_applied(project: Project) -> None:
    files(project, "flask", 2)
    project.run("ampho", "db-up", "-d", "tenants")
    for spec, words in (
        ("order_1", "Did you mean orders_1?"),
        ("orders@+2", "There is only 1 revision to apply"),
        ("-1", "that is a downgrade"),
    ):
        failed = project.run("ampho", "db-up", "-d", "tenants", spec, check=False)
        assert failed.exit_code == 1
        assert words in failed.stderr
    assert "2 up to date" in project.run("ampho", "db-up", "-d", "tenants", "orders@+1").stdout


def test_the_command_to_try_again_has_the_same_options(project: Project) -> None:
    files(project, "flask", 1)
    project.write("app.py", project.read("app.py").replace("yield Database(name,", 'yield Database("o\'hara",'))
    command = ("ampho", "db-up", "orders", "-d", "tenants", "-x", "a b", "--create", "--json")
    failed = project.run(*command, env={"FAIL": "o'hara,t000"}, check=False)
    (failure,) = json.loads(failed.stdout)["fleet"]["failures"]
    assert failure["command"] == "ampho db-up orders --create -x 'a b' -d 'tenants/o'\"'\"'hara'"


def test_a_number_of_canaries_is_not_the_name_of_one(project: Project) -> None:
    files(project, "flask", 1)
    unreachable = "yield Database('1', url='sqlite:////nowhere/1.db')\n        yield Database(name,"
    project.write("app.py", project.read("app.py").replace("yield Database(name,", unreachable))
    done = project.run("ampho", "db-up", "-d", "tenants", "--canary", "1", check=False)
    assert done.exit_code == 4
    assert "1 upgraded, 1 not created" in done.stdout


def test_a_worker_goes_on_after_an_interrupted_revision(project: Project) -> None:
    fleet = files(project, "flask", 4)
    fleet.add_revision("raise KeyboardInterrupt")
    code, found = run(fleet, "", "-k")
    assert (code, found["outcomes"]) == (4, {"interrupted": 4})
    assert {failure["cause"] for failure in found["failures"]} == {INTERRUPTED}


def test_listeners_of_engines_may_use_the_app_in_the_threads_of_a_survey(project: Project) -> None:
    listener = (
        "from flask import current_app\nfrom sqlalchemy import Engine, event\n"
        "event.listen(Engine, 'connect', lambda connection, record: current_app.name)\n"
    )
    files(project, "flask", 2, body=listener)
    assert "2 upgraded" in project.run("ampho", "db-up", "-d", "tenants").stdout


def test_a_rebase_needs_no_database_if_a_group_has_none(project: Project) -> None:
    files(project, "flask", 0)
    project.revision("orders", "orders_1600000002", "orders_1")
    project.revision("orders", "orders_1600000003", "orders_1")
    done = project.run("ampho", "db-rebase", "orders")
    assert done.stdout.startswith("orders_1600000003 now revises orders_1600000002: ")


def run(fleet: Fleet, fail: str, *options: str) -> tuple[int, dict[str, Any]]:
    command = ["ampho", "db-up", "-d", "tenants", "-j", "1", "--json", *options]
    done = fleet.project.run(*command, env={"FAIL": fail}, check=False)
    return done.exit_code, json.loads(done.stdout)["fleet"]


def test_failures_stop_the_upgrade_as_the_options_say(project: Project) -> None:
    fleet = files(project, "flask", 8)
    code, found = run(fleet, "t002,t003,t006", "--canary", "t002")
    assert (code, found["outcomes"]) == (4, {"failed": 1, "skipped": 7})
    assert found["stopped"] == "a canary is not up to date"

    code, found = run(fleet, "t002,t003,t006")
    assert (code, found["outcomes"]) == (4, {"upgraded": 2, "failed": 1, "skipped": 5})
    (failure,) = found["failures"]
    assert failure["database"] == "tenants/t002"
    assert failure["revision"] == "orders_1"
    assert failure["cause"].startswith("Revision orders_1 of orders failed")
    assert failure["command"] == "ampho db-up -d tenants/t002"

    code, found = run(fleet, "t002,t003,t006", "--max-failures", "3")
    assert (code, found["outcomes"]) == (4, {"up to date": 2, "upgraded": 2, "failed": 3, "skipped": 1})
    assert (found["stopped"], found["skipped"]) == ("the limit of 3 failures was reached", ["tenants/t007"])
    code, found = run(fleet, "t002,t003,t006", "-k")
    assert (code, found["outcomes"]) == (4, {"up to date": 4, "upgraded": 1, "failed": 3})
    assert found["revisions"] == [{"revision": "orders_1", "applied": 1, "failed": 3}]
    code, found = run(fleet, "", "--canary", "2")
    assert (code, found["outcomes"]) == (0, {"up to date": 5, "upgraded": 3})
    done = project.run("ampho", "db-up", "-d", "tenants", "--canary", "t001")
    assert done.stderr == "The canary tenants/t001 is already up to date.\n"


def test_failures_with_the_same_cause_are_counted(project: Project) -> None:
    fleet = files(project, "flask", 8)
    done = project.run("ampho", "db-up", "-d", "tenants", "-k", env={"FAIL": ",".join(fleet.names)}, check=False)
    lines = done.stdout.splitlines()
    assert all(len(line) <= len("tenants/t000: failed: ") + 80 for line in lines[:8])
    assert lines[8] == "  orders_1: failed on 8 databases"
    first = lines[9].partition(":")[0]
    others = sorted({f"tenants/{name}" for name in fleet.names} - {first})
    assert "no SQL" in lines[9]
    assert lines[10] == f"  Try it again with 'ampho db-up -d {first}'."
    assert lines[11].startswith("  The same applies to 7 other databases: ")
    assert lines[11].endswith(" and 2 more.")
    assert sum(name in lines[11] for name in others) == 5
    assert lines[12].startswith("8 failed, in ")


def test_an_app_with_threads_is_loaded_by_each_worker(project: Project) -> None:
    body = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    files(project, "flask", 4, body=body + "print('loaded')\n")
    done = project.run("ampho", "db-up", "-d", "tenants", "-j", "2", fresh=True)
    assert "4 upgraded" in done.stdout
    assert done.stderr.count("loaded") == 3


@POSTGRES
def test_missing_schemas_are_created_if_asked_for(project: Project, database: Database) -> None:
    schemas(project, database, 4)
    database.run("DROP SCHEMA t001")
    failed = project.run("ampho", "db-up", "-d", "tenants", "-k", check=False)
    assert failed.exit_code == 4
    assert "tenants/t001: not created: The schema t001 does not exist" in failed.stdout
    assert "3 upgraded, 1 not created, in" in failed.stdout
    assert "Try it again with 'ampho db-up -d tenants/t001 --create'." in failed.stdout
    assert (
        "run 'ampho db-up --create --database tenants/t001'"
        in project.run("ampho", "db-status", "-d", "tenants").stdout
    )
    done = project.run("ampho", "db-up", "-d", "tenants", "--create")
    assert "1 upgraded" in done.stdout
    assert "tenants/t001: Created the schema t001.\n" in done.stderr
    database.run("DROP SCHEMA t002 CASCADE")
    assert "Created the schema t002.\n" in project.run("ampho", "db-up", "-d", "tenants/t002", "--create").stderr
    assert "4 up to date" in project.run("ampho", "db-up", "-d", "tenants").stdout


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg", "mariadb")
@pytest.mark.parametrize("is_translated", [False, True])
def test_a_server_that_is_down_does_not_stop_what_is_created(
    project: Project, database: Database, is_translated: bool
) -> None:
    body = (
        "from ampho.database import connection\nimport re\nconnection._UNKNOWN_DATABASE = re.compile('existiert nicht')"
    )
    names = {name: f"{database.name}_{name}" for name in ("t000", "t001", "t002")}
    fleet, url = Fleet(project, 3), database.url.render_as_string(hide_password=False)
    place = {"url": url.replace(database.name, f"{database.name}_{{}}")}
    down = database.url.set(host="127.0.0.1", port=9).render_as_string(hide_password=False)
    # A server may translate the error that a database does not exist.
    fleet.write("quart" if database.is_async else "flask", url, place=place, body=body if is_translated else "")
    listed = f"yield Database('aaa', url={down!r})\n    for name in ["
    project.write("app.py", project.read("app.py").replace("for name in [", listed))
    database.run(f"CREATE DATABASE {names['t000']}")
    try:
        code, found = run(fleet, "", "-k")
        lacking = {"unreachable": 3} if is_translated else {"unreachable": 1, "not created": 2}
        assert (code, found["outcomes"]) == (4, {"upgraded": 1, **lacking})
        if not is_translated:
            assert {each["database"]: each["command"] for each in found["failures"]} == {
                "tenants/aaa": "ampho db-up -d tenants/aaa",
                "tenants/t001": "ampho db-up -d tenants/t001 --create",
                "tenants/t002": "ampho db-up -d tenants/t002 --create",
            }
        code, found = run(fleet, "", "--create", "--canary", "1")
        assert (code, found["outcomes"]) == (4, {"up to date": 1, "upgraded": 2, "unreachable": 1})
    finally:
        database.run(*(f"DROP DATABASE IF EXISTS {name}" for name in names.values()))


@POSTGRES
def test_a_revision_finds_nothing_of_the_one_before_it_in_its_session(project: Project, database: Database) -> None:
    fleet = schemas(project, database, 4)
    fleet.add_revision(
        "op.execute(\"CREATE TABLE session AS SELECT pg_backend_pid() AS pid, current_setting('work_mem') AS memory\")"
        '\nop.execute("SET work_mem = 12345")\nop.execute("CREATE TEMP TABLE draft (id int)")'
    )
    assert "4 upgraded" in project.run("ampho", "db-up", "-d", "tenants", "-j", "1").stdout
    fleet.check_whole()
    sessions = {fleet.query(name, "SELECT pid FROM {}.session")[0] for name in fleet.names}
    assert len(sessions) == (4 if database.is_async else 1)  # with async drivers, each has a session of its own
    assert {fleet.query(name, "SELECT memory FROM {}.session")[0] for name in fleet.names} == {"4MB"}


@PSYCOPG
def test_a_database_that_is_being_migrated_is_left_for_later(project: Project, database: Database) -> None:
    fleet = schemas(project, database, 4)
    with locked(fleet, "t001"):
        done = project.run("ampho", "db-up", "-d", "tenants", env={"AMPHO_LOCK_TIMEOUT": "1"}, check=False)
    assert done.exit_code == 4
    assert "3 upgraded, 1 locked" in done.stdout
    assert "tenants/t001: locked: " in done.stdout

    fleet.add_revision()
    with locked(fleet, "t002"):
        waiting = project.start("ampho", "db-up", "-d", "tenants", "--json")
        _wait_for(lambda: all(fleet.rows(name) == ["orders_2"] for name in fleet.names if name != "t002"))
    found = json.loads(waiting.communicate()[0])["fleet"]
    assert found["outcomes"] == {"upgraded": 4}
    fleet.check_whole()


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg", "mariadb")
@pytest.mark.timeout(0)
def test_commands_that_run_at_once_and_are_killed_apply_each_revision_once(
    project: Project, database: Database
) -> None:
    config = {} if LOCK else {"AMPHO_LOCK": False}
    is_of_schemas = database.backend == "postgresql"
    with (
        nullcontext(schemas(project, database, COUNT, **config))
        if is_of_schemas
        else servers_databases(project, database, COUNT, **config)
    ) as fleet:
        _run_at_once(fleet)


def _run_at_once(fleet: Fleet) -> None:
    project, chance = fleet.project, random.Random(int(os.environ.get("AMPHO_SEED", "42")))
    command = ("ampho", "db-up", "-d", "tenants", "-k", "-j", "2", "--json")
    for number in range(ROUNDS):
        for _ in range(2 if number else 1):
            fleet.add_revision()
        commands = [project.start(*command) for _ in range(4)]
        time.sleep(chance.uniform(0.5, 0.5 + COUNT / 20))
        workers_too = processes_of(project.folder) if chance.random() < 0.5 else []
        victims = workers_too or [commands[0].pid]
        with suppress(ProcessLookupError):  # it may have just ended
            os.kill(chance.choice(victims), signal.SIGKILL)
        for each in commands:
            out, _ = each.communicate(timeout=600)
            _unfinished(json.loads(out)["fleet"] if each.returncode in (0, 4) else {"failures": []})
        _wait_for(lambda: not processes_of(project.folder))
        again = json.loads(project.run(*command, check=False, timeout=600).stdout)["fleet"]
        for failure in _unfinished(again):
            fleet.resolve(failure)
        project.run(*command, timeout=600)
        fleet.check_whole()
        assert fleet.locks() == []
        assert f"{COUNT} up to date, in" in project.run("ampho", "db-up", "-d", "tenants", timeout=600).stdout


def _unfinished(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the failures because of a revision that was killed where the database cannot roll it back."""
    failures = [each for each in report["failures"] if "ended by signal 9" not in each["cause"]]
    assert [each for each in failures if "ampho db-resolve" not in each["cause"]] == []
    return failures


@POSTGRES
@pytest.mark.timeout(0)
def test_an_interruption_leaves_no_worker_and_no_lock(project: Project, database: Database) -> None:
    chance = random.Random(int(os.environ.get("AMPHO_SEED", "42")))
    fleet = schemas(project, database, COUNT)
    for _ in range(SIGNALS):
        fleet.add_revision("op.execute('SELECT pg_sleep(0.2)')")
        command = project.start("ampho", "db-up", "-d", "tenants", "--json", "-j", "2", fresh=True)
        time.sleep(chance.uniform(0.8, 2.5))
        ending, code = chance.choice([(signal.SIGINT, 130), (signal.SIGTERM, 143)])
        os.kill(command.pid, ending)
        codes = {0, code, -ending}  # while the app is loaded, and while Python exits, a signal ends the process
        if chance.random() < 0.3:
            time.sleep(0.05)
            codes |= {130, -signal.SIGINT}  # before the first upgrade begins, each signal ends the command
            os.kill(command.pid, signal.SIGINT)
        begin = time.monotonic()
        out, err = command.communicate(timeout=60)
        assert time.monotonic() - begin < 15
        assert command.returncode in codes, out + err
        if '"fleet"' in out:
            found = json.loads(out)["fleet"]
            assert sum(found["outcomes"].values()) == COUNT
        _wait_for(lambda: not processes_of(project.folder))
        _wait_for(lambda: not fleet.locks())
    project.run("ampho", "db-up", "-d", "tenants", timeout=600)
    fleet.check_whole()


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(("ending", "code", "word"), [("SIGINT", 130, "Interrupted"), ("SIGTERM", 143, "Terminated")])
@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg", "mariadb+pymysql")
def test_an_interruption_ends_a_survey_of_servers_that_do_not_answer(
    project: Project, database: Database, ending: str, code: int, word: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, ExitStack() as opened:
        fleet = Fleet(project, 20)
        url = database.url.set(host="127.0.0.1", port=silent.getsockname()[1]).render_as_string(hide_password=False)
        framework = "quart" if database.is_async else "flask"
        app = database.url.render_as_string(hide_password=False)
        fleet.write(framework, app, place={"url": url.replace(database.name, "{}")})
        command = project.start("ampho", "db-up", "-d", "tenants", fresh=True)
        for _ in range(16):
            opened.enter_context(silent.accept()[0])
        begin = time.monotonic()
        command.send_signal(getattr(signal, ending))
        out, err = command.communicate(timeout=20)
        assert time.monotonic() - begin < 10
    assert (command.returncode, out) == (code, ""), err
    assert err == f"Error: {word} before the first upgrade. No database of a group was changed.\n"


@PSYCOPG
def test_workers_end_with_a_command_that_is_killed(project: Project, database: Database) -> None:
    fleet = schemas(project, database, 4)
    fleet.add_revision("op.execute('SELECT pg_sleep(60)')")
    command = project.start("ampho", "db-up", "-d", "tenants", "-j", "2", fresh=True)
    _wait_for(lambda: len(database.query(SLEEPING)) == 2)
    assert len(processes_of(project.folder)) == 3
    command.kill()
    command.communicate()
    _wait_for(lambda: not processes_of(project.folder))
    assert fleet.rows("t000") == ["orders_1"]
    _wait_for(lambda: not fleet.locks())


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.timeout(0)
def test_the_peak_memory_hardly_grows_with_the_number_of_databases(project: Project) -> None:
    fleet = files(project, "flask", MEMORY)
    few, few_of_worker = _peaks(project, 50, *(f"tenants/t0{ten}*" for ten in range(5)))
    fleet.add_revision()
    many, many_of_worker = _peaks(project, MEMORY, "tenants")
    figures = f"50 databases: {few} kB, {few_of_worker} kB; {MEMORY} databases: {many} kB, {many_of_worker} kB"
    sys.stdout.write(f"{figures}\n")  # for pytest -s
    # What more databases take once, which on Python 3.12 is 5,600 kB for 150 databases and 6,500 kB for 800; and the
    # names of the databases, first of those to upgrade, and then in the report.
    growth = 6_000 + 3 * MEMORY
    assert many - few < growth, figures
    assert many_of_worker - few_of_worker < growth, figures  # a fork shares the memory of the command


def _peaks(project: Project, count: int, *names: str) -> tuple[int, int]:
    """Upgrade databases, and return the peak memory of the command, and of its largest worker, in kB."""
    options = [option for name in names for option in ("-d", name)]
    command = project.start("ampho", "db-up", *options, "-j", "2", "--json", fresh=True)
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(command.communicate()))
    reader.start()
    found: dict[int, int] = {}
    while reader.is_alive():
        for pid in processes_of(project.folder):
            with suppress(OSError, StopIteration):  # it may just have ended
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                found[pid] = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
        reader.join(0.1)
    assert json.loads(said[0])["fleet"]["outcomes"] == {"upgraded": count}, said
    return found.pop(command.pid), max(found.values())


def _wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
