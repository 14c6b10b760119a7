"""The first hour: every command, in Flask and in Quart, on each of the seven drivers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent

import pytest
import zigzag
from project import Project
from servers import Database
from zigzag import PACKAGES, Shop

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

RAW_INDEX = """
with op.get_context().autocommit_block():
    op.execute("CREATE INDEX CONCURRENTLY posts_title ON posts (title)")
"""
NO_RAW_INDEX = """
with op.get_context().autocommit_block():
    op.execute("DROP INDEX CONCURRENTLY posts_title")
"""


@pytest.fixture
def opened(project: Project, database: Database) -> Iterator[Shop]:
    with zigzag.open_shop(project, database) as opened:
        yield opened


def fill(path: Path, upgrade: str, downgrade: str) -> None:
    """Write the body of a revision as its author would, into the file that Ampho made."""
    text = path.read_text("utf-8")
    for function, statements in (("upgrade", upgrade), ("downgrade", downgrade)):
        body = indent(statements.strip() or "pass", "    ")
        head, middle, tail = text.partition(f"def {function}():\n    pass\n")
        assert middle, text
        text = f"{head}def {function}():\n{body}\n{tail}"
    path.write_text(text, "utf-8")


def write_revision(project: Project, *command: str) -> tuple[str, Path]:
    output = project.run("ampho", "db-rev", *command).stdout
    (name,) = re.findall(r"^Wrote (\S+\.py)$", output, re.MULTILINE)
    path = project.folder / name
    return "_".join(path.stem.split("_")[: command[0].count(".") + 2]), path


@pytest.mark.usefixtures("unmeasured")
def test_first_hour(project: Project, database: Database) -> None:
    """The whole walk in real processes, from empty packages to an empty database."""
    project.app(zigzag.framework_of(database), PACKAGES, database.url, path="wsgi.py", import_name="wsgi")
    zigzag.write_packages(project)

    # write
    for package in PACKAGES:
        written = project.run("ampho", "db-init", package)
        files = sorted(path.name for path in project.migrations(package).iterdir())
        assert files == ["README", "alembic.ini", "env.py", "script.py.mako", "versions"]
        assert all(name in written.stdout for name in files)
    users, users_file = write_revision(project, "app", "Users")
    posts, posts_file = write_revision(project, "blog", "Posts", "--depends-on", "app")
    bills, bills_file = write_revision(project, "acme.billing", "Invoices", "--depends-on", users)
    slug, slug_file = write_revision(project, "blog", "Slug of a post")
    assert re.fullmatch(r"app_\d{10}", users)
    assert users_file.name == f"{users}_users.py"
    assert re.fullmatch(r"acme_billing_\d{10}", bills)
    fill(users_file, zigzag.USERS, "op.drop_table('users')")
    fill(posts_file, zigzag.POSTS + zigzag.PEOPLE, zigzag.NO_PEOPLE + "op.drop_table('posts')")
    fill(bills_file, zigzag.INVOICES, "op.drop_table('invoices')")
    raw = (RAW_INDEX, NO_RAW_INDEX) if database.backend == "postgresql" else ("", "")
    fill(slug_file, zigzag.SLUG + raw[0], raw[1] + zigzag.NO_SLUG)

    # look
    shown = project.run("ampho", "db-show").stdout
    assert [shown.index(revision) for revision in (users, posts, slug, bills)] == sorted(
        shown.index(revision) for revision in (users, posts, slug, bills)
    )
    assert database.tables() == []

    # up
    first = project.run("ampho", "db-up", "app@+1").stdout
    assert re.search(rf"  \+ {users}  Users \.\.\. \d+ ms\n", first), first
    assert database.rows() == [users]
    rest = project.run("ampho", "db-up").stdout
    assert users not in rest
    assert rest.index(posts) < rest.index(slug)
    assert database.rows() == sorted([bills, slug])
    assert database.query("SELECT title, slug FROM posts") == [(zigzag.TRICKY, "-")]
    current = project.run("ampho", "db-current").stdout.splitlines()
    assert current == [f"app           {users} (head)", f"blog          {slug} (head)", f"acme.billing  {bills} (head)"]

    # down
    project.run("ampho", "db-down")
    assert "slug" not in database.columns("posts")
    assert database.rows() == sorted([bills, posts])
    project.run("ampho", "db-down", "acme.billing@-1")
    assert database.rows() == [posts]
    project.run("ampho", "db-down", "app@base", "--cascade")
    assert database.tables() == ["alembic_version"]
    assert database.rows() == []


# ... and now every form of a specifier, in this process, which is quicker.


@pytest.mark.usefixtures("unmeasured")
def test_up_to_everything_in_the_order_of_dependencies(opened: Shop) -> None:
    output = opened.run("db-up").stdout

    assert re.findall(r"  \+ (\w+)", output) == list(zigzag.ORDER)
    assert opened.database.rows() == ["app_3"]
    assert opened.database.query("SELECT name FROM users ORDER BY id") == [("Ann: \\o/",), ("O'Neil",)]
    assert opened.database.query("SELECT title, slug FROM posts") == [(zigzag.TRICKY, "-")]
    indexes = [index["name"] for index in opened.database.schema()["tables"]["invoices"]["indexes"]]
    assert "invoices_total" in indexes
    assert opened.run("db-up").stdout == "Nothing to do: everything is applied.\n"


@pytest.mark.usefixtures("unmeasured")
def test_each_step_down_restores_what_was_there_before_the_step_up(opened: Shop) -> None:
    database = opened.database
    before = []
    for _ in zigzag.ORDER:
        before.append((database.schema()["tables"].keys() - {"alembic_version"}, database.schema(), database.data()))
        opened.run("db-up", "+1")
    assert database.rows() == ["app_3"]

    for revision, (tables, schema, data) in reversed(list(zip(zigzag.ORDER, before, strict=True))):
        package = opened.app.extensions["ampho"].project(opened.app).graph[revision].package
        opened.run("db-down", f"{package}@-1")
        if tables:
            assert (database.schema(), database.data()) == (schema, data)

    assert database.tables() == ["alembic_version"]
    assert database.rows() == []


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(
    ("specifier", "applied"),
    [
        ("app", zigzag.ORDER),
        ("app@head", zigzag.ORDER),
        ("app@heads", zigzag.ORDER),
        ("blog", ("app_1", "blog_1", "app_2", "blog_2")),
        ("acme.billing@+1", ("app_1", "acme_billing_1")),
        ("acme.billing@+2", ("app_1", "acme_billing_1", "blog_1", "app_2", "blog_2", "acme_billing_2")),
        ("app_2", ("app_1", "blog_1", "app_2")),
        ("app@app_2", ("app_1", "blog_1", "app_2")),
        ("acme_billing_1", ("app_1", "acme_billing_1")),
        ("+2", ("app_1", "blog_1")),
    ],
)
@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg")
def test_up_to_a_part(opened: Shop, specifier: str, applied: tuple[str, ...]) -> None:
    opened.run("db-up", specifier)

    assert opened.applied() == sorted(applied)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(
    ("command", "gone"),
    [
        (("db-down",), ("app_3",)),
        (("db-down", "-1"), ("app_3",)),
        (("db-down", "-2"), ("app_3", "acme_billing_2")),
        (("db-down", "app@-1"), ("app_3",)),
        (("db-down", "acme.billing@-1", "--cascade"), ("app_3", "acme_billing_2")),
        (("db-down", "blog_1", "--cascade"), ("app_3", "acme_billing_2", "blog_2")),
        (("db-down", "blog@base", "--cascade"), ("app_3", "acme_billing_2", "blog_2", "app_2", "blog_1")),
        (("db-down", "base"), zigzag.ORDER),
    ],
)
@pytest.mark.drivers("sqlite+aiosqlite", "postgresql+psycopg")
def test_down_to_a_part(opened: Shop, command: tuple[str, ...], gone: tuple[str, ...]) -> None:
    opened.run("db-up")

    output = opened.run(*command).stdout

    assert set(re.findall(r"  - (\w+)", output)) == set(gone)
    assert opened.applied() == sorted(set(zigzag.ORDER) - set(gone))


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("db-up", "-1"), "Run 'ampho db-down -1'"),
        (("db-up", "base"), "Run 'ampho db-down base'"),
        (("db-up", "head"), "Type 'heads' for all packages"),
        (("db-up", "+8"), "There are only 4 revisions to apply"),
        (("db-up", "app@+3"), "There are only 2 revisions to apply in app"),
        (("db-up", "app@blog_1"), "blog_1 belongs to blog"),
        (("db-up", "app_1+1"), "does not count steps from a name"),
        (("db-up", "app_1:app_2"), "is a range"),
        (("db-up", "shop"), "shop is neither a package"),
        (("db-down", "+1"), "Run 'ampho db-up +1'"),
        (("db-down", "heads"), "Run 'ampho db-up heads'"),
        (("db-down", "app"), "Type app@-1 to revert its last revision, or app@base to revert all of them"),
        (("db-down", "app_3"), "app_3: that is not applied"),
        (("db-down", "-4"), "There are only 3 revisions to revert"),
        (("db-down", "blog@-2"), "There is only 1 revision to revert in blog"),
        (("db-down", "app@-1"), "blog_1 (blog), acme_billing_1 (acme.billing). Run 'ampho db-down app@-1 --cascade'"),
        (("db-show", "app@+1"), "app@+1"),
    ],
)
@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_a_form_without_a_meaning_is_refused_with_one_that_has(
    opened: Shop, command: tuple[str, ...], message: str
) -> None:
    opened.run("db-up", "app_1")
    opened.run("db-up", "acme_billing_1")
    opened.run("db-up", "blog_1")
    before = (opened.database.schema(), opened.database.data())

    result = opened.run(*command, exit_code=1)

    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""
    assert (opened.database.schema(), opened.database.data()) == before


@pytest.mark.usefixtures("unmeasured")
def test_the_last_revision_is_the_one_that_the_journal_has_last(opened: Shop) -> None:
    for first, second in (("blog_1", "acme_billing_1"), ("acme_billing_1", "blog_1")):
        opened.run("db-up", first)
        opened.run("db-up", second)

        opened.run("db-down")

        assert opened.applied() == sorted(["app_1", first])
        opened.run("db-down", "base")


@pytest.mark.drivers("sqlite", "postgresql+psycopg", "mariadb+asyncmy")
def test_the_last_revision_is_not_guessed(opened: Shop) -> None:
    opened.run("db-up", "blog_1")
    opened.run("db-up", "acme_billing_1")
    opened.database.run("DELETE FROM ampho_journal WHERE revision = 'acme_billing_1'")

    result = opened.run("db-down", exit_code=1)

    # the password of the servers here is the command's own name, and hidden there, too
    assert re.search(r"'(ampho|\*\*\*) db-down blog@-1' or '\1 db-down acme.billing@-1'", result.stderr)
    assert opened.applied() == ["acme_billing_1", "app_1", "blog_1"]


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_a_mistyped_option_is_no_specifier(opened: Shop) -> None:
    assert "No such option" in opened.run("db-down", "app@base", "--cascad", exit_code=2).stderr
    assert "No such option" in opened.run("db-down", "-x1", "-1a", exit_code=2).stderr


@pytest.mark.drivers("sqlite")
def test_current_lists_each_package_and_with_v_each_revision(opened: Shop) -> None:
    opened.run("db-up", "app_2")

    assert opened.run("db-current").stdout.splitlines() == [
        "app           app_2 (1 pending)",
        "blog          blog_1 (1 pending)",
        "acme.billing  nothing applied (2 pending)",
    ]
    verbose = opened.run("-v", "db-current").stdout
    assert verbose == opened.run("db-current", "-v").stdout
    assert verbose.splitlines()[:4] == [
        "app           app_2 (1 pending)",
        "    applied  app_1  users",
        "    applied  app_2  people  (depends on blog_1)",
        "    pending  app_3  names with a face  (head; depends on acme_billing_2)",
    ]


@pytest.mark.drivers("sqlite")
def test_show_has_all_revisions_those_of_a_package_or_one_in_full(opened: Shop) -> None:
    everything = opened.run("db-show").stdout.splitlines()
    assert [line for line in everything if not line.startswith(" ")] == list(PACKAGES)
    assert opened.run("db-show", "blog").stdout.splitlines() == [
        "blog",
        "  blog_1  posts  (depends on app_1)",
        "  blog_2  slug  (head; depends on app_2)",
    ]
    in_full = opened.run("db-show", "acme_billing_2").stdout
    for text in ("acme_billing_2 (head)", "acme.billing", "acme_billing_1", "blog_2", "app_3", "invoiced posts"):
        assert text in in_full
    assert in_full == opened.run("db-show", "acme.billing@head").stdout
    assert opened.database.tables() == []


@pytest.mark.drivers("mariadb+pymysql", "postgresql+psycopg_async")
def test_down_then_up_again_is_the_same_database(opened: Shop) -> None:
    opened.run("db-up")
    before = (opened.database.schema(), opened.database.data())

    opened.run("db-down", "app@base", "--cascade")
    opened.run("db-up")

    assert (opened.database.schema(), opened.database.data()) == before
