"""Finding the app: which one is taken, how often it is made, and the one line that says why there is none."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from flask import Flask
from quart import Quart

from ampho.apps import AppLoader, current_or_load, load_env_files
from ampho.cli.console import ConsoleLoader
from ampho.errors import AmphoError, AppNotFoundError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLES = (
    "AMPHO_APP",
    "FLASK_APP",
    "QUART_APP",
    "FLASK_DEBUG",
    "QUART_DEBUG",
    "FLASK_SKIP_DOTENV",
    "QUART_SKIP_DOTENV",
    "FLASK_RUN_FROM_CLI",
)
FLASK_APP = "from flask import Flask\napp = Flask('{0}')\n"


class Project:
    """A folder of the user's, which is the current one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, **files: str) -> None:
        """Write ``pkg__module="text"`` to ``pkg/module.py``."""
        for name, text in files.items():
            path = self.folder.joinpath(*name.split("__")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), "utf-8")

    def package(self, name: str, text: str = "") -> None:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").write_text(textwrap.dedent(text), "utf-8")

    def run(self, code: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run code as a console script does: without the current folder on ``sys.path``."""
        clean = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        return subprocess.run(
            [sys.executable, "-P", "-c", textwrap.dedent(code)],
            cwd=self.folder,
            env=clean | env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    modules, environment = set(sys.modules), dict(os.environ)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    for name in VARIABLES:
        os.environ.pop(name, None)
    yield Project(tmp_path)
    for name in set(sys.modules) - modules:
        attributes = vars(sys.modules[name])  # getattr() would ask a module's own __getattr__
        where = [attributes.get("__file__"), *attributes.get("__path__", ())]
        if any(path and Path(path).is_relative_to(tmp_path) for path in where):
            del sys.modules[name]
    os.environ.clear()
    os.environ.update(environment)


def found(import_path: str | None = None) -> str:
    return AppLoader(import_path).load_app().import_name


def failure(import_path: str | None = None) -> str:
    """Return the message of the error, which is one line and names what to do."""
    with pytest.raises(AppNotFoundError) as caught:
        AppLoader(import_path).load_app()
    text = str(caught.value)
    assert text.isprintable()
    assert "--app" in text or "plain function" in text or "pip install" in text
    assert caught.value.exit_code == 1
    return text


# ---- where it looks ----


@pytest.mark.parametrize("name", ["wsgi", "app", "asgi"])
def test_a_usual_file_of_the_current_folder_is_found(project: Project, name: str) -> None:
    project.write(**{name: FLASK_APP.format(name)})
    assert found() == name


def test_the_usual_files_are_tried_in_order(project: Project) -> None:
    project.write(wsgi=FLASK_APP.format("w"), app=FLASK_APP.format("a"), asgi=FLASK_APP.format("s"))
    assert found() == "w"


def test_a_usual_name_may_be_a_package(project: Project) -> None:
    project.package("app", FLASK_APP.format("package"))
    assert found() == "package"


def test_a_package_wins_over_a_module_of_its_name_as_in_python(project: Project) -> None:
    project.package("app", FLASK_APP.format("package"))
    project.write(app=FLASK_APP.format("module"))
    assert found() == "package"


def test_a_folder_that_is_no_package_is_passed_over(project: Project) -> None:
    (project.folder / "app").mkdir()
    project.write(asgi="from quart import Quart\napplication = Quart('asgi')\n")
    assert found() == "asgi"


def test_the_environment_comes_after_the_option_and_in_order(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write(**{name: FLASK_APP.format(name) for name in ("a", "b", "c", "d", "app")})
    assert found() == "app"
    for variable, name in [("QUART_APP", "d"), ("FLASK_APP", "c"), ("AMPHO_APP", "b")]:
        monkeypatch.setenv(variable, name)
        assert found() == name
    assert found("a") == "a"


def test_an_empty_option_or_variable_says_nothing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write(app=FLASK_APP.format("app"))
    monkeypatch.setenv("FLASK_APP", "")
    assert found("") == "app"


@pytest.mark.parametrize(
    "path",
    ["shop", "shop.web", "shop/web.py", "shop/web.py:app", "shop.web:app", "shop.web: app ", "shop.web:create_app"],
)
def test_module_and_file_names_mean_what_they_mean_to_flask(project: Project, path: str) -> None:
    project.package("shop", "from shop.web import app\n")
    project.write(shop__web=FLASK_APP.format("web") + "def create_app(): return app\n")
    assert found(path) == "web"
    assert sys.path[0] == str(project.folder)


def test_the_folder_of_a_file_and_the_current_one_are_importable(project: Project) -> None:
    project.write(src__web="import beside, top\nfrom flask import Flask\napp = Flask(beside.name + top.name)\n")
    project.write(src__beside="name = 'be'\n", top="name = 'top'\n")
    assert found("src/web.py") == "betop"


@pytest.mark.parametrize("way", ["PYTHONPATH", "editable"])
def test_the_file_of_another_project_on_the_path_is_not_taken(project: Project, tmp_path: Path, way: str) -> None:
    """An editable install puts a project's folder on the path, and its ``wsgi.py`` would come before our ``app.py``."""
    other, ours = tmp_path / "other", tmp_path / "ours"
    project.write(other__wsgi=FLASK_APP.format("theirs"), other__app=FLASK_APP.format("theirs"))
    project.write(ours__app=FLASK_APP.format("ours"), empty__x="")
    code = f"""
    import os, site, sys
    from ampho.apps import AppLoader
    if {way == "editable"}:
        site.addsitedir({str(tmp_path / "site")!r})
    for folder in ("ours", "empty"):
        os.chdir(os.path.join({str(tmp_path)!r}, folder))
        try:
            print(AppLoader().load_app().import_name)
        except Exception as exc:
            print(exc)
    os.chdir({str(ours)!r})
    print(AppLoader("wsgi").load_app().import_name)
    """
    project.write(site__x="")
    (tmp_path / "site" / "other.pth").write_text(f"{other}\n", "utf-8")

    done = project.run(code, **({"PYTHONPATH": str(other)} if way == "PYTHONPATH" else {}))

    mine, none, named = done.stdout.splitlines()
    assert mine == "ours"
    assert none.startswith("no app found: looked for wsgi.py, app.py, asgi.py in ")
    assert named == "theirs", "who names a module gets it from wherever it is"


def test_a_module_of_the_same_name_that_is_imported_already_is_not_taken(project: Project) -> None:
    """As one that a hook of an editable install, or a file in site-packages, imported before."""
    project.write(app=FLASK_APP.format("ours"), other__app=FLASK_APP.format("theirs"))
    code = """
    import sys
    from ampho.apps import AppLoader
    sys.path.insert(0, "other")
    import app
    try:
        AppLoader().load_app()
    except Exception as exc:
        print(exc)
    """
    said = project.run(code).stdout
    assert said.startswith("app.py: another module with this name is imported first (")
    assert "other/app.py). Rename the file, or name the app with --app or AMPHO_APP" in said


def test_nothing_found_names_what_was_tried(project: Project) -> None:
    text = failure()
    assert text.startswith("no app found: looked for wsgi.py, app.py, asgi.py in ")
    assert str(project.folder) in text
    assert "--app or AMPHO_APP" in text
    assert "add an app.py" in text


# ---- which app it takes ----


def test_the_usual_name_is_taken_among_apps_of_both_frameworks(project: Project) -> None:
    both = "from flask import Flask\nfrom quart import Quart\nadmin = Flask('admin')\n"
    project.write(one=both + "app = Quart('app')\n", two=both + "application = Quart('application')\n")
    assert found("one") == "app"
    assert found("two") == "application"


def test_apps_of_both_frameworks_without_a_usual_name_are_listed(project: Project) -> None:
    project.write(app="from flask import Flask\nfrom quart import Quart\nadmin = Flask('a')\napi = Quart('b')\n")
    text = failure()
    assert (
        "module 'app' contains several apps: admin (Flask), api (Quart); choose one, as in --app app.py:admin" in text
    )
    assert found("app.py:admin") == "a"


def test_the_only_app_is_taken_whatever_and_however_often_it_is_named(project: Project) -> None:
    project.write(app="from quart import Quart, current_app\nserver = api = Quart('server')\n")
    assert found() == "server"


def test_a_subclass_of_either_framework_is_an_app(project: Project) -> None:
    project.write(app="import quart\nclass Shop(quart.Quart): ...\napp = Shop('shop')\n")
    assert isinstance(AppLoader().load_app(), Quart)


def test_current_app_of_a_pushed_context_is_no_second_app(project: Project) -> None:
    code = """
    from ampho.apps import AppLoader
    print(type(AppLoader("shop").load_app()).__name__, AppLoader("shop:current_app").load_app().import_name)
    """
    project.write(shop="from flask import Flask, current_app\nweb = Flask('web')\nweb.app_context().push()\n")
    assert project.run(code).stdout == "Flask web\n"


def test_a_proxy_that_fails_is_not_asked_where_the_usual_name_is_there(project: Project) -> None:
    proxy = "from werkzeug.local import LocalProxy\nproxy = LocalProxy({}.popitem)\n"
    project.write(app=proxy + FLASK_APP.format("x"), web=proxy)
    assert found() == "x"
    assert "module 'web' cannot be searched: KeyError: 'popitem(): dictionary is empty'" in failure("web")


def test_an_app_may_be_computed_when_the_module_is_asked_for_it(project: Project) -> None:
    project.write(
        shop="""
        from flask import Flask
        def __getattr__(name):
            if name == "app":
                return Flask("lazy")
            raise AttributeError(name)
        """
    )
    assert found("shop") == "lazy"


# ---- factories ----


@pytest.mark.parametrize("kind", [AppLoader, ConsoleLoader])
@pytest.mark.parametrize("name", ["create_app", "make_app"])
def test_a_usual_factory_is_called_once_and_the_module_imported_once(
    project: Project, name: str, kind: type[AppLoader | ConsoleLoader]
) -> None:
    project.write(
        app=f"""
        from pathlib import Path
        from quart import Quart
        def count(what):
            with Path("calls").open("a") as file:
                file.write(what)
        count("import ")
        def {name}():
            count("call ")
            return Quart("made")
        """
    )
    loader = kind(None)
    assert loader.load_app() is loader.load_app()
    assert (project.folder / "calls").read_text() == "import call "


@pytest.mark.parametrize("call", ["make('x', debug=True)", "make( 'x' , debug=True )", "make(name='x', debug=True)"])
def test_a_factory_takes_literal_arguments(project: Project, call: str) -> None:
    project.write(shop="from flask import Flask\ndef make(name, *, debug): return Flask(f'{name}{debug}')\n")
    assert found(f"shop:{call}") == "xTrue"


def test_a_factory_may_be_decorated_partial_or_a_method(project: Project) -> None:
    project.write(
        shop="""
        import functools
        from flask import Flask
        class Maker:
            def make(self): return Flask("method")
        method = Maker().make
        partial = functools.partial(Flask, "partial")
        def configured(function):
            @functools.wraps(function)
            def wrapper():
                return function("decorated")
            return wrapper
        @configured
        def decorated(name): return Flask(name)
        """
    )
    assert [found(f"shop:{name}") for name in ("method", "partial", "decorated")] == ["method", "partial", "decorated"]


def test_a_factory_without_a_signature_is_just_called(project: Project) -> None:
    project.write(shop="next_one = next\n")
    assert "the factory next_one failed: TypeError: next expected at least 1 argument, got 0" in failure(
        "shop:next_one"
    )


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("shop", "missing a required argument: 'config'"),
        ("shop:create_app", "missing a required argument: 'config'"),
        ("shop:create_app('a', 'b')", "too many positional arguments"),
        ("shop:create_app(other='hunter2')", "missing a required argument: 'config'"),
    ],
)
def test_a_factory_that_takes_other_arguments_is_not_called(project: Project, path: str, problem: str) -> None:
    project.write(shop="def create_app(config): raise AssertionError\n")
    text = failure(path)
    assert f"the factory create_app cannot be called like this: {problem}" in text
    assert """--app "shop:create_app('x', debug=True)\"""" in text
    assert "hunter2" not in text


def test_a_type_error_inside_a_factory_is_told_as_its_own(project: Project) -> None:
    project.write(app="def create_app():\n    return 1 + ''\n")
    text = failure()
    assert "app.py: the factory create_app failed: TypeError: unsupported operand" in text
    assert "(at app.py:2)" in text


@pytest.mark.parametrize(
    "factory",
    [
        "async def create_app(): return Quart('x')",
        "async def make(): return Quart('x')\ndef create_app(): return make()",
    ],
)
def test_an_async_factory_is_refused_with_the_remedy(project: Project, factory: str) -> None:
    project.write(app=f"from quart import Quart\n{factory}\n")
    text = failure()
    assert "the factory create_app is async" in text
    assert "make it a plain function, and await in @app.before_serving instead" in text


# ---- what is no app ----


def test_a_missing_module_is_told_apart_from_one_that_misses_something(project: Project) -> None:
    project.write(shop="import no_such_thing\n", web="from os import no_such_name\n")
    assert "--app nowhere: there is no module 'nowhere'; " in failure("nowhere")
    assert (
        "--app shop: it cannot be imported: ModuleNotFoundError: No module named 'no_such_thing' (at shop.py:1)"
        in failure("shop")
    )
    assert "it cannot be imported: ImportError: cannot import name 'no_such_name' from 'os'" in failure("web")


@pytest.mark.parametrize("path", ["shop.web", "shop.web:app", "plain.web", "shop/nowhere.py", ":app", "."])
def test_a_module_missing_from_its_package_is_no_module(project: Project, path: str) -> None:
    project.package("shop")
    project.write(plain="")
    text = failure(path)
    assert text.startswith(f"--app {path}: ")
    assert "there is no module" in text or "has no 'app'" in text or "contains no Flask or Quart app" in text


def test_an_import_of_itself_that_fails_inside_is_no_missing_module(project: Project) -> None:
    project.package("shop", "import shop.web\n")
    assert "it cannot be imported: ModuleNotFoundError: No module named 'shop.web' (at shop/__init__.py:1)" in failure(
        "shop.web"
    )


@pytest.mark.parametrize("path", ["\0", "..", ".py", "/", "a b/c d.py"])
def test_a_hostile_name_is_one_line(project: Project, path: str) -> None:
    failure(path)


def test_a_message_names_where_the_name_came_from(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUART_APP", "nowhere")
    with pytest.raises(AppNotFoundError, match=r"^QUART_APP=nowhere: there is no module 'nowhere'; ") as caught:
        AppLoader().load_app()
    assert caught.value.setting == "QUART_APP"


def test_a_missing_name_is_named(project: Project) -> None:
    project.write(shop=FLASK_APP.format("shop"))
    assert "--app shop:web: module 'shop' has no 'web'; " in failure("shop:web")


APP_AND_FACTORIES = (
    "from flask import Flask, redirect\napp = Flask('app')\ndef create_app(*args): return app\ndef load_all(): ...\n"
)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("shop:apq", "shop:app"),
        ("shop:crate_app", "shop:create_app"),
        ("shop:crate_app('hunter2')", "shop:create_app"),
        ("shop.py:apq", "shop.py:app"),
        ("shpo", "shop"),
        ("shpo:app", "shop:app"),
        ("shpo.py:app", "shop.py:app"),
        ("shpo:create_app('hunter2')", "shop:create_app(...)"),
        ("acounts", "accounts"),
    ],
)
def test_what_is_misspelt_is_asked_about(project: Project, typed: str, meant: str) -> None:
    project.package("accounts", "")
    project.write(shop=APP_AND_FACTORIES)
    text = failure(typed)
    assert text.endswith(f". Did you mean {meant}?")
    assert "hunter2" not in text


def test_a_name_that_no_app_and_no_factory_of_the_module_has_is_not_asked_about(project: Project) -> None:
    project.write(shop=APP_AND_FACTORIES + "settings = 1\n")
    for typed in ("shop:redirec", "shop:setings", "shop:Flas"):
        assert "; name the app with --app or AMPHO_APP" in failure(typed)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("type('FastAPI', (), {})()", "a FastAPI object"),
        ("type('ASGIHandler', (), {'__call__': print})()", "an ASGIHandler object"),
        ("'a string'", "a str object"),
        ("None", "None"),
        ("__import__('flask').Flask", "the class Flask"),
    ],
)
def test_something_else_in_the_place_of_an_app_is_named(project: Project, value: str, kind: str) -> None:
    project.write(shop=f"app = {value}\ndef factory(): return app\n")
    assert f"app is {kind}, not a Flask or Quart app" in failure("shop:app")
    assert f"factory() is {kind}, not a Flask or Quart app" in failure("shop:factory")
    assert f"module 'shop' contains no Flask or Quart app ('app' is {kind})" in failure("shop")


def test_a_module_without_anything_is_said_to_be_so(project: Project) -> None:
    project.write(app="")
    assert "module 'app' contains no Flask or Quart app and no create_app or make_app function" in failure()


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a.b",
        "1",
        "a b",
        "f(x)",
        "f(",
        "f(g())",
        "f(*'x')",
        "f(**{})",
        "f({[]: 1})",
        "a().b()",
        "x\0y",
        "f('hunter2'",
    ],
)
def test_what_follows_the_colon_is_a_name_or_a_call(project: Project, name: str) -> None:
    project.write(shop="def f(*args): raise AssertionError\n")
    text = failure(f"shop:{name}")
    assert "write a name after the colon, or a call with literal arguments" in text
    assert "hunter2" not in text


def test_arguments_of_a_factory_are_never_shown(project: Project) -> None:
    for path in ("nowhere:create_app('hunter2')", "create_app('hunter2')", "create_app('pg://u:hunter2@h/d')"):
        assert "hunter2" not in failure(path)


# ---- what goes wrong while it loads ----


def test_an_exception_is_told_with_its_place_in_the_code_of_the_user(project: Project) -> None:
    project.package("shop")
    project.write(
        shop__settings="import json\ndef read():\n    return json.loads('{')\n",
        app="import shop.settings as s\ns.read()\n",
    )
    assert (
        "app.py: it cannot be imported: JSONDecodeError: Expecting property name enclosed in double quotes: line 1 "
        "column 2 (char 1) (at shop/settings.py:3); fix it, or name another app with --app" in failure()
    )


def test_a_syntax_error_is_told_with_its_file_and_line(project: Project) -> None:
    project.write(app="import models\n", models="\ndef f(:\n")
    assert "it cannot be imported: SyntaxError: invalid syntax (models.py, line 2) (at models.py:2)" in failure()


@pytest.mark.parametrize("code", ["0", "3", "", "'bye'"])
def test_sys_exit_while_the_app_loads_is_an_error(project: Project, code: str) -> None:
    project.write(app=f"import sys\nsys.exit({code})\n", web=f"import sys\ndef create_app(): sys.exit({code})\n")
    assert f"app.py: it cannot be imported: sys.exit({code}) was called (at app.py:2)" in failure()
    assert f"the factory create_app failed: sys.exit({code}) was called (at web.py:2)" in failure("web")


def test_an_interrupt_passes(project: Project) -> None:
    project.write(app="raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        AppLoader().load_app()


def test_an_error_of_ampho_passes_as_it_is(project: Project) -> None:
    project.write(app="from ampho.errors import ConfigurationError\nraise ConfigurationError('say it', setting='X')\n")
    with pytest.raises(ConfigurationError, match=r"^say it$") as caught:
        AppLoader().load_app()
    assert not isinstance(caught.value, AppNotFoundError)


def test_a_module_that_computes_names_and_fails_is_told(project: Project) -> None:
    project.write(shop="def __getattr__(name): raise RuntimeError('no ' + name)\n")
    assert "module 'shop' cannot be searched: RuntimeError: no app (at shop.py:1)" in failure("shop")
    assert "'web' cannot be looked up: RuntimeError: no web (at shop.py:1)" in failure("shop:web")


def test_a_current_folder_that_is_gone_is_an_error(project: Project) -> None:
    gone = project.folder / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    assert "it cannot be imported: FileNotFoundError" in failure("shop")


@pytest.mark.parametrize(
    "code",
    [
        "create_engine('postgresql://u:hun@ter2:x@h:54x/d')",
        "create_engine('postgresql://u:hunter2@h:port/hunter2')",
        "create_engine(('postgresql://u:hunter2@h/d',))",
    ],
)
def test_a_malformed_database_url_is_never_quoted(project: Project, code: str) -> None:
    project.write(app=f"\nfrom sqlalchemy import create_engine\n{code}\n")
    text = failure()
    assert "the database URL is malformed: percent-encode" in text
    assert "(at app.py:3)" in text
    assert "ter2" not in text


def test_an_empty_database_url_is_said_to_be_empty(project: Project) -> None:
    project.write(app="\nfrom sqlalchemy import create_engine\ncreate_engine('')\n")
    assert "the database URL is empty: set one, such as sqlite:///app.db" in failure()


@pytest.mark.parametrize("call", ["flask_sqlalchemy.SQLAlchemy", "ampho.Ampho"])
def test_binds_that_flask_sqlalchemy_cannot_read_are_named(project: Project, call: str) -> None:
    code = (
        "import ampho, flask, flask_sqlalchemy\napp = flask.Flask('app')\napp.config['SQLALCHEMY_BINDS'] = {}\n{}(app)"
    )
    for name, binds, message in (
        ("one", {"audit": None}, "SQLALCHEMY_BINDS['audit'] is not a database URL (it is of type NoneType)."),
        ("two", {"audit": {"echo": True}}, "SQLALCHEMY_BINDS['audit'] is not a database URL (it is of type NoneType)."),
        ("three", ["audit"], "SQLALCHEMY_BINDS must be a dict, not list"),
    ):
        project.write(**{name: code.format(binds, call)})
        with pytest.raises(AmphoError) as caught:
            AppLoader(name).load_app()
        assert message in str(caught.value)
    project.write(four=code.format({}, call))
    with pytest.raises(AmphoError, match="SQLALCHEMY_DATABASE_URI"):
        AppLoader("four").load_app()


def test_a_traceback_of_the_error_shows_no_malformed_url_either(project: Project) -> None:
    code = "from ampho.apps import AppLoader\nAppLoader().load_app()\n"
    project.write(
        app="import os\nfrom sqlalchemy import create_engine\ncreate_engine(os.environ['URL'])\n",
        web="raise RuntimeError('the cause')\n",
    )
    done = project.run(code, URL="postgresql://u:hun@ter2:x@h:54x/d")
    assert "AppNotFoundError" in done.stderr
    assert "ter2" not in done.stderr
    assert 'web.py", line 1' in project.run(code, FLASK_APP="web").stderr


# ---- what the process is left with ----


@pytest.mark.parametrize(
    ("framework", "flask_debug", "quart_debug", "expected"),
    [
        (Flask, "1", "", True),
        (Flask, "", "1", False),
        (Flask, "no", "1", False),
        (Quart, "1", "", False),
        (Quart, "0", "true", True),
    ],
)
def test_debug_follows_the_variable_of_the_framework(
    project: Project, framework: type, flask_debug: str, quart_debug: str, expected: bool
) -> None:
    name = framework.__name__
    project.write(app=f"from {name.lower()} import {name}\napp = {name}('x')\napp.debug = {not expected}\n")
    os.environ["FLASK_DEBUG"], os.environ["QUART_DEBUG"] = flask_debug, quart_debug
    assert AppLoader().load_app().debug is expected


def test_app_run_without_a_guard_does_nothing_and_output_stays_clean(project: Project) -> None:
    project.write(app=FLASK_APP.format("x") + "print('hello')\napp.run()\n")
    done = project.run("from ampho.apps import AppLoader\nprint(AppLoader().load_app().import_name)\n")
    assert done.stdout == "x\n"
    assert "hello" in done.stderr
    assert "Ignoring a call to 'app.run()'" in done.stderr


def test_importing_the_module_imports_no_framework(project: Project) -> None:
    code = """
    import sys, ampho.apps
    print(sorted({name.partition(".")[0] for name in sys.modules} & {"flask", "quart", "sqlalchemy", "click"}))
    """
    assert project.run(code).stdout == "[]\n"


def test_without_flask_the_error_names_what_to_install(project: Project) -> None:
    code = """
    import sys
    sys.modules["flask"] = None
    from ampho import apps as app, errors
    for function in (app.AppLoader("x").load_app, app.load_env_files, app.current_or_load):
        try:
            function()
        except errors.AppNotFoundError as exc:
            print(exc)
    """
    lines = project.run(code).stdout.splitlines()
    assert len(lines) == 3
    assert len(set(lines)) == 1
    assert 'pip install "ampho[flask]", or "ampho[quart]"' in lines[0]


# ---- .env files ----


def test_env_files_are_read_as_flask_and_quart_read_them(project: Project) -> None:
    below = project.folder / "below"
    below.mkdir()
    (project.folder / ".env").write_text("FLASK_APP=env\nA=env\n")
    (project.folder / ".flaskenv").write_text("FLASK_APP=flaskenv\nA=flaskenv\nB=flaskenv\n")
    (project.folder / ".quartenv").write_text("B=quartenv\nC=quartenv\nD=quartenv\n")
    os.environ["D"] = "set"
    os.chdir(below)
    load_env_files()
    assert [os.environ[name] for name in ("FLASK_APP", "A", "B", "C", "D")] == [
        "env",
        "env",
        "flaskenv",
        "quartenv",
        "set",
    ]


@pytest.mark.parametrize(
    ("variable", "value", "read"), [("FLASK", "1", False), ("QUART", "1", False), ("FLASK", "0", True)]
)
def test_env_files_can_be_skipped(project: Project, variable: str, value: str, read: bool) -> None:
    (project.folder / ".env").write_text("AMPHO_APP=env\n")
    os.environ[f"{variable}_SKIP_DOTENV"] = value
    load_env_files()
    assert ("AMPHO_APP" in os.environ) is read


def test_an_env_file_that_cannot_be_read_is_one_line(project: Project) -> None:
    (project.folder / ".env").write_bytes(b"A=\xff\xfe\n")
    with pytest.raises(ConfigurationError, match=r"^one of \.env, .* cannot be read: UnicodeDecodeError: .*fix it"):
        load_env_files()


def test_without_python_dotenv_a_tip_is_all(project: Project) -> None:
    (project.folder / ".env").write_text("A=env\n")
    code = "import sys; sys.modules['dotenv'] = None\nfrom ampho.apps import load_env_files\nload_env_files()\n"
    done = project.run(code)
    assert (done.returncode, done.stdout) == (0, "")
    assert "install python-dotenv" in done.stderr.lower()


# ---- the current app ----


def test_the_app_of_an_active_context_is_the_current_one(project: Project) -> None:
    app = Flask("here")
    with app.app_context():
        assert current_or_load() is app


async def _current_in_quart(app: Quart) -> object:
    async with app.app_context():
        return current_or_load()


def test_the_app_of_an_active_context_of_quart_is_the_current_one(project: Project) -> None:
    import asyncio

    app = Quart("here")
    assert asyncio.run(_current_in_quart(app)) is app


def test_without_a_context_the_app_that_the_folder_names_is_loaded(project: Project) -> None:
    (project.folder / ".env").write_text("AMPHO_APP=web:make('x')\n")
    project.write(web="from flask import Flask\ndef make(name): return Flask(name)\n")
    assert current_or_load().import_name == "x"


def test_looking_for_the_current_app_imports_no_framework_that_is_not_there(project: Project) -> None:
    project.write(app=FLASK_APP.format("x"))
    code = "import sys\nfrom ampho.apps import current_or_load\ncurrent_or_load()\nprint('quart' in sys.modules)\n"
    assert project.run(code).stdout == "False\n"
