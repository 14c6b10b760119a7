"""What ``db-adopt`` does: checks a history of another tool, and moves it into packages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ampho._text import listed, shown_path
from ampho.errors import MigrationsFolderError, PackageNotFoundError, RevisionInputError
from ampho.history.graph import Graph
from ampho.history.host import uses_ampho
from ampho.history.package import MigrationPackage
from ampho.history.revision import Revision
from ampho.migrate.project import Project
from ampho.revise import writer
from ampho.revise.adopt.env_py import Own, arguments_in
from ampho.revise.adopt.move import Moves, home_of, is_interrupted, restore
from ampho.revise.adopt.parts import MovedFile, SplitRevision
from ampho.revise.adopt.source import Source, find

if TYPE_CHECKING:
    from flask.sansio.app import App


@dataclass(frozen=True, slots=True)
class Adopted:
    """A history that was moved into a package, or that would be moved.

    :ivar source: where it was: a folder, or an ``alembic.ini``.
    :ivar package: the name of the package.
    :ivar folder: the migrations folder of the package.
    :ivar revisions: the ids of the revisions, each after its parents; empty if there was nothing to do.
    :ivar arguments: the arguments of ``context.configure()`` that were copied into the new ``env.py``, as text.
    :ivar by_hand: what was not copied, each with its file and line.
    :ivar left: the files of the old folder that are no longer used.
    :ivar hint: how to add the package to ``AMPHO_MIGRATION_PACKAGES``, or what to do instead; None if there is nothing
        to do.
    :ivar is_planned: whether nothing was changed, because only the plan was asked for.
    :ivar is_in_place: whether the files are in the package's folder already, so that only ``env.py`` is replaced.
    :ivar others: what goes into other packages, because of its labels.
    :ivar installed: entries for ``AMPHO_MIGRATION_PACKAGES`` of installed packages, whose files stay where they are.
    :ivar moved: the files that were moved.
    :ivar written: the new revisions, if the history is split over several packages; otherwise, empty.
    :ivar changed: the files of other revisions, which name the new revisions instead of the old ones.
    """

    source: Path
    package: str
    folder: Path
    revisions: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    by_hand: tuple[str, ...] = ()
    left: tuple[Path, ...] = ()
    hint: str | None = None
    is_planned: bool = False
    is_in_place: bool = False
    others: tuple[Adopted, ...] = ()
    installed: tuple[str, ...] = ()
    moved: tuple[MovedFile, ...] = ()
    written: tuple[SplitRevision, ...] = ()
    changed: tuple[Path, ...] = ()


def usable_source(project: Project, source: Path | None, names: Sequence[str], *, planned: bool) -> Path:
    """Return the path of the history, after a command that was killed while it moved that is reverted.

    :param names: the packages that are named.
    :raises RevisionInputError: if there is no history.
    """
    entry = next(iter(names), "")
    source = source or find(cast("App | None", project.app)) or _foreign_folder(project, names)
    if source is None:
        raise RevisionInputError(
            "There is no history here: no folder migrations, no alembic.ini, no [tool.alembic] in pyproject.toml, and"
            " no ALEMBIC in app.config. Name the folder, as in 'ampho db-adopt FOLDER'."
            f" {_for_tables(entry or 'PACKAGE')}",
            package=entry,
        )
    if is_interrupted(source):
        if planned:
            raise RevisionInputError(
                f"An earlier command was stopped while it moved the files of {shown_path(source)}. Complete it by"
                " running it again, without --plan.",
                package=entry,
            )
        restore(home_of(source))
    return source


def _foreign_folder(project: Project, names: Sequence[str]) -> Path | None:
    """Return the migrations folder of the first listed package whose ``env.py`` is another tool's; None if none is.

    :param names: the only packages to look at, if any are named.
    """
    for package in _own(project):
        is_meant = not names or package.name in [name.partition(":")[0] for name in names]
        if is_meant and package.env_py.is_file() and not uses_ampho(package):
            return package.folder
    return None


def adopt(project: Project, source: Path, entry: str | None, *, planned: bool = False) -> Adopted:
    """Move the history of another tool into packages; see :meth:`ampho.commands.Commands.adopt`."""
    app = cast("App | None", project.app)
    old = Source.of(source, entry or "", app)
    installed = installed_in(old)
    targets = _targets(project, replace(old, revisions=_without(old, installed)), entry)
    if not targets:
        package = writer.package_to_write(project, entry or only_package(project))
        hint = None if old.revisions or _has_history(project, package) else _for_tables(package.name)
        return Adopted(source, package.name, package.folder, hint=hint, is_planned=planned, installed=tuple(installed))
    return _Adoption(project, old, targets, installed).result(planned=planned)


def _for_tables(package: str) -> str:
    return (
        "If there are tables without a history, write the first revision from the models with 'ampho db-rev"
        f" {package} Initial -a --scratch', and record it with 'ampho db-stamp {package} --verify'."
    )


def only_package(project: Project) -> str:
    """Return the only package that is configured, and that is not installed.

    :raises PackageNotFoundError: if there are several, or none.
    """
    own = _own(project)
    if len(own) != 1:
        have = f"{len(own)} packages are" if own else "no package is"
        raise PackageNotFoundError(
            f"Name the package that gets the history, with --into PACKAGE: {have} configured.", package=""
        )
    return own[0].entry


def _own(project: Project) -> list[MigrationPackage]:
    return [package for package in project.packages if not package.installed]


def _has_history(project: Project, package: MigrationPackage) -> bool:
    return package in project.packages and bool(project.graph.of_package(package.name))


def installed_in(old: Source) -> dict[str, tuple[Revision, ...]]:
    """Return the revisions in the folders of installed packages, by the entry of the package."""
    found: dict[str, tuple[Revision, ...]] = {}
    for place in old.versions:
        root, names = place.parent, list[str]()
        while (root / "__init__.py").is_file():
            names.insert(0, root.name)
            root = root.parent
        if names and "site-packages" in place.parts:
            folder = place.relative_to(root.joinpath(*names)).as_posix()
            inside = tuple(each for each in old.revisions if each.path.is_relative_to(place))
            found[f"{'.'.join(names)}:{folder}"] = inside
    return found


def _without(old: Source, installed: Mapping[str, Sequence[Revision]]) -> tuple[Revision, ...]:
    return tuple(each for each in old.revisions if not any(each in inside for inside in installed.values()))


def _targets(project: Project, old: Source, entry: str | None) -> dict[MigrationPackage, list[Revision]]:
    """Return the packages that get the revisions: those whose names are labels, and otherwise the one that is named.

    :raises RevisionInputError: if no package is named, and not every line of revisions has the label of a package.
    """
    lines = _lines(old)
    found: dict[MigrationPackage, list[Revision]] = {}
    unnamed: list[Revision] = []
    for line in lines:
        labels = {label for each in line for label in (*each.labels, *_labels_of(old, each))}
        named = [package for package in _own(project) if {package.name, package.name.rpartition(".")[2]} & labels]
        if len(named) == 1 and (len(lines) > 1 or entry is None):
            found.setdefault(named[0], []).extend(line)
        else:
            unnamed += line
    if unnamed:
        if entry is None and found:
            raise RevisionInputError(
                f"No listed package has a label of {listed([each.id for each in unnamed])} in {shown_path(old.path)}."
                " Name the package that gets what has no label, with --into PACKAGE.",
                package="",
            )
        inside = next((each.entry for each in _own(project) if each.folder.resolve() == old.folder), None)
        found.setdefault(writer.package_to_write(project, entry or inside or only_package(project)), []).extend(unnamed)
    return {package: own for package, own in found.items() if not _is_done(package, own)}


def _is_done(package: MigrationPackage, revisions: Sequence[Revision]) -> bool:
    return uses_ampho(package) and all(_is_in(package, each) for each in revisions)


def _is_in(package: MigrationPackage, revision: Revision) -> bool:
    """Return whether the file of a revision lies where the package's revisions are."""
    folders = {Path(each).resolve() for each in package.layout[0]}
    return not folders.isdisjoint(revision.path.resolve().parents)


def _is_below(path: Path, package: MigrationPackage) -> bool:
    return path.is_relative_to(package.folder)


def _lines(old: Source) -> list[list[Revision]]:
    """Return the revisions, grouped so that no ``down_revision`` leads from one group to another."""
    groups: list[set[str]] = []
    for each in old.revisions:
        joined = {each.id, *each.down_revisions}
        for group in [group for group in groups if not group.isdisjoint(joined)]:
            joined |= group
            groups.remove(group)
        groups.append(joined)
    lines = [[each for each in old.revisions if each.id in group] for group in groups]
    return sorted(lines, key=lambda line: old.revisions.index(line[0]))


def _labels_of(old: Source, revision: Revision) -> list[str]:
    return [label for place, label in old.labels.items() if place in revision.path.parents]


@dataclass(frozen=True)
class _Adoption:
    """A history, and the packages that get its revisions.

    :ivar installed: the revisions of installed packages among it, by the entry of the package.
    """

    project: Project
    old: Source
    targets: Mapping[MigrationPackage, Sequence[Revision]]
    installed: Mapping[str, Sequence[Revision]]

    def result(self, *, planned: bool) -> Adopted:
        """Check everything, move the files unless only the plan is wanted, and return what was done."""
        graph = self._check()
        own, moves = self.old.own(), Moves(self.project, self.old)
        kept = [name for package in self.targets for name in self._prepare(package, own, moves)]
        for target in moves.taken:
            raise MigrationsFolderError(
                f"{shown_path(target)} already exists. Rename one of the two files. Nothing was changed.",
                package=next(iter(self.targets)).name,
                path=target,
            )
        done = [
            Adopted(
                self.old.path,
                package.name,
                package.folder,
                graph.sort(each.id for each in revisions),
                is_planned=planned,
                is_in_place=moves.targets.keys().isdisjoint(each.path for each in revisions),
                moved=tuple(MovedFile(*each) for each in moves.targets.items() if _is_below(each[1], package)),
            )
            for package, revisions in self.targets.items()
        ]
        first = replace(
            done[0],
            arguments=tuple(f"{name}={value}" for name, value in own.arguments.items() if name not in kept),
            by_hand=(
                *self.old.notes(own, self.project.options),
                *(f"{name}={own.arguments[name]}: env.py has a different one" for name in dict.fromkeys(kept)),
            ),
            left=tuple(moves.left()),
            installed=tuple(self.installed),
        )
        if not planned:
            moves.run([*self.targets])
        # The app's own package counts as listed once it has a migrations folder.
        hints = [
            None if self.project.is_configured_now(package.name) else self.project.setting_hint(package.entry)
            for package in self.targets
        ]
        first, *others = (replace(each, hint=hint) for each, hint in zip([first, *done[1:]], hints, strict=True))
        return replace(first, others=tuple(others))

    def _prepare(self, package: MigrationPackage, own: Own, moves: Moves) -> list[str]:
        """Add the files of a package, and return the arguments that its ``env.py`` passes already, in another way."""
        package.check_writable()
        owners = {each.path.resolve(): owner for owner, own in self.targets.items() for each in own}
        others = {each.path.resolve() for inside in self.installed.values() for each in inside}
        for place, path in self.old.contents():
            beside = (owner for file, owner in owners.items() if place in file.parents)
            owner = owners.get(path.resolve()) or next(beside, None)
            if owner == package and path.resolve() not in others:
                moves.add_file(path, package, path.relative_to(place))
        if not uses_ampho(package):
            moves.add_tool_files(package, own)
            return []
        text = package.env_py.read_text("utf-8")
        new = own.added_to(text)
        if new != text:
            moves.written[package.env_py] = new.encode()
        given = arguments_in(new)
        return [name for name, value in own.arguments.items() if given.get(name) != value]

    def _check(self) -> Graph:
        """Return the graph with the adopted revisions.

        :raises RevisionInputError: if a package has a history of its own.
        :raises HistoryError: if the revisions do not form a valid graph with those of the other packages.
        """
        project = self.project
        for package, revisions in self.targets.items():
            files = {each.path.resolve() for each in revisions}
            has = project.graph.of_package(package.name) if package in project.packages else ()
            if any(project.graph[each].path.resolve() not in files for each in has):
                raise RevisionInputError(
                    f"{package.name} already has revisions, so that it would have two histories. Adopt"
                    f" {shown_path(self.old.path)} into another package, or into this one before its first revision.",
                    package=package.name,
                )
        moved = [replace(each, package=package.name) for package, own in self.targets.items() for each in own]
        names = [entry.partition(":")[0] for entry in self.installed]
        moved += [
            replace(each, package=name)
            for name, own in zip(names, self.installed.values(), strict=True)
            for each in own
        ]
        graph, ids = project.graph, {each.id for each in moved}
        present = [graph.as_written(each) for each in graph.ids if graph.has_file(each) and each not in ids]
        packages = dict.fromkeys([*graph.packages, *(package.name for package in self.targets), *names])
        graph = Graph([*present, *moved], [*packages], project.not_installed, graph.replaced, graph.kept)
        graph.check_files(graph.ancestors(ids))
        return graph
