"""The password of the database appears nowhere: not in output, logs, errors or files, raw or encoded.

The databases are real, and have users whose password is exactly this one.
"""

from __future__ import annotations

import logging
import socket
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus
from uuid import uuid4

import pytest
from facade import Facade, facade, one_error_line
from project import Project, Result
from servers import Database
from sqlalchemy import URL

from ampho import AmphoError, Observer

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

PASSWORD = "p%40:/@#'"
ENCODED = quote(PASSWORD, safe="")
SPELLINGS = {
    PASSWORD,
    ENCODED,
    ENCODED.lower(),
    quote(PASSWORD),
    quote_plus(PASSWORD),
    quote(ENCODED, safe=""),
    quote(PASSWORD.replace("%40", "@"), safe=""),
    repr(PASSWORD)[1:-1],
    PASSWORD.replace("'", "\\'"),
    PASSWORD.replace("'", "''"),
    PASSWORD.replace("%", "%%"),
    PASSWORD.replace("%40", "@"),
    # Parts that a parser may have cut out of a URL.
    "p%40",
    "p%2540",
    "p@:",
    "%3A%2F%40",
    ":/@#",
    "/@#'",
    "@#'",
}
AUTHOR = 'op.create_table("author", sa.Column("id", sa.Integer, primary_key=True))'
SERVER_DRIVERS = ("postgresql", "mariadb")


def assert_no_secret(text: str, what: object = "") -> None:
    shown = {spelling for spelling in SPELLINGS if spelling in text}
    assert not shown, f"{what}: {shown} in {text}"


@dataclass(frozen=True)
class Account:
    """A user of a real database with that password, and a project in which nothing has been written down."""

    project: Project
    database: Database
    url: URL

    @property
    def framework(self) -> str:
        return "quart" if self.database.is_async else "flask"


@pytest.fixture
def account(project: Project, database: Database) -> Iterator[Account]:
    name = f"ann_{uuid4().hex[:8]}"
    quoted = PASSWORD.replace("'", "''")
    if database.backend == "postgresql":
        administrator = database.url.username
        database.run(
            f"CREATE ROLE {name} LOGIN PASSWORD '{quoted}'",
            f"ALTER DATABASE {database.name} OWNER TO {name}",
        )
        drop = [
            f"ALTER DATABASE {database.name} OWNER TO {administrator}",
            f"REASSIGN OWNED BY {name} TO {administrator}",
            f"DROP OWNED BY {name}",
            f"DROP ROLE {name}",
        ]
    else:
        database.run(f"CREATE USER {name} IDENTIFIED BY '{quoted}'", f"GRANT ALL ON {database.name}.* TO {name}")
        drop = [f"DROP USER {name}"]
    yield Account(project, database, database.url.set(username=name, password=PASSWORD))
    database.run(*drop)


def packages(project: Project, upgrade: str = "pass") -> None:
    project.package("core")
    project.revision("core", "core_1", upgrade=AUTHOR, downgrade='op.drop_table("author")')
    project.revision("core", "core_2", "core_1", upgrade=upgrade)


@contextmanager
def listening(
    project: Project, framework: str, url: URL | str, caplog: pytest.LogCaptureFixture, **config: object
) -> Iterator[Facade]:
    """An app in this process, whose log is kept down to its last detail."""
    caplog.set_level(logging.DEBUG)
    with facade(project, framework, ["core"], url, **config) as each:
        yield each
    assert_no_secret(caplog.text, "the log")
    for path, content in project.files().items():
        if path != "app.py":
            assert_no_secret(content.decode("utf-8", "replace"), path)


def said(each: Facade, *command: str, exit_code: int = 0) -> str:
    result = each.run(*command)
    assert result.exit_code == exit_code, result.output
    assert_no_secret(result.output + repr(result.exception), command)
    return one_error_line(result.stderr) if exit_code else result.stdout


def error_of(each: Facade, method: str, *args: object) -> AmphoError:
    """The error of a method, which shows no secret even where an app logs it with all that led to it."""
    with pytest.raises(AmphoError) as caught:
        each.call(method, *args)
    assert_error_has_no_secret(caught.value)
    return caught.value


def assert_error_has_no_secret(error: AmphoError) -> None:
    # The lines of code that a traceback quotes are the project's own.
    told = [line for line in traceback.format_exception(error) if not line.startswith("  File ")]
    assert_no_secret(f"{error!r} {vars(error)} {''.join(told)}")


class Listener(Observer):
    """Keeps what it hears of a failure at the time."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def failed(self, step: object, error: AmphoError) -> None:
        self.heard += ["".join(traceback.format_exception(error)), repr(vars(error))]


def closed_port() -> int:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


# ---- a password that is right ----


@pytest.mark.drivers(*SERVER_DRIVERS)
@pytest.mark.parametrize("echo", [False, True], ids=["quiet", "echo"])
def test_every_command_works_with_it(account: Account, caplog: pytest.LogCaptureFixture, echo: bool) -> None:
    packages(account.project)
    account.project.package("more")
    with listening(account.project, account.framework, account.url, caplog, SQLALCHEMY_ECHO=echo) as each:
        said(each, "db-init", "more")
        said(each, "db-rev", "core", "Third")
        assert "CREATE TABLE author" in said(each, "db-up", "-s")
        assert "CREATE TABLE author" in said(each, "db-up", "-s", "--start", "base")
        said(each, "db-up")
        assert "author" in account.database.tables()
        assert "(head)" in said(each, "db-current", "-v")
        said(each, "db-show", "core_1")
        said(each, "db-down", "-s")
        said(each, "db-down", "base")
        assert "author" not in account.database.tables()
        assert ("CREATE TABLE author" in caplog.text) is echo


@pytest.mark.drivers("postgresql")
def test_it_may_stand_in_the_query(account: Account, caplog: pytest.LogCaptureFixture) -> None:
    packages(account.project, "op.execute('SELECT nonsense')")
    url = account.url.set(password=None).update_query_dict({"password": PASSWORD})
    for each_url in (url, url.render_as_string(hide_password=False)):
        with listening(account.project, account.framework, each_url, caplog) as each:
            said(each, "db-up", "core_1")
            said(each, "db-up", exit_code=1)
            said(each, "db-down", "base")
        down = url.set(port=closed_port())
        with listening(account.project, account.framework, down, caplog) as each:
            assert "password=***" in said(each, "db-up", exit_code=1)
            error_of(each, "upgrade")


# ---- a run that fails ----

LEAKS = {
    "the address": "raise ValueError(URL)",
    "the password": "raise ValueError('it is ' + PASSWORD)",
    "its representation": "raise ValueError(repr(PASSWORD))",
    "the password after the first line": "raise ValueError('look:\\n' + URL)",
    "the password in a cause": "try: raise KeyError(URL)\nexcept KeyError as exc: raise ValueError('no') from exc",
    "a statement": "op.execute(\"SELECT nonsense, '\" + PASSWORD.replace(\"'\", \"''\").replace(':', '\\\\:') + \"'\")",
    "a parameter": "op.get_bind().execute(sa.text('SELECT nonsense, :p'), {'p': PASSWORD})",
    "an exit": "raise SystemExit(URL)",
    "a warning": "raise DeprecationWarning(URL)",
}
IMPORTS = "import sqlalchemy\nfrom alembic import context\nfrom ampho import environment\n"
KNOWN = "from app_secrets import PASSWORD, URL\n"


@pytest.fixture
def app_secrets(project: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[[URL], None]:
    """A module through which revisions and ``env.py`` know what they should not show; it reads the environment."""
    project.write("app_secrets.py", "import os\nPASSWORD = os.environ['SHOP_PASSWORD']\nURL = os.environ['SHOP_URL']\n")

    def know(url: URL) -> None:
        monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
        monkeypatch.setenv("SHOP_URL", url.render_as_string(hide_password=False))

    return know


@pytest.mark.drivers(*SERVER_DRIVERS)
def test_a_revision_that_fails_with_it_in_its_words(
    account: Account, caplog: pytest.LogCaptureFixture, app_secrets: Callable[[URL], None]
) -> None:
    app_secrets(account.url)
    packages(account.project)
    with listening(account.project, account.framework, account.url, caplog) as each:
        each.call("upgrade", "core_1")
        for leak, code in LEAKS.items():
            packages(account.project, KNOWN + code)
            assert "Revision core_2 of core failed" in said(each, "db-up", exit_code=1), leak
            assert error_of(each, "upgrade").revision == "core_2"  # type: ignore[attr-defined]
            listener = Listener()
            with pytest.raises(AmphoError):
                each.call("upgrade", observer=listener)
            assert listener.heard
            assert_no_secret("".join(listener.heard), leak)
            if leak != "a statement":  # which is no failure where it is written, and means what it says
                said(each, "db-up", "-s", exit_code=1)


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg")
def test_an_env_py_that_fails_with_it_in_its_words(
    account: Account, caplog: pytest.LogCaptureFixture, app_secrets: Callable[[URL], None]
) -> None:
    app_secrets(account.url)
    account.project.package("core")
    with listening(account.project, account.framework, account.url, caplog) as each:
        each.call("init", "core")
        packages(account.project)
        env_py = account.project.migrations("core") / "env.py"
        for code in (
            "raise ValueError(URL)",
            "raise SystemExit(PASSWORD)",
            "context.configure(url=URL, dialect_name=URL)",
            "context.config.set_main_option('sqlalchemy.url', URL)",
            "sqlalchemy.make_url(PASSWORD)",
        ):
            env_py.write_text(f"{KNOWN}{IMPORTS}{code}\n", "utf-8")
            for command in (("db-up",), ("db-current",), ("db-up", "-s"), ("db-up", "-s", "--start", "base")):
                assert "env.py" in said(each, *command, exit_code=1)
            error_of(each, "upgrade")


@pytest.mark.drivers(*SERVER_DRIVERS)
def test_a_broken_history_shows_nothing_either(account: Account, caplog: pytest.LogCaptureFixture) -> None:
    packages(account.project)
    account.project.revision("core", "core_3", "gone")
    with listening(account.project, account.framework, account.url, caplog) as each:
        for command in (("db-up",), ("db-show",), ("db-rev", "core", "more"), ("db-down",), ("db-current",)):
            assert "stands on gone" in said(each, *command, exit_code=1)
        error_of(each, "upgrade")


# ---- a connection that fails ----


@pytest.mark.drivers(*SERVER_DRIVERS)
def test_a_connection_that_fails(account: Account, caplog: pytest.LogCaptureFixture) -> None:
    packages(account.project)
    for broken in (
        account.url.set(port=closed_port()),
        account.url.set(password=f"{PASSWORD}x"),
        account.url.set(username="nobody_here"),
        account.url.set(database="nowhere_at_all"),
    ):
        with listening(account.project, account.framework, broken, caplog) as each:
            for command in (("db-up",), ("db-up", "-s"), ("db-down",), ("db-current", "-v")):
                assert "Cannot connect to" in said(each, *command, exit_code=1)
            error_of(each, "upgrade")
            error_of(each, "current")
            said(each, "db-show")


# ---- a URL that is none ----

MALFORMED = {
    "postgresql": f"postgresql+DRIVER://ann:{PASSWORD}@127.0.0.1:5432/shop",
    "no host": f"postgresql+DRIVER://ann:{PASSWORD}",
    "a port that is none": f"postgresql+DRIVER://ann:{ENCODED}@127.0.0.1:{PASSWORD}/shop",
    "no dialect": f"://ann:{PASSWORD}@127.0.0.1/shop",
    "no scheme": f"ann:{PASSWORD}@127.0.0.1/shop",
    "the password alone": PASSWORD,
    "a dialect that is none": f"nosql://ann:{ENCODED}@127.0.0.1/shop",
    "a driver that is none": f"postgresql+{quote_plus('nothing')}://ann:{ENCODED}@127.0.0.1/shop",
    "a driver of the other kind": f"postgresql+OTHER://ann:{ENCODED}@127.0.0.1/shop",
    "an option that is none": f"postgresql+DRIVER://ann:{ENCODED}@127.0.0.1/shop?nonsense=1",
    "a list": [f"postgresql+DRIVER://ann:{ENCODED}@127.0.0.1/shop"],
}
DRIVER = {"flask": ("psycopg", "asyncpg"), "quart": ("asyncpg", "psycopg2")}
PLACES: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "SQLALCHEMY_DATABASE_URI": lambda url: {"SQLALCHEMY_DATABASE_URI": url},
    "SQLALCHEMY_BINDS": lambda url: {"SQLALCHEMY_DATABASE_URI": None, "SQLALCHEMY_BINDS": {"other": url}},
    "a bind with options": lambda url: {"SQLALCHEMY_DATABASE_URI": None, "SQLALCHEMY_BINDS": {"other": {"url": url}}},
    "SQLALCHEMY_ENGINE_OPTIONS": lambda url: {
        "SQLALCHEMY_DATABASE_URI": None,
        "SQLALCHEMY_ENGINE_OPTIONS": {"url": url},
    },
}


@pytest.mark.parametrize("framework", ["flask", "quart"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("defect", MALFORMED)
def test_a_malformed_url(
    project: Project, framework: str, place: str, defect: str, caplog: pytest.LogCaptureFixture
) -> None:
    mine, other = DRIVER[framework]

    def spelled(value: Any) -> Any:
        if isinstance(value, list):
            return [spelled(item) for item in value]
        return value.replace("DRIVER", mine).replace("OTHER", other)

    config = PLACES[place](spelled(MALFORMED[defect]))
    packages(project)

    def use_it() -> None:
        with listening(project, framework, config.pop("SQLALCHEMY_DATABASE_URI"), caplog, **config) as each:
            said(each, "db-up", exit_code=1)
            raise error_of(each, "upgrade")

    with pytest.raises(AmphoError, match="SQLALCHEMY_") as caught:
        use_it()
    assert_error_has_no_secret(caught.value)


# ---- real processes ----

APP = """
import logging
import os
import sqlalchemy
from {module} import {app_class}
from ampho import {extension_class}

logging.basicConfig(level=logging.DEBUG)
app = {app_class}("app")
app.config["AMPHO_MIGRATION_PACKAGES"] = ["core"]
app.config["SQLALCHEMY_ECHO"] = True
app.config["SQLALCHEMY_DATABASE_URI"] = {url}
{extension_class}(app)
"""
CREATED = """sqlalchemy.URL.create(
    os.environ["SHOP_DRIVER"], os.environ["SHOP_USER"], os.environ["SHOP_PASSWORD"], os.environ["SHOP_HOST"],
    int(os.environ["SHOP_PORT"]), os.environ["SHOP_DATABASE"],
)"""
RAW = 'os.environ["SHOP_RAW"]'


def write_app(account: Account, url: str) -> None:
    names = {"flask": ("Flask", "Ampho"), "quart": ("Quart", "AsyncAmpho")}[account.framework]
    text = APP.format(module=account.framework, app_class=names[0], extension_class=names[1], url=url)
    account.project.write("app.py", text)


def run(account: Account, *command: str, port: int | None = None) -> Result:
    """Run a real process that has the password from its environment alone; nothing of it comes out again."""
    url = account.url
    environment = {
        "SHOP_DRIVER": url.drivername,
        "SHOP_USER": url.username or "",
        "SHOP_PASSWORD": PASSWORD,
        "SHOP_HOST": url.host or "",
        "SHOP_PORT": str(port or url.port),
        "SHOP_DATABASE": url.database or "",
        "SHOP_RAW": f"{url.drivername}://{url.username}:{PASSWORD}@{url.host}:{url.port}/{url.database}",
        # Quart's and Flask's own groups find the app by the name of its file.
        "FLASK_APP": "app.py",
        "QUART_APP": "app:app",
    }
    result = account.project.run(*command, env=environment, check=False)
    assert_no_secret(result.output, command)
    return result


def assert_files_have_no_secret(account: Account) -> None:
    for path, content in account.project.files().items():
        assert_no_secret(content.decode("utf-8", "replace"), path)


PLAIN = ("alembic", "-c", "core/migrations/alembic.ini")


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg")
def test_real_processes_that_succeed_and_fail(account: Account) -> None:
    account.project.package("core")
    write_app(account, CREATED)
    groups = [("flask", "ampho"), ("flask", "db")] if account.framework == "flask" else [("quart", "ampho")]

    assert run(account, "ampho", "db-init", "core").exit_code == 0
    packages(account.project, "op.execute('SELECT nonsense')")
    assert run(account, *PLAIN, "upgrade", "core_1").exit_code == 0
    assert account.database.rows() == ["core_1"]
    for command in (("ampho", "db-current", "-v"), (*PLAIN, "current"), *((*group, "--help") for group in groups)):
        assert run(account, *command).exit_code == 0, command
    if account.framework == "flask":
        assert "core_1" in run(account, "flask", "db", "current").stdout
    for failing in (("ampho", "db-up"), (*PLAIN, "upgrade", "heads"), (*groups[0], "db-up")):
        result = run(account, *failing)
        assert result.exit_code == 1, result
        assert "nonsense" in result.output

    nowhere = closed_port()
    for failing in (("ampho", "db-up"), (*PLAIN, "current"), (*groups[-1], "current" if len(groups) > 1 else "db-up")):
        assert run(account, *failing, port=nowhere).exit_code == 1
    assert_files_have_no_secret(account)


@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg")
def test_real_processes_with_a_malformed_url(account: Account) -> None:
    account.project.package("core")
    write_app(account, CREATED)
    run(account, "ampho", "db-init", "core")
    write_app(account, RAW)
    group = ("flask", "db", "current") if account.framework == "flask" else ("quart", "ampho", "db-current")

    for command in (("ampho", "db-up"), ("ampho", "db-init", "core"), (*PLAIN, "current")):
        result = run(account, *command)
        assert result.exit_code == 1, result
        assert "SQLALCHEMY_DATABASE_URI is not a database URL" in result.output
    assert run(account, *group).exit_code != 0
    assert_files_have_no_secret(account)


FAILING_APPS = {
    "the address": "raise ValueError(sqlalchemy.make_url(URL).render_as_string(hide_password=False))",
    "an engine": "sqlalchemy.create_engine(RAW)",
    "a connection": "sqlalchemy.create_engine(URL).connect()",
    "the argument": "raise TypeError(f'connect(password={PASSWORD!r})')",
}


@pytest.mark.drivers("postgresql+psycopg")
def test_an_app_that_cannot_be_imported(account: Account) -> None:
    packages(account.project)
    for code in FAILING_APPS.values():
        account.project.write(
            "app.py",
            f"""
            import os
            import sqlalchemy
            PASSWORD, RAW = os.environ["SHOP_PASSWORD"], os.environ["SHOP_RAW"]
            URL = sqlalchemy.URL.create("postgresql+psycopg", "nobody", PASSWORD, "127.0.0.1", 1, "shop")
            {code}
            """,
        )
        result = run(account, "ampho", "db-up")
        assert result.exit_code == 1
        assert "app.py" in one_error_line(result.stderr)
    assert_files_have_no_secret(account)
