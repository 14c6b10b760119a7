"""``db-stamp``: the version rows say what a specifier says is applied, and no revision runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from facade import FRAMEWORKS, URLS, Facade, facade
from project import Project
from revisions import graph
from servers import Database

from ampho import Stamped
from ampho.database.version_rows import Applied
from ampho.errors import DependentsError, MigrationsFolderError, SpecifierError
from ampho.migrate.stamp import known_after_stamp

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

GRAPH = """
    core: core_1
    core: core_2b < core_1
    shop: shop_1 & core_1
    shop: shop_2 < shop_1
    blog: blog_1
    blog: blog_2 < blog_1 & core_2b
    blog: blog_3 < blog_1
"""
CORE, SHOP, BLOG = {"core_1", "core_2b"}, {"shop_1", "shop_2"}, {"blog_1", "blog_2", "blog_3"}
EVERYTHING = CORE | SHOP | BLOG
PACKAGES = ("core", "shop", "blog")
NOTHING_COMPARED = "Nothing was compared with the database. To do that first, add --verify.\n"


def rows_after_stamp(history, rows, specifier):
    before = Applied.from_rows(history, rows)
    return before.graph.exact_rows(known_after_stamp(before, specifier))


@pytest.mark.parametrize(
    ("before", "specifier", "applied"),
    [
        (set(), "heads", EVERYTHING),
        (SHOP, "heads", EVERYTHING),
        (EVERYTHING, "base", set()),
        (set(), "base", set()),
        (set(), "shop", SHOP | {"core_1"}),
        (set(), "shop@head", SHOP | {"core_1"}),
        (set(), "shop@heads", SHOP | {"core_1"}),
        (set(), "blog", BLOG | CORE),
        (CORE, "blog@heads", BLOG | CORE),
        (EVERYTHING, "shop@base", CORE | BLOG),
        (EVERYTHING, "blog@base", CORE | SHOP),
        (set(), "shop_1", {"shop_1", "core_1"}),
        (EVERYTHING, "shop_1", EVERYTHING - {"shop_2"}),
        (EVERYTHING, "shop@shop_1", EVERYTHING - {"shop_2"}),
        ({"core_1"}, "core_2", CORE),
        (set(), "core@core_2", CORE),
        (SHOP | {"core_1"}, "core_1", SHOP | {"core_1"}),
        (BLOG | CORE, "blog_1", {"blog_1"} | CORE),
        ({"blog_1", "blog_3"}, "blog_2", BLOG | CORE),
        ({"shop_1", "core_1"}, "blog_3", {"shop_1", "core_1", "blog_1", "blog_3"}),
    ],
)
def test_the_rows_are_exactly_those_of_what_is_applied(before: set[str], specifier: str, applied: set[str]) -> None:
    history = graph(GRAPH)
    rows = history.exact_rows(history.ancestors(before))

    after = rows_after_stamp(history, rows, specifier)

    assert after == history.exact_rows(applied)
    assert Applied.from_rows(history, after).known == applied


@pytest.mark.parametrize(
    ("specifier", "applied"), [("e1", {"root", "e1", "c1"}), ("contract@base", {"root", "e1", "e2"})]
)
def test_what_only_depends_on_a_revision_stays_as_it_is(specifier: str, applied: set[str]) -> None:
    history = graph("""
        blog: root =
        blog: e1 < root = expand
        blog: e2 < e1
        blog: c1 < root & e1 = contract
    """)
    assert rows_after_stamp(history, history.exact_rows(history.ids), specifier) == history.exact_rows(applied)


@pytest.mark.parametrize(
    ("specifier", "dependents", "remedy"),
    [
        ("core@base", ("blog_2", "shop_1", "shop_2"), ("shop@base", "blog@base")),
        ("core_1", ("blog_2",), ("blog@base",)),
    ],
)
def test_what_others_depend_on_stays_applied(specifier: str, dependents: tuple[str, ...], remedy: list[str]) -> None:
    history = graph(GRAPH)

    with pytest.raises(DependentsError) as caught:
        rows_after_stamp(history, history.exact_rows(EVERYTHING), specifier)

    assert tuple(sorted(caught.value.dependents)) == dependents
    assert caught.value.specifier == specifier
    assert all(spec in str(caught.value) for spec in remedy)


def test_of_many_that_depend_on_it_the_first_are_named() -> None:
    chain = "".join(f"\nshop: shop_{number} < shop_{number - 1}" for number in range(2, 9))
    history = graph(f"core: core_1 =\nshop: shop_1 & core_1{chain}")

    with pytest.raises(DependentsError) as caught:
        rows_after_stamp(history, history.exact_rows(history.ids), "core@base")

    assert len(caught.value.dependents) == 8
    assert "not applied: shop_1, shop_2, shop_3, shop_4, shop_5 and 3 more. First run" in str(caught.value)


@pytest.mark.parametrize(
    "specifier",
    ["head", "+1", "-1", "core@+1", "core@-1", "core_1+1", "core_1:core_2b", "nothing", "blog_", "core@blog_1"],
)
def test_what_does_not_say_what_is_applied_is_refused(specifier: str) -> None:
    with pytest.raises(SpecifierError) as caught:
        rows_after_stamp(graph(GRAPH), (), specifier)

    assert caught.value.specifier == specifier


def test_the_one_head_of_a_package_that_has_two_is_refused_and_both_are_named() -> None:
    with pytest.raises(SpecifierError, match=r"blog has 2 heads: blog_2, blog_3\. .*blog@heads"):
        rows_after_stamp(graph(GRAPH), (), "blog@head")


def test_rows_that_no_file_explains_stay() -> None:
    assert rows_after_stamp(graph(GRAPH), ("gone_1", "shop_2"), "core") == ("core_2b", "gone_1", "shop_2")


def write_history(project: Project) -> None:
    """The revisions of ``GRAPH`` as files; none of them can run."""
    history = graph(GRAPH)
    for name in PACKAGES:
        project.package(name)
        for revision_id in history.of_package(name):
            revision = history[revision_id]
            down = revision.down_revisions[0] if revision.down_revisions else None
            refuses = "raise AssertionError('it ran')"
            project.revision(name, revision_id, down, revision.depends_on or None, upgrade=refuses, downgrade=refuses)


@pytest.fixture(params=FRAMEWORKS)
def shop(request: pytest.FixtureRequest, project: Project) -> Iterator[Facade]:
    write_history(project)
    with facade(project, request.param, PACKAGES, URLS[request.param]) as each:
        yield each


def database_file(project: Project) -> Path:
    return project.folder / "instance" / "app.db"


def rows_of(path: Path, table: str = "alembic_version") -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        return [row[0] for row in connection.execute(f"SELECT version_num FROM {table}")]
    finally:
        connection.close()


@pytest.mark.drivers("sqlite", "postgresql+psycopg", "mariadb+pymysql", "postgresql+asyncpg", "mariadb+asyncmy")
def test_stamps_follow_each_other_on_a_database(database: Database, project: Project) -> None:
    write_history(project)
    with facade(project, "quart" if database.is_async else "flask", PACKAGES, database.url) as each:
        results = [each.call("stamp", spec) for spec in ("shop", "heads", "blog@base", "shop_1", "base")]
        assert database.query("SELECT * FROM alembic_version") == []
        each.call("stamp", "blog_3")

    rows: list[tuple[str, ...]] = [
        *((), ("shop_2",), ("blog_2", "blog_3", "shop_2"), ("core_2b", "shop_2"), ("core_2b", "shop_1"), ())
    ]
    assert results == [Stamped(before, after, verified=False) for before, after in pairwise(rows)]
    assert database.query("SELECT version_num FROM alembic_version") == [("blog_3",)]


def test_the_command_says_what_the_rows_were_and_are(shop: Facade, project: Project) -> None:
    assert shop.run("db-stamp", "shop").stdout == f"Before: nothing\nNow:    shop_2\n{NOTHING_COMPARED}"
    assert shop.run("db-stamp", "core").stdout == f"Before: shop_2\nNow:    core_2b, shop_2\n{NOTHING_COMPARED}"
    again = shop.run("db-stamp", "core")
    assert (again.exit_code, again.stdout) == (0, "Nothing to do: the version table already records this.\n")
    assert shop.run("db-stamp", "base").stdout == f"Before: core_2b, shop_2\nNow:    nothing\n{NOTHING_COMPARED}"
    assert rows_of(database_file(project)) == []


def test_nothing_to_do_makes_no_version_table(shop: Facade, project: Project) -> None:
    assert shop.run("db-stamp", "base").stdout == "Nothing to do: the version table already records this.\n"

    connection = sqlite3.connect(database_file(project))
    assert connection.execute("SELECT * FROM sqlite_master").fetchall() == []
    connection.close()


def test_a_refused_stamp_changes_nothing(shop: Facade, project: Project) -> None:
    shop.call("stamp", "heads")

    line = shop.error_line("db-stamp", "core@base")

    assert "shop_1" in line
    assert "shop@base" in line
    for wrong in ("nowhere", "-1", "core@+1", "blog@head"):
        shop.error_line("db-stamp", wrong)
    assert rows_of(database_file(project)) == ["blog_2", "blog_3", "shop_2"]


def write_rows(project: Project, *rows: str | None) -> None:
    """A version table as another tool, or a hand, may have left it."""
    path = database_file(project)
    path.parent.mkdir(exist_ok=True)
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
    connection.executemany("INSERT INTO alembic_version VALUES (?)", [(row,) for row in rows])
    connection.commit()
    connection.close()


def test_a_purge_forgets_rows_that_no_file_explains(shop: Facade, project: Project) -> None:
    write_rows(project, "gone_1", "", "shop_2", "o'hara %s; --", "\x1b[31m")

    assert "The version table has the row ''" in shop.error_line("db-stamp", "core")
    purged = shop.run("db-stamp", "core", "--purge")

    assert purged.stdout.splitlines() == [
        r"Before: '', '\x1b[31m', gone_1, o'hara %s; --, shop_2",
        "Now:    core_2b",
        NOTHING_COMPARED.strip(),
    ]
    assert rows_of(database_file(project)) == ["core_2b"]


def test_a_purge_has_an_entry_for_each_revision_that_changed_and_no_other(shop: Facade, project: Project) -> None:
    shop.call("stamp", "blog_2")
    connection = sqlite3.connect(database_file(project))
    connection.execute("INSERT INTO alembic_version VALUES ('gone_1')")
    connection.commit()
    connection.close()
    shop.call("stamp", "shop", purge=True)
    entries = shop.call("log")[4:]
    assert [(one.revision, one.direction) for one in entries] == [
        ("shop_1", "upgrade"),
        ("shop_2", "upgrade"),
        ("core_2b", "downgrade"),
        ("blog_1", "downgrade"),
        ("blog_2", "downgrade"),
        ("gone_1", "downgrade"),
    ]


@pytest.mark.parametrize("specifier", ["shop", "heads", "base"])
@pytest.mark.parametrize("rows", [("shop_2", "shop_2"), ("shop_2", "shop_1", "core_1"), (None, "shop_2"), (None,)])
def test_a_purge_mends_rows_that_are_double_stale_or_null(
    project: Project, rows: tuple[str | None, ...], specifier: str
) -> None:
    write_history(project)
    write_rows(project, *rows)
    with facade(project, "flask", PACKAGES, URLS["flask"]) as each:
        result = each.run("db-stamp", specifier, "--purge")

    assert result.exit_code == 0, result.output
    expected = {"shop": ["shop_2"], "heads": ["blog_2", "blog_3", "shop_2"], "base": []}
    assert rows_of(database_file(project)) == expected[specifier]


def test_a_package_without_a_migrations_folder_is_an_error_that_says_so(project: Project) -> None:
    project.package("core")
    with (
        facade(project, "flask", ["core"], URLS["flask"]) as each,
        pytest.raises(MigrationsFolderError, match="db-init"),
    ):
        each.call("stamp", "core")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_version_table_of_another_name_is_the_one_that_is_written(project: Project, framework: str) -> None:
    write_history(project)
    with facade(project, framework, PACKAGES, URLS[framework]) as each:
        (project.migrations("core") / "versions").rename(project.folder / "kept")
        project.migrations("core").rmdir()
        each.call("init", "core")
        (project.migrations("core") / "versions").rmdir()
        (project.folder / "kept").rename(project.migrations("core") / "versions")
        env = project.read("core/migrations/env.py")
        changed = env.replace("connection=connection,", 'connection=connection, version_table="my_versions",')
        assert changed != env
        project.write("core/migrations/env.py", changed)

        each.call("stamp", "shop")
        assert each.call("current")["shop"].is_up_to_date

    assert rows_of(database_file(project), "my_versions") == ["shop_2"]


def test_a_database_that_is_locked_or_read_only_is_one_line(project: Project) -> None:
    write_history(project)
    with facade(project, "flask", PACKAGES, "sqlite:///app.db?timeout=0.1", AMPHO_LOCK_TIMEOUT=0.1) as each:
        each.call("stamp", "core_1")
        other = sqlite3.connect(database_file(project), isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        locked = each.error_line("db-stamp", "heads", exit_code=3)
        other.execute("ROLLBACK")
        other.close()
    url = f"sqlite:///file:{database_file(project)}?mode=ro&uri=true"
    with facade(project, "flask", PACKAGES, url) as each:
        read_only = each.error_line("db-stamp", "heads")

    assert "waiting for another process that writes to this database" in locked
    assert "readonly database" in read_only
    assert rows_of(database_file(project)) == ["core_1"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_plain_alembic_agrees_afterwards(project: Project, framework: str) -> None:
    project.package("core")
    project.app(framework, PACKAGES, URLS[framework], imports=())
    project.package("shop")
    project.package("blog")
    project.run("ampho", "db-init", "core")
    write_history(project)

    done = project.run("ampho", "db-stamp", "shop_1")
    assert done.stdout == f"Before: nothing\nNow:    shop_1\n{NOTHING_COMPARED}"
    project.run("ampho", "db-stamp", "blog_2")

    alembic = project.run("alembic", "-c", "core/migrations/alembic.ini", "current")
    assert sorted(line.split()[0] for line in alembic.stdout.splitlines()) == [
        *("blog_2", "core_2b", "shop_1")  # it also lists a head that is no row, because blog_2 depends on it
    ]
    usage = project.run("ampho", "db-stamp", check=False)
    assert usage.exit_code == 2
