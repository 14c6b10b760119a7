"""The settings of Ampho: their names, meanings and defaults, and which names are misspelt settings.

The code that reads a setting takes its name and its default from here, and so does the page of the documentation. To
add one, list it in ``SETTINGS``, read it in ``Extension.project()``, and add its anchor to ``docs/settings.py`` and its
section to ``docs/configuration.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from ampho._text import did_you_mean, sentences

Default_co = TypeVar("Default_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Setting(Generic[Default_co]):
    """A key of ``app.config``.

    :ivar name: the key.
    :ivar kind: the type of its value, in words.
    :ivar meaning: what it is for, in Markdown.
    :ivar default: its value if it is not set.
    :ivar by_default: what the default means, in Markdown, if the value does not say that.
    :ivar in_environment: whether an environment variable of that name is read if the app's configuration has no key.
    """

    name: str
    kind: str
    meaning: str
    default: Default_co
    by_default: str = ""
    in_environment: bool = True


PACKAGES = Setting(
    "AMPHO_MIGRATION_PACKAGES",
    kind="a list, or a comma-separated string",
    meaning="the packages with migrations",
    default=None,
    by_default="the app's own package, if it has migrations",
)
ENV_PACKAGE = Setting(
    "AMPHO_ENV_PACKAGE",
    kind="a string",
    meaning="the package whose `env.py` configures every run; an empty string turns off the warning that none does",
    default=None,
    by_default="the app's own package, or the first whose `env.py` uses Ampho",
)
DATABASE_URI = Setting(
    "AMPHO_DATABASE_URI",
    kind="a string, or a `sqlalchemy.URL`",
    meaning="a different URL of the same database, only for migrations, such as one that bypasses a pooler",
    default=None,
    by_default="`SQLALCHEMY_DATABASE_URI`",
)
STATEMENT_LOCK_TIMEOUT = Setting(
    "AMPHO_STATEMENT_LOCK_TIMEOUT",
    kind="seconds",
    meaning="how long a statement of a revision waits for a lock on a table or row; recommended in production",
    default=None,
    by_default="no limit",
)
LOCK_TIMEOUT = Setting(
    "AMPHO_LOCK_TIMEOUT",
    kind="seconds",
    meaning="how long a run waits for another process that is migrating the database",
    default=60.0,
)
PROTECTED = Setting(
    "AMPHO_PROTECTED",
    kind="`True` or `False`; `1` or `0` in the environment",
    meaning="whether `db-down` and `db-stamp --purge` ask you to confirm the name of the database",
    default=False,
)
LOCK = Setting(
    "AMPHO_LOCK",
    kind="`True` or `False`",
    meaning="whether Ampho locks the database while it migrates; `False` for a database that has no lock",
    default=True,
    in_environment=False,
)
JOURNAL_TABLE = Setting(
    "AMPHO_JOURNAL_TABLE",
    kind="a string, or `None`",
    meaning="the name of the journal's table; `None` for no journal",
    default="ampho_journal",
    in_environment=False,
)

SETTINGS: tuple[Setting[object], ...] = (
    PACKAGES,
    ENV_PACKAGE,
    DATABASE_URI,
    STATEMENT_LOCK_TIMEOUT,
    LOCK_TIMEOUT,
    PROTECTED,
    LOCK,
    JOURNAL_TABLE,
)

APP = "AMPHO_APP"
"""The environment variable that names the app. It is not a setting in ``app.config``."""

_PREFIX = "AMPHO_"


def misspelt(config: Mapping[str, object], environment: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each name that looks like a setting but is not one.

    Other programs may use names with the same prefix in the environment. So a name in the environment only counts if it
    is close to a setting's name, even if the app has copied it into its configuration.
    """
    names = [setting.name for setting in SETTINGS]
    ways = [name.removeprefix(_PREFIX) for name in (*names, APP)]
    for name in sorted({str(key) for key in (*config, *environment)}):
        if not name.startswith(_PREFIX) or name in names or name == APP:
            continue
        guess = did_you_mean(name.removeprefix(_PREFIX), ways, f"{_PREFIX}{{}}")
        where = "the environment" if name in environment else "app.config"
        if guess or name not in environment:
            remedy = guess or f"The settings are {', '.join(names)}."
            yield sentences(f"Unknown setting {name} in {where}; it is ignored", remedy)
