"""``db-rev -a``: a package's own tables only, with the dependencies that their foreign keys imply."""

from __future__ import annotations

import itertools
import re
from textwrap import dedent

import pytest
from project import Project
from servers import Database
from store import TABLES, Store, open_store

ORDERS_OF_PACKAGES = [order for order in itertools.permutations(TABLES) if order[2] == "orders"]
IMPOSSIBLE = [order for order in itertools.permutations(TABLES) if order[2] != "orders"]


@pytest.fixture
def bookshop(project: Project, database: Database) -> Store:
    """Accounts, catalog, and orders with foreign keys to both; models only."""
    return open_store(project, database)


@pytest.mark.parametrize("order", ORDERS_OF_PACKAGES, ids="-".join)
def test_models_become_a_history_in_every_order_that_is_possible(
    bookshop: Store, database: Database, order: tuple[str, ...]
) -> None:
    written = {package: bookshop.auto(package) for package in order}

    assert {package: bookshop.tables_in(revision) for package, revision in written.items()} == TABLES
    assert written["accounts"].depends_on == written["catalog"].depends_on == ()
    assert set(written["orders"].depends_on) == {written["accounts"].id, written["catalog"].id}
    bookshop.run("db-up")
    assert database.tables() == sorted(["alembic_version", *set().union(*TABLES.values())])
    for package in order:
        bookshop.nothing_to_do(package)
    checked = bookshop.run("db-check").stdout
    assert [line.split(maxsplit=1)[1] for line in checked.splitlines()] == ["as its models say"] * 3
    assert bookshop.run("db-check", "--scratch").stdout == checked


@pytest.mark.parametrize("order", IMPOSSIBLE, ids="-".join)
@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg")
def test_what_has_to_be_written_first_is_named(bookshop: Store, order: tuple[str, ...]) -> None:
    missing = [package for package in ("catalog", "accounts") if package not in order[: order.index("orders")]]
    for package in order[: order.index("orders")]:
        bookshop.auto(package)

    error = bookshop.refused("db-rev", "orders", "Too early", "-a")

    assert re.search("orders points at the table (books of catalog|customers of accounts), which no revision", error)
    assert f" db-rev {missing[0]} MESSAGE --autogenerate." in error


def test_three_real_commands_and_an_upgrade(project: Project, database: Database) -> None:
    """The same in real processes, with the files of ``db-init``, and each package's ``-a`` after an upgrade."""
    open_store(project, database)
    for package in TABLES:
        (project.migrations(package) / "versions").rmdir()
        project.migrations(package).rmdir()
        project.run("ampho", "db-init", package)
        written = project.run("ampho", "db-rev", package, "Tables", "--autogenerate").stdout
        assert re.fullmatch(rf"Wrote {package}/migrations/versions/{package}_\d+_tables.py\n", written)
    project.run("ampho", "db-up")
    assert set().union(*TABLES.values()) < set(database.tables())
    for package in TABLES:
        again = project.run("ampho", "db-rev", package, "Tables", "-a")
        assert again.stdout == f"Nothing to do: the tables of {package} are what its models say.\n"
        assert again.stderr == ""
        assert len(list((project.migrations(package) / "versions").glob("*.py"))) == 1
    assert project.run("ampho", "db-check").exit_code == 0


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg")
def test_without_the_inferred_dependency_an_empty_database_fails(bookshop: Store, database: Database) -> None:
    """Renamed so that only ``depends_on`` tells the order: without it, the tables that it needs are not there."""
    for package in ("accounts", "catalog"):
        bookshop.auto(package)
    path = bookshop.auto("orders", "--rev-id", "a_first").path
    source = path.read_text("utf-8")
    path.write_text(re.sub(r"^depends_on = .*$", "depends_on = None", source, flags=re.MULTILINE), "utf-8")

    error = bookshop.run("db-up", "orders", exit_code=1).stderr

    assert 'relation "' in error
    assert "does not exist" in error
    assert "orders" not in database.tables()
    path.write_text(source, "utf-8")
    bookshop.run("db-up", "orders")
    assert "orders" in database.tables()


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg")
def test_a_dependency_that_is_implied_is_not_repeated(project: Project, database: Database) -> None:
    parts = """
    class {class_}(db.Model):
        __tablename__ = "{name}"
        id = sa.Column(sa.Integer, primary_key=True)
    """
    point = "    {0}_id = sa.Column(sa.ForeignKey('{0}.id'))\n"
    first = dedent(parts).format(class_="First", name="one")
    second = dedent(parts).format(class_="Second", name="two") + point.format("one")
    third = dedent(parts).format(class_="Third", name="three") + point.format("one") + point.format("two")
    shop = open_store(project, database, {"third": third, "second": second, "first": first})

    one, two, three = shop.auto("first"), shop.auto("second"), shop.auto("third")

    assert two.depends_on == (one.id,)
    assert three.depends_on == (two.id,)
    shop.run("db-up")
    shop.models("third", third + "    again_id = sa.Column(sa.ForeignKey('one.id', name='again'))\n")
    four = shop.auto("third")
    assert (four.down_revisions, four.depends_on) == ((three.id,), ())


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg")
def test_dependencies_given_by_hand_stay(bookshop: Store) -> None:
    accounts, catalog = bookshop.auto("accounts"), bookshop.auto("catalog", "--depends-on", "accounts")

    assert catalog.depends_on == (accounts.id,)
    assert bookshop.auto("orders").depends_on == (catalog.id,)
