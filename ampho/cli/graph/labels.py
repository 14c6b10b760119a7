"""What is written on a picture, whatever draws it: signs, labels, tooltips. Any id or message may be anything."""

from __future__ import annotations

from collections.abc import Iterator
from unicodedata import combining, east_asian_width

from ampho._text import printable
from ampho.status.graph_view import Edge, Lane, Node, Picture
from ampho.status.state import Mark

SIGNS = {
    Mark.APPLIED: "●",
    Mark.EDITED: "◆",
    Mark.DIVERGED: "≠",
    Mark.PENDING: "○",
    Mark.MISSING: "×",  # noqa: RUF001 (no letter)
    Mark.UNFINISHED: "!",
    Mark.UNCERTAIN: "?",
    Mark.ABSENT: "–",  # noqa: RUF001 (longer than a hyphen, on purpose)
    Mark.UNKNOWN: "•",
}
MEANINGS = {
    Mark.APPLIED: "applied",
    Mark.EDITED: "edited: applied, and its file is another one now",
    Mark.DIVERGED: "diverged: counts as applied, and was never run",
    Mark.PENDING: "pending",
    Mark.MISSING: "missing: applied, and no file has it",
    Mark.UNFINISHED: "unfinished: left half done",
    Mark.UNCERTAIN: "uncertain: may be applied",
    Mark.ABSENT: "absent: not applied, and no file has it",
    Mark.UNKNOWN: "revision",
}
NOTHING = "There are no revisions yet."
FEW_LANES = 6
"""So many lanes stand side by side; more lie one below the other."""

_LONGEST_NAME = 200
_LONGEST_MESSAGE = 500
_ELLIPSIS = "…"


def name(text: str) -> str:
    """Return an id or the name of a package, in printable characters."""
    return _clean(text, _LONGEST_NAME)


def message(text: str) -> str:
    """Return a message in one printable line."""
    return _clean(text, _LONGEST_MESSAGE)


def package(lane: Lane) -> str:
    """Return the name of a lane."""
    return name(lane.package) or "(unknown)"


def counts(lane: Lane) -> str:
    """Say how many revisions a lane has."""
    if lane.is_stub:
        return ""
    total = sum(lane.counts.values())
    if not total or set(lane.counts) == {Mark.UNKNOWN}:
        return f"{total or 'no'} revision{'' if total == 1 else 's'}"
    return ", ".join(f"{count} {mark}" for mark, count in lane.counts.items())


def title(node: Node) -> str:
    """Return the first line of a node: its id, or how many revisions it is."""
    return f"{len(node.revisions)} revisions" if node.is_run else name(node.first)


def span(node: Node) -> str:
    """Return the first and the last id of a run, both in full, so that they can be typed."""
    return f"{name(node.first)} .. {name(node.last)}"


def subtitle(node: Node, room: int) -> str:
    """Return the second line of a node: its message, cut to so many characters, or which revisions it is."""
    if node.is_run:
        return span(node)
    text = message(node.messages[0]) or ("no file has it" if node.mark in (Mark.MISSING, Mark.ABSENT) else "")
    return cut(text, room)


def tooltip(node: Node) -> str:
    """Return all that is known of a node, in lines."""
    lines = [f"{name(rid)}  {message(text)}".rstrip() for rid, text in zip(node.revisions, node.messages, strict=True)]
    remarks = [MEANINGS[node.mark]] if node.mark is not Mark.UNKNOWN else []
    remarks += ["head"] if node.is_head else []
    return "\n".join([*lines, *([f"({', '.join(remarks)})"] if remarks else [])])


def relation(edge: Edge) -> str:
    """Return an edge in words."""
    return f"{name(edge.target)} {'depends on' if edge.is_dependency else 'stands on'} {name(edge.source)}"


def legend(picture: Picture) -> Iterator[tuple[Mark, str]]:
    """Give the marks of a picture, and what they mean."""
    for mark in picture.marks:
        if mark is not Mark.UNKNOWN:
            yield mark, MEANINGS[mark]


def width(text: str) -> int:
    """Return how many characters of usual width a text is as wide as."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def cut(text: str, room: int) -> str:
    """Return a text that is no wider than so many characters, with an ellipsis where something was cut off."""
    if width(text) <= room:
        return text
    kept, left = [], room - 1
    for character in text:
        left -= _cells(character)
        if left < 0:
            break
        kept.append(character)
    return "".join(kept).rstrip() + _ELLIPSIS


def _clean(text: str, limit: int) -> str:
    if len(text) <= limit and text.isprintable() and text.strip() == text and "  " not in text:
        return text  # as all but all are, of which there may be ten thousand
    return printable(text, limit)


def _cells(character: str) -> int:
    if character.isascii():
        return 1
    if combining(character):
        return 0
    return 2 if east_asian_width(character) in "WF" else 1
