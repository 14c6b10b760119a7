"""Alembic's own command, ``flask db`` and pytest-alembic work on the files that Ampho wrote; wheels bring packages."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
import zigzag
from project import Project, Result
from servers import Database
from zigzag import PACKAGES, Shop

Make = Callable[[str], Database]

RAISES = "raise RuntimeError('the env.py of a third party ran')\n"


@pytest.fixture
def opened(project: Project, database: Database) -> Iterator[Shop]:
    """The shop of three packages, with the files that ``db-init`` writes."""
    zigzag.write_packages(project)
    project.app(zigzag.framework_of(database), PACKAGES, database.url, path="wsgi.py", import_name="wsgi")
    with zigzag.app_in(project) as app:
        opened = Shop(project, database, app)
        for package in PACKAGES:
            opened.run("db-init", package)
        zigzag.write_revisions(project, batch=database.backend != "sqlite")
        yield opened


def alembic(opened: Shop, *command: str, package: str = "app", check: bool = True) -> Result:
    ini = opened.project.migrations(package).relative_to(opened.project.folder) / "alembic.ini"
    return opened.project.run("alembic", "-c", str(ini), *command, check=check)


def content(database: Database) -> tuple[Any, ...]:
    return database.schema(), database.data()


# Alembic


@pytest.mark.drivers("sqlite+aiosqlite", "postgresql+psycopg", "mariadb+asyncmy")
def test_alembic_up_and_down_with_exact_rows(opened: Shop, make_database: Make) -> None:
    """Without the generated ``env.py``, Alembic's own arithmetic fails on this history."""
    alembic(opened, "upgrade", "acme_billing_2")
    assert opened.database.rows() == ["acme_billing_2"]
    alembic(opened, "upgrade", "heads", package="acme.billing")
    assert opened.database.rows() == ["app_3"]
    assert opened.applied() == sorted(zigzag.ORDER)
    there = content(opened.database)

    alembic(opened, "downgrade", "base")
    assert opened.database.rows() == []
    assert opened.database.tables() == ["alembic_version"]

    if opened.database.backend == "postgresql" and sqlalchemy.__version__ < "2.1":
        return  # There, plain Alembic doubles the backslashes of texts.
    twin = make_database(opened.database.driver)
    twin.client(alembic(opened, "upgrade", "heads", "--sql").stdout)
    assert content(twin) == there


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg", "postgresql+psycopg_async", "mariadb+pymysql")
def test_alembic_goes_on_where_ampho_stopped_and_back(opened: Shop) -> None:
    opened.run("db-up", "blog")
    alembic(opened, "upgrade", "acme_billing_1", package="blog")
    assert opened.database.rows() == ["acme_billing_1", "blog_2"]

    opened.run("db-up")
    alembic(opened, "downgrade", "-1")
    assert opened.database.rows() == ["acme_billing_2"]
    assert "acme_billing_2" in alembic(opened, "current").stdout


@pytest.mark.drivers("sqlite+pysqlite")
def test_alembic_sees_a_package_that_came_later_with_the_file_of_an_older_one(opened: Shop) -> None:
    opened.project.package("late")
    opened.app.config["AMPHO_MIGRATION_PACKAGES"] = [*PACKAGES, "late"]
    wrote = opened.run("db-init", "late").stdout
    opened.project.revision("late", "late_1")
    opened.project.revision("app", "app_4", "app_3", depends_on="late_1")

    assert all(str(opened.project.migrations(package) / "alembic.ini") in wrote for package in PACKAGES)
    assert "late_1 (late)" in alembic(opened, "heads").stdout
    assert "app_4 (app) (head)" in alembic(opened, "heads", package="acme.billing").stdout


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_alembic_sees_every_package(opened: Shop) -> None:
    assert "app_3 (app) (head)" in alembic(opened, "heads", package="acme.billing").stdout
    history = alembic(opened, "history").stdout
    assert all(revision in history for revision in zigzag.ORDER)
    # alembic.ini has the packages of the day on which it was written; those of today count for what runs env.py.
    opened.project.write("wsgi.py", opened.project.read("wsgi.py").replace("'acme.billing'", "'acme.billing', 'later'"))
    opened.project.package("later")
    opened.project.revision("later", "later_1", depends_on="app_3", upgrade="op.execute('SELECT 1')")
    alembic(opened, "upgrade", "heads")
    assert opened.database.rows() == ["later_1"]


@pytest.mark.drivers("sqlite+pysqlite")
def test_alembic_writes_a_revision_that_ampho_takes(opened: Shop) -> None:
    alembic(opened, "revision", "-m", "By Alembic", "--head", "blog@head", "--rev-id", "blog_3", package="blog")

    opened.run("db-up")

    assert "By Alembic" in opened.run("db-show", "blog").stdout
    assert opened.database.rows() == ["app_3", "blog_3"]


# Flask-Migrate


def flask_db(opened: Shop, *command: str) -> str:
    return opened.project.run("flask", "db", *command).stdout


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg")
def test_flask_db_sees_the_same_graph(opened: Shop) -> None:
    assert "app_3 (app)" in flask_db(opened, "heads")
    assert all(revision in flask_db(opened, "history") for revision in zigzag.ORDER[:1])
    flask_db(opened, "upgrade", "heads")
    assert opened.database.rows() == ["app_3"]
    assert "app_3" in flask_db(opened, "current")
    flask_db(opened, "downgrade")
    assert opened.database.rows() == ["acme_billing_2"]
    assert opened.run("db-up").stdout.startswith("Upgrading (heads): 1 revision of app")


@pytest.mark.drivers("sqlite+pysqlite")
def test_flask_db_with_the_folder_of_a_user(opened: Shop) -> None:
    """The folder that ``flask db init`` made keeps its ``env.py``; the revisions are those of the packages."""
    opened.project.run("flask", "db", "init", "--directory", "migrations")
    with (opened.project.folder / "migrations" / "env.py").open("a") as env:
        env.write("\nprint('the env.py of the user ran')\n")
    edit_app(opened, "from ampho import Ampho", "from ampho import Ampho\nfrom flask_migrate import Migrate")
    edit_app(opened, "Ampho(app)", "Ampho(app, migrate=Migrate(compare_type=False))")

    assert "app_3 (app)" in flask_db(opened, "heads")
    assert "the env.py of the user ran" in flask_db(opened, "upgrade", "app_2")
    assert opened.applied() == ["app_1", "app_2", "blog_1"]
    assert "the env.py of the user ran" not in opened.project.run("ampho", "db-up").output
    assert opened.database.rows() == ["app_3"]


@pytest.mark.drivers("sqlite+pysqlite")
@pytest.mark.parametrize("is_fed", [False, True])
def test_flask_db_migrate_leaves_the_journal_alone(opened: Shop, is_fed: bool) -> None:
    opened.project.run("flask", "db", "init", "--directory", "migrations")
    if is_fed:
        edit_app(opened, "from ampho import Ampho", "from ampho import Ampho\nfrom flask_migrate import Migrate")
        edit_app(opened, "Ampho(app)", "Ampho(app, migrate=Migrate(include_name=lambda name, *args: name != 'mine'))")
    opened.run("db-up")
    opened.database.run("CREATE TABLE mine (id INTEGER)")

    output = opened.project.run("flask", "db", "migrate", "--head", "app@head").output
    assert "Detected removed table 'mine'" in output or is_fed
    assert ("'mine'" not in output) is is_fed
    assert "Detected removed table" in output
    assert "ampho_journal" not in output


def edit_app(opened: Shop, old: str, new: str) -> None:
    text = opened.project.read("wsgi.py")
    assert old in text
    opened.project.write("wsgi.py", text.replace(old, new))


# pytest-alembic


MODELS = """
import sqlalchemy as sa
metadata = app.extensions["ampho"].db.metadata
users = sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(50), nullable=False, unique=True),
    sa.Column("joined", sa.DateTime),
)
posts = sa.Table(
    "posts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("user_id", sa.Integer, sa.ForeignKey("users.id", name="posts_user", ondelete="CASCADE"), nullable=False),
    sa.Column("title", sa.String(200), nullable=False),
)
"""
CONFTEST = """
import pytest
import sqlalchemy
from sqlalchemy import NullPool, create_engine
from sqlalchemy.ext.asyncio import create_async_engine

@pytest.fixture
def alembic_config():
    return {{"file": "app/migrations/alembic.ini"}}

@pytest.fixture
def alembic_engine():
    return {make}({url!r}, poolclass=NullPool)  # each command has a loop of its own
"""
PYTEST_ALEMBIC = """
from pytest_alembic.tests import test_model_definitions_match_ddl, test_up_down_consistency, test_upgrade
"""


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite", "postgresql+psycopg", "postgresql+asyncpg")
def test_pytest_alembic(project: Project, database: Database) -> None:
    framework = zigzag.framework_of(database)
    zigzag.write_packages(project, "app", "blog")
    project.app(framework, ["app", "blog"], database.url, path="wsgi.py", import_name="wsgi", body=MODELS)
    with zigzag.app_in(project) as app:
        for package in ("app", "blog"):
            Shop(project, database, app).run("db-init", package)
    project.revision("app", "app_1", upgrade=zigzag.USERS, downgrade="op.drop_table('users')")
    project.revision("blog", "blog_1", None, "app_1", upgrade=zigzag.POSTS, downgrade="op.drop_table('posts')")
    project.revision("blog", "blog_2", "blog_1")
    make = "create_async_engine" if database.is_async else "create_engine"
    project.write("conftest.py", CONFTEST.format(make=make, url=database.url.render_as_string(hide_password=False)))
    project.write("test_migrations.py", PYTEST_ALEMBIC)

    result = project.run("pytest", "-q", "-p", "no:cacheprovider", "test_migrations.py", check=False)

    assert "3 passed" in result.stdout, result.stdout


# A package from a wheel


def install_wheel(project: Project, labels: str) -> Path:
    """Build a wheel of a third party's package, and unpack it where an installer would; return site-packages."""
    wheel = project.folder / "acme_accounts-1.0-py3-none-any.whl"
    body = (
        "from alembic import op\nimport sqlalchemy as sa\nrevision = {0!r}\ndown_revision = {1!r}\n"
        "branch_labels = {2}\ndepends_on = None\n\n\ndef upgrade():\n"
        "    op.create_table({3!r}, sa.Column('x', sa.Text))\n\n\ndef downgrade():\n    op.drop_table({3!r})\n"
    )
    files = {
        "acme_accounts/__init__.py": "",
        "acme_accounts/alembic/env.py": f"from ampho import environment\n{RAISES}",
        "acme_accounts/alembic/script.py.mako": "",
        "acme_accounts/alembic/1f_accounts.py": body.format("1f", None, labels, "accounts"),
        "acme_accounts/alembic/2e_ledger.py": body.format("2e", "1f", None, "ledger"),
        "acme_accounts-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: acme-accounts\nVersion: 1.0\n",
        "acme_accounts-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "acme_accounts-1.0.dist-info/RECORD"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(record, "".join(f"{name},,\n" for name in [*files, record]))
    site_packages = project.folder / "venv" / "lib" / "site-packages"
    zipfile.ZipFile(wheel).extractall(site_packages)
    return site_packages


@pytest.fixture(params=["None", "('bookkeeping',)"], ids=["no label", "another label"])
def site_packages(request: pytest.FixtureRequest, project: Project) -> Path:
    return install_wheel(project, request.param)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg")
def test_a_package_from_a_wheel(
    project: Project, database: Database, site_packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is listed first, and yet its ``env.py`` configures nothing; its branch answers to its name."""
    monkeypatch.syspath_prepend(site_packages)
    packages = ["acme_accounts:alembic", "app", "acme.billing"]
    zigzag.write_packages(project, "app", "acme.billing")
    project.app(zigzag.framework_of(database), packages, database.url, path="wsgi.py", import_name="wsgi")
    with zigzag.app_in(project) as app:
        opened = Shop(project, database, app)
        for package in ("app", "acme.billing"):
            opened.run("db-init", package)
        project.revision("app", "app_1", depends_on="2e", upgrade=zigzag.USERS, downgrade="op.drop_table('users')")
        project.revision("acme.billing", "bill_1", None, ["app_1", "1f"])

        opened.run("db-up", "acme_accounts@+1")
        assert database.rows() == ["1f"]
        opened.run("db-up", "acme_accounts")
        assert database.tables() == ["accounts", "alembic_version", "ledger"]
        opened.run("db-up")
        assert database.rows() == ["bill_1"]
        assert opened.run("db-show", "acme_accounts").stdout.splitlines()[0] == "acme_accounts"
        assert "acme_accounts  2e (head)" in opened.run("db-current").stdout
        assert (
            "Run 'ampho db-down acme_accounts@-1 --cascade'"
            in opened.run("db-down", "acme_accounts@-1", exit_code=1).stderr
        )
        opened.run("db-down", "acme_accounts@base", "--cascade")
        assert database.tables() == ["alembic_version"]

        before = project.files()
        for command in (("db-init", "acme_accounts"), ("db-rev", "acme_accounts", "Mine")):
            refused = opened.run(*command, exit_code=1).stderr
            assert "acme_accounts is installed in" in refused
            assert "where Ampho does not write" in refused
        assert project.files() == before

        assert "acme_accounts" not in sys.modules

        with_wheel = {"PYTHONPATH": str(site_packages)}
        sql = project.run("ampho", "db-up", "-s", env=with_wheel).stdout
        assert "CREATE TABLE ledger" in sql
        project.run("alembic", "-c", "app/migrations/alembic.ini", "upgrade", "heads", env=with_wheel)
        assert database.rows() == ["bill_1"]
