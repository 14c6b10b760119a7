"""Ampho for Flask under the name of a Flask extension: ``from flask_ampho import Ampho``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ampho.sync import Ampho

__all__ = ["Ampho"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import ampho

    return getattr(ampho, name)
