"""Ampho's settings: definitions, functions that read them, and a check for misspelled names.

To add a setting, define it here, read it in :class:`Settings`, describe it in ``docs/configuration.md``, and add the
anchor of that section to ``docs/settings.py``, which writes the table in the documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from ampho._text import did_you_mean, sentences
from ampho.errors import ConfigurationError

T_co = TypeVar("T_co", covariant=True)

DEFAULT_DATABASE = "default"
"""The name of the database of ``SQLALCHEMY_DATABASE_URI``; other databases have the names of their binds."""

_MAX_TABLE_NAME = 63
_SWITCH = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("", "0", "false", "no", "off"), False),
}


@dataclass(frozen=True, slots=True)
class Setting(Generic[T_co]):
    """A setting.

    :ivar name: the key in ``app.config``.
    :ivar kind: the values that are valid, in Markdown.
    :ivar meaning: the purpose of the setting, in Markdown.
    :ivar default: the value if the setting is not set.
    :ivar parse: converts a value to the right type, or raises an exception if the value is not valid.
    :ivar by_default: a description of the default, in Markdown, if the value alone does not explain it.
    :ivar unset: the values that are treated as not set.
    :ivar in_environment: whether to use an environment variable of the same name if ``app.config`` lacks the key.
    """

    name: str
    kind: str
    meaning: str
    default: T_co
    parse: Callable[[object], T_co]
    by_default: str = ""
    unset: tuple[object, ...] = ()
    in_environment: bool = True

    def __str__(self) -> str:
        return self.name

    def read(self, config: Mapping[str, object], environment: Mapping[str, str]) -> T_co:
        """Return the value from an app's configuration or the environment, or the default if neither has a value.

        :raises ConfigurationError: if the value is not valid.
        """
        for source in (config, environment) if self.in_environment else (config,):
            if self.name not in source or (value := source[self.name]) in self.unset:
                continue
            with suppress(TypeError, ValueError, LookupError):
                return self.parse(value)
            remedy = f"Set it to {self.kind.replace('`', '')}."  # after the handler, so that the error has no context
            raise ConfigurationError(f"{self} is {value!a}. {remedy}", setting=self.name)
        return self.default


def _entries(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        entries = [entry.strip() for entry in value.split(",")]
        return tuple(entries[:-1] if len(entries) > 1 and not entries[-1] else entries)
    if isinstance(value, (list, tuple)) and all(isinstance(entry, str) for entry in value):
        return tuple(value)
    raise TypeError


def _plugins(value: object) -> bool | tuple[str, ...]:
    switch = str(value).strip().lower()
    return _SWITCH[switch] if switch in _SWITCH else _entries(value)


def _seconds(value: object, least: float = 0.0) -> float:
    seconds = float(value)  # type: ignore[arg-type]  # any object, which may not be a number
    if not least <= seconds < float("inf"):
        raise ValueError
    return seconds


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _table_name(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, str) and value.isidentifier() and value.isascii() and len(value) <= _MAX_TABLE_NAME:
        return value
    raise ValueError


def _path(value: object) -> str:
    if isinstance(value, str) and value.startswith("/") and value.isprintable() and not {*"<>?# "} & {*value}:
        return value
    raise ValueError


def _owners(value: object) -> Mapping[str, str | None]:
    if not isinstance(value, Mapping):
        raise TypeError
    if not all(isinstance(key, str) and isinstance(owner, str | None) for key, owner in value.items()):
        raise TypeError
    return dict(value)


@dataclass(frozen=True, slots=True)
class OwnTable:
    """A version table of a package, beside that of the app.

    :ivar name: the name of the table.
    :ivar keep: whether the package's version rows stay in this table, instead of moving to that of the app.
    """

    name: str
    keep: bool = False


def own_table(value: object) -> OwnTable | None:
    """Return the table that a value in ``AMPHO_VERSION_TABLES`` means; None for no table.

    :raises TypeError: or another error, if the value is not valid.
    """
    if value is None:
        return None
    options = {**value} if isinstance(value, Mapping) else {"table": value}
    name, keep = options.pop("table"), _boolean(options.pop("keep", False))
    if options or not isinstance(name, str) or not name.strip():
        raise ValueError
    return OwnTable(name, keep)


def _version_tables(value: object) -> Mapping[str, OwnTable | None] | Callable[[str], object]:
    if callable(value):
        return value
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise TypeError
    return {name: own_table(table) for name, table in value.items()}


def _databases(value: object) -> Mapping[str, tuple[str, ...]]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise TypeError
    if any(isinstance(entries, str) for entries in value.values()):
        raise TypeError
    return {name: () if entries is None else _entries(entries) for name, entries in value.items()}


def _phases(value: object) -> Mapping[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise TypeError
    if not {*value.values()} <= {"pre", "post"}:
        raise ValueError
    return dict(value)


PACKAGES: Setting[tuple[str, ...] | None] = Setting(
    "AMPHO_MIGRATION_PACKAGES",
    kind="a list of names, or a comma-separated string",
    meaning="the packages with migrations",
    default=None,
    parse=_entries,
    unset=(None, ""),
    by_default="the app's own package, if it has migrations",
)
PHASES: Setting[Mapping[str, str]] = Setting(
    "AMPHO_PHASES",
    kind='a dictionary that maps packages, or ids of revisions, to `"pre"` or `"post"`',
    meaning="the phases of revisions, instead of those in their files; for packages that others write",
    default={},
    parse=_phases,
    unset=(None,),
    by_default="each revision's own phase",
    in_environment=False,
)
PLUGINS: Setting[bool | tuple[str, ...]] = Setting(
    "AMPHO_PLUGINS",
    kind="`True`, `False`, a list of names, or a comma-separated string",
    meaning="the plug-ins to enable, by the names of their packages; `True` for all that are installed",
    default=False,
    parse=_plugins,
    unset=(None, ""),
)
DATABASES: Setting[Mapping[str, tuple[str, ...]]] = Setting(
    "AMPHO_DATABASES",
    kind="a dictionary that maps names of databases to lists of packages",
    meaning="the databases in which packages live: `default` and the keys of `SQLALCHEMY_BINDS`; an empty list for a"
    " bind that Ampho does not migrate",
    default={},
    parse=_databases,
    unset=(None,),
    by_default="all packages live in `default`",
    in_environment=False,
)
ENV_PACKAGE: Setting[str | None] = Setting(
    "AMPHO_ENV_PACKAGE",
    kind="a string",
    meaning="the package whose `env.py` configures every run; an empty string turns off the warning if no package does",
    default=None,
    parse=str,
    unset=(None,),
    by_default="the app's own package, or the first package whose `env.py` uses Ampho",
)
DATABASE_URI: Setting[object] = Setting(
    "AMPHO_DATABASE_URI",
    kind="a string, or a `sqlalchemy.URL`; or a dictionary of them, by the names of databases",
    meaning="a different URL of the same database, only for migrations, such as one that bypasses a pooler",
    default=None,
    parse=lambda value: value,
    unset=(None, ""),
    by_default="`SQLALCHEMY_DATABASE_URI`",
)
STATEMENT_LOCK_TIMEOUT: Setting[float | None] = Setting(
    "AMPHO_STATEMENT_LOCK_TIMEOUT",
    kind="a number of seconds, 0.001 or more",
    meaning="how long a statement of a revision waits for a lock on a table or row; recommended in production",
    default=None,
    parse=lambda value: None if value is None else _seconds(value, least=0.001),
    by_default="no limit",
)
LOCK_TIMEOUT = Setting(
    "AMPHO_LOCK_TIMEOUT",
    kind="a number of seconds, 0 or more",
    meaning="how long a run waits for another process that is migrating the database",
    default=60.0,
    parse=_seconds,
)
PROTECTED = Setting(
    "AMPHO_PROTECTED",
    kind="`True` or `False`; `1` or `0` in the environment",
    meaning="whether `db-down` and `db-stamp --purge` ask you to confirm the name of the database",
    default=False,
    parse=lambda value: _SWITCH[str(value).strip().lower()],
)
LOCK = Setting(
    "AMPHO_LOCK",
    kind="`True` or `False`",
    meaning="whether Ampho locks the database while it migrates; `False` for a database that does not provide a lock",
    default=True,
    parse=_boolean,
    in_environment=False,
)
JOURNAL_TABLE: Setting[str | None] = Setting(
    "AMPHO_JOURNAL_TABLE",
    kind="a name of letters, digits, and `_`, or `None`",
    meaning="the name of the journal's table; `None` for no journal",
    default="ampho_journal",
    parse=_table_name,
    in_environment=False,
)
JOURNAL_SOURCE: Setting[bool | None] = Setting(
    "AMPHO_JOURNAL_SOURCE",
    kind="`True` or `False`; `1` or `0` in the environment",
    meaning="whether the journal keeps the source of each applied revision, so that `db-down` can revert a revision"
    " whose file is missing",
    default=None,
    parse=lambda value: _SWITCH[str(value).strip().lower()],
    unset=(None,),
    by_default="on in debug mode, off otherwise",
)
OWNERS: Setting[Mapping[str, str | None]] = Setting(
    "AMPHO_OWNERS",
    kind="a dictionary that maps names, or patterns such as `audit_*`, to packages or `None`",
    meaning="the packages that own tables and other objects; `None` for an object that Ampho ignores",
    default={},
    parse=_owners,
    unset=(None,),
    by_default="found in the models and the revisions",
    in_environment=False,
)
VERSION_TABLES: Setting[Mapping[str, OwnTable | None] | Callable[[str], object]] = Setting(
    "AMPHO_VERSION_TABLES",
    kind='a dictionary that maps packages to names of tables, or to `{"table": NAME, "keep": True}`; or a function that'
    " returns one of these, or `None`, for the name of a package",
    meaning="the version tables that packages have of their own, from another tool",
    default={},
    parse=_version_tables,
    unset=(None,),
    by_default="all packages share one version table",
    in_environment=False,
)

READINESS_PATH: Setting[str | None] = Setting(
    "AMPHO_READINESS_PATH",
    kind="a path that begins with `/`, such as `/-/ready`",
    meaning="the path at which the app answers whether it is ready",
    default=None,
    parse=_path,
    unset=(None, ""),
    by_default="no path",
)
READINESS_DETAILS = Setting(
    "AMPHO_READINESS_DETAILS",
    kind="`True` or `False`; `1` or `0` in the environment",
    meaning="whether that answer names packages, revisions, databases, and errors",
    default=False,
    parse=lambda value: _SWITCH[str(value).strip().lower()],
)
PENDING_PAGE: Setting[bool | None] = Setting(
    "AMPHO_PENDING_PAGE",
    kind="`True` or `False`; `1` or `0` in the environment",
    meaning="whether a page answers instead of the app while a database does not match the code",
    default=None,
    parse=lambda value: _SWITCH[str(value).strip().lower()],
    unset=(None,),
    by_default="on in debug mode, unless `TESTING` is set",
)

SETTINGS: tuple[Setting[object], ...] = tuple(each for each in globals().values() if isinstance(each, Setting))

APP = "AMPHO_APP"
"""The environment variable that names the app. It is not a setting in ``app.config``."""
CONFIRM = "AMPHO_CONFIRM"
"""The environment variable that confirms a plan without a terminal. It is not a setting in ``app.config``."""

_PREFIX = "AMPHO_"


class Settings:
    """The values of an app's settings, as attributes.

    :raises ConfigurationError: if a value is not valid.
    """

    def __init__(self, config: Mapping[str, object], environment: Mapping[str, str]) -> None:
        self.migration_packages: Final = PACKAGES.read(config, environment)
        self.phases: Final = PHASES.read(config, environment)
        self.plugins: Final = PLUGINS.read(config, environment)
        self.databases: Final = DATABASES.read(config, environment)
        self.env_package: Final = ENV_PACKAGE.read(config, environment)
        self.database_uri: Final = DATABASE_URI.read(config, environment)
        self.statement_lock_timeout: Final = STATEMENT_LOCK_TIMEOUT.read(config, environment)
        self.lock_timeout: Final = LOCK_TIMEOUT.read(config, environment)
        self.protected: Final = PROTECTED.read(config, environment)
        self.lock: Final = LOCK.read(config, environment)
        self.journal_table: Final = JOURNAL_TABLE.read(config, environment)
        self.journal_source: Final = JOURNAL_SOURCE.read(config, environment)
        self.readiness_path: Final = READINESS_PATH.read(config, environment)
        self.readiness_details: Final = READINESS_DETAILS.read(config, environment)
        self.pending_page: Final = PENDING_PAGE.read(config, environment)
        self.owners: Final = OWNERS.read(config, environment)
        self.version_tables: Final = VERSION_TABLES.read(config, environment)


def misspelled(config: Mapping[str, object], environment: Mapping[str, str]) -> Iterator[str]:
    """Yield a warning for each name that looks like a setting but is not one.

    Other programs may use environment variables with the same prefix. Therefore, a name in the environment is only
    reported if it resembles a setting's name, even if the app copied it into its configuration.
    """
    names = [setting.name for setting in SETTINGS]
    ways = [name.removeprefix(_PREFIX) for name in (*names, APP, CONFIRM)]
    for name in sorted({str(key) for key in (*config, *environment)}):
        if not name.startswith(_PREFIX) or name in names or name in (APP, CONFIRM):
            continue
        guess = did_you_mean(name.removeprefix(_PREFIX), ways, f"{_PREFIX}{{}}")
        where = "the environment" if name in environment else "app.config"
        if guess or name not in environment:
            remedy = guess or f"The settings are {', '.join(names)}."
            yield sentences(f"Unknown setting {name} in {where}; it is ignored", remedy)
