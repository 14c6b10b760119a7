"""Creating, changing, and dropping the enum types of PostgreSQL, and creating schemas.

SQLAlchemy creates an enum type with a table, but not with a column, and Alembic neither drops nor compares types. So
each type gets operations of its own, and the columns are rendered without the creation of their types.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

from alembic.autogenerate import renderers
from alembic.autogenerate.render import render_op_text
from alembic.operations import ops
from sqlalchemy import Column, Table, TypeDecorator, inspect, text
from sqlalchemy.dialects.postgresql import ENUM

from ampho.revise.autogenerate.operations.describe import Change
from ampho.revise.autogenerate.owners.ownership import split_key

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from sqlalchemy.engine import Connection, Dialect
    from sqlalchemy.types import TypeEngine

    from ampho.revise.autogenerate.operations.changes import Changes

_PLUGIN = "alembic_postgresql_enum"
_COLUMNS_OF_ENUMS = text("""
    SELECT tn.nspname, t.typname, n.nspname, c.relname, a.attname, a.atttypid <> t.oid, pg_get_expr(d.adbin, d.adrelid)
    FROM pg_type t
    JOIN pg_namespace tn ON tn.oid = t.typnamespace
    JOIN pg_attribute a ON a.atttypid IN (t.oid, t.typarray) AND NOT a.attisdropped AND a.attinhcount = 0
    JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p')
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE t.typtype = 'e'
    ORDER BY n.nspname, c.relname, a.attnum
""")
_TEXT = re.compile(r"('(?:[^']|'')*')::[\w \".]+$")
_NOT_A_PARAMETER = re.compile(r"(?<![:\w\\]):(?=\w)")

Name: TypeAlias = tuple[str, str]
"""The schema and the name of an object in the database."""


@dataclass(frozen=True, slots=True)
class EnumColumn:
    """A column that has an enum type, or an array of an enum type.

    :ivar default: the default of the column as SQL, or None.
    :ivar had_default: whether the column has another default before its type changes.
    """

    table: Name
    name: str
    is_array: bool
    default: str | None
    had_default: bool = False


class CreateEnumOp(ops.ExecuteSQLOp):
    """Creates an enum type, and drops it in the downgrade.

    :ivar is_owned: whether the package owns the type; if not, the downgrade keeps the type.
    """

    def __init__(self, enum: ENUM, *, is_owned: bool = True) -> None:
        super().__init__(f"CREATE TYPE {enum.name}")
        self.enum: ENUM = enum
        self.is_owned = is_owned
        self.change: Change = Change("+", "enum type", _shown(enum), ", ".join(enum.enums))

    def reverse(self) -> ops.MigrateOperation:
        """Return the operation of the downgrade."""
        return DropEnumOp(self.enum) if self.is_owned else NoOp()


class DropEnumOp(ops.ExecuteSQLOp):
    """Drops an enum type, and creates it in the downgrade."""

    def __init__(self, enum: ENUM) -> None:
        super().__init__(f"DROP TYPE {enum.name}")
        self.enum: ENUM = enum
        self.change: Change = Change("-", "enum type", _shown(enum))

    def reverse(self) -> CreateEnumOp:
        """Return the operation of the downgrade."""
        return CreateEnumOp(self.enum)


class ChangeLabelsOp(ops.ExecuteSQLOp):
    """Adds labels to an enum type or removes labels, and does the opposite in the downgrade.

    PostgreSQL has no statement that removes a label. The type is replaced by a new one, which fails if a row contains a
    removed label.

    :ivar old: the labels before.
    :ivar new: the labels after.
    :ivar columns: the columns that have the type.
    :ivar commits: whether new labels are used in the same revision, so they have to be committed first.
    """

    def __init__(self, enum: ENUM, old: Sequence[str], new: Sequence[str], columns: Sequence[EnumColumn]) -> None:
        super().__init__(f"ALTER TYPE {enum.name}")
        self.enum: ENUM = enum
        self.old: tuple[str, ...] = tuple(old)
        self.new: tuple[str, ...] = tuple(new)
        self.columns: Sequence[EnumColumn] = columns
        self.commits = False
        detail = [f"+ {label}" for label in self.added] + [f"- {label}" for label in old if label not in new]
        risk = ""
        if not self.added:
            risk = (
                f"The enum type {_shown(enum)} loses the labels {', '.join(each[2:] for each in detail)}. The revision"
                " fails if rows contain them. If a label was renamed, write ALTER TYPE ... RENAME VALUE instead."
            )
        self.change: Change = Change("~", "enum type", _shown(enum), ", ".join(detail), risk=risk)

    @property
    def added(self) -> list[str]:
        """The labels that are added; empty if labels are removed."""
        return [label for label in self.new if label not in self.old]

    def reverse(self) -> ChangeLabelsOp:
        """Return the operation of the downgrade."""
        return ChangeLabelsOp(self.enum, self.new, self.old, self.columns)


class CreateSchemaOp(ops.ExecuteSQLOp):
    """Creates a schema. The downgrade keeps the schema, because it may contain other objects."""

    def __init__(self, name: str) -> None:
        super().__init__(f"CREATE SCHEMA {name}")
        self.name = name
        self.change: Change = Change("+", "schema", name)

    def reverse(self) -> NoOp:
        """Return the operation of the downgrade."""
        return NoOp()


class NoOp(ops.ExecuteSQLOp):
    """Does nothing."""

    def __init__(self) -> None:
        super().__init__("")

    def reverse(self) -> NoOp:
        """Return the operation of the downgrade."""
        return self


def _shown(enum: ENUM) -> str:
    return f"{enum.schema}.{enum.name}" if enum.schema else str(enum.name)


# ---- Finding what differs ----


@dataclass
class _Catalog:
    """The enum types in a database, which are read when they are first needed."""

    connection: Connection
    default_schema: str
    tables: Collection[Table]
    of_models: Mapping[Name, list[tuple[Table, ENUM]]] = field(init=False)

    def __post_init__(self) -> None:
        found: dict[Name, list[tuple[Table, ENUM]]] = {}
        for table in self.tables:
            for column in table.columns:
                if (enum := native_enum(column.type, self.dialect)) is not None:
                    found.setdefault(self.name(enum), []).append((table, enum))
        self.of_models = found

    @property
    def dialect(self) -> Dialect:
        return self.connection.dialect

    def name(self, enum: ENUM) -> Name:
        return str(enum.schema or self.default_schema), str(enum.name)

    @cached_property
    def labels(self) -> Mapping[Name, Sequence[str]]:
        found: Any = inspect(self.connection)
        return {(each["schema"], each["name"]): each["labels"] for each in found.get_enums(schema="*")}

    @cached_property
    def columns(self) -> Mapping[Name, Sequence[EnumColumn]]:
        found: dict[Name, list[EnumColumn]] = {}
        for schema, name, table_schema, table, column, is_array, default in self.connection.execute(_COLUMNS_OF_ENUMS):
            of_type = found.setdefault((schema, name), [])
            of_type.append(EnumColumn((table_schema, table), column, is_array, default))
        return found


_catalogs: WeakKeyDictionary[AutogenContext, _Catalog] = WeakKeyDictionary()


def _catalog(autogen: AutogenContext) -> _Catalog:
    if autogen not in _catalogs:
        connection = autogen.connection
        assert connection is not None  # noqa: S101  # a comparison has a connection
        tables = [*autogen.table_key_to_table.values()]
        _catalogs[autogen] = _Catalog(connection, str(connection.dialect.default_schema_name), tables)
    return _catalogs[autogen]


def renders_enums(autogen: AutogenContext) -> bool:
    """Return whether Ampho creates enum types: on PostgreSQL, unless a plug-in for Alembic does."""
    return autogen.dialect.name == "postgresql" and _PLUGIN not in sys.modules


def native_enum(type_: TypeEngine[Any], dialect: Dialect) -> ENUM | None:
    """Return the enum type of PostgreSQL that a column's type is or contains; None if there is none."""
    used = type_.dialect_impl(dialect)
    if isinstance(used, TypeDecorator):
        used = used.type_engine(dialect)
    item = getattr(used, "item_type", None)
    if item is not None:
        return native_enum(item, dialect)
    return used if isinstance(used, ENUM) and used.name else None


def change_enums(changes: Changes) -> None:
    """Create the enum types of new columns, change types whose labels differ, and drop types that are no longer used.

    A type that several packages use belongs to one of them, on which the others depend.
    """
    if not renders_enums(changes.autogen):
        return
    catalog = _catalog(changes.autogen)
    new = _named(catalog, changes.upgrade.ops)
    gone = _named(catalog, changes.upgrade.ops, dropped=True)
    owners = {name: _owner(changes, name) for name in new}
    created = [
        CreateEnumOp(enum, is_owned=owners[name] == changes.package)
        for name, enum in new.items()
        if getattr(enum, "create_type", True) and name not in catalog.labels
    ]
    dropped = [
        DropEnumOp(enum)
        for name, enum in gone.items()
        if name in catalog.labels and name not in catalog.of_models and not _left(catalog, name, changes)
    ]
    added, removed = _changed_labels(changes, catalog)
    changes.upgrade.ops[:] = [*created, *added, *changes.upgrade.ops, *removed, *dropped]


def _named(catalog: _Catalog, operations: Iterable[ops.MigrateOperation], *, dropped: bool = False) -> dict[Name, ENUM]:
    enums = [native_enum(type_, catalog.dialect) for type_ in _types(operations, dropped=dropped)]
    return {catalog.name(enum): enum for enum in enums if enum is not None}


def _types(operations: Iterable[ops.MigrateOperation], *, dropped: bool) -> Iterator[TypeEngine[Any]]:
    """Yield the types of the columns that operations create or drop."""
    for operation in operations:
        found = operation
        if isinstance(operation, ops.OpContainer):
            yield from _types(operation.ops, dropped=dropped)
        elif isinstance(operation, ops.AlterColumnOp):
            type_ = operation.existing_type if dropped else operation.modify_type
            if operation.modify_type is not None and type_ is not None:
                yield type_
        elif isinstance(operation, ops.DropTableOp | ops.DropColumnOp):
            found = operation.reverse() if dropped else operation
        elif dropped:
            continue
        if isinstance(found, ops.CreateTableOp):
            yield from (item.type for item in found.columns if isinstance(item, Column))
        elif isinstance(found, ops.AddColumnOp):
            yield found.column.type


def _left(catalog: _Catalog, name: Name, changes: Changes) -> list[EnumColumn]:
    """Return the columns that still have a type after an upgrade that drops some columns."""
    dropped: set[tuple[Name, str]] = set()
    for operation in changes.operations():
        if isinstance(operation, ops.DropTableOp):
            dropped.add(((operation.schema or catalog.default_schema, operation.table_name), ""))
        elif isinstance(operation, ops.DropColumnOp) or (
            isinstance(operation, ops.AlterColumnOp) and operation.modify_type is not None
        ):
            dropped.add(((operation.schema or catalog.default_schema, operation.table_name), operation.column_name))
    columns = catalog.columns.get(name, ())
    return [each for each in columns if dropped.isdisjoint({(each.table, ""), (each.table, each.name)})]


def _owner(changes: Changes, name: Name) -> str:
    return changes.objects.owner_of_type(name[1], name[0]) or changes.package


def _changed_labels(changes: Changes, catalog: _Catalog) -> tuple[list[ChangeLabelsOp], list[ChangeLabelsOp]]:
    """Return the operations that add labels, which come first, and those that remove labels, which come last."""
    added: list[ChangeLabelsOp] = []
    removed: list[ChangeLabelsOp] = []
    for name, users in catalog.of_models.items():
        enum = users[0][1]
        if not getattr(enum, "create_type", True) or _owner(changes, name) != changes.package:
            continue
        old = catalog.labels.get(name)
        if old is None or set(old) == set(enum.enums):
            continue
        union = _union(old, enum.enums)
        if union != [*old]:
            added.append(ChangeLabelsOp(enum, old, union, catalog.columns.get(name, ())))
        final = [label for label in union if label in enum.enums]
        if final != union:
            removed.append(ChangeLabelsOp(enum, union, final, _later_columns(name, final, changes, catalog)))
    return added, removed


def _union(old: Sequence[str], new: Sequence[str]) -> list[str]:
    """Return the old and the new labels, with each new label in its place."""
    labels = [*old]
    for number, label in enumerate(new):
        if label not in labels:
            labels.insert(labels.index(new[number - 1]) + 1 if number else 0, label)
    return labels


def _later_columns(name: Name, labels: Sequence[str], changes: Changes, catalog: _Catalog) -> list[EnumColumn]:
    """Return the columns that have a type after an upgrade."""
    left = _left(catalog, name, changes)
    known = {(each.table, each.name) for each in left}
    new = [
        EnumColumn(table, column.name, _is_array(column.type, catalog), None)
        for table, column in _new_columns(changes.operations(), catalog)
        if (enum := native_enum(column.type, catalog.dialect)) is not None and catalog.name(enum) == name
    ]
    new = [each for each in new if (each.table, each.name) not in known]
    return [_with_models_default(each, labels, changes, catalog) for each in (*left, *new)]


def _is_array(type_: TypeEngine[Any], catalog: _Catalog) -> bool:
    return getattr(type_.dialect_impl(catalog.dialect), "item_type", None) is not None


def _new_columns(operations: Iterable[ops.MigrateOperation], catalog: _Catalog) -> Iterator[tuple[Name, Column[Any]]]:
    for operation in operations:
        if isinstance(operation, ops.CreateTableOp):
            columns = [item for item in operation.columns if isinstance(item, Column)]
        elif isinstance(operation, ops.AddColumnOp):
            columns = [operation.column]
        elif isinstance(operation, ops.AlterColumnOp) and operation.modify_type is not None:
            columns = [Column(operation.column_name, operation.modify_type)]
        else:
            continue
        table = (str(operation.schema or catalog.default_schema), operation.table_name)
        yield from ((table, column) for column in columns)


def _with_models_default(column: EnumColumn, labels: Sequence[str], changes: Changes, catalog: _Catalog) -> EnumColumn:
    """Return a column with the default that it has after an upgrade, which may replace a label that is removed."""
    changed = any(
        isinstance(each, ops.AlterColumnOp)
        and each.modify_server_default is not False
        and (str(each.schema or catalog.default_schema), each.table_name, each.column_name)
        == (*column.table, column.name)
        for each in changes.operations()
    )
    if not changed and column.default is not None and any(_literal(label) in column.default for label in labels):
        return column
    for table in catalog.tables:
        if (str(table.schema or catalog.default_schema), table.name) == column.table and column.name in table.columns:
            default = getattr(table.columns[column.name].server_default, "arg", None)
            shown = _literal(default) if isinstance(default, str) else None if default is None else str(default)
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


def create_schemas(changes: Changes) -> None:
    """Create the missing schemas of new tables, or warn about them where a schema is a database of its own."""
    autogen = changes.autogen
    made = [operation for operation in changes.upgrade.ops if isinstance(operation, ops.CreateTableOp)]
    wanted = {str(each.schema) for each in made if each.schema} - {str(autogen.dialect.default_schema_name)}
    if autogen.dialect.name == "postgresql":
        enums = [each.enum for each in changes.upgrade.ops if isinstance(each, CreateEnumOp)]
        wanted |= {str(enum.schema) for enum in enums if enum.schema}
    if not wanted:
        return
    missing = sorted(wanted.difference(autogen.inspector.get_schema_names()))
    if autogen.dialect.name == "postgresql":
        changes.upgrade.ops[:0] = [CreateSchemaOp(name) for name in missing]
        return
    how = "Attach it before the revision runs" if autogen.dialect.name == "sqlite" else "Create it first"
    changes.warnings += [
        f"The models of {changes.package} have tables in the schema {name}, which is a database of its own on"
        f" {autogen.dialect.name}, and does not exist. {how}."
        for name in missing
    ]


class CastColumnOp(ops.AlterColumnOp):
    """Changes the type of a column to or from an enum type, for which PostgreSQL requires ``USING``.

    :ivar using: the SQL that converts the values.
    :ivar back: the SQL that converts the values in the downgrade.
    """

    using = ""
    back = ""

    def reverse(self) -> CastColumnOp:
        """Return the operation of the downgrade."""
        return _cast(super().reverse(), self.back, self.using)


def _cast(operation: ops.AlterColumnOp, using: str, back: str) -> CastColumnOp:
    found = CastColumnOp(operation.table_name, operation.column_name)
    vars(found).update(vars(operation))
    found.using, found.back = using, back
    return found


def cast_enums(changes: Changes) -> None:
    """Convert the values of columns whose type becomes, or is no longer, an enum type."""
    if not renders_enums(changes.autogen):
        return
    for table in changes.upgrade.ops:
        if isinstance(table, ops.ModifyTableOps):
            table.ops[:] = [part for each in table.ops for part in _with_cast(each, changes.autogen)]


def _with_cast(operation: ops.MigrateOperation, autogen: AutogenContext) -> Iterator[ops.MigrateOperation]:
    """Yield an operation or, in its place, those that convert a column and its default, because PostgreSQL does not."""
    if not isinstance(operation, ops.AlterColumnOp) or operation.modify_type is None or operation.existing_type is None:
        yield operation
        return
    old, new = operation.existing_type, operation.modify_type
    if all(native_enum(type_, autogen.dialect) is None for type_ in (old, new)):
        yield operation
        return
    column = _Sql(autogen).column(operation.column_name)
    before: Any = operation.existing_server_default
    after: Any = operation.modify_server_default
    after = _without_cast(before) if after is False else getattr(after, "arg", after)
    if before is not None and before is not False:
        yield _change_of_default(operation, old, before, None)
    operation.existing_server_default, operation.modify_server_default = False, False
    dialect = autogen.dialect
    using, back = (f"{column}::text::{type_.compile(dialect=dialect)}".replace("%%", "%") for type_ in (new, old))
    yield _cast(operation, using, back)
    if after is not None and after is not False:
        yield _change_of_default(operation, new, None, after)


def _change_of_default(operation: ops.AlterColumnOp, type_: Any, before: Any, after: Any) -> ops.AlterColumnOp:  # noqa: ANN401 (Alembic's types)
    """Return an operation that changes the default of the column that an operation changes."""
    return ops.AlterColumnOp(
        operation.table_name,
        operation.column_name,
        existing_type=type_,
        existing_server_default=before,
        modify_server_default=after,
        schema=operation.schema,
        existing_nullable=operation.existing_nullable,
    )


def _without_cast(default: Any) -> Any:  # noqa: ANN401 (a default of any form)
    """Return a default; if it is a string, without the type that PostgreSQL adds to it."""
    found = _TEXT.match(str(getattr(default, "arg", default)))
    return text(found[1]) if found else default


def schemas_of(keys: Iterable[str]) -> set[str]:
    """Return the schemas in the keys of tables."""
    return {schema for schema, _ in map(split_key, keys) if schema}


# ---- Rendering ----


def _literal(value: str) -> str:
    doubled = value.replace("'", "''")
    return f"'{doubled}'"


class _Sql:
    """Quotes names, and renders statements as calls."""

    def __init__(self, autogen: AutogenContext) -> None:
        self._quote = autogen.dialect.identifier_preparer.quote
        self._default = autogen.dialect.default_schema_name
        self._prefix = autogen.opts["alembic_module_prefix"] or ""

    def name(self, schema: str | None, name: str) -> str:
        quoted = self.column(name)
        return quoted if schema in (None, self._default) else f"{self.column(str(schema))}.{quoted}"

    def column(self, name: str) -> str:
        return self._quote(name).replace("%%", "%")  # op.execute() doubles the sign if the driver needs that

    def execute(self, sql: str) -> str:
        return f"{self._prefix}execute({_NOT_A_PARAMETER.sub(chr(92) + ':', sql)!r})"


def _enum(enum: ENUM, autogen: AutogenContext, labels: Sequence[str] = ()) -> str:
    prefix = autogen.opts["sqlalchemy_module_prefix"] or ""
    schema = [f"schema={str(enum.schema)!r}"] if enum.schema else []
    return f"{prefix}Enum({', '.join([*map(repr, labels), f'name={str(enum.name)!r}', *schema])})"


def _bind(autogen: AutogenContext) -> str:
    return f"{autogen.opts['alembic_module_prefix'] or ''}get_bind()"


@renderers.dispatch_for(CreateEnumOp)
def _render_create(autogen: AutogenContext, operation: CreateEnumOp) -> str:
    enum = _enum(operation.enum, autogen, operation.enum.enums)
    return f"{enum}.create({_bind(autogen)}, checkfirst=True)"


@renderers.dispatch_for(DropEnumOp)
def _render_drop(autogen: AutogenContext, operation: DropEnumOp) -> str:
    return f"{_enum(operation.enum, autogen)}.drop({_bind(autogen)}, checkfirst=True)"


@renderers.dispatch_for(CreateSchemaOp)
def _render_schema(autogen: AutogenContext, operation: CreateSchemaOp) -> str:
    sql = _Sql(autogen)
    return sql.execute(f"CREATE SCHEMA IF NOT EXISTS {sql.column(operation.name)}")


@renderers.dispatch_for(CastColumnOp)
def _render_cast(autogen: AutogenContext, operation: CastColumnOp) -> str:
    plain = ops.AlterColumnOp(operation.table_name, operation.column_name)
    vars(plain).update({name: value for name, value in vars(operation).items() if name not in ("using", "back")})
    text = render_op_text(autogen, plain).rstrip()
    return f"{text.removesuffix(')')},\n{' ' * 15}postgresql_using={operation.using!r})"


@renderers.dispatch_for(NoOp)
def _render_nothing(autogen: AutogenContext, operation: NoOp) -> list[str]:
    return []


@renderers.dispatch_for(ChangeLabelsOp)
def _render_labels(autogen: AutogenContext, operation: ChangeLabelsOp) -> list[str]:
    sql = _Sql(autogen)
    if not operation.added:
        return [sql.execute(statement) for statement in _replace_type(operation, sql)]
    lines = [sql.execute(statement) for statement in _add_labels(operation, sql)]
    if not operation.commits:
        return lines
    prefix = autogen.opts["alembic_module_prefix"] or ""
    return [f"with {prefix}get_context().autocommit_block():", *lines, ""]


def _add_labels(operation: ChangeLabelsOp, sql: _Sql) -> Iterator[str]:
    name, labels = sql.name(operation.enum.schema, str(operation.enum.name)), [*operation.old]
    for number, label in enumerate(operation.new):
        if label not in labels:
            place = ""
            if number < len(labels):
                place = f" AFTER {_literal(labels[number - 1])}" if number else f" BEFORE {_literal(labels[0])}"
            yield f"ALTER TYPE {name} ADD VALUE IF NOT EXISTS {_literal(label)}{place}"
            labels.insert(number, label)


def _replace_type(operation: ChangeLabelsOp, sql: _Sql) -> Iterator[str]:
    schema, name = operation.enum.schema, str(operation.enum.name)
    new, old = sql.name(schema, name), sql.name(schema, f"{name[:58]}_old")
    yield f"ALTER TYPE {new} RENAME TO {sql.column(f'{name[:58]}_old')}"
    yield f"CREATE TYPE {new} AS ENUM ({', '.join(map(_literal, operation.new))})"
    for each in operation.columns:
        alter = f"ALTER TABLE {sql.name(*each.table)} ALTER COLUMN {sql.column(each.name)}"
        many = "[]" if each.is_array else ""
        if each.had_default or each.default is not None:
            yield f"{alter} DROP DEFAULT"
        yield f"{alter} TYPE {new}{many} USING {sql.column(each.name)}::text{many}::{new}{many}"
        if each.default is not None:
            yield f"{alter} SET DEFAULT {each.default}"
    yield f"DROP TYPE {old}"
