"""Where a picture of the history goes: to the terminal, to a pipe or to a file, and in which format."""

from __future__ import annotations

import sys
from pathlib import PurePath
from typing import IO, TYPE_CHECKING

import click

from ampho.cli.terminal import console

if TYPE_CHECKING:
    from ampho.picture import Picture

FORMATS = ("text", "mermaid", "dot", "svg")
_SUFFIXES = {".svg": "svg", ".dot": "dot", ".gv": "dot", ".mmd": "mermaid", ".mermaid": "mermaid"}


def print_picture(picture: Picture, form: str | None, file: IO[str] | None) -> None:
    """Write a picture.

    :param form: the format; by default what the name of the file says.
    :param file: where to; None for standard output.
    """
    to_file = file is not None and file.name not in ("-", "<stdout>")
    form = form or _SUFFIXES.get(PurePath(file.name).suffix.lower() if file else "", "text")
    if form == "text" and not to_file:
        _print(picture)
        return
    text = _text(picture, form)
    if file is not None and to_file:
        file.write(text)
        click.echo(f"Wrote {file.name}")
    else:
        click.echo(_encodable(text, form), nl=False)


def _print(picture: Picture) -> None:
    """Draw on the terminal as wide as it is; in a pipe nothing is cut."""
    from ampho.cli.lanes import Lanes

    terminal = console()
    terminal.print(Lanes(picture, is_cut=terminal.is_terminal), soft_wrap=True)


def _text(picture: Picture, form: str) -> str:
    if form == "text":
        from ampho.cli.lanes import plain

        return plain(picture)
    from ampho import drawing

    if form == "svg":
        return drawing.as_svg(picture)
    if form == "dot":
        return drawing.as_dot(picture)
    text = drawing.as_mermaid(picture)
    if drawing.is_too_large(picture, text):
        click.echo(
            "Warning: This is more than Mermaid draws as it comes. Name some packages, set its maxTextSize and"
            " maxEdges, or take --format svg.",
            err=True,
        )
    return text


def _encodable(text: str, form: str) -> str:
    """Return a text in which what standard output cannot encode is an entity, as each format has them."""
    encoding = sys.stdout.encoding
    encoded = text.encode(encoding, "xmlcharrefreplace").decode(encoding)
    return encoded.replace("&#", "#") if form == "mermaid" else encoded
