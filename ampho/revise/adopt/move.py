"""Moving the files of another tool into a package, all of them or none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ampho._text import shown_path
from ampho.errors import MigrationsFolderError
from ampho.history.package import MigrationPackage
from ampho.migrate.project import Project
from ampho.revise import writer
from ampho.revise.adopt.env_py import Own
from ampho.revise.adopt.source import Source


def move(project: Project, package: MigrationPackage, old: Source, own: Own) -> None:
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


def _move_at_once(package: MigrationPackage, old: Source) -> bool:
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
