"""The keys of tables, as in the metadata of SQLAlchemy."""

from __future__ import annotations


def join_key(schema: str | None, name: str) -> str:
    """Return the key of a table: its name, after its schema and a dot if it has one."""
    return f"{schema}.{name}" if schema else name


def split_key(key: str) -> tuple[str | None, str]:
    """Return the schema and the name in the key of a table."""
    schema, _, name = key.rpartition(".")
    return schema or None, name
