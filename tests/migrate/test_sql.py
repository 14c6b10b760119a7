"""``-s`` prints the SQL that would run now; the database's own client then does what the command would have done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zigzag
from project import Project
from servers import Database
from zigzag import PACKAGES, Shop

Make = Callable[[str], Database]

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

TYPES = f"""
import datetime, decimal, uuid
table = op.create_table(
    "types",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("truth", sa.Boolean, nullable=False),
    sa.Column("price", sa.Numeric(12, 4), nullable=False),
    sa.Column("day", sa.Date, nullable=False),
    sa.Column("moment", sa.DateTime, nullable=False),
    sa.Column("key", sa.Uuid, nullable=False),
    sa.Column("kind", sa.Enum("half", "it's 100 %", name="kind"), nullable=False),
    sa.Column("note", sa.Text, nullable=False, server_default="50 % of :x"),
)
op.bulk_insert(
    table,
    [
        dict(
            id=number,
            truth=number == 2,
            price=decimal.Decimal("12.3400"),
            day=datetime.date(2026, 2, 28),
            moment=datetime.datetime(2026, 2, 28, 23, 59, 58),
            key=uuid.UUID(int=number),
            kind="it's 100 %",
            note=note,
        )
        for number, note in enumerate([{zigzag.TRICKY!r}, "", "two\\nlines", "ends in \\\\"], 1)
    ],
)
op.execute("UPDATE types SET price = price + 1 WHERE note LIKE '100 %' AND note LIKE '%\\\\:name%'")
"""
NO_TYPES = """
op.drop_table("types")
sa.Enum(name="kind").drop(op.get_bind(), checkfirst=False)
"""


@pytest.fixture
def opened(project: Project, database: Database) -> Iterator[Shop]:
    with zigzag.open_shop(project, database, batch=database.backend != "sqlite") as opened:
        yield opened


@pytest.fixture
def twin(database: Database, make_database: Make) -> Database:
    """A second database, which only its own client ever touches."""
    return make_database(database.driver)


def content(database: Database) -> tuple[Any, ...]:
    return database.schema(), database.data()


def unreachable(database: Database) -> Any:
    if database.backend == "sqlite":
        return database.url.set(database="/nowhere/at/all.db")
    return database.url.set(host="127.0.0.1", port=1)


def test_the_client_does_what_the_command_does(opened: Shop, twin: Database) -> None:
    """From an empty database, from halfway, back, and from a version table without rows."""
    before = content(opened.database)
    for command in (
        ("db-up", "app_2"),
        ("db-up",),
        ("db-down", "blog_1", "--cascade"),
        ("db-down", "base"),
        ("db-up", "acme.billing"),
        ("db-up", "+1"),
        ("db-down", "-1"),
    ):
        sql = opened.run(command[0], "-s", *command[1:])
        assert content(opened.database) == before
        assert sql.stderr == ""

        twin.client(sql.stdout)
        opened.run(*command)

        before = content(opened.database)
        assert content(twin) == before, command
        assert twin.rows() == opened.database.rows()


def test_values_of_all_types_survive(opened: Shop, twin: Database) -> None:
    opened.project.revision("app", "app_4", "app_3", upgrade=TYPES, downgrade=NO_TYPES)
    sql = opened.run("db-up", "--sql").stdout

    twin.client(sql)
    opened.run("db-up")

    assert content(twin) == content(opened.database)
    assert ("ends in \\",) in twin.query("SELECT note FROM types")
    assert [float(price) for (price,) in twin.query("SELECT price FROM types ORDER BY id")] == [13.34] + 3 * [12.34]
    down = opened.run("db-down", "-s", "-1").stdout
    opened.run("db-down", "-1")
    twin.client(down)
    assert content(twin) == content(opened.database)


def test_start_needs_no_database_at_all(opened: Shop, twin: Database) -> None:
    project = opened.project
    project.app(
        zigzag.framework_of(opened.database),
        PACKAGES,
        unreachable(opened.database),
        path="nowhere.py",
        import_name="wsgi",
    )
    with zigzag.app_in(project, "nowhere") as app:
        nowhere = Shop(project, opened.database, app)
        opened.run("db-up", "app_2")
        twin.client(nowhere.run("db-up", "-s", "--start", "base", "app_2").stdout)
        assert content(twin) == content(opened.database)

        opened.run("db-up")
        twin.client(nowhere.run("db-up", "--sql", "--start", "app_2").stdout)
        assert content(twin) == content(opened.database)

        opened.run("db-down", "blog_1", "--cascade")
        twin.client(nowhere.run("db-down", "-s", "blog_1", "--cascade", "--start", "app_3").stdout)
        assert content(twin) == content(opened.database)
        assert "Cannot connect to " in nowhere.run("db-up", "-s", exit_code=1).stderr


@pytest.mark.drivers("sqlite", "postgresql+asyncpg")
def test_start_may_name_several_revisions(opened: Shop, twin: Database) -> None:
    for specifier in ("acme_billing_1", "blog_1"):
        opened.run("db-up", specifier)
        twin.client(opened.run("db-up", "-s", specifier, "--start", "base").stdout if not twin.rows() else "SELECT 1;")

    sql = opened.run("db-up", "-s", "--start", "acme_billing_1", "--start", "blog_1").stdout

    assert sql == opened.run("db-up", "-s").stdout


@pytest.mark.parametrize("body", ["", "print('Reading the configuration ...')"])
@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg")
def test_only_sql_is_on_standard_output(project: Project, database: Database, body: str) -> None:
    """Warnings are on standard error, and so is what the app and the revisions print."""
    zigzag.write_packages(project, "app", "empty")
    project.revision("app", "app_1", upgrade=f"{zigzag.USERS}\n{body}", downgrade="op.drop_table('users')")
    project.app(
        *(zigzag.framework_of(database), ["app", "empty"], database.url),
        body=body,
        path="wsgi.py",
        import_name="wsgi",
    )

    result = project.run("ampho", "db-up", "-s")

    assert "Warning: empty has no migrations folder" in result.stderr
    database.client(result.stdout)
    assert database.rows() == ["app_1"]
    assert ("Reading" in result.stderr) == bool(body)
    assert "Reading" not in result.stdout


@pytest.mark.parametrize(
    "reads",
    [
        "print([row for row in op.get_bind().execute(sa.text('SELECT name FROM users'))])",
        "if op.get_bind().scalar(sa.text('SELECT count(*) FROM users')): pass",
        "if op.get_bind().execute(sa.text('SELECT 1')).first() is None: pass",
        "sa.inspect(op.get_bind()).get_table_names()",
        "sa.Table('users', sa.MetaData(), autoload_with=op.get_bind())",
        "from sqlalchemy.orm import Session; Session(op.get_bind()).execute(sa.text('SELECT 1')).all()",
    ],
)
@pytest.mark.drivers("sqlite", "postgresql+psycopg", "mariadb+asyncmy")
def test_a_revision_that_reads_is_refused_before_anything_is_printed(opened: Shop, reads: str) -> None:
    path = opened.project.revision("app", "app_4", "app_3", upgrade=reads, downgrade="pass")

    result = opened.run("db-up", "-s", exit_code=1)

    assert result.stdout == ""
    assert "Revision app_4 of app" in result.stderr
    assert str(path) in result.stderr
    assert "run the command without -s/--sql" in result.stderr
    assert opened.database.tables() == []
    assert opened.run("db-up", "-s", "app_3").stdout


@pytest.mark.drivers("sqlite")
def test_a_table_that_sqlite_makes_anew_is_refused(project: Project, database: Database) -> None:
    with zigzag.open_shop(project, database, batch=True) as opened:
        result = opened.run("db-up", "-s", exit_code=1)

        assert result.stdout == ""
        assert "Revision blog_2 of blog" in result.stderr
        assert opened.run("db-up", "-s", "app_2").stdout


@pytest.mark.drivers("sqlite")
def test_a_failure_in_a_revision_is_no_output(opened: Shop) -> None:
    opened.project.revision("app", "app_4", "app_3", upgrade="raise RuntimeError('boom')")

    result = opened.run("db-up", "-s", exit_code=1)

    assert result.stdout == ""
    assert "app_4" in result.stderr
    assert "boom" in result.stderr


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg", "mariadb+pymysql")
def test_a_parameter_without_a_value_is_refused_as_the_command_refuses_it(opened: Shop) -> None:
    """SQLAlchemy would write NULL for the colon and the word after it."""
    statement = "op.execute(\"DELETE FROM users WHERE name = 're :subject'\")"
    opened.project.revision("app", "app_4", "app_3", upgrade=statement)

    result = opened.run("db-up", "-s", exit_code=1)

    assert result.stdout == ""
    assert "Revision app_4 of app" in result.stderr
    assert "bind parameter 'subject'" in result.stderr
    assert "bind parameter 'subject'" in opened.run("db-up", exit_code=1).stderr


@pytest.mark.drivers("sqlite")
def test_start_goes_with_sql(opened: Shop) -> None:
    for command in ("db-up", "db-down"):
        result = opened.run(command, "--start", "base", exit_code=2)
        assert "--start requires --sql" in result.stderr
    assert opened.database.tables() == []


@pytest.mark.drivers("sqlite")
def test_start_names_revisions(opened: Shop) -> None:
    whole = opened.run("db-up", "-s", "--start", "app").stdout
    assert whole == opened.run("db-up", "-s", "--start", "app@head").stdout
    assert whole == opened.run("db-up", "-s", "--start", "app_3").stdout
    assert "app@+1 does not name a revision" in opened.run("db-up", "-s", "--start", "app@+1", exit_code=1).stderr
    assert "nope is neither a package" in opened.run("db-up", "-s", "--start", "nope", exit_code=1).stderr


@pytest.mark.drivers("sqlite")
def test_nothing_to_do_is_no_sql(opened: Shop) -> None:
    opened.run("db-up")

    assert opened.run("db-up", "-s").stdout == ""
    assert opened.run("db-down", "-s", "base", "--start", "base").stdout == ""


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_each_revision_is_a_transaction_of_its_own(opened: Shop) -> None:
    """A client that stops at an error leaves whole revisions behind."""
    opened.project.revision("app", "app_4", "app_3", upgrade="op.execute('DELETE FROM users'); op.execute('nonsense')")
    sql = opened.run("db-up", "-s").stdout

    with pytest.raises(AssertionError, match="nonsense"):
        opened.database.client(sql)

    assert opened.database.rows() == ["app_3"]
    assert len(opened.database.query("SELECT * FROM users")) == 2
