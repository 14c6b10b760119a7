"""The store of PostgreSQL, where ``CREATE DATABASE ... TEMPLATE`` copies a database.

The default strategy, ``WAL_LOG``, is at least as fast for databases of this size as ``FILE_COPY``, which forces two
checkpoints. ``DROP DATABASE`` also forces one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from sqlalchemy import BigInteger, bindparam, text

from ampho.database.engine import served_database, with_database
from ampho.database.pooler import check_session
from ampho.database.store.base import check_served, key_of, run_of, template_name
from ampho.database.store.server import ServerStore, Template, mark, quote, read_mark
from ampho.errors import DatabaseError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection

_DATABASES = text(
    "SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database"
    r" WHERE datname LIKE 'ampho\_%' AND pg_has_role(datdba, 'MEMBER')"
)
_SERVER = """
SELECT version(), current_user, pg_encoding_to_char(encoding), datcollate, datctype,
    (SELECT string_agg(name || ' ' || default_version, ', ' ORDER BY name) FROM pg_available_extensions),
    current_setting('search_path'), current_setting('TimeZone')
FROM pg_database WHERE datname = 'template1'
"""
_KEY = bindparam("key", type_=BigInteger)
_LOCK = text("SELECT pg_try_advisory_lock(:key)").bindparams(_KEY)
_UNLOCK = text("SELECT pg_advisory_unlock(:key)").bindparams(_KEY)
# In all databases, because the other process may have had to connect to another one.
_IS_LOCKED = text(
    "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
    " AND (classid::bigint << 32) + objid::bigint = :key)"
).bindparams(_KEY)
_FIRST_SCHEMA = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([^",\s]+))')
_EVERYWHERE = ("public", "$user")


class PostgresStore(ServerStore):
    """Databases on a PostgreSQL server. Nobody can connect to a template, because that would prevent copies."""

    # Not template1: an open connection to it would keep others from creating databases.
    MAINTENANCE: ClassVar[str] = "postgres"

    def _copy(self, key: str, name: str) -> None:
        try:
            self._create(name, f" TEMPLATE {template_name(key)}")
        except DatabaseError:
            self._existing(key)
            raise

    def publish(self, name: str, key: str) -> None:
        """Turn a build into a template by renaming it, after marking it, because others drop unmarked templates."""
        with self._managing(name) as server:
            if self._find(key):
                return self._drop(server, name)
            self._mark(server, name, key)
            server.exec_driver_sql(f"ALTER DATABASE {quote(server, name)} ALLOW_CONNECTIONS false")
            server.exec_driver_sql(f"ALTER DATABASE {quote(server, name)} RENAME TO {template_name(key)}")
        return None

    def server(self) -> str:
        """Return the version, the user, the locale, the extensions, and the settings of the app's connections."""
        with self._managing() as server:
            return repr(tuple(server.exec_driver_sql(_SERVER).one()))

    def _prepare(self, server: Connection, name: str) -> None:
        """Create the schema in which the app's connections create tables, unless every new database has it."""
        found = _FIRST_SCHEMA.match(server.exec_driver_sql("SHOW search_path").scalar_one())
        schema = (found[1] or found[2]) if found else "public"
        if schema in _EVERYWHERE:
            return

        def create(connection: DBAPIConnection) -> None:
            check_served(name, served_database(connection, "postgresql"))
            cursor = connection.cursor()
            cursor.execute(f'CREATE SCHEMA "{schema}"')
            cursor.close()
            connection.commit()

        # The schema is created before the app's listeners run.
        self._connect(with_database(self._app_engine, self.url(name), create)).close()

    def _start_session(self, server: Connection) -> None:
        check_session(server, "no lock can protect throwaway databases")

    def _complete(self, server: Connection) -> Iterator[Template]:
        for name, comment in server.execute(_DATABASES):
            if key := key_of(name):
                yield Template(key, name, read_mark(comment)[1])

    def _left_over(self, server: Connection) -> Iterator[str]:
        return (name for name, _ in server.execute(_DATABASES).all() if run_of(name))

    def _mark(self, server: Connection, name: str, key: str) -> None:
        server.exec_driver_sql(f"COMMENT ON DATABASE {quote(server, name)} IS '{mark(key)}'")

    def _disconnect(self, server: Connection, name: str) -> None:
        server.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = :name AND backend_type = 'client backend' AND pg_has_role(usesysid, 'MEMBER')"
            ),
            {"name": name},
        )

    def _lock(self, server: Connection, name: str) -> bool:
        return bool(server.execute(_LOCK, {"key": _number(name)}).scalar())

    def _unlock(self, server: Connection, name: str) -> None:
        server.execute(_UNLOCK, {"key": _number(name)})

    def _is_locked(self, server: Connection, name: str) -> bool:
        return bool(server.execute(_IS_LOCKED, {"key": _number(name)}).scalar())


def _number(name: str) -> int:
    """Return the number of an advisory lock."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
