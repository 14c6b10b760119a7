"""Comparing what new revisions make with what the revisions make that they replace, on throwaway databases."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ampho._text import listed, shown_path
from ampho.database.catalog import CODE, Catalog, differences, read_catalog, without_code
from ampho.history.files import REPLACED
from ampho.history.graph import Graph
from ampho.history.replaced import Replaced
from ampho.migrate.executor import revert_scratch
from ampho.migrate.observers import Observer
from ampho.migrate.queries import query_env

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import MetaData
    from sqlalchemy.engine import Connection

    from ampho.database.journal import Journal
    from ampho.history.revision import Revision
    from ampho.migrate.project import Project
    from ampho.revise.squash.files import Changed
    from ampho.revise.writer import Draft

COMMAND = ("revision", "--autogenerate")
"""The Alembic command that ``env.py`` sees."""

_SHOWN = 10


@dataclass(frozen=True)
class State:
    """The schema of a throwaway database.

    :ivar tables: its tables, as autogenerate sees them.
    :ivar catalog: all that the database says about it.
    """

    tables: MetaData
    catalog: Catalog


def hidden(project: Project, context: MigrationContext) -> list[str]:
    """Return the names of the tables that are Alembic's and Ampho's own."""
    return [str(context.version_table), *project.own_tables]


def read_state(project: Project, connection: Connection, x: Sequence[str]) -> State:
    """Return the schema of a throwaway database."""
    from ampho.revise.squash.generate import reflect

    def look(rows: tuple[str, ...], journal: Journal, context: MigrationContext) -> State:
        left_out = hidden(project, context)
        return State(reflect(context, left_out), read_catalog(connection, left_out))

    found = query_env(project, connection, x, look, COMMAND)
    connection.rollback()
    return found


def catalog_of(project: Project, connection: Connection, x: Sequence[str]) -> Catalog:
    """Return what a throwaway database says about its schema."""
    connection.rollback()
    found = query_env(
        project,
        connection,
        x,
        lambda rows, journal, context: read_catalog(connection, hidden(project, context)),
        COMMAND,
    )
    connection.rollback()
    return found


def revert(
    project: Project, connection: Connection, news: Collection[str], before: Catalog, x: Sequence[str]
) -> Catalog:
    """Revert the new revisions on a throwaway database, and return its catalog.

    :param before: the catalog that should result.
    """
    revert_scratch(project, connection, {each for each in project.graph.ids if each not in news}, x=x)
    # A schema is not dropped, because it may contain what other packages created.
    left = {key: sql for key, sql in catalog_of(project, connection, x).items() if key[0] != "schema"}
    return left | {key: sql for key, sql in before.items() if key[0] == "schema"}


def difference(wanted: Catalog, found: Catalog) -> str:
    """Return how two schemas differ, except for what only SQL of the user's own creates; empty if they do not."""
    lines = differences(without_code(wanted), without_code(found))
    more = f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return f"{'; '.join(lines[:_SHOWN])}{more}"


def lost_code(wanted: Catalog, found: Catalog) -> list[str]:
    """Return the views, functions, and other objects of the user's own SQL that a schema lacks."""
    return [f"{kind} {name}" for kind, name in sorted(wanted.keys() - found.keys()) if kind in CODE]


@contextmanager
def in_temporary_folder(
    drafts: Iterable[Draft], changed: Iterable[Changed]
) -> Iterator[tuple[list[Revision], list[Revision]]]:
    """Write new and changed files to a folder for temporary files, and yield their revisions."""
    with tempfile.TemporaryDirectory(prefix="ampho-") as folder:

        def put(number: int, revision: Revision, source: bytes) -> Revision:
            path = Path(folder, f"{number}_{revision.path.name}")
            path.write_bytes(source)
            return replace(revision, file=str(path))

        news = [put(number, each.revision, each.source) for number, each in enumerate(drafts)]
        yield news, [put(len(news) + number, each.after, each.source) for number, each in enumerate(changed)]


def graph_after(
    graph: Graph, old: Mapping[str, Revision], changed: Iterable[Revision], news: Iterable[Revision]
) -> Graph:
    """Return the graph in which new revisions replace old ones.

    :param old: the old revisions, by id.
    :param changed: the revisions whose files name the new revisions instead of the old ones.
    :param news: the new revisions.
    :raises HistoryError: if the revisions would depend on each other in a cycle.
    """
    instead = {each.id: each for each in changed}
    left = [instead.get(each, graph.as_written(each)) for each in graph.ids if each not in old and graph.has_file(each)]
    replaced = Replaced(
        lambda: [
            *graph.replaced.by_id.values(),
            *(replace(each, file=f"{REPLACED}/{each.id}.py") for each in old.values()),
        ]
    )
    return Graph([*left, *news], graph.packages, graph.not_installed, replaced, graph.kept)


def warn(old: Iterable[Revision], lost: Sequence[str], observer: Observer | None) -> None:
    """Warn about what the new files do not create, and about files that may not find others after the move."""
    receiver = observer or Observer()
    if lost:
        receiver.warned(
            f"The new revision does not create what the old ones created with SQL: {listed(lost, _SHOWN)}. Its file"
            " contains that SQL as comments: uncomment what a new database needs."
        )
    for each in old:
        if b"__file__" in each.path.read_bytes():
            receiver.warned(
                f"{shown_path(each.path)} contains __file__, and is now in another folder. Correct the paths in it,"
                " for databases that have only a part of the old revisions."
            )
