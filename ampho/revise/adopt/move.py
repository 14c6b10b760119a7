"""Moving the files of another tool into packages, all of them or none, even if the process is killed meanwhile."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ampho.history.package import MigrationPackage
from ampho.migrate.project import Project
from ampho.revise import writer
from ampho.revise.adopt.env_py import Own
from ampho.revise.adopt.source import LOG, Source

_RECURSIVE = "recursive_version_locations = true\n"


class Moves:
    """The files that move, and those that are written, for one command.

    :ivar targets: the new paths of the files that move, by their present ones.
    :ivar written: the contents of the files that are written, by their paths.
    """

    def __init__(self, project: Project, old: Source) -> None:
        self.targets: dict[Path, Path] = {}
        self.written: dict[Path, bytes] = {}
        self._project, self._old = project, old
        self._new: dict[MigrationPackage, Own] = {}

    def add_file(self, path: Path, package: MigrationPackage, name: Path) -> None:
        """Move a file to a package, unless it lies there already.

        :param name: its path inside the folder of the revision files.
        """
        target = _versions(package) / name
        if path.resolve() != target.resolve():
            self.targets[path] = target

    def add_tool_files(self, package: MigrationPackage, own: Own) -> None:
        """Write the files that ``db-init`` writes, and keep those of the other tool under other names."""
        self._new[package] = own
        for name in writer.FILES:
            path = package.folder / name
            if path.exists():
                self.targets[path] = _unused(path)
            self.written[path] = b""

    @property
    def taken(self) -> Iterator[Path]:
        """The targets that exist already, or that two files would have."""
        targets = [*self.targets.values()]
        return (each for each in targets if each.exists() or targets.count(each) > 1)

    def left(self) -> Iterator[Path]:
        """Yield the files that are no longer used; those in the folder of a package get other names."""
        for path in self._old.left():
            target = self.targets.get(path, path)
            if target != path or path not in self.written:
                yield target

    def run(self, packages: Sequence[MigrationPackage]) -> None:
        """Move and write the files, or change nothing if that fails."""
        with self._logged(home_of(self._old.path)), _keeping([*_inis(self._project), *self.written]):
            for package in packages:
                _versions(package).mkdir(parents=True, exist_ok=True)
                writer.list_in_inis(self._project, package)
            for path, target in self.targets.items():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(path, target)
            for package, own in self._new.items():
                self._write_tool_files(package, own)
            for path, content in self.written.items():
                _write(path, content)
        self._old.remove_empty()

    def _write_tool_files(self, package: MigrationPackage, own: Own) -> None:
        for name, content in writer.files_of_folder(self._project, package).items():
            text = content.decode()
            if name == "env.py":
                text = own.added_to(text)
            elif name == "alembic.ini" and self._old.is_recursive:
                text = text.replace("path_separator", f"{_RECURSIVE}path_separator", 1)
            self.written[package.folder / name] = text.encode()

    @contextmanager
    def _logged(self, place: Path) -> Iterator[None]:
        """Keep a list of what changes in a file, for :func:`restore`, until everything has changed."""
        new = [path for path in self.written if not path.exists()]
        paths = [*self.targets.values(), *self.written]
        folders = {parent: None for path in paths for parent in path.parents if not parent.exists()}
        made = [*new, *sorted(folders, key=lambda each: -len(each.parts))]
        moved = [[str(path.absolute()), str(target.absolute())] for path, target in self.targets.items()]
        _write(place / LOG, json.dumps({"moved": moved, "made": [str(each.absolute()) for each in made]}).encode())
        try:
            yield
        except BaseException:
            restore(place)
            raise
        (place / LOG).unlink()


def _versions(package: MigrationPackage) -> Path:
    """Return the folder for the revision files, which plain Alembic does not expect beside ``env.py``."""
    return package.versions if package.versions != package.folder else package.folder / "versions"


def home_of(path: Path) -> Path:
    """Return the folder that contains the list of moves while a source is moved."""
    return path if path.is_dir() else path.parent


def is_interrupted(path: Path) -> bool:
    """Return whether a command was killed while it moved the files of a source."""
    return (home_of(path) / LOG).is_file()


def _unused(path: Path) -> Path:
    """Return the path under which a file that is no longer used is kept."""
    return path.with_name(f"{path.name}.old")


def restore(place: Path) -> None:
    """Move the files back, after a command that was killed or that failed."""
    found = json.loads((place / LOG).read_text("utf-8"))
    made = [Path(each) for each in found["made"]]
    moved = [(Path(path), Path(target)) for path, target in found["moved"]]
    for path in made:
        if path.is_file():
            path.unlink()
    for path, target in reversed(moved):
        if target.exists() and path.exists() and target != _unused(path):
            target.unlink()  # an incomplete copy to another file system
        elif target.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            target.replace(path) if target == _unused(path) else shutil.move(target, path)
    for path in made:
        with suppress(OSError):  # it is not a folder, or not empty
            path.rmdir()
    (place / LOG).unlink()


def _write(path: Path, content: bytes) -> None:
    """Write a file, so that it is never incomplete."""
    draft = path.with_name(f"{LOG}.new")
    draft.write_bytes(content)
    draft.replace(path)


def _inis(project: Project) -> Iterable[Path]:
    return (package.folder / "alembic.ini" for package in project.packages if not package.installed)


@contextmanager
def _keeping(paths: Iterable[Path]) -> Iterator[None]:
    """Restore the contents of files that exist already if the block fails."""
    before = {path: path.read_bytes() for path in paths if path.is_file()}
    try:
        yield
    except BaseException:
        for path, content in before.items():
            path.write_bytes(content)
        raise
