"""Writing, changing, and moving revision files together: all of them, or none."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ampho._text import describe, shown_path
from ampho.errors import RevisionInputError
from ampho.history.graph import Graph
from ampho.history.package import MigrationPackage
from ampho.history.revision import Revision, parse_revision
from ampho.revise.rebase import edit_header

_REVISES = re.compile(rb"^(Revises|Depends on):[^\r\n]*", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Changed:
    """A revision whose file names other revisions than before.

    :ivar before: the revision as its file is.
    :ivar after: the revision as the file will be.
    :ivar source: the new content of the file.
    """

    before: Revision
    after: Revision
    source: bytes


def renamed(
    graph: Graph, packages: Iterable[MigrationPackage], ids: Mapping[str, Sequence[str]], left: Collection[str]
) -> list[Changed]:
    """Return the revisions that name old ids, with the new ids instead. The files of installed packages are kept.

    :param ids: the new ids, one or several for each old one.
    :param left: the ids of revisions whose files keep their content.
    :raises RevisionInputError: if a file cannot be read.
    """
    found: list[Changed] = []
    writable = {package.name for package in packages if not package.installed}
    for revision in map(graph.as_written, graph.ids):
        names = {*revision.down_revisions, *revision.depends_on}
        if revision.package in writable and revision.id not in left and revision.file and names & ids.keys():
            found.append(_renamed(revision, ids))
    return found


def _renamed(revision: Revision, ids: Mapping[str, Sequence[str]]) -> Changed:
    try:
        source = with_ids(revision.path.read_bytes(), ids)
        after = parse_revision(source, revision.file, revision.package)
    except (OSError, ValueError, SyntaxError) as exc:
        raise RevisionInputError(
            f"{shown_path(revision.path)} cannot be rewritten: {describe(exc)}.", package=revision.package
        ) from exc
    wanted = replace(
        revision,
        down_revisions=_instead(revision.down_revisions, ids),
        depends_on=_instead(revision.depends_on, ids),
    )
    if replace(after, doc=revision.doc) != wanted:
        old, new = next(
            (old, new) for old, new in ids.items() if old in (*revision.down_revisions, *revision.depends_on)
        )
        raise RevisionInputError(
            f"{shown_path(revision.path)} computes its down_revision or its depends_on. Write the ids as strings, so"
            f" that {old} can be replaced by {new}.",
            package=revision.package,
        )
    return Changed(revision, after, source)


def _instead(names: Iterable[str], ids: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(new for name in names for new in ids.get(name, [name])))


def with_ids(source: bytes, ids: Mapping[str, Sequence[str]]) -> bytes:
    """Return the source of a revision file with other ids in ``down_revision``, ``depends_on``, and its docstring."""
    words = re.compile(rb"(?<![\w.])(?:%s)(?![\w.])" % b"|".join(re.escape(each.encode()) for each in ids))

    def put(text: bytes, separator: str) -> bytes:
        return words.sub(lambda found: separator.join(ids[found[0].decode()]).encode(), text)

    def change(old: bytes, data: bytes, *, is_docstring: bool) -> bytes:
        if is_docstring:
            return _REVISES.sub(lambda found: put(found[0], ", "), old)
        quote = old[-1:].decode() if old[-1:] in (b"'", b'"') else '"' if b'"' in old else "'"
        new = put(old, f"{quote}, {quote}")
        return b"(%s)" % new if old.endswith(quote.encode()) and b"," in new else new

    return edit_header(source, {"down_revision", "depends_on"}, change)


@dataclass
class Files:
    """Changes of files that are all undone if one of them fails, or is interrupted.

    The order matters if the process is killed: each state is valid, or is completed by :func:`complete`.
    """

    _undo: list[Callable[[], object]] = field(default_factory=list)

    def write(self, path: Path, source: bytes) -> None:
        """Write a new file at once, with all its content."""
        self._make_folder(path.parent)
        draft = _draft(path)
        self._undo += [lambda: draft.unlink(missing_ok=True), lambda: path.unlink(missing_ok=True)]
        draft.write_bytes(source)
        draft.rename(path)

    def change(self, path: Path, source: bytes) -> None:
        """Replace the content of a file."""
        path = path.resolve()
        before, mode = path.read_bytes(), path.stat().st_mode
        self._undo.append(lambda: _replace(path, before, mode))
        _replace(path, source, mode)

    def keep(self, files: Iterable[Path], folder: Path) -> None:
        """Restore the content of some files, and remove a new folder, if the changes are undone."""
        self._undo.append(lambda: shutil.rmtree(folder, ignore_errors=True))
        for path in filter(Path.is_file, files):
            before, mode = path.read_bytes(), path.stat().st_mode
            self._undo.append(partial(_replace, path, before, mode))

    def move(self, path: Path, folder: Path) -> Path:
        """Move a file to a folder, and return its new path."""
        self._make_folder(folder)
        target = _free(folder / path.name)
        self._undo.append(lambda: target.rename(path) if target.exists() and not path.exists() else None)
        path.rename(target)
        return target

    def delete(self, path: Path) -> None:
        """Delete a file."""
        before, mode = path.read_bytes(), path.stat().st_mode
        self._undo.append(lambda: _replace(path, before, mode))
        path.unlink()

    def _make_folder(self, folder: Path) -> None:
        if not folder.exists():
            self._make_folder(folder.parent)
            self._undo.append(lambda: _remove_folder(folder))
            folder.mkdir()

    @contextmanager
    def together(self, package: str) -> Iterator[Files]:
        """Undo all changes if the block raises an exception.

        :raises RevisionInputError: if a file cannot be written, changed, or moved.
        """
        try:
            yield self
        except BaseException as exc:
            for undo in reversed(self._undo):
                with suppress(OSError):
                    undo()
            if isinstance(exc, OSError):
                raise RevisionInputError(
                    f"{shown_path(Path(exc.filename or '.'))} cannot be written: {describe(exc)}. No file was changed.",
                    package=package,
                ) from exc
            raise


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.ampho")


def _replace(path: Path, source: bytes, mode: int) -> None:
    draft = _draft(path)
    try:
        draft.write_bytes(source)
        draft.chmod(mode)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _remove_folder(folder: Path) -> None:
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()


def _free(path: Path) -> Path:
    """Return a path that does not exist: the given one, or one with a number."""
    number, found = 1, path
    while os.path.lexists(found):
        number += 1
        found = path.with_name(f"{path.stem}_{number}{path.suffix}")
    return found


def complete(package: MigrationPackage, revisions: Sequence[Revision]) -> list[Path]:
    """Move the files that a new revision replaces and that are still beside it, because a process was killed.

    :param revisions: the revisions of the package, with and without replacements.
    :return: the new paths of the files that were moved.
    """
    replaced = {each for revision in revisions for each in revision.replaces}
    left = [revision for revision in revisions if revision.id in replaced]
    with Files().together(package.name) as files:
        return [files.move(each.path, package.replaced_folder) for each in left]
