"""Draw a picture for a terminal: a row for each node, with the lanes to the left of the text.

A lane takes up a column from its first node to its last. If revisions of other packages depend on a revision, a dashed
line in another column leads from that revision to the last one that depends on it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle

from rich.cells import cell_len

from ampho._text import listed
from ampho.cli.graph import labels
from ampho.history.revision import Phase
from ampho.status.graph_view import Edge, Lane, Node, Picture
from ampho.status.state import Mark

Part = tuple[str, str]
"""A piece of a row, and its style."""

_COLORS = ("blue", "magenta", "cyan", "bright_blue", "bright_magenta", "bright_cyan")
_ASCII = str.maketrans("●○◆≠×–•│┆─┄╰╯╭╮├┤┴┼╷", "*o~=x-*|:--`'..++++.")  # noqa: RUF001 (signs, not letters)
_WIDE = 80
_SHOWN = 3  # the maximum number of dependencies that a row lists
_OF_NODE = 3  # the number of parts of a node's text; a lane's text has two, a name and counts
_MESSAGE = 36  # the width to which a message is cut before its remark is cut


@dataclass(slots=True)
class _Strand:
    """A line down a column, from a node to its children in its lane, or to the nodes that depend on it.

    :ivar source: the last revision of the node where the line begins; empty for the beginning of a lane.
    :ivar remaining: the number of nodes that the line still has to reach.
    """

    source: str
    is_dependency: bool
    remaining: int
    style: str


@dataclass(slots=True)
class _Row:
    """A row of the picture.

    :ivar cells: what is drawn in each column.
    :ivar links: what is drawn between each column and the next one.
    :ivar shorter: a replacement for ``text`` if there is too little room; may be empty.
    """

    cells: list[Part]
    links: list[Part]
    text: list[Part] = field(default_factory=list)
    shorter: list[Part] = field(default_factory=list)

    @property
    def width(self) -> int:
        """The number of columns up to the last one that is not blank."""
        return max((number for number, (sign, _) in enumerate(self.cells, 1) if sign != " "), default=0)


def plain(picture: Picture, encoding: str = "utf-8") -> str:
    """Return a picture as text without colors, with rows of any length.

    :param encoding: the encoding of the output; only ASCII characters are used unless it is a Unicode encoding.
    """
    drawn = rows(picture, None, is_ascii=not encoding.startswith("utf"))
    return "".join(f"{''.join(text for text, _ in row).rstrip()}\n" for row in drawn)


def rows(picture: Picture, width: int | None, *, is_ascii: bool) -> Iterator[list[Part]]:
    """Yield the rows of a picture, and its legend.

    :param width: the width of the terminal; None if rows may have any length.
    :param is_ascii: whether to use only ASCII characters.
    """
    ellipsis = "..." if is_ascii else "…"
    for row in _fitted(picture, width, ellipsis):
        yield [(text.translate(_ASCII), style) for text, style in row] if is_ascii else row


def _fitted(picture: Picture, width: int | None, ellipsis: str) -> Iterator[list[Part]]:
    drawn = list(_Painter(picture, (width or _WIDE) // 6).rows())
    columns = max((row.width for row in drawn), default=0)
    for row in drawn:
        lanes = [part for pair in zip(row.cells[:columns], row.links, strict=False) for part in pair]
        yield lanes + (row.text if width is None else _fitting(row, width - 2 * columns, ellipsis))
    for line in _legend(picture, width or _WIDE):
        yield [(line if width is None else labels.cut(line, width, ellipsis), "dim")]


def _legend(picture: Picture, width: int) -> list[str]:
    """Return an empty line and the legend, wrapped to a width, or nothing if the picture needs no legend."""
    entries = [f"{look.sign} {look.meaning}" for _, look in labels.legend(picture)]
    if any(edge.is_dependency for edge in picture.edges):
        entries.append("┆ is needed by a revision in another package")
    if any(node.is_run for node in picture.nodes):
        entries.append("--full shows the revisions of each run")
    lines: list[str] = []
    for entry in entries:
        if lines and cell_len(f"{lines[-1]}   {entry}") <= width:
            lines[-1] += f"   {entry}"
        else:
            lines.append(entry)
    return ["", *lines] if lines else []


class _Painter:
    """Draws the rows of a picture one by one.

    :param columns: the maximum number of columns, at least 2.
    """

    def __init__(self, picture: Picture, columns: int) -> None:
        self._picture = picture
        self._columns: list[_Strand | None] = [None] * max(columns, 2)
        self._last: int | None = None  # the column of the node above
        self._lanes = {lane.package: lane for lane in picture.lanes}
        self._colors = dict(zip(self._lanes, cycle(_COLORS), strict=False))
        self._incoming: defaultdict[str, list[Edge]] = defaultdict(list)
        self._outgoing: Counter[tuple[str, bool]] = Counter()
        for edge in picture.edges:
            self._incoming[edge.target].append(edge)
            self._outgoing[edge.source, edge.is_dependency] += 1
        single = [cell_len(labels.title(node)) for node in picture.nodes if not node.is_run]
        self._width = max(single, default=0)

    def rows(self) -> Iterator[_Row]:
        """Yield a row for each node, and above the first node of each lane a row with the name of the lane."""
        begun: set[str] = set()
        for node in self._picture.nodes:
            column = None
            if node.package not in begun:
                begun.add(node.package)
                column = self._begin(node)
                yield self._name(self._lanes[node.package], column)
            yield from self._draw(node, column)
        for lane in self._picture.lanes:
            if lane.package not in begun:
                yield self._name(lane, None)
        if not self._picture.lanes:
            yield _Row([], [], [(labels.NOTHING, "")])

    def _begin(self, node: Node) -> int:
        """Begin the lane of a node, and return its column. If no column is free, lanes share the last one."""
        column = self._free()
        if column is None:
            return len(self._columns) - 1
        self._columns[column] = _Strand("", is_dependency=False, remaining=1, style=self._colors[node.package])
        return column

    def _name(self, lane: Lane, column: int | None) -> _Row:
        row, self._last = self._continued(), None
        if column is not None:
            row.cells[column] = ("╷", self._colors[lane.package])
        name = (labels.package(lane), f"bold {self._colors[lane.package]}")
        counts = labels.counts(lane)
        row.text = [name, (f"  {counts}" if counts else "", "dim")]
        return row

    def _draw(self, node: Node, column: int | None) -> Iterator[_Row]:
        arriving = {(edge.source, edge.is_dependency) for edge in self._incoming[node.first]}
        incoming = {
            number: strand
            for number, strand in enumerate(self._columns)
            if strand is not None and (strand.source, strand.is_dependency) in arriving
        }
        if column is None:
            column = self._column(incoming)
        elsewhere = [number for number in incoming if number != column]
        row = self._continued()
        ended = self._arrive(incoming)
        _connect(row, column, elsewhere, ended)
        look = labels.LOOKS[node.mark]
        row.cells[column] = (look.sign, look.style)
        row.text = self._text(node, labels.span(node))
        if node.is_run:
            row.shorter = self._text(node, f"up to {labels.name(node.last)}")
        opened = self._leave(node, column, {*ended, *elsewhere})
        self._last = column
        if opened is not None:
            style = self._colors[node.package]
            if any((number > column) == (opened > column) for number in elsewhere):
                # In the same row, the new strand would overlap a strand that reaches the node.
                yield row
                row = self._continued()
                row.cells[column] = ("├" if opened > column else "┤", row.cells[column][1])
            _bridge(row, opened, column, style, is_broken=True)
            row.cells[opened] = ("╮" if opened > column else "╭", style)
        yield row

    def _column(self, incoming: Mapping[int, _Strand]) -> int:
        """Return the parent's column if a node is the last one that the parent's line reaches; otherwise a free column.

        :param incoming: the strands that reach the node, by their columns.
        """
        for number, strand in incoming.items():
            if strand.remaining == 1 and not strand.is_dependency:
                return number
        # Placed directly below the node in the previous row, this node would look like a child of that node.
        free = None if self._last is None else self._free(besides=[self._last])
        if free is None:
            free = self._free()
        return len(self._columns) - 1 if free is None else free

    def _arrive(self, incoming: Mapping[int, _Strand]) -> list[int]:
        """Decrement the remaining count of the strands that reach a node, and return the columns of those that end."""
        for strand in incoming.values():
            strand.remaining -= 1
        ended = [number for number, strand in incoming.items() if not strand.remaining]
        for number in ended:
            self._columns[number] = None
        return ended

    def _leave(self, node: Node, column: int, taken: set[int]) -> int | None:
        """Begin the strands of a node, and return the column of the strand that starts next to it, if any.

        :param taken: the columns that the row already uses.
        """
        mine = self._columns[column]
        if mine is not None and mine.source:  # another strand uses this column, because there are not enough columns
            return None
        style = self._colors[node.package]
        strands = [
            _Strand(node.last, is_dependency, remaining, style)
            for is_dependency in (False, True)
            if (remaining := self._outgoing[node.last, is_dependency])
        ]
        self._columns[column] = strands[0] if strands else None
        beside = self._free(besides={*taken, column}) if strands[1:] else None
        if beside is not None:
            self._columns[beside] = strands[1]
        return beside

    def _free(self, besides: Collection[int] = ()) -> int | None:
        """Return the first free column, or None if there is none."""
        free = (number for number, strand in enumerate(self._columns) if strand is None and number not in besides)
        return next(free, None)

    def _continued(self) -> _Row:
        """Return a row in which all strands continue."""
        cells = [
            (" ", "") if strand is None else ("┆" if strand.is_dependency else "│", strand.style)
            for strand in self._columns
        ]
        return _Row(cells, [(" ", "")] * len(cells))

    def _text(self, node: Node, span: str) -> list[Part]:
        """Return the text of a node.

        :param span: the text for the revisions of a run.
        """
        style = "dim" if node.is_stub else labels.LOOKS[node.mark].style
        notes = ["head"] if node.is_head else []
        if node.mark not in (Mark.APPLIED, Mark.PENDING, Mark.UNKNOWN):
            notes.append(str(node.mark))
        dependencies = [labels.name(edge.source) for edge in self._incoming[node.first] if edge.is_dependency]
        if dependencies:
            notes.append(f"depends on {listed(dependencies, _SHOWN)}")
        remark = f"  ({'; '.join(notes)})" if notes else ""
        if node.is_run:
            remark = f"{remark}  (post)" if node.phase is Phase.POST else remark
            return [(f"{len(node.revisions)} revisions, {span}", style), ("", ""), (remark, "dim")]
        title = labels.title(node)
        text = labels.message(node.messages[0])
        padding = " " * (self._width - cell_len(title) + 2) if text or remark else ""
        middle = f"{padding}{text}" if text else padding[:-2]
        return [(title, style), (middle, "dim" if node.is_stub else ""), (remark, "dim")]


def _connect(row: _Row, column: int, incoming: Sequence[int], ended: Sequence[int]) -> None:
    """Draw the strands that reach a node from other columns, beginning with the farthest."""
    for number in sorted(incoming, key=lambda each: -abs(each - column)):
        sign, style = row.cells[number]
        _bridge(row, number, column, style, is_broken=sign == "┆")
        side = [abs(other - column) for other in incoming if (other < column) == (number < column)]
        is_inner = max(side) > abs(number - column)
        end, branch = "┴┼" if is_inner else "╰├" if number < column else "╯┤"
        row.cells[number] = (end if number in ended else branch, style)


def _bridge(row: _Row, one: int, other: int, style: str, *, is_broken: bool) -> None:
    """Draw a line between two columns, behind the strands that it crosses."""
    sign = "┄" if is_broken else "─"
    low, high = sorted((one, other))
    for number in range(low, high):
        row.links[number] = (sign, style)
        if number > low and row.cells[number][0] in " ┄─":
            row.cells[number] = (sign, style)


def _fitting(row: _Row, room: int, ellipsis: str) -> list[Part]:
    is_too_long = sum(cell_len(part) for part, _ in row.text) > room
    return _cut(row.shorter if is_too_long and row.shorter else row.text, room, ellipsis)


def _cut(text: Sequence[Part], room: int, ellipsis: str) -> list[Part]:
    """Return text cut to ``room`` columns: first its middle, because the remark at the end is more important."""
    left = room - sum(cell_len(part) for part, _ in text)
    if left >= 0:
        return list(text)
    parts = list(text)
    if len(parts) == _OF_NODE:
        middle, style = parts[1]
        parts[1] = (labels.cut(middle, max(cell_len(middle) + left, min(_MESSAGE, cell_len(middle))), ellipsis), style)
    cut: list[Part] = []
    for part, style in parts:
        cut.append((labels.cut(part, room, ellipsis), style))
        room = max(room - cell_len(part), 0)
    return cut
