"""Where boxes lie on a sheet, and the ways that edges take between them, without crossing a box.

A sheet has two axes: *along* it the ranks follow each other, *across* it the columns, one for each track of each lane.
Between ranks there are channels, between columns there are gutters; edges run in those, and each source has a place of
its own in each that its edges use, so that lines which lie on each other have the same source. Whether *along* is down
or to the right is for whoever draws.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ampho.status.graph_view import Edge, Node, Picture

Point = tuple[float, float]
"""A place on a sheet: along, and across."""

_SLOT = 7.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a sheet is measured in.

    :ivar along: the size of a box along the sheet.
    :ivar across: its size across.
    :ivar channel: the least distance between two ranks.
    :ivar gutter: the least distance between two columns.
    """

    along: float
    across: float
    channel: float
    gutter: float


@dataclass(frozen=True, slots=True)
class _Way:
    """The way of an edge: from a column and a rank to others, by gutters and channels.

    :ivar channels: those that it uses, in order.
    :ivar gutters: those that it uses, in order.
    """

    edge: Edge
    source: Node
    target: Node
    channels: tuple[int, ...] = ()
    gutters: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[str, bool]:
        """What edges have in common that may lie on each other."""
        return self.source.first, self.edge.is_dependency


class _Slots:
    """Places beside each other in channels, or in gutters, for what lies there."""

    def __init__(self) -> None:
        self._claims: defaultdict[int, dict[tuple[str, bool], tuple[int, int]]] = defaultdict(dict)
        self._places: dict[tuple[int, tuple[str, bool]], int] = {}
        self._counts: dict[int, int] = {}

    def claim(self, where: int, key: tuple[str, bool], one: int, other: int) -> None:
        """Say that something lies in a channel or gutter from one place to another."""
        low, high = self._claims[where].get(key, (one, one))
        self._claims[where][key] = (min(low, one, other), max(high, one, other))

    def assign(self) -> None:
        """Give each its place: the first that is free there."""
        for where, claims in self._claims.items():
            ending: list[tuple[int, int]] = []
            free: list[int] = []
            count = 0
            for key, (low, high) in sorted(claims.items(), key=lambda item: (item[1], item[0])):
                while ending and ending[0][0] < low:
                    heapq.heappush(free, heapq.heappop(ending)[1])
                place = heapq.heappop(free) if free else count
                count = max(count, place + 1)
                heapq.heappush(ending, (high, place))
                self._places[where, key] = place
            self._counts[where] = count

    def size(self, where: int, least: float) -> float:
        """Return how much room a channel or gutter takes."""
        return least + _SLOT * max(self._counts.get(where, 0) - 1, 0)

    def place(self, where: int, key: tuple[str, bool], least: float) -> float:
        """Return how far from its beginning something lies in a channel or gutter."""
        return least / 2 + _SLOT * self._places.get((where, key), 0)


class Sheet:
    """A picture laid out.

    :ivar along: its size along the ranks.
    :ivar across: its size across the lanes.
    """

    def __init__(self, picture: Picture, sizes: Sizes) -> None:
        self._picture = picture
        self._sizes = sizes
        self._first_column: dict[str, int] = {}
        columns = 0
        for lane in picture.lanes:
            self._first_column[lane.package] = columns
            columns += lane.tracks
        self._channels, self._gutters = _Slots(), _Slots()
        self._ways = [self._way(edge, is_straight=straight) for edge, straight in self._straightness()]
        self._outgoing, self._incoming = self._ports()
        for way in self._ways:
            self._claim(way)
        self._channels.assign()
        self._gutters.assign()
        ranks = 1 + max((node.rank for node in picture.nodes), default=0)
        self.along: float
        self.across: float
        self._rank_starts, self.along = _starts(ranks, sizes.along, sizes.channel, self._channels)
        self._column_starts, self.across = _starts(columns, sizes.across, sizes.gutter, self._gutters)

    def lane(self, package: str, tracks: int) -> tuple[float, float]:
        """Return where a lane begins and ends, across the sheet."""
        first = self._first_column[package]
        return self._column_starts[first], self._column_starts[first + tracks - 1] + self._sizes.across

    def box(self, node: Node) -> Point:
        """Return where the box of a node begins."""
        return self._rank_starts[node.rank], self._column_starts[self._column(node)]

    def ways(self) -> Iterator[tuple[Edge, list[Point]]]:
        """Give each edge and the corners of its way, the first at its source and the last at its target."""
        for way in self._ways:
            yield way.edge, self._points(way)

    def _column(self, node: Node) -> int:
        return self._first_column[node.package] + node.track

    def _straightness(self) -> Iterator[tuple[Edge, bool]]:
        """Give each edge, and whether nothing lies between its ends, in one column."""
        before: dict[str, str] = {}
        last: dict[int, Node] = {}
        for node in sorted(self._picture.nodes, key=lambda each: each.rank):
            column = self._column(node)
            if column in last:
                before[node.first] = last[column].first
            last[column] = node
        for edge in self._picture.edges:
            source, target = self._picture.node(edge.source), self._picture.node(edge.target)
            is_next = self._column(source) == self._column(target) and before.get(target.first) == source.first
            yield edge, is_next and not edge.is_dependency

    def _way(self, edge: Edge, *, is_straight: bool) -> _Way:
        source, target = self._picture.node(edge.source), self._picture.node(edge.target)
        begin, end = self._column(source), self._column(target)
        if is_straight:
            return _Way(edge, source, target)
        if not edge.is_dependency:
            if target.rank == source.rank + 1:
                return _Way(edge, source, target, (target.rank,))
            return _Way(edge, source, target, (source.rank + 1, target.rank), (end + (end < begin),))
        leaving = begin + 1 if end >= begin else begin
        entering = end if end > begin else end + 1
        if leaving == entering:
            return _Way(edge, source, target, (), (leaving,))
        return _Way(edge, source, target, (target.rank,), (leaving, entering))

    def _ports(self) -> tuple[set[tuple[str, int]], set[tuple[str, int]]]:
        """Return by which sides dependencies leave nodes, and enter them: nodes with the gutter at that side."""
        dependencies = [way for way in self._ways if way.edge.is_dependency]
        outgoing = {(way.source.first, way.gutters[0]) for way in dependencies}
        return outgoing, {(way.target.first, way.gutters[-1]) for way in dependencies}

    def _port(self, node: Node, gutter: int, *, is_out: bool) -> int:
        """Return the quarter of a side at which a dependency touches it: the middle, unless others go the other way."""
        key = (node.first, gutter)
        return 2 + (1 if is_out else -1) * (key in self._outgoing and key in self._incoming)

    def _claim(self, way: _Way) -> None:
        begin, end = 2 * self._column(way.source) + 1, 2 * self._column(way.target) + 1
        if not way.edge.is_dependency:
            stops = [begin, *(2 * gutter for gutter in way.gutters), end]
            for channel, one, other in zip(way.channels, stops, stops[1:], strict=False):
                self._channels.claim(channel, way.key, one, other)
            for gutter in way.gutters:
                self._gutters.claim(gutter, way.key, 5 * way.channels[0], 5 * way.channels[1])
            return
        leaving = 5 * way.source.rank + self._port(way.source, way.gutters[0], is_out=True)
        entering = 5 * way.target.rank + self._port(way.target, way.gutters[-1], is_out=False)
        if not way.channels:
            if leaving != entering:
                self._gutters.claim(way.gutters[0], way.key, leaving, entering)
            return
        (channel,) = way.channels
        self._gutters.claim(way.gutters[0], way.key, leaving, 5 * channel)
        self._channels.claim(channel, way.key, 2 * way.gutters[0], 2 * way.gutters[1])
        self._gutters.claim(way.gutters[1], way.key, 5 * channel, entering)

    def _points(self, way: _Way) -> list[Point]:
        sizes = self._sizes
        (begin_along, begin), (end_along, end) = self.box(way.source), self.box(way.target)
        channels = [self._channel(channel, way) for channel in way.channels]
        gutters = [self._gutter(gutter, way) for gutter in way.gutters]
        if not way.edge.is_dependency:
            begin, end, begin_along = begin + sizes.across / 2, end + sizes.across / 2, begin_along + sizes.along
            corners = _staircase(channels, [begin, *gutters, end])
            return [(begin_along, begin), *corners, (end_along, end)]
        leaving = begin_along + sizes.along * self._port(way.source, way.gutters[0], is_out=True) / 4
        entering = end_along + sizes.along * self._port(way.target, way.gutters[-1], is_out=False) / 4
        start = (leaving, begin + sizes.across * (gutters[0] > begin))
        stop = (entering, end + sizes.across * (gutters[-1] > end))
        turns = [(leaving, gutters[0]), *((channels[0], gutter) for gutter in gutters if channels)]
        return [start, *turns, (entering, gutters[-1]), stop]

    def _channel(self, channel: int, way: _Way) -> float:
        end = self._rank_starts[channel]
        least = self._sizes.channel
        return end - self._channels.size(channel, least) + self._channels.place(channel, way.key, least)

    def _gutter(self, gutter: int, way: _Way) -> float:
        least = self._sizes.gutter
        size = self._gutters.size(gutter, least)
        starts = self._column_starts
        begin = starts[gutter] - size if gutter < len(starts) else self.across - size
        return begin + self._gutters.place(gutter, way.key, least)


def _staircase(channels: Iterable[float], stops: list[float]) -> Iterator[Point]:
    for channel, one, other in zip(channels, stops, stops[1:], strict=False):
        yield channel, one
        yield channel, other


def _starts(count: int, box: float, least: float, slots: _Slots) -> tuple[list[float], float]:
    """Return where each rank, or column, begins, and where the room after the last one ends."""
    starts, position = [], 0.0
    for number in range(count):
        position += slots.size(number, least)
        starts.append(position)
        position += box
    return starts, position + slots.size(count, least)
