"""One library in two frameworks: where its methods may be called, what they return, and what they leave alone."""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flask
import pytest
import quart
import sqlalchemy as sa
import zigzag
from alembic.runtime.environment import EnvironmentContext
from facade import URLS, Facade, facade
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from project import Project
from servers import Database
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import registry

from ampho import Ampho, AsyncAmpho, AsyncSQLAlchemy, Direction, Observer, Plan, Run
from ampho.errors import AmphoError, ConfigurationError, DriverError, RevisionFailedError, SpecifierError
from ampho.extension import OPTIONS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its present release uses what SQLAlchemy 2.1 deprecates
    import advanced_alchemy.alembic
    from advanced_alchemy.alembic.commands import AlembicCommands
    from advanced_alchemy.config import AlembicAsyncConfig, SQLAlchemyAsyncConfig, SQLAlchemySyncConfig

Make = Callable[[str], Database]
IDS = ["crm_1", "crm_2"]
SQLITE = ("sqlite+pysqlite", "sqlite+aiosqlite")


@pytest.fixture
def history(project: Project) -> Project:
    project.package("crm")
    project.revision(
        "crm",
        "crm_1",
        upgrade='op.create_table("client", sa.Column("id", sa.Integer, primary_key=True))',
        downgrade='op.drop_table("client")',
        message="clients",
    )
    project.revision(
        *("crm", "crm_2", "crm_1"),
        upgrade='op.add_column("client", sa.Column("name", sa.String(20)))',
        downgrade='op.drop_column("client", "name")',
        message="names",
    )
    return project


@pytest.fixture
def crm(history: Project, database: Database) -> Iterator[Facade]:
    with facade(history, zigzag.framework_of(database), ["crm"], database.url) as crm:
        yield crm


@pytest.fixture
def async_crm(history: Project, async_database: Database) -> Iterator[Facade]:
    with facade(history, "quart", ["crm"], async_database.url) as crm:
        yield crm


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def ids(steps: Any) -> list[str]:
    return [step.step.revision.id if hasattr(step, "step") else step.revision.id for step in steps]


# Inside a running app


def test_upgrade_before_serving(async_crm: Facade, async_database: Database) -> None:
    app, ampho = async_crm.app, async_crm.ampho
    runs: list[Run] = []

    @app.before_serving
    async def upgrade() -> None:
        runs.append(await ampho.upgrade())

    @app.get("/")
    async def count() -> str:
        return str(await ampho.db.session.scalar(sa.text("SELECT count(*) FROM client")))

    async def serve() -> str:
        async with app.test_app() as serving:
            return str(await (await serving.test_client().get("/")).get_data(as_text=True))

    assert asyncio.run(serve()) == "0"
    assert [ids(run.steps) for run in runs] == [IDS]
    assert async_database.rows() == ["crm_2"]


def test_upgrade_inside_requests_at_the_same_time(async_crm: Facade, async_database: Database) -> None:
    app, ampho = async_crm.app, async_crm.ampho

    @app.post("/upgrade")
    async def upgrade() -> list[str]:
        return ids((await ampho.upgrade()).steps)

    async def serve() -> list[list[str]]:
        async with app.test_app() as serving:
            client = serving.test_client()
            responses = await asyncio.gather(*(client.post("/upgrade") for _ in range(3)))
            return sorted([await response.get_json() for response in responses])

    assert asyncio.run(serve()) == [[], [], IDS]
    assert async_database.rows() == ["crm_2"]


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg", "mariadb+pymysql")
def test_upgrade_inside_a_request_of_flask(crm: Facade, database: Database) -> None:
    crm.app.post("/upgrade")(lambda: ids(crm.ampho.upgrade().steps))

    client = crm.app.test_client()

    assert client.post("/upgrade").get_json() == IDS
    assert client.post("/upgrade").get_json() == []


@pytest.mark.asyncio
async def test_under_pytest_asyncio(async_crm: Facade, async_database: Database) -> None:
    await walk(async_crm, async_database)


@pytest.mark.anyio
async def test_under_anyios_plugin(async_crm: Facade, async_database: Database) -> None:
    await walk(async_crm, async_database)


async def walk(crm: Facade, database: Database) -> None:
    async with crm.app.app_context():
        assert ids((await crm.ampho.upgrade("crm@+1")).steps) == IDS[:1]
        assert ids((await crm.ampho.plan()).steps) == IDS[1:]
        assert (await crm.ampho.current())["crm"].current == ("crm_1",)
        assert ids((await crm.ampho.upgrade()).steps) == IDS[1:]
        assert ids((await crm.ampho.downgrade("base")).steps) == IDS[::-1]
        await crm.ampho.dispose(crm.app)
    assert database.tables() == ["alembic_version"]


def test_in_several_loops_one_after_the_other(async_crm: Facade, async_database: Database) -> None:
    for _ in range(2):
        assert ids(async_crm.call("upgrade").steps) == IDS
        assert ids(async_crm.call("downgrade", "base").steps) == IDS[::-1]


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite", "postgresql+asyncpg")
def test_the_test_runner_works_inside_a_running_loop(crm: Facade, database: Database) -> None:
    async def test() -> Any:
        return crm.run("db-up")

    result = asyncio.run(test())

    assert result.exit_code == 0, result.output
    assert database.rows() == ["crm_2"]


# The same commands


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_the_three_ways_to_call_a_command_print_the_same(
    history: Project, database: Database, make_database: Make
) -> None:
    framework = zigzag.framework_of(database)
    history.app(framework, ["crm", "empty"], "the one of the environment")
    history.package("empty")
    text = history.read("app.py").replace("'the one of the environment'", "__import__('os').environ['CRM_URL']")
    history.write("app.py", text)
    outputs = []
    for command in (["ampho"], [framework, "ampho"]):
        url = make_database(database.driver).url.render_as_string(hide_password=False)
        outputs.append(
            [
                re.sub(r"[\d.]+ m?s\b", "TIME", history.run(*command, *arguments, env={"CRM_URL": url}).output)
                for arguments in (["db-up"], ["-v", "db-current"], ["db-current", "-v"], ["db-down"])
            ]
        )

    first, second = outputs
    assert first == second
    assert first[0].startswith("Upgrading (heads): 2 revisions of crm\n  + crm_1  clients ... TIME\n")
    assert first[1] == first[2]
    assert "    applied  crm_2  names  (head)" in first[1]


@pytest.mark.drivers(*SQLITE)
def test_help_and_usage(crm: Facade) -> None:
    commands = sorted(re.findall(r"^  (db-\w+)", crm.run("--help").stdout, re.MULTILINE))
    assert commands == [
        *(
            "db-adopt",
            "db-check",
            "db-current",
            "db-down",
            "db-forget",
            "db-graph",
            "db-heads",
            "db-init",
            "db-lint",
            "db-log",
            "db-merge",
            "db-rebase",
        ),
        *("db-resolve", "db-rev", "db-show", "db-squash", "db-stamp", "db-status", "db-up", "db-wait"),
    ]
    assert crm.run("db-nope").exit_code == 2
    assert "Show this message" in crm.run("db-up", "--help").stdout


# What the methods return


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg")
def test_methods_return_data_and_print_nothing(
    crm: Facade, database: Database, history: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    plan = crm.call("plan")
    assert isinstance(plan, Plan)
    assert (plan.specifier, plan.direction, plan.packages, plan.rows) == ("heads", Direction.UPGRADE, ("crm",), ())
    assert ids(plan.steps) == IDS
    assert database.tables() == []

    run = crm.call("upgrade", "crm_1")
    assert isinstance(run, Run)
    assert ids(run.steps) == ["crm_1"]
    assert 0 < run.steps[0].duration < 60
    assert run.plan.specifier == "crm_1"

    state = crm.call("current")
    assert [package.package for package in state] == ["crm"]
    assert [record.id for record in state["crm"].applied] == ["crm_1"]
    assert [record.id for record in state["crm"].pending] == ["crm_2"]
    assert not state["crm"].is_up_to_date
    assert state.unknown == ()

    shown = crm.call("show", "crm")
    assert [(record.id, record.message, record.is_head) for record in shown] == [
        ("crm_1", "clients", False),
        ("crm_2", "names", True),
    ]
    assert shown[0].path == history.migrations("crm") / "versions" / "crm_1_clients.py"
    assert shown[0].required_by == ("crm_2",)

    down = crm.call("plan", "base", direction="downgrade")
    assert (ids(down.steps), down.direction) == (["crm_1"], Direction.DOWNGRADE)
    assert "crm_2" in crm.call("upgrade_sql")
    assert "DROP TABLE client" in crm.call("downgrade_sql", "crm@base", cascade=True, start="crm_1")
    assert ids(crm.call("downgrade", "crm@base", cascade=True).steps) == ["crm_1"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.drivers(*SQLITE)
def test_init_and_revision_return_what_they_wrote(crm: Facade, history: Project) -> None:
    history.package("notes")
    done = crm.call("init", "notes")
    assert done.package.name == "notes"
    assert "in the environment" not in done.hint  # the list in app.config takes precedence
    crm.app.config["AMPHO_MIGRATION_PACKAGES"] = ["crm", "notes"]
    new = crm.call("revision", "notes", "First", depends_on="crm", rev_id="notes_1")
    assert (new.id, new.depends_on, new.labels, new.path.is_file()) == ("notes_1", ("crm_2",), ("notes",), True)


class Diary(Observer):
    def __init__(self) -> None:
        self.entries: list[str] = []

    def planned(self, plan: Plan) -> None:
        self.entries.append(f"planned {len(plan.steps)}")

    def started(self, step: Any) -> None:
        self.entries.append(f"started {step.revision.id}")

    def applied(self, step: Any, duration: float) -> None:
        self.entries.append(f"applied {step.revision.id}")

    def failed(self, step: Any, error: AmphoError) -> None:
        self.entries.append(f"failed {step.revision.id} {type(error).__name__}")

    def warned(self, message: str) -> None:
        self.entries.append(message.partition(".")[0])


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg")
def test_an_observer_is_told(crm: Facade, history: Project) -> None:
    history.package("empty")
    crm.app.config["AMPHO_MIGRATION_PACKAGES"] = ["crm", "empty"]
    history.revision("crm", "crm_3", "crm_2", upgrade="op.execute('nonsense')")
    diary = Diary()

    with pytest.raises(RevisionFailedError) as caught:
        crm.call("upgrade", observer=diary)

    assert diary.entries == [
        "empty has no migrations folder",
        "planned 3",
        *("started crm_1", "applied crm_1", "started crm_2", "applied crm_2"),
        *("started crm_3", "failed crm_3 RevisionFailedError"),
    ]
    assert caught.value.applied == ("crm_1", "crm_2")
    assert (caught.value.revision, caught.value.package) == ("crm_3", "crm")


class Broken(Observer):
    """Raises at all that a run tells."""

    def planned(self, plan: Plan) -> None:
        raise BrokenPipeError("planned")

    def started(self, step: Any) -> None:
        raise ValueError("started")

    def applied(self, step: Any, duration: float) -> None:
        raise ValueError("applied")

    def failed(self, step: Any, error: AmphoError) -> None:
        raise ValueError("failed")


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite", "mariadb+pymysql")
def test_an_observer_has_no_say(
    crm: Facade, history: Project, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    run = crm.call("upgrade", observer=Broken())

    assert ids(run.steps) == IDS
    assert database.rows() == ["crm_2"]
    assert [record.message for record in caplog.records if "Broken" in record.message] == [
        next(line for line in caplog.messages if "BrokenPipeError: planned" in line)
    ]
    history.revision("crm", "crm_3", "crm_2", upgrade="op.execute('nonsense')")
    with pytest.raises(RevisionFailedError, match="Revision crm_3 of crm failed"):
        crm.call("upgrade", observer=Broken())


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_an_error_is_no_cause_of_itself(crm: Facade) -> None:
    with pytest.raises(AmphoError) as caught:
        crm.call("upgrade", "nope")
    assert caught.value.__cause__ is None


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
@pytest.mark.parametrize("start", [(), "", [""]])
def test_sql_from_an_empty_start_is_refused(crm: Facade, start: object) -> None:
    for method in ("upgrade_sql", "downgrade_sql"):
        with pytest.raises(SpecifierError, match=r"start is empty.*'base'"):
            crm.call(method, start=start)


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_without_an_observer_warnings_go_to_the_log(
    crm: Facade, history: Project, caplog: pytest.LogCaptureFixture
) -> None:
    history.package("empty")
    crm.app.config["AMPHO_MIGRATION_PACKAGES"] = ["crm", "empty"]

    crm.call("upgrade")

    assert [(record.name, record.levelname) for record in caplog.records if "empty" in record.message] == [
        ("ampho", "WARNING")
    ]


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_one_string_is_one_value_of_x(crm: Facade, history: Project) -> None:
    history.revision(
        *("crm", "crm_3", "crm_2"),
        upgrade="from alembic import context; op.create_table(context.get_x_argument()[0], sa.Column('i', sa.Integer))",
    )
    crm.call("upgrade", x="tenant")
    assert crm.call("current", x="tenant")["crm"].is_up_to_date
    assert "tenant" in crm.call("upgrade_sql", "crm", start="crm_2", x="tenant")


@pytest.mark.parametrize(("framework", "url"), URLS.items())
def test_without_a_package_a_deploy_does_not_pass(project: Project, framework: str, url: str) -> None:
    what = "No package with migrations is configured. List the packages"
    with facade(project, framework, [], url) as empty:
        for command in (["db-up"], ["db-down"], ["db-up", "-s"], ["db-down", "-s", "--start", "base"]):
            assert empty.run(*command).stderr.count(what) == 1
            assert empty.run(*command).exit_code == 1
        with pytest.raises(ConfigurationError, match=what):
            empty.call("plan")
        assert empty.run("db-current").exit_code == 0
        assert f"Warning: {what}" in empty.run("db-current").stderr
        assert empty.run("db-show").exit_code == 0


@pytest.mark.parametrize(("framework", "url"), URLS.items())
def test_without_a_revision_nothing_is_said_to_be_applied(project: Project, framework: str, url: str) -> None:
    project.package("crm")
    with facade(project, framework, ["crm"], url) as crm:
        crm.run("db-init", "crm")
        assert crm.run("db-up").stdout == "Nothing to do: there are no revisions yet.\n"
        assert crm.run("db-up", "crm").stdout == "Nothing to do: there are no revisions yet.\n"
        project.package("sales")
        project.revision("sales", "sales_1")
        crm.app.config["AMPHO_MIGRATION_PACKAGES"] = ["crm", "sales"]
        crm.call("upgrade")
        assert crm.run("db-up", "crm").stdout == "Nothing to do: nothing is pending for crm.\n"


# Apps, factories, and what they bring


@pytest.mark.parametrize("packages", ["crm", ["crm", 1]])
def test_packages_that_are_not_a_list_of_names_are_an_error(packages: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"packages= is .* Pass a list of names"):
        Ampho(packages=packages)


def test_a_factory_with_its_own_db_and_migrate(history: Project) -> None:
    db, migrate = SQLAlchemy(), Migrate(compare_type=False, version_table="changes")
    ampho = Ampho(packages=["crm"])
    with history.importing():
        app = flask.Flask("app", instance_path=str(history.folder / "instance"))
        app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///crm.db"
        ampho.init_app(app, db, migrate)

        with app.app_context():
            assert flask.current_app.extensions["ampho"] is ampho
            assert flask.current_app.extensions["ampho"].db is db
            assert flask.current_app.extensions["ampho"].migrate is migrate
            ampho.upgrade()
            assert sorted(sa.inspect(db.engine).get_table_names()) == ["ampho_journal", "changes", "client"]
            db.engine.dispose()
    assert (history.folder / "instance" / "crm.db").is_file()


def test_an_app_that_registered_its_own_before(history: Project) -> None:
    with history.importing():
        app = flask.Flask("app", instance_path=str(history.folder))
        app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///crm.db"
        db = SQLAlchemy(app)
        migrate = Migrate(app, db, directory="elsewhere")
        ampho = Ampho(app, packages=["crm"])

        with app.app_context():
            assert ampho.db is db
            assert ampho.migrate is migrate
            ampho.upgrade()
            db.engine.dispose()


def flask_app() -> flask.Flask:
    app = flask.Flask("app")
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    return app


def quart_app() -> quart.Quart:
    app = quart.Quart("app")
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite+aiosqlite://"
    return app


def test_what_contradicts_the_app_is_refused_and_nothing_is_dropped_silently() -> None:
    app = flask_app()
    db = SQLAlchemy(app)
    migrate = Migrate(app, db)

    with pytest.raises(ConfigurationError, match="different SQLAlchemy instance from the one registered"):
        Ampho(app, SQLAlchemy())
    with pytest.raises(ConfigurationError, match="different Migrate instance from the one registered"):
        Ampho(app, db, Migrate())
    for given in (migrate, None):
        with pytest.raises(
            ConfigurationError, match=r"compare_type=, include_object= for an app that has a Migrate.* to Migrate\("
        ):
            Ampho(app, db, given, compare_type=False, include_object=None)
    assert "ampho" not in app.extensions
    with pytest.raises(ConfigurationError, match="compare_type= for an app that has a Migrate"):
        Ampho(flask_app(), migrate=Migrate(), compare_type=False)
    assert Ampho(app, db, migrate).db is db


@pytest.mark.parametrize(("kind", "make_app"), [(Ampho, flask_app), (AsyncAmpho, quart_app)])
def test_one_app_has_one_ampho(kind: Any, make_app: Callable[[], Any]) -> None:
    app = make_app()
    first = kind(app, compare_type=False)
    with pytest.raises(ConfigurationError, match=rf"already has an {kind.__name__}.*extensions"):
        kind(app)
    first.init_app(app)
    assert app.extensions["ampho"] is first


@pytest.mark.parametrize("kind", [Ampho, AsyncAmpho])
def test_an_option_that_nobody_knows_is_refused_where_it_is_written(kind: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"the option pakages=, .* Did you mean packages=\?"):
        kind(pakages=["crm"])
    with pytest.raises(ConfigurationError, match=r"the option zzz=, .* Leave it out"):
        kind(zzz=1)


def test_every_option_of_alembic_and_flask_migrate_is_known() -> None:
    known = inspect.signature(EnvironmentContext.configure).parameters
    assert set(known) - {"self", "kw"} <= OPTIONS
    assert {"command", "directory", "compare_type", "render_as_batch"} == set(inspect.signature(Migrate).parameters) - {
        "app",
        "db",
        "kwargs",
    }
    ours = {"connection", "dialect_name", "dialect_opts", "output_buffer", "starting_rev", "url"}
    always = {"literal_binds", "transaction_per_migration", "transactional_ddl"}
    for kind, more in ((Ampho, {"command", "directory"}), (AsyncAmpho, set())):
        kind(**dict.fromkeys((OPTIONS | more) - ours - always), **dict.fromkeys(always, True))
        for name in ours | always:
            with pytest.raises(ConfigurationError, match=rf"the option {name}=.*, which Ampho sets for each run"):
                kind(**{name: False})


def test_a_quart_app_that_registered_its_own_before(history: Project) -> None:
    with history.importing():
        app = quart.Quart("app", instance_path=str(history.folder))
        app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite+aiosqlite:///crm.db"
        db = AsyncSQLAlchemy(app)
        crm = Facade(app, AsyncAmpho(app, packages=["crm"]))

        assert crm.ampho.db is db
        assert ids(crm.call("upgrade").steps) == IDS
    assert (history.folder / "crm.db").is_file()


@pytest.mark.parametrize("framework", ["flask", "quart"])
def test_one_ampho_for_several_apps(history: Project, framework: str, make_database: Make) -> None:
    driver = {"flask": "sqlite+pysqlite", "quart": "sqlite+aiosqlite"}[framework]
    databases = [make_database(driver), make_database(driver)]
    ampho: Any = {"flask": Ampho, "quart": AsyncAmpho}[framework]()
    with pytest.raises(ConfigurationError, match="does not know which app to use"):
        _ = ampho.db
    with history.importing():
        crms = []
        for number, database in enumerate(databases):
            app: Any = {"flask": flask.Flask, "quart": quart.Quart}[framework](f"app{number}")
            app.config |= {"SQLALCHEMY_DATABASE_URI": database.url, "AMPHO_MIGRATION_PACKAGES": "crm"}
            ampho.init_app(app)
            crms.append(Facade(app, ampho))

        crms[1].call("upgrade", "crm_1")
        crms[0].call("upgrade")

        assert [database.rows() for database in databases] == [["crm_2"], ["crm_1"]]
        with pytest.raises(ConfigurationError, match="does not know which app to use"):
            _ = ampho.db
        for crm in crms:
            crm.dispose()


def test_the_apps_own_package_needs_no_setting_once_it_has_a_folder(project: Project) -> None:
    for package in ("mysite", "other"):
        project.package(package)
    with project.importing():
        app = flask.Flask("mysite.web", root_path=str(project.folder))
        app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
        ampho = Ampho(app)
        with app.app_context():
            assert 'to ["other"], or set AMPHO_MIGRATION_PACKAGES=' in ampho.init("other").hint
            assert ampho.init("mysite").hint is None
            assert [state.package for state in ampho.current()] == ["mysite"]
            ampho.db.engine.dispose()


@pytest.mark.parametrize(("kind", "make_app"), [(Ampho, flask_app), (AsyncAmpho, quart_app)])
def test_a_package_is_added_to_the_app_whose_context_is_active_and_else_to_all(
    history: Project, kind: Any, make_app: Callable[[], Any]
) -> None:
    for package in ("everywhere", "mine"):
        history.package(package)
    ampho, apps = kind(), [make_app(), make_app()]
    for app in apps:
        ampho.init_app(app)

    async def add_in_context() -> None:
        async with apps[0].app_context():
            ampho.add_package("mine")

    with history.importing():
        ampho.add_package("everywhere")
        if ampho.is_async:
            asyncio.run(add_in_context())
        else:
            with apps[0].app_context():
                ampho.add_package("mine")

        found = [[package.name for package in ampho.project(app).packages] for app in apps]
    assert found == [["everywhere", "mine"], ["everywhere"]]


def test_an_engine_with_metadata(history: Project, async_database: Database) -> None:
    metadata = sa.MetaData()
    with history.importing():
        app = quart.Quart("app")
        engine = create_async_engine(async_database.url)
        crm = Facade(app, AsyncAmpho(app, engine, metadata=metadata, packages=["crm"]))

        assert crm.ampho.db is engine
        assert crm.ampho.project(app).metadata is metadata
        assert ids(crm.call("upgrade").steps) == IDS
    assert async_database.rows() == ["crm_2"]


@pytest.mark.drivers("sqlite+aiosqlite", "postgresql+asyncpg")
def test_the_configuration_of_advanced_alchemy(history: Project, async_database: Database) -> None:
    """What its ``alembic_config`` says counts, as for its own commands, and an option of ``AsyncAmpho`` before that."""
    url = async_database.url.render_as_string(hide_password=False)
    config = SQLAlchemyAsyncConfig(connection_string=url)
    with history.importing():
        app = quart.Quart("app")
        crm = Facade(app, AsyncAmpho(app, config, packages=["crm"], include_object=None))

        project = crm.ampho.project(app)
        assert project.metadata is config.metadata
        assert project.options == {
            "version_table": "alembic_versions",
            "version_table_schema": None,
            "render_as_batch": True,
            "compare_type": False,
            "include_object": None,
        }
        assert ids(crm.call("upgrade").steps) == IDS
    assert async_database.rows("alembic_versions") == ["crm_2"]


@pytest.mark.drivers("sqlite+aiosqlite", "postgresql+asyncpg")
def test_what_the_commands_of_advanced_alchemy_applied_is_applied(history: Project, async_database: Database) -> None:
    schema = None
    if async_database.backend == "postgresql":
        schema = "meta"
        async_database.run("CREATE SCHEMA meta")
    settings = AlembicAsyncConfig(
        version_table_name="crm_versions",
        version_table_schema=schema,
        script_location=str(history.migrations("crm")),
        render_as_batch=False,
        compare_type=True,
        user_module_prefix="crm.",
    )
    url = async_database.url.render_as_string(hide_password=False)
    config = SQLAlchemyAsyncConfig(connection_string=url, alembic_config=settings)
    template = Path(advanced_alchemy.alembic.__file__).parent / "templates" / "asyncio" / "env.py"
    history.write(history.migrations("crm") / "env.py", template.read_text("utf-8"))
    AlembicCommands(config).upgrade("crm_1")
    with history.importing():
        app = quart.Quart("app")
        metadata = [sa.MetaData(), sa.MetaData()]
        crm = Facade(app, AsyncAmpho(app, config, metadata=metadata, packages=["crm"], compare_type=False))

        project = crm.ampho.project(app)
        assert project.metadata is metadata
        assert project.options == {
            "version_table": "crm_versions",
            "version_table_schema": schema,
            "render_as_batch": False,
            "compare_type": False,
            "user_module_prefix": "crm.",
        }
        assert [record.id for record in crm.call("current")["crm"].applied] == ["crm_1"]
        assert ids(crm.call("upgrade").steps) == ["crm_2"]
    table = "meta.crm_versions" if schema else "crm_versions"
    assert async_database.query(f"SELECT version_num FROM {table}") == [("crm_2",)]


@pytest.mark.drivers("sqlite+aiosqlite")
def test_an_engine_without_the_tables_of_the_models_is_compared_with_nothing(
    history: Project, async_database: Database
) -> None:
    with history.importing():
        app = quart.Quart("app", root_path=str(history.folder))
        crm = Facade(app, AsyncAmpho(app, create_async_engine(async_database.url), packages=["crm"]))
        assert ids(crm.call("upgrade").steps) == IDS
        for command in (("db-rev", "crm", "x", "-a"), ("db-rev", "crm", "x", "-a", "--scratch"), ("db-check",)):
            assert crm.error_line(*command) == (
                "AsyncAmpho has an engine, but not the metadata of the models, so there is nothing to compare with."
                " Pass the metadata, as in AsyncAmpho(app, engine, metadata=Base.metadata)."
            )


class LikeLite:
    """Looks as Flask-SQLAlchemy-Lite's object does from outside, which need not be installed."""


LikeLite.__module__ = "flask_sqlalchemy_lite._extension"


class LikeQuartDB:
    """Looks as quart-db's object does from outside."""


LikeQuartDB.__module__ = "quart_db.extension"


@pytest.mark.parametrize(
    ("db", "error", "message"),
    [
        (SQLAlchemy(), ConfigurationError, "cannot use an object of flask_sqlalchemy, which needs quart-flask-patch"),
        (LikeLite(), ConfigurationError, "cannot use an object of flask_sqlalchemy_lite"),
        (sa.create_engine("sqlite://"), DriverError, "got a sync engine"),
        (SQLAlchemySyncConfig(connection_string="sqlite://"), DriverError, "Use SQLAlchemyAsyncConfig"),
        ("sqlite+aiosqlite://", ConfigurationError, "cannot use a builtins.str as the database"),
        (LikeQuartDB(), ConfigurationError, r"no SQLAlchemy engine.*QuartDB\(migrations_folder=None\)"),
    ],
    ids=["Flask-SQLAlchemy", "Flask-SQLAlchemy-Lite", "sync engine", "sync config", "text", "quart-db"],
)
def test_a_database_of_the_wrong_kind(db: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        AsyncAmpho(quart.Quart("app"), db)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((sa.create_engine("sqlite://"),), r"cannot use a sqlalchemy\.engine\.base\.Engine as the database"),
        ((Migrate(),), r"cannot use a flask_migrate\.Migrate as the database\. Pass the flask_sqlalchemy\.SQLAlchemy"),
        ((SQLAlchemySyncConfig(connection_string="sqlite://"),), "SQLAlchemySyncConfig as the database"),
        ((None, "migrations"), r"cannot use a builtins\.str as Migrate\. Pass a flask_migrate\.Migrate"),
    ],
    ids=["engine", "Migrate", "advanced-alchemy", "text"],
)
def test_what_is_not_for_ampho_is_refused_by_its_kind(arguments: tuple[Any, ...], message: str) -> None:
    app = flask_app()
    with pytest.raises(ConfigurationError, match=message):
        Ampho(app, *arguments)
    assert not {"ampho", "sqlalchemy", "migrate"} & set(app.extensions)


def test_what_another_extension_registered_is_refused_by_its_kind() -> None:
    app = flask_app()
    app.extensions["sqlalchemy"] = LikeLite()
    with pytest.raises(
        ConfigurationError, match=r"cannot use a flask_sqlalchemy_lite\._extension\.LikeLite as the database"
    ):
        Ampho(app)


@pytest.mark.parametrize("metadata", [registry(), [sa.MetaData(), object()]], ids=["one", "several"])
def test_metadata_that_is_none_is_refused_where_it_is_written(metadata: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"metadata= got a .*, not a MetaData\. Pass Base\.metadata"):
        AsyncAmpho(metadata=metadata)


def test_a_name_that_is_for_the_other_extension_is_not_taken_for_right() -> None:
    with pytest.raises(ConfigurationError, match=r"the option metadata=, .* Did you mean target_metadata=\?"):
        Ampho(metadata=sa.MetaData())
    with pytest.raises(ConfigurationError, match=r"the option migrate=, .* Leave it out"):
        AsyncAmpho(migrate=Migrate())


def test_an_app_of_the_other_framework() -> None:
    with pytest.raises(
        ConfigurationError, match=r"Ampho is for Flask, and this is a Quart app\. Use ampho\.AsyncAmpho"
    ):
        Ampho(quart.Quart("app"))  # type: ignore[arg-type]
    with pytest.raises(
        ConfigurationError, match=r"AsyncAmpho is for Quart, and this is a Flask app\. Use ampho\.Ampho"
    ):
        AsyncAmpho(flask.Flask("app"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("extension", "url", "remedy"),
    [
        (Ampho, "sqlite+aiosqlite://", "Use sqlite:// instead"),
        (Ampho, "postgresql+asyncpg://u:secret@host/db", "Use postgresql+psycopg:// instead"),
        (Ampho, "mariadb+asyncmy://u:secret@host/db", "Use mariadb+pymysql:// instead"),
        (AsyncAmpho, "sqlite://", "Use sqlite+aiosqlite:// instead"),
        (AsyncAmpho, "postgresql://u:secret@host/db", "Use postgresql+asyncpg:// or postgresql+psycopg:// instead"),
        (AsyncAmpho, "mysql+pymysql://u:secret@host/db", "Use mysql+asyncmy:// instead"),
    ],
)
def test_a_driver_of_the_other_kind(extension: Any, url: str, remedy: str) -> None:
    app: Any = flask.Flask("app") if extension is Ampho else quart.Quart("app")
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    with pytest.raises(DriverError) as caught:
        extension(app)
    assert remedy in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.setting == "SQLALCHEMY_DATABASE_URI"


def test_methods_of_flask_want_the_app(history: Project) -> None:
    ampho = Ampho()
    with pytest.raises(ConfigurationError, match=r"Call init_app\(app\) first"):
        ampho.current()
    with flask.Flask("other").app_context(), pytest.raises(ConfigurationError, match="app context of that app"):
        ampho.upgrade()


# What is left alone


@pytest.mark.parametrize(
    ("framework", "url"),
    [("flask", "sqlite:///new/crm.db"), ("quart", "sqlite+aiosqlite:///new/crm.db")],
)
def test_registering_loads_no_alembic_and_touches_nothing(tmp_path: Path, framework: str, url: str) -> None:
    class_name = {"flask": "Ampho", "quart": "AsyncAmpho"}[framework]
    code = f"""
import logging, sys
before = dict(vars(logging.root)), sorted(logging.root.manager.loggerDict)
from {framework} import {framework.title()}
from ampho import {class_name}
app = {framework.title()}("app", instance_path={str(tmp_path / "instance")!r})
app.config["SQLALCHEMY_DATABASE_URI"] = {url!r}
handlers = list(logging.root.handlers), logging.root.level
{class_name}(app)
assert (list(logging.root.handlers), logging.root.level) == handlers
print(*sorted({{"alembic", "mako", "flask_migrate"}} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.strip() == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_the_apps_logging_is_never_replaced(crm: Facade, history: Project) -> None:
    """Flask-Migrate's own template, for one, switches all loggers off that exist already."""
    history.package("notes")
    crm.call("init", "notes")
    crm.app.config["AMPHO_MIGRATION_PACKAGES"] = ["notes", "crm"]
    mine = logging.getLogger("test_frameworks.mine")
    before = logging.root.handlers[:], logging.root.level, logging.getLogger("alembic").level

    crm.call("upgrade")

    assert (logging.root.handlers[:], logging.root.level, logging.getLogger("alembic").level) == before
    assert not mine.disabled
    assert crm.app.logger.disabled is False


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_a_relative_path_is_in_the_instance_folder(history: Project, database: Database) -> None:
    framework = zigzag.framework_of(database)
    with facade(history, framework, ["crm"], database.url.set(database="crm.db")) as crm:
        crm.call("upgrade")
        assert Path(crm.app.instance_path, "crm.db").is_file()
        assert Path(crm.app.instance_path).is_relative_to(history.folder)


@pytest.mark.drivers("postgresql+asyncpg")
def test_asyncpg_connections_from_before_a_schema_change_are_renewed(
    async_crm: Facade, async_database: Database, history: Project
) -> None:
    """They remember types and statements of the old schema; those in use go on, and are not cut."""
    history.revision(
        *("crm", "crm_3", "crm_2"),
        upgrade="""
        op.execute("DROP TYPE mood")
        op.execute("CREATE TYPE mood AS ENUM ('good', 'bad')")
        op.execute("ALTER TABLE client ALTER COLUMN name TYPE text")
        op.execute("ALTER TABLE client ALTER COLUMN name TYPE mood USING name::mood")
        """,
    )
    async_database.run("CREATE TYPE mood AS ENUM ('good')")
    app, ampho = async_crm.app, async_crm.ampho
    query = sa.text("SELECT id, name FROM client")
    typed = sa.text("SELECT CAST(:mood AS mood)")

    async def test() -> None:
        async with app.app_context():
            await ampho.upgrade("crm_2")
            engine: AsyncEngine = ampho.db.engine
            async with engine.connect() as in_use, engine.connect() as idle:
                for connection in (in_use, idle):
                    await connection.execute(query)
                    await connection.execute(typed, {"mood": "good"})
                    await connection.commit()
                await idle.close()

                await ampho.upgrade()

                assert (await in_use.execute(sa.text("SELECT 1"))).scalar() == 1
                await in_use.commit()
                driver: Any = (await in_use.get_raw_connection()).driver_connection
                assert not driver.is_closed()
            assert driver.is_closed(), "of the old pool, where nobody would ever use or close it"
            for _ in range(3):
                async with engine.connect() as connection:
                    await connection.execute(query)
                    assert (await connection.execute(typed, {"mood": "bad"})).scalar() == "bad"
            await ampho.dispose(app)

    asyncio.run(test())
    assert async_database.rows() == ["crm_3"]


@pytest.mark.drivers("postgresql+asyncpg", "postgresql+psycopg_async")
def test_after_an_upgrade_the_pool_pools_and_one_without_steps_leaves_it_alone(
    async_crm: Facade, history: Project
) -> None:
    app, ampho = async_crm.app, async_crm.ampho

    async def backends() -> set[int]:
        found = set()
        for _ in range(10):
            async with ampho.db.engine.connect() as connection:
                found.add((await connection.execute(sa.text("SELECT pg_backend_pid()"))).scalar_one())
        return found

    async def test() -> None:
        async with app.app_context():
            before = await backends()
            await ampho.upgrade()
            after = await backends()
            assert len(after) == 1
            assert len(before | after) == (2 if "asyncpg" in str(ampho.db.engine.url) else 1)
            await ampho.upgrade()
            assert await backends() == after
            history.revision("crm", "crm_3", "crm_2", upgrade="op.execute('SELECT nonsense')")
            with pytest.raises(RevisionFailedError):
                await ampho.upgrade()
            assert len(await backends()) == 1
            await ampho.dispose(app)

    asyncio.run(test())


def test_one_engine_serves_ampho_in_several_loops(project: Project, async_database: Database) -> None:
    project.package("blog")
    project.revision("blog", "blog_1")
    engine = create_async_engine(async_database.url)
    app = quart.Quart("app")
    app.config["AMPHO_MIGRATION_PACKAGES"] = ["blog"]
    with project.importing():
        ampho = AsyncAmpho(app, engine, metadata=sa.MetaData())
        for method, rows in (
            ("upgrade", ["blog_1"]),
            ("status", ["blog_1"]),
            ("downgrade", []),
            ("upgrade", ["blog_1"]),
        ):
            asyncio.run(getattr(ampho, method)())
            assert async_database.rows() == rows


@pytest.mark.parametrize("base", [Ampho, AsyncAmpho])
def test_a_subclass_cannot_override_what_the_command_line_calls(base: type) -> None:
    with pytest.raises(ConfigurationError, match=r"Mine overrides upgrade\(\), .* Override call\(\) instead"):
        type("Mine", (base,), {"upgrade": lambda self: None})
    assert type("Mine", (base,), {"call": base.call}).upgrade is base.upgrade
