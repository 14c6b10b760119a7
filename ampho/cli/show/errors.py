"""The text of ``ampho explain``: the entries of ``docs/errors.md``, which is installed with the package."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from ampho import errors
from ampho._text import did_you_mean, sentences
from ampho.cli.lines import say

_PACKAGE = Path(errors.__file__).parent
_ENTRY = re.compile(r"^### (\w+)\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[([^]]+)\]\(([^)#]*)(?:#[^)]*)?\)")
_EMPHASIS = re.compile(r"\*{1,2}(?=\S)([^*]+)\*{1,2}")
_CODE = re.compile(r"`([^`]+)`")
_ITEM = re.compile(r"\n(?=[-*] |\d+\. |\|)")


def print_entry(name: str) -> None:
    """Print the entry of an error.

    :param name: the name of the error's class; upper and lower case are equivalent.
    :raises click.UsageError: if no error has that name.
    """
    entries = _entries()
    known = {each.lower(): each for each in entries}
    if name.lower() not in known:
        meant = did_you_mean(name.lower(), known) or "'ampho explain' lists all errors."
        raise click.UsageError(sentences(f"No such error {name!a}.", meant))
    found = known[name.lower()]
    say(found)
    for text in _paragraphs(entries[found]):
        say()
        for line in text.split("\n"):
            say(line)


def print_names() -> None:
    """Print the name and a one-line summary of each error that has an entry."""
    found = summaries()
    width = max(map(len, found))
    for name, summary in found.items():
        say(f"{name:<{width}}  {summary}", hang=width + 2)


def summaries() -> Mapping[str, str]:
    """Return a one-line summary of each error, by name."""
    return {name: (getattr(errors, name).__doc__ or "").partition("\n")[0].replace("``", "") for name in _entries()}


def _entries() -> Mapping[str, str]:
    """Return the entries in Markdown by the names of the errors, in the order of the page."""
    installed = _PACKAGE / "errors.md"
    page = installed if installed.exists() else _PACKAGE.parent / "docs" / "errors.md"  # in an editable install
    return {name: text.strip() for name, text in _ENTRY.findall(page.read_text("utf-8"))}


def _paragraphs(markdown: str) -> Iterator[str]:
    """Yield the paragraphs of an entry as plain text. Each paragraph, and each item of a list, is a single line."""
    for block in re.split(r"\n{2,}", markdown):
        if block.startswith("<!--"):
            continue
        items = (" ".join(item.split()) for item in _ITEM.split(block))
        yield "\n".join(_CODE.sub(_quoted, _EMPHASIS.sub(r"\1", _LINK.sub(_linked, item))) for item in items)


def _linked(link: re.Match[str]) -> str:
    """Return the text of a link, followed by its target if the target is another page and the text is not a command."""
    text, page = link.groups()
    return text if not page or text.startswith("`") else f"{text} ({page})"


def _quoted(code: re.Match[str]) -> str:
    """Return code as messages show it: in quotes if it has several words and contains no quotes itself."""
    return f"'{code[1]}'" if " " in code[1] and "'" not in code[1] else code[1]
