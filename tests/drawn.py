"""Pictures of the history, read back from what was written of them, as whoever looks at one reads it.

Nothing of Ampho is asked what a line or a box means: the text's signs are those of its own legend, the edges of an SVG
file begin and end where its boxes are.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

SVG = "{http://www.w3.org/2000/svg}"
MOST_COLUMNS = 13  # of a text in a pipe; where there would be more, lines lie on each other

Edge = tuple[str, str, bool]
"""The last revision of a box, the first one of another box that depends on it, and whether that is a dependency."""


@dataclass(frozen=True, order=True)
class Box:
    """A node that was read: a revision, or a run of some."""

    first: str
    last: str
    size: int
    mark: str
    is_head: bool


@dataclass(frozen=True)
class Drawn:
    """A picture that was read.

    :ivar boxes: in the order in which they were found.
    :ivar edges: None where they lie on each other.
    :ivar lanes: the packages, and what is said of each; nothing is said in Mermaid and in DOT.
    :ivar packages: the package of each box by its first revision, as far as it is told.
    :ivar revisions: all ids, as far as they are told.
    :ivar needs: the dependencies that are told in words, by the first revision of what needs them.
    """

    boxes: tuple[Box, ...]
    edges: frozenset[Edge] | None
    lanes: Mapping[str, str]
    packages: Mapping[str, str] = field(default_factory=dict)
    revisions: tuple[str, ...] = ()
    needs: Mapping[str, tuple[tuple[str, ...], int]] = field(default_factory=dict)


def _box(title: str, span: str, mark: str, *, is_head: bool) -> Box:
    """Make a box of its first line, and of its second one where it is a run."""
    run = re.fullmatch(r"(\d+) revisions", title)
    if run is None:
        return Box(title, title, 1, mark, is_head)
    first, last = span.split(" .. ")
    return Box(first, last, int(run[1]), mark, is_head)


def _edges(boxes: Mapping[str, Box], found: Iterable[tuple[str, str, bool]]) -> frozenset[Edge]:
    """Return edges between names of boxes as edges between revisions; none is there twice."""
    listed = [(boxes[source].last, boxes[target].first, dashed) for source, target, dashed in found]
    assert len(listed) == len(set(listed))
    return frozenset(listed)


# ---- Mermaid and DOT ----


def from_mermaid(text: str) -> Drawn:
    """Read a flowchart."""
    boxes: dict[str, Box] = {}
    arrows, lanes, packages = [], dict[str, str](), dict[str, str]()
    for line in map(str.strip, text.splitlines()):
        if lane := re.fullmatch(r'subgraph lane\d+\["(.*)"\]', line):
            lanes[lane[1]] = ""
        elif node := re.fullmatch(r'(n\d+)\W+?"\S ([^("]+?)( \(head\))?(?:<br/>(.*))?"\W+:::(\w+)', line):
            boxes[node[1]] = _box(node[2], node[4] or "", node[5], is_head=bool(node[3]))
            packages[boxes[node[1]].first] = list(lanes)[-1]
        elif arrow := re.fullmatch(r"(n\d+) (-->|-\.->) (n\d+)", line):
            arrows.append((arrow[1], arrow[3], arrow[2] == "-.->"))
        else:
            assert re.match(r"(flowchart|end|classDef|class|nothing)\b", line), line
    return Drawn(tuple(boxes.values()), _edges(boxes, arrows), lanes, packages)


def from_dot(text: str) -> Drawn:
    """Read a digraph."""
    boxes: dict[str, Box] = {}
    arrows, lanes, packages, revisions = [], dict[str, str](), dict[str, str](), list[str]()
    for line in map(str.strip, text.splitlines()):
        if lane := re.match(r'label="(.*?)";', line):
            lanes[lane[1]] = ""
        elif node := re.match(
            r'(n\d+) \[label="\S ([^("\\]+?)( \(head\))?(?:\\n(.*?))?", tooltip="(.*?)", style', line
        ):
            *told, remark = node[5].split(r"\n")
            boxes[node[1]] = _box(node[2], node[4] or "", _mark(remark), is_head=bool(node[3]))
            packages[boxes[node[1]].first] = list(lanes)[-1]
            revisions += [line.split("  ")[0] for line in told]
        elif arrow := re.match(
            r'(n\d+) -> (n\d+) \[(style="dashed")?.*tooltip="(\S+) (?:revises|depends on) (\S+)"', line
        ):
            arrows.append((arrow[1], arrow[2], bool(arrow[3])))
            assert (boxes[arrow[1]].last, boxes[arrow[2]].first) == (arrow[5], arrow[4])
        else:
            assert re.match(r"(digraph|graph|node|edge|subgraph|nothing|\})", line), line
    return Drawn(tuple(boxes.values()), _edges(boxes, arrows), lanes, packages, tuple(revisions))


def _mark(remark: str) -> str:
    """Return the mark in the last line of a tooltip, such as ``(missing: applied, but has no file, head)``."""
    return re.split(r"[:,]", remark.strip("()"))[0]


# ---- SVG ----

Place = tuple[float, float]
Rectangle = tuple[float, float, float, float]


def from_svg(text: str) -> Drawn:
    """Read a file, and check that each edge goes from the box that its title names to the other one."""
    boxes, rooms, lanes, lane_rooms = dict[str, Box](), dict[str, list[Rectangle]](), dict[str, str](), {}
    revisions: list[str] = []
    edges: list[Edge] = []
    for group in ET.fromstring(text).iter(f"{SVG}g"):
        title, kind = group.findtext(f"{SVG}title"), group.get("class")
        if title is None:
            continue  # of the legend
        if kind is None:
            name, _, lanes_counts = title.partition(": ")
            lanes[name], lane_rooms[name] = lanes_counts, _rectangles(group)[0]
        elif kind in ("parent", "dependency"):
            target, words, source = re.fullmatch(r"(\S+) (revises|depends on) (\S+)", title).groups()  # type: ignore[union-attr]
            assert (words == "depends on") == (kind == "dependency")
            edges.append((source, target, kind == "dependency"))
        else:
            *told, remark = title.splitlines()
            ids = [line.split("  ")[0] for line in told]
            box = Box(ids[0], ids[-1], len(ids), kind.split()[0], remark.endswith("head)"))
            assert _mark(remark) == box.mark
            boxes[box.first], rooms[box.first] = box, _rectangles(group)
            revisions += ids
    _check_ends(ET.fromstring(text), rooms, {box.last: box.first for box in boxes.values()})
    assert len(edges) == len(set(edges))
    packages = {first: _around(lane_rooms, room[-1]) for first, room in rooms.items()}
    return Drawn(tuple(boxes.values()), frozenset(edges), lanes, packages, tuple(revisions))


def _check_ends(root: ET.Element, rooms: Mapping[str, Sequence[Rectangle]], by_last: Mapping[str, str]) -> None:
    for group in root.iter(f"{SVG}g"):
        title = group.findtext(f"{SVG}title")
        if title is None or group.get("class") not in ("parent", "dependency"):
            continue
        target, source = re.split(r" revises | depends on ", title)
        (path,) = (path.attrib["d"] for path in group.iter(f"{SVG}path") if path.get("class") == "edge")
        places = [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", path)]
        assert any(_is_at(places[0], room) for room in rooms[by_last[source]]), title
        assert any(_is_at(places[-1], room) for room in rooms[target]), title


def _rectangles(group: ET.Element) -> list[Rectangle]:
    found = []
    for each in group.iter(f"{SVG}rect"):
        x, y, width, height = (float(each.attrib[name]) for name in ("x", "y", "width", "height"))
        found.append((x, y, x + width, y + height))
    return found


def _is_at(place: Place, room: Rectangle) -> bool:
    """Tell whether a place is at the border of a rectangle."""
    (x, y), (left, top, right, bottom) = place, room
    is_near = left - 1 <= x <= right + 1 and top - 1 <= y <= bottom + 1
    return is_near and min(abs(x - left), abs(x - right), abs(y - top), abs(y - bottom)) <= 1


def _around(lanes: Mapping[str, Rectangle], box: Rectangle) -> str:
    (found,) = (
        name
        for name, (left, top, right, bottom) in lanes.items()
        if left <= box[0] and top <= box[1] and right >= box[2] and bottom >= box[3]
    )
    return found


# ---- the text of a terminal ----

_NOTHING = "There are no revisions yet."
_LINES = " │┆├─┄╰╯╭╮┤┴┼╷"


def from_text(text: str) -> Drawn:
    """Read what a pipe gets."""
    drawing, _, legend = text.partition("\n\n")
    entries = [entry for line in legend.splitlines() for entry in line.split("   ")]
    signs = {entry[0]: entry[2:].split(":")[0] for entry in entries if entry and entry[0] not in "┆-"}
    lines = drawing.splitlines()
    room = max((len(match[0]) for line in lines if (match := re.match(r"[^\w(]+", line))), default=0)
    lanes: dict[str, str] = {}
    loom = _Threads(signs)
    for line in lines:
        gutter, told = line[:room].ljust(room), line[room:]
        box = loom.weave(gutter[::2], gutter[1::2], told)
        if box is None and told and told != _NOTHING:
            name, _, counts = told.partition("  ")
            lanes[name] = counts
    edges = None if room // 2 >= MOST_COLUMNS else frozenset(loom.edges)
    assert len(loom.edges) == len(set(loom.edges))
    return Drawn(tuple(loom.boxes), edges, lanes, needs=loom.needs)


@dataclass
class _Threads:
    """The lines that go down between boxes, followed line by line.

    :ivar columns: for each column the box from which its line comes, and whether that is broken; None for "that shows
        in the next line".
    """

    signs: Mapping[str, str]
    columns: dict[int, tuple[Box, bool | None]] = field(default_factory=dict)
    boxes: list[Box] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    needs: dict[str, tuple[tuple[str, ...], int]] = field(default_factory=dict)

    def weave(self, cells: str, links: str, told: str) -> Box | None:
        """Follow all lines through one line of text; return the box that is in it."""
        column = next((number for number, cell in enumerate(cells) if cell not in _LINES), None)
        box = self._read(told, self.signs[cells[column]]) if column is not None else None
        self._go_on(cells)
        if box is None:
            if not told:  # what begins beside the box of the line before has a line of its own
                (column,) = (number for number, _ in enumerate(cells) if cells[number] in "├┤")
                self._meet(self.boxes[-1], column, cells, links)
            return None
        assert column is not None
        above = self.columns.pop(column, None)
        if above is not None and above[1] is not True:
            self.edges.append((above[0].last, box.first, False))
        self._meet(box, column, cells, links)
        self.columns[column] = (box, None)
        self.boxes.append(box)
        return box

    def _read(self, told: str, mark: str) -> Box:
        title = told.partition("  ")[0]
        notes = match[1].split("; ") if (match := re.search(r"  \(([^()]*)\)$", told)) else []
        title, _, span = title.partition(", ")
        box = _box(title, span, mark, is_head="head" in notes)
        for note in notes:
            if needed := re.fullmatch(r"needs (.*?)(?: and (\d+) more)?", note):
                self.needs[box.first] = tuple(needed[1].split(", ")), int(needed[2] or 0)
        return box

    def _go_on(self, cells: str) -> None:
        """Let lines end that are not there any more, and learn of new ones what they are."""
        for number, (box, is_broken) in list(self.columns.items()):
            cell = cells[number] if number < len(cells) else " "
            if cell in " ─┄╷╮╭":
                del self.columns[number]
            elif is_broken is None and cell in "│┆":
                self.columns[number] = (box, cell == "┆")

    def _meet(self, box: Box, column: int, cells: str, links: str) -> None:
        """Follow what comes to a box from both sides, and what begins beside it."""
        for step, signs in ((-1, "╰├┴┼"), (1, "╯┤┴┼")):
            number = column
            while 0 <= number + step < len(cells) and links[min(number, number + step)] != " ":
                link = links[min(number, number + step)]
                number += step
                if cells[number] in signs:
                    self.edges.append((self.columns[number][0].last, box.first, link == "┄"))
                    if cells[number] in "╰╯┴":
                        del self.columns[number]
                    else:
                        self.columns[number] = (self.columns[number][0], link == "┄")
                elif cells[number] in "╭╮":
                    self.columns[number] = (box, True)


READERS = {"svg": from_svg, "mermaid": from_mermaid, "dot": from_dot, "text": from_text}
