"""Draw a picture in DOT, the language of Graphviz."""

from __future__ import annotations

from collections.abc import Iterator

from ampho.cli.graph import labels
from ampho.status.graph_view import Node, Picture
from ampho.status.state import Mark

_ROOM = 44
_SHAPES = {Mark.MISSING: "octagon", Mark.ABSENT: "octagon"}
_ROUNDED = (Mark.PENDING, Mark.UNCERTAIN)
_DASHES = {"": "", "5 3": ",dashed", "2 3": ",dotted"}


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
    lines = [labels.heading(node), labels.subtitle(node, _ROOM)]
    label = r"\n".join(_text(line) for line in lines if line)
    tooltip = r"\n".join(map(_text, labels.tooltip(node).splitlines()))
    extra = (', fontcolor="#57606a", penwidth="0.5"' if node.is_stub else "") + (
        ', peripheries="2"' if node.is_run else ""
    )
    return f'label="{label}", tooltip="{tooltip}", {_style(node.mark)}{extra}'


def _style(mark: Mark) -> str:
    look = labels.LOOKS[mark]
    style = f"filled{',rounded' if mark in _ROUNDED else ''}{_DASHES[look.dash]}"
    shape = f'shape="{_SHAPES[mark]}", ' if mark in _SHAPES else ""
    width = ', penwidth="3"' if look.is_bold else ""
    return f'{shape}style="{style}", fillcolor="{look.fill}", color="{look.border}"{width}'


def _text(text: str) -> str:
    """Return text escaped for a quoted string, in which Graphviz also decodes HTML entities."""
    return text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
