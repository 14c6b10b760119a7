"""The protection of a database: some commands ask for its name before they remove anything from it."""

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
    """Whether a database is protected.

    :ivar enabled: whether commands that remove something must be confirmed.
    :ivar database: the name that confirms them; it is known after :meth:`on`.
    """

    enabled: bool = False
    database: str = ""

    def on(self, connection: Connection, confirm: str | None = None) -> Protection:
        """Return the protection of the database of a connection, with its name if that matters.

        :param connection: a new connection, on which nothing was executed.
        :param confirm: the name that the user typed; None if there is none.
        """
        if confirm is None and not self.enabled:
            return self
        return replace(self, database=name_of_database(connection))

    def check(self, confirm: str | None, deed: str) -> None:
        """Check that a command is confirmed, if it must be.

        :param confirm: the name that the user typed; None if there is none. A wrong one is always an error.
        :param deed: what the command would do, in a sentence.
        :raises ProtectedError: if it is not confirmed.
        """
        if confirm == self.database or (confirm is None and not self.enabled):
            return
        why = f"{PROTECTED} protects" if confirm is None else f"{confirm} is not the name of"
        raise ProtectedError(
            f"{deed} {why} the database {self.database}. To confirm, add --confirm {quote(self.database)};"
            " nothing was changed.",
            deed=deed,
            database=self.database,
        )
