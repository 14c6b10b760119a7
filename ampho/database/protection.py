"""Protect a database: commands that would remove something from it require the user to type its name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from shlex import quote
from typing import TYPE_CHECKING

from ampho.database.engine import name_of_database
from ampho.database.schema import schema_of
from ampho.errors import ProtectedError
from ampho.settings import PROTECTED

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


@dataclass(frozen=True, slots=True)
class Protection:
    """Whether a database is protected, and the name to type to confirm a command.

    :ivar enabled: whether commands that remove something must be confirmed.
    :ivar database: the name to type to confirm such a command; :meth:`on` sets it.
    """

    enabled: bool = False
    database: str = ""

    def on(self, connection: Connection, confirm: str | None = None) -> Protection:
        """Return this protection with the name of the connection's database, if the name is needed.

        :param connection: a new connection that has not executed anything.
        :param confirm: the name that the user typed, if any.
        """
        if confirm is None and not self.enabled:
            return self
        return replace(self, database=schema_of(connection) or name_of_database(connection))

    def check(self, confirm: str | None, action: str) -> None:
        """Check that a command is confirmed, if the database is protected.

        :param confirm: the name that the user typed, if any. A wrong name is always an error.
        :param action: a sentence that says what the command would do.
        :raises ProtectedError: if the command is not confirmed.
        """
        if confirm == self.database or (confirm is None and not self.enabled):
            return
        why = f"{PROTECTED} protects" if confirm is None else f"{confirm} is not the name of"
        raise ProtectedError(
            f"{action} {why} the database {self.database}. To confirm, add --confirm {quote(self.database)};"
            " nothing was changed.",
            deed=action,
            database=self.database,
        )
