"""The command line: ``ampho``, ``flask ampho`` and ``quart ampho`` are one Click group.

The commands parse their arguments, call the extension of the app, and show the result. Every decision about migrations
is made in the rooms below.
"""

from ampho.cli.commands import cli
from ampho.cli.console import main

__all__ = ["cli", "main"]
