"""The files ``HEADS``, in which git finds a conflict if two branches add revisions to the same package."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ampho._text import describe, listed, shown_path
from ampho.errors import AmphoError, RevisionInputError

if TYPE_CHECKING:
    from ampho.history.package import MigrationPackage
    from ampho.migrate.project import Project

NAME = "HEADS"
_TEXT = """\
# The heads of {0}. Ampho updates this file, so that git finds a conflict here if two branches add revisions.
# After a conflict, run 'ampho db-rebase {0}' or 'ampho db-merge {0}', which write it again.
"""
_MARKERS = ("<<<<<<<", "|||||||", "=======", ">>>>>>>")


@dataclass(frozen=True, slots=True)
class HeadsCheck:
    """The heads of a package, and what is wrong with them.

    :ivar package: the name of the package.
    :ivar heads: the ids of its heads, according to its revision files.
    :ivar file: its file ``HEADS``; None if it has none.
    :ivar problem: what is wrong, and what to do about it; empty if nothing is wrong.
    """

    package: str
    heads: tuple[str, ...]
    file: Path | None = None
    problem: str = ""


def check(project: Project, names: Iterable[str]) -> tuple[HeadsCheck, ...]:
    """Return the heads of packages, and whether each package has one head, and its file ``HEADS`` names it.

    :param names: the packages; by default all, except those that are installed.
    """
    for name in (named := [*names]):
        project.check_addressed(name)
    packages = [*map(project.package, named)] or [*_own(project)]
    return tuple(_check(project, package) for package in packages)


def _check(project: Project, package: MigrationPackage) -> HeadsCheck:
    heads, file = project.graph.heads(package.name), package.folder / NAME
    words, conflict = _difference(file, heads) if file.is_file() else "", project.conflict(package)
    if words and not conflict:
        words += " If these are right, run 'ampho db-heads --write'."
    problem = " ".join(filter(None, (words, conflict)))
    return HeadsCheck(package.name, heads, file if file.is_file() else None, problem)


def _difference(file: Path, heads: Sequence[str]) -> str:
    """Return how a file differs from the heads of its package, in a sentence; empty if it does not."""
    there = f"the heads in the revision files are {listed(heads) or 'none'}"
    try:
        lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as exc:
        return f"{shown_path(file)} cannot be read: {describe(exc)}; {there}."
    if any(line.startswith(_MARKERS) for line in lines):
        return f"{shown_path(file)} has conflict markers of git; {there}."
    written = [line for line in lines if line and not line.startswith("#")]
    if {*written} == {*heads}:
        return ""
    return f"{shown_path(file)} names {listed(written) or 'no head'}; {there}."


def write(project: Project) -> tuple[Path, ...]:
    """Write the files of all packages, except those that are installed, and return those that were changed."""
    return tuple(file for package in _own(project) if (file := _write(package, project.graph.heads(package.name))))


def _write(package: MigrationPackage, heads: Sequence[str]) -> Path | None:
    """Write the file of a package, unless it names these heads already."""
    file = package.folder / NAME
    try:
        if file.is_file() and not _difference(file, heads):
            return None
        file.write_bytes("".join([_TEXT.format(package.name), *(f"{head}\n" for head in heads)]).encode())
    except OSError as exc:
        raise RevisionInputError(
            f"{shown_path(file)} cannot be written: {describe(exc)}. Write it later, with 'ampho db-heads --write'.",
            package=package.name,
        ) from exc
    return file


def _own(project: Project) -> Iterator[MigrationPackage]:
    return (package for package in project.packages if package.exists and not package.installed)


def kept(project: Project) -> Mapping[str, tuple[str, ...]] | None:
    """Return the heads of the packages before a command writes revisions; None if no file has to be kept."""
    if not any((package.folder / NAME).is_file() for package in _own(project)):
        return None
    with suppress(AmphoError):  # which the command raises, unless it is the one that mends the history
        return {package.name: project.graph.heads(package.name) for package in project.packages}
    return {}


def keep(project: Project, before: Mapping[str, tuple[str, ...]] | None) -> Iterator[Path]:
    """Write the files of the packages whose heads have changed, and yield those that were changed.

    A package whose first revision is new gets a file.

    :param before: what :func:`kept` returned.
    """
    if before is None:
        return
    for package in _own(project):
        heads, old = project.graph.heads(package.name), before.get(package.name)
        if heads != old and (old == () or (package.folder / NAME).is_file()) and (file := _write(package, heads)):
            yield file
