"""Reading the enum types of PostgreSQL, in the models and in the database, and what uses them."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

from sqlalchemy import Table, TypeDecorator, inspect, text
from sqlalchemy.dialects.postgresql import ENUM

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from sqlalchemy.engine import Connection, Dialect
    from sqlalchemy.types import TypeEngine

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
_USES_OF_LABELS = text("""
    SELECT tn.nspname, t.typname, n.nspname, c.relname, used.name, used.kind, used.definition
    FROM (
        SELECT ic.relname AS name, CASE WHEN indisunique THEN 'UNIQUE INDEX' ELSE 'INDEX' END AS kind,
            indexrelid AS id, indrelid AS of_table,
            substring(pg_get_indexdef(indexrelid) FROM ' (USING .*)') AS definition
        FROM pg_index JOIN pg_class ic ON ic.oid = indexrelid AND NOT ic.relispartition
        UNION ALL
        SELECT conname, 'CONSTRAINT', oid, conrelid, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE contype = 'c' AND coninhcount = 0
    ) used
    JOIN pg_depend d ON d.objid = used.id AND d.refclassid = 'pg_type'::regclass
        AND d.classid = CASE used.kind WHEN 'CONSTRAINT' THEN 'pg_constraint'::regclass ELSE 'pg_class'::regclass END
    JOIN pg_type t ON d.refobjid IN (t.oid, t.typarray) AND t.typtype = 'e'
    JOIN pg_namespace tn ON tn.oid = t.typnamespace
    JOIN pg_class c ON c.oid = used.of_table
    JOIN pg_namespace n ON n.oid = c.relnamespace
    GROUP BY 1, 2, 3, 4, 5, 6, 7
    ORDER BY 3, 4, 5
""")

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


@dataclass(frozen=True, slots=True)
class LabelUse:
    """An index or a check constraint that contains labels of an enum type, which PostgreSQL does not convert.

    :ivar kind: ``INDEX``, ``UNIQUE INDEX``, or ``CONSTRAINT``.
    :ivar definition: what follows the names in the statement that creates it.
    """

    table: Name
    name: str
    kind: str
    definition: str


@dataclass
class Catalog:
    """The enum types in a database, which are read when they are first needed.

    :ivar tables: the tables of the models.
    """

    connection: Connection
    default_schema: str
    tables: Collection[Table]

    @cached_property
    def of_models(self) -> Mapping[Name, ENUM]:
        """The enum types of the models; of several with the same name, the first."""
        found: dict[Name, ENUM] = {}
        for type_ in (column.type for table in self.tables for column in table.columns):
            if (enum := native_enum(type_, self.dialect)) is not None:
                found.setdefault(self.key(enum.schema, enum.name), enum)
        return found

    @property
    def dialect(self) -> Dialect:
        """The dialect of the database."""
        return self.connection.dialect

    def key(self, schema: str | None, name: str | None) -> Name:
        """Return the schema and the name of an object, whose schema may be the default one."""
        return str(schema or self.default_schema), str(name)

    @cached_property
    def labels(self) -> Mapping[Name, Sequence[str]]:
        """The labels of the enum types in the database."""
        found: Any = inspect(self.connection)
        return {(each["schema"], each["name"]): each["labels"] for each in found.get_enums(schema="*")}

    @cached_property
    def columns(self) -> Mapping[Name, Sequence[EnumColumn]]:
        """The columns in the database that have an enum type, by the type."""
        found: dict[Name, list[EnumColumn]] = {}
        for schema, name, table_schema, table, column, is_array, default in self.connection.execute(_COLUMNS_OF_ENUMS):
            of_type = found.setdefault((schema, name), [])
            of_type.append(EnumColumn((table_schema, table), column, is_array, default))
        return found

    @cached_property
    def uses(self) -> Mapping[Name, Sequence[LabelUse]]:
        """The indexes and check constraints in the database that contain labels, by the type."""
        found: dict[Name, list[LabelUse]] = {}
        for schema, name, table_schema, table, *use in self.connection.execute(_USES_OF_LABELS):
            found.setdefault((schema, name), []).append(LabelUse((table_schema, table), *use))
        return found


_catalogs: WeakKeyDictionary[AutogenContext, Catalog] = WeakKeyDictionary()


def catalog_of(autogen: AutogenContext) -> Catalog:
    """Return the enum types that a comparison sees, which are read once."""
    if autogen not in _catalogs:
        connection = autogen.connection
        assert connection is not None  # noqa: S101  # a comparison has a connection
        tables = [*autogen.table_key_to_table.values()]
        _catalogs[autogen] = Catalog(connection, str(connection.dialect.default_schema_name), tables)
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
