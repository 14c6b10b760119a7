"""The command line: ``ampho``, ``flask ampho`` and ``quart ampho`` are one Click group.

Commands parse their arguments, call the extension of the app, and show the result. No command decides anything.
"""

from ampho.cli.commands import cli
from ampho.cli.console import main

__all__ = ["cli", "main"]
