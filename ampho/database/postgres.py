"""Invalid indexes that a failed revision may leave in PostgreSQL."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sqlalchemy import text

from ampho.database.schema import schema_of

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

# Indexes of constraints, and of partitioned tables (invalid until every partition has an index), are left out.
_INVALID = text(
    "SELECT c.relname, n.nspname, i.indexrelid::regclass::text, i.indrelid::regclass::text FROM pg_index i"
    " JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE NOT i.indisvalid AND c.relkind = 'i' AND NOT EXISTS"
    " (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid) ORDER BY 1"
)


def describe_invalid_indexes(connection: Connection, code: str) -> str:
    """Return a sentence, with a leading space, about invalid indexes from a failed ``CREATE INDEX CONCURRENTLY``.

    PostgreSQL keeps such an index and updates it, but does not use it for queries.

    :param code: the code of the revision; indexes that it does not mention are ignored.
    :return: an empty string if there are none or the database is not PostgreSQL.
    """
    if connection.dialect.name != "postgresql":
        return ""
    schema = schema_of(connection)
    rows = [row for row in connection.execute(_INVALID) if schema in (None, row.nspname)]
    found = [(index, of) for name, _, index, of in rows if re.search(rf"\b{re.escape(name)}\b", code)]
    names = ", ".join(f"{index} of {table}" for index, table in found)
    drops = " and ".join(f"'DROP INDEX CONCURRENTLY {index}'" for index, _ in found)
    if not found:
        return ""
    which, them = ("An invalid index remains", "it") if len(found) == 1 else ("Invalid indexes remain", "them")
    return f" {which}: {names}. To drop {them}, use {drops}."
