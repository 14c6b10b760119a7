"""What PostgreSQL alone can tell of a revision that failed half-way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

# Not those of partitioned tables, which are invalid until all parts have one, nor those that others build at the time.
_INVALID = text(
    "SELECT i.indexrelid::regclass::text, i.indrelid::regclass::text FROM pg_index i"
    " JOIN pg_class c ON c.oid = i.indexrelid WHERE NOT i.indisvalid AND c.relkind = 'i' AND NOT EXISTS"
    " (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid) ORDER BY 1"
)


def describe_invalid_indexes(connection: Connection) -> str:
    """Say which indexes a ``CREATE INDEX CONCURRENTLY`` that failed has left, and how to get rid of them.

    PostgreSQL keeps such an index, updates it with each write, and uses it for no query.

    :return: a sentence, with a space before it; empty if there is none, or this is another database.
    """
    if connection.dialect.name != "postgresql":
        return ""
    found = connection.execute(_INVALID).all()
    names = ", ".join(f"{index} of {table}" for index, table in found)
    drops = " and ".join(f"'DROP INDEX CONCURRENTLY {index}'" for index, _ in found)
    return f" Left invalid: {names}; {drops} takes {'it' if len(found) == 1 else 'them'} away." if found else ""
