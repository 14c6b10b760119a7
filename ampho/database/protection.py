"""Protect a database: commands that would remove something from it require the user to type its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from shlex import quote
from typing import TYPE_CHECKING

from ampho.database.engine import name_of_database
from ampho.database.schema import schema_of
from ampho.errors import ProtectedError
from ampho.settings import CONFIRM, PROTECTED

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


@dataclass(frozen=True, slots=True)
class Protection:
    """Whether a database is protected, and what was typed to confirm a command.

    :ivar enabled: whether commands that remove something must be confirmed.
    :ivar confirm: the name that the user typed, if any. A wrong name is always an error.
    :ivar fingerprint: the fingerprint that was given for a protected database; None if the name is enough.
    :ivar database: the name to type to confirm such a command; :meth:`on` sets it, if the name is needed.
    """

    enabled: bool = False
    confirm: str | None = None
    fingerprint: str | None = None
    database: str = ""

    def on(self, connection: Connection) -> Protection:
        """Return this protection with the name of the connection's database, if the name is needed.

        :param connection: a new connection that has not executed anything.
        """
        if self.confirm is None and not self.enabled:
            return self
        return replace(self, database=schema_of(connection) or name_of_database(connection))

    def check(
        self, action: str, command: str, fingerprint: Callable[[], str], *, removes: bool, review: str = ""
    ) -> None:
        """Check that a command is confirmed, if the database is protected.

        :param action: a sentence that says what the command would do.
        :param command: the command, without ``ampho``.
        :param fingerprint: returns the fingerprint of what the command would do.
        :param removes: whether the command would remove something; otherwise, only a wrong name is an error.
        :param review: the command that shows what the command would do.
        :raises ProtectedError: if the command is not confirmed.
        """
        is_named, guards = self.confirm == self.database, self.enabled and removes
        if self.confirm is None and not guards:
            return
        if is_named and (self.fingerprint is None or not guards):
            return
        now = fingerprint() if guards else ""
        if is_named and now and self.fingerprint == now:
            return
        name = quote(self.database)
        how = f"To confirm, add --confirm {name}; nothing was changed."
        if now and self.fingerprint is not None:
            typed = f"{CONFIRM}={quote(f'{self.database}:{now}')} ampho {command} --confirm {name}"
            first = f"Review the plan with 'ampho {review}'" if review else "Review this"
            how = f"{first}, and to confirm it, run '{typed}'; nothing was changed."
        raise ProtectedError(
            f"{action} {self._why(is_named=is_named)}. {how}", deed=action, database=self.database, fingerprint=now
        )

    def _why(self, *, is_named: bool) -> str:
        if not is_named and self.confirm is not None:
            return f"{self.confirm} is not the name of the database {self.database}"
        why = f"{PROTECTED} protects the database {self.database}"
        if is_named and self.fingerprint:
            return (
                f"{why}, and {CONFIRM} has a different fingerprint: the plan, the file of a step, or the database has"
                " changed since"
            )
        if self.fingerprint is not None:
            return f"{why}, and without a terminal, {CONFIRM} must also name the database and the plan"
        return why
