"""Where the boxes of a picture are placed, and how its edges run between them without crossing a box.

A layout has two axes, so that it serves drawings that grow downwards as well as drawings that grow to the right. Ranks
follow each other *along* it; columns, one for each track of each lane, lie next to each other *across* it. The box of a
node is where its rank and its column cross. Edges run in the space between: in channels, which lie between ranks and
run across, and in gutters, which lie between columns and run along. Channel 2 is the one before rank 2, and gutter 2 is
the one before column 2; the last channel and the last gutter come after all ranks and all columns.

Edges that share a channel or a gutter get slots next to each other, unless they start at the same node. So lines that
lie on each other always have the same source.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from ampho.status.graph_view import Edge, Node, Picture

Point = tuple[float, float]
"""A position in a layout: along it, and across it."""

_SLOT = 7.0


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


@dataclass(frozen=True, slots=True)
class _Route:
    """The channels and gutters through which an edge runs, each in the order of its way."""

    edge: Edge
    source: Node
    target: Node
    channels: tuple[int, ...] = ()
    gutters: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[str, bool]:
        """What edges have in common if they may lie on each other."""
        return self.source.first, self.edge.is_dependency


# Whether two edges need different slots depends on where they enter and leave a channel or a gutter. These positions
# only have to be in the right order: across, each gutter comes before its column; along, each channel comes before its
# rank, on which an edge may enter or leave a box at three points.


def _across_gutter(gutter: int) -> int:
    return 2 * gutter


def _across_column(column: int) -> int:
    return 2 * column + 1


def _along_channel(channel: int) -> int:
    return 5 * channel


def _along_rank(rank: int, quarter: int) -> int:
    return 5 * rank + quarter


class _Slots:
    """The slots of all channels, or of all gutters."""

    def __init__(self, least: float) -> None:
        self._least = least
        self._stretches: defaultdict[int, dict[tuple[str, bool], tuple[int, int]]] = defaultdict(dict)
        self._slots: dict[tuple[int, tuple[str, bool]], int] = {}
        self._counts: dict[int, int] = {}

    def add(self, number: int, route: _Route, begin: int, end: int) -> None:
        """Add the stretch of a channel or gutter through which a route runs."""
        stretches = self._stretches[number]
        low, high = stretches.get(route.key, (begin, begin))
        stretches[route.key] = min(low, begin, end), max(high, begin, end)

    def assign(self) -> None:
        """Assign to each stretch the first slot that is free there."""
        for number, stretches in self._stretches.items():
            taken: list[tuple[int, int]] = []
            free: list[int] = []
            count = 0
            for key, (low, high) in sorted(stretches.items(), key=lambda item: (item[1], item[0])):
                while taken and taken[0][0] < low:
                    heapq.heappush(free, heapq.heappop(taken)[1])
                slot = heapq.heappop(free) if free else count
                count = max(count, slot + 1)
                heapq.heappush(taken, (high, slot))
                self._slots[number, key] = slot
            self._counts[number] = count

    def size(self, number: int) -> float:
        """Return the width of a channel or gutter."""
        return self._least + _SLOT * max(self._counts.get(number, 0) - 1, 0)

    def offset(self, number: int, route: _Route) -> float:
        """Return the distance of a route from the beginning of a channel or gutter."""
        return self._least / 2 + _SLOT * self._slots.get((number, route.key), 0)

    def starts(self, count: int, box: float) -> tuple[list[float], float]:
        """Return where each rank or column starts, and where the last channel or gutter ends."""
        starts, position = [], 0.0
        for number in range(count):
            position += self.size(number)
            starts.append(position)
            position += box
        return starts, position + self.size(count)


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
        self._channels, self._gutters = _Slots(sizes.channel), _Slots(sizes.gutter)
        adjacent = set(self._adjacent())
        self._routes = [self._route(edge, adjacent) for edge in picture.edges]
        dependencies = [route for route in self._routes if route.edge.is_dependency]
        self._sides_out = {(route.source.first, route.gutters[0]) for route in dependencies}
        self._sides_in = {(route.target.first, route.gutters[-1]) for route in dependencies}
        for route in self._routes:
            self._add(route)
        self._channels.assign()
        self._gutters.assign()
        ranks = 1 + max((node.rank for node in picture.nodes), default=0)
        self.along: float
        self.across: float
        self._rank_starts, self.along = self._channels.starts(ranks, sizes.along)
        self._column_starts, self.across = self._gutters.starts(columns, sizes.across)

    def lane(self, package: str, tracks: int) -> tuple[float, float]:
        """Return where a lane begins and ends, across the layout."""
        first = self._first_column[package]
        return self._column_starts[first], self._column_starts[first + tracks - 1] + self._sizes.across

    def box(self, node: Node) -> Point:
        """Return where the box of a node begins."""
        return self._rank_starts[node.rank], self._column_starts[self._column(node)]

    def edges(self) -> Iterator[tuple[Edge, list[Point]]]:
        """Yield each edge with the points that it connects, from its source to its target."""
        for route in self._routes:
            yield route.edge, self._dependency(route) if route.edge.is_dependency else self._line(route)

    def _column(self, node: Node) -> int:
        return self._first_column[node.package] + node.track

    def _adjacent(self) -> Iterator[tuple[str, str]]:
        """Yield the pairs of nodes that are in one column with no other node between them."""
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
            if target.rank == source.rank + 1:
                return _Route(edge, source, target, (target.rank,))
            return _Route(edge, source, target, (source.rank + 1, target.rank), (end + (end < begin),))
        leaving = begin + 1 if end >= begin else begin
        entering = end if end > begin else end + 1
        if leaving == entering:
            return _Route(edge, source, target, (), (leaving,))
        return _Route(edge, source, target, (target.rank,), (leaving, entering))

    def _quarters(self, route: _Route) -> tuple[int, int]:
        """Return at which quarter of a box's side a dependency leaves its source, and enters its target.

        This is the middle, unless other dependencies pass through the same side in the other direction.
        """
        out, into = (route.source.first, route.gutters[0]), (route.target.first, route.gutters[-1])
        return 2 + (out in self._sides_in), 2 - (into in self._sides_out)

    def _add(self, route: _Route) -> None:
        """Add the stretches of a route to its channels and gutters."""
        if route.edge.is_dependency:
            self._add_dependency(route)
            return
        begin, end = _across_column(self._column(route.source)), _across_column(self._column(route.target))
        stops = [begin, *map(_across_gutter, route.gutters), end]
        for channel, (one, other) in zip(route.channels, pairwise(stops), strict=False):
            self._channels.add(channel, route, one, other)
        for gutter in route.gutters:
            self._gutters.add(gutter, route, *map(_along_channel, route.channels))

    def _add_dependency(self, route: _Route) -> None:
        out, into = self._quarters(route)
        leaving, entering = _along_rank(route.source.rank, out), _along_rank(route.target.rank, into)
        if not route.channels:
            if leaving != entering:
                self._gutters.add(route.gutters[0], route, leaving, entering)
            return
        (channel,) = route.channels
        self._gutters.add(route.gutters[0], route, leaving, _along_channel(channel))
        self._channels.add(channel, route, *map(_across_gutter, route.gutters))
        self._gutters.add(route.gutters[1], route, _along_channel(channel), entering)

    def _line(self, route: _Route) -> list[Point]:
        """Return the points of an edge from a parent: from the end of its box to the beginning of the other box."""
        middle = self._sizes.across / 2
        (begin_along, begin), (end_along, end) = self.box(route.source), self.box(route.target)
        points = [(begin_along + self._sizes.along, begin + middle)]
        stops = [begin + middle, *(self._gutter(gutter, route) for gutter in route.gutters), end + middle]
        for channel, (one, other) in zip(route.channels, pairwise(stops), strict=False):
            along = self._channel(channel, route)
            points += [(along, one), (along, other)]
        return [*points, (end_along, end + middle)]

    def _dependency(self, route: _Route) -> list[Point]:
        """Return the points of an edge from a dependency: from a side of its box to a side of the other box."""
        along, across = self._sizes.along, self._sizes.across
        (begin_along, begin), (end_along, end) = self.box(route.source), self.box(route.target)
        gutters = [self._gutter(gutter, route) for gutter in route.gutters]
        out, into = self._quarters(route)
        leaving, entering = begin_along + along * out / 4, end_along + along * into / 4
        points = [(leaving, begin + across * (gutters[0] > begin)), (leaving, gutters[0])]
        for channel in route.channels:
            points += [(self._channel(channel, route), gutter) for gutter in gutters]
        return [*points, (entering, gutters[-1]), (entering, end + across * (gutters[-1] > end))]

    def _channel(self, channel: int, route: _Route) -> float:
        start = self._rank_starts[channel] - self._channels.size(channel)
        return start + self._channels.offset(channel, route)

    def _gutter(self, gutter: int, route: _Route) -> float:
        end = self._column_starts[gutter] if gutter < len(self._column_starts) else self.across
        return end - self._gutters.size(gutter) + self._gutters.offset(gutter, route)
