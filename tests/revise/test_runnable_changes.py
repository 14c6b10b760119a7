"""Changes that a database accepts only in one way: what ``db-rev -a`` writes for them runs in both directions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa
from comparing import compare, connected, run
from servers import Database
from sqlalchemy.engine import Connection

from ampho.revise.autogenerate.operations.describe import describe
from ampho.revise.autogenerate.write.render import body


def table(name: str, *columns: Any, **options: Any) -> sa.Table:
    return sa.Table(name, sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), *columns, **options)


def number(name: str, **options: Any) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, **options)


def mood(name: str, *labels: str) -> sa.Column[str]:
    return sa.Column(name, sa.Enum(*labels, name="mood"))


def child(*columns: Any) -> sa.Table:
    return sa.Table("a_child", sa.MetaData(), *columns, postgresql_inherits="z_parent")


def order(*items: Any) -> sa.Table:
    return table("orders", sa.Column("item_id", sa.ForeignKey("items.id", name="orders_item")), *items)


@dataclass
class Case:
    """A change of models, and what the comparison shows of it.

    :ivar lines: the lines for people, or the beginning of each.
    """

    before: Sequence[sa.Table]
    after: Sequence[sa.Table]
    lines: Sequence[str]
    rename: Sequence[str] = field(default_factory=list)

    def run(self, connection: Connection) -> None:
        before, after = metadata(self.before), metadata(self.after)
        before.create_all(connection)
        connection.commit()
        assert shown(connection, before) == []
        found = compare(connection, after, rename=self.rename)
        assert not found.questions()["shop"]
        lines = [change.text for change in describe(found.packages["shop"])]
        assert len(lines) == len(self.lines), lines
        assert all(map(str.startswith, lines, self.lines)), lines
        written = body(found.packages["shop"])
        for _ in range(2):
            run(connection, written.upgrades, written.imports)
            assert shown(connection, after) == [], written.upgrades
            run(connection, written.downgrades, written.imports)
            assert shown(connection, before) == [], written.downgrades
        connection.commit()
        drop_all(connection)


def metadata(tables: Sequence[sa.Table]) -> sa.MetaData:
    found = sa.MetaData()
    copies = {each.name: each.to_metadata(found) for each in tables}
    for each in copies.values():
        if parent := each.dialect_kwargs.get("postgresql_inherits"):
            each.add_is_dependent_on(copies[parent])
    return found


def shown(connection: Connection, models: sa.MetaData) -> list[str]:
    found = [change.text for change in describe(compare(connection, models).packages["shop"])]
    connection.rollback()
    return found


def drop_all(connection: Connection) -> None:
    left = sa.MetaData()
    left.reflect(connection)
    for each in left.tables.values():
        if parent := each.dialect_kwargs.get("postgresql_inherits"):
            each.add_is_dependent_on(left.tables[parent[0]])
    left.drop_all(connection)
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("DROP TYPE IF EXISTS mood"))
    connection.commit()


OTHER_CASE = [
    Case([table("t", number("Foo"))], [table("t", number("foo"))], ["~ column t.Foo -> foo"]),
    Case(
        [table("t", number("Foo"))],
        [table("t", sa.Column("foo", sa.BigInteger))],
        ["~ column t.Foo -> foo", "~ column t.foo  INTEGER"],
    ),
]
REPLACED = [
    Case(
        [table("t", number("x"), sa.Column("Sum", sa.Integer, sa.Computed("x + 1")))],
        [table("t", number("x"), sa.Column("Sum", sa.Integer, sa.Computed("x + 2")))],
        ["- column t.Sum", "+ column t.Sum"],
    )
]
OTHER_CASE_OF_TABLE = [
    Case([table("Tab", number("x"))], [table("tab", number("x"))], ["~ table Tab -> tab"]),
    Case(
        [table("Tab", number("X", index=True))],
        [table("tab", number("x", index=True))],
        ["~ table Tab -> tab", "~ column tab.X -> x", "- index tab.ix_Tab_X", "+ index tab.ix_tab_x"],
    ),
]
INHERITED = [
    Case([table("z_parent", number("x"))], [table("z_parent", number("x")), child(number("y"))], ["+ table a_child"]),
    Case([table("z_parent", number("x")), child(number("y"))], [], ["- table a_child", "- table z_parent"]),
    Case([], [table("z_parent", number("x")), child(number("y"))], ["+ table z_parent", "+ table a_child"]),
    Case(
        [table("z_parent", number("x")), child(number("y"))],
        [table("z_parent", sa.Column("name", sa.String(9))), child(sa.Column("note", sa.String(9)))],
        ["+ column a_child.note", "- column a_child.y", "+ column z_parent.name", "- column z_parent.x"],
    ),
]
LABELS = [
    Case(
        [table("t", mood("m", "a", "b"), sa.CheckConstraint("m <> 'b'", name="checked"))],
        [table("t", mood("N", "b"), sa.CheckConstraint("\"N\" <> 'b'", name="checked"))],
        ["~ column t.m -> N", "~ enum type mood  - a"],
        ["t.m=N"],
    ),
    Case(
        [table("t", mood("m", "a", "b"), number("b"), sa.Index("ix", "b", postgresql_where=sa.text("m <> 'b'")))],
        [table("t", mood("m", "b"), number("c"), sa.Index("ix", "c", postgresql_where=sa.text("m <> 'b'")))],
        ["~ column t.b -> c", "~ enum type mood  - a"],
        ["t.b=c"],
    ),
]
PERCENT = [
    Case([table("t", sa.Column("a % b", sa.String(20)))], [table("t", number("a % b"))], ["~ column t.a % b  VARCHAR"])
]
EXPRESSIONS = [
    Case(
        [table("t", number("x", server_default=sa.text(before)))],
        [table("t", number("x", server_default=sa.text(after)))],
        [f"~ column t.x  DEFAULT {after}"],
    )
    for before, after in (
        ("5 % 3", "5 % 2"),
        ("(1 && 0)", "(1 && 5)"),
        ("(NOT 1)", "(NOT 0)"),
        ("(5 != 3)", "(5 <> 2)"),
    )
]
INDEXES_OF_KEYS = [
    Case([table("items"), order(index)], [table("items"), order()], ["- index orders.ix"])
    for index in (sa.Index("ix", "item_id", "id"), sa.UniqueConstraint("item_id", name="ix"))
]
CASES = {
    "sqlite": REPLACED + OTHER_CASE + OTHER_CASE_OF_TABLE,
    "postgresql": INHERITED + LABELS + PERCENT,
    "mariadb": REPLACED + OTHER_CASE + EXPRESSIONS + INDEXES_OF_KEYS,
}


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    with connected(database) as connection:
        yield connection


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg", "mariadb+pymysql")
def test_what_is_written_runs_in_both_directions(connection: Connection, database: Database) -> None:
    for case in CASES[database.backend]:
        case.run(connection)
