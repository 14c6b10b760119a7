"""``db-check``, and databases that are behind, ahead, or not where the code is; and random projects."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from itertools import pairwise

import pytest
from project import Project
from servers import Database
from store import BOOKS, CUSTOMERS, MUTUAL, Store, open_store, random_models

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

PROJECTS = int(os.environ.get("AMPHO_PROPERTY_MODELS", "4"))
ONE_EACH = ("sqlite+pysqlite", "postgresql+asyncpg")
MORE = "    more = sa.Column(sa.Integer)\n"


@pytest.fixture
def shop(project: Project, database: Database) -> Store:
    """Accounts and catalog, written and applied."""
    shop = open_store(project, database, {"accounts": CUSTOMERS, "catalog": BOOKS})
    for package in shop.packages:
        shop.auto(package)
    shop.run("db-up")
    return shop


def head(shop: Store, package: str) -> str:
    return shop.read(package, shop.files(package)[-1]).id


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers(*ONE_EACH, "mariadb+pymysql")
def test_drift_is_listed_a_line_for_each_operation(shop: Store) -> None:
    assert shop.run("db-check").stdout == "accounts  matches its models\ncatalog   matches its models\n"
    shop.models("catalog", BOOKS.replace("nullable=False", "index=True") + MORE)

    lines = shop.run("db-check", exit_code=1).stdout.splitlines()

    assert lines[:2] == ["accounts  matches its models", "catalog   3 differences"]
    assert sorted(lines[2:]) == [
        "    + column books.more  INTEGER",
        "    + index books.ix_books_title  (title)",
        "    ~ column books.title  NULL",
    ]
    assert shop.run("db-check", "accounts").stdout == "accounts  matches its models\n"
    assert shop.run("db-check", "catalog", exit_code=1).stdout.splitlines()[1:] == lines[2:]
    assert "shop" in shop.refused("db-check", "shop")


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers(*ONE_EACH, "mariadb+pymysql")
@pytest.mark.parametrize("plugin", ["ampho.comparators", "alembic.ext.checkconstraint_byname", "none"])
def test_check_constraints_are_compared_unless_the_list_of_plug_ins_leaves_that_out(
    project: Project, database: Database, plugin: str
) -> None:
    if plugin.startswith("alembic"):
        pytest.importorskip(plugin)
    plugins = ["alembic.autogenerate.*", *([plugin] if plugin != "none" else [])]
    checked = BOOKS + '    __table_args__ = (sa.CheckConstraint("length(title) > 0", name="books_titled"),)\n'
    shop = replace(
        open_store(project, database, {"catalog": BOOKS}),
        options=repr({} if plugin.startswith("ampho") else {"autogenerate_plugins": plugins}),
    )
    shop.write_app()
    shop.auto("catalog")
    shop.run("db-up")
    shop.models("catalog", checked)
    if plugin == "none":
        assert shop.run("db-check").stdout == "catalog  matches its models\n"
        return
    first, second = shop.run("db-check", exit_code=1).stdout.splitlines()
    assert first == "catalog  1 difference"
    assert "check constraint books.books_titled" in second
    shop.auto("catalog")
    shop.run("db-up")
    assert shop.run("db-check").stdout == "catalog  matches its models\n"


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers(*ONE_EACH, "mariadb+pymysql")
def test_server_defaults_are_compared_unless_that_is_turned_off(project: Project, database: Database) -> None:
    column = '    kind = sa.Column(sa.String(20), server_default="it\'s new")\n'
    shop = open_store(project, database, {"catalog": BOOKS + column})
    shop.auto("catalog")
    shop.run("db-up")
    assert shop.run("db-check").stdout == "catalog  matches its models\n"
    shop.models("catalog", BOOKS + column.replace("new", "old"))
    assert "books.kind" in shop.run("db-check", exit_code=1).stdout
    without = replace(shop, options=repr({"compare_server_default": False}))
    without.write_app()
    assert without.run("db-check").stdout == "catalog  matches its models\n"


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers(*ONE_EACH)
def test_models_that_nothing_imports_are_not_silently_dropped(shop: Store) -> None:
    hide_models(shop, "catalog")
    for command, exit_code in (("db-check catalog", 1), ("db-rev catalog Drop -a", 0)):
        result = shop.run(*command.split(), exit_code=exit_code)
        assert "Warning: Ampho found no models in catalog." in result.stderr, command
    assert "no models in" not in shop.run("db-check", "accounts").stderr


@pytest.mark.drivers("sqlite+pysqlite")
def test_packages_without_models_are_named_in_one_warning(shop: Store) -> None:
    hide_models(shop, "accounts")
    hide_models(shop, "catalog")

    (warning,) = re.findall("Ampho found no models .*", shop.run("db-check", exit_code=1).stderr)

    assert warning.startswith("Ampho found no models in accounts, catalog. If there are any")


def hide_models(shop: Store, package: str) -> None:
    folder = shop.project.folder / package
    (folder / "models.py").rename(folder / "tables.py")


@pytest.mark.drivers(*ONE_EACH)
def test_another_package_may_be_behind(shop: Store) -> None:
    shop.project.revision("catalog", "catalog_9", head(shop, "catalog"), upgrade="op.execute('nonsense')")

    shop.models("accounts", CUSTOMERS + MORE)
    assert shop.auto("accounts").depends_on == ()
    assert shop.run("db-check", "accounts", exit_code=1).stderr.startswith("Error: accounts_")


@pytest.mark.drivers("sqlite+pysqlite")
def test_of_many_revisions_that_are_behind_the_first_are_named(shop: Store) -> None:
    line = [head(shop, "catalog"), *(f"catalog_{number}" for number in range(1, 8))]
    for down, revision in pairwise(line):
        shop.project.revision("catalog", revision, down)

    error = shop.refused("db-check")

    assert error.startswith(f"{', '.join(line[1:6])} and 2 more are not applied, so the models of catalog cannot")


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers(*ONE_EACH)
def test_the_package_itself_may_not_be_behind(shop: Store) -> None:
    shop.models("accounts", CUSTOMERS + MORE)
    new = shop.auto("accounts").id

    for command in (("db-rev", "accounts", "More", "-a"), ("db-check",), ("db-check", "accounts")):
        error = shop.refused(*command)
        assert error.startswith(f"{new} is not applied, so the models of accounts cannot")
        assert "db-up accounts'" in error
    shop.nothing_to_do("catalog")
    shop.run("db-check", "catalog")
    shop.run("db-up")
    shop.nothing_to_do("accounts")


@pytest.mark.drivers("mariadb+pymysql", "mariadb+asyncmy")
def test_an_unfinished_revision_is_resolved_before_anything_is_compared(shop: Store) -> None:
    halves = "op.execute('CREATE TABLE half (id INTEGER)'); op.execute('nonsense')"
    shop.project.revision("catalog", "catalog_9", head(shop, "catalog"), upgrade=halves)
    assert "db-resolve catalog_9" in shop.run("db-up", exit_code=None).stderr
    error = shop.refused("db-up")
    assert "db-resolve catalog_9" in error

    shop.models("accounts", CUSTOMERS + MORE)
    for command in ("db-rev Change -a", "db-rev accounts Change -a --dry-run", "db-check", "db-check accounts"):
        assert shop.refused(*command.split()) == error
    shop.run("db-resolve", "catalog_9", "--applied")
    shop.auto("accounts")


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers(*ONE_EACH)
@pytest.mark.parametrize("row", ["catalog_1999999999", "gone_1999999999", "acc_1", "accounts_billing_1999999999"])
def test_rows_of_others_that_no_file_explains_do_not_matter(shop: Store, database: Database, row: str) -> None:
    database.run(f"INSERT INTO alembic_version (version_num) VALUES ('{row}')")

    shop.nothing_to_do("accounts")
    assert shop.run("db-check", "accounts").stdout == "accounts  matches its models\n"
    shop.models("accounts", CUSTOMERS + MORE)
    assert shop.auto("accounts").depends_on == ()


@pytest.mark.drivers(*ONE_EACH)
def test_a_package_that_is_ahead_of_its_code_is_refused(shop: Store, database: Database) -> None:
    database.run("INSERT INTO alembic_version (version_num) VALUES ('accounts_1999999999')")

    for command in (("db-rev", "accounts", "More", "-a"), ("db-check",)):
        assert "is ahead of the code: accounts_1999999999 of accounts is applied but missing" in shop.refused(*command)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers(*ONE_EACH)
def test_another_package_may_be_missing(shop: Store) -> None:
    """Its tables are nobody's then: reported, not dropped."""
    gone = Store(shop.project, shop.framework, ("accounts",), shop.url)
    gone.write_app()

    assert "No package owns the table books in the database" in gone.nothing_to_do("accounts").stderr
    assert "op.drop" not in gone.run("db-check").stdout


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers(*ONE_EACH)
def test_two_heads(shop: Store, project: Project) -> None:
    """Of another package they do not matter, unless it is pointed at; of the package itself they do."""
    first = head(shop, "catalog")
    for number in (8, 9):
        project.revision("catalog", f"catalog_{number}", first)
    shop.models("accounts", CUSTOMERS + MORE)
    shop.auto("accounts")
    shop.run("db-up", "accounts")

    shop.models("accounts", CUSTOMERS + MORE + "    book_id = sa.Column(sa.ForeignKey('books.id', name='book'))\n")
    error = shop.refused("db-rev", "accounts", "Books", "-a")
    assert "accounts depends on catalog, which has 2 heads, catalog_8, catalog_9: merge them first" in error
    assert "catalog has 2 heads" in shop.refused("db-rev", "catalog", "Books", "-a")

    for number in (8, 9):
        project.revision("catalog", f"catalog_{number}", first, labels=f"line_{number}")
    shop.run("db-up", "catalog")
    assert shop.auto("accounts").depends_on == ("catalog_8", "catalog_9")


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg", "mariadb+pymysql")
def test_two_packages_that_point_at_each_other_are_split(project: Project, database: Database) -> None:
    """The first leaves its foreign key out, the second has its own, and the first adds the other afterwards."""
    models = {"here": MUTUAL.format("Here", "heres", "theres"), "there": MUTUAL.format("There", "theres", "heres")}
    shop = open_store(project, database, models)

    warned = shop.run("db-rev", "here", "First", "-a").stderr
    first = shop.read("here", shop.files("here")[0])
    assert "The foreign keys to the table theres are left out, because the owner also depends on here." in warned
    assert first.depends_on == ()
    shop.run("db-up")
    assert "left out" in shop.nothing_to_do("here").stderr
    second = shop.auto("there")
    assert second.depends_on == (first.id,)
    shop.run("db-up")
    third = shop.auto("here")

    source = third.path.read_text("utf-8").partition("def upgrade")[2].partition("def downgrade")[0]
    assert third.depends_on == (second.id,)
    assert source.count("create_foreign_key(") == 1
    assert "create_table" not in source
    shop.run("db-up")
    for package in models:
        shop.nothing_to_do(package)
    shop.run("db-check")
    shop.run("db-check", "--scratch")
    shop.run("db-down", "base")
    assert database.tables() == ["alembic_version"]


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg", "mariadb+pymysql")
def test_two_tables_of_a_package_that_point_at_each_other(project: Project, database: Database) -> None:
    mutual = MUTUAL.format("Here", "heres", "theres") + MUTUAL.format("There", "theres", "heres")
    shop = open_store(project, database, {"both": mutual + MUTUAL.format("Self", "selves", "selves")})

    shop.auto("both")
    shop.run("db-up")

    shop.nothing_to_do("both")
    shop.run("db-down", "base")
    assert database.tables() == ["alembic_version"]


def write_all(shop: Store) -> None:
    """Write and apply revisions of all packages in whatever order works, until there is nothing to do."""
    for _ in range(2 * len(shop.packages) + 1):
        before = len(shop.project.files())
        for package in shop.packages:
            result = shop.run("db-rev", package, "Change", "-a", exit_code=None)
            assert result.exit_code == 0 or "which no revision creates yet" in result.stderr, str(result)
        if len(shop.project.files()) == before:
            return
        shop.run("db-up")
    raise AssertionError("There is always something more to do.")


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("seed", range(PROJECTS))
@pytest.mark.drivers(*ONE_EACH)
def test_random_models_become_a_history_without_drift(project: Project, database: Database, seed: int) -> None:
    shop = open_store(project, database, random_models(seed))

    write_all(shop)

    for options in ((), ("--scratch",)):
        assert shop.run("db-check", *options).stdout.count("matches its models") == len(shop.packages)
    shop.run("db-down", "base")
    assert database.tables() == ["alembic_version"]
