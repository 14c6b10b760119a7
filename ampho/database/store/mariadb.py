"""The store of MariaDB, which has no statement that copies or renames a database.

So a clone is a new database, in which the statements that ``SHOW CREATE`` returns for the template are executed, and
the rows are copied within the server. A template keeps the name of its build, and a comment says that it is complete.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from ampho.database.lock import mariadb_lock, pause
from ampho.database.store.base import DatabaseExistsError, key_of, run_of
from ampho.database.store.server import ServerStore, Template, mark, quote, read_mark
from ampho.errors import ConfigurationError, DatabaseError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

_DATABASES = text(
    r"SELECT schema_name, schema_comment FROM information_schema.schemata WHERE schema_name LIKE 'ampho\_%'"
)
_ONE_DATABASE = text("SELECT schema_comment FROM information_schema.schemata WHERE schema_name = :name")
_SERVER = (
    "SELECT VERSION(), CURRENT_USER(), @@sql_mode, @@GLOBAL.character_set_server, @@GLOBAL.collation_server,"
    " @@GLOBAL.lower_case_table_names, @@default_storage_engine, @@GLOBAL.innodb_default_row_format,"
    " @@collation_connection, @@time_zone"
)
_SESSION = (
    "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00', foreign_key_checks = 0,"
    " check_constraint_checks = 0, sql_quote_show_create = 1"
)
_OPTIONS = text(
    "SELECT CONCAT(' CHARACTER SET ', default_character_set_name, ' COLLATE ', default_collation_name)"
    " FROM information_schema.schemata WHERE schema_name = :source"
)
_ROUTINES = text(
    "SELECT routine_type, routine_name FROM information_schema.routines WHERE routine_schema = :source"
    " ORDER BY routine_type, routine_name"
)
_TABLES = text(
    "SELECT IF(table_type IN ('SEQUENCE', 'VIEW'), table_type, 'TABLE') AS kind, table_name FROM"
    " information_schema.tables WHERE table_schema = :source ORDER BY table_type = 'SEQUENCE' DESC, table_name"
)
_TRIGGERS = text(
    "SELECT 'TRIGGER', trigger_name FROM information_schema.triggers WHERE event_object_schema = :source"
    " ORDER BY event_object_table, event_manipulation, action_timing, action_order"
)
_EVENTS = text("SELECT 'EVENT', event_name FROM information_schema.events WHERE event_schema = :source")
_ENABLED_EVENTS = text(
    "SELECT event_name FROM information_schema.events WHERE event_schema = :source AND status = 'ENABLED'"
)
# With only one condition for the schema, MariaDB would open the tables of all databases.
_COLUMNS = text(
    "SELECT t.table_type, t.table_name, c.column_name FROM information_schema.columns AS c"
    " JOIN information_schema.tables AS t ON t.table_name = c.table_name"
    " WHERE c.table_schema = :source AND t.table_schema = :source AND t.table_type <> 'VIEW'"
    " AND c.is_generated = 'NEVER' ORDER BY c.ordinal_position"
)
_CONNECTIONS = text("SELECT id FROM information_schema.processlist WHERE db = :name AND id <> CONNECTION_ID()")
_PERIOD = re.compile(r"PERIOD FOR SYSTEM_TIME \((`[^`]+`, `[^`]+`)\)")
_SETTINGS = ("sql_mode", "time_zone", "collation_connection")
_DISABLED = " DISABLE ON SLAVE"
"""What events of a template have that are enabled in copies."""

_COPYING = "ampho copies a template here in the run "
_POLL_SECONDS = 0.05


class _Table(NamedTuple):
    """The statement that creates a table, and the one that copies its rows, if it has any."""

    definition: str
    rows: str | None


@dataclass
class _Recipe:
    """The statements that create a copy of a template, in the order in which they are executed."""

    options: str
    sequences: list[_Table]
    tables: list[_Table]
    routines: list[str]
    views: list[list[str]]
    programs: list[str]


class MariaDBStore(ServerStore):
    """Databases on a MariaDB server."""

    MAINTENANCE: ClassVar[str] = "information_schema"

    def __init__(self, engine: Engine, connect: Callable[[Engine], Connection]) -> None:
        super().__init__(engine, connect)
        self._recipes: dict[str, _Recipe] = {}

    def _copy(self, key: str, name: str) -> None:
        source = self._existing(key).name
        if source not in self._recipes:
            with self._managing(source) as server, _using(server, source):
                self._recipes[source] = _read(server, source)
        recipe = self._recipes[source]
        with nullcontext() if run_of(name) else self._locked_for_migrations(name):
            self._create_copy(name, recipe.options)
            try:
                self._fill(name, recipe)
            except BaseException:
                self._abandon(name)
                raise

    @contextmanager
    def _locked_for_migrations(self, name: str) -> Iterator[None]:
        """Keep others from migrating a database that is not complete yet."""
        with self._managing(name) as server:
            while not self._lock(server, mariadb_lock(name)):
                pause(self._app_engine, _POLL_SECONDS)
            try:
                yield
            finally:
                self._unlock(server, mariadb_lock(name))

    def _fill(self, name: str, recipe: _Recipe) -> None:
        """Create the objects of a template in a new database, and copy its rows."""

        def create_tables(server: Connection, tables: Sequence[_Table]) -> None:
            with _using(server, name):
                for table in tables:
                    server.exec_driver_sql(table.definition)
                server.exec_driver_sql("BEGIN")
                for table in tables:
                    if table.rows:
                        server.exec_driver_sql(table.rows)
                server.exec_driver_sql("COMMIT")

        with self._managing(name) as server:
            create_tables(server, recipe.sequences)
            self._share(server, recipe.tables, create_tables)
            with _using(server, name):
                for statement in recipe.routines:
                    server.exec_driver_sql(statement)
                recipe.views = _in_order(server, recipe.views)
                for statement in recipe.programs:
                    server.exec_driver_sql(statement)
                if run_of(name) is None:
                    server.exec_driver_sql(f"ALTER DATABASE {quote(server, name)} COMMENT ''")

    def publish(self, name: str, key: str) -> None:
        """Turn a build into a template by its comment."""
        with self._managing(name) as server:
            if self._find(key):
                return self._drop(server, name)
            with _using(server, name):
                _forget_cached_values(server, name)
                _disable_events(server, name)
            self._mark(server, name, key)
        return None

    def can_copy(self) -> bool:
        """Return whether the server is MariaDB, not MySQL, whose databases this store cannot copy."""
        with self._managing() as server:
            return bool(server.dialect.is_mariadb)  # type: ignore[attr-defined]

    def server(self) -> str:
        """Return the version, the user, and the defaults of new databases and of the app's connections."""
        with self._managing() as server:
            return repr(tuple(server.exec_driver_sql(_SERVER).one()))

    def _create_copy(self, name: str, options: str) -> None:
        """Create the database of a copy. If the user chose its name, a comment says that it is not complete yet.

        Such a database is never dropped, because this process cannot know whether it was completed and used since.
        """
        if run_of(name):
            return self._create(name, options)
        while True:
            try:
                return self._create(name, f"{options} COMMENT '{_COPYING}{self._run}'")
            except DatabaseExistsError:
                with self._managing(name) as server:
                    comment = str(server.execute(_ONE_DATABASE, {"name": name}).scalar() or "")
                    run = comment.removeprefix(_COPYING)
                    if run == comment:
                        raise
                    if not self._is_alive(server, run):
                        raise _incomplete(name) from None
            pause(self._app_engine, _POLL_SECONDS)

    def _start_session(self, server: Connection) -> None:
        server.execution_options(no_parameters=True).exec_driver_sql("SET SESSION lock_wait_timeout = 30")

    def _prepare(self, server: Connection, name: str) -> None:
        """Do nothing, because a schema is a database here."""

    def _complete(self, server: Connection) -> Iterator[Template]:
        if not server.dialect.is_mariadb:  # type: ignore[attr-defined]
            raise ConfigurationError(
                "Ampho can copy databases on MariaDB, but not on MySQL. Migrate an empty database."
            )
        for name, comment in server.execute(_DATABASES):
            template, used = read_mark(comment)
            if key := key_of(template):
                yield Template(key, name, used)

    def _left_over(self, server: Connection) -> Iterator[str]:
        return (
            name for name, comment in server.execute(_DATABASES).all() if run_of(name) and not read_mark(comment)[0]
        )

    def _mark(self, server: Connection, name: str, key: str) -> None:
        server.exec_driver_sql(f"ALTER DATABASE {quote(server, name)} COMMENT '{mark(key)}'")

    def _disconnect(self, server: Connection, name: str) -> None:
        for connection in server.execute(_CONNECTIONS, {"name": name}).scalars().all():
            with suppress(DBAPIError):  # it was closed meanwhile
                server.exec_driver_sql(f"KILL CONNECTION {connection}")

    def _lock(self, server: Connection, name: str) -> bool:
        return bool(server.execute(text("SELECT GET_LOCK(:name, 0)"), {"name": name}).scalar())

    def _unlock(self, server: Connection, name: str) -> None:
        server.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": name})

    def _is_locked(self, server: Connection, name: str) -> bool:
        return server.execute(text("SELECT IS_USED_LOCK(:name)"), {"name": name}).scalar() is not None


def _incomplete(name: str) -> DatabaseError:
    return DatabaseError(
        f"A process that copied a template to the database {name} was killed, so the copy may be incomplete. Drop the"
        " database if it is; otherwise, remove its comment with ALTER DATABASE. Then run the command again."
    )


@contextmanager
def _using(server: Connection, name: str) -> Iterator[None]:
    """Make a database the current one, so that ``SHOW CREATE`` does not write its name into views."""
    before = server.exec_driver_sql(f"SELECT {', '.join(f'@@{each}' for each in _SETTINGS)}").one()
    server.exec_driver_sql(f"USE {quote(server, name)}")
    server.exec_driver_sql(_SESSION)
    try:
        yield
    finally:
        settings = [f"{each} = '{value}'" for each, value in zip(_SETTINGS, before, strict=True)]
        server.exec_driver_sql(f"SET SESSION {', '.join(settings)}")
        if server.engine.url.database:
            server.exec_driver_sql(f"USE {quote(server, server.engine.url.database)}")


def _read(server: Connection, source: str) -> _Recipe:
    """Return the statements that create a copy of the current database."""
    rows = dict(_rows(server, source))
    shown: dict[str, list[list[str]]] = {}
    tables: dict[str, list[_Table]] = {"SEQUENCE": [], "TABLE": []}
    for query in (_ROUTINES, _TABLES, _TRIGGERS, _EVENTS):
        for kind, name in server.execute(query, {"source": source}).all():
            statements = _show(server, source, kind, name)
            if kind in tables:
                tables[kind].append(_Table(statements[-1], rows.get(name)))
            else:
                shown.setdefault(kind, []).append(statements)
    views = shown.pop("VIEW", [])
    programs = [each for kind in ("TRIGGER", "EVENT") for definition in shown.pop(kind, []) for each in definition]
    routines = [each for definitions in shown.values() for definition in definitions for each in definition]
    options = server.execute(_OPTIONS, {"source": source}).scalar_one()
    return _Recipe(options, tables["SEQUENCE"], tables["TABLE"], routines, views, programs)


def _show(server: Connection, source: str, kind: str, name: str) -> list[str]:
    """Return the statement that creates an object, after one for the settings of the session that it depends on."""
    row = server.exec_driver_sql(f"SHOW CREATE {kind} {quote(server, name)}").mappings().one()
    settings = [f"{each} = '{row[each]}'" for each in _SETTINGS if each in row]
    definition: str = next(row[each] for each in row if each.startswith(("Create ", "SQL Original")))
    # For example, a default that is the next value of a sequence contains the name of the database.
    definition = definition.replace(f"{quote(server, source)}.", "")
    if kind == "EVENT":
        definition = definition.replace(_DISABLED, " ENABLE", 1)
    return [f"SET SESSION {', '.join(settings)}", definition] if settings else [definition]


def _rows(server: Connection, source: str) -> Iterator[tuple[str, str]]:
    """Yield the names of sequences, and of tables that have rows, with the statements that copy the rows."""
    found = server.execute(_COLUMNS, {"source": source}).all()
    tables = {(kind, table): [quote(server, each[2]) for each in found if each[1] == table] for kind, table, _ in found}
    for (kind, table), columns in tables.items():
        prefix = suffix = ""
        if kind == "SYSTEM VERSIONED":
            period = _PERIOD.search(_show(server, source, "TABLE", table)[-1])
            columns.append(period[1] if period else "row_start, row_end")
            prefix, suffix = "SET STATEMENT system_versioning_insert_history = 1 FOR ", " FOR SYSTEM_TIME ALL"
        names = ", ".join(columns)
        origin = f"{quote(server, source)}.{quote(server, table)}{suffix}"
        select = f"SELECT {names} FROM {origin}"  # noqa: S608 (its parts are quoted)
        if server.exec_driver_sql(f"{select} LIMIT 1").first():
            yield table, f"{prefix}INSERT INTO {quote(server, table)} ({names}) {select}"


def _in_order(server: Connection, views: list[list[str]]) -> list[list[str]]:
    """Create views after those that they select from, and return them in that order."""
    done: list[list[str]] = []
    left = views
    while left:
        failed: list[list[str]] = []
        for view in left:
            try:
                for statement in view:
                    server.exec_driver_sql(statement)
            except DBAPIError:
                failed.append(view)
                if len(failed) == len(left):
                    raise
            else:
                done.append(view)
        left = failed
    return done


def _forget_cached_values(server: Connection, source: str) -> None:
    """Make each sequence of the current database store its next value, instead of the one after those in its cache."""
    sequences = [name for kind, name in server.execute(_TABLES, {"source": source}) if kind == "SEQUENCE"]
    for name in sequences:
        with suppress(DBAPIError):  # it has no next value
            value = server.exec_driver_sql(f"SELECT NEXTVAL({quote(server, name)})").scalar_one()
            server.exec_driver_sql(f"ALTER SEQUENCE {quote(server, name)} RESTART {value}")


def _disable_events(server: Connection, source: str) -> None:
    """Keep the events of a template from changing it."""
    for name in server.execute(_ENABLED_EVENTS, {"source": source}).scalars().all():
        server.exec_driver_sql(f"ALTER EVENT {quote(server, name)}{_DISABLED}")
