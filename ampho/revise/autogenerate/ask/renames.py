"""Applying the renames of tables, columns, indexes, and constraints that the user names.

The renames change what the comparison sees: :class:`RenamedInspector` reflects the database as it will be after the
renames. The comparison then also finds all other differences, such as a new type of a renamed column.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial, wraps
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from alembic.autogenerate import renderers
from alembic.operations import ops

from ampho.revise.autogenerate.operations.describe import Change
from ampho.revise.autogenerate.operations.statements import Statement, quoted
from ampho.revise.autogenerate.owners.keys import join_key

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from sqlalchemy.engine import Dialect, Inspector

_PARTS = frozenset(
    [
        "check_constraints",
        "columns",
        "foreign_keys",
        "indexes",
        "pk_constraint",
        "table_comment",
        "table_options",
        "unique_constraints",
    ]
)
_SQL = ("sqltext", "expressions", "dialect_options", "computed")
_WORD = re.compile(r"'(?:[^']|'')*'|[^\W\d]\w*")  # literals match, too, so that no word inside a literal does


@dataclass(frozen=True, slots=True)
class Rename:
    """A rename of a table, or of a column, an index, or a constraint of a table.

    :ivar kind: ``table``, ``column``, ``index``, or ``constraint``.
    :ivar table: the new name of the table.
    :ivar old: the old name of the object.
    :ivar new: the new name of the object.
    :ivar schema: the schema of the table.
    :ivar reflected: the reflected column, if a column is renamed.
    """

    kind: str
    table: str
    old: str
    new: str
    schema: str | None = None
    reflected: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def key(self) -> str:
        """The key of the table, with its new name."""
        return join_key(self.schema, self.table)

    def operation(self, autogen: AutogenContext) -> ops.MigrateOperation:
        """Return the operation that renames the object."""
        dialect = autogen.dialect
        if self.kind == "table":
            return RenameTable(self.old, self.new, schema=self.schema)
        if self.kind == "column":
            return _rename_column(self, of_mysql=dialect.name in ("mysql", "mariadb"))
        return RenameObject(self, dialect)


class RenameTable(ops.RenameTableOp):
    """Renames a table; unlike Alembic's own operation, it has a reverse."""

    def reverse(self) -> RenameTable:
        """Return the operation that restores the old name."""
        return RenameTable(self.new_table_name, self.table_name, schema=self.schema)


@renderers.dispatch_for(RenameTable)
def _render(autogen: AutogenContext, operation: RenameTable) -> list[str]:
    """Return the code that renames a table, in two steps where SQLite takes the new name for the old one."""
    schema = f", schema={operation.schema!r}" if operation.schema else ""
    prefix = autogen.opts["alembic_module_prefix"] or ""
    names = [operation.table_name, operation.new_table_name]
    if autogen.dialect.name == "sqlite" and names[0].lower() == names[1].lower():
        names.insert(1, f"{names[1]}_renamed")
    return [f"{prefix}rename_table({old!r}, {new!r}{schema})" for old, new in pairwise(names)]


class RenameColumn(ops.AlterColumnOp):
    """Renames a column; unlike the reverse of Alembic's own operation, its reverse restores the name."""

    def reverse(self) -> RenameColumn:
        """Return the operation that restores the old name."""
        other = copy(self)
        other.column_name, other.modify_name = str(self.modify_name), self.column_name
        return other


class RenameObject(Statement):
    """Renames an index or a constraint."""

    def __init__(self, rename: Rename, dialect: Dialect) -> None:
        change = Change("~", rename.kind, f"{rename.key}.{rename.old} -> {rename.new}")
        super().__init__(_renaming_sql(rename, dialect), change)
        self._rename, self._dialect = rename, dialect

    def reverse(self) -> RenameObject:
        """Return the operation that restores the old name."""
        swapped = replace(self._rename, old=self._rename.new, new=self._rename.old)
        return RenameObject(swapped, self._dialect)


def _renaming_sql(rename: Rename, dialect: Dialect) -> str:
    table = quoted(rename.table, dialect, rename.schema)
    old, new = (quoted(name, dialect) for name in (rename.old, rename.new))
    if dialect.name != "postgresql":
        return f"ALTER TABLE {table} RENAME INDEX {old} TO {new}"
    if rename.kind == "index":
        return f"ALTER INDEX {quoted(rename.old, dialect, rename.schema)} RENAME TO {new}"
    return f"ALTER TABLE {table} RENAME CONSTRAINT {old} TO {new}"


def can_rename(dialect: str, *, is_key: bool) -> bool:
    """Return whether a database can rename an index or a constraint.

    :param is_key: whether the constraint is a foreign key or the primary key.
    """
    return dialect == "postgresql" or (dialect in ("mysql", "mariadb") and not is_key)


@dataclass
class Renames:
    """The renames that the user named.

    :ivar all: the renames, with the tables first.
    :ivar dropped: the names of objects that are gone and were not renamed.
    """

    all: Sequence[Rename] = ()
    dropped: Collection[str] = ()
    _tables: dict[tuple[str | None, str], str] = field(default_factory=dict)
    _parts: dict[tuple[str | None, str], dict[tuple[str, str], str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for each in self.all:
            if each.kind == "table":
                self._tables[each.schema, each.new] = each.old
            else:
                parts = self._parts.setdefault((each.schema, each.table), {})
                parts["column" if each.kind == "column" else "name", each.old] = each.new

    def old_table(self, schema: str | None, name: str) -> str:
        """Return the present name of a table, by its new name."""
        return self._tables.get((schema, name), name)

    def new_table(self, schema: str | None, name: str) -> str:
        """Return the new name of a table, by its present name."""
        return next((new for (of, new), old in self._tables.items() if (of, old) == (schema, name)), name)

    def has_parts(self, schema: str | None, table: str) -> bool:
        """Return whether parts of a table were renamed, by the new name of the table."""
        return (schema, table) in self._parts

    def part(self, kind: str, schema: str | None, table: str, name: Any) -> Any:  # noqa: ANN401 (a name, or None)
        """Return the new name of a part of a table, such as a column, by its present name.

        :param table: the new name of the table.
        """
        return self._parts.get((schema, table), {}).get((kind, name), name)


def _rename_column(rename: Rename, *, of_mysql: bool) -> RenameColumn:
    from sqlalchemy import DefaultClause, text

    column = rename.reflected
    default, generated = column.get("default"), column.get("autoincrement") is True
    options: dict[str, Any] = {"autoincrement": True} if generated and of_mysql else {}
    return RenameColumn(
        rename.table,
        rename.old,
        schema=rename.schema,
        modify_name=rename.new,
        existing_type=column["type"],
        existing_nullable=column["nullable"],
        existing_server_default=DefaultClause(text(default)) if default and not generated else False,
        existing_comment=column.get("comment"),
        **options,
    )


class RenamedInspector:
    """An inspector that reflects the database as it will be after some renames.

    It has the methods of SQLAlchemy's ``Inspector``. The names of tables in their arguments and results are new names.
    """

    def __init__(self, inspector: Inspector, renames: Renames) -> None:
        self._inspector = inspector
        self._renames = renames
        self.info_cache: dict[Any, Any] = {}

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (attributes of the inspector have any type)
        found = getattr(self._inspector, name)
        if name.startswith("get_multi_") and name.removeprefix("get_multi_") in _PARTS:
            return wraps(found)(partial(self._multi, name.removeprefix("get_multi_")))
        if name.startswith("get_") and name.removeprefix("get_") in _PARTS:
            return wraps(found)(partial(self._single, name.removeprefix("get_")))
        return found

    def get_table_names(self, schema: str | None = None, **kwargs: Any) -> list[str]:  # noqa: ANN401
        """Return the new names of all tables of a schema."""
        names = self._inspector.get_table_names(schema, **kwargs)
        return [self._renames.new_table(schema, name) for name in names]

    def has_table(self, table_name: str, schema: str | None = None, **kwargs: Any) -> bool:  # noqa: ANN401
        """Return whether a table exists, by its new name."""
        return self._inspector.has_table(self._renames.old_table(schema, table_name), schema, **kwargs)

    def is_renamed(self, schema: str | None, table_name: str) -> bool:
        """Return whether a table, or a part of it, has a new name."""
        return self._renames.old_table(schema, table_name) != table_name or self._renames.has_parts(schema, table_name)

    def _single(self, kind: str, table_name: str, schema: str | None = None, **kwargs: Any) -> Any:  # noqa: ANN401
        found = getattr(self._inspector, f"get_{kind}")(self._renames.old_table(schema, table_name), schema, **kwargs)
        return self._renamed(kind, schema, table_name, found)

    def _multi(
        self,
        kind: str,
        schema: str | None = None,
        filter_names: Sequence[str] | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> dict[Any, Any]:
        names = None if filter_names is None else [self._renames.old_table(schema, name) for name in filter_names]
        found = getattr(self._inspector, f"get_multi_{kind}")(schema=schema, filter_names=names, **kwargs)
        new = {(of, self._renames.new_table(of, name)): value for (of, name), value in found.items()}
        return {key: self._renamed(kind, *key, value) for key, value in new.items()}

    def _renamed(self, kind: str, schema: str | None, table: str, found: Any) -> Any:  # noqa: ANN401
        """Return reflected parts of a table with the new names."""
        if isinstance(found, list):
            return [self._renamed(kind, schema, table, each) for each in found]
        if not isinstance(found, dict) or kind in ("table_comment", "table_options"):
            return found
        new = dict(found)
        part = partial(self._renames.part, schema=schema, table=table)
        new["name"] = part("column" if kind == "columns" else "name", name=found.get("name"))
        for key in ("constrained_columns", "column_names"):
            if key in found:
                new[key] = [part("column", name=name) for name in found[key]]
        if kind == "columns" and new["name"] != found["name"] and found.get("autoincrement") is True:
            new["default"] = None  # Alembic recognizes the sequence of such a column by the old name
        if kind == "foreign_keys":
            of, name = (
                found["referred_schema"],
                self._renames.new_table(found["referred_schema"], found["referred_table"]),
            )
            new["referred_table"] = name
            new["referred_columns"] = [
                self._renames.part("column", of, name, each) for each in found["referred_columns"]
            ]
        new |= {key: self._renamed_sql(schema, table, found[key]) for key in _SQL if key in found}
        if "duplicates_constraint" in found:
            new["duplicates_constraint"] = part("name", name=found["duplicates_constraint"])
        return new

    def _renamed_sql(self, schema: str | None, table: str, sql: Any) -> Any:  # noqa: ANN401 (SQL, or a container)
        """Return the SQL of a check, an index, or a computed column with the new names of columns."""
        if isinstance(sql, dict):
            return {key: self._renamed_sql(schema, table, value) for key, value in sql.items()}
        if isinstance(sql, list):
            return [self._renamed_sql(schema, table, value) for value in sql]
        if not isinstance(sql, str):
            return sql
        return _WORD.sub(lambda word: self._renames.part("column", schema, table, word[0]), sql)
