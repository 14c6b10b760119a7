"""Find the app for the command line and for a generated ``env.py``.

The rules are the same as for ``flask --app``, even for Quart apps. Flask's ``ScriptInfo`` cannot be used, because it
rejects Quart apps. Quart's ``ScriptInfo`` rejects Flask apps, and trying both would call a factory twice.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import os
import re
import sys
from contextlib import contextmanager, redirect_stdout, suppress
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from ampho._text import describe, did_you_mean, frames, location, one_line, quotes_url, with_hint
from ampho.errors import AmphoError, AppNotFoundError, ConfigurationError
from ampho.settings import APP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import ModuleType

    from flask.sansio.app import App

VARIABLES = (APP, "FLASK_APP", "QUART_APP")
FILES = ("wsgi.py", "app.py", "asgi.py")

_NAMES = ("app", "application")
_FACTORIES = ("create_app", "make_app")
_REMEDY = "name the app with --app or AMPHO_APP (module, module:name or module:create_app()), or add an app.py"
_LONGEST_MESSAGE = 1000


class AppLoader:
    """Loads the app once, in place of the ``ScriptInfo`` of Flask and Quart.

    :param import_path: the value of ``--app``; by default, the environment and then the usual files are tried.
    """

    def __init__(self, import_path: str | None = None) -> None:
        self.import_path = import_path
        self._app: App | None = None

    def load_app(self) -> App:
        """Return the app. The first call imports it or calls its factory.

        As with ``flask``, ``app.run()`` does nothing during the import, and ``FLASK_DEBUG``, or ``QUART_DEBUG`` for a
        Quart app, sets ``app.debug``. The output of the app goes to standard error, because standard output is for the
        output of the command.

        :raises AppNotFoundError: if there is no app, or it cannot be loaded.
        """
        if self._app is None:
            _require_framework()
            os.environ["FLASK_RUN_FROM_CLI"] = "true"
            with redirect_stdout(sys.stderr):
                app = _load(_targets(self.import_path))
            app.debug = _debug_flag(app)
            self._app = app
        return self._app


def current_or_load() -> App:
    """Return the app whose context is active; otherwise, load the app from the environment or the current folder.

    :raises AppNotFoundError: if there is no app, or it cannot be loaded.
    """
    for framework in ("flask", "quart"):
        module = sys.modules.get(f"{framework}.globals")
        if module is not None:
            with suppress(RuntimeError):
                app: App = module.current_app._get_current_object()  # noqa: SLF001 (documented by Werkzeug)
                return app
    load_env_files()
    return AppLoader().load_app()


def load_env_files() -> None:
    """Set the variables in ``.env``, ``.flaskenv``, and ``.quartenv``, in this order, unless they are already set.

    As with ``flask`` and ``quart``, the files may be in the current folder or a folder above it, are read with
    python-dotenv, and are ignored if ``FLASK_SKIP_DOTENV`` or ``QUART_SKIP_DOTENV`` is set.

    :raises ConfigurationError: if a file cannot be read.
    """
    _require_framework()
    from flask.cli import load_dotenv

    if _is_set("FLASK_SKIP_DOTENV") or _is_set("QUART_SKIP_DOTENV"):
        return
    try:
        load_dotenv()
        with suppress(ModuleNotFoundError):
            import dotenv

            if path := dotenv.find_dotenv(".quartenv", usecwd=True):
                dotenv.load_dotenv(path, encoding="utf-8")
    except (OSError, ValueError) as exc:
        raise ConfigurationError(
            f"one of .env, .flaskenv, and .quartenv cannot be read: {describe(exc)}; fix it, or set FLASK_SKIP_DOTENV=1"
        ) from exc


class _Target:
    """One place to look for the app.

    :ivar origin: ``--app``, or the variable that names the place; empty for one of the usual files.
    :ivar path: the module or file.
    :ivar name: the name of the app, or the call of a factory, in that module; None if neither was given.
    :ivar shown: the place as shown in messages.
    """

    def __init__(self, origin: str, text: str) -> None:
        self.origin = origin
        self.path, *names = re.split(r":(?![\\/])", text, maxsplit=1)  # not the colon of a Windows drive
        self.name = names[0] if names else None
        self.shown = f"{origin}{' ' if origin == '--app' else '='}{_masked(text)}" if origin else text

    def error(self, message: str) -> AppNotFoundError:
        setting = self.origin if self.origin in VARIABLES else None
        return AppNotFoundError(one_line(f"{self.shown}: {message}", _LONGEST_MESSAGE), setting=setting)


def _masked(text: str) -> str:
    """Return the name of an app or factory without the arguments of the call, which may contain secrets."""
    return re.sub(r"\(.*", "(...)", text, flags=re.DOTALL)


def _require_framework() -> None:
    try:
        importlib.import_module("flask.sansio.app")
    except ImportError as exc:
        remedy = 'pip install "ampho[flask]", or "ampho[quart]" for Quart, which needs Flask too'
        raise AppNotFoundError(f"Flask cannot be imported ({describe(exc)}): {remedy}") from exc


def _targets(import_path: str | None) -> list[_Target]:
    typed = {"--app": import_path} | {variable: os.environ.get(variable) for variable in VARIABLES}
    named = [_Target(origin, text) for origin, text in typed.items() if text]
    return named[:1] or [_Target("", file) for file in FILES]


def _load(targets: Sequence[_Target]) -> App:
    for target in targets:
        module = _import(target)
        if module is not None:
            return _best_app(module, target) if target.name is None else _named_app(module, target)
    tried = ", ".join(target.shown for target in targets)
    where = one_line(os.path.realpath("."))
    steps = (
        "--app was not given",
        f"{', '.join(VARIABLES[:-1])} and {VARIABLES[-1]} are not set, nor in .env, .flaskenv or .quartenv",
        f"{', '.join(FILES[:-1])} and {FILES[-1]} are not in {where}",
    )
    raise AppNotFoundError(f"no app found: looked for {tried} in {where}; {_REMEDY}", tried=steps)


def _import(target: _Target) -> ModuleType | None:
    """Import the module of a target; return None if it is one of the usual files, and not in the current folder.

    A file of that name elsewhere on ``sys.path``, such as in an editable install, belongs to another project.
    """
    from flask.cli import prepare_import

    with _reporting(target, "it cannot be imported"):
        file = None if target.origin else _file_here(target.path)
        if not (target.origin or file):
            return None
        if (here := str(Path.cwd())) not in sys.path:
            sys.path.insert(0, here)  # in a console script, sys.path begins with another folder
        name = prepare_import(target.path)
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as exc:
            if not _is_absent(name, exc):
                raise
            module = None
    if module is None and target.origin:
        form = "{}" if target.name is None else f"{{}}:{_masked(target.name)}"
        guess = did_you_mean(target.path, _modules(".py" if target.path.endswith(".py") else ""), form)
        raise target.error(f"there is no module {_masked(name)!r}{_or_remedy(guess)}")
    if file is not None:
        _check_file(module, file, target)
    return module


def _file_here(file: str) -> str | None:
    """Return the file of a module or package that is in the current folder."""
    spec = PathFinder.find_spec(Path(file).stem, [str(Path.cwd())])
    return spec.origin if spec is not None and spec.has_location else None


def _check_file(module: ModuleType | None, file: str, target: _Target) -> None:
    """Check that the imported module is the file in the current folder, and not another module of that name."""
    imported = getattr(module, "__file__", None)
    if imported is None or Path(imported).resolve() != Path(file).resolve():
        raise target.error(
            f"another module with this name is imported first ({imported or 'a built-in one'}). Rename the file, or"
            " name the app with --app or AMPHO_APP"
        )


def _modules(suffix: str) -> list[str]:
    """Return the modules in the current folder, or their files if ``suffix`` is given, as suggestions."""
    files = [path.stem + suffix for path in Path.cwd().glob("*.py")]
    return files if suffix else [*files, *(path.parent.name for path in Path.cwd().glob("*/__init__.py"))]


def _is_absent(name: str, exc: ModuleNotFoundError) -> bool:
    """Return whether the module itself does not exist, rather than a module that it imports."""
    if exc.name is None or not f"{name}.".startswith(f"{exc.name}."):
        return False
    own = (_import.__code__.co_filename, importlib.import_module.__code__.co_filename, "<frozen importlib")
    return all(code.co_filename.startswith(own) for _, code, _ in frames(exc.__traceback__))


@contextmanager
def _reporting(target: _Target, doing: str) -> Iterator[None]:
    """Turn exceptions of user code into one-line errors, including ``sys.exit()``, which would look like success."""
    try:
        yield
    except AmphoError:
        raise
    except (Exception, SystemExit) as exc:  # noqa: BLE001 (an app may raise anything)
        where = location(exc, None)
        place = f" (at {where})" if where else ""
        why = _two_models(exc) or _wrong_url(exc) or with_hint(describe(exc))
        error = target.error(f"{doing}: {why}{place}; fix it, or name another app with --app or AMPHO_APP")
        raise error from (None if quotes_url(exc) else exc)


def _two_models(exc: BaseException) -> str | None:
    """Return what to do if two models have tables of the same name, which SQLAlchemy says in other words."""
    if "sqlalchemy" not in sys.modules:
        return None
    from ampho.revise.autogenerate.owners.models import two_models

    message = two_models(exc)
    return message and message.removesuffix(".")


def _wrong_url(exc: BaseException) -> str | None:
    """Return what is wrong with the URLs of an app if Flask-SQLAlchemy failed because of them."""
    if "flask_sqlalchemy" not in sys.modules:
        return None
    from ampho.database.url import wrong_url

    message = wrong_url(exc)
    return message and message.removesuffix(".")


def _best_app(module: ModuleType, target: _Target) -> App:
    with _reporting(target, f"module {module.__name__!r} cannot be searched"):
        apps = _apps(module)
        factories = {name: getattr(module, name, None) for name in _FACTORIES}
    if len(apps) > 1:
        choices = ", ".join(f"{name} ({type(app).__name__})" for name, app in apps.items())
        remedy = f"choose one, as in --app {target.path}:{next(iter(apps))}"
        raise target.error(f"module {module.__name__!r} contains several apps: {choices}; {remedy}")
    if apps:
        return next(iter(apps.values()))
    for name, factory in factories.items():
        if _is_factory(factory):
            return _call(factory, name, (), {}, target)
    raise target.error(f"module {module.__name__!r} contains no Flask or Quart app{_instead(module)}; {_REMEDY}")


def _apps(module: ModuleType) -> dict[str, App]:
    """Return the app with one of the usual names; otherwise, all apps, each under its first name in the module."""
    for name in _NAMES:
        app = _as_app(getattr(module, name, None))
        if app is not None:
            return {name: app}
    found: dict[int, tuple[str, App]] = {}
    for name, value in list(vars(module).items()):
        app = _as_app(value)
        if app is not None:
            found.setdefault(id(app), (name, app))
    return dict(found.values())


def _instead(module: ModuleType) -> str:
    """Describe the objects that a module has instead of an app, such as the wrapper in ``app = ProxyFix(app)``."""
    others = [f"{name!r} is {_kind(getattr(module, name))}" for name in _NAMES if hasattr(module, name)]
    return f" ({', '.join(others)})" if others else " and no create_app or make_app function"


def _named_app(module: ModuleType, target: _Target) -> App:
    name, args, kwargs = _parse(target)
    with _reporting(target, f"{name!r} cannot be looked up"):
        found = hasattr(module, name)
        value = getattr(module, name, None)
        app = _as_app(value)
    if not found:
        guess = did_you_mean(name, _app_names(module, target), f"{target.path}:{{}}")
        raise target.error(f"module {module.__name__!r} has no {name!r}{_or_remedy(guess)}")
    if _is_factory(value):
        return _call(value, name, args, kwargs, target)
    return _checked(app, value, name, target)


def _app_names(module: ModuleType, target: _Target) -> list[str]:
    """Return the names of the apps in a module, and of the functions that it defines, which may be factories."""
    own = module.__name__
    with _reporting(target, f"module {own!r} cannot be searched"):
        return [
            name
            for name, value in vars(module).items()
            if _as_app(value) is not None or (_is_factory(value) and getattr(value, "__module__", own) == own)
        ]


def _or_remedy(guess: str) -> str:
    return f". {guess}" if guess else f"; {_REMEDY}"


def _parse(target: _Target) -> tuple[str, tuple[object, ...], dict[str, object]]:
    """Return the name of an app or factory, and the arguments if it is called."""
    try:
        expression = ast.parse((target.name or "").strip(), mode="eval").body
        if isinstance(expression, ast.Name):
            return expression.id, (), {}
        if isinstance(expression, ast.Call) and isinstance(expression.func, ast.Name):
            args = tuple(map(ast.literal_eval, expression.args))
            kwargs = {keyword.arg: ast.literal_eval(keyword.value) for keyword in expression.keywords if keyword.arg}
            if len(kwargs) == len(expression.keywords):  # a `**` argument has no name
                return expression.func.id, args, kwargs
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        pass  # Do not chain these exceptions: their messages quote the arguments, which may be secret.
    raise target.error("write a name after the colon, or a call with literal arguments: create_app('x', debug=True)")


def _is_factory(value: object) -> TypeGuard[Callable[..., object]]:
    return inspect.isroutine(value) or isinstance(value, functools.partial)


def _call(
    factory: Callable[..., object],
    name: str,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    target: _Target,
) -> App:
    if problem := _mismatch(factory, args, kwargs):
        example = f"--app \"{target.path}:{name}('x', debug=True)\""
        raise target.error(
            f"the factory {name} cannot be called like this: {problem}; pass literal arguments: {example}"
        )
    with _reporting(target, f"the factory {name} failed"):
        value = factory(*args, **kwargs)
        app = _as_app(value)
    if inspect.iscoroutine(value):
        value.close()
        raise target.error(
            f"the factory {name} is async, but the app is needed before a loop runs: make it a plain function, and "
            "await in @app.before_serving instead"
        )
    return _checked(app, value, f"{name}()", target)


def _mismatch(factory: Callable[..., object], args: Sequence[object], kwargs: Mapping[str, object]) -> str | None:
    """Return the reason why a factory does not accept the arguments, or None if it does. The factory is not called."""
    try:
        # A decorator may accept different arguments from the function that it wraps.
        signature = inspect.signature(factory, follow_wrapped=False)
    except (TypeError, ValueError):
        return None  # The signature of a function in C may be unknown.
    try:
        signature.bind(*args, **kwargs)
    except TypeError as exc:
        return str(exc)
    return None


def _checked(app: App | None, value: object, name: str, target: _Target) -> App:
    if app is None:
        raise target.error(f"{name} is {_kind(value)}, not a Flask or Quart app; {_REMEDY}")
    return app


def _as_app(value: object) -> App | None:
    from flask.sansio.app import App

    if not isinstance(value, App):
        return None
    # isinstance() also accepts the proxy `current_app`.
    current = getattr(value, "_get_current_object", None)
    return value if current is None else _as_app(current())


def _kind(value: object) -> str:
    """Return a description of a value, such as ``a Quart object``, ``the class Flask``, or ``None``."""
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name} object"


def _debug_flag(app: App) -> bool:
    quart = sys.modules.get("quart")
    of_quart = quart is not None and isinstance(app, quart.Quart)
    return _is_set("QUART_DEBUG" if of_quart else "FLASK_DEBUG")


def _is_set(flag: str) -> bool:
    """Return whether an environment variable is on, by the same rules as ``FLASK_DEBUG``."""
    return os.environ.get(flag, "").lower() not in {"", "0", "false", "no"}
