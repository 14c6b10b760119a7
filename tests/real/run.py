"""Run the histories of applications that others wrote through Ampho, and compare the schema with their own tool's.

    .venv/bin/python tests/real/run.py [NAME ...]

Each application is installed from the package index into a virtual environment of its own in `build/real`, beside
Ampho from the working tree. On an empty database Ampho shows the status and the plan, upgrades, downgrades as far as
the history can, and upgrades again; on another one the application's own tool upgrades. Both must come to the same
schema. It takes minutes for each application, so `make test` does not run it.

PostgreSQL and MariaDB are those of the tests: `AMPHO_TEST_POSTGRES_URL` and `AMPHO_TEST_MARIADB_URL`, or servers that
are started here. `AMPHO_REAL_PYTHON` names another Python for the virtual environments.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "real"
sys.path.insert(0, str(HERE.parent))

from servers import Database, database_on, server_for, stop_servers  # noqa: E402 (it lies beside this folder)

FLASK = """
import os
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from ampho import Ampho

app = Flask("app")
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["DATABASE_URL"]
app.config["AMPHO_MIGRATION_PACKAGES"] = {packages!r}
app.config["AMPHO_ENV_PACKAGE"] = ""
db = {db}
db.init_app(app)
Ampho(app, db)
"""
QUART = """
import os
from quart import Quart
from ampho import AsyncAmpho, AsyncSQLAlchemy

app = Quart("app")
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["DATABASE_URL"]
app.config["AMPHO_MIGRATION_PACKAGES"] = {packages!r}
app.config["AMPHO_ENV_PACKAGE"] = ""
db = {db}
db.init_app(app)
AsyncAmpho(app, db)
"""
CONTEXT = "from flask_sqlalchemy import SQLAlchemy"
# What another tool than Ampho makes of revision files: plain Alembic, one history after the other.
ALEMBIC = """
import os
{context}
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

for number, folders in enumerate({folders!r}):
    script = ScriptDirectory(folders[0], version_locations=folders, recursive_version_locations={recursive!r})
    table = f"alembic_version_{{number}}" if number else "alembic_version"
    for target in {targets!r}:
        upgrade = lambda rows, context: script._upgrade_revs(target, rows)
        with EnvironmentContext(Config(), script, fn=upgrade) as environment:
            with create_engine(os.environ["DATABASE_URL"]).connect() as connection:
                environment.configure(connection=connection, version_table=table, target_metadata={db}.metadata)
                with environment.begin_transaction():
                    environment.run_migrations()
"""


@dataclass(frozen=True)
class Application:
    """An application, and how its history is run.

    :ivar packages: entries for ``AMPHO_MIGRATION_PACKAGES``.
    :ivar drivers: the databases that its history is written for.
    :ivar requirements: what is installed beside Ampho; by default the application's name.
    :ivar alone: what is installed without its own requirements.
    :ivar app: the text of ``app.py``.
    :ivar before: what the application needs before its revisions are run, as Python: its configuration.
    :ivar db: an expression for its ``SQLAlchemy``, where its revisions need that or its naming convention.
    :ivar context: what plain Alembic needs before, as Python.
    :ivar own: the text of a program that upgrades with the application's own tool; plain Alembic by default.
    :ivar is_joined: whether plain Alembic joins the histories, too, because they depend on each other.
    :ivar targets: what plain Alembic upgrades to, one after the other.
    :ivar python: the Python that it needs, if it is not the one that runs this.
    :ivar beyond: tables that only its own tool makes.
    """

    name: str
    packages: Sequence[str]
    drivers: Sequence[str] = ("postgresql+psycopg",)
    requirements: Sequence[str] = ()
    alone: Sequence[str] = ()
    app: str = FLASK
    before: str = ""
    db: str = "SQLAlchemy()"
    context: str = CONTEXT
    own: str = ALEMBIC
    is_joined: bool = False
    targets: Sequence[str] = ("heads",)
    python: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    beyond: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Place:
    """Where an application is run: its virtual environment, and a folder with an ``app.py``."""

    bin: Path
    folder: Path
    env: Mapping[str, str]

    def run(self, *command: str, database: Database, check: bool = True) -> subprocess.CompletedProcess[str]:
        url = database.url.render_as_string(hide_password=False)
        env = {name: value for name, value in os.environ.items() if not name.startswith(("AMPHO_", "PYTHON"))}
        env |= {"DATABASE_URL": url, "PATH": f"{self.bin}{os.pathsep}{env['PATH']}", "NO_COLOR": "1", **self.env}
        done = subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=self.folder,
            env=env,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=1800,
        )
        if "Traceback" in done.stderr and command[0] == "ampho":
            raise SystemExit(f"$ {' '.join(command)} printed a traceback:\n{done.stderr}")
        if check and done.returncode:
            raise SystemExit(
                f"$ {' '.join(command)} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
            )
        return done

    def ampho(self, *command: str, database: Database, check: bool = True) -> dict[str, Any]:
        """Run a command of Ampho, and return what it prints for scripts."""
        done = self.run("ampho", *command, "--json", database=database, check=check)
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@dataclass(frozen=True)
class Report:
    """What came of one application on one database."""

    name: str
    driver: str
    revisions: int
    seconds: Mapping[str, float]
    down: str
    differences: Sequence[str]

    def __str__(self) -> str:
        took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.seconds.items())
        same = "the same schema" if not self.differences else f"{len(self.differences)} DIFFERENCES"
        lines = [f"{self.name} on {self.driver}: {self.revisions} revisions, {took}; down: {self.down}; {same}"]
        return "\n".join([*lines, *(f"    {line}" for line in self.differences[:20])])


def replay(application: Application, place: Place, make: Callable[[], Database]) -> Report:
    """Take an application through Ampho on one database and through its own tool on another one."""
    database, other = make(), make()
    seconds: dict[str, float] = {}

    def timed(name: str, *command: str, check: bool = True) -> dict[str, Any]:
        start = time.monotonic()
        found = place.ampho(*command, database=database, check=check)
        seconds[name] = seconds.get(name, 0) + time.monotonic() - start
        return found

    packages = timed("status", "db-status")["status"]["packages"]
    pending = sum(package["pending"] for package in packages)
    planned = timed("plan", "db-up", "--plan")["plan"]["steps"]
    up = timed("up", "db-up", check=False)
    if "error" in up:
        return Report(application.name, database.driver, pending, seconds, "not tried", [*stops(up, place, other)])
    assert len(planned) == len(up["run"]["steps"]) == pending, (pending, len(planned), len(up["run"]["steps"]))
    assert "traceback" not in place.run("ampho", "db-current", "-v", database=database).stderr.lower()
    assert timed("again", "db-up")["run"]["steps"] == []
    place.run("python", "own.py", database=other)
    differences = list(compare(database.schema(), other.schema(), application.beyond | VERSION_TABLES))
    down = "all of it"
    taken = timed("down", "db-down", "base", check=False)
    if "error" in taken:
        down = f"refused or failed, {taken['error']['type']}: {taken['error']['message'][:200]}"
    else:
        left = set(database.schema()["tables"]) - VERSION_TABLES
        down += f", {len(left)} tables are left: {', '.join(sorted(left))}"[:200] if left else ""
        timed("up again", "db-up", check=False)
    return Report(application.name, database.driver, pending, seconds, down, differences)


def stops(up: Mapping[str, Any], place: Place, other: Database) -> Iterator[str]:
    """Why an upgrade stopped, unless plain Alembic stops at the same revision, which the database does not take."""
    revision = up["error"].get("revision")
    done = place.run("python", "own.py", database=other, check=False)
    if not (revision and done.returncode and f"{revision}_" in done.stderr):
        yield up["error"]["message"]
    else:
        sys.stdout.write(f"Plain Alembic stops at the same revision, {revision}.\n")


VERSION_TABLES = frozenset({"alembic_version", *(f"alembic_version_{number}" for number in range(1, 30))})


def compare(ours: Mapping[str, Any], theirs: Mapping[str, Any], beside: frozenset[str]) -> Iterator[str]:
    """What two schemas differ in, a line each; ``beside`` are tables that do not count."""
    for table in sorted((set(ours["tables"]) | set(theirs["tables"])) - beside):
        one, two = ours["tables"].get(table), theirs["tables"].get(table)
        if one is None or two is None:
            yield f"{table}: only {'its own tool' if one is None else 'Ampho'} makes it"
            continue
        for part in one:
            if json.dumps(one[part], default=str) != json.dumps(two[part], default=str):
                yield f"{table}, {part}: {one[part]} | {two[part]}"
    for kind in ("views", "enums"):
        if ours[kind] != theirs[kind]:
            yield f"{kind}: {ours[kind]} | {theirs[kind]}"


def install(application: Application) -> Path:
    """Make the virtual environment of an application, if it is not there, and install this Ampho into it."""
    home = BUILD / application.name
    programs = home / "bin"
    if not (home / "installed").exists():
        python = application.python or os.environ.get("AMPHO_REAL_PYTHON", sys.executable)
        subprocess.run([python, "-m", "venv", home], check=True)
        wanted = application.requirements or [application.name]
        subprocess.run([programs / "pip", "install", "--quiet", *wanted, f"{ROOT}[all]"], check=True)
        if application.alone:
            command = [programs / "pip", "install", "--quiet", "--no-deps", *application.alone]
            subprocess.run(command, check=True)
        (home / "installed").touch()
    command = [programs / "pip", "install", "--quiet", "--no-deps", "--force-reinstall", str(ROOT)]
    subprocess.run(command, check=True)
    return programs


@contextmanager
def databases(driver: str) -> Iterator[Callable[[], Database]]:
    """Fresh databases for a driver."""
    from contextlib import ExitStack

    backend = driver.partition("+")[0]
    with tempfile.TemporaryDirectory(prefix="ampho-real-") as run, ExitStack() as stack:
        server = None if backend == "sqlite" else server_for(backend, Path(run), os.getpid())
        try:
            yield lambda: stack.enter_context(database_on(server, driver, Path(run)))
        finally:
            stack.close()
            stop_servers(Path(run))


def run(application: Application) -> Iterator[Report]:
    """Take an application through each of its databases."""
    programs = install(application)
    with tempfile.TemporaryDirectory(prefix="ampho-real-") as folder:
        place = Place(programs, Path(folder), application.env)
        app = application.app.format(packages=[*application.packages], db=application.db)
        (place.folder / "app.py").write_text(application.before + app, "utf-8")
        folders = [str(versions) for versions in version_folders(place, application.packages)]
        own = application.own
        if own is ALEMBIC:
            recursive = any(entry.endswith("/**") for entry in application.packages)
            own = own.format(
                folders=[folders] if application.is_joined else [[folder] for folder in folders],
                recursive=recursive,
                targets=application.targets,
                db=application.db,
                context=application.context,
            )
        before = application.before if application.own is ALEMBIC else ""
        (place.folder / "own.py").write_text(before + own, "utf-8")
        for driver in application.drivers:
            with databases(driver) as make:
                yield replay(application, place, make)


def version_folders(place: Place, entries: Sequence[str]) -> Iterator[Path]:
    """The folders of revision files that entries of ``AMPHO_MIGRATION_PACKAGES`` name."""
    for entry in entries:
        package, _, folder = entry.partition(":")
        code = f"import importlib.util; print(*importlib.util.find_spec({package!r}).submodule_search_locations)"
        found = subprocess.run([place.bin / "python", "-c", code], capture_output=True, encoding="utf-8", check=True)
        below = Path(found.stdout.strip(), folder.removesuffix("/**") or "migrations")
        yield below / "versions" if (below / "versions").is_dir() else below


PREFECT = """
import os, subprocess
os.environ["PREFECT_API_DATABASE_CONNECTION_URL"] = os.environ["DATABASE_URL"]
subprocess.run(["prefect", "server", "database", "upgrade", "-y"], check=True)
"""
PREFECT_DB = "AsyncSQLAlchemy(metadata=Base.metadata)"
PREFECT_BASE = "from prefect.server.database.orm_models import Base\n"
KEYSTONE = "import keystone.conf; keystone.conf.configure(); keystone.conf.CONF([], project='keystone')\n"

# Its packages depend on each other only now and then; the histories need few of what the packages require.
INVENIO = (
    *("invenio_access", "invenio_accounts", "invenio_banners", "invenio_db", "invenio_files_rest", "invenio_github"),
    *("invenio_oauth2server", "invenio_oauthclient", "invenio_pages", "invenio_pidstore", "invenio_records"),
    *("invenio_records_files", "invenio_requests", "invenio_userprofiles", "invenio_webhooks"),
)

APPLICATIONS = (
    Application(
        "keystone",
        ["keystone.common.sql:migrations/**"],
        ["mariadb+pymysql", "sqlite+pysqlite"],
        before=KEYSTONE,
    ),
    Application("nova", ["nova.db.main:migrations"], ["postgresql+psycopg", "sqlite+pysqlite"]),
    Application(
        "neutron",
        ["neutron.db.migration:alembic_migrations/**"],
        ["mariadb+pymysql"],
        targets=["expand@head", "contract@head"],
    ),
    Application(
        "ckan", ["ckan:migration", "ckanext.activity:migration/activity", "ckanext.tracking:migration/tracking"]
    ),
    Application("zou", ["zou:migrations"], python="python3.12", env={"SECRET_KEY": "tests"}),
    Application(
        "flexmeasures",
        ["flexmeasures.data:migrations"],
        before="from flexmeasures.data import db as models\n",
        db="models",
        context="import app; app.app.app_context().push()",
    ),
    Application(
        "invenio",
        [f"{name}:alembic" for name in INVENIO],
        requirements=["invenio-accounts", "invenio-access", "flask-babel", "sqlalchemy<2.1"],
        alone=[name.replace("_", "-") for name in INVENIO],
        before="from invenio_db.shared import metadata\n",
        db="SQLAlchemy(metadata=metadata)",
        is_joined=True,
        app=f"{FLASK}\nfrom flask_babel import Babel\nBabel(app)\n",
        context=f"{CONTEXT}; import app; app.app.app_context().push()",
    ),
    Application(
        "prefect",
        ["prefect.server.database:_migrations/versions/postgresql"],
        ["postgresql+asyncpg"],  # a server with the extension pg_trgm
        app=QUART,
        before=PREFECT_BASE,
        db=PREFECT_DB,
        own=PREFECT,
    ),
    Application(
        "prefect-sqlite",
        ["prefect.server.database:_migrations/versions/sqlite"],
        ["sqlite+aiosqlite"],
        requirements=["prefect"],
        app=QUART,
        before=PREFECT_BASE,
        db=PREFECT_DB,
        own=PREFECT,
    ),
)


def main(names: Sequence[str]) -> int:
    """Run the applications of these names, or all; return 1 if one of them fails."""
    known = {application.name: application for application in APPLICATIONS}
    failed = []
    for name in names or known:
        try:
            for report in run(known[name]):
                sys.stdout.write(f"{report}\n")
                sys.stdout.flush()
                if report.differences:
                    failed.append(name)
        except (SystemExit, subprocess.CalledProcessError, AssertionError) as error:
            sys.stdout.write(f"{name}: FAILED: {error}\n")
            failed.append(name)
    sys.stdout.write(f"{len(failed)} of {len(names or known)} failed{': ' if failed else ''}{', '.join(failed)}\n")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
