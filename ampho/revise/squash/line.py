"""Choosing the revisions that are squashed, and finding what depends on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ampho._text import listed
from ampho.errors import HistoryError, RevisionInputError
from ampho.history.graph import Graph
from ampho.history.revision import Revision
from ampho.revise.squash.proof import graph_after
from ampho.revise.writer import new_id, single_revision


@dataclass(frozen=True)
class Segment:
    """The revisions that one new revision replaces.

    :ivar old: the revisions, oldest first; the last one depends on the others.
    :ivar new: the new revision, without a file.
    :ivar before: the ids of what the old revisions depend on.
    """

    old: tuple[Revision, ...]
    new: Revision
    before: tuple[str, ...]

    @property
    def last(self) -> str:
        """The id of the last of the old revisions."""
        return self.old[-1].id


def find_segments(
    graph: Graph, package: str, folder: str, *, start: str | None, end: str | None, keep: Iterable[str], message: str
) -> list[Segment]:
    """Return the lines of revisions of a package that are squashed, with the revisions that replace them.

    :param folder: the folder of the new files.
    :param start: the first revision; by default, the first of the package.
    :param end: the last revision; by default, the head of the package.
    :param keep: the revisions that are kept, around which the line is squashed.
    :param message: the message of the new revisions; if it is empty, one is made.
    :raises RevisionInputError: if the revisions do not form a line, or if something depends on the middle of it.
    """
    chosen = _chosen(graph, package, start, end)
    kept = [single_revision(graph, package, name, "--keep") for name in keep]
    for revision_id in kept:
        if revision_id not in chosen:
            raise RevisionInputError(
                f"--keep {revision_id} is not among the revisions that are squashed. Leave it out, or correct the id.",
                package=package,
            )
    lines = [line for line in _between(graph.sort(chosen), kept) if len(line) > 1]
    if not lines:
        raise RevisionInputError(
            f"There is nothing to squash: {package} has no two revisions in sequence"
            f"{' between those that are kept' if kept else ''}.",
            package=package,
        )
    found: list[Segment] = []
    blank = Revision("", package, folder, doc=message)
    instead: dict[str, str] = {}
    for line in lines:
        _check_line(graph, line)
        segment = _segment(graph, line, instead, replace(blank, id=new_id(graph, package)))
        instead[segment.last] = segment.new.id
        found.append(segment)
        graph = _with_time_of(graph, segment.new)
    return found


def _chosen(graph: Graph, package: str, start: str | None, end: str | None) -> set[str]:
    own = {*graph.of_package(package)}
    heads = graph.heads(package)
    if end is not None:
        last = single_revision(graph, package, end, "--to")
    elif len(heads) == 1:
        last = heads[0]
    elif labels := graph.branch_heads(package):
        raise RevisionInputError(
            f"{package} has several branches. Squash one after the other, as in --to {labels[heads[0]]}@head.",
            package=package,
        )
    elif heads:
        raise RevisionInputError(
            f"{package} has {len(heads)} heads: {', '.join(heads)}. Merge them with 'ampho db-merge {package}', or name"
            f" the last revision to squash, as in --to {heads[0]}.",
            package=package,
        )
    else:
        raise RevisionInputError(f"{package} has no revisions: there is nothing to squash.", package=package)
    chosen = own & graph.ancestors([last])
    first = None if start is None else single_revision(graph, package, start, "--from")
    for name, each in (("--to", last), ("--from", first)):
        if each is not None and graph[each].package != package:
            raise RevisionInputError(
                f"{name} {each} belongs to {graph[each].package}. Name a revision of {package}.", package=package
            )
    if first is None:
        return chosen
    if first not in chosen:
        raise RevisionInputError(
            f"{last} does not depend on {first}, so there is no line from one to the other. Exchange --from and --to,"
            " or name other revisions.",
            package=package,
        )
    return chosen - (graph.ancestors([first]) - {first})


def _between(ids: Sequence[str], kept: Sequence[str]) -> list[list[str]]:
    lines: list[list[str]] = [[]]
    for revision_id in ids:
        if revision_id in kept:
            lines.append([])
        else:
            lines[-1].append(revision_id)
    return lines


def _check_line(graph: Graph, line: Sequence[str]) -> None:
    """Check that the last revision of a line depends on the others, and that nothing else depends on these."""
    package, inside = graph[line[0]].package, {*line}
    below = {parent for each in line for parent in graph.parents(each)}
    if len(tips := [each for each in line if each not in below]) > 1:
        raise RevisionInputError(
            f"{listed(tips)} are parallel, so one revision cannot stand for both. Name one of them with --to, or keep"
            f" what joins them in the line, without --keep.",
            package=package,
        )
    for revision_id in line[:-1]:
        outside = [child for child in graph.children(revision_id) if child not in inside]
        if outside:
            child = graph[outside[0]]
            raise RevisionInputError(
                f"{child.id} of {child.package} depends on {revision_id}, which is in the middle of the line. A single"
                f" revision would make it depend on the whole line. Squash up to it, with --to {revision_id}, or keep"
                f" it as a revision of its own, with --keep {revision_id}.",
                package=package,
            )


def _segment(graph: Graph, line: Sequence[str], instead: Mapping[str, str], new: Revision) -> Segment:
    """Return the segment for a line of revisions.

    :param instead: the new revisions for the last ones of earlier segments.
    :param new: the new revision, to which the relations and, if it has none, a message are added.
    """
    old = tuple(graph[each] for each in line)
    inside = {*line}
    before = [parent for each in line for parent in graph.parents(each) if parent not in inside]
    above = {parent for each in old for parent in each.down_revisions}
    implied = {below for each in before for below in graph.ancestors([each]) - {each}}
    needed = [each for each in dict.fromkeys(before) if each not in implied]
    down = [each for each in needed if each in above and graph[each].package == new.package]
    return Segment(
        old,
        replace(
            new,
            down_revisions=tuple(instead.get(each, each) for each in down),
            depends_on=tuple(instead.get(each, each) for each in needed if each not in down),
            labels=tuple(dict.fromkeys(label for each in old for label in each.labels)),
            replaces=tuple(line),
            doc=new.doc or f"Squash {len(line)} revisions",
        ),
        tuple(needed),
    )


def _with_time_of(graph: Graph, new: Revision) -> Graph:
    """Return a graph in which the time of a new revision is taken."""
    return graph.with_revision(replace(new, down_revisions=(), depends_on=(), labels=(), replaces=()))


def squashed_graph(
    graph: Graph, segments: Sequence[Segment], changed: Iterable[Revision], news: Iterable[Revision]
) -> Graph:
    """Return the graph after squashing.

    :param changed: the revisions whose files name the new revisions instead of the old ones.
    :param news: the new revisions, with the paths of their files.
    :raises RevisionInputError: if the revisions would depend on each other in a cycle.
    """
    old = {each.id: graph.as_written(each.id) for segment in segments for each in segment.old}
    try:
        return graph_after(graph, old, changed, news)
    except HistoryError as exc:
        package = segments[0].new.package
        raise RevisionInputError(
            f"The new revision cannot replace the old ones: {exc} Squash less of {package}, with --to, or keep one of"
            " its revisions, with --keep.",
            package=package,
        ) from exc
