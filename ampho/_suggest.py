"""What somebody may have meant who misspelt a name."""

from __future__ import annotations

from collections.abc import Iterable

_MOST = 3
_CLOSE = 0.7  # of difflib's 0 to 1; at its own 0.6, "catalog" would be meant by "cats"


def close_names(name: str, names: Iterable[str], most: int = _MOST) -> list[str]:
    """Return the names that are close to one that is none of them, the closest first.

    A name that was typed in part is close to the names whose beginning it is close to.
    """
    from difflib import get_close_matches  # late: a name is misspelt in few runs

    names = list(dict.fromkeys(names))
    close = get_close_matches(name, names, most, _CLOSE)
    if not close:
        beginnings = {other[: len(name)]: None for other in names}
        begun = get_close_matches(name, beginnings, 1, _CLOSE)
        close = [other for other in names if begun and other.startswith(begun[0])]
    return close if len(close) <= most else []


def did_you_mean(name: str, names: Iterable[str], form: str = "{}") -> str:
    """Return a question for the names that are close to one; empty where none is.

    :param form: how a name is shown.
    """
    close = [form.format(other) for other in close_names(name, names)]
    return f"Did you mean {' or '.join(close)}?" if close else ""


def sentences(*texts: str) -> str:
    """Join sentences, of which some are empty; one without a full stop gets it."""
    return " ".join(text if text[-1] in ".!?" else f"{text}." for text in map(str.strip, texts) if text)
