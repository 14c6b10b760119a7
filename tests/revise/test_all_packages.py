"""``db-rev -a`` and ``db-init`` without a package: all packages at once, in the order of their dependencies."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from project import Project
from servers import Database
from store import BOOKS, CUSTOMERS, MODELS, MUTUAL, TABLES, Store, open_store, opened_app, random_models

from ampho.cli.json import SCHEMA
from ampho.errors import RevisionInputError
from ampho.history.revision import Revision

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

ONE_EACH = ("sqlite+pysqlite", "postgresql+asyncpg", "mariadb+pymysql")
PROJECTS = int(os.environ.get("AMPHO_PROPERTY_MODELS", "1"))
MORE = "    more = sa.Column(sa.Integer)\n"


def write_all(store: Store, *options: str) -> list[Revision]:
    """Write revisions of all packages that differ, and return those that were written, the oldest first."""
    before = {path for package in store.packages for path in store.files(package)}
    result = store.run("db-rev", "-a", "Change", *options)
    files = [(package, path) for package in store.packages for path in store.files(package) if path not in before]
    assert result.stdout.count("Wrote ") == len(files)
    return sorted((store.read(*each) for each in files), key=lambda revision: revision.time or 0)


def call(app: Any, method: str, *args: object, **kwargs: object) -> Any:
    """Call a method of the extension of an app."""
    ampho = app.extensions["ampho"]
    if not ampho.is_async:
        with app.app_context():
            return getattr(ampho, method)(*args, **kwargs)

    async def call_async() -> Any:
        async with app.app_context():
            try:
                return await getattr(ampho, method)(*args, **kwargs)
            finally:
                await ampho.dispose(app)

    return asyncio.run(call_async())


def check_up_and_down(store: Store, database: Database) -> None:
    """Apply everything, find no difference, revert everything, and apply it again on the empty database."""
    store.run("db-up")
    assert "Nothing to do" in store.run("db-rev", "-a", "Again").stdout
    assert store.run("db-check").stdout.count("matches its models") == len(store.packages)
    store.run("db-check", "--scratch")
    store.run("db-down", "base", "-y")
    assert database.tables() == ["alembic_version"]
    store.run("db-up")


@pytest.mark.usefixtures("unmeasured")
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


@pytest.mark.usefixtures("unmeasured")
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


@pytest.mark.usefixtures("unmeasured")
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
    store.run("db-up")

    store.models("catalog", BOOKS)
    store.models("accounts", CUSTOMERS)
    customers, books = write_all(store)

    assert [customers.package, books.package] == ["accounts", "catalog"]
    assert customers.id in books.depends_on
    check_up_and_down(store, database)


TWO_TABLES = """
class {0}(db.Model):
    __tablename__ = "{1}"
    id = sa.Column(sa.Integer, primary_key=True)
    {2}

class {0}Kept(db.Model):
    __tablename__ = "{1}_kept"
    id = sa.Column(sa.Integer, primary_key=True)
"""
OTHERS_KEY = 'other_id = sa.Column(sa.ForeignKey("{0}.id", name="{1}", use_alter=True))'


@pytest.mark.drivers(*ONE_EACH)
def test_tables_that_reference_each_other_across_packages_are_dropped(project: Project, database: Database) -> None:
    models = {
        "here": TWO_TABLES.format("Here", "heres", OTHERS_KEY.format("theres", "here_there")),
        "there": TWO_TABLES.format("There", "theres", OTHERS_KEY.format("heres", "there_here")),
    }
    store = open_store(project, database, models)
    assert len(write_all(store)) == 3
    store.run("db-up")
    before = database.schema()

    for package, source in models.items():
        store.models(package, source.split("\n\n")[1])
    written = write_all(store)

    assert {revision.package for revision in written} == {"here", "there"}
    store.run("db-up")
    assert database.tables() == ["alembic_version", "heres_kept", "theres_kept"]
    for revision in reversed(written):
        store.run("db-down", f"{revision.package}@-1", "-y")
    assert database.schema() == before
    store.run("db-up")
    store.run("db-down", "base", "-y")
    assert database.tables() == ["alembic_version"]


@pytest.mark.parametrize("seed", range(PROJECTS))
@pytest.mark.drivers(*ONE_EACH)
def test_random_packages_need_one_command(project: Project, database: Database, seed: int) -> None:
    """Random models, and then others, which share no table with them."""
    others = {name: re.sub(r"_t(\d)", r"_u\1", source) for name, source in random_models(seed + 1000).items()}
    models = random_models(seed)
    store = open_store(project, database, dict.fromkeys(others, "") | models)
    write_all(store)
    check_up_and_down(store, database)

    for package in store.packages:
        store.models(package, others.get(package, ""))
    write_all(store)
    store.run("db-up")
    assert store.run("db-check").stdout.count("matches its models") == len(store.packages)
    store.run("db-check", "--scratch")


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_all_or_nothing(project: Project, database: Database) -> None:
    store = open_store(project, database, MODELS)
    project.write("orders/migrations/script.py.mako", "no revision\n")
    assert "script.py.mako of orders does not produce a revision" in store.refused("db-rev", "-a", "First")

    (project.migrations("orders") / "script.py.mako").unlink()
    hook = "hooks = one\none.type = exec\none.executable = /no/such/program\none.options = X\n"
    project.write("orders/migrations/alembic.ini", f"[alembic]\n[post_write_hooks]\n{hook}")
    error = store.refused("db-rev", "-a", "First")
    assert "and the other new files were removed again, because a post_write_hook failed" in error

    (project.migrations("orders") / "alembic.ini").unlink()
    (project.migrations("catalog") / "versions").rmdir()
    project.write("catalog/migrations/alembic.ini", "[alembic]\ntruncate_slug_length = 900\n")
    assert "cannot be written" in store.refused("db-rev", "-a", "word " * 150)
    assert not (project.migrations("catalog") / "versions").exists()


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_all_pending_revisions_are_named_at_once(project: Project, database: Database) -> None:
    store = open_store(project, database, MODELS)
    ids = [revision.id for revision in write_all(store)]

    error = store.refused("db-rev", "-a", "Again")

    assert error.startswith(", ".join(ids) + " are not applied, so the models of accounts, catalog, orders cannot")
    assert error.endswith("Run 'ampho db-up' first.")


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg")
def test_scratch_needs_no_database_that_is_up_to_date(project: Project, database: Database) -> None:
    store = open_store(project, database, MODELS)
    write_all(store, "--scratch")
    store.models("catalog", BOOKS + MORE)

    assert [revision.package for revision in write_all(store, "--scratch")] == ["catalog"]
    assert database.tables() == []


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_a_model_that_moved_is_named(project: Project, database: Database) -> None:
    store = open_store(project, database, {"accounts": CUSTOMERS, "catalog": BOOKS})
    write_all(store)
    store.run("db-up")
    store.models("accounts", CUSTOMERS + BOOKS)
    store.models("catalog", "")

    assert store.run("db-rev", "-a", "Nothing").stdout == (
        "The table books has moved from catalog to accounts. No revision is needed for that.\n"
        "Nothing to do: the tables of all packages match their models.\n"
    )

    store.models("accounts", CUSTOMERS + BOOKS + MORE)  # changes of the table depend on the package that created it
    assert "has moved" not in store.run("db-rev", "accounts", "More", "-a").output
    assert "\nDepends on: catalog_" in store.newest("accounts")
    store.run("db-check", "--scratch")


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_a_package_without_a_migrations_folder_is_refused_if_it_differs(project: Project, database: Database) -> None:
    store = open_store(project, database, {"accounts": CUSTOMERS, "catalog": BOOKS})
    (project.migrations("catalog") / "versions").rmdir()
    project.migrations("catalog").rmdir()
    assert "ampho db-init catalog" in store.refused("db-rev", "-a", "First")
    done = store.run("db-init")
    assert done.stdout.count("Wrote ") == 1
    assert done.stdout.endswith('Next: ampho db-rev -a "Initial"\n')
    assert store.run("db-init").stdout == "Nothing to do: all listed packages have a migrations folder.\n"
    assert len(write_all(store)) == 2


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("", "Run 'ampho db-rev PACKAGE MESSAGE', or 'ampho db-rev -a MESSAGE' for all packages"),
        ("accounts", "Run 'ampho db-rev accounts MESSAGE', or 'ampho db-rev -a MESSAGE' for all packages"),
        ("Two_words! --scratch", "Run 'ampho db-rev PACKAGE MESSAGE', or 'ampho db-rev -a MESSAGE' for all packages"),
        ("-a", "PACKAGE or MESSAGE is missing"),
        ("-a Words --head base", "need a PACKAGE"),
        ("-a Words --splice", "need a PACKAGE"),
        ("-a Words --rev-id new", "need a PACKAGE"),
        ("-a Words --depends-on catalog", "need a PACKAGE"),
    ],
)
@pytest.mark.drivers("sqlite+pysqlite")
def test_what_needs_a_package_says_so(project: Project, database: Database, command: str, error: str) -> None:
    store = open_store(project, database, {"accounts": CUSTOMERS})
    assert error in store.run("db-rev", *command.split(), exit_code=2).stderr


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_the_name_of_a_package_is_not_a_message(project: Project, database: Database) -> None:
    store = open_store(project, database, {"accounts": CUSTOMERS})
    assert "'ampho db-rev accounts MESSAGE -a'" in store.refused("db-rev", "-a", "accounts")


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_the_method_returns_what_was_generated(project: Project, database: Database) -> None:
    store = open_store(project, database, MODELS)
    with opened_app(store) as app:
        before = project.files()
        planned = call(app, "autogenerate", "First", dry_run=True)
        assert project.files() == before
        with pytest.raises(RevisionInputError, match="need exactly one package"):
            call(app, "autogenerate", "First", "catalog", "accounts", head="base")
        written = call(app, "autogenerate", "First", "catalog", "accounts")
    assert [each.package for each in planned] == list(MODELS)
    assert all(each.changes and not each.revisions for each in planned)
    assert [(each.package, len(each.revisions)) for each in written] == [("catalog", 1), ("accounts", 1)]


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_installed_packages_are_named_and_not_written(
    project: Project, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(project, database, {"catalog": BOOKS}, packages=["plugin", "catalog"])
    installed = Project(project.folder / "site-packages")
    installed.package("plugin", f"import sqlalchemy as sa\nfrom database import db\n{CUSTOMERS}")
    installed.revision("plugin", "plugin_1")
    monkeypatch.syspath_prepend(installed.folder)
    store.run("db-up")
    before = installed.files()

    result = store.run("db-rev", "-a", "First")

    assert (
        "The models of plugin differ from the database, but Ampho does not write revisions of installed"
        in result.stderr
    )
    assert result.stdout.count("Wrote ") == 1
    assert installed.files() == before
    assert "is installed in" in store.refused("db-rev", "plugin", "First", "-a")


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_the_result_as_json(project: Project, database: Database) -> None:
    store = open_store(project, database, {"accounts": CUSTOMERS, "catalog": BOOKS})
    write_all(store)
    store.run("db-up")
    store.models("catalog", BOOKS + MORE)

    one = json.loads(store.run("db-rev", "catalog", "More", "-a", "--json").stdout)
    Draft202012Validator(json.loads(SCHEMA.read_text("utf-8"))).validate(one)
    (generated,) = one["generated"]
    assert generated["revisions"] == [one["revision"]]
    assert [change["text"] for change in generated["changes"]] == ["+ column books.more  INTEGER"]
    Path(one["revision"]["path"]).unlink()

    catalog, accounts = json.loads(store.run("db-rev", "-a", "More", "--json").stdout)["generated"]

    assert (catalog["package"], accounts["package"]) == ("catalog", "accounts")
    assert [change["name"] for change in catalog["changes"]] == ["books.more"]
    assert [revision["message"] for revision in catalog["revisions"]] == ["More"]
    assert accounts["revisions"] == accounts["changes"] == []


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite", "postgresql+psycopg", "mariadb+asyncmy")
def test_four_real_commands(project: Project, database: Database) -> None:
    store = open_store(project, database, MODELS)
    for package in MODELS:
        (project.migrations(package) / "versions").rmdir()
        project.migrations(package).rmdir()
    assert project.run("ampho", "db-init").stdout.count("Wrote ") == len(MODELS)
    written = project.run("ampho", "db-rev", "-a", "Tables").stdout
    assert re.findall(r"^Wrote (\w+)/", written, re.MULTILINE) == ["accounts", "catalog", "orders"]
    project.run("ampho", "db-up")
    again = project.run("ampho", "db-rev", "-a", "Tables")
    assert again.stdout == "Nothing to do: the tables of all packages match their models.\n"
    assert set().union(*TABLES.values()) < set(database.tables())
    assert len(store.packages) == len(project.run("ampho", "db-check").stdout.splitlines())


@pytest.mark.drivers("sqlite+pysqlite")
def test_two_heads_only_matter_where_something_is_written(project: Project, database: Database) -> None:
    store = open_store(project, database, {"accounts": CUSTOMERS, "catalog": BOOKS})
    first = {revision.package: revision.id for revision in write_all(store)}
    for number in (8, 9):
        project.revision("catalog", f"catalog_{number}", first["catalog"])
    store.run("db-up")
    store.models("accounts", CUSTOMERS + MORE)
    assert [revision.package for revision in write_all(store)] == ["accounts"]
    store.run("db-up")

    store.models("catalog", BOOKS + MORE)
    assert "catalog has 2 heads" in store.refused("db-rev", "-a", "More")
