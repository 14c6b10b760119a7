"""Look at many databases at the same time, without changing them, without locks, and without importing Alembic.

The graph, and the version rows of a database to which everything is applied, are computed once for all databases of a
group. The journal of a database with these rows is only searched for unfinished revisions. Schemas of one PostgreSQL
database share connections and queries.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from sqlalchemy import bindparam, text
from sqlalchemy.exc import DBAPIError

from ampho._text import is_of_database
from ampho.database.connection import connect
from ampho.database.engine import update_dialect, with_similar_dialect
from ampho.database.journal import UNFINISHED, Journal
from ampho.database.recorder import JournalTable
from ampho.database.url import database_error
from ampho.database.version_rows import Applied, owing_state
from ampho.errors import AmphoError, DatabaseError, PackageNotFoundError
from ampho.migrate.project import Member, Project
from ampho.migrate.queries import VersionTable, query_known_table, version_table
from ampho.status.advice import check_installed
from ampho.status.deployment import Finding, Status, assess
from ampho.status.fleet import MemberState, failed

if TYPE_CHECKING:
    from sqlalchemy import URL
    from sqlalchemy.engine import Connection, Engine

_SCHEMAS_AT_ONCE = 50  # PostgreSQL locks a table and its index for each of them, and its table of locks is not large
_IN_SCHEMAS = text(
    "SELECT n.nspname, c.relname FROM pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid"
    " AND c.relkind IN ('r', 'p') AND c.relname IN :tables WHERE n.nspname IN :schemas"
).bindparams(bindparam("tables", expanding=True), bindparam("schemas", expanding=True))


_UNFINISHED = " WHERE outcome IN ({})".format(", ".join(f"'{each}'" for each in sorted(UNFINISHED)))


class Surveyed(NamedTuple):
    """A database, and its state.

    :ivar member: the database, if it belongs to a group.
    :ivar state: its state.
    """

    member: Member | None
    state: MemberState


_Findings: TypeAlias = tuple[Finding, ...]
Look: TypeAlias = Callable[[], Sequence[Surveyed]]
"""Looks at one or more databases through one connection."""


@dataclass
class Survey:
    """Looks at databases.

    :ivar whole: the project of the app.
    :ivar engine: returns an engine for the project of a database, and a name for the origin of its URL. For a schema,
        the engine is not limited to the schema if ``with_schema`` is false.
    :ivar is_thorough: whether to read all journals, to also find diverged and edited revisions in databases to which
        everything is applied.
    :ivar tables: the version table of each group, if only ``env.py`` knows it.
    :ivar finds_missing: whether to ask servers if they lack the databases to which no connection is possible.
    """

    whole: Project
    engine: Callable[..., tuple[Engine, str]]
    is_thorough: bool = False
    tables: Mapping[str, VersionTable] = field(default_factory=dict[str, "VersionTable"])
    finds_missing: bool = False
    _expected: dict[str, tuple[str, ...]] = field(default_factory=dict[str, "tuple[str, ...]"], init=False)
    _like: dict[Hashable, Engine] = field(default_factory=dict[Hashable, "Engine"], init=False)
    _findings: dict[_Findings, _Findings] = field(default_factory=dict["_Findings", "_Findings"], init=False)

    def looks(self, names: Iterable[str]) -> Iterator[Look]:
        """Yield functions that look at databases, each through a connection of its own.

        :param names: names and patterns from :meth:`ampho.migrate.project.Project.databases`.
        """
        wanted, home_of, groups = tuple(names), self.whole.homes.home, self.whole.homes.groups
        for home in set(map(home_of, wanted)):
            graph = self.whole.graph_of(home)  # now, so that no two threads read the revision files
            self._expected[home] = graph.exact_rows(filter(graph.has_file, graph.ids))
        yield from (partial(self._look_at_one, name) for name in wanted if home_of(name) not in groups)
        batch: list[Member] = []
        with closing(self.whole.members(name for name in wanted if home_of(name) in groups)) as members:
            for member in members:
                if member.url is not None or member.schema is None:
                    yield partial(self._look_at_one, member)
                    continue
                if batch and (len(batch) == _SCHEMAS_AT_ONCE or home_of(member.name) != home_of(batch[0].name)):
                    yield partial(self._look_at_schemas, batch)
                    batch = []
                batch.append(member)
        if batch:
            yield partial(self._look_at_schemas, batch)

    def _look_at_one(self, database: str | Member) -> Sequence[Surveyed]:
        state = self._state(database)
        if self.finds_missing and isinstance(state.error, DatabaseError) and self._is_missing(database):
            state = replace(state, status=Status.NOT_CREATED)
        return [Surveyed(database if isinstance(database, Member) else None, state)]

    def _is_missing(self, database: str | Member) -> bool:
        from ampho.database.creation import lacks_database

        with suppress(AmphoError, DBAPIError):
            engine, setting = self.engine(self.whole.of(database))
            return lacks_database(engine, self.whole.url, setting)
        return False

    def _state(self, database: str | Member) -> MemberState:
        name = database if isinstance(database, str) else database.name
        try:
            project = self.whole.of(database)
            with _reporting(project):
                engine, setting = self._engine(project)
                with connect(engine, setting) as connection:
                    if _is_plain(project):
                        self._like.setdefault(_server(project.url), engine)
                    return self._look(project, connection)
        except PackageNotFoundError:  # a mistake in the configuration, which is the same for all databases
            raise
        except AmphoError as exc:
            return failed(name, exc)

    def _engine(self, project: Project) -> tuple[Engine, str]:
        """Return an engine; if it is not the first for a server, it costs little."""
        like = self._like.get(_server(project.url))
        if like is None or not _is_plain(project):
            return self.engine(project)
        return with_similar_dialect(like, project.url), f"url= of {project.database}"

    def _look(self, project: Project, connection: Connection) -> MemberState:
        table = self._table(project)
        if not project.version_tables and self._is_up_to_date(project, connection, table):
            return MemberState(project.database, Status.UP_TO_DATE, self._expected[project.home])
        if _is_plain(project):
            update_dialect(connection)
        return query_known_table(project, connection, partial(self._assessed, project), table)

    def _is_up_to_date(self, project: Project, connection: Connection, table: VersionTable) -> bool:
        """Return whether everything is applied, by two short queries, which do not have to be compiled."""
        (name, schema), journal = table, project.settings.journal_table

        def read(column: str, table: str, where: str = "") -> Sequence[str]:
            query = f"SELECT {column} FROM {_quoted(connection, schema, table)}{where}"  # noqa: S608 (it is quoted)
            return connection.exec_driver_sql(query).scalars().all()

        try:
            is_complete = not self.is_thorough and self._is_complete(project.home, read("version_num", name))
            return is_complete and not (journal and read("revision", journal, _UNFINISHED))
        except DBAPIError:  # perhaps a table does not exist
            connection.rollback()
            return False

    def _table(self, project: Project) -> VersionTable:
        return self.tables.get(project.home) or version_table(project)

    def _assessed(self, project: Project, rows: tuple[str, ...], journal: Journal) -> MemberState:
        graph = self.whole.graph_of(project.home)
        applied = Applied.from_rows(graph, rows, journal)
        owing = owing_state(applied, rows, journal.places) if journal.places.own else None
        check_installed(applied)
        found = assess(applied, journal, self.whole.phases, compare_files=self.is_thorough)
        findings = self._findings.setdefault(found.findings, found.findings)  # often the same for many databases
        return MemberState(project.database, found.status, rows, findings, taken=owing.rows if owing else applied.taken)

    def _is_complete(self, home: str, rows: Sequence[str]) -> bool:
        """Return whether the version rows are those of a database to which everything is applied."""
        is_installed = not self.whole.graph_of(home).not_installed
        return is_installed and tuple(sorted(map(str, rows))) == self._expected[home]

    # ---- Schemas of one database ----

    def _look_at_schemas(self, members: Sequence[Member]) -> Sequence[Surveyed]:
        """Look at schemas through one connection. If that fails, look at each through a connection of its own."""
        with suppress(AmphoError):  # the error of each schema names it
            project = self.whole.of(members[0])
            with _reporting(project):
                engine, setting = self.engine(project, with_schema=False)
                if engine.dialect.name == "postgresql" and not project.version_tables:
                    with connect(engine, setting) as connection:
                        return self._read(connection, project, {str(each.schema): each for each in members})
        return [found for each in members for found in self._look_at_one(each)]

    def _read(self, connection: Connection, project: Project, members: Mapping[str, Member]) -> Sequence[Surveyed]:
        version, journal = self._table(project)[0], project.settings.journal_table or ""
        tables = {"tables": [version, journal], "schemas": list(members)}
        present = {(schema, table) for schema, table in connection.execute(_IN_SCHEMAS, tables)}
        schemas = {schema for schema, _ in present}
        rows = _of_each(connection, [each for each in members if (each, version) in present], version, "version_num")
        kept = [each for each in members if (each, journal) in present and not self.is_thorough]
        unfinished = _of_each(connection, kept, journal, "revision", _UNFINISHED)
        found: list[Surveyed] = []
        for schema, member in members.items():
            own = rows.get(schema, ())
            if schema not in schemas:
                found += self._look_at_one(member)  # which has the error
                continue
            if not self.is_thorough and self._is_complete(project.home, own) and schema not in unfinished:
                state = MemberState(member.name, Status.UP_TO_DATE, self._expected[project.home])
            else:
                own_journal = JournalTable(connection, journal, schema).read() if journal else Journal()
                state = self._assessed(self.whole.of(member), own, own_journal)
            found.append(Surveyed(member, state))
        connection.rollback()
        return found


@contextmanager
def _reporting(project: Project) -> Iterator[None]:
    """Turn an exception from the database into an error without secrets."""
    try:
        yield
    except Exception as exc:
        if isinstance(exc, AmphoError) or not is_of_database(exc):
            raise
        raise database_error(exc, project.url) from None


def _is_plain(project: Project) -> bool:
    """Return whether a database of a group has a URL of its own, and is not a schema."""
    return project.member is not None and project.member.url is not None and project.member.schema is None


def _of_each(
    connection: Connection, schemas: Sequence[str], table: str, column: str, where: str = ""
) -> dict[str, tuple[str, ...]]:
    """Return the values of a column of a table in each of several schemas, with one query."""
    if not schemas:
        return {}
    parts = (
        f"SELECT {number}, {column} FROM {_quoted(connection, schema, table)}{where}"  # noqa: S608 (it is quoted)
        for number, schema in enumerate(schemas)
    )
    found: dict[str, tuple[str, ...]] = {}
    for number, value in connection.exec_driver_sql(" UNION ALL ".join(parts)):
        schema = schemas[int(number)]
        found[schema] = (*found.get(schema, ()), value)
    connection.rollback()  # so that the tables are not locked any longer
    return found


def _quoted(connection: Connection, schema: str | None, table: str) -> str:
    quote = connection.dialect.identifier_preparer.quote_identifier
    return f"{quote(schema)}.{quote(table)}" if schema else quote(table)


def _server(url: URL) -> Hashable:
    # The arguments in the URL of one database must not be used for another one.
    return url.drivername, url.host, url.port, str(sorted(url.query.items()))
