"""Protect a database: commands that would remove something from it require the user to type its name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from shlex import quote
from typing import TYPE_CHECKING

from ampho._text import one_line
from ampho.database.engine import name_of_database
from ampho.database.schema import schema_of
from ampho.errors import ProtectedError
from ampho.settings import CONFIRM, PROTECTED

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_FINGERPRINT = re.compile(r":[0-9a-f]{8}(?![^\s,;])")
"""Matches the end of a value of ``AMPHO_CONFIRM``."""


@dataclass(frozen=True, slots=True)
class Protection:
    """Whether a database is protected, and what was typed to confirm a command.

    :ivar enabled: whether commands that remove something must be confirmed.
    :ivar confirm: the name that the user typed, if any. A wrong name is always an error.
    :ivar fingerprint: the fingerprint that was given for a protected database, or the value of ``AMPHO_CONFIRM``, which
        contains a colon; None if the name is enough.
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
        value = f"{self.database}:{now}"
        is_confirmed = bool(now) and self.fingerprint in (now, value)
        if is_named and is_confirmed:
            return
        name = quote(self.database)
        how = f"To confirm, add --confirm {name}; nothing was changed."
        if now and self.fingerprint is not None:
            typed = f"{CONFIRM}={quote(value)} ampho {command} --confirm {name}"
            first = f"Review the plan with 'ampho {review}'" if review else "Review this"
            how = f"{first}, and to confirm it, run '{typed}'; nothing was changed."
        raise ProtectedError(
            f"{action} {self._why(is_confirmed=is_confirmed)}. {how}",
            deed=action,
            database=self.database,
            fingerprint=now,
        )

    def _why(self, *, is_confirmed: bool) -> str:
        if self.confirm not in (None, self.database):
            return f"{one_line(self.confirm or '')} is not the name of the database {self.database}"
        why = f"{PROTECTED} protects the database {self.database}"
        if self.fingerprint is None:
            return why
        if self.fingerprint == "":
            return f"{why}, and without a terminal, {CONFIRM} must also name the database and the plan"
        mistake = f"{CONFIRM} is right, but --confirm is missing" if is_confirmed else self._mistake(self.fingerprint)
        return f"{why}, and {mistake}"

    def _mistake(self, value: str) -> str:
        """Return what is wrong with the value of ``AMPHO_CONFIRM``, without the value, which may be a URL."""
        name, colon, given = value.rpartition(":")
        if name != self.database and len(_FINGERPRINT.findall(value)) > 1:
            return f"{CONFIRM} has several values, but confirms a single plan of a single database"
        if colon and not name:
            return f"{CONFIRM} does not begin with the name of the database and a colon"
        if colon and name != self.database:
            return f"{CONFIRM} names a different database"
        if colon and not _FINGERPRINT.fullmatch(f":{given}"):
            return f"{CONFIRM} does not end with a fingerprint"
        return f"{CONFIRM} has a different fingerprint: the plan, the file of a step, or the database has changed since"
