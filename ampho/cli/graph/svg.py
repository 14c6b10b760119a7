"""Draw a picture as SVG, without scripts or references to other files."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Sequence

from rich.cells import cell_len

from ampho.cli.graph import labels
from ampho.cli.graph.routes import Layout, Point, Sizes
from ampho.status.graph_view import Lane, Node, Picture
from ampho.status.state import Mark

_FEW_COLUMNS = 6
_HEIGHT = 40.0
_LEAST, _MOST = 132.0, 490.0
_MARGIN = 12.0
_HEAD = 42.0  # the space above a lane for its name
_LINE = 22.0
_MONO = 7.3  # the width of a character at 12 pixels
_SMALL = 6.7  # the width of a character at 11 pixels
_ROUND = 6.0
_RUN = 4.0

_STYLE = """
.ampho { font-family: ui-sans-serif, system-ui, "DejaVu Sans", Helvetica, Arial, sans-serif; font-size: 11px; }
.ampho text { fill: #17202a; }
.ampho .id { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: 12px; }
.ampho .span { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: 11px; }
.ampho .name { font-size: 13px; font-weight: bold; }
.ampho .quiet { fill: #57606a; }
.ampho .page { fill: #ffffff; }
.ampho .lane { fill: #f2f5f8; }
.ampho .box { fill: #ffffff; stroke: #57606a; stroke-width: 1.3; }
.ampho .sign { fill: none; stroke: #57606a; stroke-width: 2; }
.ampho .applied .sign { fill: #1f7a45; }
.ampho .unknown .sign { fill: #57606a; }
.ampho .stub .box, .ampho .stub .sign { opacity: 0.55; }
.ampho .stub text { fill: #57606a; }
.ampho .edge { fill: none; stroke: #57606a; stroke-width: 1.6; }
.ampho .dependency .edge { stroke: #3457a6; stroke-dasharray: 5 3; }
.ampho .tip { fill: #57606a; }
.ampho .dependency .tip { fill: #3457a6; }
"""


def _style() -> str:
    rules = []
    for mark, look in labels.LOOKS.items():
        width = " stroke-width: 3;" if look.is_bold else ""
        dash = f" stroke-dasharray: {look.dash};" if look.dash else ""
        rules.append(f".ampho .{mark} .box {{ fill: {look.fill}; stroke: {look.border};{width}{dash} }}\n")
        rules.append(f".ampho .{mark} .sign {{ stroke: {look.border}; }}\n")
    return f"{_STYLE}{''.join(rules)}"


def as_svg(picture: Picture) -> str:
    """Return a picture as SVG, drawn from top to bottom if it has few columns, or else from left to right."""
    root = _Drawing(picture).draw()
    ET.indent(root, " ")
    return f"{ET.tostring(root, encoding='unicode')}\n"


class _Drawing:
    """A drawing of a picture. It grows downwards if it has few columns, and to the right if it has many."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self._is_down = sum(lane.tracks for lane in picture.lanes) <= _FEW_COLUMNS
        self._box = _box_width(picture.nodes)
        if self._is_down:
            sizes = Sizes(along=_HEIGHT, across=self._box, channel=22, gutter=26)
            self._left, self._top = _MARGIN - 18, _MARGIN + _HEAD
        else:
            sizes = Sizes(along=self._box, across=_HEIGHT, channel=26, gutter=20)
            names = [_SMALL * 1.3 * cell_len(labels.package(lane)) for lane in picture.lanes]
            notes = [_SMALL * cell_len(labels.counts(lane)) for lane in picture.lanes]
            self._left, self._top = _MARGIN + min(max([*names, *notes, 60]), 260) + 16, _MARGIN - 12
        self._layout = Layout(picture, sizes)

    def draw(self) -> ET.Element:
        along, across = self._layout.along, self._layout.across
        width, height = (across, along) if self._is_down else (along, across)
        width = max(width + self._left + _MARGIN - 18 * self._is_down, 320.0)
        legend = list(_legend(self._picture, width - 2 * _MARGIN))
        bottom = height + self._top
        height = bottom + _LINE * (legend[-1][1] + 1 if legend else 0) + _MARGIN
        root = ET.Element("svg", _numbers(width=width, height=height))
        root.attrib |= {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {_number(width)} {_number(height)}"}
        root.set("class", "ampho")
        root.set("role", "img")
        root.set("aria-label", "The migration history, with a lane for each package")
        ET.SubElement(root, "style").text = _style()
        ET.SubElement(root, "rect", {"class": "page", "width": "100%", "height": "100%"})
        for lane in self._picture.lanes:
            self._draw_lane(root, lane)
        if not self._picture.lanes:
            _write(root, labels.NOTHING, (_MARGIN, bottom), "quiet")
        for edge, points in self._layout.edges():
            kind = "dependency" if edge.is_dependency else "parent"
            corners = [self._at(point) for point in points]
            if self._picture.node(edge.target).is_run:
                corners[-1] = _before_shadow(*corners[-2:])
            _draw_edge(root, kind, corners, labels.relation(edge))
        for node in self._picture.nodes:
            self._draw_node(root, node)
        for x, row, kind, text in legend:
            _draw_entry(root, kind, text, (x, bottom + _LINE * (row + 0.5)))
        return root

    def _at(self, point: Point) -> Point:
        along, across = point
        return (self._left + across, self._top + along) if self._is_down else (self._left + along, self._top + across)

    def _draw_lane(self, root: ET.Element, lane: Lane) -> None:
        begin, end = self._layout.lane(lane.package, lane.tracks)
        size = end - begin + 16
        if self._is_down:
            x, y, width, height = self._left + begin - 8, _MARGIN, size, self._layout.along + _HEAD
            space = size - 16
        else:
            x, y, width, height = _MARGIN, self._top + begin - 8, self._layout.along + self._left - _MARGIN, size
            space = self._left - _MARGIN - 16
        name, counts = labels.package(lane), labels.counts(lane)
        group = _group(root, None, ": ".join(filter(None, (name, counts))))
        _rectangle(group, "lane", 6, x=x, y=y, width=width, height=height)
        _write(group, labels.cut(name, int(space / _SMALL / 1.3)), (x + 8, y + 20), "name")
        _write(group, labels.cut(counts, int(space / _SMALL)), (x + 8, y + 36), "quiet")

    def _draw_node(self, root: ET.Element, node: Node) -> None:
        x, y = self._at(self._layout.box(node))
        size = {"width": self._box, "height": _HEIGHT}
        group = _group(root, f"{node.mark} stub" if node.is_stub else str(node.mark), labels.tooltip(node))
        if node.is_run:
            _rectangle(group, "box", 5, x=x + _RUN, y=y + _RUN, **size)
        _rectangle(group, "box", 5, x=x, y=y, **size)
        _draw_sign(group, node.mark, x + 13, y + 14)
        room = self._box - 34
        _write(group, labels.cut(labels.title(node), int((room - 30 * node.is_head) / _MONO)), (x + 24, y + 18), "id")
        kind = "span" if node.is_run else "quiet"
        _write(group, labels.subtitle(node, int((room + 14) / _SMALL)), (x + 10, y + 33), kind)
        if node.is_head:
            _write(group, "head", (x + self._box - 8, y + 17), "quiet", anchor="end")


def _draw_edge(root: ET.Element, kind: str, points: Sequence[Point], title: str) -> None:
    group = _group(root, kind, title)
    _path(group, "edge", _rounded(points))
    (x1, y1), (x2, y2) = points[-2:]
    dx, dy = _sign(x2 - x1), _sign(y2 - y1)
    tip = [(x2, y2), (x2 - 7 * dx - 4 * dy, y2 - 7 * dy - 4 * dx), (x2 - 7 * dx + 4 * dy, y2 - 7 * dy + 4 * dx)]
    _path(group, "tip", _straight(tip, is_closed=True))


def _before_shadow(before: Point, end: Point) -> Point:
    """Return the end of an edge at a run, moved to the run's second box, which is offset to the right and down."""
    return end[0] + _RUN * (before[0] > end[0]), end[1] + _RUN * (before[1] > end[1])


def _box_width(nodes: Iterable[Node]) -> float:
    """Return the width of the widest box, within limits; all boxes get this width."""
    widths = [_LEAST]
    for node in nodes:
        widths.append(34 + _MONO * cell_len(labels.title(node)) + (32 if node.is_head else 0))
        if node.is_run:
            widths.append(24 + _SMALL * cell_len(labels.span(node)))
    return min(max(widths), _MOST)


def _draw_sign(group: ET.Element, mark: Mark, x: float, y: float) -> None:
    """Draw the sign of a mark, so that marks can be distinguished without colors."""
    match mark:
        case Mark.APPLIED | Mark.PENDING:
            ET.SubElement(group, "circle", {"class": "sign", **_numbers(cx=x, cy=y, r=4.5)})
        case Mark.UNKNOWN:
            ET.SubElement(group, "circle", {"class": "sign", **_numbers(cx=x, cy=y, r=2.5)})
        case Mark.MISSING:
            strokes = _straight([(x - 4, y - 4), (x + 4, y + 4)]), _straight([(x - 4, y + 4), (x + 4, y - 4)])
            _path(group, "sign", " ".join(strokes))
        case Mark.ABSENT:
            _path(group, "sign", _straight([(x - 5, y), (x + 5, y)]))
        case _:
            _write(group, labels.LOOKS[mark].sign, (x, y + 5), "name", anchor="middle")


def _legend(picture: Picture, width: float) -> Iterator[tuple[float, int, str, str]]:
    """Yield the entries of the legend, wrapped to a width: the position and row of each, its kind, and its text."""
    entries = [(str(mark), look.meaning) for mark, look in labels.legend(picture)]
    kinds = {edge.is_dependency for edge in picture.edges}
    entries += [("parent", "runs before")] * (False in kinds)
    entries += [("dependency", "is needed by a revision in another package")] * (True in kinds)
    left, row = width, -1
    for kind, text in entries:
        size = 50 + _SMALL * cell_len(text)
        if left + size > width:
            left, row = 0.0, row + 1
        yield _MARGIN + left, row, kind, text
        left += size


def _draw_entry(root: ET.Element, kind: str, text: str, at: Point) -> None:
    x, y = at
    group = ET.SubElement(root, "g", {"class": kind})
    if kind in ("parent", "dependency"):
        _path(group, "edge", _straight([(x, y), (x + 24, y)]))
        _path(group, "tip", _straight([(x + 28, y), (x + 21, y - 4), (x + 21, y + 4)], is_closed=True))
    else:
        _rectangle(group, "box", 4, x=x, y=y - 9, width=28, height=18)
        _draw_sign(group, Mark(kind), x + 14, y)
    _write(group, text, (x + 34, y + 4), "quiet")


def _group(parent: ET.Element, kind: str | None, title: str) -> ET.Element:
    group = ET.SubElement(parent, "g", {"class": kind} if kind else {})
    ET.SubElement(group, "title").text = title
    return group


def _rectangle(parent: ET.Element, kind: str, radius: int, **box: float) -> None:
    ET.SubElement(parent, "rect", {"class": kind, "rx": str(radius), **_numbers(**box)})


def _path(parent: ET.Element, kind: str, steps: str) -> None:
    ET.SubElement(parent, "path", {"class": kind, "d": steps})


def _straight(points: Iterable[Point], *, is_closed: bool = False) -> str:
    """Return an SVG path of straight lines through the given points."""
    return f"M{' L'.join(map(_point, points))}{' Z' if is_closed else ''}"


def _write(parent: ET.Element, text: str, at: Point, kind: str, anchor: str | None = None) -> None:
    if text:
        attributes = {"class": kind, **_numbers(x=at[0], y=at[1])}
        ET.SubElement(parent, "text", attributes | ({"text-anchor": anchor} if anchor else {})).text = text


def _rounded(points: Sequence[Point]) -> str:
    """Return an SVG path through the given points, with rounded corners."""
    kept = [points[0]]
    for before, point, after in zip(points, points[1:], points[2:], strict=False):
        is_corner = not (before[0] == point[0] == after[0] or before[1] == point[1] == after[1])
        if is_corner and point != kept[-1]:
            kept.append(point)
    kept.append(points[-1])
    path = [f"M{_point(kept[0])}"]
    for before, point, after in zip(kept, kept[1:], kept[2:], strict=False):
        path.append(f"L{_point(_towards(point, before))} Q{_point(point)} {_point(_towards(point, after))}")
    return " ".join([*path, f"L{_point(kept[-1])}"])


def _towards(corner: Point, other: Point) -> Point:
    """Return the point where the arc of a corner meets the line to another point."""
    (x, y), (to_x, to_y) = corner, other
    far = abs(to_x - x) + abs(to_y - y)
    part = min(_ROUND, far / 2) / far if far else 0
    return x + (to_x - x) * part, y + (to_y - y) * part


def _sign(number: float) -> int:
    return (number > 0) - (number < 0)


def _numbers(**values: float) -> dict[str, str]:
    return {name: _number(value) for name, value in values.items()}


def _point(point: Point) -> str:
    return f"{_number(point[0])},{_number(point[1])}"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
