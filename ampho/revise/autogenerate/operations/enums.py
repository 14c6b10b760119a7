"""Creating, changing, and dropping the enum types of PostgreSQL.

SQLAlchemy creates an enum type with a table, but not with a column, and Alembic neither drops nor compares types. So
each type gets operations of its own, and the columns are rendered without the creation of their types.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from alembic.autogenerate import renderers
from alembic.autogenerate.render import render_op_text
from alembic.operations import ops
from sqlalchemy import Column
from sqlalchemy.dialects.postgresql import ENUM

from ampho.history.sql import string_literal
from ampho.operations.columns import label_statements
from ampho.revise.autogenerate.operations.describe import Change
from ampho.revise.autogenerate.operations.enum_catalog import (
    Catalog,
    EnumColumn,
    LabelUse,
    Name,
    catalog_of,
    native_enum,
    renders_enums,
)
from ampho.revise.autogenerate.operations.statements import Statement, literal_sql, quoted
from ampho.revise.autogenerate.owners.keys import join_key

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from sqlalchemy.engine import Dialect
    from sqlalchemy.types import TypeEngine

    from ampho.revise.autogenerate.operations.changes import Changes

# A string, a cast, and a function match, too, so that no name inside them does.
_NAME = re.compile(r"""'(?:[^']|'')*' | ::\s*[\w".]+ | [^\W\d]\w*\s*\( | "(?:[^"]|"")*" | [^\W\d]\w*""", re.VERBOSE)


class EnumOp(Statement):
    """Creates or drops an enum type, and does the opposite in the downgrade.

    :ivar creates: whether the type is created.
    :ivar is_owned: whether the package owns the type; if not, the downgrade keeps the type.
    """

    def __init__(self, enum: ENUM, *, creates: bool, is_owned: bool = True) -> None:
        name, labels = join_key(enum.schema, str(enum.name)), ", ".join(enum.enums)
        super().__init__("", Change("+", "enum type", name, labels) if creates else Change("-", "enum type", name))
        self.enum: ENUM = enum
        self.creates = creates
        self.is_owned = is_owned

    def reverse(self) -> ops.MigrateOperation:
        """Return the operation of the downgrade."""
        return EnumOp(self.enum, creates=not self.creates) if self.is_owned else super().reverse()


class ChangeLabelsOp(Statement):
    """Adds labels to an enum type or removes labels, and does the opposite in the downgrade.

    PostgreSQL has no statement that removes a label. The type is replaced by a new one, which fails if a row contains a
    removed label.

    :ivar old: the labels before.
    :ivar new: the labels after.
    :ivar columns: the columns that have the type.
    :ivar uses: the indexes and check constraints that contain labels of the type, if it is replaced.
    :ivar commits: whether new labels are used in the same revision, so they have to be committed first.
    """

    def __init__(
        self,
        enum: ENUM,
        old: Sequence[str],
        new: Sequence[str],
        columns: Sequence[EnumColumn],
        uses: Sequence[LabelUse],
    ) -> None:
        self.enum: ENUM = enum
        self.old: tuple[str, ...] = tuple(old)
        self.new: tuple[str, ...] = tuple(new)
        self.columns: Sequence[EnumColumn] = columns
        self.uses: Sequence[LabelUse] = uses
        self.commits = False
        name, removed = join_key(enum.schema, str(enum.name)), [label for label in old if label not in new]
        detail = ", ".join([*(f"+ {label}" for label in self.added), *(f"- {label}" for label in removed)])
        risk = (
            f"The enum type {name} loses the labels {', '.join(removed)}. The revision fails if rows contain them. If a"
            " label was renamed, write ALTER TYPE ... RENAME VALUE instead."
        )
        super().__init__("", Change("~", "enum type", name, detail, risk="" if self.added else risk))

    @property
    def added(self) -> list[str]:
        """The labels that are added; empty if labels are removed."""
        return [label for label in self.new if label not in self.old]

    def reverse(self) -> ChangeLabelsOp:
        """Return the operation of the downgrade."""
        return ChangeLabelsOp(self.enum, self.new, self.old, self.columns, self.uses)


def change_enums(changes: Changes) -> None:
    """Create the enum types of new columns, change types whose labels differ, and drop types that are no longer used.

    A type that several packages use belongs to one of them, on which the others depend.
    """
    if not renders_enums(changes.autogen):
        return
    catalog = catalog_of(changes.autogen)
    created = [
        EnumOp(enum, creates=True, is_owned=_owner(changes, name) == changes.package)
        for name, enum in _named(changes, catalog).items()
        if getattr(enum, "create_type", True) and name not in catalog.labels
    ]
    gone = {(table, column) for table, column, _ in _columns(changes, catalog, dropped=True)}
    dropped = [
        EnumOp(enum, creates=False)
        for name, enum in _named(changes, catalog, dropped=True).items()
        if name in catalog.labels and name not in catalog.of_models and not _left(catalog, name, changes, gone)
    ]
    added, removed = _changed_labels(changes, catalog, gone)
    late = [*_without_removed_labels(changes, removed, catalog)]
    changes.upgrade.ops[:] = [*created, *added, *changes.upgrade.ops, *removed, *late, *dropped]


def _without_removed_labels(
    changes: Changes, removed: Iterable[ChangeLabelsOp], catalog: Catalog
) -> Iterator[ops.ModifyTableOps]:
    """Move the new indexes and check constraints of columns that lose labels out of other changes, and yield them."""
    tables = {column.table for operation in removed for column in operation.columns}
    for change in changes.only(ops.ModifyTableOps):
        late = [each for each in change.ops if isinstance(each, ops.CreateIndexOp | ops.CreateCheckConstraintOp)]
        if late and catalog.key(change.schema, change.table_name) in tables:
            change.ops[:] = [each for each in change.ops if each not in late]
            yield ops.ModifyTableOps(change.table_name, late, schema=change.schema)


def _named(changes: Changes, catalog: Catalog, *, dropped: bool = False) -> dict[Name, ENUM]:
    enums = [native_enum(type_, catalog.dialect) for _, _, type_ in _columns(changes, catalog, dropped=dropped)]
    return {catalog.key(enum.schema, enum.name): enum for enum in enums if enum is not None}


def _columns(
    changes: Changes, catalog: Catalog, *, dropped: bool = False
) -> Iterator[tuple[Name, str, TypeEngine[Any]]]:
    """Yield the columns that an upgrade creates or drops: the table, the name, and the type of each.

    A column whose type changes counts as dropped with the old type, and as created with the new one.
    """
    for operation in changes.operations():
        if not isinstance(operation, ops.CreateTableOp | ops.DropTableOp | ops.AlterTableOp):
            continue
        drops = isinstance(operation, ops.DropTableOp | ops.DropColumnOp)
        columns: list[Column[Any]] = []
        if isinstance(operation, ops.AlterColumnOp) and operation.modify_type is not None:
            type_ = operation.existing_type if dropped else operation.modify_type
            columns = [Column(operation.column_name, type_)]
        elif drops == dropped:
            match operation.reverse() if drops else operation:
                case ops.CreateTableOp(columns=items):
                    columns = [item for item in items if isinstance(item, Column)]
                case ops.AddColumnOp(column=added):
                    columns = [added]
        for column in columns:
            yield catalog.key(operation.schema, operation.table_name), column.name, column.type


def types_of(changes: Changes, *, dropped: bool = False) -> list[TypeEngine[Any]]:
    """Return the types of the columns that an upgrade creates or, if ``dropped``, drops."""
    return [type_ for _, _, type_ in _columns(changes, catalog_of(changes.autogen), dropped=dropped)]


def _left(catalog: Catalog, name: Name, changes: Changes, gone: Collection[tuple[Name, str]]) -> list[EnumColumn]:
    """Return the columns that still have a type after an upgrade.

    :param gone: the tables and the names of the columns that the upgrade drops.
    """
    renamed = _renamed(catalog.columns.get(name, ()), changes, catalog)
    return [each for each in renamed if (each.table, each.name) not in gone]


def _renamed(columns: Iterable[EnumColumn], changes: Changes, catalog: Catalog) -> Iterator[EnumColumn]:
    """Yield columns with the names that they have after an upgrade."""
    tables, names = _new_tables(changes, catalog), _new_columns(changes, catalog)
    for column in columns:
        table = tables.get(column.table, column.table)
        yield replace(column, table=table, name=names.get((table, column.name), column.name))


def _new_columns(changes: Changes, catalog: Catalog) -> Mapping[tuple[Name, str], str]:
    """Return the new names of the columns that an upgrade renames, by the new name of the table and the old name."""
    return {
        (catalog.key(each.schema, each.table_name), each.column_name): str(each.modify_name)
        for each in changes.operations()
        if isinstance(each, ops.AlterColumnOp) and each.modify_name
    }


def _new_tables(changes: Changes, catalog: Catalog) -> Mapping[Name, Name]:
    """Return the new names of the tables that an upgrade renames."""
    return {
        catalog.key(each.schema, each.table_name): catalog.key(each.schema, each.new_table_name)
        for each in changes.only(ops.RenameTableOp)
    }


def _owner(changes: Changes, name: Name) -> str:
    return changes.objects.owner_of_type(name[1], name[0]) or changes.package


def _changed_labels(
    changes: Changes, catalog: Catalog, gone: Collection[tuple[Name, str]]
) -> tuple[list[ChangeLabelsOp], list[ChangeLabelsOp]]:
    """Return the operations that add labels, which come first, and those that remove labels, which come last."""
    added: list[ChangeLabelsOp] = []
    removed: list[ChangeLabelsOp] = []
    for name, enum in catalog.of_models.items():
        if not getattr(enum, "create_type", True) or _owner(changes, name) != changes.package:
            continue
        old = catalog.labels.get(name)
        if old is None or set(old) == set(enum.enums):
            continue
        union = _union(old, enum.enums)
        if union != [*old]:
            added.append(ChangeLabelsOp(enum, old, union, catalog.columns.get(name, ()), catalog.uses.get(name, ())))
        final = [label for label in union if label in enum.enums]
        if final != union:
            left = _left(catalog, name, changes, gone)
            columns = _later_columns(name, final, changes, catalog, left)
            removed.append(ChangeLabelsOp(enum, union, final, columns, [*_left_uses(catalog, name, changes)]))
    return added, removed


def _union(old: Sequence[str], new: Sequence[str]) -> list[str]:
    """Return the old and the new labels, with each new label in its place."""
    labels = [*old]
    for number, label in enumerate(new):
        if label not in labels:
            labels.insert(labels.index(new[number - 1]) + 1 if number else 0, label)
    return labels


def _later_columns(
    name: Name, labels: Sequence[str], changes: Changes, catalog: Catalog, left: Sequence[EnumColumn]
) -> list[EnumColumn]:
    """Return the columns that have a type after an upgrade, which are those that are left, and new ones."""
    known = {(each.table, each.name) for each in left}
    new = [
        EnumColumn(table, column, getattr(type_.dialect_impl(catalog.dialect), "item_type", None) is not None, None)
        for table, column, type_ in _columns(changes, catalog)
        if (enum := native_enum(type_, catalog.dialect)) is not None and catalog.key(enum.schema, enum.name) == name
    ]
    new = [each for each in new if (each.table, each.name) not in known]
    return [_with_models_default(each, labels, changes, catalog) for each in (*left, *new)]


def _left_uses(catalog: Catalog, name: Name, changes: Changes) -> Iterator[LabelUse]:
    """Yield the indexes and check constraints with labels of a type that are left after an upgrade."""
    dropped = {
        (
            catalog.key(each.schema, str(each.table_name)),
            each.index_name if isinstance(each, ops.DropIndexOp) else each.constraint_name,
        )
        for each in changes.operations()
        if isinstance(each, ops.DropIndexOp | ops.DropConstraintOp)
    }
    dropped |= {(catalog.key(each.schema, each.table_name), None) for each in changes.only(ops.DropTableOp)}
    tables, names = _new_tables(changes, catalog), _new_columns(changes, catalog)
    for use in catalog.uses.get(name, ()):
        table = tables.get(use.table, use.table)
        if dropped.isdisjoint([(table, use.name), (table, None)]):
            columns = {old: new for (of, old), new in names.items() if of == table}
            yield replace(use, table=table, definition=_with_new_names(use.definition, columns, catalog.dialect))


def _with_new_names(sql: str, columns: Mapping[str, str], dialect: Dialect) -> str:
    """Return SQL that PostgreSQL printed, with the new names of renamed columns."""

    def new(word: re.Match[str]) -> str:
        name = word[0][1:-1].replace('""', '"') if word[0].startswith('"') else word[0]
        return quoted(columns[name], dialect) if name in columns else word[0]

    return _NAME.sub(new, sql) if columns else sql


def _with_models_default(column: EnumColumn, labels: Sequence[str], changes: Changes, catalog: Catalog) -> EnumColumn:
    """Return a column with the default that it has after an upgrade, which may replace a label that is removed."""
    changed = any(
        isinstance(each, ops.AlterColumnOp)
        and each.modify_server_default is not False
        and (catalog.key(each.schema, each.table_name), each.column_name) == (column.table, column.name)
        for each in changes.operations()
    )
    if not changed and column.default is not None and any(string_literal(label) in column.default for label in labels):
        return column
    for table in catalog.tables:
        if catalog.key(table.schema, table.name) == column.table and column.name in table.columns:
            default = getattr(table.columns[column.name].server_default, "arg", None)
            shown = string_literal(default) if isinstance(default, str) else None if default is None else str(default)
            return replace(column, default=shown, had_default=column.default is not None)
    return column


def commit_used_labels(changes: Changes) -> None:
    """Commit new labels first if the same upgrade or downgrade uses them, which PostgreSQL does not allow otherwise."""
    for container in (changes.upgrade, changes.downgrade):
        added = [each for each in container.ops if isinstance(each, ChangeLabelsOp) and each.added]
        if added:
            others = [each for each in container.ops if not isinstance(each, ChangeLabelsOp)]
            code = "\n".join(render_op_text(changes.autogen, each) for each in others)
            code = re.sub(r"postgresql\.ENUM\(.*?create_type=False\)", "", code)
            for each in added:
                each.commits = any(label in code for label in each.added)


# ---- Rendering ----


def _named_in(schema: str | None, name: str, dialect: Dialect) -> str:
    return quoted(name, dialect, None if schema == dialect.default_schema_name else schema)


@renderers.dispatch_for(EnumOp)
def _render_enum(autogen: AutogenContext, operation: EnumOp) -> str:
    enum, prefix = operation.enum, autogen.opts["sqlalchemy_module_prefix"] or ""
    labels = map(repr, enum.enums if operation.creates else ())
    schema = [f"schema={str(enum.schema)!r}"] if enum.schema else []
    arguments = ", ".join([*labels, f"name={str(enum.name)!r}", *schema])
    bind = f"{autogen.opts['alembic_module_prefix'] or ''}get_bind()"
    return f"{prefix}Enum({arguments}).{'create' if operation.creates else 'drop'}({bind}, checkfirst=True)"


@renderers.dispatch_for(ChangeLabelsOp)
def _render_labels(autogen: AutogenContext, operation: ChangeLabelsOp) -> list[str]:
    statements = (_add_labels if operation.added else _replace_type)(operation, autogen.dialect)
    prefix = autogen.opts["alembic_module_prefix"] or ""
    lines = [f"{prefix}execute({literal_sql(statement)!r})" for statement in statements]
    return [f"with {prefix}get_context().autocommit_block():", *lines, ""] if operation.commits else lines


def _add_labels(operation: ChangeLabelsOp, dialect: Dialect) -> Iterator[str]:
    name = _named_in(operation.enum.schema, str(operation.enum.name), dialect)
    return label_statements(operation.old, operation.new, name, dialect)


def _replace_type(operation: ChangeLabelsOp, dialect: Dialect) -> Iterator[str]:
    schema, name = operation.enum.schema, str(operation.enum.name)
    new, old = _named_in(schema, name, dialect), f"{name[:58]}_old"
    for use in operation.uses:
        constraint = f"ALTER TABLE {_named_in(*use.table, dialect)} DROP CONSTRAINT {quoted(use.name, dialect)}"
        is_index = use.kind != "CONSTRAINT"
        yield f"DROP INDEX {_named_in(use.table[0], use.name, dialect)}" if is_index else constraint
    yield f"ALTER TYPE {new} RENAME TO {quoted(old, dialect)}"
    yield f"CREATE TYPE {new} AS ENUM ({', '.join(map(string_literal, operation.new))})"
    for each in operation.columns:
        column = quoted(each.name, dialect)
        alter = f"ALTER TABLE {_named_in(*each.table, dialect)} ALTER COLUMN {column}"
        many = "[]" if each.is_array else ""
        if each.had_default or each.default is not None:
            yield f"{alter} DROP DEFAULT"
        yield f"{alter} TYPE {new}{many} USING {column}::text{many}::{new}{many}"
        if each.default is not None:
            yield f"{alter} SET DEFAULT {each.default}"
    for use in operation.uses:
        table, name = _named_in(*use.table, dialect), quoted(use.name, dialect)
        is_index = use.kind != "CONSTRAINT"
        start = f"CREATE {use.kind} {name} ON {table}" if is_index else f"ALTER TABLE {table} ADD CONSTRAINT {name}"
        yield f"{start} {use.definition}"
    yield f"DROP TYPE {_named_in(schema, old, dialect)}"
