"""Reading what a PostgreSQL database contains."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, text

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
    UNIQUE,
    Inventory,
    Item,
    qualified,
)

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_SCHEMAS = """
SELECT nspname FROM pg_namespace
WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', current_schema())
"""
_PARTS = {
    "is_own": "NOT EXISTS (SELECT FROM pg_depend e WHERE e.objid = c.oid AND e.deptype = 'e')",  # not an extension's
    "sequence": "concat_ws(' ', seqincrement, seqmin, seqmax, seqcache, seqcycle)",
}
"""What is repeated in the queries."""

_RELATIONS = """
SELECT n.nspname, c.relname, c.relkind::text, c.relpersistence = 'u',
    CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid, true)
        ELSE (SELECT format_type(seqtypid, NULL) || ' ' || {sequence} FROM pg_sequence WHERE seqrelid = c.oid) END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S') AND n.nspname IN :schemas AND {is_own}
    AND NOT EXISTS (
        SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND c.relkind = 'S'
            AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
    )
ORDER BY 1, 2
"""
_COLUMNS = """
SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
    pg_get_expr(d.adbin, d.adrelid), a.attgenerated::text, a.attidentity::text,
    CASE WHEN a.attcollation <> t.typcollation THEN (SELECT collname FROM pg_collation WHERE oid = a.attcollation) END,
    (
        SELECT {sequence} FROM pg_depend o JOIN pg_sequence ON seqrelid = o.objid
        WHERE o.classid = 'pg_class'::regclass AND o.refclassid = 'pg_class'::regclass AND o.refobjid = c.oid
            AND o.refobjsubid = a.attnum AND o.deptype IN ('a', 'i') ORDER BY o.deptype DESC LIMIT 1
    )
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND n.nspname IN :schemas AND {is_own}
ORDER BY 1, 2, a.attnum
"""
_CONSTRAINTS = """
SELECT n.nspname, c.relname, o.conname, o.contype::text, pg_get_constraintdef(o.oid, true)
FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE o.contype IN ('p', 'u', 'f', 'c', 'x') AND n.nspname IN :schemas AND {is_own} ORDER BY 1, 2, 3
"""
_INDEXES = """
SELECT n.nspname, c.relname, i.relname, pg_get_indexdef(x.indexrelid, 0, true), x.indisvalid
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class c ON c.oid = x.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname IN :schemas AND {is_own}
    AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = x.indexrelid AND contype IN ('p', 'u', 'x'))
ORDER BY 1, 2, 3
"""
_TYPES = """
SELECT n.nspname, c.typname, c.typtype::text,
    CASE WHEN c.typtype = 'e'
        THEN (SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumlabel) FROM pg_enum WHERE enumtypid = c.oid)
        ELSE concat_ws(
            ' ', format_type(c.typbasetype, c.typtypmod), CASE WHEN c.typnotnull THEN 'NOT NULL' END,
            'DEFAULT ' || c.typdefault,
            (
                SELECT string_agg(pg_get_constraintdef(oid, true), ' ' ORDER BY conname) FROM pg_constraint
                WHERE contypid = c.oid AND contype = 'c'
            )
        ) END
FROM pg_type c JOIN pg_namespace n ON n.oid = c.typnamespace
WHERE c.typtype IN ('e', 'd') AND n.nspname IN :schemas AND {is_own} ORDER BY 1, 2
"""
_KINDS = {
    "p": PRIMARY_KEY,
    "u": UNIQUE,
    "f": FOREIGN_KEY,
    "c": CHECK,
    "x": "exclusion constraint",
    "v": "view",
    "m": "materialized view",
    "S": "sequence",
    "e": "enum",
    "d": "domain",
}
_SUFFIXES = {"p": "pkey", "u": "key", "f": "fkey", "c": "check", "x": "excl"}
_HEAD = re.compile(r"CREATE (UNIQUE )?INDEX .*? USING ", re.DOTALL)
_QUOTED = r"""'(?:[^']|'')*'|"(?:[^"]|"")*\""""
_TEXT_CAST = re.compile(rf"({_QUOTED})|::(?:text|character varying)(?:\(\d+\))?(?:\[\])?", re.DOTALL)
_SPACES = re.compile(rf"({_QUOTED})|\s+", re.DOTALL)
_NUMBER = re.compile(r"\(?'?(-?\d+(?:\.\d+)?)'?\)?(?:::[\w ]+(?:\(\d+(?:,\d+)?\))?)?")
_TEXTS = ("text", "character", "enum", "bit")
_SHOWN_IDENTITIES = {"a": "ALWAYS", "d": "BY DEFAULT"}


def read(connection: Connection, schemas: Collection[str] | None) -> Inventory:
    """Return what the default schema and others contain."""
    default = str(connection.exec_driver_sql("SELECT current_schema()").scalar())
    others = [*schemas] if schemas is not None else connection.exec_driver_sql(_SCHEMAS).scalars().all()
    return Inventory(tuple(_Reader(connection, default, [default, *others]).items()), frozenset(others))


class _Reader:
    def __init__(self, connection: Connection, default: str, schemas: list[str]) -> None:
        self._connection = connection
        self._default = default
        self._schemas = schemas

    def items(self) -> Iterator[Item]:
        for schema, name, kind, is_unlogged, definition in self._rows(_RELATIONS):
            if kind in "rp":
                yield Item(TABLE, "", self._name(schema, name), (("", "UNLOGGED" if is_unlogged else "logged"),))
            else:
                yield Item(_KINDS[kind], "", self._name(schema, name), (("", _expression(definition)),))
        for schema, name, kind, definition in self._rows(_TYPES):
            yield Item(_KINDS[kind], "", self._name(schema, name), (("", definition or ""),))
        yield from map(self._column, self._rows(_COLUMNS))
        for schema, table, name, kind, definition in self._rows(_CONSTRAINTS):
            generated = re.fullmatch(rf"{re.escape(table[:20])}.*_{_SUFFIXES[kind]}\d*", name, re.DOTALL)
            traits = (("", _expression(definition)),)
            yield Item(_KINDS[kind], self._name(schema, table), name, traits, is_generated=bool(generated))
        for schema, table, name, definition, is_valid in self._rows(_INDEXES):
            head = _HEAD.match(definition)
            what = f"{head[1] or ''}{definition[head.end() :]}" if head else definition
            traits = (("", f"{_expression(what)}{'' if is_valid else ' INVALID'}"),)
            yield Item(INDEX, self._name(schema, table), name, traits)

    def _rows(self, query: str) -> Any:  # noqa: ANN401 (rows)
        statement = text(query.format(**_PARTS).replace("::", r"\:\:")).bindparams(bindparam("schemas", expanding=True))
        return self._connection.execute(statement, {"schemas": self._schemas}).all()

    def _name(self, schema: str, name: str) -> str:
        return qualified(schema, name, self._default)

    def _column(self, row: Any) -> Item:  # noqa: ANN401 (a row)
        schema, table, name, type_, is_required, default, generated, identity, collation, sequence = row
        if sequence is not None and not identity and (default or "").startswith("nextval("):
            default = "the next value of its own sequence"  # whose name depends on how the column came to be
        elif default is not None:
            default = _default(default, type_)
        traits = (
            ("type", type_),
            NOT_NULL if is_required else NULLABLE,
            ("default", "" if generated else default or ""),
            ("generated as", _expression(default) if generated and default else ""),
            ("identity", f"{_SHOWN_IDENTITIES[identity]} {sequence}" if identity else ""),
            (COLLATION, collation or ""),
        )
        return Item(COLUMN, self._name(schema, table), name, traits)


def _expression(sql: str) -> str:
    """Return an expression without casts to text, because PostgreSQL moves these when it reads what it has printed."""
    return _SPACES.sub(lambda found: found[1] or " ", _TEXT_CAST.sub(lambda found: found[1] or "", sql)).strip()


def _default(sql: str, type_: str) -> str:
    """Return a default; a number in one spelling, because it depends on the type that the column had first."""
    bare = _expression(sql)
    number = _NUMBER.fullmatch(sql)
    return number[1] if number and not type_.startswith(_TEXTS) else bare
