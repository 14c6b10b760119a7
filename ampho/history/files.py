"""Find and read a package's revision files: the files that Alembic would load, in Alembic's order."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from ampho._text import describe, shown_path
from ampho.errors import RevisionFileError

if TYPE_CHECKING:
    from ampho.history.package import MigrationPackage

REPLACED = "replaced"
"""The folder of the files of replaced revisions, inside the migrations folder."""

_CHUNK = 1 << 16
# O_BINARY exists only on Windows. O_NONBLOCK exists only on other systems; it keeps os.open() from blocking on a pipe.
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
_DECLARED = re.compile(rb"^(revision|down_revision)\b", re.MULTILINE)


def read_bytes(file: str) -> bytes:
    """Return the contents of a regular file, or raise an ``OSError``. ``Path.read_bytes()`` takes twice as long."""
    descriptor = os.open(file, _FLAGS)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("it is not a regular file")
        chunks = []
        while chunk := os.read(descriptor, _CHUNK):
            chunks.append(chunk)
    finally:
        os.close(descriptor)
    return b"".join(chunks)


def is_revision_file(name: str) -> bool:
    """Return whether Alembic would load a file with this name as a revision. ``env.py`` is never a revision file."""
    return name.endswith(".py") and not name.startswith((".#", "__init__")) and name != "env.py"


def revision_files(package: MigrationPackage) -> Iterator[str]:
    """Return the paths of a package's revision files, or raise a ``RevisionFileError`` if a folder cannot be read."""
    folders, is_recursive = package.layout
    left_out = str(package.replaced_folder) if is_recursive else ""
    first, *more = (_files(each, package.name, is_recursive=is_recursive, left_out=left_out) for each in folders)
    return iter(dict.fromkeys(chain(first, *more))) if more else first


def replaced_files(package: MigrationPackage) -> Iterator[str]:
    """Return the paths of the files of a package's replaced revisions."""
    return _files(str(package.replaced_folder), package.name, is_recursive=False)


def revision_folders(package: MigrationPackage) -> list[str]:
    """Return the folders that contain a package's revision files, including subfolders."""
    folders, is_recursive = package.layout
    inside = (file.rpartition(os.sep)[0] for file in revision_files(package)) if is_recursive else ()
    return [*dict.fromkeys([*folders, *inside])]


def unread_folders(package: MigrationPackage) -> tuple[str, ...]:
    """Return the subfolders of a package's migrations folder that contain revision files but are not read.

    The paths are relative to the migrations folder. If ``alembic.ini`` excludes subfolders, the result is empty.
    """
    read, is_recursive = package.layout
    top = str(package.folder)
    unread = []
    for folder, inside, names in os.walk(top):
        if is_recursive and folder in read:
            inside.clear()
            continue
        skipped = REPLACED if folder == top else ""
        inside[:] = [name for name in inside if not name.endswith("__pycache__") and name != skipped]
        files = (f"{folder}{os.sep}{name}" for name in names if is_revision_file(name))
        if folder not in read and folder != top and any(map(_looks_like_a_revision, files)):
            unread.append(folder[len(top) + 1 :].replace(os.sep, "/"))
    return () if unread and package.leaves_folders_out else tuple(sorted(unread))


def _looks_like_a_revision(file: str) -> bool:
    try:
        return len(set(_DECLARED.findall(read_bytes(file)))) > 1
    except OSError:
        return False


def _files(folder: str, package: str, *, is_recursive: bool, left_out: str = "") -> Iterator[str]:
    """Yield the files that Alembic would load from a folder, in Alembic's order; none if the folder does not exist.

    :param left_out: the path of a subfolder that is left out.
    """
    try:
        with os.scandir(folder) as scanned:
            entries = sorted(scanned, key=attrgetter("name"))
    except OSError as exc:
        if not os.path.lexists(folder):
            return
        raise RevisionFileError(
            f"The folder {shown_path(folder)} of {package} cannot be read: {describe(exc)}.",
            package=package,
            path=Path(folder),
        ) from exc
    for entry in entries:
        if is_revision_file(entry.name) and not entry.is_dir(follow_symlinks=False):
            if entry.is_symlink() and _is_ignored_link(entry.path, folder):
                continue
            yield f"{folder}{os.sep}{entry.name}"
    for entry in entries if is_recursive else ():
        if entry.is_dir(follow_symlinks=False) and not entry.name.endswith("__pycache__") and entry.path != left_out:
            yield from _files(entry.path, package, is_recursive=True)


def _is_ignored_link(link: str, folder: str) -> bool:
    """Return whether a link points to a folder, or to a file that is next to the link and is read anyway."""
    target = Path(os.path.realpath(link))
    return target.is_dir() or (target.is_file() and target.parent == Path(os.path.realpath(folder)))
