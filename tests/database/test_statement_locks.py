"""A statement that waits for a table's lock is cancelled, and its revision tried again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from facade import Facade, facade
from project import Project
from servers import Database
from sqlalchemy import text

import ampho
from ampho.errors import ConfigurationError, RevisionFailedError
from ampho.migrate.observers import Observer
from ampho.migrate.plan import Step
from ampho.settings import Settings

ID = "sa.Column('id', sa.Integer, primary_key=True)"
BOOK = f"op.create_table('book', {ID})"
ISBN = "op.add_column('book', sa.Column('isbn', sa.String(13)))"
TIMEOUT = {"postgresql": 0.2, "mariadb": 1}
READ = {"postgresql": "SELECT current_setting('lock_timeout')", "mariadb": "SELECT @@SESSION.lock_wait_timeout"}


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let MariaDB wait for a lock soon, instead of trying to get it for some seconds."""
    monkeypatch.setattr("ampho.migrate.ddl._TRYING", 0.1)


class Recorder(Observer):
    def __init__(self) -> None:
        self.heard: list[str] = []
        self.first = threading.Event()

    def retrying(self, step: Step, seconds: float) -> None:
        assert seconds > 0
        self.heard.append(f"retrying {step.revision.id}")
        self.first.set()

    def applied(self, step: Step, duration: float) -> None:
        self.heard.append(f"applied {step.revision.id}")

    def failed(self, step: Step, error: Exception) -> None:
        self.heard.append(f"failed {step.revision.id}")


@contextmanager
def used(database: Database) -> Iterator[Any]:
    """A transaction of the app that has read the table, and so keeps others from changing it."""
    with database.connect() as autocommitting:
        connection = autocommitting.execution_options(isolation_level="READ COMMITTED")
        with connection.begin():
            connection.execute(text("SELECT * FROM book")).all()
            yield connection


def write(project: Project) -> None:
    project.package("core")
    project.revision("core", "core_1", upgrade=BOOK)


def run_until_retried(each: Facade, recorder: Recorder, database: Database, *command: str) -> None:
    """Run a command on a locked table until a revision is retried; then unlock the table and wait for the command."""
    with used(database):
        run = threading.Thread(target=each.call, args=command, kwargs={"observer": recorder})
        run.start()
        assert recorder.first.wait(20)
    run.join(30)
    assert not run.is_alive()


@pytest.mark.drivers("postgresql", "mariadb")
def test_it_is_tried_again_until_the_lock_is_free(project: Project, database: Database) -> None:
    write(project)
    framework = "quart" if database.is_async else "flask"
    timeout = TIMEOUT[database.backend]
    with facade(project, framework, ["core"], database.url, AMPHO_STATEMENT_LOCK_TIMEOUT=timeout) as each:
        each.call("upgrade")
        project.revision("core", "core_2", "core_1", upgrade=ISBN)
        recorder = Recorder()
        run_until_retried(each, recorder, database, "upgrade")
        assert recorder.heard[0] == "retrying core_2"
        assert recorder.heard[-1] == "applied core_2"
        assert "failed core_2" not in recorder.heard
        assert database.rows() == ["core_2"]
        outcomes = [str(entry.outcome) for entry in each.call("log")]
        assert outcomes[0] == outcomes[-1] == "done"
        # MariaDB executes only the statement again.
        assert set(outcomes[1:-1]) == ({"failed"} if database.backend == "postgresql" else set())


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg")
def test_it_gives_up_in_the_end(project: Project, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ampho.migrate.executor._FIRST_PAUSE", 0.01)
    write(project)
    framework = "quart" if database.is_async else "flask"
    with facade(project, framework, ["core"], database.url, AMPHO_STATEMENT_LOCK_TIMEOUT=0.1) as each:
        each.call("upgrade")
        project.revision("core", "core_2", "core_1", upgrade=ISBN)
        recorder = Recorder()
        with used(database), pytest.raises(RevisionFailedError, match="lock"):
            each.call("upgrade", observer=recorder)
        assert recorder.heard == ["retrying core_2"] * 5 + ["failed core_2"]
        assert database.rows() == ["core_1"]


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg")
def test_an_env_py_that_commits_is_run_again(project: Project, database: Database) -> None:
    """Its commit is not that of the revision which was refused the lock just before."""
    write(project)
    framework = "quart" if database.is_async else "flask"
    template = Path(ampho.__file__).parent / "templates" / {"flask": "sync", "quart": "aio"}[framework] / "env.py"
    early = (
        "with connection.begin():\n        connection.exec_driver_sql('CREATE TABLE IF NOT EXISTS early (id INTEGER)')"
    )
    env = template.read_text("utf-8").replace("    context.configure(", f"    {early}\n    context.configure(", 1)
    project.write(project.migrations("core") / "env.py", env)
    with facade(project, framework, ["core"], database.url, AMPHO_STATEMENT_LOCK_TIMEOUT=0.2) as each:
        each.call("upgrade")
        project.revision("core", "core_2", "core_1", upgrade=ISBN)
        recorder = Recorder()
        run_until_retried(each, recorder, database, "upgrade")
        assert recorder.heard[-1] == "applied core_2"
        assert {str(entry.outcome) for entry in each.call("log")} == {"done", "failed"}
        assert "early" in database.tables()


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg")
def test_what_is_committed_early_is_not_tried_again(project: Project, database: Database) -> None:
    write(project)
    framework = "quart" if database.is_async else "flask"
    with facade(project, framework, ["core"], database.url, AMPHO_STATEMENT_LOCK_TIMEOUT=0.1) as each:
        each.call("upgrade")
        block = "with op.get_context().autocommit_block():\n    op.execute('CREATE TABLE other (id INTEGER)')\n"
        project.revision("core", "core_2", "core_1", upgrade=block + ISBN)
        recorder = Recorder()
        with used(database), pytest.raises(RevisionFailedError, match="may remain"):
            each.call("upgrade", observer=recorder)
        assert recorder.heard == ["failed core_2"]


@pytest.mark.drivers("postgresql", "mariadb")
def test_the_connection_is_given_back_as_it_was(project: Project, database: Database) -> None:
    write(project)
    framework = "quart" if database.is_async else "flask"
    seen = project.folder / "seen"
    look = f"""
import pathlib
value = op.get_bind().exec_driver_sql({READ[database.backend]!r}).scalar()
pathlib.Path({str(seen)!r}).write_text(str(value))
"""
    project.revision("core", "core_2", "core_1", upgrade=look)
    with facade(project, framework, ["core"], database.url, AMPHO_STATEMENT_LOCK_TIMEOUT=2.5) as each:
        each.call("upgrade")
        assert seen.read_text() == {"postgresql": "2500ms", "mariadb": "3"}[database.backend]
        project.revision("core", "core_3", "core_2", upgrade=look.replace(str(seen), f"{seen}_after"))
        each.app.config["AMPHO_STATEMENT_LOCK_TIMEOUT"] = None
        each.call("upgrade")
        default = database.query(READ[database.backend])[0][0]
        assert (project.folder / "seen_after").read_text() == str(default)


@pytest.mark.parametrize("value", [0, -1, "soon", [], float("inf")])
def test_a_limit_that_is_none(value: object) -> None:
    with pytest.raises(ConfigurationError, match="AMPHO_STATEMENT_LOCK_TIMEOUT is"):
        Settings({"AMPHO_STATEMENT_LOCK_TIMEOUT": value}, {})


def test_it_is_off_unless_set() -> None:
    assert Settings({}, {}).statement_lock_timeout is None
    assert Settings({}, {"AMPHO_STATEMENT_LOCK_TIMEOUT": "2"}).statement_lock_timeout == 2


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg")
@pytest.mark.parametrize(("typed", "rows"), [("-2", "core_1"), ("core@-2", "core_1"), ("core_1", "core_1")])
def test_a_downgrade_by_steps_takes_no_more_steps_for_being_tried_again(
    project: Project, database: Database, typed: str, rows: str
) -> None:
    project.package("core")
    project.revision("core", "core_1", upgrade=BOOK)
    project.revision("core", "core_2", "core_1", upgrade=ISBN, downgrade="op.drop_column('book', 'isbn')")
    project.revision("core", "core_3", "core_2")
    framework = "quart" if database.is_async else "flask"
    with facade(project, framework, ["core"], database.url, AMPHO_STATEMENT_LOCK_TIMEOUT=0.1) as each:
        each.call("upgrade")
        recorder = Recorder()
        run_until_retried(each, recorder, database, "downgrade", typed)
        assert database.rows() == [rows]
        assert [line for line in recorder.heard if line.startswith("applied")] == ["applied core_3", "applied core_2"]


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg")
@pytest.mark.parametrize("commit", ["op.execute('COMMIT')", "op.get_bind().commit()"])
def test_what_a_revision_commits_itself_is_not_tried_again(project: Project, database: Database, commit: str) -> None:
    write(project)
    framework = "quart" if database.is_async else "flask"
    with facade(project, framework, ["core"], database.url, AMPHO_STATEMENT_LOCK_TIMEOUT=0.1) as each:
        each.call("upgrade")
        made = "op.execute('CREATE TABLE other (id INTEGER)')"
        project.revision("core", "core_2", "core_1", upgrade=f"{made}\n{commit}\n{ISBN}")
        recorder = Recorder()
        with used(database), pytest.raises(RevisionFailedError, match="may remain"):
            each.call("upgrade", observer=recorder)
        assert recorder.heard == ["failed core_2"]
        assert each.call("log")[-1].outcome == "partial"


@pytest.mark.drivers("mariadb")
def test_ddl_after_other_ddl_is_executed_again(project: Project, database: Database) -> None:
    """The step has changed something that MariaDB cannot roll back, so only the statement can be repeated."""
    write(project)
    framework = "quart" if database.is_async else "flask"
    with facade(project, framework, ["core"], database.url, AMPHO_STATEMENT_LOCK_TIMEOUT=1) as each:
        each.call("upgrade")
        project.revision("core", "core_2", "core_1", upgrade=f"op.create_table('other', {ID})\n{ISBN}")
        recorder = Recorder()
        run_until_retried(each, recorder, database, "upgrade")
        assert set(recorder.heard[:-1]) == {"retrying core_2"}
        assert recorder.heard[-1] == "applied core_2"
        assert [str(entry.outcome) for entry in each.call("log")] == ["done", "done"]


@pytest.mark.drivers("mariadb")
def test_ddl_gets_its_lock_without_stopping_the_app(
    project: Project, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the statement waited, both writes would wait behind it; the first one would also be a deadlock."""
    monkeypatch.setattr("ampho.migrate.ddl._TRYING", 20)
    write(project)
    framework = "quart" if database.is_async else "flask"
    with facade(project, framework, ["core"], database.url, AMPHO_STATEMENT_LOCK_TIMEOUT=1) as each:
        each.call("upgrade")
        project.revision("core", "core_2", "core_1", upgrade=ISBN)
        recorder = Recorder()
        with used(database) as connection:
            run = threading.Thread(target=each.call, args=["upgrade"], kwargs={"observer": recorder})
            run.start()
            time.sleep(1)
            begun = time.monotonic()
            connection.execute(text("INSERT INTO book (id) VALUES (1)"))
            database.run("INSERT INTO book (id) VALUES (2)")
            assert time.monotonic() - begun < 0.9
            assert not recorder.heard
        run.join(30)
        assert recorder.heard == ["applied core_2"]
        assert database.query("SELECT id, isbn FROM book ORDER BY id") == [(1, None), (2, None)]


@pytest.mark.drivers("mariadb+pymysql")
def test_an_error_of_ddl_that_is_not_about_locks_is_raised_at_once(project: Project, database: Database) -> None:
    write(project)
    look = f"print(op.get_bind().exec_driver_sql({READ['mariadb']!r}).scalar())"
    failing = f"try:\n    {ISBN}\nexcept Exception as error:\n    {look}\n    raise"
    project.revision("core", "core_2", "core_1", upgrade=f"op.drop_table('book')\n{failing}")
    project.app("flask", ["core"], database.url, extra_config={"AMPHO_STATEMENT_LOCK_TIMEOUT": 3})
    result = project.run("ampho", "db-up", check=False)
    assert "retrying" not in result.output
    assert "book' doesn't exist" in result.stderr
    assert "3" in result.stdout.splitlines()  # and not 0, as before the statement


@pytest.mark.drivers("mariadb+pymysql")
def test_ddl_is_not_executed_again_for_ever(
    project: Project, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ampho.migrate.executor._FIRST_PAUSE", 0.01)
    monkeypatch.setattr("ampho.migrate.executor._RETRIES", 1)
    write(project)
    with facade(project, "flask", ["core"], database.url, AMPHO_STATEMENT_LOCK_TIMEOUT=1) as each:
        each.call("upgrade")
        project.revision("core", "core_2", "core_1", upgrade=f"op.create_table('other', {ID})\n{ISBN}")
        recorder = Recorder()
        with used(database), pytest.raises(RevisionFailedError, match="may remain"):
            each.call("upgrade", observer=recorder)
        assert recorder.heard == ["retrying core_2", "failed core_2"]
