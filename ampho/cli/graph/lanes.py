"""A picture of the history in a terminal: a line for each node, and to the left of it the lanes.

A lane takes a column where its package begins, and gives it back where it ends. So do the dependencies of a revision:
a column with a broken line from it to the last revision that needs it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style

from ampho._text import listed
from ampho.cli.graph import labels
from ampho.status.graph_view import Edge, Lane, Node, Picture
from ampho.status.state import Mark

Part = tuple[str, str]
"""A piece of a line, and its style."""

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
_COLOURS = ("blue", "magenta", "cyan", "bright_blue", "bright_magenta", "bright_cyan")
_ASCII = str.maketrans("●○◆≠×–•│┆─┄╰╯╭╮├┤┴┼╷", "*o~=x-*|:--`'..++++.")  # noqa: RUF001 (signs, not letters)
_ELLIPSES = {False: "…", True: "..."}
_WIDE = 80
_SHOWN = 3  # of what a revision needs
_OF_NODE = 3  # parts; a lane has a name, and counts
_MESSAGE = 36


@dataclass(slots=True)
class _Thread:
    """A line that goes down in a column: from a node to all that stand on it in its lane, or to all that need it.

    :ivar left: how many it still leads to.
    """

    source: str
    is_dependency: bool
    left: int
    style: str


@dataclass(slots=True)
class _Line:
    """A line of the picture, whose columns are drawn.

    :ivar cells: what is in each column.
    :ivar links: what is between each column and the next one.
    :ivar shorter: what is written where there is no room for the text; empty if there is no other way to say it.
    """

    cells: list[Part]
    links: list[Part]
    text: list[Part] = field(default_factory=list)
    shorter: list[Part] = field(default_factory=list)

    def reach(self, column: int) -> None:
        """Have as many columns as one needs."""
        while len(self.cells) <= column:
            self.cells.append((" ", ""))
            self.links.append((" ", ""))


class Lanes:
    """A picture, which Rich renders; its lines are cut where the terminal ends."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render the lines."""
        styles: dict[str, Style] = {}
        for line in lines(self._picture, options.max_width, is_ascii=options.ascii_only):
            for text, style in line:
                if style not in styles:
                    styles[style] = Style.parse(style)
                yield Segment(_encodable(text, options.encoding), styles[style])
            yield Segment.line()


def plain(picture: Picture, encoding: str = "utf-8") -> str:
    """Return the lines of a picture as a text without colours, however long they are.

    :param encoding: what it shall be encoded in; where that is none of Unicode's, all signs are ASCII.
    """
    drawn = lines(picture, None, is_ascii=not encoding.startswith("utf"))
    text = "".join(f"{''.join(text for text, _ in line).rstrip()}\n" for line in drawn)
    return _encodable(text, encoding)


def lines(picture: Picture, width: int | None, *, is_ascii: bool) -> Iterator[list[Part]]:
    """Give the lines of a picture.

    :param width: of the terminal; None where lines may be as long as they are.
    :param is_ascii: whether it shows nothing but ASCII.
    """
    drawn = list(_Loom(picture, (width or _WIDE) // 6).lines())
    columns = max((len(line.cells) for line in drawn), default=0)
    for line in drawn:
        parts = _gutter(line, columns)
        room = None if width is None else width - 2 * columns
        parts += line.text if room is None else _fitting(line, room, _ELLIPSES[is_ascii])
        yield [(text.translate(_ASCII), style) for text, style in parts] if is_ascii else parts
    legend = list(_legend(picture, width or _WIDE))
    for text in [""] * bool(legend) + legend:
        parts = [(text, "dim")] if width is None else _cut([(text, "dim")], width, _ELLIPSES[is_ascii])
        yield [(part.translate(_ASCII), style) for part, style in parts] if is_ascii else parts


def _gutter(line: _Line, columns: int) -> list[Part]:
    parts = [part for pair in zip(line.cells, line.links, strict=True) for part in pair]
    return [*parts, (" " * 2 * (columns - len(line.cells)), "")]


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


class _Loom:
    """Draws the lines of a picture, one after the other.

    :param most: how many columns there may be.
    """

    def __init__(self, picture: Picture, most: int) -> None:
        self._picture = picture
        self._most = max(most, 2)
        self._columns: list[_Thread | None] = []
        self._last: int | None = None  # the column of the node above
        self._lanes = {lane.package: lane for lane in picture.lanes}
        colours = {lane.package: _COLOURS[number % len(_COLOURS)] for number, lane in enumerate(picture.lanes)}
        self._colours = colours
        self._incoming: defaultdict[str, list[Edge]] = defaultdict(list)
        self._outgoing: Counter[tuple[str, bool]] = Counter()
        for edge in picture.edges:
            self._incoming[edge.target].append(edge)
            self._outgoing[edge.source, edge.is_dependency] += 1
        single = [cell_len(labels.title(node)) for node in picture.nodes if not node.is_run]
        self._width = max(single, default=0)

    def lines(self) -> Iterator[_Line]:
        """Give the lines: of each lane its name, and of each node its own."""
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
            yield _Line([], [], [(labels.NOTHING, "")])

    def _begin(self, node: Node) -> int:
        column = self._free()
        if column is None:
            return self._most - 1
        self._columns[column] = _Thread("", is_dependency=False, left=1, style=self._colours[node.package])
        return column

    def _name(self, lane: Lane, column: int | None) -> _Line:
        line, self._last = self._threads(), None
        if column is not None:
            line.cells[column] = ("╷", self._colours[lane.package])
        name = (labels.package(lane), f"bold {self._colours[lane.package]}")
        counts = labels.counts(lane)
        line.text = [name, (f"  {counts}" if counts else "", "dim")]
        return line

    def _draw(self, node: Node, column: int | None) -> Iterator[_Line]:
        arriving = {(edge.source, edge.is_dependency) for edge in self._incoming[node.first]}
        incoming = [
            number
            for number, thread in enumerate(self._columns)
            if thread is not None and (thread.source, thread.is_dependency) in arriving
        ]
        if column is None:
            column = self._column(incoming)
        elsewhere = [number for number in incoming if number != column]
        line = self._threads()
        line.reach(column)
        ended = self._arrive(incoming)
        self._connect(line, column, elsewhere, ended)
        line.cells[column] = (labels.SIGNS[node.mark], _STYLES[node.mark])
        line.text = self._text(node, labels.span(node))
        if node.is_run:
            line.shorter = self._text(node, f"up to {labels.name(node.last)}")
        opened = self._leave(node, column, {*ended, *elsewhere})
        self._last = column
        if opened is not None and not _is_crowded(column, opened, elsewhere):
            self._open(line, column, opened, node)
            yield line
            return
        yield line
        if opened is not None:
            line = self._threads()
            line.cells[column] = ("├" if opened > column else "┤", line.cells[column][1])
            self._open(line, column, opened, node)
            yield line

    def _column(self, incoming: Iterable[int]) -> int:
        """Return the column of a node: that of its parent, if no other revision has to stand on that."""
        for number in incoming:
            thread = self._columns[number]
            if thread is not None and thread.left == 1 and not thread.is_dependency:
                return number
        # Right below the node above, from which no line comes, it would look as if it stood on that.
        free = None if self._last is None else self._free(besides=(self._last,))
        if free is None:
            free = self._free()
        return self._most - 1 if free is None else free

    def _arrive(self, incoming: Iterable[int]) -> list[int]:
        """Count an arrival for each thread; return the columns of those that end."""
        ended = []
        for number in incoming:
            thread = self._columns[number]
            if thread is not None:
                thread.left -= 1
                if not thread.left:
                    ended.append(number)
                    self._columns[number] = None
        return ended

    def _leave(self, node: Node, column: int, taken: set[int]) -> int | None:
        """Let the threads of a node begin; return the column of one that begins beside it.

        :param taken: columns in which this line has something already.
        """
        children, needed = self._outgoing[node.last, False], self._outgoing[node.last, True]
        style = self._colours[node.package]
        while len(self._columns) <= column:
            self._columns.append(None)
        mine = self._columns[column]
        if mine is not None and mine.source:  # of another, where there are too many columns
            return None
        self._columns[column] = None
        if children:
            self._columns[column] = _Thread(node.last, is_dependency=False, left=children, style=style)
        if not needed:
            return None
        thread = _Thread(node.last, is_dependency=True, left=needed, style=style)
        if not children:
            self._columns[column] = thread
            return None
        beside = self._free(besides={*taken, column})
        if beside is not None:
            self._columns[beside] = thread
        return beside

    def _free(self, besides: Iterable[int] = ()) -> int | None:
        """Return the first free column, or None if there are as many as there may be."""
        for number, thread in enumerate(self._columns):
            if thread is None and number not in besides:
                return number
        if len(self._columns) >= self._most:
            return None
        self._columns.append(None)
        return self._free(besides)

    def _threads(self) -> _Line:
        """Return a line in which all threads go on."""
        while self._columns and self._columns[-1] is None:
            self._columns.pop()
        cells = [
            (" ", "") if thread is None else ("┆" if thread.is_dependency else "│", thread.style)
            for thread in self._columns
        ]
        return _Line(cells, [(" ", "")] * len(cells))

    def _connect(self, line: _Line, column: int, incoming: Sequence[int], ended: Sequence[int]) -> None:
        """Draw what comes from other columns to that of a node, the farthest first."""
        for number in sorted(incoming, key=lambda each: -abs(each - column)):
            style = line.cells[number][1]
            is_broken = line.cells[number][0] == "┆"
            _bridge(line, number, column, style, is_broken=is_broken)
        for number in incoming:
            style = line.cells[number][1]
            side = [abs(other - column) for other in incoming if (other < column) == (number < column)]
            is_inner = max(side) > abs(number - column)
            if number in ended:
                sign = "┴" if is_inner else "╰" if number < column else "╯"
            else:
                sign = "┼" if is_inner else "├" if number < column else "┤"
            line.cells[number] = (sign, style)

    def _open(self, line: _Line, column: int, opened: int, node: Node) -> None:
        style = self._colours[node.package]
        line.reach(opened)
        _bridge(line, opened, column, style, is_broken=True)
        line.cells[opened] = ("╮" if opened > column else "╭", style)

    def _text(self, node: Node, span: str) -> list[Part]:
        """Return what is written beside a node.

        :param span: which revisions it is, if it is a run.
        """
        style = "dim" if node.is_stub else _STYLES[node.mark]
        notes = ["head"] if node.is_head else []
        if node.mark not in (Mark.APPLIED, Mark.PENDING, Mark.UNKNOWN):
            notes.append(str(node.mark))
        needs = [labels.name(edge.source) for edge in self._incoming[node.first] if edge.is_dependency]
        if needs:
            notes.append(f"needs {listed(needs, _SHOWN)}")
        remark = f"  ({'; '.join(notes)})" if notes else ""
        if node.is_run:
            return [(f"{len(node.revisions)} revisions, {span}", style), ("", ""), (remark, "dim")]
        title = labels.title(node)
        text = labels.message(node.messages[0])
        padding = " " * (self._width - cell_len(title) + 2) if text or remark else ""
        middle = f"{padding}{text}" if text else padding[:-2]
        return [(title, style), (middle, "dim" if node.is_stub else ""), (remark, "dim")]


def _bridge(line: _Line, one: int, other: int, style: str, *, is_broken: bool) -> None:
    """Draw a line between two columns, over what is free; a thread that it crosses stays as it is."""
    sign = "┄" if is_broken else "─"
    low, high = sorted((one, other))
    for number in range(low, high):
        line.links[number] = (sign, style)
        if number > low and line.cells[number][0] in " ┄─":
            line.cells[number] = (sign, style)


def _is_crowded(column: int, opened: int, incoming: Iterable[int]) -> bool:
    """Tell whether what begins beside a node would lie on what comes to it."""
    return any((number > column) == (opened > column) for number in incoming)


def _fitting(line: _Line, room: int, ellipsis: str) -> list[Part]:
    is_too_long = sum(cell_len(part) for part, _ in line.text) > room
    return _cut(line.shorter if is_too_long and line.shorter else line.text, room, ellipsis)


def _cut(text: Sequence[Part], room: int, ellipsis: str) -> list[Part]:
    """Return a text that fits: its middle is cut first, since the remark at its end says more."""
    left = room - sum(cell_len(part) for part, _ in text)
    if left >= 0:
        return list(text)
    parts = list(text)
    if len(parts) == _OF_NODE:
        middle, style = parts[1]
        parts[1] = (_shortened(middle, max(cell_len(middle) + left, min(_MESSAGE, cell_len(middle))), ellipsis), style)
    cut: list[Part] = []
    for part, style in parts:
        cut.append((_shortened(part, room, ellipsis), style))
        room = max(room - cell_len(part), 0)
    return cut


def _shortened(text: str, room: int, ellipsis: str) -> str:
    if cell_len(text) <= room:
        return text
    size = cell_len(ellipsis)
    return set_cell_size(text, room - size).rstrip() + ellipsis if room > size else ellipsis[:room]


def _encodable(text: str, encoding: str) -> str:
    """Return a text without a character that an encoding does not have."""
    if text.isascii() or encoding.startswith("utf"):
        return text
    return text.encode(encoding, "backslashreplace").decode(encoding)
