"""Text for messages: safe one-line descriptions of errors, hints for well-known errors, and "Did you mean" questions.

A safe line contains no password, no bound parameter, and no control character. The errors come from an app, a revision
file, an ``env.py``, or a driver. This module imports neither a framework nor SQLAlchemy, because the command line also
uses it without them.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, TypeVar

from ampho.errors import AmphoError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import CodeType, FrameType, TracebackType

ExceptionT = TypeVar("ExceptionT", bound=BaseException)

MALFORMED_URL = (
    "the database URL is malformed: percent-encode the special characters of its user and password, "
    "or build it with sqlalchemy.URL.create()"
)
EMPTY_URL = "the database URL is empty: set one, such as sqlite:///app.db"

_LONGEST_MESSAGE = 500
_LONGEST_OWN_MESSAGE = 4000
_LONGEST_STATEMENT = 200

# The last "@" ends the credentials, because a raw password may contain spaces, slashes, and "@".
_CREDENTIALS = re.compile(r"://[^/\s@:]*:.*@")
_SECRET_ARGUMENT = re.compile(r"""(?i)((?:password|passwd|pwd)['"]?\s?[=:]\s?)('[^']*'|"[^"]*"|[^\s&,)'"]+)""")
# SQLAlchemy shows the repr of the constraint, which contains its columns and its table.
_UNNAMED = re.compile(
    r"(for constraint \w+)\((?:.*?\btable=(?:<|Table\(')(?P<table>[^>']+))?.*(; it has no name)", re.DOTALL
)
_BACKGROUND = re.compile(r"\(Background on this \w+ at: \S+\)")
# Before SQLAlchemy 2.1, messages from asyncpg begin with the class of the error.
_WRAPPED_CLASS = re.compile(r"<class '(?:\w+\.)*(\w+)'>: ")
# These functions look up a dialect by its name, so their errors do not contain any other part of the URL.
_NAMES_DIALECT_ONLY = frozenset({"_get_entrypoint", "get_dialect", "get_driver_name"})

_SHOWN = 5  # the maximum number of names shown in a list
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
_CLOSE = 0.65  # a ratio of difflib, from 0 to 1; this value accepts three letters of which two are swapped
_AS_CLOSE = 0.05
_ENOUGH = 5  # the minimum number of letters for a match with the beginning or the end of a name

_ONE_STATEMENT = "one statement at a time: call op.execute() once for each"
_AUTOCOMMIT = "run the statement inside 'with op.get_context().autocommit_block():'"
_NO_VALUE = "give the column a server_default, or fill it before you make it NOT NULL"
_DRIVERS = "psycopg|psycopg2|asyncpg|pg8000|pymysql|asyncmy|aiomysql|MySQLdb|mysql|mariadb|aiosqlite|pyodbc|oracledb"

_TABLE_EXISTS = r"(table|relation) [^ ]+ already exists.*\[SQL: \s*CREATE TABLE"

MULTIDB = (
    'which Ampho does not call. See "A Flask-Migrate folder for several databases" in docs/adopting.md for what to do'
)

_HINTS: dict[str, str] = {
    # The database URL
    r"Can't load plugin: sqlalchemy\.dialects:postgres\b(?!ql)": "the name of the dialect is postgresql, as in"
    " postgresql+psycopg:// for Flask or postgresql+asyncpg:// for Quart",
    r"No module named 'MySQLdb'": "mysql:// selects the driver mysqlclient: use mysql+pymysql:// instead, and install"
    " its driver with pip install 'ampho[mysql]'",
    r"No module named 'psycopg2'": "postgresql:// selects the driver psycopg2: use postgresql+psycopg:// instead, and"
    " install its driver with pip install 'ampho[postgres]'",
    rf"No module named '({_DRIVERS})'": "the driver in the database URL is not installed: install it, or use another"
    " driver, as in postgresql+psycopg://",
    # SQL
    r"A value is required for bind parameter": r"a colon before a name makes it a parameter: write \: for a colon"
    r" that is part of the SQL, in a raw string such as r'...'",
    r"multiple commands into a prepared statement": f"asyncpg runs {_ONE_STATEMENT}",
    r"You can only execute one statement at a time": f"SQLite runs {_ONE_STATEMENT}",
    r"error in your SQL syntax.*\[SQL: [^]]*;\s*\w": "PyMySQL runs one statement at a time: if there are several,"
    " call op.execute() once for each",
    r"schema \"?[^ ]+ does not exist": "create the schema first, as in op.execute('CREATE SCHEMA IF NOT EXISTS NAME')",
    r"OperationalError: unknown database": "SQLite has no schemas: leave out schema=, or attach a database of that name"
    " to each connection",
    r"(Unknown database '|database \"[^\"]+\" does not exist)(?!.*\[SQL: )": "'ampho db-up --create' creates the"
    " database, if the user may do that",
    r"Unknown database '": "on this server, a schema is a database: create it first, with CREATE DATABASE",
    _TABLE_EXISTS: "if the table is older than the migrations and matches this revision, mark the revision as applied"
    " with 'ampho db-stamp'",
    r"missing 1 required positional argument: 'engine_name'": "'flask db init --multidb' made this file, with a"
    f" function for each bind, {MULTIDB}",
    # Locks and files
    r"database is locked": "another process is writing to the file: wait until it has finished, and run the command"
    " again",
    r"attempt to write a readonly database": "give this user write access to the file and its folder",
    r"unable to open database file": "check that the folder exists and that this user may write to it",
    # Servers that are not PostgreSQL
    r"Could not determine version from string 'CockroachDB": "CockroachDB needs a dialect of its own: install"
    " sqlalchemy-cockroachdb, and begin the URL with 'cockroachdb+' and the name of the driver",
    # Transactions
    r"ALTER TYPE \.\.\. ADD cannot run inside a transaction": _AUTOCOMMIT,
    r"unsafe use of new value": "add the value in op.get_context().autocommit_block(), so that it is committed first",
    r"cannot run inside a transaction block": _AUTOCOMMIT,
    r"This Connection is closed": "Ampho closes the connection that op.get_bind() returns: remove the call to"
    " close(), or the 'with' statement that closes it",
    # Event loops
    r"from a running event loop|another loop is running|event loop is already running|Already running asyncio": "await"
    " the coroutine in op.run_async(), or write 'async def upgrade()'",
    # Constraints
    r"No support for ALTER of constraints in SQLite": "use op.batch_alter_table()",
    r"Constraint must have a name": "name the constraint here and in the model, or give the metadata a"
    " naming_convention before you write the revision",
    r"Can't emit DROP CONSTRAINT .* it has no name|AssertionError: raised in format_constraint": "pass its name in the"
    " database, and name the constraints of the models, or give their metadata a naming_convention",
    r"Cannot add a NOT NULL column with default value NULL": _NO_VALUE,
    r"contains null values": _NO_VALUE,
    r"NOT NULL constraint failed: _alembic_tmp_": _NO_VALUE,
    r"(Data truncated|Invalid use of NULL).*\[SQL: ALTER TABLE [^]]* NOT NULL": _NO_VALUE,
    # env.py
    r"got multiple values for keyword argument": "pass the argument to environment.options() instead of configure()",
    r"value too long for type character varying\(32\)": "the version table only holds ids of up to 32 characters",
}
_DOWNGRADE_HINTS: dict[str, str] = {
    _TABLE_EXISTS: "if the table is correct, mark this revision as not applied by stamping an earlier revision, or"
    " PACKAGE@base, with 'ampho db-stamp'",
}


def one_line(text: str, limit: int = _LONGEST_MESSAGE) -> str:
    """Return text as a single printable line, with the credentials in URLs masked.

    :param limit: the maximum number of characters; a longer line is shortened, and ends in ``...``.
    """
    line = _CREDENTIALS.sub("://***@", " ".join(text.split()))
    return printable(_SECRET_ARGUMENT.sub(r"\1***", line), limit)


def printable(text: str, limit: int) -> str:
    """Return text as a single printable line, without masking secrets.

    :param limit: the maximum number of characters; a longer line is shortened, and ends in ``...``.
    """
    line = escaped(" ".join(text.split()))
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def escaped(text: str) -> str:
    """Return text as one line, without characters that move the cursor, or reorder or hide text.

    Control characters and Unicode's invisible formatting characters are escaped. Whitespace becomes spaces.
    """
    if text.isprintable():
        return text
    pieces = (" " if c.isspace() else c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return "".join(pieces)


def escaped_lines(text: str) -> str:
    """Return text with each of its lines :func:`escaped`."""
    return text if text.isprintable() else "\n".join(map(escaped, text.split("\n")))


def listed(names: Sequence[str], shown: int = _SHOWN) -> str:
    """Return names as a comma-separated list; if there are many, the first few, and how many more there are."""
    more = len(names) - shown
    return f"{', '.join(names[:shown])} and {more} more" if more > 0 else ", ".join(names)


def listed_last(ids: Sequence[str]) -> str:
    """Return revision ids as a comma-separated list; if there are many, their number and the last id."""
    if len(ids) > _SHOWN:
        return f"{len(ids)} revisions, the last of them {ids[-1]}"
    return ", ".join(ids) or "none"


def describe(exc: BaseException, hide: Callable[[str], str] = str) -> str:
    """Return an exception as one line, ``TypeName: first line of its message``.

    If the first line ends in a colon, the rest of the message follows. If a statement failed, the line contains the
    driver's whole message and the beginning of the statement, without its parameters. The message about a malformed
    database URL is replaced, because it contains the URL. The message of an :class:`~ampho.errors.AmphoError` is
    returned unchanged.

    :param hide: a function that removes known secrets from a string. It is called first, because masking or shortening
        the string beforehand could leave part of a secret.
    """
    if isinstance(exc, AmphoError):
        # This message is not masked, because it may contain an example URL, but never a real URL.
        return printable(_text(exc), _LONGEST_OWN_MESSAGE) or type(exc).__name__
    if quotes_url(exc):
        return EMPTY_URL if _is_empty_url(exc) else MALFORMED_URL
    if isinstance(exc, SystemExit):
        return one_line(hide(f"sys.exit({'' if exc.code is None else repr(exc.code)}) was called"))
    if _is_of_sqlalchemy(exc, "StatementError"):
        return _describe_statement_error(exc, hide)
    text = hide(_text(exc))
    first = text.partition("\n")[0].rstrip()
    words = _sentence(exc, (text if first.endswith(":") else first) or _function(exc))
    if isinstance(exc, BaseExceptionGroup):
        return one_line(f"{words}, the first: {describe(exc.exceptions[0], hide)}")
    return one_line(words)


def notes(exc: BaseException) -> str:
    """Return the notes that were added to an exception."""
    return " ".join(getattr(exc, "__notes__", ()))


def with_notes_of(source: BaseException, target: ExceptionT) -> ExceptionT:
    """Return an exception that is raised in place of another one, with the notes of that one."""
    if source is not target and (found := notes(source)):
        target.add_note(found)
    return target


def describe_warning(warning: Warning | str, category: type[Warning], file: str, line: int) -> str:
    """Return a Python warning as one line that begins with its origin: a line of the project, or a library.

    Call this function while the warning is being issued, because it searches the stack for a line of the project.
    """
    where = f"{shown_path(file)}:{line}" if _is_in(file, None) else running_line() or _library(category, file)
    return one_line(f"{where}: {_BACKGROUND.sub('', str(warning)).strip()}")


def running_line() -> str | None:
    """Return the innermost line of the project on the stack, ignoring ``env.py``, which runs all revisions."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 (documented)
    while frame is not None:
        file = frame.f_code.co_filename
        if _is_in(file, None) and Path(file).name != "env.py" and frame.f_globals.get("__name__") != "__main__":
            return f"{shown_path(file)}:{frame.f_lineno}"
        frame = frame.f_back
    return None


def _library(category: type[Warning], file: str) -> str:
    """Return the library that defines the class of a warning; for a built-in class, the library of the file."""
    defined_in = category.__module__.partition(".")[0]
    if defined_in != "builtins":
        return defined_in
    parts = Path(file).with_suffix("").parts
    installed = [number for number, part in enumerate(parts) if part in _INSTALLED]
    return parts[installed[-1] + 1] if installed else parts[-1]


def place(exc: BaseException, path: Path) -> str:
    """Return the line of a file that raised an exception, as ``file:line``, or only the file if no line is known."""
    return location(exc, path) or one_line(shown_path(path))


def location(exc: BaseException, below: Path | None) -> str | None:
    """Return the innermost line of a file or folder in the traceback of an exception, as ``file:line``.

    :param below: the file or folder; None for all files except those of Python, installed libraries, and Ampho.
    :return: None if there is no such line.
    """
    place = None if below is None else Path(os.path.realpath(below))
    found = [f"{shown_path(file)}:{line}" for file, line in _lines(exc) if _is_in(file, place)]
    return one_line(found[-1]) if found else None


def quotes_url(exc: BaseException) -> bool:
    """Return whether an exception, or one of its causes, may contain a database URL that could not be parsed."""
    return any(
        name == "sqlalchemy.engine.url" and code.co_name not in _NAMES_DIALECT_ONLY
        for link in _chain(exc)
        for name, code, _ in frames(link.__traceback__)
    )


def _is_empty_url(exc: BaseException) -> bool:
    """Return whether the database URL that could not be parsed was empty."""
    last = exc.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last is not None and last.tb_frame.f_locals.get("name") == ""


def is_of_database(exc: BaseException) -> bool:
    """Return whether an exception comes from a database, its driver, or the network."""
    if _is_of_sqlalchemy(exc, "DBAPIError", "PendingRollbackError", "ResourceClosedError", "TimeoutError"):
        return True
    name = type(exc).__module__
    innermost = [str(name) for name, _, _ in frames(exc.__traceback__)][-1:]
    return name.startswith("sqlalchemy.dialects.") or not _OF_DRIVERS.isdisjoint(
        place.partition(".")[0] for place in (name, *innermost)
    )


def all_words(exc: BaseException) -> str:
    """Return the unmasked messages of an exception and of its causes, as a traceback would show them."""
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


def frames(traceback: TracebackType | None) -> Iterator[tuple[object, CodeType, int]]:
    """Yield the module name, the code object, and the line number of each frame of a traceback."""
    while traceback is not None:
        yield traceback.tb_frame.f_globals.get("__name__"), traceback.tb_frame.f_code, traceback.tb_lineno
        traceback = traceback.tb_next


def _lines(exc: BaseException) -> Iterator[tuple[str, int]]:
    for _, code, line in frames(exc.__traceback__):
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
    """Return a path for a message: relative if it is inside the current folder, otherwise absolute."""
    with suppress(OSError):  # the current folder may have been deleted
        here = Path.cwd()
        for found in (Path(path).absolute(), Path(os.path.realpath(path))):
            if here in found.parents:
                return str(found.relative_to(here))
        return str(Path(path).absolute())
    return str(path)


def _is_of_sqlalchemy(exc: BaseException, *names: str) -> bool:
    """Return whether an exception is an instance of one of the named SQLAlchemy classes, without importing them."""
    module = sys.modules.get("sqlalchemy.exc")
    return module is not None and isinstance(exc, tuple(getattr(module, name) for name in names))


def _describe_statement_error(exc: BaseException, hide: Callable[[str], str]) -> str:
    error = getattr(exc, "orig", None) or exc
    # Since SQLAlchemy 2.1, the exception of an async driver is wrapped in an exception of SQLAlchemy.
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
    except Exception:  # noqa: BLE001 (the __str__ of other code may raise anything)
        return "(its message cannot be shown)"


def _of_table(unnamed: re.Match[str]) -> str:
    return f"{unnamed[1]}{' of the table ' + unnamed['table'] if unnamed['table'] else ''}{unnamed[3]}"


def _function(exc: BaseException) -> str:
    """Describe an exception without a message, such as one from ``assert``, by the function that raised it."""
    found = [code.co_name for _, code, _ in frames(exc.__traceback__) if code.co_name.isidentifier()]
    return f"raised in {found[-1]}()" if found else ""


def counted(number: int, noun: str = "revision") -> str:
    """Return a number with a noun, such as ``2 revisions``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def elapsed(seconds: float) -> str:
    """Return a time as text, in whole seconds, such as ``12 s`` or ``1:05:00``."""
    hours, minutes = divmod(int(seconds) // 60, 60)
    return f"{int(seconds)} s" if seconds < 60 else f"{hours}:{minutes:02}:{int(seconds) % 60:02}"


def with_hint(text: str, *, is_downgrade: bool = False) -> str:
    """Return a message, followed by a hint if the error is well known.

    :param is_downgrade: whether the message comes from a downgrade, for which some hints are different.
    """
    for pattern, remedy in (_HINTS | _DOWNGRADE_HINTS if is_downgrade else _HINTS).items():
        if re.search(pattern, text, re.IGNORECASE):
            return f"{text} ({remedy})"
    return text


def close_names(name: str, names: Iterable[str]) -> list[str]:
    """Return the names that are close to an unknown name; an empty list if there are none, or too many.

    An incomplete name is also close to names that end with it, and to names that begin with a similar string.
    """
    names = list(dict.fromkeys(names))
    close = [other for other in names if len(name) >= _ENOUGH and other.endswith(f"_{name}")] or _closest(name, names)
    if not close and len(name) >= _ENOUGH:
        begun = _closest(name, {other[: len(name)]: None for other in names})
        close = [other for other in names if begun and other.startswith(begun[0])]
    return close if len(close) <= _MOST else []


def _closest(name: str, names: Iterable[str]) -> list[str]:
    """Return the closest match for a name, and the names that are nearly as close."""
    from difflib import SequenceMatcher, get_close_matches  # imported here because few runs need it

    close = get_close_matches(name, names, _MOST + 1, _CLOSE)
    ratios = {other: SequenceMatcher(None, other, name).ratio() for other in close}
    return sorted((other for other in close if ratios[other] > ratios[close[0]] - _AS_CLOSE), key=list(names).index)


def did_you_mean(name: str, names: Iterable[str], form: str = "{}") -> str:
    """Return a question that suggests the names close to an unknown name; an empty string if there are none.

    :param names: the known names; if they are keys of a mapping, its values are shown instead.
    :param form: a format string for each name.
    """
    shown = names if isinstance(names, Mapping) else {}
    close = [form.replace("{}", shown.get(other, other)) for other in close_names(name, names)]
    choice = " or ".join(filter(None, [", ".join(close[:-1]), *close[-1:]]))
    return choice and f"Did you mean {choice}?"


def sentences(*texts: str) -> str:
    """Join sentences, leaving out empty ones, and add a full stop to those that lack one."""
    return " ".join(text if text[-1] in ".!?" else f"{text}." for text in map(str.strip, texts) if text)


_COMMANDS = re.compile(
    r"('(?:AMPHO_\w+=\S+ )?(?:flask |quart )?ampho"
    r" db-(?:up|down|stamp|forget|resolve|current|status|check|wait|log|lint|graph)\b[^']*)'"
)


def of_database(message: str, database: str) -> str:
    """Return a message with ``--database`` in the commands that it suggests, unless they name a database."""
    option = f" --database {quote(database)}"
    return _COMMANDS.sub(
        lambda found: found[0] if re.search(" (--database|-d) ", found[1]) else f"{found[1]}{option}'", message
    )
