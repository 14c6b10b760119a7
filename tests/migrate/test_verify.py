"""``db-stamp --verify``: only what is true is stamped, and each difference is named."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kinds
import pytest
import sqlalchemy as sa
from comparing import ONE_EACH, compare, connected, run
from facade import FRAMEWORKS, URLS, Facade, facade
from project import Project
from random_schemas import Model, changed, clear, random_model
from servers import Database

from ampho import Database as DatabaseOfGroup
from ampho.errors import VerificationError
from ampho.history.host import TEMPLATES
from ampho.revise.autogenerate.write.render import body

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

SCHEMAS = int(os.environ.get("AMPHO_SCHEMAS", "2"))
"""How many random schemas are verified on each database, in turns with one revision and with two."""


@contextmanager
def app(project: Project, database: Database, packages: Sequence[str] = ("shop",), **config: Any) -> Iterator[Facade]:
    with facade(project, "quart" if database.is_async else "flask", list(packages), database.url, **config) as each:
        yield each


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.timeout(120 + 15 * SCHEMAS)
@pytest.mark.drivers(*ONE_EACH)
def test_tables_of_create_all_are_as_their_history_makes_them(database: Database, tmp_path: Path) -> None:
    alarms = []
    for seed in range(SCHEMAS):
        rng = random.Random(seed)
        models = [random_model(rng, database.backend)]
        if seed % 2:
            models.append(changed(rng, models[0], database.backend))
            # Of some changes of an identity, autogenerate writes nothing.
            models[1].identities = {name: models[0].identities.get(name) for name in models[1].tables}
        project = Project(tmp_path / str(seed))
        project.package("shop")
        try:
            with connected(database) as connection:
                write_history(project, connection, models)
                clear(connection)
                if database.backend == "postgresql":
                    connection.execute(sa.text("CREATE SCHEMA audit"))
                models[-1].metadata(database.backend).create_all(connection)
                connection.commit()
            with app(project, database) as each:
                assert each.call("stamp", "shop", verify=True).verified
        except Exception as error:  # noqa: BLE001 (all are listed at the end)
            alarms.append(f"seed {seed}: {type(error).__name__}: {error}")
        with connected(database) as connection:
            clear(connection)
    assert not alarms, "\n".join(alarms)


def write_history(project: Project, connection: sa.Connection, models: Sequence[Model]) -> None:
    """Write a revision for each model, as autogenerate does, and run it."""
    known: list[str] = []
    for number, model in enumerate(models, 1):
        metadata = model.metadata(connection.dialect.name)
        known += metadata.tables
        written = body(compare(connection, metadata, known=known).packages["shop"])
        run(connection, written.upgrades or "pass", written.imports)
        code = f"{written.imports}\n{written.upgrades or 'pass'}".replace("\n    ", "\n")
        project.revision("shop", f"shop_{number}", f"shop_{number - 1}" if number > 1 else None, upgrade=code)


HISTORY = {
    "shop_1": """
        op.create_table(
            "authors", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(40), nullable=False)
        )
        op.create_table(
            "posts",
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("author_id", sa.Integer, sa.ForeignKey("authors.id", ondelete="CASCADE"), nullable=False),
            sa.Column("title", sa.String(40), nullable=False, server_default="untitled"),
            sa.Column("words", sa.Integer),
            sa.CheckConstraint("words > 0", name="ck_words"),
            sa.UniqueConstraint("author_id", "title", name="uq_title"),
        )
        op.create_index("ix_words", "posts", ["words"])
    """,
    "shop_2": 'op.create_table("comments", sa.Column("id", sa.Integer, primary_key=True))',
}


def write_shop(project: Project) -> None:
    project.package("shop")
    for number in (1, 2):
        before = f"shop_{number - 1}" if number > 1 else None
        project.revision("shop", f"shop_{number}", before, upgrade=HISTORY[f"shop_{number}"])


def tables(**changes: Any) -> sa.MetaData:
    """The tables of the history, with other columns, constraints, and indexes in the table of posts."""
    metadata = sa.MetaData()
    sa.Table(
        "authors",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(40), nullable=False),
    )
    items = {
        "id": sa.Column("id", sa.Integer, primary_key=True),
        "author_id": sa.Column("author_id", sa.ForeignKey("authors.id", ondelete="CASCADE"), nullable=False),
        "title": sa.Column("title", sa.String(40), nullable=False, server_default="untitled"),
        "words": sa.Column("words", sa.Integer),
        "check": sa.CheckConstraint("words > 0", name="ck_words"),
        "unique": sa.UniqueConstraint("author_id", "title", name="uq_title"),
        "index": sa.Index("ix_words", "words"),
    } | changes
    if items.pop("comments", True):
        sa.Table("comments", metadata, sa.Column("id", sa.Integer, primary_key=True))
    sa.Table("posts", metadata, *[each for each in items.values() if each is not None])
    return metadata


def create(database: Database, metadata: sa.MetaData) -> None:
    with connected(database) as connection:
        metadata.create_all(connection)
        connection.commit()


def everything(database: Database) -> tuple[object, ...]:
    return database.schema(), database.data()


# What differs, and the beginnings of what the error says, without regard to upper and lower case.
DIFFERENCES: dict[str, tuple[Callable[[], dict[str, Any]], dict[str, list[str]]]] = {
    "an index is missing": (lambda: {"index": None}, {"missing": ["index posts.ix_words: "]}),
    "an index is on another column": (
        lambda: {"index": sa.Index("ix_words", "title")},
        {"different": ["index posts.ix_words: "]},
    ),
    "an index is superfluous": (
        lambda: {"other": sa.Index("ix_title", "title")},
        {"superfluous": ["index posts.ix_title"]},
    ),
    "a column is wider": (
        lambda: {"title": sa.Column("title", sa.String(80), nullable=False, server_default="untitled")},
        {"different": ["column posts.title: type "]},
    ),
    "a column may be NULL": (
        lambda: {"title": sa.Column("title", sa.String(40), server_default="untitled")},
        {"different": ["column posts.title: NULL instead of NOT NULL"]},
    ),
    "a column has another default": (
        lambda: {"title": sa.Column("title", sa.String(40), nullable=False, server_default="none")},
        {"different": ["column posts.title: default 'none'"]},
    ),
    "a column has no default": (
        lambda: {"title": sa.Column("title", sa.String(40), nullable=False)},
        {"different": ["column posts.title: default none instead of 'untitled'"]},
    ),
    "a column is missing": (
        lambda: {"words": sa.Column("many", sa.Integer), "check": None, "index": None},
        {
            "missing": ["check constraint posts.ck_words: ", "column posts.words: ", "index posts.ix_words: "],
            "superfluous": ["column posts.many"],
        },
    ),
    "a check constraint is missing": (lambda: {"check": None}, {"missing": ["check constraint posts.ck_words: "]}),
    "a check constraint is another one": (
        lambda: {"check": sa.CheckConstraint("words > 1", name="ck_words")},
        {"different": ["check constraint posts.ck_words: "]},
    ),
    "a foreign key is missing": (
        lambda: {"author_id": sa.Column("author_id", sa.Integer, nullable=False)},
        {"missing": ["foreign key "]},
    ),
    "a foreign key has another rule": (
        lambda: {"author_id": sa.Column("author_id", sa.ForeignKey("authors.id"), nullable=False)},
        {"different": ["foreign key posts"]},
    ),
    "a table is missing": (lambda: {"comments": False}, {"missing": ["table comments"]}),
}


@pytest.mark.drivers(*ONE_EACH, "postgresql+asyncpg", "mariadb+asyncmy", "sqlite+aiosqlite")
def test_each_difference_is_named_and_nothing_is_changed(database: Database, project: Project) -> None:
    write_shop(project)
    with app(project, database) as each:
        for name, (changes, expected) in DIFFERENCES.items():
            metadata = tables(**changes())
            create(database, metadata)
            before = everything(database)

            with pytest.raises(VerificationError) as caught:
                each.call("stamp", "shop", verify=True)

            found = vars(caught.value) | {"name": name}
            wanted = {"missing": [], "superfluous": [], "different": [], **expected}
            if name == "a foreign key has another rule" and not found["different"]:  # constraints without a name
                wanted = {"missing": ["foreign key"], "superfluous": ["foreign key"], "different": []}
            for kind, texts in wanted.items():
                actual = sorted(found[kind])
                assert len(actual) == len(texts), found
                assert all(a.lower().startswith(t.lower()) or t in a for a, t in zip(actual, texts, strict=True)), found
                assert all(f"{kind.capitalize()}: {text}." in str(caught.value) for text in actual)
            assert everything(database) == before
            with connected(database) as connection:
                clear(connection)


OTHERWISE = {"default: text with quotes around it", "ENUM with a charset", "primary key with a Sequence"}
"""The kinds of which autogenerate writes something else than ``create_all()`` makes."""

NO_MATTER = {"Index with another name", "table, added"}
"""The changes that are seen by ``db-check``, apart from comments, and do not keep a database from being stamped."""


@pytest.mark.timeout(240)
@pytest.mark.drivers(*ONE_EACH)
def test_all_kinds_of_tables_are_as_create_all_makes_them_and_their_changes_are_named(
    database: Database, project: Project
) -> None:
    zoo = [kind for kind in kinds.kinds(database.backend) if kind.name not in OTHERWISE]
    models = project.package("zoo") / "models.py"
    project.write("app.py", ZOO.format(url=database.url.render_as_string(hide_password=False)))
    models.write_text(kinds.module([kind.before for kind in zoo]), "utf-8")
    project.run("ampho", "db-init", "zoo")
    project.run("ampho", "db-rev", "zoo", "Begin", "-a", "--scratch", timeout=120)
    project.run("python", "-c", CREATE_ALL)
    project.run("ampho", "db-stamp", "zoo", "--verify", timeout=120)

    with connected(database) as connection:
        clear(connection)
    models.write_text(kinds.module([kind.after for kind in zoo]), "utf-8")
    project.run("python", "-c", CREATE_ALL)
    found = project.run("ampho", "db-stamp", "zoo", "--verify", "--json", timeout=120, check=False)

    error = json.loads(found.stdout)["error"]
    assert (found.exit_code, error["type"]) == (1, "VerificationError")
    texts = " ".join([*error["missing"], *error["superfluous"], *error["different"]])
    seen = {kind.name for kind in zoo if kind.seen and "comment" not in kind.name} - NO_MATTER
    assert {kind.name for kind in zoo if kind.name in seen and not re.search(rf"{kind.id}(?!\d)", texts)} == set()


ZOO = """
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from ampho import Ampho
from zoo.models import metadata

app = Flask("app")
app.config["SQLALCHEMY_DATABASE_URI"] = {url!r}
app.config["AMPHO_MIGRATION_PACKAGES"] = ["zoo"]
db = SQLAlchemy(app, metadata=metadata)
Ampho(app, db)
"""
CREATE_ALL = "from app import app, db\nwith app.app_context(): db.create_all()"


@pytest.fixture(params=FRAMEWORKS)
def shop(request: pytest.FixtureRequest, project: Project) -> Iterator[Facade]:
    """An app on an SQLite database whose tables ``create_all()`` made."""
    write_shop(project)
    project.package("core")
    project.revision("core", "core_1", upgrade='op.create_table("users", sa.Column("id", sa.Integer))')
    with facade(project, request.param, ["core", "shop"], URLS[request.param]) as each:
        change(project, tables())
        yield each


def change(project: Project, made: sa.MetaData | None = None, *statements: str) -> None:
    """Create tables in the database of an app, and run statements."""
    (project.folder / "instance").mkdir(exist_ok=True)
    engine = sa.create_engine(f"sqlite:///{project.folder}/instance/app.db")
    with engine.begin() as connection:
        if made is not None:
            made.create_all(connection)
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def test_the_command_says_whether_anything_was_compared(shop: Facade, project: Project) -> None:
    done = shop.run("db-stamp", "shop")
    assert done.stdout.splitlines() == ["Before: nothing", "Now:    shop_2", NOT_COMPARED]
    assert shop.run("db-stamp", "shop", "--json").stdout.count('"verified": false') == 1

    verified = shop.run("db-stamp", "shop", "--verify")
    assert verified.stdout.splitlines() == [AS_MADE, "Nothing to do: the version table already records this."]
    assert json.loads(shop.run("db-stamp", "shop", "--verify", "--json").stdout)["stamped"]["verified"] is True

    change(project, None, "DROP INDEX ix_words", "DROP TABLE comments", "ALTER TABLE posts ADD COLUMN extra TEXT")
    wrong = shop.run("db-stamp", "shop", "--verify")
    assert (wrong.exit_code, wrong.stdout) == (1, "")
    assert wrong.stderr.splitlines() == [
        "Error: The database differs from what the revisions up to 'shop' make, so nothing was stamped.",
        "Missing: table comments.",
        "Missing: index posts.ix_words: (words).",
        "Superfluous: column posts.extra.",
        (
            "Change the database, or stamp the revision that made what it contains. If the difference does not matter,"
            " leave out --verify."
        ),
    ]


NOT_COMPARED = "Nothing was compared with the database. To do that first, add --verify."
AS_MADE = "The database is as these revisions make it."


def test_what_a_later_revision_creates_is_superfluous(shop: Facade, project: Project) -> None:
    error = failure(shop, "shop_1")
    assert error.superfluous == ("table comments, which shop has at another point of its history",)
    change(project, None, "DROP TABLE comments")
    assert shop.call("stamp", "shop_1", verify=True).after == ("shop_1",)
    assert failure(shop, "heads").missing == ("table comments", "table users")
    assert [text.partition(",")[0] for text in failure(shop, "base").superfluous] == ["table authors", "table posts"]


def failure(shop: Facade, specifier: str, **options: Any) -> VerificationError:
    with pytest.raises(VerificationError) as caught:
        shop.call("stamp", specifier, verify=True, **options)
    return caught.value


def test_of_an_empty_database_nothing_is_true_but_base(project: Project, shop: Facade) -> None:
    change(project, None, *(f"DROP TABLE {name}" for name in ("comments", "posts", "authors")))
    error = failure(shop, "shop")
    assert error.missing == ("table authors", "table comments", "table posts")
    assert str(error).endswith("\nNone of the tables exists. To create them, run 'ampho db-up'.")
    assert shop.call("stamp", "base", verify=True).verified


def test_tables_that_no_revision_of_the_package_makes_are_no_reason_to_fail(shop: Facade, project: Project) -> None:
    change(project, None, "CREATE TABLE users (id TEXT)", "CREATE TABLE django_migrations (id INTEGER)")
    done = shop.run("db-stamp", "shop", "--verify")
    note = "Note: No revision creates these tables, so they were not compared: django_migrations."
    assert done.stdout.splitlines() == [AS_MADE, note, "Before: nothing", "Now:    shop_2"]


def test_only_what_the_stamped_revisions_change_is_compared(shop: Facade, project: Project) -> None:
    change(project, None, "CREATE TABLE users (id INTEGER, name TEXT)")
    shop.call("stamp", "core")
    project.revision(
        "shop", "shop_3", "shop_2", "core_1", upgrade='op.add_column("users", sa.Column("shop", sa.Integer))'
    )
    assert failure(shop, "shop").missing == ("column users.shop: type INTEGER, NULL",)
    change(project, None, "ALTER TABLE users ADD COLUMN shop INTEGER")
    assert shop.call("stamp", "shop", verify=True).after == ("shop_3",)
    assert failure(shop, "heads").superfluous == ("column users.name",)


def test_what_the_stamped_revisions_drop_is_superfluous(shop: Facade, project: Project) -> None:
    shop.call("stamp", "shop")
    change(project, None, "CREATE TABLE users (id INTEGER)")
    shop.call("stamp", "core", verify=True)
    drop = 'op.drop_table("users")\nop.drop_index("ix_words", "posts")'
    project.revision("core", "core_2", "core_1", "shop_2", upgrade=drop)
    assert failure(shop, "core_2").superfluous == (
        "index posts.ix_words",
        "table users, which core has at another point of its history",
    )
    change(project, None, "DROP TABLE users", "DROP INDEX ix_words")
    assert shop.call("stamp", "core_2", verify=True).after == ("core_2",)


def test_a_constraint_with_another_name_is_noted(project: Project, shop: Facade) -> None:
    change(project, None, "DROP INDEX ix_words", "CREATE INDEX other ON posts (words)")
    assert shop.call("stamp", "shop", verify=True).notes == (
        (
            "These have another name in the database, so later revisions cannot find them: index posts.other instead of"
            " ix_words."
        ),
    )


def test_a_protected_database_is_confirmed_before_it_is_compared(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shop(project)
    with facade(project, "flask", ["shop"], URLS["flask"], AMPHO_PROTECTED=True) as each:
        change(project, tables())
        each.call("stamp", "shop", verify=True)
        for words, exit_code, differences in (("shop_1 --verify", 1, 1), ("shop --verify --purge", 0, 0)):
            error = json.loads(each.run("db-stamp", *words.split(), "--json").stdout)["error"]
            assert error["type"] == "ProtectedError"
            monkeypatch.setenv("AMPHO_CONFIRM", f"app.db:{error['fingerprint']}")
            done = each.run("db-stamp", *words.split(), "--confirm", "app.db")
            assert (done.exit_code, done.stderr.count("Superfluous:")) == (exit_code, differences)


def test_a_database_of_several_and_another_version_table(project: Project) -> None:
    write_shop(project)
    project.package("core")
    project.revision("core", "core_1", upgrade='op.create_table("users", sa.Column("id", sa.Integer))')
    config = {"SQLALCHEMY_BINDS": {"people": "sqlite:///people.db"}, "AMPHO_DATABASES": {"people": ["core"]}}
    with facade(project, "flask", ["core", "shop"], URLS["flask"], **config) as each:
        change(project, tables())
        done = each.run("db-stamp", "heads", "--verify", "-d", "default")
        assert done.stdout.splitlines()[0] == AS_MADE
        wrong = each.run("db-stamp", "core", "--verify", "--database", "people")
        assert wrong.stderr.splitlines() == [
            ("Error: people: The database differs from what the revisions up to 'core' make, so nothing was stamped."),
            "Missing: table users.",
            "None of the tables exists. To create them, run 'ampho db-up --database people'.",
        ]


def test_the_version_table_and_the_journal_are_not_compared(project: Project) -> None:
    project.package("shop")
    project.revision("shop", "shop_1", upgrade='op.create_table("posts", sa.Column("id", sa.Integer))')
    options = "**environment.options(),"
    env = (TEMPLATES / "sync" / "env.py").read_text("utf-8").replace(options, f'{options} version_table="versions"')
    project.write("shop/migrations/env.py", env)
    with facade(project, "flask", ["shop"], URLS["flask"], AMPHO_JOURNAL_TABLE="written") as each:
        each.call("upgrade")
        assert each.call("stamp", "shop", verify=True).notes == ()
        each.call("stamp", "base")
        assert failure(each, "base").superfluous[0].startswith("table posts, ")


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg")
def test_a_schema_of_a_group(database: Database, project: Project) -> None:
    write_shop(project)
    database.run("CREATE SCHEMA acme", "CREATE SCHEMA other")
    with app(project, database, []) as each:
        name_schemas(each)
        with database.connect() as connection:
            connection.execute(sa.text("SET search_path TO acme"))
            tables().create_all(connection)
        assert each.call("stamp", "shop", verify=True, database="tenants/acme").notes == ()
        database.run("DROP INDEX acme.ix_words")
        assert failure(each, "shop", database="tenants/acme").missing == ("index posts.ix_words: btree (words)",)
        assert len(failure(each, "shop", database="tenants/other").missing) == 3


def name_schemas(each: Facade) -> None:
    @each.ampho.databases("tenants", packages=["shop"])
    def tenants() -> list[DatabaseOfGroup]:
        return [DatabaseOfGroup(name, schema=name) for name in ("acme", "other")]


def test_a_schema_that_a_revision_names_is_refused(project: Project) -> None:
    project.package("shop")
    project.revision("shop", "shop_1", upgrade='op.create_table("t", sa.Column("id", sa.Integer), schema="audit")')
    with facade(project, "flask", ["shop"], URLS["flask"]) as each:
        assert "names a schema" in each.error_line("db-stamp", "shop", "--verify")


@pytest.mark.drivers("postgresql+psycopg")
def test_objects_of_postgresql(database: Database, project: Project) -> None:
    project.package("shop")
    objects = (
        "CREATE TYPE state AS ENUM ('new', 'old')",
        "CREATE DOMAIN price AS numeric(8, 2) CHECK (VALUE > 0)",
        "CREATE SEQUENCE numbers INCREMENT 2",
        (
            "CREATE TABLE posts (id serial PRIMARY KEY, state state DEFAULT 'new', price price, during int4range,"
            " EXCLUDE USING gist (during WITH &&))"
        ),
        "CREATE VIEW latest AS SELECT id FROM posts WHERE state = 'new'",
        "CREATE MATERIALIZED VIEW old AS SELECT id FROM posts WHERE state = 'old'",
        "CREATE SCHEMA audit CREATE TABLE entries (id int)",
    )
    project.revision("shop", "shop_1", upgrade="\n".join(f"op.execute({each!r})" for each in objects))
    database.run(*objects)
    with app(project, database) as each:
        assert each.call("stamp", "shop", verify=True).notes == ()
        database.run(
            "DROP MATERIALIZED VIEW old",
            "CREATE OR REPLACE VIEW latest AS SELECT id FROM posts",
            "ALTER TYPE state ADD VALUE 'gone'",
            "ALTER SEQUENCE numbers INCREMENT 3",
            "ALTER DOMAIN price SET NOT NULL",
            "ALTER TABLE posts DROP CONSTRAINT posts_during_excl",
            "ALTER TABLE audit.entries ALTER id TYPE bigint",
        )
        error = failure(each, "shop")
    assert [text.partition(":")[0] for text in error.missing] == [
        "materialized view old",
        "exclusion constraint posts.posts_during_excl",
    ]
    assert [text.partition(":")[0] for text in error.different] == [
        *("view latest", "sequence numbers", "domain price", "enum state", "column audit.entries.id"),
    ]


@pytest.mark.drivers("postgresql+psycopg")
def test_a_restored_dump_does_not_differ(database: Database, project: Project) -> None:
    """PostgreSQL moves casts in an expression each time it reads what it has printed."""
    project.package("shop")
    check = "state IN ('new', 'old')"
    columns = 'sa.Column("state", sa.String(9), server_default="new"), sa.Column("number", sa.Integer)'
    project.revision("shop", "shop_1", upgrade=f'op.create_table("t", {columns}, sa.CheckConstraint("{check}", "c"))')
    project.revision("shop", "shop_2", "shop_1", upgrade='op.alter_column("t", "number", type_=sa.BigInteger)')
    database.run(
        "CREATE TABLE t (state varchar(9) DEFAULT 'new', number bigint, CONSTRAINT c CHECK (state IN ('new', 'old')))"
    )
    (printed,) = database.query("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'c'")
    database.run("ALTER TABLE t DROP CONSTRAINT c", f"ALTER TABLE t ADD CONSTRAINT c {printed[0]}")
    with app(project, database) as each:
        assert each.call("stamp", "shop", verify=True).notes == ()
        database.run("ALTER TABLE t ALTER number SET DEFAULT 5")
        assert failure(each, "shop").different == ("column t.number: default 5 instead of none",)


@pytest.mark.drivers("mariadb+pymysql")
def test_a_database_of_another_collation_and_objects_of_mariadb(database: Database, project: Project) -> None:
    project.package("shop")
    objects = (
        "CREATE TABLE posts (id INTEGER PRIMARY KEY, title VARCHAR(9), FULLTEXT INDEX ix (title))",
        "CREATE SEQUENCE numbers INCREMENT BY 2",
        "CREATE VIEW latest AS SELECT id FROM posts",
    )
    project.revision("shop", "shop_1", upgrade="\n".join(f"op.execute({each!r})" for each in objects))
    database.run(f"ALTER DATABASE {database.name} CHARACTER SET latin1", *objects)
    with app(project, database) as each:
        assert each.call("stamp", "shop", verify=True).notes == ()
        database.run(
            "ALTER TABLE posts DROP INDEX ix, MODIFY title VARCHAR(9) CHARACTER SET ascii, ENGINE=Aria",
            "CREATE OR REPLACE VIEW latest AS SELECT title FROM posts",
            "DROP SEQUENCE numbers",
        )
        error = failure(each, "shop")
    assert error.missing == ("sequence numbers", "index posts.ix: FULLTEXT(title)")
    assert [text.partition(":")[0] for text in error.different] == ["table posts", "view latest", "column posts.title"]
