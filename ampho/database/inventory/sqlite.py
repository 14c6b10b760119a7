"""Reading what an SQLite database contains. What the pragmas leave out is read from the text of the statements."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ampho.database.inventory.items import (
    CHECK,
    COLUMN,
    FOREIGN_KEY,
    INDEX,
    NOT_NULL,
    NULLABLE,
    PRIMARY_KEY,
    TABLE,
    UNIQUE,
    Inventory,
    Item,
)
from ampho.database.sqlite_table import Clause, TableText, Token, UnreadableTableError, quoted, tokens

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_OBJECTS = r"""
SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY type, name
"""
_NUMBER = re.compile(r"'?([+-]?\d+(?:\.\d+)?)'?")
_TEXTS = re.compile("CHAR|CLOB|TEXT|STRING", re.IGNORECASE)
_GENERATED = (2, 3)  # the values of "hidden" for virtual and stored columns
_NO_ACTION = "NO ACTION"
_KEYS = ("FOREIGN", "REFERENCES")  # the clauses of foreign keys


def read(connection: Connection) -> Inventory:
    """Return what a database contains."""
    return Inventory(tuple(_items(connection)), folds=True)


def _items(connection: Connection) -> Iterator[Item]:
    for kind, name, table, sql in _rows(connection, _OBJECTS):
        if kind == "table":
            yield from _Table(connection, name, sql).items()
        elif kind == "index":
            yield Item(INDEX, table, name, (("", _index(sql)),))
        elif kind == "view":
            yield Item("view", "", name, (("", _code(tokens(sql)[2:])),))


def _rows(connection: Connection, query: str) -> Any:  # noqa: ANN401 (rows)
    return connection.exec_driver_sql(query).all()


class _Table:
    def __init__(self, connection: Connection, name: str, sql: str) -> None:
        self._connection = connection
        self._name = name
        self._sql = sql
        self._text: TableText | None = None
        with suppress(UnreadableTableError):
            self._text = TableText(sql)

    def items(self) -> Iterator[Item]:
        text = self._text
        if text is None or text.head.upper().split()[1:2] == ["VIRTUAL"]:
            yield Item(TABLE, "", self._name, (("", _code(tokens(self._sql)[2:])),))
            return
        yield Item(TABLE, "", self._name, (("", ", ".join(sorted(text.options))),))
        yield from self._columns(text)
        keys = (clause for clause in text.constraints if clause.kind in _KEYS)
        yield from self._keys({clause.columns: _deferrable(clause) for clause in keys})
        for clause in text.constraints:
            if clause.kind == "CHECK":
                yield Item(CHECK, self._name, clause.name, (("", _expression(_inside(clause))),))
            elif clause.kind == "UNIQUE":
                conflict = _after(clause, "CONFLICT")
                words = f"({', '.join(clause.columns)}){f' ON CONFLICT {conflict}' if conflict else ''}"
                yield Item(UNIQUE, self._name, clause.name, (("", words),))

    def _columns(self, text: TableText) -> Iterator[Item]:
        keys: dict[int, str] = {}
        for _, name, type_, is_required, default, key, hidden in self._pragma("table_xinfo"):
            definition = text.columns.get(name.lower())
            collation = definition.clause("COLLATE") if definition else None
            computed = definition.clause("AS") if definition else None
            if key:
                keys[key] = name.lower()
            generated = hidden in _GENERATED and computed is not None
            stored = " STORED" if hidden == _GENERATED[1] else " VIRTUAL"
            traits = (
                ("type", "".join(type_.upper().split(" ")) if "(" in type_ else type_.upper()),
                NOT_NULL if is_required or key else NULLABLE,
                ("default", _default(default, type_) if default is not None else ""),
                ("generated as", f"{_expression(_inside(computed))}{stored}" if generated and computed else ""),
                ("collation", collation.tokens[-1].text.upper() if collation else ""),
            )
            yield Item(COLUMN, self._name, name, traits)
        if keys:
            increments = any(token.keyword == "AUTOINCREMENT" for token in tokens(self._sql))
            words = f"({', '.join(keys[number] for number in sorted(keys))}){' AUTOINCREMENT' if increments else ''}"
            yield Item(PRIMARY_KEY, self._name, "", (("", words),))

    def _keys(self, deferrable: Mapping[Sequence[str], str]) -> Iterator[Item]:
        for _, parts in groupby(self._pragma("foreign_key_list"), lambda row: row[0]):
            rows = sorted(parts, key=lambda row: row[1])
            _, _, target, _, _, update, delete, _ = rows[0]
            columns = tuple(row[3].lower() for row in rows)
            others = ", ".join(row[4].lower() for row in rows if row[4])
            rules = "".join(
                f" ON {event} {rule}"
                for event, rule in (("DELETE", delete), ("UPDATE", update))
                if rule.upper() != _NO_ACTION
            )
            target = f"{target.lower()}{f' ({others})' if others else ''}"
            words = f"({', '.join(columns)}) REFERENCES {target}{rules}{deferrable.get(columns, '')}"
            yield Item(FOREIGN_KEY, self._name, "", (("", words),))

    def _pragma(self, name: str) -> Any:  # noqa: ANN401 (rows)
        return _rows(self._connection, f"PRAGMA {name}({quoted(self._name)})")


def _inside(clause: Clause) -> Sequence[Token]:
    """Return the tokens between the outermost parentheses of a clause."""
    places = [place for place, token in enumerate(clause.tokens) if token.text in ("(", ")")]
    return clause.tokens[places[0] + 1 : places[-1]] if places else ()


def _deferrable(clause: Clause) -> str:
    """Return the end of a foreign key that says when it is checked."""
    words = [token.text.upper() for token in clause.tokens]
    if "DEFERRABLE" not in words:
        return ""
    start = words.index("DEFERRABLE")
    return "" if words[start - 1] == "NOT" else f" {' '.join(words[start:])}"


def _after(clause: Clause, keyword: str) -> str:
    words = [token.keyword for token in clause.tokens]
    return words[words.index(keyword) + 1] if keyword in words[:-1] else ""


def _code(found: Sequence[Token]) -> str:
    """Return tokens in a uniform spelling: names without quotes and in lower case."""
    code = ""
    for token in found:
        text = token.text if token.text[0] == "'" else token.name or token.text
        code += text if not code or code[-1] == "(" or text in (")", ",") else f" {text}"
    return code


def _expression(found: Sequence[Token]) -> str:
    """Return an expression in a uniform spelling, without parentheses around the whole of it."""
    while len(found) > 1 and found[0].text == "(" and _closing(found) == len(found) - 1:
        found = found[1:-1]
    return _code(found)


def _closing(found: Sequence[Token]) -> int:
    depth = 0
    for place, token in enumerate(found):
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth == 0:
            return place
    return -1


def _default(sql: str, type_: str) -> str:
    """Return a default; a number without quotes, unless the column contains text."""
    words = _expression(tokens(sql)).replace("- ", "-").replace("+ ", "+")
    number = _NUMBER.fullmatch(words)
    return number[1] if number and not _TEXTS.search(type_) else "" if words == "null" else words


def _index(sql: str) -> str:
    """Return what an index covers: everything after the name of its table."""
    found = tokens(sql)
    words = [token.keyword for token in found]
    unique = "UNIQUE " if words[1] == "UNIQUE" else ""
    return f"{unique}{_code(found[words.index('ON') + 2 :])}"
