"""What all drawings of a picture have in common: signs, colors, labels, and tooltips.

Ids and messages may contain any characters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from ampho._text import counted, printable
from ampho.status.graph_view import Edge, Lane, Node, Picture
from ampho.status.state import Mark

SIGNS = {
    Mark.APPLIED: "●",
    Mark.EDITED: "◆",
    Mark.DIVERGED: "≠",
    Mark.PENDING: "○",
    Mark.MISSING: "×",  # noqa: RUF001 (a sign, not a letter)
    Mark.UNFINISHED: "!",
    Mark.UNCERTAIN: "?",
    Mark.ABSENT: "–",  # noqa: RUF001 (longer than a hyphen)
    Mark.UNKNOWN: "•",
}
MEANINGS = {
    Mark.APPLIED: "applied",
    Mark.EDITED: "edited: applied, and its file was changed since",
    Mark.DIVERGED: "diverged: counts as applied, but never ran",
    Mark.PENDING: "pending",
    Mark.MISSING: "missing: applied, but has no file",
    Mark.UNFINISHED: "unfinished: interrupted, or failed half-way",
    Mark.UNCERTAIN: "uncertain: may be applied",
    Mark.ABSENT: "absent: not applied, and has no file",
    Mark.UNKNOWN: "revision",
}
NOTHING = "There are no revisions yet."
FEW_LANES = 6
"""The most lanes that are drawn side by side; more lanes are drawn one below the other."""


@dataclass(frozen=True, slots=True)
class Box:
    """How the box of a node is drawn.

    :ivar dash: the lengths of dashes and gaps of its border; empty for a continuous line.
    :ivar is_bold: whether its border is thick.
    """

    fill: str
    border: str
    dash: str = ""
    is_bold: bool = False


BOXES: Mapping[Mark, Box] = {
    Mark.APPLIED: Box("#d8efdf", "#1f7a45"),
    Mark.EDITED: Box("#d8efdf", "#8a5a00", dash="5 3"),
    Mark.DIVERGED: Box("#fbe3e1", "#b3261e", is_bold=True),
    Mark.PENDING: Box("#ffffff", "#8a5a00"),
    Mark.MISSING: Box("#fbe3e1", "#b3261e", dash="5 3"),
    Mark.UNFINISHED: Box("#ffe8c7", "#b3261e", is_bold=True),
    Mark.UNCERTAIN: Box("#ffffff", "#57606a", dash="2 3"),
    Mark.ABSENT: Box("#ffffff", "#b3261e", dash="2 3"),
    Mark.UNKNOWN: Box("#ffffff", "#57606a"),
}

_LONGEST_NAME = 200
_LONGEST_MESSAGE = 500


def name(text: str) -> str:
    """Return an id, or the name of a package, as printable text."""
    return _clean(text, _LONGEST_NAME)


def message(text: str) -> str:
    """Return a message as one printable line."""
    return _clean(text, _LONGEST_MESSAGE)


def package(lane: Lane) -> str:
    """Return the name of a lane."""
    return name(lane.package) or "(unknown)"


def counts(lane: Lane) -> str:
    """Return how many revisions of a lane have each mark."""
    if lane.is_stub:
        return ""
    total = sum(lane.counts.values())
    if not total or set(lane.counts) == {Mark.UNKNOWN}:
        return counted(total) if total else "no revisions"
    return ", ".join(f"{count} {mark}" for mark, count in lane.counts.items())


def title(node: Node) -> str:
    """Return the id of a node, or the number of its revisions."""
    return f"{len(node.revisions)} revisions" if node.is_run else name(node.first)


def heading(node: Node) -> str:
    """Return the first line of a node in Mermaid and DOT: its sign, its title, and whether it is a head."""
    return f"{SIGNS[node.mark]} {title(node)}{' (head)' if node.is_head else ''}"


def span(node: Node) -> str:
    """Return the first and the last id of a run, in full, so that they can be copied."""
    return f"{name(node.first)} .. {name(node.last)}"


def subtitle(node: Node, room: int) -> str:
    """Return the second line of a node: its message, cut to ``room`` characters, or the span of a run."""
    if node.is_run:
        return span(node)
    text = message(node.messages[0]) or ("no file" if node.mark in (Mark.MISSING, Mark.ABSENT) else "")
    return cut(text, room)


def tooltip(node: Node) -> str:
    """Return the ids and messages of a node in lines, and what its mark means."""
    lines = [f"{name(rid)}  {message(text)}".rstrip() for rid, text in zip(node.revisions, node.messages, strict=True)]
    remarks = [MEANINGS[node.mark]] if node.mark is not Mark.UNKNOWN else []
    remarks += ["head"] if node.is_head else []
    return "\n".join([*lines, *([f"({', '.join(remarks)})"] if remarks else [])])


def relation(edge: Edge) -> str:
    """Return an edge in words."""
    return f"{name(edge.target)} {'depends on' if edge.is_dependency else 'revises'} {name(edge.source)}"


def legend(picture: Picture) -> Iterator[tuple[Mark, str]]:
    """Yield the marks of a picture with their meanings."""
    for mark in picture.marks:
        if mark is not Mark.UNKNOWN:
            yield mark, MEANINGS[mark]


def cut(text: str, room: int, ellipsis: str = "…") -> str:
    """Return a text, cut to the width of ``room`` characters and with an ellipsis if it is longer."""
    if cell_len(text) <= room:
        return text
    size = cell_len(ellipsis)
    return set_cell_size(text, room - size).rstrip() + ellipsis if room > size else ellipsis[:room]


def _clean(text: str, limit: int) -> str:
    if len(text) <= limit and text.isprintable() and text.strip() == text and "  " not in text:
        return text  # the usual case is checked first, because there may be thousands of texts
    return printable(text, limit)
