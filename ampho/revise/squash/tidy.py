"""Completing what autogenerate writes with what SQLAlchemy does not reflect, and spelling it as a person would.

A type of the database becomes the general type of SQLAlchemy if the database would not know the difference, so that the
new revision runs on other databases, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

from alembic.operations import ops
from sqlalchemy import JSON, Boolean, Column, Constraint, Integer, PrimaryKeyConstraint, String, UniqueConstraint, text
from sqlalchemy.schema import DefaultClause
from sqlalchemy.sql.sqltypes import Enum, NullType

from ampho.database.catalog import Catalog
from ampho.revise.autogenerate.operations.changes import table_key, targets
from ampho.revise.autogenerate.operations.constraints import remove_default_options
from ampho.revise.autogenerate.operations.describe import Change
from ampho.revise.autogenerate.operations.statements import Statement, quoted
from ampho.revise.autogenerate.owners.keys import split_key

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect
    from sqlalchemy.types import TypeEngine

    from ampho.revise.autogenerate.operations.changes import Changes

_MYSQL = ("mysql", "mariadb")
_WIDTHS = {"TINYINT": 4, "SMALLINT": 6, "MEDIUMINT": 9, "INTEGER": 11, "BIGINT": 20}
_WIDTH = re.compile(r"^(TINYINT|SMALLINT|MEDIUMINT|INTEGER|BIGINT)\((\d+)\)")
_JSON = re.compile(r"^longtext .*CHECK \(json_valid\(`(?:[^`]|``)*`\)\)$", re.DOTALL)
_BY_HAND = re.compile(r"^EXCLUDE|^(?!FOREIGN).*(?:DEFERRABLE|NOT VALID|NO INHERIT)", re.DOTALL)
_SEQUENCE = re.compile(
    r"(?P<type>\w+) START (?P<start>-?\d+) INCREMENT (?P<step>-?\d+) MIN (?P<min>-?\d+) MAX (?P<max>-?\d+)"
    r" CACHE (?P<cache>\d+)(?P<cycle> CYCLE)?(?: OWNED BY (?P<owner>.*))?"
)
_NEXTVAL = re.compile(r"DEFAULT (nextval\('(?P<name>(?:[^']|'')+)'::regclass\))$")
_LIMITS = {"smallint": 32767, "integer": 2147483647, "bigint": 9223372036854775807}


class Tidying:
    """Completes the changes of one package.

    :ivar changes: the changes, whose upgrade makes the schema.
    """

    def __init__(self, changes: Changes, before: Catalog, after: Catalog) -> None:
        self.changes = changes
        self._before = before
        self._after = after
        self._dialect: Dialect = changes.autogen.dialect
        self._first: list[ops.MigrateOperation] = []
        self._last: list[ops.MigrateOperation] = []
        self._reverted: list[ops.MigrateOperation] = []
        self._by_serial: set[str] = set()

    def tidy(self) -> None:
        """Complete the upgrade and the downgrade."""
        self.changes.upgrade.ops[:] = by_name(self.changes.upgrade.ops)
        for operation in _flat(self.changes.upgrade.ops):
            if isinstance(operation, ops.CreateTableOp):
                self._tidy_table(operation)
            elif isinstance(operation, ops.AddColumnOp):
                self._tidy_column(operation.column, table_key(operation), "")
            elif isinstance(operation, ops.CreateIndexOp):
                operation.unique = bool(operation.unique)
            elif isinstance(operation, ops.AlterColumnOp):
                self._tidy_types(operation)
        for operation in _flat(self.changes.downgrade.ops):
            if isinstance(operation, ops.AlterColumnOp):
                self._tidy_types(operation)
        self._add_sequences()
        self._add_constraints()
        if self._dialect.name in _MYSQL:
            self._add_indexes()
        self.changes.upgrade.ops[:] = [*self._first, *self.changes.upgrade.ops, *self._last]
        self.changes.downgrade.ops[:] = [*self.changes.downgrade.ops, *self._reverted]

    def _tidy_types(self, operation: ops.AlterColumnOp) -> None:
        for name in ("modify_type", "existing_type"):
            type_ = getattr(operation, name)
            if type_ is not None:
                setattr(operation, name, portable(type_, self._dialect))

    def _tidy_table(self, operation: ops.CreateTableOp) -> None:
        key = table_key(operation)
        automatic = _automatic(operation)
        for item in operation.columns:
            if isinstance(item, Column):
                self._tidy_column(item, key, automatic)
            elif isinstance(item, UniqueConstraint):
                remove_default_options(item.dialect_kwargs)
        if self._dialect.name in _MYSQL:
            self._leave_out_defaults(operation)
        if self._dialect.name == "sqlite":
            self._add_options_of_sqlite(operation, key)

    def _tidy_column(self, column: Column[Any], table: str, automatic: str) -> None:
        sql = self._after.get(("column", f"{table}.{column.name}"), "")
        if self._dialect.name in _MYSQL and _JSON.match(sql):
            column.type = JSON()
        elif self._dialect.name in _MYSQL and " CHECK (" in sql:
            self._execute(f"ALTER TABLE {self._quoted(table)} MODIFY {quoted(column.name, self._dialect)} {sql}")
        else:
            column.type = portable(column.type, self._dialect)
        if self._dialect.name == "sqlite":
            self._add_collation(column, table)
        if self._dialect.name == "postgresql" and column.identity is None and (found := _NEXTVAL.search(sql)):
            name = _unquoted(found["name"])
            if self._is_serial(column, table, name, is_automatic=column.name == automatic):
                self._by_serial.add(name)
            else:
                column.server_default = DefaultClause(text(found[1].replace(":", "\\:")))
                column.autoincrement = False if column.name == automatic else "auto"
                return
        if column.identity is not None or column.autoincrement is not (column.name != automatic):
            column.autoincrement = "auto"

    def _is_serial(self, column: Column[Any], table: str, sequence: str, *, is_automatic: bool) -> bool:
        """Return whether a column with its sequence is what SERIAL makes."""
        type_ = self._after.get(("column", f"{table}.{column.name}"), "").split()[0]
        wanted = f"{type_} START 1 INCREMENT 1 MIN 1 MAX {_LIMITS.get(type_)} CACHE 1 OWNED BY "
        sql = self._after.get(("sequence", sequence), "")
        return is_automatic and sequence == f"{table}_{column.name}_seq" and sql.startswith(wanted)

    def _leave_out_defaults(self, operation: ops.CreateTableOp) -> None:
        """Remove the options of a table that are the defaults of the database."""
        engine, charset, collation = self._defaults_of_mysql
        names = {name.partition("_")[2].replace(" ", "_"): name for name in operation.kw}
        given = {name: operation.kw[key] for name, key in names.items()}
        left_out = ["comment", *(["engine"] if given.get("engine") == engine else [])]
        if given.get("default_charset") == charset and given.get("collate", collation) == collation:
            left_out += ["default_charset", "collate"]
        for name in left_out:
            operation.kw.pop(names.get(name, name), None)

    @property
    def _defaults_of_mysql(self) -> tuple[str, str, str]:
        connection = self.changes.autogen.connection
        assert connection is not None  # noqa: S101  # a comparison has a connection
        query = "SELECT @@default_storage_engine, @@character_set_database, @@collation_database"
        engine, charset, collation = connection.execute(text(query)).one()
        return engine, charset, collation

    def _add_options_of_sqlite(self, operation: ops.CreateTableOp, key: str) -> None:
        options = self._after.get(("table", key), "").partition("columns ")[0]
        if "STRICT" in options:
            operation.kw["sqlite_strict"] = True
        if "WITHOUT ROWID" in options:
            operation.kw["sqlite_with_rowid"] = False
        if any(
            kind == "constraint" and name.startswith(f"{key}.") and sql.endswith(" autoincrement")
            for (kind, name), sql in self._after.items()
        ):
            operation.kw["sqlite_autoincrement"] = True

    def _add_collation(self, column: Column[Any], table: str) -> None:
        sql = self._after.get(("column", f"{table}.{column.name.lower()}"), "")
        found = re.search(r'COLLATE "?(\w+)"?', sql)
        if found and isinstance(column.type, String):
            column.type = column.type.copy()
            column.type.collation = found[1]

    def _add_sequences(self) -> None:
        for (kind, name), sql in sorted(self._after.items()):
            if kind != "sequence" or (kind, name) in self._before or name in self._by_serial:
                continue
            shown = self._quoted(name)
            if self._dialect.name in _MYSQL:
                self._first.append(Statement(f"CREATE SEQUENCE {shown} {sql}", Change("+", "sequence", name)))
            elif found := _SEQUENCE.fullmatch(sql):
                create = (
                    f"CREATE SEQUENCE {shown} AS {found['type']} INCREMENT BY {found['step']} MINVALUE {found['min']}"
                    f" MAXVALUE {found['max']} START WITH {found['start']} CACHE {found['cache']}{found['cycle'] or ''}"
                )
                self._first.append(Statement(create, Change("+", "sequence", name)))
                if found["owner"]:
                    self._execute(f"ALTER SEQUENCE {shown} OWNED BY {found['owner']}")
                    continue
            self._reverted.append(Statement(f"DROP SEQUENCE {shown}", Change("-", "sequence", name)))

    def _add_constraints(self) -> None:
        """Add the constraints of PostgreSQL that SQLAlchemy does not reflect, or not completely."""
        if self._dialect.name != "postgresql":
            return
        by_hand = {
            name: sql
            for (kind, name), sql in self._after.items()
            if kind == "constraint" and (kind, name) not in self._before and _BY_HAND.match(sql)
        }
        for operation in _flat(self.changes.upgrade.ops):
            if isinstance(operation, ops.CreateTableOp):
                key = table_key(operation)
                operation.columns = [
                    item for item in operation.columns if f"{key}.{getattr(item, 'name', None)}" not in by_hand
                ]
        for name, sql in sorted(by_hand.items()):
            table, _, own = name.rpartition(".")
            self._execute(f"ALTER TABLE {self._quoted(table)} ADD CONSTRAINT {quoted(own, self._dialect)} {sql}")

    def _add_indexes(self) -> None:
        """Add the indexes of foreign keys whose names MariaDB or MySQL would choose differently."""
        made = {
            f"{_table_of(each)}.{name}"
            for each in _flat(self.changes.upgrade.ops)
            if isinstance(each, ops.CreateTableOp | ops.CreateIndexOp | ops.AddConstraintOp)
            for name in _names(each)
        }
        for (kind, name), sql in sorted(self._after.items()):
            if kind == "index" and (kind, name) not in self._before and name not in made:
                table, _, own = name.rpartition(".")
                how, _, rest = sql.partition(" (")
                self._execute(f"ALTER TABLE {self._quoted(table)} ADD {how} {quoted(own, self._dialect)} ({rest}")

    def _quoted(self, key: str) -> str:
        schema, name = split_key(key)
        return quoted(name, self._dialect, schema)

    def _execute(self, sql: str) -> None:
        self._last.append(Statement(sql, Change("~", "table", sql)))


def by_name(operations: list[ops.MigrateOperation]) -> list[ops.MigrateOperation]:
    """Return the operations of an upgrade with new tables in the order of their names, each after those it references.

    If existing tables change, too, the order is kept.
    """
    groups: dict[str, list[ops.MigrateOperation]] = {}
    first: list[ops.MigrateOperation] = []
    last: list[ops.MigrateOperation] = []
    for operation in operations:
        if isinstance(operation, ops.CreateTableOp):
            groups[table_key(operation)] = [operation]
        elif not isinstance(operation, ops.ModifyTableOps):
            (last if groups else first).append(operation)
        elif (key := table_key(operation)) not in groups:
            return operations
        elif any(isinstance(each, ops.CreateForeignKeyOp) for each in operation.ops):
            last.append(operation)
        else:
            groups[key].append(operation)
    ordered: dict[str, list[ops.MigrateOperation]] = {}
    while groups:
        ready = [key for key in sorted(groups) if groups.keys().isdisjoint({*targets(groups[key][0])} - {key})]
        if not ready:
            return operations
        ordered[ready[0]] = groups.pop(ready[0])
    return [*first, *chain.from_iterable(ordered.values()), *last]


def portable(type_: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    """Return SQLAlchemy's general type for a type of a database, if the database makes the same column of both."""
    if isinstance(type_, Enum | NullType) or getattr(type_, "item_type", None) is not None:
        return type_
    if dialect.name in _MYSQL and getattr(type_, "display_width", None) == 1 and _ddl(type_, dialect) == "TINYINT(1)":
        return Boolean()
    with suppress(Exception):  # the type may have no general one, or belong to the user
        general = type_.as_generic()
        if _ddl(general, dialect) == _ddl(type_, dialect):
            return general
    return type_


def _ddl(type_: TypeEngine[Any], dialect: Dialect) -> str:
    sql = type_.compile(dialect=dialect)
    if dialect.name in _MYSQL:
        if (found := _WIDTH.match(sql)) and int(found[2]) == _WIDTHS[found[1]]:
            sql = f"{found[1]}{sql[found.end() :]}"
        sql = re.sub(r"^DECIMAL", "NUMERIC", sql)
    return sql


def _automatic(operation: ops.CreateTableOp) -> str:
    """Return the name of the column of a new table that SQLAlchemy lets the database number; empty if there is none."""
    keys = [item for item in operation.columns if isinstance(item, PrimaryKeyConstraint)]
    table = operation.to_table()
    columns = [*table.primary_key.columns] if keys else []
    if len(columns) != 1 or columns[0].foreign_keys or columns[0].identity is not None:
        return ""
    (column,) = columns
    is_number = issubclass(column.type._type_affinity or object, Integer)  # noqa: SLF001 (has no public name)
    return str(column.name) if is_number and column.server_default is None else ""


def _table_of(operation: ops.MigrateOperation) -> str:
    """Return the table that an operation changes."""
    return str(getattr(operation, "table_name", None) or getattr(operation, "source_table", ""))


def _names(operation: ops.CreateTableOp | ops.CreateIndexOp | ops.AddConstraintOp) -> Iterator[str]:
    """Yield the names of the indexes and constraints that an operation creates."""
    if isinstance(operation, ops.CreateTableOp):
        yield from (str(item.name) for item in operation.columns if isinstance(item, Constraint) and item.name)
    elif isinstance(operation, ops.CreateIndexOp):
        yield str(operation.index_name)
    else:
        yield str(getattr(operation, "constraint_name", None))


def _unquoted(name: str) -> str:
    """Return the key of an object that PostgreSQL prints as a string with quoted names."""
    plain = name.replace("''", "'")
    return re.sub(r'"((?:[^"]|"")*)"', lambda found: found[1].replace('""', '"'), plain)


def _flat(operations: list[ops.MigrateOperation]) -> Iterator[ops.MigrateOperation]:
    for operation in operations:
        yield operation
        if isinstance(operation, ops.OpContainer):
            yield from _flat(operation.ops)
