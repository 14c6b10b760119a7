"""Calling the user's ``process_revision_directives``, and preparing the revisions that it asks for."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from alembic.operations import ops
from alembic.util import to_tuple

from ampho._text import shown_path
from ampho.errors import AmphoError, RevisionInputError
from ampho.history.graph import Graph
from ampho.history.package import RESERVED, MigrationPackage
from ampho.history.revision import Revision
from ampho.migrate.project import Project
from ampho.revise.autogenerate.operations.changes import Changes
from ampho.revise.writer import Wish, new_id, prepare_revision

_HOOK = "process_revision_directives"
_OPTION = re.compile(r"--(depends-on|head|rev-id|splice)\b")
_LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]*")


def preset(changes: Changes, wish: Wish, graph: Graph) -> Wish:
    """Return a wish with the id and the head that Ampho chooses if the options do not name them."""
    head = f"{changes.package}@head" if graph.of_package(changes.package) else "base"
    return replace(wish, rev_id=wish.rev_id or new_id(graph, changes.package), head=wish.head or head)


def has_hook(changes: Changes) -> bool:
    """Return whether the user's configuration contains a hook."""
    return changes.autogen.migration_context.opts.get(_HOOK) is not None


def apply_hook(changes: Changes, rows: tuple[str, ...], preset: Wish) -> list[Changes]:
    """Call the user's hook, and return the changes of each directive that it returns and that is not empty.

    :param preset: the values of the directive that the hook receives.
    """
    script = changes.script
    script.rev_id, script.message, script.head = preset.rev_id, preset.message or None, preset.head
    script.splice, script.depends_on = preset.splice, list(preset.depends_on) or None
    context = changes.autogen.migration_context
    hook = context.opts.get(_HOOK)
    directives: list[object] = [script]
    if hook is not None:
        hook(context, rows, directives)
    found = [replace(changes, script=_checked(directive, changes.package)) for directive in directives]
    return [each for each in found if not each.is_empty]


def _checked(directive: object, package: str) -> ops.MigrationScript:
    if isinstance(directive, ops.MigrationScript):
        return directive
    raise RevisionInputError(
        f"{_HOOK} returned a {type(directive).__name__} among the directives. Return only MigrationScript objects.",
        package=package,
    )


def prepare(
    project: Project, graph: Graph, changes: Changes, wish: Wish, preset: Wish, *, last: str | None
) -> Revision:
    """Return the new revision for a directive, with what the user's hook set in it.

    :param wish: what the options ask for.
    :param preset: the values that the directive had before the hook.
    :param last: the revision of an earlier directive of the package, which this one revises unless it has a ``head``.
    :raises RevisionInputError: if the hook set a value that the option of the same name would reject.
    """
    script = changes.script
    chosen = {None, "head", f"{changes.package}@head", preset.head}
    own = Wish(
        message=preset.message if script.message is None else str(script.message),
        depends_on=preset.depends_on if script.depends_on is None else to_tuple(script.depends_on),
        head=(last or wish.head) if script.head in chosen else str(script.head),
        splice=bool(script.splice) or wish.splice,
        rev_id=wish.rev_id if script.rev_id in (None, preset.rev_id) else str(script.rev_id),
        phase=wish.phase,
    )
    try:
        return _with_branch(project, graph, prepare_revision(project, changes.package, own, graph), script)
    except AmphoError as exc:
        if (
            own == replace(wish, head=own.head)
            and script.head in chosen
            and not (script.branch_label or script.version_path)
        ):
            raise  # The hook has set nothing that could be wrong.
        why = _OPTION.sub(lambda match: match[1].replace("-", "_"), str(exc))
        raise RevisionInputError(
            f"{_HOOK} returned a revision that cannot be written: {why}", package=changes.package
        ) from exc


def _with_branch(project: Project, graph: Graph, new: Revision, script: ops.MigrationScript) -> Revision:
    """Return a new revision with the branch labels and the folder that the user's hook set."""
    labels = tuple(dict.fromkeys([*new.labels, *to_tuple(script.branch_label, default=())]))
    for label in labels:
        taken = label in graph.labels or (label in graph.packages and label != new.package)
        if not _LABEL.fullmatch(label) or label in RESERVED or taken:
            raise RevisionInputError(
                f"branch_label {label[:60]!a} is already used, or is not valid. Choose a name of letters, digits, '_',"
                " and '.'.",
                package=new.package,
            )
    if script.version_path is None:
        return replace(new, labels=labels)
    return replace(new, labels=labels, file=str(_folder(project.package(new.package), script.version_path)))


def _folder(package: MigrationPackage, version_path: str | os.PathLike[str]) -> Path:
    folders, is_recursive = package.layout
    folder = Path(os.path.abspath(version_path))  # noqa: PTH100 (Path.resolve() would follow links)
    around = [folder, *folder.parents] if is_recursive else [folder]
    if not any(Path(each) in around for each in folders):
        raise RevisionInputError(
            f"version_path {shown_path(folder)} is not a folder from which the revisions of {package.name} are read."
            f" Use {shown_path(package.versions)}, or add the folder to version_locations in"
            f" {shown_path(package.folder / 'alembic.ini')}.",
            package=package.name,
        )
    return folder
