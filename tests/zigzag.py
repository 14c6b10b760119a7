"""A believable project for end-to-end tests: three packages with foreign keys across, on any of the seven drivers.

``app`` owns the users, ``blog`` the posts, the dotted ``acme.billing`` the invoices. Their histories wait for each
other in a zig-zag: app_1, blog_1 and acme_billing_1, app_2, blog_2, acme_billing_2, app_3.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from project import Project, Result
from servers import Database

PACKAGES = ("app", "blog", "acme.billing")
ORDER = ("app_1", "blog_1", "app_2", "blog_2", "acme_billing_1", "acme_billing_2", "app_3")
TABLES = ("invoices", "posts", "users")

TRICKY = '100 % of "Ann\'s" C:\\new :name %s %(x)s {y} naïve 漢字 🦉; -- /* no */ $$ @x'
"""What data may hold, and no driver, template or client may take for anything else."""

USERS = """
op.create_table(
    "users",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(50), nullable=False, unique=True),
    sa.Column("joined", sa.DateTime),
)
"""
POSTS = """
op.create_table(
    "posts",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("user_id", sa.Integer, sa.ForeignKey("users.id", name="posts_user", ondelete="CASCADE"), nullable=False),
    sa.Column("title", sa.String(200), nullable=False),
)
"""
INVOICES = """
op.create_table(
    "invoices",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("user_id", sa.Integer, sa.ForeignKey("users.id", name="invoices_user"), nullable=False),
    sa.Column("total", sa.Numeric(10, 2), nullable=False, server_default="0"),
)
"""
PEOPLE = f"""
users = sa.table("users", sa.column("id", sa.Integer), sa.column("name", sa.String))
op.bulk_insert(users, [{{"id": 1, "name": "Ann"}}, {{"id": 2, "name": "O'Neil"}}])
posts = sa.table("posts", *(sa.column(name, sa.Integer) for name in ("id", "user_id")), sa.column("title", sa.String))
op.execute(posts.insert().values(id=1, user_id=1, title={TRICKY!r}))
"""
NO_PEOPLE = """
op.execute("DELETE FROM posts WHERE user_id IN (1, 2)")
op.execute("DELETE FROM users WHERE id IN (1, 2)")
"""
# On SQLite this makes the table anew, for which Alembic reads it from the database.
SLUG = """
with op.batch_alter_table("posts") as batch:
    batch.add_column(sa.Column("slug", sa.String(50), nullable=False, server_default="-"))
    batch.create_check_constraint("posts_slug", sa.column("slug") != "")
"""
NO_SLUG = """
with op.batch_alter_table("posts") as batch:
    batch.drop_constraint("posts_slug", type_="check")
    batch.drop_column("slug")
"""
INVOICED_POSTS = """
op.create_table(
    "invoices_posts",
    sa.Column("invoice_id", sa.Integer, sa.ForeignKey("invoices.id"), primary_key=True),
    sa.Column("post_id", sa.Integer, sa.ForeignKey("posts.id"), primary_key=True),
)
with op.get_context().autocommit_block():
    op.create_index("invoices_total", "invoices", ["total"], postgresql_concurrently=True)
"""
NO_INVOICED_POSTS = """
with op.get_context().autocommit_block():
    op.drop_index("invoices_total", "invoices", postgresql_concurrently=True)
op.drop_table("invoices_posts")
"""
OWNERS = """
op.execute(sa.text("UPDATE users SET name = :new WHERE name = :old").bindparams(new="Ann: \\\\o/", old="Ann"))
"""
NO_OWNERS = """
op.execute(sa.text("UPDATE users SET name = :old WHERE name = :new").bindparams(new="Ann: \\\\o/", old="Ann"))
"""


def write_packages(project: Project, *packages: str) -> None:
    for package in packages or PACKAGES:
        project.package(package)


def write_revisions(project: Project, *, batch: bool = True) -> None:
    """Write the seven revisions by hand.

    :param batch: whether blog_2 uses batch mode, which needs a live database on SQLite.
    """
    drop = "op.drop_table('{}')".format
    project.revision("app", "app_1", upgrade=USERS, downgrade=drop("users"), message="users")
    project.revision("blog", "blog_1", depends_on="app_1", upgrade=POSTS, downgrade=drop("posts"), message="posts")
    project.revision(
        *("acme.billing", "acme_billing_1", None, "app_1"),
        upgrade=INVOICES,
        downgrade=drop("invoices"),
        message="invoices",
    )
    project.revision("app", "app_2", "app_1", "blog_1", upgrade=PEOPLE, downgrade=NO_PEOPLE, message="people")
    slug = SLUG if batch else 'op.add_column("posts", sa.Column("slug", sa.String(50)))'
    no_slug = NO_SLUG if batch else 'op.drop_column("posts", "slug")'
    project.revision("blog", "blog_2", "blog_1", "app_2", upgrade=slug, downgrade=no_slug, message="slug")
    project.revision(
        *("acme.billing", "acme_billing_2", "acme_billing_1", "blog_2"),
        upgrade=INVOICED_POSTS,
        downgrade=NO_INVOICED_POSTS,
        message="invoiced posts",
    )
    project.revision(
        "app", "app_3", "app_2", "acme_billing_2", upgrade=OWNERS, downgrade=NO_OWNERS, message="names with a face"
    )


def framework_of(database: Database) -> str:
    return "quart" if database.is_async else "flask"


@dataclass(frozen=True)
class Shop:
    """An app in this process, its database, and its commands."""

    project: Project
    database: Database
    app: Any

    def run(self, *command: str, exit_code: int = 0) -> Result:
        """Run ``ampho`` through the command line of the framework, as an app's own tests do."""
        done = self.app.test_cli_runner().invoke(args=["ampho", *command])
        result = Result(("ampho", *command), done.exit_code, done.stdout, done.stderr)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert result.exit_code == exit_code, str(result)
        return result

    def applied(self) -> list[str]:
        """What ``db-current -v`` says is applied, sorted."""
        lines = self.run("db-current", "-v").stdout.splitlines()
        return sorted(line.split()[1] for line in lines if line.startswith("    applied"))


@contextmanager
def app_in(project: Project, module: str = "wsgi") -> Iterator[Any]:
    """The app of a project in this process, without what it leaves open."""
    with project.importing():
        app = importlib.import_module(module).create_app()
        try:
            yield app
        finally:
            if hasattr(app, "wsgi_app"):  # Quart's commands close what they open
                with app.app_context():
                    for engine in app.extensions["sqlalchemy"].engines.values():
                        engine.dispose()
            sys.modules.pop(module, None)


@contextmanager
def open_shop(project: Project, database: Database, *, batch: bool = True) -> Iterator[Shop]:
    """The project with its seven revisions and without any ``env.py``, opened in this process."""
    write_packages(project)
    write_revisions(project, batch=batch)
    project.app(framework_of(database), PACKAGES, database.url, path="wsgi.py", import_name="wsgi")
    with app_in(project) as app:
        yield Shop(project, database, app)
