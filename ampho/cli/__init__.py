"""The command line: ``ampho``, ``flask ampho`` and ``quart ampho`` are one Click group."""

from .commands import cli
from .console import main

__all__ = ["cli", "main"]
