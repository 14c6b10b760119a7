"""A statement that is running, as it may be shown: its values are placeholders, and what it quotes is left out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ampho._text import one_line
from ampho.database.url import redact

if TYPE_CHECKING:
    from sqlalchemy import URL

_LONGEST = 500
_COMMENTS = r"(?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z)"
_LITERALS = r"(?P<literal>'(?:[^']|'')*(?:'|\Z)"
_TOKENS = re.compile(
    rf"{_COMMENTS})|{_LITERALS}|\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z))"
    r'|"(?:[^"]|"")*(?:"|\Z)',
    re.DOTALL,
)
# There "..." is a literal, as long as ANSI_QUOTES is not set, and "#" begins a comment.
_MYSQL_TOKENS = re.compile(
    rf"{_COMMENTS}|\#[^\n]*)|{_LITERALS}|\"(?:[^\"]|\"\")*(?:\"|\Z))|`(?:[^`]|``)*(?:`|\Z)", re.DOTALL
)
_ESCAPED_QUOTE = re.compile(r"\\['\"]")
_QUOTE = re.compile(r"['\"]")
_HIDDEN = "'...'"


class Statement:
    """A statement as SQLAlchemy sends it. As a string it is one line that is safe to show.

    What it says of values are placeholders; texts, comments and passwords are left out. Numbers that are written out
    stay.
    """

    __slots__ = ("_shown", "_sql", "_url")

    def __init__(self, sql: str, url: URL) -> None:
        self._sql = sql
        self._url = url
        self._shown: str | None = None  # made when it is asked for: most statements are over before

    def __str__(self) -> str:
        if self._shown is None:
            mysql = self._url.get_backend_name() in ("mysql", "mariadb")
            sql = redact(self._sql, self._url)
            self._shown = one_line(_without_literals(sql, _MYSQL_TOKENS if mysql else _TOKENS), _LONGEST)
        return self._shown

    def __repr__(self) -> str:
        return f"<Statement {self}>"


def _without_literals(sql: str, tokens: re.Pattern[str]) -> str:
    if _ESCAPED_QUOTE.search(sql):  # where a literal ends depends on the server's settings then
        return _QUOTE.split(sql, maxsplit=1)[0] + _HIDDEN
    return tokens.sub(_kept, sql)


def _kept(token: re.Match[str]) -> str:
    if token["comment"]:
        return " "
    return _HIDDEN if token["literal"] else token[0]
