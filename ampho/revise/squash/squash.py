"""Squashing: what is done with the files and the throwaway databases, and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ampho._text import counted, sentences
from ampho.database.catalog import Catalog, read_catalog
from ampho.errors import RevisionFailedError, RevisionInputError
from ampho.history.revision import read_revisions
from ampho.migrate.queries import query_env
from ampho.revise.squash import files
from ampho.revise.squash.carried import Carried, block, carried
from ampho.revise.squash.files import Changed, Files, renamed
from ampho.revise.squash.line import Segment, find_segments, squashed_graph
from ampho.revise.squash.proof import (
    COMMAND,
    State,
    catalog_of,
    difference,
    hidden,
    in_temporary_folder,
    lost_code,
    read_state,
    revert,
    warn,
)
from ampho.revise.writer import Draft, check_message, draft_revision

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy.engine import Connection

    from ampho.database.journal import Journal
    from ampho.history.graph import Graph
    from ampho.history.revision import Revision
    from ampho.migrate.observers import Observer
    from ampho.migrate.project import Project


@dataclass(frozen=True, slots=True)
class Squashed:
    """What ``db-squash`` did, or would do.

    :ivar package: the name of the package.
    :ivar revisions: the new revisions, each with the ids of those that it replaces, oldest first.
    :ivar carried: the statements of the old revisions that are more than changes of the schema. The new files contain
        them as comments.
    :ivar moved: the files of the old revisions, in the folder ``replaced``.
    :ivar changed: the other files, which name the new revisions instead of the old ones.
    :ivar is_written: whether the files were written, changed, and moved.
    """

    package: str
    revisions: tuple[Revision, ...]
    carried: tuple[Carried, ...] = ()
    moved: tuple[Path, ...] = ()
    changed: tuple[Path, ...] = ()
    is_written: bool = False


def complete(project: Project, package: str) -> None:
    """Move the files of old revisions that are still beside those that replace them, because a squash was killed."""
    owner = project.package(package)
    owner.check_writable()
    files.complete(owner, [*read_revisions(owner)])


@dataclass
class Squash:
    """A squash while it is prepared and proved; nothing is written before :meth:`write`.

    :ivar project: the whole project.
    :ivar x: values for ``context.get_x_argument()``.
    :ivar segments: the lines that are squashed.
    :ivar changed: the files that name the new revisions instead of the old ones.
    :ivar drafts: the new files, one for each segment.
    """

    project: Project
    package: str
    x: Sequence[str]
    segments: Sequence[Segment]
    changed: Sequence[Changed]
    drafts: list[Draft] = field(default_factory=list)

    @classmethod
    def prepare(
        cls,
        project: Project,
        package: str,
        x: Sequence[str] = (),
        *,
        start: str | None,
        end: str | None,
        keep: Sequence[str],
        message: str,
    ) -> Squash:
        """Choose the revisions, and check that they can be squashed, without a database.

        :raises RevisionInputError: if they cannot.
        """
        owner = project.package(package)
        owner.check_writable()
        project.check_addressed(package)
        if message:
            check_message(message, package)
        graph = project.graph
        segments = find_segments(graph, package, str(owner.versions), start=start, end=end, keep=keep, message=message)
        ids = {segment.last: [segment.new.id] for segment in segments}
        old = {each.id for segment in segments for each in segment.old}
        found = cls(project, package, x, segments, renamed(graph, project.packages, ids, old))
        found.graph([segment.new for segment in segments])
        return found

    def graph(self, news: Sequence[Revision]) -> Graph:
        """Return the graph after the squash.

        :param news: the new revisions, with the paths of their files.
        """
        return squashed_graph(self.project.graph, self.segments, [each.after for each in self.changed], news)

    @property
    def carried(self) -> tuple[Carried, ...]:
        """The statements of the old revisions that are more than changes of the schema."""
        return tuple(found for segment in self.segments for each in segment.old for found in carried(each))

    def check_accepted(self, *, accept: bool) -> None:
        """Check that the author knows of the statements that the new revisions contain only as comments.

        :raises RevisionInputError: if there are any, and the author did not accept that.
        """
        found = self.carried
        if found and not accept:
            raise RevisionInputError(
                f"The revisions contain {counted(len(found), 'statement')} that the new one would contain only as"
                f" comments, such as {found[0].text}. Nothing was written. Print them all with 'ampho db-squash"
                f" {self.package} --plan', and keep the revisions that a new database needs, with --keep"
                f" {found[0].revision}, or accept the rest with --yes (accept=True).",
                package=self.package,
            )

    def read(self, project: Project, connection: Connection) -> State:
        """Return the schema of a throwaway database."""
        return read_state(project, connection, self.x)

    def generate(self, segment: Segment, before: State, project: Project, connection: Connection) -> State:
        """Prepare the file that makes the schema of a throwaway database, and return that schema.

        :param project: the part of the project that belongs to the database.
        :param before: the schema before the segment.
        """
        from ampho.revise.autogenerate.owners.ownership import find_owners
        from ampho.revise.squash.generate import make_schema, rendered, table_keys, with_blocks

        def make(rows: tuple[str, ...], journal: Journal, context: MigrationContext) -> State:
            left_out = hidden(project, context)
            after = State(before.tables, read_catalog(connection, left_out))
            owners = find_owners(project, context.opts.get("target_metadata"))
            keys = table_keys(connection, before.tables, left_out)
            changes = make_schema(context, owners, dict.fromkeys(keys, self.package), [self.package], before.tables)
            body = rendered(changes[self.package], segment.new, rows, before.catalog, after.catalog)
            self.drafts.append(draft_revision(self.project, segment.new, with_blocks(body, self._blocks(segment))))
            return after

        found = query_env(project, connection, self.x, make, COMMAND)
        connection.rollback()
        return found

    def _blocks(self, segment: Segment) -> list[list[str]]:
        folder = self.project.package(self.package).replaced_folder
        return [block(each, f"{folder.name}/{each.path.name}") for each in segment.old]

    @contextmanager
    def proving(self, project: Project) -> Iterator[Project]:
        """Yield a project in which the squash is done, with the new files in a folder for temporary files."""
        with in_temporary_folder(self.drafts, self.changed) as (news, changed):
            graph = squashed_graph(self.project.graph, self.segments, changed, news)
            yield project.with_graph(graph)

    def prove(
        self, segment: Segment, before: State, after: State, project: Project, connection: Connection
    ) -> list[str]:
        """Check that a new revision makes the same schema as the old ones, and that its downgrade reverts that.

        :param project: the part of the project after the squash that belongs to the throwaway database.
        :param connection: a connection to a database to which the new revision is applied.
        :return: the views, functions, and other objects of the user's own SQL that the new revision does not create.
        :raises RevisionInputError: if not.
        """
        found = self.catalog(project, connection)
        self._compare(segment, "does not make the same schema as those that it replaces", after.catalog, found)
        left = revert(project, connection, [segment.new.id], before.catalog, self.x)
        self._compare(segment, "is not reverted by its downgrade", before.catalog, left)
        return lost_code(after.catalog, found)

    def catalog(self, project: Project, connection: Connection) -> Catalog:
        """Return what a throwaway database says about its schema."""
        return catalog_of(project, connection, self.x)

    def check_heads(self, old: Catalog, new: Catalog) -> None:
        """Check that the histories of all packages make the same schema with the new revisions as with the old ones.

        :raises RevisionInputError: if not.
        """
        self._compare(self.segments[-1], "changes what the revisions of all packages make", old, new)

    def _compare(self, segment: Segment, what: str, wanted: Catalog, found: Catalog) -> None:
        if found_difference := difference(wanted, found):
            raise RevisionInputError(
                f"The new revision for {segment.old[0].id} to {segment.last} {what}: in the database,"
                f" {found_difference}. Nothing was written. Keep the revision that makes the difference as it is, with"
                " --keep REV.",
                package=self.package,
            )

    @contextmanager
    def naming_failure(self, segment: Segment) -> Iterator[None]:
        """Say what to do if the new revision of a segment fails on a throwaway database."""
        try:
            yield
        except RevisionFailedError as exc:
            raise RevisionInputError(
                sentences(
                    f"The new revision for {segment.old[0].id} to {segment.last} does not run on an empty database:"
                    f" {exc}",
                    "Nothing was written. Keep the old revision that creates what is missing, with --keep REV.",
                ),
                package=self.package,
            ) from exc

    def result(self) -> Squashed:
        """Return what the squash would do."""
        folder = self.project.package(self.package).replaced_folder
        return Squashed(
            self.package,
            tuple(segment.new for segment in self.segments),
            self.carried,
            tuple(folder / each.path.name for segment in self.segments for each in segment.old),
            tuple(each.after.path for each in self.changed),
        )

    def write(self) -> Squashed:
        """Write the new files, move the old ones, and change those that name them: all of this, or nothing.

        :raises RevisionInputError: if a file cannot be written.
        """
        statements = self.carried
        folder = self.project.package(self.package).replaced_folder
        with Files().together(self.package) as changing:
            for draft in self.drafts:
                changing.write(draft.revision.path, draft.source)
            for draft in self.drafts:
                draft.files.run_hooks(draft.revision.path, is_kept=False)
            moved = [changing.move(each.path, folder) for segment in self.segments for each in segment.old]
            for each in self.changed:
                changing.change(each.after.path, each.source)
        return Squashed(
            self.package,
            tuple(draft.revision for draft in self.drafts),
            tuple(replace(each, path=folder / each.path.name) for each in statements),
            tuple(moved),
            tuple(each.after.path for each in self.changed),
            is_written=True,
        )

    def warn(self, lost: Sequence[str], observer: Observer | None) -> None:
        """Warn about what the new files do not create, and about files that may not find others after the move."""
        warn([each for segment in self.segments for each in segment.old], lost, observer)
