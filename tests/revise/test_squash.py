"""``db-squash``: one revision for a line of old ones, which makes the same schema, as databases prove."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from facade import Facade, facade
from project import Project
from servers import Database

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
            assert app.call("status").is_up_to_date, point
            assert each.rows() == [new.id], point
        assert each.schema() == expected, point
