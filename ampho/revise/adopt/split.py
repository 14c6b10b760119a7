"""Splitting one history over several packages: each gets a first revision that replaces all of the old ones."""

from __future__ import annotations

import ast
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ampho._text import counted, listed, sentences, shown_path
from ampho.database.catalog import Catalog, read_catalog
from ampho.errors import RevisionFailedError, RevisionInputError
from ampho.history.files import replaced_files
from ampho.history.graph import Graph
from ampho.history.host import uses_ampho
from ampho.history.losses import argument, called, functions, string
from ampho.history.package import SETTING, MigrationPackage
from ampho.history.revision import Revision, read_revisions
from ampho.migrate.observers import Observer
from ampho.migrate.project import Project
from ampho.migrate.queries import query_env
from ampho.revise import writer
from ampho.revise.adopt.adopt import Adopted, installed_in
from ampho.revise.adopt.env_py import Own
from ampho.revise.adopt.parts import MovedFile, SplitRevision
from ampho.revise.adopt.source import Source
from ampho.revise.squash import proof
from ampho.revise.squash.carried import Carried, block, carried, words
from ampho.revise.squash.files import Changed, Files, renamed
from ampho.settings import OWNERS

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext
    from flask.sansio.app import App
    from sqlalchemy.engine import Connection

    from ampho.database.journal import Journal
    from ampho.revise.autogenerate.operations.changes import Changes
    from ampho.revise.autogenerate.owners.ownership import Ownership


@dataclass(frozen=True)
class _History:
    """The history that is split.

    :ivar path: what the user named.
    :ivar home: the package that it belongs to; None if it is that of another tool.
    :ivar tool: the files of the other tool.
    :ivar revisions: its revisions.
    """

    path: Path
    home: MigrationPackage | None
    tool: Source | None
    revisions: tuple[Revision, ...]

    @classmethod
    def at(cls, project: Project, path: Path, first: str) -> _History:
        """Return the history at a path, without checking it."""
        for package in project.packages:
            places = [package.folder, package.versions, package.folder / "alembic.ini"]
            if package.exists and path.resolve() in [each.resolve() for each in places]:
                return cls(path, package, None, tuple(read_revisions(package)))
        tool = Source.of(path, first, cast("App | None", project.app))
        return cls(path, None, tool, tool.revisions)

    @property
    def own(self) -> Own:
        """What the ``env.py`` of another tool adds to that of its template."""
        return self.tool.own() if self.tool else Own()

    def files(self, left: Container[str] = ()) -> list[tuple[Path, Path]]:
        """Return the files that move, each with the folder inside of the new one that it gets.

        These are the files of the revisions, which do not get a folder, and what lies beside those of another tool.

        :param left: the ids of revisions that do not move.
        """
        found = {each.path: Path() for each in self.revisions if each.id not in left}
        for place, path in self.tool.contents() if self.tool else ():
            found.setdefault(path, path.parent.relative_to(place))
        return [*found.items()]


def complete(project: Project, source: Path, packages: Sequence[str]) -> None:
    """Complete a split that was killed while its files moved, or undo one that was killed before that."""
    found = _History.at(project, source, packages[0])
    targets = [project.package(name) for name in packages]
    news = [each for package in targets for each in read_revisions(package) if each.replaces]
    old = {each.id for each in found.revisions}
    news = [each for each in news if old.intersection(each.replaces)]
    if not news:
        return
    ids = {each.id for each in news}
    is_whole = {*packages} == {each.package for each in news} and all(
        ids.issuperset(each.down_revisions) for each in news
    )
    with Files().together(packages[0]) as files:
        for path, folder in found.files(left=ids) if is_whole else ():
            files.move(path, targets[0].replaced_folder / folder)
        for each in news if not is_whole else ():
            files.delete(each.path)
    if found.tool:
        found.tool.remove_empty()


@dataclass
class Split:
    """A split while it is prepared and proved; nothing is written before :meth:`write`.

    :ivar project: the whole project, with the old history as that of a package.
    :ivar history: what is split.
    :ivar packages: the packages that get new revisions. The first one gets the old files.
    :ivar old: the old revisions, by id, in the order of the graph.
    :ivar before: the ids of what the old revisions depend on.
    :ivar x: values for ``context.get_x_argument()``.
    :ivar parts: the new revisions, in the order in which they run.
    """

    project: Project
    history: _History
    packages: Sequence[MigrationPackage]
    old: Mapping[str, Revision]
    before: Sequence[str]
    x: Sequence[str]
    _graph: Graph = field(repr=False)
    parts: list[SplitRevision] = field(default_factory=list)
    _drafts: list[writer.Draft] = field(default_factory=list)
    _changed: Sequence[Changed] = ()

    @classmethod
    def prepare(cls, project: Project, source: Path, names: Sequence[str], x: Sequence[str]) -> Split | None:
        """Check that a history can be split, without a database; return None if there is nothing to do.

        :raises RevisionInputError: if it cannot.
        """
        packages = [project.package(name) for name in names]
        found = _History.at(project, source, names[0])
        if not found.revisions or _is_split(project, found, names):
            return None
        _check_packages(project, found, packages)
        graph = _whole_graph(project, found)
        project = project.with_graph(graph)
        ids = graph.sort(each.id for each in found.revisions)
        graph.check_files(graph.ancestors(ids))
        old = {each: graph.as_written(each) for each in ids}
        before = [parent for each in ids for parent in graph.parents(each) if parent not in old]
        for parent in before:
            _check_not_between(graph, parent, ids)
        return cls(project, found, packages, old, [*dict.fromkeys(before)], x, graph)

    @property
    def first(self) -> MigrationPackage:
        """The package that gets the old files."""
        return self.packages[0]

    @property
    def heads(self) -> tuple[str, ...]:
        """The ids of the old revisions on which no other old revision depends."""
        return self.project.graph.tips(self.old)

    @property
    def news(self) -> list[str]:
        """The ids of the new revisions."""
        return [part.revision.id for part in self.parts]

    @property
    def has_others(self) -> bool:
        """Whether there are revisions that are not split."""
        return len(self.project.graph) > len(self.old)

    def warn(self, lost: Sequence[str], observer: Observer | None) -> None:
        """Warn about what the new files do not create, and about files that may not find others after the move."""
        proof.warn(self.old.values(), lost, observer)
        if found := self._needing_parts():
            (observer or Observer()).warned(
                f"{listed(found)} depend{'s' if len(found) == 1 else ''} on a part of the old revisions, and still name"
                f"{'s' if len(found) == 1 else ''} it, for databases that have only this part. Plain Alembic cannot"
                f" read that. When no database needs the old revisions, write {', '.join(self.news)} there instead."
            )

    def check_accepted(self, *, accept: bool) -> None:
        """Check that the author knows of the statements that the new revisions contain only as comments.

        :raises RevisionInputError: if there are any, and the author did not accept that.
        """
        found = [each for revision in self.old.values() for each in carried(revision)]
        if found and not accept:
            names = ",".join(package.name for package in self.packages)
            raise RevisionInputError(
                f"The revisions contain {counted(len(found), 'statement')} that the new ones would contain only as"
                f" comments, such as {found[0].text}. Nothing was written. Print them all with 'ampho db-adopt"
                f" {shown_path(self.history.path)} --into {names} --plan', and accept that with --yes (accept=True).",
                package=self.first.name,
            )

    def generate(self, before: proof.State, project: Project, connection: Connection) -> Catalog:
        """Prepare the files that make the schema of a throwaway database, and return its catalog.

        :param project: the part of the project that belongs to the database.
        :param before: the schema before the old revisions.
        """

        def make(rows: tuple[str, ...], journal: Journal, context: MigrationContext) -> Catalog:
            after = read_catalog(connection, proof.hidden(project, context))
            self._draft(project, context, rows, before, after)
            return after

        found = query_env(project, connection, self.x, make, proof.COMMAND)
        connection.rollback()
        return found

    def _draft(
        self,
        project: Project,
        context: MigrationContext,
        rows: tuple[str, ...],
        before: proof.State,
        after: Catalog,
    ) -> None:
        from alembic.operations import ops

        from ampho.revise.adopt.sharing import owner_of, share
        from ampho.revise.autogenerate.generate import owners_of
        from ampho.revise.autogenerate.operations.changes import table_key
        from ampho.revise.autogenerate.write.sequence import in_order
        from ampho.revise.squash.generate import make_schema, rendered, table_keys, with_blocks

        connection, names = context.connection, [package.name for package in self.packages]
        assert connection is not None  # noqa: S101  # an online context has a connection
        known = owners_of(project, context)
        keys = table_keys(connection, before.tables, proof.hidden(project, context))
        owners = self._owners(known, keys, before, str(connection.dialect.default_schema_name))
        changes = make_schema(context, known, owners, names, before.tables)
        sequences = share(changes, owners, before.catalog, after)
        placed = {key: owner_of(key, owners) or sequences.get(key) for key in {*after, *before.catalog}}
        statements = self._placed(owners)
        makers, last = dict[str, str](), dict[str, str]()
        for part in in_order(changes[name] for name in names):
            new = self._revision(part, makers, last)
            # A second revision of a package only creates foreign keys.
            owner = "" if part.package in last else part.package
            own = [{key: sql for key, sql in each.items() if placed[key] == owner} for each in (before.catalog, after)]
            tables = tuple(sorted(map(table_key, part.only(ops.CreateTableOp))))
            body = rendered(part, new, rows, *own)
            comments = [each for each, package in statements if package == owner]
            draft = writer.draft_revision(self.project, new, with_blocks(body, self._blocks(comments)))
            self._drafts.append(draft)
            self.parts.append(SplitRevision(draft.revision, tables, tuple(comments)))
            makers |= dict.fromkeys(tables, new.id)
            last[part.package] = new.id
            self._graph = self._graph.with_revision(replace(new, replaces=(), labels=()))

    def _owners(
        self, known: Ownership, keys: Iterable[str], before: proof.State, default_schema: str
    ) -> dict[str, str]:
        """Return the packages that get the tables.

        :raises RevisionInputError: if there is no such package for a table, or no table for a package.
        """
        names = [package.name for package in self.packages]
        found: dict[str, str] = {}
        others: dict[str, list[str]] = {}
        for key in keys:
            schema, _, name = key.rpartition(".")
            owner = known.models.get(key) or known.models.get(f"{default_schema}.{key}")
            owner = owner or known.away.get(key) or known.rules.owner(None, "table", name, schema or None) or ""
            if owner in names or key in before.tables:
                found[key] = owner if owner in names else self.first.name
            else:
                others.setdefault(owner, []).append(key)
        for owner, tables in others.items():
            raise self._unplaced(owner, tables)
        own = {found[key] for key in found if key not in before.tables}
        for name in names:
            if name not in own:
                raise RevisionInputError(
                    f"{name} owns no table that the old revisions create. Leave it out of --into, or import the module"
                    f" of its models in its __init__.py or models.py.",
                    package=name,
                )
        return found

    def _unplaced(self, owner: str, tables: Sequence[str]) -> RevisionInputError:
        names = ",".join(package.name for package in self.packages)
        one = len(tables) == 1
        if owner:
            text = (
                f"The table{'' if one else 's'} {listed(tables)} belong{'s' if one else ''} to {owner}, which is not in"
                f" --into. Add it, as in --into {names},{owner}, or let {OWNERS.name} name one of these packages."
            )
        else:
            text = (
                f"The old revisions create {listed(tables)}, but no model of the packages has"
                f' {"this table" if one else "these tables"}. Name a package, as in app.config["{OWNERS.name}"] ='
                f' {{"{tables[0]}": "{self.first.name}"}}, or import the module of the model. If'
                f" {'it is' if one else 'they are'} no longer used, drop {'it' if one else 'them'} first, with one more"
                " of the old revisions."
            )
        return RevisionInputError(f"{text} Nothing was written.", package=owner or self.first.name)

    def _revision(self, part: Changes, makers: Mapping[str, str], last: Mapping[str, str]) -> Revision:
        """Return a new revision without a file.

        :param makers: the new revisions that create tables, by table.
        :param last: the last new revisions of packages.
        """
        package = part.package
        needed = {makers[key] for key in part.references() if key in makers}
        needed |= {last[name] for name in part.needs if name in last}
        needed.update(self.before)
        down = (last[package],) if package in last else ()
        return Revision(
            writer.new_id(self._graph, package),
            package,
            str(self.project.package(package).versions),
            down_revisions=down,
            depends_on=writer.not_implied(self._graph, down, self._graph.sort(needed.difference(down))),
            labels=() if down else self._labels(package),
            replaces=tuple(self.old),
            doc=f"Split {counted(len(self.old))}",
        )

    def _labels(self, package: str) -> tuple[str, ...]:
        """Return the labels of a package's first revision; those of the old ones go to their package or the first."""
        home = self.history.home
        if package != (home if home and home in self.packages else self.first).name:
            return (package,)
        old = (label for each in self.old.values() for label in each.labels if label not in self.project.graph.packages)
        return tuple(dict.fromkeys([package, *old]))

    def _placed(self, owners: Mapping[str, str]) -> list[tuple[Carried, str]]:
        """Return the statements that are more than changes of the schema, each with the package whose tables it names.

        If it names none, this is the first package; if it names those of several, the one that runs last.
        """
        later = _renames(self.old.values())
        found: list[tuple[Carried, str]] = []
        for revision in self.old.values():
            statements = carried(revision)
            named = words(revision) if statements else {}
            for each in statements:
                tables = {later.get(word, word) for word in named.get(each.line, ())}
                here = {owners[key] for key in owners if key.rpartition(".")[2] in tables}
                names = [package.name for package in self.packages if package.name in here]
                found.append((each, names[-1] if names else self.first.name))
        return found

    def _blocks(self, comments: Sequence[Carried]) -> list[list[str]]:
        lines: dict[str, set[int]] = {}
        for each in comments:
            lines.setdefault(each.revision, set()).add(each.line)
        folder = shown_path(self.first.replaced_folder)
        found = [(self.old[each], own) for each, own in lines.items()]
        return [block(old, f"{folder}/{old.path.name}", own) for old, own in found]

    def prove(self, before: proof.State, after: Catalog, project: Project, connection: Connection) -> list[str]:
        """Check that the new revisions make the same schema as the old ones, and that their downgrades revert that.

        :param project: the part of the project after the split that belongs to the throwaway database.
        :return: the views, functions, and other objects of the user's own SQL that the new revisions do not create.
        :raises RevisionInputError: if not.
        """
        found = proof.catalog_of(project, connection, self.x)
        self.compare("do not make the same schema as the old ones", after, found)
        left = proof.revert(project, connection, self.news, before.catalog, self.x)
        self.compare("are not reverted by their downgrades", before.catalog, left)
        return proof.lost_code(after, found)

    def compare(self, what: str, wanted: Catalog, found: Catalog) -> None:
        """Check that two schemas are the same.

        :raises RevisionInputError: if not.
        """
        if difference := proof.difference(wanted, found):
            raise RevisionInputError(
                f"The new revisions {what}: in the database, {difference}. Nothing was written. Change that with one"
                " more of the old revisions first, or move the history as a whole, with one package in --into.",
                package=self.first.name,
            )

    @contextmanager
    def proving(self, project: Project) -> Iterator[Project]:
        """Yield a project in which the split is done, with the new files in a folder for temporary files.

        :param project: the part of the project that belongs to the throwaway database.
        :raises RevisionInputError: if a file that names old revisions cannot be changed.
        """
        needed = {each for part in self.parts for each in part.revision.depends_on + part.revision.down_revisions}
        tips = [each for each in self.news if each not in needed]
        left = {*self.old, *self._needing_parts()}
        self._changed = renamed(self.project.graph, self.project.packages, dict.fromkeys(self.old, tips), left)
        old = {each: replace(revision, package=self.first.name) for each, revision in self.old.items()}
        with proof.in_temporary_folder(self._drafts, self._changed) as (news, changed):
            graph = proof.graph_after(self.project.graph, old, changed, news)
            yield project.with_graph(graph)

    def _needing_parts(self) -> list[str]:
        """Return the other revisions that depend on a part of the old ones.

        Their files go on naming it: a database with such a revision may have only this part.
        """
        graph, old = self.project.graph, self.old.keys()
        others = [each for each in graph.ids if each not in old]
        needed = {each: old & {*graph.parents(each)} for each in others}
        return [each for each, ids in needed.items() if ids and not old <= graph.ancestors(ids)]

    @contextmanager
    def naming_failure(self) -> Iterator[None]:
        """Say what to do if a new revision fails on a throwaway database."""
        try:
            yield
        except RevisionFailedError as exc:
            raise RevisionInputError(
                sentences(
                    f"The new revisions do not run on an empty database: {exc}",
                    "Nothing was written. Move the history as a whole instead, with one package in --into.",
                ),
                package=self.first.name,
            ) from exc

    def result(self) -> Adopted:
        """Return what the split would do."""
        own, folder, tool = self.history.own, self.first.replaced_folder, self.history.tool
        home = self.history.home if self.history.home not in self.packages else None
        return Adopted(
            self.history.path,
            self.first.name,
            self.first.folder,
            tuple(self.old),
            tuple(f"{name}={value}" for name, value in own.arguments.items()),
            tuple(tool.notes(own, self.project.options)) if tool else (),
            tuple(tool.left()) if tool else (),
            f"{home.name} has no revisions any more. Remove it from {SETTING} if it gets no new ones."
            if home
            else None,
            is_planned=True,
            written=tuple(self.parts),
            moved=tuple(MovedFile(path, folder / inside / path.name) for path, inside in self._moving()),
            changed=tuple(each.after.path for each in self._changed),
        )

    def _moving(self) -> list[tuple[Path, Path]]:
        """Return the files that move, with those that a package without new revisions has replaced earlier."""
        home = self.history.home
        earlier = replaced_files(home) if home and home not in self.packages else ()
        return [*self.history.files(), *((Path(each), Path()) for each in earlier)]

    def write(self) -> Adopted:
        """Write the new files, move the old ones, and change those that name them: all of this, or nothing.

        :raises AmphoError: if a file cannot be written.
        """
        own, planned = self.history.own, self.result()
        places: dict[Path, Path] = {}
        with Files().together(self.first.name) as files:
            for package in self.packages:
                if not writer.is_used(package.folder):
                    files.keep([other.folder / "alembic.ini" for other in self.project.packages], package.folder)
                    writer.init(self.project, package.entry)
                if own.arguments and uses_ampho(package):
                    text = package.env_py.read_text("utf-8")
                    files.change(package.env_py, own.added_to(text).encode())
            for draft in reversed(self._drafts):  # so that what complete() finds is whole, or lacks a first revision
                files.write(draft.revision.path, draft.source)
            for draft in self._drafts:
                draft.files.run_hooks(draft.revision.path, is_kept=False)
            for path, inside in self._moving():
                places[path] = files.move(path, self.first.replaced_folder / inside)
            for each in self._changed:
                files.change(each.after.path, each.source)
        if self.history.tool:
            self.history.tool.remove_empty()
        parts = [
            replace(part, carried=tuple(replace(each, path=places[each.path]) for each in part.carried))
            for part in self.parts
        ]
        moved = tuple(MovedFile(*each) for each in places.items())
        return replace(planned, is_planned=False, written=tuple(parts), moved=moved)


def _check_not_between(graph: Graph, parent: str, ids: Sequence[str]) -> None:
    """Check that what old revisions depend on does not depend on old ones itself.

    :raises RevisionInputError: if it does.
    """
    below = graph.ancestors([parent])
    between = [each for each in ids if each in below]
    if between:
        child = next(each for each in ids if parent in graph.parents(each))
        raise RevisionInputError(
            f"{child} depends on {parent} of {graph[parent].package}, which depends on {between[-1]}, so none of the"
            " two histories could come first. Remove one of these dependencies if it is not needed, or keep the history"
            " whole.",
            package=graph[parent].package,
        )


def _check_packages(project: Project, found: _History, packages: Sequence[MigrationPackage]) -> None:
    """Check that packages can get the parts of a history, without reading its revisions.

    :raises RevisionInputError: if not.
    """
    here = project.homes.of(packages[0].name)
    for package in packages:
        package.check_writable()
        if (home := project.homes.of(package.name)) != here:
            raise RevisionInputError(
                f"{package.name} lives in {listed(home)}, but {packages[0].name} lives in {listed(here)}. A history can"
                " only be split over packages that live in the same database.",
                package=package.name,
            )
        if package != found.home and project.graph.of_package(package.name):
            raise RevisionInputError(
                f"{package.name} already has revisions, so it would have two histories. Leave it out of --into, or name"
                " it before its first revision is written.",
                package=package.name,
            )
    if found.home:
        found.home.check_writable()
        if found.home.env_py.exists() and not uses_ampho(found.home):
            raise RevisionInputError(
                f"{shown_path(found.home.env_py)} is that of another tool. First take the history over as a whole, with"
                f" 'ampho db-adopt {shown_path(found.path)} --into {found.home.name}', and then split it.",
                package=found.home.name,
            )
    if found.tool and (installed := installed_in(found.tool)):
        raise RevisionInputError(
            f"{shown_path(found.path)} contains revisions of installed packages, for {listed([*installed])}. First take"
            " the history over with one package in --into, and then split it.",
            package=packages[0].name,
        )


def _whole_graph(project: Project, found: _History) -> Graph:
    """Return the graph with the revisions of another tool, as those of a package."""
    graph = project.graph
    if not found.tool:
        return graph
    present = [graph.as_written(each) for each in graph.ids if graph.has_file(each)]
    # A label that is the name of a package would make the old files count as that package's.
    taken = {*graph.packages, *graph.labels}
    unlabeled = [
        replace(each, labels=tuple(name for name in each.labels if name not in taken)) for each in found.revisions
    ]
    return Graph([*present, *unlabeled], graph.packages, project.not_installed, graph.replaced, graph.kept)


def _is_split(project: Project, found: _History, names: Sequence[str]) -> bool:
    """Return whether the first revisions of all packages replace the same ones already."""
    if found.home is None or found.home.name not in names:
        return False
    graph = project.graph
    first = [next((graph[each] for each in graph.of_package(name)), None) for name in names]
    return (
        None not in first
        and len({each.replaces for each in first if each}) == 1
        and bool(first[0] and first[0].replaces)
    )


def _renames(revisions: Iterable[Revision]) -> dict[str, str]:
    """Return the last names of the tables that revisions rename, by their earlier names."""
    found: dict[str, str] = {}
    for revision in revisions:
        upgrade = None
        with suppress(OSError, SyntaxError, ValueError):
            upgrade = functions(revision.path.read_bytes()).get("upgrade")
        for call in ast.walk(upgrade) if upgrade else ():
            if isinstance(call, ast.Call) and called(call) == "rename_table":
                old, new = string(argument(call, "old_table_name", 0)), string(argument(call, "new_table_name", 1))
                found = {name: new if last == old else last for name, last in found.items()} | {old: new}
    return found
