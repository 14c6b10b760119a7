"""Where the version rows of a database are: in the version table of the app, and in those that packages have.

The tables of packages come from another tool, which keeps a version table for each plug-in. Ampho reads their rows as
if they were in the app's version table. It moves them there, or keeps them; see ``AMPHO_VERSION_TABLES``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ampho._text import listed
from ampho.errors import ConfigurationError, VersionTableError
from ampho.settings import JOURNAL_TABLE, VERSION_TABLES, OwnTable

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from ampho.history.graph import Graph

Rows = tuple[str, ...]
MOST = 1000
"""The maximum number of rows to read of a table that may not be a version table."""

_IN_SCHEMA = (
    "SELECT table_name FROM information_schema.columns WHERE column_name = 'version_num' AND data_type IN"
    " ('character varying', 'character', 'varchar', 'char', 'text') AND table_name LIKE :name AND table_schema = {}"
)
_LIKE_IT = {
    # Check the CREATE TABLE text first, because SQLite cannot list the columns of a broken view or virtual table.
    "sqlite": "SELECT m.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'"
    " AND m.sql LIKE 'CREATE TABLE%version_num%' AND c.name = 'version_num' AND m.name LIKE :name",
    "postgresql": _IN_SCHEMA,
    "mysql": _IN_SCHEMA,
    "mariadb": _IN_SCHEMA,
}
_DEFAULT_SCHEMA = {"postgresql": "current_schema()", "mysql": "DATABASE()", "mariadb": "DATABASE()"}


@dataclass(frozen=True)
class Places:
    """The tables of a database that have version rows.

    :ivar shared: the name of the app's version table.
    :ivar schema: the schema of the tables; None for the default schema.
    :ivar own: the version tables of packages, by package.
    :ivar rows: the rows of the tables that exist, by table.
    """

    shared: str = ""
    schema: str | None = None
    own: Mapping[str, OwnTable] = field(default_factory=dict[str, OwnTable])
    rows: Mapping[str, Rows] = field(default_factory=dict[str, Rows])

    @classmethod
    def read(
        cls,
        connection: Connection,
        graph: Graph,
        names: tuple[str, str | None, str | None],
        own: Mapping[str, OwnTable],
        rows: Rows,
    ) -> tuple[Rows, Places]:
        """Return the version rows of all tables, and where they are.

        :param names: the names of the version table, of its schema, and of the journal's table.
        :param own: the version tables of packages.
        :param rows: the rows of the app's version table.
        :raises ConfigurationError: if the table of a package is that of the app or of the journal.
        :raises VersionTableError: if the table of a package has rows of another package.
        """
        shared, schema, journal = names
        found, every = {shared: rows}, [*rows]
        for name in dict.fromkeys(table.name for table in own.values()):
            if name in (shared, journal):
                what = "version_table" if name == shared else JOURNAL_TABLE
                raise ConfigurationError(
                    f"{VERSION_TABLES} and {what} name the same table, {name}. Change one of them.",
                    setting=VERSION_TABLES.name,
                )
            if connection.dialect.has_table(connection, name, schema=schema):
                found[name] = rows_of(connection, name, schema)
                before = {*every}
                every += [row for row in found[name] if row not in before]
        places = cls(shared, schema, own, found)
        places._check(graph)
        return (*every, *places._implied(graph, every)), places

    def _check(self, graph: Graph) -> None:
        for name, rows in self.rows.items():
            owners = [package for package, table in self.own.items() if table.name == name]
            others = [row for row in rows if owners and graph.has_file(row) and graph[row].package not in owners]
            if others:
                raise VersionTableError(
                    f"The table {name} contains {listed(others)} of {graph[others[0]].package}, but {VERSION_TABLES}"
                    f" says that it is the version table of {listed(owners)}. Correct the setting.",
                    rows=others,
                )

    def _implied(self, graph: Graph, rows: Sequence[str]) -> Iterator[str]:
        """Yield the rows that were not needed before packages kept their rows in their own tables.

        So far, the app's version table had the row of a revision of another package that depends on them.
        """
        if graph.kept:
            applied = graph.ancestors(row for row in self.rows[self.shared] if row in graph)
            absent = [package for package, name in graph.kept.items() if name not in self.rows]
            for row in (row for row in graph.exact_rows(applied) if row not in rows):
                if graph[row].package in absent or graph[row].package not in graph.kept:
                    yield row

    def own_table_of(self, row: str) -> tuple[str, str] | None:
        """Return the package and the table of a row that is in the table of a package."""
        own = ((package, table.name) for package, table in self.own.items())
        return next(((package, name) for package, name in own if row in self.rows.get(name, ())), None)

    def wanted(self, graph: Graph, rows: Iterable[str]) -> dict[str, list[str]]:
        """Return the rows that each table should have. A row of a revision without a file stays where it is.

        :param graph: the graph of the database, in which missing revisions are marked as such.
        :param rows: all version rows.
        """
        wanted: dict[str, list[str]] = {self.shared: [], **{name: [] for name in self.rows}}
        for row in rows:
            present = () if graph.has_file(row) else [name for name in self.rows if row in self.rows[name]]
            for name in present or (graph.kept.get(graph[row].package, self.shared),):
                wanted.setdefault(name, []).append(row)
        return wanted

    def moved(self, wanted: Mapping[str, Sequence[str]]) -> list[str]:
        """Return the rows that are in one table and should be in another."""
        present, had = {row for rows in self.rows.values() for row in rows}, self.rows.get
        return [row for name, rows in wanted.items() for row in rows if row in present and row not in had(name, ())]

    def are_final(self, wanted: Mapping[str, Sequence[str]]) -> bool:
        """Return whether each table has the rows that it should have."""
        return all({*rows} == {*self.rows.get(name, ())} for name, rows in wanted.items())


def rows_of(connection: Connection, name: str, schema: str | None = None, limit: int | None = None) -> Rows:
    """Return the rows of a version table."""
    from sqlalchemy import String, column, select, table  # imported late, because --help imports this module

    query = select(column("version_num", String)).select_from(table(name, schema=schema)).limit(limit)
    return tuple(row for (row,) in connection.execute(query))


def tables_like_it(connection: Connection, pattern: str = "%", schema: str | None = None) -> list[str]:
    """Return the names of the tables that look like version tables.

    :param pattern: a pattern of ``LIKE`` for the names, which makes this much faster on large databases.
    :param schema: their schema; by default, the default schema.
    """
    from sqlalchemy import text  # imported late, because --help imports this module

    name = connection.dialect.name
    if name not in _LIKE_IT:
        return []
    where = ":schema" if schema else _DEFAULT_SCHEMA.get(name, "")
    values = {"name": pattern} | ({"schema": schema} if schema and name != "sqlite" else {})
    return sorted(found for (found,) in connection.execute(text(_LIKE_IT[name].format(where)), values))
