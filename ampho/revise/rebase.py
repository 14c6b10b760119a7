"""Rebasing: moving the later of two parallel lines of a package after the other, by editing one file."""

from __future__ import annotations

import ast
import re
import shutil
import tokenize
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import replace
from functools import partial
from io import BytesIO, StringIO
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from ampho._text import describe, listed, shown_path
from ampho.database.version_rows import Applied
from ampho.errors import HistoryError, RevisionInputError
from ampho.history.graph import Graph
from ampho.history.package import MigrationPackage
from ampho.history.revision import Phase, Revision, parse_revision
from ampho.migrate.observers import Observer
from ampho.migrate.project import Project
from ampho.migrate.queries import query
from ampho.revise.names import assigned_names

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_REVISES = re.compile(rb"^Revises:[^\r\n]*", re.MULTILINE)


def later_line(graph: Graph, package: MigrationPackage) -> tuple[str, str]:
    """Return the first revision of the later of the two lines of a package, and the head of the other line.

    The later line is the one whose first revision is newer, according to its id or its ``Create Date``.

    :raises RevisionInputError: if the later line cannot be moved after the other.
    """
    package.check_writable()
    root, onto = _later_line(graph, package.name)
    _check_result(graph, replace(graph[root], down_revisions=(onto,)))
    return root, onto


def check_not_applied(project: Project, connection: Connection, root: str, *, x: Sequence[str] = ()) -> None:
    """Check that no revision of a line is applied to a database.

    :param root: the first revision of the line.
    """
    graph, package = project.graph, project.graph[root].package
    line = graph.descendants([root], within=package) | {root}
    applied = query(project, connection, x, partial(Applied.from_rows, graph)).known & line
    if applied:
        raise RevisionInputError(
            f"Revisions of the later line are already applied: {listed(graph.sort(applied))}."
            f" {_merge_instead(package)}",
            package=package,
        )


def warn_of_phases(project: Project, root: str, onto: str, observer: Observer | None) -> None:
    """Warn if a revision in phase ``pre`` is now after one in phase ``post``.

    :param project: the project, with the history before the move.
    :param root: the first revision of the line that was moved.
    :param onto: the head of the other line.
    """
    graph, package = project.graph, project.graph[root].package
    line = graph.descendants([root], within=package) | {root}
    other = (graph.ancestors([onto]) | {onto}) - graph.ancestors([root])
    places = {rid: project.phases.of(graph[rid]) for rid in graph.sort(line | other) if graph[rid].package == package}
    waits = [rid for rid, each in places.items() if rid in line and each.phase is Phase.PRE and not each.is_neutral]
    post = [rid for rid, each in places.items() if rid in other and each.phase is Phase.POST]
    if waits and post:
        (observer or Observer()).warned(
            f"{waits[0]} is in phase pre, and now depends on {post[0]}, which is in phase post, so"
            f" 'ampho db-up --phase pre' is refused until {post[0]} is applied. If both belong to one release, restore"
            f" the file of {root}, and run 'ampho db-merge {package}'."
        )


def _merge_instead(package: str) -> str:
    return f"Merge the lines instead, with 'ampho db-merge {package}'."


def _two_heads(graph: Graph, package: str) -> tuple[str, str]:
    match graph.parallel_heads(package) or graph.heads(package):
        case (one, other):
            return one, other
        case ():
            have, remedy = "no revisions", "there is nothing to rebase."
        case (one,):
            have, remedy = f"one head, {one}", "there is nothing to rebase."
        case heads:
            have, remedy = f"{len(heads)} heads, {', '.join(heads)}", f"a rebase needs two. {_merge_instead(package)}"
    raise RevisionInputError(f"{package} has {have}: {remedy}", package=package)


def _later_line(graph: Graph, package: str) -> tuple[str, str]:
    """Return the first revision of the later line, and the head of the other line."""
    one, other = _two_heads(graph, package)
    lines = []
    for head, onto in ((one, other), (other, one)):
        root = _root(graph, package, head, onto)
        made = graph[root].time
        if made is None:
            raise RevisionInputError(
                f"Neither the id nor the file of {root} contains a date, so Ampho cannot tell which line is later."
                f" {_merge_instead(package)}",
                package=package,
            )
        lines.append((made, root, onto))
    _, root, onto = max(lines)
    return root, onto


def _root(graph: Graph, package: str, head: str, other: str) -> str:
    """Return the package's first revision that ``head`` depends on but ``other`` does not."""
    own = {rid for rid in graph.ancestors([head]) if graph[rid].package == package} - graph.ancestors([other])
    roots = [rid for rid in own if not set(graph[rid].down_revisions) & own]
    if len(roots) != 1 or len(graph[roots[0]].down_revisions) > 1:
        raise RevisionInputError(
            f"The line of {head} does not begin with a single revision. {_merge_instead(package)}",
            package=package,
        )
    return roots[0]


def _check_result(graph: Graph, moved: Revision) -> None:
    """Check that moving a revision leaves the package with one head, and does not cause a cycle."""
    try:
        revisions = (moved if rid == moved.id else graph[rid] for rid in graph.ids)
        heads = len(Graph(revisions, graph.packages).heads(moved.package))
    except HistoryError:
        heads = 0
    if heads != 1:
        raise RevisionInputError(
            f"{moved.id} cannot be moved after {moved.down_revisions[0]}, because of the dependencies between them."
            f" {_merge_instead(moved.package)}",
            package=moved.package,
        )


def reparent(revision: Revision, parent: str) -> Revision:
    """Make a revision revise another one, by editing its file, and return it."""
    path = revision.path.resolve()
    try:
        changed = _with_parent(path.read_bytes(), parent)
        written = parse_revision(changed, revision.file, revision.package)
        if replace(written, doc=revision.doc) != replace(revision, down_revisions=(parent,)):
            raise RevisionInputError(
                f"{shown_path(revision.path)} computes its down_revision. Change it to {parent!r} yourself.",
                package=revision.package,
            )
        _replace_file(path, changed)
    except (OSError, ValueError, SyntaxError) as exc:
        raise RevisionInputError(
            f"{shown_path(revision.path)} cannot be rewritten: {describe(exc)}.", package=revision.package
        ) from exc
    return written


def _replace_file(path: Path, content: bytes) -> None:
    """Replace a file atomically, so that it is never incomplete."""
    draft = path.with_name(f".{path.name}.ampho")
    try:
        draft.write_bytes(content)
        shutil.copymode(path, draft)
        draft.replace(path)
    except OSError:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def _with_parent(source: bytes, parent: str) -> bytes:
    """Return the source of a revision file with another parent, both in ``down_revision`` and in its docstring."""

    def change(old: bytes, data: bytes, *, is_docstring: bool) -> bytes:
        if is_docstring:
            return _REVISES.sub(f"Revises: {parent}".encode(), old, count=1)
        return _literal(parent, old, data)

    return edit_header(source, {"down_revision"}, change)


def edit_header(source: bytes, names: AbstractSet[str], change: Callable[..., bytes]) -> bytes:
    """Return the source of a revision file with other literals in its header, and another docstring.

    :param names: the names in the header whose literals are changed.
    :param change: gets the UTF-8 text of a literal or of the docstring, that of the file, and ``is_docstring``, and
        returns the new text.
    """
    encoding, _ = tokenize.detect_encoding(BytesIO(source).readline)
    text = source.decode(encoding)
    tree = ast.parse(text)
    data = text.encode("utf-8")
    # Like those in the tree, these offsets count UTF-8 bytes, and the lines are split as Python's parser splits them.
    starts = [0, *accumulate(len(line.encode("utf-8")) for line in StringIO(text, newline=""))]
    for node in sorted(_places(tree, names), key=lambda node: node.lineno, reverse=True):
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        is_docstring = isinstance(tree.body[0], ast.Expr) and node is tree.body[0].value
        data = data[:start] + change(data[start:end], data, is_docstring=is_docstring) + data[end:]
    return data.decode("utf-8").encode(encoding)


def _places(tree: ast.Module, names: AbstractSet[str]) -> Iterator[ast.expr]:
    """Yield the docstring, and the values of some names of the header that are literals."""
    for node in tree.body:
        match node:
            case ast.Assign(value=ast.expr() as value) | ast.AnnAssign(value=ast.expr() as value):
                if (assigned := assigned_names(node)) and assigned <= names and _is_literal(value):
                    yield value
            case ast.Expr(value=ast.Constant(value=str()) as docstring) if node is tree.body[0]:
                yield docstring


def _is_literal(node: ast.expr) -> bool:
    with suppress(ValueError):
        ast.literal_eval(node)
        return True
    return False


def _literal(text: str, old: bytes, file: bytes) -> bytes:
    """Return text as a literal with the quotes of the old value or, if that is None, of the ids in the file."""
    is_double = b'"' in old or (b"'" not in old and b'revision = "' in file)
    return (f'"{text}"' if is_double and repr(text) == f"'{text}'" else repr(text)).encode("utf-8")
