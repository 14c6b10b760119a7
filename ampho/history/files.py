"""The revision files of a package: which files in its folders they are, and reading a file's bytes.

Ampho reads the files that Alembic would load, in the same order.
"""

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

_CHUNK = 1 << 16
# O_BINARY only exists on Windows. O_NONBLOCK exists elsewhere; with it, opening a pipe does not wait for a writer.
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
_DECLARED = re.compile(rb"^(revision|down_revision)\b", re.MULTILINE)


def read_bytes(file: str) -> bytes:
    """Return the content of a file, in half the time of ``Path.read_bytes()``. A pipe or a device is an error.

    :raises OSError: if it is not a regular file, or cannot be read.
    """
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
    """Return whether Alembic would load a file of this name from a versions folder. ``env.py`` never counts."""
    return name.endswith(".py") and not name.startswith((".#", "__init__")) and name != "env.py"


def revision_files(package: MigrationPackage) -> Iterator[str]:
    """Return the paths of a package's revision files.

    :raises RevisionFileError: if a folder cannot be read.
    """
    folders, is_recursive = package.layout
    first, *more = (_files(folder, package.name, is_recursive=is_recursive) for folder in folders)
    return iter(dict.fromkeys(chain(first, *more))) if more else first


def revision_folders(package: MigrationPackage) -> list[str]:
    """Return the folders of a package's revision files, including those inside other folders.

    :raises RevisionFileError: if a folder cannot be read.
    """
    folders, is_recursive = package.layout
    inside = (file.rpartition(os.sep)[0] for file in revision_files(package)) if is_recursive else ()
    return [*dict.fromkeys([*folders, *inside])]


def unread_folders(package: MigrationPackage) -> tuple[str, ...]:
    """Return the folders inside a package's migrations folder that contain revision files but are not read.

    They are relative to the migrations folder.
    """
    read, is_recursive = package.layout
    top = str(package.folder)
    unread, todo = [], [top]
    while todo:
        folder = todo.pop()
        if is_recursive and folder in read:
            continue
        entries = _entries(folder)
        folders = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
        todo += [entry.path for entry in folders if not entry.name.endswith("__pycache__")]
        if folder not in read and folder != top and any(map(_looks_like_a_revision, entries)):
            unread.append(folder[len(top) + 1 :].replace(os.sep, "/"))
    return tuple(sorted(unread))


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """Return the entries of a folder; none if it cannot be read."""
    try:
        with os.scandir(folder) as scanned:
            return list(scanned)
    except OSError:
        return []


def _looks_like_a_revision(entry: os.DirEntry[str]) -> bool:
    try:
        return is_revision_file(entry.name) and len(set(_DECLARED.findall(read_bytes(entry.path)))) > 1
    except OSError:
        return False


def _files(folder: str, package: str, *, is_recursive: bool) -> Iterator[str]:
    """Yield the paths of the files that Alembic would load, in its order.

    :raises RevisionFileError: if a folder cannot be read: it must not be mistaken for one without revisions.
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
        if entry.is_dir(follow_symlinks=False) and not entry.name.endswith("__pycache__"):
            yield from _files(entry.path, package, is_recursive=True)


def _is_ignored_link(link: str, folder: str) -> bool:
    """Return whether a link leads to a folder, or to a file in its own folder, which is read anyway."""
    target = Path(os.path.realpath(link))
    return target.is_dir() or (target.is_file() and target.parent == Path(os.path.realpath(folder)))
