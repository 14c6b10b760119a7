"""AsyncSQLAlchemy: its configuration, its engines, its models."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy.model import camel_to_snake_case
from hypothesis import given
from hypothesis import strategies as st
from quart import Quart
from sqlalchemy import (
    URL,
    Column,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    select,
)
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import (
    DeclarativeBase,
    DeclarativeBaseNoMeta,
    Mapped,
    MappedAsDataclass,
    declarative_base,
    declared_attr,
    mapped_column,
)
from sqlalchemy.pool import AsyncAdaptedQueuePool, StaticPool
from sqlalchemy.sql import text

from ampho.aio.sqlalchemy.engines import read_specs
from ampho.aio.sqlalchemy.extension import AsyncSQLAlchemy
from ampho.aio.sqlalchemy.model import table_name
from ampho.errors import ConfigurationError, DriverError

if TYPE_CHECKING:
    from servers import Database

PASSWORD = "p%40:/@#'"
MEMORY = "sqlite+aiosqlite://"


def make_app(folder: Path | None = None, **config: object) -> Quart:
    app = Quart(__name__, instance_path=str(folder) if folder else None)
    app.config.update(config)
    return app


# What the configuration means


def engines() -> list[AsyncEngine]:
    """Return all async engines that exist."""
    return [found for found in gc.get_objects() if type(found) is AsyncEngine]


def test_registering_touches_neither_disk_nor_logging_and_makes_no_engine(tmp_path: Path) -> None:
    others = engines()
    logging_before = (logging.root.handlers[:], logging.root.level, set(logging.root.manager.loggerDict))
    app = make_app(tmp_path / "instance", SQLALCHEMY_DATABASE_URI="sqlite+aiosqlite:///shop.db")
    db = AsyncSQLAlchemy(app)
    assert app.extensions["sqlalchemy"] is db
    assert list(tmp_path.iterdir()) == []
    assert (logging.root.handlers[:], logging.root.level, set(logging.root.manager.loggerDict)) == logging_before
    assert [engine for engine in engines() if engine not in others] == []


def test_importing_it_imports_neither_alembic_nor_flask_sqlalchemy() -> None:
    code = (
        "import sys, ampho.aio.sqlalchemy; "
        "print([name for name in ('alembic', 'flask_sqlalchemy', 'flask_migrate') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_neither_uri_nor_binds_is_an_error_that_names_them() -> None:
    app = make_app()
    with pytest.raises(ConfigurationError, match="SQLALCHEMY_DATABASE_URI or SQLALCHEMY_BINDS") as caught:
        AsyncSQLAlchemy(app)
    assert caught.value.setting == "SQLALCHEMY_DATABASE_URI"
    assert "sqlalchemy" not in app.extensions


@pytest.mark.parametrize(
    ("config", "setting"),
    [
        ({"SQLALCHEMY_DATABASE_URI": f"postgresql+asyncpg://me:{PASSWORD}@host/shop"}, "SQLALCHEMY_DATABASE_URI"),
        ({"SQLALCHEMY_DATABASE_URI": 42}, "SQLALCHEMY_DATABASE_URI"),
        ({"SQLALCHEMY_ENGINE_OPTIONS": {"url": f"me:{PASSWORD}"}}, r"SQLALCHEMY_ENGINE_OPTIONS\['url'\]"),
        ({"SQLALCHEMY_BINDS": {"audit": f"me:{PASSWORD}"}}, r"SQLALCHEMY_BINDS\['audit'\]"),
        ({"SQLALCHEMY_BINDS": {"audit": {"url": f"me:{PASSWORD}"}}}, r"SQLALCHEMY_BINDS\['audit'\]"),
        ({"SQLALCHEMY_BINDS": {"audit": {"echo": True}}}, r"SQLALCHEMY_BINDS\['audit'\] has no 'url'"),
        ({"SQLALCHEMY_BINDS": [MEMORY]}, "SQLALCHEMY_BINDS must be a dict, not list"),
        ({"SQLALCHEMY_ENGINE_OPTIONS": None}, "SQLALCHEMY_ENGINE_OPTIONS must be a dict, not NoneType"),
    ],
)
def test_a_malformed_setting_is_named_and_no_url_quoted(config: dict[str, object], setting: str) -> None:
    with pytest.raises(ConfigurationError, match=setting) as caught:
        AsyncSQLAlchemy(make_app(None, **config))
    assert not any(part in str(caught.value) for part in ("p%40", "#'", "me:"))


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:///shop.db", "sqlite\\+aiosqlite"),
        (URL.create("postgresql", "me", PASSWORD, "h"), r"postgresql\+asyncpg:// or postgresql\+psycopg"),
        ("mysql+pymysql://h/shop", "mysql\\+asyncmy"),
        ("mariadb+pymysql://h/shop", "mariadb\\+asyncmy"),
    ],
)
def test_a_sync_url_is_refused_with_the_async_driver(url: str | URL, driver: str) -> None:
    with pytest.raises(DriverError, match=driver) as caught:
        AsyncSQLAlchemy(make_app(SQLALCHEMY_BINDS={"audit": url}))
    assert caught.value.setting == "SQLALCHEMY_BINDS['audit']"
    assert "p%" not in str(caught.value)


def test_a_flask_app_is_refused_with_the_remedy() -> None:
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = MEMORY
    with pytest.raises(ConfigurationError, match=r"for Quart.*Flask-SQLAlchemy.*ampho\.Ampho"):
        AsyncSQLAlchemy(app)  # type: ignore[arg-type]
    assert "sqlalchemy" not in app.extensions


def test_a_second_object_on_one_app_is_refused() -> None:
    app = make_app(SQLALCHEMY_DATABASE_URI=MEMORY)
    db = AsyncSQLAlchemy(app)
    for again in (AsyncSQLAlchemy(), db):
        with pytest.raises(ConfigurationError, match=r"already"):
            again.init_app(app)
    assert app.extensions["sqlalchemy"] is db


CONFIGS: list[dict[str, Any]] = [
    {"SQLALCHEMY_DATABASE_URI": "{sqlite}:///shop.db"},
    {"SQLALCHEMY_DATABASE_URI": "{sqlite}:////absolute/shop.db"},
    {"SQLALCHEMY_DATABASE_URI": "{sqlite}:///file:shop.db?uri=true&mode=ro"},
    {"SQLALCHEMY_DATABASE_URI": "{sqlite}:///file:/absolute/shop.db?uri=true"},
    {"SQLALCHEMY_DATABASE_URI": "{sqlite}:///shop.db", "SQLALCHEMY_ECHO": True},
    {"SQLALCHEMY_DATABASE_URI": "{sqlite}:///a.db", "SQLALCHEMY_ENGINE_OPTIONS": {"url": "{sqlite}:///b.db"}},
    {"SQLALCHEMY_ENGINE_OPTIONS": {"url": "{sqlite}:///b.db", "echo": True, "pool_size": 3}},
    {"SQLALCHEMY_BINDS": {"audit": "{sqlite}:///audit.db"}},
    {"SQLALCHEMY_BINDS": {None: {"url": "{sqlite}:///none.db", "pool_size": 2}}},
    {
        "SQLALCHEMY_DATABASE_URI": "{sqlite}:///shop.db",
        "SQLALCHEMY_BINDS": {None: {"url": "{sqlite}:///n.db", "pool_size": 2}, "audit": {"url": "{sqlite}:///x.db"}},
        "SQLALCHEMY_ENGINE_OPTIONS": {"pool_size": 4, "max_overflow": 1},
        "SQLALCHEMY_ECHO": True,
    },
]


def for_driver(config: Any, driver: str) -> Any:
    if isinstance(config, dict):
        return {key: for_driver(value, driver) for key, value in config.items()}
    return config.format(sqlite=driver) if isinstance(config, str) else config


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.asyncio
async def test_keys_and_precedence_are_those_of_flask_sqlalchemy(config: dict[str, Any], tmp_path: Path) -> None:
    defaults = {"pool_size": 7, "logging_name": "shop"}
    flask_app = Flask(__name__, instance_path=str(tmp_path))
    flask_app.config.update(for_driver(config, "sqlite"))
    theirs = SQLAlchemy(flask_app, engine_options=defaults)
    app = make_app(tmp_path, **for_driver(config, "sqlite+aiosqlite"))
    ours = AsyncSQLAlchemy(app, engine_options=defaults)
    with flask_app.app_context():
        expected = {key: facts(engine) for key, engine in theirs.engines.items()}
    async with app.app_context():
        found = {key: facts(engine.sync_engine) for key, engine in ours.engines.items()}
        assert all(ours.get_url(key) == engine.url for key, engine in ours.engines.items())
    assert found == expected
    assert ours.metadatas.keys() == theirs.metadatas.keys()


def facts(engine: Any) -> dict[str, object]:
    return {
        "url": engine.url.set(drivername="sqlite"),
        "echo": engine.echo,
        "pool echo": engine.pool.echo,
        "pool size": engine.pool.size(),
        "overflow": engine.pool._max_overflow,
        "name": engine.logging_name,
    }


def test_mysql_has_the_defaults_of_flask_sqlalchemy(tmp_path: Path) -> None:
    urls = {"a": "mysql+asyncmy://h/x", "b": "mariadb+asyncmy://h/x?charset=latin1"}
    specs = read_specs({"SQLALCHEMY_BINDS": urls}, {}, str(tmp_path))
    assert [spec.url.query["charset"] for spec in specs.values()] == ["utf8mb4", "latin1"]
    assert [spec.options["pool_recycle"] for spec in specs.values()] == [7200, 7200]


@pytest.mark.asyncio
async def test_a_relative_path_is_in_the_instance_folder_made_when_it_connects(tmp_path: Path) -> None:
    app = make_app(tmp_path / "instance", SQLALCHEMY_DATABASE_URI="sqlite+aiosqlite:///shop.db")
    db = AsyncSQLAlchemy(app)
    async with app.app_context():
        assert db.get_url().database == str(tmp_path / "instance" / "shop.db")
        assert not (tmp_path / "instance").exists()
        assert (await db.session.execute(text("CREATE TABLE t (x)"))) is not None
        await db.dispose()
    assert (tmp_path / "instance" / "shop.db").exists()


@pytest.mark.asyncio
async def test_what_sqlalchemy_refuses_is_named_without_the_password() -> None:
    url = URL.create("sqlite+aiosqlite", "me", PASSWORD, "shop.db", query={"password": PASSWORD})
    app = make_app(SQLALCHEMY_DATABASE_URI=url, SQLALCHEMY_BINDS={"b": {"url": MEMORY, "pool_sise": 3}})
    db = AsyncSQLAlchemy(app)
    async with app.app_context():
        with pytest.raises(ConfigurationError, match=r"SQLALCHEMY_BINDS\['b'\].*pool_sise"):
            db.get_engine("b")
        with pytest.raises(ConfigurationError, match=r"SQLALCHEMY_DATABASE_URI.*Invalid SQLite URL") as caught:
            db.session.get_bind()
        assert "p%" not in str(caught.value)


@pytest.mark.asyncio
async def test_a_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    app = make_app(SQLALCHEMY_DATABASE_URI="postgresql+asyncpg://h/shop")
    db = AsyncSQLAlchemy(app)
    async with app.app_context():
        with pytest.raises(DriverError, match=r"SQLALCHEMY_DATABASE_URI.*postgresql\+asyncpg.*pip install"):
            _ = db.engine


# Engines


def test_outside_of_an_app_context_the_error_names_the_remedy() -> None:
    db = AsyncSQLAlchemy(make_app(SQLALCHEMY_DATABASE_URI=MEMORY))
    for name in ("engine", "engines", "session"):
        with pytest.raises(RuntimeError, match=r"async with app\.app_context\(\)"):
            getattr(db, name)


@pytest.mark.asyncio
async def test_an_unregistered_app_is_named_with_the_remedy() -> None:
    db = AsyncSQLAlchemy()
    async with make_app().app_context():
        for name in ("engine", "session"):
            with pytest.raises(ConfigurationError, match="init_app"):
                getattr(db, name)


@pytest.mark.asyncio
async def test_an_unknown_bind_key_is_named_with_its_setting() -> None:
    app = make_app(SQLALCHEMY_BINDS={"audit": MEMORY})
    db = AsyncSQLAlchemy(app)
    async with app.app_context():
        with pytest.raises(ConfigurationError, match=r"SQLALCHEMY_BINDS does not .*'adit', only .*'audit'"):
            db.get_engine("adit")
        with pytest.raises(ConfigurationError, match="SQLALCHEMY_DATABASE_URI does not configure"):
            _ = db.engine


@pytest.mark.asyncio
async def test_an_async_engine_is_refused_where_no_loop_runs(tmp_path: Path) -> None:
    app = make_app(SQLALCHEMY_DATABASE_URI=f"sqlite+aiosqlite:///{tmp_path}/x.db")
    db = AsyncSQLAlchemy(app)
    async with app.app_context():
        with pytest.raises(RuntimeError, match="running event loop"):
            await asyncio.to_thread(lambda: db.engine)


@pytest.mark.asyncio
async def test_apps_have_engines_of_their_own_and_share_models(tmp_path: Path) -> None:
    db = AsyncSQLAlchemy()

    class Note(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    apps = [make_app(SQLALCHEMY_DATABASE_URI=f"sqlite+aiosqlite:///{tmp_path}/{name}.db") for name in "ab"]
    for app in apps:
        db.init_app(app)
        async with app.app_context():
            await db.create_all()
            db.session.add(Note())
            await db.session.commit()
    for app in apps:
        async with app.app_context():
            assert (await db.session.scalars(select(Note.id))).all() == [1]
            assert db.engine is db.get_engine() is db.engines[None]
        await db.dispose(app)


def test_an_app_that_is_gone_leaves_nothing_behind() -> None:
    db = AsyncSQLAlchemy()
    db.init_app(make_app(SQLALCHEMY_DATABASE_URI=MEMORY))
    gc.collect()
    assert len(db._engines) == 0


def test_each_event_loop_has_an_engine_of_its_own(async_database: Database) -> None:
    app = make_app(SQLALCHEMY_DATABASE_URI=async_database.url)
    db = AsyncSQLAlchemy(app)
    engines = []

    async def use() -> None:
        async with app.app_context():
            assert await db.session.scalar(text("SELECT 1")) == 1
            engines.append(db.engine)
            assert db.engine is engines[-1]
        await db.dispose(app)

    for _ in range(3):
        asyncio.run(use())
    assert len(set(engines)) == 3


LEAVES_CONNECTIONS = """
import asyncio, os
from quart import Quart
from sqlalchemy import text
from ampho.aio.sqlalchemy.extension import AsyncSQLAlchemy

app = Quart(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["URL"]
db = AsyncSQLAlchemy(app)

async def use():
    async def one():
        async with app.app_context():
            assert await db.session.scalar(text("SELECT 1")) == 1
    await asyncio.gather(*(one() for _ in range(3)))
    async with app.app_context():
        return db.engine

left = asyncio.run(use())
assert left.pool.checkedin() == 3
assert asyncio.run(use()) is not left
print("left", left.pool.checkedin())
"""


@pytest.mark.usefixtures("unmeasured")
def test_a_loop_that_closed_without_dispose_does_not_disturb_the_next(async_database: Database) -> None:
    environment = os.environ | {"URL": async_database.url.render_as_string(hide_password=False)}
    command = [sys.executable, "-c", LEAVES_CONNECTIONS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "left 0\n", done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_in_memory_outlives_the_loop(tmp_path: Path) -> None:
    app = make_app(SQLALCHEMY_DATABASE_URI=MEMORY)
    db = AsyncSQLAlchemy(app)

    async def run(statement: str) -> Any:
        async with app.app_context():
            result = await db.session.execute(text(statement))
            await db.session.commit()
            return result

    asyncio.run(run("CREATE TABLE t AS SELECT 42 AS x"))
    result = asyncio.run(run("SELECT x FROM t"))
    assert result.scalar_one() == 42
    asyncio.run(db.dispose(app))
    with pytest.raises(Exception, match="no such table"):
        asyncio.run(run("SELECT x FROM t"))
    asyncio.run(db.dispose(app))


@pytest.mark.parametrize(
    "url", [MEMORY, "sqlite+aiosqlite:///:memory:", "sqlite+aiosqlite:///file:x?mode=memory&cache=shared&uri=true"]
)
@pytest.mark.asyncio
async def test_every_form_of_in_memory_has_one_connection_whatever_the_pool_asked_for(url: str, tmp_path: Path) -> None:
    app = make_app(tmp_path / "instance", SQLALCHEMY_DATABASE_URI=url)
    db = AsyncSQLAlchemy(app, engine_options={"poolclass": AsyncAdaptedQueuePool})
    async with app.app_context():
        assert isinstance(db.engine.pool, StaticPool)
    assert not (tmp_path / "instance").exists()


@pytest.mark.asyncio
async def test_serving_disposes_when_it_ends(async_database: Database) -> None:
    app = make_app(SQLALCHEMY_DATABASE_URI=async_database.url)
    db = AsyncSQLAlchemy(app)

    @app.get("/")
    async def index() -> str:
        return str(await db.session.scalar(text("SELECT 7")))

    async with app.test_app() as serving:
        assert await (await serving.test_client().get("/")).get_data(as_text=True) == "7"
        async with app.app_context():
            pool = db.engine.pool
        assert pool.checkedin() == 1  # type: ignore[attr-defined]
    assert pool.checkedin() == 0  # type: ignore[attr-defined]


# Models and metadata


@given(st.text(st.characters(categories=("Lu", "Ll", "Nd"), include_characters="_", max_codepoint=127), max_size=12))
def test_table_names_are_those_of_flask_sqlalchemy(name: str) -> None:
    assert table_name(name) == camel_to_snake_case(name)


def test_a_model_is_named_after_its_class_unless_it_says_otherwise() -> None:
    db = AsyncSQLAlchemy()

    class Named:
        @declared_attr.directive
        def __tablename__(cls) -> str:  # noqa: N805
            return f"x_{cls.__name__.lower()}"  # type: ignore[attr-defined]

    class Fixed:
        __tablename__ = "fixed"

    class Keyed(db.Model):  # type: ignore[name-defined, misc]
        __abstract__ = True
        id: Mapped[int] = mapped_column(primary_key=True)

    class HTTPAccount(Keyed): ...

    class Own(Keyed):
        __tablename__ = "mine"

    class Computed(Named, Keyed): ...

    class Mixed(Fixed, Keyed): ...

    class WithTable(db.Model):  # type: ignore[name-defined, misc]
        __table__ = Table("given", db.metadata, Column("id", Integer, primary_key=True))

    names = [str(model.__table__.name) for model in (HTTPAccount, Own, Computed, Mixed, WithTable)]
    assert names == ["http_account", "mine", "x_computed", "fixed", "given"]
    assert not hasattr(Keyed, "__table__")


def test_a_child_without_a_key_shares_its_parents_table_and_one_with_a_key_has_its_own() -> None:
    db = AsyncSQLAlchemy()

    class Animal(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}  # noqa: RUF012

    class Duck(Animal):
        __mapper_args__ = {"polymorphic_identity": "duck"}  # noqa: RUF012

    class BigDog(Animal):
        id: Mapped[int] = mapped_column(ForeignKey(Animal.id), primary_key=True)
        __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012

    assert Duck.__table__ is Animal.__table__
    assert Duck.__tablename__ == "animal"
    assert BigDog.__table__.name == "big_dog"
    assert set(db.metadata.tables) == {"animal", "big_dog"}


def test_query_of_a_model_names_select_unless_the_model_has_an_attribute_of_that_name() -> None:
    db = AsyncSQLAlchemy()

    class Author(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    class Search(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        query: Mapped[str]

    with pytest.raises(AttributeError, match=r"Author.query is not available.* db.select\(Author\)"):
        _ = Author.query  # type: ignore[attr-defined]
    assert Search(query="ships").query == "ships"
    assert [column.name for column in Search.__table__.columns] == ["id", "query"]


def test_a_model_without_a_key_gets_sqlalchemys_error() -> None:
    db = AsyncSQLAlchemy()
    with pytest.raises(Exception, match="primary key"):

        class Broken(db.Model):  # type: ignore[name-defined, misc]
            text: Mapped[str]


def test_bind_keys_select_the_metadata_and_its_naming_convention() -> None:
    db = AsyncSQLAlchemy(metadata=MetaData(naming_convention={"pk": "pk_%(table_name)s"}))

    class Audited(db.Model):  # type: ignore[name-defined, misc]
        __abstract__ = True
        __bind_key__ = "audit"

    class Entry(Audited):
        id: Mapped[int] = mapped_column(primary_key=True)

    class User(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    class Back(Audited):
        __bind_key__ = None  # type: ignore[assignment]
        id: Mapped[int] = mapped_column(primary_key=True)

    assert set(db.metadata.tables) == {"user", "back"}
    assert set(db.metadatas["audit"].tables) == {"entry"}
    assert Entry.__table__.primary_key.name == "pk_entry"
    assert db.metadatas["audit"].info == {"bind_key": "audit"}


@pytest.mark.parametrize("root", [DeclarativeBase, DeclarativeBaseNoMeta])
def test_a_declarative_base_of_yours_keeps_its_metadata_and_models(root: type) -> None:
    class Base(root):  # type: ignore[misc]
        pass

    class Old(Base):
        __tablename__ = "old"
        id: Mapped[int] = mapped_column(primary_key=True)

    db = AsyncSQLAlchemy(model_class=Base, metadata=Base.metadata)

    class NewOne(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    assert issubclass(db.Model, Base)
    assert db.metadata is Base.metadata
    assert set(db.metadata.tables) == {"old", "new_one"}


def test_a_legacy_declarative_base_is_taken_as_it_is() -> None:
    base = declarative_base()
    db = AsyncSQLAlchemy(model_class=base)
    assert db.Model is base
    assert db.metadata is base.metadata


def test_a_base_of_dataclasses_works() -> None:
    class Base(MappedAsDataclass, DeclarativeBase):
        pass

    db = AsyncSQLAlchemy(model_class=Base)

    class LineItem(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str] = mapped_column(default="x")

    assert LineItem(id=1) == LineItem(1, "x")
    assert LineItem.__table__.name == "line_item"


def test_any_other_class_becomes_a_parent_of_the_models() -> None:
    class Common:
        id: Mapped[int] = mapped_column(primary_key=True)

        def hello(self) -> str:
            return f"hello {type(self).__name__}"

    db = AsyncSQLAlchemy(model_class=Common)

    class Person(db.Model):  # type: ignore[name-defined, misc]
        pass

    assert Person().hello() == "hello Person"
    assert list(Person.__table__.columns.keys()) == ["id"]
    assert AsyncSQLAlchemy(model_class=DeclarativeBase).metadata is not db.metadata


def test_two_default_metadata_are_refused() -> None:
    class Base(DeclarativeBase):
        pass

    with pytest.raises(ConfigurationError, match="metadata of model_class Base"):
        AsyncSQLAlchemy(metadata=MetaData(), model_class=Base)


def tables_in(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]


@pytest.mark.asyncio
async def test_tables_are_created_reflected_and_dropped_per_bind(tmp_path: Path) -> None:
    urls = {key: f"sqlite+aiosqlite:///{tmp_path}/{key}.db" for key in ("main", "audit", "old")}
    app = make_app(SQLALCHEMY_DATABASE_URI=urls["main"], SQLALCHEMY_BINDS={k: urls[k] for k in ("audit", "old")})
    db = AsyncSQLAlchemy(app)
    Table("shop", db.metadata, Column("id", Integer, primary_key=True))
    Table("log", db.metadatas["audit"], Column("id", Integer, primary_key=True))

    def tables() -> dict[str, list[str]]:
        return {key: tables_in(tmp_path / f"{key}.db") for key in urls}

    async with app.app_context():
        await db.create_all(None)
        assert tables() == {"main": ["shop"], "audit": [], "old": []}
        await db.create_all()
        assert tables() == {"main": ["shop"], "audit": ["log"], "old": []}
        await db.drop_all(["audit"])
        assert tables() == {"main": ["shop"], "audit": [], "old": []}
        async with db.get_engine("old").begin() as connection:
            await connection.execute(text("CREATE TABLE found (id INTEGER)"))
        await db.reflect("old")
        assert set(db.metadatas["old"].tables) == {"found"}
        await db.drop_all()
        assert tables() == {"main": [], "audit": [], "old": []}
        await db.dispose()


@pytest.mark.asyncio
async def test_tables_of_a_bind_without_a_setting_are_an_error_and_an_unused_default_is_none() -> None:
    app = make_app(SQLALCHEMY_BINDS={"audit": MEMORY})
    db = AsyncSQLAlchemy(app)
    async with app.app_context():
        await db.create_all()
        Table("lost", db.metadatas["adit"], Column("id", String, primary_key=True))
        with pytest.raises(ConfigurationError, match="'adit'"):
            await db.create_all()
        await db.dispose()
