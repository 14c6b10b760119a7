"""A database that is protected: what takes something out of it wants to be told the database's name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from shlex import quote
from typing import TYPE_CHECKING, Any

from ampho.database.engine import name_of_database
from ampho.errors import ConfigurationError, ProtectedError
from ampho.settings import PROTECTED

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

SETTING = PROTECTED.name
_FALSE = ("", "0", "false", "no", "off")
_TRUE = ("1", "true", "yes", "on")


@dataclass(frozen=True, slots=True)
class Protection:
    """Whether a database is protected.

    :ivar enabled: whether what takes something out of it has to be confirmed.
    :ivar database: the name that confirms it; known once :meth:`on` has asked the server.
    """

    enabled: bool = False
    database: str = ""

    def on(self, connection: Connection, confirm: str | None = None) -> Protection:
        """Return the protection of the database that a connection is on; ask for its name if it matters.

        :param connection: a fresh connection, on which nothing was executed.
        :param confirm: the name that was given, if one was.
        """
        if confirm is None and not self.enabled:
            return self
        return replace(self, database=name_of_database(connection))

    def check(self, confirm: str | None, deed: str) -> None:
        """Check that a deed may be done.

        :param confirm: the database's name, as it was given; None if it was not. A wrong one is always an error.
        :param deed: what is about to be done, in a sentence.
        :raises ProtectedError: if it may not.
        """
        if confirm == self.database or (confirm is None and not self.enabled):
            return
        why = f"{SETTING} protects" if confirm is None else f"{confirm} is not the name of"
        raise ProtectedError(
            f"{deed} {why} the database {self.database}. If that is meant, add --confirm {quote(self.database)};"
            " nothing was changed.",
            deed=deed,
            database=self.database,
        )


def is_protected(config: Mapping[str, Any], environment: Mapping[str, str]) -> bool:
    """Tell whether an app's configuration protects its database, and where that says nothing, the environment.

    :raises ConfigurationError: if that means nothing: what is meant to protect must not be overlooked.
    """
    value = config.get(SETTING, environment.get(SETTING, PROTECTED.default))
    if isinstance(value, bool) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in _FALSE + _TRUE:
        return value.strip().lower() in _TRUE
    raise ConfigurationError(f"{SETTING} is {value!a}. Give True or False.", setting=SETTING)
