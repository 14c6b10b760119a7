"""Where the addresses of several databases come from: settings, engines, and configurations of advanced-alchemy."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from facade import FRAMEWORKS, URLS, Facade
from flask import Flask
from project import Project
from quart import Quart
from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine

from ampho import Ampho, AsyncAmpho
from ampho.errors import AmphoError, ConfigurationError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it calls a decorator that SQLAlchemy 2.1 deprecates
    from advanced_alchemy.config import AlembicAsyncConfig
    from advanced_alchemy.config import SQLAlchemyAsyncConfig as Config

CREATE = "op.create_table('{}', sa.Column('id', sa.Integer))"
HOMES = {"reports": ["sales"]}
OWN = {"alembic_version", "ampho_journal"}


@pytest.fixture
def two(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Two packages for two databases."""
    for name in ("shop", "sales"):
        project.package(name)
        project.revision(name, f"{name}_1", upgrade=CREATE.format(name))
    (project.folder / "instance").mkdir()
    monkeypatch.chdir(project.folder)
    return project


def opened(framework: str, *args: Any, metadata: Any = None, **config: Any) -> Facade:
    app: Any = Flask("app", root_path=".") if framework == "flask" else Quart("app", root_path=".")
    app.config.update(config)
    return Facade(app, Ampho(app, *args) if framework == "flask" else AsyncAmpho(app, *args, metadata=metadata))


def tables(project: Project, file: str) -> set[str]:
    with closing(sqlite3.connect(project.folder / "instance" / file)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_app_without_a_default_database(framework: str, two: Project) -> None:
    binds = {"reports": URLS[framework].replace("app.db", "reports.db")}
    with two.importing():
        each = opened(framework, SQLALCHEMY_BINDS=binds, AMPHO_DATABASES=HOMES)
        each.call("upgrade")
        assert tables(two, "reports.db") == {"sales", *OWN}
        (drift,) = each.call("check")  # the package has no models
        assert (drift.database, drift.operations) == ("reports", ("op.drop_table('sales')",))
        assert each.call("status").database == "reports"

        each = opened(framework, SQLALCHEMY_BINDS=binds, AMPHO_DATABASES=HOMES, AMPHO_MIGRATION_PACKAGES=["shop"])
        if framework == "flask":
            with pytest.raises(ConfigurationError, match=r"URI is not set.* or list all packages in AMPHO_DATA"):
                each.call("upgrade")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_addresses_only_for_migrations_by_database(framework: str, two: Project) -> None:
    url = URLS[framework]
    config: dict[str, Any] = {
        "SQLALCHEMY_DATABASE_URI": url,
        "SQLALCHEMY_BINDS": {"reports": {"url": url.replace("app.db", "reports.db"), "echo": False}},
        "AMPHO_MIGRATION_PACKAGES": ["shop"],
        "AMPHO_DATABASES": HOMES,
    }
    with two.importing():
        direct = {"reports": url.replace("app.db", "direct.db")}
        opened(framework, **config, AMPHO_DATABASE_URI=direct).call("upgrade")
        assert tables(two, "app.db") == {"shop", *OWN}
        assert tables(two, "direct.db") == {"sales", *OWN}

        for wrong, error in (
            ({"report": url}, "Did you mean reports"),
            ({"reports": "x:secret"}, r"URI\['reports'\] is"),
        ):
            with pytest.raises(ConfigurationError, match=error) as caught:
                opened(framework, **config, AMPHO_DATABASE_URI=wrong).call("upgrade")
            assert "secret" not in str(caught.value)


def engine(name: str) -> AsyncEngine:
    return create_async_engine(f"sqlite+aiosqlite:///instance/{name}.db")


def config(name: str, bind_key: str | None = None, **options: Any) -> Config:
    return Config(connection_string=f"sqlite+aiosqlite:///instance/{name}.db", bind_key=bind_key, **options)


def given(name: str) -> Any:
    """Return databases of each form; engines are made when they are used, because files are written in this folder."""
    made: dict[str, Callable[[], Any]] = {
        "engines": lambda: {"default": engine("app"), "reports": engine("reports")},
        "makers": lambda: {"default": async_sessionmaker(engine("app")), "reports": lambda: reports},
        "configs": lambda: [config("app"), config("reports", "reports")],
    }
    reports = engine("reports")
    return made[name]()


@pytest.mark.parametrize("form", ["engines", "makers", "configs"])
def test_several_databases_of_quart(form: str, two: Project) -> None:
    with two.importing():
        settings: dict[str, Any] = {"AMPHO_MIGRATION_PACKAGES": ["shop"], "AMPHO_DATABASES": HOMES}
        each = opened("quart", given(form), metadata=MetaData(), **settings)
        each.call("upgrade")
        assert "shop" in tables(two, "app.db")
        assert "sales" in tables(two, "reports.db")
        assert list(each.call("status").databases) == ["default", "reports"]


def test_each_configuration_has_its_own_options_and_metadata(two: Project) -> None:
    metadatas = [MetaData(), MetaData()]
    configs = [
        config("app", alembic_config=AlembicAsyncConfig(version_table_name="one"), metadata=metadatas[0]),
        config(
            "reports", "reports", alembic_config=AlembicAsyncConfig(version_table_name="two"), metadata=metadatas[1]
        ),
    ]
    two.package(
        "sales", "import sqlalchemy as sa\nfrom shared import b\nsa.Table('sales', b, sa.Column('id', sa.Integer))"
    )
    two.write("shared.py", "b = None\n")
    with two.importing():
        import shared  # type: ignore[import-not-found]  # written above

        shared.b = metadatas[1]
        settings: dict[str, Any] = {"AMPHO_MIGRATION_PACKAGES": ["shop"]}
        each = opened("quart", configs, AMPHO_DATABASES=HOMES, **settings)
        each.call("upgrade")
        assert tables(two, "app.db") == {"shop", "one", "ampho_journal"}
        assert tables(two, "reports.db") == {"sales", "two", "ampho_journal"}
        assert [drift.package for drift in each.call("check") if drift.operations] == ["shop"]  # it has no models

        each = opened("quart", configs, AMPHO_MIGRATION_PACKAGES=["shop", "sales"])
        each.call("upgrade")
        with pytest.raises(ConfigurationError, match="sales uses the bind reports, but sales lives in default"):
            each.call("check")


@pytest.mark.parametrize(
    ("databases", "error"),
    [
        ({}, "got no database. Pass a dictionary"),
        ([], "got no database. Pass a dictionary"),
        ({None: engine("app")}, "with the name None. Use a string, such as 'default'"),
        ({"default": {"default": engine("app")}}, "cannot use a builtins.dict as the database"),
        ({"default": "sqlite+aiosqlite:///app.db"}, "cannot use a builtins.str as the database"),
        ([engine("app"), engine("reports")], "list with a .*AsyncEngine, which has no name"),
        ([config("app"), config("reports")], "several configurations for the database default"),
        ({"default": engine("app")}, "'reports', which has no URL. Pass it to AsyncAmpho, as in"),
        ({"reports": engine("app")}, "got no database 'default'. It got reports. Pass it, too, or list"),
    ],
)
def test_wrong_databases_of_quart(databases: Any, error: str, two: Project) -> None:
    with two.importing(), pytest.raises(AmphoError, match=error):
        opened("quart", databases, AMPHO_MIGRATION_PACKAGES=["shop"], AMPHO_DATABASES=HOMES).call("status")
