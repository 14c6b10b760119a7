"""Reading what a database of MariaDB or MySQL contains."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from ampho.database.inventory.items import (
    CHECK,
    COLLATION,
    COLUMN,
    FOREIGN_KEY,
    INDEX,
    NOT_NULL,
    NULLABLE,
    PRIMARY_KEY,
    TABLE,
    Inventory,
    Item,
)

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_DATABASE = text(
    "SELECT schema_name, default_collation_name FROM information_schema.schemata WHERE schema_name = DATABASE()"
)
# A column without an alias has the name that the server gives it, which is in upper case on MySQL.
_TABLES = text(
    "SELECT table_name, table_type, engine FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY 1"
)
_VIEWS = text(
    "SELECT table_name, view_definition FROM information_schema.views WHERE table_schema = DATABASE() ORDER BY 1"
)
_COLUMNS = text(
    "SELECT table_name, column_name, column_type, is_nullable, column_default, extra, generation_expression,"
    " collation_name FROM information_schema.columns WHERE table_schema = DATABASE()"
    " ORDER BY table_name, ordinal_position"
)
_INDEXES = (
    "SELECT table_name, index_name, non_unique, index_type, column_name, sub_part, collation, {expression}"
    " FROM information_schema.statistics WHERE table_schema = DATABASE()"
    " ORDER BY table_name, index_name, seq_in_index"
)
_KEYS = text(
    "SELECT k.table_name, k.constraint_name, r.delete_rule, r.update_rule, k.referenced_table_schema,"
    " k.referenced_table_name, k.column_name, k.referenced_column_name"
    " FROM information_schema.key_column_usage AS k JOIN information_schema.referential_constraints AS r"
    " ON r.constraint_name = k.constraint_name AND r.table_name = k.table_name"
    " WHERE k.table_schema = DATABASE() AND r.constraint_schema = DATABASE()"
    " AND k.referenced_table_name IS NOT NULL ORDER BY k.table_name, k.constraint_name, k.ordinal_position"
)
_MARIADB_CHECKS = text(
    "SELECT table_name, constraint_name, check_clause FROM information_schema.check_constraints"
    " WHERE constraint_schema = DATABASE() ORDER BY 1, 2"
)
_MYSQL_CHECKS = text(
    "SELECT t.table_name, c.constraint_name, c.check_clause FROM information_schema.check_constraints AS c"
    " JOIN information_schema.table_constraints AS t ON t.constraint_schema = c.constraint_schema"
    " AND t.constraint_name = c.constraint_name WHERE c.constraint_schema = DATABASE()"
    " AND t.constraint_type = 'CHECK' ORDER BY 1, 2"
)
_SEQUENCE = re.compile(r"CREATE SEQUENCE (?:`[^`]+`\.)?`(?:[^`]|``)+` ", re.IGNORECASE)
_VALUE = re.compile(r"'(?:[^']|'')*'")
_RULES = ("NO ACTION", "RESTRICT")  # which do the same
_NOT_LIMITED = ("FULLTEXT", "SPATIAL")  # the kinds of indexes without a length


def read(connection: Connection) -> Inventory:
    """Return what a database contains."""
    name, collation = connection.execute(_DATABASE).one()
    return Inventory(tuple(_Reader(connection, name).items()), collation=collation)


class _Reader:
    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name
        dialect: Any = connection.dialect
        self._is_mariadb = bool(dialect.is_mariadb)

    def items(self) -> Iterator[Item]:
        tables = set[str]()
        for name, kind, engine in self._rows(_TABLES):
            if kind == "SEQUENCE":
                yield Item("sequence", "", name, (("", self._sequence(name)),))
            elif kind != "VIEW":
                tables.add(name)
                yield Item(TABLE, "", name, (("engine", engine or ""),))
        for name, definition in self._rows(_VIEWS):
            yield Item("view", "", name, (("", definition.replace(f"`{self._name}`.", "")),))
        for parts in (self._columns, self._indexes, self._keys, self._checks):
            yield from (item for item in parts() if item.table in tables)

    def _rows(self, query: Any) -> Any:  # noqa: ANN401 (rows)
        return self._connection.execute(query).all()

    def _sequence(self, name: str) -> str:
        quoted = self._connection.dialect.identifier_preparer.quote_identifier(name)
        _, sql = self._connection.exec_driver_sql(f"SHOW CREATE SEQUENCE {quoted}").one()
        return _SEQUENCE.sub("", sql)

    def _columns(self) -> Iterator[Item]:
        for table, name, type_, is_nullable, default, extra, generated, collation in self._rows(_COLUMNS):
            options = re.sub(r"\bDEFAULT_GENERATED\b ?", "", extra)
            traits = (
                ("type", _type(type_)),
                NULLABLE if is_nullable == "YES" else NOT_NULL,
                ("default", "" if default in (None, "NULL") else default),
                ("generated as", generated or ""),
                ("", options),
                (COLLATION, collation or ""),
            )
            yield Item(COLUMN, table, name, traits)

    def _indexes(self) -> Iterator[Item]:
        expression = "NULL" if self._is_mariadb else "expression"
        rows = self._rows(text(_INDEXES.format(expression=expression)))
        keys = {(row[0], row[1]) for row in self._rows(_KEYS)}
        for (table, name), parts in groupby(rows, lambda row: (row[0], row[1])):
            columns = [*parts]
            _, _, is_plain, kind, *_ = columns[0]
            words = "" if is_plain or name == "PRIMARY" else "UNIQUE "
            words += kind if kind != "BTREE" else ""
            listed = ", ".join(self._part(kind, *row[4:]) for row in columns)
            traits = (("", f"{words}({listed})"),)
            if name == "PRIMARY":
                yield Item(PRIMARY_KEY, table, "", traits)
            else:
                # The server names an index after its first column, or after the foreign key for which it makes it.
                is_generated = (table, name) in keys or bool(
                    re.fullmatch(rf"{re.escape(columns[0][4] or '')}(_\d+)?", name)
                )
                yield Item(INDEX, table, name, traits, is_generated=is_generated)

    def _part(self, kind: str, column: str | None, length: int | None, order: str | None, expression: str) -> str:
        limit = f"({length})" if length and kind not in _NOT_LIMITED else ""
        return f"{column or expression}{limit}{' DESC' if order == 'D' else ''}"

    def _keys(self) -> Iterator[Item]:
        for (table, name), parts in groupby(self._rows(_KEYS), lambda row: (row[0], row[1])):
            rows = [*parts]
            _, _, delete, update, schema, target, *_ = rows[0]
            where = target if schema == self._name else f"{schema}.{target}"
            rules = "".join(
                f" ON {event} {rule}" for event, rule in (("DELETE", delete), ("UPDATE", update)) if rule not in _RULES
            )
            columns, others = (", ".join(row[number] for row in rows) for number in (6, 7))
            is_generated = bool(re.fullmatch(rf"({re.escape(table)}_ibfk_)?\d+", name))
            traits = (("", f"({columns}) REFERENCES {where} ({others}){rules}"),)
            yield Item(FOREIGN_KEY, table, name, traits, is_generated=is_generated)

    def _checks(self) -> Iterator[Item]:
        for table, name, clause in self._rows(_MARIADB_CHECKS if self._is_mariadb else _MYSQL_CHECKS):
            is_generated = bool(re.fullmatch(rf"(CONSTRAINT_|{re.escape(table)}_chk_)\d+", name))
            yield Item(CHECK, table, name, (("", clause),), is_generated=is_generated)


def _type(value: str | bytes) -> str:
    """Return the type of a column. The values of an enum are sorted, because the order in which they came is no matter.

    :param value: the type as the server prints it, which MySQL may return as bytes.
    """
    sql = value.decode() if isinstance(value, bytes) else value
    if not sql.startswith("enum("):
        return sql
    return f"enum({','.join(sorted(_VALUE.findall(sql)))})"
