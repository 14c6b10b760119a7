"""``db-rev -a`` and ``db-init`` without a package: all packages at once, in the order of their dependencies."""

from __future__ import annotations

import pytest
from project import Project
from servers import Database
from store import BOOKS, CUSTOMERS, MODELS, MUTUAL, TABLES, Store, open_store

from ampho.history.revision import Revision

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

ONE_EACH = ("sqlite+pysqlite", "postgresql+asyncpg", "mariadb+pymysql")
MORE = "    more = sa.Column(sa.Integer)\n"


def write_all(store: Store, *options: str) -> list[Revision]:
    """Write revisions of all packages that differ, and return those that were written, the oldest first."""
    before = {path for package in store.packages for path in store.files(package)}
    result = store.run("db-rev", "-a", "Change", *options)
    files = [(package, path) for package in store.packages for path in store.files(package) if path not in before]
    assert result.stdout.count("Wrote ") == len(files)
    return sorted((store.read(*each) for each in files), key=lambda revision: revision.time or 0)


def check_up_and_down(store: Store, database: Database) -> None:
    """Apply everything, find no difference, revert everything, and apply it again on the empty database."""
    store.run("db-up")
    assert "Nothing to do" in store.run("db-rev", "-a", "Again").stdout
    assert store.run("db-check").stdout.count("matches its models") == len(store.packages)
    store.run("db-check", "--scratch")
    store.run("db-down", "base", "-y")
    assert database.tables() == ["alembic_version"]
    store.run("db-up")


@pytest.mark.drivers(*ONE_EACH)
def test_packages_are_written_after_those_that_they_depend_on(project: Project, database: Database) -> None:
    store = open_store(project, database, MODELS, packages=["orders", "catalog", "accounts"])

    written = write_all(store)

    assert [revision.package for revision in written] == ["catalog", "accounts", "orders"]
    assert {revision.package: store.tables_in(revision) for revision in written} == TABLES
    assert written[0].depends_on == written[1].depends_on == ()
    assert set(written[2].depends_on) == {written[0].id, written[1].id}
    check_up_and_down(store, database)

    store.models("catalog", BOOKS + MORE)
    (more,) = write_all(store)
    assert (more.package, more.depends_on) == ("catalog", ())


@pytest.mark.drivers(*ONE_EACH)
def test_packages_that_need_each_other_get_a_second_revision(project: Project, database: Database) -> None:
    mutual = MUTUAL.replace(' name="{1}_{2}",', "")  # Ampho gives the second key a name
    models = {"here": mutual.format("Here", "heres", "theres"), "there": mutual.format("There", "theres", "heres")}
    store = open_store(project, database, models)

    first, second, third = write_all(store)

    assert [first.package, second.package, third.package] == ["here", "there", "here"]
    assert first.depends_on == ()
    assert (second.depends_on, third.depends_on) == ((first.id,), (second.id,))
    check_up_and_down(store, database)


@pytest.mark.drivers(*ONE_EACH)
def test_a_foreign_key_and_the_column_that_it_needs_come_in_that_order(project: Project, database: Database) -> None:
    store = open_store(project, database, {"accounts": CUSTOMERS, "catalog": BOOKS}, packages=["accounts", "catalog"])
    write_all(store)
    store.run("db-up")
    code = '    code = sa.Column(sa.String(20), nullable=False, server_default="")\n'
    unique = '    __table_args__ = (sa.UniqueConstraint("code", name="books_code"),)\n'
    store.models("catalog", BOOKS + code + unique)
    key = '    book = sa.Column(sa.ForeignKey("books.code", name="customer_book"))\n'
    store.models("accounts", CUSTOMERS + key)

    books, customers = write_all(store)

    assert [books.package, customers.package] == ["catalog", "accounts"]
    assert customers.depends_on == (books.id,)
    check_up_and_down(store, database)
