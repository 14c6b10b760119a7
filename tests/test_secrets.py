"""The password of the database appears nowhere: not in output, logs, errors or files, raw or encoded.

The databases are real, and have users whose password is exactly this one.
"""

from __future__ import annotations

import logging
import shlex
import socket
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus
from uuid import uuid4

import pytest
from facade import URLS, Facade, facade, one_error_line
from project import Project, Result
from servers import Database
from sqlalchemy import URL, inspect

from ampho import AmphoError, Observer
from ampho.cli.commands import cli
from ampho.database.lock import locked
from ampho.errors import ConfigurationError
from ampho.settings import SETTINGS, Settings

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
    if database.backend == "sqlite":  # which has no users; to it, a password in the query is a word of no meaning
        query = {"uri": "true", "password": PASSWORD}
        yield Account(project, database, database.url.set(database=f"file:{database.name}", query=query))
        return
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


def assert_journal_has_no_secret(database: Database) -> None:
    """Look at all that the journal holds, in the database itself."""
    with database.connect() as connection:
        known = inspect(connection).has_table("ampho_journal")
    if known:
        assert_no_secret(repr(database.query("SELECT * FROM ampho_journal")), "the journal")


# ---- a password that is right ----


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers(*SERVER_DRIVERS)
def test_commands_work_with_it(account: Account, caplog: pytest.LogCaptureFixture) -> None:
    packages(account.project)
    account.project.package("more")
    with listening(account.project, account.framework, account.url, caplog) as each:
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
        assert "CREATE TABLE author" not in caplog.text


def fork(account: Account) -> None:
    """Give ``core`` two heads."""
    account.project.revision("core", "core_1700000003", "core_found", message="one of two")
    account.project.revision("core", "core_1700000004", "core_found", message="the other of two")


def fork_again(account: Account) -> None:
    account.project.revision("core", "core_6", "core_5", message="one more of two")
    account.project.revision("core", "core_7", "core_5", message="the other one more")


def lose(account: Account) -> None:
    """Let a file be gone whose revision is applied."""
    (path,) = account.project.folder.rglob("core_9_*")
    path.unlink()


def spoil(account: Account) -> None:
    """Let a revision fail in the middle, which is half done where the database cannot roll it back."""
    account.project.revision(
        "core", "core_10", "core_8", upgrade=AUTHOR.replace("author", "book") + "\nraise ValueError"
    )


# What is typed one after the other, each with its exit codes where these are others than 0, and what happens between.
# Each command is in here at least once, with each way in which it looks at the database.
STORY: Sequence[tuple[str | Callable[[Account], None], Sequence[int]]] = [
    ("db-init more", [0]),
    ("db-rev more First", [0]),
    ("db-show", [0]),
    ("db-log", [0]),
    ("db-wait --timeout 0", [3]),
    ("db-check --deploy", [10]),
    ("db-lint", [0, 1]),
    ("db-up -s", [0]),
    ("db-up --plan", [0]),
    ("db-up -s --start base", [0]),
    ("db-up core_1", [0]),
    ("db-up", [0]),
    ("-v db-current", [0]),
    ("db-status --all --check", [0, 10]),
    ("db-check", [0, 1]),
    ("db-check --scratch", [0, 1]),
    ("db-rev core Found -a --rev-id core_found", [0]),
    ("db-rev more Found -a --scratch", [0, 1]),
    ("db-stamp base", [0]),
    ("db-stamp core_2 --purge", [0]),
    (fork, [0]),
    ("db-heads --write", [0]),
    ("db-check --heads", [1]),
    ("db-graph", [0]),
    ("db-graph core --full --format svg", [0]),
    ("db-rebase core", [0]),
    ("db-squash core --plan", [0]),
    ("db-adopt core/migrations --into more --plan", [0, 1]),
    ("db-adopt core/migrations --into core,more --plan", [0, 1]),
    ("db-rev core Fifth --rev-id core_5", [0]),
    (fork_again, [0]),
    ("db-merge core --rev-id core_8", [0]),
    ("db-rev core Ninth --rev-id core_9", [0]),
    ("db-up", [0]),
    (lose, [0]),
    ("db-current -v", [0]),
    ("db-check --deploy", [12]),
    ("db-forget core_9", [2]),
    ("db-forget core_9 --yes", [0]),
    ("db-wait", [0]),
    ("db-down -s", [0, 1]),
    ("db-down base --cascade --plan", [0]),
    ("db-down core@-1", [0]),
    (spoil, [0]),
    ("db-up --json", [1]),
    ("db-up", [1]),
    ("db-current --json", [0]),
    ("db-check --deploy", [10, 15]),
    ("db-resolve core_10 --not-applied", [0, 1]),
    ("db-log -v", [0]),
    ("db-log -n 2", [0]),
    ("explain DatabaseError", [0]),
    ("db-down base --cascade", [0]),
]


def test_each_command_is_in_the_story() -> None:
    told = {word for line, _ in STORY if isinstance(line, str) for word in shlex.split(line)}
    assert cli.commands.keys() <= told


@pytest.mark.usefixtures("unmeasured")
def test_every_command_shows_it_nowhere(account: Account, caplog: pytest.LogCaptureFixture) -> None:
    packages(account.project)
    account.project.package("more")
    with listening(account.project, account.framework, account.url, caplog, SQLALCHEMY_ECHO=True) as each:
        each.app.config["AMPHO_MIGRATION_PACKAGES"] = ["core", "more"]
        for line, exit_codes in STORY:
            if not isinstance(line, str):
                line(account)
                continue
            result = each.run(*shlex.split(line))
            assert result.exit_code in exit_codes, f"{line}: {result.output}"
            assert_no_secret(result.output + repr(result.exception), line)
            assert "Traceback" not in result.output
        assert "CREATE TABLE author" in caplog.text
    assert_journal_has_no_secret(account.database)


NAMED = (
    *("db-up --plan", "db-up -s -d reports", "db-up core_1 --json", "db-up", "db-status", "db-current -v"),
    *("db-log -v", "db-check", "db-lint", "db-graph", "db-wait", "db-check --deploy", "db-rev -a Nothing --dry-run"),
    *("db-down -d reports --plan", "db-down -d reports", "db-stamp core_2 -d reports", "db-down base -d reports"),
)


@pytest.mark.usefixtures("unmeasured")
def test_every_command_on_several_databases_shows_it_nowhere(
    account: Account, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages(account.project)
    account.project.package("more")
    account.project.revision("more", "more_1", upgrade=AUTHOR, downgrade='op.drop_table("author")')
    config: dict[str, Any] = {
        "SQLALCHEMY_BINDS": {"reports": account.url},
        "AMPHO_DATABASES": {"default": ["more"], "reports": ["core"]},
    }
    default = URLS[account.framework]
    with listening(account.project, account.framework, default, caplog, **config) as each:
        for line in NAMED:
            result = each.run(*shlex.split(line))
            assert result.exit_code in (0, 1), f"{line}: {result.output}"
            assert_no_secret(result.output + repr(result.exception), line)
            assert "Traceback" not in result.output
            assert "reports" in result.output or "-s" in line, line
        monkeypatch.setenv("LEAK", account.url.render_as_string(hide_password=False))
        leaking = "import os\nraise ValueError(os.environ['LEAK'])"
        account.project.revision("core", "core_2", "core_1", upgrade=leaking)
        for line in ("db-up", "db-up -k", "db-up --json"):
            result = each.run(*shlex.split(line))
            assert result.exit_code == 1
            assert "reports: Revision core_2 of core failed" in result.output, line
            assert_no_secret(result.output + repr(result.exception), line)
        error_of(each, "upgrade")
    if account.database.backend != "sqlite":
        config["SQLALCHEMY_BINDS"] = {"reports": account.url.set(port=closed_port())}
        with listening(account.project, account.framework, default, caplog, **config) as each:
            for line in ("db-status", "db-up -k", "db-up --json", "db-wait --timeout 0.1"):
                result = each.run(*shlex.split(line))
                assert "reports: " in result.output, line
                assert "Cannot connect to " in result.output, line
                assert_no_secret(result.output + repr(result.exception), line)
            error_of(each, "status")


@pytest.mark.usefixtures("unmeasured")
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
KNOWN = "from app_secrets import LITERAL, PASSWORD, URL\n"


@pytest.fixture
def app_secrets(project: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[[URL], None]:
    """A module through which revisions and ``env.py`` know what they should not show; it reads the environment."""
    project.write(
        "app_secrets.py",
        """
        import os
        PASSWORD, URL = os.environ["SHOP_PASSWORD"], os.environ["SHOP_URL"]
        LITERAL = "'" + PASSWORD.replace("'", "''").replace(":", "\\\\:") + "'"
        """,
    )

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


@pytest.mark.usefixtures("unmeasured")
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


# ---- every kind of failure, on every driver of a server ----

# What looks at the database, and so fails where that does.
ASKING = [
    *("db-up", "db-up -s", "db-up core_1", "db-down", "db-down -s", "db-current -v", "db-log -v", "db-check"),
    *("db-check --deploy", "db-check --scratch", "db-rev core more -a", "db-rev core more -a --scratch"),
    *("db-stamp core", "db-stamp core --purge", "db-forget gone --yes", "db-resolve core_1 --applied"),
]
READING = ("db-current", "db-log -v", "db-check --deploy")


@dataclass(frozen=True)
class Scene:
    """An account on whose database ``core_1`` is applied and ``core_2`` is not, and an app that uses it."""

    account: Account
    each: Facade

    @contextmanager
    def _app(self, url: URL | None, config: dict[str, object]) -> Iterator[Facade]:
        if url is not None:
            with facade(self.account.project, self.account.framework, ["core"], url, **config) as each:
                yield each
            return
        self.each.app.config.update(config)
        try:
            yield self.each
        finally:
            for name in config:
                del self.each.app.config[name]

    @contextmanager
    def app(self, url: URL | None = None, **config: object) -> Iterator[Callable[..., str]]:
        """Give what runs commands that must fail, and returns what they say; none of it shows the secret."""
        with self._app(url, config) as each:
            if url is not None:
                error_of(each, "upgrade")
                error_of(each, "current")
                said(each, "db-show")

            def fails(*lines: str, code: int | None = 1) -> str:
                told = []
                for line in lines:
                    result = each.run(*shlex.split(line))
                    assert_no_secret(result.output + repr(result.exception), line)
                    assert result.exit_code == code if code is not None else True, f"{line}: {result.output}"
                    assert "Traceback" not in result.output
                    told.append(result.output)
                return "".join(told)

            yield fails

    def second(self, upgrade: str, downgrade: str = "pass") -> None:
        """Let this be what ``core_2`` does; it knows the password and the address."""
        packages(self.account.project)
        code = {"upgrade": KNOWN + upgrade, "downgrade": KNOWN + downgrade}
        self.account.project.revision("core", "core_2", "core_1", **code)

    def run(self, *statements: str) -> None:
        """Execute SQL as the administrator."""
        user, name = self.account.url.username, self.account.database.name
        self.account.database.run(*(statement.format(user=user, database=name) for statement in statements))

    def fails_in_a_run(self, upgrade: str, word: str, **config: object) -> None:
        self.second(upgrade)
        with self.app(**config) as fails:
            assert word in fails("db-up")
            if self.account.database.backend == "mariadb":
                fails("db-up")  # which quotes the journal

    def begin(self) -> None:
        """Bring the database to where each kind of failure begins."""
        packages(self.account.project)
        if self.account.database.backend == "mariadb":
            for entry in self.each.call("current").unfinished:
                self.each.call("resolve", entry.revision, applied=False)
        self.each.call("stamp", "core_1", purge=True)


def wrong_password(scene: Scene) -> None:
    with scene.app(scene.account.url.set(password=f"{PASSWORD}x")) as fails:
        assert fails(*ASKING).count("Cannot connect to") == len(ASKING)
        assert "Cannot connect to" in fails("db-wait --timeout 0.1", code=3)


def wrong_user(scene: Scene) -> None:
    with scene.app(scene.account.url.set(username="nobody_here")) as fails:
        assert "Cannot connect to" in fails("db-up", *READING)


def closed_door(scene: Scene) -> None:
    with scene.app(scene.account.url.set(port=closed_port())) as fails:
        assert "Cannot connect to" in fails("db-up", *READING)


def no_such_host(scene: Scene) -> None:
    with scene.app(scene.account.url.set(host="h" * 70)) as fails:  # more than a label may have, so nobody is asked
        assert "Cannot connect to" in fails("db-up", *READING)


def no_such_database(scene: Scene) -> None:
    with scene.app(scene.account.url.set(database="nowhere_at_all")) as fails:
        assert "Cannot connect to" in fails("db-up", *READING)


def no_such_driver(scene: Scene) -> None:
    name = "mysql+aiomysql" if scene.account.database.is_async else "mysql+mysqldb"

    def use_it() -> None:
        with scene.app(scene.account.url.set(drivername=name)) as fails:
            assert "cannot be imported" in fails("db-up", *READING)
            raise ConfigurationError("cannot be imported")

    with pytest.raises(AmphoError, match="cannot be imported") as caught:
        use_it()
    assert_error_has_no_secret(caught.value)


def failing_statement(scene: Scene) -> None:
    scene.fails_in_a_run('op.execute(f"SELECT nonsense, {LITERAL}")', "nonsense")


def failing_parameter(scene: Scene) -> None:
    scene.fails_in_a_run(LEAKS["a parameter"], "nonsense")


def failing_revision(scene: Scene) -> None:
    scene.fails_in_a_run(
        AUTHOR.replace("author", "book") + "\nraise ValueError(f'{URL} {PASSWORD} {PASSWORD!r}')", "***"
    )
    scene.run("DROP TABLE IF EXISTS book")


def failing_downgrade(scene: Scene) -> None:
    scene.second("pass", 'op.execute(f"SELECT nonsense, {LITERAL}")')
    with scene.app() as fails:
        fails("db-up", code=0)
        assert "nonsense" in fails("db-down core_1", "db-down core@-1")
        fails("db-log -v", code=0)


def broken_constraint(scene: Scene) -> None:
    """The driver quotes the row that is there twice."""
    twice = 'for _ in range(2): op.execute(f"INSERT INTO word VALUES ({LITERAL})")'
    scene.fails_in_a_run(f"op.execute('CREATE TABLE word (word VARCHAR(50) PRIMARY KEY)')\n{twice}", "failed at")
    scene.run("DROP TABLE IF EXISTS word")


def denied_right(scene: Scene) -> None:
    table = {"postgresql": "pg_authid", "mariadb": "mysql.global_priv"}[scene.account.database.backend]
    scene.fails_in_a_run(f'op.execute(f"SELECT {{LITERAL}} FROM {table}")', "denied")


def read_only_database(scene: Scene) -> None:
    if scene.account.database.backend == "postgresql":
        change, back = "ALTER ROLE {user} SET default_transaction_read_only = on", "ALTER ROLE {user} RESET ALL"
    else:
        change, back = "REVOKE ALL ON {database}.* FROM {user}", "GRANT ALL ON {database}.* TO {user}"
        change += "; GRANT SELECT ON {database}.* TO {user}"
    scene.run(*change.split("; "))
    scene.each.dispose()  # what is connected already may still do what it might
    with scene.app() as fails:
        fails("db-up", "db-stamp core", "db-down base")
        fails(*READING, code=None)
    scene.run(back)
    scene.each.dispose()


def statement_timeout(scene: Scene) -> None:
    limit, query = {
        "postgresql": ("SET LOCAL statement_timeout = '50ms'", "SELECT {LITERAL}, pg_sleep(5)"),
        "mariadb": ("SET max_statement_time = 0.05", "CREATE TABLE slow AS SELECT {LITERAL} AS word, SLEEP(5)"),
    }[scene.account.database.backend]
    scene.fails_in_a_run(f'op.execute("{limit}")\nop.execute(f"{query}")', "time")
    scene.run("DROP TABLE IF EXISTS slow")


def killed_connection(scene: Scene) -> None:
    kill = {"postgresql": "SELECT pg_terminate_backend(pg_backend_pid())", "mariadb": "KILL CONNECTION_ID()"}
    statement = kill[scene.account.database.backend] + " /* {LITERAL} */"
    scene.fails_in_a_run(f'op.execute(f"{statement}")', "failed at")


def interruption(scene: Scene) -> None:
    scene.second(AUTHOR.replace("author", "book") + "\nraise KeyboardInterrupt(URL)")
    with scene.app() as fails:
        assert "Interrupted" in fails("db-up", code=130)
        fails("db-up", *READING, code=None)
    scene.run("DROP TABLE IF EXISTS book")


def another_process(scene: Scene) -> None:
    with (
        scene.account.database.connect() as other,
        locked(other, Settings({}, {}), lambda holder: None),
        scene.app(AMPHO_LOCK_TIMEOUT=0.01) as fails,
    ):
        assert fails("db-up", "db-down base", "db-stamp core", code=3).count("AMPHO_LOCK_TIMEOUT") == 3


def lack_of_patience(scene: Scene) -> None:
    with scene.app() as fails:
        assert "core_2" in fails("db-wait --timeout 0", code=3)


def no_scratch_database(scene: Scene) -> None:
    with scene.app() as fails:
        fails("db-check --scratch", "db-rev core more -a --scratch")


def broken_history(scene: Scene) -> None:
    path = scene.account.project.revision("core", "core_3", "gone")
    with scene.app() as fails:
        error_of(scene.each, "upgrade")
        assert "depends on gone" in fails("db-up", *READING, "db-show", "db-heads", "db-merge core", "db-rev core more")
    path.unlink()


def unreadable_revision(scene: Scene) -> None:
    path = scene.account.project.revision("core", "core_3", "core_2")
    for code in ("raise ValueError(URL)\n", "import nothing_of_that_name\n", "(\n"):
        path.write_text(KNOWN + path.read_text("utf-8") + code, "utf-8")
        with scene.app() as fails:
            assert "core_3" in fails("db-up", "db-up -s")
            fails(*READING, "db-show", code=None)
    path.unlink()


def failing_env_py(scene: Scene) -> None:
    env_py = scene.account.project.migrations("core") / "env.py"
    for code in ("raise ValueError(URL)", "sqlalchemy.make_url(PASSWORD)", "raise SystemExit(PASSWORD)"):
        env_py.write_text(f"{KNOWN}{IMPORTS}{code}\n", "utf-8")
        with scene.app() as fails:
            assert "env.py" in fails("db-up", *READING)
    env_py.unlink()


def spoilt_version_table(scene: Scene) -> None:
    scene.run("INSERT INTO alembic_version VALUES ('head')")
    with scene.app() as fails:
        assert "cannot be a revision" in fails("db-up", "db-down", "db-stamp core")
        fails(*READING, code=None)


def foreign_journal(scene: Scene) -> None:
    scene.run("CREATE TABLE diary (id INTEGER)")
    owner = "ALTER TABLE diary OWNER TO {user}"
    scene.run(*[owner] * (scene.account.database.backend == "postgresql"))
    with scene.app(AMPHO_JOURNAL_TABLE="diary") as fails:
        fails("db-up", "db-log -v", "db-down")
    scene.run("DROP TABLE diary")


KINDS: Sequence[Callable[[Scene], None]] = (
    *(wrong_password, wrong_user, closed_door, no_such_host, no_such_database, no_such_driver),
    *(failing_statement, failing_parameter, failing_revision, failing_downgrade, broken_constraint, denied_right),
    *(read_only_database, statement_timeout, killed_connection, interruption, another_process, lack_of_patience),
    *(no_scratch_database, broken_history, unreadable_revision, failing_env_py, spoilt_version_table, foreign_journal),
)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers(*SERVER_DRIVERS)
def test_no_kind_of_failure_shows_it(
    account: Account, caplog: pytest.LogCaptureFixture, app_secrets: Callable[[URL], None]
) -> None:
    app_secrets(account.url)
    account.project.package("core")
    with listening(account.project, account.framework, account.url, caplog) as each:
        scene = Scene(account, each)
        for kind in KINDS:
            scene.begin()
            try:
                kind(scene)
            except BaseException as exc:
                exc.add_note(f"the kind of failure: {kind.__name__}")
                raise
        assert "nonsense" in said(each, "db-log", "-v")
    assert_journal_has_no_secret(account.database)


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


CANARY = "canary"
ADDRESS = f"postgresql+DRIVER://ann:{CANARY}/@@127.0.0.1/shop"


@pytest.mark.parametrize("framework", ["flask", "quart"])
@pytest.mark.parametrize("place", [*PLACES, "AMPHO_DATABASE_URI"])
@pytest.mark.parametrize("url", [ADDRESS, [ADDRESS]], ids=["text", "list"])
def test_no_frame_of_the_project_holds_a_malformed_url(project: Project, framework: str, place: str, url: Any) -> None:
    """What reports errors serialises the local variables of the frames that a traceback leads through."""
    direct = {"SQLALCHEMY_DATABASE_URI": URLS[framework], "AMPHO_DATABASE_URI": url}
    config = direct if place == "AMPHO_DATABASE_URI" else PLACES[place](url)
    packages(project)

    def use_it() -> None:
        with facade(project, framework, ["core"], config.pop("SQLALCHEMY_DATABASE_URI"), **config) as each:
            each.call("upgrade")

    with pytest.raises(ConfigurationError, match="is not a database URL") as caught:
        use_it()
    seen = []
    for link in (caught.value, caught.value.__context__, caught.value.__cause__):
        for frame, _ in traceback.walk_tb(link.__traceback__ if link else None):
            if frame.f_globals["__name__"].startswith("ampho."):
                seen.append(frame.f_code.co_name)
                assert CANARY not in repr(frame.f_locals), frame.f_code
    assert seen


@pytest.mark.parametrize("framework", ["flask", "quart"])
@pytest.mark.parametrize("setting", [each.name for each in SETTINGS if each.name != "AMPHO_DATABASE_URI"])
def test_no_frame_of_the_project_holds_the_configuration(project: Project, framework: str, setting: str) -> None:
    packages(project)

    def use_it() -> None:
        config = {setting: object(), "SECRET_KEY": CANARY}
        with facade(project, framework, ["core"], URLS[framework]) as each:
            each.app.config.update(config)
            each.call("upgrade")

    with pytest.raises(ConfigurationError, match=setting) as caught:
        use_it()
    assert caught.value.__context__ is None
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    ours = [frame for frame in frames if frame.f_globals["__name__"].startswith("ampho.")]
    assert ours
    assert [frame.f_code for frame in ours if CANARY in repr(frame.f_locals)] == []


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


@pytest.mark.usefixtures("unmeasured")
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


TENANTS = """
from sqlalchemy import make_url
from ampho import Database

URL = make_url(os.environ["SHOP_URL"])

@app.extensions["ampho"].databases("tenants", packages=["core"])
def tenants():
    yield Database("own", url=os.environ["SHOP_URL"])
    yield Database("gone", url=os.environ["SHOP_GONE"])
    yield Database("bad", url=os.environ["SHOP_RAW"])
"""
ON_GROUPS = (
    *("db-up core_1 -d tenants -k --json", "-v db-up core_1 -d tenants -k", "db-up core_1 -d tenants/gone --create"),
    *("db-status -d tenants", "-v db-status -d tenants --json", "db-check --deploy -d tenants --json"),
    *("db-wait -d tenants --timeout 0", "db-current -v -d tenants", "db-log -d tenants", "db-up --plan -d tenants"),
    *(
        "db-status -d tenants/bad",
        "db-up -d tenants/gone",
        "db-down -d tenants/bad",
        "db-up -d tenants --create --json",
    ),
)


@pytest.mark.usefixtures("unmeasured")
def test_real_processes_on_a_group_of_databases(account: Account) -> None:
    packages(account.project, "import os\nraise ValueError(os.environ['SHOP_URL'], os.environ['SHOP_RAW'])")
    url = account.url
    gone = url.set(database="file:/nowhere/gone.db") if not url.host else url.set(port=closed_port())
    environment = {
        "SHOP_URL": url.render_as_string(hide_password=False),
        "SHOP_GONE": gone.render_as_string(hide_password=False),
        "SHOP_RAW": f"{url.drivername}://ann:{PASSWORD}@{url.host or 'host'}/{url.database}",
    }
    write_app(account, repr(URLS[account.framework]))
    account.project.write("app.py", account.project.read("app.py").replace('["core"]', "[]") + TENANTS)

    def said(line: str) -> str:
        result = account.project.run("ampho", *shlex.split(line), env=environment, check=False)
        assert_no_secret(result.output, line)
        assert "Traceback" not in result.output
        return result.output

    for line in ON_GROUPS:
        assert "tenants/" in said(line), line
    assert "core_1" in said("db-current -d tenants/own")
    assert "tenants/own: failed: Revision core_2 of core failed" in said("db-up -d tenants -k")
    packages(account.project, "import os\nos.kill(os.getpid(), 9)")
    assert "tenants/own: failed: The worker process was ended by signal 9" in said("-v db-up -d tenants -k")
    assert "was ended by signal 9" in said("db-up -d tenants -k --json")
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
