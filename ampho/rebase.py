"""Putting the later of two parallel lines of a package after the other, by rewriting one line of one file."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ampho._describe import describe
from ampho.applied import Applied
from ampho.errors import RevisionInputError
from ampho.execute import read_rows
from ampho.graph import Graph
from ampho.project import Project
from ampho.revision import Revision, parse_revision

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_TWO = 2
_SECONDS = re.compile(r"_([0-9]{9,11})\Z")


def rebase(project: Project, connection: Connection, package: str, *, x: Sequence[str] = ()) -> Revision:
    """Re-parent the later of a package's two lines on the head of the other; none of it may be applied.

    Later is the line whose first revision was made later, by the time in its id. Where the revision was applied to
    another database already, merge instead: this cannot know.

    :param x: values for ``context.get_x_argument()``.
    :return: the revision that stands on the other line now.
    :raises RevisionInputError: if there are not two lines, or the later one is applied or not a single file's to move.
    """
    owner = project.package(package)
    owner.check_writable()
    graph = project.graph
    heads = graph.heads(package)
    if len(heads) != _TWO:
        remedy = f" Join them with 'ampho db-merge {package}'." if len(heads) > _TWO else ""
        raise RevisionInputError(
            f"A rebase puts one of two lines after the other, and the number of heads of {package} is"
            f" {len(heads)}.{remedy}",
            package=package,
        )
    root, onto = _later_line(graph, package, heads)
    line = graph.descendants([root], within=package) | {root}
    applied = Applied.from_rows(graph, read_rows(project, connection, x)).known & line
    if applied:
        raise RevisionInputError(
            f"{', '.join(graph.sort(applied))} of the later line is applied already. Join the lines instead: ampho"
            f" db-merge {package}.",
            package=package,
        )
    return _reparent(graph[root], onto)


def _later_line(graph: Graph, package: str, heads: Sequence[str]) -> tuple[str, str]:
    """Return the first revision of the later line, and the head of the other."""
    lines = []
    for head, other in (heads, heads[::-1]):
        own = {rid for rid in graph.ancestors([head]) if graph[rid].package == package} - graph.ancestors([other])
        roots = [rid for rid in own if not set(graph[rid].down_revisions) & own]
        if len(roots) != 1 or len(graph[roots[0]].down_revisions) > 1:
            raise RevisionInputError(
                f"The line of {head} begins in several places. Join the lines instead: ampho db-merge {package}.",
                package=package,
            )
        lines.append((_made(roots[0]), roots[0], other))
    _, root, onto = max(lines)
    return root, onto


def _made(revision_id: str) -> int:
    seconds = _SECONDS.search(revision_id)
    return int(seconds.group(1)) if seconds else 0


def _reparent(revision: Revision, parent: str) -> Revision:
    path = revision.path
    try:
        source = path.read_bytes()
        changed = _with_parent(source.decode("utf-8"), parent).encode("utf-8")
    except (OSError, ValueError) as exc:
        raise RevisionInputError(f"{path} cannot be rewritten: {describe(exc)}.", package=revision.package) from exc
    written = parse_revision(changed, path, revision.package)
    if replace(written, doc=revision.doc) != replace(revision, down_revisions=(parent,)):
        raise RevisionInputError(
            f"{path} computes its down_revision. Change it by hand to {parent!r}.", package=revision.package
        )
    draft = path.with_name(f".{path.name}.ampho")
    try:
        draft.write_bytes(changed)
        draft.replace(path)
    except OSError as exc:
        draft.unlink(missing_ok=True)
        raise RevisionInputError(f"{path} cannot be written: {describe(exc)}.", package=revision.package) from exc
    return written


def _with_parent(source: str, parent: str) -> str:
    """Return a revision file's text with another ``down_revision``, and the docstring's line that repeats it."""
    lines = source.splitlines(keepends=True)
    for node in ast.parse(source).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if not (isinstance(target, ast.Name) and target.id == "down_revision"):
            continue
        value = node.value  # type: ignore[attr-defined]  # an assignment has one
        if value.lineno == value.end_lineno:
            line = lines[value.lineno - 1].encode("utf-8")
            text = line[: value.col_offset] + repr(parent).encode("utf-8") + line[value.end_col_offset :]
            lines[value.lineno - 1] = text.decode("utf-8")
    return re.sub(r"^Revises: .*$", f"Revises: {parent}", "".join(lines), count=1, flags=re.MULTILINE)
