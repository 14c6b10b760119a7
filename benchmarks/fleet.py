"""Ampho beside other tools on many PostgreSQL schemas: with nothing to do, and with one new revision.

    python benchmarks/fleet.py postgresql://postgres@127.0.0.1:5432/postgres
    python benchmarks/fleet.py URL --schemas 60 --rounds 1 --only ampho floor

The tools run in turns on the same server, each in a database of its own, and each round adds a revision for all of
them. What is in the schemas is looked at after each run. The floor is one connection that runs the same statements.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent
from typing import ClassVar

from sqlalchemy import URL, NullPool, create_engine, make_url, text

PROGRAMS = Path(sys.executable).parent
CREATE = "CREATE TABLE {table} (id INTEGER PRIMARY KEY, name VARCHAR(50))"


class Tool(ABC):
    """A tool, its project, and its database.

    :ivar folder: the folder of the project.
    :ivar url: the URL of the database.
    :ivar schemas: the names of the schemas.
    """

    name: ClassVar[str]
    versions: ClassVar[str]
    """The version that a schema has, as a query with a place for the name of the schema."""

    def __init__(self, folder: Path, url: URL, schemas: Sequence[str]) -> None:
        self.folder, self.url, self.schemas = folder, url, schemas
        self.revisions = 0
        self.environment = os.environ | {"BENCH_URL": url.render_as_string(hide_password=False)}

    @abstractmethod
    def prepare(self) -> None:
        """Write the project."""

    @abstractmethod
    def revise(self, number: int) -> None:
        """Write a revision that creates the table ``bench_<number>``."""

    @abstractmethod
    def upgrade(self) -> None:
        """Upgrade all schemas."""

    def run(self, *command: str) -> str:
        program = PROGRAMS / command[0]
        done = subprocess.run(
            [str(program) if program.exists() else command[0], *command[1:]],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{self.name}: {done.stdout}{done.stderr}")
        return done.stdout

    def write(self, path: str, content: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(content), "utf-8")

    def add_revision(self) -> None:
        self.revisions += 1
        self.revise(self.revisions)

    def check(self) -> None:
        """Check that each schema has all tables."""
        query = "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'bench_%' AND schemaname = ANY(:names)"
        with create_engine(self.url, poolclass=NullPool).connect() as connection:
            found = connection.execute(text(query), {"names": list(self.schemas)}).scalar()
        if found != self.revisions * len(self.schemas):
            raise SystemExit(f"{self.name} created {found} tables instead of {self.revisions * len(self.schemas)}")


class Ampho(Tool):
    name = "ampho"

    def prepare(self) -> None:
        self.write(
            "app.py",
            f"""
            import os
            from flask import Flask
            from ampho import Ampho, Database

            app = Flask(__name__)
            app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["BENCH_URL"]
            ampho = Ampho(app)

            @ampho.databases("tenants", packages=["bench"])
            def tenants():
                for name in {list(self.schemas)!r}:
                    yield Database(name, schema=name)
            """,
        )
        self.write("bench/__init__.py", "")

    def revise(self, number: int) -> None:
        down = f"bench_{number - 1}" if number > 1 else None
        text = _revision(f"bench_{number}", down, number, label="bench" if number == 1 else None)
        self.write(f"bench/migrations/versions/bench_{number}.py", text)

    def upgrade(self) -> None:
        self.run("ampho", "db-up", "--database", "tenants")


class AmphoOneJob(Ampho):
    name = "ampho --jobs 1"

    def upgrade(self) -> None:
        self.run("ampho", "db-up", "--database", "tenants", "--jobs", "1")


class AlembicLoop(Tool):
    name = "alembic, a process per schema"

    def prepare(self) -> None:
        self.write("alembic.ini", "[alembic]\nscript_location = migrations\npath_separator = os\n")
        self.write(
            "migrations/env.py",
            """
            import os
            from alembic import context
            from sqlalchemy import NullPool, create_engine

            schema = context.get_x_argument(as_dictionary=True)["schema"]
            with create_engine(os.environ["BENCH_URL"], poolclass=NullPool).connect() as connection:
                connection.exec_driver_sql(f'SET search_path TO "{schema}"')
                connection.commit()
                connection.dialect.default_schema_name = schema
                context.configure(connection=connection, transaction_per_migration=True)
                with context.begin_transaction():
                    context.run_migrations()
            """,
        )

    def revise(self, number: int) -> None:
        down = f"bench_{number - 1}" if number > 1 else None
        self.write(f"migrations/versions/bench_{number}.py", _revision(f"bench_{number}", down, number))

    def upgrade(self) -> None:
        for schema in self.schemas:
            self.run("alembic", "-x", f"schema={schema}", "upgrade", "heads")


class DjangoTenants(Tool):
    name = "django-tenants, standard"
    executor: ClassVar[str] = "standard"

    def prepare(self) -> None:
        self.write(
            "settings.py",
            f"""
            SECRET_KEY = "bench"
            DATABASES = {{"default": {{
                "ENGINE": "django_tenants.postgresql_backend", "NAME": {self.url.database!r}, "HOST": {self.url.host!r},
                "PORT": {self.url.port!r}, "USER": {self.url.username!r}, "PASSWORD": {self.url.password or ""!r},
            }}}}
            DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
            SHARED_APPS = ["django_tenants", "django.contrib.contenttypes", "customers"]
            TENANT_APPS = ["bench"]
            INSTALLED_APPS = SHARED_APPS + TENANT_APPS
            TENANT_MODEL = "customers.Client"
            TENANT_DOMAIN_MODEL = "customers.Domain"
            DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
            USE_TZ = True
            """,
        )
        self.write(
            "customers/models.py",
            """
            from django_tenants.models import DomainMixin, TenantMixin

            class Client(TenantMixin):
                auto_create_schema = False

            class Domain(DomainMixin):
                pass
            """,
        )
        for name in ("customers/__init__.py", "bench/__init__.py", "bench/models.py", "bench/migrations/__init__.py"):
            self.write(name, "")
        self.environment |= {"DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": str(self.folder)}
        self.run("django-admin", "makemigrations", "customers")
        self.run("django-admin", "migrate_schemas", "--shared")
        with create_engine(self.url, poolclass=NullPool).begin() as connection:
            insert = text("INSERT INTO customers_client (schema_name) VALUES (:name)")
            connection.execute(insert, [{"name": name} for name in self.schemas])

    def revise(self, number: int) -> None:
        before = [("bench", f"{number - 1:04}_bench")] if number > 1 else []
        self.write(
            f"bench/migrations/{number:04}_bench.py",
            f"""
            from django.db import migrations

            class Migration(migrations.Migration):
                dependencies = {before!r}
                operations = [migrations.RunSQL({CREATE.format(table=f"bench_{number}")!r})]
            """,
        )

    def upgrade(self) -> None:
        self.run("django-admin", "migrate_schemas", "--tenant", f"--executor={self.executor}")


class DjangoTenantsProcesses(DjangoTenants):
    name = "django-tenants, multiprocessing"
    executor = "multiprocessing"


class Floor(Tool):
    """One connection, and one transaction per schema with the same statements."""

    name = "floor"

    def prepare(self) -> None:
        with create_engine(self.url, poolclass=NullPool).begin() as connection:
            for schema in self.schemas:
                connection.exec_driver_sql(f"CREATE TABLE {schema}.version (id VARCHAR(32) PRIMARY KEY)")

    def revise(self, number: int) -> None:
        pass

    def upgrade(self) -> None:
        with create_engine(self.url, poolclass=NullPool).connect() as connection:
            table = f"bench_{self.revisions}"
            for schema in self.schemas:
                connection.exec_driver_sql(f"SET search_path TO {schema}")
                done = connection.exec_driver_sql(f"SELECT id FROM version WHERE id = '{table}'").first()
                if done is None:
                    connection.exec_driver_sql(CREATE.format(table=table))
                    connection.exec_driver_sql(f"INSERT INTO version VALUES ('{table}')")
                connection.commit()


TOOLS: Sequence[type[Tool]] = (Floor, Ampho, AmphoOneJob, AlembicLoop, DjangoTenants, DjangoTenantsProcesses)


def _revision(revision: str, down: str | None, number: int, label: str | None = None) -> str:
    return f"""
        from alembic import op

        revision = {revision!r}
        down_revision = {down!r}
        branch_labels = {(label,) if label else None!r}
        depends_on = None

        def upgrade():
            op.execute({CREATE.format(table=f"bench_{number}")!r})

        def downgrade():
            op.execute("DROP TABLE bench_{number}")
    """


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", type=make_url)
    parser.add_argument("--schemas", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[tool.__name__.lower() for tool in TOOLS])
    given = parser.parse_args()
    url = given.url.set(drivername="postgresql+psycopg")
    chosen = [tool for tool in TOOLS if tool.__name__.lower() in given.only]
    schemas = [f"t{number:04}" for number in range(given.schemas)]
    folder = Path(tempfile.mkdtemp(prefix="bench-fleet-"))
    tools = [_prepared(kind, folder / kind.__name__, url, schemas) for kind in chosen]
    times: dict[tuple[str, str], list[float]] = {}
    try:
        for number in range(given.rounds + 1):
            for tool in tools[number % len(tools) :] + tools[: number % len(tools)]:
                tool.add_revision()
                for work in ("one new revision", "nothing to do"):
                    begin = time.perf_counter()
                    tool.upgrade()
                    seconds = time.perf_counter() - begin
                    print(f"round {number}: {tool.name}, {work}: {seconds:.2f} s", flush=True)
                    if number:  # the first round is not measured
                        times.setdefault((work, tool.name), []).append(seconds)
                    tool.check()
        _report(times, len(schemas))
    finally:
        shutil.rmtree(folder)
        for tool in tools:
            _server(url, f"DROP DATABASE {tool.url.database} WITH (FORCE)")


def _prepared(kind: type[Tool], folder: Path, server: URL, schemas: Sequence[str]) -> Tool:
    folder.mkdir()
    url = server.set(database=f"bench_fleet_{kind.__name__.lower()}_{os.getpid()}")
    _server(server, f"CREATE DATABASE {url.database}")
    with create_engine(url, poolclass=NullPool).begin() as connection:
        for schema in schemas:
            connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    tool = kind(folder, url, schemas)
    tool.prepare()
    return tool


def _server(url: URL, statement: str) -> None:
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)


def _report(times: dict[tuple[str, str], list[float]], schemas: int) -> None:
    for work in ("nothing to do", "one new revision"):
        medians = {name: statistics.median(found) for (what, name), found in times.items() if what == work}
        best = medians.get("ampho") or min(medians.values())
        print(f"\n{schemas} schemas, {work} (medians, and how many times the time of ampho):")
        for name, seconds in sorted(medians.items(), key=lambda item: item[1]):
            print(f"  {name:<34} {seconds:8.2f} s  {seconds / best:6.1f}")


if __name__ == "__main__":
    main()
