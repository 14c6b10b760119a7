"""``db-adopt --into`` several packages: one history becomes one for each of them, as databases prove."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from facade import URLS, facade
from jsonschema import Draft202012Validator
from packaging.version import Version
from project import Project
from servers import JOURNAL, Database
from store import BOOKS, CUSTOMERS, MODELS, MUTUAL, TABLES, Store, open_store, opened_app, random_models

from ampho.cli.json import SCHEMA
from ampho.database.catalog import read_catalog
from ampho.errors import RevisionInputError
from ampho.revise.squash.files import Files

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

ONE_EACH = ["sqlite+pysqlite", "postgresql+psycopg", "mariadb+pymysql"]
PROJECTS = int(os.environ.get("AMPHO_PROPERTY_MODELS", "1"))
INTO = ("--into", "accounts,catalog,orders")


@pytest.fixture(autouse=True)
def _in_the_project(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.folder)


def catalog(database: Database) -> Any:
    with database.connect() as connection:
        return read_catalog(connection, [JOURNAL, "alembic_version"])


def whole(
    project: Project, database: Database, models: Mapping[str, str] = MODELS, *, packages: Sequence[str] = ()
) -> Store:
    """A package with all models and one revision, whose models have moved to other packages since."""
    every = open_store(project, database, {"whole": "".join(models.values())})
    every.auto("whole")
    every.run("db-up")
    project.write("whole/models.py", "")
    return open_store(project, database, models, packages=packages or ["whole", *models])


def foreign(store: Store) -> None:
    """Make the history of the package ``whole`` that of a plain folder, as another tool has it."""
    (store.project.migrations("whole") / "versions").rename(store.project.folder / "history")


def new_files(store: Store) -> dict[str, str]:
    return {
        name: "".join(path.read_text() for path in store.files(name)) for name in store.packages if store.files(name)
    }


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg")
def test_each_package_gets_a_revision_and_the_first_one_the_old_files(project: Project, database: Database) -> None:
    source = "package" if database.backend == "postgresql" else "folder"
    store = whole(project, database)
    old = store.files("whole")
    if source == "folder":
        foreign(store)
    place = {"folder": "history", "package": "whole/migrations"}[source]
    expected = catalog(database)
    before = project.files()
    plan = store.run("db-adopt", place, *INTO, "--plan").stdout
    assert project.files() == before
    assert plan.startswith(f"Would move 1 revision from {place} to accounts/migrations/replaced: ")
    assert re.search(
        r"Would write orders/migrations/versions/orders_\d+_split_1_revision.py: the tables order_lines,", plan
    )

    done = store.run("db-adopt", place, *INTO).stdout

    assert re.search(r"the tables order_lines, orders; it depends on accounts_\d+, catalog_\d+$", done, re.MULTILINE)
    assert [path.name for path in (project.migrations("accounts") / "replaced").glob("*.py")] == [old[0].name]
    made = {name: {store.read(name, path).replaces for path in store.files(name)} for name in TABLES}
    assert len({*map(frozenset, made.values())}) == 1
    assert {name: store.tables_in(store.read(name, store.files(name)[0])) for name in TABLES} == TABLES
    assert "Nothing to do" in store.run("db-adopt", place, *INTO).stdout
    assert store.run("db-up").stdout.count("recorded") == 3
    assert catalog(database) == expected
    assert store.run("db-check").stdout.count("matches its models") == len(store.packages)
    store.run("db-down", "base", "-y")
    assert database.tables() == ["alembic_version"]
    store.run("db-up")
    assert catalog(database) == expected


KINDS = """
class {0}(db.Model):
    __tablename__ = "{1}"
    id = sa.Column(sa.Integer, primary_key=True)
    state = sa.Column(sa.Enum("draft", "live", name="state"), server_default="draft", nullable=False)
    made = sa.Column(sa.DateTime, server_default=sa.func.now(), comment="when")
    __table_args__ = (sa.CheckConstraint("state <> 'live'", name="ck_{1}"), {{"comment": "some {1}"}})
"""
OF_POSTGRES = [
    "CREATE SEQUENCE numbers START 7",
    "ALTER TABLE posts ADD number integer DEFAULT nextval('numbers')",
    "ALTER TABLE users ADD number integer DEFAULT nextval('numbers')",
    "CREATE DOMAIN word AS text CHECK (VALUE <> '')",
    "ALTER TABLE posts ADD word word",
    "ALTER TABLE users ADD word word",
    "CREATE TYPE unused AS ENUM ('x')",
]


@pytest.mark.drivers("postgresql+psycopg", "mariadb+pymysql")
def test_what_several_packages_use_belongs_to_one_of_them(project: Project, database: Database) -> None:
    if database.backend == "postgresql" and Version(sqlalchemy.__version__) < Version("2.0.56"):
        pytest.skip("this SQLAlchemy copies a table without the checks of its domains, so the proof refuses the split")
    models = {"blog": KINDS.format("Post", "posts"), "accounts": KINDS.format("User", "users")}
    store = whole(project, database, models)
    statements = ["CREATE VIEW names AS SELECT id FROM users", "INSERT INTO posts (id) VALUES (1)"]
    if database.backend == "postgresql":
        statements += OF_POSTGRES
    path = store.files("whole")[0]
    more = "".join(f"    op.execute({each!r})\n" for each in statements)
    # A second old revision, which makes the rest; its statements are listed, and only those on data are lost.
    path.with_name("second.py").write_text(
        "from alembic import op\n\nrevision = 'second'\n"
        f"down_revision = {store.read('whole', path).id!r}\n\n\ndef upgrade():\n{more}\n\ndef downgrade():\n    pass\n"
    )
    store.run("db-up")
    expected = catalog(database)
    if database.backend == "postgresql":
        assert "uncomment" not in store.run("db-adopt", "whole/migrations", "--into", "blog,accounts", "--plan").stderr

    done = store.run("db-adopt", "whole/migrations", "--into", "blog,accounts", "--yes")

    assert "The new revision does not create what the old ones created with SQL: view names" in done.stderr
    written = new_files(store)
    assert "#     op.execute('CREATE VIEW names AS SELECT id FROM users')" in written["accounts"]
    assert "#     op.execute('INSERT INTO posts (id) VALUES (1)')" in written["blog"]
    store.run("db-up")
    database.run("DROP VIEW names")
    store.run("db-down", "base", "-y")
    assert {kind for kind, _ in catalog(database)} == set()
    store.run("db-up")
    assert {key: sql for key, sql in expected.items() if key[0] != "view"} == catalog(database)


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg")
def test_packages_that_reference_each_other_get_a_second_revision(project: Project, database: Database) -> None:
    models = {"one": MUTUAL.format("One", "ones", "twos"), "two": MUTUAL.format("Two", "twos", "ones")}
    store = whole(project, database, models)
    expected = catalog(database)

    store.run("db-adopt", "whole/migrations", "--into", "one,two")

    assert sorted(len(store.files(name)) for name in models) == [1, 2]
    assert "recorded" in store.run("db-up").stdout
    assert "Nothing to do" in store.run("db-adopt", "whole/migrations", "--into", "one,two").stdout
    store.run("db-down", "base", "-y")
    store.run("db-up")
    assert catalog(database) == expected


@pytest.mark.drivers(*(ONE_EACH if PROJECTS > 1 else ["mariadb+pymysql"]))
@pytest.mark.parametrize("seed", range(PROJECTS))
def test_random_models_are_split(seed: int, project: Project, database: Database) -> None:
    models = random_models(seed)
    store = whole(project, database, models)
    store.run("db-adopt", "whole/migrations", "--into", ",".join(models))
    expected = catalog(database)
    assert "recorded" in store.run("db-up").stdout
    store.run("db-down", "base", "-y")
    assert database.tables() == ["alembic_version"]
    store.run("db-up")
    assert catalog(database) == expected


BASE = """
class Base(db.Model):
    __tablename__ = "bases"
    id = sa.Column(sa.Integer, primary_key=True)
"""
LATE = """
class Late(db.Model):
    __tablename__ = "late"
    id = sa.Column(sa.ForeignKey("customers.id"), primary_key=True)
"""
MORE = """
class More(db.Model):
    __tablename__ = "more"
    id = sa.Column(sa.Integer, primary_key=True)
"""
OWNED = CUSTOMERS + "    base_id = sa.Column(sa.Integer)\n"


@pytest.mark.drivers("sqlite+pysqlite")
def test_what_depends_on_others_or_is_needed_by_them_is_split(
    project: Project, database: Database, make_database: Any
) -> None:
    store = open_store(project, database, {"ground": BASE, "whole": CUSTOMERS + BOOKS, "late": ""})
    base, first = store.auto("ground").id, store.auto("whole").id
    more = "op.add_column('customers', sa.Column('base_id', sa.Integer()))"
    less = "with op.batch_alter_table('customers') as batch: batch.drop_column('base_id')"
    project.revision("whole", "whole_2", first, base, upgrade=more, downgrade=less)
    # One needs a part of the old history, and the other all of it.
    names = "op.create_table('late', sa.Column('id', sa.Integer(), sa.ForeignKey('customers.id'), primary_key=True))"
    late = project.revision("late", "late_1", depends_on=first, upgrade=names, downgrade="op.drop_table('late')")
    later = project.revision("late", "late_2", "late_1", ["whole_2", base])
    store.run("db-up")
    expected, middle = catalog(database), make_database(database.driver)
    replace(store, url=middle.url).write_app()
    store.run("db-up", "late_1")
    project.write("whole/models.py", "")
    models = {"ground": BASE, "accounts": OWNED, "catalog": BOOKS, "late": LATE, "whole": ""}
    store = open_store(project, database, models)

    done = store.run("db-adopt", "whole/migrations", "--into", "accounts,catalog")

    accounts, books = (store.read(name, store.files(name)[0]) for name in ("accounts", "catalog"))
    assert accounts.depends_on == books.depends_on == (base,)
    assert store.read("late", late).depends_on == (first,)
    assert "late_1 depends on a part of the old revisions, and still names it" in done.stderr
    assert store.read("late", later).depends_on == (accounts.id, books.id, base)
    assert f"Changed {later.relative_to(project.folder)}: it names the new revisions" in done.stdout
    assert "whole has no revisions any more. Remove it from AMPHO_MIGRATION_PACKAGES" in done.stdout
    assert "Nothing to do" in store.run("db-up").stdout, "late_2 needs all of them"
    assert "edited" not in store.run("db-current", "-v").stdout
    store.run("db-down", "base", "-y")
    store.run("db-up")
    assert catalog(database) == expected
    replace(store, url=middle.url).write_app()
    steps = [line.split()[1] for line in store.run("db-up").stdout.splitlines() if line.startswith("  + ")]
    assert {*steps} == {base, "whole_2", accounts.id, books.id, "late_2"} - ({base} if base not in steps else set())
    assert catalog(middle) == expected


@pytest.mark.drivers("sqlite+pysqlite")
def test_a_package_that_is_split_may_keep_a_part_and_what_it_replaced_earlier(
    project: Project, database: Database
) -> None:
    store = open_store(project, database, {"whole": CUSTOMERS + BOOKS})
    first = store.auto("whole").id
    project.revision("whole", "whole_2", first)
    store.run("db-up", first)
    store.run("db-squash", "whole")
    store = open_store(project, database, {"catalog": BOOKS, "whole": CUSTOMERS})

    store.run("db-adopt", "whole/migrations", "--into", "catalog,whole")

    assert "Nothing to do" in store.run("db-adopt", "whole/migrations", "--into", "catalog,whole").stdout
    assert [path.name[:7] for path in (project.migrations("whole") / "replaced").glob("whole_2*")] == ["whole_2"]
    ran = [line.split()[1] for line in store.run("db-up").stdout.splitlines() if line.startswith("  + ")]
    assert ran[0] == "whole_2", "the rest of the oldest ones"
    assert len(ran) == 4, "the squash and both parts of the split are recorded"
    assert "Nothing to do" in store.run("db-up").stdout

    # The packages that were split are split again, with a history that has been replaced twice.
    project.revision("catalog", "catalog_2", store.read("catalog", store.files("catalog")[0]).id)
    store.run("db-up")
    store = open_store(project, database, {"books": BOOKS, "more": MORE, "catalog": "", "whole": CUSTOMERS})
    more = "op.create_table('more', sa.Column('id', sa.Integer(), primary_key=True))"
    project.revision("catalog", "catalog_3", "catalog_2", upgrade=more, downgrade="op.drop_table('more')")
    store.run("db-adopt", "catalog/migrations", "--into", "books,more")
    assert not [*(project.migrations("catalog")).rglob("*.py")], "those that were replaced earlier have moved, too"
    assert "catalog_3" in store.run("db-up").stdout
    assert store.run("db-check").stdout.count("matches its models") == 4
    store.run("db-down", "base", "-y")
    store.run("db-up")


# What is refused


@pytest.mark.drivers("sqlite+pysqlite")
def test_tables_without_an_owner_are_named(project: Project, database: Database) -> None:
    store = whole(project, database)
    more = "op.create_table('odd', sa.Column('id', sa.Integer(), primary_key=True))"
    project.revision(
        "whole",
        "whole_2",
        store.read("whole", store.files("whole")[0]).id,
        upgrade=more,
        downgrade="op.drop_table('odd')",
    )
    command = ("db-adopt", "whole/migrations")

    assert store.refused(*command, *INTO) == (
        "The old revisions create odd, but no model of the packages has this table. Name a package, as in"
        ' app.config["AMPHO_OWNERS"] = {"odd": "accounts"}, or import the module of the model. If it is no longer used,'
        " drop it first, with one more of the old revisions. Nothing was written."
    )
    owned = open_store(
        project, database, MODELS | {"empty": ""}, packages=(*store.packages, "empty"), AMPHO_OWNERS={"odd": "catalog"}
    )
    assert (
        "The tables order_lines, orders belong to orders, which is not in --into. Add it, as in --into accounts,"
        in (owned.refused(*command, "--into", "accounts,catalog"))
    )
    assert "empty owns no table that the old revisions create. Leave it out of --into" in (
        owned.refused(*command, "--into", "accounts,catalog,orders,empty")
    )
    assert "books, odd" in owned.run(*command, *INTO).stdout


@pytest.mark.drivers("sqlite+pysqlite")
def test_what_cannot_be_split_is_refused(project: Project, database: Database) -> None:
    store = whole(project, database)
    first = store.read("whole", store.files("whole")[0]).id
    assert "There is no package unknown" in store.refused("db-adopt", "whole/migrations", "--into", "accounts,unknown")
    project.package("late")
    store = open_store(project, database, MODELS | {"late": ""}, packages=(*store.packages, "late"))
    project.revision("late", "late_1", depends_on=first)
    last = project.revision("whole", "whole_2", first, "late_1")
    assert store.refused("db-adopt", "whole/migrations", *INTO) == (
        f"whole_2 depends on late_1 of late, which depends on {first}, so none of the two histories could come first."
        " Remove one of these dependencies if it is not needed, or keep the history whole."
    )
    last.unlink()
    env = project.write("whole/migrations/env.py", "from alembic import context\n")
    assert "'ampho db-adopt whole/migrations --into whole', and then split it." in (
        store.refused("db-adopt", "whole/migrations", *INTO)
    )
    env.unlink()
    assert "late already has revisions, so it would have two histories. Leave it out of --into" in (
        store.refused("db-adopt", "whole/migrations", "--into", "accounts,late")
    )
    other = open_store(
        project,
        database,
        MODELS | {"late": ""},
        packages=store.packages,
        SQLALCHEMY_BINDS={"other": "sqlite:///other.db"},
        AMPHO_DATABASES={"other": ["catalog"]},
    )
    assert "catalog lives in other, but accounts lives in default. A history can only be split over packages" in (
        other.refused("db-adopt", "whole/migrations", *INTO)
    )


@pytest.mark.drivers("sqlite+pysqlite")
def test_statements_are_accepted_before_the_history_is_split(project: Project, database: Database) -> None:
    store = whole(project, database)
    first = store.read("whole", store.files("whole")[0]).id
    data = [
        "statement = \"UPDATE customers SET email = 'x'\"",
        "op.execute(statement)",
        "op.execute('DELETE FROM books')",
        "op.rename_table('books', 'tomes')",
        "op.execute('SELECT 1')",
    ]
    project.revision("whole", "whole_2", first, upgrade="\n".join(data), downgrade="op.rename_table('tomes', 'books')")
    renamed = {name: source.replace("books", "tomes") for name, source in MODELS.items()}
    store = open_store(project, database, renamed, packages=store.packages)
    command = ("db-adopt", "whole/migrations", *INTO)

    with (
        opened_app(store) as app,
        pytest.raises(RevisionInputError, match=r"contain 3 statements .* and accept that with --yes"),
        app.app_context(),
    ):
        app.extensions["ampho"].adopt("whole/migrations", ["accounts", "catalog", "orders"])
    asked = store.run(*command, exit_code=2)
    assert "    whole/migrations/versions/whole_2_by_hand.py:14: code: op.execute(statement)\n" in asked.stderr
    assert "Add --yes" in asked.stderr, asked.stderr
    printed = json.loads(store.run(*command, "--yes", "--json").stdout)
    Draft202012Validator(json.loads(SCHEMA.read_text("utf-8"))).validate(printed)
    result = printed["adopted"]
    parts = {part["revision"]["package"]: part for part in result["written"]}
    assert [each["code"] for each in parts["accounts"]["carried"]] == [
        "op.execute(statement)",
        "op.execute('SELECT 1')",
    ]
    assert [each["code"] for each in parts["catalog"]["carried"]] == ["op.execute('DELETE FROM books')"]
    assert parts["catalog"]["tables"] == ["tomes"]
    assert {Path(each["target"]).name for each in result["moved"]} == {
        Path(each["source"]).name for each in result["moved"]
    }
    assert all(Path(each["target"]).is_file() and not Path(each["source"]).exists() for each in result["moved"])
    text = Path(parts["accounts"]["revision"]["path"]).read_text("utf-8")
    assert "    #     statement = \"UPDATE customers SET email = 'x'\"\n    #     op.execute(statement)\n" in text


@pytest.mark.drivers("sqlite+pysqlite")
@pytest.mark.parametrize(
    ("upgrade", "downgrade", "message"),
    [
        (
            "op.execute('CREATE TABLE odd (id INTEGER NOT NULL PRIMARY KEY ON CONFLICT REPLACE)')",
            "op.drop_table('odd')",
            "The new revisions do not make the same schema as the old ones: in the database, ",
        ),
        (
            "op.execute('CREATE TABLE odd (id INTEGER PRIMARY KEY, a TEXT COLLATE mine)')",
            "op.drop_table('odd')",
            "whole_2 of whole failed",
        ),
    ],
)
def test_nothing_is_written_if_the_proof_fails(
    upgrade: str, downgrade: str, message: str, project: Project, database: Database
) -> None:
    store = whole(project, database)
    project.revision(
        "whole", "whole_2", store.read("whole", store.files("whole")[0]).id, upgrade=upgrade, downgrade=downgrade
    )
    store = open_store(project, database, MODELS, packages=store.packages, AMPHO_OWNERS={"odd": "catalog"})
    assert message in store.refused("db-adopt", "whole/migrations", *INTO, "--yes")


# Interruptions


@pytest.mark.drivers("sqlite+pysqlite")
def test_an_interruption_leaves_everything_where_it_was(
    project: Project, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = whole(project, database)
    place = "whole/migrations"
    for name in ("catalog", "orders"):
        (project.migrations(name) / "versions").rmdir()
        project.migrations(name).rmdir()
    before = project.files()
    real = Files.move

    def move(files: Files, path: Path, folder: Path) -> Path:
        real(files, path, folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(Files, "move", move)
    assert store.run("db-adopt", place, *INTO, exit_code=None).exit_code != 0
    assert project.files() == before
    assert not project.migrations("catalog").exists()
    monkeypatch.undo()
    monkeypatch.chdir(project.folder)
    store.run("db-adopt", place, *INTO)


@pytest.mark.drivers("sqlite+pysqlite")
@pytest.mark.parametrize(
    ("source", "killed"), [("folder", "before the last file was written"), ("package", "while files moved")]
)
def test_a_split_that_was_killed_is_completed_by_the_next(
    source: str, killed: str, project: Project, database: Database
) -> None:
    store = whole(project, database)
    old = store.files("whole")[0]
    if source == "folder":
        foreign(store)
        old = project.folder / "history" / old.name
    place = {"folder": "history", "package": "whole/migrations"}[source]
    store.run("db-adopt", place, *INTO)
    new = store.files("accounts")[0]
    (project.migrations("accounts") / "replaced" / old.name).rename(old)
    if killed.startswith("before"):
        new.unlink()
    if source == "package":
        assert (
            "If 'ampho db-squash' or 'ampho db-adopt' was interrupted, run it again."
            in store.run("db-up", exit_code=1).stderr
        )

    again = store.run("db-adopt", place, *INTO).stdout

    assert ("Nothing to do" in again) == killed.startswith("while")
    assert [len(store.files(name)) for name in ("accounts", "catalog", "orders")] == [1, 1, 1]
    assert not old.exists()
    assert store.run("db-up").stdout.count("recorded") == 3


def test_the_arguments_of_env_py_go_to_each_package(project: Project) -> None:
    env = "def include_object(*words):\n    return True\n\n\n"
    for name in ("accounts", "blog"):
        project.package(name)
    project.write(
        "history/env.py", f"from alembic import context\n\n\n{env}context.configure(include_object=include_object)\n"
    )
    lines = "\n".join(
        f"op.create_table({name!r}, sa.Column('id', sa.Integer(), primary_key=True))" for name in ("a", "b")
    )
    drops = "op.drop_table('b')\nop.drop_table('a')"
    path = project.revision("history", "one", labels=("blog",), upgrade=lines, downgrade=drops)
    path.parent.parent.rename(project.folder / "history2")
    (project.folder / "history2" / "versions").rename(project.folder / "history" / "versions")
    with facade(
        project, "flask", ["accounts", "blog"], URLS["flask"], AMPHO_OWNERS={"a": "accounts", "b": "blog"}
    ) as each:
        done = each.run("db-adopt", "history", "--into", "accounts,blog")
        assert done.exit_code == 0, done.output
        assert "Copied to the env.py of each package: include_object=include_object" in done.stdout
        for name in ("accounts", "blog"):
            assert "include_object=include_object," in (project.migrations(name) / "env.py").read_text("utf-8")
        assert [step.revision.package for step in each.call("upgrade").steps] == ["accounts", "blog"]
