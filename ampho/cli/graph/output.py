"""Write a picture of the history to the terminal, to a pipe, or to a file, in one of several formats."""

from __future__ import annotations

import sys
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import click

from ampho._text import shown_path
from ampho.cli.databases import selecting
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


def format_of(file: str) -> str:
    """Return the format for a file's extension.

    :raises click.UsageError: if the extension is unknown.
    """
    suffix = PurePath(file).suffix.lower()
    if suffix not in _SUFFIXES:
        known = ", ".join(filter(None, _SUFFIXES))
        raise click.UsageError(f"Unknown file extension in {file}. Use one of {known}, or add --format.")
    return _SUFFIXES[suffix]


def print_picture(picture: Picture, form: str, file: str | None) -> None:
    """Write a picture in one of :data:`FORMATS`.

    :param file: the name of the file; None or a dash for standard output.
    """
    from ampho.cli.show.status import row_remarks

    for remark in row_remarks(picture):
        warn(selecting(remark, picture.database))
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
    """Print a picture, cut to the width of the terminal. In a pipe, nothing is cut off."""
    from rich.segment import Segment, Segments

    from ampho.cli.graph.lanes import plain, rows

    terminal = console()
    if not is_terminal():
        write(plain(picture, terminal.encoding))
        return
    drawn = rows(picture, terminal.width, is_ascii=terminal.options.ascii_only)
    parts = (part for row in drawn for part in [*row, ("\n", "")])
    terminal.print(
        Segments([Segment(text, terminal.get_style(style)) for text, style in parts]), end="", soft_wrap=True
    )


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
            "The picture exceeds Mermaid's default limits. Name fewer packages, raise Mermaid's maxTextSize and"
            " maxEdges, or use --format svg."
        )
    return text


def _encodable(text: str, form: str) -> str:
    """Replace the characters that standard output cannot encode with entities of the format."""
    encoding = sys.stdout.encoding
    encoded = text.encode(encoding, "xmlcharrefreplace").decode(encoding)
    return encoded.replace("&#", "#") if form == "mermaid" else encoded
