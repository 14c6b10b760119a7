"""Draw a picture as a Mermaid flowchart."""

from __future__ import annotations

from collections.abc import Iterator

from ampho.cli.graph import labels
from ampho.status.graph_view import Node, Picture
from ampho.status.state import Mark

MAX_TEXT = 50_000
"""Mermaid's default for ``maxTextSize``, in characters."""

MAX_EDGES = 500
"""Mermaid's default for ``maxEdges``."""

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
    """Return whether a picture exceeds Mermaid's default limits, above which Mermaid does not draw it."""
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
    look = labels.LOOKS[mark]
    width = ",stroke-width:3px" if look.is_bold else ""
    dash = f",stroke-dasharray:{look.dash}" if look.dash else ""
    return f"fill:{look.fill},stroke:{look.border},color:#17202a{width}{dash}"


def _text(text: str) -> str:
    """Return text with Mermaid's entities in place of all characters that Mermaid, Markdown, or HTML may interpret."""
    return "".join(c if c in _PLAIN or c.isalnum() or not c.isascii() else f"#{ord(c)};" for c in text)
