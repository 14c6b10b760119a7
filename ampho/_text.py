"""Text for people: errors of other code in one safe line, hints for well-known messages, and "Did you mean".

A safe line shows no password, no bound parameter, and no control character. The errors come from an app, a revision
file, an ``env.py``, or a driver. This module imports no framework and no SQLAlchemy, because the command line needs it
before them, and without them.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ampho.errors import AmphoError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import CodeType, FrameType, TracebackType

MALFORMED_URL = (
    "the database URL is malformed: percent-encode the special characters of its user and password, "
    "or build it with sqlalchemy.URL.create()"
)
EMPTY_URL = "the database URL is empty: give one, as in sqlite:///app.db"

_LONGEST_MESSAGE = 500
_LONGEST_OWN_MESSAGE = 4000
_LONGEST_STATEMENT = 200

# The last "@" ends the credentials, because a raw password may contain spaces, slashes, and "@".
_CREDENTIALS = re.compile(r"://[^/\s@:]*:.*@")
_SECRET_ARGUMENT = re.compile(r"""(?i)((?:password|passwd|pwd)['"]?\s?[=:]\s?)('[^']*'|"[^"]*"|[^\s&,)'"]+)""")
# SQLAlchemy shows the constraint with the representations of its columns and its table.
_UNNAMED = re.compile(
    r"(for constraint \w+)\((?:.*?\btable=(?:<|Table\(')(?P<table>[^>']+))?.*(; it has no name)", re.DOTALL
)
_BACKGROUND = re.compile(r"\(Background on this \w+ at: \S+\)")
# SQLAlchemy before 2.1 shows errors of asyncpg in this way.
_WRAPPED_CLASS = re.compile(r"<class '(?:\w+\.)*(\w+)'>: ")
# These look up a dialect by its name, and do not show any other part of the URL.
_NAMES_DIALECT_ONLY = frozenset({"_get_entrypoint", "get_dialect", "get_driver_name"})

_SHOWN = 5  # names, of many
# Drivers and their dependencies. Their errors do not always pass through SQLAlchemy, which would wrap them.
_OF_DRIVERS = frozenset(
    {
        *("aiosqlite", "asyncmy", "asyncpg", "oracledb", "psycopg", "psycopg_binary", "psycopg_c", "psycopg_pool"),
        *("psycopg2", "pymysql", "pyodbc", "sqlite3", "asyncio", "selectors", "socket", "ssl"),
    }
)
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_LIBRARIES = (Path(os.__file__).parent.resolve(), Path(__file__).parent.resolve())

_MOST = 3
_CLOSE = 0.65  # on difflib's scale from 0 to 1; two swapped letters of three are close
_AS_CLOSE = 0.05
_ENOUGH = 5  # letters, from which on the beginning of a name is significant

_ONE_STATEMENT = "one statement at a time: call op.execute() once for each"
_AUTOCOMMIT = "put it into op.get_context().autocommit_block()"
_NO_VALUE = "give the column a server_default, or fill it first and make it NOT NULL then"
_DRIVERS = "psycopg|psycopg2|asyncpg|pg8000|pymysql|asyncmy|aiomysql|MySQLdb|mysql|mariadb|aiosqlite|pyodbc|oracledb"

_TABLE_EXISTS = r"(table|relation) [^ ]+ already exists.*\[SQL: \s*CREATE TABLE"

_HINTS: dict[str, str] = {
    # The database URL
    r"Can't load plugin: sqlalchemy\.dialects:postgres\b(?!ql)": "the dialect is called postgresql, as in"
    " postgresql+psycopg:// for Flask and postgresql+asyncpg:// for Quart",
    r"No module named 'MySQLdb'": "mysql:// means the driver mysqlclient: name mysql+pymysql:// instead, whose driver"
    " comes with pip install 'ampho[mysql]'",
    r"No module named 'psycopg2'": "postgresql:// means the driver psycopg2: name postgresql+psycopg:// instead, whose"
    " driver comes with pip install 'ampho[postgres]'",
    rf"No module named '({_DRIVERS})'": "the database URL names a driver that is not installed: install it, or name"
    " another one, as in postgresql+psycopg://",
    # SQL
    r"A value is required for bind parameter": r"a colon before a name makes a parameter of it: write \: for a colon"
    r" that belongs to the SQL, in a raw string such as r'...'",
    r"multiple commands into a prepared statement": f"asyncpg runs {_ONE_STATEMENT}",
    r"You can only execute one statement at a time": f"SQLite runs {_ONE_STATEMENT}",
    r"error in your SQL syntax.*\[SQL: [^]]*;\s*\w": f"if these are several statements: PyMySQL runs {_ONE_STATEMENT}",
    r"schema \"?[^ ]+ does not exist": "create it in an earlier statement: op.execute('CREATE SCHEMA IF NOT EXISTS"
    " NAME')",
    r"OperationalError: unknown database": "SQLite has no schemas: leave out schema=, or attach a database of that name"
    " on each connect",
    r"Unknown database '": "here a schema is a database of the server: create it first, with CREATE DATABASE",
    _TABLE_EXISTS: "if it is right as it is, as a table from before the migrations, 'ampho db-stamp' marks the revision"
    " as applied without running it",
    # Locks and files
    r"database is locked": "another process is writing to it: wait until that ends, and run again",
    r"attempt to write a readonly database": "this user may not write to the file or its folder",
    r"unable to open database file": "check that the folder exists and that this user may write to it",
    # Transactions
    r"ALTER TYPE \.\.\. ADD cannot run inside a transaction": _AUTOCOMMIT,
    r"unsafe use of new value": "add the value in op.get_context().autocommit_block(), so that it is committed first",
    r"cannot run inside a transaction block": _AUTOCOMMIT,
    r"This Connection is closed": "op.get_bind() is for Ampho to close: leave out close(), and 'with op.get_bind()'",
    # Event loops
    r"from a running event loop|another loop is running|event loop is already running|Already running asyncio": "await"
    " in op.run_async(), or make it 'async def upgrade()'",
    # Constraints
    r"No support for ALTER of constraints in SQLite": "use op.batch_alter_table()",
    r"Constraint must have a name": "name it here and in the model, or give the metadata a naming_convention before it"
    " is written",
    r"Can't emit DROP CONSTRAINT .* it has no name|AssertionError: raised in format_constraint": "give the name that it"
    " has in the database, and name those of the models, or give their metadata a naming_convention",
    r"Cannot add a NOT NULL column with default value NULL": _NO_VALUE,
    r"contains null values": _NO_VALUE,
    r"NOT NULL constraint failed: _alembic_tmp_": _NO_VALUE,
    r"(Data truncated|Invalid use of NULL).*\[SQL: ALTER TABLE [^]]* NOT NULL": _NO_VALUE,
    # env.py
    r"got multiple values for keyword argument": "give it to environment.options(), and not to configure() as well",
    r"value too long for type character varying\(32\)": "the version table takes ids of 32 characters at most",
}
_DOWNGRADE_HINTS: dict[str, str] = {
    _TABLE_EXISTS: "if it is right as it is, 'ampho db-stamp' with an earlier revision, or with PACKAGE@base, marks"
    " this revision as not applied without running it",
}


def one_line(text: str, limit: int = _LONGEST_MESSAGE) -> str:
    """Return a text as one printable line, without the credentials of URLs.

    :param limit: the maximum of characters; a longer text is cut, and ends in ``...``.
    """
    line = _CREDENTIALS.sub("://***@", " ".join(text.split()))
    return printable(_SECRET_ARGUMENT.sub(r"\1***", line), limit)


def printable(text: str, limit: int) -> str:
    """Return a text as one printable line without masking anything. Its secrets must be masked already.

    :param limit: the maximum of characters; a longer text is cut, and ends in ``...``.
    """
    line = escaped(" ".join(text.split()))
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def escaped(text: str) -> str:
    """Return a text as one line without characters that move the cursor, reorder text, or hide it.

    Control characters and Unicode's invisible formatting characters are escaped. White space becomes spaces.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else _escape(c) for c in text)


def escaped_lines(text: str) -> str:
    """Return a text with each of its lines :func:`escaped`."""
    return "\n".join(map(escaped, text.split("\n")))


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def listed(names: Sequence[str], shown: int = _SHOWN) -> str:
    """Return names in a list; of many names, the first ones and the number of the others."""
    more = len(names) - shown
    return f"{', '.join(names[:shown])} and {more} more" if more > 0 else ", ".join(names)


def listed_last(ids: Sequence[str]) -> str:
    """Return the ids of revisions in a list; of many, their number and the last one."""
    if len(ids) > _SHOWN:
        return f"{len(ids)} revisions, the last of them {ids[-1]}"
    return ", ".join(ids) or "none"


def describe(exc: BaseException, hide: Callable[[str], str] = str) -> str:
    """Return an exception as one line, ``TypeName: first line of its message``.

    For an error of a statement, return the whole message of the driver and the beginning of the statement, without its
    parameters. For an error in a database URL, do not return its message, which contains the URL. The message of an
    :class:`~ampho.errors.AmphoError` is returned as it is.

    :param hide: removes known secrets from a text. It is called before the text is masked or cut, because that could
        leave parts of a secret.
    """
    if isinstance(exc, AmphoError):
        # Not masked: such a message may contain an example of a URL, but never a real one.
        return printable(_text(exc), _LONGEST_OWN_MESSAGE) or type(exc).__name__
    if quotes_url(exc):
        return EMPTY_URL if _is_empty_url(exc) else MALFORMED_URL
    if isinstance(exc, SystemExit):
        return one_line(hide(f"sys.exit({'' if exc.code is None else repr(exc.code)}) was called"))
    if _is_statement_error(exc):
        return _describe_statement_error(exc, hide)
    words = _sentence(exc, _first_line(hide(_text(exc))) or _function(exc))
    if isinstance(exc, BaseExceptionGroup):
        return one_line(f"{words}, the first: {describe(exc.exceptions[0], hide)}")
    return one_line(words)


def describe_warning(warning: Warning | str, category: type[Warning], file: str, line: int) -> str:
    """Return a Python warning as one line with the line of the project, or the library, that caused it.

    Call it while the warning is issued, because the warning of a library points into the library.
    """
    where = f"{shown_path(file)}:{line}" if _is_in(file, None) else _running_line() or _library(category, file)
    return one_line(f"{where}: {_BACKGROUND.sub('', str(warning)).strip()}")


def _running_line() -> str | None:
    """Return the innermost running line of the project. ``env.py`` does not count, because it runs everything."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 (which is documented)
    while frame is not None:
        file = frame.f_code.co_filename
        if _is_in(file, None) and Path(file).name != "env.py" and frame.f_globals.get("__name__") != "__main__":
            return f"{shown_path(file)}:{frame.f_lineno}"
        frame = frame.f_back
    return None


def _library(category: type[Warning], file: str) -> str:
    """Return the name of the library that a warning comes from: of its class, or otherwise of its file."""
    defined_in = category.__module__.partition(".")[0]
    if defined_in != "builtins":
        return defined_in
    parts = Path(file).with_suffix("").parts
    installed = [number for number, part in enumerate(parts) if part in _INSTALLED]
    return parts[installed[-1] + 1] if installed else parts[-1]


def place(exc: BaseException, path: Path) -> str:
    """Return the line of a file that raised an exception, as ``file:line``; only the file if it was another one."""
    return location(exc, path) or one_line(shown_path(path))


def location(exc: BaseException, below: Path | None) -> str | None:
    """Return the innermost line in a place that an exception passed, as ``file:line``.

    :param below: a file or a folder; None for everything except Python, installed libraries, and Ampho.
    :return: a path, relative to the current folder if it is inside; None if there is no such line.
    """
    place = None if below is None else Path(os.path.realpath(below))
    found = [(file, line) for file, line in _lines(exc) if _is_in(file, place)]
    if not found:
        return None
    file, line = found[-1]
    return one_line(f"{shown_path(file)}:{line}")


def quotes_url(exc: BaseException) -> bool:
    """Return whether an exception, or one of its causes, may contain a database URL that could not be parsed."""
    return any(
        name == "sqlalchemy.engine.url" and code.co_name not in _NAMES_DIALECT_ONLY
        for link in _chain(exc)
        for name, code, _ in _frames(link.__traceback__)
    )


def _is_empty_url(exc: BaseException) -> bool:
    """Return whether the database URL that could not be parsed was empty."""
    last = exc.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last is not None and last.tb_frame.f_locals.get("name") == ""


def is_of_database(exc: BaseException) -> bool:
    """Return whether an exception comes from a database, its driver, or the network."""
    module = sys.modules.get("sqlalchemy.exc")
    if module is not None and isinstance(
        exc, (module.DBAPIError, module.PendingRollbackError, module.ResourceClosedError, module.TimeoutError)
    ):
        return True
    name = type(exc).__module__
    innermost = [str(name) for name, _, _ in _frames(exc.__traceback__)][-1:]
    return name.startswith("sqlalchemy.dialects.") or not _OF_DRIVERS.isdisjoint(
        place.partition(".")[0] for place in (name, *innermost)
    )


def all_words(exc: BaseException) -> str:
    """Return the messages of an exception and its causes, as a traceback would show them, with all secrets."""
    return "\n".join(
        word for link in _chain(exc) for word in (_text(link), repr(link.args), *getattr(link, "__notes__", ()))
    )


def _chain(exc: BaseException) -> Iterator[BaseException]:
    waiting, seen = [exc], set[int]()
    while waiting:
        link = waiting.pop()
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        members = link.exceptions if isinstance(link, BaseExceptionGroup) else ()
        waiting += [other for other in (link.__cause__, link.__context__, *members) if other is not None]


def _frames(traceback: TracebackType | None) -> Iterator[tuple[object, CodeType, int]]:
    while traceback is not None:
        yield traceback.tb_frame.f_globals.get("__name__"), traceback.tb_frame.f_code, traceback.tb_lineno
        traceback = traceback.tb_next


def _lines(exc: BaseException) -> Iterator[tuple[str, int]]:
    for _, code, line in _frames(exc.__traceback__):
        yield code.co_filename, line
    if isinstance(exc, SyntaxError) and exc.filename and exc.lineno:
        yield exc.filename, exc.lineno


def _is_in(file: str, place: Path | None) -> bool:
    if file.startswith("<"):
        return False
    path = Path(os.path.realpath(file))
    if place is not None:
        return path.is_relative_to(place)
    return _INSTALLED.isdisjoint(path.parts) and not any(map(path.is_relative_to, _LIBRARIES))


def shown_path(path: Path | str) -> str:
    """Return a path as messages show it: relative to the current folder if it is inside, otherwise absolute."""
    with suppress(OSError):  # the current folder may have been deleted
        here = Path.cwd()
        for found in (Path(path).absolute(), Path(os.path.realpath(path))):
            if here in found.parents:
                return str(found.relative_to(here))
        return str(Path(path).absolute())
    return str(path)


def _is_statement_error(exc: BaseException) -> bool:
    module = sys.modules.get("sqlalchemy.exc")
    return module is not None and isinstance(exc, module.StatementError)


def _describe_statement_error(exc: BaseException, hide: Callable[[str], str]) -> str:
    error = getattr(exc, "orig", None) or exc
    # From SQLAlchemy 2.1 on, the exception of an async driver is inside an exception of SQLAlchemy.
    error = getattr(error, "orig", None) or error
    words = str(exc.args[0]) if error is exc else _text(error)
    statement = getattr(exc, "statement", None)
    sql = f" [SQL: {one_line(hide(str(statement)), _LONGEST_STATEMENT)}]" if statement else ""
    return one_line(_sentence(error, hide(words))) + sql


def _sentence(exc: BaseException, words: str) -> str:
    wrapped = _WRAPPED_CLASS.match(words)
    name = wrapped[1] if wrapped else type(exc).__name__
    words = words[wrapped.end() :] if wrapped else words
    return f"{name}: {words}" if words else name


def _text(exc: BaseException) -> str:
    try:
        return _UNNAMED.sub(_of_table, _BACKGROUND.sub("", str(exc))).strip()
    except Exception:  # noqa: BLE001 - other people's __str__ may do anything
        return "(its message cannot be shown)"


def _of_table(unnamed: re.Match[str]) -> str:
    return f"{unnamed[1]}{' of the table ' + unnamed['table'] if unnamed['table'] else ''}{unnamed[3]}"


def _function(exc: BaseException) -> str:
    """Return which function raised an exception that has no message, such as that of an ``assert``."""
    found = [code.co_name for _, code, _ in _frames(exc.__traceback__) if code.co_name.isidentifier()]
    return f"raised in {found[-1]}()" if found else ""


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


def counted(number: int, noun: str = "revision") -> str:
    """Return a number with a noun, such as ``2 revisions``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def with_hint(text: str, *, is_downgrade: bool = False) -> str:
    """Return a message with a hint on what to do, if it is well known.

    :param is_downgrade: whether it comes from a downgrade, for which some hints are different.
    """
    for pattern, remedy in (_HINTS | _DOWNGRADE_HINTS if is_downgrade else _HINTS).items():
        if re.search(pattern, text, re.IGNORECASE):
            return f"{text} ({remedy})"
    return text


def close_names(name: str, names: Iterable[str]) -> list[str]:
    """Return the names that are close to an unknown one; an empty list if there are none, or too many.

    An incomplete name is close to names that end with it, or that begin with something close to it.
    """
    names = list(dict.fromkeys(names))
    close = [other for other in names if len(name) >= _ENOUGH and other.endswith(f"_{name}")] or _closest(name, names)
    if not close and len(name) >= _ENOUGH:
        begun = _closest(name, {other[: len(name)]: None for other in names})
        close = [other for other in names if begun and other.startswith(begun[0])]
    return close if len(close) <= _MOST else []


def _closest(name: str, names: Iterable[str]) -> list[str]:
    """Return the names that are as close to a name as the closest one, or nearly so."""
    from difflib import SequenceMatcher, get_close_matches  # late: a name is misspelt in few runs

    close = get_close_matches(name, names, _MOST + 1, _CLOSE)
    ratios = {other: SequenceMatcher(None, other, name).ratio() for other in close}
    return sorted((other for other in close if ratios[other] > ratios[close[0]] - _AS_CLOSE), key=list(names).index)


def did_you_mean(name: str, names: Iterable[str], form: str = "{}") -> str:
    """Return a question that suggests the names close to an unknown one; empty if there are none.

    :param names: the known names; of a mapping, the values are shown.
    :param form: how to show a name, which replaces ``{}``.
    """
    shown = names if isinstance(names, Mapping) else {}
    close = [form.replace("{}", shown.get(other, other)) for other in close_names(name, names)]
    choice = " or ".join(filter(None, [", ".join(close[:-1]), *close[-1:]]))
    return choice and f"Did you mean {choice}?"


def sentences(*texts: str) -> str:
    """Join sentences, without empty ones; add a full stop to those that lack one."""
    return " ".join(text if text[-1] in ".!?" else f"{text}." for text in map(str.strip, texts) if text)
