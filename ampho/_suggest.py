"""What somebody may have meant who misspelt a name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_MOST = 3
_CLOSE = 0.65  # of difflib's 0 to 1: two letters of three that changed places are close
_AS_CLOSE = 0.05
_ENOUGH = 5  # letters, by which the beginning of a name tells something


def close_names(name: str, names: Iterable[str]) -> list[str]:
    """Return the few names that are close to one that is none of them; none where it could be any of many.

    A name that was typed in part is close to the names whose last words it is, or whose beginning it is close to.
    """
    names = list(dict.fromkeys(names))
    close = [other for other in names if len(name) >= _ENOUGH and other.endswith(f"_{name}")] or _closest(name, names)
    if not close and len(name) >= _ENOUGH:
        begun = _closest(name, {other[: len(name)]: None for other in names})
        close = [other for other in names if begun and other.startswith(begun[0])]
    return close if len(close) <= _MOST else []


def _closest(name: str, names: Iterable[str]) -> list[str]:
    """Return the names that are as close to one as the closest is, or nearly."""
    from difflib import SequenceMatcher, get_close_matches  # late: a name is misspelt in few runs

    close = get_close_matches(name, names, _MOST + 1, _CLOSE)
    ratios = {other: SequenceMatcher(None, other, name).ratio() for other in close}
    return sorted((other for other in close if ratios[other] > ratios[close[0]] - _AS_CLOSE), key=list(names).index)


def did_you_mean(name: str, names: Iterable[str], form: str = "{}") -> str:
    """Return a question for the names that are close to one; empty where none is.

    :param names: the names to compare; the values of a mapping are shown instead.
    :param form: how a name is shown.
    """
    shown = names if isinstance(names, Mapping) else {}
    close = [form.replace("{}", shown.get(other, other)) for other in close_names(name, names)]
    choice = " or ".join(filter(None, [", ".join(close[:-1]), *close[-1:]]))
    return choice and f"Did you mean {choice}?"


def sentences(*texts: str) -> str:
    """Join sentences, of which some are empty; one without a full stop gets it."""
    return " ".join(text if text[-1] in ".!?" else f"{text}." for text in map(str.strip, texts) if text)
