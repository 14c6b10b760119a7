"""The signs, colors, labels, and tooltips that all drawings of a picture share.

Ids and messages may contain any characters, so the functions in this module make them printable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from ampho._text import counted, printable
from ampho.history.revision import Phase
from ampho.status.graph_view import Edge, Lane, Node, Picture
from ampho.status.state import Mark

NOTHING = "There are no revisions yet."
FEW_LANES = 6
"""The maximum number of lanes that are drawn side by side. More lanes are drawn one below the other."""


@dataclass(frozen=True, slots=True)
class Look:
    """The appearance of revisions with a certain mark.

    :ivar style: the style of the revisions' text in a terminal.
    :ivar fill: the color of the revisions' boxes.
    :ivar border: the color of the boxes' borders.
    :ivar dash: the lengths of dashes and gaps of the border; empty for a continuous line.
    :ivar is_bold: whether the border is thick.
    """

    sign: str
    meaning: str
    style: str
    fill: str
    border: str
    dash: str = ""
    is_bold: bool = False


_EDITED = "edited: applied, but its file has changed since"
_DIVERGED = "diverged: counts as applied, but never ran"
_MISSING = "missing: applied, but has no file"
_UNFINISHED = "unfinished: interrupted, or failed halfway"
_ABSENT = "absent: not applied, and has no file"

LOOKS: Mapping[Mark, Look] = {
    Mark.APPLIED: Look("●", "applied", "green", "#d8efdf", "#1f7a45"),
    Mark.EDITED: Look("◆", _EDITED, "bold green", "#d8efdf", "#8a5a00", dash="5 3"),
    Mark.DIVERGED: Look("≠", _DIVERGED, "bold red", "#fbe3e1", "#b3261e", is_bold=True),
    Mark.PENDING: Look("○", "pending", "yellow", "#ffffff", "#8a5a00"),
    Mark.MISSING: Look("\N{MULTIPLICATION SIGN}", _MISSING, "bold red", "#fbe3e1", "#b3261e", dash="5 3"),
    Mark.UNFINISHED: Look("!", _UNFINISHED, "bold red", "#ffe8c7", "#b3261e", is_bold=True),
    Mark.UNCERTAIN: Look("?", "uncertain: may be applied", "cyan", "#ffffff", "#57606a", dash="2 3"),
    Mark.ABSENT: Look("\N{EN DASH}", _ABSENT, "red", "#ffffff", "#b3261e", dash="2 3"),
    Mark.UNKNOWN: Look("•", "revision", "", "#ffffff", "#57606a"),
}

_LONGEST_NAME = 200
_LONGEST_MESSAGE = 500


def name(text: str) -> str:
    """Return an id, or the name of a package, as printable text."""
    return _clean(text, _LONGEST_NAME)


def message(text: str) -> str:
    """Return a message as a single printable line."""
    return _clean(text, _LONGEST_MESSAGE)


def package(lane: Lane) -> str:
    """Return the name of a lane."""
    return name(lane.package) or "(unknown)"


def counts(lane: Lane) -> str:
    """Return the number of a lane's revisions with each mark, as text."""
    if lane.is_stub:
        return ""
    total = sum(lane.counts.values())
    if not total or set(lane.counts) == {Mark.UNKNOWN}:
        return counted(total) if total else "no revisions"
    return ", ".join(f"{count} {mark}" for mark, count in lane.counts.items())


def title(node: Node) -> str:
    """Return the id of a node, or the number of its revisions, and whether they wait for phase ``post``."""
    text = f"{len(node.revisions)} revisions" if node.is_run else name(node.first)
    return f"{text} (post)" if node.phase is Phase.POST else text


def heading(node: Node) -> str:
    """Return the first line of a node in Mermaid and DOT: its sign, its title, and whether it is a head."""
    return f"{LOOKS[node.mark].sign} {title(node)}{' (head)' if node.is_head else ''}"


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
    """Return the ids and messages of a node, one revision per line, and the meaning of its mark."""
    lines = [f"{name(rid)}  {message(text)}".rstrip() for rid, text in zip(node.revisions, node.messages, strict=True)]
    remarks = [LOOKS[node.mark].meaning] if node.mark is not Mark.UNKNOWN else []
    remarks += ["phase post"] if node.phase is Phase.POST else []
    remarks += ["head"] if node.is_head else []
    return "\n".join([*lines, *([f"({', '.join(remarks)})"] if remarks else [])])


def relation(edge: Edge) -> str:
    """Return a description of an edge."""
    return f"{name(edge.target)} {'depends on' if edge.is_dependency else 'revises'} {name(edge.source)}"


def legend(picture: Picture) -> Iterator[tuple[Mark, Look]]:
    """Yield the marks of a picture that need an explanation, each with its look."""
    for mark in picture.marks:
        if mark is not Mark.UNKNOWN:
            yield mark, LOOKS[mark]


def cut(text: str, room: int, ellipsis: str = "…") -> str:
    """Return text, shortened with an ellipsis if it is wider than ``room`` columns."""
    if cell_len(text) <= room:
        return text
    size = cell_len(ellipsis)
    return set_cell_size(text, room - size).rstrip() + ellipsis if room > size else ellipsis[:room]


def _clean(text: str, limit: int) -> str:
    if len(text) <= limit and text.isprintable() and text.strip() == text and "  " not in text:
        return text  # the usual case, checked first because there may be thousands of ids and messages
    return printable(text, limit)
