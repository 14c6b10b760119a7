"""Place the boxes of a picture, and route its edges between them without crossing a box.

The axes of a layout are called *along* and *across*, because some drawings grow downwards and others to the right.
Ranks follow each other along the layout. Columns, one for each track of each lane, lie next to each other across it.
The box of a node is where its rank and its column meet. Edges run between the boxes: in channels, which lie between
ranks and run across, and in gutters, which lie between columns and run along. Channel 2 lies before rank 2, and gutter
2 before column 2; the last channel and the last gutter come after all ranks and all columns.

Edges that share a channel or a gutter get slots next to each other, unless they start at the same node. So overlapping
lines always have the same source.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ampho.status.graph_view import Edge, Node, Picture

Point = tuple[float, float]
"""A position in a layout: along it, and across it."""

_SLOT = 7.0
_PER_RANK, _PER_COLUMN = 5, 2  # the distances in _Step.order between two ranks, and between two columns


@dataclass(frozen=True, slots=True)
class Sizes:
    """The measures of a layout.

    :ivar along: the size of a box along the layout.
    :ivar across: the size of a box across the layout.
    :ivar channel: the smallest distance between two ranks.
    :ivar gutter: the smallest distance between two columns.
    """

    along: float
    across: float
    channel: float
    gutter: float


Kind = Literal["channel", "gutter"]


class _Step(NamedTuple):
    """A channel or a gutter."""

    kind: Kind
    number: int

    @property
    def order(self) -> int:
        """A number that can be compared with the positions where edges begin and end.

        Each gutter comes before its column, and each channel before its rank. Within a rank, an edge may enter or leave
        a box at three points.
        """
        return self.number * (_PER_RANK if self.kind == "channel" else _PER_COLUMN)


@dataclass(frozen=True, slots=True)
class _Route:
    """The route of an edge.

    :ivar steps: the channels and gutters through which it runs, in order.
    """

    edge: Edge
    source: Node
    target: Node
    steps: tuple[_Step, ...] = ()

    @property
    def key(self) -> tuple[str, bool]:
        """A value that is the same for edges that may overlap."""
        return self.source.first, self.edge.is_dependency


class _Slots:
    """The slots of all channels and gutters."""

    def __init__(self, sizes: Sizes) -> None:
        self._least = {"channel": sizes.channel, "gutter": sizes.gutter}
        self._stretches: defaultdict[_Step, dict[tuple[str, bool], tuple[int, int]]] = defaultdict(dict)
        self._slots: dict[tuple[_Step, tuple[str, bool]], int] = {}
        self._counts: dict[_Step, int] = {}

    def add(self, step: _Step, route: _Route, begin: int, end: int) -> None:
        """Add the stretch of a channel or gutter through which a route runs."""
        stretches = self._stretches[step]
        low, high = stretches.get(route.key, (begin, begin))
        stretches[route.key] = min(low, begin, end), max(high, begin, end)

    def assign(self) -> None:
        """Assign each stretch the first slot that is free along its whole length."""
        for step, stretches in self._stretches.items():
            taken: list[tuple[int, int]] = []
            free: list[int] = []
            count = 0
            for key, (low, high) in sorted(stretches.items(), key=lambda item: (item[1], item[0])):
                while taken and taken[0][0] < low:
                    heapq.heappush(free, heapq.heappop(taken)[1])
                slot = heapq.heappop(free) if free else count
                count = max(count, slot + 1)
                heapq.heappush(taken, (high, slot))
                self._slots[step, key] = slot
            self._counts[step] = count

    def size(self, step: _Step) -> float:
        """Return the width of a channel or gutter."""
        return self._least[step.kind] + _SLOT * max(self._counts.get(step, 0) - 1, 0)

    def offset(self, step: _Step, route: _Route) -> float:
        """Return the distance of a route from the beginning of a channel or gutter."""
        return self._least[step.kind] / 2 + _SLOT * self._slots.get((step, route.key), 0)

    def ends(self, kind: Kind, count: int, box: float) -> list[float]:
        """Return where each channel or gutter ends.

        :param count: the number of ranks or columns.
        :param box: the size of each rank or column.
        """
        ends, position = [], 0.0
        for number in range(count + 1):
            position += self.size(_Step(kind, number))
            ends.append(position)
            position += box
        return ends


class Layout:
    """The positions of the boxes and edges of a picture.

    :ivar along: the size along the ranks.
    :ivar across: the size across the columns.
    """

    def __init__(self, picture: Picture, sizes: Sizes) -> None:
        self._picture = picture
        self._sizes = sizes
        self._first_column: dict[str, int] = {}
        columns = 0
        for lane in picture.lanes:
            self._first_column[lane.package] = columns
            columns += lane.tracks
        self._slots = _Slots(sizes)
        adjacent = set(self._adjacent())
        self._routes = [self._route(edge, adjacent) for edge in picture.edges]
        dependencies = [route for route in self._routes if route.edge.is_dependency]
        self._sides_out = {(route.source.first, route.steps[0]) for route in dependencies}
        self._sides_in = {(route.target.first, route.steps[-1]) for route in dependencies}
        for route in self._routes:
            self._add(route)
        self._slots.assign()
        ranks = 1 + max((node.rank for node in picture.nodes), default=0)
        self._rank_starts = self._slots.ends("channel", ranks, sizes.along)
        self._column_starts = self._slots.ends("gutter", columns, sizes.across)
        self.along: float = self._rank_starts[-1]
        self.across: float = self._column_starts[-1]

    def lane(self, package: str, tracks: int) -> tuple[float, float]:
        """Return where a lane begins and ends, across the layout."""
        first = self._first_column[package]
        return self._column_starts[first], self._column_starts[first + tracks - 1] + self._sizes.across

    def box(self, node: Node) -> Point:
        """Return where the box of a node begins."""
        return self._rank_starts[node.rank], self._column_starts[self._column(node)]

    def edges(self) -> Iterator[tuple[Edge, list[Point]]]:
        """Yield each edge with the ends and corners of its line, from its source to its target."""
        for route in self._routes:
            start, end = self._ends(route)
            points = [start]
            for step in route.steps:
                position, (along, across) = self._position(step, route), points[-1]
                points.append((position, across) if step.kind == "channel" else (along, position))
            if route.steps:
                along, across = points[-1]
                points.append((along, end[1]) if route.steps[-1].kind == "channel" else (end[0], across))
            yield route.edge, [*points, end]

    def _column(self, node: Node) -> int:
        return self._first_column[node.package] + node.track

    def _adjacent(self) -> Iterator[tuple[str, str]]:
        """Yield the pairs of nodes that are in the same column with no other node between them."""
        last: dict[int, Node] = {}
        for node in sorted(self._picture.nodes, key=lambda each: each.rank):
            column = self._column(node)
            if column in last:
                yield last[column].first, node.first
            last[column] = node

    def _route(self, edge: Edge, adjacent: set[tuple[str, str]]) -> _Route:
        source, target = self._picture.node(edge.source), self._picture.node(edge.target)
        begin, end = self._column(source), self._column(target)
        if not edge.is_dependency:
            if (source.first, target.first) in adjacent:
                return _Route(edge, source, target)
            last = _Step("channel", target.rank)
            if target.rank == source.rank + 1:
                return _Route(edge, source, target, (last,))
            gutter = _Step("gutter", end + (end < begin))
            return _Route(edge, source, target, (_Step("channel", source.rank + 1), gutter, last))
        leaving = _Step("gutter", begin + 1 if end >= begin else begin)
        entering = _Step("gutter", end if end > begin else end + 1)
        if leaving == entering:
            return _Route(edge, source, target, (leaving,))
        return _Route(edge, source, target, (leaving, _Step("channel", target.rank), entering))

    def _quarters(self, route: _Route) -> tuple[int, int]:
        """Return the positions, in quarters of a side, where a dependency leaves its source and enters its target.

        Both are 2 (the middle) unless other dependencies pass through the same side in the other direction.
        """
        out, into = (route.source.first, route.steps[0]), (route.target.first, route.steps[-1])
        return 2 + (out in self._sides_in), 2 - (into in self._sides_out)

    def _add(self, route: _Route) -> None:
        """Add the stretches of a route to its channels and gutters."""
        if route.edge.is_dependency:
            quarters = self._quarters(route)
            ranks = route.source.rank, route.target.rank
            begin, end = (_PER_RANK * rank + quarter for rank, quarter in zip(ranks, quarters, strict=True))
        else:
            begin, end = (_PER_COLUMN * self._column(node) + 1 for node in (route.source, route.target))
        stops = [begin, *(step.order for step in route.steps), end]
        for step, before, after in zip(route.steps, stops, stops[2:], strict=False):
            if before != after:
                self._slots.add(step, route, before, after)

    def _ends(self, route: _Route) -> tuple[Point, Point]:
        """Return where an edge leaves the box of its source, and where it enters the box of its target.

        An edge from a parent leaves at the end of one box and enters at the beginning of the other. An edge from a
        dependency leaves and enters at the sides.
        """
        along, across = self._sizes.along, self._sizes.across
        (begin_along, begin), (end_along, end) = self.box(route.source), self.box(route.target)
        if not route.edge.is_dependency:
            return (begin_along + along, begin + across / 2), (end_along, end + across / 2)
        out, into = self._quarters(route)
        begin += across * (route.steps[0].number > self._column(route.source))
        end += across * (route.steps[-1].number > self._column(route.target))
        return (begin_along + along * out / 4, begin), (end_along + along * into / 4, end)

    def _position(self, step: _Step, route: _Route) -> float:
        ends = self._rank_starts if step.kind == "channel" else self._column_starts
        return ends[step.number] - self._slots.size(step) + self._slots.offset(step, route)
