"""Resolving the renames of the option ``--rename``, and finding those that the database forces."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from alembic.operations import ops

from ampho._text import did_you_mean, listed
from ampho.errors import RevisionInputError
from ampho.revise.autogenerate.ask.renames import Rename, Renames, can_rename
from ampho.revise.autogenerate.operations.changes import table_key
from ampho.revise.autogenerate.owners.keys import join_key, split_key

if TYPE_CHECKING:
    from sqlalchemy import Constraint, Index, Table
    from sqlalchemy.engine import Inspector
    from sqlalchemy.engine.interfaces import ReflectedColumn

_SHOWN = 20


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


def _reflected(column: ReflectedColumn, table: Table, name: str) -> Mapping[str, Any]:
    """Return a reflected column, with the type in the model if SQLAlchemy does not recognize the type."""
    from sqlalchemy.types import NullType

    if not isinstance(column["type"], NullType):
        return column
    return {**column, "type": next(each.type for each in table.columns if each.name == name)}


def _without(schema: str | None, name: str) -> str:
    return name.removeprefix(f"{schema}.") if schema else name


def _error(text: str, why: str) -> RevisionInputError:
    return RevisionInputError(f"--rename {text}: {why}", package="")
