"""Keep what belongs to a table of SQLite when a revision replaces the table with a changed copy.

SQLite can change few things about a table, so Alembic's batch mode creates a new table, copies the rows, drops the old
table, and renames the new one. That drops the triggers and indexes of the table, and everything that reflection does
not see. Ampho instead creates the new table from the text of the old one, and creates the rest again. A revision that
replaces a table by hand fails if triggers or indexes are missing at the end.
"""

from __future__ import annotations

import re
import sqlite3
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Integer,
    MetaData,
    Table,
    Time,
    func,
    literal_column,
    text,
)
from sqlalchemy.exc import DBAPIError, NoReferenceError
from sqlalchemy.schema import CreateTable
from sqlalchemy.types import NullType, UserDefinedType

from ampho._text import listed
from ampho.database.sqlite import query
from ampho.database.sqlite_table import Change, LossError, TableText, correct_computed, quoted, tokens
from ampho.history.sql import string_literal

if TYPE_CHECKING:
    from alembic.operations.batch import ApplyBatchImpl
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy.engine import Connection, Dialect
    from sqlalchemy.types import TypeEngine

_EVENTS = {
    "INSERT": "INSERT INTO {table} DEFAULT VALUES",
    "UPDATE": "UPDATE {table} SET {columns}",
    "DELETE": "DELETE FROM {table}",
}
_UNTRUE = (
    "Unnamed CHECK constraint on reflected table",
    "Skipped unsupported reflection of expression-based index",
    "WARNING: SQL-parsed foreign key constraint",
)
"""Warnings that parts of a table cannot be reflected; Ampho keeps these parts anyway."""

_OWN_TABLES = {"sqlite_sequence": "name", "sqlite_stat1": "tbl", "sqlite_stat4": "tbl"}
_KEYS = """
SELECT child.name, key.id, key."table", lower(key."to")
FROM sqlite_master AS child JOIN pragma_foreign_key_list(child.name) AS key
WHERE child.type = 'table' AND key."to" IS NOT NULL
"""
_UNIQUE = """
SELECT lower(parent.name), '', lower(own.name)
FROM sqlite_master AS parent JOIN pragma_table_info(parent.name) AS own
WHERE parent.type = 'table' AND own.pk
UNION ALL
SELECT lower(parent.name), list.name, lower(own.name)
FROM sqlite_master AS parent JOIN pragma_index_list(parent.name) AS list JOIN pragma_index_info(list.name) AS own
WHERE parent.type = 'table' AND list."unique" AND NOT list.partial
"""


@dataclass(frozen=True, slots=True)
class _Object:
    """A trigger or an index.

    :ivar type: ``trigger`` or ``index``.
    """

    type: str
    name: str
    sql: str

    def __str__(self) -> str:
        return f"the {self.type} {self.name}"

    @property
    def key(self) -> tuple[str, str]:
        return self.type, self.name.lower()


@dataclass(frozen=True, slots=True)
class _Rebuild:
    """A table that a batch is replacing.

    :ivar sql: the statement that creates the new table.
    :ivar objects: the triggers and indexes to create on the new table.
    :ivar rows: the rows about the table in SQLite's own tables.
    :ivar renames: the columns of the new table to rename, by their new names.
    """

    new_table: Table
    name: str
    schema: str | None
    sql: str
    objects: list[_Object]
    rows: dict[str, list[tuple[object, ...]]]
    renames: dict[str, Column[Any]]


class TableKeeper:
    """Keeps what belongs to the tables that the steps of a run replace.

    :param connection: the migrating connection.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.begin_step()

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Hide the warnings about what Alembic's batches would lose without Ampho."""
        with warnings.catch_warnings():
            for message in _UNTRUE:
                warnings.filterwarnings("ignore", message)
            yield

    def begin_step(self) -> None:
        """Forget what was noted in the previous step."""
        self._rebuild: _Rebuild | None = None
        self._is_busy = self._copies = False
        self._restored: dict[tuple[str, str], str] = {}
        self._dropped: set[tuple[str, str]] = set()
        self._lost: dict[str, list[_Object]] = defaultdict(list)
        self._renamed: dict[str, str] = {}
        self._defects: list[tuple[str, str]] | None = None

    def follow(self, context: MigrationContext) -> None:
        """Replace the methods of Alembic that a batch calls, for a run of ``env.py``."""
        impl = context.impl
        create_table, rename_table, cast = impl.create_table, impl.rename_table, impl.cast_for_batch_migrate

        def create(table: Table, **options: Any) -> None:  # noqa: ANN401 (passed on)
            if self._rebuild is None or table is not self._rebuild.new_table:
                create_table(table, **options)
            else:
                self._connection.exec_driver_sql(self._rebuild.sql)

        def rename(old: str, new: str, schema: str | None = None) -> None:
            rebuild = self._rebuild
            if rebuild is None or old != rebuild.new_table.name:
                rename_table(old, new, schema)
                return
            before = query(self._connection, "PRAGMA legacy_alter_table")[0][0]
            query(self._connection, "PRAGMA legacy_alter_table = ON")  # views and triggers still mention the old table
            try:
                rename_table(old, new, schema)
            finally:
                query(self._connection, f"PRAGMA legacy_alter_table = {before}")
            self._rebuild = None
            self._restore(rebuild)

        def convert(existing: Column[Any], transfer: dict[str, Any], type_: TypeEngine[Any]) -> None:
            if not _copy_time(existing, transfer, type_):
                cast(existing, transfer, type_)  # type: ignore[no-untyped-call]

        impl.cast_for_batch_migrate = convert  # type: ignore[method-assign]
        impl.prep_table_for_batch = self._prepare  # type: ignore[method-assign,assignment]  # only for this run
        impl.create_table = create  # type: ignore[method-assign]
        impl.rename_table = rename  # type: ignore[method-assign,assignment]

    def check(self) -> None:
        """Check that the step has neither lost a trigger or an index nor broken a view, a trigger, or a foreign key.

        :raises LossError: if the step has lost or broken an object that it does not drop explicitly.
        """
        if self._lost and self._renamed:
            self._check_replaced_by_hand()
        if self._defects is not None:
            before, self._defects = dict(self._defects), None
            found = [(what, why) for what, why in _defects(self._connection) if what not in before]
            if found:
                what = listed([f"{name} ({why})" if why else name for name, why in found])
                them = "it" if len(found) == 1 else "them"
                raise LossError(f"It changes a table, and breaks {what}. Drop or change {them} in this revision")

    def _check_replaced_by_hand(self) -> None:
        names = query(self._connection, "SELECT type, lower(name) FROM sqlite_master")
        present = {(kind, name) for kind, name in names}
        for table, objects in self._lost.items():
            is_replaced = ("table", table) in present and (table in self._renamed or table in self._renamed.values())
            lost = [each for each in objects if each.key not in present | self._dropped]
            if is_replaced and lost:
                them = "it" if len(lost) == 1 else "them"
                raise LossError(
                    f"It replaces the table {table} with another one, and loses {listed([*map(str, lost)])}. Create"
                    f" {them} again, or drop {them} explicitly before the table"
                )
        self._lost.clear()

    def watch(self, found: re.Match[str]) -> None:
        """Note what a statement of the revision does to tables and to what belongs to them.

        :param found: the match of ``CHANGES_OBJECTS`` in the statement.
        """
        kind = (found["dropped"] or found["created"] or "table").lower()
        if self._is_busy or self._rebuild is not None:
            return
        if found["copies"]:
            self._copies = True
        elif (self._copies or kind != "table" or found["alters"]) and (self._restored or not found["created"]):
            self._note(found, kind, [token.name or token.text for token in tokens(found.string[found.end() :])])

    def _note(self, found: re.Match[str], kind: str, names: list[str]) -> None:
        """Note what a statement of the revision drops, creates, or renames.

        :param names: the names and other tokens after the kind of the object.
        """
        if "exists" in names[:3]:
            names = names[names.index("exists") + 1 :]
        schema, name = (names[0], names[2]) if names[1:2] == ["."] else ("main", names[0])
        if found["alters"]:
            if names[-3:-1] == ["rename", "to"]:
                self._renamed[names[-1]] = self._renamed.get(name, name)
                self._copies = True
        elif found["created"]:
            if (kind, name) in self._restored:  # make room, because the revision itself creates this object
                schema = quoted(self._restored.pop((kind, name)))
                # It does not exist if another batch has replaced the table since.
                self._execute(f"DROP {kind} IF EXISTS {schema}.{quoted(name)}")
        elif kind == "table":
            objects = self._objects(name, schema)
            self._lost[self._renamed.get(name, name)] += [each for each in objects if each.type != "table"]
        else:
            self._dropped.add((kind, name))
            self._restored.pop((kind, name), None)

    def _objects(self, table: str, schema: str | None) -> list[_Object]:
        master = f"{quoted(schema or 'main')}.sqlite_master"
        where = f"lower(tbl_name) = {string_literal(table.lower())} AND sql IS NOT NULL AND type != 'view'"
        return [_Object(*row) for row in query(self._connection, _select("type, name, sql", master, where))]

    def _execute(self, statement: str) -> None:
        self._is_busy = True
        try:
            self._connection.exec_driver_sql(statement)
        finally:
            self._is_busy = False

    # ---- A batch ----

    def _prepare(self, batch: ApplyBatchImpl, table: Table) -> None:
        """Plan how to replace a table; Alembic calls this before it creates the new table."""
        new_table: Table = batch.new_table  # type: ignore[assignment]  # never None here
        objects = self._objects(table.name, table.schema)
        definition = next((each.sql for each in objects if each.type == "table"), None)
        if definition is None:
            return
        if not definition.upper().startswith("CREATE TABLE"):
            raise LossError(
                f"{table.name} is a virtual table, which a batch would turn into an ordinary table. Use op.execute()"
            )
        if self._defects is None:
            self._defects = _defects(self._connection)
        transfers: dict[str, dict[str, Any]] = batch.column_transfers
        renames = {transfer["name"]: new_table.c[key] for key, transfer in transfers.items() if "name" in transfer}
        for column in renames.values():
            column.name = column.key
        if batch.reflected:
            _leave_out_checks(table, new_table)
            correct_computed(definition, table, new_table)
        change = Change(
            TableText(definition),
            TableText(
                _create_table(
                    _with_targets(table if batch.reflected else table.to_metadata(MetaData())), self._connection.dialect
                )
            ),
            TableText(_create_table(new_table, self._connection.dialect)),
            frozenset(column.key.lower() for column in renames.values()),
            any(isinstance(each, CheckConstraint) for each in batch.table_args),
        )
        self._rebuild = _Rebuild(
            new_table,
            table.name,
            table.schema,
            change.sql,
            [
                each
                for each in objects
                if each.type == "trigger" or (each.type == "index" and _is_kept(each, batch, change))
            ],
            {own: rows for own in _OWN_TABLES if (rows := self._rows(own, table))},
            renames,
        )
        _transfer(batch, TableText(change.sql))

    def _rows(self, own: str, table: Table) -> list[tuple[object, ...]]:
        """Return the rows about a table in one of SQLite's own tables."""
        schema = quoted(table.schema or "main")
        if not query(self._connection, _select("1", f"{schema}.sqlite_master", f"name = '{own}'")):
            return []
        where = f"lower({_OWN_TABLES[own]}) = {string_literal(table.name.lower())}"
        return query(self._connection, _select("*", f"{schema}.{own}", where))

    def _restore(self, rebuild: _Rebuild) -> None:
        """Restore everything that belonged to the old table, and rename the columns of the new table."""
        schema = quoted(rebuild.schema or "main")
        for each in rebuild.objects:
            self._execute(_in_schema(each.sql, rebuild.schema))
            self._restored[each.key] = rebuild.schema or "main"
        for own, rows in rebuild.rows.items():
            self._restore_rows(f"{schema}.{own}", _OWN_TABLES[own], rebuild, rows)
        table = f"{schema}.{quoted(rebuild.name)}"
        final = {column.key: name for name, column in rebuild.renames.items()}
        if {name.lower() for name in final.values()} & {column.key.lower() for column in rebuild.new_table.c}:
            for place, key in enumerate([*final]):  # for example if two columns swap their names
                between = f"_ampho_tmp_{place}"
                self._execute(f"ALTER TABLE {table} RENAME COLUMN {quoted(key)} TO {quoted(between)}")
                final[between] = final.pop(key)
        for key, name in final.items():
            self._execute(f"ALTER TABLE {table} RENAME COLUMN {quoted(key)} TO {quoted(name)}")
        for name, column in rebuild.renames.items():
            column.name = name

    def _restore_rows(self, own: str, named: str, rebuild: _Rebuild, rows: list[tuple[object, ...]]) -> None:
        if own.endswith("sqlite_sequence"):
            if "AUTOINCREMENT" not in {token.keyword for token in tokens(rebuild.sql)}:
                return
            named_so = f"lower({named}) = {string_literal(rebuild.name.lower())}"
            self._execute(f"DELETE FROM {own} WHERE {named_so}")  # noqa: S608 (its parts are quoted)
        else:
            kept = {None, rebuild.name, *(each.name for each in rebuild.objects)}
            rows = [row for row in rows if row[1] in kept]
        for row in rows:
            marks = ", ".join("?" * len(row))
            self._connection.exec_driver_sql(f"INSERT INTO {own} VALUES ({marks})", row)  # noqa: S608 (as above)


def _is_kept(index: _Object, batch: ApplyBatchImpl, change: Change) -> bool:
    """Return whether to create an index again from its text; otherwise, Alembic creates or drops the index."""
    reflected = {each.name for each in batch.table.indexes}
    if index.name in batch.new_indexes or (index.name in reflected and index.name not in batch.indexes):
        return False
    found = tokens(index.sql)
    after = next(place for place, token in enumerate(found) if token.text == "(")
    mentioned = {token.name for token in found[after:] if token.text[0] != "'"} & change.dropped
    if mentioned:
        raise LossError(
            f"The index {index.name} would be lost with the column {mentioned.pop()}. Drop the index before the column"
        )
    batch.indexes.pop(index.name, None)
    return True


def _transfer(batch: ApplyBatchImpl, new: TableText) -> None:
    """Make a batch leave out generated columns, and copy the row numbers, to which full-text indexes refer."""
    transfers: dict[str, dict[str, Any]] = batch.column_transfers
    for key, transfer in transfers.items():
        column = new.columns.get(key.lower())
        if column is not None and column.clause("AS"):
            transfer.pop("expr", None)
    rowid = next((name for name in ("rowid", "_rowid_", "oid") if name not in new.columns), None)
    new_table = batch.new_table
    if rowid is not None and new_table is not None and _numbers_rows(new):
        new_table.append_column(Column(rowid, Integer))
        transfers[rowid] = {"expr": literal_column(rowid)}


def _numbers_rows(table: TableText) -> bool:
    """Return whether SQLite numbers the rows of a table in a hidden column."""
    if any("ROWID" in option for option in table.options):
        return False
    key = next((each for each in table.constraints if each.kind == "PRIMARY"), None)
    if key is None or len(key.columns) != 1:
        return True
    type_ = table.columns[key.columns[0]].clause("TYPE")
    return type_ is None or [token.keyword for token in type_.tokens] != ["INTEGER"]


class _NoType(UserDefinedType[object]):
    """A stand-in for the missing type of a column. SQLAlchemy refuses to write a column without a type."""

    cache_ok = True

    def get_col_spec(self, **options: object) -> str:
        return ""


def _create_table(table: Table, dialect: Dialect) -> str:
    for column in table.c:
        if isinstance(column.type, NullType):
            column.type = _NoType()
    return str(CreateTable(table).compile(dialect=dialect))


def _leave_out_checks(table: Table, new_table: Table) -> None:
    """Blank reflected CHECK constraints, because SQLAlchemy 2.0 may read them wrongly; the table keeps their text."""
    reflected = [each for each in table.constraints if isinstance(each, CheckConstraint)]
    texts = {(each.name, str(each.sqltext)) for each in reflected}
    for each in reflected:
        if not each.name:
            table.constraints.remove(each)
    for constraint in (*table.constraints, *new_table.constraints):
        if isinstance(constraint, CheckConstraint) and (constraint.name, str(constraint.sqltext)) in texts:
            constraint.sqltext = text("1")


def _with_targets(table: Table) -> Table:
    """Add the missing targets of a table's foreign keys to its metadata, so that the keys can be written."""
    for key in table.foreign_keys:
        try:
            _ = key.column
        except NoReferenceError:
            target, _, column = key.target_fullname.rpartition(".")
            schema, _, name = target.rpartition(".")
            Table(name, table.metadata, Column(column), schema=schema or None, extend_existing=True)
    return table


def _in_schema(sql: str, schema: str | None) -> str:
    """Return the statement that creates a trigger or an index, with the schema of its table."""
    if schema is None:
        return sql
    found = tokens(sql)
    name = next(found[place + 1] for place, token in enumerate(found) if token.keyword in ("INDEX", "TRIGGER"))
    return f"{sql[: name.start]}{quoted(schema)}.{sql[name.start :]}"


def _select(columns: str, table: str, where: str = "1") -> str:
    return f"SELECT {columns} FROM {table} WHERE {where}"  # noqa: S608 (the callers quote the parts)


def _copy_time(existing: Column[Any], transfer: dict[str, Any], type_: TypeEngine[Any]) -> bool:
    """Have a batch copy the text of a column that becomes a date, a time, or both; return False for other types.

    SQLite stores these as text, and ``CAST(... AS DATE)`` would keep only the year.
    """
    new = getattr(type_, "impl_instance", type_)
    if not isinstance(new, Date | DateTime | Time):
        return False
    if isinstance(existing.type, DateTime) and not isinstance(new, DateTime):
        place = (1, len("2024-02-29")) if isinstance(new, Date) else (len("2024-02-29 ") + 1,)
        transfer["expr"] = func.substr(transfer["expr"], *place)
    return True


# ---- What no longer works ----


def _defects(connection: Connection) -> list[tuple[str, str]]:
    """Return the views, triggers, and foreign keys that do not work, each with a reason or an empty string."""
    defects: list[tuple[str, str]] = []
    for what, statement in _uses(connection):
        try:
            query(connection, f"EXPLAIN {statement}")
        except (sqlite3.Error, DBAPIError, connection.dialect.loaded_dbapi.Error) as exc:
            defects.append((what, str(exc)))
    return defects + [(what, "") for what in _unmatched_keys(connection)]


def _uses(connection: Connection) -> Iterator[tuple[str, str]]:
    """Yield each view and each trigger, with a statement that uses the view or fires the trigger."""
    for (view,) in query(connection, "SELECT name FROM sqlite_master WHERE type = 'view'"):
        yield f"the view {view}", _select("*", quoted(view))
    triggers = "SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name"
    for name, table, sql in query(connection, triggers):
        columns = [quoted(row[1]) for row in query(connection, f"PRAGMA table_info({quoted(table)})")]
        values = ", ".join(f"{column} = {column}" for column in columns)
        fires = next(token.keyword for token in tokens(sql)[3:] if token.keyword in _EVENTS)
        yield f"the trigger {name}", _EVENTS[fires].format(table=quoted(table), columns=values)


def _unmatched_keys(connection: Connection) -> Iterator[str]:
    """Yield a description of each foreign key that refers to columns that are not unique."""
    unique: dict[tuple[str, str], set[str]] = defaultdict(set)
    for table, index, column in query(connection, _UNIQUE):
        unique[table, index].add(column)
    keys: dict[tuple[str, int, str], set[str]] = defaultdict(set)
    for child, number, parent, column in query(connection, _KEYS):
        keys[child, number, parent].add(column)
    by_parent: dict[str, list[set[str]]] = defaultdict(list)
    for (parent, _), columns in unique.items():
        by_parent[parent].append(columns)
    for (child, _, parent), columns in keys.items():
        if columns not in by_parent.get(parent.lower(), [columns]):
            yield f"the foreign key of {child} to {parent} ({', '.join(sorted(columns))})"
