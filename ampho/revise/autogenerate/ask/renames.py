"""Applying the renames of tables, columns, indexes, and constraints that the user names.

The renames change what the comparison sees: :class:`RenamedInspector` reflects the database as it will be after the
renames. The comparison then also finds all other differences, such as a new type of a renamed column.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial, wraps
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from alembic.autogenerate import renderers
from alembic.operations import ops

from ampho._text import did_you_mean, listed
from ampho.errors import RevisionInputError
from ampho.revise.autogenerate.operations.changes import table_key
from ampho.revise.autogenerate.operations.describe import Change
from ampho.revise.autogenerate.operations.statements import Statement, quoted
from ampho.revise.autogenerate.owners.keys import join_key, split_key

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from sqlalchemy import Constraint, Index, Table
    from sqlalchemy.engine import Dialect, Inspector
    from sqlalchemy.engine.interfaces import ReflectedColumn

_SHOWN = 20
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


def _reflected(column: ReflectedColumn, table: Table, name: str) -> Mapping[str, Any]:
    """Return a reflected column, with the type in the model if SQLAlchemy does not recognize the type."""
    from sqlalchemy.types import NullType

    if not isinstance(column["type"], NullType):
        return column
    return {**column, "type": next(each.type for each in table.columns if each.name == name)}


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


def names_in_other_case(operations: Iterable[ops.MigrateOperation], dialect: str) -> Iterator[str]:
    """Yield the renames, such as ``users.Name=name``, of objects that the database can only rename.

    SQLite, MariaDB, and MySQL cannot add a column whose name differs from that of another only in case, and SQLite
    cannot create such a table.
    """
    found = [*operations]
    if dialect == "sqlite":
        drops, made = (
            [each for each in found if isinstance(each, kind)] for kind in (ops.DropTableOp, ops.CreateTableOp)
        )
        yield from _pairs([table_key(each) for each in drops], [table_key(each) for each in made])
    for table in found if dialect in ("sqlite", "mysql", "mariadb") else ():
        if isinstance(table, ops.ModifyTableOps):
            key = table_key(table)
            dropped = [f"{key}.{each.column_name}" for each in table.ops if isinstance(each, ops.DropColumnOp)]
            yield from _pairs(
                dropped, [f"{key}.{each.column.name}" for each in table.ops if isinstance(each, ops.AddColumnOp)]
            )


def _pairs(dropped: Iterable[str], added: Iterable[str]) -> Iterator[str]:
    """Yield a rename of each dropped name to an added one that differs in case; a name that is both stays."""
    names = [*added]
    new = {name.lower(): name.rpartition(".")[2] for name in names}
    for name in dropped:
        if name.lower() in new and name not in names and "=" not in name:
            yield f"{name}={new[name.lower()]}"


def resolve(
    texts: Iterable[str],
    inspector: Inspector,
    tables: Mapping[str, Table],
    default_schema: str | None,
    gone: Sequence[str] = (),
) -> Renames:
    """Return the renames that the option ``--rename`` names, such as ``users.name=full_name`` or ``carts=baskets``.

    A value without a new name, such as ``users.name=``, says that the object was not renamed.

    :param tables: the tables in the models, by their keys.
    :param gone: the tables that are only in the database, for error messages.
    :raises RevisionInputError: if an old name is not gone from the models, or a new name is not new.
    """
    found = _Resolver(inspector, tables, default_schema, gone)
    named = [found.split(text) for text in dict.fromkeys(texts)]
    wanted = [each for each in named if each[2]]
    renamed = [(each[0], rename) for each in wanted if (rename := found.table(*each))]
    found.renames = Renames([rename for _, rename in renamed])
    parts = [(each[0], found.part(*each)) for each in wanted if found.table(*each) is None]
    _check_distinct([*renamed, *parts])
    dropped = [(text, old) for text, old, new in named if not new]
    for text, old in dropped:
        found.check_dropped(text, old)
        if other := [each[0] for each in wanted if each[1] == old]:
            raise _error(text, f"--rename {other[0]} gives {old} a new name. Pass only one of them.")
    return Renames([rename for _, rename in (*renamed, *parts)], [old for _, old in dropped])


def _check_distinct(found: Iterable[tuple[str, Rename]]) -> None:
    """Raise a ``RevisionInputError`` if two renames have the same old name, or the same new name."""
    seen: dict[tuple[str | None, ...], str] = {}
    for text, each in found:
        place = (each.kind, each.schema, None if each.kind == "table" else each.table)
        for end, name in (("old", each.old), ("new", each.new)):
            other = seen.setdefault((*place, end, name), text)
            if other != text:
                raise _error(text, f"--rename {other} has the same {end} name. Pass only one of them.")


class _Resolver:
    """Finds the objects that the values of ``--rename`` name."""

    def __init__(
        self, inspector: Inspector, tables: Mapping[str, Table], default_schema: str | None, gone: Sequence[str]
    ) -> None:
        self._inspector = inspector
        self._gone = gone
        self._tables = {_without(default_schema, key): table for key, table in tables.items()}
        self._default = default_schema
        self.renames = Renames()

    def split(self, text: str) -> tuple[str, str, str]:
        """Return a value of the option, and the old and the new name in it."""
        old, _, new = (part.strip() for part in text.partition("="))
        if "" in old.split(".") or "=" not in text:
            raise _error(text, "A rename has the form TABLE.COLUMN=NEW, or TABLE=NEW for a table.")
        return text, _without(self._default, old), _without(self._default, new)

    def table(self, text: str, old: str, new: str) -> Rename | None:
        """Return the rename of a table; None if the old name is not that of a table."""
        schema, name = split_key(old)
        if not self._has_table(schema, name):
            return None
        target = new if schema and new.startswith(f"{schema}.") else join_key(schema, new)
        if old in self._tables:
            raise _error(text, f"The models still have the table {old}.")
        if target not in self._tables:
            gone = f"The models have no table {target}."
            raise _error(text, f"{gone} {did_you_mean(target, [*self._tables]) or self._new_tables()}")
        new_schema, new_name = split_key(target)
        if self._has_table(new_schema, new_name):
            raise _error(text, f"The database already has a table {target}.")
        return Rename("table", new_name, name, new_name, schema)

    def _has_table(self, schema: str | None, name: str) -> bool:
        is_schema = schema is None or schema in self._inspector.get_schema_names()
        return is_schema and name in self._inspector.get_table_names(schema)

    def _new_tables(self) -> str:
        new = [key for key in self._tables if not self._has_table(*split_key(key))]
        return f"New in the models: {listed(new, _SHOWN)}." if new else "No table is new in the models."

    def part(self, text: str, old: str, new: str) -> Rename:
        """Return the rename of a column, an index, or a constraint."""
        schema, bare, present, name = self._place(text, old)
        key = join_key(schema, bare)
        table = old.rpartition(".")[0]
        target = new.removeprefix(f"{key}.").removeprefix(f"{table}.")
        if "." in target and target not in self._tables[key].columns:
            raise _error(text, f"A rename cannot move a column to another table. Write {old}=NEW, without a table.")
        columns = {each["name"]: each for each in self._inspector.get_columns(present, schema)}
        if name in columns:
            self._check_column(text, self._tables[key], columns, name, target)
            return Rename("column", bare, name, target, schema, _reflected(columns[name], self._tables[key], target))
        if kind := self._kind(text, present, schema, name):
            self._check_named(text, self._tables[key], name, target)
            return Rename(kind, bare, name, target, schema)
        raise self._no_part(text, key, name, columns)

    def check_dropped(self, text: str, old: str) -> None:
        """Check that an object that was not renamed is in the database.

        :raises RevisionInputError: if it is not.
        """
        if self._has_table(*split_key(old)):
            return
        schema, bare, present, name = self._place(text, old)
        columns = [each["name"] for each in self._inspector.get_columns(present, schema)]
        if name not in columns and name not in self._named(present, schema):
            raise self._no_part(text, join_key(schema, bare), name, columns)

    def _place(self, text: str, old: str) -> tuple[str | None, str, str, str]:
        """Return the schema, the new name, and the present name of the table of a part, and the name of the part."""
        table, _, name = old.rpartition(".")
        if not table:
            gone = f"These tables are only in the database: {listed(self._gone, _SHOWN)}." if self._gone else ""
            raise _error(text, f"The database has no table {old}. {did_you_mean(old, self._gone) or gone}".rstrip())
        schema, bare = split_key(table)
        bare = self.renames.new_table(schema, bare)
        key, present = join_key(schema, bare), self.renames.old_table(schema, bare)
        if not self._has_table(schema, present):
            raise _error(text, f"The database has no table {table}. {did_you_mean(table, [*self._tables])}".rstrip())
        if key not in self._tables:
            raise _error(text, f"The models have no table {key}. If it was renamed, too, add --rename {key}=NEW.")
        return schema, bare, present, name

    def _no_part(self, text: str, key: str, name: str, columns: Iterable[str]) -> RevisionInputError:
        gone = [each for each in columns if each not in self._tables[key].columns]
        has = f" These columns are only in the database: {listed(gone, _SHOWN)}." if gone else ""
        return _error(text, f"The table {key} in the database has no column, index, or constraint {name}.{has}")

    def _check_column(self, text: str, table: Table, columns: Collection[str], name: str, target: str) -> None:
        new = [column.name for column in table.columns if column.name not in columns]
        if name in {column.name for column in table.columns}:
            raise _error(text, f"The models still have the column {table.key}.{name}.")
        if target not in new:
            has = f"New in the models: {listed(new, _SHOWN)}." if new else f"No column of {table.key} is new."
            raise _error(text, f"{table.key}.{target} is not a new column of the models. {has}")

    def _check_named(self, text: str, table: Table, name: str, target: str) -> None:
        """Check the new name of an index or a constraint, unless the table has unnamed ones, which are named later."""
        preparer = self._inspector.dialect.identifier_preparer
        items: list[Constraint | Index] = [
            *table.indexes,
            *(each for each in table.constraints if each is not table.primary_key or each.name),
        ]
        names = {None if each.name is None else preparer.format_constraint(each) for each in items}
        if preparer.quote(name) in names:
            raise _error(text, f"The models still have {name} in the table {table.key}.")
        if preparer.quote(target) not in names and None not in names:
            has = listed(sorted(each for each in names if each), _SHOWN) or "none"
            raise _error(
                text, f"The models have no index or constraint {target} in the table {table.key}. It has {has}."
            )

    def _named(self, table: str, schema: str | None) -> dict[str | None, str]:
        """Return the kinds of the indexes and constraints of a table, by their names."""
        keys = [each["name"] for each in self._inspector.get_foreign_keys(table, schema)]
        keys.append(self._inspector.get_pk_constraint(table, schema).get("name"))
        uniques = [each["name"] for each in self._inspector.get_unique_constraints(table, schema)]
        indexes = [each["name"] for each in self._inspector.get_indexes(table, schema)]
        return {
            **dict.fromkeys(indexes, "index"),
            **dict.fromkeys(uniques, "constraint"),
            **dict.fromkeys(keys, "key"),
        }

    def _kind(self, text: str, table: str, schema: str | None, name: str) -> str:
        """Return whether a name is that of an index or a constraint; empty if it is neither."""
        kind = self._named(table, schema).get(name, "")
        if kind and not can_rename(self._inspector.dialect.name, is_key=kind == "key"):
            raise _error(
                text,
                f"{self._inspector.dialect.name} cannot rename {name}. Leave this option out. The revision then drops"
                f" {name}, and creates it with the new name.",
            )
        return "constraint" if kind == "key" else kind


def _without(schema: str | None, name: str) -> str:
    return name.removeprefix(f"{schema}.") if schema else name


def _error(text: str, why: str) -> RevisionInputError:
    return RevisionInputError(f"--rename {text}: {why}", package="")
