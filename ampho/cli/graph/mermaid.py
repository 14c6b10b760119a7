"""A picture as a Mermaid flowchart."""

from __future__ import annotations

from collections.abc import Iterator

from ampho.cli.graph import labels
from ampho.status.graph_view import Node, Picture
from ampho.status.state import Mark

MAX_TEXT = 50_000
"""The most characters that Mermaid draws by default; the option ``maxTextSize`` changes it."""

MAX_EDGES = 500
"""The most edges that Mermaid draws by default; the option ``maxEdges`` changes it."""

_ROOM = 60
_PLAIN = frozenset(" _.,-/:()+=@'!?")
_SHAPES = {
    Mark.APPLIED: ("[", "]"),
    Mark.EDITED: ("[", "]"),
    Mark.DIVERGED: ("[/", "/]"),
    Mark.PENDING: ("([", "])"),
    Mark.MISSING: ("{{", "}}"),
    Mark.UNFINISHED: ("[/", "/]"),
    Mark.UNCERTAIN: ("(", ")"),
    Mark.ABSENT: ("{{", "}}"),
    Mark.UNKNOWN: ("[", "]"),
}


def as_mermaid(picture: Picture) -> str:
    """Return a picture as a Mermaid flowchart."""
    return "".join(f"{line}\n" for line in _lines(picture))


def is_too_large(picture: Picture, text: str) -> bool:
    """Return whether Mermaid refuses to draw a text with its default options."""
    return len(text) > MAX_TEXT or len(picture.edges) > MAX_EDGES


def _lines(picture: Picture) -> Iterator[str]:
    numbers = {node.first: f"n{number}" for number, node in enumerate(picture.nodes)}
    yield f"flowchart {'TB' if len(picture.lanes) <= labels.FEW_LANES else 'LR'}"
    if not picture.nodes:
        yield f'  nothing["{labels.NOTHING}"]'
    for number, lane in enumerate(picture.lanes):
        nodes = picture.of_lane(lane.package)
        if nodes:
            yield f'  subgraph lane{number}["{_text(labels.package(lane))}"]'
            for node in nodes:
                yield f"    {numbers[node.first]}{_node(node)}"
            yield "  end"
    for edge in picture.edges:
        source, target = (numbers[picture.node(rid).first] for rid in (edge.source, edge.target))
        yield f"  {source} {'-.->' if edge.is_dependency else '-->'} {target}"
    for mark in picture.marks:
        yield f"  classDef {mark} {_style(mark)}"
    stubs = [numbers[node.first] for node in picture.nodes if node.is_stub]
    if stubs:
        yield "  classDef stub opacity:0.6"
        yield f"  class {','.join(stubs)} stub"


def _node(node: Node) -> str:
    begin, end = _SHAPES[node.mark]
    lines = "<br/>".join(map(_text, filter(None, (labels.heading(node), labels.subtitle(node, _ROOM)))))
    return f'{begin}"{lines}"{end}:::{node.mark}'


def _style(mark: Mark) -> str:
    box = labels.BOXES[mark]
    width = ",stroke-width:3px" if box.is_bold else ""
    dash = f",stroke-dasharray:{box.dash}" if box.dash else ""
    return f"fill:{box.fill},stroke:{box.border},color:#17202a{width}{dash}"


def _text(text: str) -> str:
    """Return a text in which all characters with a meaning in Mermaid, Markdown, or HTML are entities of Mermaid."""
    return "".join(c if c in _PLAIN or c.isalnum() or not c.isascii() else f"#{ord(c)};" for c in text)
