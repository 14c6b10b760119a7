"""Find out whether a pooler, such as PgBouncer, runs each transaction on PostgreSQL in a different session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from ampho.errors import LockError, PoolerError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_ROUNDS = 3


def check_session(connection: Connection, consequence: str) -> None:
    """Call :func:`check_pooler` if the driver of a PostgreSQL connection does not know the server process it uses."""
    if drivers_pid(connection.connection.driver_connection) not in (None, _server_pid(connection)):
        check_pooler(connection, consequence)


def check_pooler(connection: Connection, consequence: str) -> None:
    """Check that no pooler runs each transaction of a connection in a different session.

    If one does, this connection may get a different session, or another connection may get this session.

    :param consequence: the part of the error message that says what is impossible.
    """
    for _ in range(_ROUNDS):
        pid = _server_pid(connection)
        try:
            other = connection.engine.connect()
        except SQLAlchemyError as exc:
            raise LockError(
                "Ampho cannot check whether the pooler in front of the database gives each connection its own session,"
                f" because a second connection failed ({type(exc).__name__}). Set AMPHO_DATABASE_URI, which is used"
                " only for migrations, to the database's own address."
            ) from exc
        with other:
            if _server_pid(other) == pid or _server_pid(connection) != pid:
                raise PoolerError(
                    "A pooler such as PgBouncer is in front of the database and runs each transaction in a different"
                    f" session, so {consequence}. Set AMPHO_DATABASE_URI, which is used only for"
                    " migrations, to the database's own address, or switch the pooler to session mode."
                )


def _server_pid(connection: Connection) -> int:
    pid: int = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    connection.rollback()
    return pid


def drivers_pid(driver: Any) -> int | None:  # noqa: ANN401 (a connection of any driver)
    """Return the id of the server process of a driver's connection, or None if the driver does not know it."""
    if hasattr(driver, "get_server_pid"):  # asyncpg
        return int(driver.get_server_pid())
    pid = getattr(getattr(driver, "info", None), "backend_pid", None)  # psycopg and psycopg2
    return None if pid is None else int(pid)
