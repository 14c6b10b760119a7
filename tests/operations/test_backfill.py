"""Backfills: what they change, where they resume, and what they refuse, on all databases."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from facade import Facade, facade
from project import Project
from rich.console import Console
from rich.spinner import Spinner
from servers import JOURNAL, Database, ServerMissingError, database_on, own_server, streaming_replica
from sqlalchemy import event, inspect, text
from tenants import schemas

from ampho import Observer, Step
from ampho.cli import reporter
from ampho.cli.progress import Display
from ampho.commands import Commands
from ampho.errors import RenderError, RevisionFailedError
from ampho.migrate.observers import BackfillProgress
from ampho.pending.feed import Feed

ONE_OF_EACH = ("sqlite+pysqlite", "postgresql+asyncpg", "mariadb+pymysql")
TABLE = """
op.create_table(
    "users",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("n", sa.Integer, nullable=False),
    sa.Column("name", sa.String(50), nullable=False),
    sa.Column("upper_name", sa.String(50)),
)
op.bulk_insert(sa.table("users", sa.column("id"), sa.column("n"), sa.column("name")),
    [{"id": 3 * number, "n": 0, "name": f"u{number}"} for number in range(1, 101)])
"""
IMPORTS = "from ampho.operations import backfill\n"
COUNT = IMPORTS + 'backfill("users", {"n": sa.text("n + 1")}, size=30)'


_RAISE = 'raise ValueError("stop here")'


@contextmanager
def running(project: Project, database: Database, **config: object) -> Iterator[Facade]:
    with facade(project, "quart" if database.is_async else "flask", ["core"], database.url, **config) as each:
        yield each


def write(project: Project, code: str, *, table: str = TABLE, down: str = "pass") -> Path:
    """Write a revision that makes a table with 100 rows, and one with a backfill, whose path is returned."""
    project.package("core")
    project.revision("core", "core_1", upgrade=table)
    return project.revision("core", "core_2", "core_1", upgrade=code, downgrade=down)


def numbers(database: Database) -> list[int]:
    return [n for (n,) in database.query("SELECT n FROM users ORDER BY id")]


def outcomes(database: Database) -> list[tuple[str, str]]:
    return [tuple(row) for row in database.query(f"SELECT revision, outcome FROM {JOURNAL} ORDER BY id")]


def places(database: Database) -> list[tuple[Any, ...]]:
    rows = database.query(f"SELECT revision, number, is_done FROM {JOURNAL}_backfill ORDER BY revision, number")
    return [(revision, number, bool(is_done)) for revision, number, is_done in rows]


def test_batches_change_each_row_once(project: Project, database: Database) -> None:
    write(project, COUNT)
    with running(project, database) as each:
        each.call("upgrade")
        assert numbers(database) == [1] * 100
        assert outcomes(database) == [("core_1", "done"), ("core_2", "done")]
        assert places(database) == []
        assert each.call("current").backfills == ()


STOPPING = """
from pathlib import Path

def change(rows):
    if rows[0].id > 150 and not Path("go").exists():
        raise ValueError("stop here")
    return [{"n": row.n + 1} for row in rows]

"""


@pytest.mark.drivers(*ONE_OF_EACH)
def test_a_backfill_that_fails_continues_where_it_stopped(project: Project, database: Database) -> None:
    write(project, f'{IMPORTS}{STOPPING}backfill("users", change, size=20)')
    with running(project, database) as each:
        with pytest.raises(RevisionFailedError) as caught:
            each.call("upgrade")
        assert "stop here" in str(caught.value)
        assert str(caught.value).endswith(
            "The 60 rows that its backfill of users has changed stay, and 'ampho db-up core_2' continues from there."
            " Completed before the failure: core_1."
        )
        assert numbers(database) == [1] * 60 + [0] * 40
        assert outcomes(database)[-1] == ("core_2", "backfill")
        project.write("go", "")
        each.call("upgrade")
        assert numbers(database) == [1] * 100
        assert [outcome for _, outcome in outcomes(database)][-1] == "done"
        assert "backfill" not in dict(outcomes(database)).values()
        assert places(database) == []


def fails(each: Facade) -> str:
    with pytest.raises(RevisionFailedError) as caught:
        each.call("upgrade")
    return str(caught.value)


TWICE = """
from pathlib import Path

def change(rows):
    if rows[-1].id > 150 and not Path("go").exists():
        raise ValueError("stop here")
    return [{"upper_name": row.name.upper()} for row in rows]

backfill("users", {"n": sa.text("n + 1")}, size=30)
backfill("users", change, "upper_name IS NULL", size=30)
op.add_column("users", sa.Column("after", sa.Integer))
"""


@pytest.mark.drivers(*ONE_OF_EACH)
def test_finished_backfills_are_skipped(project: Project, database: Database) -> None:
    write(project, IMPORTS + TWICE)
    with running(project, database) as each:
        fails(each)
        assert places(database) == [("core_2", 1, True), ("core_2", 2, False)]
        project.write("go", "")
        each.call("upgrade")
        assert numbers(database) == [1] * 100
        assert database.query("SELECT count(*) FROM users WHERE upper_name = 'U7'") == [(1,)]
        assert "after" in [column["name"] for column in database.schema()["tables"]["users"]["columns"]]
        assert places(database) == []


@pytest.mark.drivers(*ONE_OF_EACH)
def test_what_comes_after_a_backfill_is_run_again(project: Project, database: Database) -> None:
    after = 'from pathlib import Path\nop.add_column("users", sa.Column("after", sa.Integer))\n'
    write(project, f'{COUNT}\n{after}assert Path("go").exists(), "not yet"')
    with running(project, database) as each:
        said = fails(each)
        project.write("go", "")
        if database.backend != "mariadb":
            assert (
                "The 100 rows that its backfill of users has changed stay, and 'ampho db-up core_2' continues" in said
            )
            each.call("upgrade")
        else:  # the column is there
            assert "ampho db-resolve core_2 --applied" in said
            assert outcomes(database)[-1] == ("core_2", "partial")
            assert each.call("current").unfinished[0].statements == 1
            each.call("resolve", "core_2", applied=True)
        assert numbers(database) == [1] * 100
        assert places(database) == []


@pytest.mark.drivers(*ONE_OF_EACH)
def test_a_statement_that_fails_after_a_backfill_leaves_it_to_continue(project: Project, database: Database) -> None:
    write(project, f'{COUNT}\nop.add_column("users", sa.Column("n", sa.Integer))')
    with running(project, database) as each:
        assert "The 100 rows that its backfill of users has changed stay" in fails(each)
        assert [backfill.rows for backfill in each.call("status").backfills] == [100]
        plan = each.call("plan")
        assert plan.steps[0].in_transaction == ("no" if database.backend == "mariadb" else "partly")
        write(project, f'{COUNT}\nop.add_column("users", sa.Column("m", sa.Integer))')
    with running(project, database) as each:
        each.call("upgrade")
        assert numbers(database) == [1] * 100


@pytest.mark.drivers("sqlite+pysqlite")
def test_foreign_keys_are_checked_after_the_first_batch_and_at_the_end(project: Project, database: Database) -> None:
    table = (
        TABLE
        + """
op.create_table("pets", sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("owner", sa.Integer, sa.ForeignKey("users.id"), nullable=False))
op.bulk_insert(sa.table("pets", sa.column("id"), sa.column("owner")), [{"id": i, "owner": 3} for i in range(1, 101)])
"""
    )
    change = f"{IMPORTS}backfill('pets', {{'owner': sa.text('CASE WHEN id < 50 THEN 6 ELSE 7 END')}}, size=30)"
    first = change.replace("id < 50", "id > 50")
    url = database.url
    with facade(project, "flask", ["core"], url) as each:
        with each.app.app_context():
            event.listen(each.ampho.db.engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys = ON"))
        for code, done in ((first, 0), (change, 100)):
            write(project, code, table=table)
            assert "rows that violate a foreign key: pets to users" in fails(each)
            assert database.query("SELECT count(*) FROM pets WHERE owner <> 3") == [(done,)]


@pytest.mark.drivers(*ONE_OF_EACH)
def test_a_commit_after_a_backfill_follows_the_ordinary_rules(project: Project, database: Database) -> None:
    block = 'with op.get_context().autocommit_block():\n    op.execute("UPDATE users SET n = 7 WHERE id = 3")\n'
    write(project, f'{COUNT}\n{block}raise ValueError("too late")')
    with running(project, database) as each:
        said = fails(each)
        assert "ampho db-resolve core_2 --applied" in said
        assert outcomes(database)[-1] == ("core_2", "partial")
        assert each.call("current").backfills == ()
        each.call("resolve", "core_2", applied=False)
        assert places(database) == []


@pytest.mark.drivers("sqlite+pysqlite", "mariadb+pymysql")
@pytest.mark.parametrize(
    "before",
    [
        'op.add_column("users", sa.Column("before", sa.Integer))',
        'op.execute("UPDATE users SET n = 5")',
        'with op.get_context().autocommit_block():\n    op.execute("UPDATE users SET n = 5")',
    ],
    ids=["schema", "rows", "committed"],
)
def test_a_change_before_a_backfill_is_refused(project: Project, database: Database, before: str) -> None:
    write(project, f"{before}\n{COUNT}")
    with running(project, database) as each:
        said = fails(each)
        assert "the revision changes something before its backfill of users" in said
        assert "Put the backfill into a revision of its own, after this one" in said


@pytest.mark.drivers("postgresql+psycopg")
def test_a_first_batch_that_cannot_get_a_lock_is_retried_with_its_step(project: Project, database: Database) -> None:
    write(project, COUNT)
    with running(project, database, AMPHO_STATEMENT_LOCK_TIMEOUT=0.1) as each:
        each.call("upgrade", "core_1")
        with holding(database, "UPDATE users SET name = 'x' WHERE id = 3"):
            each.call("upgrade", observer=_Releasing())
        assert numbers(database) == [1] * 100


class _Releasing(Observer):
    """Ends the transaction of another session when the run waits for it."""

    def retrying(self, step: Step, seconds: float) -> None:
        OTHERS.pop()()


OTHERS: list[Callable[[], object]] = []


@contextmanager
def holding(database: Database, statement: str) -> Iterator[None]:
    """Hold the locks of a statement in another session, until what is in OTHERS is called."""
    with database.connect() as connection:
        connection.execute(text("BEGIN"))
        connection.execute(text(statement))
        OTHERS.append(lambda: connection.execute(text("ROLLBACK")))
        try:
            yield
        finally:
            while OTHERS:
                OTHERS.pop()()


@pytest.mark.drivers("postgresql+psycopg", "mariadb+pymysql")
def test_a_batch_that_cannot_get_a_lock_is_tried_again(project: Project, database: Database) -> None:
    write(project, COUNT)
    held = []

    class Holds(Observer):
        def executing(self, statement: object) -> None:
            said = str(statement)
            if "UPDATE users" in said and len(held) < 2:
                held.append(said)
                if len(held) == 2:  # the second batch
                    stack.enter_context(holding(database, "UPDATE users SET name = 'x' WHERE id = 120"))
            elif "UPDATE users" in said and OTHERS:
                OTHERS.pop()()

    with running(project, database, AMPHO_STATEMENT_LOCK_TIMEOUT=1) as each, ExitStack() as stack:
        each.call("upgrade", observer=Holds())
        assert numbers(database) == [1] * 100
        assert outcomes(database) == [("core_1", "done"), ("core_2", "done")]


@pytest.mark.drivers(*ONE_OF_EACH)
def test_a_small_table_is_changed_in_the_revisions_transaction(project: Project, database: Database) -> None:
    small = COUNT.replace(", size=30", "")
    write(
        project, f'{small}\nbackfill("users", {{"upper_name": sa.func.upper(sa.column("name"))}})\nraise ValueError(1)'
    )
    seen = Statements()
    with running(project, database) as each:
        with pytest.raises(RevisionFailedError, match=r"ransaction was rolled back|None of its changes|may remain"):
            each.call("upgrade", observer=seen)
        assert numbers(database) == [0] * 100
        assert len([each for each in seen.texts if "UPDATE users" in each]) == 2
        assert f"{JOURNAL}_backfill" not in seen.tables(database) or database.backend == "mariadb"


class Statements(Observer):
    def __init__(self) -> None:
        self.texts: list[str] = []
        self.progress: list[BackfillProgress] = []

    def executing(self, statement: object) -> None:
        self.texts.append(str(statement))

    def progressed(self, step: Step, progress: BackfillProgress) -> None:
        self.progress.append(progress)

    def tables(self, database: Database) -> list[str]:
        with database.connect() as connection:
            return inspect(connection).get_table_names()


@pytest.mark.drivers(*ONE_OF_EACH)
def test_a_small_backfill_is_not_repeated_after_a_large_one(project: Project, database: Database) -> None:
    code = f"""
{IMPORTS}{STOPPING}
backfill("users", {{"n": sa.text("n + 1")}})
backfill("users", change, size=20)
"""
    write(project, code)
    with running(project, database) as each:
        fails(each)
        assert sorted(set(numbers(database))) == [1, 2]
        project.write("go", "")
        each.call("upgrade")
        assert numbers(database) == [2] * 100


@pytest.mark.drivers(*ONE_OF_EACH)
def test_the_place_is_forgotten_when_a_person_says_so(project: Project, database: Database) -> None:
    write(project, f'{IMPORTS}{STOPPING}backfill("users", change, size=20)')
    with running(project, database) as each:
        fails(each)
        state = each.call("status")
        assert [str(backfill) for backfill in state.backfills] == ["backfill of users: 60 rows done"]
        assert state.pending == 1
        line = each.error_line("db-down")
        assert line == (
            "The upgrade of core_2 of core has stopped in a backfill (backfill of users: 60 rows done). Continue it"
            " with 'ampho db-up core_2', or mark the revision with 'ampho db-resolve core_2 --applied' or"
            " '--not-applied',"
            " which discards its progress."
        )
        assert "interrupted, in its backfill of users: 60 rows done. If" in " ".join(
            each.run("db-current").output.split()
        )
        each.call("resolve", "core_2", applied=False)
        assert places(database) == []
        assert each.call("status").backfills == ()
        project.write("go", "")
        each.call("upgrade")
        assert sorted(set(numbers(database))) == [1, 2]  # it started over


@pytest.mark.drivers(*ONE_OF_EACH)
def test_a_revision_that_is_stamped_forgets_its_place(project: Project, database: Database) -> None:
    write(project, f'{IMPORTS}{STOPPING}backfill("users", change, size=20)')
    with running(project, database) as each:
        fails(each)
        each.call("stamp", "core_2")
        assert places(database) == []
        assert each.call("status").backfills == ()
        assert each.call("upgrade").steps == ()


@pytest.mark.drivers("sqlite+pysqlite", "mariadb+pymysql")
def test_a_place_is_forgotten_with_the_revisions_before_it(project: Project, database: Database) -> None:
    write(project, f'{IMPORTS}{STOPPING}backfill("users", change, size=20)')
    with running(project, database) as each:
        fails(each)
        each.call("stamp", "core_1")  # as it is
        assert places(database) != []
        each.call("stamp", "base")
        assert places(database) == []
        database.run("DROP TABLE users")
        project.write("go", "")
        each.call("upgrade")
        assert numbers(database) == [1] * 100


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg")
def test_a_backfill_starts_over_after_a_downgrade(project: Project, database: Database) -> None:
    path = write(project, f'{IMPORTS}{STOPPING}backfill("users", change, size=20)')
    go = project.write("go", "")
    with running(project, database) as each:
        each.call("upgrade")
        each.call("downgrade")
        go.unlink()
        fails(each)
        assert sum(numbers(database)) == 160
        each.call("resolve", "core_2", applied=True)
        each.call("downgrade")
        project.write("go", "")
        each.call("upgrade")
        assert numbers(database) == [3] * 60 + [2] * 40
        assert path.exists()


@pytest.mark.drivers("sqlite+pysqlite")
def test_a_backfill_of_a_squashed_revision_continues(project: Project, database: Database) -> None:
    write(project, f'{IMPORTS}{STOPPING}backfill("users", change, size=20)')
    with running(project, database) as each:
        fails(each)
        go = project.write("go", "")
        each.call("squash", "core", accept=True)
        go.unlink()
    with running(project, database) as each:
        assert fails(each).count("replaced/core_2") == 1
        assert [backfill.rows for backfill in each.call("status").backfills] == [60]
        project.write("go", "")
        each.call("upgrade")
        assert numbers(database) == [1] * 100
        assert outcomes(database)[-1][1] == "replaced"
        assert places(database) == []


@pytest.mark.drivers("postgresql+psycopg")
def test_the_tenants_of_a_schema_continue_each_at_its_place(project: Project, database: Database) -> None:
    fleet = schemas(project, database, 2)
    project.revision("orders", "orders_2", "orders_1", upgrade=TABLE)
    fill = f'{IMPORTS}{STOPPING}backfill("users", change, size=20, pause=0.01)'
    project.revision("orders", "orders_3", "orders_2", upgrade=fill)
    failed = project.run("ampho", "db-up", "--all", "-k", "--json", check=False)
    command = "'ampho db-up orders_3 --database tenants/t001' continues from there"
    assert command in str([each["cause"] for each in json.loads(failed.stdout)["fleet"]["failures"]])
    for name in fleet.names:
        assert fleet.query(name, f"SELECT rows FROM {{}}.{JOURNAL}_backfill") == [60]
    project.write("go", "")
    project.run("ampho", "db-up", "--all")
    for name in fleet.names:
        assert fleet.query(name, "SELECT DISTINCT n FROM {}.users") == [1]
        assert fleet.query(name, f"SELECT count(*) FROM {{}}.{JOURNAL}_backfill") == [0]


@pytest.mark.drivers("postgresql+asyncpg")
def test_the_place_is_beside_the_version_table(project: Project, database: Database) -> None:
    database.run("CREATE SCHEMA meta")
    project.package("core")
    with running(project, database) as each:
        each.call("init", "core")
    env = project.migrations("core") / "env.py"
    options = "**environment.options()"
    env.write_text(env.read_text("utf-8").replace(options, f"{options}, version_table_schema='meta'"), "utf-8")
    write(project, f'{IMPORTS}{STOPPING}backfill("users", change, size=20)')
    with running(project, database) as each:
        fails(each)
        assert database.query(f"SELECT rows FROM meta.{JOURNAL}_backfill") == [(60,)]
        project.write("go", "")
        each.call("upgrade")
        assert numbers(database) == [1] * 100


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg")
def test_a_clone_of_a_template_has_no_place(
    project: Project, database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    write(project, COUNT)

    def clone(commands: Commands) -> Any:
        with (
            commands.template() as template,
            template.clone() as made,
            template.engine(made).connect() as connection,
        ):
            return connection.execute(
                text(f"SELECT (SELECT count(*) FROM {JOURNAL}_backfill), (SELECT sum(n) FROM users)")
            ).one()

    with running(project, database) as each:
        assert each.call("call", clone) == (0, 100)


@pytest.mark.drivers(*ONE_OF_EACH)
def test_a_changed_file_is_reported(project: Project, database: Database) -> None:
    code = f'{IMPORTS}{STOPPING}backfill("users", change, size=20)'
    write(project, code)
    with running(project, database) as each:
        fails(each)
        write(project, code.replace('raise ValueError("stop here")', "pass"))
        warned: list[str] = []

        class Warned(Observer):
            def warned(self, message: str) -> None:
                warned.append(message)

        each.call("upgrade", observer=Warned())
        assert numbers(database) == [1] * 100
        assert warned == [
            (
                "The file of core_2 has changed since its backfill of users was interrupted. It continues after the"
                " 60 rows that the earlier file has changed. To start over, interrupt this command, and run"
                " 'ampho db-resolve core_2 --not-applied'."
            )
        ]


@pytest.mark.drivers("sqlite+pysqlite")
def test_another_backfill_in_its_place_is_refused(project: Project, database: Database) -> None:
    write(project, f'{IMPORTS}{STOPPING}backfill("users", change, size=20)')
    with running(project, database) as each:
        fails(each)
        write(project, f'{IMPORTS}backfill("users", {{"n": 5}}, key=["id", "n"], size=20)')
        assert "is not unique" in fails(each)
        write(project, f'{IMPORTS}backfill("core", {{"n": 5}}, size=20)', table=TABLE)
        assert "there is no table core" in fails(each)
        write(project, f'{IMPORTS}backfill("ampho_journal", {{"host": "x"}}, size=20)')
        said = fails(each)
        assert "the file has changed since the backfill of users by id was interrupted after 60 rows, and now" in said
        assert "has a backfill of ampho_journal by id in its place. Restore the file, or run" in said
        assert each.call("status").backfills[0].rows == 60


KEYS = {
    "composite": (
        (
            'sa.Column("a", sa.Integer, primary_key=True, autoincrement=False), sa.Column("b", sa.String(20),'
            " primary_key=True)"
        ),
        '{"a": number // 7, "b": f"b{number}"}',
    ),
    "uuid": (
        'sa.Column("id", sa.Uuid, primary_key=True)',
        '{"id": __import__("uuid").uuid5(__import__("uuid").NAMESPACE_URL, str(number))}',
    ),
    "moment": (
        'sa.Column("at", sa.DateTime, primary_key=True)',
        '{"at": __import__("datetime").datetime(2020, 1, 1, number % 24, number % 60, number % 50)}',
    ),
    "day": (
        'sa.Column("on", sa.Date, primary_key=True)',
        '{"on": __import__("datetime").date(2020, 1, 1) + __import__("datetime").timedelta(number)}',
    ),
    "decimal": ('sa.Column("id", sa.Numeric(8, 2), primary_key=True, autoincrement=False)', '{"id": number * 1.25}'),
    "bytes": ('sa.Column("id", BYTES, primary_key=True)', '{"id": str(number).encode()}'),
    "flag": (
        'sa.Column("is_old", sa.Boolean, primary_key=True), sa.Column("id", sa.Integer, primary_key=True)',
        '{"is_old": number % 2 == 1, "id": number - 50}',
    ),
    "cased": (
        'sa.Column("id", sa.String(9), primary_key=True)',
        '{"id": f"{chr(65 + number % 26)}{chr(122 - number)}"}',
    ),
    "unique": (
        'sa.Column("id", sa.Integer, primary_key=True), sa.Column("code", sa.String(9), nullable=False, unique=True)',
        '{"id": 1000 - number, "code": f"c{number}"}',
    ),
}


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg", "mariadb+pymysql")
def test_ctrl_c_leaves_the_backfill_to_continue(project: Project, database: Database) -> None:
    write(project, f'{IMPORTS}{STOPPING.replace("ValueError", "KeyboardInterrupt")}backfill("users", change, size=20)')
    with running(project, database) as each:
        with pytest.raises(KeyboardInterrupt):
            each.call("upgrade")
        assert numbers(database) == [1] * 60 + [0] * 40
        said = each.error_line("db-up", "-s")
        assert said.startswith(
            "The upgrade of core_2 of core has stopped in a backfill (backfill of users: 60 rows done)"
        )
        project.write("go", "")
        each.call("upgrade")
        assert numbers(database) == [1] * 100


CUT = {
    "postgresql": "SELECT pg_terminate_backend(pg_backend_pid())",
    "mariadb": "KILL CONNECTION_ID()",
}


@pytest.mark.drivers("postgresql+psycopg", "mariadb+asyncmy")
def test_a_lost_connection_leaves_the_backfill_to_continue(project: Project, database: Database) -> None:
    cut = f'op.execute("{CUT[database.backend]}")'
    write(project, f'{IMPORTS}{STOPPING.replace(_RAISE, cut)}backfill("users", change, size=20)')
    with running(project, database) as each:
        assert "The 60 rows that its backfill of users has changed stay" in fails(each)
        assert [backfill.rows for backfill in each.call("status").backfills] == [60]
        project.write("go", "")
        each.call("upgrade")
        assert numbers(database) == [1] * 100


def test_the_command_line_shows_how_far_a_backfill_is(
    project: Project, monkeypatch: pytest.MonkeyPatch, make_database: Callable[[str], Database]
) -> None:
    monkeypatch.setattr(reporter, "PROGRESS_SECONDS", 0)
    write(project, COUNT)
    with running(project, make_database("sqlite+pysqlite")) as each:
        assert "\n    core_2: backfill of users: 100 rows, " in each.run("db-up").output
        step = each.call("plan", "base", direction="downgrade").steps[0]
    progress = BackfillProgress("users", 5, 5, 9, 1.0, 4.0)
    display = Display()
    display._steps = [(step.database, step.revision.id)]
    display.started(step)
    display.progressed(step, progress)
    console = Console(file=io.StringIO(), width=100)
    console.print(display._rows(Spinner("line"), is_ascii=True))
    assert "backfill of users: 5 of about 9 rows, 1 rows/s, about 4 s left" in console.file.getvalue()  # type: ignore[attr-defined]
    sent: list[str | None] = []
    feed = Feed(sent.append)
    feed.started(step)
    feed.progressed(step, progress)
    assert "backfill of users: 5 of about 9 rows" in feed.pulse()


FUNCTION = """
from pathlib import Path

def change(table):
    def count(rows):
        done = op.get_bind().scalar(sa.text(f"SELECT count(*) FROM {table} WHERE n > 0"))
        if done > 30 and not Path(table).exists():
            Path(table).touch()
            raise ValueError("stop here")
        return [{"n": row.n + 1} for row in rows]
    return count

"""


@pytest.mark.drivers(*ONE_OF_EACH)
def test_keys_of_any_kind(project: Project, database: Database) -> None:
    binary = "sa.VARBINARY(8)" if database.backend == "mariadb" else "sa.LargeBinary"
    tables, code = f"BYTES = {binary}\n", IMPORTS + FUNCTION
    for kind, (columns, values) in KEYS.items():
        tables += f"""
op.create_table("t_{kind}", {columns}, sa.Column("n", sa.Integer, nullable=False))
table = sa.Table("t_{kind}", sa.MetaData(), {columns}, sa.Column("n", sa.Integer))
op.bulk_insert(table, [{values} | {{"n": 0}} for number in range(1, 101)])
"""
        key = ', key="code"' if kind == "unique" else ""
        code += f'backfill("t_{kind}", change("t_{kind}"), size=17{key})\n'
    write(project, code, table=tables)
    with running(project, database) as each:
        for _ in KEYS:
            assert "stop here" in fails(each)
        each.call("upgrade")
        for kind in KEYS:
            assert database.query(f"SELECT count(*), min(n), max(n) FROM t_{kind}") == [(100, 1, 1)], kind


@pytest.mark.drivers("sqlite+pysqlite")
def test_keys_in_the_form_of_another_program_on_sqlite(project: Project, database: Database) -> None:
    table = """
op.create_table("t", sa.Column("at", sa.DateTime, primary_key=True), sa.Column("part", sa.Numeric(8, 2),
    primary_key=True), sa.Column("n", sa.Integer, nullable=False))
for number in range(1, 41):
    form = "T" if number % 2 else " "
    op.execute(f"INSERT INTO t VALUES ('2020-01-01{form}00:00:{number // 4:02}', {number} + 0.004, 0)")
"""
    code = 'backfill("t", {"n": sa.text("n + 1")}, size=7)\n'
    code += 'backfill("t", lambda rows: [{"n": row.n + row.at.year} for row in rows], size=7)'
    write(project, IMPORTS + code, table=table)
    with running(project, database) as each:
        each.call("upgrade")
    assert database.query("SELECT count(*), min(n), max(n) FROM t") == [(40, 2021, 2021)]


NO_KEYS = {
    'sa.Column("id", sa.Float, primary_key=True, autoincrement=False)': "of the table t cannot be compared exactly",
    'sa.Column("id", sa.Integer)': "the table t has no primary key. Pass key= with columns that are unique",
    'sa.Column("id", sa.Time, primary_key=True)': "cannot be recorded. Pass key= with columns of another type",
}


@pytest.mark.drivers("postgresql+psycopg", "mariadb+pymysql")
def test_keys_that_cannot_divide_a_table_are_refused(project: Project, database: Database) -> None:
    tables = code = ""
    for number, column in enumerate(NO_KEYS):
        tables += f'op.create_table("t{number}", {column}, sa.Column("n", sa.Integer))\n'
    tables += """
op.create_table("t3", sa.Column("a", sa.Integer, nullable=False), sa.Column("b", sa.Integer),
    sa.Column("n", sa.Integer), sa.UniqueConstraint("a", "b"))
op.execute("INSERT INTO t2 VALUES ('10:00', 0), ('11:00', 0)")
"""
    messages = [words.replace("table t", f"table t{number}") for number, words in enumerate(NO_KEYS.values())]
    messages.append("b of the table t3 may be NULL. Pass key= with columns that may not")
    with running(project, database) as each:
        for number, words in enumerate(messages):
            key = ', key=["a", "b"]' if number == 3 else ""
            code = f'{IMPORTS}backfill("t{number}", {{"n": 1}}, size=1{key})'
            write(project, code, table=tables)
            assert words in fails(each)


# ---- which rows ----

UPPER = f"""{IMPORTS}
users = sa.table("users", sa.column("id"), sa.column("name"), sa.column("upper_name"))
backfill("users", {{"upper_name": sa.func.upper(users.c.name)}}, users.c.upper_name.is_(None), size=30)
"""


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg")
@pytest.mark.parametrize("size", [30, 100])
def test_where_names_the_rows_in_text_or_as_an_expression(project: Project, database: Database, size: int) -> None:
    path = write(project, UPPER.replace("30", str(size)))
    with running(project, database) as each:
        each.call("upgrade", "core_1")
        database.run("UPDATE users SET upper_name = 'kept' WHERE id <= 90")
        seen = Statements()
        each.call("upgrade", observer=seen)
        assert database.query("SELECT count(*) FROM users WHERE upper_name = 'kept'") == [(30,)]
        assert database.query("SELECT count(*) FROM users WHERE upper_name LIKE 'U%'") == [(70,)]
        assert [progress.rows for progress in seen.progress] == ([70] if size == 30 else [])
        assert path.exists()


OLD_RELEASE = """
engine = sa.create_engine(op.get_bind().engine.url, poolclass=sa.NullPool)
written = []

def change(rows):
    if rows[0].id > 100 and len(written) < 3:
        written.append(rows)
        with engine.begin() as other:
            other.execute(sa.text("UPDATE users SET upper_name = NULL WHERE id = 3"))
    return [{"upper_name": row.name.upper()} for row in rows]

backfill("users", change, "upper_name IS NULL", size=30)
"""


@pytest.mark.drivers("postgresql+psycopg", "mariadb+pymysql")
def test_rows_that_are_written_meanwhile_are_found(project: Project, database: Database) -> None:
    write(project, IMPORTS + OLD_RELEASE)
    with running(project, database) as each:
        each.call("upgrade")
        assert database.query("SELECT count(*) FROM users WHERE upper_name IS NULL") == [(0,)]


@pytest.mark.drivers("postgresql+psycopg")
@pytest.mark.parametrize(("where", "below"), [(None, 0), ("n = 0", 1)])
def test_rows_that_are_inserted_below_the_place_need_where(
    project: Project, database: Database, where: str | None, below: int
) -> None:
    code = f"""
engine = sa.create_engine(op.get_bind().engine.url, poolclass=sa.NullPool)
written = []

def change(rows):
    if rows[0].id > 100 and not written:
        written.append(rows)
        with engine.begin() as other:
            other.execute(sa.text("INSERT INTO users (id, n, name) VALUES (-5, 0, 'x'), (4, 0, 'x'), (299, 0, 'y')"))
    return [{{"n": row.n + 1}} for row in rows]

backfill("users", change, {where!r}, size=30)
"""
    write(project, IMPORTS + code)
    with running(project, database) as each:
        each.call("upgrade")
    assert database.query("SELECT DISTINCT n FROM users WHERE name = 'x'") == [(below,)]
    assert database.query("SELECT DISTINCT n FROM users WHERE name <> 'x'") == [(1,)]


@pytest.mark.drivers("postgresql+psycopg")
def test_a_backfill_that_never_ends_says_so(project: Project, database: Database) -> None:
    code = """
engine = sa.create_engine(op.get_bind().engine.url, poolclass=sa.NullPool)

def change(rows):
    with engine.begin() as other:  # the rows of this batch are locked, so the others
        other.execute(sa.text("UPDATE users SET upper_name = NULL WHERE id < :a OR id > :b"),
            {"a": rows[0].id, "b": rows[-1].id})
    return [{"upper_name": row.name.upper()} for row in rows]

backfill("users", change, "upper_name IS NULL", size=60)
"""
    write(project, IMPORTS + code)
    with running(project, database) as each:
        said = fails(each)
        assert "after 10 passes, where= still selects" in said
        assert "rows of the table users. If set= does not change them" in said


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg")
@pytest.mark.parametrize("size", [30, 100])
def test_a_where_that_stays_true_is_refused_at_once(project: Project, database: Database, size: int) -> None:
    write(project, f'{IMPORTS}backfill("users", {{"n": sa.text("n + 1")}}, "id > 0", size={size})')
    with running(project, database) as each:
        assert f"where= still selects the {size} rows that set= has just changed. Write a condition" in fails(each)
        assert numbers(database) == [0] * 100


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg")
def test_a_function_may_leave_most_rows_as_they_are(project: Project, database: Database) -> None:
    """The changed rows are not selected any more; the others are the reason of the error then."""
    function = 'lambda rows: [{"n": 1} if row.id % 30 == 0 else None for row in rows]'
    write(project, f'{IMPORTS}backfill("users", {function}, "n = 0", size=40)')
    with running(project, database) as each:
        assert "after 10 passes, where= still selects 90 rows of the table users. If set= does not" in fails(each)


@pytest.mark.drivers("postgresql+psycopg")
def test_a_key_is_unique_in_all_rows(project: Project, database: Database) -> None:
    more = """
op.create_index("names", "users", ["name"], unique=True, postgresql_where=sa.text("n > 0"))
op.create_index("numbers", "users", ["n", sa.text("lower(name)")], unique=True)
"""
    for key in ("name", "n"):
        write(project, f'{IMPORTS}backfill("users", {{"n": 1}}, key="{key}")', table=TABLE + more)
        with running(project, database) as each:
            assert f"key= names {key}, which is not unique in the table users" in fails(each)


@pytest.mark.drivers("mariadb+pymysql")
def test_labels_are_no_key(project: Project, database: Database) -> None:
    table = """
op.create_table("users", sa.Column("kind", sa.Enum("z", "a"), primary_key=True), sa.Column("n", sa.Integer))
op.execute("INSERT INTO users VALUES ('z', 0), ('a', 0)")
"""
    write(project, f'{IMPORTS}backfill("users", {{"n": 1}})', table=table)
    with running(project, database) as each:
        assert "kind of the table users cannot be used, because the server sorts labels by their number" in fails(each)


@pytest.mark.drivers("sqlite+pysqlite")
def test_a_downgrade_may_have_a_backfill(project: Project, database: Database) -> None:
    down = f'{IMPORTS}{STOPPING}backfill("users", change, size=20)'
    write(project, "pass", down=down)
    with running(project, database) as each:
        each.call("upgrade")
        with pytest.raises(RevisionFailedError, match="'ampho db-down' continues from there"):
            each.call("downgrade")
        assert each.error_line("db-up").startswith("The downgrade of core_2 of core has stopped in a backfill")
        assert "The downgrade of core_2 is running" in each.run("db-status").output
        assert "core_2  by hand  (head; unfinished)" in each.run("db-graph").output
        assert each.run("db-check", "--deploy").exit_code == each.run("db-status", "--check").exit_code == 15
        behind = each.run("db-check", "--deploy", "--phase", "pre").output
        assert "core_2 of core: only partly reverted, because a backfill was interrupted; continue with" in behind
        assert "Waiting for core_2 to be finished or resolved" in each.run("db-wait", "--timeout", "2").output
        project.write("go", "")
        each.call("downgrade")
        assert numbers(database) == [1] * 100
        assert each.run("db-check", "--deploy").exit_code == 10


@pytest.mark.drivers(*ONE_OF_EACH)
def test_an_interrupted_downgrade_goes_on_although_another_revision_was_applied_later(
    project: Project, database: Database
) -> None:
    down = f'{IMPORTS}{STOPPING}backfill("users", change, size=20)'
    write(project, "pass", down=down)
    project.package("shop")
    project.revision("shop", "shop_1", upgrade="op.create_table('shops', sa.Column('id', sa.Integer))")
    framework = "quart" if database.is_async else "flask"
    with facade(project, framework, ["core", "shop"], database.url) as each:
        each.call("upgrade", "core")
        each.call("upgrade", "shop")
        assert "'ampho db-down' continues from there" in each.error_line("db-down", "core@-1")
        project.write("go", "")
        assert "core_2" in each.run("db-down", "--yes").output
        assert numbers(database) == [1] * 100
        assert "shops" in database.tables()


# ---- what is refused ----

REFUSED = {
    "no table": ('backfill("user", {"n": 1})', "there is no table user. Did you mean users?"),
    "no column": ('backfill("users", {"nn": 1})', "the table users has no column nn"),
    "no column of a function": (
        'backfill("users", lambda rows: [{"nn": 1} for _ in rows])',
        "the table users has no column nn",
    ),
    "no key": ('backfill("users", {"n": 1}, key="idd")', "key= names idd, and the table users has no such column"),
    "not unique": ('backfill("users", {"n": 1}, key="n")', "key= names n, which is not unique in the table users"),
    "NULL": ('backfill("users", {"n": 1}, key="code")', "code of the table users may be NULL. Pass key="),
    "partly unique": ('backfill("users", {"n": 1}, key="name")', "key= names name, which is not unique in the table"),
    "unique with more": ('backfill("users", {"n": 1}, key="n")', "key= names n, which is not unique in the table"),
    "no return": (
        'backfill("users", lambda rows: None)',
        "the function returned NoneType. Return a list with one value",
    ),
    "text": ('backfill("users", lambda rows: ["a"] * 100)', "the function returned str for a row. Return a list with"),
    "rows": ('backfill("users", lambda rows: rows)', "the function returned Row for a row. Return a list with one"),
    "no primary key": ('backfill("loose", {"n": 1})', "the table loose has no primary key. Pass key= with columns"),
    "too few": ('backfill("users", lambda rows: [])', "the function returned 0 values for 100 rows. Return a list"),
    "size": ('backfill("users", {"n": 1}, size=0)', "size= is 0; it has to be at least 1"),
    "pause": ('backfill("users", {"n": 1}, pause=-1)', "pause= is -1; it has to be 0 or more seconds"),
    "nothing": ('backfill("users", {})', "set= has to be a dictionary with the new values by column, or a function"),
    "NULL on SQLite": ('backfill("nulls", {"n": 1})', "id of the table nulls may be NULL. Pass key="),
}


@pytest.mark.drivers("sqlite+pysqlite")
def test_a_call_that_cannot_work_names_the_remedy(project: Project, database: Database) -> None:
    more = """
op.add_column("users", sa.Column("code", sa.String(9)))
op.create_index("codes", "users", ["code"], unique=True)
op.create_index("names", "users", ["name"], unique=True, sqlite_where=sa.text("n > 0"))
op.create_index("numbers", "users", ["n", sa.text("lower(name)")], unique=True)
op.create_table("loose", sa.Column("n", sa.Integer))
op.execute("CREATE TABLE nulls (id TEXT PRIMARY KEY, n INTEGER)")
op.execute("INSERT INTO nulls VALUES (NULL, 0), ('a', 0)")
"""
    write(project, "pass", table=TABLE + more)
    with running(project, database) as each:
        each.call("upgrade", "core_1")
        for name, (code, said) in REFUSED.items():
            write(project, IMPORTS + code, table=TABLE + more)
            assert said in fails(each), name


@pytest.mark.drivers(*ONE_OF_EACH)
def test_a_backfill_is_written_as_one_statement(project: Project, database: Database) -> None:
    write(project, UPPER)
    with running(project, database) as each:
        each.call("upgrade", "core_1")
        sql = each.call("upgrade_sql")
        assert "UPDATE users SET upper_name=upper(name) WHERE users.upper_name IS NULL;" in sql
        write(project, f'{IMPORTS}backfill("users", {{"data": bytes([97, 0, 255, 39])}})')
        database.run(f"ALTER TABLE users ADD data {'BYTEA' if database.backend == 'postgresql' else 'VARBINARY(9)'}")
        database.client(each.call("upgrade_sql"))
        assert {bytes(data) for (data,) in database.query("SELECT data FROM users")} == {b"a\0\xff'"}
        each.call("stamp", "core_1")
        write(project, f'{IMPORTS}backfill("users", lambda rows: [])')
    with running(project, database) as each, pytest.raises(RenderError) as caught:
        each.call("upgrade_sql")
    assert "core_2 of core cannot be written as SQL" in str(caught.value)
    assert "the backfill of users calls a function, which reads data. The revision needs a live" in str(caught.value)


@pytest.mark.drivers("sqlite+pysqlite", "mariadb+pymysql")
@pytest.mark.parametrize("where", ["None", '"upper_name IS NULL"'], ids=["all", "where"])
def test_without_a_journal(project: Project, database: Database, where: str) -> None:
    code = f"""
{IMPORTS}
from pathlib import Path

def change(rows):
    if rows[-1].id > 150 and not Path("go").exists():
        raise ValueError("stop here")
    return [{{"n": row.n + 1, "upper_name": "x"}} for row in rows]

backfill("users", change, {where}, size=20)
"""
    write(project, code)
    with running(project, database, AMPHO_JOURNAL_TABLE=None) as each:
        fails(each)
        assert sum(numbers(database)) == (0 if where == "None" else 40)
        project.write("go", "")
        each.call("upgrade")
        assert numbers(database) == [1] * 100


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg", "mariadb+pymysql")
def test_plain_alembic_runs_a_backfill_with_where_in_batches(project: Project, database: Database) -> None:
    project.package("core")
    project.app("flask", ["core"], database.url)
    with running(project, database) as each:
        each.call("init", "core")
    write(project, UPPER)
    environment = {"PYTHONPATH": str(project.folder)}
    project.run("alembic", "-c", "core/migrations/alembic.ini", "upgrade", "heads", env=environment)
    assert database.query("SELECT count(*) FROM users WHERE upper_name LIKE 'U%'") == [(100,)]
    assert database.rows() == ["core_2"]


# ---- how busy the database is, and what is said ----


@pytest.mark.drivers("postgresql+asyncpg")
def test_a_backfill_waits_for_sessions_that_wait_for_its_table(project: Project, database: Database) -> None:
    write(project, COUNT)
    awaited: list[str] = []
    threads: list[Thread] = []

    class Queues(Observer):
        def awaiting(self, what: str) -> None:
            awaited.append(what)
            OTHERS.pop()()

        def executing(self, statement: object) -> None:
            if "INSERT INTO ampho_journal_backfill" in str(statement) and not threads:
                stack.enter_context(holding(database, "LOCK TABLE users IN ROW SHARE MODE"))
                threads.append(Thread(target=_queue, args=(database,)))
                threads[0].start()
                _wait_for_queue(database)

    with running(project, database) as each, ExitStack() as stack:
        each.call("upgrade", observer=Queues())
        threads[0].join()
        assert awaited == ["the sessions that wait for a lock of the table users"]
        assert numbers(database) == [1] * 100


@pytest.mark.usefixtures("unmeasured_processes")
def test_a_backfill_waits_for_a_replica_that_lags(project: Project, data: Path, tmp_path: Path) -> None:
    """The replica stops to apply what it gets, until the backfill waits for it."""
    write(project, COUNT.replace("size=30", "size=4, pause=0.1, max_lag=0.5"))
    awaited: list[str] = []
    owner = os.getpid()
    with ExitStack() as stack:
        try:
            primary = stack.enter_context(own_server("postgresql", data / "primary", owner))
            replica = stack.enter_context(streaming_replica(primary, data / "replica", owner))
        except ServerMissingError as error:
            pytest.skip(str(error))
        database = stack.enter_context(database_on(primary, "postgresql+psycopg", tmp_path))
        each = stack.enter_context(running(project, database))

        class Resumes(Observer):
            def awaiting(self, what: str) -> None:
                awaited.append(what)
                assert 0 < sum(numbers(database)) < 100
                replica.execute("SELECT pg_wal_replay_resume()")

        each.call("upgrade", "core_1")
        replica.execute("SELECT pg_wal_replay_pause()")
        each.call("upgrade", observer=Resumes())
        assert awaited == ["a replica that lags by more than 0.5 s"]
        assert numbers(database) == [1] * 100


def _queue(database: Database) -> None:
    with database.connect() as other:
        for statement in ("BEGIN", "LOCK TABLE users IN ACCESS EXCLUSIVE MODE", "ROLLBACK"):
            other.execute(text(statement))


def _wait_for_queue(database: Database) -> None:
    deadline = time.monotonic() + 20
    while not database.query("SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'users'::regclass"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_how_far_a_backfill_has_come_in_words() -> None:
    assert str(BackfillProgress("users", 900, 1200, 2400, 400.0, 3.0)) == (
        "backfill of users: 1,200 of about 2,400 rows, 400 rows/s, about 3 s left"
    )
    assert str(BackfillProgress("users", 9, 12, None, 4.0, None)) == "backfill of users: 12 rows, 4 rows/s"
    assert str(BackfillProgress("users", 9, 12, 10, 4.0, 0.0)) == "backfill of users: 12 rows, 4 rows/s"
    assert str(BackfillProgress("users", 9, 12, 99, 4.0, 3700.5)).endswith("about 1:01:40 left")


@pytest.mark.drivers("sqlite+pysqlite")
def test_the_size_of_the_batches_adapts(project: Project, database: Database) -> None:
    rows = "WITH RECURSIVE g(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g WHERE i < 30000)"
    table = TABLE.partition("op.bulk_insert")[0] + f'op.execute("INSERT INTO users {rows} SELECT i, 0, i, NULL FROM g")'
    write(project, f'{IMPORTS}backfill("users", {{"n": sa.text("n + 1")}})', table=table)
    seen = Statements()
    with running(project, database) as each:
        each.call("upgrade", observer=seen)
    assert database.query("SELECT count(*), min(n), max(n) FROM users") == [(30000, 1, 1)]
    assert [(progress.rows, progress.total) for progress in seen.progress[-1:]] == [(30000, 30000)]
    assert len([each for each in seen.texts if "UPDATE users" in each]) > 1
