"""Read database URLs from settings, check their drivers, and show URLs and errors without secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import wraps
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from urllib.parse import quote_plus

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from ampho._text import describe, shown_path, with_hint
from ampho.errors import ConfigurationError, DatabaseError, DriverError
from ampho.settings import DEFAULT_DATABASE

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

P = ParamSpec("P")
T = TypeVar("T")

URL_SETTING = "SQLALCHEMY_DATABASE_URI"
BINDS_SETTING = "SQLALCHEMY_BINDS"

MASK = "***"
_FORM = "Use the form dialect+driver://user:password@host/database"
_SHORT = 3

_DRIVERS = {
    "sqlite": ("sqlite://", "sqlite+aiosqlite://", "quart"),
    "postgresql": ("postgresql+psycopg://", "postgresql+asyncpg:// or postgresql+psycopg://", "postgres"),
    "mysql": ("mysql+pymysql://", "mysql+asyncmy://", "mysql"),
    "mariadb": ("mariadb+pymysql://", "mariadb+asyncmy://", "mysql"),
    "oracle": ("oracle+oracledb://", "oracle+oracledb_async://", ""),
    "mssql": ("mssql+pyodbc://", "mssql+aioodbc://", ""),
}
"""For each kind of database, suitable sync and async drivers, and the Ampho extra that installs them."""

_PORTS = {"postgresql": 5432, "mysql": 3306}
_PLACES = ("host", "port", "service", "unix_socket", "options")  # "options" may select a schema
_RENAMED = {"postgres": "postgresql"}  # libpq accepts this name, but SQLAlchemy does not

# The rest of a URL after the user and the password, as SQLAlchemy's parser delimits them.
_AFTER_CREDENTIALS = re.compile(r"[\w+]+://[^:/]*(?::[^@]*)?@(?P<rest>.*)", re.DOTALL)
# A host name, an address, or a list of them; SQL Server also uses "(" and the backslash.
_HOST = re.compile(r"[\w.,:%~()\\-]*")
_SEARCH_PATH = re.compile(r"""search_path\s*=\s*["']?([^\s,"']+)""")
_SECRET_KEY = re.compile(r"pass(?!file)|pwd|secret|token|credential|api_?key|odbc_connect", re.IGNORECASE)


def leaving_no_frames(read: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function that reads settings, so that the tracebacks of its errors do not contain its frames.

    A frame's local variables may contain a malformed URL with its password, and error trackers record them.
    """

    @wraps(read)
    def reading(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return read(*args, **kwargs)
        except ConfigurationError as exc:
            error = exc.with_traceback(None)
        del args, kwargs
        raise error

    return reading


def setting_of(database: str) -> str:
    """Return the setting that contains the URL of a database."""
    return URL_SETTING if database == DEFAULT_DATABASE else f"{BINDS_SETTING}[{database!r}]"


@leaving_no_frames
def configured_urls(config: Mapping[str, Any]) -> dict[str, URL]:
    """Return the URLs in the configuration of an app with Flask-SQLAlchemy, by setting."""
    options = config.get("SQLALCHEMY_ENGINE_OPTIONS") or {}
    urls = {URL_SETTING: config.get(URL_SETTING), "SQLALCHEMY_ENGINE_OPTIONS['url']": options.get("url")}
    urls = {setting: value for setting, value in urls.items() if value is not None}
    binds = config.get(BINDS_SETTING) or {}
    if not isinstance(binds, Mapping):
        raise ConfigurationError(f"{BINDS_SETTING} must be a dict, not {type(binds).__name__}.", setting=BINDS_SETTING)
    for key, bind in binds.items():
        urls[setting_of(key)] = bind.get("url") if isinstance(bind, dict) else bind
    return {setting: parse_url(value, setting) for setting, value in urls.items()}


def wrong_url(exc: BaseException) -> str | None:
    """Return what is wrong with the URLs of an app if Flask-SQLAlchemy failed because of them; otherwise, None."""
    for frame, _ in walk_tb(exc.__traceback__):
        if (frame.f_globals.get("__name__"), frame.f_code.co_name) == ("flask_sqlalchemy.extension", "init_app"):
            try:
                configured_urls(frame.f_locals["app"].config)
            except ConfigurationError as error:
                return str(error)
    return None


@leaving_no_frames
def parse_url(value: object, setting: str) -> URL:
    """Return the URL in a setting.

    A second unencoded ``@``, or a character that no host name can have, is an error. Such a character is almost always
    part of the password, and SQLAlchemy would take the rest of it for the host or the database, which errors show.

    :param value: a ``str`` or a :class:`sqlalchemy.URL`.
    :raises ConfigurationError: if the value is not a database URL. The message contains no part of it.
    """
    if isinstance(value, URL):
        return value
    if isinstance(value, str) and not _splits_password(value):
        try:
            url = make_url(value)
            if _HOST.fullmatch(url.host or ""):
                return url
        except (ArgumentError, ValueError):
            # These errors contain the URL, and would be the context of the error below if this handler raised it.
            pass
    if isinstance(value, str) and not value.strip():
        raise ConfigurationError(f"{setting} is empty. {_FORM}.", setting=setting)
    kind = "" if isinstance(value, str) else f" (it is of type {type(value).__name__})"
    raise ConfigurationError(
        f"{setting} is not a database URL{kind}. {_FORM}, with special characters in the user and the"
        " password percent-encoded (urllib.parse.quote_plus), or use sqlalchemy.URL.create(...).",
        setting=setting,
    )


def _splits_password(value: str) -> bool:
    match = _AFTER_CREDENTIALS.match(value)
    if match is None:
        return False
    place, _, query = match["rest"].partition("?")
    return "@" in place or any("@" in pair and "=" not in pair for pair in query.split("&"))


def missing_driver(url: URL, error: ImportError, setting: str) -> DriverError:
    """Return the error for a driver that is not installed, naming the Ampho extra that installs a suitable driver."""
    sync, _, extra = _DRIVERS.get(url.get_backend_name(), ("", "", ""))
    if not extra:
        remedy = "Install it"
    elif url.drivername in ("mysql", "mariadb", "postgresql"):  # these names select a driver that no extra installs
        remedy = f"Use {sync} instead, and install its driver with pip install 'ampho[{extra}]'"
    else:
        remedy = f"Install it: pip install 'ampho[{extra}]', or use another driver"
    return DriverError(
        f"{setting}: the driver of {url.drivername!r} cannot be imported ({error}). {remedy}.", setting=setting
    )


def require_driver(url: URL, *, is_async: bool, setting: str = "SQLALCHEMY_DATABASE_URI") -> None:
    """Check that a URL names an async driver if ``is_async`` is true, and otherwise a sync one. psycopg can be either.

    A URL without a driver is treated as sync, because the driver that SQLAlchemy chooses depends on its version.

    :raises DriverError: if the driver is of the other kind, or SQLAlchemy does not know it.
    """
    backend = url.get_backend_name()
    suitable = _DRIVERS.get(_RENAMED.get(backend, backend))
    remedy = f" Use {suitable[is_async]} instead." if suitable else ""
    try:
        dialect = url.get_dialect(_is_async=is_async)
    except NoSuchModuleError:
        fault = "names a dialect or driver that SQLAlchemy does not know"
    else:
        if is_async and not (dialect.is_async and "+" in url.drivername):
            fault = "is a sync driver, but an async one is needed"
        elif dialect.is_async and not is_async:
            fault = "is an async driver, but a sync one is needed"
        else:
            return
    raise DriverError(f"{setting}: {url.drivername!r} {fault}.{remedy}", setting=setting)


def display(url: URL) -> str:
    """Return a URL as text with its password masked. Unlike SQLAlchemy, this also masks the secrets in its query."""
    masked = {key: MASK for key in url.query if _SECRET_KEY.search(key)}
    return url.update_query_dict(masked).render_as_string(hide_password=True).replace(quote_plus(MASK), MASK)


def missing_folder(url: URL) -> str:
    """Return the folder of an SQLite file if it does not exist; otherwise, an empty string."""
    file = url.database or ""
    if url.get_backend_name() != "sqlite" or not file or file.startswith((":memory:", "file:")):
        return ""
    folder = Path(file).parent
    return "" if folder.is_dir() else shown_path(folder)


def is_in_memory(url: URL) -> bool:
    """Return whether an SQLite URL is for an in-memory database, which is lost when its connection is closed."""
    return url.database in {None, "", ":memory:", "file::memory:"} or url.query.get("mode") == "memory"


def address(url: URL, folder: str = "") -> Hashable:
    """Return a value that is equal for two URLs if they lead to the same server and database, whoever connects.

    :param folder: the folder for the relative path of an SQLite file.
    """
    kind = _RENAMED.get(url.get_backend_name(), url.get_backend_name()).replace("mariadb", "mysql")
    if kind == "sqlite":
        path = os.path.join(folder, (url.database or "").removeprefix("file:"))  # noqa: PTH118 (a Path takes longer)
        return object() if is_in_memory(url) else (kind, *_file(path))
    places = tuple(sorted((key, str(value)) for key, value in url.query.items() if key in _PLACES))
    return kind, (url.host or "").lower(), url.port or _PORTS.get(kind), url.database, places


def schema_of_url(url: URL) -> str:
    """Return the PostgreSQL schema that the options in a URL select; by default, ``public``."""
    found = _SEARCH_PATH.search(str(url.query.get("options", "")))
    return found[1] if found else "public"


def _file(path: str) -> tuple[object, ...]:
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return (Path(path).resolve(),)
    return found.st_dev, found.st_ino


def in_folder(url: URL, folder: Path) -> URL:
    """Return the URL of an SQLite file or ``file:`` URI, with a relative path resolved against a folder."""
    prefix = "file:" if url.query.get("uri") else ""
    path = Path((url.database or "").removeprefix(prefix))
    return url if path.is_absolute() else url.set(database=f"{prefix}{folder / path}")


def redact(text: str, *urls: URL) -> str:
    """Mask the passwords of URLs, and the secrets in their queries, in a string, however they are escaped.

    Each character of a password may be raw, percent-encoded (once or more), or escaped as in a ``repr``, an ini file or
    an SQL literal. A password of three characters or more is masked everywhere, even inside a word. A shorter one would
    occur too often by chance, so it is only masked between ``:`` and ``@``, and after ``password=`` or similar names.
    """
    secrets = {secret for url in urls for secret in _secrets(url)}
    for secret in sorted(secrets, key=len, reverse=True):
        spelling = "".join(map(_spelling, secret))
        if len(secret) < _SHORT:
            place = rf"(:(?={spelling}@)|(?i:pass\w*|pwd)['\"]?\s*[=:]\s*['\"]?)"
            text = re.sub(rf"{place}{spelling}(?!\w)", rf"\g<1>{MASK}", text)
        else:
            text = re.sub(spelling, MASK, text)
    return text


def describe_without(exc: BaseException, url: URL) -> str:
    """Describe an exception in one line, like :func:`~ampho._text.describe`, with the secrets of a URL masked."""
    return redact(describe(exc, lambda text: redact(text, url)), url)


def explain(exc: BaseException, url: URL) -> str:
    """Describe an exception like :func:`describe_without`, without the final full stop, but with any known hint."""
    return with_hint(describe_without(exc, url).rstrip(".?"))


def database_error(exc: BaseException, url: URL, outcome: str = "") -> DatabaseError:
    """Return the error for an exception from a database or its driver.

    :param outcome: a sentence about what the command changed; by default, it says that nothing was changed.
    """
    outcome = outcome or "This command changed nothing."
    return DatabaseError(f"The database reported an error: {explain(exc, url)}. {outcome}")


def _secrets(url: URL) -> Iterator[str]:
    if url.password:
        yield str(url.password)
    for key, value in url.query.items():
        if _SECRET_KEY.search(key):
            yield from filter(None, (value,) if isinstance(value, str) else value)


def _spelling(character: str) -> str:
    """Return a pattern that matches every form of one character of a password."""
    code = ord(character)
    percent = "".join(rf"%(?:25){{0,2}}(?i:{byte:02x})" for byte in character.encode("utf-8", "surrogatepass"))
    forms = [percent, rf"\\+(?i:x{code:02x}|u{code:04x}|U{code:08x})"]
    if character in "'\"":
        forms += [rf"\\+{character}", character * 2]
    elif character == "\\":
        forms += [r"\\{2,4}"]
    elif character == "%":
        forms += ["%%"]
    elif character == " ":
        forms += [r"\+", "%(?:25){0,2}2[Bb]"]
    elif not character.isprintable():
        forms += [rf"\\+{character.encode('unicode_escape').decode()[1:]}"]
    return f"(?:{'|'.join([*forms, re.escape(character)])})"
