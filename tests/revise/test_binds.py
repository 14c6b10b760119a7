"""What the binds of models say, against the databases in which packages live."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from project import Project
from servers import Database
from store import BOOKS, CUSTOMERS, Store, open_store

on_sqlite = pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")

EVENTS = CUSTOMERS.replace("Customer", "Event").replace("customers", "events") + "    __bind_key__ = 'events'\n"
TALKS = EVENTS.replace("Event", "Talk").replace('"events"', '"talks"')
# Another table with the name of one in the database default.
COPIES = EVENTS.replace("Event", "Copy").replace('"events"', '"customers"')
LOOSE = """
import sqlalchemy as sa
from database import db

sa.Table("loose", db.metadata, sa.Column("id", sa.Integer, primary_key=True))
"""


def bound(project: Project, database: Database, models: dict[str, str], **config: Any) -> Store:
    """Write a project with a second database, ``events``."""
    return open_store(
        project, database, models, **{"SQLALCHEMY_BINDS": {"events": url(database, "events.db")}, **config}
    )


def url(database: Database, path: str) -> str:
    """Return the URL of a file beside that of the database."""
    file = Path(str(database.url.database)).parent / path
    return database.url.set(database=str(file)).render_as_string(hide_password=False)


def line(**homes: list[str]) -> str:
    return f'app.config["AMPHO_DATABASES"] = {json.dumps(homes)}'


@on_sqlite
def test_a_bind_in_which_its_package_does_not_live_is_an_error(project: Project, database: Database) -> None:
    shop = bound(project, database, {"accounts": CUSTOMERS, "events": EVENTS + TALKS})

    for command in ("db-check", "db-rev -a Change", "db-rev events -a Change", "db-rev -a --scratch Change"):
        error = shop.refused(*command.split())
        assert error.startswith("The tables events, talks of events use the bind events, but events lives in default. ")
        assert f'Write {line(events=["events"])}; or write "events": [] there' in error

    # The line leaves out the list that would become empty, because an empty list has another meaning.
    binds = {name: url(database, f"{name}.db") for name in ("events", "talks", "old")}
    homes = {"talks": ["events"], "old": []}
    shop = bound(
        project, database, {"events": EVENTS, "accounts": CUSTOMERS}, SQLALCHEMY_BINDS=binds, AMPHO_DATABASES=homes
    )
    error = shop.refused("db-check")
    assert f"but events lives in talks. Write {line(old=[], events=['events'])}; or" in error

    shop = bound(project, database, {"accounts": CUSTOMERS + TALKS}, AMPHO_DATABASES={"events": []})
    assert shop.tables_in(shop.auto("accounts")) == {"customers"}
    shop.run("db-up")
    checked = shop.run("db-check")
    assert (checked.stdout, checked.stderr) == ("accounts  matches its models\n", "")


@on_sqlite
def test_an_upgrade_warns_of_a_package_that_lives_in_another_database(project: Project, database: Database) -> None:
    warning = "Warning: events has models with the bind events, but its migrations run in default."

    def run(command: str, **config: Any) -> str:
        models = {"accounts": CUSTOMERS, "events": EVENTS + "class Helper: pass\n"}
        shop = bound(project, database, models, **config)
        app = project.read("wsgi.py").replace("    return app", f"{group if '-d' in command else ''}    return app")
        project.write("wsgi.py", f"{app}import accounts.models, events.models\n")
        return shop.run(*command.split()).stderr

    group = (
        "    from ampho import Database\n"
        "    tenants = app.extensions['ampho'].databases('tenants', packages=['accounts'])\n"
        f"    tenants(lambda: [Database('acme', url={url(database, 'acme.db')!r})])\n"
    )
    for command in ("db-up", "db-up --plan", "db-lint", "db-check --deploy"):
        assert run(command).count(warning) == 1
    for command in ("db-up -d tenants", "db-check --deploy -d tenants", "db-lint -d tenants"):
        assert run(command).count(warning) == 1
    right: list[dict[str, Any]] = [
        {"AMPHO_DATABASES": {"events": ["events"]}},
        {"AMPHO_DATABASES": {"events": []}},
        {"AMPHO_OWNERS": {"ev*": "accounts"}},
        {"SQLALCHEMY_BINDS": {"events": database.url.render_as_string(hide_password=False)}},
    ]
    for config in right:
        assert "bind" not in run("db-up", **config), config


@on_sqlite
def test_a_package_with_tables_of_several_binds(project: Project, database: Database) -> None:
    shop = bound(project, database, {"accounts": CUSTOMERS + EVENTS, "books": BOOKS}, AMPHO_DATABASES={})

    error = shop.refused("db-check")
    homes = {"default": ["accounts"], "events": ["accounts"]}
    assert f"move the models of events to a package of their own, or write {line(**homes)} for all" in error

    shop = bound(project, database, {"accounts": CUSTOMERS + EVENTS, "books": BOOKS}, AMPHO_DATABASES=homes)
    assert shop.tables_in(shop.auto("accounts")) == {"customers", "events"}
    shop.run("db-up", "accounts")
    assert shop.run("db-check", "accounts").stdout.count("accounts  matches") == 2
    # It is compared with its first database, unless another one is named.
    shop.models("accounts", CUSTOMERS)
    shop.run("db-down", "accounts@base", "-d", "events")
    assert "- table events" in shop.run("db-rev", "accounts", "Less", "-a", "--dry-run").stdout
    assert "not applied" in shop.refused("db-rev", "accounts", "Less", "-a", "-d", "events")


@on_sqlite
def test_two_names_for_one_database_are_an_alias(project: Project, database: Database) -> None:
    file = Path(str(database.url.database))
    same = {"events": url(database, f"../{file.parent.name}/{file.name}")}
    shop = bound(project, database, {"accounts": CUSTOMERS, "events": EVENTS}, SQLALCHEMY_BINDS=same)
    shop.run("db-rev", "-a", "First")
    assert "'events'" in shop.newest("events").replace('"', "'")
    shop.run("db-up")
    assert shop.run("db-check").stderr == ""

    # The same files fill two databases, by configuration alone.
    shop = bound(project, database, {"accounts": CUSTOMERS, "events": EVENTS}, AMPHO_DATABASES={"events": ["events"]})
    shop.run("db-up", "-d", "events")
    assert shop.run("db-check", "-d", "events").stdout == "events  matches its models\n"


@on_sqlite
def test_each_database_has_its_own_tables(project: Project, database: Database) -> None:
    models = {"accounts": CUSTOMERS, "books": BOOKS, "copies": COPIES}
    shop = bound(project, database, models, AMPHO_DATABASES={"events": ["copies", "books"]})

    found = shop.run("db-rev", "-a", "First")
    assert found.stderr == ""
    assert shop.tables_in(shop.read("copies", shop.files("copies")[0])) == {"customers"}
    assert shop.tables_in(shop.read("books", shop.files("books")[0])) == {"books"}
    shop.run("db-up")
    assert shop.run("db-check").stderr == ""

    # A table without an owner is reported once, and a table of a package that lives elsewhere not at all.
    project.write("lib.py", LOOSE)
    shop.models("books", "import lib\n" + BOOKS)
    checked = shop.run("db-check", exit_code=1)
    assert checked.output.count("loose") == 2  # the warning, and the difference
    assert "loose" not in shop.run("db-check", "-d", "events").output


@on_sqlite
@pytest.mark.parametrize("bind", ["", "    __bind_key__ = 'events'\n"])
@pytest.mark.parametrize("target", ["accounts", "ignored"])
def test_a_foreign_key_to_another_database_is_refused(
    project: Project, database: Database, bind: str, target: str
) -> None:
    reviews = """
class Review(db.Model):
    __tablename__ = "reviews"
    id = sa.Column(sa.Integer, primary_key=True)
    other_id = sa.Column(sa.ForeignKey("{}.id"))
"""
    referenced = "customers" if target == "accounts" else "talks"
    models = {"accounts": CUSTOMERS + TALKS.replace("'events'", "'old'"), "reviews": reviews.format(referenced) + bind}
    binds = {name: url(database, f"{name}.db") for name in ("events", "old")}
    shop = bound(project, database, models, SQLALCHEMY_BINDS=binds, AMPHO_DATABASES={"events": ["reviews"], "old": []})

    where = "default" if target == "accounts" else "old"
    expected = (
        f"The table reviews of reviews, which is in the database events, has a foreign key to the table {referenced} of"
        f" accounts, which is in the database {where}. A foreign key cannot lead to another database. "
    )
    assert shop.refused("db-check").startswith(expected)
    assert shop.refused("db-rev", "reviews", "Change", "-a").startswith(expected)

    if target == "accounts":  # a relationship needs no foreign key
        relationship = (
            "    customer = db.relationship('Customer', primaryjoin='foreign(Review.other_id) == Customer.id')\n"
        )
        plain = re.sub(r"sa\.ForeignKey\(.*\)\)", "sa.Integer)", reviews)
        shop.models("reviews", "import accounts.models\n" + plain.format() + bind + relationship)
        shop.run("db-rev", "-a", "Change")
        shop.run("db-up")
        assert shop.run("db-check").stderr == ""


@on_sqlite
def test_packages_of_several_databases_get_revisions_together(project: Project, database: Database) -> None:
    events = {"events": ["events", "talks"]}
    models = {"accounts": CUSTOMERS, "events": EVENTS, "talks": TALKS}
    shop = bound(project, database, models, AMPHO_DATABASES=events)

    # Nothing is written if one of the databases cannot be compared.
    project.revision("talks", "talks_1")
    assert "talks_1 is not applied" in shop.refused("db-rev", "-a", "First")
    shop.run("db-up")
    written = shop.run("db-rev", "-a", "First", "--dry-run").stdout
    assert [name for name in models if f"{name}_" in written] == [*models]
    shop.run("db-rev", "-a", "First")
    assert [len(shop.files(name)) for name in models] == [1, 1, 2]
    shop.run("db-up")

    # Each answer is for the database that has its table.
    age = "    age = sa.Column(sa.Integer, nullable=False)\n"
    shop.models("accounts", CUSTOMERS.replace("email", "mail"))
    shop.models("events", EVENTS.replace("email", "mail") + age)
    answers = ["--rename", "customers.email=mail", "--rename", "events.email=mail", "--fill", "events.age=3"]
    assert "--rename talk.email=mail: The database has no table" in shop.refused(
        "db-rev", "-a", "Change", *answers, "--rename", "talk.email=mail"
    )
    shop.run("db-rev", "-a", "Change", *answers)
    assert "mail" in shop.newest("accounts")
    assert "new_column_name='mail'" in shop.newest("events").replace('"', "'")
    assert "SET age = 3" in shop.newest("events")
    shop.run("db-up")
    assert shop.run("db-check").stderr == ""
    assert "compare" not in shop.run("db-check", "--scratch").stderr

    # A revision may depend on one in another database.
    first = shop.read("accounts", shop.files("accounts")[0]).id
    shop.models("talks", TALKS + age.replace("False", "True"))
    for options in ((), ("--scratch",)):
        found = shop.run("db-rev", "talks", "Later", "-a", "--depends-on", "accounts", "--dry-run", *options)
        assert "+ column talks.age" in found.stdout
    assert shop.auto("talks", "--depends-on", first).depends_on == (first,)


@on_sqlite
def test_a_rebase_asks_each_database_of_the_package(project: Project, database: Database) -> None:
    homes = {"default": ["accounts"], "events": ["accounts"]}
    shop = bound(project, database, {"accounts": CUSTOMERS}, AMPHO_DATABASES=homes)
    for name, parent in (
        ("accounts_1", None),
        ("accounts_1700000002", "accounts_1"),
        ("accounts_1700000003", "accounts_1"),
    ):
        project.revision("accounts", name, parent)

    shop.run("db-up", "accounts_1700000003", "-d", "events")
    assert "events: Revisions of the later line are already applied" in shop.refused("db-rebase", "accounts")
    shop.run("db-down", "accounts_1", "-d", "events")
    shop.run("db-rebase", "accounts")
    shop.run("db-up")
    assert shop.run("db-rev", "accounts", "Nothing").exit_code == 0


@on_sqlite
def test_the_files_of_flask_db_for_several_binds_are_named(project: Project, database: Database) -> None:
    shop = bound(project, database, {"accounts": CUSTOMERS, "events": EVENTS}, AMPHO_DATABASES={"events": ["events"]})
    file = project.revision("accounts", "accounts_1", upgrade='globals()["upgrade_%s" % engine_name]()')
    file.write_text(file.read_text("utf-8").replace("def upgrade()", "def upgrade(engine_name)"), "utf-8")

    for command in ("db-check", "db-rev -a Change", "db-up -d default"):
        error = shop.refused(*command.split())
        assert "accounts_1" in error
        assert "with a function for each bind" in error or "has a function for each bind" in error
        assert '"A Flask-Migrate folder for several databases" in docs/adopting.md' in error


GROUP = """
from {framework} import {app_class}
from ampho import {extension}, Database
from database import db

ampho = {extension}(db=db)


@ampho.databases("tenants", packages={packages})
def tenants():
    for name in ("acme", "bolt"):
        yield Database(name, url="{url}".replace("NAME", name))


def create_app():
    app = {app_class}("wsgi")
    app.config.update({config})
    db.init_app(app)
    ampho.init_app(app)
    return app
"""


@on_sqlite
def test_packages_of_groups_are_compared_with_one_database_of_the_group(project: Project, database: Database) -> None:
    models = {"accounts": CUSTOMERS, "books": BOOKS}
    shop = open_store(project, database, models)
    flask = shop.framework == "flask"
    words = {
        "framework": shop.framework,
        "app_class": "Flask" if flask else "Quart",
        "extension": "Ampho" if flask else "AsyncAmpho",
        "url": url(database, "NAME.db"),
        "config": {
            "SQLALCHEMY_DATABASE_URI": shop.url.render_as_string(hide_password=False),
            "AMPHO_MIGRATION_PACKAGES": ["accounts"],
        },
    }
    project.write("wsgi.py", GROUP.format(packages=["books"], **words))
    not_compared = "Warning: books lives in the group tenants, and is not compared. Add --database tenants.\n"

    assert shop.run("db-rev", "-a", "First", "--dry-run").stderr == not_compared
    assert "books lives in the group tenants. Add --database" in shop.refused("db-rev", "books", "-a", "First")
    found = shop.run("db-rev", "-a", "First", "-d", "default", "-d", "tenants")
    assert found.stderr == ""
    assert [len(shop.files(name)) for name in models] == [1, 1]
    for name in ("default", "tenants/acme", "tenants/bolt"):
        shop.run("db-up", "-d", name)
    checked = shop.run("db-check", "-d", "*")
    in_default = "default:\naccounts  matches its models\n"
    assert checked.stdout == f"{in_default}\ntenants: no differences in 2 databases.\n"
    checked = shop.run("db-check")
    assert (checked.stdout, checked.stderr) == ("accounts  matches its models\n", not_compared)
    shop.models("books", BOOKS + "    more = sa.Column(sa.Integer)\n")
    assert shop.auto("books", "-d", "tenants/bolt").package == "books"

    project.write("wsgi.py", GROUP.format(packages=["accounts", "books"], **words))
    for command in ("db-check", "db-rev -a Change", "db-status", "db-up"):
        assert "Every package lives in the group tenants. Add --database" in shop.refused(*command.split())


STATES = """
class {0}(db.Model):
    __tablename__ = "items"
    id = sa.Column(sa.Integer, primary_key=True)
    state = sa.Column(sa.Enum({1}, name="state"), nullable=False)
"""


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg", "mariadb+pymysql", "mariadb+asyncmy")
def test_two_databases_of_a_server_have_tables_and_types_of_the_same_names(
    project: Project, database: Database, make_database: Callable[[str], Database]
) -> None:
    other = make_database(database.driver)
    models = {"shop": STATES.format("Item", "'new', 'old'"), "stock": STATES.format("Lot", "'in', 'out'")}
    models["stock"] += "    __bind_key__ = 'stock'\n"
    binds = {"stock": other.url.render_as_string(hide_password=False)}
    shop = open_store(project, database, models, SQLALCHEMY_BINDS=binds, AMPHO_DATABASES={"stock": ["stock"]})

    shop.run("db-rev", "-a", "First")
    shop.run("db-up")
    assert shop.run("db-check").stderr == ""
    shop.models("stock", models["stock"].replace("'in', 'out'", "'in', 'out', 'sold'"))
    drifts = shop.run("db-check", exit_code=1).stdout
    assert "shop  matches its models" in drifts
    shop.run("db-rev", "-a", "Sold", "--scratch")
    assert [len(shop.files(name)) for name in models] == [1, 2]
    shop.run("db-up")
    assert shop.run("db-check").stderr == ""
