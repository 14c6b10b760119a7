"""What fails in a test is told in one sentence, and an app that has already used its own database is refused."""

from __future__ import annotations

import pytest
from project import Project
from suites import copy_shop, run_pytest

FAILING = """
import pytest
import anyio
import sqlalchemy as sa
from {app} import app, db


async def select():
    async with app.app_context():
        await db.session.execute(sa.text("SELECT 1"))


def test_refused(ampho_app):
    if app.import_name == "quart_app":
        anyio.run(select)
    else:
        with app.app_context():
            db.session.execute(sa.text("SELECT 1"))


def run(value):
    if app.import_name == "quart_app":
        async def wait():
            return await value
        anyio.run(wait)


def test_specifier(migrations):
    run(migrations.upgrade_to("nothing"))


def test_revision(migrations):
    run(migrations.upgrade_to("heads"))
"""


@pytest.fixture
def shop(project: Project) -> Project:
    return copy_shop(project)


@pytest.mark.parametrize("app", ["flask_app", "quart_app"])
def test_errors_have_no_frames_of_libraries(shop: Project, app: str) -> None:
    shop.revision("accounts", "accounts_1770000000", "accounts_1768816800", upgrade='op.execute("X")')
    shop.write("test_it.py", FAILING.format(app=app))

    result = run_pytest(shop, ini=f"ampho_app = {app}")

    assert "3 failed" in result.stdout, str(result)
    for message in (
        "without a fixture that provides one",
        "nothing is n",
        "Revision accounts_1770000000 of accounts failed",
    ):
        assert message in result.stdout
    for path in ("ampho/extension", "ampho/commands", "ampho/testing", "ampho/database", "sqlalchemy/engine"):
        assert path not in result.stdout, str(result)


def test_a_template_that_cannot_be_built_is_tried_once(shop: Project) -> None:
    upgrade = 'with open("tries", "a") as tries:\n    tries.write("x")\nop.execute("X")'
    shop.revision("accounts", "accounts_1770000000", "accounts_1768816800", upgrade=upgrade)
    shop.write(
        "test_it.py", "import pytest\n\n@pytest.mark.parametrize('n', range(4))\ndef test(ampho_database, n): ...\n"
    )

    result = run_pytest(shop, ini="ampho_app = flask_app")

    assert "4 errors" in result.stdout, str(result)
    assert result.stdout.count("Only a throwaway database is affected.") >= 4
    assert shop.read("tries") == "x"


CONNECTED = """
import pytest
import anyio
import sqlalchemy as sa
from {app} import app, db


async def select():
    async with app.app_context():
        await db.session.execute(sa.text("SELECT 1"))


if app.import_name == "quart_app":
    anyio.run(select)
else:
    with app.app_context():
        db.session.execute(sa.text("SELECT 1"))


@pytest.fixture{scope}
def ampho_app():
    return app
"""


@pytest.mark.parametrize("scope", ['(scope="session")', ""], ids=["session", "function"])
def test_an_app_that_connected_before_the_fixture_is_refused(shop: Project, scope: str) -> None:
    (shop.folder / "instance").mkdir()
    shop.write("conftest.py", CONNECTED.format(app="flask_app", scope=scope))
    shop.write("test_it.py", "def test_app(ampho_app): ...\n\n\ndef test_database(ampho_database): ...\n")

    result = run_pytest(shop)

    assert result.stdout.count("The app has connected to default before the fixture ampho_app returned it") >= 2, str(
        result
    )
    assert "2 errors" in result.stdout
    assert "ampho/testing" not in result.stdout


TWO_SCOPES = """
import pytest


@pytest.fixture
def ampho_app(ampho_app):
    return ampho_app


def test_one(ampho_database): ...
"""


def test_an_app_that_another_fixture_still_uses_keeps_its_databases(shop: Project) -> None:
    shared = (
        "import os\n\ndef test(ampho_session_database):\n    assert os.path.exists(ampho_session_database.url.database)"
    )
    shop.write("test_1.py", shared)
    shop.write("test_2.py", TWO_SCOPES)
    shop.write("test_3.py", shared)

    result = run_pytest(shop, "-W", "default", ini="ampho_app = flask_app")

    assert "3 passed" in result.stdout, str(result)


def test_databases_of_several_tests_need_an_app_of_their_scope(shop: Project) -> None:
    shop.write("conftest.py", TWO_SCOPES.partition("def test_one")[0])
    shop.write("test_it.py", "def test(ampho_session_database): ...\n")

    result = run_pytest(shop, ini="ampho_app = flask_app")

    assert "ScopeMismatch" in result.stdout, str(result)
