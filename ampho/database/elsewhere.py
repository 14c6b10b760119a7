"""Looks for the version rows of a history in a table other than the version table.

They are in another one when the ``env.py`` that names the version table is no longer used. Nothing counts as applied
then, and everything would run again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import String, column, select, table, text

from ampho._text import listed
from ampho.errors import VersionTableError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from ampho.database.journal import Journal
    from ampho.history.graph import Graph

DEFAULT = "alembic_version"
"""The name of Alembic's version table by default."""

_MOST = 1000  # rows; a version table has one for each head
_IN_SCHEMA = (
    "SELECT table_name FROM information_schema.columns WHERE column_name = 'version_num' AND data_type IN"
    " ('character varying', 'character', 'varchar', 'char', 'text') AND table_schema = "
)
_LIKE_IT = {
    # By the text first: SQLite cannot tell the columns of a view or a virtual table that lacks what it is made of.
    "sqlite": "SELECT m.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'"
    " AND m.sql LIKE 'CREATE TABLE%version_num%' AND c.name = 'version_num'",
    "postgresql": f"{_IN_SCHEMA}current_schema()",
    "mysql": f"{_IN_SCHEMA}DATABASE()",
    "mariadb": f"{_IN_SCHEMA}DATABASE()",
}


def check_not_elsewhere(connection: Connection, graph: Graph, version_table: str, journal: Journal) -> None:
    """Check that no other table has rows of this history, where the version table has none.

    A version table that was given a name may be one of several, such as those of tenants. So then only the one of the
    default name counts. A table of the same name is in another schema, and belongs to something else.

    :param journal: what it says was taken back is in a copy that somebody keeps.
    :raises VersionTableError: if one has.
    """
    like_it = _LIKE_IT.get(connection.dialect.name)
    if like_it is None or not graph.ids:
        return
    names = {name for (name,) in connection.execute(text(like_it))} - {version_table}
    for name in sorted(names if version_table == DEFAULT else names & {DEFAULT}):
        query = select(column("version_num", String)).select_from(table(name)).limit(_MOST)
        if ids := [row for (row,) in connection.execute(query) if row in graph and not journal.denies(row)]:
            raise VersionTableError(
                f"Nothing is applied according to the version table {version_table}, but the table {name} has"
                f" {listed(ids)} of this history, and everything would run again. If that is the version table, pass"
                f' version_table="{name}" to context.configure() in the env.py that is used, or to the extension. If it'
                " is a copy, drop it; nothing was changed.",
                rows=ids,
            )
