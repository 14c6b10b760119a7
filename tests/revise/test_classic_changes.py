"""Twelve classic changes by a newcomer, who only edits models, and runs ``db-rev -a`` and ``db-up``.

The models inherit from ``db.Model``, the app comes from a factory, and all tables have rows, which are kept in both
directions. ``AMPHO_CLASSIC_CHANGES=all`` walks on every driver.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
from facade import Facade, facade
from project import Project
from servers import DRIVERS, Database

APP = """
from {framework} import {app}
from ampho import {extension}
from shop.models import db


def create_app():
    app = {app}(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = {url!r}
    app.config["AMPHO_MIGRATION_PACKAGES"] = ["shop"]
    db.init_app(app)
    {extension}(app, db)
    return app
"""
MODELS = """
import enum

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship
from {module} import {sqlalchemy}

from shop.types import Color

db = {sqlalchemy}(
    metadata=sa.MetaData(
        naming_convention={{
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }}
    )
)


class Customer(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(50))
"""
TYPES = '''
import sqlalchemy as sa


class Color(sa.TypeDecorator):
    """A color, as three numbers in Python and as #rrggbb in the database."""

    impl = sa.String(7)
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return None if value is None else "#%02x%02x%02x" % value

    def process_result_value(self, value, dialect):
        return None if value is None else tuple(bytes.fromhex(value[1:]))
'''
ORDER = """

class Order(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("customer.id"))
"""
STATUS = """

class Status(enum.Enum):
    new = "new"
    paid = "paid"


class Order(db.Model):"""
ARCHIVE = """

class Report(db.Model):
    __table_args__ = {"schema": "{archive}"}

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(sa.String(50))
"""
TAGS = """

order_tag = sa.Table(
    "order_tag",
    db.metadata,
    sa.Column("order_id", sa.ForeignKey("order.id"), primary_key=True),
    sa.Column("tag_id", sa.ForeignKey("tag.id"), primary_key=True),
)


class Tag(db.Model):
    __tablename__ = "tag"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(sa.String(20))
    orders: Mapped[list[Order]] = relationship(secondary=order_tag)
"""


Found = tuple[str, list[tuple[Any, ...]]]


class Change(NamedTuple):
    """A change of the models.

    :ivar edits: pairs of text in ``models.py``, what is replaced and by what; an empty text is the end of the file.
    :ivar options: those of ``db-rev -a`` that say what the models do not.
    :ivar rows: SQL that adds rows after the upgrade.
    :ivar found: a query that works after the upgrade, and what it finds.
    """

    message: str
    edits: list[tuple[str, str]]
    found: Found
    options: tuple[str, ...] = ()
    rows: str = ""


CHANGES = [
    Change(
        "add a table",
        [("", ORDER)],
        ("SELECT name, o.id FROM customer JOIN {order} o ON customer_id = customer.id", [("Ann", 7)]),
        rows="INSERT INTO {order} (id, customer_id) VALUES (7, 1)",
    ),
    Change(
        "add a nullable column",
        [
            (
                "    name: Mapped[str] = mapped_column(sa.String(50))\n",
                "{0}    email: Mapped[str | None] = mapped_column(sa.String(100))\n",
            )
        ],
        ("SELECT name, email FROM customer", [("Ann", "a@b")]),
        rows="UPDATE customer SET email = 'a@b'",
    ),
    Change(
        "rename a column",
        [("    name:", "    full_name:")],
        ("SELECT id, full_name, email FROM customer", [(1, "Ann", "a@b")]),
        ("--rename", "customer.name=full_name"),
    ),
    Change(
        "add a NOT NULL column",
        [('sa.ForeignKey("customer.id"))\n', "{0}    quantity: Mapped[int]\n")],
        ("SELECT id, customer_id, quantity FROM {order}", [(7, 1, 3)]),
        ("--fill", "order.quantity=3"),
    ),
    Change(
        "change a type",
        [("    quantity: Mapped[int]\n", "    quantity: Mapped[float] = mapped_column(sa.Numeric(8, 2))\n")],
        ("SELECT id, customer_id, quantity FROM {order}", [(7, 1, 3)]),
    ),
    Change(
        "add an enum",
        [
            ("\n\nclass Order(db.Model):", STATUS),
            (
                'sa.ForeignKey("customer.id"))\n',
                '{0}    status: Mapped[Status] = mapped_column(server_default="new")\n',
            ),
        ],
        ("SELECT id, status FROM {order}", [(7, "paid")]),
        rows="UPDATE {order} SET status = 'paid'",
    ),
    Change(
        "add a label to the enum",
        [('    paid = "paid"\n', '{0}    delivered = "delivered"\n')],
        ("SELECT id, status FROM {order}", [(7, "paid")]),
    ),
    Change(
        "add a table in a schema",
        [("", ARCHIVE)],
        ("SELECT id, title FROM {archive}.report", [(1, "Sales")]),
        rows="INSERT INTO {archive}.report (id, title) VALUES (1, 'Sales')",
    ),
    Change(
        "add a column of an own type",
        [("    email: Mapped", "    color: Mapped[tuple | None] = mapped_column(Color)\n{0}")],
        ("SELECT full_name, color FROM customer", [("Ann", "#ff0000")]),
        rows="UPDATE customer SET color = '#ff0000'",
    ),
    Change(
        "add a table between two others",
        [("", TAGS)],
        ("SELECT order_id, text FROM order_tag JOIN tag ON tag_id = tag.id", [(7, "urgent")]),
        rows="INSERT INTO tag (id, text) VALUES (1, 'urgent'); INSERT INTO order_tag (order_id, tag_id) VALUES (7, 1)",
    ),
    Change(
        "add a unique constraint",
        [("mapped_column(sa.String(100))", "mapped_column(sa.String(100), unique=True)")],
        ("SELECT full_name, email, color FROM customer", [("Ann", "a@b", "#ff0000")]),
    ),
    Change(
        "rename a table",
        [('__tablename__ = "tag"', '__tablename__ = "label"'), ('"tag.id"', '"label.id"')],
        ("SELECT order_id, text FROM order_tag JOIN label ON tag_id = label.id", [(7, "urgent")]),
        ("--rename", "tag=label"),
    ),
    Change(
        "drop a column",
        [("    color: Mapped[tuple | None] = mapped_column(Color)\n", "")],
        ("SELECT full_name, email FROM customer", [("Ann", "a@b")]),
    ),
]
FIRST = ("SELECT id, name FROM customer", [(1, "Ann")])


def write_app(project: Project, database: Database) -> None:
    names = {"framework": "flask", "app": "Flask", "extension": "Ampho", "module": "flask_sqlalchemy"}
    if database.is_async:
        names = {"framework": "quart", "app": "Quart", "extension": "AsyncAmpho", "module": "ampho"}
    sqlalchemy = "AsyncSQLAlchemy" if database.is_async else "SQLAlchemy"
    url = database.url.render_as_string(hide_password=False)
    project.write("app.py", APP.format(**names, url=url))
    project.write("shop/__init__.py", "")
    project.write("shop/types.py", TYPES)
    project.write("shop/models.py", MODELS.format(**names, sqlalchemy=sqlalchemy))


def edit(project: Project, database: Database, change: Change) -> None:
    text = project.read("shop/models.py")
    for old, new in change.edits:
        assert old in text
        added = new.replace("{0}", old).replace("{archive}", archive(database))
        text = text.replace(old, added, 1) if old else text + added
    project.write("shop/models.py", text)


def sql(database: Database, statement: str) -> str:
    quote = database.sync_url.get_dialect()().identifier_preparer.quote
    return statement.replace("{order}", quote("order")).replace("{archive}", archive(database))


def archive(database: Database) -> str:
    """Return the name of a schema, which on MariaDB is a database of the whole server."""
    return f"{database.name}_a" if database.backend == "mariadb" else "archive"


def query(database: Database, found: Found) -> None:
    assert database.query(sql(database, found[0])) == found[1]


def walk(project: Project, database: Database, each: Facade, change: Change, before: Found) -> None:
    """Write the revision of a change, and run it up, down and up again."""
    edit(project, database, change)
    written = project.run("ampho", "db-rev", "shop", change.message, "-a", *change.options)
    assert "Wrote" in written.stdout
    project.run("ampho", "db-up")
    each.call("downgrade")
    query(database, before)
    each.call("upgrade")
    if change.rows:
        database.run(*sql(database, change.rows).split("; "))
    query(database, change.found)


@contextmanager
def schema(database: Database) -> Iterator[None]:
    """Create the schema on MariaDB, where Ampho does not create it, because it is a database of its own."""
    if database.backend != "mariadb":
        yield
        return
    database.run(f"CREATE DATABASE {archive(database)}")
    try:
        yield
    finally:
        database.run(f"DROP DATABASE {archive(database)}")


@pytest.mark.measured("pymysql")
@pytest.mark.drivers(
    *(
        DRIVERS
        if os.environ.get("AMPHO_CLASSIC_CHANGES") == "all"
        else ["sqlite+pysqlite", "postgresql+asyncpg", "mariadb+pymysql"]
    )
)
def test_the_changes_are_made_by_editing_models_only(project: Project, database: Database) -> None:
    write_app(project, database)
    project.run("ampho", "db-init", "shop")
    project.run("ampho", "db-rev", "shop", "Initial", "-a")
    project.run("ampho", "db-up")
    database.run("INSERT INTO customer (id, name) VALUES (1, 'Ann')")
    before = FIRST
    framework = "quart" if database.is_async else "flask"
    with schema(database), facade(project, framework, ["shop"], database.url) as each:
        for change in CHANGES:
            if database.backend == "sqlite" and "schema" in change.message:
                continue  # SQLite has none
            walk(project, database, each, change, before)
            before = change.found
        project.run("ampho", "db-check")
