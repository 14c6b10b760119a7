"""The operations of ``ampho.operations``: what they do is what Alembic's do, but PostgreSQL does not block the app."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from itertools import count
from typing import Any

import pytest
from facade import Facade, facade
from project import Project
from servers import Database
from sqlalchemy import Engine, event, text

import ampho.operations
from ampho.errors import AmphoError, RevisionFailedError, UnfinishedRevisionError

TABLES = """
op.create_table("shops", sa.Column("id", sa.Integer, primary_key=True), sa.Column("code", sa.String(20)))
op.create_table(
    "orders",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("shop_id", sa.Integer),
    sa.Column("total", sa.Integer),
    sa.Column("note", sa.String(50)),
    sa.Column("status", sa.Enum("new", "paid", name="order_status"), server_default="new", nullable=False),
)
op.create_index("ix_orders_old", "orders", ["note"])
op.execute("INSERT INTO shops (id, code) VALUES (1, 'a'), (2, 'b')")
op.execute("INSERT INTO orders (id, shop_id, total, note) VALUES (1, 1, 10, 'x'), (2, 2, 20, 'y')")
"""
UP = """
{op}create_index("ix_orders_note", "orders", ["note", sa.text("total DESC")], postgresql_where=sa.text("total > 0"))
{op}create_index("ix_orders_both", "orders", ["shop_id", "total"], unique=True)
{op}drop_index("ix_orders_old", "orders")
{op}create_unique_constraint("uq_shops_code", "shops", ["code"])
{op}create_check_constraint("ck_orders_total", "orders", "total > 0")
{op}create_foreign_key("fk_orders_shop", "orders", "shops", ["shop_id"], ["id"], ondelete="CASCADE")
{op}alter_column("orders", "note", existing_type=sa.String(50), nullable=False, comment=None, server_default="-")
{op}add_column("orders", sa.Column("since", sa.DateTime, server_default=sa.func.now(), nullable=False))
{op}add_column("orders", sa.Column("kind", sa.String(9), server_default="a (b)", nullable=False))
{op}alter_column(
    "orders",
    "status",
    existing_type=sa.Enum("new", "paid", name="order_status"),
    type_=sa.Enum("new", "sent", "paid", "100%'s", name="order_status"),
    existing_server_default="new",
    existing_nullable=False,
)
"""
DOWN = """
with op.batch_alter_table("orders") as batch:
    batch.drop_column("kind")
    batch.drop_column("since")
    batch.alter_column("note", existing_type=sa.String(50), nullable=True, server_default=None)
{op}drop_constraint("fk_orders_shop", "orders", type_="foreignkey")
{op}drop_constraint("ck_orders_total", "orders", "check")
{op}drop_constraint("uq_shops_code", "shops", "unique")
{op}drop_index("ix_orders_both", "orders")
{op}drop_index("ix_orders_note", "orders")
{op}create_index("ix_orders_old", "orders", ["note"])
"""
TOKEN = (
    '{op}add_column("orders",'
    ' sa.Column("token", sa.Uuid, server_default=sa.text("gen_random_uuid()"), nullable=False, unique=True))'
)
IMPORT = f"from ampho.operations import {', '.join(ampho.operations.__all__)}\n"


def write(project: Project, up: str, down: str = "pass", tables: str = TABLES, *, plain: bool = False) -> None:
    project.package("shop")
    project.revision("shop", "shop_1", upgrade=tables)
    start = "" if plain else IMPORT
    up, down = ((start + text).replace("{op}", "op." if plain else "") for text in (up, down))
    project.revision("shop", "shop_2", "shop_1", upgrade=up, downgrade=down)


def without_labels(schema: dict[str, Any]) -> dict[str, Any]:
    """Leave out the labels of the enum, which no downgrade takes away."""
    text = repr({**schema, "enums": []})
    return eval(text.replace(", 'sent', 'paid', \"100%'s\"", ", 'paid'"))  # type: ignore[no-any-return]


@pytest.mark.drivers(
    "sqlite+pysqlite", "sqlite+aiosqlite", "postgresql+psycopg", "postgresql+asyncpg", "mariadb+pymysql"
)
def test_the_operations_do_what_those_of_alembic_do(project: Project, database: Database) -> None:
    framework = "quart" if database.is_async else "flask"
    plain = None
    if database.backend != "sqlite":  # whose ALTER TABLE cannot do most of this
        write(project, UP, DOWN, plain=True)
        with facade(project, framework, ["shop"], database.url) as each:
            each.call("upgrade", "shop_1")
            before = database.schema()
            if database.backend == "postgresql":  # Alembic does nothing here
                database.run("ALTER TYPE order_status ADD VALUE 'sent' AFTER 'new'")
                database.run("ALTER TYPE order_status ADD VALUE '100%''s' AFTER 'paid'")
            each.call("upgrade")
            plain = database.schema()
            each.call("downgrade")
    write(project, UP, DOWN)
    with facade(project, framework, ["shop"], database.url) as each:
        each.call("upgrade", "shop_1")
        before = database.schema()
        each.call("upgrade")
        after = database.schema()
        assert plain in (None, after)
        each.call("downgrade")
        if database.backend == "postgresql":
            assert without_labels(database.schema()) == without_labels(before)
        each.call("upgrade")
        assert database.schema() == after
        assert database.query("SELECT id, kind, status FROM orders") == [(1, "a (b)", "new"), (2, "a (b)", "new")]
        database.run("UPDATE orders SET status = '100%''s'")


# ---- The SQL ----

TYPES_AND_TIMEOUTS = {"require-statement-timeout", "require-lock-timeout", "prefer-text-field", "prefer-timestamp-tz"}


@pytest.mark.skipif(version("squawk-cli").startswith("2.0."), reason="this squawk has fewer rules")
@pytest.mark.drivers("postgresql+psycopg")
def test_squawk_finds_nothing_in_the_sql_of_the_operations(project: Project, database: Database) -> None:
    rules = {}
    for plain in (True, False):
        write(project, UP + TOKEN, plain=plain)
        with facade(project, "flask", ["shop"], database.url) as each:
            each.call("upgrade", "shop_1")
            report = each.call("lint", "shop_2")
        rules[plain] = {found.rule for found in report.violations} - {"irreversible"}
    assert {
        "require-concurrent-index-creation",
        "require-concurrent-index-deletion",
        "adding-field-with-default",
        "adding-foreign-key-constraint",
        "constraint-missing-not-valid",
        "adding-not-nullable-field",
        "disallowed-unique-constraint",
    } <= rules[True]
    assert rules[False] <= TYPES_AND_TIMEOUTS, report.violations


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg", "mariadb+pymysql")
def test_the_sql_does_the_same(project: Project, database: Database) -> None:
    write(project, UP, DOWN)
    with facade(project, "quart" if database.is_async else "flask", ["shop"], database.url) as each:
        each.call("upgrade")
        after = database.schema()
        for _ in range(2):
            database.client(each.call("downgrade_sql"))
            database.client(each.call("upgrade_sql"))
            assert database.schema() == after


# ---- Runs that end halfway ----

STRIDE = 1 if os.environ.get("AMPHO_BOUNDARIES") == "all" else 6


@contextmanager
def killed(database: Database, number: int) -> Iterator[list[str]]:
    """End all connections to a database before the given statement that changes something; yield the statements."""
    seen: list[str] = []

    def before(connection: Any, cursor: object, statement: str, *args: object) -> None:
        if connection.engine.url.database == database.name and statement.startswith(("ALTER", "CREATE", "DROP")):
            seen.append(statement)
            if len(seen) == number:
                ids = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
                database.run(f"SELECT pg_terminate_backend(pid, 5000) FROM ({ids}) AS others")

    event.listen(Engine, "before_cursor_execute", before)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", before)


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg")
@pytest.mark.usefixtures("unmeasured")
def test_a_run_that_was_killed_goes_on(project: Project, database: Database) -> None:
    write(project, UP + TOKEN)
    with facade(project, "quart" if database.is_async else "flask", ["shop"], database.url) as each:
        each.call("upgrade", "shop_1")
        with killed(database, 0) as seen:
            each.call("upgrade")
        after, data, total = database.schema(), database.data(), len(seen)
        assert total > 12
        for number in range(1, total + 1, STRIDE):
            database.run("DROP TABLE orders, shops, alembic_version, ampho_journal", "DROP TYPE order_status")
            each.call("upgrade", "shop_1")
            with killed(database, number) as seen, pytest.raises(AmphoError):
                each.call("upgrade")
            each.call("upgrade")
            assert (database.schema(), len(database.data())) == (after, len(data)), seen[-1]


FAILURES = {
    "index": (
        'create_index("ix_code", "shops", ["code"])\ncreate_index("ix_same", "shops", ["same"], unique=True)',
        "SELECT relname FROM pg_class WHERE relname = 'ix_same'",
    ),
    "unique": (
        'create_unique_constraint("uq_same", "shops", ["same"])',
        "SELECT FROM pg_class WHERE relname = 'uq_same'",
    ),
    "check": (
        'create_check_constraint("ck_same", "shops", "same < 0")',
        "SELECT FROM pg_constraint WHERE conname = 'ck_same'",
    ),
    "key": (
        'create_foreign_key("fk_same", "shops", "shops", ["same"], ["id"])',
        "SELECT FROM pg_constraint WHERE conname = 'fk_same'",
    ),
    "null": (
        'alter_column("shops", "empty", nullable=False)',
        "SELECT FROM pg_constraint WHERE conname = 'empty_is_not_null'",
    ),
}
SAME = """
op.create_table(
    "shops",
    *(sa.Column(name, sa.Integer, primary_key=name == "id") for name in ("id", "code", "same", "empty")),
)
op.execute("INSERT INTO shops VALUES (1, 1, 7, NULL), (2, 2, 7, NULL)")
"""


@pytest.mark.drivers("postgresql+psycopg")
@pytest.mark.parametrize("name", FAILURES)
def test_what_rows_contradict_leaves_nothing_behind(project: Project, database: Database, name: str) -> None:
    code, left = FAILURES[name]
    write(project, code, tables=SAME)
    with facade(project, "flask", ["shop"], database.url) as each:
        each.call("upgrade", "shop_1")
        with pytest.raises(RevisionFailedError) as caught:
            each.call("upgrade")
        assert "Correct the cause, and run the command again, which skips what is done." in str(caught.value)
        assert database.query(left) == []
        assert database.query("SELECT outcome FROM ampho_journal WHERE revision = 'shop_2'") == [("failed",)]
        database.run("UPDATE shops SET same = id - 10, empty = 1" if name != "key" else "UPDATE shops SET same = id")
        each.call("upgrade")
        assert (database.query(left) == []) == (name == "null")  # whose check constraint is dropped at the end


@pytest.mark.drivers("postgresql+psycopg")
def test_an_operation_after_a_plain_one_is_not_repeated(project: Project, database: Database) -> None:
    plain = 'op.add_column("shops", sa.Column("late", sa.Integer))\n'
    write(project, plain + FAILURES["check"][0], tables=SAME)
    with facade(project, "flask", ["shop"], database.url) as each:
        each.call("upgrade", "shop_1")
        with pytest.raises(RevisionFailedError, match="--not-applied"):
            each.call("upgrade")
        with pytest.raises(UnfinishedRevisionError):
            each.call("upgrade")


@pytest.mark.drivers("postgresql+psycopg")
def test_an_invalid_index_is_removed_and_another_one_is_not(project: Project, database: Database) -> None:
    write(
        project,
        'create_index("ix_same", "shops", ["same"])\ncreate_check_constraint("ck", "shops", "id > 0")',
        tables=SAME,
    )
    with facade(project, "flask", ["shop"], database.url) as each:
        each.call("upgrade", "shop_1")
        with pytest.raises(Exception, match="duplicate"):
            database.run("CREATE UNIQUE INDEX CONCURRENTLY ix_same ON shops (same)")
        each.call("upgrade")
        valid = "SELECT indisvalid, indisunique FROM pg_index WHERE indexrelid = 'ix_same'::regclass"
        assert database.query(valid) == [(True, False)]
        each.call("downgrade")
        database.run("DROP INDEX ix_same; CREATE INDEX ix_same ON shops (same DESC)")
        with pytest.raises(RevisionFailedError, match="already has another index of this name: CREATE INDEX ix_same"):
            each.call("upgrade")
        database.run("DROP INDEX ix_same; ALTER TABLE shops DROP CONSTRAINT ck, ADD CONSTRAINT ck CHECK (id > -1)")
        with pytest.raises(RevisionFailedError, match="already has another constraint ck: CHECK"):
            each.call("upgrade")


# ---- Names, schemas, and what PostgreSQL cannot do ----

PARTITIONS = """
op.execute("CREATE TABLE shops (id integer, code integer, same integer) PARTITION BY LIST (id)")
op.execute("CREATE TABLE shops_1 PARTITION OF shops FOR VALUES IN (1)")
op.execute("CREATE TABLE halls (id integer PRIMARY KEY)")
"""
ON_PARTITIONS = """
create_index("ix_code", "shops", ["code"])
create_unique_constraint("uq_shops", "shops", ["id", "code"])
create_foreign_key("fk_shops", "shops", "halls", ["same"], ["id"])
add_column("shops", sa.Column("hall_id", sa.Integer, sa.ForeignKey("halls.id", name="fk_hall"), index=True))
drop_index("ix_code", "shops")
"""


@pytest.mark.drivers("postgresql+psycopg")
def test_a_table_with_partitions_is_changed_as_usual(project: Project, database: Database) -> None:
    write(project, ON_PARTITIONS, tables=PARTITIONS)
    with facade(project, "flask", ["shop"], database.url) as each:
        each.call("upgrade")
        names = "SELECT conname FROM pg_constraint WHERE conrelid = 'shops'::regclass AND contype <> 'n' ORDER BY 1"
        assert database.query(names) == [("fk_hall",), ("fk_shops",), ("uq_shops",)]
        indexes = "SELECT indexname FROM pg_indexes WHERE tablename = 'shops' ORDER BY 1"
        assert database.query(indexes) == [("ix_shops_hall_id",), ("uq_shops",)]


LONG_NAME = "e" * 60
COLUMNS = f"""
parent = sa.ForeignKey("shops.id")
add_column("shops", sa.Column("parent_id", sa.Integer, parent, index=True, comment="x"))
add_column("shops", sa.Column("ean", sa.Integer, unique=True))
add_column("shops", sa.Column("double", sa.Integer, sa.Computed("same * 2")))
add_column("shops", sa.Column("size", sa.Integer, sa.CheckConstraint("size > 0", name="ck_size"), server_default="1"))
create_check_constraint(None, "shops", "ean > 0")
alter_column("shops", "code", new_column_name="{LONG_NAME}", existing_type=sa.Integer)
alter_column("shops", "{LONG_NAME}", nullable=False)
"""


@pytest.mark.drivers("postgresql+psycopg")
def test_columns_with_keys_and_long_names(project: Project, database: Database) -> None:
    write(project, COLUMNS, tables=SAME)
    with facade(project, "flask", ["shop"], database.url) as each:
        each.call("upgrade")
        indexes = "SELECT indexname FROM pg_indexes WHERE tablename = 'shops' ORDER BY 1"
        assert database.query(indexes) == [("ix_shops_parent_id",), ("shops_ean_key",), ("shops_pkey",)]
        names = "SELECT conname FROM pg_constraint WHERE conrelid = 'shops'::regclass AND contype IN ('c', 'f', 'u')"
        expected = {"ck_size", "shops_check", "shops_ean_key", "shops_parent_id_fkey"}
        assert {name for (name,) in database.query(names)} == expected
        null = f"SELECT attnotnull FROM pg_attribute WHERE attname = '{LONG_NAME}' AND attrelid = 'shops'::regclass"
        assert database.query(null) == [(True,)]
        assert database.query("SELECT double FROM shops") == [(14,), (14,)]
    write(project, 'add_column("shops", sa.Column("same", sa.String(3)))', tables=SAME)
    database.run("DELETE FROM alembic_version", "INSERT INTO alembic_version VALUES ('shop_1')")
    refused = pytest.raises(RevisionFailedError, match="another column same, of the type integer")
    with facade(project, "flask", ["shop"], database.url) as each, refused:
        each.call("upgrade")


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg")
def test_rows_are_filled_in_batches_and_only_once(project: Project, database: Database) -> None:
    more = "\nop.execute('INSERT INTO orders (id, total) SELECT id, id FROM generate_series(3, 15000) AS id')"
    check = '\ncreate_check_constraint("ck_orders", "orders", "total > 10")'
    write(project, TOKEN + check, tables=TABLES + more)
    tokens = "SELECT count(DISTINCT token), min(token::text) FROM orders"
    with facade(project, "quart" if database.is_async else "flask", ["shop"], database.url) as each:
        each.call("upgrade", "shop_1")
        with pytest.raises(
            RevisionFailedError, match=r"is kept\. Correct the cause.* The 15,000 rows that its backfill"
        ):
            each.call("upgrade")
        before = database.query(tokens)
        assert before[0][0] == 15_000
        database.run("UPDATE orders SET total = 11")
        each.call("upgrade")
        assert database.query(tokens) == before
        facts = (
            "SELECT attnotnull, atthasdef FROM pg_attribute WHERE attname = 'token' AND attrelid = 'orders'::regclass"
        )
        assert database.query(facts) == [(True, True)]


@pytest.mark.drivers("postgresql+psycopg")
def test_the_check_of_an_interrupted_not_null_is_dropped(project: Project, database: Database) -> None:
    write(project, 'alter_column("shops", "same", nullable=False)', tables=SAME)
    with facade(project, "flask", ["shop"], database.url) as each:
        each.call("upgrade", "shop_1")
        check = "ADD CONSTRAINT same_is_not_null CHECK (same IS NOT NULL)"
        database.run(f"ALTER TABLE shops ALTER COLUMN same SET NOT NULL, {check}")
        each.call("upgrade")
        assert database.query("SELECT FROM pg_constraint WHERE conname = 'same_is_not_null'") == []


def test_the_plan_says_that_the_operations_commit(project: Project, make_database: Any) -> None:
    write(project, UP)
    for driver, kind in (("postgresql+psycopg", "partly"), ("sqlite+pysqlite", "yes")):
        with facade(project, "flask", ["shop"], make_database(driver).url) as each:
            assert [step.in_transaction.value for step in each.call("plan").steps] == ["yes", kind]


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg")
def test_an_index_waits_for_transactions_longer_than_the_lock_timeout(project: Project, database: Database) -> None:
    write(
        project,
        'create_index("ix_code", "shops", ["code"])\nassert op.get_bind().scalar(sa.text("SHOW lock_timeout")) == "1s"',
        tables=SAME,
    )
    framework = "quart" if database.is_async else "flask"
    with facade(project, framework, ["shop"], database.url, AMPHO_STATEMENT_LOCK_TIMEOUT=1) as each:
        each.call("upgrade", "shop_1")
        ends = threading.Event()

        def hold() -> None:
            with database.connect() as connection:
                connection.exec_driver_sql("BEGIN")
                connection.exec_driver_sql("UPDATE shops SET code = code")
                ends.wait(1.5)
                connection.exec_driver_sql("COMMIT")

        holder = threading.Thread(target=hold)
        holder.start()
        each.call("upgrade")
        holder.join()


# ---- An app that writes meanwhile ----

SLOW = """
op.execute(
    "CREATE FUNCTION slow(value integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql"
    " AS $$ BEGIN PERFORM pg_sleep(CASE WHEN value % 200 = 0 THEN 0.0005 ELSE 0 END); RETURN value; END $$"
)
op.execute("INSERT INTO shops SELECT generate_series(3, 200000)")
op.execute("INSERT INTO orders (id, shop_id, total, note) SELECT id, id, id, id FROM shops WHERE id > 2")
"""
LONG = {
    "index": '{op}create_index("ix_slow", "orders", [sa.text("slow(total)")])',
    "check": '{op}create_check_constraint("ck_slow", "orders", "slow(total) > 0")',
}
OTHERS = """
{op}create_unique_constraint("uq_orders", "orders", ["shop_id", "note"])
{op}create_foreign_key("fk_orders", "orders", "shops", ["shop_id"], ["id"])
{op}alter_column("orders", "note", nullable=False)
{op}add_column("orders", sa.Column("kind", sa.String(9), server_default="a", nullable=False))
{op}drop_index("ix_orders_old", "orders")
"""


def longest_wait(database: Database, each: Facade) -> float:
    """Return how long the slowest statement of an app took that writes to the table while revisions run."""
    waits, is_done = [0.0], threading.Event()

    def write_rows() -> None:
        with database.connect() as connection:
            for number in count(1_000_000):
                begun = time.monotonic()
                connection.execute(text("UPDATE orders SET total = total + 1 WHERE id = :id"), {"id": number % 200_000})
                connection.execute(text(f"INSERT INTO orders (id, total, note) VALUES ({number}, 1, {number})"))
                waits.append(time.monotonic() - begun)
                if is_done.is_set():
                    return

    writer = threading.Thread(target=write_rows)
    writer.start()
    try:
        each.call("upgrade")
    finally:
        is_done.set()
        writer.join()
    return max(waits)


@pytest.mark.drivers("postgresql+psycopg")
@pytest.mark.usefixtures("unmeasured")
def test_an_app_writes_while_the_operations_run(project: Project, database: Database) -> None:
    up = "\n".join([*LONG.values(), OTHERS])
    write(project, up, tables=TABLES + SLOW)
    with facade(project, "flask", ["shop"], database.url) as each:
        each.call("upgrade", "shop_1")
        assert longest_wait(database, each) < 0.8


@pytest.mark.drivers("postgresql+psycopg")
@pytest.mark.usefixtures("unmeasured")
def test_an_app_waits_for_the_plain_operations(project: Project, database: Database) -> None:
    write(project, LONG["check"], tables=TABLES + SLOW, plain=True)
    with facade(project, "flask", ["shop"], database.url) as each:
        each.call("upgrade", "shop_1")
        assert longest_wait(database, each) > 0.8
