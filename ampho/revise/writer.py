"""Writing files: a package's migrations folder, and new revisions. Everything is decided before a byte is written."""

from __future__ import annotations

import ast
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ampho._text import describe, listed, shown_path
from ampho.errors import AmphoError, HistoryError, MigrationsFolderError, RevisionInputError
from ampho.history.graph import Branch, Graph
from ampho.history.header import NAMES
from ampho.history.host import TEMPLATES
from ampho.history.package import RESERVED, SETTING, MigrationPackage, find_package
from ampho.history.revision import MAX_ID, Revision, id_prefix, parse_revision
from ampho.history.specifier import Specifier, find_target, parse
from ampho.project import Project

if TYPE_CHECKING:
    from ampho.migrate.alembic import Body

_MAX_MESSAGE = 1000
_SHOWN = 3
_TWO = 2
# As _ini_text() writes it: nothing but a folder of a package on each line, and no further line of the value after them.
_LOCATIONS = re.compile(
    rb"^version_locations =(?P<newline>\r?\n)(?P<lines>(?: {4}[\w.]+:[\w./-]+\r?\n)+)(?=\S|\s*(?:\n\S|\Z))",
    re.MULTILINE,
)
INI = "alembic.ini"
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]*")


@dataclass(frozen=True, slots=True)
class Initialized:
    """A migrations folder that was written.

    :ivar package: the package.
    :ivar files: the files that were written, in order.
    :ivar hint: which setting to add so that the package is found; None if it is already listed.
    :ivar updated: the ``alembic.ini`` files of other packages, to which this package was added.
    """

    package: MigrationPackage
    files: tuple[Path, ...]
    hint: str | None
    updated: tuple[Path, ...] = ()


def init(project: Project, entry: str) -> Initialized:
    """Write the migrations folder of a package.

    :param entry: the package, or ``package:folder`` for another folder than ``migrations``.
    :raises PackageError: if the package cannot have one, or has one already.
    """
    package = _package_to_init(project, entry)
    package.check_writable()
    if package.folder.exists() and (not package.folder.is_dir() or any(package.folder.iterdir())):
        raise MigrationsFolderError(
            f"{shown_path(package.folder)} is there already. Write a revision with 'ampho db-rev"
            f" {package.name} MESSAGE'; to start over, move the folder away.",
            package=package.name,
            path=package.folder,
        )
    try:
        _write_folder(project, package)
    except OSError as exc:
        raise MigrationsFolderError(
            f"{shown_path(package.folder)} cannot be written: {describe(exc)}.",
            package=package.name,
            path=package.folder,
        ) from exc
    files = tuple(sorted(package.folder.iterdir()))
    updated = tuple(other.folder / INI for other in project.packages if _list_in_ini(other, package))
    listed = project.is_configured_now(package.name)
    return Initialized(package, files, None if listed else project.setting_hint(package.entry), updated)


def _package_to_init(project: Project, entry: str) -> MigrationPackage:
    found = find_package(entry, [package.name for package in project.packages])
    for package in project.packages:
        if package.name == found.name and entry not in (package.name, package.entry):
            raise MigrationsFolderError(
                f"{package.name} is configured with the folder {shown_path(package.folder)}. Write that with"
                f" 'ampho db-init {package.name}', or name the other folder in {SETTING} first.",
                package=package.name,
                path=found.folder,
            )
        if package.name == found.name:
            return package
    return found


def _write_folder(project: Project, package: MigrationPackage) -> None:
    """Write the folder under another name first, so that it is there whole or not at all."""
    source = TEMPLATES / project.template
    package.folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".ampho-", dir=package.folder.parent))
    try:
        draft.chmod(0o777 & ~_umask())
        (draft / "versions").mkdir()
        for name in ("env.py", "script.py.mako", "README"):
            common = source / name if (source / name).is_file() else TEMPLATES / name
            (draft / name).write_bytes(common.read_bytes())
        (draft / INI).write_text(_ini_text(project, package), encoding="utf-8")
        draft.rename(package.folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _ini_text(project: Project, package: MigrationPackage) -> str:
    packages = {other.name: other for other in project.packages} | {package.name: package}
    locations = "\n".join(f"    {other.location}" for other in packages.values())
    text = (TEMPLATES / INI).read_text(encoding="utf-8")
    return text.replace("    {version_locations}", locations.replace("%", "%%"))


def _list_in_ini(other: MigrationPackage, package: MigrationPackage) -> bool:
    """Add a new package to the ``alembic.ini`` of another one, if its list is still as Ampho wrote it.

    Plain Alembic's commands that do not run ``env.py``, such as ``heads``, know the packages from there only.
    """
    ini = other.folder / INI
    if other.name == package.name or other.installed or not ini.resolve().is_relative_to(other.root.resolve()):
        return False
    try:
        text = ini.read_bytes()
        found = _LOCATIONS.search(text)
        location = package.location.encode()
        if found is None or location in found["lines"].split() or len(_LOCATIONS.findall(text)) > 1:
            return False
        ini.write_bytes(text[: found.end()] + b"    " + location + found["newline"] + text[found.end() :])
    except OSError:
        return False  # it serves plain Alembic only, and the new folder is whole without it
    return True


def revision(
    project: Project,
    package: str,
    message: str,
    *,
    depends_on: Iterable[str] = (),
    head: str | None = None,
    splice: bool = False,
    rev_id: str | None = None,
) -> Revision:
    """Write a revision on the branch of a package, with functions that do nothing yet.

    :param message: what it does, for the docstring and the file's name.
    :param depends_on: ids, or packages whose present head is meant; a string is one.
    :param head: the revision to stand on, instead of the package's head; ``base`` for a second first revision.
    :param splice: whether ``head`` may have a successor already.
    :param rev_id: the id, instead of the generated one.
    :raises AmphoError: if anything of it cannot be; then nothing was written.
    """
    new = prepare_revision(project, package, message, depends_on=depends_on, head=head, splice=splice, rev_id=rev_id)
    return write_revision(project, new)


def merge(project: Project, package: str, message: str = "Merge heads", *, rev_id: str | None = None) -> Revision:
    """Write a revision that makes one head of the several that a package has.

    :param message: what is merged, for the docstring and the file's name.
    :param rev_id: the id, instead of the generated one.
    :raises RevisionInputError: if the package has one head, or none.
    """
    heads = project.graph.heads(project.package(package).name)
    if len(heads) < _TWO:
        have = f"one head, {heads[0]}" if heads else "no revision"
        raise RevisionInputError(f"{package} has {have}: there is nothing to merge.", package=package)
    new = prepare_revision(project, package, message, head=heads[0], rev_id=rev_id)
    return write_revision(project, replace(new, down_revisions=heads))


def prepare_revision(
    project: Project,
    package: str,
    message: str,
    *,
    depends_on: Iterable[str] = (),
    head: str | None = None,
    splice: bool = False,
    rev_id: str | None = None,
) -> Revision:
    """Decide all of a new revision but what it does, and write nothing; see :func:`revision`.

    :return: the revision, whose ``path`` is the folder that its file will be in.
    """
    owner = project.package(package)
    owner.check_writable()
    project.check_addressed(package)
    _check_message(message, package)
    graph = project.graph
    needed = (depends_on,) if isinstance(depends_on, str) else depends_on
    down = _down_revision(graph, package, head, splice=splice)
    return Revision(
        id=_new_id(graph, package) if rev_id is None else _checked_id(graph, package, rev_id),
        package=package,
        file=str(owner.versions),
        down_revisions=() if down is None else (down,),
        depends_on=tuple(dict.fromkeys(_dependency(graph, package, name) for name in needed)),
        labels=() if graph.of_package(package) or package in graph.labels else (package,),
        doc=message,
    )


def _check_message(message: str, package: str) -> None:
    if not message.strip():
        raise RevisionInputError("The message is empty. Say what the revision does.", package=package)
    if len(message) > _MAX_MESSAGE:
        raise RevisionInputError(
            f"The message has {len(message)} characters. Say it in {_MAX_MESSAGE} or less.", package=package
        )
    if not all(char.isprintable() or char in "\n\t" for char in message):
        raise RevisionInputError(
            f"The message {message[:60]!a} has characters that cannot be printed. Leave them out.", package=package
        )


def _down_revision(graph: Graph, package: str, head: str | None, *, splice: bool) -> str | None:
    """Return the revision that a new one stands on; None for a first one."""
    heads = graph.heads(package)
    if head is None:
        if len(heads) > 1:
            raise RevisionInputError(
                f"{package} has {len(heads)} heads: {', '.join(heads)}. Join them with 'ampho db-merge {package}', or"
                f" put the later one after the other with 'ampho db-rebase {package}'; or say which one to go on from,"
                f" and keep both: --head {heads[0]}.",
                package=package,
            )
        return heads[0] if heads else None
    if head == "base":
        return None
    target = _single_revision(graph, package, head, "--head")
    if graph[target].package != package:
        raise RevisionInputError(
            f"--head {head} is {target}, which belongs to {graph[target].package}. To need it, say --depends-on"
            f" {target}.",
            package=package,
        )
    if target not in heads and not splice:
        raise RevisionInputError(
            f"--head {head} is {target}, which has a successor already. Add --splice to branch off from it.",
            package=package,
        )
    return target


def _dependency(graph: Graph, package: str, name: str) -> str:
    return _single_revision(graph, package, name, "--depends-on")


def _single_revision(graph: Graph, package: str, name: str, option: str) -> str:
    """Return the one revision that an option names: by id, or as the head of a package."""
    spec = parse(name)
    if spec.branch is not None and spec.target in ("head", "heads"):
        spec = Specifier(name, None, spec.branch)
    elif spec.offset or spec.target in RESERVED:
        raise RevisionInputError(
            f"{option} {name} names no revision. Give an id, or a package for its head.", package=package
        )
    target = find_target(graph, spec)
    if not isinstance(target, Branch):
        return target
    heads = graph.tips(target.ids)
    if len(heads) != 1:
        have = (
            f"{len(heads)} heads: {', '.join(heads)}. Name one of them" if heads else "no revision yet. Write it first"
        )
        raise RevisionInputError(f"{option} {name}: {target.name} has {have}.", package=package)
    return heads[0]


def _checked_id(graph: Graph, package: str, rev_id: str) -> str:
    reserved = rev_id in RESERVED or graph.branch(rev_id) is not None
    if not _ID.fullmatch(rev_id) or len(rev_id) > MAX_ID or reserved:
        raise RevisionInputError(
            f"--rev-id {rev_id[:60]!a} cannot be an id. Use letters, digits, '_' and '.', {MAX_ID} at most, and"
            " no word or package that a specifier has another meaning for.",
            package=package,
        )
    taken = next((other for other in graph.ids if other.lower() == rev_id.lower()), None)
    if taken is not None:
        raise RevisionInputError(
            f"--rev-id {rev_id} is taken by {shown_path(graph[taken].path)}. Give another one.", package=package
        )
    return rev_id


def _new_id(graph: Graph, package: str) -> str:
    """Return an unused id, made of the package's name and the time: ``app_1595770095``.

    No two ids have the same second, because the times in them say in which order the revisions run.
    """
    prefix = id_prefix(package)
    taken = {revision_id.lower() for revision_id in graph.ids}
    times = {graph[revision_id].time for revision_id in graph.ids}
    seconds = int(time.time())
    while seconds in times or f"{prefix}_{seconds}".lower() in taken:
        seconds += 1
    return f"{prefix}_{seconds}"


def write_revision(project: Project, new: Revision, body: Body | None = None) -> Revision:
    """Write the file of a prepared revision.

    :param body: what its functions do; nothing by default.
    :raises RevisionInputError: if it cannot be written as it was meant; then it was not.
    """
    from ampho.migrate.alembic import Body, RevisionFiles

    files = RevisionFiles(project.package(new.package))
    path = files.path(new.id, new.doc)
    source = files.render(new, body or Body("", "", "", project.options))
    if body is None and len(new.down_revisions) < _TWO:
        source = _with_remark(source, _newest_elsewhere(project.graph, new.package))
    written = _as_written(source, new, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(source)
    except OSError as exc:
        raise RevisionInputError(
            f"{shown_path(path)} cannot be written: {describe(exc)}.", package=new.package
        ) from exc
    files.run_hooks(path)
    return written


def _newest_elsewhere(graph: Graph, package: str) -> str:
    """Return the newest heads of other packages, as text; empty if there are none.

    It shows the author of the file what the database had then, and what may belong in ``depends_on``.
    """
    heads = [head for name in graph.packages if name != package for head in graph.heads(name)]
    newest = listed(graph.sort(heads)[::-1], _SHOWN)
    return f"Newest of the other packages when this was written: {newest}" if heads else ""


def _with_remark(source: bytes, remark: str) -> bytes:
    """Return a revision file with a comment below its header, whatever template it is from."""
    try:
        body = ast.parse(source).body if remark else []
    except (SyntaxError, ValueError):  # an invalid file is refused when it is read back
        return source
    ends = [
        node.end_lineno or 0
        for node in body
        for target in (node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)])
        if isinstance(target, ast.Name) and target.id in NAMES
    ]
    if not ends:
        return source
    lines = source.splitlines(keepends=True)
    newline = b"\r\n" if lines[0].endswith(b"\r\n") else b"\n"
    lines.insert(max(ends), b"# %s%s" % (remark.encode(), newline))
    return b"".join(lines)


def _as_written(source: bytes, new: Revision, path: Path) -> Revision:
    """Read back what would be written, and check that it says what was meant."""
    try:
        written = parse_revision(source, str(path), new.package)
    except HistoryError as exc:
        raise _template_error(new, f"renders to something that is no revision: {exc}") from exc
    for name in ("id", "down_revisions", "depends_on", "labels"):
        if getattr(written, name) != getattr(new, name):
            raise _template_error(new, f"loses the {name} {getattr(new, name)}")
    return written


def _template_error(new: Revision, what: str) -> AmphoError:
    return RevisionInputError(
        f"The template script.py.mako of {new.package} {what}. Repair it, or write it anew with 'ampho db-init' in"
        " another package and copy it.",
        package=new.package,
    )
