"""A picture of the history in a terminal: a row for each node, and to the left of it the lanes.

A lane takes up a column from its first node to its last. The dependencies on a revision take up another column, with a
dashed line from that revision to the last one that depends on it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style

from ampho._text import listed
from ampho.cli.graph import labels
from ampho.status.graph_view import Edge, Lane, Node, Picture
from ampho.status.state import Mark

Part = tuple[str, str]
"""A piece of a row, and its style."""

_STYLES = {
    Mark.APPLIED: "green",
    Mark.EDITED: "bold green",
    Mark.DIVERGED: "bold red",
    Mark.PENDING: "yellow",
    Mark.MISSING: "bold red",
    Mark.UNFINISHED: "bold red",
    Mark.UNCERTAIN: "cyan",
    Mark.ABSENT: "red",
    Mark.UNKNOWN: "",
}
_COLORS = ("blue", "magenta", "cyan", "bright_blue", "bright_magenta", "bright_cyan")
_ASCII = str.maketrans("●○◆≠×–•│┆─┄╰╯╭╮├┤┴┼╷", "*o~=x-*|:--`'..++++.")  # noqa: RUF001 (signs, not letters)
_ELLIPSES = {False: "…", True: "..."}
_WIDE = 80
_SHOWN = 3  # dependencies of a revision
_OF_NODE = 3  # parts of a node's text; a lane has two, a name and counts
_MESSAGE = 36  # columns to which a message is cut before the remark is


@dataclass(slots=True)
class _Strand:
    """A line down a column, from a node to its children in its lane, or to the nodes that depend on it.

    :ivar source: the last revision of the node where it begins; empty for the beginning of a lane.
    :ivar remaining: the number of nodes that it still has to reach.
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
    :ivar shorter: a text that replaces ``text`` if there is too little room; may be empty.
    """

    cells: list[Part]
    links: list[Part]
    text: list[Part] = field(default_factory=list)
    shorter: list[Part] = field(default_factory=list)

    def extend(self, column: int) -> None:
        """Add empty columns up to one that is needed."""
        while len(self.cells) <= column:
            self.cells.append((" ", ""))
            self.links.append((" ", ""))


class Lanes:
    """A picture for Rich to render, with rows cut to the width of the terminal."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render the rows."""
        styles: dict[str, Style] = {}
        for row in rows(self._picture, options.max_width, is_ascii=options.ascii_only):
            for text, style in row:
                if style not in styles:
                    styles[style] = Style.parse(style)
                yield Segment(text, styles[style])
            yield Segment.line()


def plain(picture: Picture, encoding: str = "utf-8") -> str:
    """Return a picture as a text without colors, and with rows of any length.

    :param encoding: the encoding of the output; if it is not one of Unicode's, all signs are ASCII.
    """
    drawn = rows(picture, None, is_ascii=not encoding.startswith("utf"))
    return "".join(f"{''.join(text for text, _ in row).rstrip()}\n" for row in drawn)


def rows(picture: Picture, width: int | None, *, is_ascii: bool) -> Iterator[list[Part]]:
    """Yield the rows of a picture, and its legend.

    :param width: the width of the terminal; None if rows may have any length.
    :param is_ascii: whether all signs are ASCII.
    """
    for row in _fitted(picture, width, _ELLIPSES[is_ascii]):
        yield [(text.translate(_ASCII), style) for text, style in row] if is_ascii else row


def _fitted(picture: Picture, width: int | None, ellipsis: str) -> Iterator[list[Part]]:
    drawn = list(_Painter(picture, (width or _WIDE) // 6).rows())
    columns = max((len(row.cells) for row in drawn), default=0)
    for row in drawn:
        text = row.text if width is None else _fitting(row, width - 2 * columns, ellipsis)
        yield _gutter(row, columns) + text
    legend = list(_legend(picture, width or _WIDE))
    for line in [""] * bool(legend) + legend:
        yield [(line if width is None else labels.cut(line, width, ellipsis), "dim")]


def _gutter(row: _Row, columns: int) -> list[Part]:
    parts = [part for pair in zip(row.cells, row.links, strict=True) for part in pair]
    return [*parts, (" " * 2 * (columns - len(row.cells)), "")]


def _legend(picture: Picture, width: int) -> Iterator[str]:
    entries = [f"{labels.SIGNS[mark]} {meaning}" for mark, meaning in labels.legend(picture)]
    if any(edge.is_dependency for edge in picture.edges):
        entries.append("┆ is needed below, in another package")
    if any(node.is_run for node in picture.nodes):
        entries.append("--full shows the revisions of each run")
    line = ""
    for entry in entries:
        if line and cell_len(f"{line}   {entry}") > width:
            yield line
            line = ""
        line = f"{line}   {entry}" if line else entry
    if line:
        yield line


class _Painter:
    """Draws the rows of a picture, one after the other.

    :param most: the largest number of columns.
    """

    def __init__(self, picture: Picture, most: int) -> None:
        self._picture = picture
        self._most = max(most, 2)
        self._columns: list[_Strand | None] = []
        self._last: int | None = None  # the column of the node above
        self._lanes = {lane.package: lane for lane in picture.lanes}
        colors = {lane.package: _COLORS[number % len(_COLORS)] for number, lane in enumerate(picture.lanes)}
        self._colors = colors
        self._incoming: defaultdict[str, list[Edge]] = defaultdict(list)
        self._outgoing: Counter[tuple[str, bool]] = Counter()
        for edge in picture.edges:
            self._incoming[edge.target].append(edge)
            self._outgoing[edge.source, edge.is_dependency] += 1
        single = [cell_len(labels.title(node)) for node in picture.nodes if not node.is_run]
        self._width = max(single, default=0)

    def rows(self) -> Iterator[_Row]:
        """Yield the rows: one for each node, and before the first one of a lane another one with its name."""
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
        column = self._free()
        if column is None:
            return self._most - 1
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
        incoming = [
            number
            for number, strand in enumerate(self._columns)
            if strand is not None and (strand.source, strand.is_dependency) in arriving
        ]
        if column is None:
            column = self._column(incoming)
        elsewhere = [number for number in incoming if number != column]
        row = self._continued()
        row.extend(column)
        ended = self._arrive(incoming)
        self._connect(row, column, elsewhere, ended)
        row.cells[column] = (labels.SIGNS[node.mark], _STYLES[node.mark])
        row.text = self._text(node, labels.span(node))
        if node.is_run:
            row.shorter = self._text(node, f"up to {labels.name(node.last)}")
        opened = self._leave(node, column, {*ended, *elsewhere})
        self._last = column
        if opened is not None and not _is_crowded(column, opened, elsewhere):
            self._open(row, column, opened, node)
            yield row
            return
        yield row
        if opened is not None:
            row = self._continued()
            row.cells[column] = ("├" if opened > column else "┤", row.cells[column][1])
            self._open(row, column, opened, node)
            yield row

    def _column(self, incoming: Iterable[int]) -> int:
        """Return the column of a node: that of a parent if the node is the last one to reach from there."""
        for number in incoming:
            strand = self._columns[number]
            if strand is not None and strand.remaining == 1 and not strand.is_dependency:
                return number
        # Directly below the node in the row above, it would look like a child of that node.
        free = None if self._last is None else self._free(besides=(self._last,))
        if free is None:
            free = self._free()
        return self._most - 1 if free is None else free

    def _arrive(self, incoming: Iterable[int]) -> list[int]:
        """Let strands reach a node, and return the columns of those that end there."""
        ended = []
        for number in incoming:
            strand = self._columns[number]
            if strand is not None:
                strand.remaining -= 1
                if not strand.remaining:
                    ended.append(number)
                    self._columns[number] = None
        return ended

    def _leave(self, node: Node, column: int, taken: set[int]) -> int | None:
        """Begin the strands of a node, and return the column of the strand that starts next to it, if any.

        :param taken: the columns that the row already uses.
        """
        children, needed = self._outgoing[node.last, False], self._outgoing[node.last, True]
        style = self._colors[node.package]
        while len(self._columns) <= column:
            self._columns.append(None)
        mine = self._columns[column]
        if mine is not None and mine.source:  # another node's, because there are too many columns
            return None
        self._columns[column] = None
        if children:
            self._columns[column] = _Strand(node.last, is_dependency=False, remaining=children, style=style)
        if not needed:
            return None
        strand = _Strand(node.last, is_dependency=True, remaining=needed, style=style)
        if not children:
            self._columns[column] = strand
            return None
        beside = self._free(besides={*taken, column})
        if beside is not None:
            self._columns[beside] = strand
        return beside

    def _free(self, besides: Iterable[int] = ()) -> int | None:
        """Return the first free column, or None if there is none and no room for another one."""
        for number, strand in enumerate(self._columns):
            if strand is None and number not in besides:
                return number
        if len(self._columns) >= self._most:
            return None
        self._columns.append(None)
        return self._free(besides)

    def _continued(self) -> _Row:
        """Return a row in which all strands continue."""
        while self._columns and self._columns[-1] is None:
            self._columns.pop()
        cells = [
            (" ", "") if strand is None else ("┆" if strand.is_dependency else "│", strand.style)
            for strand in self._columns
        ]
        return _Row(cells, [(" ", "")] * len(cells))

    def _connect(self, row: _Row, column: int, incoming: Sequence[int], ended: Sequence[int]) -> None:
        """Draw the strands that reach a node from other columns, beginning with the farthest."""
        for number in sorted(incoming, key=lambda each: -abs(each - column)):
            style = row.cells[number][1]
            is_broken = row.cells[number][0] == "┆"
            _bridge(row, number, column, style, is_broken=is_broken)
        for number in incoming:
            style = row.cells[number][1]
            side = [abs(other - column) for other in incoming if (other < column) == (number < column)]
            is_inner = max(side) > abs(number - column)
            if number in ended:
                sign = "┴" if is_inner else "╰" if number < column else "╯"
            else:
                sign = "┼" if is_inner else "├" if number < column else "┤"
            row.cells[number] = (sign, style)

    def _open(self, row: _Row, column: int, opened: int, node: Node) -> None:
        style = self._colors[node.package]
        row.extend(opened)
        _bridge(row, opened, column, style, is_broken=True)
        row.cells[opened] = ("╮" if opened > column else "╭", style)

    def _text(self, node: Node, span: str) -> list[Part]:
        """Return the text of a node.

        :param span: which revisions it has, if it is a run.
        """
        style = "dim" if node.is_stub else _STYLES[node.mark]
        notes = ["head"] if node.is_head else []
        if node.mark not in (Mark.APPLIED, Mark.PENDING, Mark.UNKNOWN):
            notes.append(str(node.mark))
        dependencies = [labels.name(edge.source) for edge in self._incoming[node.first] if edge.is_dependency]
        if dependencies:
            notes.append(f"depends on {listed(dependencies, _SHOWN)}")
        remark = f"  ({'; '.join(notes)})" if notes else ""
        if node.is_run:
            return [(f"{len(node.revisions)} revisions, {span}", style), ("", ""), (remark, "dim")]
        title = labels.title(node)
        text = labels.message(node.messages[0])
        padding = " " * (self._width - cell_len(title) + 2) if text or remark else ""
        middle = f"{padding}{text}" if text else padding[:-2]
        return [(title, style), (middle, "dim" if node.is_stub else ""), (remark, "dim")]


def _bridge(row: _Row, one: int, other: int, style: str, *, is_broken: bool) -> None:
    """Draw a line between two columns. Strands that it crosses stay as they are."""
    sign = "┄" if is_broken else "─"
    low, high = sorted((one, other))
    for number in range(low, high):
        row.links[number] = (sign, style)
        if number > low and row.cells[number][0] in " ┄─":
            row.cells[number] = (sign, style)


def _is_crowded(column: int, opened: int, incoming: Iterable[int]) -> bool:
    """Return whether a strand that begins beside a node would lie on one that reaches the node."""
    return any((number > column) == (opened > column) for number in incoming)


def _fitting(row: _Row, room: int, ellipsis: str) -> list[Part]:
    is_too_long = sum(cell_len(part) for part, _ in row.text) > room
    return _cut(row.shorter if is_too_long and row.shorter else row.text, room, ellipsis)


def _cut(text: Sequence[Part], room: int, ellipsis: str) -> list[Part]:
    """Return a text that fits. Its middle is cut first, because the remark at its end is more important."""
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
