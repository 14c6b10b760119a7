"""The store of MariaDB, which has no statement that copies or renames a database.

So a clone is a new database, in which the statements that ``SHOW CREATE`` returns for the template are executed, and
the rows are copied within the server. A template keeps the name of its build, and a comment says that it is complete.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from ampho.database.lock import mariadb_lock, pause
from ampho.database.store.base import DatabaseExistsError, key_of, run_of
from ampho.database.store.server import ServerStore, Template, mark, quote, read_mark
from ampho.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy import TextClause
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
    "SELECT 'TRIGGER', trigger_name FROM information_schema.triggers WHERE trigger_schema = :source"
    " ORDER BY event_object_table, event_manipulation, action_timing, action_order"
)
_EVENTS = text("SELECT 'EVENT', event_name FROM information_schema.events WHERE event_schema = :source")
_COLUMNS = text(
    "SELECT table_type, table_name, column_name FROM information_schema.columns"
    " JOIN information_schema.tables USING (table_schema, table_name)"
    " WHERE table_schema = :source AND table_type <> 'VIEW' AND is_generated = 'NEVER' ORDER BY ordinal_position"
)
_CONNECTIONS = text("SELECT id FROM information_schema.processlist WHERE db = :name AND id <> CONNECTION_ID()")
_PERIOD = re.compile(r"PERIOD FOR SYSTEM_TIME \((`[^`]+`, `[^`]+`)\)")
_SETTINGS = ("sql_mode", "time_zone", "collation_connection")
_COPYING = "ampho copies a template here in the run "
_POLL_SECONDS = 0.05


@dataclass
class _Recipe:
    """The statements that create a copy of a template, in the order in which they are executed."""

    options: str
    tables: list[list[str]]
    rows: list[str]
    routines: list[list[str]]
    views: list[list[str]]
    programs: list[list[str]]


class MariaDBStore(ServerStore):
    """Databases on a MariaDB server."""

    MAINTENANCE = ("information_schema",)

    def __init__(self, engine: Engine, connect: Callable[[Engine], Connection]) -> None:
        super().__init__(engine, connect)
        self._recipes: dict[str, _Recipe] = {}

    def copy(self, key: str, name: str) -> None:
        """Copy a template within the server."""
        source = self._existing(key).name
        with self._managing(name) as server:
            if source not in self._recipes:
                with _using(server, source):
                    server.exec_driver_sql(_SESSION)
                    self._recipes[source] = _read(server, source)
        recipe = self._recipes[source]
        with nullcontext() if run_of(name) else self._locked_for_migrations(name):
            self._create_copy(name, recipe.options)
            try:
                with self._managing(name) as server, _using(server, name):
                    _follow(server, recipe, source)
                    if run_of(name) is None:
                        server.exec_driver_sql(f"ALTER DATABASE {quote(server, name)} COMMENT ''")
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

    def publish(self, name: str, key: str) -> None:
        """Turn a build into a template by its comment."""
        with self._managing(name) as server:
            if self._find(key):
                return self._drop(server, name)
            with _using(server, name):
                _forget_cached_values(server, name)
            self._mark(server, name, key)
        return None

    def can_copy(self) -> bool:
        """Return whether the server is MariaDB, not MySQL, whose databases this store cannot copy."""
        with self._managing("ampho_*") as server:
            return bool(server.dialect.is_mariadb)  # type: ignore[attr-defined]

    def server(self) -> str:
        """Return the version, the user, and the defaults of new databases and of the app's connections."""
        with self._managing("ampho_*") as server:
            return repr(tuple(server.exec_driver_sql(_SERVER).one()))

    def _create_copy(self, name: str, options: str) -> None:
        """Create the database of a copy. If the user chose its name, a comment says that it is not complete yet."""
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
                    if not self._is_alive(server, run):  # the process that copied was killed
                        self._drop(server, name)
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


@contextmanager
def _using(server: Connection, name: str) -> Iterator[None]:
    """Make a database the current one, so that ``SHOW CREATE`` does not write its name into views."""
    server.exec_driver_sql(f"USE {quote(server, name)}")
    try:
        yield
    finally:
        if server.engine.url.database:
            server.exec_driver_sql(f"USE {quote(server, server.engine.url.database)}")


def _read(server: Connection, source: str) -> _Recipe:
    """Return the statements that create a copy of the current database."""

    def shown(query: TextClause) -> list[tuple[str, list[str]]]:
        found = server.execute(query, {"source": source}).all()
        return [(kind, _show(server, kind, name)) for kind, name in found]

    tables = shown(_TABLES)
    return _Recipe(
        options=server.execute(_OPTIONS, {"source": source}).scalar_one(),
        tables=[definition for kind, definition in tables if kind != "VIEW"],
        rows=[*_rows(server, source)],
        routines=[definition for _, definition in shown(_ROUTINES)],
        views=[definition for kind, definition in tables if kind == "VIEW"],
        programs=[definition for _, definition in shown(_TRIGGERS) + shown(_EVENTS)],
    )


def _show(server: Connection, kind: str, name: str) -> list[str]:
    """Return the statement that creates an object, after one for the settings of the session that it depends on."""
    row = server.exec_driver_sql(f"SHOW CREATE {kind} {quote(server, name)}").mappings().one()
    settings = [f"{each} = '{row[each]}'" for each in _SETTINGS if each in row]
    definition = next(row[each] for each in row if each.startswith(("Create ", "SQL Original")))
    return [f"SET SESSION {', '.join(settings)}", definition] if settings else [definition]


def _rows(server: Connection, source: str) -> Iterator[str]:
    """Yield the statements that copy the rows of all tables that have any, and the values of sequences."""
    found = server.execute(_COLUMNS, {"source": source}).all()
    tables = {(kind, table): [quote(server, each[2]) for each in found if each[1] == table] for kind, table, _ in found}
    for (kind, table), columns in tables.items():
        prefix = suffix = ""
        if kind == "SYSTEM VERSIONED":
            period = _PERIOD.search(_show(server, "TABLE", table)[-1])
            columns.append(period[1] if period else "row_start, row_end")
            prefix, suffix = "SET STATEMENT system_versioning_insert_history = 1 FOR ", " FOR SYSTEM_TIME ALL"
        origin = f"{quote(server, source)}.{quote(server, table)}{suffix}"
        names = ", ".join(columns)
        select = f"SELECT {names} FROM {origin}"  # noqa: S608 (its parts are quoted)
        if server.exec_driver_sql(f"{select} LIMIT 1").first():
            yield f"{prefix}INSERT INTO {quote(server, table)} ({names}) {select}"


def _follow(server: Connection, recipe: _Recipe, source: str) -> None:
    """Create the objects of a template in the current database, and copy its rows."""

    def create(*definitions: list[str]) -> None:
        for definition in definitions:
            for statement in definition:
                # For example, a default that is the next value of a sequence contains the name of the database.
                server.exec_driver_sql(statement.replace(f"{quote(server, source)}.", ""))

    create([_SESSION], *recipe.tables, ["BEGIN"])
    for statement in recipe.rows:
        server.exec_driver_sql(statement)
    create(["COMMIT"], *recipe.routines)
    recipe.views = _in_order(recipe.views, create)
    create(*recipe.programs)


def _in_order(views: list[list[str]], create: Callable[[list[str]], None]) -> list[list[str]]:
    """Create views after those that they select from, and return them in that order."""
    done: list[list[str]] = []
    left = views
    while left:
        failed: list[list[str]] = []
        for view in left:
            try:
                create(view)
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
