"""Columns that must not be NULL on tables with rows: added, filled, and altered, in every database, both ways."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from comparing import ONE_EACH, compare, connected, run
from servers import Database
from sqlalchemy.engine import Connection

from ampho.errors import RevisionInputError
from ampho.revise.autogenerate.operations.describe import describe, risks
from ampho.revise.autogenerate.write.render import body

TRICKY = 'it\'s 50 % :of\\it; "so" {0}'
VALUES: dict[str, tuple[Any, str, object]] = {
    "integer": (sa.Integer(), "-7", -7),
    "number": (sa.Numeric(8, 2), "1.50", 1.5),
    "string": (sa.String(60), TRICKY, TRICKY),
    "empty": (sa.Text(), "", ""),
    "boolean": (sa.Boolean(), "false", False),
    "date": (sa.Date(), "2024-02-29", "2024-02-29"),
    "moment": (sa.DateTime(), "2024-02-29 12:30", "2024-02-29 12:30:00"),
    "label": (sa.Enum("new", "old", name="labels", native_enum=False), "old", "old"),
    "uuid": (sa.Uuid(), "0e984725-c51c-4bf4-9960-e1c80e27aba0", "0e984725-c51c-4bf4-9960-e1c80e27aba0"),
    "json": (sa.JSON(), '{"a": [1, "it\'s"]}', "{'a': [1, \"it's\"]}"),
    "sql": (sa.String(20), "sql:lower('AB:CD')", "ab:cd"),
    "order": (sa.Integer(), "1", 1),  # a reserved word
}
WRONG = {"integer": "1.5", "boolean": "maybe", "date": "yesterday", "label": "middling", "uuid": "1", "number": "NaN"}


def tables(*columns: sa.Column[Any]) -> sa.MetaData:
    metadata = sa.MetaData(naming_convention={"uq": "uq_%(table_name)s_%(column_0_name)s"})
    sa.Table("things", metadata, sa.Column("id", sa.Integer, primary_key=True), *columns)
    return metadata


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    with connected(database) as connection:
        yield connection


def with_rows(connection: Connection, metadata: sa.MetaData, **values: object) -> None:
    metadata.create_all(connection)
    connection.execute(metadata.tables["things"].insert(), [{"id": 1, **values}, {"id": 2, **dict.fromkeys(values)}])
    connection.commit()


@pytest.mark.drivers(*ONE_EACH)
def test_a_value_of_each_type_fills_the_rows_of_a_new_column(connection: Connection) -> None:
    with_rows(connection, tables())
    new = tables(*(sa.Column(name, type_, nullable=False) for name, (type_, _, _) in VALUES.items()))
    asked = compare(connection, new).questions()["shop"]
    assert sorted(question.name for question in asked) == sorted(f"things.{name}" for name in VALUES)
    assert {question.option for question in asked} == {"--fill"}
    texts = [f"things.{name}={text}" for name, (_, text, _) in VALUES.items()]

    comparison = compare(connection, new, fill=texts)
    written = body(comparison.packages["shop"])

    assert comparison.questions()["shop"] == ()
    for _ in range(2):
        run(connection, written.upgrades, written.imports)
        for row in connection.execute(sa.select(new.tables["things"])).mappings():
            shown = {name: row[name] for name in VALUES}
            assert {name: str(shown[name]) for name in VALUES if name != "number"} == {
                name: str(value) for name, (_, _, value) in VALUES.items() if name != "number"
            }
            assert shown["number"] == 1.5
        connection.rollback()
        assert compare(connection, new).packages["shop"].is_empty
        run(connection, written.downgrades, written.imports)
        assert compare(connection, tables()).packages["shop"].is_empty
        assert connection.scalar(sa.text("SELECT count(*) FROM things")) == 2
        connection.rollback()


@pytest.mark.drivers(*ONE_EACH)
def test_only_rows_with_null_are_filled_in_an_existing_column(connection: Connection) -> None:
    with_rows(connection, tables(sa.Column("age", sa.Integer)), age=5)
    new = tables(sa.Column("age", sa.Integer, nullable=False))
    (question,) = compare(connection, new).questions()["shop"]
    assert question.text.startswith("things.age (INTEGER")
    assert question.text.endswith(") must not be NULL any more. Which value do rows with NULL get?")

    written = body(compare(connection, new, fill=["things.age=0"]).packages["shop"])
    run(connection, written.upgrades, written.imports)

    assert list(connection.execute(sa.text("SELECT id, age FROM things ORDER BY id"))) == [(1, 5), (2, 0)]
    connection.rollback()
    assert compare(connection, new).packages["shop"].is_empty
    run(connection, written.downgrades, written.imports)
    assert compare(connection, tables(sa.Column("age", sa.Integer))).packages["shop"].is_empty


class Triple(sa.TypeDecorator[Any]):
    """A type of the app, which stores three numbers as a text."""

    impl = sa.String(20)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str:
        first, second, third = value
        return f"{first}.{second}.{third}"

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> tuple[int, ...]:
        return tuple(map(int, value.split(".")))


class Wrapped(sa.TypeDecorator[Any]):
    """A type of the app that stores JSON."""

    impl = sa.JSON
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        return {"is": value}


class Lower(sa.TypeDecorator[Any]):
    """A type of the app that stores an expression."""

    impl = sa.String(20)
    cache_ok = True

    def bind_expression(self, bindvalue: sa.BindParameter[Any]) -> sa.ColumnElement[str]:
        return sa.func.lower(bindvalue)


DEFAULTS: dict[str, tuple[Any, object, object]] = {
    "is_active": (sa.Boolean(), True, True),
    "delay": (sa.Interval(), timedelta(days=1), timedelta(days=1)),
    "data": (sa.LargeBinary(), b"a\xff'%:b", b"a\xff'%:b"),
    "pickled": (sa.PickleType(), {"a": 1}, {"a": 1}),
    "version": (Triple(), (1, 0, 0), (1, 0, 0)),
    "wrapped": (Wrapped(), 5, {"is": 5}),
    "lowered": (Lower(), "100% 'A':b", "100% 'a':b"),
}


@pytest.mark.drivers(*ONE_EACH)
def test_a_constant_default_of_the_model_fills_existing_rows(connection: Connection) -> None:
    with_rows(connection, tables())
    new = tables(*(sa.Column(name, kind, nullable=False, default=value) for name, (kind, value, _) in DEFAULTS.items()))

    comparison = compare(connection, new)
    written = body(comparison.packages["shop"])

    assert comparison.questions()["shop"] == ()
    run(connection, written.upgrades, written.imports)
    for row in connection.execute(sa.select(new.tables["things"])).mappings():
        assert {name: row[name] for name in DEFAULTS} == {name: stored for name, (_, _, stored) in DEFAULTS.items()}
    connection.rollback()


@pytest.mark.drivers(*ONE_EACH)
def test_the_downgrade_fills_a_dropped_column(connection: Connection) -> None:
    old = tables(sa.Column("full_name", sa.String(60), nullable=False), sa.Column("age", sa.Integer, nullable=False))
    old.create_all(connection)
    connection.execute(sa.text("INSERT INTO things (id, full_name, age) VALUES (1, 'Ada King', 7), (2, 'Eve', 8)"))
    connection.commit()
    new = tables(sa.Column("first", sa.String(60), nullable=False), sa.Column("last", sa.String(60)))
    texts = ["things.first=sql:substr(full_name, 1, 3)", "things.full_name=sql:replace(first, 'd', 'X')"]

    changes = compare(connection, new, rename=["things.full_name="], fill=texts[:1]).packages["shop"]
    warnings = " ".join(risks(describe(changes)))
    assert f"downgrade {'fails' if connection.dialect.name in ('sqlite', 'postgresql') else 'gives'} " in warnings
    assert "add --fill things.full_name=VALUE." in warnings

    comparison = compare(connection, new, rename=["things.full_name="], fill=[*texts, "things.age=5"])
    changes = comparison.packages["shop"]
    written = body(changes)

    assert comparison.questions()["shop"] == ()
    assert "--fill" not in " ".join(risks(describe(changes)))
    for _ in range(2):
        run(connection, written.upgrades, written.imports)
        assert describe(compare(connection, new).packages["shop"]) == ()
        connection.rollback()
        run(connection, written.downgrades, written.imports)
        assert describe(compare(connection, old).packages["shop"]) == ()
        found = connection.execute(sa.text("SELECT id, full_name, age FROM things ORDER BY id")).all()
        connection.rollback()
        assert found == [(1, "AXa", 5), (2, "Eve", 5)]


@pytest.mark.drivers(*ONE_EACH)
def test_a_default_without_a_literal_is_asked_for(connection: Connection) -> None:
    with_rows(connection, tables())
    wrong = {"version": (Triple(), 1), "name": (sa.String(20), object()), "price": (sa.Float(), float("nan"))}
    new = tables(*(sa.Column(name, kind, nullable=False, default=value) for name, (kind, value) in wrong.items()))

    assert {each.name for each in compare(connection, new).questions()["shop"]} == {f"things.{name}" for name in wrong}


@pytest.mark.drivers("sqlite+pysqlite", "mariadb+pymysql")
def test_text_that_gets_another_type_is_warned_of(connection: Connection) -> None:
    kinds: dict[str, Any] = {"number": sa.Integer(), "day": sa.Date(), "longer": sa.String(80), "flag": sa.Boolean()}
    tables(*(sa.Column(name, sa.String(60)) for name in kinds)).create_all(connection)
    connection.commit()
    changes = compare(connection, tables(*(sa.Column(*each) for each in kinds.items()))).packages["shop"]
    keeps = "SQLite keeps only the number at the beginning of a value, such as 7 of '7 m', and 0 if there is none."
    checks = "SQLite does not check the values: one that is not a date stays, and the app cannot read it."
    if connection.dialect.name != "sqlite":
        keeps = checks = "Values that do not fit are rejected, or cut off."
    found = {change.name: change.risk.partition(". ")[2] for change in describe(changes)}
    assert found == {"things.number": keeps, "things.day": checks, "things.longer": "", "things.flag": keeps}


@pytest.mark.drivers("sqlite+pysqlite")
def test_a_value_that_is_not_one_is_refused(connection: Connection) -> None:
    with_rows(connection, tables())
    new = tables(*(sa.Column(name, VALUES[name][0], nullable=False) for name in WRONG), sa.Column("free", sa.Integer))
    for name, text in WRONG.items():
        with pytest.raises(
            RevisionInputError, match=f"--fill things.{name}={text}: '{text}' is not a value of the type"
        ):
            compare(connection, new, fill=[f"things.{name}={text}"])
    for text in ("age", "age=0", "things.=0"):
        with pytest.raises(RevisionInputError, match="A value has the form"):
            compare(connection, new, fill=[text])
    for text in ("things.free=1", "things.dates=2024-01-01", "others.age=1"):
        with pytest.raises(RevisionInputError, match="needs no value for existing rows"):
            compare(connection, new, fill=[text]).questions()
