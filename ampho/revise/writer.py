"""Writing migrations folders and revision files, after everything has been checked."""

from __future__ import annotations

import ast
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ampho._text import describe, listed, shown_path
from ampho.errors import AmphoError, HistoryError, MigrationsFolderError, RevisionInputError
from ampho.history.graph import Branch, Graph
from ampho.history.header import NAMES
from ampho.history.host import TEMPLATES, uses_ampho
from ampho.history.package import RESERVED, SETTING, MigrationPackage, find_package
from ampho.history.revision import MAX_ID, Phase, Revision, id_prefix, parse_revision
from ampho.history.specifier import Specifier, find_target, parse
from ampho.migrate.project import Project
from ampho.revise.names import assigned_names, missing_names

if TYPE_CHECKING:
    from ampho.migrate.alembic import Body, RevisionFiles

_MAX_MESSAGE = 1000
_SHOWN = 3
_LINE = 100
# The list as _ini_text() writes it: each line is the folder of a package, and there are no other lines in the value.
_LOCATIONS = re.compile(
    rb"""^version_locations\ =(?P<newline>\r?\n)
    (?P<lines>(?:\ {4}(?:[\w.]+:|%\(here\)s/(?=\.\./|versions\r?\n))[\w./-]+\r?\n)+)
    (?=\S|\s*(?:\n\S|\Z))""",
    re.MULTILINE | re.VERBOSE,
)
_INI = "alembic.ini"
FILES = ("env.py", "script.py.mako", "README", _INI)
"""The files of a migrations folder, besides the revisions."""
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]*")


@dataclass(frozen=True, slots=True)
class Initialized:
    """A migrations folder that was written.

    :ivar package: the package.
    :ivar files: the files in the folder, sorted by name.
    :ivar hint: how to add the package to ``AMPHO_MIGRATION_PACKAGES``; None if it is already listed.
    :ivar updated: the ``alembic.ini`` files of other packages that now also list this package.
    :ivar naming_hint: how to name constraints, if the metadata does not name them and there are no revisions yet;
        otherwise, None.
    """

    package: MigrationPackage
    files: tuple[Path, ...]
    hint: str | None
    updated: tuple[Path, ...] = ()
    naming_hint: str | None = None


def init_all(project: Project) -> tuple[Initialized, ...]:
    """Write the migrations folders of all listed packages that have none, except installed ones, for ``db-init``."""
    project.check_migratable(None)
    packages = [package for package in project.packages if not (package.installed or is_used(package.folder))]
    for package in packages:
        package.check_writable()
    return tuple(init(project, package.entry) for package in packages)


def is_used(folder: Path) -> bool:
    """Return whether a path exists, other than as an empty folder."""
    return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))


def init(project: Project, entry: str) -> Initialized:
    """Write the migrations folder of a package, for ``db-init``."""
    package = package_to_write(project, entry)
    package.check_writable()
    folder = package.folder
    if is_used(folder):
        remedy = f"Write a revision with 'ampho db-rev {package.name} MESSAGE'"
        if package.env_py.is_file() and not uses_ampho(package):
            remedy = f"Take over its history with 'ampho db-adopt {shown_path(folder)} --into {package.name}'"
        raise MigrationsFolderError(
            f"{shown_path(folder)} already exists. {remedy}, or move the folder away to start over.",
            package=package.name,
            path=folder,
        )
    try:
        _write_folder(project, package)
    except OSError as exc:
        raise MigrationsFolderError(
            f"{shown_path(folder)} cannot be written: {describe(exc)}.", package=package.name, path=folder
        ) from exc
    updated = list_in_inis(project, package)
    hint = None if project.is_configured_now(package.name) else project.setting_hint(package.entry)
    return Initialized(package, tuple(sorted(folder.iterdir())), hint, updated, _naming_hint(project))


def _naming_hint(project: Project) -> str | None:
    """Return how to name constraints, unless the metadata names them, or there are revisions already."""
    metadata = project.metadata or ()
    every = metadata if isinstance(metadata, Sequence) else (metadata,)
    if all("fk" in each.naming_convention for each in every) or _has_revisions(project):
        return None
    return (
        "Hint: give the metadata of the models a naming_convention before the first revision, so that later revisions"
        ' can drop constraints. See "Names of constraints" in docs/revisions.md.'
    )


def _has_revisions(project: Project) -> bool:
    try:
        return bool(project.graph.ids)
    except AmphoError:  # The history of another package is broken, so there are revisions.
        return True


def package_to_write(project: Project, entry: str) -> MigrationPackage:
    """Return the package of an entry, whether or not it is configured."""
    found = find_package(entry, [package.name for package in project.packages])
    listed = next((package for package in project.packages if package.name == found.name), found)
    if listed is not found and entry not in (listed.name, listed.entry):
        raise MigrationsFolderError(
            f"{listed.name} is configured with the folder {shown_path(listed.folder)}. Create it with 'ampho db-init"
            f" {listed.name}', or change the folder in {SETTING} first.",
            package=listed.name,
            path=found.folder,
        )
    return listed


def _write_folder(project: Project, package: MigrationPackage) -> None:
    """Write the folder under a temporary name and rename it, so that it is never incomplete."""
    package.folder.parent.mkdir(parents=True, exist_ok=True)
    draft = package.folder.with_name(f".ampho-{secrets.token_hex(6)}")
    try:
        (draft / "versions").mkdir(parents=True)
        for name, content in files_of_folder(project, package).items():
            (draft / name).write_bytes(content)
        draft.rename(package.folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def files_of_folder(project: Project, package: MigrationPackage) -> dict[str, bytes]:
    """Return the files of a new migrations folder, by name."""
    source = TEMPLATES / project.template
    templates = [(source if (source / name).is_file() else TEMPLATES) / name for name in FILES]
    return {each.name: each.read_bytes() for each in templates} | {_INI: _ini_text(project, package).encode()}


def _ini_text(project: Project, package: MigrationPackage) -> str:
    packages = {other.name: other for other in project.packages} | {package.name: package}
    locations = "\n".join(f"    {other.location(package.folder / _INI)}" for other in packages.values())
    text = (TEMPLATES / _INI).read_text(encoding="utf-8")
    return text.replace("    {version_locations}", locations)


def list_in_inis(project: Project, package: MigrationPackage) -> tuple[Path, ...]:
    """Add a new package to the ``alembic.ini`` of the others, and return the files that were changed."""
    return tuple(other.folder / _INI for other in project.packages if _list_in_ini(other, package))


def _list_in_ini(other: MigrationPackage, package: MigrationPackage) -> bool:
    """Add a new package to the ``alembic.ini`` of another one, unless the user has changed the list of packages in it.

    This list is for Alembic's commands that do not run ``env.py``, such as ``heads``.

    :return: whether the file was changed.
    """
    ini = other.folder / _INI
    if other.name == package.name or other.installed or not ini.resolve().is_relative_to(other.root.resolve()):
        return False
    try:
        text = ini.read_bytes()
        found = _LOCATIONS.search(text)
        location = package.location(ini).encode()
        if found is None or location in found["lines"].split() or len(_LOCATIONS.findall(text)) > 1:
            return False
        ini.write_bytes(text[: found.end()] + b"    " + location + found["newline"] + text[found.end() :])
    except OSError:
        return False  # The new folder is usable without the list, which only plain Alembic needs.
    return True


def merge(project: Project, package: str, message: str, *, rev_id: str | None = None) -> Revision:
    """Write a revision that merges the heads of a package, for ``db-merge``."""
    name = project.package(package).name
    heads = project.graph.parallel_heads(name) or project.graph.heads(name)
    if len(heads) <= 1:
        have = f"one head, {heads[0]}" if heads else "no revisions"
        raise RevisionInputError(f"{package} has {have}: there is nothing to merge.", package=package)
    new = prepare_revision(project, package, Wish(message, head=heads[0], rev_id=rev_id))
    return write_revision(project, replace(new, down_revisions=heads))


@dataclass(frozen=True, slots=True)
class Wish:
    """The revisions that the options of ``db-rev`` ask for.

    :ivar message: what the revisions do.
    :ivar depends_on: ids, or packages, which stand for their head.
    :ivar head: the revision to revise instead of the head of the package.
    :ivar splice: whether ``head`` may have a successor.
    :ivar rev_id: the id, instead of a generated one.
    :ivar phase: the phase that the file names.
    """

    message: str
    depends_on: tuple[str, ...] = ()
    head: str | None = None
    splice: bool = False
    rev_id: str | None = None
    phase: Phase | None = None


def prepare_revision(project: Project, package: str, wish: Wish, graph: Graph | None = None) -> Revision:
    """Return a new revision on the branch of a package, for ``db-rev``; :func:`write_revision` writes its file.

    :param graph: the history, if it already contains other new revisions that are not written yet.
    :return: the revision, whose ``path`` is the folder that will contain its file.
    """
    owner = project.package(package)
    owner.check_writable()
    project.check_addressed(package)
    check_message(wish.message, package)
    graph = graph or project.graph
    down = _down_revision(graph, package, wish.head, splice=wish.splice)
    needed = (single_revision(graph, package, name, "--depends-on") for name in wish.depends_on)
    return Revision(
        id=new_id(graph, package) if wish.rev_id is None else _checked_id(graph, package, wish.rev_id),
        package=package,
        file=str(owner.versions),
        down_revisions=() if down is None else (down,),
        depends_on=tuple(dict.fromkeys(needed)),
        labels=() if graph.of_package(package) or package in graph.labels else (package,),
        doc=wish.message,
        phase=wish.phase,
    )


def check_message(message: str, package: str) -> None:
    """Raise a ``RevisionInputError`` if a message is empty, too long, or contains characters that cannot be printed."""
    if not message.strip():
        raise RevisionInputError("The message is empty. Describe what the revision does.", package=package)
    if len(message) > _MAX_MESSAGE:
        raise RevisionInputError(
            f"The message has {len(message)} characters. Shorten it to at most {_MAX_MESSAGE}.", package=package
        )
    if not all(char.isprintable() or char in "\n\t" for char in message):
        raise RevisionInputError(
            f"The message {message[:60]!a} contains characters that cannot be printed. Remove them.", package=package
        )


def _down_revision(graph: Graph, package: str, head: str | None, *, splice: bool) -> str | None:
    """Return the parent of a new revision; None for a first revision."""
    heads = graph.heads(package)
    if head is None:
        if labels := graph.branch_heads(package):
            named = listed([f"{label} ({each})" for each, label in labels.items()])
            raise RevisionInputError(
                f"{package} has several branches: {named}. Name the one that the new revision continues, as in"
                f" --head {labels[heads[0]]}@head.",
                package=package,
            )
        if several := graph.parallel_heads(package):
            raise RevisionInputError(
                f"{package} has {len(several)} heads: {', '.join(several)}. Merge them with 'ampho db-merge {package}',"
                f" or move the later one on top of the other with 'ampho db-rebase {package}'. To keep both, name the"
                f" head that the new revision revises, as in --head {several[0]}.",
                package=package,
            )
        return heads[0] if heads else None
    if head == "base":
        return None
    target = single_revision(graph, package, head, "--head")
    if graph[target].package != package:
        raise RevisionInputError(
            f"--head {head} is {target}, which belongs to {graph[target].package}. To depend on it, pass"
            f" --depends-on {target}.",
            package=package,
        )
    if target not in heads and not splice:
        raise RevisionInputError(
            f"--head {head} is {target}, which already has a successor. Add --splice to write a second one.",
            package=package,
        )
    return target


def single_revision(graph: Graph, package: str, name: str, option: str) -> str:
    """Return the id of the revision that an option names: an id, or a package, which stands for its head."""
    spec = parse(name)
    if spec.branch is not None and spec.target in ("head", "heads"):
        spec = Specifier(name, None, spec.branch)
    elif spec.offset or spec.target in RESERVED:
        raise RevisionInputError(
            f"{option} {name} does not name a revision. Pass an id, or a package to use its head.", package=package
        )
    target = find_target(graph, spec)
    if not isinstance(target, Branch):
        return target
    heads = graph.tips(target.ids)
    if len(heads) != 1:
        several = f"{len(heads)} heads: {', '.join(heads)}. Name one of them"
        have = several if heads else "no revisions yet. Write one first"
        raise RevisionInputError(f"{option} {name}: {target.name} has {have}.", package=package)
    return heads[0]


def _checked_id(graph: Graph, package: str, rev_id: str) -> str:
    reserved = rev_id in RESERVED or graph.branch(rev_id) is not None
    if not _ID.fullmatch(rev_id) or len(rev_id) > MAX_ID or reserved:
        raise RevisionInputError(
            f"--rev-id {rev_id[:60]!a} is not a valid id. An id has up to {MAX_ID} letters, digits, '_', and '.'. It"
            " must not be the name of a package, or a word with a meaning in specifiers, such as 'head'.",
            package=package,
        )
    taken = next((other for other in graph.ids if other.lower() == rev_id.lower()), None)
    if taken is not None:
        raise RevisionInputError(
            f"--rev-id {rev_id} is already used by {shown_path(graph[taken].path)}. Choose another id.", package=package
        )
    return rev_id


def new_id(graph: Graph, package: str) -> str:
    """Return an unused id that consists of the package's name and the time, such as ``app_1595770095``.

    No two ids have the same time, because revisions run in the order of these times.
    """
    prefix = id_prefix(package)
    taken = {revision_id.lower() for revision_id in graph.ids}
    times = {graph[revision_id].time for revision_id in graph.ids}
    seconds = int(time.time())
    while seconds in times or f"{prefix}_{seconds}".lower() in taken:
        seconds += 1
    return f"{prefix}_{seconds}"


def not_implied(graph: Graph, down_revisions: Sequence[str], depends_on: Sequence[str]) -> tuple[str, ...]:
    """Return the dependencies that are not implied by the parents or by other dependencies."""
    implied = graph.ancestors(down_revisions)
    for revision_id in depends_on:
        implied |= graph.ancestors([revision_id]) - {revision_id}
    return tuple(revision_id for revision_id in depends_on if revision_id not in implied)


@dataclass(frozen=True, slots=True)
class Draft:
    """A revision file that has been rendered and checked, but not written.

    :ivar revision: the revision that the file defines.
    :ivar source: the content of the file.
    :ivar files: the names, template, and hooks of the package's files.
    """

    revision: Revision
    source: bytes
    files: RevisionFiles


def write_revision(project: Project, new: Revision, body: Body | None = None) -> Revision:
    """Write the file of a revision that :func:`prepare_revision` returned, and return what the file contains.

    :param body: the bodies of the revision's functions; empty by default.
    :raises RevisionInputError: if the file cannot be written, or if the rendered template does not define this
        revision. No file is left behind.
    """
    return write_drafts([draft_revision(project, new, body)])[0]


def draft_revision(project: Project, new: Revision, body: Body | None = None) -> Draft:
    """Return the file of a revision that :func:`prepare_revision` returned, without writing it.

    :param body: the bodies of the revision's functions; empty by default.
    :raises RevisionInputError: if the rendered template does not define this revision.
    """
    from ampho.migrate.alembic import Body, RevisionFiles

    files = RevisionFiles(project.package(new.package))
    path = files.path(new.id, new.doc, new.path)
    source = files.render(new, body or Body("", "", "", project.options))
    if new.replaces:
        source = below_header(source, _replaces(new.replaces))
    if new.phase is not None:
        source = below_header(source, f'phase = "{new.phase}"')
    if body is None and len(new.down_revisions) <= 1:
        source = _with_remark(source, _newest_elsewhere(project.graph, new.package))
    written = _as_written(source, new, path)
    if body is not None:
        _check_names(source, new)
    return Draft(written, source, files)


def _replaces(ids: Sequence[str]) -> str:
    """Return the line of a header, or the lines, that name the revisions that a new one replaces."""
    items = [f'"{each}"' for each in ids]
    line = f"replaces = ({', '.join(items)}{',' if len(items) == 1 else ''})"
    return line if len(line) <= _LINE else "\n".join(["replaces = (", *(f"    {each}," for each in items), ")"])


def write_drafts(drafts: Sequence[Draft]) -> tuple[Revision, ...]:
    """Write all files or none of them, and return the revisions that they contain.

    If a hook fails after the only file was written, the file is kept.

    :raises RevisionInputError: if a file cannot be written, or a hook fails.
    """
    written: list[Path] = []
    made: list[Path] = []
    try:
        for draft in drafts:
            path = draft.revision.path
            made += [folder for folder in path.parents if not folder.exists()]
            _write_draft(draft)
            written.append(path)
        for draft in drafts:
            draft.files.run_hooks(draft.revision.path, is_kept=len(drafts) == 1)
    except BaseException:
        if len(drafts) > 1:
            _remove(written, made)
        raise
    return tuple(draft.revision for draft in drafts)


def _write_draft(draft: Draft) -> None:
    path = draft.revision.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(draft.source)
    except OSError as exc:
        raise RevisionInputError(
            f"{shown_path(path)} cannot be written: {describe(exc)}.", package=draft.revision.package
        ) from exc


def _remove(files: Iterable[Path], folders: Iterable[Path]) -> None:
    for path in files:
        with suppress(OSError):
            path.unlink()
    for folder in folders:
        with suppress(OSError):  # A hook may have left a file of its own in the folder.
            folder.rmdir()


def _newest_elsewhere(graph: Graph, package: str) -> str:
    """Return a remark on the newest heads of other packages, which the author may want to add to ``depends_on``.

    It is empty if there are none.
    """
    heads = [head for name in graph.packages if name != package for head in graph.heads(name)]
    newest = listed(graph.sort(heads)[::-1], _SHOWN)
    return f"Newest revisions of other packages when this was written: {newest}" if heads else ""


def _with_remark(source: bytes, remark: str) -> bytes:
    """Return the source of a revision file with a remark as a comment below its header."""
    return below_header(source, f"# {remark}") if remark else source


def below_header(source: bytes, text: str) -> bytes:
    """Return the source of a revision file with one more line, or several, below its header."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):  # _as_written() raises the error
        return source
    ends = [node.end_lineno or 0 for node in body if not assigned_names(node).isdisjoint(NAMES)]
    if not ends:
        return source
    lines = source.splitlines(keepends=True)
    newline = b"\r\n" if lines[0].endswith(b"\r\n") else b"\n"
    lines.insert(max(ends), newline.join([*text.encode().split(b"\n"), b""]))
    return b"".join(lines)


def _as_written(source: bytes, new: Revision, path: Path) -> Revision:
    """Return the revision that a file's source defines, after checking that it is the intended revision."""
    try:
        written = parse_revision(source, str(path), new.package)
    except HistoryError as exc:
        raise _template_error(new, f"does not produce a revision: {exc}") from exc
    for name in ("id", "down_revisions", "depends_on", "labels", "replaces", "phase"):
        if getattr(written, name) != getattr(new, name):
            raise _template_error(new, f"does not write the {name} {getattr(new, name)}")
    return written


def _check_names(source: bytes, new: Revision) -> None:
    """Check that everything that a revision names exists.

    :raises RevisionInputError: if something does not.
    """
    missing = missing_names(source.decode("utf-8"))
    if missing:
        names = listed([each.name for each in missing])
        raise RevisionInputError(
            f"The revision would not run, because {names} {'is' if len(missing) == 1 else 'are'} not defined in it, for"
            f" example in the line {missing[0].line[:100]!r}. If the template script.py.mako of {new.package} lacks an"
            " import or ${imports}, add it. If render_item returned this code, let render_item add the import to"
            " autogen_context.imports.",
            package=new.package,
        )


def _template_error(new: Revision, what: str) -> AmphoError:
    return RevisionInputError(
        f"The template script.py.mako of {new.package} {what}. Fix it, or copy the one that 'ampho db-init'"
        " writes for another package.",
        package=new.package,
    )
