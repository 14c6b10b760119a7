"""How busy a database is: its number of rows, replicas that lag, and sessions that wait for locks of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Table, func, select, text

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

# A role that may not see the state of replicas reads NULL, so that it never waits. For some seconds, PostgreSQL still
# shows the last lag of a replica that has caught up.
_LAG = text(
    "SELECT max(extract(epoch FROM replay_lag)) FROM pg_stat_replication WHERE replay_lsn < pg_current_wal_lsn()"
)
_QUEUE = text(
    "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = CAST(CAST(:name AS text) AS regclass)"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_ESTIMATES = {
    "postgresql": "SELECT reltuples FROM pg_class WHERE oid = CAST(CAST(:name AS text) AS regclass)",
    **dict.fromkeys(
        ("mysql", "mariadb"),
        "SELECT table_rows FROM information_schema.tables"
        " WHERE table_name = :table AND table_schema = coalesce(:schema, database())",
    ),
}


def busy(connection: Connection, table: Table, max_lag: float | None) -> str:
    """Return what a backfill should wait for; an empty string if there is nothing. Only PostgreSQL reports that.

    :param max_lag: how far replicas may lag, in seconds; None if that does not matter.
    """
    if connection.dialect.name != "postgresql":
        return ""
    lag = connection.execute(_LAG).scalar() if max_lag is not None else None
    if lag is not None and max_lag is not None and lag > max_lag:
        return f"a replica that lags by more than {max_lag:g} s"
    if connection.execute(_QUEUE, {"name": _name(connection, table)}).scalar():
        return f"the sessions that wait for a lock of the table {table.name}"
    return ""


def estimated_rows(connection: Connection, table: Table) -> int | None:
    """Return about how many rows a table has; None if the database has no estimate."""
    estimate = _ESTIMATES.get(connection.dialect.name)
    if estimate is None:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())
    names = {"name": _name(connection, table), "table": table.name, "schema": table.schema}
    found = connection.execute(text(estimate), names).scalar()
    return int(found) if found is not None and found > 0 else None


def _name(connection: Connection, table: Table) -> str:
    return connection.dialect.identifier_preparer.format_table(table)
