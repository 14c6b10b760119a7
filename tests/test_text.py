"""One safe line about any exception, and where it came from."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Column, DateTime, MetaData, NullPool, Table, create_engine, event, text
from sqlalchemy.exc import DBAPIError, MissingGreenlet, NoSuchModuleError, StatementError

from ampho._text import MALFORMED_URL, describe, is_of_database, location, one_line, quotes_url, shown_path, with_hint
from ampho.errors import AmphoError, ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


def caught(code: str, file: str = "<test>", **names: object) -> BaseException:
    try:
        exec(compile(code, file, "exec"), names)
    except BaseException as exc:  # noqa: BLE001 - it is what the test is about
        return exc
    raise AssertionError("nothing was raised")


class RudeError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


class BlankError(Exception):
    def __str__(self) -> str:
        return str.__new__  # type: ignore[return-value] # not a string


@pytest.mark.parametrize(
    ("exc", "line"),
    [
        (ValueError("one\ntwo"), "ValueError: one"),
        (ValueError("\n\n  one \t two\nthree"), "ValueError: one two"),
        (
            ValueError("failed for 'x'. Possible reasons are: \n\n- one;\n- two."),
            "ValueError: failed for 'x'. Possible reasons are: - one; - two.",
        ),
        (ValueError(), "ValueError"),
        (KeyError("x"), "KeyError: 'x'"),
        (ValueError("bell\a \x1b[31mred \udc80 é"), r"ValueError: bell\x07 \x1b[31mred \udc80 é"),
        (RudeError(), "RudeError: (its message cannot be shown)"),
        (BlankError(), "BlankError: (its message cannot be shown)"),
        (SystemExit(), "sys.exit() was called"),
        (SystemExit(0), "sys.exit(0) was called"),
        (SystemExit("bye\n"), r"sys.exit('bye\n') was called"),
        (ConfigurationError("say it"), "say it"),
        (ConfigurationError("say\nit"), "say it"),
        (AmphoError(), "AmphoError"),
        (ConfigurationError("write pg://user:password@host"), "write pg://user:password@host"),
        (
            ExceptionGroup("several", [KeyError("a"), KeyError("b")]),
            "ExceptionGroup: several (2 sub-exceptions), the first: KeyError: 'a'",
        ),
    ],
)
def test_an_exception_is_its_type_and_the_first_line_of_its_message(exc: BaseException, line: str) -> None:
    assert describe(exc) == line


def test_a_long_message_is_cut() -> None:
    assert describe(ValueError("x" * 1000)) == f"ValueError: {'x' * 485}..."
    assert one_line("abcdef", 5) == "ab..."


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@h/d",
        "postgresql://u:p@ss hun/ter2@h/d",
        "redis://:hunter2@h",
        "postgresql://h/d?user=u&password=hunter2&x=1",
        "host=h password='hun ter2' dbname=d",
        {"user": "u", "password": "hunter2"},
    ],
)
def test_credentials_in_a_message_are_masked(url: object) -> None:
    line = describe(ValueError(f"cannot use {url!r} for this"))
    assert "ter2" not in line
    assert "***" in line
    assert line.endswith("for this")


@pytest.mark.parametrize(
    "url", ["postgresql://u:hun@ter2:x@h:54x/d", "post gres://u:hunter2@h", ("postgresql://u:hunter2@h/d",)]
)
def test_a_malformed_database_url_is_told_without_the_words_of_the_parser(url: object) -> None:
    exc = caught("create_engine(url)", create_engine=create_engine, url=url)
    assert describe(exc) == MALFORMED_URL
    assert quotes_url(exc)


@pytest.mark.parametrize(
    "code",
    [
        "try: make(url)\nexcept Exception as exc: raise RuntimeError(str(exc)) from exc",
        "try: make(url)\nexcept Exception as exc: raise RuntimeError(str(exc)) from None",
        "try: make(url)\nexcept Exception as exc: raise ExceptionGroup(str(exc), [exc])",
    ],
)
def test_an_exception_that_passes_the_parsers_words_on_is_told_without_them(code: str) -> None:
    exc = caught(code, make=create_engine, url="postgresql://u:hun@ter2:x@h:54x/d")
    assert describe(exc) == MALFORMED_URL


def test_an_unknown_dialect_is_told_by_its_name() -> None:
    exc = caught("create_engine('oracel://u:hunter2@h/d')", create_engine=create_engine)
    assert isinstance(exc, NoSuchModuleError)
    assert describe(exc) == "NoSuchModuleError: Can't load plugin: sqlalchemy.dialects:oracel"


def test_exceptions_that_cause_each_other_are_no_trap() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert describe(one) == "ValueError: one"


def test_an_error_of_a_statement_is_the_drivers_words_and_the_statement() -> None:
    with create_engine("sqlite://", poolclass=NullPool).connect() as connection:
        exc = caught(
            "connection.execute(text('SELECT :a,\\n   :b FROM nowhere'), {'a': 'hunter2', 'b': 2})",
            connection=connection,
            text=text,
        )
    assert isinstance(exc, DBAPIError)
    assert describe(exc) == "OperationalError: no such table: nowhere [SQL: SELECT ?, ? FROM nowhere]"


def test_a_long_statement_is_cut() -> None:
    exc = DBAPIError(f"SELECT {'x' * 500}", {"a": "hunter2"}, sqlite3.OperationalError("near\n  here\x00"))
    assert describe(exc) == rf"OperationalError: near here\x00 [SQL: SELECT {'x' * 190}...]"


def test_an_error_of_connecting_has_no_statement() -> None:
    exc = DBAPIError(None, None, sqlite3.OperationalError("connection refused\nIs the server running?"))
    assert describe(exc) == "OperationalError: connection refused Is the server running?"


def test_a_value_that_the_driver_never_saw_is_told_without_parameters() -> None:
    table = Table("t", MetaData(), Column("at", DateTime))
    with create_engine("sqlite://", poolclass=NullPool).connect() as connection:
        exc = caught("c.execute(t.insert(), {'at': 'hunter2'})", c=connection, t=table)
    assert isinstance(exc, StatementError)
    assert describe(exc) == (
        "TypeError: SQLite DateTime type only accepts Python datetime and date objects as input. "
        "[SQL: INSERT INTO t (at) VALUES (?)]"
    )


def test_a_statement_error_of_someones_own_is_told_in_its_words() -> None:
    exc = StatementError("stop here", "SELECT 1", {"a": "hunter2"}, None)
    assert describe(exc) == "StatementError: stop here [SQL: SELECT 1]"


def test_the_error_of_an_async_driver_has_its_own_name() -> None:
    class UniqueViolationError(Exception): ...

    class IntegrityError(Exception):
        orig: Exception | None = None

    new, old = IntegrityError("duplicate key"), IntegrityError("<class 'asyncpg.exceptions.UniqueViolationError'>: dup")
    new.orig = UniqueViolationError("duplicate key\nDETAIL: (a)")
    assert describe(DBAPIError("X", None, new)) == "UniqueViolationError: duplicate key DETAIL: (a) [SQL: X]"
    assert describe(DBAPIError("X", None, old)) == "UniqueViolationError: dup [SQL: X]"


def test_links_to_background_reading_are_left_out() -> None:
    assert describe(MissingGreenlet("await it")) == "MissingGreenlet: await it"


def test_an_error_raised_by_an_event_listener_keeps_its_words() -> None:
    engine = create_engine("sqlite://")

    @event.listens_for(engine, "connect")
    def refuse(connection: sqlite3.Connection, _: object) -> None:
        connection.close()
        raise RuntimeError("not today")

    assert describe(caught("engine.connect()", engine=engine)) == "RuntimeError: not today"


# ---- where ----


def test_the_innermost_line_in_a_file_or_folder_is_the_location(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "app" / "migrations"
    folder.mkdir(parents=True)
    exc = caught("import json\n\njson.loads('{')\n", str(folder / "one.py"))
    shown = f"{folder.resolve() / 'one.py'}:3"
    assert location(exc, folder) == shown
    assert location(exc, folder / "one.py") == shown
    assert location(exc, folder / "two.py") is None
    assert location(exc, None) == shown
    monkeypatch.chdir(tmp_path)
    assert location(exc, None) == "app/migrations/one.py:3"


def test_a_path_is_shown_from_the_current_folder_where_it_is_below_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    for folder in (here, elsewhere):
        folder.mkdir()
    (here / "link").symlink_to(elsewhere)
    (tmp_path / "back").symlink_to(here)
    monkeypatch.chdir(here)
    assert shown_path(here / "app" / "one.py") == shown_path("app/one.py") == "app/one.py"
    assert shown_path(here / "link" / "one.py") == "link/one.py"
    assert shown_path(tmp_path / "back" / "one.py") == "one.py"
    assert shown_path(elsewhere / "one.py") == str(elsewhere / "one.py")
    assert shown_path(here) == str(here)
    here.rename(tmp_path / "there")
    (tmp_path / "there" / "link").unlink()
    (tmp_path / "there").rmdir()
    assert shown_path(elsewhere / "one.py") == str(elsewhere / "one.py")
    assert shown_path("one.py") == "one.py"


def test_a_syntax_error_is_where_the_syntax_is(tmp_path: Path) -> None:
    file = tmp_path / "one.py"
    exc = caught("\nx = = 1\n", str(file))
    assert location(exc, file) == f"{file.resolve()}:2"


def test_installed_and_built_in_code_is_no_location_unless_asked_for(tmp_path: Path) -> None:
    installed = tmp_path / "site-packages" / "lib.py"
    exc = caught("import json\njson.loads('{')\n", str(installed))
    assert location(exc, installed.parent) == f"{installed.resolve()}:2"
    exc.__traceback__ = exc.__traceback__ and exc.__traceback__.tb_next  # from there on, without this file
    assert location(exc, None) is None


def test_an_exception_that_was_never_raised_has_no_location() -> None:
    assert location(ValueError("x"), None) is None


# ---- hints ----


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("ValueError: Constraint must have a name", "naming_convention"),
        ("Cannot add a NOT NULL column with default value NULL", "server_default"),
        ('column "code" of relation "books" contains null values', "server_default"),
        ("database is locked", "run the command again"),
    ],
)
def test_what_is_well_known_comes_with_a_remedy(said: str, hint: str) -> None:
    assert with_hint(said).startswith(f"{said} (")
    assert hint in with_hint(said)
    assert with_hint("nothing known") == "nothing known"


def test_a_table_that_exists_has_another_remedy_in_a_downgrade() -> None:
    said = "OperationalError: table a already exists [SQL: CREATE TABLE a (id INTEGER)]"
    assert "mark the revision as applied" in with_hint(said)
    assert "mark this revision as not applied" in with_hint(said, is_downgrade=True)
    assert with_hint("database is locked", is_downgrade=True) == with_hint("database is locked")


@pytest.mark.parametrize(
    ("constraint", "shown"),
    [
        ("sa.UniqueConstraint('x')", "UniqueConstraint of the table a"),
        ("sa.CheckConstraint('x > 1')", "CheckConstraint of the table a"),
        ("sa.ForeignKeyConstraint(['x'], ['b.id'])", "ForeignKeyConstraint of the table a"),
        ("sa.PrimaryKeyConstraint()", "PrimaryKeyConstraint"),
    ],
)
def test_a_constraint_without_a_name_is_shown_in_a_few_words(constraint: str, shown: str) -> None:
    columns = "".join(f", sa.Column('column_{number}', sa.Integer)" for number in range(40))
    exc = caught(
        f"import sqlalchemy as sa\nunnamed = {constraint}\n"
        f"sa.Table('a', sa.MetaData(), sa.Column('x', sa.Integer){columns}, unnamed)\n"
        "sa.schema.DropConstraint(unnamed).compile()\n"
    )
    said = describe(exc)
    assert said == f"CompileError: Can't emit DROP CONSTRAINT for constraint {shown}; it has no name"
    assert with_hint(said).startswith(f"{said} (pass its name in the database")


@pytest.mark.parametrize(
    "code",
    [
        "import sqlite3; raise sqlite3.OperationalError('disk I/O error')",
        "import asyncpg; raise asyncpg.InterfaceError('the connection is closed')",
        "from sqlalchemy.exc import PendingRollbackError; raise PendingRollbackError('it is invalid')",
        "import socket; socket.create_connection(('127.0.0.1', 0))",
        "import asyncio; loop = asyncio.new_event_loop(); loop.close(); loop.call_soon(print)",
    ],
)
def test_an_error_of_a_driver_is_told_from_others(code: str) -> None:
    assert is_of_database(caught(code))


@pytest.mark.parametrize("code", ["open('/nowhere/at/all')", "int('one')", "raise RuntimeError('no')"])
def test_another_error_is_not_taken_for_one_of_a_driver(code: str) -> None:
    assert not is_of_database(caught(code))
