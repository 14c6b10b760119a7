"""The plug-in costs nothing until a fixture is used, and finds the app without touching its database."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from project import Project
from sqlalchemy import create_engine
from suites import run_pytest

from ampho.testing.loading import never_connecting

FREE = """
import sys, time
import pytest
before, began = set(sys.modules), time.perf_counter()
import pytest_ampho
print((time.perf_counter() - began) * 1000, *set(sys.modules) - before)
"""

FINDING = {
    "app.py": """
        from flask import Flask
        from ampho import Ampho

        def create_app(name="app", *, debug=False):
            app = Flask(name)
            app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///developer.db"
            Ampho(app)
            return app
        """,
    "test_app.py": """
        import os

        def test_app(ampho_app):
            assert ampho_app.testing
            assert "FLASK_RUN_FROM_CLI" not in os.environ
            print("name:", ampho_app.name)
        """,
}


@pytest.fixture
def app(project: Project) -> Project:
    for path, text in FINDING.items():
        project.write(path, text)
    return project


def test_importing_the_plug_in_takes_less_than_two_milliseconds_and_imports_nothing_else() -> None:
    runs = [
        subprocess.run([sys.executable, "-P", "-c", FREE], capture_output=True, text=True, check=True) for _ in range(5)
    ]
    found = [run.stdout.split() for run in runs]

    assert {tuple(modules) for _, *modules in found} == {("pytest_ampho",)}
    assert min(float(milliseconds) for milliseconds, *_ in found) < 2


def test_a_project_without_fixtures_of_ampho_never_imports_it(project: Project) -> None:
    project.write("test_it.py", "import sys\n\ndef test_it(tmp_path):\n    assert 'ampho' not in sys.modules\n")

    result = project.run("pytest", "-q", "-p", "no:cacheprovider")

    assert "1 passed" in result.stdout


@pytest.mark.parametrize(
    ("args", "ini", "env", "name"),
    [
        ((), "ampho_app = app", {}, "app"),
        ((), "ampho_app = app.py:create_app('ini')", {}, "ini"),
        (("--ampho-app", "app:create_app('line')"), "ampho_app = app", {}, "line"),
        ((), "", {"FLASK_APP": "app:create_app(name='variable', debug=True)"}, "variable"),
        ((), "", {}, "app"),
    ],
    ids=["ini", "arguments", "command line", "variable", "usual file"],
)
def test_the_app_is_found_as_by_the_command_line(
    app: Project, args: tuple[str, ...], ini: str, env: dict[str, str], name: str
) -> None:
    result = run_pytest(app, *args, ini=ini, env=env)

    assert f"name: {name}\n" in result.stdout, str(result)


def test_the_app_is_found_in_the_folder_of_pytest_ini(app: Project) -> None:
    app.write("tests/test_below.py", FINDING["test_app.py"])

    result = run_pytest(app, ini="ampho_app = app:create_app('below')", cwd="tests")

    assert "name: below\n" in result.stdout, str(result)
    assert not list(app.folder.rglob("developer.db"))


def test_a_fixture_of_the_project_overrides_the_app(app: Project) -> None:
    app.write(
        "conftest.py",
        """
        import pytest
        from app import create_app

        @pytest.fixture(scope="session")
        def ampho_app():
            app = create_app("mine")
            app.testing = True
            yield app
        """,
    )

    result = run_pytest(app, ini="ampho_app = nothing")

    assert "name: mine\n" in result.stdout, str(result)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (
            "nothing",
            "there is no module 'nothing'; name the app with ampho_app in pytest.ini, --ampho-app, or",
        ),
        ("app:create_ap", "ampho_app app:create_ap: module 'app' has no 'create_ap'. Did you mean"),
        ("app:create_app(1, 2)", "the factory create_app cannot be called like this"),
    ],
)
def test_an_app_that_cannot_be_loaded_is_one_clear_line(app: Project, named: str, message: str) -> None:
    result = run_pytest(app, ini=f"ampho_app = {named}")

    assert message in result.stdout, str(result)
    assert "Traceback" not in result.stdout
    assert "ampho/testing" not in result.stdout


@pytest.mark.parametrize("options", [{}, {"creator": lambda: sqlite3.connect(":memory:")}], ids=["url", "creator"])
def test_no_engine_connects_while_an_app_is_created(options: dict[str, Any], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/developer.db"
    old = create_engine(url, **options)
    with never_connecting():
        for engine in (old, create_engine(url, **options)):
            with pytest.raises(pytest.fail.Exception, match="connects to a database while it is created"):
                engine.connect()
    assert not (tmp_path / "developer.db").exists()
    for engine in (old, create_engine(url, **options)):
        engine.connect().close()
        engine.dispose()


CONNECTING = """
from flask import Flask
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool
import sqlite3

def create_app():
    try:
        {connect}
    except Exception:
        pass
    return Flask("app")
"""


@pytest.mark.parametrize(
    "connect",
    [
        "create_engine('sqlite:///developer.db').connect()",
        "create_engine('sqlite://', creator=lambda: sqlite3.connect(':memory:')).connect()",
    ],
    ids=["url", "creator"],
)
@pytest.mark.parametrize("own", [False, True], ids=["option", "fixture"])
def test_a_factory_that_connects_while_the_app_is_created_is_refused(app: Project, connect: str, own: bool) -> None:
    app.write("app.py", CONNECTING.format(connect=connect))
    app.write("test_app.py", "def test_app(ampho_app): ...\n\n\ndef test_again(ampho_app): ...\n")
    fixture = (
        "import pytest\nfrom app import create_app\n\n@pytest.fixture\ndef ampho_app():\n    return create_app()\n"
    )
    if own:
        app.write("conftest.py", fixture)

    result = run_pytest(app, ini="ampho_app = app:create_app")

    assert result.stdout.count("The app connects to a database while it is created (at app.py:9)") >= 2, str(result)
    assert "Traceback" not in result.stdout
    assert "2 errors" in result.stdout
    assert not (app.folder / "developer.db").exists()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("None", "The fixture ampho_app returned a NoneType, not a Flask or Quart app. Return the app."),
        ("Flask('app')", "The app app has no Ampho extension. Add Ampho(app) for Flask"),
    ],
)
def test_a_fixture_that_returns_something_else_is_one_clear_line(project: Project, returned: str, message: str) -> None:
    fixture = "import pytest\nfrom flask import Flask\n\n@pytest.fixture\ndef ampho_app():\n    return {}\n"
    project.write("conftest.py", fixture.format(returned))
    project.write("test_app.py", "def test_app(ampho_app): ...\n")

    result = run_pytest(project)

    assert message in result.stdout, str(result)
    assert "ampho/testing" not in result.stdout


@pytest.mark.parametrize("table", ["tool.pytest.ini_options", "tool.pytest"])
def test_a_list_is_one_clear_line(app: Project, table: str) -> None:
    app.write("pyproject.toml", f'[{table}]\nampho_app = ["app"]\n')

    result = app.run("pytest", "-q", "-p", "no:cacheprovider", check=False)

    assert "ampho_app in pyproject.toml is not a string. Write a string." in result.stdout, str(result)
    assert "ampho/testing" not in result.stdout


def test_a_misspelled_option_of_the_command_line_is_called_so(app: Project) -> None:
    result = run_pytest(app, "--ampho-app", "app:create_ap")

    assert "--ampho-app app:create_ap: module 'app' has no 'create_ap'" in result.stdout, str(result)
