"""Adopting the history of another tool: moving its files into a package, with what its ``env.py`` adds."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from configparser import ConfigParser, Error
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ampho._text import describe, shown_path
from ampho.errors import MigrationsFolderError, PackageNotFoundError, RevisionInputError
from ampho.history.files import is_revision_file
from ampho.history.graph import Graph
from ampho.history.package import MigrationPackage
from ampho.history.revision import Revision, read_revision
from ampho.migrate.project import Project
from ampho.revise import writer
from ampho.revise.env_py import Own, read_own, template_files

_IGNORED = frozenset(["__pycache__", ".DS_Store"])
# The settings of Alembic that change how new files are written.
_SETTINGS = frozenset(
    ["file_template", "timezone", "truncate_slug_length", "revision_environment", "sourceless", "output_encoding"]
)


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
    :ivar hint: how to add the package to ``AMPHO_MIGRATION_PACKAGES``; None if it is already listed.
    :ivar is_planned: whether nothing was changed, because only the plan was asked for.
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


def adopt(project: Project, source: Path, entry: str, *, planned: bool = False) -> Adopted:
    """Move the history of another tool into a package; see :meth:`ampho.commands.Commands.adopt`."""
    package = writer.package_to_write(project, entry)
    package.check_writable()
    old = _Source.of(source, package.name)
    if not old.revisions or old.folder == package.folder.resolve():
        return Adopted(source, package.name, package.folder, is_planned=planned)
    graph = _check(project, package, old)
    own = read_own(old.env_py.read_text("utf-8", "replace")) if old.env_py else Own()
    hint = None if project.is_configured_now(package.name) else project.setting_hint(package.entry)
    adopted = Adopted(
        source,
        package.name,
        package.folder,
        graph.sort(revision.id for revision in old.revisions),
        tuple(f"{name}={value}" for name, value in own.arguments.items()),
        (*(f"{shown_path(old.folder / 'env.py')}:{line}: {text}" for line, text in own.notes), *old.settings()),
        tuple(old.left()),
        hint,
        planned,
    )
    if not planned:
        _move(project, package, old, own)
    return adopted


def only_package(project: Project) -> str:
    """Return the only package that is configured, and that is not installed.

    :raises PackageNotFoundError: if there are several, or none.
    """
    own = [package.entry for package in project.packages if not package.installed]
    if len(own) != 1:
        have = f"{len(own)} packages are" if own else "no package is"
        raise PackageNotFoundError(
            f"Name the package that gets the history, with --into PACKAGE: {have} configured.", package=""
        )
    return own[0]


def _check(project: Project, package: MigrationPackage, old: _Source) -> Graph:
    """Return the graph with the adopted revisions.

    :raises RevisionInputError: if the package has a history of its own.
    :raises HistoryError: if the revisions do not form a valid graph with those of the other packages.
    """
    if any(each.name == package.name for each in project.packages) and project.graph.of_package(package.name):
        raise RevisionInputError(
            f"{package.name} already has revisions, so that it would have two histories. Adopt {shown_path(old.path)}"
            " into another package, or into this one before its first revision.",
            package=package.name,
        )
    present = [project.graph[rid] for rid in project.graph.ids if project.graph.has_file(rid)]
    names = dict.fromkeys([*project.graph.packages, package.name])
    graph = Graph([*present, *old.revisions], [*names], project.not_installed)
    graph.check_files(graph.ancestors(revision.id for revision in old.revisions))
    return graph


@dataclass(frozen=True)
class _Source:
    """The files of another tool.

    :ivar path: what the user named.
    :ivar folder: the folder with ``env.py``.
    :ivar versions: the folders with revision files.
    :ivar revisions: the revisions in them.
    """

    path: Path
    folder: Path
    versions: tuple[Path, ...]
    revisions: tuple[Revision, ...]

    @classmethod
    def of(cls, path: Path, package: str) -> _Source:
        """Return the files at a path.

        :raises RevisionInputError: if there are none.
        """
        folder, versions = _places(path, package)
        files = [each for place in versions if place.is_dir() for each in sorted(place.iterdir())]
        found = [read_revision(str(each), package) for each in files if is_revision_file(each.name)]
        return cls(path, folder, versions, tuple(found))

    @property
    def env_py(self) -> Path | None:
        path = self.folder / "env.py"
        return path if path.is_file() else None

    def moved(self) -> Iterator[Path]:
        """Yield the files and folders that move: the revision files, and what lies beside them."""
        for place in self.versions:
            for each in sorted(place.iterdir()):
                if each.name not in _IGNORED and (place != self.folder or is_revision_file(each.name)):
                    yield each

    def left(self) -> Iterator[Path]:
        for each in sorted(self.folder.iterdir()):
            if (
                each.name not in _IGNORED
                and each not in self.versions
                and not (self.folder in self.versions and is_revision_file(each.name))
            ):
                yield each
        if self.path.is_file() and self.path.parent != self.folder:
            yield self.path

    def settings(self) -> Iterator[str]:
        """Yield the settings and the template that are not those of the tool."""
        ini = self.path if self.path.is_file() else self.folder / "alembic.ini"
        parser = ConfigParser(interpolation=None)
        try:
            parser.read(ini, "utf-8")
        except (Error, UnicodeDecodeError):
            return
        for section in parser.sections():
            for name, value in parser.items(section):
                if (section == "alembic" and name in _SETTINGS) or section == "post_write_hooks":
                    yield f"{shown_path(ini)}: {name} = {value}"
        template = self.folder / "script.py.mako"
        if template.is_file() and template.read_bytes() not in [
            each.read_bytes() for each in template_files(template.name)
        ]:
            yield f"{shown_path(template)}: it is not the template of the tool"


def _places(path: Path, package: str) -> tuple[Path, tuple[Path, ...]]:
    """Return the folder of ``env.py``, and the folders with revision files."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    ini = path / "alembic.ini" if path.is_dir() else path
    if not path.exists():
        raise _unusable(path, package, "does not exist")
    if path.is_dir() and not (path / "env.py").is_file():
        if not any(is_revision_file(each.name) for each in path.iterdir()):
            raise _unusable(path, package, "contains neither an env.py nor revision files")
        return path, (path,)
    config = Config(ini) if ini.is_file() else Config()
    if path.is_dir():
        config.set_main_option("script_location", str(path).replace("%", "%%"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the settings of the old tool are about to go
            script = ScriptDirectory.from_config(config)
    except (CommandError, Error, ImportError) as exc:
        raise _unusable(path, package, f"cannot be read: {describe(exc)}") from exc
    folder = Path(script.dir).resolve()
    places = script._version_locations  # noqa: SLF001 (the public attribute has them as they are written)
    return folder, tuple(dict.fromkeys(Path(each).resolve() for each in places))


def _unusable(path: Path, package: str, why: str) -> RevisionInputError:
    return RevisionInputError(
        f"{shown_path(path)} {why}. Name the folder that contains env.py, such as 'migrations', a folder with revision"
        " files, or an alembic.ini.",
        package=package,
    )


def _move(project: Project, package: MigrationPackage, old: _Source, own: Own) -> None:
    """Write the package's folder, unless it is there, and move the files into it."""
    is_new = not writer.is_used(package.folder)
    with _undoing() as moved:
        if is_new:
            writer.init(project, package.entry)
            moved.append((package.folder, None))
        if own.arguments and package.env_py.is_file():
            package.env_py.write_text(own.added_to(package.env_py.read_text("utf-8")), "utf-8")
        if _move_at_once(package, old):
            return
        package.versions.mkdir(parents=True, exist_ok=True)
        for path in [*old.moved()]:
            target = package.versions / path.name
            if target.exists():
                raise MigrationsFolderError(
                    f"{shown_path(target)} already exists. Rename one of the two files. Nothing was changed.",
                    package=package.name,
                    path=target,
                )
            shutil.move(path, target)
            moved.append((target, path))
    for place in old.versions:
        shutil.rmtree(place / "__pycache__", ignore_errors=True)
        if place != old.folder and not any(place.iterdir()):
            place.rmdir()


def _move_at_once(package: MigrationPackage, old: _Source) -> bool:
    """Rename the folder of the revision files, if there is only one; return whether that was possible."""
    folder, *more = old.versions
    if more or old.folder == folder:
        return False
    with suppress(OSError):  # the package may be on another file system, or have files in the folder
        if package.versions.exists():
            package.versions.rmdir()
        folder.rename(package.versions)
        shutil.rmtree(package.versions / "__pycache__", ignore_errors=True)
        return True
    return False


@contextmanager
def _undoing() -> Iterator[list[tuple[Path, Path | None]]]:
    """Yield a list of paths, each with the path that it was moved from, which is undone if the block fails."""
    moved: list[tuple[Path, Path | None]] = []
    try:
        yield moved
    except BaseException:
        for target, origin in reversed(moved):
            if origin is None:
                shutil.rmtree(target, ignore_errors=True)
            else:
                shutil.move(target, origin)
        raise
