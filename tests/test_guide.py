"""The guide to writing revisions: each of its examples runs up, down and up again on tables that have rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from documents import ROOT, blocks
from facade import Facade, facade
from project import Project
from servers import Database

GUIDE = ROOT / "docs" / "revisions.md"
EXAMPLES = {block.note[1]: block.text for block in blocks(GUIDE) if block.note[0] == "revision"}

Rows = list[tuple[Any, ...]]


class Example(NamedTuple):
    """What an example of the guide does to the rows of a table.

    :ivar table: how the revision before it makes the table, with ``op`` and ``sa``.
    :ivar rows: the rows in it, as SQL.
    :ivar before: a query, and what it finds before the upgrade, and after the downgrade.
    :ivar after: a query, and what it finds after the upgrade.
    """

    table: str
    rows: str
    before: tuple[str, Rows]
    after: tuple[str, Rows]


BEFORE = {
    "rename_column": Example(
        'op.create_table("users", id(), sa.Column("name", sa.String(100), nullable=False))',
        "INSERT INTO users (id, name) VALUES (1, 'Ann')",
        ("SELECT id, name FROM users", [(1, "Ann")]),
        ("SELECT id, full_name FROM users", [(1, "Ann")]),
    ),
    "rename_table": Example(
        'op.create_table("articles", id(), sa.Column("title", sa.String(100), index=True))\n'
        'op.create_table("comments", id(), sa.Column("article_id", sa.Integer, sa.ForeignKey("articles.id")))\n'
        "op.execute(\"INSERT INTO articles (id, title) VALUES (1, 'Hello')\")",
        "INSERT INTO comments (id, article_id) VALUES (1, 1)",
        ("SELECT title FROM articles JOIN comments ON article_id = articles.id", [("Hello",)]),
        ("SELECT title FROM posts JOIN comments ON article_id = posts.id", [("Hello",)]),
    ),
    "not_null": Example(
        'op.create_table("books", id(), sa.Column("title", sa.String(100)))',
        "INSERT INTO books (id, title) VALUES (1, 'Emma'), (2, 'Momo')",
        ("SELECT * FROM books ORDER BY id", [(1, "Emma"), (2, "Momo")]),
        ("SELECT id, title, language FROM books ORDER BY id", [(1, "Emma", "en"), (2, "Momo", "de")]),
    ),
    "type": Example(
        'op.create_table("invoices", id(), sa.Column("number", sa.String(20), nullable=False))',
        "INSERT INTO invoices (id, number) VALUES (1, '7'), (2, '12')",
        ("SELECT number FROM invoices ORDER BY number", [("12",), ("7",)]),
        ("SELECT number FROM invoices ORDER BY number", [(7,), (12,)]),
    ),
    "enum": Example(
        'op.create_table("orders", id())',
        "INSERT INTO orders (id) VALUES (1)",
        ("SELECT * FROM orders", [(1,)]),
        ("SELECT id, status FROM orders", [(1, "new")]),
    ),
    "enum_label": Example(
        "",
        "INSERT INTO orders (id, status) VALUES (2, 'paid')",
        ("SELECT id, status FROM orders ORDER BY id", [(1, "new"), (2, "paid")]),
        ("SELECT id, status FROM orders ORDER BY id", [(1, "new"), (2, "paid")]),
    ),
    "split": Example(
        'op.create_table("customers", id(), sa.Column("street", sa.String(100)), sa.Column("city", sa.String(100)))',
        "INSERT INTO customers (id, street, city) VALUES (1, 'Elm', 'Oslo'), (2, NULL, NULL)",
        ("SELECT id, street, city FROM customers ORDER BY id", [(1, "Elm", "Oslo"), (2, None, None)]),
        (
            "SELECT id, a.street, a.city FROM customers LEFT JOIN addresses a ON customer_id = id ORDER BY id",
            [(1, "Elm", "Oslo"), (2, None, None)],
        ),
    ),
    "split_column": Example(
        'op.create_table("authors", id(), sa.Column("full_name", sa.String(201), nullable=False))',
        "INSERT INTO authors (id, full_name) VALUES (1, 'Ada King'), (2, 'Tove Marika Jansson')",
        ("SELECT id, full_name FROM authors ORDER BY id", [(1, "Ada King"), (2, "Tove Marika Jansson")]),
        (
            "SELECT id, first_name, last_name FROM authors ORDER BY id",
            [(1, "Ada", "King"), (2, "Tove", "Marika Jansson")],
        ),
    ),
    "safe": Example(
        'op.create_table("halls", id())\n'
        'op.create_table("tickets", id(), *(sa.Column(name, sa.Integer) for name in ("seat", "hall_id", "price")))',
        "INSERT INTO tickets (id, seat, price) VALUES (1, 7, 0)",
        ("SELECT id, seat FROM tickets", [(1, 7)]),
        ("SELECT id, seat FROM tickets", [(1, 7)]),
    ),
    "batches": Example(
        'op.create_table("members", id(), sa.Column("email", sa.String(99)), sa.Column("email_lower", sa.String(99)))',
        "INSERT INTO members (id, email) VALUES (1, 'A@B'), (2, NULL), (3, 'C@D'), (4, 'E@F')",
        ("SELECT id FROM members ORDER BY id", [(1,), (2,), (3,), (4,)]),
        ("SELECT email_lower FROM members ORDER BY id", [("a@b",), (None,), ("c@d",), ("e@f",)]),
    ),
    "batches_by_function": Example(
        'op.add_column("members", sa.Column("name", sa.String(99)))',
        "INSERT INTO members (id, email) VALUES (5, 'gus@h')",
        ("SELECT id FROM members ORDER BY id", [(1,), (2,), (3,), (4,), (5,)]),
        ("SELECT name FROM members ORDER BY id", [("A",), (None,), ("C",), ("E",), ("Gus",)]),
    ),
    "view": Example(
        'op.create_table("readers", id(), sa.Column("name", sa.String(100), nullable=False),'
        ' sa.Column("is_active", sa.Boolean))',
        "INSERT INTO readers (id, name, is_active) VALUES (1, 'Ann', true), (2, 'Bob', false)",
        ("SELECT id FROM readers ORDER BY id", [(1,), (2,)]),
        ("SELECT id, name FROM active_readers", [(1, "Ann")]),
    ),
    "view_change": Example(
        "",
        "UPDATE readers SET is_active = true",
        ("SELECT id, name FROM active_readers ORDER BY id", [(1, "Ann"), (2, "Bob")]),
        ("SELECT id, full_name FROM active_readers ORDER BY id", [(1, "Ann"), (2, "Bob")]),
    ),
    "schema on postgresql": Example(
        "",
        "",
        ("SELECT count(*) FROM pg_namespace WHERE nspname = 'archive'", [(0,)]),
        ("SELECT count(*) FROM archive.reports", [(0,)]),
    ),
    "own_type": Example(
        'op.create_table("profiles", id(), sa.Column("settings", sa.JSON))',
        """INSERT INTO profiles (id, settings) VALUES (1, '{"colour": "red"}'), (2, '{}')""",
        (
            "SELECT id FROM profiles WHERE CAST(settings AS CHAR(20)) LIKE '%colour%' ORDER BY id",
            [(1,)],
        ),
        (
            "SELECT id FROM profiles WHERE CAST(settings AS CHAR(20)) LIKE '%color%' ORDER BY id",
            [(1,)],
        ),
    ),
    "batch": Example(
        'op.create_table("rooms", id(), sa.Column("name", sa.String(50), nullable=False))',
        "INSERT INTO rooms (id, name) VALUES (1, 'Attic')",
        ("SELECT id, name FROM rooms", [(1, "Attic")]),
        ("SELECT id, name FROM rooms", [(1, "Attic")]),
    ),
    "irreversible": Example(
        'op.create_table("tokens", id(), sa.Column("expired", sa.Boolean))',
        "INSERT INTO tokens (id, expired) VALUES (1, true), (2, false)",
        ("SELECT id FROM tokens ORDER BY id", [(1,), (2,)]),
        ("SELECT id FROM tokens", [(2,)]),
    ),
}
FIRST = "def id():\n    return sa.Column('id', sa.Integer, primary_key=True)\n\n"
HEADER = '''"""{name}"""

import sqlalchemy as sa
from alembic import op

revision = "{name}"
down_revision = "{down}"
branch_labels = None
depends_on = None


'''


def write(project: Project, names: list[str]) -> None:
    """Write the examples as the history of one package, after a revision that makes their tables."""
    project.package("shop")
    tables = "\n".join(BEFORE[name].table for name in names)
    project.revision("shop", "tables", upgrade=FIRST + tables)
    down = "tables"
    for name in names:
        revision = name.partition(" ")[0]
        text = HEADER.format(name=revision, down=down) + EXAMPLES[name].replace("SIZE = 1000", "SIZE = 2")
        project.write(f"shop/migrations/versions/{revision}.py", text)
        down = revision


def walk(each: Facade, database: Database, example: Example, *, is_reversible: bool) -> None:
    """Run the next revision up, down and up again."""
    if example.rows:
        database.run(example.rows)
    assert database.query(example.before[0]) == example.before[1]
    each.call("upgrade", "shop@+1")
    assert database.query(example.after[0]) == example.after[1]
    if is_reversible:
        each.call("downgrade", "shop@-1")
        assert database.query(example.before[0]) == example.before[1]
        each.call("upgrade", "shop@+1")
        assert database.query(example.after[0]) == example.after[1]


def test_every_example_is_run() -> None:
    assert EXAMPLES.keys() == BEFORE.keys()


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg", "mariadb+pymysql")
def test_the_examples_run_in_both_directions_and_keep_the_rows(project: Project, database: Database) -> None:
    names = [name for name in EXAMPLES if " on " not in name or name.endswith(database.backend)]
    write(project, names)
    framework = "quart" if database.is_async else "flask"
    with facade(project, framework, ["shop"], database.url) as each:
        each.call("upgrade", "shop@+1")
        for name in names:
            walk(each, database, BEFORE[name], is_reversible="NotImplementedError" not in EXAMPLES[name])


def test_the_irreversible_example_stays_applied(project: Project) -> None:
    write(project, ["irreversible"])
    with facade(project, "flask", ["shop"], "sqlite:///app.db") as each:
        each.call("upgrade")

        assert "NotImplementedError: The expired tokens are gone." in each.error_line("db-down")
        assert each.call("current")["shop"].is_up_to_date
