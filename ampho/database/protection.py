"""The protection of a database: some commands ask for its name before they remove anything from the database."""

from __future__ import annotations

from dataclasses import dataclass, replace
from shlex import quote
from typing import TYPE_CHECKING

from ampho.database.engine import name_of_database
from ampho.errors import ProtectedError
from ampho.settings import PROTECTED

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


@dataclass(frozen=True, slots=True)
class Protection:
    """The protection of a database.

    :ivar enabled: whether commands that remove something must be confirmed.
    :ivar database: the name that confirms them, from :meth:`on`.
    """

    enabled: bool = False
    database: str = ""

    def on(self, connection: Connection, confirm: str | None = None) -> Protection:
        """Return the protection of the database of a connection, with its name if that is needed.

        :param connection: a new connection, on which nothing was executed.
        :param confirm: the name that the user typed, if any.
        """
        if confirm is None and not self.enabled:
            return self
        return replace(self, database=name_of_database(connection))

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
