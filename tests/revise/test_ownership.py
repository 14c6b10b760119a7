"""Which package a table belongs to: what becomes of tables whose model is gone, and of those that nobody owns."""

from __future__ import annotations

import pytest
from project import Project
from servers import Database
from sqlalchemy import make_url
from store import BOOKS, CUSTOMERS, MODELS, ORDERS, Store, open_store

from ampho.history.package import configured_packages
from ampho.migrate.project import Project as Migrations
from ampho.revise.autogenerate.owners.ownership import find_owners

ONE_EACH = ("sqlite+pysqlite", "postgresql+asyncpg")
HAND_MADE = "CREATE TABLE by_hand (id INTEGER PRIMARY KEY)"


def table(name: str, class_: str = "", *columns: str) -> str:
    """The source of a model with a primary key, and whatever columns."""
    lines = [f"class {class_ or name.title().replace('_', '')}(db.Model):", f"    __tablename__ = '{name}'"]
    lines += ["    id = sa.Column(sa.Integer, primary_key=True)", *(f"    {column}" for column in columns)]
    return "\n".join(lines) + "\n\n\n"


@pytest.fixture
def shop(project: Project, database: Database) -> Store:
    """Accounts and catalog, written and applied."""
    return applied(open_store(project, database, {"accounts": CUSTOMERS, "catalog": BOOKS}))


def applied(shop: Store) -> Store:
    for package in shop.packages:
        shop.auto(package)
    shop.run("db-up")
    return shop


@pytest.mark.usefixtures("unmeasured")
def test_a_model_that_is_gone_is_dropped_by_its_own_package_and_no_other(shop: Store, database: Database) -> None:
    shop.models("accounts", table("people"))

    shop.nothing_to_do("catalog")
    path = shop.auto("accounts").path

    source = path.read_text("utf-8")
    assert source.partition("def downgrade")[0].count("drop_table(") == 1
    shop.run("db-up")
    assert database.tables() == ["alembic_version", "books", "people"]
    shop.nothing_to_do("accounts")
    shop.run("db-down", "accounts@-1")
    assert database.tables() == ["alembic_version", "books", "customers"]


@pytest.mark.usefixtures("unmeasured")
def test_a_table_made_by_hand_is_reported_and_never_dropped(shop: Store, database: Database) -> None:
    database.run(HAND_MADE)

    for package in shop.packages:
        done = shop.nothing_to_do(package)
        assert done.stderr.startswith("Warning: No package owns the table by_hand in the database.")
    checked = shop.run("db-check")

    assert checked.stderr.count("by_hand") == 1
    assert "by_hand" not in checked.stdout
    assert "by_hand" in database.tables()


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers(*ONE_EACH)
def test_a_table_that_the_users_filters_exclude_is_not_reported(project: Project, database: Database) -> None:
    for filter_ in (
        "include_name=lambda name, type_, parents: name != 'by_hand'",
        "include_object=lambda item, name, type_, reflected, other: name != 'by_hand'",
    ):
        shop = open_store(project, database, {"accounts": CUSTOMERS}, options=f"dict({filter_})")
        if not shop.files("accounts"):
            applied(shop)
            database.run(HAND_MADE)
        assert shop.nothing_to_do("accounts").stderr == ""
        assert shop.run("db-check").stderr == ""


@pytest.mark.drivers(*ONE_EACH)
def test_a_model_that_nobody_owns_is_reported(project: Project, database: Database) -> None:
    project.package("outside", "import sqlalchemy as sa\nfrom database import db\n\n" + table("outer"))
    shop = open_store(project, database, {"accounts": "import outside.models\n" + CUSTOMERS})

    result = shop.run("db-rev", "accounts", "Tables", "-a")

    assert "No package owns the table outer in the models" in result.stderr
    assert "outer" not in shop.newest("accounts")


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers(*ONE_EACH)
def test_core_tables_belong_to_the_module_that_assigns_them(project: Project, database: Database) -> None:
    association = """
    {imports}
    readers = sa.Table(
        "readers",
        db.metadata,
        sa.Column("customer_id", sa.ForeignKey("customers.id"), primary_key=True),
        sa.Column("book_id", sa.ForeignKey("books.id"), primary_key=True),
    )
    """
    models = {"accounts": CUSTOMERS, "catalog": BOOKS, "reading": association.format(imports="")}
    shop = open_store(project, database, models, packages=("accounts", "borrowing", "catalog", "reading"))
    shop.models("borrowing", "from reading.models import readers\n\n" + table("loans"))

    written = {package: shop.auto(package) for package in ("accounts", "catalog", "borrowing", "reading")}

    assert shop.tables_in(written["borrowing"]) == {"loans"}
    assert shop.tables_in(written["reading"]) == {"readers"}
    assert set(written["reading"].depends_on) == {written["accounts"].id, written["catalog"].id}


@pytest.mark.drivers(*ONE_EACH)
def test_a_table_says_itself_whose_it_is(project: Project, database: Database) -> None:
    stated = """
    sa.Table("stated", db.metadata, sa.Column("id", sa.Integer, primary_key=True), info={"ampho_package": "catalog"})

    class Model(db.Model):
        __tablename__ = "stated_model"
        __table_args__ = {"info": {"ampho_package": "catalog"}}
        id = sa.Column(sa.Integer, primary_key=True)
    """
    shop = open_store(project, database, {"accounts": stated, "catalog": BOOKS})

    shop.nothing_to_do("accounts")
    assert shop.tables_in(shop.auto("catalog")) == {"books", "stated", "stated_model"}

    shop.models("accounts", stated.replace('"catalog"', '"catalogue"', 1))
    error = shop.refused("db-rev", "catalog", "More", "-a")
    assert "The info of the table stated names 'catalogue', which is not a listed package" in error


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers(*ONE_EACH)
def test_the_longest_name_wins_wherever_the_models_lie(project: Project, database: Database) -> None:
    imports = "import sqlalchemy as sa\nfrom database import db\n\n"
    names = ("acme", "acme.billing", "single", "folder")
    shop = open_store(project, database, {}, packages=names)
    project.package("acme", imports + "import acme.billing.models\nimport acme.plain.models\n" + table("company"))
    project.package("acme.plain", imports + table("plain"))
    project.package("acme.billing", imports + table("bills"))
    project.package("single", init=imports + table("in_init"))
    project.package("folder")
    project.write("folder/models/__init__.py", imports + "from folder.models.deep import Deep\n" + table("shallow"))
    project.write("folder/models/deep.py", imports + table("deep"))
    for name in names:
        (project.migrations(name) / "versions").mkdir(parents=True)

    written = {name: shop.tables_in(shop.auto(name)) for name in names}

    assert written == {
        "acme": {"company", "plain"},
        "acme.billing": {"bills"},
        "single": {"in_init"},
        "folder": {"shallow", "deep"},
    }


@pytest.mark.drivers(*ONE_EACH)
def test_a_subclass_in_another_package_does_not_take_the_table(project: Project, database: Database) -> None:
    """Single-table inheritance: the table is that of the class which defines it."""
    animals = table("animals", "Animal", "kind = sa.Column(sa.String(9))", "__mapper_args__ = {'polymorphic_on': kind}")
    dogs = (
        "from zoo.models import Animal\n\n\nclass Dog(Animal):\n    __mapper_args__ = {'polymorphic_identity': 'd'}\n"
    )
    shop = open_store(project, database, {"kennel": dogs, "zoo": animals})

    shop.nothing_to_do("kennel")
    assert shop.tables_in(shop.auto("zoo")) == {"animals"}


@pytest.mark.drivers(*ONE_EACH)
def test_a_class_mapped_by_hand_has_an_owner(project: Project, database: Database) -> None:
    source = """
    from sqlalchemy.orm import registry

    class Thing:
        pass

    mapped = registry(metadata=db.metadata)
    mapped.map_imperatively(
        Thing, sa.Table("things", db.metadata, sa.Column("id", sa.Integer, primary_key=True))
    )
    """
    shop = open_store(project, database, {"accounts": source})

    assert shop.tables_in(shop.auto("accounts")) == {"things"}


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg")
def test_tables_in_another_schema(project: Project, database: Database) -> None:
    database.run("CREATE SCHEMA vault")
    secret = """
    class Secret(db.Model):
        __tablename__ = "secrets"
        __table_args__ = {"schema": "vault"}
        id = sa.Column(sa.Integer, primary_key=True)
    """
    point = table("guards", "Guard", "secret_id = sa.Column(sa.ForeignKey('vault.secrets.id'))")
    shop = open_store(project, database, {"bank": secret, "security": point}, options="dict(include_schemas=True)")
    bank, security = shop.auto("bank"), shop.auto("security")
    assert security.depends_on == (bank.id,)
    shop.run("db-up")
    database.run("CREATE TABLE vault.by_hand (id INTEGER)")

    assert "owns the table vault.by_hand in" in shop.nothing_to_do("bank").stderr
    shop.nothing_to_do("security")
    shop.models("bank", table("empty"))
    shop.models("security", table("guards", "Guard"))
    shop.auto("security")
    shop.auto("bank")
    assert 'op.drop_table("secrets", schema="vault")' in shop.newest("bank")


@pytest.mark.drivers(*ONE_EACH)
def test_history_tells_whose_a_table_without_a_model_is(project: Project, database: Database) -> None:
    """Renamed and dropped tables are followed; the new name belongs to whoever made the table."""
    shop = open_store(project, database, {"accounts": "", "catalog": ""})
    make = "op.create_table('{}', sa.Column('id', sa.Integer, primary_key=True))".format
    project.revision("accounts", "accounts_1", upgrade=f"{make('old')}\n{make('gone')}")
    project.revision("accounts", "accounts_2", "accounts_1", upgrade="op.rename_table('old', 'new')")
    project.revision("accounts", "accounts_3", "accounts_2", upgrade="op.drop_table('gone')")
    shop.run("db-up")
    database.run("CREATE TABLE gone (id INTEGER)")

    assert "owns the table gone in the database" in shop.nothing_to_do("catalog").stderr
    source = shop.auto("accounts").path.read_text("utf-8")
    assert 'op.drop_table("new")' in source
    assert '"gone"' not in source


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers(*ONE_EACH)
def test_what_another_package_has_used_is_dropped_after_it(project: Project, database: Database) -> None:
    """On an empty database the key has to be made and dropped before the table that it points at goes."""
    colors = table("colors", "Color")
    shirts = table("shirts", "Shirt", "color_id = sa.Column(sa.ForeignKey('colors.id'))")
    shop = open_store(project, database, {"colors": colors, "shirts": shirts, "shops": table("shops", "Shop")})
    shop.auto("colors")
    shop.auto("shirts")
    shop.auto("shops")
    shop.run("db-up")
    shop.models("shirts", "")
    last = shop.auto("shirts")
    shop.models("colors", "")

    gone = shop.auto("colors", "--scratch")

    assert gone.depends_on == (last.id,)
    assert 'op.drop_table("colors")' in gone.path.read_text("utf-8")
    shop.run("db-up")
    assert database.tables() == ["alembic_version", "shops"]


@pytest.mark.drivers("sqlite+pysqlite")
def test_a_column_that_another_package_has_used_is_dropped_after_it(project: Project, database: Database) -> None:
    column = "code = sa.Column(sa.String(9))"
    shop = open_store(project, database, {"colors": table("colors", "Color", column), "shirts": "", "hats": ""})
    shop.auto("colors")
    hat = "op.create_table('hats', sa.Column('color', sa.Integer, sa.ForeignKey('colors.id')))"
    project.revision("hats", "hats_1", upgrade=hat)
    shirt = "op.create_table('shirts', sa.Column('color', sa.String(9), sa.ForeignKey('colors.code')))"
    project.revision("shirts", "shirts_1", upgrade=shirt)
    project.revision("shirts", "shirts_2", "shirts_1", upgrade="op.drop_table('shirts')")
    shop.run("db-up")
    shop.models("colors", table("colors", "Color"))

    assert shop.auto("colors").depends_on == ("shirts_2",)


USES = """
op.create_table("{0}_1", sa.Column("c", sa.Integer, sa.ForeignKey("a.colors.id")))
op.create_table("{0}_2", sa.Column("c"), sa.ForeignKeyConstraint(["c"], refcolumns=("sizes.id", "sizes.code")))
op.add_column("{0}_1", Column("d", ForeignKey(column="shops.id")))
op.create_foreign_key("key_1", "{0}_1", "shops", ["d"], ["code"], referent_schema="a")
with op.batch_alter_table("{0}_1") as batch:
    batch.add_column(sa.Column("e"))
    batch.create_foreign_key("key_2", "hats", ["e"], ["id"])
op.create_foreign_key(source_table="{0}_1", referent_table="boots", local_cols=["e"], remote_cols=["id"])
op.create_foreign_key("key_3", "{0}_1", computed, ["d"], ["code"])
op.drop_constraint("key_2", "{0}_1")
"""
RENAMES = """
op.rename_table("hats", "caps")
op.drop_table("boots")
op.create_table("boots", sa.Column("id"))
"""


def test_the_histories_tell_which_packages_have_used_a_table(project: Project) -> None:
    """Whether by an operation on the table or in a batch; renamed tables are followed, and new ones are new."""
    for package in ("b", "c"):
        project.package(package)
    project.revision("b", "b_1600000001", upgrade=USES.format("b"))
    project.revision("c", "c_1600000002", upgrade=RENAMES)
    project.revision(
        "c", "c_1600000003", "c_1600000002", upgrade="op.create_foreign_key('k', 'c', 'caps', ['d'], ['x'])"
    )
    with project.importing():
        packages = configured_packages(["b", "c"]).packages
        owners = find_owners(Migrations(packages, make_url("sqlite://"), "sync"), None)

    assert owners.users == {
        "a.colors": {("b", "id")},
        "sizes": {("b", "id"), ("b", "code")},
        "shops": {("b", "id")},
        "a.shops": {("b", "code")},
        "caps": {("b", "id"), ("c", "x")},
    }
    assert owners.users_of("caps") == {"b", "c"}
    assert owners.users_of("caps", "x") == {"c"}
    assert owners.users_of("boots") == set()


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers(*ONE_EACH)
def test_a_model_that_moves_to_another_package(project: Project, database: Database) -> None:
    """Nobody drops or makes the table; what points at it, or changes it, depends on the package that made it."""
    shop = applied(open_store(project, database, {"accounts": CUSTOMERS, "people": ""}, packages=("accounts",)))
    shop = open_store(project, database, {"accounts": "", "people": CUSTOMERS, "orders": ""})
    shop.nothing_to_do("accounts")
    shop.nothing_to_do("people")
    made = shop.read("accounts", shop.files("accounts")[0])

    shop.models("orders", table("orders", "Order", "customer_id = sa.Column(sa.ForeignKey('customers.id'))"))
    assert shop.auto("orders").depends_on == (made.id,)
    shop.models("people", CUSTOMERS + "    name = sa.Column(sa.String(50))\n")
    assert shop.auto("people").depends_on == (made.id,)


@pytest.mark.drivers(*ONE_EACH)
def test_models_that_cannot_be_imported_are_named(shop: Store) -> None:
    shop.models("accounts", "raise RuntimeError('no luck')")

    error = shop.refused("db-check", "catalog")

    assert "The models of accounts cannot be imported: RuntimeError: no luck" in error


@pytest.mark.drivers(*ONE_EACH)
def test_a_foreign_key_to_a_table_that_no_model_describes_is_named(project: Project, database: Database) -> None:
    point = table("orders", "Order", "customer_id = sa.Column(sa.ForeignKey('customers.id'))")
    shop = open_store(project, database, {"orders": point})

    error = shop.refused("db-rev", "orders", "Tables", "-a")

    assert "The column orders.customer_id references customers.id, which does not exist in any model." in error
    assert "add the package that defines this table to AMPHO_MIGRATION_PACKAGES" in error


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_the_first_revision_depends_on_the_packages_that_its_models_reference(
    project: Project, database: Database
) -> None:
    """By name, and only on those that have revisions; without valid models, on none."""
    shop = open_store(project, database, MODELS)
    write = lambda package: shop.run("db-rev", package, "Empty")  # noqa: E731
    depends_on = lambda package: shop.read(package, shop.files(package)[-1]).depends_on  # noqa: E731

    write("orders")
    assert depends_on("orders") == ()
    shop.files("orders")[0].unlink()

    for package in MODELS:
        write(package)
    assert [depends_on(package) for package in MODELS] == [(), (), ("accounts", "catalog")]
    write("orders")
    assert depends_on("orders") == ()
    assert "Applied 4 revisions" in shop.run("db-up").stdout

    for path in shop.files("orders"):
        path.unlink()
    shop.models("orders", ORDERS.replace("customers.id", "nobody.id"))
    write("orders")
    assert depends_on("orders") == ()
