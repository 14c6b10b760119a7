"""A statement in a form that is safe to show while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ampho._text import one_line
from ampho.database.url import redact
from ampho.history.sql import without_literals

if TYPE_CHECKING:
    from sqlalchemy import URL

_LONGEST = 500


class Statement:
    """A statement that SQLAlchemy executes. ``str()`` returns it as one line that is safe to show.

    Values appear as placeholders. Literal strings, comments, and passwords are removed; literal numbers are not.
    """

    __slots__ = ("_shown", "_sql", "_url")

    def __init__(self, sql: str, url: URL) -> None:
        self._sql = sql
        self._url = url
        self._shown: str | None = None  # made on demand, because most statements are never shown

    def __str__(self) -> str:
        if self._shown is None:
            mysql = self._url.get_backend_name() in ("mysql", "mariadb")
            self._shown = one_line(without_literals(redact(self._sql, self._url), mysql=mysql), _LONGEST)
        return self._shown

    def __repr__(self) -> str:
        return f"<Statement {self}>"
