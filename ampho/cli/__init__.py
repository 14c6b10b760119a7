"""The command line: ``ampho``, ``flask ampho`` and ``quart ampho`` are one Click group."""

from ampho.cli.commands import cli
from ampho.cli.console import main

__all__ = ["cli", "main"]
