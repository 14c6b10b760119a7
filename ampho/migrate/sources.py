"""Revert missing revisions with the sources that the journal keeps, such as those of another branch of the code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

from ampho._text import listed
from ampho.database.journal import Journal
from ampho.database.version_rows import Applied
from ampho.errors import RevisionFileError, UnknownRevisionsError
from ampho.history import header
from ampho.history.revision import Revision, digest_of, parse_revision
from ampho.migrate.queries import query

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from ampho.migrate.project import Project

T = TypeVar("T")


def with_missing(
    project: Project,
    connection: Connection,
    work: Callable[[Project], T],
    specifier: str,
    *,
    accept: bool,
    x: Sequence[str],
) -> T:
    """Call ``work`` with a project, and if that needs missing files, with their sources from the journal.

    :param specifier: the specifier of the downgrade, for the error.
    :param accept: whether the sources from the journal may be used.
    :raises UnknownRevisionsError: if the journal does not have the sources, or if they may not be used.
    """
    try:
        return work(project)
    except UnknownRevisionsError as exc:
        error = exc
    with _restored(project, connection, x) as found:
        if found is None:
            raise error
        if accept:
            return work(found)
    raise UnknownRevisionsError(
        f"'ampho db-down {specifier}' needs the sources of {listed(error.rows)} in the journal, because the files are"
        f" missing. Review them with 'ampho db-down {specifier} --plan', and then add --yes. Nothing was changed.",
        rows=error.rows,
    )


@contextmanager
def _restored(project: Project, connection: Connection, x: Sequence[str]) -> Iterator[Project | None]:
    """Yield the project with the sources from the journal as files in a temporary folder; None if there are none."""

    def read(rows: tuple[str, ...], journal: Journal) -> dict[str, tuple[str, str]]:
        applied, found = Applied.from_rows(project.graph, rows, journal), dict[str, tuple[str, str]]()
        for revision_id, source in journal.sources(applied.sources).items():
            entry, package = journal.applied(revision_id), applied.package(revision_id)
            is_as_ran = entry is not None and entry.checksum == digest_of(source.encode()).hex()
            if is_as_ran and package in project.graph.packages and _is_plain(source):
                found[revision_id] = package, source
        return found

    sources = query(project, connection, x, read)
    with TemporaryDirectory(prefix="ampho-") as folder:
        written = [_written(Path(folder), *each) for each in enumerate(sources.items())]
        revisions = [revision for revision in written if revision is not None]
        yield project.with_graph(project.graph.with_missing(revisions)) if revisions else None


def _is_plain(source: str) -> bool:
    """Return whether the header of a revision can be read without executing the source."""
    with suppress(SyntaxError, ValueError, RecursionError):
        return (header.from_text(source.encode()) or header.from_syntax_tree(source.encode(), "")) is not None
    return False


def _written(folder: Path, number: int, found: tuple[str, tuple[str, str]]) -> Revision | None:
    """Write the file of a revision, and return the revision; None if the source is not that of a revision."""
    revision_id, (package, source) = found
    name = re.sub(r"\W", "_", revision_id)
    path = folder / f"{number}_{name}.py"
    path.write_bytes(source.encode())
    with suppress(RevisionFileError):
        revision = parse_revision(source.encode(), str(path), package)
        return replace(revision, source=source) if revision.id == revision_id else None
    return None
