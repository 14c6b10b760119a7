"""``db-squash``: one revision for a line of old ones, which makes the same schema, as databases prove."""

from __future__ import annotations

import os
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from facade import FRAMEWORKS, URLS, Facade, facade
from project import Project
from servers import Database

from ampho.errors import AmphoError, RevisionInputError

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

ONE_EACH = ["sqlite+pysqlite", "postgresql+psycopg", "mariadb+pymysql"]


def write_blog(project: Project) -> None:
    """Two packages: five revisions of blog, of which one changes data, and one of accounts."""
    for name in ("accounts", "blog"):
        project.package(name)
    project.revision(
        "accounts",
        "accounts_1000000001",
        upgrade="op.create_table('users', sa.Column('id', sa.Integer, primary_key=True))",
        downgrade="op.drop_table('users')",
    )
    project.revision(
        "blog",
        "blog_1000000002",
        depends_on="accounts_1000000001",
        upgrade="""
            op.create_table(
                'posts',
                sa.Column('id', sa.Integer, primary_key=True),
                sa.Column('author_id', sa.Integer, sa.ForeignKey('users.id', name='fk_posts_author'), nullable=False),
                sa.Column('state', sa.Enum('draft', 'live', name='state'), server_default='draft', nullable=False),
                sa.Column('made', sa.DateTime, server_default=sa.func.now()),
            )
            """,
        downgrade="op.drop_table('posts')",
    )
    project.revision(
        "blog",
        "blog_1000000003",
        "blog_1000000002",
        upgrade="""
            with op.batch_alter_table('posts') as batch:
                batch.add_column(sa.Column('title', sa.String(80), comment='what it is about'))
                batch.create_index('ix_posts_title', ['title'], unique=True)
            """,
        downgrade="""
            with op.batch_alter_table('posts') as batch:
                batch.drop_index('ix_posts_title')
                batch.drop_column('title')
            """,
    )
    project.revision(
        "blog",
        "blog_1000000004",
        "blog_1000000003",
        upgrade="op.rename_table('posts', 'articles')",
        downgrade="op.rename_table('articles', 'posts')",
    )
    project.revision(
        "blog",
        "blog_1000000005",
        "blog_1000000004",
        upgrade="""
            with op.batch_alter_table('articles') as batch:
                batch.alter_column('title', existing_type=sa.String(80), type_=sa.String(120))
                batch.create_check_constraint('ck_title', "title <> ''")
            op.create_table('tags', sa.Column('name', sa.String(20), primary_key=True))
            """,
        downgrade="""
            op.drop_table('tags')
            with op.batch_alter_table('articles') as batch:
                batch.drop_constraint('ck_title', type_='check')
                batch.alter_column('title', existing_type=sa.String(120), type_=sa.String(80))
            """,
    )


@contextmanager
def opened(project: Project, database: Database) -> Iterator[Facade]:
    framework = "quart" if database.is_async else "flask"
    with facade(project, framework, ["accounts", "blog"], database.url) as each:
        yield each


def files(project: Project, folder: str) -> list[str]:
    return sorted(path.name.partition("_by_hand")[0] for path in (project.migrations("blog") / folder).glob("*.py"))


@pytest.mark.timeout(400)
@pytest.mark.drivers(*ONE_EACH)
def test_a_package_that_is_alone_is_squashed(
    project: Project, database: Database, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    project.package("blog")
    for number in (1, 2):
        down = f"blog_100000000{number - 1}" if number > 1 else None
        create = f"op.create_table('table_{number}', sa.Column('id', sa.Integer, primary_key=True))"
        project.revision(
            "blog", f"blog_100000000{number}", down, upgrade=create, downgrade=f"op.drop_table('table_{number}')"
        )
    with facade(project, "flask", ["blog"], database.url) as each:
        result = each.run("db-squash", "blog", "--yes")
        assert result.exit_code == 0, result.output
        assert len(each.call("upgrade").steps) == 1
        assert {"table_1", "table_2"} <= set(database.tables())


@pytest.mark.timeout(400)
@pytest.mark.drivers(*ONE_EACH, "postgresql+asyncpg")
def test_databases_at_any_point_get_the_same_schema(
    project: Project, database: Database, make_database: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    write_blog(project)
    driver = database.driver
    points = {point: make_database(driver) for point in ("heads", "blog_1000000003", "accounts", "base")}
    for point, each in points.items():
        if point != "base":
            with opened(project, each) as app:
                app.call("upgrade", point)
    expected = points["heads"].schema()
    with opened(project, database) as app:
        done = app.call("squash", "blog")
    (new,) = done.revisions
    assert new.replaces == tuple(f"blog_100000000{number}" for number in range(2, 6))
    assert new.depends_on == ("accounts_1000000001",)
    assert files(project, "versions") == [done.revisions[0].path.name]
    assert files(project, "replaced") == [*new.replaces]
    for point, each in points.items():
        with opened(project, each) as app:
            app.call("upgrade")
            assert app.call("plan").steps == (), point
            assert each.rows() == [new.id], point
        assert each.schema() == expected, point


def table(name: str, **more: str) -> dict[str, str]:
    return {
        "upgrade": f"op.create_table('{name}', sa.Column('id', sa.Integer, primary_key=True))",
        "downgrade": f"op.drop_table('{name}')",
        **more,
    }


def line(project: Project, count: int, package: str = "blog", **last: str) -> list[str]:
    """Write a line of revisions that each create a table, and return their ids."""
    project.package(package)
    ids = [f"{package}_100000000{number}" for number in range(1, count + 1)]
    for number, revision in enumerate(ids):
        project.revision(package, revision, ids[number - 1] if number else None, **table(f"{package}_{number}"))
    return ids


@pytest.fixture(params=FRAMEWORKS)
def blog(request: pytest.FixtureRequest, project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Facade]:
    monkeypatch.setattr("tempfile.tempdir", str(project.folder.parent))
    for name in ("accounts", "blog"):
        project.package(name)
    with facade(project, request.param, ["accounts", "blog"], URLS[request.param]) as each:
        yield each


def code(project: Project, done: Any) -> str:
    return "\n".join(new.path.read_text("utf-8") for new in done.revisions)


def unchanged(project: Project, before: dict[str, bytes]) -> bool:
    return {**project.files(), "instance/app.db": b""} == {**before, "instance/app.db": b""}


# What is more than schema


DATA = """
    def slug(title):
        return title.lower()

    rows = op.get_bind().execute(sa.text('SELECT id FROM blog_0')).all()
    for row in rows:
        op.execute(sa.text('UPDATE blog_0 SET id = id'))
    op.execute("CREATE VIEW both AS SELECT id FROM blog_0")
    op.bulk_insert(sa.table('blog_0', sa.column('id')), [{'id': 7}])
    op.create_table('also', sa.Column('id', sa.Integer, primary_key=True))
"""


def test_what_is_more_than_schema_is_listed_and_becomes_comments_if_accepted(blog: Facade, project: Project) -> None:
    ids = line(project, 2)
    path = project.revision("blog", "blog_1000000003", ids[1], upgrade=DATA)
    before = project.files()

    planned = blog.run("db-squash", "blog", "--plan")
    refused = blog.run("db-squash", "blog")

    assert "blog_1000000003_by_hand.py:16: code: rows = op.get_bind().execute(" in planned.stdout
    assert 'blog_1000000003_by_hand.py:19: view: op.execute("CREATE VIEW both' in planned.stdout
    assert "blog_1000000003_by_hand.py:20: data: op.bulk_insert(" in planned.stdout
    assert "create_table" not in planned.stdout
    assert refused.exit_code == 2
    assert "and the new file would contain them only as comments:\n  blog/migrations/" in refused.stderr
    assert refused.stderr.endswith("Error: Cannot ask for confirmation without a terminal. Add --yes to confirm.\n")
    assert unchanged(project, before)
    with pytest.raises(RevisionInputError, match=r"4 statements .* Nothing was written\. .*--plan"):
        blog.call("squash", "blog")

    written = blog.run("db-squash", "blog", "--yes")

    assert "does not create what the old ones created with SQL: view both." in written.stderr
    (new,) = (project.migrations("blog") / "versions").glob("*.py")
    text = new.read_text("utf-8")
    assert f"# From replaced/{path.name}, line 16:\n" in text
    assert '    #     op.execute("CREATE VIEW both AS SELECT id FROM blog_0")\n' in text
    assert "    #     def slug(title):\n    #         return title.lower()\n" in text
    assert text.count("create_table") == 3
    assert blog.run("db-up").exit_code == 0


def test_what_creates_an_extension_or_data_can_be_kept(blog: Facade, project: Project) -> None:
    first, second, third, fourth, last = line(project, 5)
    kept = project.revision("blog", third, second, **table("blog_2", upgrade=DATA))
    blog.call("upgrade")

    done = blog.call("squash", "blog", keep=[third])

    before, after = done.revisions
    assert (before.replaces, after.replaces) == ((first, second), (fourth, last))
    assert after.down_revisions == (third,)
    assert f"down_revision = '{before.id}'" in kept.read_text("utf-8")
    assert "# From" not in code(project, done)
    assert [step.is_recorded for step in blog.call("plan").steps] == [True]
    blog.call("upgrade")
    assert blog.call("status").edited == ()
    assert blog.call("plan").rows == (after.id,)


# What depends on the line


def test_a_revision_that_depends_on_the_middle_is_named_with_the_remedies(blog: Facade, project: Project) -> None:
    ids = line(project, 4)
    project.revision("accounts", "accounts_1000000009", depends_on=ids[1], **table("people"))
    before = project.files()

    message = blog.error_line("db-squash", "blog")

    assert message.startswith(
        f"accounts_1000000009 of accounts depends on {ids[1]}, which is in the middle of the line."
    )
    assert f"--to {ids[1]}, or keep it as a revision of its own, with --keep {ids[1]}." in message
    assert unchanged(project, before)
    done = blog.call("squash", "blog", end=ids[1])
    assert done.revisions[0].replaces == tuple(ids[:2])
    blog.call("upgrade")


def test_what_depends_on_the_last_one_names_the_new_one_and_does_not_count_as_edited(
    blog: Facade, project: Project
) -> None:
    ids = line(project, 4)
    other = project.revision("accounts", "accounts_1000000009", depends_on=ids[2], **table("people"))
    blog.call("upgrade")
    old = other.read_text("utf-8")

    done = blog.call("squash", "blog", end=ids[2])

    (new,) = done.revisions
    follower = next((project.migrations("blog") / "versions").glob(f"{ids[3]}*"))
    assert set(done.changed) == {other, follower}
    assert other.read_text("utf-8") == old.replace(ids[2], new.id)
    assert f"down_revision = '{new.id}'" in follower.read_text("utf-8")
    config = Config()
    config.set_main_option("script_location", str(project.migrations("blog")))
    config.set_main_option(
        "version_locations",
        os.pathsep.join(str(project.migrations(name) / "versions") for name in ("blog", "accounts")),
    )
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    assert {each.revision for each in script.get_revisions("heads")} == {ids[3], "accounts_1000000009"}
    assert blog.call("status").edited == ()
    blog.call("upgrade")
    assert blog.call("status").edited == ()
    follower.write_text(follower.read_text("utf-8") + "# more\n", "utf-8")
    assert blog.call("status").edited == (ids[3],)


def test_a_squash_of_a_squash(blog: Facade, project: Project) -> None:
    ids = line(project, 4)
    blog.call("upgrade", ids[1])
    (first,) = blog.call("squash", "blog", end=ids[2]).revisions

    (second,) = blog.call("squash", "blog").revisions

    assert second.replaces == (first.id, ids[3])
    assert [step.revision.id for step in blog.call("upgrade").plan.steps] == [ids[2], first.id, ids[3], second.id]
    assert blog.call("plan").steps == ()
    assert blog.call("plan").rows == (second.id,)


# The proof


def test_nothing_is_written_if_the_schema_would_differ(blog: Facade, project: Project) -> None:
    ids = line(project, 2)
    odd = "op.execute('CREATE TABLE odd (id INTEGER NOT NULL PRIMARY KEY ON CONFLICT REPLACE)')"
    project.revision("blog", "blog_1000000003", ids[1], upgrade=odd, downgrade="op.drop_table('odd')")
    before = project.files()

    message = blog.error_line("db-squash", "blog", "--yes")

    assert "does not make the same schema as those that it replaces: in the database, " in message
    assert message.endswith(
        "Nothing was written. Keep the revision that makes the difference as it is, with --keep REV."
    )
    assert unchanged(project, before)


INTERRUPTS = "import os, signal, time\nos.kill(os.getppid(), signal.SIGINT)\ntime.sleep(1)\n"
"""Sends Ctrl-C to the process that runs it."""


def test_if_it_is_interrupted_no_file_is_moved(project: Project) -> None:
    line(project, 3)
    project.app("flask", ["blog"], URLS["flask"])
    script = project.write("stop", f"#!{sys.executable}\n{INTERRUPTS}")
    script.chmod(0o755)
    hooks = f"[post_write_hooks]\nhooks = stop\nstop.type = exec\nstop.executable = {script}\n"
    project.write("blog/migrations/alembic.ini", f"[alembic]\n\n{hooks}")
    before = project.files()

    process = project.start("ampho", "db-squash", "blog", fresh=True)
    out, err = process.communicate(timeout=60)

    assert process.returncode != 0, out + err
    assert "Traceback" not in out + err
    assert unchanged(project, before)


def test_if_a_file_cannot_be_moved_none_is(blog: Facade, project: Project) -> None:
    ids = line(project, 3)
    project.revision("accounts", "accounts_1000000009", depends_on=ids[2], **table("people"))
    project.write("blog/migrations/replaced", "a file where the folder would be")
    before = project.files()

    assert blog.error_line("db-squash", "blog").endswith("No file was changed.")
    assert unchanged(project, before)


def test_a_squash_that_was_killed_is_completed_by_the_next(blog: Facade, project: Project) -> None:
    ids = line(project, 4)
    done = blog.call("squash", "blog", end=ids[2])
    moved = done.moved[1]
    moved.rename(done.revisions[0].path.parent / moved.name)

    assert "If 'ampho db-squash' or 'ampho db-adopt' was interrupted, run it again." in blog.error_line("db-up")
    assert blog.call("squash", "blog").revisions[0].replaces == (done.revisions[0].id, ids[3])
    blog.call("upgrade")


# Pruning


def test_pruned_files_are_missed_only_by_databases_with_a_part(blog: Facade, project: Project) -> None:
    ids = line(project, 3)
    blog.call("upgrade", ids[1])
    blog.call("squash", "blog")
    assert "has only a part of the revisions" in blog.error_line("db-squash", "blog", "--prune", "--yes")
    assert len(files(project, "replaced")) == 3
    refused = blog.run("db-squash", "blog", "--prune")
    assert "is told to upgrade with an earlier release of blog first." in refused.stderr
    blog.call("upgrade")

    pruned = blog.run("db-squash", "blog", "--prune", "--yes")

    assert pruned.stdout == "Deleted 3 files in blog/migrations/replaced\n"
    assert not (project.migrations("blog") / "replaced").exists()
    assert blog.run("db-status", "--check").exit_code == 0


def test_a_database_with_a_part_is_told_the_release_that_still_had_the_files(blog: Facade, project: Project) -> None:
    ids = line(project, 3)
    project.write("blog-2.4.dist-info/METADATA", "Metadata-Version: 2.1\nName: blog\nVersion: 2.4\n")
    blog.call("upgrade")
    blog.call("squash", "blog")
    blog.call("upgrade")

    pruned = blog.call("prune", "blog")

    assert pruned.release == "2.4"
    (new,) = pruned.revisions
    assert "were last in release 2.4." in new.path.read_text("utf-8")
    assert blog.call("status").edited == ()
    with closing(sqlite3.connect(project.folder / "instance" / "app.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (ids[1],))
        connection.execute("DELETE FROM ampho_journal")
        connection.commit()
    message = blog.error_line("db-up")
    assert "First upgrade the database with release 2.4 of blog, which still has them." in message


# Which revisions form a line


def test_branches_that_are_merged_are_one_line(blog: Facade, project: Project) -> None:
    first, second = line(project, 2)
    other, merge = "blog_1000000008", "blog_1000000009"
    project.revision("blog", other, first, **table("other"))
    blog_heads = blog.error_line("db-squash", "blog")
    project.revision("blog", merge, (second, other))

    done = blog.call("squash", "blog", start=second)

    assert blog_heads.startswith(f"blog has 2 heads: {second}, {other}. Merge them with 'ampho db-merge blog'")
    (new,) = done.revisions
    assert (new.replaces, new.down_revisions) == ((second, other, merge), (first,))
    blog.call("upgrade")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"end": "accounts_1000000009"}, "belongs to accounts. Name a revision of blog."),
        ({"start": "blog_1000000003", "end": "blog_1000000002"}, "does not depend on blog_1000000003"),
        ({"keep": ["blog_1000000003"], "end": "blog_1000000002"}, "is not among the revisions that are squashed"),
        ({"keep": ["blog_1000000002"]}, "has no two revisions in sequence between those that are kept"),
        ({"start": "blog_1000000003"}, "There is nothing to squash: blog has no two revisions in sequence."),
        ({"end": "blog_7"}, "blog_7"),
        ({"message": " "}, "The message is empty."),
    ],
)
def test_what_is_no_line_is_refused(blog: Facade, project: Project, options: Any, message: str) -> None:
    line(project, 3)
    project.revision("accounts", "accounts_1000000009", **table("people"))
    before = project.files()

    with pytest.raises(AmphoError, match=re.escape(message)):
        blog.call("squash", "blog", dry_run=True, **options)
    assert unchanged(project, before)


def test_a_dependency_on_the_name_of_the_package_is_one_on_its_first_revision(blog: Facade, project: Project) -> None:
    ids = line(project, 3)
    project.revision("accounts", "accounts_1000000009", depends_on="blog", **table("people"))

    assert f"depends on {ids[0]}, which is in the middle" in blog.error_line("db-squash", "blog")
    assert blog.call("squash", "blog", keep=[ids[0]]).revisions[0].replaces == tuple(ids[1:])
    blog.call("upgrade")


def test_a_new_revision_that_does_not_run_says_what_to_keep(blog: Facade, project: Project) -> None:
    ids = line(project, 2)
    code = "op.get_bind().connection.create_function('twice', 1, lambda n: 2 * n, deterministic=True)\n"
    index = "op.create_index('ix_twice', 'blog_0', [sa.text('twice(id)')])"
    project.revision("blog", "blog_1000000003", ids[1], upgrade=f"{code}{index}", downgrade="pass")
    before = project.files()

    message = blog.error_line("db-squash", "blog", "--yes")

    assert "does not run on an empty database: " in message
    assert message.endswith("Keep the old revision that creates what is missing, with --keep REV.")
    assert unchanged(project, before)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_package_in_another_database_may_depend_on_one_in_the_first(
    project: Project, framework: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(project.folder.parent))
    ids = line(project, 3)
    project.package("accounts")
    project.revision("accounts", "accounts_1000000000", **table("people"))
    path = next((project.migrations("blog") / "versions").glob(f"{ids[1]}*"))
    path.write_text(path.read_text("utf-8").replace("depends_on = None", "depends_on = 'accounts_1000000000'"), "utf-8")
    config = {
        "SQLALCHEMY_BINDS": {"reports": URLS[framework].replace("app.db", "reports.db")},
        "AMPHO_DATABASES": {"default": ["accounts"], "reports": ["blog"]},
    }
    with facade(project, framework, ["accounts", "blog"], URLS[framework], **config) as each:
        each.call("upgrade", ids[1])
        done = each.call("squash", "blog")
        assert done.revisions[0].depends_on == ("accounts_1000000000",)
        each.call("upgrade")
        assert each.call("plan").steps == ()
        assert each.call("prune", "blog").is_deleted
        assert each.call("status").pending == 0


def test_what_reflection_misses_on_sqlite_is_kept(blog: Facade, project: Project) -> None:
    ids = line(project, 2)
    odd = """
        op.execute('''CREATE TABLE z_odd (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT COLLATE NOCASE)''')
        op.execute('''CREATE TABLE strict (id INTEGER NOT NULL, PRIMARY KEY (id)) STRICT''')
        op.execute('''CREATE TABLE pairs (a TEXT NOT NULL, b TEXT NOT NULL, PRIMARY KEY (a, b)) WITHOUT ROWID''')
        op.execute('''CREATE INDEX ix_odd ON z_odd (lower(name), id DESC) WHERE id > 0''')
    """
    undo = "for name in ('z_odd', 'strict', 'pairs'):\n    op.drop_table(name)"
    project.revision("blog", "blog_1000000003", ids[1], upgrade=odd, downgrade=undo)

    text = code(project, blog.call("squash", "blog", accept=True))

    for found in ("sqlite_autoincrement=True", "NOCASE", "sqlite_strict=True", "sqlite_with_rowid=False", "id DESC"):
        assert found in text
    names = re.findall(r'create_table\(\s*"(\w+)"', text)
    assert names == ["blog_0", "blog_1", "pairs", "strict", "z_odd"]
