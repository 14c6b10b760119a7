"""A long history of Flask-Migrate lives on: adopted whole, split over four packages, and squashed.

``AMPHO_LONG_HISTORY=120`` makes a history of 120 revisions, on all three databases, in Flask and in Quart.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from long_history import LongHistory
from project import Project, Result
from servers import JOURNAL, Database

from ampho.database.catalog import read_catalog

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

FEW = 12
SIZE = int(os.environ.get("AMPHO_LONG_HISTORY", FEW))
EVERYWHERE = [
    *("sqlite+pysqlite", "postgresql+psycopg", "mariadb+pymysql"),
    *("sqlite+aiosqlite", "postgresql+asyncpg", "mariadb+asyncmy"),
]
PACKAGES = ("accounts", "blog", "news", "shop")
STAGES = ("adopted", "split", "squashed")

OLD = """
import os

from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["DB"]
Migrate(app, SQLAlchemy(app))
"""
NEW = {
    "flask": """
import os

from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from ampho import Ampho
from database import Base

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["DB"]
app.config["AMPHO_MIGRATION_PACKAGES"] = {packages!r}
Ampho(app, SQLAlchemy(app, model_class=Base))
""",
    "quart": """
import os

from quart import Quart

from ampho import AsyncAmpho, AsyncSQLAlchemy
from database import Base

app = Quart(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["DB"]
app.config["AMPHO_MIGRATION_PACKAGES"] = {packages!r}
AsyncAmpho(app, AsyncSQLAlchemy(app, model_class=Base))
""",
}
MODELS = "import sqlalchemy as sa\nfrom sqlalchemy.orm import mapped_column\n\nfrom database import Base\n\n\n"


@dataclass
class Life:
    """The project, what a person types in it, and the databases.

    :ivar counts: the number of commands that change the project, by stage.
    :ivar seconds: the longest time of each command.
    """

    project: Project
    history: LongHistory
    databases: dict[str, Database]
    framework: str
    counts: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)

    def type(self, *words: str, on: str = "head", stage: str = "", check: bool = True) -> Result:
        """Run a command, as a person types it, with the URL of a database in the environment."""
        self.counts.update([stage] if stage else [])
        database = self.databases[on]
        url = database.sync_url if words[0] == "flask" else database.url
        began = time.monotonic()
        result = self.project.run(
            *words, env={"DB": url.render_as_string(hide_password=False)}, timeout=1200, check=check
        )
        name = " ".join(words[: 4 if words[0] == "flask" else 2])
        self.seconds[name] = max(self.seconds.get(name, 0), time.monotonic() - began)
        return result

    def begin(self) -> None:
        """Write the files as Flask-Migrate does, and let it upgrade databases to the end and to the middle."""
        self.project.write(
            "database.py", "from sqlalchemy.orm import DeclarativeBase\n\n\nclass Base(DeclarativeBase):\n    pass\n"
        )
        self.project.write("app.py", OLD)
        self.type("flask", "db", "init")
        for number, each in enumerate(self.history.revisions):
            self.project.write(f"migrations/versions/{each.id}_{each.kind}_{number}.py", each.source)
        for name in ("reference", "head"):
            self.type("flask", "db", "upgrade", on=name)
        for stage in STAGES:
            self.type("flask", "db", "upgrade", self.history.revisions[SIZE // 2 - 1].id, on=f"middle_{stage}")

    def adopt(self) -> None:
        """Move the history into a package as a whole."""
        self.models({"blog": PACKAGES})
        self.app(["blog"])
        self.type("ampho", "db-adopt", "migrations", stage="adopted")
        self.project.run("rm", "-r", "migrations")

    def split(self) -> None:
        """Split it over four packages, to which the models have moved."""
        self.models({name: [name] for name in PACKAGES})
        self.app(PACKAGES)
        command = ("ampho", "db-adopt", "blog/migrations", "--into", ",".join(PACKAGES))
        files = self.project.files()
        plan = self.type(*command, "--plan")
        assert self.project.files() == files
        done = self.type(*command, "--yes", stage="split")
        assert plan.stdout.count("Would write") == done.stdout.count("Wrote") == len(PACKAGES)
        assert "Nothing to do" in self.type(*command).stdout
        assert len(list(self.project.folder.glob("accounts/migrations/replaced/*.py"))) == SIZE

    def go_on(self) -> None:
        """Write two more revisions of each package, and run the same operations on the database of Flask-Migrate."""
        for package in PACKAGES:
            table, name = f"{package}_more", f"{package}_new"
            operations = {
                f"op.create_table({table!r}, sa.Column('id', sa.Integer(), primary_key=True))": "drop_table({!r})",
                f"op.add_column({table!r}, sa.Column('title', sa.String(20)))": "drop_column({!r}, 'title')",
            }
            (head,) = re.findall(rf'^revision = "({package}_\d+)"$', self.read(package), re.MULTILINE)
            for number, (up, drop) in enumerate(operations.items()):
                down = f"op.{drop.format(table)}"
                self.project.revision(package, f"{name}_{number}", head, upgrade=up, downgrade=down)
                head = f"{name}_{number}"
                with self.databases["reference"].connect() as connection:
                    exec(up, {"op": Operations(MigrationContext.configure(connection)), "sa": sa})
        self.type("ampho", "db-up")

    def read(self, package: str) -> str:
        (path,) = self.project.migrations(package).glob("versions/*.py")
        return path.read_text("utf-8")

    def squash(self) -> None:
        """Squash each package, and keep the revisions on which others depend, as the error says."""
        for package in PACKAGES:
            kept: list[str] = []
            while True:
                words = ("ampho", "db-squash", package, "--yes", *kept)
                result = self.type(*words, stage="squashed", check=False)
                if result.exit_code == 0:
                    break
                found = re.search(r"or keep it as a revision of its own, with (--keep) (\S+)\.", result.stderr)
                assert found, str(result)
                kept += found.groups()

    def app(self, packages: Sequence[str]) -> None:
        self.project.write("app.py", NEW[self.framework].format(packages=list(packages)))

    def models(self, packages: dict[str, Sequence[str]]) -> None:
        """Write the models of packages, each with the tables of some of the four."""
        for package, owners in packages.items():
            earlier = "".join(f"import {each}.models  # noqa\n" for each in PACKAGES[: PACKAGES.index(owners[0])])
            own = "\n\n".join(self.history.models(owner) for owner in owners)
            self.project.package(package, models=(earlier if len(owners) == 1 else "") + MODELS + own)

    def catalog(self, name: str) -> tuple[Any, Any]:
        """Everything that inspection and the catalogs tell about a database."""
        database = self.databases[name]
        with database.connect() as connection:
            return database.schema(), read_catalog(connection, [JOURNAL, "alembic_version"])

    def check(self, stage: str, expected: tuple[Any, Any], rows: Sequence[str]) -> None:
        """Upgrade the databases of a stage, and compare them with the one of Flask-Migrate."""
        for name in ("head", f"middle_{stage}", f"empty_{stage}"):
            self.type("ampho", "db-up", on=name)
            schema, catalog = self.catalog(name)
            assert schema == expected[0], name
            assert catalog == expected[1], name
            assert self.databases[name].rows() == sorted(rows), name
        kept = self.databases[f"middle_{stage}"].data(), self.databases["head"].data()
        assert kept[0].keys() == kept[1].keys()
        assert _without_ids(kept[0]) == _without_ids(kept[1]), "the data that the old revisions insert"


def _without_ids(data: dict[str, list[tuple[Any, ...]]]) -> dict[str, list[Any]]:
    return {table: sorted(map(repr, rows)) for table, rows in data.items() if table != "alembic_version"}


@pytest.mark.timeout(3600)
@pytest.mark.drivers(*(EVERYWHERE if SIZE > FEW else ("sqlite+pysqlite", "postgresql+asyncpg")))
def test_a_history_of_flask_migrate_is_adopted_split_and_squashed(
    project: Project, database: Database, make_database: Any
) -> None:
    history = LongHistory(PACKAGES, has_types=database.backend == "postgresql")
    history.write(SIZE)
    names = ("reference", "head", *(f"{point}_{stage}" for stage in STAGES for point in ("middle", "empty")))
    databases = {name: make_database(database.driver) for name in names}
    life = Life(project, history, databases, "quart" if database.is_async else "flask")
    life.begin()
    before = life.catalog("reference")

    life.adopt()
    assert "Nothing to do" in life.type("ampho", "db-up").stdout, "the database is where it was"
    life.check("adopted", before, [history.revisions[-1].id])

    life.split()
    life.check("split", before, _heads(project))
    assert life.type("ampho", "db-check").stdout.count("matches its models") == len(PACKAGES)

    life.go_on()
    after = life.catalog("reference")
    life.squash()
    life.check("squashed", after, _heads(project))
    assert "Nothing to do" in life.type("ampho", "db-up").stdout
    life.type("ampho", "db-down", "base", "--yes")
    assert databases["head"].tables() == ["alembic_version"]

    print(f"\n{database.driver}: {SIZE} revisions, {len(history.tables)} tables; commands: {life.counts}")  # noqa: T201
    print({name: round(seconds, 1) for name, seconds in life.seconds.items()})  # noqa: T201
    assert (life.counts["adopted"], life.counts["split"]) == (1, 1)
    assert len(PACKAGES) <= life.counts["squashed"] < 2 * len(PACKAGES), "one more where others depend on a part"


def _heads(project: Project) -> list[str]:
    """The version rows that a database with everything has: the heads on which nothing depends."""
    names: dict[str, str] = {}
    for path in project.folder.glob("*/migrations/versions/*.py"):
        head: dict[str, Any] = {}
        exec(path.read_text().partition("def upgrade")[0].partition("from alembic import op")[2], head)
        names[head["revision"]] = repr([head["down_revision"], head["depends_on"]])
    return [each for each in names if not any(f"'{each}'" in needed for needed in names.values())]
