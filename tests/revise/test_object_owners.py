"""The owners of views and types, which plug-ins for Alembic compare."""

from __future__ import annotations

from pathlib import Path

import pytest
from project import Project
from servers import Database
from store import BOOKS, CUSTOMERS, Store, open_store

PLUGIN = '''
"""Compares views, as the plug-ins for Alembic do."""

from dataclasses import dataclass

from alembic.autogenerate import comparators, renderers
from alembic.operations import MigrateOperation, Operations
from sqlalchemy import inspect, text

views = []


@dataclass(eq=False)
class View:
    signature: str
    definition: str = ""
    type_ = "view"


def register(*added):
    views.extend(added)


class CreateView(MigrateOperation):
    def __init__(self, target):
        self.target = target

    def reverse(self):
        return DropView(self.target)


class DropView(CreateView):
    def reverse(self):
        return CreateView(self.target)


@comparators.dispatch_for("schema")
def compare(context, upgrade, schemas):
    found = inspect(context.connection).get_view_names()
    upgrade.ops += [CreateView(view) for view in views if view.signature not in found]
    names = [view.signature for view in views]
    upgrade.ops += [DropView(View(name)) for name in found if name not in names]


@renderers.dispatch_for(CreateView)
def render_create(context, operation):
    made = f"CREATE VIEW {operation.target.signature} AS {operation.target.definition}"
    return f"op.execute({made!r}, execution_options=dict(signature={operation.target.signature!r}))"


@renderers.dispatch_for(DropView)
def render_drop(context, operation):
    return f"op.execute('DROP VIEW {operation.target.signature}')"
'''
ASSIGNED = "import views_plugin\n\nall_books = views_plugin.View('all_books', 'SELECT id FROM books')\n"
INLINE = "views_plugin.register(all_books, views_plugin.View('titles', 'SELECT title FROM books'))\n"
BORROWED = "from catalog.models import all_books\nimport views_plugin\n"
HIDDEN = "views_plugin.register(*(views_plugin.View('by_' + name, 'SELECT id FROM books') for name in ('a', 'b')))\n"


@pytest.mark.drivers("sqlite+pysqlite")
def test_a_view_belongs_to_the_package_that_declares_or_created_it(project: Project, database: Database) -> None:
    project.write("views_plugin.py", PLUGIN)
    store = open_store(project, database, {"accounts": CUSTOMERS, "catalog": BOOKS})
    for package in store.packages:
        run(store, "db-rev", package, "Tables", "-a")
    run(store, "db-up")
    store.models("catalog", ASSIGNED + INLINE + BOOKS)
    store.models("accounts", BORROWED + CUSTOMERS)

    assert "Nothing to do" in run(store, "db-rev", "accounts", "Views", "-a")
    written = newest(store, "catalog")
    assert written.count("CREATE VIEW") == 2
    run(store, "db-up")
    assert run(store, "db-check").count("matches its models") == 2

    store.models("catalog", BOOKS)
    store.models("accounts", "import views_plugin\n" + CUSTOMERS)
    assert "Nothing to do" in run(store, "db-rev", "accounts", "Views", "-a")
    assert newest(store, "catalog").partition("def downgrade")[0].count("DROP VIEW") == 2
    run(store, "db-up")
    database.run("CREATE VIEW by_hand AS SELECT id FROM books")
    store.models("catalog", "import views_plugin\n" + HIDDEN + BOOKS)
    checked = project.run("ampho", "--app", "wsgi", "db-check", check=False)
    assert checked.exit_code == 1
    assert "~ view by_a  belongs to no package\n    ~ view by_b  belongs to no package" in checked.stdout
    assert "No package owns the view by_hand in the database" in checked.stderr


LEVEL = """
import enum


class Level(enum.Enum):
    low = 1
    high = 2


class Person(db.Model):
    __tablename__ = "people"
    id = sa.Column(sa.Integer, primary_key=True)
    level = sa.Column(sa.Enum(Level, name="level"))
"""
BILL = """
from people.models import Level


class Bill(db.Model):
    __tablename__ = "bills"
    id = sa.Column(sa.Integer, primary_key=True)
    level = sa.Column(sa.Enum(Level, name="level"))
"""


@pytest.mark.drivers("postgresql+psycopg")
def test_a_type_that_two_packages_use_belongs_to_the_one_that_declares_it(project: Project, database: Database) -> None:
    store = open_store(project, database, {"billing": BILL, "people": LEVEL})
    wsgi = project.folder / "wsgi.py"
    wsgi.write_text("import alembic_postgresql_enum\n" + wsgi.read_text("utf-8"), "utf-8")

    assert (
        "people, which has no revisions"
        in project.run("ampho", "--app", "wsgi", "db-rev", "billing", "Bills", "-a", check=False).stderr
    )
    run(store, "db-rev", "people", "People", "-a")
    bills = newest(store, "billing", "--scratch")
    assert f'depends_on = ("{store.read("people", store.files("people")[0]).id}",)' in bills
    run(store, "db-up")
    run(store, "db-down", "billing@base")
    run(store, "db-up")
    assert run(store, "db-check").count("matches its models") == 2


def run(store: Store, *command: str) -> str:
    return store.project.run("ampho", "--app", "wsgi", *command).stdout


def newest(store: Store, package: str, *options: str) -> str:
    before = {*store.files(package)}
    run(store, "db-rev", package, "Change", "-a", *options)
    written: Path
    (written,) = {*store.files(package)} - before
    return written.read_text("utf-8")
