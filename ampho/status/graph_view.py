"""The picture that ``db-graph`` draws: the nodes and edges of the history, and the position of each node.

A node is in the lane of its package. Its rank is its distance from the beginning of the history. Nodes with the same
rank in the same lane are in different tracks. :mod:`ampho.cli.graph` draws the picture.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Self

from ampho.database.journal import Journal
from ampho.database.version_rows import Applied
from ampho.history.graph import Graph
from ampho.history.phases import Phases
from ampho.history.revision import Phase
from ampho.settings import DEFAULT_DATABASE
from ampho.status.phases import Schedule
from ampho.status.state import Mark, marks

_SHORTEST_RUN = 3
"""The smallest number of revisions in a run. A run of two would hide two messages and save only one line."""


@dataclass(frozen=True, slots=True)
class Node:
    """A revision, or a run: a chain of revisions that are drawn as one node.

    In a run, only the first revision depends on other nodes, and other nodes depend only on the last revision.

    :ivar package: the name of the package; empty if it is not known.
    :ivar mark: the state of the revisions.
    :ivar revisions: the ids of the revisions, in order.
    :ivar messages: the message of each revision.
    :ivar rank: its distance from the beginning. This is greater than the ranks of the node's dependencies in its lane,
        and at least as great as the ranks of its dependencies in other lanes.
    :ivar track: the number of its track in the lane, starting at 0.
    :ivar is_head: whether its last revision is a head of the package.
    :ivar is_stub: whether it is shown only because it is connected to a revision of a requested package.
    :ivar phase: the phase of the revisions, if they are pending; otherwise, None.
    """

    package: str
    mark: Mark
    revisions: tuple[str, ...]
    messages: tuple[str, ...]
    rank: int = 0
    track: int = 0
    is_head: bool = False
    is_stub: bool = False
    phase: Phase | None = None

    @property
    def first(self) -> str:
        """The id of the first revision, which depends on other nodes."""
        return self.revisions[0]

    @property
    def last(self) -> str:
        """The id of the last revision, which other nodes depend on."""
        return self.revisions[-1]

    @property
    def is_run(self) -> bool:
        """Whether the node has more than one revision."""
        return len(self.revisions) > 1


@dataclass(frozen=True, slots=True)
class Edge:
    """A line from a revision to another revision that depends on it, or that revises it.

    :ivar source: the id of the revision that the target depends on.
    :ivar target: the id of the revision that depends on the source.
    :ivar is_dependency: false if the source is a parent in the target's own package; otherwise, true.
    """

    source: str
    target: str
    is_dependency: bool


@dataclass(frozen=True, slots=True)
class Lane:
    """A package in a picture.

    :ivar package: the name of the package; empty for revisions whose package is not known.
    :ivar tracks: the number of its tracks.
    :ivar counts: the number of its revisions with each mark; empty for a lane of stubs.
    :ivar is_stub: whether it contains only stubs.
    """

    package: str
    tracks: int
    counts: Mapping[Mark, int]
    is_stub: bool = False


@dataclass(frozen=True)
class Picture:
    """The graph of the revisions, or a part of it, ready to be drawn.

    :ivar lanes: the lanes of the listed packages, in their order, and then the lanes of other packages.
    :ivar nodes: the nodes, each after the nodes that it depends on.
    :ivar edges: the edges between revisions of different nodes, in the order of the nodes.
    :ivar corrupt: the version rows that cannot be revisions, as text.
    :ivar repeated: the version rows that occur more than once.
    :ivar database: the name of the database; empty for the combined result of several databases.
    :ivar databases: the results of the single databases, by name, if this is the combined result of several.
    """

    lanes: tuple[Lane, ...]
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    corrupt: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    database: str = DEFAULT_DATABASE
    databases: Mapping[str, Self] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def marks(self) -> tuple[Mark, ...]:
        """The marks of the nodes, in the order of :class:`Mark`."""
        found = {node.mark for node in self.nodes}
        return tuple(mark for mark in Mark if mark in found)

    @cached_property
    def _by_revision(self) -> dict[str, Node]:
        return {revision_id: node for node in self.nodes for revision_id in node.revisions}

    def of_lane(self, package: str) -> tuple[Node, ...]:
        """Return the nodes of a lane."""
        return tuple(node for node in self.nodes if node.package == package)

    def node(self, revision_id: str) -> Node:
        """Return the node of a revision.

        :raises KeyError: if the revision is not in the picture.
        """
        return self._by_revision[revision_id]


def draw(
    graph: Graph,
    applied: Applied | None = None,
    journal: Journal | None = None,
    *,
    packages: Iterable[str] = (),
    full: bool = False,
    phases: Phases | None = None,
) -> Picture:
    """Return the picture of a history.

    :param applied: the revisions that are applied to a database; without it, the picture shows only the files.
    :param journal: the journal of that database.
    :param packages: the packages to show, with the revisions of other packages that are connected to them; by
        default, all packages.
    :param full: whether to draw each revision as its own node instead of collapsing chains of revisions.
    :param phases: tells the phases of pending revisions; without it, the picture does not show them.
    """
    whole = graph if applied is None else applied.graph
    names = list(all_packages(whole))
    chosen = set(packages) or set(names)
    marked = _marks(whole, applied, journal or Journal())
    placed = {}
    if applied is not None and phases is not None:
        pending = [rid for rid in whole.ids if marked[rid] is Mark.PENDING]
        placed = {rid: each.phase for rid, each in Schedule.of(applied, pending, phases).placements.items()}
    edges = tuple(_edges(whole, chosen))
    shown = {rid for rid in whole.ids if whole[rid].package in chosen}
    stubs = {rid for edge in edges for rid in (edge.source, edge.target)} - shown
    heads = {head for name in graph.packages for head in graph.heads(name)}
    alike = {rid: (mark, placed.get(rid)) for rid, mark in marked.items()}
    runs = list(_runs(whole, whole.sort(shown | stubs), alike, stubs, full=full))
    inside = {(one, other) for run in runs for one, other in pairwise(run)}
    edges = tuple(edge for edge in edges if (edge.source, edge.target) not in inside)
    ranks = _ranks(whole, runs, edges, stubs)
    tracks = _tracks(whole, runs, edges, ranks)
    nodes = tuple(
        Node(
            package=whole[run[0]].package,
            mark=marked[run[0]],
            revisions=tuple(run),
            messages=tuple(whole[rid].message for rid in run),
            rank=rank,
            track=track,
            is_head=run[-1] in heads,
            is_stub=run[0] in stubs,
            phase=placed.get(run[0]),
        )
        for run, rank, track in zip(runs, ranks, tracks, strict=True)
    )
    rows = (applied.corrupt, applied.repeated) if applied else ((), ())
    return Picture(tuple(_lanes(names, nodes, chosen)), nodes, edges, *rows)


def all_packages(graph: Graph) -> Iterator[str]:
    """Yield the listed packages in order, then others by name, and last, an empty string for unknown packages."""
    yield from graph.packages
    others = {graph[rid].package for rid in graph.ids} - set(graph.packages)
    yield from sorted(others, key=lambda name: (not name, name))


def _marks(graph: Graph, applied: Applied | None, journal: Journal) -> dict[str, Mark]:
    if applied is None:
        return {rid: Mark.ABSENT if graph.is_missing(rid) else Mark.UNKNOWN for rid in graph.ids}
    mark = marks(applied, journal, applied.edited(journal), applied.diverged(journal))
    return {revision_id: mark(revision_id) for revision_id in graph.ids}


def _edges(graph: Graph, chosen: set[str]) -> Iterator[Edge]:
    for target in graph.ids:
        revision = graph[target]
        for source in graph.parents(target):
            package = graph[source].package
            if revision.package in chosen or package in chosen:
                is_parent = package == revision.package and source in revision.down_revisions
                yield Edge(source, target, is_dependency=not is_parent)


def _runs(
    graph: Graph, ids: Iterable[str], alike: Mapping[str, object], stubs: set[str], *, full: bool
) -> Iterator[list[str]]:
    """Yield the revisions of each node. The nodes are ordered by their first revisions.

    :param alike: a value for each revision, which is the same for all revisions of a node.
    """
    runs: list[list[str]] = []
    ending: dict[str, list[str]] = {}
    for revision_id in ids:
        parents = graph.parents(revision_id)
        run = ending.get(parents[0]) if len(parents) == 1 and not full else None
        if run is None or not _continues(graph, parents[0], revision_id, alike, stubs):
            run = []
            runs.append(run)
        run.append(revision_id)
        ending[revision_id] = run
    found = [part for run in runs for part in ([run] if len(run) >= _SHORTEST_RUN else [[rid] for rid in run])]
    by_first = {run[0]: run for run in found}
    yield from map(by_first.__getitem__, graph.sort(by_first))


def _continues(graph: Graph, parent: str, child: str, alike: Mapping[str, object], stubs: set[str]) -> bool:
    """Return whether a revision may be in the same run as its only parent."""
    return (
        graph.children(parent) == (child,)
        and graph[parent].package == graph[child].package
        and parent in graph[child].down_revisions
        and alike[parent] == alike[child]
        and child not in stubs
    )


def _ranks(graph: Graph, runs: Sequence[Sequence[str]], edges: Iterable[Edge], stubs: set[str]) -> list[int]:
    """Return the rank of each node.

    A node may have the same rank as its dependencies in other lanes. Otherwise, a chain of fifty packages would become
    a staircase of fifty steps.
    """
    node_of = {rid: number for number, run in enumerate(runs) for rid in run}
    below: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for edge in edges:
        step = int(graph[edge.source].package == graph[edge.target].package)
        below[node_of[edge.target]].append((node_of[edge.source], step))
    last_stub: dict[str, int] = {}
    for number, run in enumerate(runs):
        # Edges between stubs are left out, so without this, the stubs of a package could be drawn side by side.
        if run[0] in stubs:
            package = graph[run[0]].package
            if package in last_stub:
                below[number].append((last_stub[package], 1))
            last_stub[package] = number
    ranks: list[int] = []
    for number in range(len(runs)):
        ranks.append(max((ranks[other] + step for other, step in below[number]), default=0))
    _move_stubs(runs, below, ranks, stubs)
    return ranks


def _move_stubs(
    runs: Sequence[Sequence[str]],
    below: Mapping[int, Iterable[tuple[int, int]]],
    ranks: list[int],
    stubs: set[str],
) -> None:
    """Raise the rank of each stub as far as the nodes that depend on it allow."""
    limits: dict[int, int] = {}
    for number in reversed(range(len(runs))):
        if runs[number][0] in stubs and number in limits:
            ranks[number] = max(ranks[number], limits[number])
        for other, step in below[number]:
            limits[other] = min(limits.get(other, ranks[number] - step), ranks[number] - step)


def _tracks(graph: Graph, runs: Sequence[Sequence[str]], edges: Iterable[Edge], ranks: Sequence[int]) -> list[int]:
    """Return the track of each node: the track of a parent if it is free, or otherwise the first free track."""
    node_of = {rid: number for number, run in enumerate(runs) for rid in run}
    parents: defaultdict[int, list[int]] = defaultdict(list)
    for edge in edges:
        if not edge.is_dependency:
            parents[node_of[edge.target]].append(node_of[edge.source])
    continued = {parent for ids in parents.values() for parent in ids}
    lasts: defaultdict[str, list[int]] = defaultdict(list)
    tracks = [0] * len(runs)
    for number in sorted(range(len(runs)), key=lambda each: (ranks[each], each)):
        ends = lasts[graph[runs[number][0]].package]
        track = next((tracks[parent] for parent in parents[number] if ends[tracks[parent]] == parent), None)
        if track is None:
            free = (place for place, end in enumerate(ends) if ranks[end] < ranks[number] and end not in continued)
            track = next(free, len(ends))
        if track == len(ends):
            ends.append(number)
        ends[track] = number
        tracks[number] = track
    return tracks


def _lanes(names: Iterable[str], nodes: Iterable[Node], chosen: set[str]) -> Iterator[Lane]:
    own: defaultdict[str, list[Node]] = defaultdict(list)
    for node in nodes:
        own[node.package].append(node)
    for name in names:
        if name not in chosen and name not in own:
            continue
        counts = Counter(node.mark for node in own[name] if not node.is_stub for _ in node.revisions)
        tracks = 1 + max((node.track for node in own[name]), default=0)
        yield Lane(name, tracks, {mark: counts[mark] for mark in Mark if counts[mark]}, is_stub=name not in chosen)
