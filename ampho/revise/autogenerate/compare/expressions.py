"""Comparing SQL expressions, such as server defaults, as the models write them and as databases print them.

A database prints an expression in its own form: with other parentheses, quotes, and casts, and with other names for the
same function.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from itertools import pairwise

from ampho.history.sql import string_literal

_PATTERN = r"""
    [BENXbenx]?'(?:[^']|'')*'                 # a string, bits, or bytes
    | "(?:[^"]|"")*" | `(?:[^`]|``)*`         # a quoted name
    | \d+(?:\.\d+)?(?:[Ee][+-]?\d+)?          # a number
    | [^\W\d]\w* | :: | <> | != | [<>]=? | \|\| | && | \S
    """
_TOKENS = re.compile(_PATTERN, re.VERBOSE)
_MYSQL_TOKENS = re.compile(_PATTERN.replace("[^']|''", r"[^'\\]|''|\\.", 1), re.VERBOSE | re.DOTALL)
_CAST = re.compile(r"""^('(?:[^']|'')*')::(?:[\w". ]|\[\]|\(\d+(?:,\d+)?\))+$""", re.DOTALL)
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_CHARSET = re.compile(r"\b_(?:utf8mb[34]|utf8|latin1|ascii|binary)(?=\\?['x])")
_MOMENTS = frozenset(["now", "localtime", "localtimestamp"])
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "0": "\0"}
_KEYWORDS = frozenset(
    ["and", "as", "between", "case", "else", "in", "interval", "is", "like", "not", "or", "then", "when", "xor"]
)
_MYSQL_FUNCTIONS = {"curdate": "current_date", "curtime": "current_time"}
_MYSQL_OPERATORS = {"%": "mod", "!=": "<>", "!": "not", "&&": "and", "||": "or", "rlike": "regexp"}
_MYSQL_WORDS = {"true": "1", "false": "0", **_MYSQL_FUNCTIONS, **_MYSQL_OPERATORS}


def tokens(sql: str, database: str) -> list[str]:
    """Return the tokens of an expression in a uniform spelling, without parentheses around the whole expression.

    :param database: the name of the dialect.
    """
    text = _CHARSET.sub("", sql) if _is_mysql(database) else sql
    pattern = _MYSQL_TOKENS if _is_mysql(database) else _TOKENS
    found = list(_without_parentheses([_token(token, database) for token in pattern.findall(text)]))
    if _is_mysql(database):
        found = ["current_timestamp" if token in _MOMENTS else token for token in found]
        found = [token for number, token in enumerate(found) if not _is_empty_call(found, number)]
    return found


def _is_mysql(database: str) -> bool:
    return database in ("mysql", "mariadb")


def _token(token: str, database: str) -> str:
    if token[0] == '"' and _is_mysql(database):
        return string_literal(token[1:-1].replace('""', '"'))
    if token[0] in '"`':
        return token[1:-1].replace(token[0] * 2, token[0]).lower()
    if token[-1] != "'":
        return _MYSQL_WORDS.get(token.lower(), token.lower()) if _is_mysql(database) else token.lower()
    kind, _, text = token[:-1].partition("'")
    if _is_mysql(database) and kind.lower() == "b":
        return f"b'{text.lstrip('0')}'"
    if _is_mysql(database) and kind.lower() == "x":
        with suppress(ValueError):
            return string_literal(bytes.fromhex(text).decode("latin-1"))
    if _is_mysql(database):
        text = re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), text, flags=re.DOTALL)
        text = text if "''" in text else text.replace("'", "''")
    return f"{kind.lower()}'{text}'"


def _without_parentheses(found: list[str]) -> list[str]:
    """Return the tokens without the parentheses that enclose all of them."""
    while len(found) > 1 and found[0] == "(" and _closing(found) == len(found) - 1:
        found = found[1:-1]
    return found


def _closing(found: list[str]) -> int:
    depth = 0
    for number, item in enumerate(found):
        depth += (item == "(") - (item == ")")
        if depth == 0:
            return number
    return -1


def _is_empty_call(found: list[str], number: int) -> bool:
    """Return whether a token is one of the parentheses after a function without arguments."""
    return found[number : number + 2] == ["(", ")"] or found[max(number - 1, 0) : number + 1] == ["(", ")"]


def default_tokens(sql: str | None, database: str, *, is_text: bool) -> list[str]:
    """Return the tokens of a server default; empty for NULL, or if there is no default.

    A cast of a string to the type of the column, and the quotes around a number, are omitted. A number has a uniform
    spelling, unless the column contains text.
    """
    if sql is None:
        return []
    cast = _CAST.match(sql.strip()) if database == "postgresql" else None
    found = tokens(cast[1] if cast else sql, database)
    joined = "".join(found)
    if joined == "null" or joined.startswith("nullonupdate"):
        return []
    bare = joined[1:-1] if len(found) == 1 and joined[0] == "'" else joined
    if not _NUMBER.fullmatch(bare):
        return found
    with suppress(InvalidOperation):
        return [bare if is_text else str(Decimal(bare).normalize())]
    return found


def parts(sql: str, database: str, names: Iterable[str] = ()) -> tuple[Counter[str], int]:
    """Return the strings, the numbers, and the names of columns in an expression, and the number of function calls.

    MariaDB and MySQL may print other operators and functions than they are given, but they keep these parts.
    """
    columns = {name.lower() for name in names}
    found = tokens(sql, database)
    calls = [token for token, after in pairwise(found) if after == "(" and token.isidentifier()]
    kept = Counter(token for token in found if token[0] in "'0123456789" or token in columns)
    return kept, len([token for token in calls if token not in _KEYWORDS])
