"""The host's ``env.py`` is live: what a user edits there takes effect, and what would break a promise is refused."""

from __future__ import annotations

import logging.config
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from textwrap import indent

import alembic
import alembic.op
import pytest
import zigzag
from alembic.config import CommandLine
from project import Project
from servers import Database
from zigzag import Shop

import ampho
from ampho.errors import EnvironmentFileError

TEMPLATES = Path(ampho.__file__).with_name("templates")
OPTIONS = "**environment.options(),\n"
BOTH = ("sqlite+pysqlite", "sqlite+aiosqlite", "postgresql+psycopg", "postgresql+asyncpg")


@pytest.fixture
def opened(project: Project, database: Database) -> Iterator[Shop]:
    """The shop without its last package, where ``app`` has an ``env.py`` as ``db-init`` writes it."""
    zigzag.write_packages(project, "app", "blog")
    project.revision("app", "app_1", upgrade=zigzag.USERS, downgrade="op.drop_table('users')", message="users")
    project.revision("blog", "blog_1", None, "app_1", upgrade=zigzag.POSTS, downgrade="op.drop_table('posts')")
    project.app(zigzag.framework_of(database), ["app", "blog"], database.url, path="wsgi.py", import_name="wsgi")
    write_env(project, "app", zigzag.framework_of(database))
    with zigzag.app_in(project) as app:
        yield Shop(project, database, app)


def write_env(project: Project, package: str, framework: str) -> Path:
    template = TEMPLATES / {"flask": "sync", "quart": "aio"}[framework] / "env.py"
    return project.write(project.migrations(package) / "env.py", template.read_text("utf-8"))


def edit(opened: Shop, old: str, new: str, package: str = "app") -> int:
    """Edit an ``env.py``, and return the line of the edit."""
    path = opened.project.migrations(package) / "env.py"
    text = path.read_text("utf-8")
    assert old in text, text
    path.write_text(text.replace(old, new, 1), "utf-8")
    return text[: text.index(old)].count("\n") + 1


def untouched(opened: Shop) -> bool:
    return opened.database.tables() == []


# What takes effect.


def test_another_version_table(opened: Shop) -> None:
    edit(opened, OPTIONS, f'{OPTIONS}        version_table="changes",\n')

    sql = opened.run("db-up", "-s", "app").stdout
    opened.run("db-up")

    assert "CREATE TABLE changes" in sql
    assert opened.database.tables() == ["changes", "posts", "users"]
    assert opened.database.rows("changes") == ["blog_1"]
    assert opened.run("db-current").stdout.splitlines() == ["app   app_1 (head)", "blog  blog_1 (head)"]
    opened.run("db-down", "base")
    assert opened.database.tables() == ["changes"]


GIVEN = {
    "before it": "{}, **environment.options(),",
    "after it": "**environment.options(), {},",
    "on other lines": "**environment.options(\n            # nothing\n        ),\n        {},",
    "after another": "**environment.options(tag='x'), {},",
    "to it": "**environment.options({}),",
    "in a dict": "**{{**environment.options(), **dict({})}},",
    "taken out before": "**without(environment.options(), 'compare_type'), compare_type=False,",
}
ARGUMENTS = "compare_type=False, render_as_batch=False, target_metadata=None, transaction_per_migration=True"
WITHOUT = """
def without(options, name):
    del options[name]
    return {**options, "render_as_batch": False, "target_metadata": None}


def run_migrations"""
LOOK = """
    names = ("compare_type", "render_as_batch", "target_metadata", "transaction_per_migration", "version_table")
    opts = context.get_context().opts
    open("opts", "w").write(repr([opts.get(name) for name in names]))
    with context.begin"""


@pytest.mark.parametrize("form", GIVEN)
@pytest.mark.drivers("sqlite+pysqlite")
def test_an_argument_of_configure_wins_wherever_it_is_given(opened: Shop, form: str) -> None:
    """Of what ``Migrate(...)`` or ``AsyncAmpho(...)`` was given, the others stay."""
    path = opened.project.folder / "wsgi.py"
    path.write_text(re.sub(r"Ampho\(app", "Ampho(app, version_table='changes'", path.read_text("utf-8")), "utf-8")
    edit(opened, "def run_migrations", WITHOUT)
    edit(opened, "    with context.begin", LOOK)
    edit(opened, OPTIONS, f"{GIVEN[form].format(ARGUMENTS)}\n")

    ini = f"[alembic]\nscript_location = {opened.project.migrations('app')}\nprepend_sys_path = .\n"
    opened.project.write("plain.ini", ini)
    plain = [("alembic", "-c", "plain.ini", "current")] if form == "on other lines" else []
    for command in [("ampho", "db-up"), ("ampho", "db-up", "-s"), *plain]:
        opened.project.run(*command)
        assert opened.project.read("opts") == "[False, False, None, True, 'changes']"
        (opened.project.folder / "opts").unlink()
    assert opened.database.rows("changes") == ["blog_1"]


@pytest.mark.drivers("postgresql")
def test_a_schema_for_the_version_table(opened: Shop) -> None:
    opened.database.run("CREATE SCHEMA meta")
    edit(opened, OPTIONS, f'{OPTIONS}        version_table_schema="meta",\n')

    sql = opened.run("db-up", "-s").stdout
    opened.run("db-up", "app")

    assert "CREATE TABLE meta.alembic_version" in sql
    assert opened.database.query("SELECT version_num FROM meta.alembic_version") == [("app_1",)]
    assert "blog  nothing applied (1 pending)" in opened.run("db-current").stdout
    assert "CREATE TABLE meta.alembic_version" not in opened.run("db-up", "-s").stdout
    opened.run("db-up")
    assert opened.database.tables() == ["posts", "users"]


@pytest.mark.drivers(*BOTH)
def test_an_include_object(opened: Shop) -> None:
    """A revision that compares, as plain Alembic's recipes do, sees what ``env.py`` lets it see."""
    edit(opened, OPTIONS, f'{OPTIONS}        include_object=lambda item, name, *args: name != "users",\n')
    opened.project.revision(
        *("blog", "blog_2", "blog_1"),
        upgrade="""
        from alembic.autogenerate import compare_metadata
        found = compare_metadata(op.get_context(), sa.MetaData())
        op.create_table("found", sa.Column("name", sa.String(50)))
        table = sa.table("found", sa.column("name", sa.String))
        op.bulk_insert(table, [{"name": item[1].name} for item in found if item[0] == "remove_table"])
        """,
    )

    opened.run("db-up")

    assert opened.database.query("SELECT name FROM found") == [("posts",)]


@pytest.mark.drivers(*BOTH)
def test_a_callback_for_each_version(opened: Shop) -> None:
    log = opened.project.folder / "log"
    edit(
        opened,
        "def run_migrations",
        f"""
def note(step, run_args, **kwargs):
    with open({str(log)!r}, "a") as file:
        print("up" if step.is_upgrade else "down", step.up_revision_id, run_args, file=file)


def run_migrations""",
    )
    edit(opened, OPTIONS, f"{OPTIONS}        on_version_apply=note,\n")
    edit(opened, "context.run_migrations()", "context.run_migrations(who='me')")
    for revision in opened.project.folder.rglob("versions/*.py"):
        revision.write_text(revision.read_text("utf-8").replace("grade():", "grade(who):"), "utf-8")

    opened.run("db-up")
    opened.run("db-down")

    assert log.read_text().splitlines() == [
        "up app_1 {'who': 'me'}",
        "up blog_1 {'who': 'me'}",
        "down blog_1 {'who': 'me'}",
    ]


NOTE = """
def note(step, **kwargs):
    with open("log", "a") as file:
        ids = [sorted(step.down_revision_ids), sorted(step.source_revision_ids), sorted(step.destination_revision_ids)]
        if step.up_revision_id == "blog_5":  # for which all revisions are read
            ids += [step.up_revision.down_revision, sorted(each.revision for each in step.down_revisions)]
        print(step.is_upgrade, step.is_stamp, step.up_revision_id, step.up_revision_ids, ids, file=file)
"""
PLAIN = """
from alembic import context
from sqlalchemy import create_engine


def note(step, **kwargs): ...


with create_engine("sqlite:///plain.db").connect() as connection:
    context.configure(connection=connection, on_version_apply=note)
    with context.begin_transaction():
        context.run_migrations()
"""


@pytest.mark.drivers("sqlite+pysqlite")
def test_a_callback_is_told_the_same_of_each_version_as_by_plain_alembic(opened: Shop) -> None:
    """Of a dependency that an earlier revision has already, and of a merge of two that share one, for example."""
    project = opened.project
    project.revision("app", "app_2", "app_1")
    project.revision("blog", "blog_2", "blog_1", ["app_1", "app_2"])
    project.revision("blog", "blog_3", "blog_1", "app_2")
    project.revision("blog", "blog_4", ["blog_2", "blog_3"], ["app", "app_2"])
    project.revision("blog", "blog_5", ["blog_4"], ["app_2", "blog_2"])
    edit(opened, "def run_migrations", f"{NOTE}\n\ndef run_migrations")
    edit(opened, OPTIONS, f"{OPTIONS}        on_version_apply=note,\n")
    project.write("plain/env.py", PLAIN.replace("\ndef note(step, **kwargs): ...\n", NOTE))
    folders = " ".join(str(project.migrations(name) / "versions") for name in ("app", "blog"))
    ini = f"[alembic]\nscript_location = plain\nversion_locations = {folders}\n"
    project.write("plain.ini", f"{ini}path_separator = space\nversion_path_separator = space\n")
    log = project.folder / "log"

    def told(*command: str) -> list[str]:
        log.unlink(missing_ok=True)
        project.run(*command)
        return sorted(log.read_text("utf-8").splitlines())

    assert told("ampho", "db-up") == told("alembic", "-c", "plain.ini", "upgrade", "heads")
    assert told("ampho", "db-down", "blog_1") == told("alembic", "-c", "plain.ini", "downgrade", "blog_1")


@pytest.mark.drivers("sqlite")
def test_x_arguments_reach_it_and_the_revisions(opened: Shop) -> None:
    edit(opened, OPTIONS, f'{OPTIONS}        version_table=context.get_x_argument(as_dictionary=True)["table"],\n')
    opened.project.revision(
        *("blog", "blog_2", "blog_1"),
        upgrade="from alembic import context; op.create_table(context.get_x_argument()[1], sa.Column('x', sa.Text))",
    )

    opened.run("db-up", "-x", "table=changes", "-x", "extra")

    assert opened.database.tables() == ["changes", "extra", "posts", "users"]
    assert "blog_2 (head)" in opened.run("db-current", "-x", "table=changes").stdout
    assert "nothing applied" in opened.run("db-current", "-x", "table=other").stdout


TYPED = {
    "db-up": "upgrade heads",
    "db-down -s": "downgrade --sql -- -1",
    "db-down base -x a=b -x -c": "-xa=b -x=-c downgrade base",
    "db-up -s --start base app": "upgrade app --sql",
    "db-up app_1": "upgrade app_1",
    "db-current": "current",
    "db-status": "current",
    "db-up --plan": "current",
    "db-log": "current",
    "db-stamp blog": "stamp blog",
    "db-stamp heads --purge": "stamp heads --purge",
    "db-check": "revision --autogenerate",
    "db-rev blog More --depends-on app_1 -a": "revision --autogenerate -m More --head blog@head --depends-on app_1",
}


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_it_sees_the_arguments_that_alembics_command_line_would_have(opened: Shop) -> None:
    """Each command shows those of the command of Alembic's that does the same."""
    typed = opened.project.folder / "typed"
    note = f"    __import__('pathlib').Path({str(typed)!r}).write_text(repr(context.config.cmd_opts))\n"
    edit(opened, "    with context.begin", f"{note}    with context.begin")
    opened.run("db-up")
    for ours, theirs in TYPED.items():
        expected = CommandLine("alembic").parser.parse_args(theirs.split())
        expected.x = ["a=b", "-c"] if expected.x else []
        code = 1 if ours == "db-check" else 0  # no model describes the tables
        opened.run(*ours.split(), exit_code=code)
        assert typed.read_text("utf-8") == repr(expected), ours
    assert opened.database.rows() == ["blog_1"]


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_its_hook_may_ask_whether_a_revision_is_made_from_the_models(opened: Shop) -> None:
    """As in the recipe of Alembic's for no empty files, and in the ``env.py`` of Flask-Migrate."""
    edit(
        opened,
        "def run_migrations",
        """
from alembic.operations import ops


def hook(context_, revision, directives):
    if context.config.cmd_opts.autogenerate and getattr(context.config.cmd_opts, "autogenerate", False):
        directives[0].upgrade_ops.ops.append(ops.ExecuteSQLOp("SELECT 42"))


def run_migrations""",
    )
    edit(opened, OPTIONS, f"{OPTIONS}        process_revision_directives=hook,\n")
    opened.run("db-up")

    assert "~ SQL SELECT 42" in opened.run("db-check", exit_code=1).stdout
    opened.run("db-rev", "app", "Hooked", "-a")
    (written,) = (opened.project.migrations("app") / "versions").glob("*_hooked.py")
    assert 'op.execute("SELECT 42")' in written.read_text("utf-8")


@pytest.mark.drivers(*BOTH)
def test_statements_after_configure_are_fine(opened: Shop) -> None:
    edit(opened, "    with context.begin", "    connection.exec_driver_sql('SELECT 1')\n    with context.begin")

    opened.run("db-up")

    assert opened.database.rows() == ["blog_1"]


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite", "postgresql+psycopg", "postgresql+psycopg_async")
def test_the_one_of_the_other_framework_serves_as_well(opened: Shop) -> None:
    other = {"flask": "quart", "quart": "flask"}[zigzag.framework_of(opened.database)]
    write_env(opened.project, "app", other)
    edit(opened, OPTIONS, f'{OPTIONS}        version_table="changes",\n')

    opened.run("db-up")

    assert opened.database.rows("changes") == ["blog_1"]


LOGGING = """
import logging.config
from logging.config import fileConfig


def run_migrations"""
INI = """
[alembic]
sqlalchemy.url = driver://

[loggers]
keys = root

[handlers]
keys = console

[formatters]
keys =

[logger_root]
level = WARNING
handlers = console

[handler_console]
class = StreamHandler
args = (sys.stderr,)
"""
CALLS = {
    "fileConfig": "fileConfig(context.config.config_file_name)",
    "dictConfig": "logging.config.dictConfig({'version': 1})",
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("ini", [INI, "[alembic]\n", None], ids=["loggers", "no loggers", "no file"])
@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_it_does_not_replace_the_logging_of_the_app(
    opened: Shop, name: str, ini: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """As an ``env.py`` would that was carried over, whatever its ``alembic.ini`` says; plain Alembic configures it."""
    if ini is not None:
        opened.project.write(opened.project.migrations("app") / "alembic.ini", ini)
    edit(opened, "def run_migrations", LOGGING)
    edit(opened, "    context.configure(", f"    {CALLS[name]}\n    context.configure(")
    logger = logging.getLogger("of the app")
    before, functions = list(logging.root.handlers), (logging.config.fileConfig, logging.config.dictConfig)

    opened.run("db-up")

    skipped = [message for message in caplog.messages if f"{name}() was skipped, because it would replace" in message]
    assert len(skipped) == 1
    assert logging.root.handlers == before
    assert not logger.disabled
    assert (logging.config.fileConfig, logging.config.dictConfig) == functions
    assert opened.database.rows() == ["blog_1"]


@pytest.mark.drivers("sqlite+pysqlite")
def test_a_function_of_logging_that_was_replaced_is_skipped_by_its_name(
    opened: Shop, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logging.config.fileConfig", partial(logging.config.fileConfig))
    edit(opened, "def run_migrations", LOGGING)
    edit(opened, "    context.configure(", f"    {CALLS['fileConfig']}\n    context.configure(")

    opened.run("db-up")

    assert any("fileConfig() was skipped" in message for message in caplog.messages)


OFFLINE = """
import io, threading
from alembic.runtime.migration import HeadMaintainer, MigrationContext

def write_offline():
    output = io.StringIO()
    context = MigrationContext.configure(dialect_name="sqlite", opts={"as_sql": True, "output_buffer": output})
    HeadMaintainer(context, ())._insert_version("other_1")
    print(output.getvalue().strip())

thread = threading.Thread(target=write_offline)
thread.start()
thread.join()
"""


@pytest.mark.drivers("sqlite+pysqlite")
def test_plain_alembic_in_another_thread_is_left_alone(opened: Shop) -> None:
    edit(opened, "    context.configure(", indent(OFFLINE, "    ") + "    context.configure(")

    assert "INSERT INTO alembic_version (version_num) VALUES ('other_1')" in opened.run("db-up").output


@pytest.mark.drivers("sqlite+pysqlite")
def test_it_configures_logging_under_plain_alembic_and_says_so_once_under_ampho(opened: Shop) -> None:
    folder = opened.project.migrations("app")
    ini = INI.replace("sqlalchemy.url = driver://", f"script_location = {folder}").replace("WARNING", "INFO")
    path = opened.project.write(folder / "alembic.ini", ini)
    edit(opened, "def run_migrations", LOGGING)
    show = "    print('the level is', logging.root.level)\n"
    line = edit(opened, "    context.configure(", f"    {CALLS['fileConfig']}\n{show}    context.configure(")

    plain = opened.project.run("alembic", "-c", str(path), "current", env={"PYTHONPATH": str(opened.project.folder)})
    ours = opened.project.run("ampho", "db-current")

    assert f"the level is {logging.INFO}\n" in plain.stdout
    assert f"the level is {logging.WARNING}\n" in ours.output
    assert ours.stderr.endswith(
        f"Warning: app/migrations/env.py, line {line}: fileConfig() was skipped, because it would replace the app's"
        " logging configuration. Remove the call, or make it only if context.config.attributes has no"
        ' "connection", as is the case under plain Alembic.\n'
    )
    assert ours.stderr.count("Warning") == 1


# Which one is the host.


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_the_first_package_is_the_host_unless_a_setting_says_otherwise(
    opened: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_env(opened.project, "blog", "flask")
    edit(opened, OPTIONS, f'{OPTIONS}        version_table="of_blog",\n', "blog")

    assert "CREATE TABLE alembic_version" in opened.run("db-up", "-s", "app_1").stdout
    monkeypatch.setenv("AMPHO_ENV_PACKAGE", "blog")
    assert "CREATE TABLE of_blog" in opened.run("db-up", "-s", "app_1").stdout
    opened.app.config["AMPHO_ENV_PACKAGE"] = "app"
    assert "CREATE TABLE alembic_version" in opened.run("db-up", "-s", "app_1").stdout
    opened.app.config["AMPHO_ENV_PACKAGE"] = "shop"
    error = opened.run("db-up", exit_code=1).stderr
    assert "AMPHO_ENV_PACKAGE is 'shop', which is not a configured package with an env.py" in error
    assert untouched(opened)


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_one_that_knows_nothing_of_ampho_is_skipped_with_a_warning(opened: Shop) -> None:
    path = opened.project.write(opened.project.migrations("app") / "env.py", "raise RuntimeError('I ran')")

    result = opened.run("db-up")

    assert f"Warning: {path} is not used, because it does not import ampho.environment" in result.stderr
    assert "AMPHO_ENV_PACKAGE=app" in result.stderr
    assert "I ran" not in result.output
    assert opened.database.rows() == ["blog_1"]
    opened.app.config["AMPHO_ENV_PACKAGE"] = "app"
    assert "I ran" in opened.run("db-current", exit_code=1).stderr


# What is refused, before anything is written.


REFUSED = {
    "a connection of its own": (
        "    context.configure(\n",
        """    from sqlalchemy import Connection
    connection = Connection(connection.engine, connection=connection.connection)
    context.configure(
""",
        "does not use Ampho's connection. Pass the connection that run_migrations() receives to context.configure()",
    ),
    "no migrations run": ("        context.run_migrations()", "        pass", "never runs the migrations"),
    "one transaction for all": (
        OPTIONS,
        '**environment.options() | {"transaction_per_migration": False},\n',
        "does not run each revision in its own transaction. Pass transaction_per_migration=True",
    ),
    "no options at all": (OPTIONS, "target_metadata=None,\n", "does not run each revision in its own transaction"),
    "a statement before configure": (
        "    context.configure(",
        "    connection.exec_driver_sql('SELECT 1')\n    context.configure(",
        "runs a statement before context.configure()",
    ),
    "no transactional DDL": (
        OPTIONS,
        '**environment.options() | {"transactional_ddl": False},\n',
        "disables transactional DDL",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.drivers(*BOTH)
def test_it_is_refused(opened: Shop, case: str) -> None:
    old, new, message = REFUSED[case]
    edit(opened, old, new)
    path = opened.project.migrations("app") / "env.py"
    lines = path.read_text("utf-8").splitlines()
    configured = next(
        number for number, line in enumerate(lines, 1) if "context.configure(" in line and "#" not in line
    )

    for command in ("db-up", "db-current"):
        error = opened.run(command, exit_code=1).stderr
        assert message in error
        assert f"{path}, line {configured}" in error
        assert len(error.splitlines()) == 1
    assert untouched(opened)


FAILING = {
    "raises": (
        "    context.configure(",
        "    raise RuntimeError('boom')\n    context.configure(",
        "RuntimeError: boom",
    ),
    "exits": ("    context.configure(", "    raise SystemExit(0)\n    context.configure(", "sys.exit(0) was called"),
    "an argument twice": (
        OPTIONS,
        f"{OPTIONS}        **{{'compare_type': True}},\n",
        "multiple values for keyword argument 'compare_type' (pass the argument to environment.options() instead of",
    ),
    "a name that is missing": ("    context.configure(", "    contxt.configure(", "NameError"),
}


@pytest.mark.parametrize("case", FAILING)
@pytest.mark.drivers(*BOTH)
def test_a_failure_in_it_is_named_with_its_line(opened: Shop, case: str) -> None:
    old, new, message = FAILING[case]
    line = edit(opened, old, new) - (2 if case == "an argument twice" else 0)
    where = "env.py:"

    for command in ("db-up", "db-current", "db-down"):
        error = opened.run(command, exit_code=1).stderr
        assert message in error
        assert where in error
        found = int(error.split(where)[1].split(":")[0])
        assert found in range(line - 3, line + 1)
        assert len(error.splitlines()) == 1
    assert untouched(opened)


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite", "postgresql+asyncpg", "mariadb+pymysql")
def test_a_failure_of_another_connection_than_the_one_it_is_given_is_not_blamed_on_the_database(opened: Shop) -> None:
    """Also where it is opened in a function that the file calls, and whichever command runs it."""
    elsewhere = """
def look():
    from sqlalchemy import create_engine
    create_engine("sqlite:////nowhere/old.db").connect()


def run_migrations"""
    line = edit(opened, "def run_migrations", elsewhere) + 3
    edit(opened, "    context.configure(", "    look()\n    context.configure(")
    path = opened.project.migrations("app") / "env.py"

    for command in (["db-up"], ["db-up", "-s"], ["db-current"], ["db-up", "--plan"]):
        error = opened.run(*command, exit_code=1).stderr
        assert f"Error: env.py failed at {path}:{line}: OperationalError: unable to open database file" in error
        assert "Use the connection that environment.connect() returns, instead of opening another one" in error
        assert len(error.splitlines()) == 1
    assert untouched(opened)


@pytest.mark.drivers("sqlite+aiosqlite", "postgresql+asyncpg")
def test_one_of_alembics_for_async_engines_is_told_that_it_needs_no_loop(opened: Shop) -> None:
    """As it lies in a project that moves over; its coroutine, which nobody can await, is no warning besides."""
    template = Path(alembic.__file__).with_name("templates") / "async" / "env.py"
    path = opened.project.write(opened.project.migrations("app") / "env.py", template.read_text("utf-8"))
    opened.app.config["AMPHO_ENV_PACKAGE"] = "app"

    for command in (["db-up"], ["db-current"], ["db-up", "--plan"]):
        (said,) = opened.run(*command, exit_code=1).stderr.splitlines()
        assert said.startswith(f"Error: env.py failed at {path}:")
        assert "RuntimeError: asyncio.run() cannot be called from a running event loop. Use the connection" in said
        assert said.endswith("instead of opening another one or running an event loop.")
    assert untouched(opened)


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite", "postgresql+asyncpg", "mariadb+pymysql")
def test_a_failure_of_the_connection_that_it_is_given_is_one_of_the_database(opened: Shop) -> None:
    edit(opened, "    with context.begin", "    connection.exec_driver_sql('SELECT nonsense')\n    with context.begin")

    error = opened.run("db-up", exit_code=1).stderr

    assert "Error: The database reported an error: " in error
    assert "nonsense" in error
    assert untouched(opened)


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_a_syntax_error_in_it_is_one_line(opened: Shop) -> None:
    line = edit(opened, "    with context.begin", "    with with context.begin")

    error = opened.run("db-up", exit_code=1).stderr

    assert f"env.py:{line}" in error
    assert "SyntaxError" in error
    assert len(error.splitlines()) == 1
    assert untouched(opened)


@pytest.mark.drivers(*BOTH)
def test_it_cannot_hide_the_failure_of_a_revision(opened: Shop) -> None:
    edit(
        opened,
        "        context.run_migrations()",
        """        try:
            context.run_migrations()
        except Exception:
            pass""",
    )
    opened.project.revision("blog", "blog_2", "blog_1", upgrade="op.execute('nonsense')")

    result = opened.run("db-up", exit_code=1)

    assert "suppresses the failure of revision blog_2. Do not catch the exception" in result.stderr
    assert opened.database.rows() == ["blog_1"]
    # and not that of a plan either
    assert "nope is neither a package" in opened.run("db-up", "nope", exit_code=1).stderr


@pytest.mark.drivers("sqlite+pysqlite")
def test_the_error_has_the_file_and_the_line(opened: Shop) -> None:
    path = opened.project.migrations("app") / "env.py"
    line = edit(opened, OPTIONS, "target_metadata=None,\n")
    with opened.app.app_context(), pytest.raises(EnvironmentFileError) as caught:
        opened.app.extensions["ampho"].upgrade()

    assert caught.value.path == path
    assert caught.value.line in range(line - 5, line + 1)
    line = edit(opened, "    context.configure(", "    raise RuntimeError('boom')\n    context.configure(")
    with opened.app.app_context(), pytest.raises(EnvironmentFileError) as caught:
        opened.app.extensions["ampho"].upgrade()
    assert (caught.value.path, caught.value.line) == (path, line)


@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_a_failed_run_leaves_nothing_behind_for_the_next(opened: Shop) -> None:
    """Alembic's process-wide proxies and this connection's state are as they were."""
    path = opened.project.migrations("app") / "env.py"
    good = path.read_text("utf-8")
    edit(opened, "        context.run_migrations()", "        context.run_migrations()\n        raise KeyError('x')")
    assert "KeyError" in opened.run("db-up", exit_code=1).stderr
    path.write_text(good, "utf-8")

    opened.run("db-up")

    assert opened.database.rows() == ["blog_1"]
    assert alembic.op._proxy is None
