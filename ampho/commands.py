"""The commands, with their signatures and documentation.

They are methods of ``Ampho`` and ``AsyncAmpho``, and the command line calls them. The code is synchronous. On Quart, a
command runs in a greenlet, in which :class:`Framework` awaits async functions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ampho.errors import AmphoError, DatabaseNameError, DatabasesError, SpecifierError
from ampho.results import combined, databases_error, named, selecting
from ampho.running import CONNECTIONS, Framework, Opened, Running, naming_one_of, warned, without_secrets
from ampho.settings import DEFAULT_DATABASE

if TYPE_CHECKING:
    from sqlalchemy import URL
    from sqlalchemy.engine import Connection

    from ampho.database.journal import Entry
    from ampho.fleet.survey import Surveyed
    from ampho.history.graph import Graph
    from ampho.history.revision import Phase, Revision
    from ampho.migrate.observers import Observer
    from ampho.migrate.plan import Direction, Plan, Run
    from ampho.migrate.project import Project
    from ampho.migrate.stamp import Stamped
    from ampho.migrate.template import Template
    from ampho.migrate.verify import Claim, Verification
    from ampho.revise.adopt.adopt import Adopted
    from ampho.revise.adopt.split import Split
    from ampho.revise.autogenerate.generate import Drift, Generated
    from ampho.revise.heads import HeadsCheck
    from ampho.revise.lint.report import LintReport
    from ampho.revise.squash.proof import State
    from ampho.revise.squash.prune import Pruned
    from ampho.revise.squash.squash import Squash, Squashed
    from ampho.revise.writer import Initialized
    from ampho.status.deployment import Deployment
    from ampho.status.fleet import FleetStatus
    from ampho.status.graph_view import Picture
    from ampho.status.readiness import Readiness
    from ampho.status.state import CurrentState, RevisionRecord
    from ampho.status.summary import DatabaseStatus

T = TypeVar("T")


class Commands:
    """The commands.

    Each command imports its modules when it is called, so that an app that only serves requests does not import them.

    :ivar expects_steps: whether databases to upgrade are known to be behind, so that the lock is acquired at once.
    :ivar updated: the files ``HEADS`` that were written because revisions were.
    """

    def __init__(self, framework: Framework) -> None:
        self._running = Running(framework)
        self.project: Callable[[], Project] = self._running.project  # which the command line needs, too
        self.expects_steps: bool = False
        self.updated: list[Path] = []
        self.surveyed: Callable[..., Generator[Surveyed]] = self._running.survey  # which it needs, too
        self.reach: Callable[[str, float], None] = self._running.reach  # which the pending page needs

    def init(self, package: str) -> Initialized:
        """Write the migrations folder of a package.

        :param package: the package, or ``package:folder`` for a folder other than ``migrations``.
        :raises PackageError: if the package cannot have a migrations folder, or already has one.
        """
        from ampho.revise import writer

        project = self._running.project()
        with without_secrets(project.url):
            return writer.init(project, package)

    def init_all(self) -> tuple[Initialized, ...]:
        """Write the migrations folders of all listed packages that have none and are not installed in site-packages.

        :return: the folders that were written.
        :raises PackageError: if a package cannot have a migrations folder. No folder is written then.
        """
        from ampho.revise import writer

        project = self._running.project()
        with without_secrets(project.url):
            return writer.init_all(project)

    def adopt(
        self,
        source: str | Path | None = None,
        package: str | Iterable[str] | None = None,
        *,
        plan: bool = False,
        accept: bool = False,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> Adopted:
        """Move the history of another tool, such as Flask-Migrate, Flask-Alembic, or plain Alembic, into packages.

        With one package, the ids stay. If the history consists of several lines, that is, of branches that no
        ``down_revision`` connects, a line with the label of a listed package goes into that package.

        With several packages, the history is split: each package gets a first revision that creates the tables of its
        models, and that replaces all of the old revisions, as throwaway databases prove. The old files are moved to the
        folder ``replaced`` of the first of the packages, and are only run on databases that have a part of them.

        No database is changed. The arguments of ``context.configure()`` in its ``env.py`` are copied into the new one,
        with the functions that they use. Whatever else it adds to the template of the tool is listed.

        :param source: the folder that contains ``env.py``, a folder with revision files, an ``alembic.ini``, or a
            ``pyproject.toml``; by default, the folder in ``ALEMBIC`` of Flask-Alembic, ``migrations``, ``alembic.ini``,
            ``pyproject.toml``, or the migrations folder of a package whose ``env.py`` is another tool's, whichever
            exists. To split a history, it may also be the migrations folder of a package.
        :param package: the package, or several, as a list or separated by commas; by default, the only one that is
            configured. Its folder is created if necessary.
        :param plan: whether to change nothing, and only return what would be done.
        :param accept: with several packages, whether the new revisions may contain statements that are more than
            changes of the schema, such as those that change data, only as comments.
        :param x: with several packages, values for ``context.get_x_argument()``.
        :param observer: receives the warnings.
        :return: what was moved and copied, and what is left; without revisions if there is nothing to do.
        :raises RevisionInputError: if there is no history at ``source``, if a package has one already, or if the schema
            would not be the same. No file is changed then.
        :raises HistoryError: if the revisions do not form a valid graph with those of the other packages.
        :raises PackageError: if a package cannot have a migrations folder.
        :raises RevisionFailedError: if an old revision fails on the throwaway database.
        """
        from ampho.revise.adopt import adopt, split

        project = self._running.project()
        with self._writing():
            names = [name.strip() for each in _as_tuple(package or ()) for name in each.split(",")]
            path = adopt.usable_source(project, None if source is None else Path(source), names, planned=plan)
            if len(names) < 2:
                return adopt.adopt(project, path, names[0] if names else None, planned=plan)
            names = [*dict.fromkeys(name.partition(":")[0] for name in names)]
            split.complete(project, path, names)
            work = split.Split.prepare(project, path, names, x)
            if work is None:
                first = project.package(names[0])
                return adopt.Adopted(path, first.name, first.folder, is_planned=plan)
            work.check_accepted(accept=accept or plan)
            lost = self._prove_split(work, observer)
            if plan:
                return work.result()
            work.warn(lost, observer)
            return work.write()

    def _prove_split(self, work: Split, observer: Observer | None) -> list[str]:
        """Generate the new revisions of a split, and prove that they make the same schema as the old ones.

        :return: the objects that only SQL of the old revisions creates.
        """
        from ampho.revise.squash.proof import catalog_of, read_state

        on_scratch = partial(self._on_scratch, x=work.x)
        home = self._running.first_home(work.first.name)
        part = home.with_graph(work.project.graph)
        here = [each for each in work.before if each in part.graph]  # the others live in other databases
        before = on_scratch(part, here, partial(read_state, x=work.x), observer)
        after = on_scratch(part, work.heads, partial(work.generate, before))
        with work.proving(part) as new:
            with work.naming_failure():
                lost = on_scratch(new, work.news, partial(work.prove, before, after))
            if work.has_others:
                old, now = (on_scratch(each, ["heads"], partial(catalog_of, x=work.x)) for each in (part, new))
                work.compare("change what the revisions of all packages make", old, now)
        return lost

    def revision(
        self,
        package: str,
        message: str,
        *,
        autogenerate: bool = False,
        scratch: bool = False,
        phase: Phase | str | None = None,
        depends_on: Iterable[str] = (),
        head: str | None = None,
        splice: bool = False,
        rev_id: str | None = None,
        database: str | None = None,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> Revision | None:
        """Write a revision on the branch of a package.

        :param message: what the revision does, for its docstring and the name of its file.
        :param autogenerate: whether to fill the revision by comparing the models of the package with the database.
        :param scratch: with ``autogenerate``, whether to compare with a throwaway database, on which the history of
            the package runs first, instead of the app's database.
        :param phase: the phase of the revision, ``pre`` or ``post``, for its header; by default, the phase is inferred.
        :param depends_on: ids of revisions, or packages, which stand for their current heads.
        :param head: the revision to revise instead of the head of the package; ``base`` to start another line.
        :param splice: whether ``head`` may be a revision that has a successor.
        :param rev_id: the id of the revision, instead of a generated one.
        :param database: with ``autogenerate``, the database to compare with, for a package that lives in several; by
            default, the first one.
        :param x: values for ``context.get_x_argument()``.
        :param observer: receives the warnings.
        :return: the revision; with ``autogenerate``, None if nothing differs, and the first one if there are several,
            because both phases are needed, or because ``process_revision_directives`` asks for them.
        :raises AmphoError: if the revision cannot be written; no file is left behind.
        """
        from ampho.revise import writer

        if autogenerate:
            (found,) = self.autogenerate(
                message,
                package,
                scratch=scratch,
                phase=phase,
                depends_on=depends_on,
                head=head,
                splice=splice,
                rev_id=rev_id,
                database=database,
                x=x,
                observer=observer,
            )
            return next(iter(found.revisions), None)
        project = self._running.project()
        with self._writing():
            wish = writer.Wish(message, _as_tuple(depends_on), head, splice, rev_id, _phase(phase))
            new = writer.prepare_revision(project, package, wish)
            if not (project.graph.of_package(package) or new.depends_on):
                from ampho.revise.autogenerate.owners.ownership import find_references

                new = replace(new, depends_on=find_references(project, package))
            return writer.write_revision(project, new)

    def autogenerate(
        self,
        message: str,
        *packages: str,
        scratch: bool = False,
        dry_run: bool = False,
        asks: bool = False,
        rename: Iterable[str] = (),
        fill: Iterable[str] = (),
        safe: bool = False,
        safe_above: int | None = None,
        split: bool = True,
        phase: Phase | str | None = None,
        depends_on: Iterable[str] = (),
        head: str | None = None,
        splice: bool = False,
        rev_id: str | None = None,
        database: str | Iterable[str] | None = None,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> tuple[Generated, ...]:
        """Write the revisions that make the database match the models of packages.

        Packages that match their models get no revision. If one file cannot be written, no file is.

        :param message: what the revisions do, for their docstrings and the names of their files.
        :param packages: the packages; by default all, except those that are installed in site-packages.
        :param scratch: whether to compare with a throwaway database, on which the histories run first, instead of the
            app's database.
        :param dry_run: whether to write nothing.
        :param asks: whether you ask the questions in the result, and call this method again with the answers. If so,
            and if there are questions, nothing is written. If not, the questions become warnings.
        :param rename: renames, such as ``users.name=full_name``; ``users.name=`` says that the column was not renamed.
        :param fill: values for existing rows, such as ``users.age=0``.
        :param safe: whether to change existing tables with :mod:`ampho.operations`, which do not block the app.
        :param safe_above: the same, but only for tables that have more than this number of rows.
        :param split: whether to write two revisions for a package if the new release of the app needs a part of the
            changes, and the old release may fail with the rest: one in phase ``pre``, and one in phase ``post``.
        :param phase: the phase of the revisions, which are not split then.
        :param depends_on: as for :meth:`revision`, only for a single package. The same applies to ``head``, ``splice``,
            and ``rev_id``.
        :param database: the databases to compare with; by default, a package that lives in several databases is
            compared with the first of these.
        :param x: values for ``context.get_x_argument()``.
        :param observer: receives the warnings.
        :return: a result for each package.
        :raises NotUpToDateError: if a revision of one of the packages is not applied.
        :raises RevisionInputError: if a revision cannot be written; no file is left behind.
        """
        from ampho.revise import writer
        from ampho.revise.autogenerate import generate

        wish = writer.Wish(message, _as_tuple(depends_on), head, splice, rev_id, _phase(phase))
        if len(packages) == 1:  # errors that need no database come first
            project = self._running.project()
            with without_secrets(project.url):
                writer.prepare_revision(project, packages[0], wish)

        self._check_models(packages, database, observer)

        own = self._running.project().by_first_home(packages, database)
        project = self._running.project()
        renames, fills = (generate.by_database(project, own, tuple(texts)) for texts in (rename, fill))

        def compare(on: Opened) -> tuple[generate.Compared]:
            name = on.project.database
            return (
                generate.compare(
                    on.project,
                    on.connection,
                    own[name],
                    wish,
                    are_named=bool(packages),
                    scratch=scratch,
                    rename=renames[name],
                    fill=fills[name],
                    safe_above=-1 if safe and safe_above is None else safe_above,
                    phased=split,
                    x=x,
                    observer=on.observer,
                ),
            )

        try:
            point = packages[0] if len(packages) == 1 else "heads"
            compared = self._running.on_each(compare, own, observer, scratch=point if scratch else None, x=x)
        except DatabasesError as exc:  # nothing is written, so there are no results for the other databases
            raise databases_error(exc.errors, {}, others=exc.results) from exc
        with self._writing():
            found = generate.write(compared, dry_run=dry_run, asks=asks)
        return combined(found) if len(found) > 1 else next(iter(found.values()))

    def _check_models(
        self, packages: Sequence[str], database: str | Iterable[str] | None, observer: Observer | None
    ) -> None:
        """Check in which databases the tables of the models live, before the first of several databases is compared.

        Report packages that are not compared, because they only live in the databases of groups.
        """
        from ampho.revise.autogenerate.owners.ownership import find_places

        project = self._running.project()
        if not project.has_several_databases:
            return
        with without_secrets(project.url):
            find_places(project).check()
        if observer is None or packages or database is not None or not project.homes.names:
            return
        for package in project.packages:
            homes = project.homes.of(package.name)
            if not set(homes) & set(project.homes.names):
                lives = f"{package.name} lives in the group {homes[0]}"
                observer.warned(f"{lives}, and is not compared. Add --database {homes[0]}.")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Keep the files ``HEADS`` up to date while a command writes revisions, and secrets out of its errors."""
        from ampho.revise import heads

        project = self._running.project()
        with without_secrets(project.url):
            before = heads.kept(project)
            try:
                yield
            except BaseException:
                with suppress(AmphoError):  # A hook may have failed after the file was written.
                    self.updated += heads.keep(self._running.framework.project(), before)
                raise
            self.updated += heads.keep(self._running.framework.project(), before)

    def merge(self, package: str, message: str = "Merge heads", *, rev_id: str | None = None) -> Revision:
        """Write a revision that merges the heads of a package.

        :param message: what the revision does, for its docstring and the name of its file.
        :param rev_id: the id of the revision, instead of a generated one.
        :raises RevisionInputError: if the package has fewer than two heads.
        """
        from ampho.revise import writer

        project = self._running.project()
        with self._writing():
            return writer.merge(project, package, message, rev_id=rev_id)

    def rebase(self, package: str, *, x: Sequence[str] = (), observer: Observer | None = None) -> Revision:
        """Move the later of two parallel lines of a package after the other, if none of its revisions is applied.

        The later line is the one whose first revision is newer. Ampho checks the databases in which the package lives,
        but not those of other machines; if the revision is applied there, use :meth:`merge` instead.

        :param x: values for ``context.get_x_argument()``.
        :param observer: receives the warnings.
        :return: the first revision of the later line, with its new parent.
        :raises RevisionInputError: if there are not two lines, or the later one cannot be moved.
        """
        from ampho.revise import rebase

        whole = self._running.project()
        with self._writing():
            whole.check_addressed(package)
            root, onto = rebase.later_line(whole.graph, whole.package(package))
            with closing(whole.each_of(whole.homes.select(whole.homes.of(package)))) as names:
                for name in names:
                    self._running.on_one(
                        lambda on: rebase.check_not_applied(on.project, on.connection, root, x=x),
                        name,
                        observer,
                        "db-rebase",
                        mending=package,
                    )
            moved = rebase.reparent(whole.graph[root], onto)
            rebase.warn_of_phases(whole, root, onto, observer)
            return moved

    def squash(
        self,
        package: str,
        *,
        start: str | None = None,
        end: str | None = None,
        keep: Iterable[str] = (),
        message: str = "",
        dry_run: bool = False,
        accept: bool = False,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> Squashed:
        """Write one revision that makes the schema of a line of revisions, and that replaces them.

        The files of the old revisions are moved to the folder ``replaced``, and are only run on databases that have a
        part of them. Before that, throwaway databases prove that the new revision makes the same schema.

        :param start: the first revision to replace; by default, the first of the package.
        :param end: the last revision to replace; by default, the head of the package.
        :param keep: revisions to keep. What is before and after each of them is replaced on its own.
        :param message: what the revision does, for its docstring and the name of its file.
        :param dry_run: whether to return what would be done, without databases and without writing. A squash that was
            interrupted is completed before.
        :param accept: whether the new revision may contain statements that are more than changes of the schema, such
            as those that change data, only as comments.
        :param x: values for ``context.get_x_argument()``.
        :param observer: receives the warnings.
        :raises RevisionInputError: if the revisions cannot be replaced, or if the schema would not be the same. No file
            is changed then.
        :raises RevisionFailedError: if an old revision fails on the throwaway database.
        """
        from ampho.revise.squash import squash

        whole = self._running.project()
        with self._writing():
            squash.complete(whole, package)
            work = squash.Squash.prepare(whole, package, x, start=start, end=end, keep=_as_tuple(keep), message=message)
            if dry_run:
                return work.result()
            work.check_accepted(accept=accept)
            work.warn(self._prove(work, observer), observer)
            return work.write()

    def prune(
        self, package: str, *, dry_run: bool = False, x: Sequence[str] = (), observer: Observer | None = None
    ) -> Pruned:
        """Delete the files of a package's replaced revisions.

        A database that has only a part of what a revision replaces then cannot be upgraded any more. Ampho checks the
        databases in which the package lives, but not those of other machines.

        :param dry_run: whether to only return what would be deleted, without databases.
        :param x: values for ``context.get_x_argument()``.
        :param observer: receives the warnings.
        :raises RevisionInputError: if there are no such files, or if a database needs them.
        """
        from ampho.revise.squash import prune

        whole = self._running.project()
        with without_secrets(whole.url):
            whole.check_addressed(package)
            found = prune.find_files(whole, package)
            if dry_run:
                return found
            with closing(whole.each_of(whole.homes.select(whole.homes.of(package)))) as names:
                for name in names:
                    self._running.on_one(
                        lambda on: prune.check_not_needed(on.project, on.connection, package, x=x),
                        name,
                        observer,
                        "db-squash",
                    )
            return prune.delete(found, whole.package(package).replaced_folder)

    def _prove(self, work: Squash, observer: Observer | None) -> list[str]:
        """Generate the new revisions of a squash, and prove that they make the same schema as the old ones.

        :return: the objects that only SQL of the old revisions creates.
        """
        on_scratch = partial(self._on_scratch, x=work.x)
        part = self._running.first_home(work.package)
        states: list[tuple[State, State]] = []
        for segment in work.segments:
            here = [each for each in segment.before if each in part.graph]  # the others live in other databases
            before = on_scratch(part, here, work.read, None if states else observer)
            after = on_scratch(part, [segment.last], partial(work.generate, segment, before))
            states.append((before, after))
        lost: list[str] = []
        with work.proving(part) as new:
            for segment, (before, after) in zip(work.segments, states, strict=True):
                with work.naming_failure(segment):
                    lost += on_scratch(new, [segment.new.id], partial(work.prove, segment, before, after))
            old, now = (on_scratch(each, ["heads"], work.catalog) for each in (part, new))
            work.check_heads(old, now)
        return lost

    def _on_scratch(
        self,
        project: Project,
        specifiers: Sequence[str],
        look: Callable[[Project, Connection], T],
        observer: Observer | None = None,
        *,
        x: Sequence[str],
    ) -> T:
        return self._running.on_scratch(project, specifiers, lambda on: look(on.project, on.connection), observer, x=x)

    def check(
        self,
        *packages: str,
        scratch: bool = False,
        database: str | Iterable[str] | None = None,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> tuple[Drift, ...]:
        """Compare the models of packages with the database.

        :param packages: the packages; all by default.
        :param scratch: whether to compare with a throwaway database, on which the histories run first, instead of the
            app's database.
        :param database: the name of a database, or several; by default, all in which packages live.
        :param x: values for ``context.get_x_argument()``.
        :param observer: receives the warnings.
        :return: the differences, per package.
        :raises NotUpToDateError: if a revision of one of the packages is not applied.
        """
        from ampho.revise.autogenerate import generate

        self._check_models(packages, database, observer)

        def check(on: Opened) -> tuple[Drift, ...]:
            own = on.project.living_here(packages)
            return generate.check(on.project, on.connection, own, scratch=on.scratch, x=x, observer=on.observer)

        point = "heads" if scratch else None
        return self._running.on_each(check, database, observer, packages=packages, scratch=point, x=x)

    def check_heads(self, *packages: str) -> tuple[HeadsCheck, ...]:
        """Return the heads of packages, and whether each package has one head, and its file ``HEADS`` names it.

        This uses no database.

        :param packages: the packages; by default all, except those that are installed in site-packages.
        """
        from ampho.revise import heads

        project = self._running.project()
        with without_secrets(project.url):
            return heads.check(project, packages)

    def write_heads(self) -> tuple[Path, ...]:
        """Write the file ``HEADS`` of each package that is not installed in site-packages, unless it is up to date.

        From then on, each command that writes, moves, or deletes revisions updates the file.

        :return: the files that were written.
        :raises RevisionInputError: if a file cannot be written.
        """
        from ampho.revise import heads

        project = self._running.project()
        with without_secrets(project.url):
            return heads.write(project)

    def check_phases(
        self,
        *,
        diff_base: str | None = None,
        database: str | Iterable[str] | None = None,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> Plan:
        """Check that an upgrade in phase ``pre`` is possible, and return its plan.

        :param diff_base: a branch or commit of git; if given, the pending revisions are those that the current branch
            has added since it left that one, and no database is used.
        :param database: the name of a database, or several; by default, all in which packages live.
        :param x: values for ``context.get_x_argument()``.
        :param observer: receives the warnings.
        :raises PhaseError: if a revision in phase ``pre`` depends on a pending one in phase ``post``.
        :raises LinterError: if git cannot compare the branch with ``diff_base``.
        """
        if diff_base is None:
            return self.plan(phase="pre", database=database, x=x, observer=observer)
        from ampho.migrate.plan import plan_new
        from ampho.revise.lint import branch

        project = self._running.project()
        files = self._running.framework.in_thread(partial(branch.changed_files, diff_base, only_added=True))
        with without_secrets(project.url):
            return plan_new(project.graph, branch.revisions_in(files, project.graph), project.phases)

    def lint(
        self,
        *names: str,
        exclude: Iterable[str] = (),
        diff_base: str | None = None,
        database: str | Iterable[str] | None = None,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> LintReport:
        """Look for dangerous changes in revisions before they run.

        :param names: ids of revisions, or packages, which stand for their pending revisions; all packages by default.
        :param exclude: the names of rules to skip.
        :param diff_base: a branch or commit of git; if given, only revisions that the current branch adds or changes
            since it left that one, whether they are applied or not.
        :param database: the name of a database, or several; by default, all in which packages live.
        :param x: values for ``context.get_x_argument()``.
        :param observer: receives the warnings.
        :raises LinterError: if the database is PostgreSQL, and squawk is not installed or fails; or if git cannot find
            what the branch changes.
        """
        from ampho.revise.lint import branch, lint

        self._running.warn_of_misplaced(observer)
        excluded = tuple(exclude)
        changed = (
            None if diff_base is None else self._running.framework.in_thread(partial(branch.changed_files, diff_base))
        )

        def draft(on: Opened) -> lint.Draft:
            own = on.project.living_here(names)
            return lint.draft(on.project, on.connection, names=own, changed=changed, exclude=excluded, x=x)

        def check(name: str) -> LintReport:
            drafted = self._running.on_one(draft, name, observer, "db-lint")
            return named(self._running.framework.in_thread(partial(lint.lint, drafted)), name)

        return self._running.each(check, database, names)

    def plan(
        self,
        specifier: str | None = None,
        *,
        direction: Direction | str = "upgrade",
        cascade: bool = False,
        phase: Phase | str | None = None,
        database: str | Iterable[str] | None = None,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> Plan:
        """Return the plan of an upgrade or a downgrade, without running it.

        Each step contains its reason, whether it runs in a transaction, and which data it may lose. Databases of groups
        that cannot be used are left out, and reported to the observer.

        :param specifier: the target; by default as for :meth:`upgrade` and :meth:`downgrade`.
        :param direction: ``upgrade`` or ``downgrade``.
        :param cascade: as for :meth:`downgrade`.
        :param phase: as for :meth:`upgrade`.
        :param database: the name of a database, or several; by default, as for :meth:`upgrade` and :meth:`downgrade`.
        :param x: values for ``context.get_x_argument()``.
        :param observer: receives the warnings.
        :raises AmphoError: if the command itself would fail before its first step. To find out, no file is imported.
        """
        from ampho.migrate import executor, sources

        only = _phase(phase)
        if direction == "upgrade":
            self._running.warn_of_misplaced(observer)
        if direction == "upgrade" and self._running.project().has_several_databases:
            return self._running.plan_upgrade(specifier or "heads", database, phase=only, x=x, observer=observer)

        def plan(on: Opened) -> Callable[[], Plan]:
            def of(project: Project) -> Callable[[], Plan]:
                explain = executor.plan(
                    project, on.connection, specifier, direction=direction, cascade=cascade, phase=only, x=x
                )
                if project is on.project:
                    return explain
                explained = explain()  # while its temporary files exist
                return lambda: explained

            if direction == "upgrade":
                return of(on.project)
            return sources.with_missing(on.project, on.connection, of, specifier or "-1", accept=True, x=x)

        explain = self._running.on_one(plan, _one_of(database), observer, "db-down", specifier)
        return self._running.framework.in_thread(explain)

    def upgrade(
        self,
        specifier: str = "heads",
        *,
        agreed: Plan | None = None,
        phase: Phase | str | None = None,
        keep_going: bool = False,
        create: bool = False,
        database: str | Iterable[str] | None = None,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> Run:
        """Upgrade the database.

        :param specifier: the target; see "What a specifier means" in the documentation.
        :param agreed: a plan that :meth:`plan` returned. If the plan has changed since then, nothing runs.
        :param phase: ``pre`` to hold back the revisions that have to wait until the old release of the app is gone;
            ``post`` to run everything that is left; by default, all revisions run.
        :param keep_going: whether to continue with other databases if one fails.
        :param create: whether to create databases and schemas that do not exist yet.
        :param database: the name of a database, or several; by default, all in which packages live.
        :param x: values for ``context.get_x_argument()``.
        :param observer: receives the events of the run.
        :raises PhaseError: if a revision in phase ``pre`` depends on a pending one in phase ``post``.
        :raises AmphoError: if the run cannot start, in which case nothing changes, or if a revision fails.
        :raises DatabasesError: if there are several databases, and one of them fails.
        """
        from ampho.migrate import executor

        only_phase = _phase(phase)
        self._running.warn_of_misplaced(observer)
        if create:
            self._running.create(specifier, database, observer, keep_going=keep_going)
        only = self._running.only_one(specifier, database)
        if only is None:
            return self._running.upgrade(
                specifier, database, phase=only_phase, agreed=agreed, keep_going=keep_going, x=x, observer=observer
            )

        def upgrade(on: Opened) -> Run:
            looks_first = not self.expects_steps
            return executor.upgrade(
                on.project,
                on.connection,
                specifier,
                phase=only_phase,
                agreed=agreed,
                looks_first=looks_first,
                x=x,
                observer=on.observer,
            )

        return self._running.on_one(upgrade, only, observer, "db-up", renews=True)

    def downgrade(
        self,
        specifier: str = "-1",
        *,
        cascade: bool = False,
        accept_sources: bool = False,
        confirm: str | None = None,
        fingerprint: str | None = None,
        agreed: Plan | None = None,
        database: str | None = None,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> Run:
        """Downgrade the database.

        :param specifier: the target; see "What a specifier means" in the documentation.
        :param cascade: whether to also revert revisions of other packages that depend on the reverted ones.
        :param accept_sources: whether to revert missing revisions with their sources in the journal; review these
            first, in the plan that :meth:`plan` returns.
        :param confirm: the name of the database, which is needed if ``AMPHO_PROTECTED`` protects it.
        :param fingerprint: the fingerprint of the plan that the name confirms. If the database is protected, and its
            plan has a different one now, nothing runs. By default, the name confirms any plan.
        :param agreed: a plan that :meth:`plan` returned. If the plan has changed since then, nothing runs.
        :param database: the name of the database; required if packages live in several.
        :param x: values for ``context.get_x_argument()``.
        :param observer: receives the events of the run.
        :raises AmphoError: if the run cannot start, in which case nothing changes, or if a revision fails.
        """
        from ampho.migrate import executor, sources

        check = self._running.check_of_others(database, x, observer)

        def downgrade(on: Opened) -> Run:
            def run(project: Project) -> Run:
                return executor.downgrade(
                    project,
                    on.connection,
                    specifier,
                    cascade=cascade,
                    confirm=confirm,
                    fingerprint=fingerprint,
                    agreed=agreed,
                    check=check,
                    x=x,
                    observer=on.observer,
                )

            return sources.with_missing(on.project, on.connection, run, specifier, accept=accept_sources, x=x)

        return self._running.on_one(downgrade, database, observer, "db-down", specifier, renews=True)

    def upgrade_sql(
        self,
        specifier: str = "heads",
        *,
        phase: Phase | str | None = None,
        start: str | Sequence[str] | None = None,
        database: str | None = None,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> str:
        """Return the SQL that an upgrade would run.

        :param specifier: as for :meth:`upgrade`.
        :param phase: as for :meth:`upgrade`.
        :param start: ``base``, or ids of revisions, to start from instead of the state of the database; then no
            database is needed.
        :param database: the name of the database; required if packages live in several.
        :param x: values for ``context.get_x_argument()``.
        :param observer: receives the warnings.
        :raises RenderError: if a revision of the plan needs a live database.
        """
        from ampho.migrate import sql

        with self._running.connected_if(start is None, database, observer, "db-up --sql") as (project, connection):
            return sql.upgrade_sql(project, connection, specifier, phase=_phase(phase), start=start, x=x)

    def downgrade_sql(
        self,
        specifier: str = "-1",
        *,
        cascade: bool = False,
        start: str | Sequence[str] | None = None,
        database: str | None = None,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> str:
        """Return the SQL that a downgrade would run.

        :param specifier: as for :meth:`downgrade`.
        :param cascade: as for :meth:`downgrade`.
        :param start: ids of revisions to start from instead of the state of the database; then no database is needed.
        :param database: the name of the database; required if packages live in several.
        :param x: values for ``context.get_x_argument()``.
        :param observer: receives the warnings.
        :raises RenderError: if a revision of the plan needs a live database.
        """
        from ampho.migrate import sql

        with self._running.connected_if(start is None, database, observer, "db-down --sql") as (project, connection):
            return sql.downgrade_sql(project, connection, specifier, cascade=cascade, start=start, x=x)

    def stamp(
        self,
        specifier: str,
        *,
        verify: bool = False,
        purge: bool = False,
        confirm: str | None = None,
        fingerprint: str | None = None,
        database: str | None = None,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> Stamped:
        """Mark revisions as applied or not applied, without running them.

        :param specifier: ``heads``, a package, an id, ``PACKAGE@head``, ``PACKAGE@heads``, ``PACKAGE@base``, or
            ``base``.
        :param verify: whether to compare the database first with what these revisions make on a throwaway database. If
            they differ, nothing is changed.
        :param purge: whether to delete all version rows first, including those of missing revisions.
        :param confirm: the name of the database, which is needed if ``AMPHO_PROTECTED`` protects it and a version row
            would be deleted.
        :param fingerprint: what a :class:`~ampho.errors.ProtectedError` had as its fingerprint; if it is different now,
            nothing is changed. By default, the name confirms any change.
        :param database: the name of the database; required if packages live in several.
        :param x: values for ``context.get_x_argument()``.
        :param observer: receives the warnings, and a message if another process is migrating the database.
        :raises SpecifierError: if the specifier has another form, or its package or revision does not exist.
        :raises VerificationError: if ``verify`` is true, and the database differs.
        """
        from ampho.migrate import stamp

        verification = None
        if verify:
            verification = self._verification(
                specifier, purge=purge, confirm=confirm, fingerprint=fingerprint, database=database, x=x
            )

        def write(on: Opened) -> Stamped:
            return stamp.stamp(
                on.project,
                on.connection,
                specifier,
                purge=purge,
                confirm=confirm,
                fingerprint=fingerprint,
                x=x,
                observer=on.observer,
                verification=verification,
            )

        return self._running.on_one(write, database, observer, "db-stamp", specifier)

    def _verification(
        self,
        specifier: str,
        *,
        purge: bool,
        confirm: str | None,
        fingerprint: str | None,
        database: str | None,
        x: Sequence[str],
    ) -> Verification:
        """Build throwaway databases in the state that a stamp claims, and return what checks the claim."""
        from ampho.database import inventory
        from ampho.migrate import stamp
        from ampho.migrate.verify import Verification
        from ampho.revise.autogenerate.owners.created import Created

        def look(on: Opened) -> tuple[Claim, Graph]:
            claim = stamp.claim(
                on.project, on.connection, specifier, purge=purge, confirm=confirm, fingerprint=fingerprint, x=x
            )
            return claim, on.project.graph

        def read(on: Opened) -> inventory.Inventory:
            found = inventory.read(on.connection)
            on.connection.rollback()
            return found

        def made(specifiers: Sequence[str]) -> inventory.Inventory:
            return self._running.on_one(read, database, None, "db-stamp", scratch=specifiers, x=x)

        claim, graph = self._running.on_one(look, database, None, "db-stamp", specifier)
        expected, before = made(claim.state), made(claim.before) if claim.before else None
        others = Created.by(graph, lambda revision_id: revision_id not in claim.own).tables
        own = Created.ever(graph, claim.own)
        return Verification(claim, expected, before, own, others)

    def forget(
        self,
        name: str,
        *,
        database: str | None = None,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> Stamped:
        """Remove missing revisions from the version table. The tables that they created are kept.

        :param name: the package, or the id of one missing revision.
        :param database: the name of the database; required if packages live in several.
        :param x: values for ``context.get_x_argument()``.
        :param observer: receives the warnings, and a message if another process is migrating the database.
        :raises SpecifierError: if the package has no missing revision, or the id is not missing.
        :raises DependentsError: if other missing revisions depend on the named ones.
        """
        from ampho.migrate import stamp

        def write(on: Opened) -> Stamped:
            return stamp.forget(on.project, on.connection, name, x=x, observer=on.observer)

        return self._running.on_one(write, database, observer, "db-forget")

    def resolve(
        self,
        revision: str,
        *,
        applied: bool,
        database: str | None = None,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> Stamped:
        """Mark an unfinished revision as applied or not applied.

        :param revision: the id of the revision.
        :param applied: whether the database now contains the revision's changes.
        :param database: the name of the database; required if packages live in several.
        :param x: values for ``context.get_x_argument()``.
        :param observer: receives the warnings, and a message if another process is migrating the database.
        :raises SpecifierError: if the revision is not recorded as unfinished.
        """
        from ampho.migrate import stamp

        def write(on: Opened) -> Stamped:
            return stamp.resolve(on.project, on.connection, revision, applied=applied, x=x, observer=on.observer)

        return self._running.on_one(write, database, observer, "db-resolve")

    def status(
        self,
        *packages: str,
        all: bool = False,  # noqa: A002 (the name of the option)
        check: bool = False,
        database: str | Iterable[str] | None = None,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> DatabaseStatus:
        """Return the state of the database, summarized per package.

        :param packages: the packages; all by default.
        :param all: whether to also list each revision.
        :param check: whether to raise an error if no package is listed, or if a listed package is not installed and was
            never applied.
        :param database: the name of a database, or several; by default, all in which packages live.
        :param x: values for ``context.get_x_argument()``.
        :param observer: receives the warnings.
        :raises PackageNotFoundError: if one of the packages is not known.
        """
        from ampho.history.plugins import not_enabled
        from ampho.migrate import queries

        homes = self._running.project().homes

        def look(on: Opened) -> DatabaseStatus:
            own = on.project.living_here(packages)
            found = queries.status(
                on.project, on.connection, packages=own, all=all, check=check, x=x, observer=on.observer
            )
            is_first = on.project.database == next(iter(homes.names), DEFAULT_DATABASE)
            return replace(found, plugins=not_enabled(homes.packages)) if is_first and not packages else found

        # The result contains the packages without a migrations folder.
        return self._running.on_each(look, database, observer, packages=packages, of_folders=False)

    def survey(
        self,
        database: str | Iterable[str] | None = None,
        *,
        thorough: bool = False,
        connections: int = CONNECTIONS,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> FleetStatus:
        """Look at many databases at the same time, and count their states. This takes no lock.

        :param database: names and patterns, such as ``tenants`` or ``tenants/a*``; by default, all databases that are
            not in a group.
        :param thorough: whether to also find diverged and edited revisions in databases to which everything is applied,
            for which their whole journals are read.
        :param connections: the maximum number of connections at the same time.
        :param x: values for ``context.get_x_argument()``.
        :param observer: receives the warnings.
        :raises DatabaseNameError: if one of the names is not known.
        :raises ConfigurationError: if the function that lists a group fails.
        """
        from ampho.status.fleet import fleet_status

        self._running.warn_of_misplaced(observer)
        whole = self._running.project()
        selected = whole.homes.names if database is None else _as_tuple(database)
        surveyed = self.surveyed(database, limit=connections, is_thorough=thorough, x=x)
        with warned(whole, observer, of_folders=False), closing(surveyed):
            states = (each.state for each in surveyed)
            if whole.has_several_databases:
                states = (selecting(state, state.database) for state in states)
            return fleet_status(selected, states)

    def current(
        self,
        *,
        verbose: bool = False,
        database: str | Iterable[str] | None = None,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> CurrentState:
        """Return the applied revisions, per package.

        :param verbose: whether to find the applied revisions whose files were edited.
        :param database: the name of a database, or several; by default, all in which packages live.
        :param x: values for ``context.get_x_argument()``.
        :param observer: receives the warnings.
        :raises AmphoError: if the history or the database cannot be read.
        """
        from ampho.migrate import queries

        def look(on: Opened) -> CurrentState:
            return queries.current(on.project, on.connection, verbose=verbose, x=x)

        return self._running.on_each(look, database, observer)

    def deployment(
        self,
        *,
        database: str | Iterable[str] | None = None,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> Deployment:
        """Compare the revisions in the database with the code, and return whether the code can run on this database.

        :param database: the name of a database, or several; by default, all in which packages live.
        :param x: values for ``context.get_x_argument()``.
        :param observer: receives the warnings.
        :raises AmphoError: if the history or the database cannot be read.
        """
        from ampho.migrate import queries

        self._running.warn_of_misplaced(observer)

        def look(on: Opened) -> Deployment:
            return queries.deployment(on.project, on.connection, x=x, observer=on.observer)

        return self._running.on_each(look, database, observer)

    def wait(
        self,
        *,
        timeout: float = 60.0,
        database: str | Iterable[str] | None = None,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> Deployment:
        """Wait, without changing the database, until it has at least the revisions that the code needs.

        If the database does not answer yet, try again.

        :param timeout: the maximum number of seconds to wait.
        :param database: the name of a database, or several; by default, all in which packages live.
        :param x: values for ``context.get_x_argument()``.
        :param observer: receives the warnings, and a message whenever the reason for waiting changes.
        :raises WaitTimeoutError: if the timeout expires first.
        """
        from ampho.migrate.waiting import Waiting, deployment_and_holder

        deadline = time.monotonic() + timeout
        if self._running.project().homes.select_groups(database):
            from ampho.fleet.waiting import FleetWaiting

            fleet = FleetWaiting(timeout, deadline, observer)
            while True:
                try:
                    with closing(self.surveyed(fleet.left or database, x=x)) as surveyed:
                        found = fleet.look(each.state for each in surveyed)
                except DatabaseNameError:
                    if not fleet.left:
                        raise
                    fleet.left = []  # one of them was removed from its group, so look at all again
                    continue
                if found is not None:
                    return found
                self._running.framework.sleep(fleet.pause)

        def wait(name: str) -> Deployment:
            project = self._running.project()
            waiting = Waiting(timeout, deadline, observer, name if project.has_several_databases else "")
            while True:
                with naming_one_of(project, name), waiting.attempt() as attempt_observer:
                    self.reach(name, waiting.patience)
                    found, holder = self._running.on_one(
                        lambda on: deployment_and_holder(on.project, on.connection, x=x), name, attempt_observer, ""
                    )
                    if waiting.is_over(found, holder):
                        return found
                self._running.framework.sleep(waiting.pause)

        return self._running.each(wait, database)

    def log(
        self,
        *,
        database: str | Iterable[str] | None = None,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> tuple[Entry, ...]:
        """Return the journal of the database, in the order in which the entries were recorded.

        :param database: the name of a database, or several; by default, all in which packages live.
        :param x: values for ``context.get_x_argument()``.
        :param observer: receives the warnings.
        :raises ConfigurationError: if the app keeps no journal.
        """
        from ampho.migrate import queries

        def look(on: Opened) -> tuple[Entry, ...]:
            return queries.log(on.project, on.connection, x=x)

        return self._running.on_each(look, database, observer)

    def show(self, specifier: str | None = None, *, observer: Observer | None = None) -> tuple[RevisionRecord, ...]:
        """Return revisions, without using the database.

        :param specifier: a package or label, an id or its unique beginning, ``heads``, ``PACKAGE@head``, or
            ``PACKAGE@heads``; all revisions by default.
        :param observer: receives a warning for revision files that are not read.
        :raises SpecifierError: if the specifier does not name a revision.
        """
        from ampho.status.state import show

        project = self._running.project()
        with without_secrets(project.url):
            project.check_specifier(specifier)
            if observer is not None:
                for message in project.unread():
                    observer.warned(message)
            return show(project.graph, specifier)

    def graph(
        self,
        *packages: str,
        full: bool = False,
        database: str | Iterable[str] | bool | None = None,
        x: Sequence[str] = (),
        observer: Observer | None = None,
    ) -> Picture:
        """Return the history as a picture: a lane per package, revisions as nodes, and dependencies as edges.

        :param packages: the packages to show, with the revisions of other packages that they refer to; all by default.
        :param full: whether to draw each revision as its own node, instead of collapsing chains of revisions.
        :param database: the name of a database, or several, to show which revisions are applied; by default, all in
            which packages live. If it is False, no database is needed.
        :param x: values for ``context.get_x_argument()``.
        :param observer: receives the warnings.
        :raises AmphoError: if the history or the database cannot be read, or a package is not known.
        """
        from ampho.migrate import queries

        if database is False:
            whole = self._running.project()
            with self._running.unconnected(whole, observer):
                return queries.graph(whole, None, packages=packages, full=full, x=x, observer=observer)

        def look(on: Opened) -> Picture:
            own = on.project.living_here(packages)
            return queries.graph(on.project, on.connection, packages=own, full=full, x=x, observer=on.observer)

        return self._running.on_each(look, None if database is True else database, observer, packages=packages)

    def provision(self, database: str, *, x: Sequence[str] = (), observer: Observer | None = None) -> Run:
        """Create a database of a group, upgraded to the heads, such as that of a new tenant.

        A whole database is a copy of a template, which is faster than running the histories. A schema is created, and
        the histories are run in it. If the database exists, it is upgraded.

        :param database: the name of the database, such as ``tenants/acme``.
        :param x: values for ``context.get_x_argument()``.
        :param observer: receives the events of the upgrade, which has nothing to do after a copy.
        :raises DatabaseNameError: if the group does not have the database.
        :raises DatabaseError: if the user may not create databases.
        """
        self._running.provision(database, x)
        return self.upgrade("heads", create=True, database=database, x=x, observer=observer)

    def template(
        self,
        specifier: str = "heads",
        packages: Iterable[str] | None = None,
        *,
        database: str | None = None,
        server: str | URL | None = None,
        key: str = "",
        x: Sequence[str] = (),
    ) -> Template:
        """Return a template: a database at a given point of the histories, from which clones are made in milliseconds.

        It is created on the server of the app's database, or for SQLite, in a folder for temporary files, and is kept
        for the next process. It is built again if the revisions that lead to that point change, or ``env.py``,
        Alembic's options, the naming conventions of the models, or the versions of Alembic, SQLAlchemy, Ampho, or the
        server.

        :param specifier: the point; see "What a specifier means" in the documentation.
        :param packages: packages whose heads are the point, instead of ``specifier``.
        :param database: the name of the database, or of a group; required if packages live in several.
        :param server: the URL of another server for the template and its clones.
        :param key: a text that changes if the revisions would do something else for a reason that Ampho cannot see,
            such as a file that a revision reads.
        :param x: values for ``context.get_x_argument()``.
        :raises RevisionFailedError: if a revision fails.
        :raises DatabaseError: if the server cannot be reached, or if the user may not create databases.
        """
        return self._running.template(
            [specifier] if packages is None else [*packages], database, server=server, key=key, x=x
        )


def readiness(commands: Commands, patience: float | None = None) -> Readiness:
    """Return whether the code may run on all databases, except for those of groups.

    :param patience: how many seconds to wait for an answer of each server; None if the caller limits that.
    :raises AmphoError: if the history or a database cannot be read.
    """
    from ampho.status.deployment import Deployment
    from ampho.status.readiness import Readiness

    names = commands.project().homes.names
    if patience is not None:
        for name in names:
            commands.reach(name, patience)
    return Readiness.of(commands.deployment() if names else Deployment(()))


def _phase(name: Phase | str | None) -> Phase | None:
    """Return a phase by its name.

    :raises SpecifierError: if there is no such phase.
    """
    from ampho.history.revision import Phase

    try:
        return None if name is None else Phase(name)
    except ValueError:
        raise SpecifierError(f"{name!a} is not a phase. Use 'pre' or 'post'.", specifier=str(name)) from None


def _one_of(names: str | Iterable[str] | None) -> str | None:
    """Return the only name of a database."""
    found = _as_tuple(names or ())
    return found[0] if len(found) == 1 else None


def _as_tuple(names: Iterable[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
