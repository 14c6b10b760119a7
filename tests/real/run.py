"""Run the histories of applications that others wrote through Ampho, and compare the schema with their own tool's.

    .venv/bin/python tests/real/run.py [NAME ...]

Each application is installed from the package index into a virtual environment of its own in `build/real`, beside
Ampho from the working tree. On an empty database Ampho shows the status and the plan, upgrades, says what is applied,
downgrades as far as the history can, and upgrades again. On another one the application's own tool upgrades, and plain
Alembic goes down and up. Both must come to the same schema each time, and where a history stops for Ampho it must stop
for plain Alembic. A table at the end has a row for each. It takes minutes for each application, so `make test` does
not run it.

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
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "real"
sys.path.insert(0, str(HERE.parent))

from servers import JOURNAL, Database, ServerMissingError, database_on, server_for, stop_servers  # noqa: E402 (it lies beside this folder)

# Indexes of expressions, which are compared by their definitions.
warnings.filterwarnings("ignore", "Skipped unsupported reflection")

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
# What another tool than Ampho makes of revision files: plain Alembic, one history after the other, down in the reverse
# order. It prints each revision before it runs it.
ALEMBIC = """
import os, sys
{context}
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

is_up = sys.argv[1] == "up"
order = 1 if is_up else -1
for number, folders in list(enumerate({folders!r}))[::order]:
    script = ScriptDirectory(folders[0], version_locations=folders, recursive_version_locations={recursive!r})
    table = f"alembic_version_{{number}}" if number else "alembic_version"
    for target in (sys.argv[2:] or {targets!r}) if is_up else ["base"]:
        def run(rows, context):
            for step in script._upgrade_revs(target, rows) if is_up else script._downgrade_revs(target, rows):
                print(step.revision.revision, flush=True)
                yield step

        with EnvironmentContext(Config(), script, fn=run) as environment:
            with create_engine(os.environ["DATABASE_URL"]).connect() as connection:
                environment.configure(
                    connection=connection,
                    version_table=table,
                    target_metadata={db}.metadata,
                    transaction_per_migration=True,
                )
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
    :ivar home: the application in whose virtual environment it is, if it is not its own.
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
    own: str = ""
    is_joined: bool = False
    targets: Sequence[str] = ("heads",)
    python: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    home: str = ""

    @property
    def distribution(self) -> str:
        """What the index calls it."""
        return [*self.requirements, self.name][0]


@dataclass(frozen=True)
class Place:
    """Where an application is run: its virtual environment, and a folder with an ``app.py``."""

    bin: Path
    folder: Path
    env: Mapping[str, str]

    def run(self, *command: str, database: Database) -> subprocess.CompletedProcess[str]:
        url = (database.sync_url if "plain.py" in command else database.url).render_as_string(hide_password=False)
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
        return done

    def ampho(self, *command: str, database: Database) -> dict[str, Any]:
        """Run a command of Ampho, and return what it prints for scripts."""
        done = self.run("ampho", *command, "--json", database=database)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def other(self, program: str, direction: str, database: Database, *targets: str) -> str:
        """Run `own.py` or `plain.py` up or down, and return the revision or the error where it stops, or nothing."""
        done = self.run("python", program, direction, *targets, database=database)
        ran = done.stdout.split() or done.stderr.splitlines()
        return ran[-1] if done.returncode else ""

    def version(self, distribution: str) -> str:
        code = f"import importlib.metadata; print(importlib.metadata.version({distribution!r}))"
        done = subprocess.run([self.bin / "python", "-c", code], capture_output=True, encoding="utf-8", check=False)
        return done.stdout.strip()


@dataclass
class Report:
    """The result of one application on one database: a row of the table, and what is wrong."""

    cells: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join([", ".join(self.cells.values()), *(f"    {line}" for line in [*self.notes, *self.wrong][:30])])

    def stops(self, what: str, ours: Mapping[str, Any], theirs: str) -> None:
        """Note where Ampho stops; plain Alembic has to stop at the same revision."""
        error = ours.get("error", {})
        revision, finished = error.get("revision", ""), len(error.get("applied", []))
        if not error and not theirs:
            self.cells[what] = "all"
        elif revision and revision in theirs:
            self.cells[what] = f"{finished}, then {revision} stops, as for plain Alembic"
            self.notes.append(f"{what}: {error['message']}")
        else:
            self.cells[what] = f"stops at {revision or 'the end'}, plain Alembic at {theirs or 'the end'}"
            self.wrong.append(f"{what}: {error.get('message', 'Ampho finished')}")

    def same(self, what: str, one: Database, two: Database) -> None:
        """Note whether two databases have the same schema."""
        differences = [
            *compare(one.schema(), two.schema()),
            *(f"{name}: {sql}" for name, sql in sorted(definitions(one) ^ definitions(two))),
        ]
        self.cells[what] = f"{len(differences)} differences" if differences else "same"
        self.wrong += (f"{what}: {line}" for line in differences)


@dataclass
class Timed:
    """Ampho on one database; it counts the seconds that the commands take."""

    place: Place
    database: Database
    seconds: float = 0.0

    def __call__(self, *command: str) -> dict[str, Any]:
        start = time.monotonic()
        found = self.place.ampho(*command, database=self.database)
        self.seconds += time.monotonic() - start
        return found


def replay(application: Application, place: Place, make: Callable[[], Database]) -> Report:
    """Run an application through Ampho on one database, and through its own tool and plain Alembic on another one."""
    began = time.monotonic()
    ampho, other = Timed(place, make()), make()
    report = Report({"Application": f"{application.distribution} {place.version(application.distribution)}"})
    report.cells["With"] = ", ".join(f"{name} {place.version(name)}" for name in ("Alembic", "SQLAlchemy"))
    report.cells["Database"] = f"{other.driver}, {server_version(other)}"
    look(ampho, report)
    before = ampho.seconds
    up = ampho("db-up")
    report.cells["Up (s)"] = f"{ampho.seconds - before:.1f}"
    report.stops("Up", up, place.other("own.py", "up", other))
    if not up.get("error"):
        go_round(ampho, other, report)
    elif other.backend != "mariadb" and not report.wrong:
        # The one revision that fails was rolled back, so plain Alembic has to come to the same with the others.
        third = make()
        assert not place.other("plain.py", "up", third, *ampho.database.rows())
        report.same("Schema", ampho.database, third)
    report.cells |= {"Ampho (s)": f"{ampho.seconds:.0f}", "All (s)": f"{time.monotonic() - began:.0f}"}
    return report


def look(ampho: Timed, report: Report) -> None:
    """Check that the status and the plan agree."""
    status, plan = ampho("db-status"), ampho("db-up", "--plan")
    for found in (status, plan):
        assert "error" not in found, found["error"]["message"]
    packages = status["status"]["packages"]
    pending = sum(package["pending"] for package in packages)
    planned = len(plan["plan"]["steps"])
    assert planned == pending, f"{planned} revisions are planned, {pending} are pending"
    report.cells |= {"Packages": str(len(packages)), "Revisions": str(pending)}


def go_round(ampho: Timed, other: Database, report: Report) -> None:
    """Check what is applied, and downgrade and upgrade again, in step with plain Alembic."""
    place, database = ampho.place, ampho.database
    assert not ampho("db-up")["run"]["steps"], "a second db-up has something to do"
    current = {r["id"] for p in ampho("db-current")["current"]["packages"] for r in p["applied"] if r["is_head"]}
    lacking = {row for name in VERSION_TABLES for row in other.rows(name)} - current
    report.cells["Current"] = "differs" if lacking else "same"
    report.wrong += (f"Current: {row} is not applied" for row in sorted(lacking))
    report.same("Schema", database, other)
    report.stops("Down", downgrade(ampho), place.other("plain.py", "down", other))
    report.same("Schema then", database, other)
    report.stops("Up again", ampho("db-up"), place.other("own.py", "up", other))
    report.same("Schema at last", database, other)


def downgrade(ampho: Timed) -> dict[str, Any]:
    """Downgrade everything, or what is above a revision without a downgrade, which Ampho refuses beforehand."""
    down = ampho("db-down", "base")
    if down.get("error", {}).get("type") == "RevisionFileError":
        less = ampho("db-down", down["error"]["revision"])
        down["error"]["applied"] = less.get("run", {}).get("steps", [])
    return down


def server_version(database: Database) -> str:
    question = "SELECT sqlite_version()" if database.backend == "sqlite" else "SELECT version()"
    ((version,),) = database.query(question)
    return {"sqlite": f"SQLite {version}", "mariadb": f"MariaDB {version.partition('-')[0]}"}.get(
        database.backend, " ".join(version.split()[:2])
    )


VERSION_TABLES = frozenset({"alembic_version", *(f"alembic_version_{number}" for number in range(1, 30))})
# What reflection leaves out: indexes of expressions, triggers, functions.
DEFINITIONS = {
    "sqlite": "SELECT name, sql FROM sqlite_master WHERE type <> 'table' AND sql IS NOT NULL",
    "mariadb": "SELECT trigger_name, action_statement FROM information_schema.triggers"
    " WHERE trigger_schema = DATABASE()",
    "postgresql": """
        SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
        UNION SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
        UNION SELECT proname, pg_get_functiondef(oid) FROM pg_proc
            WHERE pronamespace = 'public'::regnamespace AND prokind = 'f'
            AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e')
    """,
}


def definitions(database: Database) -> set[tuple[str, str]]:
    """What the database itself says of indexes, triggers and functions, without those of the version tables."""
    found = database.query(DEFINITIONS[database.backend])
    return {(name, sql) for name, sql in found if not name.startswith(("alembic_version", JOURNAL))}


def compare(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    """What two schemas differ in, a line each; the version tables do not count."""
    for table in sorted((set(ours["tables"]) | set(theirs["tables"])) - VERSION_TABLES):
        one, two = ours["tables"].get(table), theirs["tables"].get(table)
        if one is None or two is None:
            yield f"{table}: only {'its own tool' if one is None else 'Ampho'} makes it"
            continue
        for part in one:
            if only := different(one[part], two[part]):
                yield f"{table}, {part}: {only}"
    for kind in ("views", "enums"):
        if only := different(ours[kind], theirs[kind]):
            yield f"{kind}: {only}"


def different(ours: Any, theirs: Any) -> str:
    """What two parts of a schema do not share: of lists only these entries; nothing if they are the same."""
    # SQLAlchemy's expressions, as in the condition of an index, are the same where their texts are.
    ours, theirs = (json.loads(json.dumps(part, default=str)) for part in (ours, theirs))
    one, two = (part if isinstance(part, list) else [part] for part in (ours, theirs))
    only = ([each for each in one if each not in two], [each for each in two if each not in one])
    if not any(only) and one != two:
        return f"the order, {ours} | {theirs}"
    return f"{only[0]} | {only[1]}" if any(only) else ""


def install(application: Application) -> Path:
    """Make the virtual environment of an application, if it is not there, and install this Ampho into it."""
    home = BUILD / (application.home or application.name)
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
    """Run an application on each of its databases."""
    programs = install(application)
    with tempfile.TemporaryDirectory(prefix="ampho-real-") as folder:
        place = Place(programs, Path(folder), application.env)
        app = application.app.format(packages=[*application.packages], db=application.db)
        (place.folder / "app.py").write_text(application.before + app, "utf-8")
        folders = [str(versions) for versions in version_folders(place, application.packages)]
        plain = ALEMBIC.format(
            folders=[folders] if application.is_joined else [[folder] for folder in folders],
            recursive=any(entry.endswith("/**") for entry in application.packages),
            targets=application.targets,
            db=application.db,
            context=application.context,
        )
        (place.folder / "plain.py").write_text(application.before + plain, "utf-8")
        (place.folder / "own.py").write_text(application.own or application.before + plain, "utf-8")
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
PREFECT_CONTEXT = "from ampho import AsyncSQLAlchemy"
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
        ["mariadb+pymysql", "postgresql+psycopg"],
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
        context=PREFECT_CONTEXT,
        own=PREFECT,
    ),
    Application(
        "prefect-sqlite",
        ["prefect.server.database:_migrations/versions/sqlite"],
        ["sqlite+aiosqlite"],
        requirements=["prefect"],
        home="prefect",
        app=QUART,
        before=PREFECT_BASE,
        db=PREFECT_DB,
        context=PREFECT_CONTEXT,
        own=PREFECT,
    ),
)


def main(names: Sequence[str]) -> int:
    """Run the applications of these names, or all; return 1 if one of them fails."""
    known = {application.name: application for application in APPLICATIONS}
    reports, failed = [], []
    for name in names or known:
        try:
            for report in run(known[name]):
                say(str(report))
                reports.append(report)
                if report.wrong and name not in failed:
                    failed.append(name)
        except (SystemExit, subprocess.SubprocessError, AssertionError, ServerMissingError) as error:
            say(f"{name}: FAILED: {error}")
            failed.append(name)
    say("", *table([report.cells for report in reports]), "")
    say(f"{len(failed)} of {len(names or known)} failed{': ' if failed else ''}{', '.join(failed)}")
    return bool(failed)


def say(*lines: str) -> None:
    sys.stdout.write("\n".join([*lines, ""]))
    sys.stdout.flush()


def table(rows: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """The lines of a Markdown table with a column for each key of the rows."""
    keys = list(dict.fromkeys(key for row in sorted(rows, key=len, reverse=True) for key in row))
    yield f"| {' | '.join(keys)} |"
    yield f"|{'---|' * len(keys)}"
    for row in rows:
        yield f"| {' | '.join(row.get(key, '') for key in keys)} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
