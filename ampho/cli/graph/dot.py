"""A picture in DOT, the language of Graphviz."""

from __future__ import annotations

from collections.abc import Iterator

from ampho.cli.graph import labels
from ampho.status.graph_view import Node, Picture
from ampho.status.state import Mark

_ROOM = 44
_STYLES = {
    Mark.APPLIED: 'style="filled", fillcolor="#d8efdf", color="#1f7a45"',
    Mark.EDITED: 'style="filled,dashed", fillcolor="#d8efdf", color="#8a5a00"',
    Mark.DIVERGED: 'style="filled", fillcolor="#fbe3e1", color="#b3261e", penwidth="3"',
    Mark.PENDING: 'style="rounded", color="#8a5a00"',
    Mark.MISSING: 'shape="octagon", style="filled,dashed", fillcolor="#fbe3e1", color="#b3261e"',
    Mark.UNFINISHED: 'style="filled", fillcolor="#ffe8c7", color="#b3261e", penwidth="3"',
    Mark.UNCERTAIN: 'style="rounded,dotted"',
    Mark.ABSENT: 'shape="octagon", style="dotted", color="#b3261e"',
    Mark.UNKNOWN: 'style="filled", fillcolor="#eef2f6", color="#57606a"',
}


def as_dot(picture: Picture) -> str:
    """Return a picture as a digraph, with a cluster for each lane."""
    return "".join(f"{line}\n" for line in _lines(picture))


def _lines(picture: Picture) -> Iterator[str]:
    numbers = {node.first: f"n{number}" for number, node in enumerate(picture.nodes)}
    yield 'digraph "migrations" {'
    yield f'  graph [rankdir="{"TB" if len(picture.lanes) <= labels.FEW_LANES else "LR"}", fontname="Helvetica"];'
    yield '  node [shape="box", fontname="Helvetica", fontsize="11"];'
    yield '  edge [color="#57606a", arrowsize="0.7"];'
    if not picture.nodes:
        yield f'  nothing [shape="plaintext", label="{labels.NOTHING}"];'
    for number, lane in enumerate(picture.lanes):
        nodes = picture.of_lane(lane.package)
        if nodes:
            yield f'  subgraph "cluster_{number}" {{'
            yield f'    label="{_text(labels.package(lane))}"; color="#c3ccd5";'
            for node in nodes:
                yield f"    {numbers[node.first]} [{_attributes(node)}];"
            yield "  }"
    for edge in picture.edges:
        source, target = (numbers[picture.node(rid).first] for rid in (edge.source, edge.target))
        style = 'style="dashed", ' if edge.is_dependency else 'weight="4", '
        yield f'  {source} -> {target} [{style}tooltip="{_text(labels.relation(edge))}"];'
    yield "}"


def _attributes(node: Node) -> str:
    head = " (head)" if node.is_head else ""
    lines = [f"{labels.SIGNS[node.mark]} {labels.title(node)}{head}", labels.subtitle(node, _ROOM)]
    label = r"\n".join(_text(line) for line in lines if line)
    tooltip = r"\n".join(map(_text, labels.tooltip(node).splitlines()))
    extra = (', fontcolor="#57606a", penwidth="0.5"' if node.is_stub else "") + (
        ', peripheries="2"' if node.is_run else ""
    )
    return f'label="{label}", tooltip="{tooltip}", {_STYLES[node.mark]}{extra}'


def _text(text: str) -> str:
    """Return a text as it stands in a quoted string, where Graphviz also reads HTML's entities."""
    return text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
