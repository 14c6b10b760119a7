"""Types, schemas, and constraints in written revisions, and the names in them that do not exist."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
from textwrap import indent
from typing import Any

import pytest
import sqlalchemy as sa
from comparing import ONE_EACH, compare, connected, run
from documents import ROOT, blocks
from project import Project
from servers import Database
from store import Store, open_store

from ampho.errors import RevisionInputError
from ampho.revise.autogenerate.operations.describe import describe
from ampho.revise.autogenerate.write.render import body

GUIDE = ROOT / "docs" / "revisions.md"
STATES = """
class {class_}(db.Model):
    __tablename__ = "{table}"
    id = sa.Column(sa.Integer, primary_key=True)
    {columns}
"""
SHOP = STATES.format(class_="Order", table="orders", columns="state = sa.Column({type})")
ENUM = "sa.Enum({labels}, name='order_state'){more}"


def up_down_up(store: Store, package: str) -> None:
    store.run("db-up")
    store.run("db-down", f"{package}@-1")
    store.run("db-up")
    assert "differs" not in store.run("db-check").stdout


def types(database: Database) -> dict[str, list[str]]:
    found = database.query(
        "SELECT typname, array_agg(enumlabel::text ORDER BY enumsortorder)"
        " FROM pg_type JOIN pg_enum ON enumtypid = pg_type.oid GROUP BY 1"
    )
    return {name: list(labels) for name, labels in found}


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg")
def test_an_enum_type_comes_changes_and_goes_with_its_columns(project: Project, database: Database) -> None:
    def models(labels: str, more: str = "", extra: str = "") -> str:
        return SHOP.format(type=ENUM.format(labels=labels, more=more)) + extra

    store = open_store(project, database, {"shop": models("'new', 'paid'", ", server_default='new'")})
    store.auto("shop")
    up_down_up(store, "shop")
    assert types(database) == {"order_state": ["new", "paid"]}
    database.run("INSERT INTO orders (id, state) VALUES (1, 'paid')")

    # A label that is added in its place; the downgrade refuses to lose rows that use it.
    store.models("shop", models("'new', 'it''s: 5 %', 'paid'".replace("''", "\\'"), ", server_default='new'"))
    added = store.auto("shop")
    assert "autocommit_block" not in added.path.read_text("utf-8")
    up_down_up(store, "shop")
    assert types(database) == {"order_state": ["new", "it's: 5 %", "paid"]}
    database.run("UPDATE orders SET state = 'it''s: 5 %'")
    assert "invalid input value for enum" in store.run("db-down", "shop@-1", exit_code=1).stderr
    assert database.query("SELECT state::text FROM orders") == [("it's: 5 %",)]
    database.run("UPDATE orders SET state = 'paid'")

    # A label that is used in the same revision is committed first; others are removed.
    store.models("shop", models("'new', 'paid', 'sent'", ", server_default='sent'", "    old = sa.Column(sa.Text)\n"))
    store.auto("shop")
    store.run("db-up")
    assert types(database) == {"order_state": ["new", "paid", "sent"]}
    assert database.query("SELECT state::text FROM orders") == [("paid",)]

    store.models("shop", "")
    store.auto("shop")
    up_down_up(store, "shop")
    assert types(database) == {}


CHECKED = {
    "none": "",
    "some": """state = sa.Column(sa.Enum("new", "old", name="state", native_enum=False, create_constraint=True))
    done = sa.Column(sa.Boolean(name="done", create_constraint=True))""",
    "more": """state = sa.Column(sa.Enum("new", "done: %", name="state", native_enum=False, create_constraint=True))
    done = sa.Column(sa.Text)""",
}


@pytest.mark.measured("pysqlite")
@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg", "mariadb+pymysql")
@pytest.mark.parametrize(
    "convention", ["", "db.metadata.naming_convention = {'ck': 'ck_%(table_name)s_%(constraint_name)s'}"]
)
def test_types_with_checks_come_change_and_go(project: Project, database: Database, convention: str) -> None:
    models = {
        name: convention + STATES.format(class_="Order", table="orders", columns=columns)
        for name, columns in CHECKED.items()
    }
    store = open_store(project, database, {"shop": models["none"]})
    store.auto("shop")
    store.run("db-up")
    for name in ("some", "more", "some", "none"):
        store.models("shop", models[name])
        store.auto("shop")
        up_down_up(store, "shop")


LABELED = """
class {name}(db.Model):
    __tablename__ = "{name}"
    __table_args__ = (
        sa.Index("ix {name}", "state", postgresql_where=sa.text("{where}")),
        sa.CheckConstraint("state <> 'lost'", name="ck {name}"),
    )
    id = sa.Column(sa.Integer, primary_key=True)
    state = sa.Column(sa.Enum({labels}, name="State"))
"""


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg")
def test_labels_change_although_indexes_and_checks_contain_them(project: Project, database: Database) -> None:
    def models(labels: str, where: str) -> str:
        return "\n".join(LABELED.format(name=name, labels=labels, where=where) for name in ("Order", "Old"))

    store = open_store(project, database, {"shop": models("'new', 'lost'", "state = 'new'")})
    store.auto("shop")
    store.run("db-up")
    for labels, where in (
        ("'new', 'lost', 'sent'", "state = 'new'"),
        ("'new', 'lost'", "state = 'new'"),
        ("'new', 'lost', 'sent'", "state = 'sent'"),
        ("'new', 'lost', 'paid'", "state IN ('paid', 'new')"),
    ):
        schema = database.schema()
        store.models("shop", models(labels, where))
        store.auto("shop")
        store.run("db-up")
        store.run("db-down", "shop@-1")
        assert database.schema() == schema
        store.run("db-up")
        assert "differs" not in store.run("db-check").stdout


@pytest.mark.drivers("postgresql+psycopg")
def test_labels_are_removed_from_columns_that_are_renamed(project: Project, database: Database) -> None:
    store = open_store(project, database, {"shop": LABELED.format(name="Order", labels="'a', 'lost'", where="id > 1")})
    store.auto("shop")
    store.run("db-up")
    source = LABELED.format(name="Sale", labels="'a', 'lost', 'b'", where="state = 'a'")
    store.models("shop", source)
    store.auto("shop", "--rename", "Order=Sale")
    up_down_up(store, "shop")
    store.models("shop", source.replace("Sale", "Sold").replace(", 'b'", ""))
    store.auto("shop", "--rename", "Sale=Sold")
    up_down_up(store, "shop")


@pytest.mark.drivers("postgresql+psycopg")
def test_a_serial_column_of_a_renamed_table_becomes_an_identity(project: Project, database: Database) -> None:
    source = SHOP.format(type="sa.Integer")
    store = open_store(project, database, {"shop": source})
    store.auto("shop")
    store.run("db-up")
    source = source.replace('"orders"', '"Orders"')
    store.models("shop", source)
    store.auto("shop", "--rename", "orders=Orders")
    store.run("db-up")
    database.run('INSERT INTO "Orders" (state) VALUES (1)')
    store.models("shop", source.replace("sa.Integer, primary", "sa.Integer, sa.Identity(), primary"))
    store.auto("shop")
    up_down_up(store, "shop")
    database.run('INSERT INTO "Orders" (state) VALUES (2)')
    assert database.query('SELECT id FROM "Orders" ORDER BY id') == [(1,), (2,)]


@pytest.mark.drivers("postgresql+psycopg")
def test_an_integer_becomes_a_boolean_with_another_default(project: Project, database: Database) -> None:
    store = open_store(project, database, {"shop": SHOP.format(type="sa.Integer, server_default='0'")})
    store.auto("shop")
    store.run("db-up")
    database.run("INSERT INTO orders (id, state) VALUES (1, 1)")
    store.models("shop", SHOP.format(type="sa.Boolean, server_default=sa.false()"))
    store.auto("shop")
    up_down_up(store, "shop")
    database.run("INSERT INTO orders (id) VALUES (2)")
    assert database.query("SELECT state FROM orders ORDER BY id") == [(True,), (False,)]


@pytest.mark.drivers("postgresql+psycopg")
def test_a_text_becomes_an_enum(project: Project, database: Database) -> None:
    store = open_store(project, database, {"shop": SHOP.format(type="sa.String(20), server_default='new'")})
    store.auto("shop")
    store.run("db-up")
    database.run("INSERT INTO orders (id, state) VALUES (1, 'paid')")
    enum = ENUM.format(labels="'new', 'paid'", more=", server_default='new'")
    store.models("shop", SHOP.format(type=enum))
    warned = store.run("db-rev", "shop", "Enum", "-a").stderr
    assert (
        "order_state, with USING state::text::order_state. The revision fails if a value cannot be converted" in warned
    )
    assert "Add postgresql_using" not in warned
    lines = store.files("shop")[-1].read_text("utf-8").splitlines()
    argument = next(number for number, line in enumerate(lines) if "postgresql_using=" in line)
    assert re.match(" *", lines[argument])[0] == re.match(" *", lines[argument - 1])[0]  # type: ignore[index]
    up_down_up(store, "shop")
    database.run("INSERT INTO orders (id) VALUES (2)")
    assert database.query("SELECT state::text FROM orders ORDER BY id") == [("paid",), ("new",)]
    store.run("db-down", "shop@-1")
    assert types(database) == {}


@pytest.mark.drivers("postgresql+psycopg")
def test_a_type_that_two_packages_use_is_created_once(project: Project, database: Database) -> None:
    used = ENUM.format(labels="'a', 'b'", more="")
    shop = SHOP.format(type=used)
    mail = STATES.format(
        class_="Mail",
        table="mails",
        columns=f"order_id = sa.Column(sa.ForeignKey('orders.id'))\n    states = sa.Column(sa.ARRAY({used}))",
    )
    store = open_store(project, database, {"shop": shop, "mail": mail})
    first, second = store.auto("shop"), store.auto("mail")
    assert ".create(op.get_bind()" in first.path.read_text("utf-8")
    assert second.depends_on == (first.id,)
    store.run("db-up")
    store.run("db-down", "mail@-1")
    store.run("db-down", "shop@-1")
    assert types(database) == {}
    store.run("db-up")
    assert store.run("db-check").stdout.count("matches its models") == 2


@pytest.mark.drivers("postgresql+psycopg")
def test_a_schema_is_created_and_compared_without_a_switch(project: Project, database: Database) -> None:
    table = """
    class Entry(db.Model):
        __tablename__ = "entries"
        __table_args__ = {"schema": "audit"}
        id = sa.Column(sa.Integer, primary_key=True)
        parent_id = sa.Column(sa.ForeignKey("audit.entries.id"))
        tag_id = sa.Column(sa.ForeignKey("public.tags.id"))


    class Tag(db.Model):
        __tablename__ = "tags"
        __table_args__ = {"schema": "public"}
        id = sa.Column(sa.Integer, primary_key=True)
        parent_id = sa.Column(sa.ForeignKey("public.tags.id"))
    """
    store = open_store(project, database, {"shop": table})
    assert "CREATE SCHEMA IF NOT EXISTS audit" in store.auto("shop").path.read_text("utf-8")
    up_down_up(store, "shop")
    store.nothing_to_do("shop")
    store.models("shop", "")
    assert 'op.drop_table("entries", schema="audit")' in store.auto("shop").path.read_text("utf-8")
    up_down_up(store, "shop")


KINDS = """
import sqlalchemy as sa


class Outer:
    class Inner(sa.types.TypeDecorator):
        impl = sa.String(20)
        cache_ok = True


class Money(sa.types.TypeDecorator):
    impl = sa.Numeric(9, 2)
    cache_ok = True

    def __init__(self, digits):
        super().__init__()


class Point(sa.types.UserDefinedType):
    cache_ok = True

    def __init__(self, axes):
        self.lost = axes + 1

    def get_col_spec(self, **kw):
        return "TEXT"


class Secret(sa.types.TypeDecorator):
    impl = sa.VARBINARY(99)
    cache_ok = True

    def __init__(self, **options):
        super().__init__()
        self.options = options

    def load_dialect_impl(self, dialect):
        return dialect.type_descriptor(sa.BLOB({"scheme": 99}[next(iter(self.options))]))


class Shape(sa.types.UserDefinedType):
    cache_ok = True

    def __init__(self, srid=-1, spatial_index=True):
        self.srid, self.spatial_index = srid, spatial_index

    def get_col_spec(self, **kw):
        return "TEXT"


def local():
    class Local(sa.types.TypeDecorator):
        impl = sa.Text
        cache_ok = True

    return Local()
"""


def strings(code: str) -> list[str]:
    """Return the strings in code, with their quotes."""
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    return [token.string for token in tokens if token.type == tokenize.STRING]


def formatted(code: str) -> str:
    """Return code as ruff formats it."""
    ruff = [sys.executable, "-m", "ruff", "format", "--isolated", "-"]
    return subprocess.run(ruff, input=code, capture_output=True, text=True, check=True).stdout


@pytest.mark.drivers(*ONE_EACH)
def test_functions_in_defaults_that_are_written_for_sqlite_run_on_every_database(database: Database) -> None:
    columns: dict[str, tuple[Any, Any]] = {
        "now": (sa.DateTime, sa.func.now()),
        "moment": (sa.DateTime, sa.func.current_timestamp()),
        "active": (sa.Boolean, sa.true()),
        "closed": (sa.Boolean, sa.false()),
    }
    old, new = sa.MetaData(), sa.MetaData()
    for metadata, names in ((old, ["now", "active"]), (new, columns)):
        items = [sa.Column(n, columns[n][0], server_default=columns[n][1] if metadata is new else None) for n in names]
        sa.Table("things", metadata, sa.Column("id", sa.Integer, primary_key=True), *items)
    with sa.create_engine("sqlite://", poolclass=sa.NullPool).connect() as sqlite, connected(database) as connection:
        for each in (sqlite, connection):
            old.create_all(each)
            each.commit()
        written = body(compare(sqlite, new).packages["shop"])
        assert re.findall(r"server_default=(sa\.[\w.]+\(\))", written.upgrades) == [
            "sa.func.current_timestamp()",
            "sa.false()",
            "sa.func.now()",
            "sa.true()",
        ]
        run(connection, written.upgrades, written.imports)
        assert describe(compare(connection, new).packages["shop"]) == ()
        run(connection, written.downgrades, written.imports)
        assert describe(compare(connection, old).packages["shop"]) == ()


@pytest.mark.drivers("sqlite+pysqlite", "mariadb+pymysql")
def test_types_are_written_so_that_they_run_or_are_refused(project: Project, database: Database) -> None:
    columns = "\n    ".join(
        f"{name} = sa.Column({type_})"
        for name, type_ in {
            "inner": "kinds.Outer.Inner()",
            "money": "kinds.Money(12)",
            "local": "kinds.local()",
            "secret": "kinds.Secret(scheme='plain')",
            "shape": "kinds.Shape()",
            "place": "kinds.Shape(4326)",
            "variant": "kinds.Money(12).with_variant(sa.String(9), 'oracle')",
            "quoted": r"""sa.String(9), server_default='it\'s "\\n"'""",
        }.items()
    )
    imports = "from shop import kinds\n"
    store = open_store(project, database, {"shop": imports + STATES.format(class_="A", table="a", columns=columns)})
    project.write("shop/kinds.py", KINDS)
    result = store.run("db-rev", "shop", "First", "-a")
    assert "the type Money of a.money is not known" in result.stderr
    source = store.newest("shop")
    assert "shop.kinds.Outer.Inner(" in source
    assert "import shop.kinds" in source
    assert 'sa.Numeric(precision=9, scale=2).with_variant(sa.String(length=9), "oracle")' in source
    assert "sa.LargeBinary(length=99)" in source
    assert "shop.kinds.Shape(spatial_index=False)" in source
    assert "shop.kinds.Shape(srid=4326, spatial_index=False)" in source
    assert strings(source) == strings(formatted(source))
    up_down_up(store, "shop")

    point = columns + "\n    point = sa.Column(kinds.Point(2))"
    store.models("shop", imports + STATES.format(class_="A", table="a", columns=point))
    error = store.refused("db-rev", "shop", "Second", "-a")
    assert "the type Point of a.point is not known" in error
    assert "render_item" in error


class Position(sa.types.UserDefinedType[str]):
    """A type of databases that SQLAlchemy does not recognize when it reflects a table."""

    cache_ok = True

    def get_col_spec(self, **options: object) -> str:
        return "POINT"


@pytest.mark.filterwarnings("ignore:Did not recognize type")
@pytest.mark.drivers("postgresql+psycopg", "mariadb+pymysql")
def test_types_that_sqlalchemy_does_not_recognize_are_kept_or_refused(database: Database) -> None:
    def places(type_: Any, name: str = "at", **options: Any) -> sa.MetaData:
        metadata = sa.MetaData()
        sa.Table("places", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column(name, type_, **options))
        return metadata

    with connected(database) as connection:
        old, new = places(Position()), places(Position(), "position", nullable=False)
        old.create_all(connection)
        connection.commit()
        assert describe(compare(connection, old).packages["shop"]) == ()
        written = body(compare(connection, new, rename=["places.at=position"]).packages["shop"])
        run(connection, written.upgrades, written.imports)
        assert describe(compare(connection, new).packages["shop"]) == ()
        run(connection, written.downgrades, written.imports)
        assert describe(compare(connection, old).packages["shop"]) == ()
        without = sa.MetaData()
        sa.Table("places", without, sa.Column("id", sa.Integer, primary_key=True))
        for metadata in (places(sa.String(50)), without, sa.MetaData()):
            with pytest.raises(RevisionInputError, match=r"cannot create places\.at again.*ischema_names"):
                body(compare(connection, metadata).packages["shop"])
        names = dict(connection.dialect.ischema_names)
        connection.dialect.ischema_names = names | {"point": Position}
        written = body(compare(connection, sa.MetaData()).packages["shop"])
        run(connection, written.upgrades, written.imports)
        run(connection, written.downgrades, written.imports)
        assert describe(compare(connection, old).packages["shop"]) == ()


@pytest.mark.drivers("sqlite+pysqlite")
def test_a_dropped_column_without_a_type_is_created_again(database: Database) -> None:
    with connected(database) as connection:
        connection.exec_driver_sql("CREATE TABLE things (id INTEGER NOT NULL PRIMARY KEY, x)")
        connection.commit()
        written = body(compare(connection, sa.MetaData()).packages["shop"])
        run(connection, written.upgrades, written.imports)
        run(connection, written.downgrades, written.imports)
        connection.exec_driver_sql("INSERT INTO things VALUES (1, 1), (2, 'a')")
        assert connection.exec_driver_sql("SELECT x FROM things").scalars().all() == [1, "a"]


@pytest.mark.drivers("sqlite+pysqlite")
def test_the_render_item_of_the_guide_writes_the_type_of_the_database(project: Project, database: Database) -> None:
    color = (
        "class Color(sa.TypeDecorator):\n    impl = sa.String\n    cache_ok = True\n    def __repr__(self):\n"
        "        return f'Color(length={self.length})'\n"
    )
    (function,) = [each.text for each in blocks(GUIDE) if "def render_item" in each.text]
    function = indent(function.partition("Ampho(")[0], "    ")
    project.write("rendering.py", f"def render(Color):\n{function}\n    return render_item\n")
    project.write("colors.py", "import sqlalchemy as sa\n" + color)
    models = "from colors import Color\n" + STATES.format(class_="A", table="a", columns="c = sa.Column(Color(7))")
    store = open_store(project, database, {"shop": models})
    store.auto("shop")
    assert "colors.Color(length=7)" in store.newest("shop")

    (newest,) = store.files("shop")
    newest.unlink()
    options = "dict(render_item=__import__('rendering').render(__import__('colors').Color))"
    store = open_store(project, database, {"shop": models}, options=options)
    store.auto("shop")
    assert 'sa.Column("c", sa.String(length=7)' in store.newest("shop")
    assert "colors" not in store.newest("shop")
    up_down_up(store, "shop")


@pytest.mark.drivers("sqlite+pysqlite")
def test_a_template_without_an_import_is_refused(project: Project, database: Database) -> None:
    store = open_store(project, database, {"shop": SHOP.format(type="sa.Integer")})
    template = (
        "revision = ${repr(up_revision)}\\ndown_revision = ${repr(down_revision)}\\n"
        "branch_labels = ${repr(branch_labels)}\\ndepends_on = ${repr(depends_on)}\\n"
        "def upgrade():\\n    ${upgrades}\\ndef downgrade():\\n    ${downgrades}\\n"
    ).replace("\\n", "\n")
    project.write("shop/migrations/script.py.mako", "from alembic import op\n" + template)
    error = store.refused("db-rev", "shop", "First", "-a")
    assert "sa.Column" in error or " sa is not defined" in error
    assert "script.py.mako of shop" in error


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_generated_columns_are_read_up_to_the_columns_that_were_added_after_them(
    project: Project, database: Database
) -> None:
    first = "n = sa.Column(sa.Integer)\n    twice = sa.Column(sa.Integer, sa.Computed('n * (2)', persisted=True))"
    added = first + "\n    name = sa.Column(sa.String(9))\n    half = sa.Column(sa.Integer, sa.Computed('n / 2'))"
    store = open_store(project, database, {"shop": STATES.format(class_="A", table="a", columns=first)})
    store.auto("shop")
    store.run("db-up")
    database.run("INSERT INTO a (n) VALUES (6)")
    for columns in (added, added.replace("sa.String(9)", "sa.Text, index=True, server_default='x'"), first):
        store.models("shop", STATES.format(class_="A", table="a", columns=columns))
        store.auto("shop")
        up_down_up(store, "shop")
        assert database.query("SELECT n, twice FROM a") == [(6, 12)]
