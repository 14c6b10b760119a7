"""The tools that are compared: what a project needs for each, its commands, and how to see that it did the work.

Every tool gets the same revisions, one transaction for each of them, and the database's address in ``BENCH_URL``. No
project has models, which would take each of them time that has nothing to do with migrations.

- Ampho's packages have no ``env.py`` of their own, so they use the one that ``ampho db-init`` would have copied there.
- Alembic, Flask-Migrate, Flask-Alembic and advanced-alchemy have no packages. They get the same files as branches, with
  one folder each in ``version_locations``, and their own templates. Theirs is one transaction for everything, so the
  setting for one for each revision is added.
- Django gets the same packages as apps. It has no command that takes everything back, so one process calls ``migrate
  APP zero`` for every app. Its ``showmigrations`` says what is applied, and with ``--plan`` shows the history.
- The floor is no tool: see ``floor.py``. It has an upgrade and a downgrade, and nothing for the rest.
"""

from __future__ import annotations

import compileall
import importlib.util
import re
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from databases import Contents
from measure import Finished, run
from projects import Shape, versions, write_alembic, write_django

HERE = Path(__file__).parent
OPERATIONS = ("noop", "fresh", "current", "show", "new", "upgrade", "downgrade")
"""Nothing to do; the same where the project has no bytecode yet, as in a container that was just built; what is
applied; the history; a new empty revision; everything up; everything down."""

_SET_UP_SECONDS = 120
_TRANSACTIONS = "transaction_per_migration=True"

# Flask loads the commands of everything that is installed, Ampho's among them, and only Ampho shall pay for those.
_FLASK_ALONE = """\
from flask import cli

cli.FlaskGroup._load_plugin_commands = lambda self: None
cli.main()
"""

_AMPHO_APP = """\
import os

from {framework} import {app_class}
from {database_module} import {database_class}

from ampho import {ampho_class}

app = {app_class}(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["BENCH_URL"]
app.config["AMPHO_MIGRATION_PACKAGES"] = {packages!r}
db = {database_class}(app)
{ampho_class}(app, db)
"""

_FLASK_MIGRATE_APP = """\
import os

from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["BENCH_URL"]
db = SQLAlchemy(app)
Migrate(app, db, directory="flask_migrate_folder", transaction_per_migration=True)
"""

_FLASK_ALEMBIC_APP = """\
import os

from flask import Flask
from flask_alembic import Alembic
from flask_sqlalchemy import SQLAlchemy

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["BENCH_URL"]
app.config["ALEMBIC"] = {{
    "script_location": "flask_alembic_folder",
    "path_separator": "newline",
    "version_locations": {locations!r},
}}
app.config["ALEMBIC_CONTEXT"] = {{"transaction_per_migration": True}}
db = SQLAlchemy(app)
Alembic(app)
"""

_ADVANCED_ALCHEMY_CONFIG = """\
import os

from advanced_alchemy.config import Alembic{kind}Config, SQLAlchemy{kind}Config

alchemy = SQLAlchemy{kind}Config(
    connection_string=os.environ["BENCH_URL"],
    alembic_config=Alembic{kind}Config(
        script_config="{name}.ini", script_location="{name}_folder", version_table_name="alembic_version"
    ),
)
"""


class NoWorkError(Exception):
    """A tool failed, or did not do what it was asked to do."""


@dataclass(frozen=True)
class Project:
    """A project on disk: ``packages`` is the folder of Alembic's files, and ``apps`` that of Django's."""

    shape: Shape
    folder: Path

    @property
    def packages(self) -> Path:
        return self.folder / "packages"

    @property
    def apps(self) -> Path:
        return self.folder / "apps"

    @property
    def last(self) -> str:
        return self.shape.package_names[-1]

    @property
    def locations(self) -> list[str]:
        return [str(versions(self.packages, package)) for package in self.shape.package_names]

    def write(self, tools: Sequence[Tool], url: str) -> None:
        """Write everything that the tools need.

        :param url: of a database that is there, for tools that connect where they need not.
        """
        write_alembic(self.shape, self.packages)
        if any(tool.state == "django" for tool in tools):
            write_django(self.shape, self.apps)
        (self.packages / "flask_alone.py").write_text(_FLASK_ALONE, "utf-8")
        for tool in tools:
            tool.write(self, url)

    def set_bytecode(self, *, present: bool) -> None:
        """Compile everything, so that no tool has to, or remove what was compiled."""
        if present:
            compileall.compile_dir(self.folder, quiet=1)
        else:
            for folder in list(self.folder.rglob("__pycache__")):
                shutil.rmtree(folder)


class Tool(ABC):
    """A tool.

    :cvar module: what must be installed.
    :cvar drivers: the database drivers that it is measured with.
    :cvar state: whose database it starts from: what Ampho left behind, with its journal, or Alembic's or Django's own.
    """

    name: ClassVar[str]
    module: ClassVar[str] = "alembic"
    drivers: ClassVar[tuple[str, ...]] = ("sqlite", "psycopg")
    state: ClassVar[str] = "alembic"
    operations: ClassVar[tuple[str, ...]] = OPERATIONS

    @property
    def is_installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None

    def folder(self, project: Project) -> Path:
        return project.packages

    def write(self, project: Project, url: str) -> None:  # noqa: B027 (some need nothing)
        """Write what this tool needs besides the revisions."""

    @abstractmethod
    def command(self, operation: str, project: Project, driver: str) -> list[str]:
        """Return the command of an operation."""

    def run(self, operation: str, project: Project, driver: str, url: str, limit: int) -> Finished:
        """Run a command, in a process that is measured.

        :raises NoWorkError: if it fails.
        """
        command = self.command("noop" if operation == "fresh" else operation, project, driver)
        environment = {"BENCH_URL": url} | ({"PYTHONDONTWRITEBYTECODE": "1"} if operation == "fresh" else {})
        return checked(run(command, self.folder(project), environment, limit), limit)

    def check(
        self, operation: str, project: Project, finished: Finished, contents: Contents, written: set[Path]
    ) -> None:
        """Check that a command did its work.

        :param contents: what is in the database now.
        :param written: the new revision files.
        :raises NoWorkError: if it did not.
        """
        shape = project.shape
        is_empty = operation == "downgrade"
        _compare("tables", contents.tables, frozenset() if is_empty else shape.tables)
        _compare("version rows", frozenset(contents.rows), frozenset() if is_empty else self.rows(shape))
        if len(written) != (operation == "new"):
            raise NoWorkError(f"{len(written)} new revisions")
        if operation in ("current", "show"):
            missing = self.expected(operation, shape) - set(re.findall(r"[\w.]+", finished.output))
            if missing:
                raise NoWorkError(f"the output of {operation} lacks {len(missing)} revisions, as {min(missing)}")

    def rows(self, shape: Shape) -> frozenset[str]:
        """What the tool's own table says when everything is applied."""
        return shape.tips

    def expected(self, operation: str, shape: Shape) -> frozenset[str]:
        """The revisions that a command must print."""
        return shape.tips if operation == "current" else shape.ids

    def files(self, project: Project) -> set[Path]:
        """The files where a new revision is written, to see that there is one more."""
        return set(versions(project.packages, project.last).glob("*.py"))


class Ampho(Tool):
    state = "ampho"
    module = "ampho"
    framework: ClassVar[str]

    def write(self, project: Project, url: str) -> None:
        is_flask = self.framework == "flask"
        text = _AMPHO_APP.format(
            framework=self.framework,
            app_class=self.framework.capitalize(),
            database_module="flask_sqlalchemy" if is_flask else "ampho",
            database_class="SQLAlchemy" if is_flask else "AsyncSQLAlchemy",
            ampho_class="Ampho" if is_flask else "AsyncAmpho",
            packages=project.shape.package_names,
        )
        (project.packages / f"ampho_on_{self.framework}.py").write_text(text, "utf-8")

    def command(self, operation: str, project: Project, driver: str) -> list[str]:
        arguments = {
            "noop": ["db-up"],
            "current": ["db-current"],
            "show": ["db-show"],
            "new": ["db-rev", project.last, "empty"],
            "upgrade": ["db-up"],
            "downgrade": ["db-down", "base"],
        }
        return ["ampho", "--app", f"ampho_on_{self.framework}", *arguments[operation]]


class AmphoOnFlask(Ampho):
    name = "Ampho on Flask"
    framework = "flask"


class AmphoOnQuart(Ampho):
    name = "Ampho on Quart"
    framework = "quart"
    drivers = ("aiosqlite", "asyncpg")


class PlainAlembic(Tool):
    name = "Alembic"

    def write(self, project: Project, url: str) -> None:
        checked(_set_up(["alembic", "-c", "plain.ini", "init", "plain_folder"], project, url))
        _list_folders(project.packages / "plain.ini", project)
        _replace(
            project.packages / "plain_folder" / "env.py",
            ("config = context.config\n", "config = context.config\nimport os\n" + _SET_URL),
            ("target_metadata=target_metadata\n        )", f"target_metadata=target_metadata, {_TRANSACTIONS})"),
        )

    def command(self, operation: str, project: Project, driver: str) -> list[str]:
        arguments = {
            "noop": ["upgrade", "heads"],
            "current": ["current"],
            "show": ["history"],
            "new": ["revision", "-m", "empty", "--head", f"{project.last}@head"],
            "upgrade": ["upgrade", "heads"],
            "downgrade": ["downgrade", "base"],
        }
        return ["alembic", "-c", "plain.ini", *arguments[operation]]


_SET_URL = 'config.set_main_option("sqlalchemy.url", os.environ["BENCH_URL"].replace("%", "%%"))\n'


class FlaskMigrate(PlainAlembic):
    name = "Flask-Migrate"
    module = "flask_migrate"

    def write(self, project: Project, url: str) -> None:
        (project.packages / "flask_migrate_app.py").write_text(_FLASK_MIGRATE_APP, "utf-8")
        checked(_set_up([*_flask("flask_migrate_app"), "db", "init"], project, url))
        _list_folders(project.packages / "flask_migrate_folder" / "alembic.ini", project)

    def command(self, operation: str, project: Project, driver: str) -> list[str]:
        arguments = super().command(operation, project, driver)
        return [*_flask("flask_migrate_app"), "db", *arguments[3:]]


class FlaskAlembic(Tool):
    name = "Flask-Alembic"
    module = "flask_alembic"

    def write(self, project: Project, url: str) -> None:
        locations = list(zip(project.shape.package_names, project.locations, strict=True))
        (project.packages / "flask_alembic_app.py").write_text(_FLASK_ALEMBIC_APP.format(locations=locations), "utf-8")

    def command(self, operation: str, project: Project, driver: str) -> list[str]:
        arguments = {
            "noop": ["upgrade"],
            "current": ["current"],
            "show": ["log"],
            "new": ["revision", "empty", "--empty", "--branch", project.last],
            "upgrade": ["upgrade"],
            "downgrade": ["downgrade", "base"],
        }
        return [*_flask("flask_alembic_app"), "db", *arguments[operation]]


class AdvancedAlchemy(Tool):
    name = "advanced-alchemy"
    module = "advanced_alchemy"
    drivers = ("sqlite", "aiosqlite", "psycopg", "asyncpg")

    def write(self, project: Project, url: str) -> None:
        found = importlib.util.find_spec("advanced_alchemy")
        assert found is not None
        assert found.origin is not None
        templates = Path(found.origin).parent / "alembic" / "templates"
        for kind, template in (("Sync", "sync"), ("Async", "asyncio")):
            name = f"alchemy_{kind.lower()}"
            text = _ADVANCED_ALCHEMY_CONFIG.format(kind=kind, name=name)
            (project.packages / f"{name}.py").write_text(text, "utf-8")
            (project.packages / f"{name}.ini").write_text("[alembic]\npath_separator = os\n", "utf-8")
            _list_folders(project.packages / f"{name}.ini", project)
            folder = project.packages / f"{name}_folder"
            folder.mkdir()
            for file in ("env.py", "script.py.mako"):
                shutil.copyfile(templates / template / file, folder / file)
            _replace(
                folder / "env.py", ("        connection=connection,\n", f"connection=connection, {_TRANSACTIONS},\n")
            )

    def command(self, operation: str, project: Project, driver: str) -> list[str]:
        arguments = {
            "noop": ["upgrade", "heads", "--no-prompt"],
            "current": ["show-current-revision"],
            "show": ["history"],
            "new": ["make-migrations", "-m", "empty", "--no-autogenerate", "--head", f"{project.last}@head"],
            "upgrade": ["upgrade", "heads", "--no-prompt"],
            "downgrade": ["downgrade", "base", "--no-prompt"],
        }
        kind = "async" if driver in ("aiosqlite", "asyncpg") else "sync"
        return ["alchemy", "--config", f"alchemy_{kind}.alchemy", *arguments[operation]]


class Django(Tool):
    name = "Django"
    module = "django"
    state = "django"

    def folder(self, project: Project) -> Path:
        return project.apps

    def command(self, operation: str, project: Project, driver: str) -> list[str]:
        arguments = {
            "noop": ["manage.py", "migrate"],
            "current": ["manage.py", "showmigrations"],
            "show": ["manage.py", "showmigrations", "--plan"],
            "new": ["manage.py", "makemigrations", "--empty", project.last],
            "upgrade": ["manage.py", "migrate"],
            "downgrade": ["unmigrate.py"],
        }
        return [sys.executable, *arguments[operation]]

    def rows(self, shape: Shape) -> frozenset[str]:
        return frozenset(f"{revision.package}.{revision.migration}" for revision in shape)

    def expected(self, operation: str, shape: Shape) -> frozenset[str]:
        return self.rows(shape) if operation == "show" else frozenset(revision.migration for revision in shape)

    def check(
        self, operation: str, project: Project, finished: Finished, contents: Contents, written: set[Path]
    ) -> None:
        super().check(operation, project, finished, contents, written)
        applied = finished.output.count("[X]")
        if operation in ("current", "show") and applied != project.shape.total:
            raise NoWorkError(f"{applied} applied migrations in the output of {operation}")

    def files(self, project: Project) -> set[Path]:
        return set((project.apps / project.last / "migrations").glob("*.py"))


class Floor(Tool):
    name = "floor"
    drivers = ("sqlite", "aiosqlite", "psycopg", "asyncpg")
    operations = ("upgrade", "downgrade")
    options: ClassVar[tuple[str, ...]] = ()

    def command(self, operation: str, project: Project, driver: str) -> list[str]:
        direction = "up" if operation == "upgrade" else "down"
        return [sys.executable, str(HERE / "floor.py"), direction, str(project.shape), *self.options]


class FloorWithJournal(Floor):
    name = "floor with a journal"
    options = ("--journal",)


class FloorByFiles(FloorWithJournal):
    """The same by the functions of the revision files: the least for a tool that executes Alembic's operations."""

    name = "floor with Alembic"
    options = ("--journal", "--files")


class Bare(Floor):
    """An app that opens one connection: what every one of these commands has to do at the least."""

    name = "bare app"
    operations = ("noop",)

    def command(self, operation: str, project: Project, driver: str) -> list[str]:
        return [sys.executable, str(HERE / "floor.py"), "bare"]


TOOLS: tuple[Tool, ...] = (
    AmphoOnFlask(),
    AmphoOnQuart(),
    PlainAlembic(),
    FlaskMigrate(),
    FlaskAlembic(),
    AdvancedAlchemy(),
    Django(),
    Floor(),
    FloorWithJournal(),
    FloorByFiles(),
    Bare(),
)


def checked(finished: Finished, limit: int = _SET_UP_SECONDS) -> Finished:
    """Return what finished well.

    :raises NoWorkError: if it did not.
    """
    if finished.exit_code == -9:
        raise NoWorkError(f"not done after {limit} s")
    if finished.exit_code:
        lines = finished.output.strip().splitlines() or ["it says nothing"]
        raise NoWorkError(f"exit code {finished.exit_code}: {lines[-1].strip()}"[:200])
    return finished


def _set_up(command: list[str], project: Project, url: str) -> Finished:
    return run(command, project.packages, {"BENCH_URL": url}, _SET_UP_SECONDS)


def _flask(app: str) -> list[str]:
    return [sys.executable, "flask_alone.py", "--app", app]


def _list_folders(ini: Path, project: Project) -> None:
    """Name the folders of all packages in an ``alembic.ini``."""
    lines = ["[alembic]", "path_separator = newline", "version_locations ="]
    lines += [f"    {location.replace('%', '%%')}" for location in project.locations]
    text = re.sub(r"^path_separator\b.*\n", "", ini.read_text("utf-8"), flags=re.MULTILINE)
    ini.write_text(text.replace("[alembic]", "\n".join(lines), 1), "utf-8")


def _replace(path: Path, *changes: tuple[str, str]) -> None:
    text = path.read_text("utf-8")
    for old, new in changes:
        if old not in text:
            raise ValueError(f"{path.name} has no {old!r}")
        text = text.replace(old, new)
    path.write_text(text, "utf-8")


def _compare(what: str, found: frozenset[str], expected: frozenset[str]) -> None:
    if found != expected:
        raise NoWorkError(f"{len(found)} {what} where {len(expected)} are right")
