"""``db-rev -a --safe``: the operations that it writes, and that they lead to the models in both directions."""

from __future__ import annotations

import re
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from comparing import ONE_EACH, compare, connected
from project import Project
from servers import Database
from sqlalchemy.engine import Connection

from ampho.database.schema import with_schema
from ampho.migrate.alembic import Body
from ampho.migrate.sqlite_batch import TableKeeper
from ampho.revise.autogenerate.operations.changes import Changes
from ampho.revise.autogenerate.operations.describe import describe
from ampho.revise.autogenerate.write.render import body
from ampho.revise.autogenerate.write.safe import SafeOperations

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
}


def before(schema: str | None) -> sa.MetaData:
    metadata = sa.MetaData(naming_convention=NAMES)
    sa.Table("shops", metadata, sa.Column("id", sa.Integer, primary_key=True), schema=schema)
    sa.Table(
        "orders",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("shop_id", sa.Integer),
        sa.Column("code", sa.String(20), index=True),
        sa.Column("total", sa.Integer),
        sa.CheckConstraint("total > 0", "total"),
        schema=schema,
    )
    return metadata


def after(schema: str | None) -> sa.MetaData:
    metadata = sa.MetaData(naming_convention=NAMES)
    prefix = f"{schema}." if schema else ""
    sa.Table("shops", metadata, sa.Column("id", sa.Integer, primary_key=True), schema=schema)
    sa.Table(
        "orders",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("shop_id", sa.ForeignKey(f"{prefix}shops.id"), index=True),
        sa.Column("code", sa.String(20), unique=True),
        sa.Column("total", sa.Integer, nullable=False, comment="in cents"),
        sa.Column("since", sa.DateTime, server_default=sa.func.now(), nullable=False),
        sa.CheckConstraint("total > 1", "total"),
        schema=schema,
    )
    return metadata


def safe(changes: Changes, connection: Connection, rows: int = -1) -> Body:
    found = SafeOperations(connection, rows)
    (whole,) = found.split(changes)
    found.replace(whole)
    return body(whole)


def run(connection: Connection, code: str, imports: str, metadata: sa.MetaData | None = None) -> None:
    connection.rollback()  # ends the transaction of a comparison
    options = {"transaction_per_migration": True, "transactional_ddl": True, "target_metadata": metadata}
    context = MigrationContext.configure(connection, opts=options)
    keeper = TableKeeper(connection)
    if connection.dialect.name == "sqlite":
        keeper.follow(context)
    with keeper.quiet(), context.begin_transaction(_per_migration=True), Operations.context(context) as operations:
        names: dict[str, Any] = {"op": operations, "sa": sa}
        exec(imports, names)
        exec(f"def change():\n    {code}\n", names)
        names["change"]()


def differences(connection: Connection, metadata: sa.MetaData, known: list[str]) -> list[str]:
    return [each.text for each in describe(compare(connection, metadata, known=known).packages["shop"])]


@pytest.mark.drivers(*ONE_EACH)
@pytest.mark.parametrize("schema", [None, "archive"])
def test_the_operations_lead_to_the_models_and_back(database: Database, schema: str | None) -> None:
    if schema and database.backend != "postgresql":
        pytest.skip("no schemas")
    with connected(database) as connection:
        if schema:
            connection.execute(sa.schema.CreateSchema(schema))
        old, new = before(schema), after(schema)
        old.create_all(connection)
        for number in (1, 2):
            connection.execute(
                old.tables[f"{schema}.orders" if schema else "orders"].insert().values(total=5, code=number)
            )
        connection.commit()
        keys = [*old.tables]
        written = safe(compare(connection, new, known=keys).packages["shop"], connection)
        for _ in range(2):
            run(connection, written.upgrades, written.imports)
            assert differences(connection, new, keys) == []
            run(connection, written.downgrades, written.imports)
            assert differences(connection, old, keys) == []
    names: dict[str, Any] = {}
    exec(written.imports, names)
    assert {name for name, value in names.items() if getattr(value, "__module__", "").startswith("ampho.")} == {
        *("add_column", "alter_column", "create_check_constraint", "create_foreign_key", "create_index"),
        *("create_unique_constraint", "drop_constraint", "drop_index"),
    }
    assert set(re.findall(r"\bop\.(\w+)", written.upgrades)) == {"f"}
    assert set(re.findall(r"\bop\.(\w+)", written.downgrades)) == {"f", "batch_alter_table"}  # drops a column


MODELS = """
from sqlalchemy import ForeignKey, MetaData
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention={names})


class Small(Base):
    __tablename__ = "small"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str | None]


class Large(Base):
    __tablename__ = "large"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str | None]
    is_new: Mapped[bool] = mapped_column(server_default="true")
"""
APP = """
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from ampho import Ampho
from shop import Base

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = {url!r}
app.config["AMPHO_MIGRATION_PACKAGES"] = ["shop"]
Ampho(app, SQLAlchemy(app, model_class=Base))
"""
NEW = """

class Added(Base):
    __tablename__ = "added"
    id: Mapped[int] = mapped_column(primary_key=True)
    large_id: Mapped[int] = mapped_column(ForeignKey("large.id"), index=True)
"""


def files(project: Project) -> list[str]:
    return [path.read_text("utf-8") for path in sorted(project.migrations("shop").glob("versions/*_*.py"))]


def shown(project: Project) -> list[str]:
    """Return the lines of the revisions in ``db-show``."""
    return project.run("ampho", "db-show", "shop").stdout.splitlines()[1:]


def calls(source: str) -> list[str]:
    body = source.partition("def upgrade")[2].partition("def downgrade")[0]
    return re.findall(r"^    ((?!sa)(?:with )?(?:op\.)?\w+)", body, re.MULTILINE)


@pytest.mark.drivers("postgresql+psycopg")
def test_db_rev_uses_the_operations_for_large_tables(project: Project, database: Database) -> None:
    models = MODELS.format(names=NAMES)
    project.write("shop/__init__.py", models)
    project.write("app.py", APP.format(url=database.url.render_as_string(hide_password=False)))
    project.run("ampho", "db-init", "shop")
    project.run("ampho", "db-rev", "shop", "First", "-a", "--safe")
    assert "ampho.operations" not in files(project)[0]  # new tables are empty
    project.run("ampho", "db-up")
    start = database.schema()
    database.run("INSERT INTO small VALUES (1, 'a'), (2, 'b')", "INSERT INTO large SELECT generate_series(1, 3)")
    code = "code: Mapped[str | None]"
    indexed = models.replace(code, f"{code} = mapped_column(index=True)") + NEW
    project.write("shop/__init__.py", indexed)

    refused = project.run("ampho", "db-rev", "shop", "x", "--safe-above", "2", check=False)
    assert "--safe-above requires --autogenerate" in refused.stderr
    refused = project.run("ampho", "db-rev", "-a", "x", "--safe-above", "2", "--scratch", check=False)
    assert "so it excludes --scratch" in refused.stderr
    project.run("ampho", "db-rev", "-a", "Second", "--safe-above", "2")
    _, *written = files(project)
    assert [calls(each) for each in written] == [
        ["op.create_table", "with op.batch_alter_table"],
        ["create_index"],
        ["with op.batch_alter_table"],
    ]
    assert 'create_index(op.f("ix_large_code"), "large", ["code"], unique=False)' in written[1]

    project.run("ampho", "db-up")
    assert "matches its models" in project.run("ampho", "db-check").stdout
    project.run("ampho", "db-down", "shop@-3", "-y")
    assert database.schema() == start
    for path in sorted(project.migrations("shop").glob("versions/*_second*.py")):
        path.unlink()
    project.write("shop/__init__.py", models + "    age: Mapped[int]\n")
    project.run("ampho", "db-rev", "shop", "Third", "-a", "--safe", "--fill", "large.age=7")
    _, *written = files(project)
    # Rows that the old release adds after the first backfill get the value in the second one.
    assert [calls(each) for each in written] == [["add_column"], ["backfill"], ["backfill"], ["alter_column"]]
    assert 'backfill("large", {"age": sa.text("7")}, sa.column("age").is_(None))' in written[1]
    assert [line.split("  ")[-2 if "(head)" in line else -1] for line in shown(project)[1:]] == [
        "Third: add large.age",
        "Third: fill large.age",
        "Third: fill large.age again",
        "Third: make large.age NOT NULL",
    ]
    project.run("ampho", "db-up")
    assert database.query("SELECT DISTINCT age FROM large") == [(7,)]
    assert "matches its models" in project.run("ampho", "db-check").stdout
    project.run("ampho", "db-down", "shop@-4", "-y")
    assert database.schema() == start
    for path in sorted(project.migrations("shop").glob("versions/*_third*.py")):
        path.unlink()
    project.write("shop/__init__.py", indexed)
    project.run("ampho", "db-rev", "shop", "Second", "-a", "--safe", "--rev-id", "shop_second")
    second = files(project)[-1]
    assert "from ampho.operations import create_index, drop_index\n" in second
    assert calls(second) == ["op.create_table", "with op.batch_alter_table", "create_index", "create_index"]


CONVENTION = """
create_index(None, "orders", ["shop_id"])
create_unique_constraint(None, "orders", ["shop_id", "total"])
create_check_constraint("total", "orders", "total > 0")
create_foreign_key(None, "orders", "shops", ["shop_id"], ["id"])
drop_index("ix_orders_shop_id", "orders")
"""


@pytest.mark.drivers("postgresql+psycopg")
def test_names_of_a_convention_in_the_schema_of_a_tenant(database: Database) -> None:
    engine = sa.create_engine(database.sync_url)
    with engine.begin() as connection:
        connection.execute(sa.schema.CreateSchema("other"))
        connection.execute(sa.schema.CreateSchema("tenant"))
        before("other").create_all(connection)
    with with_schema(engine, "tenant", "a test").connect() as connection:
        plain = sa.MetaData()
        sa.Table("shops", plain, sa.Column("id", sa.Integer, primary_key=True))
        columns = (sa.Column(name, sa.Integer) for name in ("id", "shop_id", "total"))
        sa.Table("orders", plain, *columns)
        plain.create_all(connection)
        connection.commit()
        for _ in range(2):
            imports = "from ampho.operations import *"
            run(connection, CONVENTION.strip().replace("\n", "\n    "), imports, sa.MetaData(naming_convention=NAMES))
        found = sa.inspect(connection)
        assert [each["name"] for each in found.get_indexes("orders")] == ["uq_orders_shop_id_total"]
        assert [each["name"] for each in found.get_unique_constraints("orders")] == ["uq_orders_shop_id_total"]
        assert [each["name"] for each in found.get_check_constraints("orders")] == ["ck_orders_total"]
        assert [each["name"] for each in found.get_foreign_keys("orders")] == ["fk_orders_shop_id_shops"]
        found_elsewhere = found.get_indexes("orders", schema="other")
        assert [each["name"] for each in found_elsewhere] == ["ix_orders_code"]
    engine.dispose()
