"""What PostgreSQL alone can tell of a revision that failed half-way."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

# Not those of partitioned tables, which are invalid until all parts have one, nor those of constraints.
_INVALID = text(
    "SELECT c.relname, i.indexrelid::regclass::text, i.indrelid::regclass::text FROM pg_index i"
    " JOIN pg_class c ON c.oid = i.indexrelid WHERE NOT i.indisvalid AND c.relkind = 'i' AND NOT EXISTS"
    " (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid) ORDER BY 1"
)


def describe_invalid_indexes(connection: Connection, code: str) -> str:
    """Say which indexes a ``CREATE INDEX CONCURRENTLY`` that failed has left, and how to get rid of them.

    PostgreSQL keeps such an index, updates it with each write, and uses it for no query.

    :param code: of the revision; an index that it does not name is somebody else's.
    :return: a sentence, with a space before it; empty if there is none, or this is another database.
    """
    if connection.dialect.name != "postgresql":
        return ""
    rows = connection.execute(_INVALID).all()
    found = [(index, of) for name, index, of in rows if re.search(rf"\b{re.escape(name)}\b", code)]
    names = ", ".join(f"{index} of {table}" for index, table in found)
    drops = " and ".join(f"'DROP INDEX CONCURRENTLY {index}'" for index, _ in found)
    return f" Left invalid: {names}; {drops} takes {'it' if len(found) == 1 else 'them'} away." if found else ""
