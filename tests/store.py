"""A project of packages with models, for tests that write revisions from them, in this process or in real ones."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

import zigzag
from project import Project, Result
from servers import Database
from sqlalchemy import URL

from ampho.history.revision import Revision, parse_revision

_DATABASE = """\
from {module} import {class_}

db = {class_}()
"""

_APP = """\
from {module} import {app_class}
from ampho import {extension_class}
from database import db


def create_app():
    app = {app_class}("wsgi")
    app.config.update({config!r})
    {extension_class}(app, db, **{options})
    return app
"""

_MODELS = "import sqlalchemy as sa\nfrom database import db\n\n"

CUSTOMERS = """
class Customer(db.Model):
    __tablename__ = "customers"
    id = sa.Column(sa.Integer, primary_key=True)
    email = sa.Column(sa.String(200), nullable=False, index=True)
"""
BOOKS = """
class Book(db.Model):
    __tablename__ = "books"
    id = sa.Column(sa.Integer, primary_key=True)
    title = sa.Column(sa.String(200), nullable=False)
"""
ORDERS = """
class Order(db.Model):
    __tablename__ = "orders"
    id = sa.Column(sa.Integer, primary_key=True)
    customer_id = sa.Column(sa.ForeignKey("customers.id", name="orders_customer"), nullable=False)


class OrderLine(db.Model):
    __tablename__ = "order_lines"
    order_id = sa.Column(sa.ForeignKey("orders.id"), primary_key=True)
    book_id = sa.Column(sa.ForeignKey("books.id"), primary_key=True)
    price = sa.Column(sa.Numeric(8, 2), nullable=False)
"""
MUTUAL = """
class {0}(db.Model):
    __tablename__ = "{1}"
    id = sa.Column(sa.Integer, primary_key=True)
    other_id = sa.Column(sa.ForeignKey("{2}.id", name="{1}_{2}", use_alter=True))
"""
MODELS = {"accounts": CUSTOMERS, "catalog": BOOKS, "orders": ORDERS}
TABLES = {"accounts": {"customers"}, "catalog": {"books"}, "orders": {"orders", "order_lines"}}


@dataclass(frozen=True)
class Store:
    """A project on disk and its database; every command sees the files as they are then.

    :ivar options: the source of a ``dict`` of arguments for ``Ampho(...)``.
    """

    project: Project
    framework: str
    packages: tuple[str, ...]
    url: URL
    options: str = "{}"
    extra_config: Mapping[str, Any] = field(default_factory=dict)

    def write_app(self) -> None:
        flask = self.framework == "flask"
        self.project.write(
            "database.py",
            _DATABASE.format(
                module="flask_sqlalchemy" if flask else "ampho.aio",
                class_="SQLAlchemy" if flask else "AsyncSQLAlchemy",
            ),
        )
        config = {
            "SQLALCHEMY_DATABASE_URI": self.url.render_as_string(hide_password=False),
            "AMPHO_MIGRATION_PACKAGES": list(self.packages),
            **self.extra_config,
        }
        self.project.write(
            "wsgi.py",
            _APP.format(
                module=self.framework,
                app_class="Flask" if flask else "Quart",
                extension_class="Ampho" if flask else "AsyncAmpho",
                config=config,
                options=self.options,
            ),
        )

    def models(self, package: str, source: str) -> None:
        """Write the models of a package anew; ``sa`` and ``db`` are at hand."""
        self.project.package(package, _MODELS + dedent(source))
        (self.project.migrations(package) / "versions").mkdir(parents=True, exist_ok=True)

    def run(self, *command: str, exit_code: int | None = 0) -> Result:
        """Run a command in this process, in an app and with models that are imported anew."""
        with zigzag.app_in(self.project) as app:
            done = app.test_cli_runner().invoke(args=["ampho", *command])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        result = Result(("ampho", *command), done.exit_code, done.stdout, done.stderr)
        assert exit_code in (None, result.exit_code), str(result)
        assert "Traceback" not in result.output
        return result

    def auto(self, package: str, *options: str) -> Revision:
        """Write a revision with ``-a``, and return it."""
        before = set(self.files(package))
        result = self.run("db-rev", package, "Change", "-a", "--no-split", *options)
        written = [path for path in self.files(package) if path not in before]
        assert len(written) == 1, str(result)
        return self.read(package, written[0])

    def read(self, package: str, path: Path) -> Revision:
        return parse_revision(path.read_bytes(), str(path), package)

    def nothing_to_do(self, package: str, *options: str) -> Result:
        """Run ``-a``, which must find no difference and write nothing."""
        before = self.project.files()
        result = self.run("db-rev", package, "Nothing", "-a", *options)
        assert "Nothing to do" in result.stdout, result.stdout
        assert self.project.files() == before
        return result

    def refused(self, *command: str) -> str:
        """Run a command that must fail without writing a file, and return its error."""
        before = self.project.files()
        result = self.run(*command, exit_code=1)
        assert self.project.files() == before
        errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
        assert len(errors) == 1, result.stderr
        return errors[0].removeprefix("Error: ")

    def files(self, package: str) -> list[Path]:
        return sorted((self.project.migrations(package) / "versions").glob("*.py"))

    def newest(self, package: str) -> str:
        return max(self.files(package), key=lambda path: path.name).read_text("utf-8")

    def tables_in(self, revision: Revision) -> set[str]:
        """The tables that a revision makes."""
        return set(re.findall(r"op\.create_table\(\s*['\"](\w+)", revision.path.read_text("utf-8")))


def random_models(seed: int) -> dict[str, str]:
    """Packages p0, p1, ... with tables whose columns and foreign keys, to any table of any package, are random."""
    rng = random.Random(seed)
    packages = [f"p{number}" for number in range(rng.randint(2, 4))]
    tables = [(package, f"{package}_t{n}") for package in packages for n in range(rng.randint(1, 3))]
    models = dict.fromkeys(packages, "")
    for package, name in tables:
        columns = [
            f"c{n} = sa.Column({rng.choice(('sa.Integer', 'sa.String(30)', 'sa.Numeric(8, 2)', 'sa.DateTime'))},"
            f" nullable={rng.random() < 0.5}, index={rng.random() < 0.3})"
            for n in range(rng.randint(0, 3))
        ]
        columns += [
            f"f{n} = sa.Column(sa.ForeignKey('{target}.id', name='{name}_f{n}', use_alter=True))"
            for n, (_, target) in enumerate(rng.sample(tables, min(len(tables), rng.randint(0, 2))))
        ]
        head = f"class {name.title()}(db.Model):\n    __tablename__ = '{name}'\n"
        models[package] += head + "".join(
            f"    {line}\n" for line in ["id = sa.Column(sa.Integer, primary_key=True)", *columns]
        )
    return models


def open_store(
    project: Project,
    database: Database,
    models: Mapping[str, str] = MODELS,
    *,
    options: str = "{}",
    packages: Sequence[str] = (),
    url: URL | None = None,
    **extra_config: Any,
) -> Store:
    """Write a project of packages with models, and without revisions."""
    store = Store(
        project,
        zigzag.framework_of(database),
        tuple(packages or models),
        url or database.url,
        options,
        extra_config,
    )
    store.write_app()
    for package, source in models.items():
        store.models(package, source)
    return store


@contextmanager
def opened_app(store: Store) -> Iterator[Any]:
    """The app of a store, for calls of the API."""
    with zigzag.app_in(store.project) as app:
        yield app
