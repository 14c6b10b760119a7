"""A picture as a Mermaid flowchart. Its text needs no escape but ``#code;``, the entities of Mermaid's own."""

from __future__ import annotations

from collections.abc import Iterator

from ampho.cli.graph import labels
from ampho.status.graph_view import Node, Picture
from ampho.status.state import Mark

MAX_TEXT = 50_000
"""How many characters Mermaid draws, unless ``maxTextSize`` says otherwise where it is set up."""

MAX_EDGES = 500
"""How many edges, unless ``maxEdges`` does."""

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
_STYLES = {
    Mark.APPLIED: "fill:#d8efdf,stroke:#1f7a45,color:#17202a",
    Mark.EDITED: "fill:#d8efdf,stroke:#8a5a00,color:#17202a,stroke-dasharray:5 3",
    Mark.DIVERGED: "fill:#fbe3e1,stroke:#b3261e,color:#17202a,stroke-width:3px",
    Mark.PENDING: "fill:#ffffff,stroke:#8a5a00,color:#17202a",
    Mark.MISSING: "fill:#fbe3e1,stroke:#b3261e,color:#17202a,stroke-dasharray:5 3",
    Mark.UNFINISHED: "fill:#ffe8c7,stroke:#b3261e,color:#17202a,stroke-width:3px",
    Mark.UNCERTAIN: "fill:#ffffff,stroke:#57606a,color:#17202a,stroke-dasharray:2 3",
    Mark.ABSENT: "fill:#ffffff,stroke:#b3261e,color:#17202a,stroke-dasharray:2 3",
    Mark.UNKNOWN: "fill:#eef2f6,stroke:#57606a,color:#17202a",
}


def as_mermaid(picture: Picture) -> str:
    """Return a picture as a Mermaid flowchart."""
    return "".join(f"{line}\n" for line in _lines(picture))


def is_too_large(picture: Picture, text: str) -> bool:
    """Tell whether Mermaid refuses to draw a text, where it is set up as it comes."""
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
        yield f"  classDef {mark} {_STYLES[mark]}"
    stubs = [numbers[node.first] for node in picture.nodes if node.is_stub]
    if stubs:
        yield "  classDef stub opacity:0.6"
        yield f"  class {','.join(stubs)} stub"


def _node(node: Node) -> str:
    begin, end = _SHAPES[node.mark]
    second = labels.subtitle(node, _ROOM)
    head = " (head)" if node.is_head else ""
    label = f"{labels.SIGNS[node.mark]} {_text(labels.title(node))}{head}"
    return f'{begin}"{label}{"<br/>" if second else ""}{_text(second)}"{end}:::{node.mark}'


def _text(text: str) -> str:
    """Return a text without a character that means something to Mermaid, to Markdown or to HTML."""
    return "".join(c if c in _PLAIN or c.isalnum() or not c.isascii() else f"#{ord(c)};" for c in text)
