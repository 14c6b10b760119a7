"""Where a picture of the history goes: to the terminal, to a pipe or to a file, and in which format."""

from __future__ import annotations

import sys
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import click

from ampho._text import shown_path
from ampho.cli.lines import say, warn, write
from ampho.cli.terminal import console, is_terminal

if TYPE_CHECKING:
    from ampho.status.graph_view import Picture

FORMATS = ("text", "mermaid", "dot", "svg")
_SUFFIXES = {
    "": "text",
    ".txt": "text",
    ".svg": "svg",
    ".dot": "dot",
    ".gv": "dot",
    ".mmd": "mermaid",
    ".mermaid": "mermaid",
}


def form_of(file: str) -> str:
    """Return the format that the name of a file says.

    :raises click.UsageError: if it says none.
    """
    suffix = PurePath(file).suffix.lower()
    if suffix not in _SUFFIXES:
        known = ", ".join(filter(None, _SUFFIXES))
        raise click.UsageError(f"{file}: which format that is, --format says, or one of the endings {known}.")
    return _SUFFIXES[suffix]


def print_picture(picture: Picture, form: str, file: str | None) -> None:
    """Write a picture.

    :param form: the format.
    :param file: where to; None or a dash for standard output.
    """
    if file in (None, "-") and form == "text":
        _print(picture)
        return
    text = _text(picture, form)
    if file is None or file == "-":
        write(_encodable(text, form))
        return
    try:
        Path(file).write_text(text, "utf-8")
    except OSError as exc:
        raise click.FileError(file, exc.strerror) from exc
    say(f"Wrote {shown_path(file)}")


def _print(picture: Picture) -> None:
    """Draw on the terminal as wide as it is; in a pipe nothing is cut."""
    from ampho.cli.graph.lanes import Lanes, plain

    terminal = console()
    if is_terminal():
        terminal.print(Lanes(picture), soft_wrap=True)
    else:
        write(plain(picture, terminal.encoding))


def _text(picture: Picture, form: str) -> str:
    if form == "text":
        from ampho.cli.graph.lanes import plain

        return plain(picture)
    if form == "svg":
        from ampho.cli.graph.svg import as_svg

        return as_svg(picture)
    if form == "dot":
        from ampho.cli.graph.dot import as_dot

        return as_dot(picture)
    from ampho.cli.graph.mermaid import as_mermaid, is_too_large

    text = as_mermaid(picture)
    if is_too_large(picture, text):
        warn(
            "This is more than Mermaid draws by default. Name some packages, set its maxTextSize and maxEdges, or take"
            " --format svg."
        )
    return text


def _encodable(text: str, form: str) -> str:
    """Return a text in which what standard output cannot encode is an entity, as each format has them."""
    encoding = sys.stdout.encoding
    encoded = text.encode(encoding, "xmlcharrefreplace").decode(encoding)
    return encoded.replace("&#", "#") if form == "mermaid" else encoded
